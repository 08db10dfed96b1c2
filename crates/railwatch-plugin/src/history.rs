//! What an agent did lately, as rules and scores may ask.

use std::time::Duration;

use railwatch_model::{SmolStr, Timestamp, Usd};

/// Which payments of the window count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter<'a> {
    /// All.
    All,
    /// Those over this rail.
    Rail(&'a str),
    /// Those to this payee.
    Payee(&'a str),
    /// Those for this task.
    Task(&'a str),
}

/// Which property is counted by [`HistoryView::distinct`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Rails.
    Rail,
    /// Payees.
    Payee,
    /// Tasks.
    Task,
}

/// How much history the rules in force need; the engine keeps that and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryNeed {
    /// The longest window that is asked for; zero keeps no history.
    pub longest: Duration,
    /// True if rules ask about teams or the fleet as a whole too.
    pub groups: bool,
}

/// An agent's payments in event time, up to and including the one in hand.
pub trait HistoryView {
    /// Dollars spent in the last `window`.
    fn spent(&self, window: Duration, filter: Filter<'_>) -> Usd;
    /// Payments in the last `window`.
    fn count(&self, window: Duration, filter: Filter<'_>) -> u64;
    /// Different rails, payees or tasks in the last `window`.
    fn distinct(&self, window: Duration, dimension: Dimension) -> u64;
    /// The largest payment of the last `window`.
    fn largest(&self, window: Duration, filter: Filter<'_>) -> Usd;
    /// Declined and failed attempts in the last `window`.
    fn declined(&self, window: Duration) -> u64;
    /// When the agent first spent.
    fn first_seen_at(&self) -> Timestamp;
    /// When the agent spent before the payment in hand.
    fn previous_at(&self) -> Option<Timestamp>;
    /// True if this payee, rail or task was never seen before the payment in hand.
    fn is_new(&self, dimension: Dimension, value: &str) -> bool;
    /// Dollars spent in all, by rail, largest first.
    fn by_rail(&self) -> Vec<(SmolStr, Usd)>;
}
