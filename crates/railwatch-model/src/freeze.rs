//! Freezes: an agent is kept from paying for a while, by the customer's own gates, because a person or a policy says so.
//!
//! railwatch never sits in the path of a payment. A freeze is a request to those that do, it always ends by itself, and
//! what each gate said is kept with it.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{AgentId, AlertId, Identity, IncidentId, NoticeId, Timestamp};

/// Names one freeze.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FreezeId(pub SmolStr);

impl fmt::Display for FreezeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a freeze is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreezeStage {
    /// It waits for people who agree; no gate was asked.
    Requested,
    /// Gates were asked to let nothing of the agent pass.
    Frozen,
    /// It is over, or came to nothing.
    Lifted,
}

/// One agent's freeze.
//
// Nothing is skipped when it is written: the journal's format has no names to tell what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Freeze {
    /// Its name.
    pub id: FreezeId,
    /// Who is frozen.
    pub agent: AgentId,
    /// On these rails; on all of them if none is named.
    pub rails: Vec<SmolStr>,
    /// Why, in the words of whoever asked.
    pub reason: SmolStr,
    /// Who asked: a person, or `policy NAME`.
    pub by: SmolStr,
    /// The alert that made them ask.
    pub alert: Option<AlertId>,
    /// Its incident.
    pub incident: Option<IncidentId>,
    /// How many people must agree before gates are asked. A person who asks has agreed.
    pub approvals: u8,
    /// Who agreed.
    pub approved_by: Vec<SmolStr>,
    /// Where it is.
    pub stage: FreezeStage,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How long it lasts once it is in force, in seconds.
    pub lasts_secs: u32,
    /// When it ends by itself; while it waits for people, when the request lapses.
    pub until: Timestamp,
    /// Who ended it: a person, or `expiry`.
    pub lifted_by: Option<SmolStr>,
    /// When it ended.
    pub lifted_at: Option<Timestamp>,
    /// What each gate was asked last, and what came of it.
    pub gates: Vec<GateWord>,
}

/// How long a request waits for people who agree.
const REQUEST_WAITS: Duration = Duration::from_secs(3600);

impl Freeze {
    /// A request at `at`, about all rails and no alert, that one person's word puts in force for no time at all: set
    /// what differs.
    pub fn request(id: FreezeId, agent: AgentId, by: SmolStr, reason: SmolStr, at: Timestamp) -> Self {
        Self {
            id,
            agent,
            rails: Vec::new(),
            reason,
            by,
            alert: None,
            incident: None,
            approvals: 1,
            approved_by: Vec::new(),
            stage: FreezeStage::Requested,
            asked_at: at,
            lasts_secs: 0,
            until: at.after(REQUEST_WAITS),
            lifted_by: None,
            lifted_at: None,
            gates: Vec::new(),
        }
    }
}

/// What one gate was asked last, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateWord {
    /// The sink.
    pub gate: SmolStr,
    /// The notice that asks it.
    #[schemars(with = "String")]
    pub notice: NoticeId,
    /// True if it is a rehearsal: the gate is not really asked.
    pub dry_run: bool,
    /// What came of it.
    pub outcome: GateOutcome,
    /// The gate's receipt, or why it failed.
    pub detail: SmolStr,
}

/// What came of asking a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    /// It is on its way.
    Waiting,
    /// The gate did it.
    Done,
    /// The gate refused, or did not answer for too long; `railwatch outbox retry` asks again.
    Failed,
}

/// What a gate is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateVerb {
    /// Let nothing of the agent pass.
    Freeze,
    /// Let it pass again.
    Unfreeze,
}

impl GateVerb {
    /// The event's name in requests: `agent.freeze`, `agent.unfreeze`.
    pub fn event(self) -> &'static str {
        match self {
            Self::Freeze => "agent.freeze",
            Self::Unfreeze => "agent.unfreeze",
        }
    }
}

/// A request to one gate, complete in itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateOrder {
    /// What to do.
    pub verb: GateVerb,
    /// The freeze.
    pub freeze: Freeze,
    /// The rail identities that the configuration gives the agent.
    pub identities: Vec<Identity>,
}

impl Freeze {
    /// True until it is over.
    pub fn is_open(&self) -> bool {
        self.stage != FreezeStage::Lifted
    }

    /// `every rail`, or the rails.
    pub fn scope(&self) -> String {
        if self.rails.is_empty() { "every rail".to_owned() } else { self.rails.join(", ") }
    }
}

impl fmt::Display for Freeze {
    /// How it stands, in one line: `frozen by dana on every rail until 2026-11-23T03:00:00Z; gate: done`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            FreezeStage::Requested => {
                let agreed = self.approved_by.len();
                write!(f, "freeze asked for by {}; {agreed} of {} people agreed", self.by, self.approvals)?;
            }
            FreezeStage::Frozen => {
                write!(f, "frozen by {} on {} until {}", self.by, self.scope(), self.until)?;
            }
            FreezeStage::Lifted => {
                write!(f, "freeze ended by {}", self.lifted_by.as_deref().unwrap_or("nobody"))?;
            }
        }
        for word in &self.gates {
            let outcome = match (word.outcome, word.dry_run) {
                (GateOutcome::Waiting, _) => "asked",
                (GateOutcome::Done, false) => "done",
                (GateOutcome::Done, true) => "dry run",
                (GateOutcome::Failed, _) => "FAILED",
            };
            write!(f, "; {}: {outcome}", word.gate)?;
        }
        Ok(())
    }
}
