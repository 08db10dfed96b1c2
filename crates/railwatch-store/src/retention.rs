//! Keeping: what the store takes on the disk, copies of it, and forgetting old rows in bounded steps, so that appends
//! flow between them. Alerts and outbox entries are forgotten by their own modules.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use railwatch_model::Timestamp;
use rusqlite::params;

use crate::journal::sql_seq;
use crate::open::create_private;
use crate::{Reader, Store, StoreError};

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// The database file.
    pub file: u64,
    /// Of it, pages that are free for reuse; [`Store::shrink`] gives them back to the disk.
    pub free: u64,
    /// The WAL file.
    pub wal: u64,
}

impl Store {
    /// Deletes up to `limit` of the oldest batches whose records are all older than `before`; returns how many.
    /// Batches that a recovery needs, and the newest, are kept.
    pub fn forget_batches(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let span = self.journal_span()?;
        let recovery_seq = self.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq);
        let last = recovery_seq.min(span.last.saturating_sub(1));
        let last = last.min(span.first.saturating_add(u64::from(limit)).saturating_sub(1));
        let tx = self.begin()?;
        // clock_at never falls, so this deletes a prefix and seq stays contiguous.
        let n = tx
            .prepare_cached("DELETE FROM journal WHERE seq <= ?1 AND clock_at < ?2")?
            .execute([sql_seq(last), before.micros()])?;
        tx.commit()?;
        self.bound_wal(0);
        Ok(u64::try_from(n).unwrap_or(u64::MAX))
    }

    /// Deletes up to `limit` audit entries from before `before`; returns how many. Entries that a recovery would write
    /// again are kept.
    pub fn forget_audit(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let recovery_seq = sql_seq(self.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq));
        let tx = self.begin()?;
        let n = tx
            .prepare_cached(
                "DELETE FROM audit WHERE id IN (
                    SELECT id FROM audit WHERE at < ?1 AND (seq IS NULL OR seq <= ?2) ORDER BY id LIMIT ?3)",
            )?
            .execute(params![before.micros(), recovery_seq, limit])?;
        tx.commit()?;
        Ok(u64::try_from(n).unwrap_or(u64::MAX))
    }

    /// Gives up to `n_pages` free pages back to the disk.
    pub fn shrink(&mut self, n_pages: u32) -> Result<(), StoreError> {
        {
            let mut statement = self.conn.prepare(&format!("PRAGMA incremental_vacuum({n_pages})"))?;
            let mut rows = statement.query([])?;
            // Each step frees one page.
            while rows.next()?.is_some() {}
        }
        self.bound_wal(0);
        Ok(())
    }
}

impl Reader {
    /// Writes a consistent copy to `path`, which must not exist, while everything goes on. The copy is a store.
    pub fn backup_to(&self, path: &Path) -> Result<(), StoreError> {
        let cannot = |source| StoreError::CannotOpen { path: path.to_owned(), source };
        let name = path.to_str().ok_or_else(|| cannot(ErrorKind::InvalidFilename.into()))?;
        // Claimed first, so that nothing is overwritten and only the owner can read it.
        create_private(path, OpenOptions::new().create_new(true))?;
        self.conn.execute("VACUUM INTO ?1", [name])?;
        // SQLite does not sync what it vacuums into.
        File::open(path).and_then(|file| file.sync_all()).map_err(cannot)
    }

    /// Bytes on the disk, for metrics.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let pragma = |name: &str| -> Result<u64, StoreError> {
            let value: i64 = self.conn.pragma_query_value(None, name, |row| row.get(0))?;
            Ok(u64::try_from(value).unwrap_or(0))
        };
        let page_size = pragma("page_size")?;
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Sizes {
            file: pragma("page_count")?.saturating_mul(page_size),
            free: pragma("freelist_count")?.saturating_mul(page_size),
            wal: std::fs::metadata(wal).map_or(0, |file| file.len()),
        })
    }
}
