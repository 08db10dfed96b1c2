//! Rules: the user's own conditions. The engine sees this trait; Lua is one way to implement it.

use std::collections::BTreeMap;
use std::time::Duration;

use railwatch_model::{Severity, SmolStr};

use crate::history::HistoryNeed;
use crate::score::Case;

/// A rule's persisted notes about one subject: small keys and values under a quota, owned by the engine.
pub type RuleState = BTreeMap<SmolStr, SmolStr>;

/// A set of rules, compiled and tested; replaced as a whole on reload.
pub trait RuleSet: Send + std::fmt::Debug {
    /// The rules, in evaluation order. Ids are stable across files and reloads.
    fn rules(&self) -> &[RuleInfo];

    /// How much history they ask for.
    fn need(&self) -> HistoryNeed;

    /// Evaluates every rule on a case and reports those whose condition holds. A rule that is not reported is one
    /// whose condition does not hold. `states` has one entry per rule, in the order of [`RuleSet::rules`]; changes
    /// are persisted. Never fails: errors are the rule set's to count and show.
    fn evaluate(&mut self, case: &Case<'_>, states: &mut [RuleState], firings: &mut Vec<Firing>);
}

/// What the engine needs to know of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// The id.
    pub id: SmolStr,
    /// The severity of its alerts.
    pub severity: Severity,
    /// How long the condition must hold before people are told.
    pub hold: Duration,
    /// How long the condition must be false before the alert resolves.
    pub clear_after: Duration,
    /// True if it runs live and tells nobody.
    pub shadow: bool,
}

/// A rule whose condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The index in [`RuleSet::rules`].
    pub rule: usize,
    /// Why, for people: at most 500 characters.
    pub why: String,
}

/// No rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRules;

impl RuleSet for NoRules {
    fn rules(&self) -> &[RuleInfo] {
        &[]
    }

    fn need(&self) -> HistoryNeed {
        HistoryNeed::default()
    }

    fn evaluate(&mut self, _case: &Case<'_>, _states: &mut [RuleState], _firings: &mut Vec<Firing>) {}
}
