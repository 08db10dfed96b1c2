//! How fast a sink is asked: a rate limit for peers that work, and a circuit breaker for those that do not.

use std::time::Duration;

use railwatch_model::Timestamp;

use crate::config::RateLimit;

/// Failures in a row after which a peer counts as down.
const BREAK_AFTER: u32 = 5;
/// The first pause of a peer that is down; it doubles with each further failure.
const OPEN_FIRST: Duration = Duration::from_secs(15);
const OPEN_MAX: Duration = Duration::from_secs(300);

/// A circuit breaker: closed while the peer works, open while it is left alone, half-open for one attempt at a time.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Timestamp,
}

impl Breaker {
    /// How long the peer must be left alone.
    pub(crate) fn wait(&self, now: Timestamp) -> Duration {
        self.open_until.since(now)
    }

    /// True if the last attempt failed: then one attempt at a time is enough.
    pub(crate) fn is_wary(&self) -> bool {
        self.failures > 0
    }

    /// The peer works.
    pub(crate) fn success(&mut self) {
        *self = Self::default();
    }

    /// The peer did not take a notice. True if it counts as down.
    pub(crate) fn failure(&mut self, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        let Some(beyond) = self.failures.checked_sub(BREAK_AFTER) else { return false };
        self.open_until = now.after(OPEN_FIRST.saturating_mul(1 << beyond.min(5)).min(OPEN_MAX));
        true
    }
}

/// A token bucket: a full one lets as many through at once as one period allows.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(limit: RateLimit, now: Timestamp) -> Self {
        Self { limit, tokens: f64::from(limit.n), at: now }
    }

    /// How many notices may go now.
    pub(crate) fn available(&mut self, now: Timestamp) -> u32 {
        self.refill(now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and a u32")]
        let whole = self.tokens.floor() as u32;
        whole
    }

    fn refill(&mut self, now: Timestamp) -> f64 {
        let n = f64::from(self.limit.n);
        let per_second = n / self.limit.per.as_secs_f64();
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * per_second).min(n);
        self.at = self.at.max(now);
        per_second
    }

    /// How long to wait for the next token.
    pub(crate) fn wait(&mut self, now: Timestamp) -> Duration {
        let per_second = self.refill(now);
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / per_second)
    }

    /// Takes a token, or says how long to wait for the next.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let wait = self.wait(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000 + millis * 1000)
    }

    #[test]
    fn a_peer_that_is_down_is_asked_less_and_less_often() {
        let mut breaker = Breaker::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            breaker.failure(now);
            waits.push(breaker.wait(now).as_secs());
            now = now.after(breaker.wait(now));
            assert_eq!(breaker.wait(now), Duration::ZERO, "half-open");
            assert!(breaker.is_wary());
        }
        assert_eq!(waits, [0, 0, 0, 0, 15, 30, 60, 120, 240, 300, 300, 300]);
        breaker.success();
        assert!(!breaker.is_wary());
        assert_eq!(breaker.wait(now), Duration::ZERO);
    }

    #[test]
    fn a_bucket_lets_one_period_through_at_once_and_then_its_rate() {
        let limit = RateLimit { n: 3, per: Duration::from_secs(60) };
        let mut bucket = Bucket::new(limit, at(0));
        let taken: Vec<bool> = (0..5).map(|_| bucket.take(at(0)).is_ok()).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        assert_eq!(bucket.take(at(5_000)), Err(Duration::from_secs(15)));
        assert_eq!(bucket.take(at(20_000)), Ok(()));
        assert_eq!(bucket.take(at(19_000)).unwrap_err().as_secs(), 20, "time that goes back gives nothing");
        let over_an_hour =
            (0..3_600).filter(|second| bucket.take(at(20_000 + second * 1000)).is_ok()).count();
        assert_eq!(over_an_hour, 179, "three a minute");
    }
}
