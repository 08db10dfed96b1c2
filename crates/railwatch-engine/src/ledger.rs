//! The ledger: what each report does to an agent's money.
//!
//! A purchase may be reported in pieces: a hold, its capture, a refund, all of them twice and in any order. The ledger
//! turns each accepted report into a [`Booking`] whose sums are right whatever the pieces were.

use std::time::Duration;

use railwatch_model::{Admitted, Direction, Disposition, Kind, Payment, SmolStr, Timestamp, Totals, Usd};
use railwatch_plugin::detector::Booking;
use serde::{Deserialize, Serialize};

/// Holds end by themselves after this long (card authorizations: at most 31 days).
const HOLD_LIFETIME: Duration = Duration::from_secs(31 * 86_400);
/// A purchase that is captured in full is remembered this long for late reports.
const CLOSED_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// Open purchases per agent; beyond it the oldest is taken for released.
const PURCHASES_MAX: usize = 4096;
/// Running totals per agent; beyond it the least recently changed is forgotten.
const TOTALS_MAX: usize = 4096;

/// An agent's open business and its totals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    purchases: Vec<Purchase>,
    running: Vec<Running>,
    /// Sums of all bookings.
    pub(crate) totals: Totals,
}

/// One purchase that is reported in pieces. What it means is a function of three sums, so that the order in which
/// the pieces arrive cannot matter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Purchase {
    rail: SmolStr,
    /// The id of its hold.
    id: SmolStr,
    authorized: Usd,
    released: Usd,
    captured: Usd,
    since: Timestamp,
}

impl Purchase {
    /// Its share of the agent's totals: committed by hold or capture, whichever is more; held while not captured.
    fn standing(&self) -> Booking {
        let backed = self.authorized.minus(self.released).max(Usd::ZERO);
        Booking {
            committed: backed.max(self.captured),
            settled: self.captured,
            held: backed.minus(self.captured).max(Usd::ZERO),
            purchases: i32::from(self.authorized > Usd::ZERO || self.captured > Usd::ZERO),
            ..Booking::default()
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let age = now.since(self.since);
        age > HOLD_LIFETIME || (age > CLOSED_LIFETIME && self.standing().held == Usd::ZERO)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Running {
    rail: SmolStr,
    id: SmolStr,
    kind: Kind,
    largest: Usd,
    touched_at: Timestamp,
}

impl Ledger {
    /// Books an accepted report and returns what it changed.
    pub(crate) fn book(&mut self, admitted: &Admitted) -> Booking {
        let payment = &admitted.payment;
        let sign = match admitted.disposition {
            Disposition::First => 1,
            Disposition::Retracts => -1,
            Disposition::Confirms | Disposition::Enriches => return Booking::default(),
        };
        let booking = match payment.direction {
            Direction::Ignore => Booking::default(),
            Direction::Earn => self.earn(payment, sign),
            Direction::Spend => self.spend(payment, sign),
        };
        add(&mut self.totals, &booking);
        booking
    }

    fn earn(&mut self, payment: &Payment, sign: i32) -> Booking {
        let usd = signed(self.increase(payment, sign), sign);
        let earned = match payment.kind {
            Kind::Settle => usd,
            Kind::Refund | Kind::Reversal | Kind::Dispute | Kind::Fee => usd.negated(),
            Kind::Hold | Kind::Release | Kind::Deposit | Kind::Declined => Usd::ZERO,
        };
        Booking { earned, ..Booking::default() }
    }

    fn spend(&mut self, payment: &Payment, sign: i32) -> Booking {
        let usd = self.increase(payment, sign);
        let step = signed(usd, sign);
        match (payment.kind, &payment.parent) {
            // A raised authorization is a hold whose parent is the first one.
            (Kind::Hold, first) => {
                self.purchase(payment, first.as_ref().unwrap_or(&payment.id), |purchase| {
                    purchase.authorized = purchase.authorized.plus(step);
                })
            }
            (Kind::Release, Some(hold)) => self.purchase(payment, hold, |purchase| {
                purchase.released = purchase.released.plus(step);
            }),
            (Kind::Settle, Some(hold)) => self.purchase(payment, hold, |purchase| {
                purchase.captured = purchase.captured.plus(step);
            }),
            (Kind::Settle, None) => {
                Booking { committed: step, settled: step, purchases: sign, ..Booking::default() }
            }
            (Kind::Fee, _) => Booking { committed: step, settled: step, ..Booking::default() },
            (Kind::Refund | Kind::Reversal | Kind::Dispute, _) => {
                Booking { settled: step.negated(), ..Booking::default() }
            }
            (Kind::Deposit, _) => Booking { deposited: step, ..Booking::default() },
            (Kind::Declined, _) => Booking { declined: u32::from(sign > 0), ..Booking::default() },
            // A release that names no hold frees nothing that was counted.
            (Kind::Release, None) => Booking::default(),
        }
    }

    /// Changes the purchase behind the hold `id`, and returns what that changed for the agent.
    fn purchase(&mut self, payment: &Payment, id: &SmolStr, change: impl FnOnce(&mut Purchase)) -> Booking {
        let same = |purchase: &Purchase| purchase.id == *id && purchase.rail == payment.rail;
        let mut freed = Usd::ZERO;
        let at = self.purchases.iter().rposition(same).unwrap_or_else(|| {
            freed = self.make_room(payment.occurred_at);
            self.purchases.push(Purchase {
                rail: payment.rail.clone(),
                id: id.clone(),
                authorized: Usd::ZERO,
                released: Usd::ZERO,
                captured: Usd::ZERO,
                since: payment.occurred_at,
            });
            self.purchases.len() - 1
        });
        let Some(purchase) = self.purchases.get_mut(at) else { return Booking::default() };
        let before = purchase.standing();
        change(purchase);
        let after = purchase.standing();
        Booking {
            committed: after.committed.minus(before.committed),
            settled: after.settled.minus(before.settled),
            held: after.held.minus(before.held).minus(freed),
            purchases: after.purchases - before.purchases,
            ..Booking::default()
        }
    }

    /// Forgets purchases that are over, and the oldest when there are too many; returns what is no longer held.
    fn make_room(&mut self, now: Timestamp) -> Usd {
        let mut freed = Usd::ZERO;
        if self.purchases.len() >= 64 {
            self.purchases.retain(|purchase| {
                let over = purchase.is_over(now);
                if over {
                    freed = freed.plus(purchase.standing().held);
                }
                !over
            });
        }
        if self.purchases.len() >= PURCHASES_MAX {
            freed = freed.plus(self.purchases.remove(0).standing().held);
        }
        freed
    }

    /// The part of a report's amount that is new: all of it, or the increase of a running total.
    fn increase(&mut self, payment: &Payment, sign: i32) -> Usd {
        let usd = payment.usd();
        if !payment.running_total || sign < 0 {
            return usd;
        }
        let id = payment.parent.as_ref().unwrap_or(&payment.id);
        let same = |entry: &&mut Running| {
            entry.kind == payment.kind && entry.id == *id && entry.rail == payment.rail
        };
        if let Some(entry) = self.running.iter_mut().find(same) {
            let increase = usd.minus(entry.largest).max(Usd::ZERO);
            entry.largest = entry.largest.max(usd);
            entry.touched_at = payment.occurred_at;
            return increase;
        }
        if self.running.len() >= TOTALS_MAX
            && let Some(oldest) =
                (0..self.running.len()).min_by_key(|at| self.running.get(*at).map(|r| r.touched_at))
        {
            self.running.swap_remove(oldest);
        }
        let (rail, id) = (payment.rail.clone(), id.clone());
        self.running.push(Running {
            rail,
            id,
            kind: payment.kind,
            largest: usd,
            touched_at: payment.occurred_at,
        });
        usd
    }
}

/// Adds a booking to sums.
pub(crate) fn add(totals: &mut Totals, booking: &Booking) {
    totals.committed = totals.committed.plus(booking.committed);
    totals.settled = totals.settled.plus(booking.settled);
    totals.held = totals.held.plus(booking.held);
    totals.deposited = totals.deposited.plus(booking.deposited);
    totals.earned = totals.earned.plus(booking.earned);
    totals.purchases = totals.purchases.saturating_add(i64::from(booking.purchases));
    totals.declined = totals.declined.saturating_add(u64::from(booking.declined));
}

fn signed(usd: Usd, sign: i32) -> Usd {
    if sign < 0 { usd.negated() } else { usd }
}

#[cfg(test)]
mod tests;
