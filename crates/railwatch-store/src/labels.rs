//! Reviewers' labels: what an alert was. They outlive the alerts, because they say how good each rule is.

use railwatch_model::{Alert, AlertId, ReviewVerdict, SmolStr, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::journal::{count, smol, time};
use crate::{Listed, Reader, StoreError};

/// A reviewer's word on an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelling {
    /// The alert.
    pub alert: AlertId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: SmolStr,
    /// What it was.
    pub verdict: ReviewVerdict,
    /// What to remember.
    pub note: Option<SmolStr>,
}

/// A labelled alert, as it was when it was labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The label.
    pub label: Labelling,
    /// The alert.
    pub alert: Alert,
}

/// How the alerts of one trigger were labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCounts {
    /// The trigger's name.
    pub trigger: SmolStr,
    /// Something was wrong.
    pub true_positives: u64,
    /// Nothing was wrong.
    pub false_positives: u64,
    /// Unusual and intended.
    pub expected: u64,
}

impl LabelCounts {
    /// The share of the labelled alerts that a person was right to be told about; `None` without labels.
    pub fn precision(&self) -> Option<f64> {
        let all = self.true_positives + self.false_positives + self.expected;
        (all > 0).then(|| self.true_positives as f64 / all as f64)
    }
}

impl Reader {
    /// The label of an alert.
    pub fn label(&self, alert: &AlertId) -> Result<Option<Labelling>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT alert, at, by, verdict, note FROM labels WHERE alert = ?1")?;
        Ok(statement.query_row([alert.0.as_str()], labelling).optional()?)
    }

    /// Labelled alerts, the latest labelled first; of one trigger (by its name) or of all, labelled at or after `since`.
    pub fn labelled(
        &self,
        trigger: Option<&str>,
        since: Timestamp,
        limit: u32,
    ) -> Result<Listed<Labelled>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT alert, at, by, verdict, note, alerted FROM labels
             WHERE at >= ?1 AND (?2 IS NULL OR trigger = ?2) ORDER BY at DESC, alert LIMIT ?3",
        )?;
        let mut rows = statement.query(params![since.micros(), trigger, limit])?;
        let mut listed = Listed { items: Vec::new(), unreadable: Vec::new() };
        while let Some(row) = rows.next()? {
            let label = labelling(row)?;
            match serde_json::from_str(row.get_ref(5)?.as_str().unwrap_or_default()) {
                Ok(alert) => listed.items.push(Labelled { label, alert }),
                Err(_) => listed.unreadable.push(label.alert.0),
            }
        }
        Ok(listed)
    }

    /// How the alerts of each trigger were labelled at or after `since`, by trigger.
    pub fn label_counts(&self, since: Timestamp) -> Result<Vec<LabelCounts>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT trigger, sum(verdict = 'true_positive'), sum(verdict = 'false_positive'),
                    sum(verdict = 'expected')
             FROM labels WHERE at >= ?1 GROUP BY trigger ORDER BY trigger",
        )?;
        let rows = statement.query_map([since.micros()], |row| {
            Ok(LabelCounts {
                trigger: smol(row, 0)?,
                true_positives: count(row, 1)?,
                false_positives: count(row, 2)?,
                expected: count(row, 3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Alerts that a person should look at and nobody has labelled: reviews first, then the most severe, then the
    /// latest.
    pub fn review_queue(&self, limit: u32) -> Result<Listed<Alert>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, alert FROM alerts
             WHERE state <> 'pending' AND NOT EXISTS (SELECT 1 FROM labels WHERE labels.alert = alerts.id)
               AND subject NOT LIKE 'source:%' AND subject <> 'railwatch'
             ORDER BY trigger = 'review' DESC,
                      CASE severity WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2
                                    WHEN 'low' THEN 3 ELSE 4 END,
                      opened_at DESC, id LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut listed = Listed { items: Vec::new(), unreadable: Vec::new() };
        while let Some(row) = rows.next()? {
            match serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or_default()) {
                Ok(alert) => listed.items.push(alert),
                Err(_) => listed.unreadable.push(smol(row, 0)?),
            }
        }
        Ok(listed)
    }
}

/// Keeps a label with the alert as it stands. A label of an alert that is forgotten teaches nothing and is left out.
pub(crate) fn write(conn: &Connection, seq: i64, label: &Labelling) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO labels (alert, seq, at, by, verdict, note, trigger, subject, alerted)
         SELECT id, ?2, ?3, ?4, ?5, ?6, trigger, subject, alert FROM alerts WHERE id = ?1
         ON CONFLICT (alert) DO UPDATE SET
            seq = excluded.seq, at = excluded.at, by = excluded.by, verdict = excluded.verdict,
            note = excluded.note, alerted = excluded.alerted
         WHERE excluded.seq >= labels.seq",
    )?
    .execute(params![
        label.alert.0.as_str(),
        seq,
        label.at.micros(),
        label.by.as_str(),
        label.verdict.as_str(),
        label.note.as_deref()
    ])?;
    Ok(())
}

fn labelling(row: &Row<'_>) -> rusqlite::Result<Labelling> {
    let verdict = ReviewVerdict::from_name(row.get_ref(3)?.as_str()?);
    Ok(Labelling {
        alert: AlertId(smol(row, 0)?),
        at: time(row, 1)?,
        by: smol(row, 2)?,
        // The column's CHECK admits no other name.
        verdict: verdict.unwrap_or(ReviewVerdict::FalsePositive),
        note: row.get::<_, Option<String>>(4)?.map(SmolStr::from),
    })
}
