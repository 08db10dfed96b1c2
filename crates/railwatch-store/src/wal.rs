//! Keeping the WAL short.
//!
//! Every commit appends to the WAL; sooner or later its pages must be copied back into the database file, which takes
//! as long as the disk takes. SQLite would do so inside the commit that crosses a limit, and that append would stall.
//! So the automatic checkpoint is off. A [`WalKeeper`] on a connection and thread of its own copies pages back while
//! appends go on. Because SQLite only reuses the WAL at a moment when everything in it was copied, and under constant
//! load the keeper never sees such a moment, the writer copies the little that is left between two appends once the
//! WAL is larger than [`crate::StoreOptions::wal_size_max`]. Without a keeper that step is merely longer.

use rusqlite::{Connection, OpenFlags};

use crate::open::connect;
use crate::{Store, StoreError};

/// Bytes that a commit adds to the WAL besides the values themselves: the pages of the trees that it touches.
const COMMIT_OVERHEAD: u64 = 32 << 10;

/// Copies the WAL back into the database file. The host calls [`WalKeeper::checkpoint`] from a thread of its own,
/// every second or so.
#[derive(Debug)]
pub struct WalKeeper {
    conn: Connection,
}

/// What a checkpoint left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalState {
    /// Pages in the WAL.
    pub n_pages: u64,
    /// Pages of it that are copied back.
    pub n_copied: u64,
}

impl WalKeeper {
    /// Copies back what can be copied without waiting for anybody.
    pub fn checkpoint(&self) -> Result<WalState, StoreError> {
        passive(&self.conn)
    }
}

impl Store {
    /// A keeper for this store's WAL.
    pub fn wal_keeper(&self) -> Result<WalKeeper, StoreError> {
        let conn = connect(self.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(WalKeeper { conn })
    }

    /// Counts a commit of `n_bytes`, and copies the WAL back if it may have grown too large. A failure breaks no
    /// promise, because the commit before it is durable and a later call tries again, so it is not told.
    pub(crate) fn bound_wal(&mut self, n_bytes: usize) {
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX).saturating_add(COMMIT_OVERHEAD);
        self.wal_grown = self.wal_grown.saturating_add(n_bytes);
        if self.wal_grown > self.options.wal_size_max && !self.is_together {
            let all_copied = passive(&self.conn).is_ok_and(|wal| wal.n_copied == wal.n_pages);
            // A reader still needs the rest: try again a little later, not at every commit.
            self.wal_grown = if all_copied { 0 } else { self.options.wal_size_max / 4 * 3 };
        }
    }
}

fn passive(conn: &Connection) -> Result<WalState, StoreError> {
    let counts = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    let (n_pages, n_copied) = counts?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(WalState { n_pages: count(n_pages), n_copied: count(n_copied) })
}
