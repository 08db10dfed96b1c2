//! Recovery: the engine as it was when railwatch last ended, however it ended.
//!
//! The committed checkpoint is loaded, the deduplication memory is read back from the journal, and what the journal
//! has beyond the checkpoint is applied again, under the generations that were in force. Effects are keyed, so that
//! writing them again changes nothing. The present configuration comes last.

use std::time::Duration;

use anyhow::Context as _;
use railwatch_engine::{Effects, Engine, SeenSecret};
use railwatch_model::{Record, Seq, Timestamp};
use railwatch_plugin::history::HistoryNeed;
use railwatch_script::StatusHandle;
use railwatch_store::Store;

use crate::config::Loaded;
use crate::host::generation::{self, Built, Timeline};
use crate::host::journal::{GLOBALS, for_each_saved, store_effects};

/// Agents that were active this long before the checkpoint are loaded at once; others when they pay again.
const WARM: Duration = Duration::from_secs(24 * 3600);

/// What recovery did.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) subjects: u64,
    pub(crate) unreadable: u64,
    pub(crate) reapplied: u64,
    pub(crate) applied: Seq,
    /// The scripts of the present configuration.
    pub(crate) scripts: Vec<StatusHandle>,
    /// How much history they need.
    pub(crate) need: HistoryNeed,
}

/// Makes an engine that continues where the store ends and runs `loaded` as generation `number`.
pub(crate) fn recover(
    store: &mut Store,
    secret: SeenSecret,
    loaded: &Loaded,
    number: u64,
    now: Timestamp,
) -> anyhow::Result<(Engine, Recovered)> {
    let Built { generation, scripts } = generation::build_or_fail(loaded, number)?;
    let seen = generation.settings.seen;
    let mut recovered = Recovered { scripts, ..Recovered::default() };
    let checkpoint = store.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq);
    let globals = store.global(GLOBALS)?;
    let mut timeline = Timeline::new(&*store, loaded.base_dir.clone());
    let has_changed = store.generations(1)?.first().is_some_and(|last| last.digest != loaded.digest);
    let has_past = has_changed || store.journal_span()?.last > checkpoint;
    let saved = globals.as_deref().filter(|_| has_past).and_then(Engine::saved_generation);
    let past = saved.and_then(|number| timeline.build(number));
    let is_past = past.is_some();
    let mut present = Some(generation);
    let first = past.or_else(|| present.take()).context("there is always a generation")?;
    let mut engine = Engine::new(secret, first);
    if let Some(globals) = &globals
        && let Err(error) = engine.restore_globals(globals)
    {
        tracing::warn!(%error, "what agents have in common is learned anew");
    }
    let active_since = engine.now().before(WARM);
    for_each_saved(store, active_since, |state| match engine.restore(state) {
        Ok(_) => recovered.subjects += 1,
        Err(error) => {
            recovered.unreadable += 1;
            tracing::warn!(%error, "a subject starts anew");
        }
    })?;
    if globals.as_deref().is_some_and(Engine::saved_while_warming) {
        let config = timeline.config().unwrap_or(&loaded.config);
        timeline.warm(config, engine.need(), checkpoint, &mut engine);
    }
    remember(store, &mut engine, checkpoint, now.before(seen.horizon), seen.keys_max)?;
    let pending = reapply(store, &mut engine, checkpoint, loaded, &mut timeline, &mut recovered)?;
    if is_past || timeline.config().is_some() {
        let present = match present {
            Some(generation) => generation,
            None => {
                let built = timeline.present(loaded, number);
                let Built { generation, scripts } =
                    built.map_err(|(_, error)| anyhow::anyhow!(error.to_string()))?;
                recovered.scripts = scripts;
                generation
            }
        };
        timeline.install(present, &loaded.config, recovered.applied, &mut engine);
    }
    recovered.need = engine.need();
    store.write_effects(&pending)?;
    Ok((engine, recovered))
}

/// Fills the deduplication memory from the part of the journal that the checkpoint covers.
fn remember(
    store: &Store,
    engine: &mut Engine,
    until: Seq,
    since: Timestamp,
    keys_max: usize,
) -> anyhow::Result<()> {
    let span = store.journal_span()?;
    let mut first = span.first.max(1);
    if let Some(batch) = store.batches_between(since, Timestamp::MAX)?.next() {
        first = first.max(batch.context("journal cannot be read")?.seq);
    }
    // Beyond the key limit the oldest would be forgotten at once: a batch holds at least one payment.
    first = first.max(until.saturating_sub(keys_max as u64));
    for batch in store.batches(first) {
        let batch = batch.context("journal cannot be read; run `railwatch doctor`")?;
        if batch.seq > until {
            break;
        }
        batch.records.iter().for_each(|record| engine.remember_record(record));
    }
    Ok(())
}

/// Applies what came after the checkpoint; returns what that caused.
fn reapply(
    store: &Store,
    engine: &mut Engine,
    checkpoint: Seq,
    loaded: &Loaded,
    timeline: &mut Timeline<'_>,
    recovered: &mut Recovered,
) -> anyhow::Result<Vec<railwatch_store::Effects>> {
    recovered.applied = checkpoint;
    let mut pending = Vec::new();
    for batch in store.batches(checkpoint + 1) {
        let batch = batch.context("journal cannot be read; run `railwatch doctor`")?;
        let mut effects = Effects::default();
        for subject in engine.missing(&batch.records) {
            if let Some(saved) = store.load_subject(&subject.key())?
                && let Err(error) = engine.restore(&saved.body)
            {
                tracing::warn!(%error, "a subject starts anew");
            }
        }
        for record in &batch.records {
            match record {
                Record::Payments { payments, .. } => recovered.reapplied += payments.len() as u64,
                Record::Generation { number, .. } if *number != engine.generation() => {
                    timeline.pass(*number, batch.seq, engine);
                }
                Record::Generation { .. }
                | Record::Tick { .. }
                | Record::Action { .. }
                | Record::Tasks { .. }
                | Record::Condition { .. } => {}
            }
            engine.reapply(batch.seq, record, &mut effects);
        }
        recovered.applied = batch.seq;
        let config = timeline.config().unwrap_or(&loaded.config);
        let effects = store_effects(batch.seq, &batch.records, effects, |notice| config.sinks_for(notice));
        if !effects.is_empty() {
            pending.push(effects);
        }
    }
    Ok(pending)
}
