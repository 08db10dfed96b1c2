//! What a script may use, and the clock that its wall deadline is measured with.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A clock that never goes back. It bounds how long a script may run; nothing that a script computes depends on it.
pub type Monotonic = fn() -> Duration;

/// What one script may use. Every limit ends the call that passes it with an error that names it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps (calls, returns and loop turns) of one call. This is what stops a loop first, at the same step in every
    /// run; the wall deadline is the second line.
    pub steps_max: u32,
    /// Wall time of one call.
    pub deadline: Duration,
    /// Steps and wall time of a rail decoder's call, which takes in a whole message.
    pub rail_steps_max: u32,
    /// See [`Limits::rail_steps_max`].
    pub rail_deadline: Duration,
    /// Memory of a rule's or a score's own machine, libraries included.
    pub memory_bytes_max: usize,
    /// Memory of a rail decoder's own machine; it holds whole messages.
    pub rail_memory_bytes_max: usize,
    /// Errors, with no thousand good calls in a row between them, after which a script is quarantined.
    pub errors_max: u32,
    /// Bytes of one source file.
    pub source_bytes_max: usize,
    /// Files of one script folder, fixtures included.
    pub files_max: usize,
    /// Keys that a rule may remember of one subject.
    pub state_keys_max: usize,
    /// Bytes of one remembered value.
    pub state_value_bytes_max: usize,
    /// Payments that one message may hold.
    pub payments_per_message_max: usize,
    /// Wall time of all tests of one script.
    pub tests_deadline: Duration,
    /// The clock for the two deadlines.
    pub monotonic: Monotonic,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_max: 200_000,
            deadline: Duration::from_millis(50),
            rail_steps_max: 2_000_000,
            rail_deadline: Duration::from_millis(250),
            memory_bytes_max: 8 << 20,
            rail_memory_bytes_max: 64 << 20,
            errors_max: 20,
            source_bytes_max: 256 << 10,
            files_max: 1_000,
            state_keys_max: 32,
            state_value_bytes_max: 256,
            payments_per_message_max: 10_000,
            tests_deadline: Duration::from_secs(10),
            monotonic: system_monotonic,
        }
    }
}

impl Limits {
    /// The limits of a rail decoder, which takes in whole messages, wherever its file is.
    pub fn of_rails(&self) -> Self {
        Self {
            steps_max: self.rail_steps_max,
            deadline: self.rail_deadline,
            memory_bytes_max: self.rail_memory_bytes_max,
            ..*self
        }
    }
}

/// The machine's monotonic clock, counted from its first use.
pub fn system_monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "the one monotonic clock of the sandbox; see `Limits::monotonic`"
    )]
    let now = Instant::now();
    now.saturating_duration_since(*START.get_or_init(|| now))
}
