//! Notices: what a sink delivers. A notice tells one audience about one change of one incident.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Alert, AlertState, Facts, GateOrder, IncidentId, Label, Severity, Subject, Timestamp};

/// Names one notice for one sink: derived from incident, occasion and sink, and used as idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NoticeId(pub SmolStr);

/// Why people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The incident began.
    Opened,
    /// It was over and began again within the grace period.
    Reopened,
    /// Further alerts joined it, or its severity rose.
    Worsened,
    /// It still lasts and nobody took it.
    Reminded,
    /// Nobody took it for as long as an escalation allows.
    Escalated,
    /// A person took it.
    Acknowledged,
    /// All of its alerts are resolved.
    Resolved,
    /// The freeze of its agent was asked for, took effect, failed or ended.
    Freeze,
    /// A summary whose hour has come.
    Digest,
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
    /// The team of that agent, if it has one.
    #[serde(default)]
    pub team: Option<SmolStr>,
    /// The labels of the subject.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// The escalations that the incident has gone through, by name, the latest last.
    #[serde(default)]
    pub escalations: Vec<SmolStr>,
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
    /// True if an earlier attempt may have arrived: this one may be its repetition.
    #[serde(default)]
    pub may_repeat: bool,
    /// For gates only: what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<GateOrder>>,
    /// For digests only: what they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

/// What a digest says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Its sections, in reading order.
    pub sections: Vec<Section>,
}

/// A title and what stands below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    /// The title, ours.
    pub title: String,
    /// One fact each.
    pub lines: Vec<String>,
}

impl Notice {
    /// True if there is nothing to be taken: a digest, or the end of a freeze while nothing is open any more. Whoever keeps
    /// incidents of his own must not open one for it.
    pub fn opens_nothing(&self) -> bool {
        match self.occasion {
            Occasion::Digest => true,
            Occasion::Freeze => self.alerts.iter().all(|alert| alert.state == AlertState::Resolved),
            _ => false,
        }
    }

    /// What matchers ask about it.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::new(&self.subject, self.team.as_ref(), &self.labels).with(&self.alerts);
        facts.severity = self.severity;
        facts
    }
}

impl Occasion {
    /// The name in the store and in programs' answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::Worsened => "worsened",
            Self::Reminded => "reminded",
            Self::Escalated => "escalated",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Freeze => "freeze",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}
