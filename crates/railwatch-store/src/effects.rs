//! Effects: what applying a batch caused. Keyed, so that writing them again after a crash changes nothing.

use railwatch_model::{Alert, Notice, Seq, SmolStr, Timestamp};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::journal::{smol, sql_seq, time};
use crate::{Labelling, Reader, Store, StoreError, alerts, labels, outbox};

/// What applying one batch caused. Pass all of a batch's effects in one value: the position of a change within it is
/// part of its key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// The batch that caused them.
    pub seq: Seq,
    /// Alerts as they stand after each change, in order.
    pub alerts: Vec<Alert>,
    /// Notices to deliver, each with the sink that delivers it.
    pub outbox: Vec<(SmolStr, Notice)>,
    /// Rows for the audit.
    pub audit: Vec<AuditEntry>,
    /// Reviewers' words on alerts.
    pub labels: Vec<Labelling>,
}

/// Who did what, when.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a person, or the name of a policy.
    pub by: SmolStr,
    /// What was done: `acknowledge`, `reload`, `outbox.retry`.
    pub what: SmolStr,
    /// To what: an incident, an alert, a file.
    pub subject: String,
    /// Everything else.
    pub detail: Value,
}

impl Effects {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.outbox.is_empty() && self.audit.is_empty() && self.labels.is_empty()
    }
}

impl Store {
    /// Writes effects in a transaction of their own, when no batch comes that they could ride along with.
    pub fn write_effects(&mut self, effects: &[Effects]) -> Result<(), StoreError> {
        if effects.iter().all(Effects::is_empty) {
            return Ok(());
        }
        let tx = self.begin()?;
        for effects in effects {
            write(&tx, effects)?;
        }
        tx.commit()?;
        self.bound_wal(0);
        Ok(())
    }

    /// Records what no batch caused: a reload, a retried notice.
    pub fn record_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let tx = self.begin()?;
        write_audit(&tx, None, entry)?;
        Ok(tx.commit()?)
    }
}

impl Reader {
    /// The newest audit entries, newest first.
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.audit_of(None, limit)
    }

    /// The newest audit entries of one kind, such as `shadow`, newest first; of all kinds without one.
    pub fn audit_of(&self, what: Option<&str>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT at, by, what, subject, detail FROM audit
             WHERE what = coalesce(?1, what) ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![what, limit], |row| {
            let detail: String = row.get(4)?;
            Ok(AuditEntry {
                at: time(row, 0)?,
                by: smol(row, 1)?,
                what: smol(row, 2)?,
                subject: row.get(3)?,
                // A detail that somebody edited by hand is still shown.
                detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(crate) fn write(conn: &Connection, effects: &Effects) -> Result<(), StoreError> {
    let seq = sql_seq(effects.seq);
    for (alert, ordinal) in effects.alerts.iter().zip(0_i64..) {
        alerts::write(conn, seq, ordinal, alert)?;
    }
    for (sink, notice) in &effects.outbox {
        outbox::write(conn, seq, sink, notice)?;
    }
    for label in &effects.labels {
        labels::write(conn, seq, label)?;
    }
    for (entry, ordinal) in effects.audit.iter().zip(0_i64..) {
        write_audit(conn, Some((seq, ordinal)), entry)?;
    }
    Ok(())
}

fn write_audit(conn: &Connection, key: Option<(i64, i64)>, entry: &AuditEntry) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO audit (seq, ordinal, at, by, what, subject, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        key.map(|(seq, _)| seq),
        key.map(|(_, ordinal)| ordinal),
        entry.at.micros(),
        entry.by.as_str(),
        entry.what.as_str(),
        entry.subject,
        entry.detail.to_string()
    ])?;
    Ok(())
}
