//! Recovery: the engine as it was when railwatch last ended, however it ended.
//!
//! The committed checkpoint is loaded, the deduplication memory is read back from the journal, and what the journal
//! has beyond the checkpoint is applied again. Effects are keyed, so that writing them again changes nothing.

use std::time::Duration;

use anyhow::Context as _;
use railwatch_engine::{Effects, Engine, Generation, SeenSecret};
use railwatch_model::{Record, Seq, Timestamp};
use railwatch_store::Store;

use crate::config::Config;
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
}

/// Makes an engine that continues where the store ends.
pub(crate) fn recover(
    store: &mut Store,
    secret: SeenSecret,
    generation: Generation,
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<(Engine, Recovered)> {
    let horizon = generation.settings.seen.horizon;
    let keys_max = generation.settings.seen.keys_max;
    let mut engine = Engine::new(secret, generation);
    let mut recovered = Recovered::default();
    let checkpoint = store.checkpoint()?.map_or(0, |checkpoint| checkpoint.seq);
    if let Some(globals) = store.global(GLOBALS)?
        && let Err(error) = engine.restore_globals(&globals)
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
    remember(store, &mut engine, checkpoint, now.before(horizon), keys_max)?;
    reapply(store, &mut engine, checkpoint, config, &mut recovered)?;
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

/// Applies what came after the checkpoint.
fn reapply(
    store: &mut Store,
    engine: &mut Engine,
    checkpoint: Seq,
    config: &Config,
    recovered: &mut Recovered,
) -> anyhow::Result<()> {
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
            if let Record::Payments { payments, .. } = record {
                recovered.reapplied += payments.len() as u64;
            }
            engine.reapply(batch.seq, record, &mut effects);
        }
        recovered.applied = batch.seq;
        let effects = store_effects(batch.seq, &batch.records, effects, |notice| config.sinks_for(notice));
        if !effects.is_empty() {
            pending.push(effects);
        }
    }
    store.write_effects(&pending)?;
    Ok(())
}
