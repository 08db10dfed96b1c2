//! How each script does: calls, errors, the last failures with the payment that caused them, quarantine.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use railwatch_model::{SmolStr, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Failure, ScriptError, clean};
use crate::spec::Spec;
use crate::testing::TestReport;

/// What a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScriptKind {
    /// A rule.
    Rule,
    /// A formula for the score.
    Score,
    /// A decoder of a rail.
    Rail,
}

/// Whether a script may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Its last thousand calls succeeded.
    Ok,
    /// It failed lately, and is still called.
    Erroring,
    /// It failed too often and is not called any more; an edit of it gives it a new chance, as a restart does.
    Quarantined,
}

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastError {
    /// The event time of the case, or the arrival of the message.
    pub at: Timestamp,
    /// The line of the script.
    pub line: Option<u32>,
    /// What happened.
    pub message: String,
    /// The calls that led there, innermost first.
    pub traceback: String,
    /// The payment in hand, as `rail/id`.
    pub payment: Option<SmolStr>,
    /// Whom the case was about.
    pub subject: Option<SmolStr>,
}

/// A script as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScriptStatus {
    /// The file.
    pub file: String,
    /// The rule's id, or the name of the score or rail.
    pub name: SmolStr,
    /// What it is for.
    pub kind: ScriptKind,
    /// What it says about itself, in one sentence.
    pub about: Option<String>,
    /// Whether it may be relied on.
    pub health: Health,
    /// True for a rule or score that runs and decides nothing.
    pub shadow: bool,
    /// The names of the tests in its file, all of which passed: it would not be in force otherwise.
    pub tests: Vec<String>,
    /// Calls since it was last edited or railwatch started. A payment that leaves every detector quiet may need none.
    pub calls: u64,
    /// Failed calls since then.
    pub errors: u64,
    /// The latest failures, newest first; at most ten.
    pub last_errors: Vec<LastError>,
}

/// Failures that are kept per script.
pub(crate) const LAST_ERRORS_MAX: usize = 10;
/// Bytes of what a script says about itself.
const ABOUT_LEN_MAX: usize = 300;
/// Good calls in a row that make up for earlier errors.
const FORGIVEN_AFTER: u32 = 1_000;

/// The counters of one script, shared by whoever calls it and whoever shows it.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) file: String,
    pub(crate) name: SmolStr,
    pub(crate) kind: ScriptKind,
    pub(crate) shadow: bool,
    /// Of the whole file's text.
    fingerprint: u64,
    about: Option<String>,
    errors_max: u32,
    calls: AtomicU64,
    errors: AtomicU64,
    strikes: AtomicU32,
    good_in_a_row: AtomicU32,
    quarantined: AtomicBool,
    last: Mutex<VecDeque<LastError>>,
}

impl Counters {
    pub(crate) fn new(
        spec: &Spec<'_>,
        name: SmolStr,
        kind: ScriptKind,
        errors_max: u32,
    ) -> Result<Arc<Self>, ScriptError> {
        let mut hasher = DefaultHasher::new();
        spec.source.hash(&mut hasher);
        Ok(Arc::new(Self {
            fingerprint: hasher.finish(),
            file: spec.file.to_owned(),
            name,
            kind,
            shadow: kind != ScriptKind::Rail && spec.flag("shadow")?,
            about: spec.get::<String>("about", "a text")?.map(|about| clean(&about, ABOUT_LEN_MAX)),
            errors_max,
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            strikes: AtomicU32::new(0),
            good_in_a_row: AtomicU32::new(0),
            quarantined: AtomicBool::new(false),
            last: Mutex::new(VecDeque::new()),
        }))
    }

    /// True if these are the counters of the same script, unchanged.
    fn continues(&self, earlier: &Self) -> bool {
        self.fingerprint == earlier.fingerprint
            && self.file == earlier.file
            && self.name == earlier.name
            && self.kind == earlier.kind
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Counts a good call. One thread calls a script, so that plain loads and stores are enough.
    pub(crate) fn good(&self) {
        self.calls.store(self.calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if self.strikes.load(Ordering::Relaxed) == 0 {
            return;
        }
        let row = self.good_in_a_row.load(Ordering::Relaxed) + 1;
        self.good_in_a_row.store(row, Ordering::Relaxed);
        if row >= FORGIVEN_AFTER {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// Counts and remembers a failed call.
    #[cold]
    pub(crate) fn failed(
        &self,
        failure: Failure,
        at: Timestamp,
        payment: Option<SmolStr>,
        subject: Option<SmolStr>,
    ) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.good_in_a_row.store(0, Ordering::Relaxed);
        let strikes = self.strikes.fetch_add(1, Ordering::Relaxed) + 1;
        if strikes >= self.errors_max {
            self.quarantined.store(true, Ordering::Relaxed);
        }
        let Failure { message, line, traceback, .. } = failure;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.truncate(LAST_ERRORS_MAX - 1);
        last.push_front(LastError { at, line, message, traceback, payment, subject });
    }

    fn status(&self, tests: Vec<String>) -> ScriptStatus {
        let health = if self.is_quarantined() {
            Health::Quarantined
        } else if self.strikes.load(Ordering::Relaxed) > 0 {
            Health::Erroring
        } else {
            Health::Ok
        };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        ScriptStatus {
            file: self.file.clone(),
            name: self.name.clone(),
            kind: self.kind,
            about: self.about.clone(),
            health,
            shadow: self.shadow,
            tests,
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            last_errors: last.iter().cloned().collect(),
        }
    }
}

/// Shows how the scripts of one generation do, from any thread, also after they went to the engine.
#[derive(Debug, Clone, Default)]
pub struct StatusHandle {
    pub(crate) counters: Arc<[Arc<Counters>]>,
    pub(crate) reports: Arc<[TestReport]>,
}

impl StatusHandle {
    /// The counters of the same script, unchanged, if it was there before.
    pub(crate) fn of_unchanged(earlier: &[Self], counters: &Counters) -> Option<Arc<Counters>> {
        let mut all = earlier.iter().flat_map(|handle| handle.counters.iter());
        all.find(|earlier| counters.continues(earlier)).cloned()
    }

    /// Every script, in the order of their files.
    pub fn status(&self) -> Vec<ScriptStatus> {
        self.counters.iter().map(|counters| counters.status(self.tests_of(&counters.file))).collect()
    }

    fn tests_of(&self, file: &str) -> Vec<String> {
        let report = self.reports.iter().find(|report| report.file == file);
        report.map(|report| report.passed.clone()).unwrap_or_default()
    }
}
