//! "Nothing was paid" and "nothing was seen" are two things: one alert per rail that is not seen, and none for one that is
//! quiet.

use railwatch_model::Timestamp;
use railwatch_tests::{Chain, Daemon, Home, HttpPeer, RpcProxy, StripeAccount, now, until};
use serde_json::{Value, json};

const SECRET: &str = "whsec_c29tZSBzZWNyZXQ";
const WALLET: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

fn source(daemon: &Daemon<'_>, name: &str) -> Option<Value> {
    let status: Value = serde_json::from_str(&daemon.get("/v1/status")?.body).ok()?;
    Some(status["sources"][name].clone())
}

/// The alerts that are about a source, as text.
fn alerts(home: &Home, source: &str) -> Vec<String> {
    let all = home.run(&["alerts", "list", "--all", "--json"]).documents();
    let about = all.iter().filter(|alert| alert["subject"] == json!({ "source": source }));
    about.map(Value::to_string).collect()
}

#[track_caller]
fn hear(home: &Home, source: &str, words: &str) {
    let mut last = Vec::new();
    let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("people are told", 30, || {
            last = alerts(home, source);
            last.iter().any(|alert| alert.contains(words)).then_some(())
        });
    }));
    assert!(heard.is_ok(), "nothing with {words:?}: {last:?}");
    assert_eq!(last.len(), 1, "one alert per rail: {last:?}");
}

#[test]
fn a_webhook_that_brings_nothing_is_told_from_an_account_that_pays_nothing() {
    let stripe = StripeAccount::open();
    let home = Home::new("");
    let (webhook, key) = (home.write("webhook", SECRET), home.write("key", stripe.key()));
    home.configure(&format!(
        "[sources.stripe]\nplugin = \"stripe\"\nwebhook_secret = {{ file = {webhook:?} }}\napi_key = {{ file = {key:?} }}\n\
         api_url = {:?}\npoll_interval = \"200ms\"\nblind_after = \"2s\"\ndirections = {{ charge = \"spend\" }}\n",
        stripe.url()
    ));
    let daemon = home.start();
    daemon.wait_source("stripe", "live");
    // Quiet for longer than the patience: seen, and nothing to tell.
    let quiet_to = now().after(std::time::Duration::from_secs(3));
    until("the quiet account is seen", 30, || {
        let seen_to = Timestamp::parse(source(&daemon, "stripe")?["seen_to"].as_str()?).ok()?;
        (seen_to > quiet_to).then_some(())
    });
    assert_eq!(alerts(&home, "stripe"), Vec::<String>::new());

    // Nobody has told Stripe where the webhook is.
    stripe.pay("a", 700);
    hear(&home, "stripe", "what the rail pushes does not arrive");
    assert_eq!(source(&daemon, "stripe").unwrap()["unpushed"]["payments"], 1);
    let agent: Value = serde_json::from_str(&daemon.get("/v1/agents/a").unwrap().body).unwrap();
    assert_eq!(agent["totals"]["purchases"], 1, "it is counted all the same");

    stripe.deliver_to(&format!("http://{}/in/stripe", home.address()), SECRET);
    stripe.pay("a", 300);
    until("the webhook works", 30, || source(&daemon, "stripe")?["unpushed"].is_null().then_some(()));
    assert_eq!(alerts(&home, "stripe").len(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_node_that_pushes_heads_and_no_logs_is_found_out() {
    let chain = Chain::start();
    let proxy = RpcProxy::start(&chain);
    let home = Home::new(&format!(
        "[sources.base]\nplugin = \"x402-evm\"\nnetwork = \"eip155:84532\"\nurl = {:?}\nwallets = [{WALLET:?}]\n\
         blind_after = \"1s\"\n",
        proxy.url()
    ));
    let daemon = home.start();
    daemon.wait_source("base", "live");
    proxy.set(&json!({ "mute_logs": true }));
    chain.mine(1);
    chain.pay(WALLET, 10_000, 1);
    chain.mine(40);
    hear(&home, "base", "what the rail pushes does not arrive");
    let agent = format!("/v1/agents/unmapped:evm.address:{}", WALLET.to_ascii_lowercase());
    let view: Value = serde_json::from_str(&daemon.get(&agent).unwrap().body).unwrap();
    assert_eq!(view["totals"]["purchases"], 1, "it is counted all the same: {view}");
    assert!(proxy.struck("mute_logs") > 0);

    proxy.set(&json!({}));
    chain.pay(WALLET, 10_000, 2);
    until("the push works", 30, || source(&daemon, "base")?["unpushed"].is_null().then_some(()));
    assert_eq!(alerts(&home, "base").len(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_rail_that_does_not_answer_is_one_alert_until_it_does() {
    // An address at which nobody listens yet.
    let nobody = HttpPeer::start(|_| railwatch_tests::Answer::status(200));
    let address = nobody.address();
    drop(nobody);
    let home = Home::new(&format!(
        "[sources.wallet]\nplugin = \"lightning\"\napi = \"lnbits\"\nurl = \"http://{address}\"\ninterval = \"100ms\"\n\
         blind_after = \"1s\"\n"
    ));
    let daemon = home.start();
    daemon.wait_source("wallet", "retrying");
    hear(&home, "wallet", "has not seen its rail since");
    let _wallet = HttpPeer::start_at(address, |_| railwatch_tests::Answer {
        body: "[]".to_owned(),
        ..railwatch_tests::Answer::status(200)
    });
    daemon.wait_source("wallet", "live");
    assert_eq!(alerts(&home, "wallet").len(), 1);
    assert_eq!(daemon.stop(), 0);
}
