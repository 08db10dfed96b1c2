//! The embedded store: everything that railwatch must not forget, in one SQLite file.
//!
//! It holds the journal, the checkpoints of the engine's state, alerts, the outbox, configuration generations and the
//! audit. All SQL of the project is in this crate. It decides nothing: what to write and when comes from the host.
//! Every call blocks; the host gives the store a thread of its own.
//!
//! Invariant: a call that returned `Ok` has its rows on the disk; a call that failed has none. Inside
//! [`Store::together`] that is true of all calls as one, when it returns.

mod alerts;
mod checkpoint;
mod doctor;
mod effects;
mod error;
mod generations;
mod journal;
mod labels;
mod open;
mod outbox;
mod retention;
mod wal;

pub use alerts::{AlertChange, AlertFilter, Listed};
pub use checkpoint::{Checkpoint, Epoch, SavedSubject, SubjectRow, SubjectView};
pub use doctor::{Finding, Progress, Report};
pub use effects::{AuditEntry, Effects};
pub use error::{Advice, StoreError};
pub use generations::Generation;
pub use journal::{BATCH_LEN_MAX, Batch, Batches, JournalSpan, REJECTS_PER_BATCH_MAX, Reject, StoredBatch};
pub use labels::{LabelCounts, Labelled, Labelling};
pub use open::{Reader, Store, StoreOptions};
pub use outbox::{Claimed, Interrupted, OutboxEntry, OutboxId, OutboxState, OutboxTotals, Outcome};
pub use retention::Sizes;
pub use wal::{WalKeeper, WalState};
