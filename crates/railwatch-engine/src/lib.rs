//! The decision core of railwatch: who paid, whether it was seen before, what it did to the books, what is unusual,
//! and whom to tell.
//!
//! The engine is synchronous and deterministic. It never awaits, reads a clock, draws a random number, depends on the
//! order of a hash map, or does IO, and it cannot fail: time is an argument, and everything that can fail was checked
//! when a [`Generation`] was built. The host calls [`Engine::admit`], makes the result durable, and then calls
//! [`Engine::apply`] with the record as it stands in the journal; recovery, replay, backtests and tests call the same
//! two functions.
//!
//! Invariant: the same journal and the same generations give the same alerts with the same ids.

mod actions;
mod admit;
mod alerts;
mod apply;
mod checkpoint;
mod effects;
mod engine;
mod freeze;
mod history;
mod identity;
mod ledger;
mod publish;
mod seen;
mod settings;
mod subjects;
mod view;
mod warm;

pub use admit::{Accepted, AdmitCounts};
pub use checkpoint::{RestoreError, SavedSubject, Summary};
pub use effects::{Effects, ShadowFiring};
pub use engine::{Engine, Retired};
pub use freeze::FREEZES_MAX;
pub use identity::Directory;
pub use publish::Published;
pub use seen::{SeenLimits, SeenSecret};
pub use settings::{
    Equal, Escalation, FreezePolicy, FreezeSettings, Gate, Generation, Inhibition, Mute, Settings,
};
pub use view::{Snapshot, SortBy, SubjectView};

#[cfg(test)]
mod tests;
