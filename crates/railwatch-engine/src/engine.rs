//! The engine's parts, and how a new generation of configuration takes their place.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use railwatch_model::{Freeze, IncidentId, Signal, Silence, SmolStr, Subject, Timestamp};
use railwatch_plugin::column::Column;
use railwatch_plugin::detector::Profile;
use railwatch_plugin::history::HistoryNeed;
use railwatch_plugin::rules::{Firing, RuleSet, RuleState};
use railwatch_plugin::score::Scorer;

use crate::alerts::Inhibitors;
use crate::identity::Directory;
use crate::seen::{Seen, SeenSecret};
use crate::settings::{Generation, Settings};
use crate::subjects::{Kept, Subjects};
use crate::warm::Warm;

/// The decision core. One per process, or one per partition of the fleet.
#[derive(Debug)]
pub struct Engine {
    pub(crate) generation: u64,
    pub(crate) digest: SmolStr,
    pub(crate) settings: Settings,
    pub(crate) directory: Directory,
    pub(crate) seen: Seen,
    pub(crate) subjects: Subjects,
    pub(crate) columns: Vec<Box<dyn Column>>,
    pub(crate) scorer: Box<dyn Scorer>,
    pub(crate) rules: Box<dyn RuleSet>,
    /// The journal's time: never goes back.
    pub(crate) now: Timestamp,
    /// Open incidents, by the slot of their subject.
    pub(crate) incidents: HashMap<IncidentId, usize, FixedState>,
    /// Silences that are in force or will be.
    pub(crate) silences: Vec<Silence>,
    /// Freezes that are asked for, in force, or just over.
    pub(crate) freezes: Vec<Freeze>,
    /// The open incidents that explain others.
    pub(crate) inhibitors: Inhibitors,
    /// Rows that a running checkpoint has yet to save.
    pub(crate) checkpoint_queue: Vec<usize>,
    /// Rows that changed before a running checkpoint came to them, as they were when it began.
    pub(crate) checkpoint_early: Vec<crate::checkpoint::SavedSubject>,
    /// Histories that a new generation needs longer than they were kept, until their subjects are looked at.
    pub(crate) warm: Option<Box<Warm>>,
    /// Payments that were late for their agent.
    pub(crate) late: u64,
    /// Scores that the configured scorer could not compute.
    pub(crate) score_errors: u64,
    pub(crate) scratch: Scratch,
}

/// What a new generation took the place of.
#[derive(Debug)]
pub struct Retired {
    _directory: Option<Directory>,
    _columns: Vec<Box<dyn Column>>,
    _scorer: Box<dyn Scorer>,
    _rules: Box<dyn RuleSet>,
}

/// Buffers that live as long as the engine, so that a payment allocates nothing for them.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) signals: Vec<Signal>,
    pub(crate) firings: Vec<Firing>,
    pub(crate) states: Vec<RuleState>,
}

impl Engine {
    /// An empty engine that runs `generation`.
    pub fn new(secret: SeenSecret, generation: Generation) -> Self {
        let mut engine = Self {
            generation: generation.number,
            digest: generation.digest,
            seen: Seen::new(secret, generation.settings.seen),
            settings: generation.settings,
            directory: generation.directory.unwrap_or_default(),
            subjects: Subjects::default(),
            columns: generation.columns,
            scorer: generation.scorer,
            rules: generation.rules,
            now: Timestamp::EPOCH,
            incidents: HashMap::default(),
            silences: Vec::new(),
            freezes: Vec::new(),
            inhibitors: Inhibitors::new(),
            checkpoint_queue: Vec::new(),
            checkpoint_early: Vec::new(),
            warm: None,
            late: 0,
            score_errors: 0,
            scratch: Scratch::default(),
        };
        engine.insert(Subject::Fleet, Kept::default());
        engine
    }

    /// Replaces configuration, detectors, score and rules; keeps every state that the new generation has a place for.
    /// Call it when the generation's record has been journaled, before later records are applied. What was replaced
    /// comes back, so that freeing it can be somebody else's work.
    pub fn install(&mut self, generation: Generation) -> Retired {
        let mut columns = generation.columns;
        for column in &mut columns {
            let old = self.columns.iter_mut().find(|old| old.name() == column.name());
            if old.is_none_or(|old| !column.adopt(&mut **old)) {
                for slot in self.subjects.slots() {
                    column.reset(slot);
                }
            }
        }
        self.generation = generation.number;
        self.digest = generation.digest;
        self.settings = generation.settings;
        self.seen.set_limits(self.settings.seen);
        let directory = generation.directory.map(|new| std::mem::replace(&mut self.directory, new));
        if directory.is_some() {
            for slot in self.subjects.slots() {
                self.refresh_profile(slot);
            }
        }
        self.review_hushes();
        Retired {
            _directory: directory,
            _columns: std::mem::replace(&mut self.columns, columns),
            _scorer: std::mem::replace(&mut self.scorer, generation.scorer),
            _rules: std::mem::replace(&mut self.rules, generation.rules),
        }
    }

    /// How much history the rules in force need.
    pub fn need(&self) -> HistoryNeed {
        self.rules.need()
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The digest of the generation in force.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The journal's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// True if a tick at `now` would do something.
    pub fn has_due(&self, now: Timestamp) -> bool {
        self.subjects.has_due(now) || self.has_freeze_due(now)
    }

    /// True if a subject is in memory.
    pub fn knows(&self, subject: &Subject) -> bool {
        self.subjects.slot(subject).is_some()
    }

    /// Agents, teams and the fleet, in memory.
    pub fn subjects_len(&self) -> usize {
        self.subjects.len()
    }

    /// Entries in the deduplication memory.
    pub fn seen_len(&self) -> usize {
        self.seen.len()
    }

    /// Entries that the key limit made it forget before the horizon.
    pub fn seen_forgotten_early(&self) -> u64 {
        self.seen.forgotten_early()
    }

    /// Payments that came more than two minutes behind their agent's clock: they corrected totals.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Scores that the configured scorer could not compute; the built-in parts were used.
    pub fn score_errors(&self) -> u64 {
        self.score_errors
    }

    /// The profile of a subject: what the configuration says, and the announcements that people entered.
    pub(crate) fn refresh_profile(&mut self, slot: usize) {
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let configured = self.directory.profile(&row.subject);
        row.profile = if row.kept.announcements.is_empty() {
            configured
        } else {
            let mut profile = Profile::clone(&configured);
            profile.announcements.extend(row.kept.announcements.iter().cloned());
            Arc::new(profile)
        };
    }

    /// Puts a subject into memory with an empty detector state.
    pub(crate) fn insert(&mut self, subject: Subject, kept: Kept) -> usize {
        let profile = self.directory.profile(&subject);
        let slot = self.subjects.insert(subject, profile, kept);
        for column in &mut self.columns {
            column.reset(slot);
        }
        self.refresh_profile(slot);
        slot
    }
}
