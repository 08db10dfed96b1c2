//! What can be read of the outbox: lists for people, counts for metrics, and what deliveries ask before they claim.

use railwatch_model::{IncidentId, Notice, NoticeId, SmolStr, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::{OutboxEntry, OutboxId, OutboxState, OutboxTotals, earlier_receipt};
use crate::journal::{count as n_rows, seq_of, smol, time};
use crate::{Reader, StoreError};

const COLUMNS: &str =
    "id, seq, notice, sink, incident, occasion, state, n_attempts, queued_at, next_at, updated_at,
                       last_error, receipt, n_doubts";

impl Reader {
    /// Entries, newest first; of one state, or of all.
    pub fn outbox(&self, state: Option<OutboxState>, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM outbox WHERE ?1 IS NULL OR state = ?1 ORDER BY id DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![state.map(OutboxState::as_str), limit], entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The entry that brings a notice to a sink.
    pub fn outbox_entry(&self, notice: &NoticeId, sink: &str) -> Result<Option<OutboxEntry>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE notice = ?1 AND sink = ?2"))?;
        Ok(statement.query_row(params![notice.0.as_str(), sink], entry).optional()?)
    }

    /// The body of an entry, for people who want to see what was or would be sent.
    pub fn notice(&self, id: OutboxId) -> Result<Option<Notice>, StoreError> {
        let body: Option<String> = self
            .conn
            .query_row("SELECT body FROM outbox WHERE id = ?1", [id], |row| row.get(0))
            .optional()?;
        let decode = |body: String| serde_json::from_str(&body);
        body.map(decode)
            .transpose()
            .map_err(|error| StoreError::undecodable(format!("outbox entry {id}"), &error))
    }

    /// The earliest time at which an entry of `sink` is due; `None` if none waits.
    pub fn next_due(&self, sink: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT min(next_at) FROM outbox WHERE sink = ?1 AND state IN ('queued', 'retry')",
        )?;
        let next_at: Option<i64> = statement.query_row([sink], |row| row.get(0))?;
        Ok(next_at.map(Timestamp::from_micros))
    }

    /// The receipt, as JSON, of an incident's first notice on a sink.
    pub fn earlier_receipt(&self, incident: &IncidentId, sink: &str) -> Result<Option<String>, StoreError> {
        earlier_receipt(&self.conn, &incident.0, sink)
    }

    /// Entries by state.
    pub fn outbox_totals(&self) -> Result<OutboxTotals, StoreError> {
        let count = |state: OutboxState| -> Result<u64, StoreError> {
            let mut statement = self.conn.prepare_cached("SELECT count(*) FROM outbox WHERE state = ?1")?;
            Ok(statement.query_row([state.as_str()], |row| n_rows(row, 0))?)
        };
        Ok(OutboxTotals {
            waiting: count(OutboxState::Queued)?.saturating_add(count(OutboxState::Retry)?),
            sending: count(OutboxState::Sending)?,
            dead: count(OutboxState::Dead)?,
            unknown: count(OutboxState::Unknown)?,
        })
    }

    /// Sinks with entries that wait for an attempt, and how many.
    pub fn waiting_by_sink(&self) -> Result<Vec<(SmolStr, u64)>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT sink, count(*) FROM outbox WHERE state IN ('queued', 'retry') GROUP BY sink ORDER BY sink",
        )?;
        let rows = statement.query_map([], |row| Ok((smol(row, 0)?, n_rows(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many entries of `sink` are due, up to `limit`.
    pub fn n_due(&self, sink: &str, now: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM outbox
                                   WHERE sink = ?1 AND state IN ('queued', 'retry') AND next_at <= ?2 LIMIT ?3)",
        )?;
        Ok(statement.query_row(params![sink, now.micros(), limit], |row| row.get(0))?)
    }

    /// The incidents that one message told, by the name that it gave itself.
    pub fn gathered(&self, name: &str) -> Result<Vec<IncidentId>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT DISTINCT incident FROM outbox
             WHERE state = 'sent' AND json_extract(receipt, '$.gathered') = ?1 ORDER BY incident",
        )?;
        let rows = statement.query_map([name], |row| Ok(IncidentId(smol(row, 0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn has_due(&self, sink: &str, now: Timestamp) -> Result<bool, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM outbox
                            WHERE sink = ?1 AND state IN ('queued', 'retry') AND next_at <= ?2)",
        )?;
        Ok(statement.query_row(params![sink, now.micros()], |row| row.get(0))?)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<OutboxEntry> {
    let state = OutboxState::from_name(row.get_ref(6)?.as_str()?);
    Ok(OutboxEntry {
        id: row.get(0)?,
        seq: seq_of(row.get(1)?),
        notice: NoticeId(smol(row, 2)?),
        sink: smol(row, 3)?,
        incident: IncidentId(smol(row, 4)?),
        occasion: smol(row, 5)?,
        // The column's CHECK admits no other name.
        state: state.unwrap_or(OutboxState::Unknown),
        n_attempts: row.get(7)?,
        queued_at: time(row, 8)?,
        next_at: time(row, 9)?,
        updated_at: time(row, 10)?,
        last_error: row.get(11)?,
        receipt: row.get(12)?,
        n_doubts: row.get(13)?,
    })
}
