//! A Lightning wallet: LNbits over its own fake node. Invoices, hashes and records are real; the coins are not.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::call::call;
use crate::child::Peer;
use crate::daemon::{free_port, peer_file, python};
use crate::wait::until;

/// Puts a million satoshi into a wallet, as an operator of LNbits would: in its database.
const CREDIT: &str = "import sqlite3, sys, time\n\
    db = sqlite3.connect(sys.argv[1], timeout=30)\n\
    now = int(time.time())\n\
    db.execute('insert into apipayments (checking_id, amount, fee, wallet_id, memo, time, payment_hash, bolt11, extra, '\n\
               'status, created_at, updated_at, labels) values (?,?,?,?,?,?,?,?,?,?,?,?,?)',\n\
               ('credit', 1_000_000_000, 0, sys.argv[2], 'credit', now, '00' * 32, '', '{}', 'success', now, now, '[]'))\n\
    db.commit()\n";

/// An agent's wallet, and a shop's to pay to.
#[derive(Debug)]
pub struct LightningWallet {
    _peer: Peer,
    _folder: TempDir,
    address: String,
    agent: Value,
    shop: Value,
}

impl LightningWallet {
    /// Starts LNbits and fills the agent's wallet.
    pub fn open() -> Self {
        let port = free_port().to_string();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(peer_file("lnbits/bin/lnbits"));
        command
            .args(["--host", "127.0.0.1", "--port", &port])
            .current_dir(site_packages(&peer_file("lnbits")));
        for (name, value) in [
            ("LNBITS_ADMIN_UI", "false"),
            ("LNBITS_BACKEND_WALLET_CLASS", "FakeWallet"),
            ("LNBITS_ALLOW_NEW_ACCOUNTS", "true"),
            ("LNBITS_EXTENSIONS_DEFAULT_INSTALL", ""),
        ] {
            command.env(name, value);
        }
        command.env("LNBITS_DATA_FOLDER", folder.path());
        let peer = Peer::start(&mut command);
        let address = format!("127.0.0.1:{port}");
        let account = |name: &str| {
            let body = json!({ "name": name });
            until("LNbits opens an account", 120, || {
                ask(&address, "POST", "/api/v1/account", "", &body)
                    .filter(|account| account["id"].is_string())
            })
        };
        let (agent, shop) = (account("agent"), account("shop"));
        let mut credit = Command::new(python());
        credit
            .args(["-c", CREDIT])
            .arg(folder.path().join("database.sqlite3"))
            .arg(agent["id"].as_str().unwrap());
        assert!(credit.status().unwrap().success());
        Self { _peer: peer, _folder: folder, address, agent, shop }
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that reads the agent's wallet and cannot pay.
    pub fn read_key(&self) -> &str {
        self.agent["inkey"].as_str().unwrap()
    }

    /// Pays this many satoshi for an agent.
    pub fn pay(&self, agent: &str, sats: u64) {
        let key = |wallet: &Value, kind: &str| wallet[kind].as_str().unwrap().to_owned();
        let invoice = json!({ "out": false, "amount": sats, "memo": "test" });
        let invoice = self.post(&key(&self.shop, "inkey"), &invoice);
        let bolt11 = &invoice["bolt11"];
        let payment = json!({ "out": true, "bolt11": bolt11, "extra": { "agent_id": agent } });
        let paid = self.post(&key(&self.agent, "adminkey"), &payment);
        assert!(paid["payment_hash"].is_string(), "{paid}");
    }

    /// What an agent has paid, in satoshi with fees, by the wallet's own record.
    pub fn paid_by(&self, agent: &str) -> (u64, u64) {
        let list =
            ask(&self.address, "GET", "/api/v1/payments?limit=1000", self.read_key(), &Value::Null).unwrap();
        let payments = list.as_array().unwrap().iter();
        let paid = payments
            .filter(|payment| payment["extra"]["agent_id"] == agent && payment["status"] == "success");
        paid.fold((0, 0), |(n, sats), payment| {
            let msat = payment["amount"].as_i64().unwrap() + payment["fee"].as_i64().unwrap_or(0);
            (n + 1, sats + msat.unsigned_abs() / 1000)
        })
    }

    fn post(&self, key: &str, body: &Value) -> Value {
        ask(&self.address, "POST", "/api/v1/payments", key, body).unwrap()
    }
}

/// LNbits finds its migrations relative to where it is installed.
fn site_packages(home: &std::path::Path) -> std::path::PathBuf {
    let mut folders = fs::read_dir(home.join("lib")).unwrap();
    folders.next().unwrap().unwrap().path().join("site-packages")
}

fn ask(address: &str, method: &str, path: &str, key: &str, body: &Value) -> Option<Value> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let answer = call(address, method, path, &headers, &body).ok()?;
    serde_json::from_str(&answer.body).ok()
}
