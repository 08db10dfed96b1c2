//! The journal: batches of records, one row and one sync each.
//!
//! Invariant: `seq` is contiguous, and a batch is there as a whole, with the cursors and rejects that belong to it, or
//! not at all.
//!
//! Bodies are not compressed: at the rates that the disk takes, even the fastest compressor would cost more than the
//! write that it saves.

use std::hash::Hasher;

use railwatch_model::{Record, Seq, SmolStr, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use siphasher::sip::SipHasher13;

use crate::effects::{self, Effects};
use crate::{Reader, Store, StoreError};

/// Body is postcard of `Vec<Record>`.
const FORMAT_POSTCARD: i64 = 1;

/// Bytes that an encoded batch may have. A batch of a thousand payments has a quarter of a megabyte.
pub const BATCH_LEN_MAX: usize = 128 << 20;

/// Rejects of one batch that are kept in full; all are counted.
pub const REJECTS_PER_BATCH_MAX: usize = 1_000;

/// What becomes durable together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// What happened, in order; at least one.
    pub records: &'a [Record],
    /// Where each source resumes, once this batch is durable.
    pub cursors: &'a [(SmolStr, String)],
    /// Parts of messages that could not be understood.
    pub rejects: &'a [Reject],
    /// Effects of earlier batches that ride along, to save a sync.
    pub effects: &'a [Effects],
}

/// A part of a message that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// When it was received.
    pub at: Timestamp,
    /// The configured source.
    pub source: SmolStr,
    /// The stable code.
    pub code: SmolStr,
    /// What is wrong, and where.
    pub detail: String,
    /// The beginning of the part.
    pub raw: Vec<u8>,
}

/// A batch as it was appended.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBatch {
    /// Its position.
    pub seq: Seq,
    /// The earliest `now` of its records.
    pub first_at: Timestamp,
    /// The latest.
    pub last_at: Timestamp,
    /// Its records, in order.
    pub records: Vec<Record>,
}

/// What the journal holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalSpan {
    /// The oldest batch that is kept; 0 when there is none.
    pub first: Seq,
    /// The newest batch; 0 when there is none.
    pub last: Seq,
    /// Payments in all batches that were ever appended.
    pub payments_total: u64,
}

/// The newest batch, as the next append needs to know it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    pub(crate) seq: i64,
    clock_at: i64,
    payments_total: i64,
}

struct Span {
    first_at: i64,
    last_at: i64,
    n_payments: i64,
}

impl Store {
    /// Makes a batch durable, with its cursors, its rejects, and effects of earlier batches: one transaction, one
    /// sync. When it returns `Ok`, sources may acknowledge. After an error nothing of the batch is visible.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<Seq, StoreError> {
        let Some(span) = Span::of(batch.records) else {
            return Err(StoreError::Unstorable { what: "a batch", detail: "it has no records".into() });
        };
        let body = encode(batch.records, std::mem::take(&mut self.scratch))?;
        let appended = self.append_body(batch, &span, &body);
        self.scratch = body;
        self.tail = appended?;
        self.bound_wal(self.scratch.len());
        Ok(seq_of(self.tail.seq))
    }

    fn append_body(&mut self, batch: &Batch<'_>, span: &Span, body: &[u8]) -> Result<Tail, StoreError> {
        let tail = Tail {
            seq: self.tail.seq + 1,
            clock_at: self.tail.clock_at.max(span.last_at),
            payments_total: self.tail.payments_total.saturating_add(span.n_payments),
        };
        let rejects_max = i64::from(self.options.rejects_max);
        let tx = self.begin()?;
        tx.prepare_cached(
            "INSERT INTO journal (seq, first_at, last_at, clock_at, n_payments, payments_total, format, checksum, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            tail.seq,
            span.first_at,
            span.last_at,
            tail.clock_at,
            span.n_payments,
            tail.payments_total,
            FORMAT_POSTCARD,
            checksum(tail.seq, body),
            body
        ])?;
        write_cursors(&tx, tail.seq, batch.cursors)?;
        write_rejects(&tx, tail.seq, batch.rejects, rejects_max)?;
        for effects in batch.effects {
            effects::write(&tx, effects)?;
        }
        tx.commit()?;
        Ok(tail)
    }
}

impl Reader {
    /// What the journal holds.
    pub fn journal_span(&self) -> Result<JournalSpan, StoreError> {
        let tail = self.tail()?;
        let first: Option<i64> = self.conn.query_row("SELECT min(seq) FROM journal", [], |row| row.get(0))?;
        Ok(JournalSpan {
            first: seq_of(first.unwrap_or(0)),
            last: seq_of(tail.seq),
            payments_total: tail.payments_total.cast_unsigned(),
        })
    }

    /// The batches from `from` on (or from the oldest that is kept, if that is later), to the newest that is there when
    /// the iterator reaches it. A missing batch is an error.
    pub fn batches(&self, from: Seq) -> Batches<'_> {
        Batches { reader: self, next: sql_seq(from).max(1), from: i64::MIN, until: i64::MAX, begun: false }
    }

    /// The batches with a record at or after `from` and one before `until`, in order of their positions.
    pub fn batches_between(&self, from: Timestamp, until: Timestamp) -> Result<Batches<'_>, StoreError> {
        let next = self.bisect(from)?;
        Ok(Batches { reader: self, next, from: from.micros(), until: until.micros(), begun: false })
    }

    /// One batch.
    pub fn batch(&self, seq: Seq) -> Result<Option<StoredBatch>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, first_at, last_at, format, checksum, body FROM journal WHERE seq = ?1",
        )?;
        let mut rows = statement.query([sql_seq(seq)])?;
        rows.next()?.map(decode_row).transpose()
    }

    /// Where `source` resumes.
    pub fn cursor(&self, source: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT cursor FROM cursors WHERE source = ?1")?;
        Ok(statement.query_row([source], |row| row.get(0)).optional()?)
    }

    /// Where every source resumes.
    pub fn cursors(&self) -> Result<Vec<(SmolStr, String)>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT source, cursor FROM cursors ORDER BY source")?;
        let rows = statement.query_map([], |row| Ok((smol(row, 0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest rejects, newest first.
    pub fn rejects(&self, limit: u32) -> Result<Vec<Reject>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT at, source, code, detail, raw FROM rejects ORDER BY id DESC LIMIT ?1")?;
        let rows = statement.query_map([limit], |row| {
            Ok(Reject {
                at: time(row, 0)?,
                source: smol(row, 1)?,
                code: smol(row, 2)?,
                detail: row.get(3)?,
                raw: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many parts were ever rejected, by source and code.
    pub fn reject_totals(&self) -> Result<Vec<(SmolStr, SmolStr, u64)>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT source, code, n FROM reject_totals")?;
        let rows = statement.query_map([], |row| Ok((smol(row, 0)?, smol(row, 1)?, count(row, 2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn tail(&self) -> Result<Tail, StoreError> {
        let tail = self
            .conn
            .query_row(
                "SELECT seq, clock_at, payments_total FROM journal ORDER BY seq DESC LIMIT 1",
                [],
                |row| Ok(Tail { seq: row.get(0)?, clock_at: row.get(1)?, payments_total: row.get(2)? }),
            )
            .optional()?;
        Ok(tail.unwrap_or_default())
    }

    fn keeps_before(&self, seq: i64) -> Result<bool, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM journal WHERE seq < ?1)")?;
        Ok(statement.query_row([seq], |row| row.get(0))?)
    }

    /// The first batch up to which the clock has reached `at`; one past the newest if it has not.
    fn bisect(&self, at: Timestamp) -> Result<i64, StoreError> {
        let span = self.journal_span()?;
        if span.last == 0 {
            return Ok(1);
        }
        let (mut low, mut high) = (sql_seq(span.first), sql_seq(span.last) + 1);
        let mut statement = self.conn.prepare_cached("SELECT clock_at FROM journal WHERE seq = ?1")?;
        while low < high {
            let middle = low + (high - low) / 2;
            let clock_at: i64 = statement.query_row([middle], |row| row.get(0))?;
            if clock_at < at.micros() { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

/// Batches in order of their positions. It seeks once per batch, so that it holds no read transaction open, which
/// would keep the WAL from being reused.
#[derive(Debug)]
pub struct Batches<'a> {
    reader: &'a Reader,
    next: i64,
    from: i64,
    until: i64,
    begun: bool,
}

impl Batches<'_> {
    fn read(&mut self) -> Result<Option<StoredBatch>, StoreError> {
        let mut statement = self.reader.conn.prepare_cached(
            "SELECT seq, first_at, last_at, format, checksum, body FROM journal
             WHERE seq >= ?1 AND first_at < ?2 AND last_at >= ?3 ORDER BY seq LIMIT 1",
        )?;
        let mut rows = statement.query([self.next, self.until, self.from])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let seq: i64 = row.get(0)?;
        let expected = std::mem::replace(&mut self.next, seq);
        if self.until == i64::MAX && seq != expected && (self.begun || self.reader.keeps_before(seq)?) {
            self.begun = true;
            return Err(StoreError::Corrupt { detail: format!("journal batch {expected} is missing") });
        }
        self.begun = true;
        self.next = seq + 1;
        decode_row(row).map(Some)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<StoredBatch, StoreError>;

    /// A batch that cannot be read is told once, and the next call goes on behind it. An error that is not about one
    /// batch ends the iteration, so that no caller is told the same for ever.
    fn next(&mut self) -> Option<Self::Item> {
        let before = self.next;
        let batch = self.read().transpose();
        if matches!(batch, Some(Err(_))) && self.next == before {
            self.next = i64::MAX;
        }
        batch
    }
}

impl Span {
    fn of(records: &[Record]) -> Option<Self> {
        let times = || records.iter().map(|record| now_of(record).micros());
        let n_payments = records.iter().map(|record| match record {
            Record::Payments { payments, .. } => payments.len(),
            Record::Tick { .. }
            | Record::Generation { .. }
            | Record::Action { .. }
            | Record::Condition { .. }
            | Record::Tasks { .. } => 0,
        });
        let n_payments = i64::try_from(n_payments.sum::<usize>()).unwrap_or(i64::MAX);
        Some(Self { first_at: times().min()?, last_at: times().max()?, n_payments })
    }
}

fn now_of(record: &Record) -> Timestamp {
    match record {
        Record::Payments { now, .. }
        | Record::Tick { now }
        | Record::Generation { now, .. }
        | Record::Action { now, .. }
        | Record::Condition { now, .. }
        | Record::Tasks { now, .. } => *now,
    }
}

fn encode(records: &[Record], mut scratch: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    scratch.clear();
    let unstorable = |detail| StoreError::Unstorable { what: "a batch", detail };
    let body = postcard::to_extend(records, scratch).map_err(|error| unstorable(error.to_string()))?;
    if body.len() > BATCH_LEN_MAX {
        return Err(unstorable(format!("{} bytes; at most {BATCH_LEN_MAX}", body.len())));
    }
    Ok(body)
}

/// Covers the position too, so that a body in the wrong row is found.
pub(crate) fn checksum(seq: i64, body: &[u8]) -> i64 {
    let mut hasher = SipHasher13::new();
    hasher.write_i64(seq);
    hasher.write(body);
    hasher.finish().cast_signed()
}

/// Columns: seq, first_at, last_at, format, checksum, body.
pub(crate) fn decode_row(row: &Row<'_>) -> Result<StoredBatch, StoreError> {
    let seq: i64 = row.get(0)?;
    let place = || format!("journal batch {seq}");
    let (format, expected): (i64, i64) = (row.get(3)?, row.get(4)?);
    let body = row.get_ref(5)?.as_blob().map_err(|error| StoreError::undecodable(place(), &error))?;
    if checksum(seq, body) != expected {
        return Err(StoreError::Corrupt { detail: format!("the checksum of {} does not match", place()) });
    }
    if format != FORMAT_POSTCARD {
        return Err(StoreError::undecodable(place(), &format!("unknown format {format}")));
    }
    let records = postcard::from_bytes(body).map_err(|error| StoreError::undecodable(place(), &error))?;
    Ok(StoredBatch { seq: seq_of(seq), first_at: time(row, 1)?, last_at: time(row, 2)?, records })
}

fn write_cursors(conn: &Connection, seq: i64, cursors: &[(SmolStr, String)]) -> Result<(), StoreError> {
    for (source, cursor) in cursors {
        conn.prepare_cached(
            "INSERT INTO cursors (source, cursor, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, seq = excluded.seq",
        )?
        .execute(params![source.as_str(), cursor, seq])?;
    }
    Ok(())
}

fn write_rejects(conn: &Connection, seq: i64, rejects: &[Reject], kept_max: i64) -> Result<(), StoreError> {
    if rejects.is_empty() {
        return Ok(());
    }
    for reject in rejects {
        conn.prepare_cached(
            "INSERT INTO reject_totals (source, code, n) VALUES (?1, ?2, 1)
             ON CONFLICT (source, code) DO UPDATE SET n = n + 1",
        )?
        .execute(params![reject.source.as_str(), reject.code.as_str()])?;
    }
    for reject in rejects.iter().take(REJECTS_PER_BATCH_MAX) {
        conn.prepare_cached(
            "INSERT INTO rejects (seq, at, source, code, detail, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            seq,
            reject.at.micros(),
            reject.source.as_str(),
            reject.code.as_str(),
            reject.detail,
            reject.raw
        ])?;
    }
    let last = conn.last_insert_rowid();
    conn.prepare_cached("DELETE FROM rejects WHERE id <= ?1")?.execute([last - kept_max])?;
    Ok(())
}

/// SQLite's integers are signed; positions never reach the sign bit.
pub(crate) fn sql_seq(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn seq_of(seq: i64) -> Seq {
    Seq::try_from(seq).unwrap_or(0)
}

pub(crate) fn smol(row: &Row<'_>, column: usize) -> rusqlite::Result<SmolStr> {
    Ok(SmolStr::new(row.get_ref(column)?.as_str()?))
}

/// A count; SQLite's integers are signed.
pub(crate) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}
