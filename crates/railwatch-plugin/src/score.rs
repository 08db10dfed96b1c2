//! The anomaly score: one number in [0, 1] with contributions that add up to it.

use std::cell::OnceCell;
use std::ops::Deref;

use railwatch_model::{AgentId, Contribution, Payment, Signal, SignalKind, Subject, Timestamp};

use crate::detector::Profile;
use crate::history::HistoryView;

/// Everything that a scorer or a rule may look at: one subject at one moment.
pub struct Case<'a> {
    /// The journal's time.
    pub now: Timestamp,
    /// Event time: the payment's, or the tick's.
    pub at: Timestamp,
    /// The subject.
    pub subject: &'a Subject,
    /// The payment in hand; `None` on a tick.
    pub payment: Option<&'a Payment>,
    /// The detectors' signals, in detector order.
    pub signals: Signals<'a>,
    /// The score; zero while it is being computed.
    pub score: f64,
    /// What the configuration says about the subject.
    pub profile: &'a Profile,
    /// What the subject did lately.
    pub history: &'a dyn HistoryView,
}

impl std::fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("now", &self.now)
            .field("subject", &self.subject)
            .field("payment", &self.payment)
            .field("signals", &self.signals)
            .field("score", &self.score)
            .finish_non_exhaustive()
    }
}

impl Case<'_> {
    /// The signal of this kind, if its detector is on.
    pub fn signal(&self, kind: &SignalKind) -> Option<&Signal> {
        self.signals.iter().find(|signal| signal.kind == *kind)
    }

    /// The agent, if the subject is one.
    pub fn agent(&self) -> Option<&AgentId> {
        self.subject.agent()
    }
}

/// Signals, in detector order. Where nobody is likely to look, as with the payments of a calm agent, the detectors are
/// asked by the first look.
pub struct Signals<'a> {
    asked: OnceCell<Vec<Signal>>,
    from: Origin<'a>,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    Known(&'a [Signal]),
    AskQuiet(&'a dyn Fn(&mut Vec<Signal>)),
}

impl<'a> Signals<'a> {
    /// Signals that are known.
    pub fn known(signals: &'a [Signal]) -> Self {
        Self { asked: OnceCell::new(), from: Origin::Known(signals) }
    }

    /// Signals of quiet detectors, that `ask` appends to a list at the first look and at most once.
    pub fn ask_quiet(ask: &'a dyn Fn(&mut Vec<Signal>)) -> Self {
        Self { asked: OnceCell::new(), from: Origin::AskQuiet(ask) }
    }
}

impl Signals<'_> {
    /// True if every detector is known to be quiet (see [`Detector::quiet`](crate::detector::Detector::quiet)).
    pub fn are_quiet(&self) -> bool {
        matches!(self.from, Origin::AskQuiet(_))
    }
}

impl Deref for Signals<'_> {
    type Target = [Signal];

    fn deref(&self) -> &[Signal] {
        match self.from {
            Origin::Known(signals) => signals,
            Origin::AskQuiet(ask) => self.asked.get_or_init(|| {
                let mut signals = Vec::new();
                ask(&mut signals);
                signals
            }),
        }
    }
}

impl std::fmt::Debug for Signals<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A score and what it is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Score {
    /// Between 0 and 1: the clamped sum of the contributions.
    pub value: f64,
    /// The parts.
    pub contributions: Vec<Contribution>,
}

/// Why a score could not be computed; the engine then uses its built-in one and the alert says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScoreError(pub String);

/// Combines signals into a score. Called once per payment and per tick of a subject, on the engine's thread.
pub trait Scorer: Send + std::fmt::Debug {
    /// The score of a case.
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError>;

    /// True if a case in which every detector is quiet (see [`Detector::quiet`](crate::detector::Detector::quiet))
    /// scores nothing, so that the engine need not ask.
    fn ignores_quiet(&self) -> bool {
        false
    }
}
