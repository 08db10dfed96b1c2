//! A spender that nobody claimed is watched, gets its name, and keeps it.

use railwatch_tests::{Daemon, Home, until};
use serde_json::{Value, json};

const WALLET: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/// A settlement as a facilitator reports it; it names no agent.
fn settle(daemon: &Daemon<'_>, nth: u8) {
    let body = json!({
        "hook": "facilitator.onAfterSettle",
        "context": {
            "requirements": {
                "network": "eip155:84532", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "amount": "1500000", "payTo": "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
            },
            "result": {
                "success": true, "payer": WALLET, "network": "eip155:84532",
                "transaction": format!("0x{nth:064x}"),
            },
        },
    });
    assert_eq!(daemon.post("/in/x402", &[], body.to_string().as_bytes()).unwrap().status, 200);
}

#[test]
fn an_adopted_spender_is_an_agent_from_the_next_payment_on() {
    let home = Home::new(
        "# who pays\n[sources.x402]\nplugin = \"x402-hooks\"\nverify = \"none-accept-forged-events\"\n",
    );
    let daemon = home.start();
    daemon.wait_source("x402", "live");
    settle(&daemon, 1);
    let spender = format!("unmapped:evm.address:{WALLET}");
    let totals = |agent: &str| -> Option<Value> {
        let view = home.run(&["agents", agent, "--json"]);
        (view.code == 0).then(|| view.documents()[0]["totals"].clone())
    };
    assert_eq!(totals(&spender).unwrap()["committed"], "1.50");

    let config = || std::fs::read_to_string(home.config()).unwrap();
    let before = config();
    assert_eq!(home.run(&["agents", "adopt", &spender, "scout", "--dry-run"]).code, 0);
    assert_eq!(config(), before);
    let adopted = home.run(&["agents", "adopt", &spender, "scout"]);
    assert_eq!(adopted.code, 0, "{adopted:?}");
    assert!(config().starts_with(before.trim_end()), "what was there stays as it is: {}", config());
    // A running railwatch sees the change by itself.
    let mut nth = 1;
    until("payments are the agent's", 60, || {
        nth += 1;
        settle(&daemon, nth);
        totals("scout").map(drop)
    });
    let counted = |agent: &str| totals(agent).unwrap()["purchases"].as_u64().unwrap();
    assert_eq!(counted(&spender) + counted("scout"), u64::from(nth));
    assert_eq!(daemon.stop(), 0);

    let twice = home.run(&["agents", "adopt", &spender, "other"]);
    assert_eq!(twice.code, 3, "two agents cannot claim one identity: {twice:?}");
    let nonsense = home.run(&["agents", "adopt", "scout", "other"]);
    assert_eq!((nonsense.code, nonsense.stderr.contains("unmapped:SCHEME:VALUE")), (1, true), "{nonsense:?}");
    assert_eq!(home.run(&["check"]).code, 0);
}
