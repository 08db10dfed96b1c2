//! Spend velocity: dollars per hour over a sliding window of event time, against what is usual for this agent in this
//! hour of the week.
//!
//! This detector learns the baseline that all others use and publishes it as [`Usual`]. It fires on evidence (see
//! `cusum`), and only where the velocity that people see is also well above the usual.

#![expect(clippy::needless_range_loop, reason = "lanes index several arrays at once")]

mod baseline;
mod cusum;
mod dispersion;
mod window;

use std::time::Duration;

use railwatch_model::{Basis, Signal, SignalKind, SmolStr, Timestamp, Unit, Usd, Verdict};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, Dollars, Span, parse};
use railwatch_plugin::detector::{Context, Detector, Observation, Profile, Scope, Usual, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use self::baseline::{Baseline, Lesson, PerChannel, Prior};
use self::cusum::{Bank, Finding};
use self::dispersion::{Beta, Dispersion, Learning};
use self::window::Sliding;
use crate::amount::{at_stake, dollars, narrow};
use crate::evidence::{Peak, Thresholds, announced, day_of, probability};

/// `[detectors.velocity]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "velocity",
    summary: "dollars per hour against the learned usual of this hour of the week",
    example: "[detectors.velocity]\nwindow = \"15m\"\nratio = 3.0\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

const HOUR: i64 = 3_600_000_000;
const QUARTER: i64 = HOUR / 4;
/// Silence beyond this is not replayed hour by hour: the profile would be four weeks of nothing.
const CATCH_UP: i64 = 28 * 24 * HOUR;
/// Velocity from which a loop (one payee over and over) is more than a habit.
const LOOP_RATIO: f64 = 2.0;
/// Up to this many learned hours a baseline is expected to be wrong by more than its noise.
const YOUNG_HOURS: f32 = 120.0;
/// How soon raised evidence is looked at again without a payment.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Payments from which one more hardly moves the cap on amounts: it is then computed with every eighth.
const CAP_SETTLED: u32 = 100;
/// How long a suspected level keeps the agent from being learned.
const SUSPECT_DAYS: i64 = 4;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The window over which velocity is shown.
    pub window: Span,
    /// Velocity fires only from this many times the usual on.
    pub ratio: f64,
    /// Dollars beyond the usual from which velocity may fire.
    pub material: Dollars,
    /// Dollars per hour that are assumed usual for an agent until enough is learned about it.
    pub seed: Option<Dollars>,
    /// Ask about teams, too.
    pub teams: bool,
    /// Ask about the whole fleet, too.
    pub fleet: bool,
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Span(Duration::from_secs(900)),
            ratio: 3.0,
            material: Dollars(Usd::ZERO),
            seed: None,
            teams: false,
            fleet: false,
            evidence: Thresholds::default(),
        }
    }
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    let window = config.window.0;
    if !(Duration::from_secs(60)..=Duration::from_secs(86_400)).contains(&window) {
        return Err(ConfigError::new("window", "a window is between \"1m\" and \"1d\""));
    }
    if !(config.ratio >= 1.0 && config.ratio.is_finite()) {
        return Err(ConfigError::new("ratio", "the ratio is at least 1.0"));
    }
    let part_micros = i64::try_from(window.as_micros() / 15).unwrap_or(QUARTER);
    Ok(column(Velocity { config, part_micros }))
}

/// The detector.
#[derive(Debug)]
pub struct Velocity {
    config: Config,
    /// A fifteenth of the window.
    part_micros: i64,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The newest event time; the epoch before the first payment.
    clock: Timestamp,
    /// Up to when the expectation was added to the open quarter.
    flowed: Timestamp,
    /// The part of its first hour that had passed when the subject first paid.
    begun: f32,
    /// Payments seen.
    payments: u32,
    /// When a raised level was first suspected; the epoch while it is not.
    suspected: Timestamp,
    /// Mean and variance of the logarithm of amounts.
    amount_log: [f32; 2],
    /// Dollars that one payment counts for at most.
    amount_cap: f32,
    baseline: Baseline,
    dispersion: Dispersion,
    beta: Beta,
    bank: Bank,
    sliding: Sliding,
    /// Evidence of a sudden rise after the last payment; it only falls until the next one.
    heat: f32,
    /// Usual daily peaks of the evidence of velocity, and of a lastingly raised level.
    peak: Peak,
    peak_lasting: Peak,
}

impl State {
    fn begin(&mut self, at: Timestamp, usd: f32, prior: Option<Prior>) {
        self.clock = at;
        self.flowed = at;
        self.baseline.begin(hour_of(at));
        self.begun = at.micros().rem_euclid(HOUR) as f32 / HOUR as f32;
        self.beta = [[3.0; 3], [1e9; 3], [1e9; 3]];
        self.amount_log = [usd.clamp(1e-7, 1e10).ln(), 1.0];
        if let Some(prior) = prior {
            self.expect(prior);
        }
    }

    /// True once evidence means something.
    fn warm(&self, seeded: bool) -> bool {
        let hours = self.baseline.hours;
        hours >= 48.0 || (hours >= 20.0 && self.payments >= 30) || (seeded && self.payments >= 10)
    }

    /// Lets time pass up to `to`, closing quarters and hours on the way.
    fn advance(&mut self, to: Timestamp, usual: &Usual, prior: impl FnOnce(&Self) -> Prior) {
        self.clock = to;
        if to.micros() < (self.flowed.micros().div_euclid(QUARTER) + 1) * QUARTER {
            // Nearly always: the quarter goes on.
            return self.flow(to);
        }
        let prior = prior(self);
        if to.micros() - self.flowed.micros() > CATCH_UP {
            self.flowed = Timestamp::from_micros((to.micros() - CATCH_UP).div_euclid(QUARTER) * QUARTER);
            self.baseline.hour = hour_of(self.flowed);
        }
        let frozen = usual.frozen(to);
        while self.flowed < to {
            let quarter = self.flowed.micros().div_euclid(QUARTER);
            let end = Timestamp::from_micros((quarter + 1) * QUARTER);
            let until = end.min(to);
            self.flow(until);
            if until == end {
                self.close_quarter(quarter, frozen, prior);
            }
        }
    }

    fn flow(&mut self, until: Timestamp) {
        let hours = (until.micros() - self.flowed.micros()) as f32 / HOUR as f32;
        let m = self.baseline.rates.map(|rate| rate * hours);
        self.bank.pass(m);
        for (sum, m) in self.dispersion.open[0].m.iter_mut().zip(m) {
            *sum += m;
        }
        self.flowed = until;
    }

    fn close_quarter(&mut self, quarter: i64, frozen: bool, prior: Prior) {
        let weight = self.weight();
        let hour_ends = (quarter + 1).rem_euclid(4) == 0;
        let seen = self.dispersion.hour_seen();
        let learning = Learning { on: self.baseline.hours > 30.0, frozen, weight };
        self.dispersion.close_quarter(quarter, &self.beta, learning);
        if hour_ends {
            self.close_hour(seen, if frozen { 0.0 } else { weight }, prior);
        }
    }

    fn close_hour(&mut self, seen: PerChannel, weight: f32, prior: Prior) {
        for (c, seen) in seen.into_iter().enumerate() {
            if seen < 1.3 * self.baseline.rates[c] + 0.5 * self.beta[c][2] {
                self.bank.quiet_hour(c);
            }
        }
        let first = self.baseline.hours <= 0.0;
        let part = if first { (1.0 - self.begun).max(0.1) } else { 1.0 };
        let weight = if self.baseline.hours < 48.0 { weight.ceil() } else { weight };
        let lesson = Lesson { weight, part, phi_day: self.dispersion.phi_day(0) };
        self.baseline.close_hour(seen, &self.beta, lesson);
        self.expect(prior);
    }

    /// Computes what is usual in the hour that just opened.
    fn expect(&mut self, prior: Prior) {
        let hour = self.baseline.hour;
        let rates = self.expected(hour, prior);
        self.baseline.rates = rates;
        let mean = self.baseline.mean();
        let peak = rates[0] > 2.0 * mean[0] && self.baseline.weeks(hour) < 4;
        let young = (1.0 - self.baseline.hours / YOUNG_HOURS).max(0.0);
        let error = if peak { 0.07 } else { 0.01 } + 0.5 * young;
        let spread = self.amount_log[1].min(3.0).exp();
        let typical = self.amount_log[0].exp();
        let unit = |c| (self.baseline.mean_amount(c).unwrap_or(typical) * spread).max(1e-6);
        self.beta = self.dispersion.beta([1.0, unit(1), unit(2)], error, rates);
    }

    /// Expected per hour in any hour, by what is known now.
    fn expected(&self, hour: i32, prior: Prior) -> PerChannel {
        self.baseline.expect(hour, [self.beta[0][1], self.beta[1][1]], prior)
    }

    /// How much should be learned: a tenth while a raised level is suspected, at most for four days.
    fn weight(&mut self) -> f32 {
        if !self.bank.suspect(&self.beta) {
            self.suspected = Timestamp::EPOCH;
            return 1.0;
        }
        if self.suspected == Timestamp::EPOCH {
            self.suspected = self.flowed;
        }
        let days = (self.flowed.micros() - self.suspected.micros()) / (24 * HOUR);
        if days < SUSPECT_DAYS { 0.1 } else { 1.0 }
    }

    fn learn_amount(&mut self, usd: f32) {
        let log = usd.max(1e-7).ln();
        let [mean, variance] = &mut self.amount_log;
        let sd = variance.sqrt();
        let gain = (1.0 / (self.payments as f32 + 1.0)).max(0.004);
        let d = (log - *mean).clamp(-4.0 * sd - 0.5, 4.0 * sd + 0.5);
        *mean += gain * d;
        *variance = ((1.0 - gain) * (*variance + gain * d * d)).max(0.02);
        if self.payments <= 20 {
            self.amount_cap = f32::MAX;
        } else if self.payments <= CAP_SETTLED || self.payments.is_multiple_of(8) {
            self.amount_cap = (*mean + 3.0 * variance.sqrt()).min(80.0).exp();
        }
    }

    /// Publishes what changes by the hour.
    fn publish_hour(&self, usual: &mut Usual) {
        let mean = self.baseline.mean();
        let dispersion_day = self.dispersion.phi_day(2).max(1e-9);
        usual.payments_per_hour = self.baseline.rates[0];
        usual.usd_per_hour = self.baseline.rates[2];
        usual.usd_per_day = mean[2] * 24.0 * self.baseline.recent_ratio(6.0 * dispersion_day, 0.0);
        usual.dispersion_day = dispersion_day;
        usual.learned_hours = self.baseline.hours;
        usual.learn_weight = if self.suspected == Timestamp::EPOCH { 1.0 } else { 0.1 };
        usual.payments_per_hour_mean = mean[0];
        usual.cluster_payments = self.beta[0][2];
        usual.cluster_usd = self.beta[1][2];
    }

    /// Publishes what changes by the payment.
    fn publish(&self, usual: &mut Usual, sudden: f32, lasting: f32, warm: bool) {
        let (drift_since, drift_excess) = self.bank.run(0);
        usual.payments = self.payments;
        usual.amount_cap = self.amount_cap;
        usual.amount_log_mean = self.amount_log[0];
        usual.amount_log_sd = self.amount_log[1].sqrt();
        usual.drift_nats = self.peak_lasting.beyond(lasting);
        usual.drift_since = if lasting > 0.0 { drift_since } else { Timestamp::EPOCH };
        usual.drift_excess = drift_excess;
        usual.warm = warm;
        if warm {
            usual.report(self.clock, sudden);
            usual.report_lasting(self.clock, lasting);
        }
    }
}

fn hour_of(at: Timestamp) -> i32 {
    i32::try_from(at.micros().div_euclid(HOUR)).unwrap_or(i32::MAX - 1)
}

impl Velocity {
    /// Dollars per hour that the owner expects.
    fn seed(&self, profile: &Profile) -> Option<f32> {
        let seed = profile.seed_usd_per_hour.or(self.config.seed.map(|seed| seed.0.dollars()))?;
        (seed > 0.0 && seed.is_finite()).then(|| narrow(seed.clamp(1e-6, 1e9)))
    }

    /// What is assumed: the owner's word counts for a day of experience, nothing else for two hours of the agent's own.
    fn prior(&self, profile: &Profile, state: &State) -> Prior {
        let level = state.baseline.level();
        match self.seed(profile) {
            Some(usd) => {
                let typical = state.amount_log[0].exp();
                let amount = state.baseline.mean_amount(1).unwrap_or(typical).max(1e-7);
                Prior { rates: [usd / amount / level, usd / level], hours: 24.0 }
            }
            None => {
                let [payments, usd, _] = state.baseline.mean();
                Prior { rates: [payments / level, usd / level], hours: 2.0 }
            }
        }
    }
}

impl Detector for Velocity {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn scope(&self) -> Scope {
        Scope { agents: true, teams: self.config.teams, fleet: self.config.fleet }
    }

    fn touch(&self, state: &State) -> u32 {
        let words = [
            state.payments,
            state.heat.to_bits(),
            state.beta[2][2].to_bits(),
            state.baseline.rates[0].to_bits(),
            state.dispersion.open[0].x[0].to_bits(),
        ];
        words.into_iter().fold(state.bank.touch() ^ state.sliding.touch(), |all, word| all ^ word)
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let payments = seen.booking.purchases as f32;
        let usd = dollars(seen.booking.committed);
        if payments == 0.0 && usd == 0.0 {
            return;
        }
        let seeded = self.seed(cx.profile).is_some();
        let hour = state.baseline.hour;
        if state.clock == Timestamp::EPOCH {
            state.amount_log[0] = usd.clamp(1e-7, 1e10).ln();
            let prior = seeded.then(|| self.prior(cx.profile, state));
            state.begin(seen.at, usd, prior);
        } else if seen.at > state.clock {
            state.advance(seen.at, cx.usual, |state| self.prior(cx.profile, state));
        }
        if payments > 0.0 {
            state.payments = state.payments.saturating_add(1);
        }
        let capped = if state.payments > 20 { usd.clamp(-state.amount_cap, state.amount_cap) } else { usd };
        let x = [payments, capped, usd];
        state.sliding.add(seen.at, self.part_micros, payments, usd);
        if hour_of(seen.at) == state.baseline.hour {
            for (sum, x) in state.dispersion.open[0].x.iter_mut().zip(x) {
                *sum += x;
            }
        } else {
            state.baseline.correct(hour_of(seen.at), x);
        }
        let warm = state.warm(seeded);
        if warm && !seen.late {
            let secs = u32::try_from(state.clock.secs()).unwrap_or(u32::MAX);
            let lasting = !cx.usual.bursting(cx.now);
            state.bank.add(x, &state.beta, secs, lasting);
        }
        if payments > 0.0 {
            state.learn_amount(usd);
        }
        let (sudden, lasting) = state.bank.strengths(&state.beta);
        state.heat = sudden;
        let day = day_of(seen.at);
        state.peak.see(sudden, day);
        state.peak_lasting.see(lasting, day);
        if state.baseline.hour != hour {
            state.publish_hour(cx.usual);
        }
        state.publish(cx.usual, sudden, lasting, state.warm(seeded));
        if f64::from(sudden) >= self.config.evidence.close {
            cx.wake_by(cx.now.after(LOOK_AGAIN));
        }
    }

    fn tick(&self, cx: &mut Context<'_, ()>, state: &mut State) {
        if state.clock == Timestamp::EPOCH {
            return;
        }
        let hours = silence(state.clock, cx.now);
        let bank = state.bank.after_silence(hours, state.baseline.rates);
        let (sudden, lasting) = bank.strengths(&state.beta);
        cx.usual.drift_nats = state.peak_lasting.beyond(lasting);
        let unit = 6.0 * cx.usual.dispersion_day;
        cx.usual.usd_per_day = state.baseline.mean()[2] * 24.0 * state.baseline.recent_ratio(unit, hours);
        if f64::from(sudden.max(lasting)) >= self.config.evidence.close {
            cx.wake_by(cx.now.after(LOOK_AGAIN));
        }
    }

    fn quiet(&self, view: &View<'_, ()>, state: &State) -> bool {
        self.config.evidence.quiet(state.heat.max(view.usual.loop_nats))
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        if state.clock == Timestamp::EPOCH {
            return;
        }
        let hours = silence(state.clock, view.now);
        let best = if hours > 0.02 {
            state.bank.after_silence(hours, state.baseline.rates).sudden(&state.beta)
        } else {
            state.bank.sudden(&state.beta)
        };
        signals.push(self.signal(view, state, best));
    }

    fn usual_at(&self, view: &View<'_, ()>, state: &State, at: Timestamp) -> Option<f64> {
        let hour = hour_of(at);
        let rates = match hour == state.baseline.hour {
            true => state.baseline.rates,
            false => state.expected(hour, self.prior(view.profile, state)),
        };
        view.usual.warm.then(|| f64::from(rates[2]))
    }
}

/// Hours between the newest payment and now.
fn silence(clock: Timestamp, now: Timestamp) -> f32 {
    (now.micros() - clock.micros()).max(0) as f32 / HOUR as f32
}

impl Velocity {
    fn signal(&self, view: &View<'_, ()>, state: &State, best: Finding) -> Signal {
        let end = view.now.max(state.clock);
        let window_hours = self.config.window.0.as_secs_f32() / 3600.0;
        let (usd, payments) = state.sliding.sum(end, self.part_micros);
        let (usd, payments) = (usd / window_hours, payments / window_hours);
        let [payments_usual, _, usd_usual] = state.baseline.rates;
        let ratio = (usd / usd_usual.max(1e-9)).max(payments / payments_usual.max(1e-9));
        let (since, excess) = state.bank.run(best.level);
        let warm = view.usual.warm;
        let by_bank = state.peak.beyond(best.nats);
        let looping = silence(state.clock, view.now) < 1.0;
        let loop_nats = if looping { view.usual.loop_nats } else { 0.0 };
        let by_loop = loop_nats > by_bank;
        let nats = if warm { f64::from(by_bank.max(loop_nats)) } else { 0.0 };
        let ratio_min = if by_loop { LOOP_RATIO.min(self.config.ratio) } else { self.config.ratio };
        let material = f64::from(ratio) >= ratio_min
            && f64::from(excess) >= self.config.material.0.dollars()
            && !announced(&view.profile.announcements, view.now, &SignalKind::Velocity, None);
        let verdict = if warm { self.config.evidence.verdict(nats, material) } else { Verdict::Learning };
        let mut signal = Signal::usual(SignalKind::Velocity, Unit::UsdPerHour);
        signal.verdict = verdict;
        signal.value = f64::from(usd);
        signal.usual = f64::from(usd_usual);
        signal.evidence = nats;
        signal.probability = probability(nats);
        if nats > 0.0 {
            signal.since = Some(if by_loop { view.usual.loop_since } else { since });
            signal.excess = at_stake(excess);
        }
        signal.basis = Basis {
            window_secs: u32::try_from(self.config.window.0.as_secs()).unwrap_or(u32::MAX),
            learned_hours: state.baseline.hours,
            weeks: u8::try_from(state.baseline.weeks(state.baseline.hour)).unwrap_or(0),
        };
        if by_loop {
            signal.facts.push((SmolStr::new_static("loop"), 1.0));
        }
        signal.facts.push((SmolStr::new_static("payments_per_hour"), f64::from(payments)));
        signal.facts.push((SmolStr::new_static("payments_per_hour_usual"), f64::from(payments_usual)));
        signal
    }
}
