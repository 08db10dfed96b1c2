//! Theft: money goes to a payee that this agent never paid, over a rail that it never used.
//!
//! How surprising that is follows from how often the agent finds new payees (Good-Turing); every further payment of
//! the pair adds to it, the more the larger it is. After three days the pair is part of the usual.

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
use crate::evidence::{Thresholds, migrating, minute_of, signal};

/// `[detectors.new_payee]`.
pub const PLUGIN: DetectorPlugin = DetectorPlugin {
    name: "new_payee",
    summary: "money goes to an unknown payee over an unknown rail",
    example: "[detectors.new_payee]\n",
    schema: || schema_for!(Config),
    build: |table| build(parse(table)?),
};

const QUARTER: i64 = 900_000_000;
/// Payees that are remembered per agent, the newest.
const PAYEES_MAX: usize = 24;
/// Rails that are remembered per agent.
const RAILS_MAX: usize = 16;
/// After this long a new pair is usual.
const SETTLED: i64 = 3 * 86_400_000_000;
/// In this time without a payment of the pair half of the evidence fades.
const FADES: i64 = SETTLED / 6;
/// After this long without a payment of the pair its alert may close.
const IDLE: i64 = SETTLED / 6;
/// Payments before which everything is new.
const PAYMENTS_MIN: u32 = 50;
const NATS_MAX: f32 = 40.0;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Evidence thresholds.
    pub evidence: Thresholds,
}

fn build(config: Config) -> Result<Box<dyn Column>, ConfigError> {
    Ok(column(NewPayee { config }))
}

/// The detector.
#[derive(Debug)]
pub struct NewPayee {
    config: Config,
}

/// What it knows of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Payees that were paid, and when they last were, in minutes since the epoch.
    payees: SmallVec<[(u32, u32); 4]>,
    /// Rails that are usual.
    rails: SmallVec<[u32; 2]>,
    /// Payees that were new when they were first paid, the very first not counted.
    discoveries: u32,
    /// Quarters of an hour with payments.
    quarters: u32,
    /// The last of them.
    quarter: i64,
    /// The pair that is suspected.
    suspect: Option<Suspect>,
}

/// A new payee over a new rail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Suspect {
    payee: SmolStr,
    rail: u32,
    nats: f32,
    /// The first and the newest payment.
    since: Timestamp,
    last: Timestamp,
    spent: f32,
    payments: u32,
}

impl State {
    /// Notes the payee; true if it was never seen.
    fn note(&mut self, id: u32, minute: u32) -> bool {
        if let Some((_, paid)) = self.payees.iter_mut().find(|(payee, _)| *payee == id) {
            *paid = minute.max(*paid);
            return false;
        }
        if self.payees.len() >= PAYEES_MAX {
            let oldest = self.payees.iter().enumerate().min_by_key(|(_, (_, paid))| *paid);
            let index = oldest.map_or(0, |(index, _)| index);
            self.payees.swap_remove(index);
        }
        self.payees.push((id, minute));
        true
    }

    /// A payment to `payee` is void. Without any that stands, nothing is suspected.
    fn take_back(&mut self, payee: &str, usd: f32) {
        if let Some(suspect) = self.suspect.as_mut().filter(|suspect| suspect.payee == payee) {
            suspect.spent = (suspect.spent - usd).max(0.0);
            suspect.payments = suspect.payments.saturating_sub(1);
            suspect.nats = (suspect.nats - 0.9).max(0.0);
            if suspect.payments == 0 {
                self.payees.retain(|(id, _)| *id != fingerprint(payee));
                self.suspect = None;
            }
        }
    }

    /// Makes a rail usual.
    fn settle(&mut self, rail: u32) {
        if !self.rails.contains(&rail) && self.rails.len() < RAILS_MAX {
            self.rails.push(rail);
        }
    }

    /// How surprising a new payee on a new rail is.
    fn surprise(&self) -> f32 {
        let quarters = self.quarters as f32 + 1.0;
        let payee = (quarters / (self.discoveries as f32 + 0.5)).ln().min(5.0);
        let rail = (quarters / 0.5).ln().min(6.0);
        0.75 * (payee + rail)
    }
}

impl Suspect {
    /// A further payment of the pair, `z` standard deviations above the agent's usual amount.
    fn add(&mut self, z: f32, usd: f32, at: Timestamp) {
        let since = (at.micros() - self.last.micros()).max(0);
        let apart = if since > 120_000_000 { 0.9 } else { 0.0 };
        // A thief goes on; a purchase every other day is a habit that begins.
        self.nats *= 0.5_f32.powf(since as f32 / FADES as f32);
        let gain = (z.clamp(-1.0, 2.5) + apart).max(-0.5);
        self.nats = (self.nats + gain).clamp(0.0, NATS_MAX);
        self.last = self.last.max(at);
        self.spent += usd;
        self.payments = self.payments.saturating_add(1);
    }
}

impl Detector for NewPayee {
    type State = State;
    type Shared = ();

    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn touch(&self, state: &State) -> u32 {
        let payees = state.payees.iter().step_by(8);
        payees.fold(state.quarters, |all, (payee, _)| all ^ payee)
    }

    fn observe(&self, cx: &mut Context<'_, ()>, state: &mut State, seen: &Observation<'_>) {
        let usd = dollars(seen.booking.committed).max(0.0);
        let Some(payee) = seen.payment.payee.as_ref() else { return };
        if seen.booking.purchases < 0 {
            state.take_back(payee, -dollars(seen.booking.committed));
        }
        if seen.booking.purchases <= 0 {
            return;
        }
        let quarter = seen.at.micros().div_euclid(QUARTER);
        if quarter > state.quarter {
            (state.quarter, state.quarters) = (quarter, state.quarters.saturating_add(1));
        }
        if let Some(rail) = state.suspect.as_ref().filter(|s| seen.at.micros() - s.since.micros() > SETTLED) {
            let rail = rail.rail;
            state.settle(rail);
            state.suspect = None;
        }
        let rail = fingerprint(&seen.payment.rail);
        let minute = minute_of(seen.at);
        let new = state.note(fingerprint(payee), minute);
        if new && cx.usual.payments > 1 {
            state.discoveries = state.discoveries.saturating_add(1);
        }
        let kind = SignalKind::NewPayee;
        let unknown_rail = !state.rails.contains(&rail);
        if new
            && unknown_rail
            && cx.usual.warm
            && cx.usual.payments > PAYMENTS_MIN
            && !migrating(&cx.profile.announcements, seen.at, &kind, &seen.payment.rail)
        {
            let nats = state.surprise();
            let (since, last) = (seen.at, seen.at);
            state.suspect =
                Some(Suspect { payee: payee.clone(), rail, nats, since, last, spent: 0.0, payments: 0 });
        }
        match &mut state.suspect {
            Some(suspect) if suspect.rail == rail && suspect.payee == *payee => {
                let z = (usd.max(1e-7).ln() - cx.usual.amount_log_mean) / cx.usual.amount_log_sd.max(0.3);
                suspect.add(z, usd, seen.at);
                cx.usual.report(cx.now, suspect.nats);
            }
            _ if unknown_rail => state.settle(rail),
            _ => {}
        }
    }

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut State) {}

    fn quiet(&self, _view: &View<'_, ()>, state: &State) -> bool {
        state.suspect.as_ref().is_none_or(|suspect| self.config.evidence.quiet(suspect.nats))
    }

    fn signals(&self, view: &View<'_, ()>, state: &State, signals: &mut Vec<Signal>) {
        let Some(suspect) = &state.suspect else { return };
        let nats = f64::from(suspect.nats);
        let stands = view.now.micros() - suspect.since.micros() <= SETTLED
            && view.now.micros() - suspect.last.micros() <= IDLE;
        if nats < 3.0 || !stands {
            return;
        }
        let verdict = self.config.evidence.verdict(nats, true);
        let mut signal = signal(SignalKind::NewPayee, Unit::Usd, nats, verdict);
        signal.value = f64::from(suspect.spent);
        signal.about = Some(suspect.payee.clone());
        signal.since = Some(suspect.since);
        signal.excess = at_stake(signal.value);
        signal.basis = Basis { window_secs: 0, learned_hours: view.usual.learned_hours, weeks: 0 };
        signal.facts.push((SmolStr::new_static("payments"), f64::from(suspect.payments)));
        signals.push(signal);
    }
}
