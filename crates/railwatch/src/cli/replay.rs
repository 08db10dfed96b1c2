//! `replay`: recorded payments through the engine that runs live, in virtual time.
//!
//! A recording is a file of messages (JSONL, CSV or what a source's decoder reads; `.gz` too) or a railwatch store, whose
//! journal is applied again under the generations of configuration that were in force. Time is the recording's own: payments arrive when they arrived.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use flate2::read::MultiGzDecoder;
use railwatch_engine::{Accepted, Effects, Engine};
use railwatch_model::{
    Alert, AlertId, AlertState, Payment, Record, Severity, SmolStr, Subject, Timestamp, Verdict,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::secret::SystemSecrets;
use railwatch_plugin::source::SourceBuild;
use railwatch_store::Store;
use serde_json::{Value, json};

use crate::cli::{Failure, Out, run};
use crate::config::Loaded;
use crate::host::{Prices, Timeline, build_generation, lua_decoder};
use crate::plugins::SOURCES;

/// Between two payments, the engine is woken at most this often in virtual time.
const TICK_EVERY: Duration = Duration::from_secs(60);
/// Bytes that one line may have.
const LINE_LEN_MAX: u64 = 16 << 20;

/// Options of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recording.
    file: PathBuf,
    /// Decode it as this configured source does; without, as railwatch's own generic shape.
    #[arg(long)]
    source: Option<String>,
    /// Where a message says when it arrived, as a JSON pointer such as `/ingest_ts`; without, it arrived when it happened.
    #[arg(long, value_name = "POINTER")]
    arrival: Option<String>,
    /// Judge a store's journal by the configuration as it is now, rather than by the generations that were in force.
    #[arg(long)]
    current: bool,
    /// Print every signal that fires with at least this many nats of evidence, instead of alerts: for measuring detection.
    #[arg(long, value_name = "NATS")]
    signals_from: Option<f64>,
}

/// Replays a recording.
pub(crate) fn replay(config: &Path, args: &ReplayArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded =
        if config.exists() || args.source.is_some() { run::load(config, true)? } else { run::defaults()? };
    let generation = build_generation(&loaded, 1)?.generation;
    let mut replay = Replay {
        engine: Engine::new([0; 16], generation),
        prices: Prices::fixed(&loaded.config.prices, Timestamp::EPOCH),
        tick_at: Timestamp::EPOCH,
        signals: args.signals_from.map(SignalLog::new),
        counts: Counts::default(),
        told: HashMap::new(),
    };
    if is_store(&args.file)? {
        let past = (!args.current).then(|| loaded.base_dir.clone());
        replay.journal(&args.file, past, out)?;
    } else {
        let decoder = decoder(&loaded, args.source.as_deref())?;
        replay.messages(args, &*decoder, out)?;
    }
    replay.finish(out)
}

#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    alerts: u64,
}

struct Replay {
    engine: Engine,
    prices: Prices,
    tick_at: Timestamp,
    signals: Option<SignalLog>,
    counts: Counts,
    /// How each alert stood when it was told last.
    told: HashMap<AlertId, (AlertState, Severity)>,
}

impl Replay {
    fn messages(&mut self, args: &ReplayArgs, decoder: &dyn Decoder, out: &mut Out) -> Result<(), Failure> {
        let mut reader = open(&args.file)?;
        let mut line = Vec::new();
        let mut arrived_at = Timestamp::EPOCH;
        loop {
            line.clear();
            if reader.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut line)? == 0 {
                let mut decoded = Decoded::default();
                decoder.finish(arrived_at, &mut decoded);
                return self.take(decoded, args.arrival.is_some().then_some(arrived_at), out);
            }
            let body = line.trim_ascii();
            if body.is_empty() {
                continue;
            }
            self.counts.messages += 1;
            if let Some(pointer) = &args.arrival {
                arrived_at = arrival(body, pointer).unwrap_or(arrived_at);
            }
            let mut decoded = Decoded::default();
            decoder.decode(&Message { body, headers: None, received_at: arrived_at }, &mut decoded);
            self.take(decoded, args.arrival.is_some().then_some(arrived_at), out)?;
        }
    }

    fn take(
        &mut self,
        decoded: Decoded,
        arrived_at: Option<Timestamp>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        for reject in &decoded.rejects {
            self.counts.rejected += 1;
            let n = self.counts.messages;
            out.document(&json!({ "reject": reject.code, "line": n, "detail": reject.detail }))?;
            out.line(format!("line {n}: {}: {}", reject.code, reject.detail))?;
        }
        decoded.payments.into_iter().try_for_each(|payment| self.payment(payment, arrived_at, out))
    }

    fn payment(
        &mut self,
        mut payment: Payment,
        arrived_at: Option<Timestamp>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        payment.observed_at = arrived_at.unwrap_or(payment.occurred_at);
        let now = self.engine.now().max(payment.observed_at);
        if payment.valuation.is_none() {
            payment.valuation = self.prices.value(&payment.amount, now);
        }
        self.pass_time(now, out)?;
        let mut accepted = Accepted::default();
        self.engine.admit(now, [payment], &mut accepted);
        self.counts.accepted += accepted.counts.accepted;
        self.counts.duplicates += accepted.counts.duplicates;
        let subject = accepted.payments.first().and_then(|admitted| admitted.payment.agent.clone());
        let mut effects = Effects::default();
        self.engine.apply(0, &accepted.into_record(now), &mut effects);
        self.report(&effects, out)?;
        if let (Some(log), Some(agent)) = (&mut self.signals, subject) {
            log.look(&self.engine, &Subject::Agent(agent), now, out)?;
        }
        Ok(())
    }

    /// Wakes what wants to be woken before `now`.
    fn pass_time(&mut self, now: Timestamp, out: &mut Out) -> Result<(), Failure> {
        if now < self.tick_at {
            return Ok(());
        }
        self.tick_at = now.after(TICK_EVERY);
        if self.engine.has_due(now) {
            let mut effects = Effects::default();
            self.engine.apply(0, &Record::Tick { now }, &mut effects);
            self.report(&effects, out)?;
        }
        Ok(())
    }

    /// Applies a journal again; with `past`, the folder of its configuration, under the generations that it names.
    fn journal(&mut self, path: &Path, past: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
        let reader = Store::open_read_only(path)?;
        let mut past = past.map(|base_dir| Timeline::new(&reader, base_dir));
        for batch in reader.batches(1) {
            let batch = batch?;
            for record in &batch.records {
                if let Record::Payments { payments, .. } = record {
                    self.counts.messages += payments.len() as u64;
                    self.counts.accepted += payments.len() as u64;
                }
                if let (Some(past), Record::Generation { number, .. }) = (&mut past, record) {
                    past.pass(*number, batch.seq, &mut self.engine);
                }
                let mut effects = Effects::default();
                self.engine.reapply(batch.seq, record, &mut effects);
                self.report(&effects, out)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, effects: &Effects, out: &mut Out) -> Result<(), Failure> {
        for alert in &effects.alerts {
            let now = (alert.state, alert.severity);
            let before = self.told.insert(alert.id.clone(), now);
            self.counts.alerts += u64::from(before.is_none());
            // It opens, gets worse, resolves, or fires again.
            if self.signals.is_none() && before != Some(now) {
                out.document(alert)?;
                out.line(alert_line(alert))?;
            }
        }
        Ok(())
    }

    fn finish(self, out: &mut Out) -> Result<(), Failure> {
        let Counts { messages, accepted, duplicates, rejected, alerts } = self.counts;
        if self.signals.is_none() {
            out.document(&json!({
                "messages": messages, "accepted": accepted, "duplicates": duplicates, "rejected": rejected,
                "alerts": alerts,
            }))?;
        }
        out.line(format!(
            "{messages} messages: {accepted} payments, {duplicates} duplicates, {rejected} rejected; {alerts} alerts"
        ))
    }
}

/// One line about a changed alert.
fn alert_line(alert: &Alert) -> String {
    let state = if alert.state == AlertState::Resolved { "resolved" } else { alert.severity.as_str() };
    format!(
        "{} {state:<8} {}",
        alert.updated_at.to_string().chars().take(19).collect::<String>(),
        alert.summary
    )
}

/// Writes signals for the detection bench: one line when a kind begins for an agent, and further ones as its evidence
/// grows.
struct SignalLog {
    from: f64,
    told: HashMap<(SmolStr, SmolStr), (f64, Timestamp)>,
}

/// Evidence that must be added before a signal is written again.
const NATS_STEP: f64 = 1.0;
/// A signal that goes on is written anew after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(12 * 3600);

impl SignalLog {
    fn new(from: f64) -> Self {
        Self { from, told: HashMap::new() }
    }

    fn look(
        &mut self,
        engine: &Engine,
        subject: &Subject,
        now: Timestamp,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let Some(agent) = subject.agent() else { return Ok(()) };
        for signal in engine.signals(subject) {
            if signal.verdict != Verdict::Firing || signal.evidence < self.from {
                continue;
            }
            let key = (SmolStr::new(agent.as_str()), SmolStr::new(signal.kind.as_str()));
            let known = self.told.get(&key);
            let is_news = known.is_none_or(|(nats, at)| {
                signal.evidence >= nats + NATS_STEP || now.since(*at) >= AGAIN_AFTER
            });
            if is_news {
                self.told.insert(key, (signal.evidence, now));
                out.text(
                    &json!({ "ts": now.secs_f64(), "agent_id": agent, "kind": signal.kind, "score": signal.evidence })
                        .to_string(),
                )?;
            }
        }
        Ok(())
    }
}

pub(super) fn decoder(loaded: &Loaded, source: Option<&str>) -> Result<Arc<dyn Decoder>, Failure> {
    let (plugin, table, decode) = match source {
        None => ("file".into(), toml::Table::from_iter([("path".to_owned(), "-".into())]), None),
        Some(name) => {
            let config = loaded.config.sources.get(name);
            let config =
                config.with_context(|| format!("there is no [sources.{name}] in the configuration"))?;
            (config.plugin.clone(), config.table.clone(), config.common.decode.as_deref())
        }
    };
    let found = SOURCES.iter().find(|known| known.name == plugin);
    let found = found.with_context(|| format!("there is no source plugin {plugin:?}"))?;
    let with = SourceBuild {
        name: source.unwrap_or("replay").into(),
        secrets: Arc::new(SystemSecrets { base_dir: loaded.base_dir.clone() }),
        decoder: decode.map(|path| lua_decoder(loaded, path)).transpose()?,
        base_dir: loaded.base_dir.clone(),
    };
    Ok((found.decoder)(&table, &with).map_err(anyhow::Error::from)?)
}

pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(match path.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file))),
        false => Box::new(BufReader::with_capacity(1 << 20, file)),
    })
}

fn is_store(path: &Path) -> Result<bool, Failure> {
    let mut head = [0; 16];
    let mut file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(file.read(&mut head)? == head.len() && head == *b"SQLite format 3\0")
}

fn arrival(body: &[u8], pointer: &str) -> Option<Timestamp> {
    let message: Value = serde_json::from_slice(body).ok()?;
    match message.pointer(pointer)? {
        Value::Number(number) => Timestamp::parse(&number.to_string()).ok(),
        Value::String(text) => Timestamp::parse(text).ok(),
        _ => None,
    }
}
