//! Dollars and payments of the last minutes, in event time.

use railwatch_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Parts that the window is counted in.
const SLOTS: usize = 15;

/// A sliding window of fifteen parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sliding {
    /// The newest part, counted in parts since the epoch.
    newest: i64,
    /// Dollars by part, modulo fifteen.
    usd: [f32; SLOTS],
    /// Payments by part.
    payments: [f32; SLOTS],
}

impl Sliding {
    /// Adds a payment; one that is older than the window is not part of it.
    pub(crate) fn add(&mut self, at: Timestamp, part_micros: i64, payments: f32, usd: f32) {
        let part = at.micros().div_euclid(part_micros.max(1));
        if part > self.newest {
            for passed in 0..(part - self.newest).min(SLOTS as i64) {
                let slot = Self::slot(part - passed);
                (self.usd[slot], self.payments[slot]) = (0.0, 0.0);
            }
            self.newest = part;
        }
        if self.newest - part < SLOTS as i64 {
            let slot = Self::slot(part);
            self.usd[slot] += usd;
            self.payments[slot] += payments;
        }
    }

    /// Dollars and payments in the window that ends at `now`.
    pub(crate) fn sum(&self, now: Timestamp, part_micros: i64) -> (f32, f32) {
        let end = now.micros().div_euclid(part_micros.max(1)).max(self.newest);
        let passed = end - self.newest;
        let (mut usd, mut payments) = (0.0, 0.0);
        if passed == 0 {
            (usd, payments) = (self.usd.iter().sum::<f32>(), self.payments.iter().sum::<f32>());
            return (usd.max(0.0), payments.max(0.0));
        }
        for back in 0..(SLOTS as i64 - passed).max(0) {
            let slot = Self::slot(self.newest - back);
            usd += self.usd[slot];
            payments += self.payments[slot];
        }
        (usd.max(0.0), payments.max(0.0))
    }

    fn slot(part: i64) -> usize {
        usize::try_from(part.rem_euclid(SLOTS as i64)).unwrap_or(0)
    }
}
