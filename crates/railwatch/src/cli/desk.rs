//! Verbs for people who look after alerts: `silence`, `review`, `tune`, `notify` and `route`.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use railwatch_model::{AgentId, Alert, Facts, Matcher, Occasion, Severity, SmolStr, Subject, Timestamp};
use railwatch_plugin::config::Span;
use railwatch_store::OutboxState;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::query::{ALERT_COLUMNS, alert_row, encode, reader, time};
use crate::cli::{EXIT_FAILURE, Failure, Out, tune};
use crate::config::Loaded;
use crate::documents::PrecisionRow;
use crate::host::{mutes_now, send_test};

/// How often the outcome of a test message is asked for, and how many times.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASKED_MAX: u32 = 400;
/// Labels that a suggestion is made from: the latest ones.
const LABELS_MAX: u32 = 5_000;

/// What `silence` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum SilenceVerb {
    /// Keep matching alerts from people for a while. What is still open at the end is told then.
    Add {
        /// What it hides: `agent=research-*`, `team=growth`, `rail=x402`, `kind=velocity`, `source=gate`,
        /// `severity=<high`, `label.env=test`. All must hold; `*` stands for anything.
        #[arg(value_name = "KEY=VALUE")]
        matchers: Vec<String>,
        /// Instead of matchers: alerts like this one.
        #[arg(long, conflicts_with = "matchers")]
        alert: Option<String>,
        /// How long, such as 2h.
        #[arg(long = "for", value_name = "DURATION", default_value = "2h")]
        lasts: String,
        /// From when (RFC 3339); now by default.
        #[arg(long)]
        from: Option<String>,
        /// End it as soon as what it hides is over.
        #[arg(long)]
        until_resolved: bool,
        /// Why.
        #[arg(long, short)]
        reason: String,
        /// Only say what it would hide.
        #[arg(long)]
        preview: bool,
    },
    /// List silences that are in force or to come.
    List,
    /// End a silence before its time.
    Expire {
        /// The silence.
        silence: String,
    },
}

/// `silence`.
pub(crate) fn silence(config: &Path, verb: SilenceVerb, out: &mut Out) -> Result<(), Failure> {
    let client = Client::open(config)?;
    match verb {
        SilenceVerb::Add { matchers, alert, lasts, from, until_resolved, reason, preview } => {
            let lasts: Span = lasts.parse().map_err(wrong)?;
            let from = from.map(|from| Timestamp::parse(&from)).transpose();
            let from = from.map_err(|error| wrong(error.to_string()))?;
            let wish = json!({
                "match": matcher(&matchers)?, "alert": alert, "for": lasts.to_string(), "from": from,
                "until_resolved": until_resolved, "reason": reason,
            });
            if preview {
                let preview = client.post("/v1/silences/preview", &wish)?;
                return show_preview(&preview, out);
            }
            let made = client.post("/v1/silences", &wish)?;
            out.document(&made)?;
            out.line(format!("{} until {}", text(&made, "id"), text(&made, "until")))
        }
        SilenceVerb::List => {
            let silences = client.get("/v1/silences")?;
            let silences = silences.as_array().cloned().unwrap_or_default();
            let row = |silence: &Value| {
                let matcher: Matcher = serde_json::from_value(silence["match"].clone()).unwrap_or_default();
                let until = text(silence, "until").chars().take(19).collect();
                let until_resolved = silence["until_resolved"] == true;
                let until = if until_resolved { format!("{until} or resolved") } else { until };
                vec![
                    text(silence, "id"),
                    matcher.to_string(),
                    until,
                    text(silence, "by"),
                    text(silence, "reason"),
                ]
            };
            for silence in &silences {
                out.document(silence)?;
            }
            out.table(
                &["silence", "hides", "until", "by", "reason"],
                &silences.iter().map(row).collect::<Vec<_>>(),
            )
        }
        SilenceVerb::Expire { silence } => {
            let ended = client.post(&format!("/v1/silences/{}/expire", encode(&silence)), &json!({}))?;
            out.document(&ended)?;
            out.line(format!("{silence}: expired"))
        }
    }
}

fn show_preview(preview: &Value, out: &mut Out) -> Result<(), Failure> {
    out.document(preview)?;
    let open: Vec<Alert> = serde_json::from_value(preview["open"].clone()).map_err(anyhow::Error::from)?;
    out.line(format!("would hide {} open alerts", open.len()))?;
    if !open.is_empty() {
        out.table(ALERT_COLUMNS, &open.iter().map(alert_row).collect::<Vec<_>>())?;
    }
    out.line(format!(
        "would have hidden {} alerts of the last 7 days, {} of them high or critical",
        preview["last_week"], preview["last_week_severe"]
    ))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("-").to_owned()
}

fn wrong(message: String) -> Failure {
    Failure { code: EXIT_FAILURE, message }
}

/// Reads `key=value` conditions.
fn matcher(conditions: &[String]) -> Result<Matcher, Failure> {
    let mut matcher = Matcher::default();
    for condition in conditions {
        let (key, value) = condition.split_once('=').ok_or_else(|| {
            wrong(format!(
                "{condition:?} is not a condition; write it like agent=research-* or severity=<high"
            ))
        })?;
        let own = Some(value.to_owned());
        match key {
            "agent" => matcher.agent = own,
            "team" => matcher.team = own,
            "source" => matcher.source = own,
            "rail" => matcher.rail = own,
            "kind" => matcher.kind = own,
            "severity" => matcher.severity = Some(value.parse().map_err(wrong)?),
            other => match other.strip_prefix("label.") {
                Some(label) => drop(matcher.labels.insert(label.to_owned(), value.to_owned())),
                None => {
                    return Err(wrong(format!(
                        "{other:?} cannot be matched; use agent, team, source, rail, kind, severity or label.KEY"
                    )));
                }
            },
        }
    }
    Ok(matcher)
}

/// What `review` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum ReviewVerb {
    /// List alerts that nobody has labelled yet: reviews first, then the most severe.
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Say what an alert was.
    Label {
        /// The alert.
        alert: String,
        /// What it was.
        #[arg(value_parser = ["true-positive", "false-positive", "expected"])]
        verdict: String,
        /// What to remember.
        #[arg(long)]
        note: Option<String>,
    },
    /// Show how often each rule and detector was right.
    Precision {
        /// Labels of this long at most, such as 30d.
        #[arg(long, value_name = "DURATION", default_value = "90d")]
        last: String,
    },
}

/// `review`.
pub(crate) fn review(config: &Path, verb: ReviewVerb, out: &mut Out) -> Result<(), Failure> {
    match verb {
        ReviewVerb::List { limit } => {
            let queue = reader(config)?.review_queue(limit)?.items;
            for alert in &queue {
                out.document(alert)?;
            }
            out.table(ALERT_COLUMNS, &queue.iter().map(alert_row).collect::<Vec<_>>())
        }
        ReviewVerb::Label { alert, verdict, note } => {
            let body = json!({ "verdict": verdict.replace('-', "_"), "note": note });
            let done = Client::open(config)?.post(&format!("/v1/alerts/{}/label", encode(&alert)), &body)?;
            out.document(&done)?;
            out.line(format!("{alert}: {verdict}"))
        }
        ReviewVerb::Precision { last } => {
            let last: Span = last.parse().map_err(wrong)?;
            let now = railwatch_plugin::clock::Clock::now(&railwatch_plugin::clock::SystemClock);
            let counts = reader(config)?.label_counts(now.before(last.0))?;
            for counts in &counts {
                out.document(&PrecisionRow::new(counts))?;
            }
            let rows: Vec<Vec<String>> = counts
                .iter()
                .map(|counts| {
                    let precision = counts.precision().unwrap_or(0.0);
                    vec![
                        counts.trigger.to_string(),
                        format!("{:.0}%", precision * 100.0),
                        counts.true_positives.to_string(),
                        counts.false_positives.to_string(),
                        counts.expected.to_string(),
                    ]
                })
                .collect();
            out.table(&["trigger", "precision", "real", "false", "expected"], &rows)
        }
    }
}

/// `tune`.
pub(crate) fn tune(config: &Path, trigger: &str, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    let mut labelled = reader.labelled(Some(trigger), Timestamp::EPOCH, LABELS_MAX)?.items;
    labelled.extend(reader.labelled(Some(&format!("rule:{trigger}")), Timestamp::EPOCH, LABELS_MAX)?.items);
    let tuning = tune::suggest(trigger, &labelled).map_err(wrong)?;
    out.document(&tuning)?;
    let measure = tuning.measure;
    out.line(format!("{trigger}: {} real alerts and {} that were noise", tuning.real, tuning.noise))?;
    let rows: Vec<Vec<String>> = tuning
        .steps
        .iter()
        .map(|step| {
            let mark = if Some(step.threshold) == tuning.suggested { "suggested" } else { "" };
            let share = |kept: usize, all: usize| format!("{kept} of {all}");
            vec![
                format!("{:.2}", step.threshold),
                share(step.real, tuning.real),
                share(step.noise, tuning.noise),
                mark.to_owned(),
            ]
        })
        .collect();
    out.table(&[&format!("{measure}, from"), "real kept", "noise kept", ""], &rows)?;
    match (&tuning.suggested, &tuning.key) {
        (Some(threshold), Some(key)) => out.line(format!("set {key} = {threshold:.2}")),
        (Some(threshold), None) => out.line(format!("ask for {threshold:.2} {measure} before it fires")),
        (None, _) => out.line("no threshold keeps noise away without losing something real"),
    }
}

/// What `notify` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyVerb {
    /// Send a test message and wait for the receipt.
    Test {
        /// The sink.
        sink: String,
    },
}

/// `notify`.
pub(crate) fn notify(config: &Path, verb: NotifyVerb, out: &mut Out) -> Result<(), Failure> {
    let NotifyVerb::Test { sink } = verb;
    let loaded = super::run::load(config, true)?;
    let known = loaded.config.sinks.get(sink.as_str());
    let Some(known) = known else {
        let names = loaded.config.sinks.keys().map(SmolStr::as_str).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!("there is no sink {sink:?}; known sinks: {names}")));
    };
    let is_running = !known.is_heartbeat() && Client::new(&loaded)?.get("/healthz").is_ok();
    if !is_running {
        // Nobody runs, or nothing is queued for this sink: it is built here and asked once.
        let loaded = super::run::load(config, false)?;
        let receipt = send_test(&loaded, &sink)?;
        out.document(&json!({ "sink": sink, "state": "sent", "receipt": receipt }))?;
        return out.line(format!("{sink}: sent"));
    }
    let asked = Client::new(&loaded)?.post(&format!("/v1/sinks/{}/test", encode(&sink)), &json!({}))?;
    let notice = asked["notice"].as_str().unwrap_or_default().to_owned();
    for asked in 0.. {
        let entries = reader(config)?.outbox(None, 1_000)?;
        let entry = entries.into_iter().find(|entry| entry.notice.0 == notice);
        let waits = entry.as_ref().is_none_or(|entry| {
            matches!(entry.state, OutboxState::Queued | OutboxState::Sending) && entry.last_error.is_none()
        });
        if let Some(entry) = entry.filter(|_| !waits || asked > ASKED_MAX) {
            let state = entry.state.as_str();
            out.document(&json!({
                "sink": sink, "state": state, "receipt": entry.receipt, "error": entry.last_error,
            }))?;
            return match entry.state {
                OutboxState::Sent => out.line(format!("{sink}: sent")),
                _ => Err(wrong(format!("{sink}: {state}: {}", entry.last_error.unwrap_or_default()))),
            };
        }
        if asked > ASKED_MAX {
            break;
        }
        std::thread::sleep(ASK_EVERY);
    }
    Err(wrong(format!("{sink}: the test message is not in the outbox")))
}

/// What `route` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteVerb {
    /// Say who would be told of an alert, and why. Nothing is sent.
    Test(RouteArgs),
}

/// The alert that `route test` imagines.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    /// Instead of the options below: an alert that there was.
    #[arg(long)]
    alert: Option<String>,
    /// The agent.
    #[arg(long)]
    agent: Option<String>,
    /// The team; that of the agent by default.
    #[arg(long)]
    team: Option<String>,
    /// The source, for alerts about sources.
    #[arg(long)]
    source: Option<String>,
    /// How severe it is.
    #[arg(long, default_value = "high", value_parser = ["info", "low", "medium", "high", "critical"])]
    severity: String,
    /// The rail; may be given more than once.
    #[arg(long)]
    rail: Vec<String>,
    /// The kind of signal, or the rule; may be given more than once.
    #[arg(long)]
    kind: Vec<String>,
    /// When (RFC 3339), for mute windows; now by default.
    #[arg(long)]
    at: Option<String>,
}

/// `route`.
pub(crate) fn route(config: &Path, verb: RouteVerb, out: &mut Out) -> Result<(), Failure> {
    let RouteVerb::Test(args) = verb;
    let loaded = super::run::load(config, true)?;
    let facts = match &args.alert {
        Some(alert) => Facts::of_alert(&super::query::find_alert(&reader(config)?, alert)?),
        None => imagined(&loaded, &args)?,
    };
    let at = match &args.at {
        Some(at) => Timestamp::parse(at).map_err(|error| wrong(error.to_string()))?,
        None => railwatch_plugin::clock::Clock::now(&railwatch_plugin::clock::SystemClock),
    };
    let told = loaded.config.route(&facts, Occasion::Opened, &[]);
    let later: Vec<_> =
        loaded.config.escalations.iter().filter(|escalation| escalation.matches.accepts(&facts)).collect();
    let mutes = mutes_now(&loaded.config, &facts, at);
    out.document(&json!({
        "told": told.iter().map(|told| json!({
            "sink": told.sink, "via": told.via, "refused": told.refused,
        })).collect::<Vec<_>>(),
        "escalations": later.iter().map(|one| json!({
            "name": one.name, "after": one.after.to_string(), "sinks": one.sinks,
        })).collect::<Vec<_>>(),
        "muted": mutes.iter().map(|(name, until)| json!({ "name": name, "until": until })).collect::<Vec<_>>(),
    }))?;
    let rows: Vec<Vec<String>> = told
        .iter()
        .map(|told| {
            let how = told.refused.map_or_else(|| "told".to_owned(), |why| format!("not told: {why}"));
            vec![told.sink.to_string(), told.via.clone(), how]
        })
        .collect();
    if rows.is_empty() {
        out.line("nobody is told: no route matches")?;
    } else {
        out.table(&["sink", "via", ""], &rows)?;
    }
    for (name, until) in mutes {
        out.line(format!("held back by mute window {name} until {}", time(until)))?;
    }
    for one in later {
        out.line(format!("after {} without anybody: {} ({})", one.after, one.sinks.join(", "), one.name))?;
    }
    Ok(())
}

fn imagined(loaded: &Loaded, args: &RouteArgs) -> Result<Facts, Failure> {
    let subject = match (&args.agent, &args.source, &args.team) {
        (Some(agent), _, _) => {
            let agent = AgentId::new(agent.as_str());
            Subject::Agent(agent.ok_or_else(|| wrong("that is not an agent's name".to_owned()))?)
        }
        (None, Some(source), _) => Subject::Source(source.into()),
        (None, None, Some(team)) => Subject::Team(team.into()),
        (None, None, None) => Subject::Fleet,
    };
    let known = loaded.config.agents().into_iter().find(|known| Some(&known.id) == subject.agent());
    let profile = known.map(|known| known.profile).unwrap_or_default();
    let team = args.team.as_deref().map(SmolStr::new).or(profile.team);
    let mut facts = Facts::new(&subject, team.as_ref(), &profile.labels);
    let severity = Severity::ALL.into_iter().find(|severity| severity.as_str() == args.severity);
    facts.severity = severity.unwrap_or(Severity::High);
    facts.rails = args.rail.iter().map(SmolStr::new).collect();
    facts.kinds = args.kind.iter().map(SmolStr::new).collect();
    Ok(facts)
}

/// Who was or is told of a notice, for people.
pub(crate) fn delivered(entry: &railwatch_store::OutboxEntry) -> String {
    let state = match (entry.state, entry.n_doubts) {
        (OutboxState::Unknown, _) => "sent?",
        (OutboxState::Sent, 1..) => "sent (maybe twice)",
        (OutboxState::Retry, 1..) => "retry (sent?)",
        (state, _) => state.as_str(),
    };
    state.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_shown() {
        let read = |words: &[&str]| matcher(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let matcher = read(&["agent=a*", "severity=>=high", "label.env=prod", "kind=velocity"]).unwrap();
        assert_eq!(matcher.to_string(), "agent=a* kind=velocity severity=>=high label.env=prod");
        for (word, says) in [
            ("agent", "is not a condition"),
            ("colour=red", "cannot be matched"),
            ("severity=urgent", "is not a severity"),
        ] {
            assert!(read(&[word]).unwrap_err().message.contains(says), "{word}");
        }
    }
}
