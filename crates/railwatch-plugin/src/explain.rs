//! A signal in words. The sentence is a rendering of the signal's own numbers and of nothing else.

use chrono::{Datelike, Timelike};
use railwatch_model::{Signal, SignalKind, Subject, Timestamp, Unit};

/// One sentence: what happened, compared with what, since when, and how likely it is to be chance.
pub fn explain(signal: &Signal, subject: &Subject, at: Timestamp) -> String {
    let mut text = headline(signal, subject, at);
    if let Some(since) = signal.since {
        text.push_str(&format!("; since {}", since.to_utc().format("%Y-%m-%d %H:%M")));
    }
    if signal.excess > railwatch_model::Usd::ZERO {
        text.push_str(&format!("; {} beyond the usual so far", signal.excess));
    }
    if signal.evidence >= 3.0 {
        text.push_str(&format!("; by chance once in {} agent-days", round(signal.evidence.min(30.0).exp())));
    }
    text
}

fn headline(signal: &Signal, subject: &Subject, at: Timestamp) -> String {
    let about = signal.about.as_deref().unwrap_or("an unknown party");
    let (value, usual) = (amount(signal.value, signal.unit), amount(signal.usual, signal.unit));
    match signal.kind {
        SignalKind::Velocity => {
            let now = at.to_utc();
            let weeks = match signal.basis.weeks {
                0 => String::new(),
                1 => ", 1 week".to_owned(),
                weeks => format!(", {weeks} weeks"),
            };
            let ratio = round(signal.ratio());
            let hour = now.hour();
            let day = now.weekday();
            format!("{subject} spends {value}, {ratio}x its usual for a {day} {hour:02}:00 ({usual}{weeks})")
        }
        SignalKind::RailShift => format!("{subject} pays {value} over {about}, usually {usual}"),
        SignalKind::Budget => {
            let days = signal.fact("days_until_empty").map(|days| format!("; empty in {} days", round(days)));
            format!(
                "{subject} uses {value} of budget {about}, {usual} would last{}",
                days.unwrap_or_default()
            )
        }
        SignalKind::Review => {
            format!("{subject} has an anomaly score of {:.2}, above {:.2}", signal.value, signal.usual)
        }
        SignalKind::Drift => format!("{subject} spends {value}, against {usual} in the weeks before"),
        SignalKind::NewPayee => format!("{subject} pays {about}, whom it never paid before: {value}"),
        SignalKind::NewRail => format!("{subject} pays over {about}, a rail it never used before: {value}"),
        SignalKind::Duplicate => format!("{subject} repeats payments: {value}, usually {usual}"),
        SignalKind::Price => format!("{subject} pays {value} to {about}, usually {usual}"),
        SignalKind::Dormant => format!("{subject} was quiet and spends again: {value}"),
        SignalKind::Custom(ref name) => format!("{subject}: {name} is {value}, usually {usual}"),
    }
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::UsdPerHour => format!("{}/h", dollars(value)),
        Unit::UsdPerDay => format!("{}/day", dollars(value)),
        Unit::Usd => dollars(value),
        Unit::Share | Unit::Probability => format!("{:.0} %", value * 100.0),
        Unit::PercentPerDay => format!("{} % a day", round(value)),
        Unit::Payments => format!("{} payments", round(value)),
        Unit::Days => format!("{} days", round(value)),
    }
}

fn dollars(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("${value:.0}"),
        value if value >= 0.1 => format!("${value:.2}"),
        value => format!("${value:.4}"),
    }
}

/// Two significant figures, which is what a ratio of estimates is good for.
fn round(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
