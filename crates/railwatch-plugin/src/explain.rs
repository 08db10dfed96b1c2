//! Explanations: a signal as sentences. They render the signal's numbers and add none of their own.

use std::fmt::Write;

use chrono::{Datelike, Timelike};
use railwatch_model::{Signal, SignalKind, Subject, Timestamp, Unit, Usd};

/// What a signal says about a subject at a time (UTC), in one sentence that a person can act on, such as
/// `a1 spends $340.00/h, 42x its usual $8.10/h for a Tuesday 02:00 (5 weeks); $57.00 beyond its usual since 02:07; by
/// chance once in 40,000 agent-days`.
pub fn explain(signal: &Signal, subject: &Subject, at: Timestamp) -> String {
    let mut text = match signal.kind {
        SignalKind::Velocity => velocity(signal, subject, at),
        SignalKind::RailShift => rail_shift(signal, subject),
        SignalKind::Budget => budget(signal, subject),
        SignalKind::Drift => drift(signal, subject),
        SignalKind::NewPayee | SignalKind::NewRail => new_payee(signal, subject),
        SignalKind::Duplicate => duplicate(signal, subject),
        SignalKind::Price => price(signal, subject),
        SignalKind::Dormant => dormant(signal, subject),
        SignalKind::Review => review(signal, subject),
        SignalKind::Custom(_) => other(signal, subject),
    };
    if signal.kind != SignalKind::Budget {
        since(&mut text, signal, at);
    }
    if let Some(days) = days_between_chances(signal.evidence) {
        append(&mut text, format_args!("; by chance once in {} agent-days", grouped(days)));
    }
    text
}

fn velocity(signal: &Signal, subject: &Subject, at: Timestamp) -> String {
    let (value, usual) = (amount(signal.value), amount(signal.usual));
    let when = hour_of_week(at);
    let learned = learned(signal);
    let mut text =
        format!("{subject} spends {value}/h, {} its usual {usual}/h for a {when}{learned}", times(signal));
    let counts = (signal.fact("payments_per_hour"), signal.fact("payments_per_hour_usual"));
    if let (Some(payments), Some(usual)) = counts {
        append(&mut text, format_args!("; {payments:.0} payments an hour against {usual:.1}"));
    }
    if signal.fact("loop").is_some() {
        text.push_str("; it pays one payee over and over");
    }
    text
}

fn rail_shift(signal: &Signal, subject: &Subject) -> String {
    let rail = about(signal, "one rail");
    let (value, usual) = (percent(signal.value), percent(signal.usual));
    format!("{value} of the last hour's spend of {subject} went over {rail}, usually {usual}")
}

fn budget(signal: &Signal, subject: &Subject) -> String {
    let fact = |name| signal.fact(name).unwrap_or_default();
    let name = about(signal, "its");
    let used = fact("percent_used");
    let left = duration(fact("days_left"));
    if used >= 100.0 {
        return format!("{subject} has used {used:.0}% of its {name} budget with {left} left in the period");
    }
    let empty = duration(fact("days_until_empty"));
    let (value, usual) = (signal.value, signal.usual);
    format!(
        "{subject} uses {value:.1}% of its {name} budget a day, {usual:.1}% would last; {used:.0}% is used, \
         it is empty in {empty} with {left} left; {} at the end of the period",
        amount(fact("projected_usd"))
    )
}

fn drift(signal: &Signal, subject: &Subject) -> String {
    let (value, usual) = (amount(signal.value), amount(signal.usual));
    let days = (f64::from(signal.basis.window_secs) / 86_400.0).round().max(1.0);
    let over = if days > 1.0 { format!("over {days:.0} days") } else { "over a day".to_owned() };
    format!("{subject} spends {value} a day {over}, {} its usual {usual}{}", times(signal), learned(signal))
}

fn new_payee(signal: &Signal, subject: &Subject) -> String {
    let payee = about(signal, "an unknown payee");
    let value = amount(signal.value);
    match signal.fact("payments") {
        Some(1.0) => format!("{subject} paid {value} to {payee}, a payee and a rail that it never used"),
        Some(n) => {
            format!(
                "{subject} paid {value} in {n:.0} payments to {payee}, a payee and a rail that it never used"
            )
        }
        None => format!("{subject} paid {value} to {payee}, which it never paid"),
    }
}

fn duplicate(signal: &Signal, subject: &Subject) -> String {
    let (value, usual) = (percent(signal.value), percent(signal.usual));
    format!("{value} of the payments of {subject} repeat one made seconds before, usually {usual}")
}

fn price(signal: &Signal, subject: &Subject) -> String {
    let payee = about(signal, "a payee");
    let (value, usual) = (amount(signal.value), amount(signal.usual));
    format!("{payee} charges {subject} {value}, {} its usual {usual}", times(signal))
}

fn dormant(signal: &Signal, subject: &Subject) -> String {
    let (value, usual) = (signal.value, signal.usual);
    format!("{subject} hardly ever pays and made {value:.0} payments in a row, usually {usual:.1}")
}

fn review(signal: &Signal, subject: &Subject) -> String {
    let (score, threshold) = (percent(signal.value), percent(signal.usual));
    format!("{subject} has an anomaly score of {score}; above {threshold} a person should look")
}

fn other(signal: &Signal, subject: &Subject) -> String {
    let unit = |value: f64| match signal.unit {
        Unit::UsdPerHour => format!("{}/h", amount(value)),
        Unit::UsdPerDay => format!("{} a day", amount(value)),
        Unit::Usd => amount(value),
        Unit::Share | Unit::Probability => percent(value),
        Unit::PercentPerDay => format!("{value:.1}% a day"),
        Unit::Payments => format!("{value:.0} payments"),
        Unit::Days => duration(value),
    };
    let of = signal.about.as_ref().map_or_else(String::new, |about| format!(" of {about}"));
    format!("{}{of} of {subject} is {}, usually {}", signal.kind, unit(signal.value), unit(signal.usual))
}

fn since(text: &mut String, signal: &Signal, at: Timestamp) {
    let Some(since) = signal.since.filter(|since| *since > Timestamp::EPOCH) else { return };
    let since_utc = since.to_utc();
    let ago = at.since(since).as_secs();
    let when = match ago {
        0..72_000 => format!("{:02}:{:02}", since_utc.hour(), since_utc.minute()),
        72_000..518_400 => format!("{} {:02}:{:02}", weekday(since), since_utc.hour(), since_utc.minute()),
        _ => since_utc.format("%Y-%m-%d").to_string(),
    };
    if signal.excess > Usd::ZERO {
        append(text, format_args!("; {} at stake since {when}", signal.excess));
    } else {
        append(text, format_args!("; since {when}"));
    }
}

/// How many agent-days pass between two times that chance alone makes evidence this large; `None` for everyday
/// evidence. Chance reaches `w` nats in about one of `exp(w)` independent trials, of which an agent-day has about 24.
pub fn days_between_chances(nats: f64) -> Option<f64> {
    (nats >= 4.0).then(|| nats.min(25.0).exp() / 24.0)
}

fn append(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("writing to a String cannot fail");
}

fn about<'a>(signal: &'a Signal, else_say: &'a str) -> &'a str {
    signal.about.as_deref().unwrap_or(else_say)
}

/// Dollars, rounded to cents from ten cents on and to three digits below.
fn amount(dollars: f64) -> String {
    let dollars = if dollars.is_finite() { dollars.clamp(-9e9, 9e9) } else { 0.0 };
    let digits = match dollars.abs() {
        size if size >= 0.1 || size == 0.0 => 2,
        size if size >= 0.01 => 3,
        size if size >= 0.001 => 4,
        _ => 6,
    };
    let whole = format!("{:.digits$}", dollars.abs());
    let (int, fraction) = whole.split_once('.').unwrap_or((&whole, "00"));
    let sign = if dollars < 0.0 { "-" } else { "" };
    format!("{sign}${}.{fraction}", thousands(int))
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number to two significant digits, with separators.
fn grouped(number: f64) -> String {
    let size = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    thousands(&format!("{:.0}", (number / size).round() * size))
}

fn times(signal: &Signal) -> String {
    match signal.ratio() {
        ratio if ratio >= 1e6 => "over a million times".to_owned(),
        ratio if ratio >= 10.0 => format!("{}x", thousands(&format!("{ratio:.0}"))),
        ratio => format!("{ratio:.1}x"),
    }
}

fn percent(share: f64) -> String {
    let share = if share.is_finite() { 100.0 * share } else { 0.0 };
    if share < 1.0 && share > 0.0 { "less than 1%".to_owned() } else { format!("{share:.0}%") }
}

fn duration(days: f64) -> String {
    match days {
        days if days < 1.0 / 24.0 => format!("{:.0} min", days * 1440.0),
        days if days < 2.0 => format!("{:.0} h", days * 24.0),
        days if days < 3650.0 => format!("{days:.0} days"),
        _ => "over ten years".to_owned(),
    }
}

fn learned(signal: &Signal) -> String {
    match (signal.basis.weeks, signal.basis.learned_hours) {
        (0, hours) if hours < 48.0 => format!(" ({hours:.0} hours known)"),
        (0, hours) => format!(" ({:.0} days known)", hours / 24.0),
        (1, _) => " (1 week known)".to_owned(),
        (weeks, _) => format!(" ({weeks} weeks known)"),
    }
}

fn hour_of_week(at: Timestamp) -> String {
    format!("{} {:02}:00", weekday(at), at.to_utc().hour())
}

fn weekday(at: Timestamp) -> &'static str {
    match at.to_utc().weekday() {
        chrono::Weekday::Mon => "Monday",
        chrono::Weekday::Tue => "Tuesday",
        chrono::Weekday::Wed => "Wednesday",
        chrono::Weekday::Thu => "Thursday",
        chrono::Weekday::Fri => "Friday",
        chrono::Weekday::Sat => "Saturday",
        chrono::Weekday::Sun => "Sunday",
    }
}

#[cfg(test)]
mod tests {
    use railwatch_model::{AgentId, Basis};

    use super::*;

    #[track_caller]
    fn check(signal: &Signal, expected: &str) {
        let subject = Subject::Agent(AgentId::new("a1").unwrap());
        let at = Timestamp::parse("2026-11-24T02:20:00Z").unwrap();
        assert_eq!(explain(signal, &subject, at), expected);
    }

    #[test]
    fn velocity_says_how_much_against_what_since_when_and_how_rare() {
        let mut signal = Signal::usual(SignalKind::Velocity, Unit::UsdPerHour);
        (signal.value, signal.usual, signal.evidence) = (340.0, 8.1, 13.78);
        signal.since = Timestamp::parse("2026-11-24T02:07:00Z").ok();
        signal.excess = Usd::from_cents(5_700);
        signal.basis = Basis { window_secs: 900, learned_hours: 800.0, weeks: 5 };
        check(
            &signal,
            "a1 spends $340.00/h, 42x its usual $8.10/h for a Tuesday 02:00 (5 weeks known); $57.00 at stake since \
             02:07; by chance once in 40,000 agent-days",
        );
    }

    #[test]
    fn budget_says_when_it_is_empty() {
        let mut signal = Signal::usual(SignalKind::Budget, Unit::PercentPerDay);
        (signal.value, signal.usual) = (13.3, 3.33);
        signal.about = Some("monthly".into());
        for (name, fact) in [
            ("days_until_empty", 4.5),
            ("days_left", 27.0),
            ("percent_used", 40.0),
            ("projected_usd", 3990.0),
        ] {
            signal.facts.push((name.into(), fact));
        }
        check(
            &signal,
            "a1 uses 13.3% of its monthly budget a day, 3.3% would last; 40% is used, it is empty in 4 days with 27 days \
             left; $3,990.00 at the end of the period",
        );
    }

    #[test]
    fn every_kind_has_words_and_no_number_breaks_them() {
        for name in [
            "velocity",
            "rail_shift",
            "budget",
            "review",
            "drift",
            "new_payee",
            "new_rail",
            "duplicate",
            "price",
            "dormant",
            "mine",
        ] {
            for number in [0.0, 1e-9, 0.5, 1e300, f64::INFINITY, f64::NAN, -1.0] {
                let mut signal = Signal::usual(SignalKind::from_name(name), Unit::Usd);
                (signal.value, signal.usual, signal.evidence) = (number, number, number);
                let subject = Subject::Agent(AgentId::new("a1").unwrap());
                let text = explain(&signal, &subject, Timestamp::from_secs(1));
                assert!(text.contains("a1"), "{text}");
            }
        }
    }
}
