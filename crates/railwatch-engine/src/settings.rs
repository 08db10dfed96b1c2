//! What a configuration generation can change about the engine.

use std::time::Duration;

use railwatch_model::{Severity, SmolStr, Usd};
use railwatch_plugin::column::Column;
use railwatch_plugin::rules::RuleSet;
use railwatch_plugin::score::Scorer;

use crate::identity::Directory;
use crate::seen::SeenLimits;

/// Thresholds and limits of the engine itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A score above this opens a review.
    pub review_above: f64,
    /// An open review stays open down to this score.
    pub review_close_below: f64,
    /// An alert resolves when its trigger was quiet for this long.
    pub clear_after: Duration,
    /// A trigger that fires again within this time after resolution continues its episode.
    pub reopen_within: Duration,
    /// People are reminded of an incident that nobody took, this often.
    pub remind_every: Duration,
    /// News of an incident that joins it later waits until this long after the last notice.
    pub group_interval: Duration,
    /// Money at risk from which an alert is medium, high and critical.
    pub severity_from: [Usd; 3],
    /// Agents without a payment for this long leave memory; their state stays in the store.
    pub idle_after: Duration,
    /// Agents kept in memory at most.
    pub subjects_max: usize,
    /// Bounds of the deduplication memory.
    pub seen: SeenLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            review_above: 0.7,
            review_close_below: 0.5,
            clear_after: Duration::from_secs(3600),
            reopen_within: Duration::from_secs(1800),
            remind_every: Duration::from_secs(12 * 3600),
            group_interval: Duration::from_secs(300),
            severity_from: [Usd::ONE, Usd::from_cents(2_000), Usd::from_cents(50_000)],
            idle_after: Duration::from_secs(24 * 3600),
            subjects_max: 1_000_000,
            seen: SeenLimits::default(),
        }
    }
}

impl Settings {
    /// The severity that money at risk deserves.
    pub(crate) fn severity(&self, at_risk: Usd) -> Severity {
        let [medium, high, critical] = self.severity_from;
        match at_risk {
            usd if usd >= critical => Severity::Critical,
            usd if usd >= high => Severity::High,
            usd if usd >= medium => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// Everything that can be replaced while the engine runs. Built in full before anything running is touched.
#[derive(Debug)]
pub struct Generation {
    /// The number; later generations have larger ones.
    pub number: u64,
    /// The hash of the configuration that it was built from.
    pub digest: SmolStr,
    /// Thresholds and limits.
    pub settings: Settings,
    /// Agents, teams, identities.
    pub directory: Directory,
    /// Detectors in evaluation order, in empty columns; running ones hand their state over by name.
    pub columns: Vec<Box<dyn Column>>,
    /// The score.
    pub scorer: Box<dyn Scorer>,
    /// The rules.
    pub rules: Box<dyn RuleSet>,
}
