//! The engine's boundary: a timeline of payments in, alerts and notices out.

mod freeze;
mod laws;
mod life;
mod publication;
mod timeline;

use std::time::Duration;

use railwatch_model::{
    Admitted, AgentId, Asset, Identity, Money, Payment, Rate, Record, Signal, SignalKind, Timestamp, Unit,
    Usd, Valuation, Verdict,
};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::detector::{AgentConfig, Context, Detector, Observation, Profile, View};
use railwatch_plugin::rules::NoRules;
use railwatch_plugin::score::{Case, Score, ScoreError, Scorer};
use serde::{Deserialize, Serialize};

use crate::{Accepted, Directory, Effects, Engine, Generation, Settings};

/// The simplest detector there is: dollars in the current fixed minute against a limit. It fires above the limit, is
/// raised above half of it, and asks to be woken when the minute is over.
#[derive(Debug)]
struct MinuteLimit {
    usd: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Minute {
    index: i64,
    usd: Usd,
}

impl Detector for MinuteLimit {
    type State = Minute;
    type Shared = u64;

    fn name(&self) -> &'static str {
        "minute_limit"
    }

    fn observe(&self, cx: &mut Context<'_, u64>, state: &mut Minute, seen: &Observation<'_>) {
        *cx.shared += 1;
        let index = cx.now.secs().div_euclid(60);
        if index != state.index {
            *state = Minute { index, usd: Usd::ZERO };
        }
        if !seen.late {
            state.usd = state.usd.plus(seen.booking.committed);
        }
        cx.wake_by(Timestamp::from_secs((index + 1) * 60));
    }

    fn tick(&self, cx: &mut Context<'_, u64>, state: &mut Minute) {
        let index = cx.now.secs().div_euclid(60);
        if index != state.index {
            *state = Minute { index, usd: Usd::ZERO };
        }
        if state.usd > Usd::ZERO {
            cx.wake_by(Timestamp::from_secs((index + 1) * 60));
        }
    }

    fn quiet(&self, _view: &View<'_, u64>, state: &Minute) -> bool {
        state.usd.dollars() <= self.usd / 2.0
    }

    fn signals(&self, _view: &View<'_, u64>, state: &Minute, signals: &mut Vec<Signal>) {
        let mut signal = Signal::usual(SignalKind::Custom("minute_limit".into()), Unit::Usd);
        signal.value = state.usd.dollars();
        signal.usual = self.usd;
        signal.verdict = match signal.ratio() {
            ratio if ratio > 1.0 => Verdict::Firing,
            ratio if ratio > 0.5 => Verdict::Raised,
            _ => Verdict::Usual,
        };
        signals.push(signal);
    }
}

#[derive(Debug)]
struct NoScore;

impl Scorer for NoScore {
    fn score(&mut self, _case: &Case<'_>) -> Result<Score, ScoreError> {
        Ok(Score::default())
    }
}

fn detectors(usd: f64) -> Vec<Box<dyn Column>> {
    vec![column(MinuteLimit { usd })]
}

fn generation(number: u64, usd: f64) -> Generation {
    let agent = |id: &str, address: &str| AgentConfig {
        id: AgentId::new(id).unwrap(),
        profile: Profile::default(),
        identities: vec![("evm.address".into(), address.into())],
        quiet_after: None,
    };
    Generation {
        number,
        digest: "test".into(),
        settings: Settings { clear_after: Duration::from_secs(600), ..Settings::default() },
        directory: Some(Directory::new(vec![agent("a1", "0xa1"), agent("a2", "0xa2")])),
        columns: detectors(usd),
        scorer: Box::new(NoScore),
        rules: Box::new(NoRules),
    }
}

fn engine() -> Engine {
    Engine::new([7; 16], generation(1, 100.0))
}

fn payment(agent: &str, id: &str, secs: i64, dollars: i64) -> Payment {
    let amount = Money::new(i128::from(dollars) * 100, Asset::usd());
    let mut payment = Payment::settle("x402", id, amount, Timestamp::from_secs(secs));
    payment.spender = vec![Identity::new(Identity::AGENT, agent)];
    payment.valuation = Some(Valuation { usd: Usd::from_cents(dollars * 100), rate: Rate::peg() });
    payment
}

/// Admits and applies payments that arrive at `secs`; returns what was accepted.
fn feed(engine: &mut Engine, secs: i64, payments: Vec<Payment>, effects: &mut Effects) -> Vec<Admitted> {
    let now = Timestamp::from_secs(secs);
    let mut accepted = Accepted::default();
    engine.admit(now, payments, &mut accepted);
    let admitted = accepted.payments.clone();
    engine.apply(1, &accepted.into_record(now), effects);
    admitted
}

fn tick(engine: &mut Engine, secs: i64, effects: &mut Effects) {
    engine.apply(1, &Record::Tick { now: Timestamp::from_secs(secs) }, effects);
}
