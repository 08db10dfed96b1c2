//! The command line without a daemon, and what a recording says of a run.

use std::time::Duration;

use railwatch_tests::{
    Answer, Fleet, Gate, GateOptions, Home, HttpPeer, Payment, answers, now, railwatch, until,
};
use serde_json::Value;

#[test]
fn init_writes_what_check_accepts_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("railwatch.toml");
    let path = path.to_str().unwrap();
    let init = railwatch(&["init", path]);
    assert_eq!(init.code, 0, "{init:?}");
    let check = railwatch(&["--config", path, "check"]);
    assert_eq!(check.code, 0, "{check:?}");
    assert_eq!(railwatch(&["init", path]).code, 1, "an existing file is kept");
    let shown = |options: &[&str]| -> toml::Table {
        let shown = railwatch(&[&["--config", path, "config", "show"], options].concat());
        assert_eq!(shown.code, 0, "{shown:?}");
        shown.stdout.parse().unwrap()
    };
    assert_eq!(shown(&["--resolved"])["store"]["path"].as_str(), Some("railwatch.db"));
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    std::fs::write(
        folder.path().join("conf.d/shop.toml"),
        "[sources.shop]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n",
    )
    .unwrap();
    let written = shown(&[]);
    assert_eq!(written["sources"]["shop"]["plugin"].as_str(), Some("webhook"), "of all files");
    assert!(
        written["sources"]["shop"].get("path").is_none() && written.get("limits").is_none(),
        "no defaults"
    );
}

#[test]
fn the_schema_is_json_and_completions_are_bash() {
    let schema: Value = serde_json::from_str(&railwatch(&["config", "schema"]).stdout).unwrap();
    for section in ["sources", "sinks", "detectors", "agents", "teams", "alerts", "score"] {
        assert!(schema["properties"].get(section).is_some(), "no {section} in the schema");
    }
    let completions = railwatch(&["completions", "bash"]);
    assert!(completions.stdout.contains("complete -F _railwatch"), "{completions:?}");
}

#[test]
fn plugins_are_listed_and_wrong_usage_has_its_own_code() {
    let plugins = railwatch(&["plugins", "--json"]).documents();
    for (kind, name) in [("source", "websocket"), ("detector", "velocity"), ("sink", "slack")] {
        assert!(
            plugins.iter().any(|plugin| plugin["kind"] == kind && plugin["name"] == name),
            "{kind} {name}"
        );
    }
    assert_eq!(railwatch(&["runn"]).code, 2);
    let nowhere = Home::new("");
    assert_eq!(nowhere.run(&["agents"]).code, 4);
}

/// Two weeks of habits and an hour in which one agent runs away.
fn incident() -> Vec<Payment> {
    let mut fleet = Fleet::new(6, 0x5eed_0004);
    let end = now();
    let begin = end.before(Duration::from_secs(3600));
    let mut payments = fleet.pay(end.before(Duration::from_secs(14 * 86_400)), begin, &[]);
    payments.extend(fleet.pay(begin, end, &[("agent_2", 30.0)]));
    payments
}

/// The ids of the alerts that documents open.
fn opened(documents: &[Value]) -> Vec<String> {
    let firing = documents.iter().filter(|document| document["state"] == "firing");
    let mut ids: Vec<String> = firing.map(|alert| alert["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn a_recording_gives_the_same_alerts_every_time() {
    let home = Home::new("");
    let lines: String = incident().iter().map(|payment| payment.line() + "\n").collect();
    let path = home.write("recording.jsonl", lines);
    let replay = || home.run(&["replay", path.to_str().unwrap(), "--json"]).documents();
    let (first, second) = (replay(), replay());
    assert_eq!(first, second);
    let opened: Vec<&Value> = first.iter().filter(|document| document["state"] == "firing").collect();
    assert!(opened.iter().any(|alert| alert["subject"].to_string().contains("agent_2")), "{opened:#?}");
    let summary = first.last().unwrap();
    assert_eq!((&summary["duplicates"], &summary["rejected"]), (&0.into(), &0.into()), "{summary}");
}

#[test]
fn replaying_the_store_opens_the_alerts_that_were_opened_live() {
    let gate = Gate::start(GateOptions { per_frame: 50, drop_after: 0 });
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = crate::gate::home(&gate, &slack);
    let daemon = home.start();
    let payments = incident();
    gate.send(payments.iter().map(Payment::line));
    daemon.wait_applied(payments.len() as u64);
    until("an alert", 60, || (!slack.requests().is_empty()).then_some(()));
    assert_eq!(daemon.stop(), 0);
    let live = home.run(&["alerts", "list", "--all", "--json", "--limit", "1000"]).documents();
    let mut live: Vec<String> = live.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect();
    live.sort();
    let store = home.path("railwatch.db");
    let replayed = home.run(&["replay", store.to_str().unwrap(), "--json"]).documents();
    assert_eq!(opened(&replayed), live);
}
