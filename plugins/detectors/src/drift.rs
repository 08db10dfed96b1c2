//! Slow drift: spend that rises over days, too slowly for velocity.
//!
//! Two tests: the bank's lowest level (1.6 times the usual for long), which the velocity detector publishes, and the
//! last two and three days against the same days of the weeks before.

use railwatch_model::{Basis, Signal, SignalKind, Timestamp, Unit, Verdict};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, Usual, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use crate::amount::{at_stake, dollars};
use crate::compact::{Bytes, Logs};
use crate::evidence::{Thresholds, announced, signal};

/// `[detectors.drift]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "drift",
    summary: "days of spend against the same days of the weeks before",
    example: "[detectors.drift]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

/// Payments, capped dollars, active quarters of an hour.
const CHANNELS: usize = 3;
const QUARTER: i64 = 900_000_000;
/// Six hours.
const PART: i64 = 6 * 3_600_000_000;
/// Four weeks of parts.
const RING: i64 = 112;
/// Parts of a week.
const WEEK: i64 = 28;
const NATS_MAX: f32 = 40.0;
const OFFSET: f32 = 0.5;
/// Payments per hour below which an agent does not drift: it is dormant, or it wakes up.
const RATE_MIN: f32 = 0.2;
/// What every single day of a drift is above its reference.
const EACH_DAY: f32 = 1.1;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(Drift { config }))
}

/// The detector.
#[derive(Debug)]
pub struct Drift {
    config: Config,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The part of the first payment; zero before it.
    first: i64,
    /// The open part.
    part: i64,
    /// The closed parts; none before the first has ended.
    ring: Option<Box<Ring>>,
    /// The newest quarter of an hour with a payment.
    quarter: i64,
    /// The open part's payments, capped dollars and active quarters, exactly.
    open: [f32; CHANNELS],
    /// Learned log noise from one day to the same day of the next week.
    noise: [f32; CHANNELS],
    /// Days that the noise was learned from.
    days: u16,
    /// True if the open part holds a sudden change that is told already.
    burst: bool,
    /// Evidence of the test over days.
    nats: f32,
    /// The ratio that it found.
    ratio: f32,
}

/// The parts of the last four weeks, modulo four weeks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Ring {
    /// Payments and capped dollars.
    sums: [Logs<112>; 2],
    /// Active quarters of an hour: a session's length is chance, that there is one less so.
    active: Bytes<112>,
}

impl State {
    /// Sum over `parts` parts that end `back` parts before the part `last`.
    fn sum(&self, channel: usize, last: i64, back: i64, parts: i64) -> f32 {
        (0..parts).map(|part| self.get(channel, last - back - part)).sum()
    }

    fn get(&self, channel: usize, part: i64) -> f32 {
        let index = usize::try_from(part.rem_euclid(RING)).unwrap_or(0);
        let Some(ring) = &self.ring else { return 0.0 };
        ring.sums.get(channel).map_or_else(|| ring.active.get(index), |sums| sums.get(index))
    }

    fn set(&mut self, part: i64, [payments, usd, active]: [f32; CHANNELS]) {
        let index = usize::try_from(part.rem_euclid(RING)).unwrap_or(0);
        let ring = self.ring.get_or_insert_default();
        ring.sums[0].set(index, payments);
        ring.sums[1].set(index, usd);
        ring.active.set(index, active);
    }

    /// Closes parts up to `part`.
    fn advance(&mut self, part: i64, usual: &Usual) {
        if part - self.part > RING {
            *self = Self { first: part, part, noise: self.noise, days: self.days, ..Self::default() };
            return;
        }
        while self.part < part {
            let open = std::mem::take(&mut self.open);
            let clusters = clusters(usual);
            let known = self.part - self.first > WEEK && std::mem::take(&mut self.burst);
            let sum = |channel: usize| {
                let week = self.get(channel, self.part - WEEK);
                let most = if known { 1.2 * week + 3.0 * clusters[channel] } else { f32::MAX };
                open[channel].clamp(0.0, most.max(0.0))
            };
            self.set(self.part, [sum(0), sum(1), sum(2)]);
            let closed = self.part;
            self.part += 1;
            self.test(closed, usual);
        }
    }

    fn test(&mut self, last: i64, usual: &Usual) {
        let age = last + 1 - self.first;
        let clusters = clusters(usual);
        (self.nats, self.ratio) = (0.0, 1.0);
        if age > 41 && usual.payments_per_hour_mean >= RATE_MIN && self.sum(0, last, 0, 12) >= 15.0 {
            for (channel, cluster) in clusters.into_iter().enumerate() {
                self.compare(channel, last, age, 3.0 * cluster, 3);
                self.compare(channel, last, age, 3.0 * cluster, 2);
            }
        }
        if last % 4 == 3 && age > 32 {
            self.learn_noise(last, clusters);
        }
    }

    /// The last `days` days against the same days of the weeks before, growth allowed for. A drift is in all of them:
    /// the largest one counts as much as the others do.
    fn compare(&mut self, channel: usize, last: i64, age: i64, unit: f32, days: i64) {
        let each = |day: i64| self.sum(channel, last, 4 * day, 4);
        let total: f32 = (0..days).map(each).sum();
        let largest = (0..days).map(each).fold(0.0, f32::max);
        let n = days as f32;
        let now = total.min((total - largest) * n / (n - 1.0));
        let week = self.sum(channel, last, WEEK, 4 * days);
        let (mut usual, mut weeks) = (week, 1.0_f32);
        if age > 69 {
            weeks = 2.0;
            let before = self.sum(channel, last, 2 * WEEK, 4 * days);
            let growth = (week + unit) / (before + unit).max(1e-9);
            usual = if growth > 1.0 { week * growth.min(1.6) } else { 0.5 * (week + before) };
        }
        let log = ((now + unit) / (usual + unit).max(1e-9)).max(1e-9).ln();
        let noise = self.noise[channel].max(0.10) + 0.02;
        let z = (log - 0.12) / (noise * (1.0 / n + 1.0 / (n * weeks)).sqrt());
        let unusual = |day: i64| {
            let usual = self.sum(channel, last, WEEK + 4 * day, 4);
            let nothing = 0.3 * usual.max(each(day)) * n < 0.1 * total;
            nothing || each(day) + unit > EACH_DAY * (usual + unit)
        };
        if z > 0.0 && log > 0.3 && (0..days).all(unusual) {
            let nats = (0.5 * z * z).min(NATS_MAX) + OFFSET;
            if nats > self.nats {
                (self.nats, self.ratio) = (nats, log.exp());
            }
        }
    }

    fn learn_noise(&mut self, last: i64, clusters: [f32; CHANNELS]) {
        self.days = self.days.saturating_add(1);
        for (channel, cluster) in clusters.into_iter().enumerate() {
            let unit = 3.0 * cluster;
            let log =
                (self.sum(channel, last, 0, 4) + unit) / (self.sum(channel, last, WEEK, 4) + unit).max(1e-9);
            let log = log.max(1e-9).ln();
            let variance = self.noise[channel] * self.noise[channel];
            let seen = (0.5 * log * log).min(4.0 * variance);
            let n = (f32::from(self.days) + 5.0).min(20.0);
            self.noise[channel] = (variance + (seen - variance) / n).max(0.0).sqrt();
        }
    }
}

/// The size of a cluster in each channel.
fn clusters(usual: &Usual) -> [f32; CHANNELS] {
    [usual.cluster_payments, usual.cluster_usd, 1.0]
}

impl Detector for Drift {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn touch(&self, state: &State) -> u32 {
        state.open[0].to_bits()
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let usd = dollars(seen.booking.committed);
        let cap = cx.usual.amount_cap.clamp(0.0, 1e10);
        let x = [seen.booking.purchases as f32, usd.clamp(-cap, cap)];
        if x == [0.0; 2] {
            return;
        }
        let part = seen.at.micros().div_euclid(PART);
        if state.first == 0 {
            (state.first, state.part, state.noise) = (part, part, [0.3; CHANNELS]);
        } else if part > state.part {
            state.advance(part, cx.usual);
            cx.usual.report_lasting(cx.now, state.nats);
        }
        if part == state.part {
            state.burst |= cx.usual.bursting(cx.now);
            let quarter = seen.at.micros().div_euclid(QUARTER);
            let active = f32::from(u8::from(quarter > state.quarter && x[0] > 0.0));
            state.quarter = state.quarter.max(quarter);
            state.open = [state.open[0] + x[0], state.open[1] + x[1], state.open[2] + active];
        } else if part >= state.first && state.part - part < RING {
            let add = |channel: usize, x: f32| (state.get(channel, part) + x).max(0.0);
            state.set(part, [add(0, x[0]), add(1, x[1]), add(2, 0.0)]);
        }
    }

    fn tick(&self, cx: &mut Context<'_, ()>, state: &mut State) {
        // A part is closed once payments of it that are on the way have had an hour to arrive.
        let part = (cx.now.micros() - 3_600_000_000).div_euclid(PART);
        if state.first != 0 && part > state.part {
            state.advance(part, cx.usual);
        }
    }

    fn quiet(&self, view: &View<'_, ()>, state: &State) -> bool {
        self.config.evidence.quiet(state.nats.max(view.usual.drift_nats))
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        let usual = view.usual;
        if !usual.warm {
            return;
        }
        let nats = f64::from(state.nats.max(usual.drift_nats));
        if nats < 3.0 || usual.payments_per_hour_mean < RATE_MIN {
            return;
        }
        let quiet = announced(&view.profile.announcements, view.now, &SignalKind::Drift, None);
        let verdict = self.config.evidence.verdict(nats, !quiet);
        let mut signal = signal(SignalKind::Drift, Unit::UsdPerDay, nats, verdict);
        let by_days = state.nats >= usual.drift_nats;
        signal.value = f64::from(state.sum(1, state.part - 1, 0, 4));
        signal.usual = f64::from(usual.usd_per_day);
        signal.since = Some(usual.drift_since);
        if by_days {
            signal.value = f64::from(state.sum(1, state.part - 1, 0, 12)) / 3.0;
            signal.usual = signal.value / f64::from(state.ratio.max(1e-6));
            signal.since = Some(Timestamp::from_micros((state.part - 12) * PART));
        }
        let excess =
            if by_days { 3.0 * (signal.value - signal.usual) } else { f64::from(usual.drift_excess) };
        signal.excess = at_stake(excess);
        signal.basis = Basis {
            window_secs: if by_days { 259_200 } else { 86_400 },
            learned_hours: usual.learned_hours,
            weeks: u8::try_from(((state.part - state.first) / WEEK).clamp(0, 4)).unwrap_or(0),
        };
        debug_assert!(verdict != Verdict::Learning);
        signals.push(signal);
    }
}
