//! The x402 stack on a chain: a facilitator, a resource server and agents that pay it, from the packages that the x402
//! project publishes. What happens on the chain is real; the token is a stand-in for USDC with the same code.

use std::cell::RefCell;

use serde_json::{Value, json};

use crate::chain::Chain;
use crate::daemon::peer_file;
use crate::script::Script;

/// The wallets of the agents 1 to 3.
const WALLETS: [&str; 3] = [
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
];

/// The running stack.
#[derive(Debug)]
pub struct X402Stack {
    script: RefCell<Script>,
    n_commands: RefCell<u64>,
}

impl X402Stack {
    /// Starts it on a chain, whose token it replaces. What its hooks tell is posted to `hook_url`, signed with the secret.
    pub fn start(chain: &Chain, hook_url: &str, hook_secret: &str) -> Self {
        let packages = peer_file("x402").display().to_string();
        let script = Script::node("x402/stack.js", &[&packages, &chain.http_url(), hook_url, hook_secret]);
        script.wait("the x402 stack is ready", |said| (said["ready"] == true).then_some(()));
        Self { script: RefCell::new(script), n_commands: RefCell::new(0) }
    }

    /// The wallet of an agent, 1 to 3.
    pub fn wallet(agent: usize) -> &'static str {
        WALLETS[agent - 1]
    }

    /// An agent buys what is at a path of the resource server; the status that it gets in the end, or the error of its own
    /// client.
    #[track_caller]
    pub fn pay(&self, agent: u64, path: &str) -> Result<u64, String> {
        let answer = self.command(json!({ "do": "pay", "agent": agent, "path": path }));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["status"].as_u64().unwrap()),
        }
    }

    /// Sends the last signed request again; the status.
    #[track_caller]
    pub fn replay(&self) -> u64 {
        self.done(json!({ "do": "replay" }))["status"].as_u64().unwrap()
    }

    /// Settles authorizations of these millionths of a dollar in one transaction, the last of them twice.
    #[track_caller]
    pub fn batch(&self, agent: u64, micros: &[u64]) {
        self.done(json!({ "do": "batch", "agent": agent, "values": micros }));
    }

    /// A stranger makes the token say that the agent has paid nothing to somebody.
    #[track_caller]
    pub fn forge(&self, agent: u64) {
        self.done(json!({ "do": "forge", "agent": agent }));
    }

    /// An agent's wallet sends money without x402.
    #[track_caller]
    pub fn transfer(&self, agent: u64, micros: u64) {
        self.done(json!({ "do": "transfer", "agent": agent, "value": micros }));
    }

    #[track_caller]
    fn done(&self, command: Value) -> Value {
        let answer = self.command(command);
        assert_eq!(answer.get("error"), None, "{answer}");
        answer
    }

    #[track_caller]
    fn command(&self, mut command: Value) -> Value {
        let id = self.n_commands.replace_with(|n| *n + 1) + 1;
        command["id"] = json!(id);
        self.script.borrow_mut().say(&command);
        let script = self.script.borrow();
        script.wait(&format!("{command} is done"), |said| (said["id"] == id).then(|| said.clone()))
    }
}
