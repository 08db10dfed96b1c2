//! Opening: the lock, the pragmas, the schema and its versions.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Savepoint, Transaction, TransactionBehavior};

use crate::StoreError;

/// Marks the file as ours, so that no other database is ever migrated: "RWCH".
const APPLICATION_ID: i64 = 0x5257_4348;

/// Step `n` brings a file from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("schema_2.sql")];

/// How long a statement waits for another connection. Only the WAL keeper and readers that recover a WAL hold locks,
/// and both for milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept compiled: more than this crate has.
const STATEMENTS_MAX: usize = 96;

/// How the store uses its disk. The defaults suit every deployment that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes that the database file may take; [`StoreError::Full`] beyond. `None` leaves it to the disk.
    pub size_max: Option<u64>,
    /// Bytes of WAL after which an append also copies the WAL back into the file. A [`crate::WalKeeper`] on a thread
    /// of its own keeps the WAL below that, so that appends do not stall.
    pub wal_size_max: u64,
    /// Rejected parts that are kept; older ones are dropped, and counted.
    pub rejects_max: u32,
    /// Bytes per page of a new file.
    pub page_size: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { size_max: None, wal_size_max: 64 << 20, rejects_max: 10_000, page_size: 8192 }
    }
}

/// The store, open for writing. One per file; everything that can be read is on [`Reader`], to which it derefs.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    pub(crate) options: StoreOptions,
    /// The last batch, so that an append need not ask.
    pub(crate) tail: crate::journal::Tail,
    /// Encoded batches are built here; kept to save the allocation.
    pub(crate) scratch: Vec<u8>,
    /// Bytes that commits added to the WAL since it was last known to be copied back.
    pub(crate) wal_grown: u64,
    /// Inside [`Store::together`].
    pub(crate) is_together: bool,
    /// Where purging of superseded checkpoint rows goes on.
    pub(crate) purge: crate::checkpoint::PurgePosition,
    /// Held until the store is dropped; released by the system if the process dies.
    _lock: Lock,
}

/// The store as a reader sees it: a consistent snapshot per call, also while a daemon writes.
#[derive(Debug)]
pub struct Reader {
    pub(crate) conn: Connection,
    pub(crate) path: PathBuf,
}

/// Unlocked explicitly: a process that was being started when the store closed may still hold a copy of the handle.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A failure leaves it to the system, which unlocks when the last handle closes.
        drop(self.0.unlock());
    }
}

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens or creates the store at `path`, takes its lock, and brings its schema to this build's version.
    pub fn open(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = take_lock(path)?;
        create_private(path, OpenOptions::new().create(true).truncate(false))?;
        let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let version = version(&conn, path)?;
        if version == 0 {
            // Only an empty file takes these two.
            conn.pragma_update(None, "page_size", options.page_size)?;
            conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Io {
                detail: format!("the file system cannot keep a WAL (got {mode:?})"),
            });
        }
        conn.pragma_update(None, "synchronous", "FULL")?;
        // The WAL is copied back by the WAL keeper or by `append`, never as a surprise inside a commit.
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        conn.pragma_update(
            None,
            "journal_size_limit",
            i64::try_from(options.wal_size_max).unwrap_or(i64::MAX),
        )?;
        migrate(&mut conn, version)?;
        limit_size(&conn, options)?;
        let reader = Reader { conn, path: path.to_owned() };
        let tail = reader.tail()?;
        Ok(Self {
            reader,
            options: options.clone(),
            tail,
            scratch: Vec::new(),
            wal_grown: 0,
            is_together: false,
            purge: crate::checkpoint::PurgePosition::default(),
            _lock: lock,
        })
    }

    /// Opens the store at `path` for reading, whether or not a daemon has it open.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader, StoreError> {
        let path = path.as_ref();
        if let Err(source) = File::open(path) {
            return Err(StoreError::CannotOpen { path: path.to_owned(), source });
        }
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let found = version(&conn, path)?;
        if found == 0 {
            return Err(StoreError::NotAStore { path: path.to_owned() });
        }
        if found < known_version() {
            return Err(StoreError::Older { path: path.to_owned(), found, known: known_version() });
        }
        Ok(Reader { conn, path: path.to_owned() })
    }

    /// Runs several calls as one transaction with one sync: when it returns `Ok` all of them are durable, after an error
    /// none is. A call that fails inside leaves no trace of its own; `work` decides whether that ends the others.
    pub fn together<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let tail = self.tail;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        self.is_together = true;
        let done = work(self);
        self.is_together = false;
        let done = done.and_then(|done| Ok(self.conn.execute_batch("COMMIT").map(|()| done)?));
        if done.is_ok() {
            self.bound_wal(0);
            return done;
        }
        self.tail = tail;
        // When the disk is full, SQLite has rolled back already.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        done
    }

    /// Begins the one transaction of a call. Immediate, so that it cannot fail halfway for want of the write lock.
    pub(crate) fn begin(&mut self) -> Result<Unit<'_>, StoreError> {
        let conn = &mut self.reader.conn;
        Ok(if self.is_together {
            Unit::Part(conn.savepoint()?)
        } else {
            Unit::Whole(conn.transaction_with_behavior(TransactionBehavior::Immediate)?)
        })
    }
}

/// What a call changes as a whole: a transaction, or a part of one that several calls share.
pub(crate) enum Unit<'a> {
    Whole(Transaction<'a>),
    Part(Savepoint<'a>),
}

impl Deref for Unit<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Whole(transaction) => transaction,
            Self::Part(savepoint) => savepoint,
        }
    }
}

impl Unit<'_> {
    pub(crate) fn commit(self) -> rusqlite::Result<()> {
        match self {
            Self::Whole(transaction) => transaction.commit(),
            Self::Part(savepoint) => savepoint.commit(),
        }
    }
}

impl Reader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The lock is a file beside the store, because SQLite itself locks and unlocks the store's own file.
fn take_lock(path: &Path) -> Result<Lock, StoreError> {
    let lock_path = beside(path, ".lock");
    let cannot = |source| StoreError::CannotOpen { path: lock_path.clone(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::InUse { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(cannot(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(cannot)?;
    Ok(Lock(file))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates the file, readable by its owner only: it holds what people spend. The WAL inherits the mode.
pub(crate) fn create_private(path: &Path, options: &mut OpenOptions) -> Result<(), StoreError> {
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(StoreError::CannotOpen { path: path.to_owned(), source }),
    }
}

/// A connection with the settings that all of them share. Memory-mapped reading stays off: a disk error under a map
/// is a signal that kills the process, where a read is an error that can be told.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let set_up = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "cell_size_check", true)?;
        conn.pragma_update(None, "cache_size", -16_384)?;
        Ok(conn)
    };
    set_up().map_err(|error| opening(path, error))
}

/// An error of the first look at a file, where "not a database" means that it never was one.
fn opening(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError::NotAStore { path: path.to_owned() },
        _ => error.into(),
    }
}

/// The schema version of the file; 0 for an empty one.
fn version(conn: &Connection, path: &Path) -> Result<i64, StoreError> {
    let pragma = |name: &str| {
        conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(|error| opening(path, error))
    };
    let (id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if version == 0 && id == 0 && tables == 0 {
        return Ok(0);
    }
    if id != APPLICATION_ID {
        return Err(StoreError::NotAStore { path: path.to_owned() });
    }
    if version > known_version() {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known: known_version() });
    }
    Ok(version)
}

fn migrate(conn: &mut Connection, found: i64) -> Result<(), StoreError> {
    let done = usize::try_from(found).unwrap_or(0);
    for (step, version) in MIGRATIONS.iter().zip(1_i64..).skip(done) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

fn limit_size(conn: &Connection, options: &StoreOptions) -> Result<(), StoreError> {
    let Some(bytes) = options.size_max else { return Ok(()) };
    let page_size: u32 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(bytes / u64::from(page_size.max(1))).unwrap_or(i64::MAX).max(1);
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    Ok(())
}
