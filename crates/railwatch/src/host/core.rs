//! The core's thread: it owns the engine and decides the order of everything.
//!
//! Deliveries are admitted, sent to the store's thread, and applied when they are durable; meanwhile the next batch is
//! admitted. Up to [`IN_FLIGHT_MAX`] batches are on their way at a time, and they are applied in the order in which
//! they were sent.
//!
//! Invariant: a source's delivery is acknowledged only after it is in the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use railwatch_engine::{Accepted, Engine, Generation, Retired};
use railwatch_model::{
    Action, Condition, ConditionKind, Notice, Payment, Record, Seq, SmolStr, Subject, Timestamp,
};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::source::Submission;
use railwatch_store::{Effects, Reject};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::host::journal::{Append, Appended, Command as StoreCommand, Journal, Write, store_effects};
use crate::host::metrics::Metrics;
use crate::host::prices::Prices;
use crate::host::publish::Publisher;
use crate::host::stamp::stamp;
use crate::host::warm::Warming;

/// Batches on their way to the disk at a time. While a sync runs the others gather, and the next sync takes them all.
pub(crate) const IN_FLIGHT_MAX: usize = 8;
/// Rows that one checkpoint step saves: about a millisecond of work.
const CHECKPOINT_ROWS: usize = 400;

/// What the rest of the host may ask of the core.
pub(crate) enum Command {
    /// Time passed.
    Tick,
    /// A person did something. The reply comes when it is durable and applied.
    Act { by: SmolStr, action: Action, done: oneshot::Sender<()> },
    /// A condition of railwatch itself or a source began, changed or ended.
    Report(Condition),
    /// A new generation is ready. The reply comes when it is in force.
    Install(Box<Install>),
    /// The generation that the engine was made with is in force.
    Began { number: u64, digest: SmolStr },
    /// Somebody wants to look.
    Look(Box<dyn FnOnce(&Engine) + Send>),
    /// Save the state; with a reply, as a whole and now.
    Checkpoint { done: Option<oneshot::Sender<()>> },
}

/// A generation that is ready to be in force.
pub(crate) struct Install {
    pub(crate) generation: Generation,
    pub(crate) config: Arc<Config>,
    /// Longer histories, if its rules need them.
    pub(crate) warming: Option<Warming>,
    pub(crate) done: oneshot::Sender<Replaced>,
}

/// What a generation took the place of; freeing it is not the core's work.
pub(crate) type Replaced = (Retired, Arc<Config>);

/// The way to the core.
#[derive(Debug, Clone)]
pub(crate) struct CoreHandle {
    commands: mpsc::Sender<Command>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tick => "Tick",
            Self::Act { .. } => "Act",
            Self::Report(_) => "Report",
            Self::Install(_) => "Install",
            Self::Began { .. } => "Began",
            Self::Look(_) => "Look",
            Self::Checkpoint { .. } => "Checkpoint",
        })
    }
}

impl CoreHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(64);
        (Self { commands }, receiver)
    }

    /// Sends a command; false if the core has ended.
    pub(crate) async fn send(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Looks at the engine between two batches.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = oneshot::channel();
        let look = Box::new(move |engine: &Engine| {
            // The asker may have gone; then nobody misses the answer.
            drop(reply.send(look(engine)));
        });
        self.commands.send(Command::Look(look)).await.ok()?;
        result.await.ok()
    }

    /// Does something in a person's name; false if the core has ended.
    pub(crate) async fn act(&self, by: SmolStr, action: Action) -> bool {
        let (done, applied) = oneshot::channel();
        self.send(Command::Act { by, action, done }).await && applied.await.is_ok()
    }
}

/// Everything that the core's thread owns.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) config: Arc<Config>,
    pub(crate) prices: Arc<Prices>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) submissions: mpsc::Receiver<Submission>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) appended: mpsc::Receiver<Appended>,
    pub(crate) checkpoint_every: Duration,
    pub(crate) publisher: Publisher,
    /// The last position that was applied.
    pub(crate) applied: Seq,
}

/// A batch on its way to the disk, and what happens when it arrives.
#[derive(Default)]
struct InFlight {
    acks: Vec<oneshot::Sender<()>>,
    done: Option<oneshot::Sender<()>>,
    install: Option<Box<Install>>,
}

/// The part of the core that changes while it runs.
#[derive(Default)]
struct Progress {
    in_flight: VecDeque<InFlight>,
    effects: Vec<Effects>,
    checkpoint: Option<Running>,
    checkpointed_at: Timestamp,
    checkpointed_seq: Seq,
    checkpoint_asked: Vec<oneshot::Sender<()>>,
    evict: bool,
}

struct Running {
    globals: Vec<u8>,
    done: oneshot::Receiver<()>,
    committed: Option<oneshot::Sender<()>>,
}

impl Core {
    /// Runs until every source and every command sender is gone, applies what is on its way, and saves the state.
    pub(crate) async fn run(mut self) {
        let mut progress = Progress { checkpointed_at: self.clock.now(), ..Progress::default() };
        progress.checkpointed_seq = self.applied;
        let (mut sources_open, mut commands_open) = (true, true);
        while sources_open || commands_open || !progress.in_flight.is_empty() {
            let has_room = progress.in_flight.len() < IN_FLIGHT_MAX;
            let has_rows = progress.checkpoint.as_ref().is_some_and(|running| running.committed.is_some());
            let mut is_idle = false;
            tokio::select! {
                biased;
                Some(appended) = self.appended.recv(), if !progress.in_flight.is_empty() => {
                    self.durable(appended, &mut progress).await;
                }
                command = self.commands.recv(), if commands_open && has_room => match command {
                    Some(command) => self.command(command, &mut progress).await,
                    None => commands_open = false,
                },
                first = self.submissions.recv(), if sources_open && has_room => match first {
                    Some(first) => self.submit(first, &mut progress).await,
                    None => sources_open = false,
                },
                () = std::future::ready(()), if has_rows || self.publisher.has_work(&self.engine) => {
                    is_idle = true;
                }
            }
            self.publisher.step(&mut self.engine, self.clock.now(), is_idle);
            if has_rows {
                self.checkpoint_step(&mut progress).await;
            }
            self.flush_effects(&mut progress).await;
            self.checkpoint_progress(&mut progress).await;
            self.evict(&mut progress);
        }
        self.final_checkpoint(&mut progress).await;
    }

    /// Values and admits a delivery and those that wait behind it, up to a batch, and sends them on their way.
    async fn submit(&mut self, first: Submission, progress: &mut Progress) {
        let now = self.clock.now();
        let payments_max = self.config.limits.batch_payments as usize;
        let mut append = Append::default();
        let mut accepted = Accepted::default();
        let mut flight = InFlight::default();
        let mut next = Some(first);
        while let Some(submission) = next {
            self.admit(now, submission, &mut accepted, &mut append, &mut flight);
            let is_full = accepted.payments.len() >= payments_max || flight.acks.len() >= payments_max;
            next = if is_full { None } else { self.submissions.try_recv().ok() };
        }
        if !accepted.payments.is_empty() {
            append.records.push(accepted.into_record(now));
        }
        if append.records.is_empty() && !(append.cursors.is_empty() && append.rejects.is_empty()) {
            // A batch needs a record to hang cursors and rejects on; time passed, in any case.
            append.records.push(Record::Tick { now });
        }
        append.wanted = self.engine.missing(&append.records);
        self.send(append, flight, progress).await;
    }

    fn admit(
        &mut self,
        now: Timestamp,
        submission: Submission,
        accepted: &mut Accepted,
        append: &mut Append,
        flight: &mut InFlight,
    ) {
        let Submission { source, delivery, ack } = submission;
        flight.acks.push(ack);
        let counts = self.metrics.source(&source);
        counts.filtered.inc_by(delivery.decoded.filtered.len() as u64);
        counts.rejected.inc_by(delivery.decoded.rejects.len() as u64);
        counts.received.inc_by(delivery.decoded.payments.len() as u64);
        append.rejects.extend(delivery.decoded.rejects.into_iter().map(|reject| Reject {
            at: reject.at,
            source: source.clone(),
            code: SmolStr::new_static(reject.code),
            detail: reject.detail,
            raw: reject.raw.to_vec(),
        }));
        if let Some(cursor) = delivery.cursor {
            append.cursors.retain(|(name, _)| *name != source);
            append.cursors.push((source.clone(), cursor.0));
        }
        let tasks = self.engine.admit_tasks(&source, delivery.decoded.tasks);
        if !tasks.is_empty() {
            append.records.push(Record::Tasks { now, tasks });
        }
        let before = accepted.counts;
        let payments = self.prepare(&source, delivery.decoded.payments);
        self.engine.admit(now, payments, accepted);
        let after = accepted.counts;
        counts.duplicates.inc_by(after.duplicates - before.duplicates);
        counts.enriched.inc_by(after.enriched - before.enriched);
        counts.accepted.inc_by(after.accepted - before.accepted);
        self.metrics.unmapped.inc_by(after.unmapped - before.unmapped);
    }

    /// Stamps the source and the host's own settings on its payments, and values them.
    fn prepare(&self, source: &SmolStr, mut payments: Vec<Payment>) -> Vec<Payment> {
        let common = self.config.sources.get(source).map(|source| &source.common);
        for payment in &mut payments {
            stamp(source, common, &self.prices, payment);
            self.metrics.unpriced.inc_by(u64::from(payment.valuation.is_none()));
        }
        payments
    }

    async fn command(&mut self, command: Command, progress: &mut Progress) {
        let now = self.clock.now();
        match command {
            Command::Tick => {
                if self.engine.has_due(now) {
                    let append = Append { records: vec![Record::Tick { now }], ..Append::default() };
                    self.send(append, InFlight::default(), progress).await;
                }
                let is_due = now.since(progress.checkpointed_at) >= self.checkpoint_every;
                if is_due && self.applied > progress.checkpointed_seq {
                    self.begin_checkpoint(progress).await;
                }
            }
            Command::Act { by, action, done } => {
                let append =
                    Append { records: vec![Record::Action { now, by, action }], ..Append::default() };
                let flight = InFlight { done: Some(done), ..InFlight::default() };
                self.send(append, flight, progress).await;
            }
            Command::Report(condition) => {
                let records = vec![Record::Condition { now, condition }];
                self.send(Append { records, ..Append::default() }, InFlight::default(), progress).await;
            }
            Command::Install(install) => {
                let Generation { number, digest, .. } = &install.generation;
                let record = Record::Generation { now, number: *number, digest: digest.clone() };
                let flight = InFlight { install: Some(install), ..InFlight::default() };
                self.send(Append { records: vec![record], ..Append::default() }, flight, progress).await;
            }
            Command::Began { number, digest } => {
                let records = vec![Record::Generation { now, number, digest }];
                self.send(Append { records, ..Append::default() }, InFlight::default(), progress).await;
            }
            Command::Look(look) => look(&self.engine),
            Command::Checkpoint { done } => {
                progress.checkpoint_asked.extend(done);
                self.begin_checkpoint(progress).await;
            }
        }
    }

    async fn send(&mut self, mut append: Append, flight: InFlight, progress: &mut Progress) {
        append.effects = std::mem::take(&mut progress.effects);
        progress.in_flight.push_back(flight);
        if !self.journal.send(StoreCommand::Write(Write::Append(append))).await {
            tracing::error!("the store's thread has ended");
            progress.in_flight.pop_back();
        }
    }

    /// A batch is durable: acknowledge it, then apply it.
    async fn durable(&mut self, appended: Appended, progress: &mut Progress) {
        let flight = progress.in_flight.pop_front().unwrap_or_default();
        for ack in flight.acks {
            // A source that has stopped does not care.
            ack.send(()).ok();
        }
        for (subject, state) in appended.found {
            if !self.engine.knows(&subject)
                && let Err(error) = self.engine.restore(&state)
            {
                tracing::error!(%error, "a subject starts anew");
            }
        }
        if let Some(install) = flight.install {
            let Install { generation, config, warming, done } = *install;
            let began_at = self.clock.now();
            let (number, digest) = (generation.number, generation.digest.clone());
            if let (Some(warming), Some(seq)) = (warming, appended.seq) {
                warming.hand_over(seq, &mut self.engine);
            }
            let retired = self.engine.install(generation);
            let config = std::mem::replace(&mut self.config, config);
            self.metrics.installed(number, &digest, self.clock.now().since(began_at));
            // Whoever reloads may have gone; then it is freed here.
            drop(done.send((retired, config)));
        }
        if let Some(seq) = appended.seq {
            let mut effects = railwatch_engine::Effects::default();
            let late_before = self.engine.late();
            for record in &appended.records {
                self.engine.apply(seq, record, &mut effects);
                if let Record::Payments { payments, .. } = record {
                    self.metrics.applied.inc_by(payments.len() as u64);
                }
            }
            self.metrics.late.inc_by(self.engine.late() - late_before);
            self.applied = seq;
            self.metrics.journal_seq.set(i64::try_from(seq).unwrap_or(i64::MAX));
            self.metrics.count_effects(&effects);
            let effects = store_effects(seq, &appended.records, effects, |notice| self.told(notice));
            self.publisher.applied(appended.records, &effects.alerts);
            if !effects.is_empty() {
                progress.effects.push(effects);
            }
        }
        if flight.done.is_some() {
            // Whoever asked reads the store next, and must find what came of it.
            self.write_effects(progress, flight.done).await;
        }
    }

    /// The sinks that are told of a notice. One that fails is not told so itself.
    fn told(&self, notice: &Notice) -> Vec<SmolStr> {
        let mut sinks = self.config.sinks_for(notice);
        if notice.subject == Subject::Railwatch {
            let held = self.engine.conditions_of(&Subject::Railwatch);
            let failing = held.iter().filter(|condition| condition.kind == ConditionKind::SinkFailing);
            let failing: Vec<&SmolStr> = failing.map(|condition| &condition.about).collect();
            sinks.retain(|sink| !failing.contains(&sink));
        }
        sinks
    }

    /// Writes effects on their own when people wait for them, or when no batch comes that they could ride along with.
    async fn flush_effects(&mut self, progress: &mut Progress) {
        let urgent = progress.effects.iter().any(|effects| !effects.outbox.is_empty());
        if urgent || progress.in_flight.is_empty() {
            self.write_effects(progress, None).await;
        }
    }

    async fn write_effects(&mut self, progress: &mut Progress, done: Option<oneshot::Sender<()>>) {
        if !progress.effects.is_empty() || done.is_some() {
            let effects = std::mem::take(&mut progress.effects);
            self.journal.send(StoreCommand::Write(Write::Effects { effects, done })).await;
        }
    }

    async fn begin_checkpoint(&mut self, progress: &mut Progress) {
        if progress.checkpoint.is_some() {
            return;
        }
        let globals = self.engine.checkpoint_begin();
        progress.checkpointed_at = self.clock.now();
        progress.checkpointed_seq = self.applied;
        self.journal.send(StoreCommand::CheckpointBegin { seq: self.applied }).await;
        let (committed, done) = oneshot::channel();
        progress.checkpoint = Some(Running { globals, done, committed: Some(committed) });
    }

    async fn checkpoint_step(&mut self, progress: &mut Progress) {
        let rows = self.engine.checkpoint_step(CHECKPOINT_ROWS);
        if !rows.is_empty() {
            self.journal.send(StoreCommand::CheckpointRows(rows)).await;
        } else if let Some(running) = &mut progress.checkpoint
            && let Some(done) = running.committed.take()
        {
            let globals = std::mem::take(&mut running.globals);
            self.journal.send(StoreCommand::CheckpointCommit { globals, done }).await;
        }
    }

    async fn checkpoint_progress(&mut self, progress: &mut Progress) {
        let Some(running) = &mut progress.checkpoint else { return };
        if running.committed.is_some() {
            return;
        }
        match running.done.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) if progress.checkpoint_asked.is_empty() => {}
            Err(oneshot::error::TryRecvError::Empty) => {
                let done = (&mut running.done).await;
                self.checkpoint_ended(done.is_ok(), progress);
            }
            result => self.checkpoint_ended(result.is_ok(), progress),
        }
    }

    fn checkpoint_ended(&mut self, committed: bool, progress: &mut Progress) {
        progress.checkpoint = None;
        if !committed {
            // The next one must save everything that this one would have.
            progress.checkpointed_seq = 0;
        }
        progress.evict = progress.evict || committed;
        for done in progress.checkpoint_asked.drain(..) {
            done.send(()).ok();
        }
        self.metrics.subjects.set(i64::try_from(self.engine.subjects_len()).unwrap_or(i64::MAX));
        self.metrics.seen.set(i64::try_from(self.engine.seen_len()).unwrap_or(i64::MAX));
    }

    /// Lets idle agents leave memory after a checkpoint. A batch on its way may need one that looks idle: wait until
    /// there is none.
    fn evict(&mut self, progress: &mut Progress) {
        if progress.evict && progress.in_flight.is_empty() {
            progress.evict = false;
            self.metrics.evicted.inc_by(self.engine.evict_idle() as u64);
        }
    }

    async fn final_checkpoint(&mut self, progress: &mut Progress) {
        self.flush_effects(progress).await;
        while progress.checkpoint.is_some() || self.applied > progress.checkpointed_seq {
            if progress.checkpoint.is_none() {
                self.begin_checkpoint(progress).await;
            }
            while progress.checkpoint.as_ref().is_some_and(|running| running.committed.is_some()) {
                self.checkpoint_step(progress).await;
            }
            let Some(running) = progress.checkpoint.take() else { break };
            if running.done.await.is_err() {
                tracing::warn!("the last checkpoint failed, the next start re-applies more of the journal");
                break;
            }
        }
    }
}
