//! What can go wrong with the store, and what the caller should do about it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the store could not do what it was asked. After any of these nothing of the failed call is visible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open for writing.
    #[error(
        "{path} is in use by {}; stop that process, or use another data directory",
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// Who holds it, if the lock file says so.
        pid: Option<u32>,
    },
    /// The file was written by a later version of railwatch.
    #[error(
        "{path} has schema version {found}, and this railwatch knows versions up to {known}; \
         use the railwatch that wrote it, or a later one"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this build can read.
        known: i64,
    },
    /// A read-only open met a file that an earlier version wrote.
    #[error(
        "{path} has the older schema version {found}; start the daemon once to bring it to version {known}"
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version that this build reads.
        known: i64,
    },
    /// The file is something else.
    #[error("{path} is not a railwatch store; move it away, or name another path")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened or created.
    #[error("cannot open {path}")]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The disk, or the configured size limit, is full. The store stays usable: free space, then try again.
    #[error("no space left for the store; free disk space or raise its size limit, then try again")]
    Full,
    /// Pages of the file contradict each other.
    #[error(
        "the store is damaged ({detail}); stop, run `railwatch doctor`, and restore the file from a backup"
    )]
    Corrupt {
        /// What SQLite or the checksum says.
        detail: String,
    },
    /// Another connection holds a lock for longer than the busy timeout: trying again may help.
    #[error("the store is locked by another connection; try again")]
    Busy,
    /// The file, its folder or this connection is read-only.
    #[error("the store is read-only; make the file and its folder writable")]
    ReadOnly,
    /// The disk failed. What was acknowledged before is safe unless the disk lost it.
    #[error("the disk under the store failed ({detail}); check the disk, then restart")]
    Io {
        /// What SQLite says.
        detail: String,
    },
    /// A row is intact and cannot be understood by this build.
    #[error("{place} cannot be decoded: {detail}")]
    Undecodable {
        /// The row.
        place: String,
        /// What the decoder says.
        detail: String,
    },
    /// A value is too large, or cannot be written as what its column holds.
    #[error("{what} cannot be stored: {detail}")]
    Unstorable {
        /// The value.
        what: &'static str,
        /// Why not.
        detail: String,
    },
    /// The row that the caller named does not exist, or is not in a state in which this can be done to it.
    #[error("{what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Anything else that SQLite says; a bug in this crate.
    #[error("unexpected answer of the database: {0}")]
    Sqlite(#[source] rusqlite::Error),
}

/// What a caller does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try the same call again, after a moment.
    Retry,
    /// Hold back acknowledgements, tell a person, and try again until there is space.
    FreeSpace,
    /// Stop writing; a person must act.
    Stop,
    /// The call was wrong; the store is fine.
    Skip,
}

impl StoreError {
    /// What the caller should do.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Busy => Advice::Retry,
            Self::Full => Advice::FreeSpace,
            Self::Undecodable { .. } | Self::Unstorable { .. } | Self::NotFound { .. } => Advice::Skip,
            Self::InUse { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::NotAStore { .. }
            | Self::CannotOpen { .. }
            | Self::Corrupt { .. }
            | Self::ReadOnly
            | Self::Io { .. }
            | Self::Sqlite(_) => Advice::Stop,
        }
    }

    pub(crate) fn undecodable(place: impl Into<String>, detail: &impl ToString) -> Self {
        Self::Undecodable { place: place.into(), detail: detail.to_string() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else { return Self::Sqlite(error) };
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Self::Corrupt { detail: error.to_string() }
            }
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly,
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::FileLockingProtocolFailed => {
                Self::Io { detail: error.to_string() }
            }
            ErrorCode::TooBig => Self::Unstorable { what: "a value", detail: error.to_string() },
            _ => Self::Sqlite(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    /// What SQLite says, and the variant and advice that a caller sees.
    #[track_caller]
    fn check(code: i32, expected: &str, advice: Advice) {
        let error: StoreError = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into();
        let debug = format!("{error:?}");
        assert!(debug.starts_with(expected), "{code} became {debug}");
        assert_eq!(error.advice(), advice, "{debug}");
    }

    #[test]
    fn every_failure_of_sqlite_says_what_to_do() {
        check(ffi::SQLITE_FULL, "Full", Advice::FreeSpace);
        check(ffi::SQLITE_BUSY, "Busy", Advice::Retry);
        check(ffi::SQLITE_BUSY_SNAPSHOT, "Busy", Advice::Retry);
        check(ffi::SQLITE_LOCKED, "Busy", Advice::Retry);
        check(ffi::SQLITE_CORRUPT, "Corrupt", Advice::Stop);
        check(ffi::SQLITE_CORRUPT_INDEX, "Corrupt", Advice::Stop);
        check(ffi::SQLITE_NOTADB, "Corrupt", Advice::Stop);
        check(ffi::SQLITE_READONLY, "ReadOnly", Advice::Stop);
        check(ffi::SQLITE_IOERR_FSYNC, "Io", Advice::Stop);
        check(ffi::SQLITE_CANTOPEN, "Io", Advice::Stop);
        check(ffi::SQLITE_TOOBIG, "Unstorable", Advice::Skip);
        check(ffi::SQLITE_MISUSE, "Sqlite", Advice::Stop);
    }
}
