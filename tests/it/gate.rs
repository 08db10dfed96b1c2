//! The whole path: a third-party WebSocket server, railwatch, a Slack channel; across power cuts.

use std::time::Duration;

use railwatch_tests::{
    Answer, Fleet, Gate, GateOptions, Home, HttpPeer, Payment, Request, answers, now, until,
};
use serde_json::Value;

use crate::totals::{check_totals, wait_counted};

/// Days of habits before the incident: a baseline needs two weeks.
const HISTORY: Duration = Duration::from_secs(14 * 86_400);
/// How long the incident has lasted when it is found. Velocity is judged over a quarter of an hour.
const INCIDENT: Duration = Duration::from_secs(20 * 60);
/// Who runs away, and how many times as fast as usual.
const RUNAWAYS: [(&str, f64); 2] = [("agent_3", 10.0), ("agent_7", 40.0)];

/// A home that reads from the gate, resumes there, and tells Slack.
pub(crate) fn home(gate: &Gate, slack: &HttpPeer) -> Home {
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T0/B0/s3cr3t"));
    home.configure(&format!(
        "{}\n[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n",
        source(gate)
    ));
    home
}

/// The gate as a source.
pub(crate) fn source(gate: &Gate) -> String {
    format!(
        "[sources.gate]\nplugin = \"websocket\"\nurl = \"{}\"\nbackoff_max = \"500ms\"\n\
         resume = {{ pointer = \"/seq\", query = \"since\" }}\n",
        gate.url()
    )
}

/// Which part of the incident it belongs to.
fn slice(payment: &Payment) -> i64 {
    payment.at.secs() / 120
}

fn lines(payments: &[Payment]) -> Vec<String> {
    payments.iter().map(Payment::line).collect()
}

#[test]
fn runaways_reach_slack_once_and_every_cent_counts_across_power_cuts() {
    let gate = Gate::start(GateOptions { per_frame: 20, drop_after: 0 });
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = home(&gate, &slack);
    let mut fleet = Fleet::new(12, 0x5eed_0001);
    // The slower runaway pays often enough for twenty minutes to be plain evidence at any time of the day.
    fleet.set_pace(RUNAWAYS[0].0, 36.0);
    let end = now();
    let calm = fleet.pay(end.before(HISTORY), end.before(INCIDENT), &[]);
    let wild = fleet.pay(end.before(INCIDENT), end, &RUNAWAYS);

    let daemon = home.start();
    let (early, late) = calm.split_at(calm.len() / 2);
    gate.send(lines(early));
    daemon.wait_applied(1000);
    daemon.kill();
    let daemon = home.start();
    gate.send(lines(late));
    wait_counted(&daemon, calm.len() as u64);
    // The incident passes as it would: a few minutes are judged before the next ones are paid.
    for minutes in wild.chunk_by(|earlier, later| slice(earlier) == slice(later)) {
        gate.send(lines(minutes));
        wait_counted(&daemon, minutes.last().unwrap().seq);
    }
    for (agent, _) in RUNAWAYS {
        until(&format!("slack hears of {agent}"), 60, || (openings(&slack, agent) > 0).then_some(()));
    }
    check_totals(&home, &daemon, &fleet.sums);
    daemon.kill();

    let daemon = home.start();
    daemon.wait_source("gate", "live");
    check_totals(&home, &daemon, &fleet.sums);
    assert_eq!(daemon.stop(), 0);
    for habit in fleet.habits() {
        let runs_away = RUNAWAYS.iter().any(|(agent, _)| *agent == habit.agent);
        assert_eq!(
            openings(&slack, &habit.agent),
            usize::from(runs_away),
            "{}: {:#?}",
            habit.agent,
            texts(&slack)
        );
        let is_mentioned = texts(&slack).iter().any(|text| text.contains(&format!(" {} ", habit.agent)));
        assert_eq!(is_mentioned, runs_away, "{}: {:#?}", habit.agent, texts(&slack));
    }
    let alerts = home.run(&["alerts", "list", "--all", "--json", "--limit", "100"]).documents();
    for (agent, _) in RUNAWAYS {
        let of_agent = |alert: &&Value| alert["subject"].to_string().contains(agent);
        assert!(alerts.iter().any(|alert| of_agent(&alert)), "{agent}: {alerts:#?}");
    }
    assert_eq!(home.run(&["doctor"]).code, 0);
}

/// What Slack shows as notifications.
fn texts(slack: &HttpPeer) -> Vec<String> {
    let text = |request: &Request| request.json()["text"].as_str().unwrap().to_owned();
    slack.requests().iter().map(text).collect()
}

/// How many messages say that an incident of this agent began: those that only name a severity.
fn openings(slack: &HttpPeer, agent: &str) -> usize {
    let begins = |text: &&String| {
        let mut words = text.split(" · ");
        let head = words.next().unwrap_or_default();
        let severity = head.split(' ').nth(1).unwrap_or_default();
        words.next() == Some(agent) && ["INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"].contains(&severity)
    };
    texts(slack).iter().filter(begins).count()
}
