//! Checkpoints: the engine's state at one journal position, taken while the engine goes on.
//!
//! [`Engine::checkpoint_begin`] fixes the position. Rows are then saved a few at a time between batches; a row that is
//! about to change before its turn is saved first, as it still is. What comes out is what a stopped engine would
//! have given, and no pause is longer than one step.

use railwatch_model::{Freeze, Silence, SmolStr, Subject, Timestamp, Totals};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::subjects::Kept;

/// One subject as it was at a checkpoint's position.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSubject {
    /// The subject.
    pub subject: Subject,
    /// When it last had a payment; the end of time while it has an open incident.
    pub last_at: Timestamp,
    /// What people see of it without the engine.
    pub summary: Summary,
    /// Its state, opaque.
    pub state: Vec<u8>,
}

/// What a stored subject shows of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The team.
    pub team: Option<SmolStr>,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid.
    pub last_at: Timestamp,
    /// Sums since it is known.
    pub totals: Totals,
    /// The last anomaly score.
    pub score: f64,
}

/// Why stored state cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are not a subject's state.
    #[error("stored state of {subject} cannot be read: {reason}")]
    Subject {
        /// The subject's key, as far as it is known.
        subject: String,
        /// The reason.
        reason: String,
    },
    /// The bytes are not the engine's common state.
    #[error("the engine's stored common state cannot be read: {0}")]
    Globals(String),
}

#[derive(Serialize, Deserialize)]
struct SubjectState {
    subject: Subject,
    kept: Kept,
    /// Detector name and state.
    columns: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct Globals {
    now: Timestamp,
    generation: u64,
    shared: Vec<(String, Vec<u8>)>,
    silences: Vec<Silence>,
    freezes: Vec<Freeze>,
    /// Histories were on their way to their subjects.
    warming: bool,
}

impl Engine {
    /// Begins a checkpoint at the present position and returns the common state. A checkpoint that was under way is
    /// given up: its rows are due again.
    pub fn checkpoint_begin(&mut self) -> Vec<u8> {
        let mut queue = std::mem::take(&mut self.checkpoint_queue);
        let early: Vec<_> = std::mem::take(&mut self.checkpoint_early);
        queue.extend(early.iter().filter_map(|saved| self.subjects.slot(&saved.subject)));
        queue.extend(self.subjects.take_dirty());
        queue.sort_unstable();
        queue.dedup();
        for slot in &queue {
            if let Some(row) = self.subjects.row_mut(*slot) {
                row.dirty = false;
                row.due = true;
            }
        }
        self.checkpoint_queue = queue;
        let shared = self.columns.iter().map(|column| {
            let mut bytes = Vec::new();
            column.save_shared(&mut bytes);
            (column.name().to_owned(), bytes)
        });
        let globals = Globals {
            now: self.now,
            generation: self.generation,
            shared: shared.collect(),
            silences: self.silences.clone(),
            freezes: self.freezes.clone(),
            warming: self.is_warming(),
        };
        postcard::to_allocvec(&globals).expect("plain data serializes, and memory grows")
    }

    /// Saves up to `rows_max` further rows; an empty result means that the checkpoint is complete.
    pub fn checkpoint_step(&mut self, rows_max: usize) -> Vec<SavedSubject> {
        let mut saved = std::mem::take(&mut self.checkpoint_early);
        while saved.len() < rows_max {
            let Some(slot) = self.checkpoint_queue.pop() else { break };
            if self.subjects.row(slot).is_some_and(|row| row.due) {
                saved.extend(self.save(slot));
            }
        }
        saved
    }

    /// Saves a row before it changes, if the running checkpoint has not come to it yet.
    pub(crate) fn save_early(&mut self, slot: usize) {
        if self.subjects.row(slot).is_some_and(|row| row.due) {
            let saved = self.save(slot);
            self.checkpoint_early.extend(saved);
        }
    }

    fn save(&mut self, slot: usize) -> Option<SavedSubject> {
        let columns = self.columns.iter().map(|column| {
            let mut bytes = Vec::new();
            column.save(slot, &mut bytes);
            (column.name().to_owned(), bytes)
        });
        let columns = columns.collect();
        let row = self.subjects.row_mut(slot)?;
        row.due = false;
        let state = SubjectState { subject: row.subject.clone(), kept: row.kept.clone(), columns };
        let summary = Summary {
            team: row.profile.team.clone(),
            first_at: row.kept.born_at,
            last_at: row.kept.last_at,
            totals: row.kept.ledger.totals,
            score: row.kept.score,
        };
        let last_at = if row.kept.book.is_some() { Timestamp::MAX } else { row.kept.last_at };
        let state_bytes = postcard::to_allocvec(&state).expect("plain data serializes, and memory grows");
        Some(SavedSubject { subject: state.subject, last_at, summary, state: state_bytes })
    }

    /// Puts a saved subject back into memory. A detector whose state the bytes lack, or cannot give, starts anew for
    /// this subject; the names of those are returned.
    pub fn restore(&mut self, state: &[u8]) -> Result<Vec<String>, RestoreError> {
        let state: SubjectState = postcard::from_bytes(state).map_err(|error| RestoreError::Subject {
            subject: "a subject".to_owned(),
            reason: error.to_string(),
        })?;
        if let Some(slot) = self.subjects.slot(&state.subject) {
            self.subjects.remove(slot);
        }
        let incident = state.kept.book.as_ref().and_then(|book| book.incident().cloned());
        let slot = self.insert(state.subject, state.kept);
        // Nobody is woken: when this row wants to be looked at is part of what was saved.
        self.refresh_inhibitor(slot);
        if let Some(incident) = incident {
            self.incidents.insert(incident, slot);
        }
        let mut fresh = Vec::new();
        for column in &mut self.columns {
            let bytes = state.columns.iter().find(|(name, _)| name == column.name());
            if bytes.is_none_or(|(_, bytes)| column.load(slot, bytes).is_err()) {
                column.reset(slot);
                fresh.push(column.name().to_owned());
            }
        }
        Ok(fresh)
    }

    /// The generation that was in force when a common state was saved, to be built before an engine is made of it.
    pub fn saved_generation(globals: &[u8]) -> Option<u64> {
        postcard::from_bytes::<Globals>(globals).ok().map(|globals| globals.generation)
    }

    /// True if some histories were still too short for the generation in force when a common state was saved. Read them
    /// up to the checkpoint's position once more, and hand them over with [`Engine::adopt_histories`].
    pub fn saved_while_warming(globals: &[u8]) -> bool {
        postcard::from_bytes::<Globals>(globals).is_ok_and(|globals| globals.warming)
    }

    /// Restores the common state and returns the generation that was in force.
    pub fn restore_globals(&mut self, bytes: &[u8]) -> Result<u64, RestoreError> {
        let globals: Globals =
            postcard::from_bytes(bytes).map_err(|error| RestoreError::Globals(error.to_string()))?;
        self.now = globals.now;
        self.silences = globals.silences;
        self.freezes = globals.freezes;
        for column in &mut self.columns {
            if let Some((_, bytes)) = globals.shared.iter().find(|(name, _)| name == column.name()) {
                column.load_shared(bytes).map_err(|error| RestoreError::Globals(error.to_string()))?;
            }
        }
        Ok(globals.generation)
    }

    /// Takes agents out of memory that have been idle, are saved, and have nothing open; their state is in the store.
    /// Call it after a checkpoint is durable. Returns how many left.
    pub fn evict_idle(&mut self) -> usize {
        let crowded = self.subjects.len() > self.settings.subjects_max;
        let idle_after = if crowded { self.settings.idle_after / 8 } else { self.settings.idle_after };
        let cutoff = self.now.before(idle_after);
        let idle: Vec<usize> = self
            .subjects
            .iter()
            .filter(|(_, row)| {
                let is_open = row.kept.book.is_some() || !row.kept.announcements.is_empty();
                let is_saved = !row.dirty && !row.due;
                matches!(row.subject, Subject::Agent(_)) && row.kept.last_at < cutoff && is_saved && !is_open
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in &idle {
            self.subjects.remove(*slot);
            for column in &mut self.columns {
                column.reset(*slot);
            }
        }
        idle.len()
    }
}
