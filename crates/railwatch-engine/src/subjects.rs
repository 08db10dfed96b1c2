//! The table of subjects: agents, teams and the fleet, in dense slots.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use railwatch_model::{AgentId, Condition, Subject, Timestamp};
use railwatch_plugin::detector::{Announcement, Profile, Usual};
use railwatch_plugin::rules::RuleState;
use serde::{Deserialize, Serialize};

use crate::alerts::{Book, Whom};
use crate::history::History;
use crate::ledger::Ledger;

/// Everything about one subject except the detectors' states.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) profile: Arc<Profile>,
    pub(crate) kept: Kept,
    /// Changed since it was last saved.
    pub(crate) dirty: bool,
    /// The running checkpoint still has to save it as it is now.
    pub(crate) due: bool,
    /// Changed since it was last published.
    pub(crate) unpublished: bool,
}

impl Row {
    pub(crate) fn whom(&self) -> Whom<'_> {
        Whom { subject: &self.subject, profile: &self.profile }
    }
}

/// The part of a row that is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Newest event time, clamped.
    pub(crate) clock: Timestamp,
    /// First event time.
    pub(crate) born_at: Timestamp,
    /// Journal time of the last payment.
    pub(crate) last_at: Timestamp,
    /// When a detector or the alert book wants a tick.
    pub(crate) wake_at: Timestamp,
    pub(crate) usual: Usual,
    pub(crate) ledger: Ledger,
    /// The last anomaly score.
    pub(crate) score: f64,
    pub(crate) history: Option<Box<History>>,
    pub(crate) book: Option<Box<Book>>,
    /// Rules' notes, by rule id.
    pub(crate) notes: Vec<(railwatch_model::SmolStr, RuleState)>,
    /// Announced changes that people entered while railwatch ran.
    pub(crate) announcements: Vec<Announcement>,
    /// Conditions that hold for it, in the order of their names.
    pub(crate) conditions: Vec<Condition>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            clock: Timestamp::EPOCH,
            born_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            wake_at: Timestamp::MAX,
            usual: Usual::default(),
            ledger: Ledger::default(),
            score: 0.0,
            history: None,
            book: None,
            notes: Vec::new(),
            announcements: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// Slots by the hash of their subject. The row itself says whose it is, so that no name is kept twice; the hash is kept
/// so that growing the table does not visit every row.
#[derive(Debug, Default)]
struct Index(HashTable<(u32, u32)>);

impl Index {
    /// The hash as a table wants it, with variety at both ends.
    fn widen(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }

    fn find(&self, hash: u32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let found = self.0.find(Self::widen(hash), |(h, slot)| *h == hash && is_it(*slot as usize))?;
        Some(found.1 as usize)
    }

    fn insert(&mut self, hash: u32, slot: usize) {
        let slot = u32::try_from(slot).expect("four billion rows do not fit into memory");
        self.0.insert_unique(Self::widen(hash), (hash, slot), |(hash, _)| Self::widen(*hash));
    }

    fn remove(&mut self, hash: u32, slot: usize) {
        if let Ok(entry) = self.0.find_entry(Self::widen(hash), |(_, other)| *other as usize == slot) {
            entry.remove();
        }
    }
}

fn hash(subject: &Subject) -> u32 {
    match subject {
        Subject::Agent(agent) => hash_agent(agent),
        other => fold(FixedState::default().hash_one(other)),
    }
}

fn hash_agent(agent: &AgentId) -> u32 {
    fold(FixedState::default().hash_one(agent.as_str()))
}

fn fold(hash: u64) -> u32 {
    u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or(0)
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    rows: Vec<Option<Row>>,
    index: Index,
    free: Vec<usize>,
    wakes: BinaryHeap<Reverse<(Timestamp, usize)>>,
    dirty: Vec<usize>,
    /// Slots that changed since they were last published, longest ago first.
    unpublished: VecDeque<usize>,
}

impl Subjects {
    pub(crate) fn len(&self) -> usize {
        self.index.0.len()
    }

    pub(crate) fn slot(&self, subject: &Subject) -> Option<usize> {
        match subject {
            Subject::Agent(agent) => self.agent_slot(agent),
            _ => self.index.find(hash(subject), |slot| self.subject(slot) == Some(subject)),
        }
    }

    /// The slot of an agent.
    pub(crate) fn agent_slot(&self, agent: &AgentId) -> Option<usize> {
        let is_it = |slot| matches!(self.subject(slot), Some(Subject::Agent(other)) if other == agent);
        self.index.find(hash_agent(agent), is_it)
    }

    pub(crate) fn row(&self, slot: usize) -> Option<&Row> {
        self.rows.get(slot)?.as_ref()
    }

    pub(crate) fn row_mut(&mut self, slot: usize) -> Option<&mut Row> {
        self.rows.get_mut(slot)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter_map(|(slot, row)| Some((slot, row.as_ref()?)))
    }

    pub(crate) fn slots(&self) -> std::ops::Range<usize> {
        0..self.rows.len()
    }

    /// Puts a row into a free slot.
    pub(crate) fn insert(&mut self, subject: Subject, profile: Arc<Profile>, kept: Kept) -> usize {
        let slot = self.free.pop().unwrap_or(self.rows.len());
        if slot == self.rows.len() {
            self.rows.push(None);
        }
        self.index.insert(hash(&subject), slot);
        let wake_at = kept.wake_at;
        if let Some(place) = self.rows.get_mut(slot) {
            *place = Some(Row { subject, profile, kept, dirty: false, due: false, unpublished: true });
            self.unpublished.push_back(slot);
        }
        if wake_at < Timestamp::MAX {
            self.wakes.push(Reverse((wake_at, slot)));
        }
        slot
    }

    /// Takes a row out of memory.
    pub(crate) fn remove(&mut self, slot: usize) {
        if let Some(row) = self.rows.get_mut(slot).and_then(Option::take) {
            self.index.remove(hash(&row.subject), slot);
            self.free.push(slot);
            self.unpublished.push_back(slot);
        }
    }

    /// Notes that a row changed, for the next checkpoint and for those who look on.
    pub(crate) fn touch(&mut self, slot: usize) {
        let Some(row) = self.rows.get_mut(slot).and_then(Option::as_mut) else { return };
        if !row.dirty {
            row.dirty = true;
            self.dirty.push(slot);
        }
        if !row.unpublished {
            row.unpublished = true;
            self.unpublished.push_back(slot);
        }
    }

    /// True if some row changed since it was published.
    pub(crate) fn has_unpublished(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// The slot that has waited longest to be published.
    pub(crate) fn take_unpublished(&mut self) -> Option<usize> {
        self.unpublished.pop_front()
    }

    /// The rows that changed since the last call.
    pub(crate) fn take_dirty(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.dirty)
    }

    /// Sets the time at which a row wants a tick.
    pub(crate) fn wake(&mut self, slot: usize, at: Timestamp) {
        if let Some(row) = self.rows.get_mut(slot).and_then(Option::as_mut)
            && row.kept.wake_at != at
        {
            row.kept.wake_at = at;
            if at < Timestamp::MAX {
                self.wakes.push(Reverse((at, slot)));
            }
        }
    }

    /// True if some row's time has come.
    pub(crate) fn has_due(&self, now: Timestamp) -> bool {
        self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    /// The rows whose time has come, in an order that does not depend on slots.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some(Reverse((at, slot))) = self.wakes.peek().copied() {
            if at > now {
                break;
            }
            self.wakes.pop();
            if self.row(slot).is_some_and(|row| row.kept.wake_at == at) {
                due.push(slot);
            }
        }
        due.sort_by(|a, b| self.subject(*a).cmp(&self.subject(*b)));
        due.dedup();
        due
    }

    fn subject(&self, slot: usize) -> Option<&Subject> {
        self.row(slot).map(|row| &row.subject)
    }
}
