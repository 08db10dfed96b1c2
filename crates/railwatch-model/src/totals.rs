//! What was ever booked for a subject.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Usd;

/// Sums of everything that was ever booked for a subject, in dollars.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Committed spend.
    pub committed: Usd,
    /// Settled spend, net.
    pub settled: Usd,
    /// Held now.
    pub held: Usd,
    /// Put aside.
    pub deposited: Usd,
    /// Earned.
    pub earned: Usd,
    /// Purchases.
    pub purchases: i64,
    /// Declined attempts.
    pub declined: u64,
    /// Tasks that were reported as finished: a lower bound, because instrumentation samples.
    pub tasks: u64,
    /// Those of them that ended with an error.
    pub tasks_failed: u64,
}
