//! Checkpoints: the engine's state, saved subject by subject while the engine goes on.

use railwatch_model::Seq;
use rusqlite::{Connection, OptionalExtension};

use crate::journal::seq_of;
use crate::{Reader, StoreError};

/// Names one checkpoint; each is larger than those before it.
pub type Epoch = u64;

/// The checkpoint that a recovery starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name.
    pub epoch: Epoch,
    /// The batch up to which its state is complete: re-apply from the next.
    pub seq: Seq,
}

impl Reader {
    /// The checkpoint that a recovery starts from; `None` before the first.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(epoch) = meta(&self.conn, "checkpoint_epoch")? else { return Ok(None) };
        let seq = meta(&self.conn, "checkpoint_seq")?.unwrap_or(0);
        Ok(Some(Checkpoint { epoch: seq_of(epoch), seq: seq_of(seq) }))
    }
}

fn meta(conn: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}
