//! What single threads need for their parts of the work, in processor time, so that others on the machine do not count.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use railwatch_engine::{Accepted, Effects, Engine};
use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::secret::SystemSecrets;
use railwatch_plugin::source::SourceBuild;
use serde::Serialize;

use crate::cli::{Failure, run};
use crate::config::Loaded;
use crate::host::{Prices, build_generation};
use crate::plugins::SOURCES;

/// The score and the rule that users find in `scripts`.
const SCORE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/score.lua"));
const RULE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/rules/night_drain.lua"));

/// Payments per second of processor time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct OneThread {
    /// `serde_json` reads the lines into trees and drops them.
    pub(super) json_tree_per_s: f64,
    /// The decoder makes payments of them.
    pub(super) decode_per_s: f64,
    /// The engine admits and applies the payments, with all detectors and the built-in score.
    pub(super) engine_per_s: f64,
    /// The same with the score and one rule in Lua.
    pub(super) engine_lua_per_s: f64,
}

/// Measures the payments of a file, as a configuration decodes and judges them.
pub(super) fn measure(file: &Path, config: &Path) -> Result<OneThread, Failure> {
    let text = std::fs::read(file)?;
    let loaded = run::load(config, true)?;
    let decoder = load_decoder(&loaded)?;
    let (mut n_trees, mut n_decoded) = (0_u64, 0);
    let reading = timed(|| {
        for line in lines(&text) {
            let tree: Result<serde_json::Value, _> = serde_json::from_slice(line);
            n_trees += u64::from(tree.is_ok_and(|tree| tree.is_object()));
        }
    });
    let decoding =
        timed(|| for_each_chunk(&text, &*decoder, |decoded, _| n_decoded += decoded.payments.len() as u64));
    let folder = tempfile::tempdir()?;
    let with_lua = run::load(&with_lua(folder.path(), config)?, true)?;
    Ok(OneThread {
        json_tree_per_s: per_second(n_trees, reading),
        decode_per_s: per_second(n_decoded, decoding),
        engine_per_s: engine_per_s(&loaded, &text)?.0,
        engine_lua_per_s: engine_per_s(&with_lua, &text)?.0,
    })
}

/// The same configuration with a score and a rule in Lua.
fn with_lua(folder: &Path, config: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder.join("rules"))?;
    std::fs::write(folder.join("score.lua"), SCORE)?;
    std::fs::write(folder.join("rules/night_drain.lua"), RULE)?;
    let scripts = "[score]\nscript = \"score.lua\"\n[rules]\npaths = [\"rules\"]\n";
    let path = folder.join("railwatch.toml");
    std::fs::write(&path, std::fs::read_to_string(config)? + scripts)?;
    Ok(path)
}

/// Payments per second of the engine alone, and the engine; decoding is not counted.
pub(super) fn engine_per_s(loaded: &Loaded, text: &[u8]) -> Result<(f64, Engine), Failure> {
    let decoder = load_decoder(loaded)?;
    let mut engine = Engine::new([0; 16], build_generation(loaded, 1)?.generation);
    let prices = Prices::default();
    let (mut n_payments, mut spent) = (0, Duration::ZERO);
    for_each_chunk(text, &*decoder, |mut decoded, now| {
        for payment in &mut decoded.payments {
            payment.valuation = prices.value(&payment.amount, now);
            payment.observed_at = payment.occurred_at;
        }
        n_payments += decoded.payments.len() as u64;
        spent += timed(|| {
            let mut accepted = Accepted::default();
            engine.admit(now, decoded.payments, &mut accepted);
            engine.apply(1, &accepted.into_record(now), &mut Effects::default());
        });
    });
    Ok((per_second(n_payments, spent), engine))
}

/// The decoder of the one source.
fn load_decoder(loaded: &Loaded) -> Result<Arc<dyn Decoder>, Failure> {
    let source = loaded.config.sources.values().next();
    let table = source.map(|source| source.table.clone()).unwrap_or_default();
    let plugin = SOURCES.iter().find(|plugin| plugin.name == "file");
    let plugin = plugin.ok_or_else(|| anyhow::anyhow!("there is no file source"))?;
    let (secrets, base_dir) = (Arc::new(SystemSecrets::default()), loaded.base_dir.clone());
    let with = SourceBuild { name: "load".into(), secrets, decoder: None, base_dir };
    Ok((plugin.decoder)(&table, &with).map_err(anyhow::Error::from)?)
}

/// The lines of a file that are not empty.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Decodes a file in pieces of about a thousand lines.
fn for_each_chunk(text: &[u8], decoder: &dyn Decoder, mut each: impl FnMut(Decoded, Timestamp)) {
    const CHUNK_LEN: usize = 256 << 10;
    let mut rest = text;
    while !rest.is_empty() {
        let at_most = rest.len().min(CHUNK_LEN);
        let end = rest[..at_most].iter().rposition(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (body, tail) = rest.split_at(end);
        let mut decoded = Decoded::default();
        for line in lines(body) {
            decoder
                .decode(&Message { body: line, headers: None, received_at: Timestamp::EPOCH }, &mut decoded);
        }
        let now = decoded.payments.iter().map(|payment| payment.occurred_at).max().unwrap_or_default();
        each(decoded, now);
        rest = tail;
    }
}

/// The processor time that this thread needs for something.
fn timed(work: impl FnOnce()) -> Duration {
    let started = processor_time();
    work();
    processor_time().saturating_sub(started)
}

/// What this thread has used of a processor; the time where the system does not say.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| SystemClock.now().since(Timestamp::EPOCH), Duration::from_nanos)
}

pub(super) fn per_second(events: u64, spent: Duration) -> f64 {
    events as f64 / spent.as_secs_f64().max(1e-9)
}
