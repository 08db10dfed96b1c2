//! The history that rules may ask about: an agent's recent payments in event time.
//!
//! Sums over any window cost a binary search, because each entry carries the running sums up to it; questions about one
//! rail, payee or task walk the window's hashes, and look at the entries where they match. Beyond [`ENTRIES_MAX`] entries the oldest neighbors are merged, so
//! that a busy agent's far past loses resolution and never totals.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::time::Duration;

use foldhash::fast::FixedState;
use railwatch_model::{SmolStr, Timestamp, Usd};
use railwatch_plugin::detector::Observation;
use railwatch_plugin::history::{Dimension, Filter, HistoryView};
use serde::{Deserialize, Serialize};

/// Entries that one agent's history may have.
const ENTRIES_MAX: usize = 2048;
/// Different rails, payees and tasks that are remembered as "not new", each.
const KNOWN_MAX: usize = 1024;
/// Rails of one agent that have a sum of their own.
const RAILS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
    usd: Usd,
    count: u32,
    declined: u32,
    rail: SmolStr,
    payee: SmolStr,
    task: SmolStr,
    /// Running sums up to and including this entry.
    usd_until: Usd,
    count_until: u64,
    declined_until: u64,
}

/// One agent's history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    now: Timestamp,
    first_seen_at: Timestamp,
    previous_at: Option<Timestamp>,
    latest_at: Option<Timestamp>,
    known: [VecDeque<SmolStr>; 3],
    /// What of the payment in hand was new: rail, payee, task.
    fresh: [bool; 3],
    by_rail: Vec<(SmolStr, Usd)>,
    dropped_usd: Usd,
    dropped_count: u64,
    dropped_declined: u64,
    #[serde(skip)]
    keys: Keys,
}

/// Hashes of names, close together: of each entry's rail, payee and task, and of the known ones. Made again from the
/// names when they are missing, which is after reading a history from the store.
#[derive(Debug, Clone, Default)]
struct Keys {
    entries: VecDeque<[u64; 3]>,
    known: [VecDeque<u64>; 3],
}

impl PartialEq for Keys {
    /// They say nothing that the names do not.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn key(name: &str) -> u64 {
    FixedState::default().hash_one(name)
}

impl Entry {
    fn names(&self) -> [&SmolStr; 3] {
        [&self.rail, &self.payee, &self.task]
    }

    fn keys(&self) -> [u64; 3] {
        self.names().map(|name| key(name))
    }
}

impl History {
    /// Adds a payment and forgets what is older than `longest`.
    pub(crate) fn observe(&mut self, seen: &Observation<'_>, longest: Duration) {
        self.make_keys();
        let payment = seen.payment;
        if self.first_seen_at == Timestamp::EPOCH {
            self.first_seen_at = seen.at;
        }
        self.now = self.now.max(seen.at);
        if seen.booking.purchases > 0 {
            self.previous_at = self.latest_at;
            self.latest_at = Some(self.latest_at.map_or(seen.at, |at| at.max(seen.at)));
        }
        let names = [Some(&payment.rail), payment.payee.as_ref(), payment.task.as_ref()];
        let known = self.known.iter_mut().zip(&mut self.keys.known);
        for (((known, keys), fresh), name) in known.zip(&mut self.fresh).zip(names) {
            *fresh = name.is_some_and(|name| remember(known, keys, name));
        }
        self.add_to_rail(&payment.rail, seen.booking.committed);
        self.insert(Entry {
            at: seen.at,
            usd: seen.booking.committed,
            count: u32::try_from(seen.booking.purchases).unwrap_or(0),
            declined: seen.booking.declined,
            rail: payment.rail.clone(),
            payee: payment.payee.clone().unwrap_or_default(),
            task: payment.task.clone().unwrap_or_default(),
            usd_until: Usd::ZERO,
            count_until: 0,
            declined_until: 0,
        });
        self.forget(longest);
    }

    /// Continues with the longer window of `read`, which was shown the same payments; what it says of all time stays.
    pub(crate) fn lengthen(&mut self, read: Self) {
        if self.first_seen_at == Timestamp::EPOCH {
            *self = read;
            return;
        }
        self.entries = read.entries;
        self.dropped_usd = read.dropped_usd;
        self.dropped_count = read.dropped_count;
        self.dropped_declined = read.dropped_declined;
        self.keys.entries.clear();
        self.make_keys();
    }

    fn make_keys(&mut self) {
        if self.keys.entries.len() != self.entries.len() {
            self.keys.entries = self.entries.iter().map(Entry::keys).collect();
        }
        for (known, keys) in self.known.iter().zip(&mut self.keys.known) {
            if known.len() != keys.len() {
                *keys = known.iter().map(|name| key(name)).collect();
            }
        }
    }

    /// Moves the present to `now`, for questions asked on a tick.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.make_keys();
        self.now = self.now.max(now);
        self.fresh = [false; 3];
    }

    fn add_to_rail(&mut self, rail: &SmolStr, usd: Usd) {
        if let Some((_, sum)) = self.by_rail.iter_mut().find(|(name, _)| name == rail) {
            *sum = sum.plus(usd);
        } else if self.by_rail.len() < RAILS_MAX {
            self.by_rail.push((rail.clone(), usd));
        }
    }

    /// Inserts at the entry's place in event time, and corrects the running sums after it.
    fn insert(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|other| other.at <= entry.at);
        self.keys.entries.insert(place, entry.keys());
        self.entries.insert(place, entry);
        self.resum(place);
    }

    fn resum(&mut self, from: usize) {
        let before = from.checked_sub(1).and_then(|at| self.entries.get(at));
        let mut sums = before
            .map_or((self.dropped_usd, self.dropped_count, self.dropped_declined), |entry| {
                (entry.usd_until, entry.count_until, entry.declined_until)
            });
        for entry in self.entries.iter_mut().skip(from) {
            sums =
                (sums.0.plus(entry.usd), sums.1 + u64::from(entry.count), sums.2 + u64::from(entry.declined));
            (entry.usd_until, entry.count_until, entry.declined_until) = sums;
        }
    }

    fn forget(&mut self, longest: Duration) {
        let cutoff = self.now.before(longest);
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.at <= cutoff) {
            self.dropped_usd = entry.usd_until;
            self.dropped_count = entry.count_until;
            self.dropped_declined = entry.declined_until;
            self.keys.entries.pop_front();
        }
        if self.entries.len() > ENTRIES_MAX {
            self.merge_oldest();
        }
    }

    /// Merges pairs among the older half; the newer half keeps its resolution.
    fn merge_oldest(&mut self) {
        let older: Vec<Entry> = self.entries.drain(..ENTRIES_MAX / 2).collect();
        let mut merged: Vec<Entry> = Vec::with_capacity(ENTRIES_MAX / 4);
        for pair in older.chunks(2) {
            let Some(last) = pair.last() else { continue };
            let mut entry = pair.iter().max_by_key(|entry| entry.usd).unwrap_or(last).clone();
            entry.at = last.at;
            entry.usd = pair.iter().fold(Usd::ZERO, |sum, part| sum.plus(part.usd));
            entry.count = pair.iter().map(|part| part.count).sum();
            entry.declined = pair.iter().map(|part| part.declined).sum();
            (entry.usd_until, entry.count_until) = (last.usd_until, last.count_until);
            entry.declined_until = last.declined_until;
            merged.push(entry);
        }
        self.keys.entries.drain(..ENTRIES_MAX / 2);
        for entry in merged.into_iter().rev() {
            self.keys.entries.push_front(entry.keys());
            self.entries.push_front(entry);
        }
    }

    fn start(&self, window: Duration) -> usize {
        let cutoff = self.now.before(window);
        self.entries.partition_point(|entry| entry.at <= cutoff)
    }

    /// The entries of a window that pass.
    fn passing<'a>(&'a self, window: Duration, filter: Filter<'a>) -> impl Iterator<Item = &'a Entry> {
        let (index, name) = match filter {
            Filter::All => (0, None),
            Filter::Rail(name) => (0, Some(name)),
            Filter::Payee(name) => (1, Some(name)),
            Filter::Task(name) => (2, Some(name)),
        };
        let wanted = name.map(|name| (key(name), name));
        let start = self.start(window);
        let keys = self.keys.entries.range(start.min(self.keys.entries.len())..);
        keys.zip(start..).filter_map(move |(keys, place)| match wanted {
            None => self.entries.get(place),
            Some((key, name)) if keys[index] == key => {
                self.entries.get(place).filter(|entry| entry.names()[index] == name)
            }
            Some(_) => None,
        })
    }

    /// `(usd, count, declined)` of a window, by the running sums.
    fn sums(&self, window: Duration) -> (Usd, u64, u64) {
        let cutoff = self.now.before(window);
        let start = self.entries.partition_point(|entry| entry.at <= cutoff);
        let before = start.checked_sub(1).and_then(|at| self.entries.get(at));
        let before = before.map_or((self.dropped_usd, self.dropped_count, self.dropped_declined), |entry| {
            (entry.usd_until, entry.count_until, entry.declined_until)
        });
        let Some(last) = self.entries.back() else { return (Usd::ZERO, 0, 0) };
        let usd = last.usd_until.minus(before.0);
        (usd, last.count_until.saturating_sub(before.1), last.declined_until.saturating_sub(before.2))
    }
}

/// Adds a name to a bounded list of known ones; true if it was new.
fn remember(known: &mut VecDeque<SmolStr>, keys: &mut VecDeque<u64>, name: &SmolStr) -> bool {
    if contains(known, keys, name) {
        return false;
    }
    if known.len() >= KNOWN_MAX {
        known.pop_front();
        keys.pop_front();
    }
    known.push_back(name.clone());
    keys.push_back(key(name));
    true
}

fn contains(known: &VecDeque<SmolStr>, keys: &VecDeque<u64>, name: &str) -> bool {
    let wanted = key(name);
    let mut places = keys.iter().zip(known);
    places.any(|(key, known)| *key == wanted && known == name)
}

fn index(dimension: Dimension) -> usize {
    match dimension {
        Dimension::Rail => 0,
        Dimension::Payee => 1,
        Dimension::Task => 2,
    }
}

impl HistoryView for History {
    fn spent(&self, window: Duration, filter: Filter<'_>) -> Usd {
        if filter == Filter::All {
            return self.sums(window).0;
        }
        self.passing(window, filter).fold(Usd::ZERO, |sum, entry| sum.plus(entry.usd))
    }

    fn count(&self, window: Duration, filter: Filter<'_>) -> u64 {
        if filter == Filter::All {
            return self.sums(window).1;
        }
        self.passing(window, filter).map(|entry| u64::from(entry.count)).sum()
    }

    fn distinct(&self, window: Duration, dimension: Dimension) -> u64 {
        let (index, none) = (index(dimension), key(""));
        let keys = self.keys.entries.range(self.start(window).min(self.keys.entries.len())..);
        let mut keys: Vec<u64> = keys.map(|keys| keys[index]).filter(|key| *key != none).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len() as u64
    }

    fn largest(&self, window: Duration, filter: Filter<'_>) -> Usd {
        self.passing(window, filter).map(|entry| entry.usd).max().unwrap_or(Usd::ZERO)
    }

    fn declined(&self, window: Duration) -> u64 {
        self.sums(window).2
    }

    fn first_seen_at(&self) -> Timestamp {
        self.first_seen_at
    }

    fn previous_at(&self) -> Option<Timestamp> {
        self.previous_at
    }

    fn is_new(&self, dimension: Dimension, value: &str) -> bool {
        let index = index(dimension);
        let known = contains(&self.known[index], &self.keys.known[index], value);
        !known
            || self.fresh.get(index).copied().unwrap_or(false)
                && self.known.get(index).and_then(VecDeque::back).is_some_and(|name| name == value)
    }

    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        let mut by_rail = self.by_rail.clone();
        by_rail.sort_by_key(|(_, usd)| std::cmp::Reverse(*usd));
        by_rail
    }
}

#[cfg(test)]
mod tests;
