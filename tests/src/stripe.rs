//! A Stripe account: `localstripe`, a server of Stripe's API that somebody else wrote. It signs webhooks, keeps events,
//! and delivers each webhook once.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use railwatch_model::Usd;
use serde_json::{Value, json};

use crate::call::call;
use crate::child::Peer;
use crate::daemon::{free_port, python, repo_root};
use crate::wait::until;

/// The account's key; any test key will do.
const KEY: &str = "sk_test_12345";

/// The account.
#[derive(Debug)]
pub struct StripeAccount {
    _peer: Peer,
    address: String,
    customer: String,
    method: String,
}

impl StripeAccount {
    /// Opens an account with one customer and a card.
    pub fn open() -> Self {
        let port = free_port();
        let mut command = Command::new(python());
        command.arg(repo_root().join("tests/it/peers/loopback.py"));
        let peer = Peer::start(command.args(["localstripe", "--from-scratch", "--port", &port.to_string()]));
        let address = format!("127.0.0.1:{port}");
        until("localstripe listens", 60, || ask(&address, "GET", "/v1/events", "").map(drop));
        let mut account = Self { _peer: peer, address, customer: String::new(), method: String::new() };
        account.customer =
            account.post("/v1/customers", "email=a@example.com")["id"].as_str().unwrap().into();
        let card =
            "type=card&card[number]=4242424242424242&card[exp_month]=12&card[exp_year]=2040&card[cvc]=123";
        account.method = account.post("/v1/payment_methods", card)["id"].as_str().unwrap().into();
        let attach = format!("/v1/payment_methods/{}/attach", account.method);
        account.post(&attach, &format!("customer={}", account.customer));
        account
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its key.
    pub fn key(&self) -> &'static str {
        KEY
    }

    /// Has events posted to a URL, signed with this secret.
    pub fn deliver_to(&self, url: &str, secret: &str) {
        let body = json!({ "url": url, "secret": secret }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = call(&self.address, "POST", "/_config/webhooks/railwatch", &headers, body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    }

    /// Pays this many cents for an agent.
    pub fn pay(&self, agent: &str, cents: u64) {
        let Self { customer, method, .. } = self;
        let paid = self.post(
            "/v1/payment_intents",
            &format!(
                "amount={cents}&currency=usd&customer={customer}&payment_method={method}&confirm=true\
                 &metadata[agent_id]={agent}"
            ),
        );
        assert_eq!(paid["status"], "succeeded", "{paid}");
    }

    /// What an agent has paid, by the account's own record.
    pub fn paid_by(&self, agent: &str) -> (u64, Usd) {
        let list = ask(&self.address, "GET", "/v1/payment_intents?limit=100", "").unwrap();
        let intents = list["data"].as_array().unwrap().iter();
        let paid = intents
            .filter(|intent| intent["metadata"]["agent_id"] == agent && intent["status"] == "succeeded");
        paid.fold((0, Usd::ZERO), |(n, sum), intent| {
            (n + 1, sum.plus(Usd::from_cents(intent["amount"].as_i64().unwrap())))
        })
    }

    fn post(&self, path: &str, form: &str) -> Value {
        ask(&self.address, "POST", path, form).unwrap()
    }
}

fn ask(address: &str, method: &str, path: &str, form: &str) -> Option<Value> {
    let user = format!("Basic {}", STANDARD.encode(format!("{KEY}:")));
    let headers = [("authorization", &*user), ("content-type", "application/x-www-form-urlencoded")];
    let answer = call(address, method, path, &headers, form.as_bytes()).ok()?;
    assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    Some(serde_json::from_str(&answer.body).unwrap())
}
