//! `explain`: everything that is known about one alert, from the store alone: why it fired, what it cost, who was told,
//! what people said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use railwatch_model::{Alert, Payment, Record, Signal, SmolStr, Usd};
use railwatch_store::{AlertChange, Generation, Labelling, OutboxEntry, Reader};
use serde::Serialize;
use serde_json::json;

use crate::cli::desk::delivered;
use crate::cli::query::{find_alert, reader, time};
use crate::cli::{Failure, Out};
use crate::host::label_json;

/// Batches of the journal that are searched for the payments of an alert.
const BATCHES_MAX: usize = 20_000;
/// Payments reach the journal this long after they happened at most, to be found.
const LATE_MAX: Duration = Duration::from_secs(3600);
/// Steps of an alert's life that are shown.
const CHANGES_MAX: u32 = 50;
/// Outbox entries that are searched for the alert's notices.
const ENTRIES_MAX: u32 = 5_000;

/// What the journal says about the money of an alert.
#[derive(Debug, Default)]
struct Money {
    /// Spent since the onset, by rail: payments and dollars.
    rails: BTreeMap<SmolStr, (u64, Usd)>,
    /// The payments that the alert names.
    payments: Vec<Payment>,
    /// True if not everything was searched.
    is_partial: bool,
}

#[derive(Debug, Serialize)]
struct Rail<'a> {
    rail: &'a str,
    payments: u64,
    usd: Usd,
}

/// `explain`.
pub(crate) fn explain(config: &Path, alert: &str, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    let alert = find_alert(&reader, alert)?;
    let history = reader.alert_history(&alert.id, CHANGES_MAX)?;
    let label = reader.label(&alert.id)?;
    let generation = reader.generation(alert.generation)?;
    let mut notices = reader.outbox(None, ENTRIES_MAX)?;
    notices.retain(|entry| entry.incident == alert.incident);
    notices.reverse();
    let money = money(&reader, &alert)?;
    out.document(&document(&alert, &history, label.as_ref(), generation.as_ref(), &notices, &money))?;
    let title = format!("{} {} ({})", alert.severity.as_str().to_uppercase(), alert.subject, alert.trigger);
    out.line(out.bold(&title))?;
    let mut page = String::new();
    write_what(&mut page, &alert, generation.as_ref());
    write_money(&mut page, &alert, &money);
    write_people(&mut page, &alert, label.as_ref(), &notices);
    row(&mut page, "history", "");
    for change in &history {
        let AlertChange { at, state, severity, score, .. } = change;
        row(&mut page, "", &format!("{}  {state}, {severity}, score {score:.2}", time(*at)));
    }
    out.line(page.trim_end())
}

fn row(page: &mut String, name: &str, value: &str) {
    writeln!(page, "  {name:<10}{value}").expect("writing to a String cannot fail");
}

fn write_what(page: &mut String, alert: &Alert, generation: Option<&Generation>) {
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

fn write_money(page: &mut String, alert: &Alert, money: &Money) {
    let excess = alert.signal.as_ref().map(|signal| signal.excess).filter(|excess| *excess > Usd::ZERO);
    let excess = excess.map_or_else(String::new, |excess| format!(", {excess} beyond the usual"));
    row(page, "at stake", &format!("{} spent since the onset{excess}", alert.spent_since_onset));
    for (rail, (payments, usd)) in &money.rails {
        row(page, "", &format!("{usd} in {payments} payments over {rail}"));
    }
    if money.is_partial {
        row(page, "", "(the journal goes on; this is its beginning)");
    }
    if !alert.payments.is_empty() {
        row(page, "payments", "");
    }
    for name in &alert.payments {
        let known = money.payments.iter().find(|payment| is_named(payment, name));
        let told = known.map_or_else(String::new, |payment| {
            let usd =
                payment.valuation.as_ref().map_or_else(|| "?".to_owned(), |value| value.usd.to_string());
            let payee = payment.payee.as_deref().unwrap_or("an unknown payee");
            format!("  {usd} to {payee} at {}", time(payment.occurred_at))
        });
        row(page, "", &format!("{name}{told}"));
    }
}

fn write_people(page: &mut String, alert: &Alert, label: Option<&Labelling>, notices: &[OutboxEntry]) {
    if let Some(by) = &alert.silenced_by {
        row(page, "hidden by", by);
    }
    if let Some(by) = &alert.acknowledged_by {
        let note = alert.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        row(page, "taken by", &format!("{by}{note}"));
    }
    match label {
        Some(label) => {
            let note = label.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
            let verdict = label.verdict.as_str().replace('_', " ");
            row(page, "label", &format!("{verdict}, by {}{note}", label.by));
        }
        None => row(page, "label", &format!("none; `railwatch review label {} …`", alert.id)),
    }
    row(page, "told", if notices.is_empty() { "nobody" } else { "" });
    for entry in notices {
        let error = entry.last_error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
        let what = format!(
            "{}  {} to {}: {}{error}",
            time(entry.queued_at),
            entry.occasion,
            entry.sink,
            delivered(entry)
        );
        row(page, "", &what);
    }
}

fn document(
    alert: &Alert,
    history: &[AlertChange],
    label: Option<&Labelling>,
    generation: Option<&Generation>,
    notices: &[OutboxEntry],
    money: &Money,
) -> serde_json::Value {
    let rails: Vec<Rail<'_>> = money
        .rails
        .iter()
        .map(|(rail, (payments, usd))| Rail { rail, payments: *payments, usd: *usd })
        .collect();
    json!({
        "alert": alert,
        "history": history.iter().map(|change| json!({
            "at": change.at, "state": change.state, "severity": change.severity, "score": change.score,
            "summary": change.summary,
        })).collect::<Vec<_>>(),
        "label": label.map(label_json),
        "generation": generation.map(|generation| json!({
            "number": generation.number, "digest": generation.digest, "at": generation.at,
        })),
        "rails": rails,
        "payments": money.payments,
        "is_partial": money.is_partial,
        "notices": notices.iter().map(crate::cli::outbox_json).collect::<Vec<_>>(),
    })
}

/// Reads the journal from the onset to the alert's last change.
fn money(reader: &Reader, alert: &Alert) -> Result<Money, Failure> {
    let mut money = Money::default();
    let Some(agent) = alert.subject.agent() else { return Ok(money) };
    let until = alert.updated_at.after(LATE_MAX);
    for (n, batch) in reader.batches_between(alert.onset_at, until)?.enumerate() {
        if n >= BATCHES_MAX {
            money.is_partial = true;
            break;
        }
        for record in batch?.records {
            let Record::Payments { payments, .. } = record else { continue };
            for admitted in payments {
                let payment = admitted.payment;
                let is_first = admitted.disposition == railwatch_model::Disposition::First;
                if payment.agent.as_ref() != Some(agent) || !is_first {
                    continue;
                }
                if payment.occurred_at >= alert.onset_at && payment.occurred_at <= alert.updated_at {
                    let (payments, usd) = money.rails.entry(payment.rail.clone()).or_default();
                    *payments += 1;
                    *usd = usd.plus(payment.valuation.as_ref().map_or(Usd::ZERO, |value| value.usd));
                }
                if alert.payments.iter().any(|name| is_named(&payment, name)) {
                    money.payments.push(payment);
                }
            }
        }
    }
    Ok(money)
}

fn is_named(payment: &Payment, name: &str) -> bool {
    name.strip_prefix(payment.rail.as_str()).and_then(|rest| rest.strip_prefix('/')) == Some(&payment.id)
}
