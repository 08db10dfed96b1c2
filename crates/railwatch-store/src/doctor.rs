//! The doctor: looks at everything, changes nothing, and says what is wrong, where, why and what helps.

use railwatch_model::{Alert, Notice, Seq};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::subject;
use crate::journal::{count, sql_seq};
use crate::{Reader, StoreError};

/// Findings that a report lists; more are counted.
const FINDINGS_MAX: usize = 100;

/// What the doctor saw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// What is wrong, in the order of the checks; at most a hundred.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub n_more_findings: u64,
    /// Batches that were read, checked and decoded.
    pub n_batches: u64,
    /// Payments in them.
    pub n_payments: u64,
    /// Saved subjects that were checked.
    pub n_subjects: u64,
    /// Alerts that were decoded.
    pub n_alerts: u64,
    /// Outbox entries that were decoded.
    pub n_outbox: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: a batch, a row, a table.
    pub place: String,
    /// What is wrong with it.
    pub cause: String,
    /// What helps.
    pub remedy: &'static str,
}

/// How far the doctor is: told before each step that may take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// SQLite checks its own pages.
    Pages,
    /// Batches are read.
    Batches {
        /// Batches so far.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// Saved subjects are read.
    Subjects,
    /// Alerts and outbox entries are read.
    Effects,
}

const RESTORE: &str = "stop railwatch and restore the file from a backup; keep this file for salvage";
const SKIP: &str =
    "the batch cannot be replayed; restore the file from a backup, or start from the next checkpoint";
const REPLAY: &str =
    "delete the checkpoint's row; the next recovery rebuilds the subject from the journal it has";
const UPGRADE: &str = "use the railwatch that wrote it, or a later one";
const HARMLESS: &str = "harmless: the row shows as unreadable; delete it, or use the railwatch that wrote it";

impl Report {
    /// True if nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, place: impl Into<String>, cause: &(impl ToString + ?Sized), remedy: &'static str) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { place: place.into(), cause: cause.to_string(), remedy });
        } else {
            self.n_more_findings = self.n_more_findings.saturating_add(1);
        }
    }
}

impl Reader {
    /// Checks everything. Reads the whole file; damage is a finding, never an error.
    pub fn doctor(&self, mut progress: impl FnMut(Progress)) -> Report {
        let mut report = Report::default();
        progress(Progress::Pages);
        self.check_pages(&mut report);
        self.check_batches(&mut report, &mut progress);
        self.check_positions(&mut report);
        progress(Progress::Subjects);
        self.check_subjects(&mut report);
        progress(Progress::Effects);
        self.check_effects(&mut report);
        report
    }

    fn check_pages(&self, report: &mut Report) {
        let lines = || -> Result<Vec<String>, StoreError> {
            let mut statement = self.conn.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        match lines() {
            Ok(lines) => {
                for line in lines.iter().filter(|line| *line != "ok") {
                    report.find("pages", line, RESTORE);
                }
            }
            Err(error) => report.find("pages", &error, RESTORE),
        }
    }

    fn check_batches(&self, report: &mut Report, progress: &mut impl FnMut(Progress)) {
        let span = match self.journal_span() {
            Ok(span) if span.last > 0 => span,
            Ok(_) => return,
            Err(error) => return report.find("journal", &error, RESTORE),
        };
        let total = span.last - span.first + 1;
        let (mut seq, mut payments_total) = (span.first, None);
        while seq <= span.last {
            let done = seq - span.first;
            if done.is_multiple_of(1_000) {
                progress(Progress::Batches { done, total });
            }
            match self.gap_after(seq) {
                Some(next) => {
                    let place = format!("journal batches {seq} to {}", next - 1);
                    report.find(place, "they are missing between two others", SKIP);
                    (seq, payments_total) = (next, None);
                }
                None => {
                    payments_total = self.check_batch(report, seq, payments_total);
                    seq += 1;
                }
            }
        }
    }

    /// If batch `seq` is missing, the next that is there. A damaged position may lie very far away, so that counting
    /// up to it would never end.
    fn gap_after(&self, seq: Seq) -> Option<Seq> {
        let mut statement =
            self.conn.prepare_cached("SELECT seq FROM journal WHERE seq >= ?1 ORDER BY seq LIMIT 1").ok()?;
        let next = statement.query_row([sql_seq(seq)], |row| count(row, 0)).ok()?;
        (next > seq).then_some(next)
    }

    /// One batch; returns its running total of payments, for the next.
    fn check_batch(&self, report: &mut Report, seq: Seq, total_before: Option<u64>) -> Option<u64> {
        let place = || format!("journal batch {seq}");
        let counts = || -> Result<(u64, u64), StoreError> {
            let mut statement =
                self.conn.prepare_cached("SELECT n_payments, payments_total FROM journal WHERE seq = ?1")?;
            Ok(statement.query_row([sql_seq(seq)], |row| Ok((count(row, 0)?, count(row, 1)?)))?)
        };
        match self.batch(seq) {
            Ok(Some(_)) => report.n_batches += 1,
            Ok(None) => report.find(place(), "its page cannot be reached", SKIP),
            Err(error @ StoreError::Undecodable { .. }) => report.find(place(), &error, UPGRADE),
            Err(error) => report.find(place(), &error, SKIP),
        }
        let Ok((n_payments, total)) = counts() else { return None };
        report.n_payments = report.n_payments.saturating_add(n_payments);
        if total_before.is_some_and(|before| before.saturating_add(n_payments) != total) {
            report.find(place(), "its total of payments does not continue the one before", RESTORE);
        }
        Some(total)
    }

    /// Nothing may point beyond the journal.
    fn check_positions(&self, report: &mut Report) {
        let checks = [
            ("cursors", "SELECT count(*) FROM cursors WHERE seq > ?1"),
            ("alerts", "SELECT count(*) FROM alerts WHERE seq > ?1"),
            ("outbox", "SELECT count(*) FROM outbox WHERE seq > ?1"),
            ("audit", "SELECT count(*) FROM audit WHERE seq > ?1"),
            ("checkpoint", "SELECT count(*) FROM meta WHERE name = 'checkpoint_seq' AND value > ?1"),
            (
                "alert history",
                "SELECT count(*) FROM alert_history WHERE alert NOT IN (SELECT id FROM alerts)",
            ),
        ];
        let last = self.journal_span().map_or(i64::MAX, |span| sql_seq(span.last));
        for (place, sql) in checks {
            let params: &[&dyn rusqlite::ToSql] = if sql.contains("?1") { &[&last] } else { &[] };
            match self.conn.query_row(sql, params, |row| count(row, 0)) {
                Ok(0) => {}
                Ok(n) => report.find(place, &format!("{n} rows refer to rows that are not there"), RESTORE),
                Err(error) => report.find(place, &StoreError::from(error), RESTORE),
            }
        }
    }

    fn check_subjects(&self, report: &mut Report) {
        let mut check = || -> Result<(), StoreError> {
            let mut statement =
                self.conn.prepare("SELECT key, epoch, last_at, view, checksum, body FROM subjects")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match subject(row) {
                    Ok(_) => report.n_subjects += 1,
                    Err(error) => report.find("checkpoint", &error, REPLAY),
                }
            }
            Ok(())
        };
        if let Err(error) = check() {
            report.find("checkpoint", &error, RESTORE);
        }
    }

    fn check_effects(&self, report: &mut Report) {
        let (alerts, entries) = ("SELECT id, alert FROM alerts", "SELECT CAST(id AS TEXT), body FROM outbox");
        report.n_alerts = self.check_json::<Alert>(report, "alert", alerts);
        report.n_outbox = self.check_json::<Notice>(report, "outbox entry", entries);
    }

    fn check_json<T: DeserializeOwned>(&self, report: &mut Report, what: &str, sql: &str) -> u64 {
        let mut n = 0_u64;
        let mut check = || -> Result<(), StoreError> {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (id, text): (String, String) = (row.get(0)?, row.get(1)?);
                match serde_json::from_str::<T>(&text) {
                    Ok(_) => n += 1,
                    Err(error) => report.find(format!("{what} {id}"), &error, HARMLESS),
                }
            }
            Ok(())
        };
        if let Err(error) = check() {
            report.find(what, &error, RESTORE);
        }
        n
    }
}
