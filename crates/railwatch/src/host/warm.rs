//! Warming: rules that ask for a longer window than any before get it filled from the journal, before they are in force.
//!
//! A second engine that knows the books and no detector is shown the journal of that time; the running one takes its
//! histories over at the position where the generation begins. A replay does the same at the same position.

use railwatch_engine::{Directory, Effects, Engine, Generation, Settings};
use railwatch_model::{Seq, SmolStr, Timestamp};
use railwatch_plugin::history::HistoryNeed;
use railwatch_plugin::rules::{Firing, RuleInfo, RuleSet, RuleState};
use railwatch_plugin::score::Case;
use railwatch_store::Reader;

/// Rounds of reading what was appended while the round before was read.
const ROUNDS_MAX: usize = 8;

/// Histories on their way to the engine.
#[derive(Debug)]
pub(crate) struct Warming {
    engine: Engine,
    reader: Reader,
    /// The last batch that was read.
    seq: Seq,
}

/// No rules, and a need.
#[derive(Debug)]
struct Needing(HistoryNeed);

impl RuleSet for Needing {
    fn rules(&self) -> &[RuleInfo] {
        &[]
    }

    fn need(&self) -> HistoryNeed {
        self.0
    }

    fn evaluate(&mut self, _: &Case<'_>, _: &mut [RuleState], _: &mut Vec<Firing>) {}
}

/// True if histories that were kept for `old` are too short for `new`.
pub(crate) fn is_needed(old: HistoryNeed, new: HistoryNeed) -> bool {
    !new.longest.is_zero() && (new.longest > old.longest || new.groups && !old.groups)
}

impl Warming {
    /// Reads the journal of the time that `need` spans, up to `until` or its present end. It begins with a whole day, so
    /// that a replay, whose clock is a little ahead, reads the same.
    pub(crate) fn begin(
        reader: Reader,
        directory: Directory,
        need: HistoryNeed,
        now: Timestamp,
        until: Seq,
    ) -> anyhow::Result<Self> {
        let generation = Generation {
            number: 0,
            digest: SmolStr::default(),
            settings: Settings::default(),
            directory: Some(directory),
            columns: Vec::new(),
            scorer: Box::new(railwatch_detectors::anomaly_score::Probability),
            rules: Box::new(Needing(need)),
        };
        let from = Timestamp::from_secs(now.before(need.longest).secs().div_euclid(86_400) * 86_400);
        let first = reader.batches_between(from, Timestamp::MAX)?.next().transpose()?;
        let span = reader.journal_span()?;
        let seq = first.map_or(span.last, |batch| batch.seq.saturating_sub(1));
        let mut warming = Self { engine: Engine::new([0; 16], generation), reader, seq };
        for _ in 0..ROUNDS_MAX {
            let before = warming.seq;
            warming.read_until(until)?;
            if warming.seq <= before + 4 {
                break;
            }
        }
        Ok(warming)
    }

    /// Reads on, up to and including a position.
    pub(crate) fn read_until(&mut self, until: Seq) -> anyhow::Result<()> {
        for batch in self.reader.batches(self.seq + 1) {
            let batch = batch?;
            if batch.seq > until {
                break;
            }
            let mut unused = Effects::default();
            batch.records.iter().for_each(|record| self.engine.apply(batch.seq, record, &mut unused));
            self.seq = batch.seq;
        }
        Ok(())
    }

    /// Hands the histories over to the engine that goes on from `seq`.
    pub(crate) fn hand_over(mut self, seq: Seq, engine: &mut Engine) {
        match self.read_until(seq) {
            Ok(()) => engine.adopt_histories(self.engine),
            Err(error) => tracing::warn!(%error, "windows of new rules fill up as payments come"),
        }
    }
}
