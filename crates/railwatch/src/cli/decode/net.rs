//! What remains of decoded payments: the engine says what each report is, this keeps the books of it.

use std::collections::HashMap;

use railwatch_model::{Direction, Disposition, Kind, Money, Payment, SettlementRef, SmolStr};

/// The name of a step.
pub(super) type StepKey = (SmolStr, SmolStr, Kind);

pub(super) fn step_key(payment: &Payment) -> StepKey {
    (payment.rail.clone(), payment.id.clone(), payment.kind)
}

type RefKey = (SettlementRef, Kind, Direction);

/// Payments in the order of their first reports.
#[derive(Debug, Default)]
pub(super) struct Net {
    payments: Vec<Option<Payment>>,
    steps: HashMap<StepKey, usize>,
    refs: HashMap<RefKey, usize>,
}

impl Net {
    /// Takes a report that the engine admitted as `disposition`.
    pub(super) fn take(&mut self, payment: Payment, disposition: Disposition) {
        let known = self.steps.get(&step_key(&payment)).copied();
        match disposition {
            Disposition::First => self.count(payment, known),
            Disposition::Confirms => {
                if let Some(kept) = known.and_then(|at| self.payments.get_mut(at)?.as_mut()) {
                    kept.status = payment.status;
                }
            }
            Disposition::Retracts => {
                if let Some(kept) = known.and_then(|at| self.payments.get_mut(at)) {
                    *kept = None;
                }
            }
            Disposition::Enriches => {
                let keys = refs(&payment).collect::<Vec<_>>();
                let at = known.or_else(|| keys.iter().find_map(|key| self.refs.get(key).copied()));
                let Some(at) = at else { return };
                self.refs.extend(keys.into_iter().map(|key| (key, at)));
                if let Some(kept) = self.payments.get_mut(at).and_then(Option::as_mut) {
                    enrich(kept, payment);
                }
            }
        }
    }

    /// What remains. A hold and what became of it are one purchase: its captures, and what is still held.
    pub(super) fn into_payments(self) -> Vec<Payment> {
        let mut payments: Vec<Payment> = self.payments.into_iter().flatten().collect();
        let purchase = |payment: &Payment, hold: &SmolStr| {
            (payment.rail.clone(), hold.clone(), payment.amount.asset().clone())
        };
        let mut ended: HashMap<_, i128> = HashMap::new();
        for payment in &payments {
            if let (Kind::Settle | Kind::Release, Some(hold)) = (payment.kind, &payment.parent) {
                let ended = ended.entry(purchase(payment, hold)).or_default();
                *ended = ended.saturating_add(payment.amount.units());
            }
        }
        payments.retain_mut(|payment| match payment.kind {
            Kind::Hold => {
                // A raised authorization is a hold whose parent is the first one.
                let first = payment.parent.as_ref().unwrap_or(&payment.id);
                let ended = ended.entry(purchase(payment, first)).or_default();
                let part = payment.amount.units().min(*ended);
                *ended -= part;
                payment.amount = Money::new(payment.amount.units() - part, payment.amount.asset().clone());
                if let Some(valuation) = &mut payment.valuation {
                    valuation.usd = valuation.rate.value(&payment.amount).unwrap_or(valuation.usd);
                }
                payment.amount.units() > 0
            }
            // Nobody has anything of what was freed.
            Kind::Release => false,
            _ => true,
        });
        payments
    }

    fn count(&mut self, payment: Payment, known: Option<usize>) {
        let keys = refs(&payment).collect::<Vec<_>>();
        let key = step_key(&payment);
        let kept = known.and_then(|at| Some((at, self.payments.get_mut(at)?)));
        let at = match kept {
            // A running total grows; whatever was retracted comes back in its place.
            Some((at, kept)) => {
                let is_less = kept.as_ref().is_some_and(|kept| kept.amount.units() > payment.amount.units());
                if !is_less {
                    *kept = Some(payment);
                }
                at
            }
            None => {
                self.payments.push(Some(payment));
                self.payments.len() - 1
            }
        };
        self.steps.insert(key, at);
        self.refs.extend(keys.into_iter().map(|key| (key, at)));
    }
}

fn refs(payment: &Payment) -> impl Iterator<Item = RefKey> {
    payment.settlement_refs.iter().map(|reference| (reference.clone(), payment.kind, payment.direction))
}

/// Adds what another view of the purchase knows.
fn enrich(kept: &mut Payment, view: Payment) {
    kept.payee = kept.payee.take().or(view.payee);
    kept.resource = kept.resource.take().or(view.resource);
    kept.task = kept.task.take().or(view.task);
    kept.session = kept.session.take().or(view.session);
    kept.parent = kept.parent.take().or(view.parent);
    for reference in view.settlement_refs {
        if !kept.settlement_refs.contains(&reference) {
            kept.settlement_refs.push(reference);
        }
    }
}
