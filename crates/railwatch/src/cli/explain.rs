//! `explain`: everything that is known about one alert, from the store alone: why it fired, what it cost, who was told,
//! what people said. The dashboard shows the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use railwatch_model::{Alert, Record, Signal, SmolStr, Timestamp, Usd};
use railwatch_store::{AlertChange, Reader, StoreError};
use railwatch_web::PaymentBrief;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::desk::delivered;
use crate::cli::query::{find_alert, reader, time};
use crate::cli::{Failure, Out};
use crate::documents::{LabelRow, OutboxRow};

/// Batches of the journal that are searched for the payments of an alert.
const BATCHES_MAX: usize = 20_000;
/// Payments reach the journal this long after they happened at most, to be found.
const LATE_MAX: Duration = Duration::from_secs(3600);
/// Steps of an alert's life that are shown.
const CHANGES_MAX: u32 = 50;
/// Outbox entries that are searched for the alert's notices.
const ENTRIES_MAX: u32 = 5_000;

/// What was spent over one rail since the onset.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct RailSpend {
    /// The rail.
    rail: SmolStr,
    /// Payments.
    payments: u64,
    /// Dollars.
    usd: Usd,
}

/// A step of the alert's life.
#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    /// When.
    at: Timestamp,
    /// The state since then.
    state: SmolStr,
    /// The severity since then.
    severity: SmolStr,
    /// The anomaly score at that time.
    score: f64,
    /// What was said at that time.
    summary: String,
}

/// The configuration that was in force when it opened.
#[derive(Debug, Serialize, JsonSchema)]
struct InForce {
    /// Its generation.
    number: u64,
    /// The hash of its content.
    digest: SmolStr,
    /// Since when.
    at: Timestamp,
}

/// Everything that is known about one alert.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Explanation {
    /// The alert with its evidence.
    alert: Alert,
    /// What happened to it, oldest first.
    history: Vec<Step>,
    /// What a person said it was.
    label: Option<LabelRow>,
    /// The configuration that was in force.
    generation: Option<InForce>,
    /// Spent since the onset, by rail.
    rails: Vec<RailSpend>,
    /// The payments that the alert names.
    payments: Vec<PaymentBrief>,
    /// True if not all of the journal was searched.
    is_partial: bool,
    /// Who was told, oldest first.
    notices: Vec<OutboxRow>,
    /// How each of the notices is, in words.
    #[serde(skip)]
    delivered: Vec<String>,
}

/// The same, and as a page for people.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// The page that `railwatch explain` prints.
    text: String,
}

/// `explain`.
pub(crate) fn explain(config: &Path, alert: &str, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    let alert = find_alert(&reader, alert)?;
    let explanation = Explanation::read(&reader, alert)?;
    out.document(&explanation)?;
    let alert = &explanation.alert;
    let title = format!("{} {} ({})", alert.severity.as_str().to_uppercase(), alert.subject, alert.trigger);
    out.line(out.bold(&title))?;
    out.line(explanation.page().trim_end())
}

impl Explanation {
    /// Reads what the store knows about an alert.
    pub(crate) fn read(reader: &Reader, alert: Alert) -> Result<Self, StoreError> {
        let history = reader.alert_history(&alert.id, CHANGES_MAX)?;
        let step = |AlertChange { at, state, severity, score, summary, .. }| Step {
            at,
            state,
            severity,
            score,
            summary,
        };
        let generation = reader.generation(alert.generation)?;
        let mut entries = reader.outbox(None, ENTRIES_MAX)?;
        entries.retain(|entry| entry.incident == alert.incident);
        entries.reverse();
        let mut explanation = Self {
            history: history.into_iter().map(step).collect(),
            label: reader.label(&alert.id)?.as_ref().map(LabelRow::new),
            generation: generation.map(|made| InForce {
                number: made.number,
                digest: made.digest,
                at: made.at,
            }),
            rails: Vec::new(),
            payments: Vec::new(),
            is_partial: false,
            notices: entries.iter().map(OutboxRow::new).collect(),
            delivered: entries.iter().map(delivered).collect(),
            alert,
        };
        explanation.read_money(reader)?;
        Ok(explanation)
    }

    /// With its page.
    pub(crate) fn told(self) -> Explained {
        Explained { text: self.page(), explanation: self }
    }

    /// Reads the journal from the onset to the alert's last change.
    fn read_money(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let alert = &self.alert;
        let Some(agent) = alert.subject.agent() else { return Ok(()) };
        let mut rails: BTreeMap<SmolStr, (u64, Usd)> = BTreeMap::new();
        let until = alert.updated_at.after(LATE_MAX);
        for (n, batch) in reader.batches_between(alert.onset_at, until)?.enumerate() {
            if n >= BATCHES_MAX {
                self.is_partial = true;
                break;
            }
            for record in batch?.records {
                let Record::Payments { payments, .. } = record else { continue };
                for admitted in payments {
                    let payment = &admitted.payment;
                    let is_first = admitted.disposition == railwatch_model::Disposition::First;
                    if payment.agent.as_ref() != Some(agent) || !is_first {
                        continue;
                    }
                    if payment.occurred_at >= alert.onset_at && payment.occurred_at <= alert.updated_at {
                        let (payments, usd) = rails.entry(payment.rail.clone()).or_default();
                        *payments += 1;
                        *usd = usd.plus(payment.valuation.as_ref().map_or(Usd::ZERO, |value| value.usd));
                    }
                    if alert.payments.iter().any(|name| is_named(&payment.rail, &payment.id, name)) {
                        self.payments.push(PaymentBrief::new(&admitted));
                    }
                }
            }
        }
        let spend = |(rail, (payments, usd))| RailSpend { rail, payments, usd };
        self.rails = rails.into_iter().map(spend).collect();
        Ok(())
    }

    fn page(&self) -> String {
        let mut page = String::new();
        write_what(&mut page, &self.alert, self.generation.as_ref());
        self.write_money(&mut page);
        self.write_people(&mut page);
        row(&mut page, "history", "");
        for Step { at, state, severity, score, .. } in &self.history {
            row(&mut page, "", &format!("{}  {state}, {severity}, score {score:.2}", time(*at)));
        }
        page
    }

    fn write_money(&self, page: &mut String) {
        let alert = &self.alert;
        let excess = alert.signal.as_ref().map(|signal| signal.excess).filter(|excess| *excess > Usd::ZERO);
        let excess = excess.map_or_else(String::new, |excess| format!(", {excess} beyond the usual"));
        row(page, "at stake", &format!("{} spent since the onset{excess}", alert.spent_since_onset));
        for RailSpend { rail, payments, usd } in &self.rails {
            row(page, "", &format!("{usd} in {payments} payments over {rail}"));
        }
        if self.is_partial {
            row(page, "", "(the journal goes on; this is its beginning)");
        }
        if !alert.payments.is_empty() {
            row(page, "payments", "");
        }
        for name in &alert.payments {
            let known = self.payments.iter().find(|payment| is_named(&payment.rail, &payment.id, name));
            let told = known.map_or_else(String::new, |payment| {
                let usd = payment.usd.map_or_else(|| "?".to_owned(), |usd| usd.to_string());
                let payee = payment.payee.as_deref().unwrap_or("an unknown payee");
                format!("  {usd} to {payee} at {}", time(payment.at))
            });
            row(page, "", &format!("{name}{told}"));
        }
    }

    fn write_people(&self, page: &mut String) {
        let alert = &self.alert;
        if let Some(by) = &alert.silenced_by {
            row(page, "hidden by", by);
        }
        if let Some(by) = &alert.acknowledged_by {
            let note = alert.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
            row(page, "taken by", &format!("{by}{note}"));
        }
        match &self.label {
            Some(label) => {
                let note = label.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
                let verdict = label.verdict.as_str().replace('_', " ");
                row(page, "label", &format!("{verdict}, by {}{note}", label.by));
            }
            None => row(page, "label", &format!("none; `railwatch review label {} …`", alert.id)),
        }
        row(page, "told", if self.notices.is_empty() { "nobody" } else { "" });
        for (entry, delivered) in self.notices.iter().zip(&self.delivered) {
            let error = entry.last_error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
            let (at, occasion, sink) = (time(entry.queued_at), &entry.occasion, &entry.sink);
            row(page, "", &format!("{at}  {occasion} to {sink}: {delivered}{error}"));
        }
    }
}

/// True if an alert's `rail/id` names this payment.
fn is_named(rail: &str, id: &str, name: &str) -> bool {
    name.strip_prefix(rail).and_then(|rest| rest.strip_prefix('/')) == Some(id)
}

fn row(page: &mut String, name: &str, value: &str) {
    writeln!(page, "  {name:<10}{value}").expect("writing to a String cannot fail");
}

fn write_what(page: &mut String, alert: &Alert, generation: Option<&InForce>) {
    row(page, "what", &alert.summary);
    row(page, "alert", &format!("{} of incident {}", alert.id, alert.incident));
    let since = format!("since {}, opened {}", time(alert.onset_at), time(alert.opened_at));
    let ended = alert.resolved_at.map_or_else(String::new, |at| format!(", resolved {}", time(at)));
    let seen =
        if alert.times_seen > 1 { format!(", seen {} times", alert.times_seen) } else { String::new() };
    row(page, "when", &format!("{since}{ended}{seen}"));
    if let Some(signal) = &alert.signal {
        write_signal(page, signal);
    }
    let parts: Vec<String> =
        alert.contributions.iter().map(|part| format!("{} {:.2}", part.name, part.points)).collect();
    let sum = if parts.is_empty() { String::new() } else { format!(" = {}", parts.join(" + ")) };
    row(page, "score", &format!("{:.2}{sum}", alert.score));
    let digest = generation.map_or_else(String::new, |generation| {
        format!(
            " ({}, in force since {})",
            generation.digest.get(..12).unwrap_or(&generation.digest),
            time(generation.at)
        )
    });
    row(page, "config", &format!("generation {}{digest}", alert.generation));
}

fn write_signal(page: &mut String, signal: &Signal) {
    let about = signal.about.as_ref().map_or_else(String::new, |about| format!(" of {about}"));
    let unit = serde_json::to_value(signal.unit).unwrap_or_default();
    let unit = unit.as_str().unwrap_or_default().replace('_', " ");
    let (value, usual) = (signal.value, signal.usual);
    let times = if usual > 0.0 { format!(", {:.1} times as much", signal.ratio()) } else { String::new() };
    row(page, "compared", &format!("{value:.4} {unit}{about} against a usual {usual:.4}{times}"));
    let (evidence, probability) = (signal.evidence, signal.probability * 100.0);
    row(page, "evidence", &format!("{evidence:.1} nats, {probability:.0} % likely real"));
    let basis = signal.basis;
    let learned = basis.learned_hours;
    if learned > 0.0 {
        let window = basis.window_secs / 60;
        let weeks = basis.weeks;
        let what = format!(
            "{window} min window; usual learned from {learned:.0} h, this hour of the week {weeks} times"
        );
        row(page, "basis", &what);
    }
    for (name, value) in &signal.facts {
        row(page, "", &format!("{}: {value:.4}", name.replace('_', " ")));
    }
}
