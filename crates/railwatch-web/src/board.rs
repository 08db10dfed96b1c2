//! The board: the published view of the fleet, which every list, lane and verdict reads.
//!
//! The core sends what changed; one thread, the keeper, writes it here. Readers hold the lock for one scan and can only
//! ever delay the keeper, never the engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use foldhash::fast::FixedState;
use railwatch_model::{
    Alert, AlertId, AlertState, Direction, Disposition, Kind, Payment, Record, Seq, SmolStr, Timestamp, Usd,
};
use railwatch_store::{Reader, StoreError};

use crate::rails::Rails;
use crate::row::{AgentBrief, Row, SPARK_LEN, short};

/// Open alerts that the board keeps; the store has all of them.
const ALERTS_MAX: usize = 10_000;
/// Payments that are read back at the start: about a second.
const RESTORED_MAX: usize = 500_000;
/// Seconds in a quarter of an hour.
const QUARTER: i64 = 900;

/// What the core tells the board.
#[derive(Debug)]
pub enum Update {
    /// Agents that changed, by the engine's slots; `None` for a slot that is free now.
    Rows(Vec<(usize, Option<Row>)>),
    /// Records as they were applied.
    Applied(Vec<Record>),
    /// Alerts after a change.
    Alerts(Vec<Alert>),
    /// Time passed.
    Now(Timestamp),
}

/// The published view.
#[derive(Debug, Default)]
pub struct Board(RwLock<Table>);

/// Dollars in quarters of an hour, a ring.
#[derive(Debug, Clone, Copy, Default)]
struct Spark {
    usd: [f32; SPARK_LEN],
    newest: i64,
}

/// The table behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Option<Row>>,
    sparks: Vec<Spark>,
    index: HashMap<SmolStr, usize, FixedState>,
    pub(crate) rails: Rails,
    pub(crate) alerts: BTreeMap<AlertId, Alert>,
    pub(crate) now: Timestamp,
    /// Grows with every change.
    pub(crate) version: u64,
    /// Payments that the board has seen since the start.
    pub(crate) payments: u64,
}

impl Board {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an update in.
    pub(crate) fn take(&self, update: Update) {
        let mut table = self.write();
        match update {
            Update::Rows(rows) => rows.into_iter().for_each(|(slot, row)| table.put(slot, row)),
            Update::Applied(records) => records.iter().for_each(|record| table.apply(record)),
            Update::Alerts(alerts) => alerts.into_iter().for_each(|alert| table.put_alert(alert)),
            Update::Now(now) => {
                table.pass(now);
                return;
            }
        }
        table.version += 1;
    }

    /// Reads the last day's payments back into rails and sparks, as far as is done in a moment.
    pub(crate) fn restore(&self, store: &Reader, until: Seq, now: Timestamp) -> Result<(), StoreError> {
        let span = store.journal_span()?;
        let (mut seq, mut read) = (until.min(span.last), 0);
        while seq >= span.first && seq > 0 && read < RESTORED_MAX {
            let Some(batch) = store.batch(seq)? else { break };
            if now.since(batch.last_at) > Duration::from_secs(86_400) {
                break;
            }
            let mut table = self.write();
            for record in &batch.records {
                read += table.book(record);
            }
            seq -= 1;
        }
        Ok(())
    }

    /// The agent's row, with its spark.
    pub(crate) fn brief(&self, agent: &str) -> Option<AgentBrief> {
        let table = self.read();
        let slot = *table.index.get(agent)?;
        Some(table.brief(slot, table.rows.get(slot)?.as_ref()?))
    }
}

impl Table {
    /// Every agent with its slot.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter_map(|(slot, row)| Some((slot, row.as_ref()?)))
    }

    /// The row of one agent.
    pub(crate) fn row(&self, agent: &str) -> Option<&Row> {
        self.rows.get(*self.index.get(agent)?)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn brief(&self, slot: usize, row: &Row) -> AgentBrief {
        AgentBrief::new(row, self.spark(slot), self.now)
    }

    fn spark(&self, slot: usize) -> Vec<f32> {
        let newest = self.now.secs().div_euclid(QUARTER);
        let Some(spark) = self.sparks.get(slot) else { return Vec::new() };
        let quarters = (0..SPARK_LEN as i64).rev().map(|back| newest - back);
        let value = |quarter: i64| {
            let known = quarter <= spark.newest && spark.newest - quarter < SPARK_LEN as i64;
            if known { spark.usd[place(quarter)] } else { 0.0 }
        };
        quarters.map(value).collect()
    }

    fn put(&mut self, slot: usize, row: Option<Row>) {
        if self.rows.len() <= slot {
            self.rows.resize_with(slot + 1, || None);
            self.sparks.resize(slot + 1, Spark::default());
        }
        let old = self.rows[slot].take();
        let is_same = matches!((&old, &row), (Some(old), Some(row)) if old.agent == row.agent);
        if let Some(old) = old
            && !is_same
            && self.index.get(&old.agent) == Some(&slot)
        {
            self.index.remove(&old.agent);
        }
        if !is_same {
            self.sparks[slot] = Spark::default();
            if let Some(row) = &row {
                self.index.insert(row.agent.clone(), slot);
            }
        }
        self.rows[slot] = row;
    }

    fn put_alert(&mut self, alert: Alert) {
        match alert.state {
            AlertState::Resolved => {
                self.alerts.remove(&alert.id);
            }
            AlertState::Pending => {}
            AlertState::Firing | AlertState::Acknowledged => {
                if self.alerts.len() < ALERTS_MAX || self.alerts.contains_key(&alert.id) {
                    self.alerts.insert(alert.id.clone(), alert);
                }
            }
        }
    }

    fn pass(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.rails.advance(self.now);
    }

    fn apply(&mut self, record: &Record) {
        if let Record::Payments { now, .. } = record {
            self.pass(*now);
            self.payments += self.book(record) as u64;
        }
    }

    /// Books a record's payments in rails and sparks; returns how many it has.
    fn book(&mut self, record: &Record) -> usize {
        let Record::Payments { payments, .. } = record else { return 0 };
        for admitted in payments {
            let payment = &admitted.payment;
            let Some(usd) = moved(payment, admitted.disposition) else { continue };
            self.rails.book(&payment.rail, payment.occurred_at, usd);
            let slot = payment.agent.as_ref().and_then(|agent| self.index.get(agent.as_str()));
            if let Some(spark) = slot.and_then(|slot| self.sparks.get_mut(*slot)) {
                spark.book(payment.occurred_at, usd);
            }
        }
        payments.len()
    }
}

/// What a report adds to the spend that charts show: purchases as they are committed. A capture of a hold that was
/// shown already is left out; exact totals come from the engine's ledger.
pub fn moved(payment: &Payment, disposition: Disposition) -> Option<Usd> {
    let counts = payment.direction == Direction::Spend
        && disposition == Disposition::First
        && match payment.kind {
            Kind::Hold | Kind::Fee => true,
            Kind::Settle => payment.parent.is_none(),
            Kind::Release
            | Kind::Refund
            | Kind::Reversal
            | Kind::Deposit
            | Kind::Dispute
            | Kind::Declined => false,
        };
    counts.then(|| payment.usd())
}

impl Spark {
    fn book(&mut self, at: Timestamp, usd: Usd) {
        let quarter = at.secs().div_euclid(QUARTER);
        let len = SPARK_LEN as i64;
        if quarter > self.newest {
            for fresh in (self.newest + 1).max(quarter - len + 1)..=quarter {
                self.usd[place(fresh)] = 0.0;
            }
            self.newest = quarter;
        }
        if self.newest - quarter < len {
            self.usd[place(quarter)] += short(usd.dollars());
        }
    }
}

fn place(quarter: i64) -> usize {
    usize::try_from(quarter.rem_euclid(SPARK_LEN as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(agent: &str) -> Option<Row> {
        Some(Row::new(agent.into(), 0.0, &[]))
    }

    #[test]
    fn a_slot_that_is_used_again_forgets_who_had_it() {
        let board = Board::default();
        board.take(Update::Rows(vec![(0, row("a")), (1, row("b"))]));
        board.take(Update::Rows(vec![(0, None)]));
        assert!(board.brief("a").is_none() && board.brief("b").is_some());
        board.take(Update::Rows(vec![(0, row("c"))]));
        board.take(Update::Rows(vec![(2, row("a"))]));
        let agents = |board: &Board| {
            let table = board.read();
            let mut agents: Vec<String> = table.rows().map(|(_, row)| row.agent.to_string()).collect();
            agents.sort();
            (agents, table.len())
        };
        assert_eq!(agents(&board), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 3));
    }

    #[test]
    fn a_spark_is_a_ring_of_quarters() {
        let mut spark = Spark::default();
        let at = |quarter: i64| Timestamp::from_secs(1_700_000_000 / QUARTER * QUARTER + quarter * QUARTER);
        spark.book(at(0), Usd::ONE);
        spark.book(at(2), Usd::ONE);
        spark.book(at(0), Usd::ONE);
        assert_eq!(spark.usd.iter().sum::<f32>(), 3.0);
        spark.book(at(30), Usd::ONE);
        spark.book(at(1), Usd::ONE);
        assert_eq!(spark.usd.iter().sum::<f32>(), 1.0);
    }
}
