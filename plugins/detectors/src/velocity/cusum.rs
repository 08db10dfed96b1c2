//! The bank of detectors of a raised level: one CUSUM per channel and assumed factor.
//!
//! For a compound Poisson process whose clusters are exponential with mean beta, and a factor rho, let
//! `u = 1 - rho^(-1/2)` and `v = u / (1 - u)`. As time passes `W -= v m`, with each payment `W += u x`, never below
//! zero. `exp(sum / beta)` is a martingale while nothing is wrong, so `W / beta` is evidence in nats.

use railwatch_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::baseline::{CHANNELS, PerChannel};
use super::dispersion::Beta;

/// Factors that the bank looks for: 1.6, 3, 8, 25 and 100 times the usual.
pub(crate) const LEVELS: usize = 5;
const U: [f32; LEVELS] = [0.209_430_6, 0.422_649_73, 0.646_446_6, 0.8, 0.9];
const V: [f32; LEVELS] = [0.264_911_07, 0.732_050_8, 1.828_427_1, 4.0, 9.0];
/// What a quiet hour leaves of the evidence.
const QUIET: [f32; LEVELS] = [0.97, 0.8, 0.5, 0.5, 0.5];
/// Evidence is counted from this many payments on.
const PAYMENTS_MIN: u8 = 5;
/// Clusters that the evidence may reach.
const NATS_MAX: f32 = 40.0;

/// Nats added so that each detector of the bank is exceeded equally often by clean agents.
const OFFSETS: [[f32; LEVELS]; CHANNELS] =
    [[3.0, 0.8, -0.7, -0.7, -1.2], [3.0, 0.8, -1.2, -1.2, -2.2], [3.0, 0.8, -1.2, -1.2, -2.2]];

/// The bank.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bank {
    /// Sums, in the channel's unit.
    w: [[f32; LEVELS]; CHANNELS],
    /// Payments since the sum was last zero, saturating.
    n: [[u8; LEVELS]; CHANNELS],
    /// When any of a level's sums was last zero, in seconds.
    since: [u32; LEVELS],
    /// Dollars spent since then.
    spent: [f32; LEVELS],
    /// Dollars expected since then.
    expected: [f32; LEVELS],
}

/// The strongest evidence of a bank.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Finding {
    /// Nats, offset included.
    pub(crate) nats: f32,
    /// The channel.
    pub(crate) channel: usize,
    /// The level.
    pub(crate) level: usize,
}

impl Bank {
    /// Time passes in which `m` was expected.
    pub(crate) fn pass(&mut self, m: PerChannel) {
        for c in 0..CHANNELS {
            for i in 0..LEVELS {
                self.w[c][i] = (self.w[c][i] - V[i] * m[c]).max(0.0);
            }
        }
        for expected in &mut self.expected {
            *expected += m[2];
        }
    }

    /// A payment of `x` at second `secs`. A retraction is one with a negative `x`. Without `lasting` it says nothing
    /// about a lastingly raised level: it belongs to a sudden one that is told already.
    pub(crate) fn add(&mut self, x: PerChannel, beta: &Beta, secs: u32, lasting: bool) {
        for i in 0..LEVELS {
            if self.w.iter().all(|row| row[i] <= 0.0) {
                (self.since[i], self.spent[i], self.expected[i]) = (secs, 0.0, 0.0);
            }
            self.spent[i] += x[2];
        }
        for c in 0..CHANNELS {
            for i in usize::from(!lasting)..LEVELS {
                let cluster = beta[c][i];
                if self.w[c][i] <= 0.0 {
                    self.n[c][i] = 0;
                }
                let step = (x[c] * U[i]).clamp(-3.0 * cluster, 3.0 * cluster);
                self.w[c][i] = (self.w[c][i] + step).clamp(0.0, NATS_MAX * cluster);
                let n = self.n[c][i];
                self.n[c][i] = if x[0] < 0.0 { n.saturating_sub(1) } else { n.saturating_add(1) };
            }
        }
    }

    /// An hour passed in which channel `channel` was quiet.
    pub(crate) fn quiet_hour(&mut self, channel: usize) {
        for i in 0..LEVELS {
            self.w[channel][i] *= QUIET[i];
        }
    }

    /// The bank as it will be after `hours` without a payment, at the rates of now.
    pub(crate) fn after_silence(&self, hours: f32, rates: PerChannel) -> Self {
        let mut bank = self.clone();
        let quiet = hours.min(1000.0).floor();
        if quiet >= 1.0 {
            for (i, left) in QUIET.map(|left| left.powf(quiet)).into_iter().enumerate() {
                bank.w.iter_mut().for_each(|row| row[i] *= left);
            }
        }
        bank.pass(rates.map(|rate| rate * hours));
        bank
    }

    /// The strongest evidence of a raised level of `levels`.
    pub(crate) fn best(&self, beta: &Beta, levels: std::ops::Range<usize>) -> Finding {
        let mut best = Finding::default();
        for c in 0..CHANNELS {
            for i in levels.clone() {
                if self.n[c][i] >= PAYMENTS_MIN && self.w[c][i] > 0.0 {
                    let nats = self.w[c][i] / beta[c][i] + OFFSETS[c][i];
                    if nats > best.nats {
                        best = Finding { nats, channel: c, level: i };
                    }
                }
            }
        }
        best
    }

    /// True while evidence of a lastingly raised level stands, so that little should be learned.
    pub(crate) fn suspect(&self, beta: &Beta) -> bool {
        (0..2).any(|c| (0..2).any(|i| self.w[c][i] >= 4.0 * beta[c][i]))
    }

    /// When the run of evidence at a level began, and the dollars spent beyond what was expected since then.
    pub(crate) fn run(&self, level: usize) -> (Timestamp, f32) {
        let since = Timestamp::from_secs(i64::from(self.since[level]));
        (since, (self.spent[level] - self.expected[level]).max(0.0))
    }
}
