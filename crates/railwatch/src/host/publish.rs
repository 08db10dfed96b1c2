//! Publishes the engine's state to the live view: what changed, a little at a time, never waiting for anybody.

use std::sync::Arc;
use std::time::Duration;

use railwatch_engine::{Engine, Published};
use railwatch_model::{Alert, Record, Subject, Timestamp};
use railwatch_web::{Row, Update};
use tokio::sync::mpsc;

use crate::host::metrics::Metrics;

/// Rows that one step publishes: about a millisecond of work.
const ROWS: usize = 256;
/// The shortest time between two steps while payments wait: at most a twentieth of the core's time is spent here.
const EVERY: Duration = Duration::from_millis(20);
/// Alert changes that wait for a view that is behind; the store has all of them.
const ALERTS_MAX: usize = 10_000;

/// The core's end of the live view.
#[derive(Debug)]
pub(crate) struct Publisher {
    updates: mpsc::Sender<Update>,
    metrics: Arc<Metrics>,
    alerts: Vec<Alert>,
    next_at: Timestamp,
}

impl Publisher {
    pub(crate) fn new(updates: mpsc::Sender<Update>, metrics: Arc<Metrics>) -> Self {
        Self { updates, metrics, alerts: Vec::new(), next_at: Timestamp::EPOCH }
    }

    /// True if something waits to be published and the view has room for it.
    pub(crate) fn has_work(&self, engine: &Engine) -> bool {
        let has_room = self.updates.capacity() > 0 && !self.updates.is_closed();
        has_room && (engine.has_unpublished() || !self.alerts.is_empty())
    }

    /// Publishes some of what changed, if the view has room and nothing else is to do or it is time. What does not fit
    /// stays.
    pub(crate) fn step(&mut self, engine: &mut Engine, now: Timestamp, is_idle: bool) {
        let is_time = now >= self.next_at || now.after(EVERY) < self.next_at;
        if !(is_idle || is_time) {
            return;
        }
        if !self.alerts.is_empty()
            && let Ok(permit) = self.updates.try_reserve()
        {
            permit.send(Update::Alerts(std::mem::take(&mut self.alerts)));
        }
        if !engine.has_unpublished() {
            return;
        }
        let Ok(permit) = self.updates.try_reserve() else { return };
        self.next_at = now.after(EVERY);
        let mut rows = Vec::with_capacity(ROWS);
        engine.publish(ROWS, |slot, published| match published {
            Some(published) => rows.extend(row(&published).map(|row| (slot, Some(row)))),
            None => rows.push((slot, None)),
        });
        permit.send(Update::Rows(rows));
    }

    /// Hands on what was applied. A view that is too busy misses payments in its charts, and that is counted.
    pub(crate) fn applied(&mut self, records: Vec<Record>, alerts: &[Alert]) {
        let room = ALERTS_MAX.saturating_sub(self.alerts.len());
        self.alerts.extend(alerts.iter().take(room).cloned());
        let n_payments = |record: &Record| match record {
            Record::Payments { payments, .. } => payments.len(),
            Record::Tick { .. }
            | Record::Generation { .. }
            | Record::Tasks { .. }
            | Record::Action { .. }
            | Record::Condition { .. } => 0,
        };
        let n_payments: usize = records.iter().map(n_payments).sum();
        let is_behind = |error| matches!(error, mpsc::error::TrySendError::Full(_));
        if n_payments > 0 && self.updates.try_send(Update::Applied(records)).is_err_and(is_behind) {
            self.metrics.view_skipped.inc_by(n_payments as u64);
        }
    }
}

fn row(published: &Published<'_>) -> Option<Row> {
    let Subject::Agent(agent) = published.subject else { return None };
    let mut row = Row::new(agent.as_str().into(), published.score, published.signals);
    row.team = published.team.cloned();
    row.first_at = published.first_at;
    row.last_at = published.last_at;
    row.spent = published.totals.committed;
    row.purchases = published.totals.purchases;
    row.alerts = u8::try_from(published.alerts.len()).unwrap_or(u8::MAX);
    row.severity = published.alerts.iter().map(|alert| alert.severity).max();
    Some(row)
}
