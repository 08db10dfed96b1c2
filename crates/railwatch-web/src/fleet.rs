//! The fleet at a glance: four signals, the rails, and the alerts that nobody took.

use railwatch_model::{
    Alert, AlertId, AlertState, Severity, SmolStr, Subject, Timestamp, Trigger, Usd, Verdict,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::board::Table;
use crate::rails::RailNow;
use crate::row::{AgentBrief, Gauge, Row};

/// Agents that a lane names.
const LANE_MAX: usize = 4;
/// Alerts that the summary names.
const ALERTS_MAX: usize = 50;

/// How the agents stand with one signal.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Lane {
    /// The signal: `velocity`, `rail_shift`, `budget` or `score`.
    signal: &'static str,
    /// Agents of which too little is known.
    learning: usize,
    /// Agents below the thresholds.
    usual: usize,
    /// Agents between the thresholds.
    raised: usize,
    /// Agents above.
    firing: usize,
    /// The agents that stand out most.
    top: Vec<LaneAgent>,
}

/// An agent that stands out.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LaneAgent {
    /// The agent.
    agent: SmolStr,
    /// Where it stands.
    state: Verdict,
    /// What is seen now: dollars per hour, a share, percent per day, or the score.
    value: f32,
    /// What is usual, in the same unit.
    usual: f32,
    /// The rail, or the days until the budget is empty.
    about: Option<SmolStr>,
}

/// The fleet.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Fleet {
    /// The journal's time.
    pub(crate) now: Timestamp,
    /// Agents that are known.
    pub(crate) agents: usize,
    /// Agents that paid in the last 15 minutes.
    pub(crate) active: usize,
    /// Payments since railwatch was started.
    pub(crate) payments: u64,
    /// Dollars per hour over the last 15 minutes, all rails together.
    pub(crate) usd_per_hour: f64,
    /// Dollars in the last 24 hours.
    pub(crate) usd_day: Usd,
    /// The rails.
    pub(crate) rails: Vec<RailNow>,
    /// The four signals.
    pub(crate) lanes: Vec<Lane>,
    /// Open alerts.
    pub(crate) alerts_open: usize,
    /// Those that nobody took.
    pub(crate) alerts_untaken: usize,
    /// The most urgent ones.
    pub(crate) alerts: Vec<AlertBrief>,
}

/// An alert in a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct AlertBrief {
    /// The episode.
    pub(crate) id: AlertId,
    /// Whom it is about, by key: `agent:a1`.
    pub(crate) subject: SmolStr,
    /// The same as people say it.
    pub(crate) name: String,
    /// What opened it.
    pub(crate) trigger: String,
    /// Where it is in its life.
    pub(crate) state: AlertState,
    /// How much to hurry.
    pub(crate) severity: Severity,
    /// What happened, in one sentence.
    pub(crate) summary: String,
    /// Dollars since the onset.
    pub(crate) spent_since_onset: Usd,
    /// When the trigger began to fire.
    pub(crate) onset_at: Timestamp,
    /// When the alert opened.
    pub(crate) opened_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
    /// Who took it.
    pub(crate) acknowledged_by: Option<SmolStr>,
    /// The silence that hides it.
    pub(crate) silenced_by: Option<SmolStr>,
}

impl AlertBrief {
    pub(crate) fn new(alert: &Alert) -> Self {
        Self {
            id: alert.id.clone(),
            subject: alert.subject.key(),
            name: alert.subject.to_string(),
            trigger: match &alert.trigger {
                Trigger::Signal(kind) => kind.to_string(),
                Trigger::Rule(id) => format!("rule {id}"),
            },
            state: alert.state,
            severity: alert.severity,
            summary: alert.summary.clone(),
            spent_since_onset: alert.spent_since_onset,
            onset_at: alert.onset_at,
            opened_at: alert.opened_at,
            updated_at: alert.updated_at,
            acknowledged_by: alert.acknowledged_by.clone(),
            silenced_by: alert.silenced_by.clone(),
        }
    }
}

/// Collects one lane in a pass over the agents.
struct Collector<'a> {
    lane: Lane,
    top: Vec<(f32, &'a Row, Gauge, Option<SmolStr>)>,
}

impl<'a> Collector<'a> {
    fn new(signal: &'static str) -> Self {
        let lane = Lane { signal, learning: 0, usual: 0, raised: 0, firing: 0, top: Vec::new() };
        Self { lane, top: Vec::with_capacity(LANE_MAX + 1) }
    }

    /// `rank` orders agents of one state; a worse state comes first.
    fn see(&mut self, row: &'a Row, gauge: Gauge, rank: f32, about: impl FnOnce() -> Option<SmolStr>) {
        let state = match gauge.state {
            Verdict::Learning => &mut self.lane.learning,
            Verdict::Usual => &mut self.lane.usual,
            Verdict::Raised => &mut self.lane.raised,
            Verdict::Firing => &mut self.lane.firing,
        };
        *state += 1;
        let rank = rank.clamp(0.0, 1e6) + 1e7 * f32::from(gauge.state as u8);
        if rank <= 0.0 || self.top.len() == LANE_MAX && self.top.last().is_some_and(|last| last.0 >= rank) {
            return;
        }
        let at = self.top.partition_point(|other| other.0 >= rank);
        self.top.insert(at, (rank, row, gauge, about()));
        self.top.truncate(LANE_MAX);
    }

    fn finish(mut self) -> Lane {
        let agent = |(_, row, gauge, about): (f32, &Row, Gauge, Option<SmolStr>)| LaneAgent {
            agent: row.agent.clone(),
            state: gauge.state,
            value: gauge.value,
            usual: gauge.usual,
            about,
        };
        self.lane.top = self.top.into_iter().map(agent).collect();
        self.lane
    }
}

/// The fleet as it is now; one pass over the agents.
pub(crate) fn summary(table: &Table, review_above: f32) -> Fleet {
    let mut lanes = ["velocity", "rail_shift", "budget", "score"].map(Collector::new);
    let mut active = 0;
    for (_, row) in table.rows() {
        active += usize::from(table.now.since(row.last_at).as_secs() <= 900);
        let [velocity, rail, budget, score] = &mut lanes;
        let gauge = row.velocity_at(table.now);
        velocity.see(row, gauge, gauge.ratio(), || None);
        rail.see(row, row.rail, 100.0 * (row.rail.value - row.rail.usual), || row.rail_name.clone());
        if let Some(tightest) = row.budget {
            budget.see(row, tightest.gauge, 1000.0 - tightest.margin(), || {
                Some(SmolStr::new(format!("{:.1}", tightest.days_until_empty)))
            });
        }
        score.see(row, score_gauge(row, review_above), row.score, || None);
    }
    let rails = table.rails.now();
    let mut alerts: Vec<&Alert> = table.alerts.values().collect();
    alerts.sort_by_key(|alert| {
        let taken = !is_untaken(alert);
        (taken, std::cmp::Reverse(alert.severity), std::cmp::Reverse(alert.opened_at))
    });
    Fleet {
        now: table.now,
        agents: table.len(),
        active,
        payments: table.payments,
        usd_per_hour: rails.iter().map(|rail| rail.usd_per_hour).sum(),
        usd_day: rails.iter().fold(Usd::ZERO, |sum, rail| sum.plus(rail.usd_day)),
        rails,
        lanes: lanes.map(Collector::finish).into(),
        alerts_open: alerts.len(),
        alerts_untaken: alerts.iter().filter(|alert| is_untaken(alert)).count(),
        alerts: alerts.into_iter().take(ALERTS_MAX).map(AlertBrief::new).collect(),
    }
}

/// True if nobody took it and no silence hides it.
fn is_untaken(alert: &Alert) -> bool {
    alert.state == AlertState::Firing && alert.silenced_by.is_none()
}

/// The score as a gauge against the threshold above which a person reviews.
fn score_gauge(row: &Row, review_above: f32) -> Gauge {
    let state = match row.score {
        score if score > review_above => Verdict::Firing,
        score if score > 0.7 * review_above => Verdict::Raised,
        _ if row.velocity.state == Verdict::Learning => Verdict::Learning,
        _ => Verdict::Usual,
    };
    Gauge { state, value: row.score, usual: review_above, probability: row.score }
}

/// The open alerts of one agent, the most urgent first.
pub(crate) fn alerts_of<'a>(table: &'a Table, agent: &'a str) -> impl Iterator<Item = &'a Alert> {
    let of = move |alert: &&Alert| matches!(&alert.subject, Subject::Agent(found) if found.as_str() == agent);
    table.alerts.values().filter(of)
}

/// The agents that need a look.
pub(crate) fn top(table: &Table, n: u32) -> Vec<AgentBrief> {
    crate::list::AgentQuery { limit: Some(n), ..crate::list::AgentQuery::default() }.page(table).items
}
