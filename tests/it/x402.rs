//! The x402 project's own client, resource server and facilitator on a real chain: what agents pay is what railwatch says,
//! whatever else happens on the chain.

use railwatch_model::Usd;
use railwatch_tests::{Chain, Daemon, Home, SECRET, X402Stack, until};
use serde_json::{Value, json};

/// Waits until railwatch says of every agent what the chain says of its wallet.
#[track_caller]
fn check(daemon: &Daemon<'_>, chain: &Chain) {
    let (mut said, mut recorded) = (Vec::new(), Vec::new());
    let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("railwatch and the chain agree", 60, || {
            (said, recorded) = (Vec::new(), Vec::new());
            for agent in 1..=3 {
                let (n, usd) = chain.paid_by(X402Stack::wallet(agent));
                recorded.push(json!([n, usd]));
                let view = daemon.get(&format!("/v1/agents/agent-{agent}"))?;
                let view: Value = serde_json::from_str(&view.body).unwrap_or_default();
                let totals = &view["totals"];
                said.push(if totals.is_null() {
                    json!([0, Usd::ZERO])
                } else {
                    json!([totals["purchases"], totals["committed"]])
                });
            }
            (said == recorded).then_some(())
        });
    }));
    assert!(agreed.is_ok(), "the chain says {recorded:?}, railwatch says {said:?}");
}

fn configure(home: &Home, chain: &Chain) {
    let secret = home.write("hook.secret", SECRET);
    let wallets: Vec<&str> = (1..=3).map(X402Stack::wallet).collect();
    let agents: String = (1..=3)
        .map(|agent| {
            let wallet = X402Stack::wallet(agent);
            format!("[[agents]]\nid = \"agent-{agent}\"\n[agents.match]\n\"evm.address\" = [{wallet:?}]\n\n")
        })
        .collect();
    home.configure(&format!(
        r#"
[sources.base]
plugin = "x402-evm"
network = "{network}"
url = "{url}"
wallets = {wallets:?}
confirmations = 2

[sources.facilitator]
plugin = "x402-hooks"
verify = {{ preset = "standard-webhooks", secret = {{ file = {secret:?} }} }}

{agents}"#,
        network = chain.network(),
        url = chain.url(),
    ));
}

/// What was bought, by what the hooks and the chain have told of an agent.
fn resources(home: &Home, agent: u64) -> Vec<String> {
    let agent = format!("agent-{agent}");
    let reports = home.run(&["tail", "--no-follow", "-n", "100000", "--agent", &agent, "--json"]).documents();
    let bought = reports.iter().filter_map(|report| report["payment"]["resource"].as_str());
    let mut bought: Vec<String> = bought.map(str::to_owned).collect();
    bought.sort();
    bought.dedup();
    bought
}

#[test]
fn agents_that_pay_over_x402_are_watched_to_the_cent() {
    let chain = Chain::start();
    let home = Home::new("");
    configure(&home, &chain);
    let hooks = format!("http://{}/in/facilitator", home.address());
    let stack = X402Stack::start(&chain, &hooks, SECRET);
    let daemon = home.start();
    daemon.wait_source("base", "live");

    for (agent, path) in [(1, "/weather"), (2, "/weather"), (3, "/report"), (1, "/report"), (1, "/weather")] {
        assert_eq!(stack.pay(agent, path), Ok(200));
    }
    check(&daemon, &chain);
    let told = |name: &str| daemon.metric(&format!("railwatch_{name}"));
    until("the hooks are heard", 30, || (told("payments_enriched_total") >= 5).then_some(()));

    // What is refused by the agent's own client, by an empty wallet, or as a repeat, is not paid.
    assert!(stack.pay(1, "/archive").is_err());
    assert_eq!(stack.pay(7, "/weather"), Ok(402));
    assert_eq!(stack.pay(2, "/weather"), Ok(200));
    assert_eq!(stack.replay(), 402);
    // What moves nothing is nothing; what moves without x402 is spent all the same; what is batched is counted one by one.
    stack.forge(1);
    stack.transfer(3, 777);
    stack.batch(2, &[1_000, 2_000, 1_000]);
    check(&daemon, &chain);

    // The payment that is pending when the client gives up is paid when it is mined.
    chain.mine_at_once(false);
    assert_eq!(stack.pay(3, "/weather"), Ok(402));
    check(&daemon, &chain);
    let before = chain.paid_by(X402Stack::wallet(3)).0;
    chain.mine(1);
    chain.mine_at_once(true);
    assert_eq!(chain.paid_by(X402Stack::wallet(3)).0, before + 1);
    check(&daemon, &chain);

    // The chain changes its mind, in every way that it has.
    assert_eq!(stack.pay(1, "/report"), Ok(200));
    chain.mine_newest_block_again();
    check(&daemon, &chain);
    stack.batch(1, &[5_000, 6_000]);
    check(&daemon, &chain);
    chain.mine_newest_block_again();
    check(&daemon, &chain);
    assert_eq!(stack.pay(2, "/report"), Ok(200));
    check(&daemon, &chain);
    let before = chain.paid_by(X402Stack::wallet(2));
    chain.drop_newest_block();
    assert_ne!(chain.paid_by(X402Stack::wallet(2)), before);
    check(&daemon, &chain);
    stack.transfer(1, 4_321);
    check(&daemon, &chain);
    chain.roll_back(1);
    chain.mine(1);
    check(&daemon, &chain);

    // Nobody looks for a while.
    daemon.kill();
    assert_eq!(stack.pay(1, "/weather"), Ok(200));
    stack.batch(3, &[10, 20, 30]);
    let daemon = home.start();
    check(&daemon, &chain);
    chain.mine(3);
    check(&daemon, &chain);
    assert_eq!(daemon.stop(), 0);

    let bought = resources(&home, 1);
    assert_eq!(bought.len(), 2, "{bought:?}");
    assert!(bought[0].ends_with("/report") && bought[1].ends_with("/weather"), "{bought:?}");
    assert_eq!(home.run(&["doctor"]).code, 0);
}
