//! One notice, said once: the neutral structure that every chat, mail and terminal lays out in its own way.
//!
//! Every text here is already [`clean`](crate::text::clean) and bounded; a sink adds its target's escape and limits
//! and nothing else. A message says what happened, compared with what, since when, how much is at stake and what to
//! do next.

mod buttons;
mod words;

use railwatch_model::{Alert, Notice, Occasion, Report, Section, Severity, Signal, Timestamp, Trigger, Usd};

pub(crate) use self::buttons::{Button, Press, buttons};
use crate::text::clean;
use words::{advice, amount, evidence, fact, occasion_word, span, trigger_name};

/// Alerts that a message shows; more are counted.
pub(crate) const PARTS_MAX: usize = 5;
/// Contributions and facts that a part shows.
const LINES_MAX: usize = 8;
/// Payments that a part names.
const PAYMENTS_MAX: usize = 5;
/// Characters of a sentence that rules or detectors wrote.
const SENTENCE_CHARS_MAX: usize = 600;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 80;
/// Characters of what a person wrote.
const NOTE_CHARS_MAX: usize = 300;
/// Characters of a link.
const LINK_CHARS_MAX: usize = 1000;

/// A rendered notice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// Why it is sent.
    pub(crate) occasion: Occasion,
    /// How much to hurry.
    pub(crate) severity: Severity,
    /// One line: `HIGH · agent_billing_7 · spend velocity`.
    pub(crate) title: String,
    /// One sentence: what happened, compared with what, since when, how much is at stake.
    pub(crate) lead: String,
    /// The numbers that matter, in reading order.
    pub(crate) fields: Vec<Field>,
    /// One part per alert, strongest first.
    pub(crate) parts: Vec<Part>,
    /// Alerts that are not shown.
    pub(crate) parts_left_out: usize,
    /// What to do next.
    pub(crate) next: String,
    /// Small print, one line each: the incident, the notice, its time.
    pub(crate) footers: Vec<String>,
    /// Where to look.
    pub(crate) link: Option<Link>,
    /// What to do with one press, where the chat's presses are heard.
    pub(crate) buttons: Vec<Button>,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// The name, ours.
    pub(crate) name: &'static str,
    /// The value, cleaned.
    pub(crate) value: String,
}

/// One alert.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// What opened it, and its state: `spend velocity (high)`.
    pub(crate) title: String,
    /// Its sentence; empty where the message's lead already is that sentence.
    pub(crate) lead: String,
    /// The comparison, its evidence and further facts, one line each.
    pub(crate) evidence: Vec<String>,
    /// `score 0.83 = velocity +0.55, burn +0.28`; empty where an earlier part said the same.
    pub(crate) score: String,
    /// `payments x402/1, x402/2`, the largest first; empty where an earlier part said the same.
    pub(crate) payments: String,
}

/// A link that is safe to offer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Link {
    /// The button's text.
    pub(crate) label: &'static str,
    /// An absolute http or https URL.
    pub(crate) url: String,
}

impl Message {
    /// Renders a notice.
    pub(crate) fn of(notice: &Notice) -> Self {
        let subject = name(&notice.subject.to_string());
        let about = notice.alerts.first().map(|alert| format!(" · {}", trigger_name(&alert.trigger)));
        let word = occasion_word(notice.occasion, notice.severity);
        let title = format!("{word} · {subject}{}", about.unwrap_or_default());
        let lead = Some(clean(&notice.headline, SENTENCE_CHARS_MAX)).filter(|lead| !lead.is_empty());
        let lead = lead.unwrap_or_else(|| title.clone());
        let link = notice.link.as_deref().and_then(safe_link);
        Self {
            occasion: notice.occasion,
            severity: notice.severity,
            title,
            fields: fields(notice, &subject),
            parts: notice.report.as_deref().map_or_else(|| parts(&notice.alerts, &lead), sections),
            parts_left_out: notice.alerts.len().saturating_sub(PARTS_MAX),
            next: advice(notice, &subject, link.is_some()),
            footers: footers(notice),
            lead,
            link: link.map(|url| Link { label: "Open in railwatch", url }),
            buttons: Vec::new(),
        }
    }

    /// The same, with buttons.
    pub(crate) fn with_buttons(notice: &Notice, wanted: &[Press]) -> Self {
        Self { buttons: buttons(notice, wanted), ..Self::of(notice) }
    }

    /// The line about alerts that are not shown, if there are any.
    pub(crate) fn left_out(&self) -> Option<String> {
        (self.parts_left_out > 0).then(|| format!("and {} more alerts", self.parts_left_out))
    }

    /// A mark that is read before any word: colour and shape say how much to hurry.
    pub(crate) fn mark(&self) -> &'static str {
        match (self.occasion, self.severity) {
            (Occasion::Resolved, _) => "✅",
            (Occasion::Acknowledged, _) => "👀",
            (Occasion::Freeze, _) => "🧊",
            (Occasion::Digest, _) => "📊",
            (Occasion::Test, _) => "🔔",
            (_, Severity::Critical) => "🚨",
            (_, Severity::High) => "🔴",
            (_, Severity::Medium) => "🟠",
            (_, Severity::Low) => "🟡",
            (_, Severity::Info) => "🔵",
        }
    }

    /// The colour for targets that draw one, as `0xRRGGBB`.
    pub(crate) fn color(&self) -> u32 {
        match (self.occasion, self.severity) {
            (Occasion::Resolved, _) => 0x2E_A0_43,
            (Occasion::Freeze, _) => 0x1F_88_C9,
            (Occasion::Acknowledged | Occasion::Digest | Occasion::Test, _) => 0x6E_77_81,
            (_, Severity::Critical) => 0xB6_00_20,
            (_, Severity::High) => 0xD7_3A_49,
            (_, Severity::Medium) => 0xE3_6B_09,
            (_, Severity::Low) => 0xDB_AB_09,
            (_, Severity::Info) => 0x03_66_D6,
        }
    }

    /// The whole message as plain text, for targets without structure and as the fallback of those that have it.
    pub(crate) fn plain(&self) -> String {
        let mut lines = vec![self.title.clone(), self.lead.clone(), String::new()];
        lines.extend(self.fields.iter().map(|field| format!("{}: {}", field.name, field.value)));
        for part in &self.parts {
            lines.push(String::new());
            lines.extend(part.lines());
        }
        lines.extend(self.left_out());
        lines.push(String::new());
        lines.push(format!("Next: {}", self.next));
        lines.extend(self.link.iter().map(|link| format!("{}: {}", link.label, link.url)));
        lines.push(String::new());
        lines.extend(self.footers.iter().cloned());
        lines.join("\n")
    }
}

impl Part {
    /// All of it, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.title.clone()];
        lines.extend((!self.lead.is_empty()).then(|| self.lead.clone()));
        lines.extend(self.details());
        lines
    }

    /// Evidence, contributions and payments, one line each.
    pub(crate) fn details(&self) -> Vec<String> {
        let rest = [&self.score, &self.payments].into_iter().filter(|line| !line.is_empty());
        self.evidence.iter().chain(rest).cloned().collect()
    }
}

fn fields(notice: &Notice, subject: &str) -> Vec<Field> {
    if notice.report.is_some() {
        return vec![Field { name: "Subject", value: subject.to_owned() }];
    }
    let mut fields = vec![
        Field { name: "Subject", value: subject.to_owned() },
        Field { name: "Severity", value: notice.severity.as_str().to_owned() },
    ];
    let mut add = |name, value| fields.push(Field { name, value });
    // The alerts of one incident look at the same money, so the largest amount is said and never a sum.
    let spent = notice.alerts.iter().map(|alert| alert.spent_since_onset).max().unwrap_or(Usd::ZERO);
    let excess =
        notice.alerts.iter().filter_map(|alert| alert.signal.as_ref()).map(|signal| signal.excess).max();
    if let Some(onset_at) = notice.alerts.iter().map(|alert| alert.onset_at).min() {
        add("At stake", stake(spent, excess));
        add("Since", since(onset_at, notice.at));
    }
    if let Some(times) = notice.alerts.iter().map(|alert| alert.times_seen).max().filter(|times| *times > 1) {
        add("Seen", format!("{times} times"));
    }
    if let Some(score) = notice.alerts.iter().map(|alert| alert.score).max_by(f64::total_cmp) {
        add("Anomaly score", format!("{score:.2} of 1"));
    }
    let person = notice.alerts.iter().find_map(|alert| alert.acknowledged_by.as_ref());
    if let Some(person) = person {
        add("Taken by", name(person));
    }
    let freeze = notice.alerts.iter().find_map(|alert| alert.freeze.as_ref());
    if let Some(freeze) = freeze {
        add("Freeze", clean(freeze, NOTE_CHARS_MAX));
    }
    let notes = notice.alerts.iter().filter_map(|alert| alert.note.as_ref());
    if let Some(note) = notes.map(|note| clean(note, NOTE_CHARS_MAX)).find(|note| !note.is_empty()) {
        add("Note", note);
    }
    fields
}

fn stake(spent: Usd, excess: Option<Usd>) -> String {
    match excess {
        Some(excess) if excess > Usd::ZERO => format!("{spent} spent, {excess} beyond the usual"),
        _ => format!("{spent} spent"),
    }
}

/// `2026-11-23 01:48 UTC (12m before this notice)`.
fn since(onset_at: Timestamp, now: Timestamp) -> String {
    format!("{} ({} before this notice)", minute(onset_at), span(now.since(onset_at)))
}

/// A time to the minute; the zone is always said.
fn minute(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%d %H:%M UTC").to_string()
}

fn parts(alerts: &[Alert], notice_lead: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for alert in alerts.iter().take(PARTS_MAX) {
        let mut part = part(alert, notice_lead);
        // The alerts of one incident often share their score and payments; a phone shows them once.
        if parts.iter().any(|earlier| earlier.score == part.score) {
            part.score.clear();
        }
        if parts.iter().any(|earlier| earlier.payments == part.payments) {
            part.payments.clear();
        }
        parts.push(part);
    }
    parts
}

/// The sections of a digest.
fn sections(report: &Report) -> Vec<Part> {
    let section = |section: &Section| Part {
        title: name(&section.title),
        lead: String::new(),
        evidence: section.lines.iter().map(|line| clean(line, NOTE_CHARS_MAX)).collect(),
        score: String::new(),
        payments: String::new(),
    };
    report.sections.iter().take(PARTS_MAX).map(section).collect()
}

fn part(alert: &Alert, notice_lead: &str) -> Part {
    let lead = clean(&alert.summary, SENTENCE_CHARS_MAX);
    let terms = alert.contributions.iter().map(|term| format!("{} {:+.2}", name(&term.name), term.points));
    let terms = list(terms, LINES_MAX);
    let payments = list(alert.payments.iter().map(|payment| name(payment)), PAYMENTS_MAX);
    Part {
        title: format!("{} ({})", trigger_name(&alert.trigger), alert.severity.as_str()),
        lead: if lead == notice_lead { String::new() } else { lead },
        evidence: alert.signal.as_ref().map(signal_lines).unwrap_or_default(),
        score: if terms.is_empty() { terms } else { format!("score {:.2} = {terms}", alert.score) },
        payments: if payments.is_empty() { payments } else { format!("payments {payments}") },
    }
}

/// The first `items_max`, and how many more there are.
fn list(items: impl ExactSizeIterator<Item = String>, items_max: usize) -> String {
    let left_out = items.len().saturating_sub(items_max);
    let more = (left_out > 0).then(|| format!("and {left_out} more"));
    items.take(items_max).chain(more).collect::<Vec<_>>().join(", ")
}

/// A cleaned name, which is never empty: a target may refuse a message over an empty text.
fn name(text: &str) -> String {
    let name = clean(text, NAME_CHARS_MAX);
    if name.is_empty() { "(unnamed)".to_owned() } else { name }
}

fn signal_lines(signal: &Signal) -> Vec<String> {
    let mut lines = vec![comparison(signal)];
    lines.extend(evidence(signal));
    let facts = signal.facts.iter().take(LINES_MAX);
    lines.extend(facts.map(|(key, value)| fact(&name(key), *value)));
    let left_out = signal.facts.len().saturating_sub(LINES_MAX);
    lines.extend((left_out > 0).then(|| format!("and {left_out} more facts")));
    lines
}

/// `$340.00/h against a usual $8.10/h (42x) on x402`.
fn comparison(signal: &Signal) -> String {
    let mut text = format!(
        "{} against a usual {}",
        amount(signal.value, signal.unit),
        amount(signal.usual, signal.unit)
    );
    if signal.usual > 0.0 && signal.ratio() >= 1.05 {
        text.push_str(&format!(" ({}x)", words::ratio(signal.ratio())));
    }
    if let Some(about) = &signal.about {
        text.push_str(&format!(", about {}", name(about)));
    }
    text
}

fn footers(notice: &Notice) -> Vec<String> {
    let incident = name(&notice.incident.0);
    let mut line = match notice.report {
        Some(_) => format!("railwatch · {}", minute(notice.at)),
        None => format!("railwatch · incident {incident} · {}", minute(notice.at)),
    };
    if let Some(alert) = notice.alerts.first() {
        line.push_str(&format!(" · config generation {}", alert.generation));
    }
    let repeat = "an earlier attempt may have arrived: this may be the same message again";
    std::iter::once(line).chain(notice.may_repeat.then(|| repeat.to_owned())).collect()
}

/// The link, if it is an absolute http(s) URL of bearable length. It is written out again from its parsed form, so
/// that what is shown is what is opened.
fn safe_link(link: &str) -> Option<String> {
    let url = reqwest::Url::parse(link).ok()?;
    let fits = url.as_str().len() <= LINK_CHARS_MAX && matches!(url.scheme(), "http" | "https");
    (fits && url.host().is_some()).then(|| url.to_string())
}

/// The rule's id or the signal's kind, for targets that sort by it.
pub(crate) fn trigger_key(trigger: &Trigger) -> String {
    clean(&trigger.to_string(), NAME_CHARS_MAX)
}

#[cfg(test)]
mod tests;
