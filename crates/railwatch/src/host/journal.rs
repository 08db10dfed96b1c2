//! The store's thread: the one place that writes to disk. Everything else sends it commands and waits for replies.
//!
//! Invariant: a reply is sent only after what it confirms is durable.

use std::ops::ControlFlow;
use std::time::Duration;

use railwatch_engine::SavedSubject;
use railwatch_model::{Action, Notice, Record, Seq, SmolStr, Subject, Timestamp};
use railwatch_plugin::clock::Clock;
use railwatch_store::{
    Advice, AuditEntry, Batch, Claimed, Effects, Generation, Interrupted, Labelling, OutboxId, Outcome,
    Reject, Store, StoreError, SubjectRow,
};
use tokio::sync::{mpsc, oneshot};

use crate::host::metrics::Metrics;

/// Commands that may wait: enough to keep the disk busy, few enough that back-pressure is felt within a second.
const COMMANDS_MAX: usize = 64;
/// Writes that become durable with one sync: whatever waited while the last sync ran.
const TOGETHER_MAX: usize = 32;
/// Pause before a failed append is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A batch on its way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Append {
    /// What happened.
    pub(crate) records: Vec<Record>,
    /// How far the sources are after it.
    pub(crate) cursors: Vec<(SmolStr, String)>,
    /// What could not be understood.
    pub(crate) rejects: Vec<Reject>,
    /// What earlier batches caused and is not written yet.
    pub(crate) effects: Vec<Effects>,
    /// Subjects whose saved state is wanted.
    pub(crate) wanted: Vec<Subject>,
}

/// The reply to an append.
#[derive(Debug)]
pub(crate) struct Appended {
    /// The position of the batch; `None` if it had no records.
    pub(crate) seq: Option<Seq>,
    /// The records, back again.
    pub(crate) records: Vec<Record>,
    /// The saved states of the wanted subjects that have one.
    pub(crate) found: Vec<(Subject, Vec<u8>)>,
}

/// What the store's thread can do.
pub(crate) enum Command {
    /// Something that must not be lost; what waits together is written together.
    Write(Write),
    /// A sink waits for notices.
    Claim(Waiting),
    /// Begin a checkpoint of the state after `seq`.
    CheckpointBegin { seq: Seq },
    /// Save rows of the checkpoint that is under way.
    CheckpointRows(Vec<SavedSubject>),
    /// Make the checkpoint the one that recovery starts from.
    CheckpointCommit { globals: Vec<u8>, done: oneshot::Sender<()> },
    /// Record a generation.
    Generation(Generation),
    /// Anything rare: maintenance, actions on the outbox.
    Run(Box<dyn FnOnce(&mut Store) + Send>),
}

/// A write that is tried until it succeeds.
pub(crate) enum Write {
    /// Make a batch durable; the reply goes to the core's own channel, in order.
    Append(Append),
    /// Write effects without a batch; the reply is for whoever waits for them.
    Effects { effects: Vec<Effects>, done: Option<oneshot::Sender<()>> },
    /// Record how an attempt ended.
    Settle { id: OutboxId, outcome: Outcome, now: Timestamp },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(Write::Append(_)) => "Append",
            Self::Write(Write::Effects { .. }) => "Effects",
            Self::Write(Write::Settle { .. }) => "Settle",
            Self::Claim(_) => "Claim",
            Self::CheckpointBegin { .. } => "CheckpointBegin",
            Self::CheckpointRows(_) => "CheckpointRows",
            Self::CheckpointCommit { .. } => "CheckpointCommit",
            Self::Generation(_) => "Generation",
            Self::Run(_) => "Run",
        })
    }
}

/// The way to the store's thread.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    commands: mpsc::Sender<Command>,
}

/// A sink that waits for notices: they are marked as being attempted by the very write that queues them.
pub(crate) struct Waiting {
    sink: SmolStr,
    limit: u32,
    claimed: oneshot::Sender<Vec<Claimed>>,
}

/// The sink's end of the wait.
#[derive(Debug)]
pub(crate) struct Claim(oneshot::Receiver<Vec<Claimed>>);

impl Claim {
    /// The due notices, marked as being attempted; `None` if the store's thread has ended. Cancel safe.
    pub(crate) async fn claimed(&mut self) -> Option<Vec<Claimed>> {
        (&mut self.0).await.ok()
    }

    /// Waits no longer; what was claimed in this very moment is in the sink's hands.
    pub(crate) fn withdraw(mut self) -> Vec<Claimed> {
        self.0.close();
        self.0.try_recv().unwrap_or_default()
    }
}

impl Journal {
    /// A way to a thread that is yet to run, and what that thread needs.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { commands }, receiver)
    }

    /// Sends a command; false if the thread has ended, which it does last of all.
    pub(crate) async fn send(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Runs a closure on the store and returns its result; `None` if the thread has ended.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = oneshot::channel();
        let work = Box::new(move |store: &mut Store| {
            // The asker may have gone; then nobody misses the answer.
            drop(reply.send(work(store)));
        });
        self.commands.send(Command::Run(work)).await.ok()?;
        result.await.ok()
    }

    /// Waits for the next notices of a sink; `None` if the thread has ended.
    pub(crate) async fn claim(&self, sink: SmolStr, limit: u32) -> Option<Claim> {
        let (claimed, claim) = oneshot::channel();
        self.commands.send(Command::Claim(Waiting { sink, limit, claimed })).await.ok()?;
        Some(Claim(claim))
    }

    /// Records the outcome of an attempt, before any later claim is answered.
    pub(crate) async fn settle(&self, id: OutboxId, outcome: Outcome, now: Timestamp) {
        if !self.send(Command::Write(Write::Settle { id, outcome, now })).await {
            tracing::error!(id, "outcome of a delivery cannot be recorded: the store's thread has ended");
        }
    }

    /// Puts notices back that were claimed and not attempted.
    pub(crate) async fn unclaim(&self, ids: Vec<OutboxId>) {
        if let Some(Err(error)) = self.run(move |store| store.unclaim(&ids)).await {
            tracing::error!(%error, "claimed notices cannot be put back; they count as attempted");
        }
    }

    /// Records what a person or a policy did.
    pub(crate) async fn audit(&self, entry: AuditEntry) {
        if let Some(Err(error)) = self.run(move |store| store.record_audit(&entry)).await {
            tracing::error!(%error, "audit entry cannot be recorded");
        }
    }
}

/// Runs the store until every sender is gone. Owns the store: when this returns, the file is closed.
pub(crate) fn run(
    mut store: Store,
    mut commands: mpsc::Receiver<Command>,
    appended: &mpsc::Sender<Appended>,
    clock: &dyn Clock,
    metrics: &Metrics,
) {
    let mut epoch = None;
    let mut waiting = Vec::new();
    let mut next = commands.blocking_recv();
    while let Some(command) = next.take() {
        match command {
            command @ (Command::Write(_) | Command::Claim(_)) => {
                let mut writes = Vec::new();
                let mut command = Ok(command);
                loop {
                    match command {
                        Ok(Command::Write(write)) => writes.push(write),
                        Ok(Command::Claim(claim)) => waiting.push(claim),
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                    if next.is_some() || writes.len() >= TOGETHER_MAX {
                        break;
                    }
                    command = commands.try_recv();
                }
                write_until_durable(&mut store, writes, &mut waiting, appended, clock, metrics);
            }
            Command::CheckpointBegin { seq } => {
                epoch = keep(metrics, store.checkpoint_begin(seq));
            }
            Command::CheckpointRows(rows) => {
                if let Some(running) = epoch
                    && keep(metrics, save_rows(&mut store, running, &rows)).is_none()
                {
                    epoch = None;
                }
            }
            Command::CheckpointCommit { globals, done } => {
                let committed = epoch.take().is_some_and(|running| {
                    keep(metrics, store.checkpoint_commit(running, &[(GLOBALS, &globals)])).is_some()
                });
                if committed {
                    metrics.checkpoints.inc();
                    keep(metrics, store.purge_subjects(5_000));
                    // The core may be on its way out.
                    done.send(()).ok();
                }
            }
            Command::Generation(generation) => {
                keep(metrics, store.record_generation(&generation));
            }
            Command::Run(work) => {
                work(&mut store);
                // It may have queued a notice again.
                write_until_durable(&mut store, Vec::new(), &mut waiting, appended, clock, metrics);
            }
        }
        next = next.or_else(|| commands.blocking_recv());
    }
}

/// The name of the engine's common state among a checkpoint's globals.
pub(crate) const GLOBALS: &str = "engine";

fn save_rows(store: &mut Store, epoch: u64, rows: &[SavedSubject]) -> Result<(), StoreError> {
    let texts =
        rows.iter().map(|row| (row.subject.key(), serde_json::to_string(&row.summary).unwrap_or_default()));
    let texts: Vec<(SmolStr, String)> = texts.collect();
    let rows: Vec<SubjectRow<'_>> = rows
        .iter()
        .zip(&texts)
        .map(|(row, (key, view))| SubjectRow { key, last_at: row.last_at, view, body: Some(&row.state) })
        .collect();
    store.save_subjects(epoch, &rows)
}

impl Write {
    fn attempt(&self, store: &mut Store) -> Result<Written, StoreError> {
        match self {
            Self::Append(Append { records, cursors, rejects, effects, .. }) if !records.is_empty() => {
                store.append(&Batch { records, cursors, rejects, effects }).map(Written::At)
            }
            Self::Append(Append { effects, .. }) | Self::Effects { effects, .. } => {
                store.write_effects(effects).map(|()| Written::Done)
            }
            Self::Settle { id, outcome, now } => {
                let settled = store.settle(*id, *now, outcome);
                skip("outcome of a delivery cannot be recorded", settled).map(|()| Written::Done)
            }
        }
    }
}

/// What a write came to.
enum Written {
    At(Seq),
    Done,
}

/// Lets the caller wait for a better time, and otherwise goes on without.
fn skip<T: Default>(what: &str, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match result {
        Err(error) if matches!(error.advice(), Advice::Skip | Advice::Stop) => {
            tracing::error!(%error, "{what}");
            Ok(T::default())
        }
        other => other,
    }
}

/// Writes with one sync, and tries again for as long as the disk is full or busy: the payments wait in memory, their
/// sources feel the back-pressure, and nobody is told that they are safe. Sinks that wait get what is due by then.
fn write_until_durable(
    store: &mut Store,
    writes: Vec<Write>,
    waiting: &mut Vec<Waiting>,
    appended: &mpsc::Sender<Appended>,
    clock: &dyn Clock,
    metrics: &Metrics,
) {
    waiting.retain(|sink| !sink.claimed.is_closed());
    if writes.is_empty() && waiting.is_empty() {
        return;
    }
    let (written, claimed) = persist(metrics, || {
        store.together(|store| {
            let written = writes.iter().map(|write| write.attempt(store)).collect::<Result<Vec<_>, _>>()?;
            let now = clock.now();
            let claim =
                |sink: &Waiting| skip("outbox cannot be read", store.claim(&sink.sink, now, sink.limit));
            Ok((written, waiting.iter().map(claim).collect::<Result<Vec<_>, _>>()?))
        })
    });
    for (write, written) in writes.into_iter().zip(written) {
        let append = match write {
            Write::Append(append) => append,
            Write::Effects { done: Some(done), .. } => {
                // Whoever waited may have gone.
                done.send(()).ok();
                continue;
            }
            Write::Effects { done: None, .. } | Write::Settle { .. } => continue,
        };
        let seq = if let Written::At(seq) = written { Some(seq) } else { None };
        let found = append.wanted.into_iter().filter_map(|subject| {
            let saved = keep(metrics, store.load_subject(&subject.key())).flatten()?;
            Some((subject, saved.body))
        });
        let found = found.collect();
        if appended.blocking_send(Appended { seq, records: append.records, found }).is_err() {
            tracing::debug!("core is gone, the batch will be applied on recovery");
        }
    }
    for (sink, claimed) in std::mem::take(waiting).into_iter().zip(claimed) {
        if claimed.is_empty() {
            waiting.push(sink);
        } else if let Err(claimed) = sink.claimed.send(claimed) {
            let ids: Vec<OutboxId> = claimed.iter().map(|claimed| claimed.id).collect();
            keep(metrics, store.unclaim(&ids));
        }
    }
}

/// Does something that must not be lost, trying again until it succeeds. Ends the process on an error that no waiting
/// mends: going on would mean acknowledging what is not safe.
fn persist<T>(metrics: &Metrics, mut attempt: impl FnMut() -> Result<T, StoreError>) -> T {
    loop {
        match attempt() {
            Ok(done) => {
                metrics.store_healthy.set(1);
                return done;
            }
            Err(error) => {
                metrics.store_healthy.set(0);
                metrics.store_errors.inc();
                match error.advice() {
                    Advice::Retry | Advice::FreeSpace => {
                        tracing::error!(%error, "store cannot be written, payments wait");
                        std::thread::sleep(RETRY_AFTER);
                    }
                    Advice::Skip | Advice::Stop => {
                        tracing::error!(%error, "store is broken, railwatch ends; run `railwatch doctor`");
                        std::process::exit(crate::cli::EXIT_STORE);
                    }
                }
            }
        }
    }
}

/// Does something that a later attempt makes good.
fn keep<T>(metrics: &Metrics, result: Result<T, StoreError>) -> Option<T> {
    result
        .inspect_err(|error| {
            metrics.store_errors.inc();
            tracing::error!(%error, "store operation failed");
        })
        .ok()
}

/// What the audit calls a firing of something that runs in shadow.
pub(crate) const SHADOW: &str = "shadow";

/// Turns a batch and what the engine caused by it into what the store writes: notices get the sinks that deliver them,
/// and what people did gets its place in the audit.
pub(crate) fn store_effects(
    seq: Seq,
    records: &[Record],
    effects: railwatch_engine::Effects,
    route: impl Fn(&Notice) -> Vec<SmolStr>,
) -> Effects {
    let mut outbox = Vec::new();
    for notice in effects.notices {
        for sink in route(&notice) {
            outbox.push((sink, notice.clone()));
        }
    }
    // Gates are not people: routes have no say.
    outbox.extend(effects.orders);
    let actions = records.iter().filter_map(|record| match record {
        Record::Action { now, by, action } => Some((*now, by, action)),
        Record::Payments { .. }
        | Record::Tick { .. }
        | Record::Generation { .. }
        | Record::Tasks { .. }
        | Record::Condition { .. } => None,
    });
    let told = actions.clone().map(|(at, by, action)| audit_entry(at, by, action));
    let audit = told.chain(effects.shadow.into_iter().map(shadow_entry)).collect();
    let labels = actions.filter_map(|(at, by, action)| match action {
        Action::Label { alert, verdict, note } => {
            let (alert, by, note) = (alert.clone(), by.clone(), note.clone());
            Some(Labelling { alert, at, by, verdict: *verdict, note })
        }
        _ => None,
    });
    Effects { seq, alerts: effects.alerts, outbox, audit, labels: labels.collect() }
}

/// A firing of something that runs in shadow. What it is about is never in the same batch as what a person did, so that
/// both keep their place.
fn shadow_entry(firing: railwatch_engine::ShadowFiring) -> AuditEntry {
    AuditEntry {
        at: firing.at,
        by: SmolStr::new(firing.rule.to_string()),
        what: SmolStr::new_static(SHADOW),
        subject: firing.subject.key().to_string(),
        detail: serde_json::Value::String(firing.why),
    }
}

fn audit_entry(at: Timestamp, by: &SmolStr, action: &Action) -> AuditEntry {
    let (what, subject) = match action {
        Action::Acknowledge { incident, .. } => ("acknowledge", incident.to_string()),
        Action::Resolve { incident, .. } => ("resolve", incident.to_string()),
        Action::Label { alert, .. } => ("label", alert.to_string()),
        Action::Announce { subject, .. } => ("announce", subject.key().to_string()),
        Action::Silence(silence) => ("silence", silence.id.to_string()),
        Action::Unsilence { silence } => ("unsilence", silence.to_string()),
        Action::Freeze(freeze) => ("freeze", freeze.agent.to_string()),
        Action::Unfreeze { freeze } => ("unfreeze", freeze.to_string()),
        Action::GateSaid { freeze, .. } => ("freeze.answer", freeze.to_string()),
    };
    let detail = serde_json::to_value(action).unwrap_or_default();
    AuditEntry { at, by: by.clone(), what: SmolStr::new_static(what), subject, detail }
}

/// Decides about deliveries that an earlier process began and did not finish, before anything is sent.
pub(crate) fn settle_interrupted(
    store: &mut Store,
    clock: &dyn Clock,
    is_idempotent: impl Fn(&str) -> bool,
) -> Result<u64, StoreError> {
    store.settle_interrupted(clock.now(), |sink| {
        if is_idempotent(sink) { Interrupted::Resend } else { Interrupted::ResendMarked }
    })
}

/// Walks the saved subjects that were active lately.
pub(crate) fn for_each_saved(
    store: &Store,
    active_since: Timestamp,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), StoreError> {
    store.for_each_subject(active_since, |row| {
        visit(row.body.unwrap_or_default());
        ControlFlow::Continue(())
    })
}
