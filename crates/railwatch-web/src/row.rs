//! One agent in the published view: what every list, lane and verdict is made of.

use railwatch_model::{Severity, Signal, SignalKind, SmolStr, Timestamp, Usd, Verdict};
use schemars::JsonSchema;
use serde::Serialize;

/// Quarters of an hour that an agent's spark shows.
pub(crate) const SPARK_LEN: usize = 24;

/// A number for people: seven digits are enough, and memory is not.
#[expect(clippy::cast_possible_truncation, reason = "what is lost is beyond the seventh digit")]
pub(crate) fn short(value: f64) -> f32 {
    if value.is_finite() { value as f32 } else { 0.0 }
}

/// A signal of the fleet's four, as numbers that fit a list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Gauge {
    /// Where it stands with its thresholds.
    pub state: Verdict,
    /// What is seen now.
    pub value: f32,
    /// What is usual, in the same unit.
    pub usual: f32,
    /// The probability that this is a real incident.
    pub probability: f32,
}

impl Gauge {
    const NONE: Self = Self { state: Verdict::Learning, value: 0.0, usual: 0.0, probability: 0.0 };

    fn of(signal: &Signal) -> Self {
        Self {
            state: signal.verdict,
            value: short(signal.value),
            usual: short(signal.usual),
            probability: short(signal.probability),
        }
    }

    /// How many times the usual; at most a million.
    pub(crate) fn ratio(&self) -> f32 {
        if self.value <= 0.0 { 0.0 } else { (self.value / self.usual.max(1e-6)).min(1e6) }
    }
}

/// An agent as the engine last published it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The agent.
    pub agent: SmolStr,
    /// Its team.
    pub team: Option<SmolStr>,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid.
    pub last_at: Timestamp,
    /// Committed spend since it is known.
    pub spent: Usd,
    /// Purchases since it is known.
    pub purchases: i64,
    /// The anomaly score.
    pub(crate) score: f32,
    /// Dollars per hour.
    pub velocity: Gauge,
    /// The seconds that the velocity covers.
    pub window_secs: u32,
    /// The share of the rail that stands out.
    pub rail: Gauge,
    /// That rail.
    pub rail_name: Option<SmolStr>,
    /// Percent of the budget per day; `None` without a budget.
    pub budget: Option<Budget>,
    /// Signals besides these that fire.
    pub others: u8,
    /// Open alerts.
    pub alerts: u8,
    /// Their highest severity.
    pub severity: Option<Severity>,
}

/// The tightest budget of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Budget {
    /// Percent of the budget per day.
    #[serde(flatten)]
    pub gauge: Gauge,
    /// Percent of the budget that is used.
    pub percent_used: f32,
    /// Days until it is empty at this pace.
    pub days_until_empty: f32,
    /// Days until the period ends.
    pub days_left: f32,
}

impl Row {
    /// A row from what the engine publishes about an agent: its score, and what its detectors think.
    pub fn new(agent: SmolStr, score: f64, signals: &[Signal]) -> Self {
        let mut row = Self {
            agent,
            team: None,
            first_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            spent: Usd::ZERO,
            purchases: 0,
            score: short(score),
            velocity: Gauge::NONE,
            window_secs: 900,
            rail: Gauge::NONE,
            rail_name: None,
            budget: None,
            others: 0,
            alerts: 0,
            severity: None,
        };
        for signal in signals {
            row.take(signal);
        }
        row
    }

    fn take(&mut self, signal: &Signal) {
        match signal.kind {
            SignalKind::Velocity => {
                self.velocity = Gauge::of(signal);
                self.window_secs = signal.basis.window_secs;
            }
            SignalKind::RailShift => {
                self.rail = Gauge::of(signal);
                self.rail_name.clone_from(&signal.about);
            }
            SignalKind::Budget => {
                let fact = |name| short(signal.fact(name).unwrap_or_default().clamp(0.0, 1e6));
                let budget = Budget {
                    gauge: Gauge::of(signal),
                    percent_used: fact("percent_used"),
                    days_until_empty: fact("days_until_empty"),
                    days_left: fact("days_left"),
                };
                if self.budget.is_none_or(|other| budget.margin() < other.margin()) {
                    self.budget = Some(budget);
                }
            }
            _ => self.others += u8::from(signal.verdict == Verdict::Firing),
        }
    }

    /// The velocity at `now`: nothing once the window behind the last payment has passed.
    pub(crate) fn velocity_at(&self, now: Timestamp) -> Gauge {
        let is_over = now.since(self.last_at).as_secs() > u64::from(self.window_secs);
        if is_over { Gauge { value: 0.0, ..self.velocity } } else { self.velocity }
    }

    /// How much a person should look at it; larger is more. Severity comes first, then the score.
    pub(crate) fn attention(&self) -> f64 {
        let severity = self.severity.map_or(0, |severity| severity as u8 + 1);
        f64::from(severity) * 10.0 + f64::from(self.score)
    }
}

impl Budget {
    /// Days between the end of the period and the end of the money; negative if the money ends first.
    pub(crate) fn margin(&self) -> f32 {
        self.days_until_empty - self.days_left
    }
}

/// What a gate may do with an agent's next payment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Nothing speaks against it.
    Ok,
    /// Something is unusual: an alert is open, or a signal fires.
    Warn,
    /// A critical alert is open, or a budget is used up: hold payments until a person has looked.
    Freeze,
}

impl Row {
    /// The advice for this agent.
    pub(crate) fn advice(&self) -> Advice {
        let used_up = self.budget.is_some_and(|budget| budget.percent_used >= 100.0);
        if used_up || self.severity == Some(Severity::Critical) {
            return Advice::Freeze;
        }
        let gauges = [Some(self.velocity), Some(self.rail), self.budget.map(|budget| budget.gauge)];
        let fires = gauges.into_iter().flatten().any(|gauge| gauge.state == Verdict::Firing);
        if self.alerts > 0 || fires || self.others > 0 { Advice::Warn } else { Advice::Ok }
    }
}

/// An agent in a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentBrief {
    /// The agent.
    pub agent: SmolStr,
    /// Its team.
    pub team: Option<SmolStr>,
    /// What a gate may do with its next payment.
    pub verdict: Advice,
    /// The anomaly score, between 0 and 1.
    pub score: f32,
    /// Dollars per hour against the learned baseline.
    pub velocity: Gauge,
    /// The share of the rail that stands out against its history.
    pub rail: Gauge,
    /// That rail.
    pub rail_name: Option<SmolStr>,
    /// The tightest budget.
    pub budget: Option<Budget>,
    /// Committed spend since it is known, in dollars.
    pub spent_usd: Usd,
    /// Purchases since it is known.
    pub purchases: i64,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid.
    pub last_at: Timestamp,
    /// Open alerts.
    pub alerts: u8,
    /// Their highest severity.
    pub severity: Option<Severity>,
    /// Dollars in each of the last 24 quarters of an hour, oldest first, since railwatch was started.
    pub spark: Vec<f32>,
}

impl AgentBrief {
    pub(crate) fn new(row: &Row, spark: Vec<f32>, now: Timestamp) -> Self {
        Self {
            agent: row.agent.clone(),
            team: row.team.clone(),
            verdict: row.advice(),
            score: row.score,
            velocity: row.velocity_at(now),
            rail: row.rail,
            rail_name: row.rail_name.clone(),
            budget: row.budget,
            spent_usd: row.spent,
            purchases: row.purchases,
            first_at: row.first_at,
            last_at: row.last_at,
            alerts: row.alerts,
            severity: row.severity,
            spark,
        }
    }
}
