//! Conditions: facts about railwatch itself and its sources that people must know while they hold. A condition that
//! holds is an alert like any other; the host reports them, the engine lives them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Severity, SignalKind, Subject, Trigger};

/// One report about a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Whom it is about: a source, or railwatch.
    pub subject: Subject,
    /// What it is.
    pub kind: ConditionKind,
    /// Which of several, such as the name of a script or a sink; empty if there is only one.
    pub about: SmolStr,
    /// How it stands; `None` when it is over.
    pub holding: Option<Holding>,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// How much to hurry.
    pub severity: Severity,
    /// One sentence: what happened, and what to do.
    pub summary: SmolStr,
}

/// What can be wrong with railwatch or a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// A source does not see its rail.
    RailBlind,
    /// A changed configuration could not take effect; the last good one is in force.
    ReloadFailed,
    /// A script was taken out because it failed again and again.
    ScriptQuarantined,
    /// A sink does not take notices.
    SinkFailing,
    /// The store's disk is nearly full, or the store cannot be written.
    StoreNearFull,
}

impl ConditionKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::RailBlind,
        Self::ReloadFailed,
        Self::ScriptQuarantined,
        Self::SinkFailing,
        Self::StoreNearFull,
    ];

    /// The name that routes and silences match as `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RailBlind => "rail_blind",
            Self::ReloadFailed => "reload_failed",
            Self::ScriptQuarantined => "script_quarantined",
            Self::SinkFailing => "sink_failing",
            Self::StoreNearFull => "store_near_full",
        }
    }

    /// The trigger of its alerts.
    pub fn trigger(self) -> Trigger {
        Trigger::Signal(SignalKind::Custom(SmolStr::new_static(self.as_str())))
    }

    /// How long it must be over before its alert resolves: what comes and goes is one alert.
    pub fn clear_after(self) -> Duration {
        match self {
            Self::RailBlind | Self::SinkFailing | Self::StoreNearFull => Duration::from_secs(60),
            Self::ReloadFailed | Self::ScriptQuarantined => Duration::ZERO,
        }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
