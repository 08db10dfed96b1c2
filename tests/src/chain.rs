//! A chain: `anvil`, a node that somebody else wrote, with a token where USDC is on Base Sepolia.
//!
//! The token is as small as a token can be that reports what x402 settles: whoever calls it with (from, to, value, nonce)
//! makes it emit `Transfer(from, to, value)` and `AuthorizationUsed(from, nonce)`.

use std::process::Command;

use railwatch_model::Usd;
use serde_json::{Value, json};

use crate::call::call;
use crate::child::Peer;
use crate::daemon::{free_port, peer_file};
use crate::wait::until;

/// USDC on Base Sepolia.
const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/// An account that anvil lets anybody send from: the facilitator.
const FACILITATOR: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
/// Who is paid.
const SHOP: &str = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720";
const TRANSFER: &str = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
const AUTHORIZATION_USED: &str = "98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";

/// The running chain.
#[derive(Debug)]
pub struct Chain {
    _peer: Peer,
    address: String,
}

impl Chain {
    /// Starts it; every transaction is a block of its own.
    pub fn start() -> Self {
        let port = free_port().to_string();
        let mut command = Command::new(peer_file("anvil/anvil"));
        command.args(["--host", "127.0.0.1", "--port", &port, "--chain-id", "84532", "--silent"]);
        let chain = Self { _peer: Peer::start(&mut command), address: format!("127.0.0.1:{port}") };
        until("anvil answers", 60, || chain.ask("eth_chainId", &json!([])));
        chain.rpc("anvil_setCode", &json!([TOKEN, code()]));
        chain
    }

    /// Where it can be followed.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The same over HTTP.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its CAIP-2 id.
    pub fn network(&self) -> &'static str {
        "eip155:84532"
    }

    /// Settles a payment of this many millionths of a dollar; `nonce` names its authorization.
    pub fn pay(&self, from: &str, micros: u64, nonce: u64) {
        let words = [word(from), word(SHOP), format!("{micros:064x}"), format!("{nonce:064x}")];
        let call = json!({ "from": FACILITATOR, "to": TOKEN, "data": format!("0x{}", words.concat()) });
        let hash = self.rpc("eth_sendTransaction", &json!([call]));
        until("the transaction is mined", 30, || {
            let receipt = self.rpc("eth_getTransactionReceipt", &json!([hash]));
            (receipt["status"] == "0x1").then_some(())
        });
    }

    /// Replaces the newest block by an empty one: what was in it never happened.
    pub fn drop_newest_block(&self) {
        self.rpc("anvil_reorg", &json!([1, []]));
    }

    /// Replaces the newest block by another one with the same transactions, the last of them first.
    pub fn mine_newest_block_again(&self) {
        let block = self.rpc("eth_getBlockByNumber", &json!(["latest", false]));
        let hashes = block["transactions"].as_array().unwrap().iter().rev();
        let again: Vec<Value> =
            hashes.map(|hash| json!([self.rpc("eth_getRawTransactionByHash", &json!([hash])), 0])).collect();
        self.rpc("anvil_reorg", &json!([1, again]));
    }

    /// Takes the newest blocks back and tells nobody.
    pub fn roll_back(&self, blocks: u64) {
        self.rpc("anvil_rollback", &json!([blocks]));
    }

    /// Whether each transaction gets a block at once; otherwise they wait for [`Chain::mine`].
    pub fn mine_at_once(&self, at_once: bool) {
        self.rpc("evm_setAutomine", &json!([at_once]));
    }

    /// The number of the newest block.
    pub fn tip(&self) -> u64 {
        let tip = self.rpc("eth_blockNumber", &json!([]));
        u64::from_str_radix(tip.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    /// Mines empty blocks.
    pub fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", &json!([format!("0x{blocks:x}")]));
    }

    /// What a wallet has paid, by the chain's own record.
    pub fn paid_by(&self, wallet: &str) -> (u64, Usd) {
        let topics = json!([format!("0x{TRANSFER}"), format!("0x{}", word(wallet))]);
        let filter = json!({ "fromBlock": "0x0", "toBlock": "latest", "address": TOKEN, "topics": topics });
        let logs = self.rpc("eth_getLogs", &json!([filter]));
        let micros = logs.as_array().unwrap().iter().map(|log| {
            i64::from_str_radix(log["data"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        });
        // A transfer of nothing can be made in anybody's name.
        micros
            .filter(|micros| *micros > 0)
            .fold((0, Usd::ZERO), |(n, sum), micros| (n + 1, sum.plus(Usd::from_nanos(micros * 1000))))
    }

    #[track_caller]
    fn rpc(&self, method: &str, params: &Value) -> Value {
        self.ask(method, params).unwrap_or_else(|| panic!("anvil does not answer {method}"))
    }

    fn ask(&self, method: &str, params: &Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = call(&self.address, "POST", "/", &headers, body.as_bytes()).ok()?;
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.get("error"), None, "{method}");
        Some(answer["result"].clone())
    }
}

/// An address as a word of the chain.
fn word(address: &str) -> String {
    format!("{:0>64}", address.trim_start_matches("0x").to_ascii_lowercase())
}

/// The token's code: memory holds the value; then the two logs, each with its topics pushed last to first.
fn code() -> String {
    let load = |at: u8| format!("60{at:02x}35");
    let value = format!("{}600052", load(0x40));
    let transfer = format!("{}{}7f{TRANSFER}60206000a3", load(0x20), load(0x00));
    let used = format!("{}{}7f{AUTHORIZATION_USED}60006000a3", load(0x60), load(0x00));
    format!("0x{value}{transfer}{used}00")
}
