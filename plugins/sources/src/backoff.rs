//! Waiting between attempts: exponential, with jitter from an injected seed, so that many sources that lost the same
//! peer do not return in step and a test sees the same waits every time.

use std::time::Duration;

use railwatch_plugin::source::{Phase, SourceContext, SourceError};

/// The waits between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempt: u32,
    state: u64,
}

impl Backoff {
    /// Waits that begin around `first`, double at every attempt and stay below `max`.
    pub fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max, attempt: 0, state: seed }
    }

    /// A seed for a source: its name, and when it started.
    pub fn seed(name: &str, micros: i64) -> u64 {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash ^ micros.unsigned_abs()
    }

    /// The next wait: between half and all of the doubled one.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempt.min(20));
        self.attempt = self.attempt.saturating_add(1);
        let full = self.first.saturating_mul(factor).min(self.max);
        let half = full / 2;
        half + half.mul_f64(self.unit())
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// A number in [0, 1): SplitMix64 (public domain, Vigna 2015), its upper 53 bits.
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Shows why and for how long, then waits; false if the source must stop.
pub(crate) async fn wait(cx: &SourceContext, why: &str, wait: Duration) -> bool {
    cx.status.update(|status| {
        status.phase = Phase::Retrying;
        status.detail = format!("{why}; next try in {} ms", wait.as_millis());
        status.failures += 1;
    });
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// Shows that only a person can help.
pub(crate) fn fail(cx: &SourceContext, message: String) -> SourceError {
    cx.status.phase(Phase::Failed, message.clone());
    SourceError::Fatal(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_differ_by_seed() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 8 * second, Backoff::seed("a", 7));
        for full in [1, 2, 4, 8, 8] {
            let wait = backoff.next_wait();
            assert!(wait >= second * full / 2 && wait <= second * full, "{wait:?} of {full}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= second);
        let first = |name| Backoff::new(second, second, Backoff::seed(name, 7)).next_wait();
        assert_eq!(first("a"), first("a"));
        assert_ne!(first("a"), first("b"));
    }
}
