//! The words of a message: names of triggers and occasions, numbers with their units, and advice.

use std::time::Duration;

use railwatch_model::{Notice, Occasion, Severity, Signal, SignalKind, Subject, Trigger, Unit};
use railwatch_plugin::explain::days_between_chances;

use super::name;

/// The first word of a title.
pub(super) fn occasion_word(occasion: Occasion, severity: Severity) -> String {
    let severity = severity.as_str().to_uppercase();
    match occasion {
        Occasion::Opened => severity,
        Occasion::Reopened => format!("AGAIN, {severity}"),
        Occasion::Worsened => format!("WORSE, {severity}"),
        Occasion::Reminded => format!("STILL OPEN, {severity}"),
        Occasion::Escalated => format!("NOBODY TOOK IT, {severity}"),
        Occasion::Acknowledged => "Acknowledged".to_owned(),
        Occasion::Resolved => "Resolved".to_owned(),
        Occasion::Freeze => "Freeze".to_owned(),
        Occasion::Digest => "Digest".to_owned(),
        Occasion::Test => "Test".to_owned(),
    }
}

/// A trigger as people say it.
pub(super) fn trigger_name(trigger: &Trigger) -> String {
    let kind = match trigger {
        Trigger::Rule(id) => return format!("rule {}", name(id)),
        Trigger::Signal(kind) => kind,
    };
    match kind {
        SignalKind::Velocity => "spend velocity".to_owned(),
        SignalKind::RailShift => "rail shift".to_owned(),
        SignalKind::Budget => "budget burn".to_owned(),
        SignalKind::Review => "anomaly score".to_owned(),
        SignalKind::Drift => "slow drift".to_owned(),
        SignalKind::NewPayee => "new payee".to_owned(),
        SignalKind::NewRail => "new rail".to_owned(),
        SignalKind::Duplicate => "repeated payments".to_owned(),
        SignalKind::Price => "price jump".to_owned(),
        SignalKind::Dormant => "dormant agent".to_owned(),
        SignalKind::Custom(kind) => name(kind),
    }
}

/// A statistic with its unit. These are estimates and rates, never amounts of a payment.
pub(super) fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::UsdPerHour => format!("${}/h", decimal(value)),
        Unit::UsdPerDay => format!("${}/day", decimal(value)),
        Unit::Usd => format!("${}", decimal(value)),
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::PercentPerDay => format!("{value:.1} %/day"),
        Unit::Probability => format!("{value:.2}"),
        Unit::Payments => format!("{value:.0} payments"),
        Unit::Days => format!("{value:.1} days"),
    }
}

fn decimal(value: f64) -> String {
    match value.abs() {
        small if small > 0.0 && small < 0.1 => format!("{value:.4}"),
        huge if huge >= 1e12 => format!("{value:.2e}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio with the digits that matter.
pub(super) fn ratio(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

/// How sure the detector is, and what "usual" was learned from.
pub(super) fn evidence(signal: &Signal) -> Vec<String> {
    let mut lines = Vec::new();
    if signal.evidence > 0.0 {
        let probability = signal.probability * 100.0;
        lines.push(format!("{probability:.0} % likely real; {}", chance(signal.evidence)));
    }
    let basis = signal.basis;
    if basis.learned_hours > 0.0 {
        let learned = span(Duration::from_secs_f32((basis.learned_hours * 3600.0).min(1e9)));
        let weeks = match basis.weeks {
            0 => String::new(),
            1 => ", this hour of the week seen once".to_owned(),
            weeks => format!(", this hour of the week seen {weeks} times"),
        };
        let window = span(Duration::from_secs(u64::from(basis.window_secs)));
        lines.push(format!("usual over {window}, learned from {learned}{weeks}"));
    }
    lines
}

/// How often chance alone reaches so many nats, in the headline's own terms.
fn chance(nats: f64) -> String {
    match days_between_chances(nats) {
        None => "or an everyday coincidence".to_owned(),
        Some(days) if days >= 1e9 => "practically never by chance".to_owned(),
        Some(days) => format!("by chance once in {days:.0} agent-days"),
    }
}

/// A fact by its name: `days_until_empty` → `days until empty: 8.0`.
pub(super) fn fact(name: &str, value: f64) -> String {
    let name = name.replace('_', " ");
    if value.fract() == 0.0 && value.abs() < 1e9 {
        format!("{name}: {value:.0}")
    } else if value.abs() < 1e9 {
        format!("{name}: {value:.2}")
    } else {
        format!("{name}: {value:.2e}")
    }
}

/// A span with its two largest units: `3d 4h`, `12m`.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// What to do next.
pub(super) fn advice(notice: &Notice, subject: &str, has_link: bool) -> String {
    let incident = name(&notice.incident.0);
    match notice.occasion {
        Occasion::Resolved => {
            "nothing; say whether it was real, so that the next alert is better.".to_owned()
        }
        Occasion::Acknowledged => "nothing, unless you can help the person who took it.".to_owned(),
        Occasion::Freeze => {
            format!("nothing; `railwatch unfreeze {subject}` ends a freeze that is not meant.")
        }
        Occasion::Digest => {
            "nothing; `railwatch agents` and `railwatch alerts list` have the rest.".to_owned()
        }
        Occasion::Test => "nothing; if you can read this, alerts reach you here.".to_owned(),
        Occasion::Opened
        | Occasion::Reopened
        | Occasion::Worsened
        | Occasion::Reminded
        | Occasion::Escalated => {
            let check = check(notice, subject);
            let how = if has_link { "with the link".to_owned() } else { format!("incident {incident}") };
            format!("{check} Then acknowledge or silence {how}.")
        }
    }
}

fn check(notice: &Notice, subject: &str) -> String {
    match &notice.subject {
        Subject::Source(_) => {
            return format!("check the connection of {subject}: payments there are not seen meanwhile.");
        }
        Subject::Railwatch => {
            return "read railwatch's log; alerts may be late until this is mended.".to_owned();
        }
        Subject::Agent(_) | Subject::Team(_) | Subject::Fleet => {}
    }
    let signal = notice.alerts.iter().find_map(|alert| match &alert.trigger {
        Trigger::Signal(kind) => Some(kind),
        Trigger::Rule(_) => None,
    });
    match signal {
        Some(SignalKind::Budget) => format!("raise the budget of {subject} or slow it down."),
        Some(SignalKind::RailShift | SignalKind::NewRail) => {
            format!("check whether {subject} was meant to change rails; if not, revoke its key there.")
        }
        Some(SignalKind::NewPayee | SignalKind::Price) => {
            format!("check the payee; if it is not meant, stop {subject} from paying it.")
        }
        Some(SignalKind::Duplicate) => {
            format!("look for a retry loop in {subject} and ask the payee for refunds.")
        }
        Some(
            SignalKind::Velocity
            | SignalKind::Review
            | SignalKind::Drift
            | SignalKind::Dormant
            | SignalKind::Custom(_),
        )
        | None => format!("check what {subject} is doing; if it is not meant, freeze it or revoke its key."),
    }
}
