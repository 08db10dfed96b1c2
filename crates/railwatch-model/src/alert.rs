//! Alerts: episodes with a life. A signal or a rule opens one, people acknowledge it, quiet resolves it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::{AgentId, Label, Signal, SignalKind, Timestamp, Usd};

/// Whom or what an alert, a budget or a signal is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One agent.
    Agent(AgentId),
    /// All agents of a team.
    Team(SmolStr),
    /// Every agent that this engine sees.
    Fleet,
    /// A source that may have gone blind.
    Source(SmolStr),
    /// railwatch itself: a failed reload, a quarantined script, a full disk.
    Railwatch,
}

impl Subject {
    /// The stable text form, used as key in the store and in URLs: `agent:a1`, `team:growth`, `fleet`.
    pub fn key(&self) -> SmolStr {
        match self {
            Self::Agent(agent) => format_smolstr!("agent:{agent}"),
            Self::Team(team) => format_smolstr!("team:{team}"),
            Self::Fleet => SmolStr::new_static("fleet"),
            Self::Source(source) => format_smolstr!("source:{source}"),
            Self::Railwatch => SmolStr::new_static("railwatch"),
        }
    }

    /// The agent, if it is one.
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::Team(_) | Self::Fleet | Self::Source(_) | Self::Railwatch => None,
        }
    }
}

impl fmt::Display for Subject {
    /// The name as people say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "{agent}"),
            Self::Team(team) => write!(f, "team {team}"),
            Self::Fleet => write!(f, "the fleet"),
            Self::Source(source) => write!(f, "source {source}"),
            Self::Railwatch => write!(f, "railwatch"),
        }
    }
}

/// What opened an alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A detector's signal fired.
    Signal(SignalKind),
    /// A rule (by its id) fired.
    Rule(SmolStr),
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(kind) => write!(f, "{kind}"),
            Self::Rule(id) => write!(f, "rule:{id}"),
        }
    }
}

/// How much a person should hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing tomorrow.
    Info,
    /// Worth a look today.
    Low,
    /// Worth a look within the hour.
    Medium,
    /// Worth a look now.
    High,
    /// Wake someone.
    Critical,
}

impl Severity {
    /// The severities, lowest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name used in configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Names one episode: derived from subject, trigger and the journal position that opened it, so that a replay gives
/// the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AlertId(pub SmolStr);

/// Names the group of alerts that one subject has open at one time; people are told about incidents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct IncidentId(pub SmolStr);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The trigger fired and must keep firing for its hold time before anyone is told.
    Pending,
    /// People are told.
    Firing,
    /// A person took it.
    Acknowledged,
    /// The trigger was quiet for long enough, or a person closed it.
    Resolved,
}

/// One part of a score. The parts of a score add up to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contribution {
    /// The signal or the formula's own term.
    pub name: SmolStr,
    /// What it added.
    pub points: f64,
}

/// One episode, with the evidence that opened it and the latest that kept it open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// The episode.
    pub id: AlertId,
    /// The group of alerts it is told with.
    pub incident: IncidentId,
    /// Whom it is about.
    pub subject: Subject,
    /// The team of that agent when it opened.
    #[serde(default)]
    pub team: Option<SmolStr>,
    /// The labels of the subject when it opened.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// What opened it.
    pub trigger: Trigger,
    /// Where it is in its life.
    pub state: AlertState,
    /// How much to hurry; it may rise during the episode and never falls.
    pub severity: Severity,
    /// One sentence: what happened, compared with what, since when, how much is at stake.
    pub summary: String,
    /// The signal as it stood when the alert last changed; `None` for rules.
    pub signal: Option<Signal>,
    /// The anomaly score at that time.
    pub score: f64,
    /// The parts of that score.
    pub contributions: Vec<Contribution>,
    /// Dollars that the subject spent since the onset.
    pub spent_since_onset: Usd,
    /// The payments that matter most, as `rail/id`, largest first; at most ten.
    pub payments: Vec<SmolStr>,
    /// How often its trigger began to fire: 1 when it opened, and once more for each time it fired again after quiet.
    #[serde(default = "once")]
    pub times_seen: u32,
    /// What keeps it from people, if anything does: a silence, a mute window, another alert.
    #[serde(default)]
    pub silenced_by: Option<SmolStr>,
    /// When the trigger began to fire, in event time.
    pub onset_at: Timestamp,
    /// When the alert opened: the arrival time of the payment or tick that opened it.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// Who acknowledged it.
    pub acknowledged_by: Option<SmolStr>,
    /// What people wrote.
    pub note: Option<SmolStr>,
    /// How the freeze of its agent stands, if somebody or a policy asked for one.
    #[serde(default)]
    pub freeze: Option<SmolStr>,
    /// The config generation in force when it opened.
    pub generation: u64,
    /// The journal position that opened it.
    pub opened_seq: u64,
}

fn once() -> u32 {
    1
}
