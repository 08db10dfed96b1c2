//! Dormant: an agent that hardly ever spends wakes up and keeps spending.
//!
//! A burst is a run of payments with less than two hours between them. For an agent with a few payments a week bursts
//! are of one payment, rarely two; a geometric law with the learned mean says how unusual a longer one is.

use railwatch_model::{Basis, Signal, SignalKind, Timestamp, Unit};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use crate::amount::{at_stake, dollars};
use crate::evidence::{Thresholds, announced, signal};

/// `[detectors.dormant]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "dormant",
    summary: "an agent that hardly ever spends keeps spending",
    example: "[detectors.dormant]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

/// The longest time between two payments of a burst.
const GAP_MAX: i64 = 2 * 3_600_000_000;
/// An agent with more payments per hour than this is not dormant (three a day).
const RATE_MAX: f32 = 0.125;
/// Payments of a burst from which it is evidence.
const PAYMENTS_MIN: u32 = 4;
/// Nats added so that this channel is exceeded by clean agents as often as the others.
const OFFSET: f32 = 3.0;
/// What a geometric law makes of bursts with a tail that is heavier.
const HEAVY: f32 = 0.8;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(Dormant { config }))
}

/// The detector.
#[derive(Debug)]
pub struct Dormant {
    config: Config,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The newest payment; the epoch before the first.
    last: Timestamp,
    /// When the burst began.
    since: Timestamp,
    /// Payments in the burst, and their dollars.
    burst: u32,
    /// True if the agent was dormant when the burst began.
    dormant: bool,
    spent: f32,
    /// Earlier bursts and their payments, with old ones fading.
    bursts: f32,
    payments: f32,
    /// Evidence.
    nats: f32,
}

impl State {
    fn end_burst(&mut self) {
        if self.bursts > 200.0 {
            (self.bursts, self.payments) = (0.5 * self.bursts, 0.5 * self.payments);
        }
        self.bursts += 1.0;
        self.payments += self.burst as f32;
        (self.burst, self.spent, self.nats) = (0, 0.0, 0.0);
    }

    fn judge(&mut self) {
        if self.burst < PAYMENTS_MIN || !self.dormant {
            self.nats = 0.0;
            return;
        }
        let mean = (self.payments + 2.0) / (self.bursts + 1.0);
        let each = -(1.0 - 1.0 / mean.max(1.01)).ln();
        self.nats = (HEAVY * each * (self.burst as f32 - 1.0) + OFFSET).clamp(0.0, 40.0);
    }
}

impl Detector for Dormant {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn touch(&self, state: &State) -> u32 {
        state.burst
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        if seen.booking.purchases < 0 && state.burst > 0 {
            state.burst -= 1;
            state.spent += dollars(seen.booking.committed);
            state.judge();
        }
        if seen.booking.purchases <= 0 {
            return;
        }
        if state.last != Timestamp::EPOCH && seen.at.micros() - state.last.micros() > GAP_MAX {
            state.end_burst();
        }
        if state.burst == 0 {
            state.since = seen.at;
            state.dormant = cx.usual.warm && cx.usual.payments_per_hour_mean <= RATE_MAX;
        }
        state.last = state.last.max(seen.at);
        state.burst = state.burst.saturating_add(1);
        state.spent += dollars(seen.booking.committed);
        if state.dormant {
            state.judge();
            cx.usual.report(cx.now, state.nats);
        }
    }

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut State) {}

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        self.config.evidence.quiet(state.nats)
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        let nats = f64::from(state.nats);
        if !view.usual.warm || nats < 3.0 || view.now.micros() - state.last.micros() > GAP_MAX {
            return;
        }
        let quiet = announced(&view.profile.announcements, view.now, &SignalKind::Dormant, None);
        let verdict = self.config.evidence.verdict(nats, !quiet);
        let mut signal = signal(SignalKind::Dormant, Unit::Payments, nats, verdict);
        signal.value = f64::from(state.burst);
        signal.usual = f64::from(state.payments / state.bursts.max(1.0));
        signal.since = Some(state.since);
        signal.excess = at_stake(state.spent);
        signal.basis = Basis { window_secs: 0, learned_hours: view.usual.learned_hours, weeks: 0 };
        signals.push(signal);
    }
}
