//! Price: one payee charges far more than it used to.
//!
//! Per payee the mean and variance of the logarithm of amounts; a CUSUM of the Gaussian likelihood ratio of "three
//! times the price", at full weight once in five minutes.

use railwatch_model::{Basis, Signal, SignalKind, SmolStr, Timestamp, Unit};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::amount::{at_stake, dollars};
use crate::compact::fingerprint;
use crate::evidence::{Peak, Thresholds, announced, day_of, minute_of, signal};

/// `[detectors.price]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "price",
    summary: "one payee charges far more than it used to",
    example: "[detectors.price]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

/// Payees that are remembered per agent; the one that was paid longest ago makes room.
const PAYEES_MAX: usize = 24;
const PART: i64 = 300_000_000;
/// Parts without evidence after which it is history: half a day.
const IDLE: i64 = 144;
/// Payments to a payee from which its price is known.
const KNOWN: u8 = 5;
const NATS_MAX: f32 = 40.0;
const OFFSET: f32 = 4.2;
const LN_3: f32 = 1.098_612_3;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(Price { config }))
}

/// The detector.
#[derive(Debug)]
pub struct Price {
    config: Config,
}

/// What a payee charges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Payee {
    id: u32,
    /// Mean of the logarithm of amounts.
    mean: f32,
    /// Its variance.
    variance: f32,
    /// When it was last paid, in minutes since the epoch.
    paid: u32,
    /// Payments, saturating.
    n: u8,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    payees: SmallVec<[Payee; 2]>,
    /// Evidence.
    nats: f32,
    /// Its usual daily peak.
    peak: Peak,
    /// The five minutes that last counted at full weight.
    part: i64,
    /// When the evidence began, in seconds, and the dollars beyond the usual price since.
    since: u32,
    excess: f32,
    /// The payee whose price last rose: name, amount, usual amount.
    about: SmolStr,
    seen: f32,
    usual: f32,
}

impl State {
    fn payee(&mut self, id: u32, log: f32, minute: u32) -> usize {
        if let Some(index) = self.payees.iter().position(|payee| payee.id == id) {
            return index;
        }
        let payee = Payee { id, mean: log, variance: 0.1, paid: minute, n: 0 };
        if self.payees.len() < PAYEES_MAX {
            self.payees.push(payee);
            return self.payees.len() - 1;
        }
        let oldest = self.payees.iter().enumerate().min_by_key(|(_, payee)| payee.paid);
        let index = oldest.map_or(0, |(index, _)| index);
        self.payees[index] = payee;
        index
    }

    /// A payment of `usd` is void: what it may have added is taken off.
    fn take_back(&mut self, id: u32, usd: f32) {
        let known = self.payees.iter().find(|payee| payee.id == id && payee.n >= KNOWN);
        let llr = known.map_or(0.0, |payee| payee.compare(usd.clamp(1e-7, 1e10).ln()).1);
        self.nats = (self.nats - llr.max(0.0)).max(0.0);
    }

    fn add(&mut self, llr: f32, at: Timestamp) {
        let part = at.micros().div_euclid(PART);
        if part - self.part > IDLE {
            self.nats *= 0.5;
        }
        if self.nats <= 0.0 {
            self.since = u32::try_from(at.secs()).unwrap_or(0);
            self.excess = 0.0;
        }
        let weight = if self.part == part { 0.15 } else { 1.0 };
        self.part = part;
        self.nats = (self.nats + weight * llr).clamp(0.0, NATS_MAX);
    }
}

impl Payee {
    /// Standard deviations above the usual amount, and the log likelihood ratio of "three times the price".
    fn compare(&self, log: f32) -> (f32, f32) {
        let sd = (self.variance + 0.02 + 0.3 / f32::from(self.n.max(1))).sqrt();
        let z = (log - self.mean) / sd;
        let shift = (LN_3 / sd).min(3.0);
        (z, (shift * z - 0.5 * shift * shift).clamp(-1.5, 2.5))
    }

    /// Learns an amount that is `z` standard deviations above the usual.
    fn learn(&mut self, log: f32, z: f32, minute: u32) {
        let slow = if z > 3.0 && self.n >= KNOWN { 0.1 } else { 1.0 };
        let gain = (1.0 / (f32::from(self.n) + 1.0)).max(0.02) * slow;
        let d = log - self.mean;
        self.mean += gain * d;
        self.variance = (1.0 - gain) * (self.variance + gain * d * d);
        self.n = self.n.saturating_add(1);
        self.paid = self.paid.max(minute);
    }
}

impl Detector for Price {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn touch(&self, state: &State) -> u32 {
        let payees = state.payees.iter().step_by(3);
        payees.fold(state.nats.to_bits(), |all, payee| all ^ payee.id)
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let usd = dollars(seen.booking.committed);
        let Some(payee) = seen.payment.payee.as_ref() else { return };
        if seen.booking.purchases < 0 && usd < 0.0 {
            state.take_back(fingerprint(payee), -usd);
        }
        if seen.booking.purchases <= 0 || usd <= 0.0 {
            return;
        }
        let log = usd.clamp(1e-7, 1e10).ln();
        let minute = minute_of(seen.at);
        let index = state.payee(fingerprint(payee), log, minute);
        let known = &state.payees[index];
        let mut z = 0.0;
        if known.n >= KNOWN {
            let (sds, llr) = known.compare(log);
            z = sds;
            let usual = known.mean;
            if cx.usual.warm && (llr > 0.0 || state.nats > 0.0) {
                state.add(llr, seen.at);
                if llr > 0.0 {
                    (state.seen, state.usual) = (usd, usual.exp());
                    state.excess += (usd - state.usual).max(0.0);
                    state.about = payee.clone();
                }
            }
        }
        state.payees[index].learn(log, z, minute);
        state.peak.see(if state.nats > 0.0 { state.nats + OFFSET } else { 0.0 }, day_of(seen.at));
        if state.nats > 0.0 {
            cx.usual.report(cx.now, state.nats);
        }
    }

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut State) {}

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        state.nats <= 0.0 || self.config.evidence.quiet(state.nats + OFFSET)
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        if !view.usual.warm || state.nats <= 0.0 {
            return;
        }
        if view.now.micros().div_euclid(PART) - state.part > IDLE {
            return;
        }
        let nats = f64::from(state.peak.beyond(state.nats + OFFSET));
        let quiet = announced(&view.profile.announcements, view.now, &SignalKind::Price, None);
        let verdict = self.config.evidence.verdict(nats, !quiet);
        let mut signal = signal(SignalKind::Price, Unit::Usd, nats, verdict);
        (signal.value, signal.usual) = (f64::from(state.seen), f64::from(state.usual));
        signal.about = Some(state.about.clone());
        signal.since = Some(Timestamp::from_secs(i64::from(state.since)));
        signal.excess = at_stake(state.excess);
        signal.basis = Basis { window_secs: 0, learned_hours: view.usual.learned_hours, weeks: 0 };
        signals.push(signal);
    }
}
