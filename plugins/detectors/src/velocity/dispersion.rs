//! Dispersion: how much larger than a Poisson count's the swings of an agent are, at four time scales.
//!
//! phi is an exponentially weighted sum of `(x - m)^2` over one of `m`. Half of it is the mean size of a cluster
//! (a session) if those are exponential; that size is the unit in which evidence is counted.

use serde::{Deserialize, Serialize};

use super::baseline::{CHANNELS, PerChannel};

/// How fast the rises are that a cluster size is for: lasting (1.6 times the usual), slow (3 times), sudden.
const SPEEDS: usize = 3;
/// Mean cluster size per channel and speed.
pub(crate) type Beta = [[f32; SPEEDS]; CHANNELS];

/// The scales: 15 minutes, 1 hour, 6 hours, 24 hours.
const SCALES: usize = 4;
/// Windows that each scale remembers.
const MEMORY: [u16; SCALES] = [600, 400, 60, 20];
/// The scales whose dispersion counts for each speed.
const SCALES_OF: [(usize, usize); SPEEDS] = [(2, 3), (1, 2), (0, 1)];
/// Hours of the horizon over which an error of the baseline adds up, per speed.
const HORIZON: [f32; SPEEDS] = [24.0, 6.0, 1.0];

/// What was seen and expected in a window that is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Seen.
    pub(crate) x: PerChannel,
    /// Expected.
    pub(crate) m: PerChannel,
}

impl Window {
    fn add(&mut self, other: &Self) {
        for c in 0..CHANNELS {
            self.x[c] += other.x[c];
            self.m[c] += other.m[c];
        }
    }
}

/// Learned dispersion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dispersion {
    /// The windows that are open, by scale.
    pub(crate) open: [Window; SCALES],
    /// Windows that were closed, by scale.
    closed: [u16; SCALES],
    /// Weighted sums of squares and of expectations, by scale and channel.
    sums: [[[f32; 2]; CHANNELS]; SCALES],
}

/// How a window is learned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learning {
    /// False before enough is known, or while an alarm stands.
    pub(crate) on: bool,
    /// True while an alarm stands: only the very first windows are learned then.
    pub(crate) frozen: bool,
    /// 1, or less while a raised level is suspected.
    pub(crate) weight: f32,
}

impl Dispersion {
    /// Closes the quarter of an hour; `quarter` counts quarters since the epoch, so that larger windows end with it
    /// where they should.
    pub(crate) fn close_quarter(&mut self, quarter: i64, beta: &Beta, learning: Learning) {
        for (scale, quarters) in [1, 4, 24, 96].into_iter().enumerate() {
            if (quarter + 1).rem_euclid(quarters) != 0 {
                break;
            }
            let window = std::mem::take(&mut self.open[scale]);
            self.learn(scale, &window, beta, learning);
            if let Some(larger) = self.open.get_mut(scale + 1) {
                larger.add(&window);
            }
        }
    }

    /// What was seen in the open hour.
    pub(crate) fn hour_seen(&self) -> PerChannel {
        std::array::from_fn(|c| self.open[0].x[c] + self.open[1].x[c])
    }

    fn learn(&mut self, scale: usize, window: &Window, beta: &Beta, learning: Learning) {
        let closed = self.closed[scale];
        if learning.on && (!learning.frozen || closed < 8) {
            let n = f32::from(closed.saturating_add(1).min(MEMORY[scale]));
            let memory = f32::from(MEMORY[scale]) + 3.0;
            let keep = 1.0 - learning.weight / (n + 3.0);
            for c in 0..CHANNELS {
                let (x, m) = (window.x[c], window.m[c]);
                let cluster = if scale > 1 { beta[c][2].max(beta[c][1]) } else { beta[c][2] };
                let d = (x - m).min(14.0 * cluster + 2.0 * m);
                let mut square = d * d;
                let [squares, expected] = &mut self.sums[scale][c];
                if closed > 10 && d > 0.0 {
                    // One window may not more than triple what is known.
                    let known = *squares / (f32::from(closed.min(MEMORY[scale])) + 3.0);
                    square = square.min(memory * known.max(1e-12));
                }
                *squares = (*squares * keep + square * learning.weight).min(1e30);
                *expected = (*expected * keep + m * learning.weight).min(1e30);
            }
        }
        self.closed[scale] = closed.saturating_add(1);
    }

    /// The dispersion of a channel at a scale (0 to 3), in the channel's unit.
    pub(crate) fn phi(&self, channel: usize, scale: usize) -> f32 {
        let [squares, expected] = self.sums[scale][channel];
        (squares / (expected + 1e-12)).min(1e30)
    }

    /// The largest dispersion at six hours and a day.
    pub(crate) fn phi_day(&self, channel: usize) -> f32 {
        self.phi(channel, 2).max(self.phi(channel, 3))
    }

    /// Cluster sizes. `unit` is the dispersion of a Poisson stream of such payments, `error` the squared relative
    /// error of the baseline, `rates` what is expected in this hour.
    pub(crate) fn beta(&self, unit: PerChannel, error: f32, rates: PerChannel) -> Beta {
        let days = f32::from(self.closed[1]) / 24.0;
        let mut beta = [[0.0; SPEEDS]; CHANNELS];
        for c in 0..CHANNELS {
            for (speed, (a, b)) in SCALES_OF.into_iter().enumerate() {
                let phi = self.phi(c, a).max(self.phi(c, b));
                let phi = (phi * days + 6.0 * unit[c] * 0.5) / (days + 0.5);
                let phi = phi.max(1.2 * unit[c]) + error * rates[c] * HORIZON[speed];
                beta[c][speed] = (0.5 * phi).clamp(1e-9, 1e30);
            }
        }
        beta
    }
}
