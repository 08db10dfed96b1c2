//! Notices reach a peer that is rude, slow or away: once, or as a dead letter that a person can send again.

use railwatch_tests::{Answer, Home, HttpPeer, Request, answers, now, until};
use serde_json::{Value, json};

/// A home whose only agent exceeds a tiny budget with its first payment, and tells one Slack channel.
fn home(slack: &str) -> Home {
    let home = Home::new("");
    let secret = home.write("slack.url", slack);
    home.configure(&format!(
        "[sources.hook]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n\n\
         [[agents]]\nid = \"spender\"\nbudget = \"$10 / day\"\n\n\
         [sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\ntimeout = \"2s\"\n"
    ));
    home
}

/// Spends far more than the budget.
fn overspend(daemon: &railwatch_tests::Daemon<'_>) {
    daemon.wait_source("hook", "live");
    let payment = json!({ "id": "d-1", "agent_id": "spender", "amount_usd": "500.00", "ts": now() });
    assert_eq!(daemon.post("/in/hook", &[], payment.to_string().as_bytes()).unwrap().status, 200);
}

fn outbox(home: &Home) -> Vec<Value> {
    home.run(&["outbox", "list", "--json"]).documents()
}

/// The outbox's entry about the agent, which is its first, once it is in this state; another may be about the sink.
#[track_caller]
fn entry(home: &Home, state: &str) -> Value {
    until(&format!("a notice is {state}"), 60, || {
        let first = outbox(home).pop()?;
        (first["state"] == state).then_some(first)
    })
}

/// What the peer was sent about the agent; it also hears that it did not take it.
fn about_agent(slack: &HttpPeer) -> usize {
    slack.requests().iter().filter(|request| request.body.contains("spender")).count()
}

fn bodies(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.body.as_str()).collect()
}

#[test]
fn a_rude_peer_gets_it_when_it_is_ready_and_then_never_again() {
    let wait = Answer { retry_after_secs: Some(2), ..Answer::status(429) };
    let slack = HttpPeer::start(answers(vec![wait, Answer::status(500)], Answer::status(200)));
    let home = home(&slack.url("/services/T/B/s3cr3t"));
    let daemon = home.start();
    overspend(&daemon);
    let sent = entry(&home, "sent");
    assert_eq!(sent["attempts"], 3, "{sent}");
    let requests = slack.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(bodies(&requests)[0], bodies(&requests)[2], "it is the same notice");
    let waited = requests[1].at.since(requests[0].at);
    assert!(waited.as_millis() >= 1_900, "Retry-After is believed, waited {waited:?}");
    assert_eq!(daemon.stop(), 0);

    let daemon = home.start();
    daemon.wait_source("hook", "live");
    assert_eq!(slack.requests().len(), 3, "a restart sends nothing again");
    assert_eq!(daemon.stop(), 0);
    assert!(!home.log().contains("s3cr3t"), "the log shows the webhook's URL");
}

#[test]
fn a_peer_that_was_away_is_told_when_it_is_back_even_after_a_power_cut() {
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let (address, url) = (slack.address(), slack.url("/services/T/B/s3cr3t"));
    drop(slack);
    let home = home(&url);
    let daemon = home.start();
    overspend(&daemon);
    let waiting = entry(&home, "retry");
    assert!(waiting["last_error"].as_str().unwrap().contains("connect"), "{waiting}");
    daemon.kill();

    let slack = HttpPeer::start_at(address, answers(Vec::new(), Answer::status(200)));
    let daemon = home.start();
    entry(&home, "sent");
    assert_eq!(slack.requests().len(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_refusal_is_a_dead_letter_until_a_person_sends_it_again() {
    let slack = HttpPeer::start(answers(vec![Answer::status(404)], Answer::status(200)));
    let home = home(&slack.url("/services/T/B/s3cr3t"));
    let daemon = home.start();
    overspend(&daemon);
    let dead = entry(&home, "dead");
    assert!(dead["last_error"].as_str().unwrap().contains("404"), "{dead}");
    assert_eq!(daemon.metric("railwatch_notices_dead_total"), 1);
    assert_eq!(about_agent(&slack), 1, "a refusal is not repeated");
    let retry = home.run(&["outbox", "retry", &dead["id"].to_string()]);
    assert_eq!(retry.code, 0, "{retry:?}");
    entry(&home, "sent");
    assert_eq!(about_agent(&slack), 2);
    let again = home.run(&["outbox", "retry", &dead["id"].to_string()]);
    assert_eq!(again.code, 1, "what was sent cannot be sent again: {again:?}");
    assert_eq!(daemon.stop(), 0);
}
