//! Admission: whose payment it is, and whether it is news. What comes out is what the journal records.

use railwatch_model::{
    Admitted, AgentId, Disposition, Kind, Payment, Record, Status, Subject, TaskReport, Timestamp,
};

use crate::engine::Engine;
use crate::seen::{Entry, Key, State};

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Accepted {
    /// What must be made durable and then applied.
    pub payments: Vec<Admitted>,
    /// What was left out.
    pub counts: AdmitCounts,
}

/// Counts of one admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdmitCounts {
    /// Accepted.
    pub accepted: u64,
    /// Dropped because the same report was accepted before.
    pub duplicates: u64,
    /// Accepted as another view of a purchase that another report had counted.
    pub enriched: u64,
    /// Accepted for a spender that no agent claims.
    pub unmapped: u64,
}

impl Accepted {
    /// The journal record.
    pub fn into_record(self, now: Timestamp) -> Record {
        Record::Payments { now, payments: self.payments }
    }
}

impl Engine {
    /// Identifies, deduplicates and merges reports, in order, and adds what is news to `accepted`.
    ///
    /// The engine remembers what it admitted: the host must make it durable, or keep trying, or end.
    pub fn admit(
        &mut self,
        now: Timestamp,
        payments: impl IntoIterator<Item = Payment>,
        accepted: &mut Accepted,
    ) {
        self.seen.rotate(now);
        for mut payment in payments {
            let key = self.seen.step_key(&payment);
            let known = self.seen.get(key);
            let news = judge(known, &payment).or_else(|| self.names_anew(known, &payment));
            let Some(news) = news else {
                accepted.counts.duplicates += 1;
                continue;
            };
            self.identify(&mut payment, known);
            let Some(agent) = payment.agent.clone() else { continue };
            let disposition = match news {
                Disposition::First if self.is_counted_elsewhere(&payment) => Disposition::Enriches,
                other => other,
            };
            accepted.counts.accepted += 1;
            accepted.counts.enriched += u64::from(disposition == Disposition::Enriches);
            accepted.counts.unmapped += u64::from(agent.is_unmapped());
            self.remember(key, &payment, &agent, disposition);
            accepted.payments.push(Admitted { payment, disposition });
        }
    }

    /// Identifies finished tasks and leaves repeats out; what comes back must be made durable and applied.
    pub fn admit_tasks(&mut self, source: &str, tasks: Vec<TaskReport>) -> Vec<(AgentId, TaskReport)> {
        let mut accepted = Vec::new();
        for task in tasks {
            let agent = self.directory.resolve_identities(&task.agent, source);
            let key = self.seen.task_key(&agent, &task.id);
            if self.seen.get(key).is_none() {
                self.seen.put(key, &agent, Status::Confirmed, 0);
                accepted.push((agent, task));
            }
        }
        accepted
    }

    /// Puts a journaled payment into the memory again, when recovering.
    pub(crate) fn readmit(&mut self, admitted: &Admitted) {
        let payment = &admitted.payment;
        if let Some(agent) = &payment.agent {
            let key = self.seen.step_key(payment);
            self.remember(key, payment, agent, admitted.disposition);
        }
    }

    /// The agents of these records that are not in memory: the host looks for them in the store before `apply`.
    pub fn missing(&self, records: &[Record]) -> Vec<Subject> {
        let mut missing: Vec<Subject> = Vec::new();
        let mut ask = |agent: &AgentId| {
            if self.subjects.agent_slot(agent).is_none() {
                missing.push(Subject::Agent(agent.clone()));
            }
        };
        for record in records {
            match record {
                Record::Payments { payments, .. } => {
                    payments.iter().filter_map(|admitted| admitted.payment.agent.as_ref()).for_each(&mut ask);
                }
                Record::Tasks { tasks, .. } => tasks.iter().for_each(|(agent, _)| ask(agent)),
                Record::Tick { .. }
                | Record::Generation { .. }
                | Record::Action { .. }
                | Record::Condition { .. } => {}
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    fn identify(&self, payment: &mut Payment, known: Option<Entry>) {
        // A further status of a known step belongs to whom the first belonged to, whatever the map says today.
        let same = known.and_then(|entry| self.seen.agent(entry)).cloned();
        let (agent, via) = match same {
            Some(agent) => (agent, railwatch_model::AgentVia::Linked),
            None => self.directory.resolve(payment, || self.linked(payment)),
        };
        payment.agent = Some(agent);
        payment.agent_via = Some(via);
    }

    /// The agent of another payment with the same settlement reference, or of the parent.
    fn linked(&self, payment: &Payment) -> Option<AgentId> {
        let by_ref = payment.settlement_refs.iter().map(|reference| self.seen.ref_key(payment, reference));
        let parent = payment.parent.iter().flat_map(|parent| {
            [Kind::Hold, Kind::Settle].map(|kind| self.seen.parent_key(&payment.rail, parent, kind))
        });
        let entry = by_ref.chain(parent).find_map(|key| self.seen.get(key))?;
        self.seen.agent(entry).filter(|agent| !agent.is_unmapped()).cloned()
    }

    /// True if a purchase with one of these settlement references has been counted.
    fn is_counted_elsewhere(&self, payment: &Payment) -> bool {
        payment.settlement_refs.iter().any(|reference| {
            let entry = self.seen.get(self.seen.ref_key(payment, reference));
            entry.is_some_and(|entry| entry.state() != State::Retracted)
        })
    }

    /// A repeat of a step that counts, under further names: it moves no money, and what other rails report under these
    /// names is the same purchase from now on. A repeat of which no name is known is not: its purchase was undone.
    fn names_anew(&self, known: Option<Entry>, payment: &Payment) -> Option<Disposition> {
        let is_repeat = known.is_some_and(|entry| entry.state() != State::Retracted);
        if !is_repeat || payment.status == Status::Retracted {
            return None;
        }
        let is_known = |reference| self.seen.get(self.seen.ref_key(payment, reference)).is_some();
        let n_known = payment.settlement_refs.iter().filter(|reference| is_known(reference)).count();
        (n_known > 0 && n_known < payment.settlement_refs.len()).then_some(Disposition::Enriches)
    }

    fn remember(&mut self, key: Key, payment: &Payment, agent: &AgentId, disposition: Disposition) {
        // What only adds to a known step says nothing of where the step stands.
        if disposition != Disposition::Enriches || self.seen.get(key).is_none() {
            self.seen.put(key, agent, payment.status, payment.revision);
        }
        for reference in &payment.settlement_refs {
            let ref_key = self.seen.ref_key(payment, reference);
            if disposition == Disposition::Retracts {
                // The purchase is undone: whoever reports it again reports it anew.
                self.seen.remove(ref_key);
            } else {
                self.seen.put(ref_key, agent, Status::Confirmed, 0);
            }
        }
    }
}

/// What a report is, given what is known of its step; `None` for a repeat.
fn judge(known: Option<Entry>, payment: &Payment) -> Option<Disposition> {
    let Some(entry) = known else {
        // A retraction of something that never was counted moves no money, and is remembered so that the report that
        // it overtook does not count either.
        let is_void = payment.status == Status::Retracted;
        return Some(if is_void { Disposition::Confirms } else { Disposition::First });
    };
    match (entry.state(), payment.status) {
        (State::Seen, Status::Confirmed) => Some(Disposition::Confirms),
        (State::Seen | State::Confirmed, Status::Retracted) if payment.revision >= entry.revision() => {
            Some(Disposition::Retracts)
        }
        (State::Retracted, Status::Seen | Status::Confirmed) if payment.revision > entry.revision() => {
            Some(Disposition::First)
        }
        _ => None,
    }
}
