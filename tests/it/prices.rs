//! What payments are worth when several providers say so, and when they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use railwatch_tests::{Answer, Daemon, Home, HttpPeer, now, until};
use serde_json::json;

use crate::totals::counted;

/// A provider that answers with this status and price.
fn provider(price: &'static str, status: &Arc<AtomicU16>) -> HttpPeer {
    let status = status.clone();
    HttpPeer::start(move |_| {
        let body = json!({ "data": { "amount": price } }).to_string();
        Answer { body, ..Answer::status(status.load(Ordering::Acquire)) }
    })
}

fn pay(daemon: &Daemon<'_>, id: &str, agent: &str) {
    let payment = json!({ "id": id, "agent_id": agent, "amount": "0.001", "currency": "BTC", "ts": now() });
    assert_eq!(daemon.post("/in/hook", &[], payment.to_string().as_bytes()).unwrap().status, 200);
}

#[test]
fn the_median_of_providers_is_recorded_with_each_payment() {
    let status = Arc::new(AtomicU16::new(200));
    let providers = ["100000", "100200.50", "1"].map(|price| provider(price, &status));
    let polls: Vec<String> = providers
        .iter()
        .map(|peer| {
            format!(
                "{{ url = {:?}, pointer = \"/data/amount\", every = \"100ms\" }}",
                peer.url("/spot?key=s3cr3t")
            )
        })
        .collect();
    let home = Home::new(&format!(
        "[sources.hook]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n\
         [prices.BTC]\nfixed_usd = \"50000\"\nmax_stale = \"5s\"\npoll = [{}]\n",
        polls.join(", ")
    ));
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    until("every provider was asked again", 30, || {
        providers.iter().all(|peer| peer.requests().len() >= 2).then_some(())
    });
    pay(&daemon, "m-1", "miner");
    // The third is a typing error of its provider: the other two agree on 100,100.25.
    assert_eq!(counted(&home), [("miner".to_owned(), 1, "100.10025".to_owned())]);

    status.store(503, Ordering::Release);
    let mut n_late = 0;
    until("the rates are too old, and the fixed one counts", 60, || {
        n_late += 1;
        let agent = format!("late_{n_late}");
        pay(&daemon, &agent, &agent);
        counted(&home).iter().any(|(name, _, usd)| *name == agent && usd == "50.00").then_some(())
    });
    let log = home.log();
    assert!(log.contains("price provider does not answer"), "{log}");
    assert!(!log.contains("s3cr3t"), "{log}");
    assert_eq!(daemon.stop(), 0);
}
