//! Alerts as rows that people may query, and the history of their changes.

use railwatch_model::{Alert, AlertId, AlertState, IncidentId, SmolStr, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::journal::{count, seq_of, smol, sql_seq, time};
use crate::{Reader, Store, StoreError};

/// Which alerts to list. The default is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertFilter {
    /// Only those that are not resolved.
    pub open_only: bool,
    /// Only those of this subject, by [`railwatch_model::Subject::key`].
    pub subject: Option<SmolStr>,
    /// Only those of this incident.
    pub incident: Option<IncidentId>,
    /// Only those that opened at or after this time.
    pub since: Option<Timestamp>,
    /// Only those that opened before this time.
    pub before: Option<Timestamp>,
    /// Only those that are listed after this one, for the next page: many alerts may open at the same time.
    pub after: Option<(Timestamp, AlertId)>,
}

/// A list, and the rows that this build could not read.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// What was read.
    pub items: Vec<T>,
    /// Names of rows that could not be read; `doctor` says why.
    pub unreadable: Vec<SmolStr>,
}

/// One step in an alert's life.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertChange {
    /// The batch that caused it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The state since then.
    pub state: SmolStr,
    /// The severity since then.
    pub severity: SmolStr,
    /// The score at that time.
    pub score: f64,
    /// The summary at that time.
    pub summary: String,
}

impl AlertFilter {
    /// Only the conditions that are asked for, so that SQLite can choose the index that fits them.
    fn sql(&self) -> String {
        let open = if self.open_only { "AND state <> 'resolved'" } else { "" };
        let subject = if self.subject.is_some() { "AND subject = ?4" } else { "AND ?4 = ''" };
        let incident = if self.incident.is_some() { "AND incident = ?5" } else { "AND ?5 = ''" };
        let after = match self.after {
            Some(_) => "AND opened_at <= ?6 AND (opened_at < ?6 OR id > ?7)",
            None => "AND ?6 = 0 AND ?7 = ''",
        };
        format!(
            "SELECT id, alert FROM alerts
             WHERE opened_at >= ?1 AND opened_at < ?2 {open} {subject} {incident} {after}
             ORDER BY opened_at DESC, id LIMIT ?3"
        )
    }
}

impl Reader {
    /// Alerts, the latest opened first.
    pub fn alerts(&self, filter: &AlertFilter, limit: u32) -> Result<Listed<Alert>, StoreError> {
        let mut statement = self.conn.prepare_cached(&filter.sql())?;
        let mut rows = statement.query(params![
            filter.since.map_or(i64::MIN, Timestamp::micros),
            filter.before.map_or(i64::MAX, Timestamp::micros),
            limit,
            filter.subject.as_deref().unwrap_or_default(),
            filter.incident.as_ref().map_or("", |incident| incident.0.as_str()),
            filter.after.as_ref().map_or(0, |(at, _)| at.micros()),
            filter.after.as_ref().map_or("", |(_, id)| id.0.as_str()),
        ])?;
        let mut listed = Listed { items: Vec::new(), unreadable: Vec::new() };
        while let Some(row) = rows.next()? {
            match serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or_default()) {
                Ok(alert) => listed.items.push(alert),
                Err(_) => listed.unreadable.push(smol(row, 0)?),
            }
        }
        Ok(listed)
    }

    /// One alert.
    pub fn alert(&self, id: &AlertId) -> Result<Option<Alert>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT alert FROM alerts WHERE id = ?1")?;
        let text: Option<String> = statement.query_row([id.0.as_str()], |row| row.get(0)).optional()?;
        let decode = |text: String| serde_json::from_str(&text);
        text.map(decode).transpose().map_err(|error| StoreError::undecodable(format!("alert {id}"), &error))
    }

    /// What happened to an alert, oldest first.
    pub fn alert_history(&self, id: &AlertId, limit: u32) -> Result<Vec<AlertChange>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, at, state, severity, score, summary FROM alert_history
             WHERE alert = ?1 ORDER BY seq, ordinal LIMIT ?2",
        )?;
        let rows = statement.query_map(params![id.0.as_str(), limit], |row| {
            Ok(AlertChange {
                seq: seq_of(row.get(0)?),
                at: time(row, 1)?,
                state: smol(row, 2)?,
                severity: smol(row, 3)?,
                score: row.get(4)?,
                summary: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many alerts are not resolved.
    pub fn n_alerts_open(&self) -> Result<u64, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT count(*) FROM alerts WHERE state <> 'resolved'")?;
        Ok(statement.query_row([], |row| count(row, 0))?)
    }
}

impl Store {
    /// Deletes up to `limit` resolved alerts that last changed before `before`, with their history; returns how many.
    /// Alerts that a recovery would write again are kept.
    pub fn forget_alerts(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let recovery_seq = sql_seq(self.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq));
        let tx = self.begin()?;
        let ids: Vec<String> = {
            let mut statement = tx.prepare_cached(
                "SELECT id FROM alerts
                 WHERE state = 'resolved' AND updated_at < ?1 AND seq <= ?2 ORDER BY opened_at LIMIT ?3",
            )?;
            let rows =
                statement.query_map(params![before.micros(), recovery_seq, limit], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for id in &ids {
            tx.prepare_cached("DELETE FROM alert_history WHERE alert = ?1")?.execute([id])?;
            tx.prepare_cached("DELETE FROM alerts WHERE id = ?1")?.execute([id])?;
        }
        tx.commit()?;
        Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }
}

/// Invariant: a row never goes back to an earlier batch's word, so that a replay of older batches does not undo newer
/// ones.
pub(crate) fn write(conn: &Connection, seq: i64, ordinal: i64, alert: &Alert) -> Result<(), StoreError> {
    let state = state_name(alert.state);
    conn.prepare_cached(
        "INSERT INTO alerts (id, seq, incident, subject, trigger, state, severity, opened_at, updated_at, alert)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET
            seq = excluded.seq, incident = excluded.incident, state = excluded.state,
            severity = excluded.severity, updated_at = excluded.updated_at, alert = excluded.alert
         WHERE excluded.seq >= alerts.seq",
    )?
    .execute(params![
        alert.id.0.as_str(),
        seq,
        alert.incident.0.as_str(),
        alert.subject.key().as_str(),
        alert.trigger.to_string(),
        state,
        alert.severity.as_str(),
        alert.opened_at.micros(),
        alert.updated_at.micros(),
        json("an alert", alert)?
    ])?;
    write_change(conn, seq, ordinal, alert)
}

fn write_change(conn: &Connection, seq: i64, ordinal: i64, alert: &Alert) -> Result<(), StoreError> {
    // SQLite has no NaN: it would become null, which the column refuses.
    let score = if alert.score.is_finite() { alert.score } else { 0.0 };
    conn.prepare_cached(
        "INSERT OR IGNORE INTO alert_history (alert, seq, ordinal, at, state, severity, score, summary)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        alert.id.0.as_str(),
        seq,
        ordinal,
        alert.updated_at.micros(),
        state_name(alert.state),
        alert.severity.as_str(),
        score,
        alert.summary
    ])?;
    Ok(())
}

fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Acknowledged => "acknowledged",
        AlertState::Resolved => "resolved",
    }
}

pub(crate) fn json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unstorable { what, detail: error.to_string() })
}
