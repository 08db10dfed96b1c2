//! Repeated payments: the same purchase paid again and again.
//!
//! Two channels. *Duplicates*: the share of payments in a quarter of an hour that equal one of the last four in payee
//! and amount within six seconds, against the agent's own share. *Loop*: the same payee over and over, for an agent
//! that does not do that, beyond its own usual daily peak; a loop is a matter of velocity, whose signal reports it.

use railwatch_model::{Basis, Payment, Signal, SignalKind, Timestamp, Unit};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use crate::amount::{at_stake, dollars};
use crate::compact::fingerprint;
use crate::evidence::{Peak, Thresholds, announced, day_of, signal};

/// `[detectors.duplicate]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "duplicate",
    summary: "the same purchase paid again and again",
    example: "[detectors.duplicate]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

const QUARTER: i64 = 900_000_000;
const DAY: i64 = 86_400_000_000;
/// Payments within this time of an equal one are duplicates.
const APART_MAX: i64 = 6_000_000;
const NATS_MAX: f32 = 40.0;
const DUPLICATE_OFFSET: f32 = 4.5;
/// Quarters without a payment after which evidence is history: half a day.
const IDLE: i64 = 48;
/// A duplicate's share above usual that the channel looks for.
const SHIFT: f32 = 0.35;
/// Quarters with payments before which the usual share is not known.
const QUARTERS_MIN: u32 = 60;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(Repeat { config }))
}

/// The detector.
#[derive(Debug)]
pub struct Repeat {
    config: Config,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The open quarter of an hour since the epoch.
    quarter: i64,
    /// Payments and duplicates in it.
    open: [f32; 2],
    /// Dollars of the duplicates in it.
    open_usd: f32,
    /// Quarters with payments.
    quarters: u32,
    /// Usual share of duplicates and its variance.
    share: [f32; 2],
    /// The last quarter's share, for display.
    share_last: f32,
    /// Evidence of duplicates.
    nats: f32,
    /// Its usual daily peak.
    peak: Peak,
    /// When it began, in seconds, and the dollars paid twice since.
    since: u32,
    excess: f32,
    /// Payee, amount and time of the last four payments.
    last: [(u32, u32, u32); 4],
    next: u8,
    repeats: Loop,
}

/// The same payee over and over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Loop {
    /// The payee of the last payment.
    payee: u32,
    /// When that was, in seconds.
    last: u32,
    /// Payments.
    n: u32,
    /// Chance that the next payee is the same.
    chance: f32,
    /// Evidence.
    nats: f32,
    /// The usual daily peak of that evidence.
    usual_peak: f32,
    /// Today's peak.
    peak: f32,
    /// Today, in days since the epoch.
    day: i64,
    /// When the evidence began, in seconds.
    since: u32,
}

impl Loop {
    fn see(&mut self, payee: u32, at: Timestamp, learn: bool) {
        let secs = u32::try_from(at.secs()).unwrap_or(0);
        let hours = secs.saturating_sub(self.last) / 3600;
        if hours > 0 {
            // A loop does not pause.
            self.nats *= 0.5_f32.powf(hours.min(99) as f32);
        }
        self.last = self.last.max(secs);
        let day = at.micros().div_euclid(DAY);
        if day > self.day {
            if self.peak > 0.0 {
                self.usual_peak += 0.2 * (self.peak.min(2.0 * self.usual_peak + 2.0) - self.usual_peak);
            }
            (self.peak, self.day) = (0.0, day);
        }
        self.n = self.n.saturating_add(1);
        if self.n == 1 {
            (self.payee, self.chance, self.usual_peak) = (payee, 0.5, 4.0);
            return;
        }
        let same = payee == self.payee;
        self.payee = payee;
        let chance = self.chance.clamp(0.02, 0.99);
        if learn && self.n > 60 && chance < 0.93 {
            if self.nats <= 0.0 {
                self.since = secs;
            }
            if same || self.nats > 0.0 {
                let looped = (chance + 0.05).max(0.95);
                let llr = if same { (looped / chance).ln() } else { ((1.0 - looped) / (1.0 - chance)).ln() };
                self.nats = (self.nats + llr).clamp(0.0, NATS_MAX);
                self.peak = self.peak.max(self.nats);
            }
        }
        let slow = if self.nats > 6.0 { 0.2 } else { 1.0 };
        let gain = (1.0 / (self.n as f32 + 1.0)).max(0.003) * slow;
        self.chance += gain * (f32::from(u8::from(same)) - self.chance);
    }

    /// Evidence beyond its own usual daily peak.
    fn evidence(&self) -> f32 {
        (self.nats - 1.5 * self.usual_peak).max(0.0)
    }
}

impl State {
    /// Counts the payment and says if it repeats one of the last four.
    fn repeats(&mut self, payee: u32, payment: &Payment, at: Timestamp) -> bool {
        let secs = u32::try_from(at.secs()).unwrap_or(0);
        let amount = u32::try_from(payment.usd().nanos() & 0xffff_ffff).unwrap_or(0);
        let apart = u32::try_from(APART_MAX / 1_000_000).unwrap_or(6);
        let repeated = self
            .last
            .iter()
            .any(|(who, what, when)| (*who, *what) == (payee, amount) && secs.abs_diff(*when) <= apart);
        self.last[usize::from(self.next % 4)] = (payee, amount, secs);
        self.next = (self.next + 1) % 4;
        repeated
    }

    /// A payment to `payee` is void: what it may have added is taken off.
    fn take_back(&mut self, payee: u32) {
        self.open = self.open.map(|n| (n - 1.0).max(0.0));
        if payee == self.repeats.payee {
            let chance = self.repeats.chance.clamp(0.02, 0.99);
            let llr = ((chance + 0.05).max(0.95) / chance).ln();
            self.repeats.nats = (self.repeats.nats - llr).max(0.0);
        }
    }

    fn close(&mut self, warm: bool) {
        let [n, duplicates] = self.open;
        self.quarters = self.quarters.saturating_add(1);
        if n >= 2.0 {
            let share = duplicates / n;
            if self.quarters == 1 || self.share[1] <= 0.0 {
                self.share = [share, 0.02];
            }
            self.share_last = share;
            self.judge(share, (n / 6.0).min(1.0), warm);
        } else {
            self.nats = (self.nats - 0.5).max(0.0);
        }
        (self.open, self.open_usd) = ([0.0; 2], 0.0);
    }

    fn judge(&mut self, share: f32, weight: f32, warm: bool) {
        let [usual, variance] = self.share;
        let sd = (variance + 0.01 / weight).sqrt();
        if warm && self.quarters > QUARTERS_MIN {
            let shift = (SHIFT / sd).min(1.5);
            let z = (share - usual) / sd;
            if self.nats <= 0.0 {
                self.since = u32::try_from(self.quarter * 900).unwrap_or(0);
                self.excess = 0.0;
            }
            let llr = (shift * z - 0.5 * shift * shift) * weight;
            self.nats = (self.nats + llr.clamp(-1.2, 1.5)).clamp(0.0, NATS_MAX);
            self.excess += self.open_usd;
        }
        let gain = (1.0 / (self.quarters as f32 + 2.0)).max(0.01);
        let d = (share - usual).clamp(-3.0 * sd, 3.0 * sd);
        self.share = [usual + gain * d, (1.0 - gain) * (variance + gain * d * d)];
    }
}

/// Tells the velocity detector, whose signal a loop is part of.
fn publish(cx: &mut Context<'_, ()>, repeats: &Loop) {
    let nats = if cx.usual.warm { repeats.evidence() } else { 0.0 };
    cx.usual.loop_nats = nats;
    cx.usual.loop_since = Timestamp::from_secs(i64::from(repeats.since));
    cx.usual.report(cx.now, nats);
}

impl Detector for Repeat {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn touch(&self, state: &State) -> u32 {
        state.since ^ state.repeats.n ^ state.last[3].0
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let payee = fingerprint(seen.payment.payee.as_deref().unwrap_or_default());
        if seen.booking.purchases < 0 {
            state.take_back(payee);
            publish(cx, &state.repeats);
        }
        if seen.booking.purchases <= 0 {
            return;
        }
        let quarter = seen.at.micros().div_euclid(QUARTER);
        if quarter > state.quarter {
            if state.open[0] > 0.0 {
                state.close(cx.usual.warm);
                state.peak.see(state.nats + DUPLICATE_OFFSET, day_of(seen.at));
                cx.usual.report(cx.now, state.nats);
            }
            state.quarter = quarter;
        }
        let usd = dollars(seen.booking.committed);
        state.open[0] += 1.0;
        if state.repeats(payee, seen.payment, seen.at) {
            state.open[1] += 1.0;
            state.open_usd += usd;
        }
        if !seen.late {
            state.repeats.see(payee, seen.at, cx.usual.warm);
            publish(cx, &state.repeats);
        }
    }

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut State) {}

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        state.nats <= 0.0 || self.config.evidence.quiet(state.nats + DUPLICATE_OFFSET)
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        let idle = view.now.micros().div_euclid(QUARTER) - state.quarter > IDLE;
        let strength = if state.nats > 0.0 && !idle { state.nats + DUPLICATE_OFFSET } else { 0.0 };
        let nats = f64::from(state.peak.beyond(strength));
        if !view.usual.warm || nats < 3.0 {
            return;
        }
        let quiet = announced(&view.profile.announcements, view.now, &SignalKind::Duplicate, None);
        let verdict = self.config.evidence.verdict(nats, !quiet);
        let mut signal = signal(SignalKind::Duplicate, Unit::Share, nats, verdict);
        (signal.value, signal.usual) = (f64::from(state.share_last), f64::from(state.share[0]));
        let (since, usd, window_secs) = (state.since, state.excess, 900);
        signal.since = Some(Timestamp::from_secs(i64::from(since)));
        signal.excess = at_stake(usd);
        signal.basis = Basis { window_secs, learned_hours: view.usual.learned_hours, weeks: 0 };
        signals.push(signal);
    }
}
