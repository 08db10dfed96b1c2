//! Comparing what a rail pushes with what its own list has. A payment that only the list knows has been seen, late; that
//! the push does not bring it is what people must know before they believe its silence.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use railwatch_model::{Direction, Kind, Payment, SmolStr, Status, Timestamp};
use railwatch_plugin::source::{StatusHandle, Unpushed};

/// Pushed payments that are remembered: what is pushed is listed within a sweep or two.
const PUSHED_MAX: usize = 20_000;
/// Payments that may be waited for; more make no difference.
const UNPUSHED_MAX: usize = 1_000;

/// A report, as both ways tell it.
type Key = (SmolStr, Kind, i128);

/// What each way has brought. Shared by the two.
#[derive(Debug, Default)]
pub(crate) struct PushCheck(Mutex<Brought>);

#[derive(Debug, Default)]
struct Brought {
    /// What happened before is nothing that the push could have brought.
    from: Timestamp,
    pushed: HashSet<Key>,
    order: VecDeque<Key>,
    unpushed: Vec<(Key, Timestamp)>,
}

impl PushCheck {
    /// The push begins, or begins anew: what happened while it was away is not expected of it.
    pub(crate) fn restart(&self, from: Timestamp) {
        let mut brought = self.lock();
        brought.from = from;
        brought.unpushed.clear();
    }

    /// The push has brought these.
    pub(crate) fn pushed(&self, payments: &[Payment]) {
        let mut brought = self.lock();
        for payment in payments {
            let key = key(payment);
            brought.unpushed.retain(|(missed, _)| *missed != key);
            // It works again, and what it missed is counted.
            if brought.unpushed.iter().all(|(_, at)| *at <= payment.occurred_at) {
                brought.unpushed.clear();
            }
            if brought.pushed.insert(key.clone()) {
                brought.order.push_back(key);
            }
            if brought.order.len() > PUSHED_MAX
                && let Some(oldest) = brought.order.pop_front()
            {
                brought.pushed.remove(&oldest);
            }
        }
    }

    /// The list has these.
    pub(crate) fn listed(&self, payments: &[Payment]) {
        let mut brought = self.lock();
        for payment in payments {
            let key = key(payment);
            let is_expected = payment.occurred_at >= brought.from
                && payment.status != Status::Retracted
                && payment.direction != Direction::Ignore
                && !brought.pushed.contains(&key)
                && !brought.unpushed.iter().any(|(missed, _)| *missed == key);
            if is_expected && brought.unpushed.len() < UNPUSHED_MAX {
                brought.unpushed.push((key, payment.occurred_at));
            }
        }
    }

    /// Shows the outcome.
    pub(crate) fn show(&self, status: &StatusHandle) {
        let brought = self.lock();
        let since = brought.unpushed.iter().map(|(_, at)| *at).min();
        let payments = brought.unpushed.len() as u64;
        drop(brought);
        let unpushed = since.map(|since| Unpushed { payments, since });
        status.update(|status| status.unpushed = unpushed);
    }

    fn lock(&self) -> MutexGuard<'_, Brought> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(payment: &Payment) -> Key {
    (payment.id.clone(), payment.kind, payment.amount.units())
}

#[cfg(test)]
mod tests {
    use railwatch_model::{Asset, Money};

    use super::*;

    fn payments(list: &[(&str, i64)]) -> Vec<Payment> {
        let payment = |(id, secs): &(&str, i64)| {
            Payment::settle("x", *id, Money::new(1, Asset::usd()), Timestamp::from_secs(*secs))
        };
        list.iter().map(payment).collect()
    }

    fn unpushed(check: &PushCheck) -> Option<(u64, i64)> {
        let (handle, status) = StatusHandle::new();
        check.show(&handle);
        let unpushed = status.borrow().unpushed;
        unpushed.map(|unpushed| (unpushed.payments, unpushed.since.secs()))
    }

    #[test]
    fn what_only_the_list_has_is_missed_until_the_push_brings_it_or_something_newer() {
        let check = PushCheck::default();
        check.restart(Timestamp::from_secs(10));
        check.pushed(&payments(&[("a", 11)]));
        check.listed(&payments(&[("old", 9), ("a", 11)]));
        assert_eq!(unpushed(&check), None);
        check.listed(&payments(&[("b", 12), ("c", 13), ("b", 12)]));
        assert_eq!(unpushed(&check), Some((2, 12)));
        check.pushed(&payments(&[("b", 12)]));
        assert_eq!(unpushed(&check), Some((1, 13)));
        check.listed(&payments(&[("a", 11), ("b", 12)]));
        check.pushed(&payments(&[("late", 12)]));
        assert_eq!(unpushed(&check), Some((1, 13)), "what is older proves nothing");
        check.pushed(&payments(&[("d", 14)]));
        assert_eq!(unpushed(&check), None);
    }

    #[test]
    fn what_happened_while_the_push_was_away_is_not_missed() {
        let check = PushCheck::default();
        check.listed(&payments(&[("b", 12)]));
        check.restart(Timestamp::from_secs(20));
        assert_eq!(unpushed(&check), None);
        check.listed(&payments(&[("c", 19)]));
        assert_eq!(unpushed(&check), None);
    }
}
