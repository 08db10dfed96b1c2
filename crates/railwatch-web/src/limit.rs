//! Limits on how often one caller may ask: a bucket of tokens per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use railwatch_model::Timestamp;

/// Requests per second that one address may make for long, and at once.
const RATE: f64 = 500.0;
const BURST: f64 = 2000.0;
/// Wrong tokens per second, and at once.
const FAILURE_RATE: f64 = 0.2;
const FAILURE_BURST: f64 = 10.0;
/// Addresses that are told apart; beyond it, those that are full again are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// All buckets.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<HashMap<(IpAddr, Use), Bucket>>);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// Any request.
    Request,
    /// A token that nobody knows.
    Failure,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Use {
    fn limits(self) -> (f64, f64) {
        match self {
            Self::Request => (RATE, BURST),
            Self::Failure => (FAILURE_RATE, FAILURE_BURST),
        }
    }
}

impl Limiter {
    /// Takes one from the caller's bucket; false if it is empty. Programs on this machine may ask as often as they like.
    pub(crate) fn take(&self, address: IpAddr, what: Use, now: Timestamp) -> bool {
        if address.is_loopback() && what == Use::Request {
            return true;
        }
        self.with(address, what, now, |bucket| {
            let has_one = bucket.left >= 1.0;
            bucket.left -= f64::from(u8::from(has_one));
            has_one
        })
    }

    /// True if the caller's bucket is not empty; takes nothing.
    pub(crate) fn has(&self, address: IpAddr, what: Use, now: Timestamp) -> bool {
        self.with(address, what, now, |bucket| bucket.left >= 1.0)
    }

    fn with<T>(&self, address: IpAddr, what: Use, now: Timestamp, f: impl FnOnce(&mut Bucket) -> T) -> T {
        let (_, burst) = what.limits();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&(address, what)) {
            buckets.retain(|(_, what), bucket| bucket.refilled(what.limits(), now) < what.limits().1);
            if buckets.len() >= ADDRESSES_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry((address, what)).or_insert(Bucket { left: burst, at: now });
        *bucket = Bucket { left: bucket.refilled(what.limits(), now), at: now.max(bucket.at) };
        f(bucket)
    }
}

impl Bucket {
    fn refilled(&self, (rate, burst): (f64, f64), now: Timestamp) -> f64 {
        (self.left + rate * now.since(self.at).as_secs_f64()).min(burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_guesser_is_slowed_down_and_forgiven() {
        let limiter = Limiter::default();
        let (address, now) = (IpAddr::from([10, 0, 0, 1]), Timestamp::from_secs(1_700_000_000));
        let guesses = (0..100).filter(|_| limiter.take(address, Use::Failure, now)).count();
        assert_eq!(guesses, 10);
        assert!(!limiter.has(address, Use::Failure, now));
        assert!(limiter.has(IpAddr::from([10, 0, 0, 2]), Use::Failure, now));
        assert!(limiter.take(address, Use::Failure, now.after(Duration::from_secs(5))));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        let now = Timestamp::from_secs(1_700_000_000);
        for n in 0..30_000_u32 {
            limiter.take(IpAddr::from(n.to_be_bytes()), Use::Request, now);
        }
        assert!(limiter.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
