//! What applying records causes outside the engine. The host stores effects; a replay causes the same ones.

use railwatch_model::{Alert, Notice, SmolStr, Subject, Timestamp, Trigger};

/// Effects, in the order in which they were caused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effects {
    /// Alerts as they stand after a change; a later one replaces an earlier one of the same id.
    pub alerts: Vec<Alert>,
    /// What people must be told. The host routes each to sinks.
    pub notices: Vec<Notice>,
    /// What gates must be told, each with the gate.
    pub orders: Vec<(SmolStr, Notice)>,
    /// Shadow rules that would have fired.
    pub shadow: Vec<ShadowFiring>,
}

impl Effects {
    /// True if nothing happened.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.notices.is_empty() && self.orders.is_empty() && self.shadow.is_empty()
    }
}

/// A shadow rule that would have fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowFiring {
    /// The rule.
    pub rule: Trigger,
    /// Whom it was about.
    pub subject: Subject,
    /// When.
    pub at: Timestamp,
    /// What it would have said.
    pub why: String,
}
