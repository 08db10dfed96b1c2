//! Verbs that ask a running railwatch, or read its store when it is not running.

use std::path::Path;

use clap::{Args, Subcommand};
use railwatch_model::{Alert, AlertId, Timestamp};
use railwatch_store::{AlertFilter, OutboxEntry, OutboxState, Reader, Store};
use serde_json::{Value, json};

use crate::cli::adopt::{AdoptArgs, adopt};
use crate::cli::client::{Client, Place};
use crate::cli::desk::delivered;
use crate::cli::{EXIT_FAILURE, Failure, Out};
use crate::documents::{OutboxRow, RejectRow};

/// Options of `agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    verb: Option<AgentsVerb>,
    /// Show this agent only, with everything that is known about it.
    agent: Option<String>,
    /// The order.
    #[arg(long, default_value = "attention", value_parser =
        ["attention", "score", "velocity", "ratio", "burn", "spend", "recent", "name"])]
    sort: String,
    /// How many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// What else `agents` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsVerb {
    /// Make an unmapped spender an agent's own: its identity is written into the configuration.
    Adopt(AdoptArgs),
}

/// What `alerts` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsVerb {
    /// List open alerts, newest first.
    List {
        /// Resolved ones too.
        #[arg(long)]
        all: bool,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one alert with its evidence.
    Show {
        /// The alert.
        alert: String,
    },
    /// Take the incident of an alert, so that nobody is reminded of it.
    Ack {
        /// The alert.
        alert: String,
        /// What others should know.
        #[arg(long)]
        note: Option<String>,
    },
    /// Close the incident of an alert by hand.
    Resolve {
        /// The alert.
        alert: String,
        /// What others should know.
        #[arg(long)]
        note: Option<String>,
    },
}

/// What `outbox` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum OutboxVerb {
    /// List notices, newest first.
    List {
        /// Only those in this state.
        #[arg(long, value_parser = ["queued", "sending", "retry", "sent", "dead", "unknown", "dropped"])]
        state: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Try a notice again that was given up.
    Retry {
        /// The number in the list.
        id: i64,
    },
    /// Give a notice up for good.
    Drop {
        /// The number in the list.
        id: i64,
    },
}

/// Opens the store of a configuration for reading.
pub(crate) fn reader(config: &Path) -> Result<Reader, Failure> {
    Ok(Store::open_read_only(Place::of(config)?.store)?)
}

/// `agents`.
pub(crate) fn agents(config: &Path, args: &AgentsArgs, out: &mut Out) -> Result<(), Failure> {
    if let Some(AgentsVerb::Adopt(args)) = &args.verb {
        return adopt(config, args, out);
    }
    let client = Client::open(config)?;
    if let Some(agent) = &args.agent {
        let view = client.get(&format!("/v1/agents/{}", encode(agent)))?;
        out.document(&view)?;
        return out.line(serde_json::to_string_pretty(&view).map_err(anyhow::Error::from)?);
    }
    let views = client.get(&format!("/v1/agents?sort={}&limit={}", args.sort, args.limit))?;
    let views = views["items"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = views.iter().map(agent_row).collect();
    for view in &views {
        out.document(view)?;
    }
    out.table(AGENT_COLUMNS, &rows)
}

/// The columns of [`agent_row`].
pub(crate) const AGENT_COLUMNS: &[&str] =
    &["agent", "score", "$/h", "usual", "spent", "payments", "last", "alerts"];

/// An agent of the API's list as a row.
fn agent_row(agent: &Value) -> Vec<String> {
    let text = |pointer: &str| agent.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let number = |pointer: &str| {
        agent.pointer(pointer).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"))
    };
    let learning = text("/velocity/state") == "learning";
    vec![
        text("/agent"),
        number("/score"),
        number("/velocity/value"),
        if learning { "learning".to_owned() } else { number("/velocity/usual") },
        format!("${}", text("/spent_usd")),
        agent.get("purchases").map_or_else(|| "-".to_owned(), ToString::to_string),
        text("/last_at").chars().take(19).collect(),
        agent.get("alerts").map_or_else(|| "-".to_owned(), ToString::to_string),
    ]
}

/// `alerts`.
pub(crate) fn alerts(config: &Path, verb: AlertsVerb, out: &mut Out) -> Result<(), Failure> {
    match verb {
        AlertsVerb::List { all, limit } => {
            let filter = AlertFilter { open_only: !all, ..AlertFilter::default() };
            let alerts = reader(config)?.alerts(&filter, limit)?.items;
            for alert in &alerts {
                out.document(alert)?;
            }
            out.table(ALERT_COLUMNS, &alerts.iter().map(alert_row).collect::<Vec<_>>())
        }
        AlertsVerb::Show { alert } => {
            let found = find_alert(&reader(config)?, &alert)?;
            out.document(&found)?;
            show_alert(&found, out)
        }
        AlertsVerb::Ack { alert, note } => act(config, &alert, "acknowledge", note.as_deref(), out),
        AlertsVerb::Resolve { alert, note } => act(config, &alert, "resolve", note.as_deref(), out),
    }
}

/// One alert, or a failure that says where to look for others.
pub(crate) fn find_alert(reader: &Reader, alert: &str) -> Result<Alert, Failure> {
    let message = || format!("there is no alert {alert}; see `railwatch alerts list --all`");
    reader.alert(&AlertId(alert.into()))?.ok_or_else(|| Failure { code: EXIT_FAILURE, message: message() })
}

/// The columns of [`alert_row`].
pub(crate) const ALERT_COLUMNS: &[&str] = &["alert", "state", "severity", "opened", "what"];

/// An alert as a row.
pub(crate) fn alert_row(alert: &Alert) -> Vec<String> {
    let state = serde_json::to_value(alert.state).unwrap_or_default();
    let hidden = if alert.silenced_by.is_some() { " (silenced)" } else { "" };
    vec![
        alert.id.to_string(),
        format!("{}{hidden}", state.as_str().unwrap_or_default()),
        alert.severity.as_str().to_owned(),
        time(alert.opened_at),
        alert.summary.clone(),
    ]
}

fn act(config: &Path, alert: &str, verb: &str, note: Option<&str>, out: &mut Out) -> Result<(), Failure> {
    let done = Client::open(config)?
        .post(&format!("/v1/alerts/{}/{verb}", encode(alert)), &json!({ "note": note }))?;
    out.document(&done)?;
    out.line(format!("{alert}: {}", done["state"].as_str().unwrap_or("done")))
}

/// Prints an alert with its evidence.
pub(crate) fn show_alert(alert: &Alert, out: &mut Out) -> Result<(), Failure> {
    out.line(out.bold(&format!("{} {} ({})", alert.severity.as_str(), alert.subject, alert.trigger)))?;
    out.line(format!("  {}", alert.summary))?;
    out.line(format!("  {} spent since {}", alert.spent_since_onset, alert.onset_at))?;
    if !alert.contributions.is_empty() {
        let parts = alert.contributions.iter().map(|part| format!("{} {:.2}", part.name, part.points));
        out.line(format!("  score {:.2} = {}", alert.score, parts.collect::<Vec<_>>().join(" + ")))?;
    }
    if let Some(signal) = &alert.signal {
        for (name, value) in &signal.facts {
            out.line(format!("  {name}: {value:.4}"))?;
        }
    }
    for payment in &alert.payments {
        out.line(format!("  payment {payment}"))?;
    }
    if let Some(by) = &alert.acknowledged_by {
        out.line(format!(
            "  taken by {by}{}",
            alert.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default()
        ))?;
    }
    out.line(format!("  {}, opened {}, generation {}", alert.id, alert.opened_at, alert.generation))
}

/// `sources`.
pub(crate) fn sources(config: &Path, out: &mut Out) -> Result<(), Failure> {
    let status = Client::open(config)?.get("/v1/status")?;
    out.document(&status)?;
    let sources = status["sources"].as_object().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = sources
        .iter()
        .map(|(name, source)| {
            let text = |key: &str| source[key].as_str().unwrap_or("-").to_owned();
            let short = |key: &str| text(key).chars().take(19).collect::<String>();
            vec![
                name.clone(),
                text("phase"),
                short("last_event_at"),
                source["lag_secs"].as_u64().map_or_else(|| "-".to_owned(), |secs| format!("{secs} s")),
                short("seen_to"),
                source["failures"].to_string(),
                text("detail"),
            ]
        })
        .collect();
    out.table(&["source", "phase", "last event", "lag", "seen to", "failures", "detail"], &rows)
}

/// `rejects`.
pub(crate) fn rejects(config: &Path, limit: u32, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    for reject in reader.rejects(limit)? {
        out.document(&RejectRow::new(&reject))?;
        let raw = String::from_utf8_lossy(&reject.raw).chars().take(200).collect::<String>();
        out.line(format!(
            "{} {} {}: {}\n  {}",
            reject.at,
            reject.source,
            reject.code,
            reject.detail,
            raw.escape_debug()
        ))?;
    }
    for (source, code, n) in reader.reject_totals()? {
        out.line(format!("{source}: {n} x {code} in all"))?;
    }
    Ok(())
}

/// `outbox`.
pub(crate) fn outbox(config: &Path, verb: OutboxVerb, out: &mut Out) -> Result<(), Failure> {
    let (id, verb) = match verb {
        OutboxVerb::List { state, limit } => {
            let state = state.and_then(|state| OutboxState::from_name(&state));
            let entries = reader(config)?.outbox(state, limit)?;
            for entry in &entries {
                out.document(&OutboxRow::new(entry))?;
            }
            let rows: Vec<Vec<String>> = entries.iter().map(outbox_row).collect();
            return out
                .table(&["id", "state", "sink", "occasion", "attempts", "queued", "last error"], &rows);
        }
        OutboxVerb::Retry { id } => (id, "retry"),
        OutboxVerb::Drop { id } => (id, "drop"),
    };
    let done = Client::open(config)?.post(&format!("/v1/outbox/{id}/{verb}"), &json!({}))?;
    out.document(&done)?;
    out.line(format!("{id}: {verb}"))
}

fn outbox_row(entry: &OutboxEntry) -> Vec<String> {
    vec![
        entry.id.to_string(),
        delivered(entry),
        entry.sink.to_string(),
        entry.occasion.to_string(),
        entry.n_attempts.to_string(),
        time(entry.queued_at),
        entry.last_error.clone().unwrap_or_default(),
    ]
}

/// A time to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_string().chars().take(19).collect()
}

/// A path segment: everything but unreserved characters is percent-encoded.
pub(crate) fn encode(segment: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    segment.bytes().map(byte).collect()
}
