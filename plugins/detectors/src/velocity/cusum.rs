//! The bank of detectors of a raised level: one CUSUM per channel and assumed factor.
//!
//! For a compound Poisson process whose clusters are exponential with mean beta, and a factor rho, let
//! `u = 1 - rho^(-1/2)` and `v = u / (1 - u)`. As time passes `W -= v m`, with each payment `W += u x`, never below
//! zero. `exp(sum / beta)` is a martingale while nothing is wrong, so `W / beta` is evidence in nats.
//!
//! Every payment passes through all of them, so they lie side by side in lanes and their code has no branches.

use railwatch_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::baseline::{CHANNELS, PerChannel};
use super::dispersion::Beta;

/// Factors that the bank looks for: 1.6, 3, 8, 25 and 100 times the usual.
pub(crate) const LEVELS: usize = 5;
/// One number per detector of the bank, channel by channel; the last is unused.
type Lanes = [f32; LANES];
const LANES: usize = CHANNELS * LEVELS + 1;

const U: Lanes = lanes([[0.209_430_6, 0.422_649_73, 0.646_446_6, 0.8, 0.9]; CHANNELS]);
const V: Lanes = lanes([[0.264_911_07, 0.732_050_8, 1.828_427_1, 4.0, 9.0]; CHANNELS]);
/// What a quiet hour leaves of the evidence.
const QUIET: [f32; LEVELS] = [0.97, 0.8, 0.5, 0.5, 0.5];
/// Evidence is counted from this many payments on.
const PAYMENTS_MIN: u8 = 5;
/// Clusters that the evidence may reach.
const NATS_MAX: f32 = 40.0;

/// Nats added so that each detector of the bank is exceeded equally often by clean agents.
const OFFSETS: Lanes =
    lanes([[3.0, 0.8, -0.7, -0.7, -1.2], [3.0, 0.8, -1.2, -1.2, -2.2], [3.0, 0.8, -1.2, -1.2, -2.2]]);
/// One in the lanes of the lowest level, zero elsewhere.
const LASTING: Lanes = lanes([[1.0, 0.0, 0.0, 0.0, 0.0]; CHANNELS]);

const fn lanes(rows: [[f32; LEVELS]; CHANNELS]) -> Lanes {
    let mut lanes = [0.0; LANES];
    let mut at = 0;
    while at < CHANNELS * LEVELS {
        lanes[at] = rows[at / LEVELS][at % LEVELS];
        at += 1;
    }
    lanes
}

/// The lane of a channel's detector of a level.
const fn lane(channel: usize, level: usize) -> usize {
    channel * LEVELS + level
}

/// A channel's number in each of its lanes.
fn spread([a, b, c]: PerChannel) -> Lanes {
    [a, a, a, a, a, b, b, b, b, b, c, c, c, c, c, 0.0]
}

/// The cluster size of each lane; the levels from 8 times on share one.
fn clusters(&[[a, b, c], [d, e, f], [g, h, i]]: &Beta) -> Lanes {
    [a, b, c, c, c, d, e, f, f, f, g, h, i, i, i, 1.0]
}

/// The larger one, and `b` if `a` is no number; one instruction, unlike [`f32::max`].
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The largest lane, and at least zero; by halves, which the lanes' registers can do.
fn largest(lanes: Lanes) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| larger(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| larger(eight[i], eight[i + 4]));
    larger(larger(larger(four[0], four[2]), larger(four[1], four[3])), 0.0)
}

/// The bank.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bank {
    /// Sums, in the channel's unit.
    w: Lanes,
    /// Payments since the sum was last zero, saturating.
    n: [u8; LANES],
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
    /// The level.
    pub(crate) level: usize,
}

impl Bank {
    /// Reads a word of every cache line.
    pub(crate) fn touch(&self) -> u32 {
        self.w[0].to_bits() ^ self.w[LANES - 1].to_bits() ^ self.expected[LEVELS - 1].to_bits()
    }

    /// Time passes in which `m` was expected.
    pub(crate) fn pass(&mut self, m: PerChannel) {
        let expected = spread(m);
        for (lane, w) in self.w.iter_mut().enumerate() {
            *w = larger(*w - V[lane] * expected[lane], 0.0);
        }
        for expected in &mut self.expected {
            *expected += m[2];
        }
    }

    /// A payment of `x` at second `secs`. A retraction is one with a negative `x`. Without `lasting` it says nothing
    /// about a lastingly raised level: it belongs to a sudden one that is told already.
    pub(crate) fn add(&mut self, x: PerChannel, beta: &Beta, secs: u32, lasting: bool) {
        for i in 0..LEVELS {
            let sum = self.w[lane(0, i)] + self.w[lane(1, i)] + self.w[lane(2, i)];
            let (since, kept) = if sum <= 0.0 { (secs, 0.0) } else { (self.since[i], 1.0) };
            self.since[i] = since;
            self.spent[i] = self.spent[i] * kept + x[2];
            self.expected[i] *= kept;
        }
        self.count(x[0] < 0.0, lasting);
        let (x_lanes, beta) = (spread(x), clusters(beta));
        let skip = if lasting { 0.0 } else { 1.0 };
        for lane in 0..LANES {
            let most = 3.0 * beta[lane];
            let step = larger(smaller(x_lanes[lane] * U[lane], most), -most) * (1.0 - skip * LASTING[lane]);
            self.w[lane] = larger(smaller(self.w[lane] + step, NATS_MAX * beta[lane]), 0.0);
        }
    }

    /// Counts a payment, or one back, in the lanes that it is evidence for.
    fn count(&mut self, retracted: bool, lasting: bool) {
        let runs = self.w.map(|w| if w > 0.0 { u8::MAX } else { 0 });
        let counts = LASTING.map(|low| u8::from(lasting || low == 0.0));
        for lane in 0..LANES {
            let n = self.n[lane] & runs[lane];
            self.n[lane] =
                if retracted { n.saturating_sub(counts[lane]) } else { n.saturating_add(counts[lane]) };
        }
    }

    /// An hour passed in which channel `channel` was quiet.
    pub(crate) fn quiet_hour(&mut self, channel: usize) {
        for (level, quiet) in QUIET.into_iter().enumerate() {
            self.w[lane(channel, level)] *= quiet;
        }
    }

    /// The bank as it will be after `hours` without a payment, at the rates of now.
    pub(crate) fn after_silence(&self, hours: f32, rates: PerChannel) -> Self {
        let mut bank = self.clone();
        let quiet = hours.min(1000.0).floor();
        if quiet >= 1.0 {
            for (level, left) in QUIET.map(|left| left.powf(quiet)).into_iter().enumerate() {
                for channel in 0..CHANNELS {
                    bank.w[lane(channel, level)] *= left;
                }
            }
        }
        bank.pass(rates.map(|rate| rate * hours));
        bank
    }

    /// Every detector's evidence in nats, offset included; zero or less where there is none.
    fn nats(&self, beta: &Beta) -> Lanes {
        let beta = clusters(beta);
        let known = self.n.map(|n| f32::from(n.saturating_sub(PAYMENTS_MIN - 1)));
        std::array::from_fn(|lane| {
            let nats = self.w[lane] / beta[lane] + OFFSETS[lane];
            let counts = smaller(known[lane], self.w[lane]) > 0.0;
            if counts { nats } else { 0.0 }
        })
    }

    /// The strongest evidence in nats: of a sudden rise, and of a lasting one.
    pub(crate) fn strengths(&self, beta: &Beta) -> (f32, f32) {
        let nats = self.nats(beta);
        let lasting = (0..CHANNELS).fold(0.0, |most, channel| larger(nats[lane(channel, 0)], most));
        let sudden: Lanes = std::array::from_fn(|lane| nats[lane] * (1.0 - LASTING[lane]));
        (largest(sudden), lasting)
    }

    /// The strongest evidence of a sudden rise, and its level.
    pub(crate) fn sudden(&self, beta: &Beta) -> Finding {
        let nats = self.nats(beta);
        let mut best = Finding::default();
        for channel in 0..CHANNELS {
            for level in 1..LEVELS {
                let nats = nats[lane(channel, level)];
                if nats > best.nats {
                    best = Finding { nats, level };
                }
            }
        }
        best
    }

    /// True while evidence of a lastingly raised level stands, so that little should be learned.
    pub(crate) fn suspect(&self, beta: &Beta) -> bool {
        (0..2).any(|c| (0..2).any(|i| self.w[lane(c, i)] >= 4.0 * beta[c][i]))
    }

    /// When the run of evidence at a level began, and the dollars spent beyond what was expected since then.
    pub(crate) fn run(&self, level: usize) -> (Timestamp, f32) {
        let since = Timestamp::from_secs(i64::from(self.since[level]));
        (since, (self.spent[level] - self.expected[level]).max(0.0))
    }
}
