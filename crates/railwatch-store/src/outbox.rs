//! The outbox: notices on their way to sinks.
//!
//! queued → sending → sent, or → retry → sending …, or → dead (the peer refused, or patience ended), or → unknown (two
//! attempts may have arrived, and nobody knows). A person may queue dead and unknown entries again, or drop any entry
//! that is not sent.
//!
//! Invariant: `sending` is durable before the sink is called, so that an attempt that was cut short is known as such.

mod look;

use railwatch_model::{IncidentId, Notice, NoticeId, Seq, SmolStr, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::alerts::json;
use crate::journal::{smol, sql_seq};
use crate::{Store, StoreError};

/// Names an entry on the command line; also the order of delivery.
pub type OutboxId = i64;

/// Bytes of an error message that are kept.
const ERROR_LEN_MAX: usize = 1_000;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutboxState {
    /// Waits for its first attempt.
    Queued,
    /// An attempt is under way.
    Sending,
    /// An attempt failed; the next is due at `next_at`.
    Retry,
    /// The sink has it, and its receipt is recorded.
    Sent,
    /// Nobody will try again unless a person says so.
    Dead,
    /// An attempt was cut short: the sink may or may not have it. Shown as "sent?".
    Unknown,
    /// A person took it out.
    Dropped,
}

/// What becomes of an attempt that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// The sink drops a second delivery itself: send again.
    Resend,
    /// A second delivery would be seen: send again once, marked; after a second doubt leave it as
    /// [`OutboxState::Unknown`].
    ResendMarked,
}

/// How an attempt ended. No error contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it.
    Sent {
        /// The sink's receipt, as JSON.
        receipt: String,
    },
    /// Try again.
    Retry {
        /// When the next attempt is due.
        at: Timestamp,
        /// Why this one failed.
        error: String,
        /// True if the sink may have it: the next attempt is marked as a possible repetition.
        in_doubt: bool,
    },
    /// Give up.
    Dead {
        /// Why.
        error: String,
    },
    /// The sink may or may not have it, and nobody will try again by himself.
    Unknown {
        /// What happened.
        error: String,
    },
}

/// An entry, for lists.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// The entry.
    pub id: OutboxId,
    /// The batch that caused it.
    pub seq: Seq,
    /// The notice.
    pub notice: NoticeId,
    /// The sink that delivers it.
    pub sink: SmolStr,
    /// The incident that it is about.
    pub incident: IncidentId,
    /// Why it is sent: an occasion's name.
    pub occasion: SmolStr,
    /// Where it is.
    pub state: OutboxState,
    /// Attempts that began.
    pub n_attempts: u32,
    /// Attempts of which nobody knows whether they arrived.
    pub n_doubts: u32,
    /// When it was queued: the time of the change that it tells.
    pub queued_at: Timestamp,
    /// When the next attempt is due.
    pub next_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// The sink's receipt, as JSON.
    pub receipt: Option<String>,
}

/// An entry whose attempt is recorded: call the sink now.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The entry.
    pub id: OutboxId,
    /// What to deliver.
    pub notice: Notice,
    /// The number of this attempt; the first is 1.
    pub attempt: u32,
    /// True if an earlier attempt may have arrived.
    pub in_doubt: bool,
    /// The receipt, as JSON, of this incident's first notice on this sink.
    pub earlier: Option<String>,
}

/// Entries by state, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxTotals {
    /// Entries that wait for an attempt, first or further.
    pub waiting: u64,
    /// Entries with an attempt under way.
    pub sending: u64,
    /// Entries that are given up.
    pub dead: u64,
    /// Entries of which nobody knows whether they arrived.
    pub unknown: u64,
}

impl OutboxState {
    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Retry => "retry",
            Self::Sent => "sent",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
            Self::Dropped => "dropped",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all =
            [Self::Queued, Self::Sending, Self::Retry, Self::Sent, Self::Dead, Self::Unknown, Self::Dropped];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

impl Store {
    /// Takes up to `limit` due entries of `sink`, in order, and records that an attempt of each begins. An entry waits
    /// while an earlier one of its incident is on its way on this sink, so that "resolved" never overtakes "opened".
    pub fn claim(&mut self, sink: &str, now: Timestamp, limit: u32) -> Result<Vec<Claimed>, StoreError> {
        // Asked before the transaction, because an idle sink asks often and a write transaction would be wasted.
        if !self.has_due(sink, now)? {
            return Ok(Vec::new());
        }
        let tx = self.begin()?;
        let mut claimed = Vec::new();
        for due in due(&tx, sink, now, limit)? {
            match serde_json::from_str(&due.body) {
                Ok(notice) => {
                    begin_attempt(&tx, due.id, now)?;
                    let earlier = earlier_receipt(&tx, &due.incident, sink)?;
                    let (attempt, in_doubt) = (due.n_attempts + 1, due.n_doubts > 0);
                    claimed.push(Claimed { id: due.id, notice, attempt, in_doubt, earlier });
                }
                // A poisoned entry must not stop the ones behind it.
                Err(error) => bury(&tx, due.id, now, &format!("cannot be decoded: {error}"))?,
            }
        }
        tx.commit()?;
        self.bound_wal(0);
        Ok(claimed)
    }

    /// Records how an attempt ended. Only after this is a notice sent.
    pub fn settle(&mut self, id: OutboxId, now: Timestamp, outcome: &Outcome) -> Result<(), StoreError> {
        let (state, next_at, error, receipt, doubts) = match outcome {
            Outcome::Sent { receipt } => (OutboxState::Sent, now, None, Some(receipt), 0),
            Outcome::Retry { at, error, in_doubt } => {
                (OutboxState::Retry, *at, Some(error), None, u32::from(*in_doubt))
            }
            Outcome::Dead { error } => (OutboxState::Dead, now, Some(error), None, 0),
            Outcome::Unknown { error } => (OutboxState::Unknown, now, Some(error), None, 1),
        };
        let tx = self.begin()?;
        let n = tx
            .prepare_cached(
                "UPDATE outbox SET state = ?2, updated_at = ?3, next_at = ?4, last_error = ?5, receipt = ?6,
                                   n_doubts = n_doubts + ?7
                 WHERE id = ?1 AND state = 'sending'",
            )?
            .execute(params![
                id,
                state.as_str(),
                now.micros(),
                next_at.micros(),
                error.map(|error| shorten(error)),
                receipt,
                doubts
            ])?;
        if n == 0 {
            return Err(StoreError::NotFound {
                what: format!("no attempt of outbox entry {id} is under way"),
            });
        }
        tx.commit()?;
        self.bound_wal(0);
        Ok(())
    }

    /// Puts entries back whose attempt was recorded and not made.
    pub fn unclaim(&mut self, ids: &[OutboxId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let tx = self.begin()?;
        for id in ids {
            tx.prepare_cached(
                "UPDATE outbox SET state = CASE n_attempts WHEN 1 THEN 'queued' ELSE 'retry' END,
                                   n_attempts = n_attempts - 1
                 WHERE id = ?1 AND state = 'sending'",
            )?
            .execute([id])?;
        }
        Ok(tx.commit()?)
    }

    /// Decides what becomes of attempts that an earlier process began and did not finish. Called once, before the
    /// first [`Store::claim`]; returns how many there were.
    pub fn settle_interrupted(
        &mut self,
        now: Timestamp,
        mut decide: impl FnMut(&str) -> Interrupted,
    ) -> Result<u64, StoreError> {
        let tx = self.begin()?;
        let cut_short: Vec<(OutboxId, SmolStr, u32)> = {
            let mut statement = tx.prepare_cached(
                "SELECT id, sink, n_doubts FROM outbox WHERE state = 'sending' ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, smol(row, 1)?, row.get(2)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        for (id, sink, n_doubts) in &cut_short {
            let (state, doubts) = match decide(sink) {
                Interrupted::Resend => (OutboxState::Retry, 0),
                Interrupted::ResendMarked if *n_doubts == 0 => (OutboxState::Retry, 1),
                Interrupted::ResendMarked => (OutboxState::Unknown, 1),
            };
            tx.prepare_cached(
                "UPDATE outbox SET state = ?2, next_at = ?3, updated_at = ?3, n_doubts = n_doubts + ?4,
                 last_error = 'railwatch stopped during the attempt' WHERE id = ?1",
            )?
            .execute(params![id, state.as_str(), now.micros(), doubts])?;
        }
        tx.commit()?;
        Ok(u64::try_from(cut_short.len()).unwrap_or(u64::MAX))
    }

    /// Queues an entry again that is dead, unknown, dropped or waiting for its next attempt.
    pub fn retry_outbox(&mut self, id: OutboxId, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE outbox SET state = 'retry', next_at = ?2, updated_at = ?2
                   WHERE id = ?1 AND state IN ('dead', 'unknown', 'dropped', 'retry', 'queued')";
        self.change_by_hand(id, now, sql)
    }

    /// Takes an entry out that is not sent and not being sent.
    pub fn drop_outbox(&mut self, id: OutboxId, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE outbox SET state = 'dropped', updated_at = ?2
                   WHERE id = ?1 AND state IN ('dead', 'unknown', 'retry', 'queued')";
        self.change_by_hand(id, now, sql)
    }

    /// Gives up every waiting entry of a sink that is no longer configured, so that it shows among the dead letters and
    /// can be retried when the sink comes back; returns how many.
    pub fn bury_sink(&mut self, sink: &str, now: Timestamp, error: &str) -> Result<u64, StoreError> {
        let tx = self.begin()?;
        let n = tx
            .prepare_cached(
                "UPDATE outbox SET state = 'dead', updated_at = ?2, last_error = ?3
                 WHERE sink = ?1 AND state IN ('queued', 'retry')",
            )?
            .execute(params![sink, now.micros(), shorten(error)])?;
        tx.commit()?;
        self.bound_wal(0);
        Ok(u64::try_from(n).unwrap_or(u64::MAX))
    }

    /// Deletes up to `limit` entries that came to their end (sent, dropped, dead, unknown) before `before`; returns how
    /// many. Entries that a recovery would queue again are kept, and so are those of open incidents.
    pub fn forget_outbox(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let recovery_seq = sql_seq(self.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq));
        let tx = self.begin()?;
        let n = tx
            .prepare_cached(
                "DELETE FROM outbox WHERE id IN (
                    SELECT id FROM outbox AS entry
                    WHERE state IN ('sent', 'dropped', 'dead', 'unknown') AND updated_at < ?1 AND seq <= ?2
                      AND NOT EXISTS (SELECT 1 FROM alerts
                                      WHERE alerts.incident = entry.incident AND alerts.state <> 'resolved')
                    ORDER BY id LIMIT ?3)",
            )?
            .execute(params![before.micros(), recovery_seq, limit])?;
        tx.commit()?;
        Ok(u64::try_from(n).unwrap_or(u64::MAX))
    }

    fn change_by_hand(&mut self, id: OutboxId, now: Timestamp, sql: &str) -> Result<(), StoreError> {
        let tx = self.begin()?;
        let n = tx.prepare_cached(sql)?.execute(params![id, now.micros()])?;
        if n == 0 {
            let state: Option<String> =
                tx.query_row("SELECT state FROM outbox WHERE id = ?1", [id], |row| row.get(0)).optional()?;
            let what = match state {
                Some(state) => format!("outbox entry {id} is {state}, which cannot be changed by hand"),
                None => format!("there is no outbox entry {id}"),
            };
            return Err(StoreError::NotFound { what });
        }
        Ok(tx.commit()?)
    }
}

struct Due {
    id: OutboxId,
    incident: SmolStr,
    n_attempts: u32,
    n_doubts: u32,
    body: String,
}

pub(crate) fn write(conn: &Connection, seq: i64, sink: &str, notice: &Notice) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO outbox
            (seq, notice, sink, incident, occasion, state, queued_at, next_at, updated_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?6, ?6, ?7)",
    )?
    .execute(params![
        seq,
        notice.id.0.as_str(),
        sink,
        notice.incident.0.as_str(),
        notice.occasion.as_str(),
        notice.at.micros(),
        json("a notice", notice)?
    ])?;
    Ok(())
}

fn due(conn: &Connection, sink: &str, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, incident, n_attempts, body, n_doubts FROM outbox AS entry
         WHERE sink = ?1 AND state IN ('queued', 'sending', 'retry') AND state <> 'sending' AND next_at <= ?2
           AND NOT EXISTS (SELECT 1 FROM outbox AS earlier
                           WHERE earlier.incident = entry.incident AND earlier.sink = entry.sink
                             AND earlier.id < entry.id AND earlier.state IN ('queued', 'sending', 'retry'))
         ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![sink, now.micros(), limit], |row| {
        Ok(Due {
            id: row.get(0)?,
            incident: smol(row, 1)?,
            n_attempts: row.get(2)?,
            body: row.get(3)?,
            n_doubts: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn begin_attempt(conn: &Connection, id: OutboxId, now: Timestamp) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE outbox SET state = 'sending', n_attempts = n_attempts + 1, updated_at = ?2 WHERE id = ?1",
    )?
    .execute(params![id, now.micros()])?;
    Ok(())
}

fn bury(conn: &Connection, id: OutboxId, now: Timestamp, error: &str) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE outbox SET state = 'dead', updated_at = ?2, last_error = ?3 WHERE id = ?1")?
        .execute(params![id, now.micros(), shorten(error)])?;
    Ok(())
}

fn earlier_receipt(conn: &Connection, incident: &str, sink: &str) -> Result<Option<String>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT receipt FROM outbox
         WHERE incident = ?1 AND sink = ?2 AND state = 'sent' AND receipt IS NOT NULL ORDER BY id LIMIT 1",
    )?;
    Ok(statement.query_row([incident, sink], |row| row.get(0)).optional()?)
}

fn shorten(error: &str) -> String {
    let mut end = error.len().min(ERROR_LEN_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default().to_owned()
}
