//! The whole path: labelled traffic through a third-party WebSocket server, railwatch, a Slack channel; across power cuts.

use railwatch_tests::{
    Answer, Arrival, Gate, GateOptions, Home, HttpPeer, Recording, Request, answers, now, until,
};
use serde_json::Value;

use crate::totals::{check_totals, wait_counted};

/// The labels of those who must be found.
const RUNAWAYS: [&str; 2] = ["runaway_10x", "runaway_40x"];

/// A home that reads from the gate, resumes there, and tells Slack.
pub(crate) fn home(gate: &Gate, slack: &HttpPeer) -> Home {
    let home = Home::new("");
    home.write("slack.url", slack.url("/services/T0/B0/s3cr3t"));
    home.configure(&format!(
        "{}\n[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = \"slack.url\" }}\n",
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

/// Which part of the incident it belongs to: two minutes.
fn slice(arrival: &Arrival) -> i64 {
    arrival.at.secs() / 120
}

fn lines(arrivals: &[Arrival]) -> Vec<String> {
    arrivals.iter().map(|arrival| arrival.line.clone()).collect()
}

/// How many payments these deliveries hold; some are delivered twice.
fn n_payments(arrivals: &[Arrival]) -> u64 {
    Recording::sums(arrivals).values().map(|(payments, _)| payments).sum()
}

#[test]
fn runaways_reach_slack_once_and_every_cent_counts_across_power_cuts() {
    let gate = Gate::start(GateOptions { per_frame: 20, drop_after: 0 });
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = home(&gate, &slack);
    let recording = Recording::ending_at(now());
    let arrivals = &recording.arrivals;
    let runaways = recording.incidents(&RUNAWAYS);
    assert_eq!(runaways.len(), RUNAWAYS.len());
    let begin = runaways.iter().map(|runaway| runaway.start).min().unwrap();
    let n_calm = arrivals.partition_point(|arrival| arrival.at < begin);

    let daemon = home.start();
    gate.send(lines(&arrivals[..n_calm / 2]));
    daemon.wait_applied(1000);
    daemon.kill();
    let mut daemon = home.start();
    gate.send(lines(&arrivals[n_calm / 2..n_calm]));
    wait_counted(&daemon, n_payments(&arrivals[..n_calm]));
    // The incident passes as it would: a few minutes are judged before the next ones are paid. In its middle, the power
    // fails while what was just paid is being written.
    let slices: Vec<&[Arrival]> = arrivals[n_calm..].chunk_by(|a, b| slice(a) == slice(b)).collect();
    for (nth, minutes) in slices.iter().enumerate() {
        gate.send(lines(minutes));
        if nth == slices.len() / 2 {
            daemon.kill();
            daemon = home.start();
        }
        let so_far = minutes.last().unwrap().seq;
        wait_counted(&daemon, n_payments(&arrivals[..usize::try_from(so_far).unwrap()]));
    }
    for runaway in &runaways {
        let agent = &runaway.agent;
        until(&format!("slack hears of {agent}"), 60, || (openings(&slack, agent) > 0).then_some(()));
    }
    let sums = Recording::sums(arrivals);
    check_totals(&home, &daemon, &sums);
    daemon.kill();

    let daemon = home.start();
    daemon.wait_source("gate", "live");
    check_totals(&home, &daemon, &sums);
    assert_eq!(daemon.stop(), 0);
    let alerts = home.run(&["alerts", "list", "--all", "--json", "--limit", "100"]).documents();
    for runaway in &runaways {
        assert_eq!(openings(&slack, &runaway.agent), 1, "{runaway:?}: {:#?}", texts(&slack));
        let is_named = |alert: &Value| alert["subject"].to_string().contains(&runaway.agent);
        assert!(alerts.iter().any(is_named), "{runaway:?}: {alerts:#?}");
    }
    for agent in sums.keys().filter(|agent| recording.incidents.iter().all(|label| label.agent != **agent)) {
        let mentions: Vec<String> =
            texts(&slack).into_iter().filter(|text| text.contains(&format!(" {agent} "))).collect();
        assert_eq!(mentions, Vec::<String>::new(), "nothing was injected into {agent}");
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
