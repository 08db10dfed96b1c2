//! Waiting: ask again until it is so, or the deadline passes.

use std::time::Duration;

use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock as _, SystemClock};

/// How often an answer is asked for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The time.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Asks until there is an answer; panics with `what` once `secs` have passed without one.
#[track_caller]
pub fn until<T>(what: &str, secs: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = now().after(Duration::from_secs(secs));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < deadline, "{what}: not within {secs} s");
        std::thread::sleep(ASK_EVERY);
    }
}
