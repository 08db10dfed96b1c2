//! Columns: a detector together with its state for every subject, erased so that the engine can hold a list of them.
//!
//! The engine addresses subjects by dense slots. A column is the only place that knows the state's type; that is what
//! lets a detector be replaced while its state stays.

use std::any::Any;

use railwatch_model::{Signal, Subject, Timestamp};

use crate::detector::{Context, Detector, Observation, Profile, Scope, Usual, View};

/// What the engine passes to a column; [`Context`] without the shared state, which the column adds.
#[derive(Debug)]
pub struct Row<'a> {
    /// The subject's slot.
    pub slot: usize,
    /// The journal's time.
    pub now: Timestamp,
    /// The subject's clock.
    pub clock: Timestamp,
    /// The subject.
    pub subject: &'a Subject,
    /// Its profile.
    pub profile: &'a Profile,
    /// What the detectors publish for each other.
    pub usual: &'a mut Usual,
    /// The earliest wish for a tick.
    pub wake_at: &'a mut Timestamp,
}

/// A stored state that this version of its detector cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored state of detector {detector} cannot be read: {reason}")]
pub struct StateError {
    /// The detector.
    pub detector: &'static str,
    /// The reason.
    pub reason: String,
}

/// A detector and its states.
pub trait Column: Send + std::fmt::Debug {
    /// The detector's name.
    fn name(&self) -> &'static str;
    /// The subjects that it is asked about.
    fn scope(&self) -> Scope;
    /// Makes slot `slot` usable, with an empty state.
    fn reset(&mut self, slot: usize);
    /// [`Detector::touch`] on a slot.
    fn touch(&self, slot: usize);
    /// [`Detector::observe`] on a slot.
    fn observe(&mut self, row: Row<'_>, seen: &Observation<'_>);
    /// [`Detector::tick`] on a slot.
    fn tick(&mut self, row: Row<'_>);
    /// [`Detector::quiet`] on a slot.
    fn quiet(&self, slot: usize, look: Look<'_>) -> bool;
    /// [`Detector::signals`] on a slot.
    fn signals(&self, slot: usize, look: Look<'_>, signals: &mut Vec<Signal>);
    /// [`Detector::usual_at`] on a slot.
    fn usual_at(&self, slot: usize, look: Look<'_>, at: Timestamp) -> Option<f64>;
    /// Appends the state of a slot to `bytes`.
    fn save(&self, slot: usize, bytes: &mut Vec<u8>);
    /// Reads the state of a slot back.
    fn load(&mut self, slot: usize, bytes: &[u8]) -> Result<(), StateError>;
    /// Appends the shared state to `bytes`.
    fn save_shared(&self, bytes: &mut Vec<u8>);
    /// Reads the shared state back.
    fn load_shared(&mut self, bytes: &[u8]) -> Result<(), StateError>;
    /// Takes over the states of the column that this one replaces; false, and nothing taken, if their types differ.
    fn adopt(&mut self, old: &mut dyn Column) -> bool;
    /// For `adopt`.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What the engine passes when it asks for signals; [`View`] without the shared state.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The time that the signals are about.
    pub now: Timestamp,
    /// The subject.
    pub subject: &'a Subject,
    /// Its profile.
    pub profile: &'a Profile,
    /// What is usual for it.
    pub usual: &'a Usual,
}

/// Puts a detector into an empty column.
pub fn column<D: Detector>(detector: D) -> Box<dyn Column> {
    Box::new(Typed { detector, states: Vec::new(), shared: D::Shared::default() })
}

struct Typed<D: Detector> {
    detector: D,
    states: Vec<D::State>,
    shared: D::Shared,
}

impl<D: Detector> std::fmt::Debug for Typed<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Column").field("detector", &self.detector).field("slots", &self.states.len()).finish()
    }
}

impl<D: Detector> Typed<D> {
    fn visit(&mut self, row: Row<'_>, visit: impl FnOnce(&D, &mut Context<'_, D::Shared>, &mut D::State)) {
        let Row { slot, now, clock, subject, profile, usual, wake_at } = row;
        if let Some(state) = self.states.get_mut(slot) {
            let shared = &mut self.shared;
            visit(
                &self.detector,
                &mut Context { now, clock, subject, profile, usual, shared, wake_at },
                state,
            );
        }
    }

    fn state_error(reason: &postcard::Error) -> StateError {
        let detector = std::any::type_name::<D>().rsplit("::").next().unwrap_or_default();
        StateError { detector, reason: reason.to_string() }
    }
}

impl<D: Detector> Column for Typed<D> {
    fn name(&self) -> &'static str {
        self.detector.name()
    }

    fn scope(&self) -> Scope {
        self.detector.scope()
    }

    fn reset(&mut self, slot: usize) {
        if slot >= self.states.len() {
            self.states.resize_with(slot + 1, D::State::default);
        }
        if let Some(state) = self.states.get_mut(slot) {
            *state = D::State::default();
        }
    }

    fn touch(&self, slot: usize) {
        if let Some(state) = self.states.get(slot) {
            std::hint::black_box(self.detector.touch(state));
        }
    }

    fn observe(&mut self, row: Row<'_>, seen: &Observation<'_>) {
        self.visit(row, |detector, cx, state| detector.observe(cx, state, seen));
    }

    fn tick(&mut self, row: Row<'_>) {
        self.visit(row, |detector, cx, state| detector.tick(cx, state));
    }

    fn quiet(&self, slot: usize, look: Look<'_>) -> bool {
        let Look { now, subject, profile, usual } = look;
        self.states.get(slot).is_none_or(|state| {
            self.detector.quiet(&View { now, subject, profile, usual, shared: &self.shared }, state)
        })
    }

    fn signals(&self, slot: usize, look: Look<'_>, signals: &mut Vec<Signal>) {
        let Look { now, subject, profile, usual } = look;
        if let Some(state) = self.states.get(slot) {
            let view = View { now, subject, profile, usual, shared: &self.shared };
            self.detector.signals(&view, state, signals);
        }
    }

    fn usual_at(&self, slot: usize, look: Look<'_>, at: Timestamp) -> Option<f64> {
        let Look { now, subject, profile, usual } = look;
        let view = View { now, subject, profile, usual, shared: &self.shared };
        self.detector.usual_at(&view, self.states.get(slot)?, at)
    }

    fn save(&self, slot: usize, bytes: &mut Vec<u8>) {
        if let Some(state) = self.states.get(slot) {
            append(state, bytes);
        }
    }

    fn load(&mut self, slot: usize, bytes: &[u8]) -> Result<(), StateError> {
        let loaded = postcard::from_bytes(bytes).map_err(|error| Self::state_error(&error))?;
        self.reset(slot);
        if let Some(state) = self.states.get_mut(slot) {
            *state = loaded;
        }
        Ok(())
    }

    fn save_shared(&self, bytes: &mut Vec<u8>) {
        append(&self.shared, bytes);
    }

    fn load_shared(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        self.shared = postcard::from_bytes(bytes).map_err(|error| Self::state_error(&error))?;
        Ok(())
    }

    fn adopt(&mut self, old: &mut dyn Column) -> bool {
        let Some(old) = old.as_any().downcast_mut::<Self>() else { return false };
        self.states = std::mem::take(&mut old.states);
        self.shared = std::mem::take(&mut old.shared);
        true
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

fn append<T: serde::Serialize>(value: &T, bytes: &mut Vec<u8>) {
    let before = std::mem::take(bytes);
    *bytes = postcard::to_extend(value, before).expect("a detector's state is plain data, and memory grows");
}
