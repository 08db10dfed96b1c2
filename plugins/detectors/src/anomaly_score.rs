//! The anomaly score, built in: two scorers behind the public [`Scorer`] trait.
//!
//! *Probability*, the default: the probabilities of independent groups of signals, combined by
//! `1 - prod(1 - p)`, and never below the founding sum of those of its inputs that have evidence behind them.
//! *Founding*: `0.4 min(velocity_ratio / 5, 1) + 0.3 rail_shift + 0.3 min(burn_acceleration, 1)`, verbatim.
//!
//! Invariant: the contributions of a score add up to its value exactly.

use railwatch_model::{Contribution, Signal, SignalKind, SmolStr, Verdict};
use railwatch_plugin::score::{Case, Score, ScoreError, Scorer};
use smallvec::SmallVec;

/// The scorer with this name: `probability` or `founding`.
pub fn scorer(name: &str) -> Option<Box<dyn Scorer>> {
    match name {
        "probability" => Some(Box::new(Probability)),
        "founding" => Some(Box::new(Founding)),
        _ => None,
    }
}

/// The default: calibrated probabilities.
#[derive(Debug, Clone, Copy, Default)]
pub struct Probability;

/// The founding formula.
#[derive(Debug, Clone, Copy, Default)]
pub struct Founding;

/// Signals that see the same thing from several sides; only the strongest of a group counts.
fn group(kind: &SignalKind) -> &'static str {
    match kind {
        SignalKind::Velocity | SignalKind::Drift | SignalKind::Dormant | SignalKind::Duplicate => "velocity",
        SignalKind::RailShift | SignalKind::NewRail | SignalKind::NewPayee => "rail_shift",
        SignalKind::Budget => "budget",
        SignalKind::Price => "price",
        SignalKind::Review | SignalKind::Custom(_) => "other",
    }
}

type Parts = SmallVec<[(SmolStr, f64); 4]>;

impl Scorer for Probability {
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError> {
        let founding = founding(case, |signal| signal.verdict >= Verdict::Raised && signal.probability > 0.0);
        let mut score = add_up(noisy_or(&case.signals));
        if founding.iter().map(|(_, points)| points).sum::<f64>() > score.value {
            score = add_up(founding);
        }
        Ok(score)
    }

    fn ignores_quiet(&self) -> bool {
        true
    }
}

impl Scorer for Founding {
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError> {
        Ok(add_up(founding(case, |_| true)))
    }
}

/// `1 - prod(1 - p)`, split among the groups in proportion to `-ln(1 - p)`.
fn noisy_or(signals: &[Signal]) -> Parts {
    let mut parts: Parts = SmallVec::new();
    for signal in signals.iter().filter(|signal| signal.verdict != Verdict::Learning) {
        let probability = if signal.probability.is_finite() { signal.probability } else { 0.0 };
        let surprise = -(1.0 - probability.clamp(0.0, 0.9999)).ln();
        if surprise <= 0.0 {
            continue;
        }
        let name = match &signal.kind {
            SignalKind::Custom(name) => name.clone(),
            known => SmolStr::new_static(group(known)),
        };
        match parts.iter_mut().find(|(group, _)| *group == name) {
            Some((_, most)) => *most = most.max(surprise),
            None => parts.push((name, surprise)),
        }
    }
    let total: f64 = parts.iter().map(|(_, surprise)| surprise).sum();
    let value = 1.0 - (-total).exp();
    for (_, part) in &mut parts {
        *part *= value / total;
    }
    parts
}

/// The terms of the founding formula whose signals `count`.
fn founding(case: &Case<'_>, count: impl Fn(&Signal) -> bool) -> Parts {
    let signal = |kind| case.signal(&kind).filter(|signal| count(signal));
    let velocity = signal(SignalKind::Velocity).map_or(0.0, |signal| (signal.ratio() / 5.0).min(1.0));
    let rail_shift = signal(SignalKind::RailShift)
        .filter(|signal| signal.fact("dominant").is_some_and(|dominant| dominant > 0.0))
        .map_or(0.0, |signal| signal.value);
    let burn = signal(SignalKind::Budget).and_then(|signal| signal.fact("burn_acceleration"));
    let terms = [
        ("velocity", 0.4 * velocity),
        ("rail_shift", 0.3 * rail_shift.clamp(0.0, 1.0)),
        ("budget", 0.3 * burn.unwrap_or(0.0).clamp(0.0, 1.0)),
    ];
    let terms = terms.into_iter().filter(|(_, points)| *points > 0.0);
    terms.map(|(name, points)| (SmolStr::new_static(name), points)).collect()
}

/// The score that these parts make.
fn add_up(parts: Parts) -> Score {
    let contributions: Vec<_> =
        parts.into_iter().map(|(name, points)| Contribution { name, points }).collect();
    let value = contributions.iter().map(|part| part.points).sum::<f64>() + 0.0;
    Score { value, contributions }
}
