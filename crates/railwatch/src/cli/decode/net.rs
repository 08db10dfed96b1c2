//! What remains of decoded payments: the engine says what each report is, this keeps the books of it.

use std::collections::HashMap;

use railwatch_model::{Direction, Disposition, Kind, Payment, SettlementRef, SmolStr};

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
                let at = refs(&payment).find_map(|key| self.refs.get(&key).copied());
                if let Some(kept) = at.and_then(|at| self.payments.get_mut(at)?.as_mut()) {
                    enrich(kept, payment);
                }
            }
        }
    }

    /// What remains.
    pub(super) fn into_payments(self) -> Vec<Payment> {
        self.payments.into_iter().flatten().collect()
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
