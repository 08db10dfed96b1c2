//! Recorded traffic of a labelled fleet (`fixtures/fleet`), moved in time so that its end is now.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use flate2::read::GzDecoder;
use railwatch_model::{Timestamp, Usd};
use serde_json::Value;

use crate::daemon::repo_root;
use crate::fleet::Sums;

/// One delivery, as the gate sends it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When it arrived.
    pub at: Timestamp,
    /// Its place in the gate's sequence, from 1.
    pub seq: u64,
    /// The payment's id; a redelivery has the same.
    pub id: String,
    /// Who pays.
    pub agent: String,
    /// How much.
    pub usd: Usd,
    /// The payment, on one line.
    pub line: String,
}

/// What was injected into an agent's traffic.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Whose.
    pub agent: String,
    /// What, such as `runaway_40x`.
    pub kind: String,
    /// Since when.
    pub start: Timestamp,
}

/// Traffic and the truth about it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Everything in the order of arrival.
    pub arrivals: Vec<Arrival>,
    /// What was injected.
    pub incidents: Vec<Incident>,
}

impl Recording {
    /// The recording, moved so that it ends at `end`.
    pub fn ending_at(end: Timestamp) -> Self {
        let folder = repo_root().join("tests/fixtures/fleet");
        let labels: Value = serde_json::from_slice(&fs::read(folder.join("labels.json")).unwrap()).unwrap();
        let moved = |secs: &Value| {
            let before_end = labels["end"].as_f64().unwrap() - secs.as_f64().unwrap();
            end.before(Duration::from_secs_f64(before_end.max(0.0)))
                .after(Duration::from_secs_f64((-before_end).max(0.0)))
        };
        let events = BufReader::new(GzDecoder::new(File::open(folder.join("events.jsonl.gz")).unwrap()));
        let arrival = |(seq, line): (u64, std::io::Result<String>)| {
            let mut event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let at = moved(&event["ingest_ts"]);
            event["ts"] = serde_json::to_value(moved(&event["ts"])).unwrap();
            event["seq"] = seq.into();
            Arrival {
                at,
                seq,
                id: event["id"].as_str().unwrap().to_owned(),
                agent: event["agent_id"].as_str().unwrap().to_owned(),
                usd: Usd::parse(&event["amount_usd"].to_string()).unwrap(),
                line: event.to_string(),
            }
        };
        let incident = |label: &Value| Incident {
            agent: label["agent_id"].as_str().unwrap().to_owned(),
            kind: label["kind"].as_str().unwrap().to_owned(),
            start: moved(&label["start"]),
        };
        Self {
            arrivals: (1..).zip(events.lines()).map(arrival).collect(),
            incidents: labels["incidents"].as_array().unwrap().iter().map(incident).collect(),
        }
    }

    /// The injected incidents of these kinds.
    pub fn incidents(&self, kinds: &[&str]) -> Vec<&Incident> {
        self.incidents.iter().filter(|incident| kinds.contains(&&*incident.kind)).collect()
    }

    /// What every agent has paid; a payment that was delivered twice was paid once.
    pub fn sums(arrivals: &[Arrival]) -> Sums {
        let (mut sums, mut known) = (Sums::new(), BTreeSet::new());
        for arrival in arrivals.iter().filter(|arrival| known.insert(&arrival.id)) {
            let (payments, usd) = sums.entry(arrival.agent.clone()).or_default();
            *payments += 1;
            *usd = usd.plus(arrival.usd);
        }
        sums
    }
}
