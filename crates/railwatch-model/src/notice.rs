//! Notices: what a sink delivers. A notice tells one audience about one change of one incident.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Alert, IncidentId, Severity, Subject, Timestamp};

/// Names one notice for one sink: derived from incident, occasion and sink, and used as idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NoticeId(pub SmolStr);

/// Why people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The incident began.
    Opened,
    /// Further alerts joined it, or its severity rose.
    Worsened,
    /// It still lasts and nobody took it.
    Reminded,
    /// A person took it.
    Acknowledged,
    /// All of its alerts are resolved.
    Resolved,
    /// A person asked for a test message.
    Test,
}

/// A message for a sink, complete in itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The idempotency key.
    pub id: NoticeId,
    /// The incident that it is about.
    pub incident: IncidentId,
    /// Why it is sent.
    pub occasion: Occasion,
    /// Whom it is about.
    pub subject: Subject,
    /// The highest severity of its alerts.
    pub severity: Severity,
    /// The headline: the strongest alert's summary.
    pub headline: String,
    /// The incident's alerts, strongest first.
    pub alerts: Vec<Alert>,
    /// When the change happened.
    pub at: Timestamp,
    /// Where to look, if railwatch knows its own address.
    pub link: Option<String>,
}
