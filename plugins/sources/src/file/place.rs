//! A place in a file, as a cursor: the offset behind the last whole line, and what the file begins with.

use railwatch_plugin::source::Cursor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a file's beginning that tell it from another file of the same name.
pub(super) const HEAD_LEN: usize = 256;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes (after decompression) that are done.
    pub(super) offset: u64,
    /// Bytes of the beginning that the fingerprint covers.
    pub(super) head_len: usize,
    /// Their fingerprint.
    pub(super) head: String,
}

impl Place {
    pub(super) fn new(offset: u64, head: &[u8]) -> Self {
        let head = head.get(..HEAD_LEN).unwrap_or(head);
        Self { offset, head_len: head.len(), head: fingerprint(head) }
    }

    /// The place that a cursor holds; `None` if another kind of source wrote it.
    pub(super) fn of(cursor: &Cursor) -> Option<Self> {
        serde_json::from_str(&cursor.0).ok()
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    /// True if a file that begins like this is the one that the place is in.
    pub(super) fn is_in(&self, head: &[u8]) -> bool {
        head.get(..self.head_len).is_some_and(|head| fingerprint(head) == self.head)
    }
}

fn fingerprint(head: &[u8]) -> String {
    hex::encode(&Sha256::digest(head)[..8])
}
