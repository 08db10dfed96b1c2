//! Who receives notices: a real mail server, the reference library for signatures, a chat in a storm, and peers that
//! are cut off from railwatch between any two steps of a delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use railwatch_tests::{Answer, Home, HttpPeer, SECRET, SPENDER, Script, answers, now, overspend, until};
use serde_json::{Value, json};

fn outbox(home: &Home) -> Vec<Value> {
    home.run(&["outbox", "list", "--limit", "10000", "--json"]).documents()
}

fn is_sent(home: &Home, n: usize) {
    until(&format!("{n} notices are sent"), 60, || {
        (outbox(home).iter().filter(|entry| entry["state"] == "sent").count() >= n).then_some(())
    });
}

#[test]
fn a_mail_server_takes_mails_that_people_can_read_and_that_thread() {
    let server = Script::python("smtp.py", &["1"]);
    let port = until("the mail server's port", 30, || server.said().first()?["port"].as_u64());
    let home = Home::new(&format!(
        "{SPENDER}\n[sinks.mail]\nplugin = \"email\"\nserver = \"127.0.0.1\"\nport = {port}\nencryption = \"none\"\n\
         from = \"railwatch <watch@example.com>\"\nto = [\"ana@example.com\", \"ben@example.com\"]\n"
    ));
    let daemon = home.start();
    overspend(&daemon, "spender");
    is_sent(&home, 1);
    let alert = home.run(&["alerts", "list", "--json"]).documents()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(home.run(&["alerts", "resolve", &alert]).code, 0);
    is_sent(&home, 2);
    assert_eq!(daemon.stop(), 0);
    let said = server.said();
    assert!(said.iter().any(|value| value["refused"] == true), "a busy server is asked again");
    let mails: Vec<&Value> = said.iter().filter(|value| value["headers"].is_object()).collect();
    assert_eq!(mails.len(), 2, "{said:#?}");
    for mail in &mails {
        assert_eq!((&mail["from"], &mail["defects"]), (&json!("watch@example.com"), &json!([])));
        assert_eq!(mail["to"], json!(["ana@example.com", "ben@example.com"]));
        let part = |kind: &str| mail["parts"][kind].as_str().unwrap().to_owned();
        assert!(part("text/plain").contains("spender") && part("text/html").contains("<html"), "{mail:#?}");
    }
    let header = |mail: &Value, name: &str| mail["headers"][name].as_str().map(str::to_owned);
    assert_eq!(header(mails[0], "subject"), header(mails[1], "subject"));
    assert_eq!(header(mails[1], "in-reply-to"), header(mails[0], "message-id"));
    assert_ne!(header(mails[1], "message-id"), header(mails[0], "message-id"));
}

#[test]
fn the_reference_library_accepts_our_signature_and_no_other() {
    let receiver = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = Home::new("");
    let secret = home.write("signing.key", SECRET);
    let url = receiver.url("/railwatch");
    home.configure(&format!(
        "{SPENDER}\n[sinks.own]\nplugin = \"webhook\"\nurl = {url:?}\nsecrets = [{{ file = {secret:?} }}]\n"
    ));
    let daemon = home.start();
    overspend(&daemon, "spender");
    is_sent(&home, 1);
    assert_eq!(daemon.stop(), 0);
    let request = receiver.requests().remove(0);
    let headers: BTreeMap<&str, &str> = request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("webhook-"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut library = Script::python("verify.py", &[]);
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (secret, body, accepted) in [
        (SECRET, request.body.clone(), true),
        (SECRET, request.body.replace("500", "1"), false),
        (other, request.body.clone(), false),
    ] {
        let before = library.said().len();
        library.say(&json!({ "secret": secret, "body": body, "headers": headers }));
        let verdict = until("the library's verdict", 30, || {
            let said = library.said();
            said.get(before.max(1)).or_else(|| said.last().filter(|_| said.len() > before.max(1))).cloned()
        });
        assert_eq!(verdict["accepted"], accepted, "{verdict}");
    }
}

/// A peer that takes its time, so that a power cut falls between sending and the receipt.
fn slow() -> HttpPeer {
    let slow = Answer { delay: Duration::from_secs(20), ..Answer::status(200) };
    HttpPeer::start(answers(vec![slow.clone(), slow], Answer::status(200)))
}

fn cut_off(home: &Home, peer: &HttpPeer, n: usize) {
    let daemon = home.start();
    if n == 1 {
        overspend(&daemon, "spender");
    }
    until("the request is there", 60, || (peer.requests().len() >= n).then_some(()));
    daemon.kill();
}

#[test]
fn a_notice_whose_receipt_was_lost_is_repeated_once_and_says_so() {
    let slack = slow();
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    home.configure(&format!(
        "{SPENDER}\n[sinks.chat]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\ntimeout = \"30s\"\n"
    ));
    cut_off(&home, &slack, 1);
    cut_off(&home, &slack, 2);
    let marks: Vec<bool> = slack
        .requests()
        .iter()
        .map(|request| request.body.contains("may be the same message again"))
        .collect();
    assert_eq!(marks, [false, true], "the repetition is marked");
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let entry = outbox(&home).remove(0);
    assert_eq!((&entry["state"], &entry["doubts"]), (&json!("unknown"), &json!(2)), "{entry}");
    let shown = home.run(&["outbox", "list"]).stdout;
    assert!(shown.contains("sent?"), "{shown}");
    assert_eq!(slack.requests().len(), 2, "there is no third");
    // A person may decide that it did not arrive.
    assert_eq!(home.run(&["outbox", "retry", &entry["id"].to_string()]).code, 0);
    is_sent(&home, 1);
    assert_eq!(slack.requests().len(), 3);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_peer_that_recognizes_repetitions_gets_the_same_notice_until_it_is_known_to_have_it() {
    let receiver = slow();
    let home = Home::new("");
    let (secret, url) = (home.write("signing.key", SECRET), receiver.url("/railwatch"));
    home.configure(&format!(
        "{SPENDER}\n[sinks.own]\nplugin = \"webhook\"\nurl = {url:?}\nsecrets = [{{ file = {secret:?} }}]\n\
         receiver_deduplicates = true\ntimeout = \"30s\"\n"
    ));
    cut_off(&home, &receiver, 1);
    cut_off(&home, &receiver, 2);
    let daemon = home.start();
    is_sent(&home, 1);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    let ids: BTreeSet<&str> = requests
        .iter()
        .flat_map(|request| request.headers.iter().filter(|(name, _)| name == "webhook-id"))
        .map(|(_, id)| id.as_str())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(daemon.stop(), 0);
}

/// Agents in the storm.
const AGENTS: usize = 2_000;
/// Payments of each of them.
const PAYMENTS: usize = 50;
/// Messages that a chat may get: a minute's worth at once, and then the rate.
const MESSAGES_PER_MINUTE: usize = 20;

#[test]
fn a_storm_is_a_few_messages_that_together_tell_every_alert() {
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    let agents: String =
        (0..AGENTS).map(|n| format!("[[agents]]\nid = \"agent-{n}\"\nbudget = \"$10 / day\"\n")).collect();
    let at = now();
    let line = |n: usize| {
        let payment = json!({
            "id": format!("s-{n}"), "agent_id": format!("agent-{}", n % AGENTS), "amount_usd": "5.00", "ts": at,
        });
        payment.to_string() + "\n"
    };
    let feed = home.write("storm.jsonl", (0..AGENTS * PAYMENTS).map(line).collect::<String>());
    home.configure(&format!(
        "[sources.feed]\nplugin = \"file\"\npath = {feed:?}\n\n\
         [sinks.chat]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n\n{agents}"
    ));
    let began = now();
    let daemon = home.start();
    daemon.wait_applied((AGENTS * PAYMENTS) as u64);
    let applied = now();
    until("nothing waits any more", 300, || {
        let waits = |entry: &Value| matches!(entry["state"].as_str(), Some("queued" | "sending" | "retry"));
        let entries = outbox(&home);
        (entries.len() >= AGENTS && !entries.iter().any(waits)).then_some(())
    });
    let told = now();
    let entries = outbox(&home);
    let opened: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry["occasion"] == "opened" && entry["state"] == "sent")
        .filter_map(|entry| entry["incident"].as_str())
        .collect();
    let alerts = home.run(&["alerts", "list", "--limit", "10000", "--json"]).documents();
    let agents: BTreeSet<&str> =
        alerts.iter().filter_map(|alert| alert["subject"]["agent"].as_str()).collect();
    assert_eq!(agents.len(), AGENTS, "no alert is missing from the store");
    for alert in &alerts {
        assert!(opened.contains(alert["incident"].as_str().unwrap()), "{} was not told", alert["id"]);
    }
    let n_messages = slack.requests().len();
    let minutes = usize::try_from(told.since(began).as_secs() / 60).unwrap() + 1;
    println!(
        "{} payments of {AGENTS} agents judged in {:?}; {} notices in {n_messages} messages, the last after {:?}",
        AGENTS * PAYMENTS,
        applied.since(began),
        entries.len(),
        told.since(began),
    );
    assert_eq!(daemon.metric("railwatch_messages_sent_total"), n_messages as u64);
    assert!(n_messages <= MESSAGES_PER_MINUTE * (minutes + 1), "{n_messages} messages in {minutes} minutes");
    assert_eq!(daemon.stop(), 0);
}
