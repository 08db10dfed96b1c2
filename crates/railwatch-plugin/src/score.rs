//! The anomaly score: one number in [0, 1] with contributions that add up to it.

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
    pub signals: &'a [Signal],
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
