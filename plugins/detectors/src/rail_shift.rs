//! Rail distribution: each rail's share of spend in the last hour against its history.
//!
//! The rule that people know ("above 0.80, historically below 0.30") is a special case of the evidence: every quarter
//! of an hour with payments is one vote, so that a session is not many; a vote's likelihood ratio compares "nearly all
//! over this rail" with the rail's learned share, and a CUSUM adds the votes up. The Jensen-Shannon distance between
//! the last hour and history is shown with it.

use railwatch_model::{Basis, Signal, SignalKind, SmolStr, Timestamp, Unit, Verdict};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, Fraction, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, Scope, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::amount::{at_stake, dollars};
use crate::evidence::{Peak, Thresholds, day_of, migrating, probability};

/// `[detectors.rail_shift]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "rail_shift",
    summary: "each rail's share of the last hour against its history",
    example: "[detectors.rail_shift]\nshare = 0.80\nhistory = 0.30\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

const QUARTER: i64 = 900_000_000;
/// Rails that are told apart; payments over further ones are counted with the least used.
const RAILS_MAX: usize = 8;
/// The share under the assumption that spend has moved to a rail.
const MOVED: f32 = 0.88;
/// What a vote keeps of its weight when the next one is cast.
const FORGET: f32 = 0.998;
/// Votes before which nothing is known.
const VOTES_MIN: f32 = 20.0;
/// Quarters without a vote for a rail after which its evidence is history: half a day.
const IDLE: i64 = 48;
/// What a vote for other rails leaves of the evidence, so that it does not outlive what it was about.
const RECOVERY: f32 = 0.85;
const NATS_MAX: f32 = 40.0;
/// Nats added so that this channel is exceeded by clean agents as often as the others.
const OFFSET: f32 = 3.5;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A rail is dominant when its share of the last hour is above this.
    pub share: Fraction,
    /// And that is a shift when its share in history is below this.
    pub history: Fraction,
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

impl Default for Config {
    fn default() -> Self {
        Self { share: Fraction(0.80), history: Fraction(0.30), evidence: Thresholds::default() }
    }
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    if config.history.0 >= config.share.0 {
        return Err(ConfigError::new("history", "the historical share is below `share`"));
    }
    Ok(column(RailShift { config }))
}

/// The detector.
#[derive(Debug)]
pub struct RailShift {
    config: Config,
}

/// What it knows of one rail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rail {
    name: SmolStr,
    /// Decaying sum of votes.
    votes: f32,
    /// Evidence that spend has moved here, before the offset.
    nats: f32,
    /// When the evidence began, in seconds.
    since: u32,
    /// The quarter that last voted for this rail.
    voted: i64,
    /// Dollars since then.
    spent: f32,
    /// Payments in the open quarter.
    open: f32,
    /// Dollars in the open quarter and the three before it.
    quarters: [f32; 4],
}

/// What it knows of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The open quarter of an hour since the epoch; zero before the first payment.
    quarter: i64,
    /// The usual daily peak of the evidence.
    peak: Peak,
    rails: SmallVec<[Rail; 2]>,
}

impl State {
    fn votes(&self) -> f32 {
        self.rails.iter().map(|rail| rail.votes).sum()
    }

    /// The historical share of a rail, smoothed.
    fn history(&self, rail: &Rail, votes: f32) -> f32 {
        (rail.votes + 0.4) / (votes + 1.2)
    }

    fn find_or_add(&mut self, name: &SmolStr) -> usize {
        if let Some(index) = self.rails.iter().position(|rail| rail.name == *name) {
            return index;
        }
        if self.rails.len() < RAILS_MAX {
            self.rails.push(Rail { name: name.clone(), ..Rail::default() });
            return self.rails.len() - 1;
        }
        let least = self.rails.iter().enumerate().min_by(|(_, a), (_, b)| a.votes.total_cmp(&b.votes));
        least.map_or(0, |(index, _)| index)
    }

    /// Rolls the dollars of the last hour on to `quarter`.
    fn open(&mut self, quarter: i64) {
        let passed = usize::try_from((quarter - self.quarter).clamp(0, 4)).unwrap_or(4);
        for rail in &mut self.rails {
            rail.quarters.copy_within(0..4 - passed, passed);
            rail.quarters[..passed].fill(0.0);
        }
        self.quarter = quarter;
    }

    /// Dollars of the last hour, by rail, as of `now`.
    fn last_hour(&self, now: Timestamp) -> impl Iterator<Item = (&Rail, f32)> {
        let passed = now.micros().div_euclid(QUARTER).saturating_sub(self.quarter).clamp(0, 4);
        let kept = 4 - usize::try_from(passed).unwrap_or(4);
        self.rails.iter().map(move |rail| (rail, rail.quarters[..kept].iter().sum::<f32>().max(0.0)))
    }
}

impl Detector for RailShift {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn scope(&self) -> Scope {
        Scope { agents: true, teams: false, fleet: true }
    }

    fn touch(&self, state: &State) -> u32 {
        state.rails.iter().fold(0, |all, rail| all ^ rail.votes.to_bits() ^ rail.quarters[0].to_bits())
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let usd = dollars(seen.booking.committed);
        let payments = seen.booking.purchases as f32;
        if usd == 0.0 && payments == 0.0 {
            return;
        }
        let quarter = seen.at.micros().div_euclid(QUARTER);
        if state.quarter == 0 {
            state.quarter = quarter;
        } else if quarter > state.quarter {
            vote(cx, state);
            state.open(quarter);
        }
        let index = state.find_or_add(&seen.payment.rail);
        let behind = usize::try_from(state.quarter - quarter).unwrap_or(usize::MAX);
        let rail = &mut state.rails[index];
        if let Some(sum) = rail.quarters.get_mut(behind) {
            *sum += usd;
        }
        rail.open = (rail.open + payments).max(0.0);
        rail.spent += usd;
    }

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut State) {}

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        state.rails.iter().all(|rail| rail.nats <= 0.0 || self.config.evidence.quiet(rail.nats + OFFSET))
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        if state.quarter != 0 {
            signals.push(self.signal(view, state));
        }
    }
}

/// Casts the votes of the open quarter.
fn vote(cx: &mut Context<'_, ()>, state: &mut State) {
    let payments: f32 = state.rails.iter().map(|rail| rail.open).sum();
    if payments <= 0.0 {
        return;
    }
    let votes = state.votes();
    let known = votes >= VOTES_MIN && (cx.usual.warm || cx.subject.agent().is_none());
    let mut hot = 0.0_f32;
    let shares: SmallVec<[f32; RAILS_MAX]> =
        state.rails.iter().map(|rail| state.history(rail, votes)).collect();
    for (rail, history) in state.rails.iter_mut().zip(shares) {
        let planned = || migrating(&cx.profile.announcements, cx.clock, &SignalKind::RailShift, &rail.name);
        if !known || history >= 0.5 || planned() {
            rail.nats = 0.0;
            continue;
        }
        let share = rail.open / payments;
        if share == 0.0 && rail.nats == 0.0 {
            continue;
        }
        let llr = share * (MOVED / history).ln() + (1.0 - share) * ((1.0 - MOVED) / (1.0 - history)).ln();
        if rail.nats == 0.0 {
            rail.since = u32::try_from(state.quarter * 900).unwrap_or(0);
            rail.spent = rail.quarters[0];
        }
        let kept = if share < 0.1 { rail.nats * RECOVERY } else { rail.nats };
        if share >= 0.1 {
            rail.voted = state.quarter;
        }
        rail.nats = (kept + 0.8 * llr.clamp(-2.0, 2.5)).clamp(0.0, NATS_MAX);
        hot = hot.max(rail.nats);
    }
    state.peak.see(if hot > 0.0 { hot + OFFSET } else { 0.0 }, day_of(cx.clock));
    cx.usual.report(cx.now, state.peak.beyond(hot + OFFSET));
    let weight = if hot > 8.4 { 0.15 } else { 1.0 };
    for rail in &mut state.rails {
        rail.votes = rail.votes * FORGET + weight * rail.open / payments;
        rail.open = 0.0;
    }
}

impl RailShift {
    fn signal(&self, view: &View<'_, ()>, state: &State) -> Signal {
        let votes = state.votes();
        let total: f32 = state.last_hour(view.now).map(|(_, usd)| usd).sum();
        let share = |usd: f32| if total > 0.0 { usd / total } else { 0.0 };
        // The rail with the most evidence; without any, the one that gained the largest share.
        let gain = |rail: &Rail, usd| share(usd) - state.history(rail, votes);
        let shown = state.last_hour(view.now).max_by(|(a, a_usd), (b, b_usd)| {
            a.nats.total_cmp(&b.nats).then(gain(a, *a_usd).total_cmp(&gain(b, *b_usd)))
        });
        let mut signal = Signal::usual(SignalKind::RailShift, Unit::Share);
        let Some((rail, usd)) = shown else { return signal };
        let history = state.history(rail, votes);
        signal.value = f64::from(share(usd));
        signal.usual = f64::from(history);
        signal.about = Some(rail.name.clone());
        signal.basis = Basis { window_secs: 3600, learned_hours: view.usual.learned_hours, weeks: 0 };
        if votes < VOTES_MIN {
            signal.verdict = Verdict::Learning;
            return signal;
        }
        let idle = view.now.micros().div_euclid(QUARTER) - rail.voted > IDLE;
        if rail.nats > 0.0 && !idle {
            signal.evidence = f64::from(state.peak.beyond(rail.nats + OFFSET));
            signal.probability = probability(signal.evidence);
            signal.since = Some(Timestamp::from_secs(i64::from(rail.since)));
            signal.excess = at_stake(rail.spent);
        }
        let material = signal.usual < self.config.history.0.max(0.5);
        signal.verdict = self.config.evidence.verdict(signal.evidence, material);
        let rule = signal.value > self.config.share.0 && signal.usual < self.config.history.0;
        signal.facts.push((SmolStr::new_static("dominant"), f64::from(u8::from(rule))));
        if signal.evidence >= self.config.evidence.close || rule {
            let jsd = divergence(
                state
                    .last_hour(view.now)
                    .map(|(rail, usd)| (share(usd), if votes > 0.0 { rail.votes / votes } else { 0.0 })),
            );
            signal.facts.push((SmolStr::new_static("jsd"), f64::from(jsd)));
        }
        signal
    }
}

/// The Jensen-Shannon divergence of two distributions in bits, between 0 and 1.
fn divergence(shares: impl Iterator<Item = (f32, f32)>) -> f32 {
    let part = |p: f32, q: f32| {
        let mean = 0.5 * (p + q);
        if p > 0.0 { 0.5 * p * (p / mean).log2() } else { 0.0 }
    };
    shares.map(|(p, q)| part(p, q) + part(q, p)).sum::<f32>().clamp(0.0, 1.0)
}
