//! Budget burn: percent of the budget per day, days until it is empty against the days that remain, and the chance
//! that it does not last.
//!
//! Spent is what settled net of refunds plus what is held. Every ten minutes the projection (spent so far plus the
//! learned rate for the rest of the period) is compared with the budget; evidence adds up while it exceeds it. An
//! overdrawn budget is certain.

use std::time::Duration;

use railwatch_model::{Basis, Signal, SignalKind, SmolStr, Timestamp, Unit, Usd, Verdict};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::detector::{Budget, Context, Detector, Observation, Scope, Usual, View};
use railwatch_plugin::registry::DetectorPlugin;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::amount::{at_stake, dollars, narrow};
use crate::compact::fingerprint;
use crate::evidence::{Thresholds, announced, probability};
use crate::period::bounds;

/// `[detectors.budget]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "budget",
    summary: "percent of a budget per day, and whether it lasts",
    example: "[detectors.budget]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

const DAY: i64 = 86_400_000_000;
/// How often the projection is tested.
const TEST_EVERY: Duration = Duration::from_secs(600);
/// How soon a budget that is in doubt is looked at again without a payment.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
const NATS_MAX: f32 = 40.0;
const OFFSET: f32 = 4.0;
/// Budgets per subject; further ones are not watched.
const BUDGETS_MAX: usize = 8;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(BurnRate { config }))
}

/// The detector.
#[derive(Debug)]
pub struct BurnRate {
    config: Config,
}

/// What it knows of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Dollars of the last eight days, today first.
    days: [f32; 8],
    /// Today, in days since the epoch; zero before the first payment.
    day: i64,
    /// The first day.
    first: i64,
    /// What is held and may still be captured.
    held: Usd,
    /// When the projection is tested next.
    test_at: Timestamp,
    spendings: SmallVec<[Spending; 1]>,
}

/// What is spent of one budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Spending {
    /// The budget's name.
    id: u32,
    /// The period.
    from: Timestamp,
    until: Timestamp,
    /// Settled net in the period.
    settled: Usd,
    nats: f32,
    since: Timestamp,
}

/// A budget's outlook.
#[derive(Debug, Clone, Copy)]
struct Outlook {
    amount: f64,
    spent: f64,
    /// Dollars per day from now on.
    rate: f64,
    /// Days that remain, and in the whole period.
    left: f64,
    length: f64,
    /// Standard deviation of what will be spent in the days that remain.
    sd: f64,
}

impl Outlook {
    fn projected(&self) -> f64 {
        self.spent + self.rate * self.left
    }

    fn days_until_empty(&self) -> f64 {
        ((self.amount - self.spent).max(0.0) / self.rate.max(1e-9)).min(36_500.0)
    }

    /// True if it is empty well before the period ends.
    fn runs_out(&self) -> bool {
        self.spent >= self.amount || self.days_until_empty() < self.left - self.length.min(28.0) / 56.0
    }
}

impl State {
    fn note(&mut self, at: Timestamp, usd: f32) {
        let day = at.micros().div_euclid(DAY);
        if self.day == 0 {
            (self.day, self.first) = (day, day);
        }
        let passed = usize::try_from((day - self.day).clamp(0, 8)).unwrap_or(0);
        self.days.copy_within(0..8 - passed, passed);
        self.days[..passed].fill(0.0);
        self.day = self.day.max(day);
        if let Some(sum) = usize::try_from(self.day - day).ok().and_then(|back| self.days.get_mut(back)) {
            *sum += usd;
        }
    }

    /// Mean and variance of the days before today that were seen.
    fn of_days(&self) -> Option<(f64, f64)> {
        let n = usize::try_from((self.day - self.first).clamp(0, 7)).unwrap_or(0);
        let past = self.days.get(1..=n).filter(|past| past.len() >= 2)?;
        let mean = past.iter().map(|usd| f64::from(*usd)).sum::<f64>() / n as f64;
        let variance = past.iter().map(|usd| (f64::from(*usd) - mean).powi(2)).sum::<f64>();
        Some((mean.max(0.0), variance / (n as f64 - 1.0)))
    }

    /// Dollars per day and dispersion: what velocity learned, or else the last days.
    fn rate(&self, usual: &Usual) -> Option<(f64, f64)> {
        if usual.warm {
            return Some((f64::from(usual.usd_per_day), f64::from(usual.dispersion_day)));
        }
        let (mean, variance) = self.of_days()?;
        Some((mean, variance.max(mean * mean / 4.0) / mean.max(1e-9)))
    }

    fn outlook(&self, budget: &Budget, spending: &Spending, usual: &Usual, at: Timestamp) -> Option<Outlook> {
        let days = |until: Timestamp, from: Timestamp| (until.micros() - from.micros()) as f64 / DAY as f64;
        let length = days(spending.until, spending.from).max(1e-6);
        let left = days(spending.until, at).clamp(0.0, length);
        let spent = spending.settled.plus(self.held).dollars();
        let elapsed = (length - left).max(length / 10.0);
        let (mut rate, mut phi) = self.rate(usual).unwrap_or((0.0, 0.0));
        if phi == 0.0 || length <= 1.0 {
            // Nothing is learned, or the period is shorter than what is learned: the period's own pace counts.
            let pace = spent.max(0.0) / elapsed;
            (rate, phi) = (rate.max(pace), phi.max(pace * length / 4.0));
        }
        let amount = budget.amount.dollars();
        let sd = (phi * rate * left + (0.15 * rate * left).powi(2)).sqrt() + 1e-9;
        (amount > 0.0).then_some(Outlook { amount, spent, rate, left, length, sd })
    }

    /// Compares every budget's projection with its amount.
    /// Silence (`spends` false) is no evidence of burning.
    fn test(&mut self, cx: &mut Context<'_, ()>, spends: bool) {
        if spends {
            self.test_at = cx.now.after(TEST_EVERY);
        }
        let at = cx.clock.max(cx.now);
        let known = cx.usual.warm || self.of_days().is_some();
        for index in 0..self.spendings.len() {
            let spending = &self.spendings[index];
            let Some(budget) = cx.profile.budgets.get(index) else { continue };
            let Some(outlook) = self.outlook(budget, spending, cx.usual, at) else { continue };
            let spending = &mut self.spendings[index];
            let before = spending.nats;
            spending.nats = judge(before, &outlook, known);
            if !spends && spending.nats < NATS_MAX {
                spending.nats = spending.nats.min(before);
            }
            if before <= 0.0 && spending.nats > 0.0 {
                // A payment begins it at its own time, silence at the present.
                spending.since = if spends { cx.clock } else { at };
            }
            if spending.nats > 0.0 {
                cx.wake_by(cx.now.after(LOOK_AGAIN));
            }
        }
    }
}

fn judge(nats: f32, outlook: &Outlook, known: bool) -> f32 {
    if outlook.spent >= outlook.amount {
        return NATS_MAX;
    }
    // What is left of the period's last hours says nothing.
    if !known || outlook.left <= outlook.length * 0.007 {
        return nats;
    }
    let z = (outlook.projected() - outlook.amount) / outlook.sd;
    if z > 1.0 && outlook.runs_out() {
        (nats + 0.6 * (narrow(z) - 0.5).min(3.0)).min(NATS_MAX)
    } else {
        (nats - 1.5).max(0.0)
    }
}

impl Detector for BurnRate {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn scope(&self) -> Scope {
        Scope::ALL
    }

    fn touch(&self, state: &State) -> u32 {
        state
            .spendings
            .iter()
            .fold(state.days[0].to_bits(), |all, spending| all ^ spending.id ^ spending.nats.to_bits())
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        if cx.profile.budgets.is_empty() {
            return;
        }
        let settled = seen.booking.settled;
        state.held = state.held.plus(seen.booking.held);
        state.note(seen.at, dollars(settled));
        let mut overdrawn = false;
        for (index, budget) in cx.profile.budgets.iter().take(BUDGETS_MAX).enumerate() {
            let spending = slot(&mut state.spendings, index, budget);
            if seen.at >= spending.until {
                let (from, until) = bounds(budget.period, budget.tz, seen.at);
                *spending = Spending { id: spending.id, from, until, ..Spending::default() };
            }
            if (spending.from..spending.until).contains(&seen.at) {
                spending.settled = spending.settled.plus(settled);
            }
            overdrawn |= spending.nats < NATS_MAX && spending.settled.plus(state.held) >= budget.amount;
        }
        if overdrawn || cx.now >= state.test_at {
            state.test(cx, true);
        }
    }

    fn tick(&self, cx: &mut Context<'_, ()>, state: &mut State) {
        if !state.spendings.is_empty() {
            for (index, budget) in cx.profile.budgets.iter().take(BUDGETS_MAX).enumerate() {
                let spending = slot(&mut state.spendings, index, budget);
                if cx.now >= spending.until {
                    let (from, until) = bounds(budget.period, budget.tz, cx.now);
                    *spending = Spending { id: spending.id, from, until, ..Spending::default() };
                }
            }
            state.test(cx, false);
        }
    }

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        let quiet = |nats: f32| nats <= 0.0 || self.config.evidence.quiet(nats + OFFSET);
        state.spendings.iter().all(|spending| quiet(spending.nats))
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        let budgets = view.profile.budgets.iter().zip(&state.spendings);
        // The budget with the most evidence; without any, the one that is used up the most.
        let outlooks = budgets.filter_map(|(budget, spending)| {
            Some((budget, spending, state.outlook(budget, spending, view.usual, view.now)?))
        });
        let worst = outlooks.max_by(|(_, a, a_outlook), (_, b, b_outlook)| {
            let used = |outlook: &Outlook| outlook.spent / outlook.amount;
            a.nats.total_cmp(&b.nats).then(used(a_outlook).total_cmp(&used(b_outlook)))
        });
        if let Some((budget, spending, outlook)) = worst {
            signals.push(self.signal(view, state, budget, spending, &outlook));
        }
    }
}

/// The spending of the budget at `index`, begun anew if another budget was there.
fn slot<'a>(spendings: &'a mut SmallVec<[Spending; 1]>, index: usize, budget: &Budget) -> &'a mut Spending {
    let id = fingerprint(&budget.name);
    while spendings.len() <= index {
        spendings.push(Spending::default());
    }
    if spendings[index].id != id {
        // Budgets may have been listed in another order.
        if let Some(other) = (0..spendings.len()).find(|other| spendings[*other].id == id) {
            spendings.swap(index, other);
        } else {
            spendings[index] = Spending { id, ..Spending::default() };
        }
    }
    &mut spendings[index]
}

impl BurnRate {
    fn signal(
        &self,
        view: &View<'_, ()>,
        state: &State,
        budget: &Budget,
        spending: &Spending,
        outlook: &Outlook,
    ) -> Signal {
        let mut signal = Signal::usual(SignalKind::Budget, Unit::PercentPerDay);
        signal.value = 100.0 * outlook.rate / outlook.amount;
        signal.usual = 100.0 / outlook.length;
        signal.about = Some(budget.name.clone());
        if spending.nats > 0.0 {
            signal.evidence = f64::from(spending.nats + OFFSET);
            signal.probability = probability(signal.evidence);
            signal.since = Some(spending.since);
        }
        let quiet = announced(&view.profile.announcements, view.now, &SignalKind::Budget, None);
        signal.verdict = self.config.evidence.verdict(signal.evidence, outlook.runs_out() && !quiet);
        if signal.verdict == Verdict::Usual && !view.usual.warm && state.of_days().is_none() {
            signal.verdict = Verdict::Learning;
        }
        let overrun = (outlook.projected() - outlook.amount).max(0.0);
        signal.excess = at_stake(overrun);
        let window_secs = u32::try_from(spending.until.since(spending.from).as_secs()).unwrap_or(u32::MAX);
        signal.basis = Basis { window_secs, learned_hours: view.usual.learned_hours, weeks: 0 };
        for (name, fact) in [
            ("days_until_empty", outlook.days_until_empty()),
            ("days_left", outlook.left),
            ("percent_used", 100.0 * outlook.spent / outlook.amount),
            ("projected_usd", outlook.projected()),
            ("burn_acceleration", acceleration(state, view.now)),
        ] {
            signal.facts.push((SmolStr::new_static(name), fact));
        }
        signal
    }
}

/// How much faster money is spent today than yesterday: 0 for as fast, 1 for twice as fast.
fn acceleration(state: &State, now: Timestamp) -> f64 {
    let passed = (now.micros().rem_euclid(DAY) as f64 / DAY as f64).max(0.04);
    let [today, yesterday, ..] = state.days;
    if yesterday <= 0.0 || now.micros().div_euclid(DAY) != state.day {
        return 0.0;
    }
    (f64::from(today) / passed / f64::from(yesterday) - 1.0).clamp(0.0, 1e6)
}
