//! Signals: a detector's opinion of one subject at one moment, with the numbers that it compared.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::Timestamp;

/// What a signal is about. The first four are the face of the product; the others are named evidence.
///
/// It is written as its name everywhere, so that a custom kind needs no declaration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "SmolStr", into = "SmolStr")]
#[schemars(with = "String")]
pub enum SignalKind {
    /// Dollars per hour over the window against the learned baseline.
    Velocity,
    /// One rail's share against its history.
    RailShift,
    /// Budget use against what is left of the period.
    Budget,
    /// The combined anomaly score passed the review threshold.
    Review,
    /// Spend rises slowly over days.
    Drift,
    /// Money goes to a payee that this agent never paid.
    NewPayee,
    /// Money goes over a rail that this agent never used.
    NewRail,
    /// The same purchase is paid again and again.
    Duplicate,
    /// One payee charges far more than before.
    Price,
    /// An agent that was quiet for long spends again.
    Dormant,
    /// A detector that is not part of railwatch; the name is its own.
    Custom(SmolStr),
}

impl SignalKind {
    /// The name used in configuration, metrics, Lua and alerts.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Velocity => "velocity",
            Self::RailShift => "rail_shift",
            Self::Budget => "budget",
            Self::Review => "review",
            Self::Drift => "drift",
            Self::NewPayee => "new_payee",
            Self::NewRail => "new_rail",
            Self::Duplicate => "duplicate",
            Self::Price => "price",
            Self::Dormant => "dormant",
            Self::Custom(name) => name,
        }
    }

    /// The kind with this name; any other name is a custom one.
    pub fn from_name(name: &str) -> Self {
        match name {
            "velocity" => Self::Velocity,
            "rail_shift" => Self::RailShift,
            "budget" => Self::Budget,
            "review" => Self::Review,
            "drift" => Self::Drift,
            "new_payee" => Self::NewPayee,
            "new_rail" => Self::NewRail,
            "duplicate" => Self::Duplicate,
            "price" => Self::Price,
            "dormant" => Self::Dormant,
            other => Self::Custom(other.into()),
        }
    }
}

impl From<SmolStr> for SignalKind {
    fn from(name: SmolStr) -> Self {
        Self::from_name(&name)
    }
}

impl From<SignalKind> for SmolStr {
    fn from(kind: SignalKind) -> Self {
        match kind {
            SignalKind::Custom(name) => name,
            known => Self::new(known.as_str()),
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a signal's `value` and `usual` are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Dollars per hour.
    UsdPerHour,
    /// Dollars per day.
    UsdPerDay,
    /// Dollars.
    Usd,
    /// A share between 0 and 1.
    Share,
    /// Percent of a budget per day.
    PercentPerDay,
    /// A probability between 0 and 1.
    Probability,
    /// Payments.
    Payments,
    /// Days.
    Days,
}

/// Where a signal stands with its own thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not enough is known about the agent to say anything.
    Learning,
    /// Below the threshold at which an open alert may close.
    Usual,
    /// Between the thresholds: opens nothing, and keeps open what is open.
    Raised,
    /// Above the opening threshold, and material.
    Firing,
}

/// What `usual` was learned from.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Basis {
    /// The length of the window that `value` covers, in seconds.
    pub window_secs: u32,
    /// Hours of this agent's life that the baseline has seen.
    pub learned_hours: f32,
    /// Weeks in which this hour of the week was seen; 0 when the baseline is not seasonal.
    pub weeks: u8,
}

/// A detector's opinion. Every field is a number that was compared or says since when, so that an explanation is a
/// rendering of this struct and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// What it is about.
    pub kind: SignalKind,
    /// Where it stands.
    pub verdict: Verdict,
    /// What is seen now.
    pub value: f64,
    /// What is usual here and now, in the same unit.
    pub usual: f64,
    /// The unit of `value` and `usual`.
    pub unit: Unit,
    /// Evidence that this is not chance, in nats: chance alone reaches `w` about `exp(-w)` often.
    pub evidence: f64,
    /// The probability that this is a real incident, between 0 and 1.
    pub probability: f64,
    /// When the run of evidence began.
    pub since: Option<Timestamp>,
    /// Money at stake since then, in dollars: what was spent beyond the usual.
    pub excess: crate::Usd,
    /// The rail, payee, or budget that it is about, where there is one.
    pub about: Option<SmolStr>,
    /// What `usual` was learned from.
    pub basis: Basis,
    /// Further numbers by name, for explanations and scripts: `days_until_empty`, `jsd`, `share_of_top_payee`.
    pub facts: SmallVec<[(SmolStr, f64); 5]>,
}

impl Signal {
    /// A quiet signal of this kind.
    pub fn usual(kind: SignalKind, unit: Unit) -> Self {
        Self {
            kind,
            verdict: Verdict::Usual,
            value: 0.0,
            usual: 0.0,
            unit,
            evidence: 0.0,
            probability: 0.0,
            since: None,
            excess: crate::Usd::ZERO,
            about: None,
            basis: Basis::default(),
            facts: SmallVec::new(),
        }
    }

    /// `value / usual`, capped to a million, zero when nothing is spent.
    pub fn ratio(&self) -> f64 {
        if self.value <= 0.0 { 0.0 } else { (self.value / self.usual.max(1e-9)).min(1e6) }
    }

    /// The fact with this name.
    pub fn fact(&self, name: &str) -> Option<f64> {
        self.facts.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}
