//! A node that refuses, stalls, forgets, contradicts itself or is another one: the status says so, and in the end every
//! payment is counted once.

use railwatch_model::Usd;
use railwatch_tests::{Answer, Chain, Daemon, Home, HttpPeer, RpcProxy, call, now, until};
use serde_json::{Value, json};

const AGENT: &str = "solo";
const WALLET: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

/// A chain and how much was paid on it, by the authorizations' numbers.
struct Purse {
    chain: Chain,
    n_paid: u64,
}

impl Purse {
    fn new() -> Self {
        Self { chain: Chain::start(), n_paid: 0 }
    }

    fn pay(&mut self, times: u64) {
        for _ in 0..times {
            self.n_paid += 1;
            self.chain.pay(WALLET, 10_000 + self.n_paid, self.n_paid);
        }
    }
}

fn home(url: &str, more: &str) -> Home {
    let wallet = WALLET.to_ascii_lowercase();
    Home::new(&format!(
        "[sources.base]\nplugin = \"x402-evm\"\nnetwork = \"eip155:84532\"\nurl = {url:?}\nwallets = [{WALLET:?}]\n{more}\n\n\
         [[agents]]\nid = {AGENT:?}\n[agents.match]\n\"evm.address\" = [{wallet:?}]\n"
    ))
}

fn source(daemon: &Daemon<'_>) -> Option<Value> {
    let status: Value = serde_json::from_str(&daemon.get("/v1/status")?.body).ok()?;
    Some(status["sources"]["base"].clone())
}

/// Waits until the status says this, in this phase.
#[track_caller]
fn says(daemon: &Daemon<'_>, phase: &str, words: &str) {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the status says it", 30, || {
            last = source(daemon)?;
            let detail = last["detail"].as_str()?;
            (last["phase"] == phase && detail.contains(words)).then_some(())
        });
    }));
    assert!(found.is_ok(), "not {phase} with {words:?}: {last}");
}

/// Waits until railwatch says what the chain says.
#[track_caller]
fn check(daemon: &Daemon<'_>, chain: &Chain) {
    let (mut said, mut recorded) = (Value::Null, Value::Null);
    let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("railwatch and the chain agree", 60, || {
            let (n, usd): (u64, Usd) = chain.paid_by(WALLET);
            recorded = json!([n, usd]);
            let view = daemon.get(&format!("/v1/agents/{AGENT}"))?;
            let view: Value = serde_json::from_str(&view.body).unwrap_or_default();
            said = json!([view["totals"]["purchases"], view["totals"]["committed"]]);
            (said == recorded).then_some(())
        });
    }));
    assert!(agreed.is_ok(), "the chain says {recorded}, railwatch says {said}");
}

#[test]
fn a_node_that_refuses_stalls_and_hangs_up_costs_nothing() {
    let mut purse = Purse::new();
    purse.pay(5);
    let proxy = RpcProxy::start(&purse.chain);
    // Small ranges, refusals for asking too often, and logs without a time: from the first block on.
    purse.chain.mine(40);
    proxy.set(&json!({ "span_max": 7, "busy": 3, "no_time": true }));
    let home = home(&proxy.url(), "start_block = 0\nstall = \"2s\"\nconfirmations = 2");
    let daemon = home.start();
    daemon.wait_source("base", "live");
    check(&daemon, &purse.chain);
    assert!(proxy.struck("span_max") > 0 && proxy.struck("busy") == 3 && proxy.struck("no_time") > 0);

    // It refuses everything: the status says what it says, and nothing is lost meanwhile.
    proxy.set(&json!({ "busy": 1_000_000, "hang_up": true }));
    says(&daemon, "backfilling", "-32005");
    purse.pay(3);
    proxy.set(&json!({ "hang_up": true }));
    daemon.wait_source("base", "live");
    check(&daemon, &purse.chain);

    // Half of an answer.
    proxy.set(&json!({ "half": 1, "hang_up": true }));
    purse.pay(2);
    until("the half is read", 30, || (proxy.struck("half") == 1).then_some(()));
    proxy.set(&json!({}));
    check(&daemon, &purse.chain);

    // Silence on a connection that stays open.
    proxy.set(&json!({ "stall": true }));
    purse.pay(4);
    says(&daemon, "retrying", "no new block for 2 s");
    proxy.set(&json!({}));
    check(&daemon, &purse.chain);

    // A connection that ends in the middle of a burst, again and again.
    for _ in 0..4 {
        purse.pay(3);
        proxy.set(&json!({ "hang_up": true }));
        purse.pay(2);
    }
    check(&daemon, &purse.chain);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(home.run(&["rejects", "--json"]).documents(), Vec::<Value>::new());
}

#[test]
fn reorganizations_are_believed_as_removed_logs_and_as_heads() {
    let mut purse = Purse::new();
    let proxy = RpcProxy::start(&purse.chain);
    let home = home(&proxy.url(), "confirmations = 6");
    let daemon = home.start();
    daemon.wait_source("base", "live");
    for faults in [json!({}), json!({ "removed": true })] {
        proxy.set(&faults);
        purse.pay(3);
        check(&daemon, &purse.chain);
        let before = purse.chain.paid_by(WALLET);
        purse.chain.drop_newest_block();
        check(&daemon, &purse.chain);
        assert_ne!(purse.chain.paid_by(WALLET), before);
        purse.pay(1);
        check(&daemon, &purse.chain);
        purse.chain.mine_newest_block_again();
        purse.chain.mine(1);
        check(&daemon, &purse.chain);
        // Nobody says that blocks are gone; the next one shows it.
        purse.pay(2);
        check(&daemon, &purse.chain);
        purse.chain.roll_back(2);
        purse.chain.mine(1);
        check(&daemon, &purse.chain);
    }
    assert!(proxy.struck("removed") >= 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_node_without_old_logs_is_followed_and_the_gap_is_told() {
    let mut purse = Purse::new();
    purse.pay(4);
    let pruned = purse.chain.tip() + 1;
    purse.pay(3);
    let proxy = RpcProxy::start(&purse.chain);
    proxy.set(&json!({ "pruned_below": pruned, "span_max": 1000 }));
    let home = home(&proxy.url(), "start_block = 0");
    let daemon = home.start();
    daemon.wait_source("base", "live");
    let purchases = || {
        let view: Value = serde_json::from_str(&daemon.get(&format!("/v1/agents/{AGENT}"))?.body).ok()?;
        view["totals"]["purchases"].as_u64()
    };
    until("what the node has is counted", 30, || (purchases() == Some(3)).then_some(()));
    let rejects = home.run(&["rejects", "--json"]).documents();
    let detail = rejects[0]["detail"].as_str().unwrap();
    assert_eq!((rejects.len(), &rejects[0]["code"]), (1, &json!("gap")), "{rejects:#?}");
    assert!(detail.contains(&format!("blocks 0 to {} ", pruned - 1)), "{detail}");
    purse.pay(1);
    until("and so is what comes", 30, || (purchases() == Some(4)).then_some(()));
    // Another node has them, and what both have counts once.
    let whole = purse.chain.url();
    let config = std::fs::read_to_string(home.config()).unwrap();
    let further = format!(
        "[sources.archive]\nplugin = \"x402-evm\"\nnetwork = \"eip155:84532\"\nurl = {whole:?}\nwallets = [{WALLET:?}]\n\
         start_block = 0\n"
    );
    home.write("railwatch.toml", format!("{config}\n{further}"));
    check(&daemon, &purse.chain);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_node_of_another_chain_or_behind_its_own_is_not_believed() {
    let mut purse = Purse::new();
    purse.pay(2);
    let proxy = RpcProxy::start(&purse.chain);
    let home = home(&proxy.url(), "start_block = 0");
    let daemon = home.start();
    check(&daemon, &purse.chain);
    // A balancer hands the connection to a node that lacks the newest blocks.
    proxy.set(&json!({ "behind": 2 }));
    purse.pay(3);
    proxy.set(&json!({ "behind": 3, "hang_up": true }));
    until("the node is asked", 30, || (source(&daemon)?["failures"].as_u64()? >= 1).then_some(()));
    proxy.set(&json!({ "hang_up": true }));
    purse.pay(1);
    check(&daemon, &purse.chain);

    proxy.set(&json!({ "chain_id": "0x1", "hang_up": true }));
    says(&daemon, "failed", "the node is on chain 1, not on 84532");
    let alerts = until("people are told", 30, || {
        let alerts = home.run(&["alerts", "list", "--json"]).documents();
        (!alerts.is_empty()).then_some(alerts)
    });
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert!(alerts[0].to_string().contains("rail_blind"), "{alerts:#?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_node_over_http_that_asks_for_patience_is_given_it() {
    let mut purse = Purse::new();
    purse.pay(3);
    let upstream = purse.chain.http_url().trim_start_matches("http://").to_owned();
    let began_at = now();
    let mut n_asked = 0_u32;
    let node = HttpPeer::start(move |request| {
        n_asked += 1;
        match n_asked {
            3 | 4 | 7 => Answer { retry_after_secs: Some(1), ..Answer::status(429) },
            9 => Answer { body: "{\"jsonrpc\":\"2.0\",\"resu".to_owned(), ..Answer::status(200) },
            11 => Answer::status(502),
            _ => {
                let headers = [("content-type", "application/json")];
                let answer = call(&upstream, "POST", "/", &headers, request.body.as_bytes()).unwrap();
                Answer { body: answer.body, ..Answer::status(answer.status) }
            }
        }
    });
    let home = home(&node.url("/"), "start_block = 0\npoll_interval = \"50ms\"");
    let daemon = home.start();
    check(&daemon, &purse.chain);
    purse.pay(2);
    check(&daemon, &purse.chain);
    purse.chain.drop_newest_block();
    check(&daemon, &purse.chain);
    purse.pay(1);
    check(&daemon, &purse.chain);
    until("it was asked often enough to have met every fault", 60, || {
        (node.requests().len() > 12).then_some(())
    });
    check(&daemon, &purse.chain);
    let seen_to = source(&daemon).unwrap()["seen_to"].as_str().unwrap().to_owned();
    assert!(railwatch_model::Timestamp::parse(&seen_to).unwrap() >= began_at, "{seen_to}");
    assert_eq!(daemon.stop(), 0);
}
