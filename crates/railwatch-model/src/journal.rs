//! Journal records: everything that ever changed the engine, in the order in which it did.
//!
//! Invariant: the engine's state is a function of the journal and of the configuration generations that it names.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{
    AgentId, AlertId, Condition, Freeze, FreezeId, IncidentId, NoticeId, Payment, SignalKind, Silence,
    SilenceId, Subject, TaskReport, Timestamp,
};

/// The position of a batch in the journal; the first is 1.
pub type Seq = u64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Payments were admitted: identified, deduplicated, valued.
    Payments {
        /// The time of admission.
        now: Timestamp,
        /// The payments, in admission order.
        payments: Vec<Admitted>,
    },
    /// Time passed.
    Tick {
        /// The time.
        now: Timestamp,
    },
    /// A configuration generation took effect.
    Generation {
        /// The time.
        now: Timestamp,
        /// The generation's number.
        number: u64,
        /// The hash of its content.
        digest: SmolStr,
    },
    /// A person, or a policy in a person's name, did something.
    Action {
        /// The time.
        now: Timestamp,
        /// Who did it.
        by: SmolStr,
        /// What was done.
        action: Action,
    },
    /// Agents finished tasks.
    Tasks {
        /// The time of admission.
        now: Timestamp,
        /// The agent of each report, and the report.
        tasks: Vec<(AgentId, TaskReport)>,
    },
    /// Something about railwatch itself or one of its sources began to hold, changed, or is over.
    Condition {
        /// The time.
        now: Timestamp,
        /// What it is.
        condition: Condition,
    },
}

/// A payment that the engine accepted, and as what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// The payment, with its agent and valuation.
    pub payment: Payment,
    /// What it is to the engine.
    pub disposition: Disposition,
}

/// What a report is, given everything admitted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The first report of this step: its money counts.
    First,
    /// A further status of a step that was counted (`seen` → `confirmed`): no money.
    Confirms,
    /// It takes back a step that was counted.
    Retracts,
    /// Another view of a purchase that was counted, by another source or by the same one under further names: no money,
    /// but its payee, resource, task, fee and settlement references are news.
    Enriches,
}

/// What people can do to the engine's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Take an incident.
    Acknowledge {
        /// The incident.
        incident: IncidentId,
        /// What to remember.
        note: Option<SmolStr>,
    },
    /// Close an incident by hand.
    Resolve {
        /// The incident.
        incident: IncidentId,
        /// What to remember.
        note: Option<SmolStr>,
    },
    /// Say what an alert was.
    Label {
        /// The alert.
        alert: AlertId,
        /// The verdict.
        verdict: ReviewVerdict,
        /// What to remember.
        note: Option<SmolStr>,
    },
    /// Announce a planned change, so that it is not mistaken for an incident.
    Announce {
        /// Whom it is about.
        subject: Subject,
        /// From.
        from: Timestamp,
        /// Until.
        until: Timestamp,
        /// The kinds that are silent; empty means all but budget.
        kinds: Vec<SignalKind>,
        /// The rails that it is about; empty means all.
        rails: Vec<SmolStr>,
        /// Why.
        reason: SmolStr,
    },
    /// Keep matching alerts from people for a while.
    Silence(Silence),
    /// End a silence before its time.
    Unsilence {
        /// The silence.
        silence: SilenceId,
    },
    /// Keep an agent from paying for a while, or agree with somebody who asked for that.
    Freeze(Box<Freeze>),
    /// Let an agent pay again before the freeze ends by itself.
    Unfreeze {
        /// The freeze.
        freeze: FreezeId,
    },
    /// A gate answered, or was given up.
    GateSaid {
        /// The freeze.
        freeze: FreezeId,
        /// The notice that asked it.
        notice: NoticeId,
        /// The gate.
        gate: SmolStr,
        /// True if the gate did it.
        done: bool,
        /// Its receipt, or why it failed.
        detail: SmolStr,
    },
}

/// A reviewer's word on an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewVerdict {
    /// Something was wrong.
    TruePositive,
    /// Nothing was wrong.
    FalsePositive,
    /// Unusual and intended: the baseline should learn it.
    Expected,
}

impl ReviewVerdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::TruePositive, Self::FalsePositive, Self::Expected];

    /// The name in the store and in programs' answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TruePositive => "true_positive",
            Self::FalsePositive => "false_positive",
            Self::Expected => "expected",
        }
    }

    /// The verdict with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}
