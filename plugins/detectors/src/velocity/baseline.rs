//! The learned, seasonal baseline: how many payments and dollars an agent has in this hour of the week.
//!
//! Gamma-Poisson shrinkage: the hour of the week borrows from the hour of the day, that one from all hours, and bursty
//! agents borrow more than steady ones. A level that is adjusted once a day follows growth.

use serde::{Deserialize, Serialize};

use super::dispersion::Beta;
use crate::compact::{Halves, Logs};

/// The channels that a baseline is learned for: payments, dollars with single amounts capped, true dollars.
pub(crate) const CHANNELS: usize = 3;
/// One number per channel.
pub(crate) type PerChannel = [f32; CHANNELS];

const WEEK: i32 = 168;
/// What an hour's weight in the mean of all hours is multiplied by each hour: a half-life of 14 days.
const DECAY: f32 = 0.997_939_3;
/// The same for the comparison of the last two days with what was expected: 30 hours.
const DECAY_RECENT: f32 = 0.977_16;

/// What is usual, by hour.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The first hour that the weekly profile knows, in hours since the epoch.
    since: i32,
    /// The hour that is open.
    pub(crate) hour: i32,
    /// The level that the profile is multiplied by.
    level: f32,
    /// Mean of each hour of the week at level one, for payments and capped dollars; none before the first has ended.
    weekly: Option<Box<[Logs<168>; 2]>>,
    /// What the hour of the week that was closed last had been before it was learned anew.
    before: [f32; 2],
    /// The same for each hour of the day.
    daily: [Halves<24>; 2],
    /// Decaying sums over all hours at level one.
    total: PerChannel,
    /// Decaying sum of the hours in `total`.
    pub(crate) hours: f32,
    /// Payments of this UTC day, and how many were expected.
    today: [f32; 2],
    /// Dollars of the last two days or so, and how many were expected.
    recent: [f32; 2],
    /// Expected per hour in the open hour.
    pub(crate) rates: PerChannel,
}

/// How an hour is learned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lesson {
    /// How much of it: 1 normally, less while a raised level is suspected, 0 during an alarm.
    pub(crate) weight: f32,
    /// The part of the hour that was seen; less than 1 only for the first.
    pub(crate) part: f32,
    /// Dispersion of a day's payments, for the level.
    pub(crate) phi_day: f32,
}

impl Baseline {
    /// Starts at an hour, knowing nothing.
    pub(crate) fn begin(&mut self, hour: i32) {
        (self.since, self.hour, self.level) = (hour, hour, 1.0);
    }

    /// The level that the profile is multiplied by.
    pub(crate) fn level(&self) -> f32 {
        if self.level > 0.0 { self.level } else { 1.0 }
    }

    /// Expected means over all hours, per hour.
    pub(crate) fn mean(&self) -> PerChannel {
        let hours = self.hours.max(1.0);
        self.total.map(|total| total / hours * self.level)
    }

    /// Weeks in which the hour of the week of `hour` was seen, at most 6.
    pub(crate) fn weeks(&self, hour: i32) -> i32 {
        (hour.saturating_sub(self.since) / WEEK).clamp(0, 6)
    }

    /// The mean of an hour of the week at level one.
    fn week(&self, channel: usize, hour: usize) -> f32 {
        self.weekly.as_ref().map_or(0.0, |weekly| weekly[channel].get(hour))
    }

    /// Dollars of the last days over what was expected of them, smoothed by a cluster of `unit` dollars.
    /// `hours` have passed in silence since the last hour was closed.
    pub(crate) fn recent_ratio(&self, unit: f32, hours: f32) -> f32 {
        let keep = DECAY_RECENT.powf(hours);
        let expected = self.mean()[2] * (1.0 - keep) / (1.0 - DECAY_RECENT);
        (self.recent[0] * keep + unit) / (self.recent[1] * keep + expected + unit).max(1e-9)
    }

    /// Mean amount of a payment, once there was one.
    pub(crate) fn mean_amount(&self, channel: usize) -> Option<f32> {
        (self.total[0] >= 1.0).then(|| self.total[channel] / self.total[0])
    }

    /// Expected per hour in `hour`. `beta` is the cluster size per channel at the scale of an hour.
    pub(crate) fn expect(&self, hour: i32, beta: [f32; 2], prior: Prior) -> PerChannel {
        let of_week = usize::try_from(hour.rem_euclid(WEEK)).unwrap_or(0);
        let of_day = of_week % 24;
        let days = (self.hours / 24.0).floor().min(20.0);
        let weeks = self.weeks(hour) as f32;
        let mut rates = [0.0; CHANNELS];
        for c in 0..2 {
            let all = (self.total[c] + prior.rates[c] * prior.hours) / (self.hours + prior.hours).max(0.25);
            let floor = all.max(1e-9);
            let borrow = (4.0 * beta[c] / floor).clamp(3.0, 60.0);
            let day = (self.daily[c].get(of_day) * days + borrow * all) / (days + borrow);
            let mut rate = day;
            if weeks > 0.0 {
                let borrow = (3.0 * beta[c] / day.max(1e-9)).clamp(1.5, 30.0);
                let seen = self.week(c, of_week);
                rate = (seen * weeks + borrow * day) / (weeks + borrow);
                // A weekly job: expect it at last week's size, also in the hours beside it. What this hour's
                // predecessor saw today does not count, or an incident of hours would be its own excuse.
                let beside = self.before[c].max(self.week(c, of_week + 1));
                let job = seen.max(beside);
                if job > 4.0 * all && job > 6.0 * beta[c] {
                    rate = rate.max(job);
                }
            }
            rates[c] = rate.max(0.02 * all) * self.level;
        }
        rates[2] = rates[1] * (self.total[2] + 1e-9) / (self.total[1] + 1e-9);
        rates
    }

    /// Learns the open hour, of which `x` was seen, and opens the next one; [`Baseline::rates`] is then stale.
    pub(crate) fn close_hour(&mut self, x: PerChannel, beta: &Beta, lesson: Lesson) {
        let (hour, m) = (self.hour, self.rates);
        let of_week = usize::try_from(hour.rem_euclid(WEEK)).unwrap_or(0);
        let scale = self.level.max(1e-6) * lesson.part;
        let known = self.hours > 48.0;
        // The hour of the week always learns: a wrong lesson costs that hour only.
        let gain = (1.0 / (self.weeks(hour) + 1) as f32).max(0.35);
        for c in 0..2 {
            let limit = if known { 25.0 * m[c] + 10.0 * beta[c][2] } else { f32::MAX };
            let old = self.week(c, of_week);
            self.before[c] = old;
            let seen = x[c].clamp(0.0, limit) / scale;
            self.weekly.get_or_insert_default()[c].set(of_week, old + gain * (seen - old));
        }
        if lesson.weight > 0.0 {
            self.learn_level(x, beta, lesson, known, scale);
        }
        self.recent[0] = self.recent[0] * DECAY_RECENT + x[2].max(0.0);
        self.recent[1] = self.recent[1] * DECAY_RECENT + m[2];
        if of_week % 24 == 23 {
            self.follow_growth(lesson);
        }
        self.hour = hour.saturating_add(1);
    }

    fn learn_level(&mut self, x: PerChannel, beta: &Beta, lesson: Lesson, known: bool, scale: f32) {
        let of_day = usize::try_from(self.hour.rem_euclid(24)).unwrap_or(0);
        let days = (self.hours / 24.0).floor().min(20.0);
        let limit = |c: usize| {
            if known { 4.0 * self.rates[c] + 6.0 * beta[c][2] } else { f32::MAX }
        };
        let gain = (1.0 / (days + 1.0)).max(0.1) * lesson.weight;
        let keep = 1.0 - (1.0 - DECAY) * lesson.weight;
        for c in 0..2 {
            let old = self.daily[c].get(of_day);
            self.daily[c].set(of_day, old + gain * (x[c].clamp(0.0, limit(c)) / scale - old));
        }
        for c in 0..CHANNELS {
            let seen = x[c].clamp(0.0, limit(c)) / self.level.max(1e-6);
            self.total[c] = self.total[c] * keep + seen * lesson.weight;
        }
        self.hours = self.hours * keep + lesson.part * lesson.weight;
        self.today[0] += x[0].max(0.0);
        self.today[1] += self.rates[0];
    }

    fn follow_growth(&mut self, lesson: Lesson) {
        if self.hours > 72.0 && lesson.weight >= 1.0 && self.today[1] > 0.0 {
            let kappa = 2.0 * lesson.phi_day.max(1.0);
            let ratio = ((self.today[0] + kappa) / (self.today[1] + kappa)).max(0.0);
            self.level = (self.level * ratio.powf(0.4).clamp(0.935, 1.07)).clamp(1e-3, 1e3);
        }
        self.today = [0.0; 2];
    }

    /// Adds a payment of a closed hour to what was learned of that hour, as if it had come in time.
    pub(crate) fn correct(&mut self, hour: i32, x: PerChannel) {
        if !(self.since..self.hour).contains(&hour) || self.hour - hour > WEEK {
            return;
        }
        let of_week = usize::try_from(hour.rem_euclid(WEEK)).unwrap_or(0);
        let of_day = of_week % 24;
        let gain = (1.0 / (self.weeks(hour) + 1) as f32).max(0.35);
        let days = (self.hours / 24.0).floor().min(20.0);
        let gain_day = (1.0 / (days + 1.0)).max(0.1);
        for c in 0..2 {
            let part = x[c] / self.level.max(1e-6);
            let seen = self.week(c, of_week) + gain * part;
            self.weekly.get_or_insert_default()[c].set(of_week, seen);
            self.daily[c].set(of_day, (self.daily[c].get(of_day) + gain_day * part).max(0.0));
        }
        for c in 0..CHANNELS {
            self.total[c] = (self.total[c] + x[c] / self.level.max(1e-6)).max(0.0);
        }
    }
}

/// What is assumed of an agent that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prior {
    /// Payments and capped dollars per hour.
    pub(crate) rates: [f32; 2],
    /// How many hours of its own experience that is worth.
    pub(crate) hours: f32,
}
