//! What all detectors share: evidence in nats, its thresholds, and what it is worth as a probability.

use std::time::Duration;

use railwatch_model::{Signal, SignalKind, Timestamp, Unit, Verdict};
use railwatch_plugin::detector::Announcement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Evidence from which a signal fires, and below which it is usual again, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawThresholds")]
pub struct Thresholds {
    /// From here on a signal fires, if it is material as well. Chance alone gets there in about one of `exp(open)`
    /// trials.
    pub open: f64,
    /// Below it an alert may close.
    pub close: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { open: 10.0, close: 4.0 }
    }
}

/// Evidence from which a signal fires, and below which it is usual again, in nats.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Thresholds")]
#[serde(deny_unknown_fields, default)]
struct RawThresholds {
    /// From here on a signal fires, if it is material as well; at most 40.
    open: f64,
    /// Below it an alert may close; above 0 and below `open`.
    close: f64,
}

impl Default for RawThresholds {
    fn default() -> Self {
        let Thresholds { open, close } = Thresholds::default();
        Self { open, close }
    }
}

impl TryFrom<RawThresholds> for Thresholds {
    type Error = String;

    fn try_from(raw: RawThresholds) -> Result<Self, String> {
        let RawThresholds { open, close } = raw;
        if 0.0 < close && close < open && open <= 40.0 {
            Ok(Self { open, close })
        } else {
            Err(format!(
                "evidence opens at {open} and closes below {close}; they must be 0 < close < open <= 40"
            ))
        }
    }
}

impl Thresholds {
    /// True where evidence neither fires nor is worth a probability.
    pub(crate) fn quiet(self, nats: f32) -> bool {
        f64::from(nats) < self.open.min(NOISE)
    }

    /// Where evidence stands. What is certain but worthless is `Raised`, not `Firing`.
    pub(crate) fn verdict(self, nats: f64, material: bool) -> Verdict {
        if nats >= self.open && material {
            Verdict::Firing
        } else if nats >= self.close {
            Verdict::Raised
        } else {
            Verdict::Usual
        }
    }
}

/// Evidence below this many nats is everyday noise.
const NOISE: f64 = 5.0;

/// The probability that evidence of `nats` is a real incident: a logistic function of its logarithm, fitted on the
/// labelled simulator. Zero below five nats, where it is under one percent.
pub fn probability(nats: f64) -> f64 {
    const INTERCEPT: f64 = -11.4;
    const SLOPE: f64 = 4.15;
    if nats < NOISE { 0.0 } else { 1.0 / (1.0 + (-(INTERCEPT + SLOPE * nats.ln())).exp()) }
}

/// The day that holds `at`, in days since the epoch.
pub(crate) fn day_of(at: Timestamp) -> i32 {
    i32::try_from(at.micros().div_euclid(86_400_000_000)).unwrap_or(0)
}

/// The minute that holds `at`, in minutes since the epoch.
pub(crate) fn minute_of(at: Timestamp) -> u32 {
    u32::try_from(at.micros().div_euclid(60_000_000)).unwrap_or(0)
}

/// How strong evidence usually gets within a day, for agents in whose nature it is to look suspicious.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peak {
    /// Mean of the daily peaks.
    usual: f32,
    /// Today's peak.
    today: f32,
    /// Today, in days since the epoch.
    day: i32,
}

impl Peak {
    /// Daily peaks up to here are what most agents have.
    const FREE: f32 = 6.0;

    /// Notes evidence on a day with payments.
    #[inline]
    pub(crate) fn see(&mut self, nats: f32, day: i32) {
        if day > self.day {
            // One day may not much more than double what is known, or an incident would excuse the next one.
            self.usual += 0.2 * (self.today.min(2.0 * self.usual + 2.0) - self.usual);
            (self.today, self.day) = (0.0, day);
        }
        self.today = self.today.max(nats);
    }

    /// Evidence beyond the agent's own usual daily peak, as far as that is larger than other agents' peaks.
    pub(crate) fn beyond(&self, nats: f32) -> f32 {
        (nats - (self.usual - Self::FREE).max(0.0)).max(0.0)
    }
}

/// True if an announced change makes signals of this kind, about this rail, no news.
pub(crate) fn announced(
    announcements: &[Announcement],
    at: Timestamp,
    kind: &SignalKind,
    rail: Option<&str>,
) -> bool {
    announcements.iter().any(|planned| {
        let kinds =
            if planned.kinds.is_empty() { *kind != SignalKind::Budget } else { planned.kinds.contains(kind) };
        let rails = planned.rails.is_empty()
            || rail.is_some_and(|rail| planned.rails.iter().any(|planned| planned == rail));
        kinds && rails && (planned.from..=planned.until).contains(&at)
    })
}

/// True if a change about this rail is announced, or was and is still being learned: a migration goes on being what
/// history does not know for two weeks after it was to end.
pub(crate) fn migrating(
    announcements: &[Announcement],
    at: Timestamp,
    kind: &SignalKind,
    rail: &str,
) -> bool {
    const LEARNED: Duration = Duration::from_secs(14 * 86_400);
    let lately = |planned: &&Announcement| {
        planned.rails.iter().any(|named| named == rail)
            && (planned.until..=planned.until.after(LEARNED)).contains(&at)
    };
    announced(announcements, at, kind, Some(rail))
        || announcements
            .iter()
            .filter(lately)
            .any(|planned| announced(std::slice::from_ref(planned), planned.until, kind, Some(rail)))
}

/// A signal with evidence, its probability filled in.
pub(crate) fn signal(kind: SignalKind, unit: Unit, nats: f64, verdict: Verdict) -> Signal {
    Signal { evidence: nats, probability: probability(nats), verdict, ..Signal::usual(kind, unit) }
}
