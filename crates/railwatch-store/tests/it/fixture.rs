//! Stores in a temporary folder, and values to put into them.

use std::path::PathBuf;

use railwatch_model::{
    Admitted, AgentId, Alert, AlertId, AlertState, Asset, Disposition, IncidentId, Money, Notice, NoticeId,
    Occasion, Payment, Record, Severity, SignalKind, Subject, Timestamp, Trigger, Usd,
};
use railwatch_store::{Batch, Outcome, Store, StoreOptions};
use tempfile::TempDir;

/// A folder with a store in it, removed at the end of the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("railwatch.db")
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.path(), &StoreOptions::default()).unwrap()
    }
}

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// A record at `secs` with `n_payments` payments.
pub(crate) fn payments(secs: i64, n_payments: usize) -> Record {
    let admit = |n: usize| {
        let amount = Money::new(i128::try_from(n).unwrap() + 1, Asset::new("USDC", 6).unwrap());
        let mut payment = Payment::settle("x402", format!("payment-{secs}-{n}"), amount, at(secs));
        payment.agent = AgentId::new(format!("agent_{}", n % 7));
        payment.source = "gate".into();
        Admitted { payment, disposition: Disposition::First }
    };
    Record::Payments { now: at(secs), payments: (0..n_payments).map(admit).collect() }
}

pub(crate) fn append(store: &mut Store, records: &[Record]) -> u64 {
    store.append(&Batch { records, ..Batch::default() }).unwrap()
}

pub(crate) fn alert(id: &str, state: AlertState, secs: i64) -> Alert {
    Alert {
        id: AlertId(id.into()),
        incident: IncidentId(format!("incident-{id}").into()),
        subject: Subject::Agent(AgentId::new("agent_1").unwrap()),
        team: None,
        labels: Vec::new(),
        trigger: Trigger::Signal(SignalKind::Velocity),
        state,
        severity: Severity::High,
        summary: "spends 42x its usual".into(),
        signal: None,
        score: 0.9,
        contributions: Vec::new(),
        spent_since_onset: Usd::ZERO,
        payments: Vec::new(),
        times_seen: 1,
        silenced_by: None,
        onset_at: at(secs),
        opened_at: at(secs),
        updated_at: at(secs),
        resolved_at: None,
        acknowledged_by: None,
        note: None,
        freeze: None,
        generation: 1,
        opened_seq: 1,
    }
}

pub(crate) fn notice(id: &str, incident: &str, occasion: Occasion) -> Notice {
    Notice {
        id: NoticeId(id.into()),
        incident: IncidentId(incident.into()),
        occasion,
        subject: Subject::Fleet,
        team: None,
        labels: Vec::new(),
        escalations: Vec::new(),
        severity: Severity::High,
        headline: "the fleet spends 42x its usual".into(),
        alerts: vec![alert("a", AlertState::Firing, 0)],
        at: at(0),
        link: None,
        may_repeat: false,
        order: None,
        report: None,
    }
}

pub(crate) fn sent(receipt: &str) -> Outcome {
    Outcome::Sent { receipt: receipt.to_owned() }
}

pub(crate) fn retry(at: Timestamp, error: &str, in_doubt: bool) -> Outcome {
    Outcome::Retry { at, error: error.to_owned(), in_doubt }
}
