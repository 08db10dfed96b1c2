//! What was reported before: the memory behind deduplication, status changes, cross-rail merging and learned links.
//!
//! Keys are 128-bit keyed fingerprints, so that nobody outside can make two payments collide; entries live in two
//! generations that rotate, which bounds both age and memory without ever deleting single keys.
//!
//! Invariant: an entry is remembered for at least the horizon, unless the key limit is reached first; then the oldest
//! generation is dropped and counted.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use railwatch_model::{AgentId, Kind, Payment, SettlementRef, Status, Timestamp};
use siphasher::sip128::{Hasher128, SipHasher24};

/// A keyed fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64, u64);

/// The secret of this store's fingerprints; drawn once by the host and kept in the store.
pub type SeenSecret = [u8; 16];

/// Bounds of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenLimits {
    /// Repeats are recognized for at least this long: the longest retry window of any rail (72 h, Stripe).
    pub horizon: Duration,
    /// Entries kept at most; about 30 bytes each.
    pub keys_max: usize,
}

impl Default for SeenLimits {
    fn default() -> Self {
        Self { horizon: Duration::from_secs(72 * 3600), keys_max: 16_000_000 }
    }
}

/// What is remembered of one step of one payment, or of one settlement reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Index into the interned agents.
    agent: u32,
    /// The revision, and the state in the two highest bits.
    packed: u32,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Seen,
    Confirmed,
    Retracted,
}

const REVISION_MASK: u32 = (1 << 30) - 1;

impl Entry {
    fn new(agent: u32, state: State, revision: u64) -> Self {
        let revision = u32::try_from(revision).unwrap_or(u32::MAX).min(REVISION_MASK);
        Self { agent, packed: revision | ((state as u32) << 30) }
    }

    pub(crate) fn state(self) -> State {
        match self.packed >> 30 {
            0 => State::Seen,
            1 => State::Confirmed,
            _ => State::Retracted,
        }
    }

    pub(crate) fn revision(self) -> u64 {
        u64::from(self.packed & REVISION_MASK)
    }
}

/// Keys are uniformly distributed already; hashing them again would only cost time.
#[derive(Debug, Default, Clone, Copy)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(32) ^ number;
    }
}

type Map = std::collections::HashMap<Key, Entry, BuildHasherDefault<KeyHasher>>;

/// One generation, in shards so that growing one pauses the engine for a fraction of a millisecond.
#[derive(Debug, Default)]
struct Generation {
    shards: Vec<Map>,
    len: usize,
    started_at: Timestamp,
}

const SHARDS: usize = 256;

impl Generation {
    fn new(started_at: Timestamp) -> Self {
        let mut shards = Vec::new();
        shards.resize_with(SHARDS, Map::default);
        Self { shards, len: 0, started_at }
    }

    fn shard(key: Key) -> usize {
        (key.1 >> 56) as usize % SHARDS
    }

    fn get(&self, key: Key) -> Option<Entry> {
        self.shards.get(Self::shard(key))?.get(&key).copied()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        if let Some(shard) = self.shards.get_mut(Self::shard(key))
            && shard.insert(key, entry).is_none()
        {
            self.len += 1;
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(shard) = self.shards.get_mut(Self::shard(key))
            && shard.remove(&key).is_some()
        {
            self.len -= 1;
        }
    }
}

/// The memory.
pub(crate) struct Seen {
    secret: SeenSecret,
    limits: SeenLimits,
    current: Generation,
    previous: Generation,
    agents: Vec<AgentId>,
    /// Their places, by the hash of their names.
    agent_index: HashTable<u32>,
    forgotten_early: u64,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("limits", &self.limits).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Seen {
    pub(crate) fn new(secret: SeenSecret, limits: SeenLimits) -> Self {
        Self {
            secret,
            limits,
            current: Generation::new(Timestamp::EPOCH),
            previous: Generation::new(Timestamp::EPOCH),
            agents: Vec::new(),
            agent_index: HashTable::new(),
            forgotten_early: 0,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: SeenLimits) {
        self.limits = limits;
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len + self.previous.len
    }

    /// Entries that the key limit made it forget before the horizon.
    pub(crate) fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// The fingerprint of a step: `(rail, id, kind)`, and the total where the report carries a running one.
    pub(crate) fn step_key(&self, payment: &Payment) -> Key {
        let total = payment.running_total.then(|| payment.amount.units());
        self.key(1, &(&*payment.rail, &*payment.id, payment.kind, total))
    }

    /// The fingerprint of the step that `(rail, id)` names, if it were of this kind.
    pub(crate) fn parent_key(&self, rail: &str, id: &str, kind: Kind) -> Key {
        self.key(1, &(rail, id, kind, None::<i128>))
    }

    /// The fingerprint of a settlement reference; views of money that moves in different directions, or of different
    /// steps, are not the same purchase.
    pub(crate) fn ref_key(&self, payment: &Payment, reference: &SettlementRef) -> Key {
        self.key(2, &(reference.scheme, &*reference.value, payment.kind, payment.direction))
    }

    /// The fingerprint of a finished task.
    pub(crate) fn task_key(&self, agent: &AgentId, task: &str) -> Key {
        self.key(3, &(agent.as_str(), task))
    }

    fn key(&self, domain: u8, value: &impl Hash) -> Key {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write_u8(domain);
        value.hash(&mut hasher);
        let hash = hasher.finish128();
        Key(hash.h1, hash.h2)
    }

    pub(crate) fn get(&self, key: Key) -> Option<Entry> {
        self.current.get(key).or_else(|| self.previous.get(key))
    }

    pub(crate) fn agent(&self, entry: Entry) -> Option<&AgentId> {
        self.agents.get(entry.agent as usize)
    }

    pub(crate) fn put(&mut self, key: Key, agent: &AgentId, status: Status, revision: u64) {
        let agent = self.intern(agent);
        let state = match status {
            Status::Seen => State::Seen,
            Status::Confirmed => State::Confirmed,
            Status::Retracted => State::Retracted,
        };
        self.current.put(key, Entry::new(agent, state, revision));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.current.remove(key);
        self.previous.remove(key);
    }

    /// Starts a new generation when the current one is a horizon old, or holds half of the allowed keys.
    pub(crate) fn rotate(&mut self, now: Timestamp) {
        if self.current.started_at == Timestamp::EPOCH {
            self.current.started_at = now;
        }
        let is_full = self.current.len >= self.limits.keys_max / 2;
        if !is_full && now.since(self.current.started_at) < self.limits.horizon {
            return;
        }
        if now.since(self.previous.started_at) < self.limits.horizon {
            self.forgotten_early += self.previous.len as u64;
        }
        self.previous = std::mem::replace(&mut self.current, Generation::new(now));
    }

    fn intern(&mut self, agent: &AgentId) -> u32 {
        let hash = |agent: &AgentId| FixedState::default().hash_one(agent.as_str());
        let name = |index: &u32| &self.agents[*index as usize];
        let found =
            self.agent_index.entry(hash(agent), |index| name(index) == agent, |index| hash(name(index)));
        match found {
            Place::Occupied(found) => *found.get(),
            Place::Vacant(place) => {
                let index = u32::try_from(self.agents.len()).unwrap_or(u32::MAX);
                place.insert(index);
                self.agents.push(agent.clone());
                index
            }
        }
    }
}
