//! Checkpoints: the engine's state, saved subject by subject while the engine goes on.
//!
//! A checkpoint begins at a batch, takes any number of chunks, and counts once it is committed; until then a recovery
//! uses the one before. Only subjects that changed since the last checkpoint are saved again: the newest row of a
//! subject with an epoch up to the committed one is its state.
//!
//! Invariant: rows of a checkpoint that was never committed are never read, and are gone before the next one begins.

use std::ops::ControlFlow;

use railwatch_model::{Seq, SmolStr, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::journal::{checksum, seq_of, smol, sql_seq, time};
use crate::{Reader, Store, StoreError};

/// Names one checkpoint; each is larger than those before it.
pub type Epoch = u64;

/// Rows that one transaction of an internal clean-up deletes.
const CLEAN_STEP: i64 = 2_000;

const EPOCH: &str = "checkpoint_epoch";
const SEQ: &str = "checkpoint_seq";
const BEGUN_EPOCH: &str = "checkpoint_begun_epoch";
const BEGUN_SEQ: &str = "checkpoint_begun_seq";
const PURGED_EPOCH: &str = "checkpoint_purged_epoch";

/// The checkpoint that a recovery starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name.
    pub epoch: Epoch,
    /// The batch up to which every saved subject is complete: re-apply from the next. A subject that was saved late
    /// may already hold later batches; whoever wrote its body must be able to tell.
    pub seq: Seq,
}

/// One subject's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectRow<'a> {
    /// The subject, by [`railwatch_model::Subject::key`].
    pub key: &'a str,
    /// When it was last active, for ageing.
    pub last_at: Timestamp,
    /// A summary in JSON, for people.
    pub view: &'a str,
    /// The state, opaque to the store; `None` forgets the subject.
    pub body: Option<&'a [u8]>,
}

/// One subject's state, as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSubject {
    /// When it was last active.
    pub last_at: Timestamp,
    /// The summary in JSON.
    pub view: String,
    /// The state.
    pub body: Vec<u8>,
}

/// One subject's summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectView {
    /// The subject.
    pub key: SmolStr,
    /// When it was last active.
    pub last_at: Timestamp,
    /// The summary in JSON.
    pub view: String,
}

/// Where purging goes on: rows up to this one have no superseded versions.
#[derive(Debug, Default)]
pub(crate) struct PurgePosition {
    epoch: i64,
    key: String,
}

impl Store {
    /// Begins a checkpoint of the state after batch `seq`. Rows of an earlier one that was not committed are deleted,
    /// which takes a while after a crash in the middle of a large checkpoint and no time otherwise.
    pub fn checkpoint_begin(&mut self, seq: Seq) -> Result<Epoch, StoreError> {
        let committed = self.checkpoint()?.map_or(0, |checkpoint| sql_seq(checkpoint.epoch));
        let begun = meta(&self.conn, BEGUN_EPOCH)?.unwrap_or(0);
        if begun > committed {
            self.delete_abandoned(committed)?;
        }
        let epoch = begun.max(committed) + 1;
        let tx = self.begin()?;
        set_meta(&tx, BEGUN_EPOCH, epoch)?;
        set_meta(&tx, BEGUN_SEQ, sql_seq(seq))?;
        tx.commit()?;
        Ok(seq_of(epoch))
    }

    /// Saves a chunk of subjects in a transaction of its own. A thousand rows per call keep appends flowing between.
    pub fn save_subjects(&mut self, epoch: Epoch, rows: &[SubjectRow<'_>]) -> Result<(), StoreError> {
        let epoch = self.require_begun(epoch)?;
        let tx = self.begin()?;
        let mut n_bytes = 0;
        {
            let mut statement = tx.prepare_cached(
                "INSERT OR REPLACE INTO subjects (key, epoch, last_at, view, checksum, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for row in rows {
                let body = row.body.unwrap_or_default();
                n_bytes += body.len() + row.view.len() + row.key.len();
                statement.execute(params![
                    row.key,
                    epoch,
                    row.last_at.micros(),
                    row.view,
                    checksum(epoch, body),
                    row.body
                ])?;
            }
        }
        tx.commit()?;
        self.bound_wal(n_bytes);
        Ok(())
    }

    /// Makes a checkpoint the one that a recovery starts from, with state that belongs to no subject.
    pub fn checkpoint_commit(&mut self, epoch: Epoch, globals: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let epoch = self.require_begun(epoch)?;
        let tx = self.begin()?;
        let seq = meta(&tx, BEGUN_SEQ)?.unwrap_or(0);
        tx.prepare_cached("DELETE FROM globals")?.execute([])?;
        for (name, body) in globals {
            tx.prepare_cached("INSERT INTO globals (name, epoch, checksum, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![name, epoch, checksum(epoch, body), body])?;
        }
        set_meta(&tx, EPOCH, epoch)?;
        set_meta(&tx, SEQ, seq)?;
        tx.commit()?;
        self.bound_wal(0);
        Ok(())
    }

    /// Looks at up to `limit` rows and deletes the versions that they supersede; true if there is more to do. Call it
    /// now and then after a commit.
    pub fn purge_subjects(&mut self, limit: u32) -> Result<bool, StoreError> {
        let Some(committed) = self.checkpoint()?.map(|checkpoint| sql_seq(checkpoint.epoch)) else {
            return Ok(false);
        };
        let purged = meta(&self.conn, PURGED_EPOCH)?.unwrap_or(0);
        if purged >= committed {
            return Ok(false);
        }
        if self.purge.epoch <= purged {
            self.purge = PurgePosition { epoch: purged + 1, key: String::new() };
        }
        let position = std::mem::take(&mut self.purge);
        let tx = self.begin()?;
        let looked_at = superseding(&tx, &position, committed, limit)?;
        for (epoch, key, forgotten) in &looked_at {
            // A row that forgets a subject is itself of no use once nothing older is left.
            tx.prepare_cached("DELETE FROM subjects WHERE key = ?1 AND (epoch < ?2 OR (epoch = ?2 AND ?3))")?
                .execute(params![key, epoch, forgotten])?;
        }
        let more = looked_at.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        if !more {
            set_meta(&tx, PURGED_EPOCH, committed)?;
        }
        tx.commit()?;
        if let Some((epoch, key, _)) = looked_at.into_iter().next_back().filter(|_| more) {
            self.purge = PurgePosition { epoch, key };
        }
        self.bound_wal(0);
        Ok(more)
    }

    fn require_begun(&self, epoch: Epoch) -> Result<i64, StoreError> {
        let committed = self.checkpoint()?.map_or(0, |checkpoint| checkpoint.epoch);
        let begun = meta(&self.conn, BEGUN_EPOCH)?.map_or(0, seq_of);
        if epoch != begun || epoch <= committed {
            return Err(StoreError::NotFound {
                what: format!("checkpoint {epoch} is not the one under way"),
            });
        }
        Ok(sql_seq(epoch))
    }

    fn delete_abandoned(&mut self, committed: i64) -> Result<(), StoreError> {
        loop {
            let tx = self.begin()?;
            let n = tx
                .prepare_cached(
                    "DELETE FROM subjects WHERE (key, epoch) IN
                        (SELECT key, epoch FROM subjects WHERE epoch > ?1 LIMIT ?2)",
                )?
                .execute([committed, CLEAN_STEP])?;
            tx.commit()?;
            self.bound_wal(0);
            if n == 0 {
                return Ok(());
            }
        }
    }
}

impl Reader {
    /// The checkpoint that a recovery starts from; `None` before the first.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(epoch) = meta(&self.conn, EPOCH)? else { return Ok(None) };
        let seq = meta(&self.conn, SEQ)?.unwrap_or(0);
        Ok(Some(Checkpoint { epoch: seq_of(epoch), seq: seq_of(seq) }))
    }

    /// One subject's state in the committed checkpoint.
    pub fn load_subject(&self, key: &str) -> Result<Option<SavedSubject>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT key, epoch, last_at, view, checksum, body FROM subjects
             WHERE key = ?1 AND epoch <= ?2 ORDER BY epoch DESC LIMIT 1",
        )?;
        let mut rows = statement.query(params![key, self.committed()?])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let subject = subject(row)?;
        Ok(subject.body.map(|body| SavedSubject {
            last_at: subject.last_at,
            view: subject.view.to_owned(),
            body: body.to_owned(),
        }))
    }

    /// Visits every subject of the committed checkpoint that was active at or after `active_since`, in the order in
    /// which they were saved, until the visitor breaks.
    pub fn for_each_subject(
        &self,
        active_since: Timestamp,
        mut visit: impl FnMut(SubjectRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT key, epoch, last_at, view, checksum, body FROM subjects AS row
             WHERE epoch = (SELECT max(epoch) FROM subjects WHERE key = row.key AND epoch <= ?1)
               AND last_at >= ?2 AND body IS NOT NULL
             ORDER BY rowid",
        )?;
        let mut rows = statement.query([self.committed()?, active_since.micros()])?;
        while let Some(row) = rows.next()? {
            if visit(subject(row)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Summaries of up to `limit` subjects that were active at or after `active_since` and whose keys follow `after`.
    pub fn subject_views(
        &self,
        active_since: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Vec<SubjectView>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT key, last_at, view FROM subjects AS row
             WHERE key > ?3
               AND epoch = (SELECT max(epoch) FROM subjects WHERE key = row.key AND epoch <= ?1)
               AND last_at >= ?2 AND body IS NOT NULL
             ORDER BY key LIMIT ?4",
        )?;
        let rows = statement
            .query_map(params![self.committed()?, active_since.micros(), after, limit], |row| {
                Ok(SubjectView { key: smol(row, 0)?, last_at: time(row, 1)?, view: row.get(2)? })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// State of the committed checkpoint that belongs to no subject.
    pub fn global(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT epoch, checksum, body FROM globals WHERE name = ?1")?;
        let row: Option<(i64, i64, Vec<u8>)> =
            statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        match row {
            Some((epoch, expected, body)) if checksum(epoch, &body) != expected => {
                Err(StoreError::Corrupt { detail: format!("the checksum of global {name} does not match") })
            }
            row => Ok(row.map(|(_, _, body)| body)),
        }
    }

    fn committed(&self) -> Result<i64, StoreError> {
        Ok(meta(&self.conn, EPOCH)?.unwrap_or(0))
    }
}

/// Columns: key, epoch, last_at, view, checksum, body.
pub(crate) fn subject<'a>(row: &'a rusqlite::Row<'_>) -> Result<SubjectRow<'a>, StoreError> {
    let text = |column: usize| -> Result<&'a str, StoreError> {
        row.get_ref(column)?.as_str().map_err(|error| StoreError::Corrupt { detail: error.to_string() })
    };
    let key = text(0)?;
    let (epoch, expected): (i64, i64) = (row.get(1)?, row.get(4)?);
    let body = row.get_ref(5)?.as_blob_or_null().map_err(|error| StoreError::undecodable(key, &error))?;
    if checksum(epoch, body.unwrap_or_default()) != expected {
        return Err(StoreError::Corrupt { detail: format!("the checksum of subject {key} does not match") });
    }
    Ok(SubjectRow { key, last_at: time(row, 2)?, view: text(3)?, body })
}

fn superseding(
    conn: &Connection,
    position: &PurgePosition,
    committed: i64,
    limit: u32,
) -> Result<Vec<(i64, String, bool)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT epoch, key, body IS NULL FROM subjects
         WHERE (epoch, key) > (?1, ?2) AND epoch <= ?3 ORDER BY epoch, key LIMIT ?4",
    )?;
    let rows = statement.query_map(params![position.epoch, position.key, committed, limit], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn meta(conn: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn set_meta(conn: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}
