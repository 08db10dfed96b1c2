//! Prometheus Alertmanager takes railwatch's incidents as alerts of its own: once, and until they are over.

use railwatch_tests::{Alertmanager, Answer, Home, HttpPeer, answers, overspend, until};
use serde_json::Value;

/// The states that Alertmanager told its receiver of, in order.
fn told(people: &HttpPeer) -> Vec<String> {
    let status = |request: railwatch_tests::Request| request.json()["status"].as_str().unwrap().to_owned();
    people.requests().into_iter().map(status).collect()
}

#[test]
fn an_incident_is_one_alert_across_a_power_cut_and_ends_there_too() {
    let people = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let manager = Alertmanager::start(&people.url("/people"));
    let url = manager.url();
    let home = Home::new(&format!(
        "[sources.hook]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n\n\
         [[agents]]\nid = \"spender \\\"<b>\"\nbudget = \"$10 / day\"\n\n\
         [sinks.manager]\nplugin = \"alertmanager\"\nurl = {url:?}\nlabels = {{ cluster = \"eu-1\" }}\n"
    ));
    let daemon = home.start();
    overspend(&daemon, "spender \"<b>");
    until("people are told", 60, || (told(&people) == ["firing"]).then_some(()));
    let alert = manager.alerts().remove(0);
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!((label("alertname"), label("cluster")), ("RailwatchIncident".to_owned(), "eu-1".to_owned()));
    assert_eq!(label("subject"), "agent:spender \"<b>");
    daemon.kill();

    let daemon = home.start();
    let alerts: Vec<Value> = home.run(&["alerts", "list", "--json"]).documents();
    let id = alerts[0]["id"].as_str().unwrap();
    assert_eq!(home.run(&["alerts", "resolve", id, "--note", "stopped"]).code, 0);
    until("people are told of the end", 60, || {
        told(&people).last().is_some_and(|status| status == "resolved").then_some(())
    });
    assert_eq!(told(&people), ["firing", "resolved"], "the same incident is told once");
    assert_eq!(daemon.stop(), 0);
}
