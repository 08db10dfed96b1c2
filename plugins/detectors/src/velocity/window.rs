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
    /// Dollars and payments in all parts: it is asked for with every payment.
    sums: (f32, f32),
    /// Dollars by part, modulo fifteen.
    usd: [f32; SLOTS],
    /// Payments by part.
    payments: [f32; SLOTS],
}

impl Sliding {
    /// Reads a word of every cache line.
    pub(crate) fn touch(&self) -> u32 {
        self.sums.0.to_bits() ^ self.usd[SLOTS - 1].to_bits() ^ self.payments[SLOTS - 1].to_bits()
    }

    /// Adds a payment; one that is older than the window is not part of it.
    pub(crate) fn add(&mut self, at: Timestamp, part_micros: i64, payments: f32, usd: f32) {
        let part = self.part(at, part_micros);
        if part > self.newest {
            let mut slot = Self::slot(part);
            for _ in 0..(part - self.newest).min(SLOTS as i64) {
                (self.usd[slot], self.payments[slot]) = (0.0, 0.0);
                slot = slot.checked_sub(1).unwrap_or(SLOTS - 1);
            }
            self.newest = part;
            // Added up anew each time, so that rounding errors do not outlive the window.
            self.sums = (self.usd.iter().sum(), self.payments.iter().sum());
        }
        if self.newest - part < SLOTS as i64 {
            let slot = Self::slot(part);
            self.usd[slot] += usd;
            self.payments[slot] += payments;
            self.sums = (self.sums.0 + usd, self.sums.1 + payments);
        }
    }

    /// Dollars and payments in the window that ends at `now`.
    pub(crate) fn sum(&self, now: Timestamp, part_micros: i64) -> (f32, f32) {
        let passed = self.part(now, part_micros) - self.newest;
        let (mut usd, mut payments) = self.sums;
        if passed > 0 {
            (usd, payments) = (0.0, 0.0);
            let mut slot = Self::slot(self.newest);
            for _ in 0..(SLOTS as i64 - passed).max(0) {
                usd += self.usd[slot];
                payments += self.payments[slot];
                slot = slot.checked_sub(1).unwrap_or(SLOTS - 1);
            }
        }
        (usd.max(0.0), payments.max(0.0))
    }

    /// The part that holds `at`; mostly the newest, which takes no division to see.
    fn part(&self, at: Timestamp, part_micros: i64) -> i64 {
        let start = self.newest.saturating_mul(part_micros);
        let into = at.micros().saturating_sub(start);
        if (0..part_micros).contains(&into) {
            self.newest
        } else {
            at.micros().div_euclid(part_micros.max(1))
        }
    }

    fn slot(part: i64) -> usize {
        usize::try_from(part.rem_euclid(SLOTS as i64)).unwrap_or(0)
    }
}
