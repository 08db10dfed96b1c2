//! `bench`: the whole path on this machine, with everything in one run so that ratios can be trusted.
//!
//! Payments are read from a file of JSON lines, decoded, deduplicated, made durable, judged by the detectors that ship,
//! scored, and turned into alerts, by the same host that `run` runs. The baselines are the time that `serde_json` takes to
//! read the same file into a tree, the decoder alone, the engine alone, and, where Python is at hand, the founding monitor
//! on the same file. Then the way of one alarm is timed,
//! from a gate's socket to a chat's, under a steady load.

mod latency;
mod load;
mod scripts;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use railwatch_engine::{Accepted, Effects, Engine};
use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::secret::SystemSecrets;
use railwatch_plugin::source::SourceBuild;
use serde_json::json;

use crate::cli::{Failure, Out, run};
use crate::config::Loaded;
use crate::host::{Host, HostOptions, Prices, build_generation};
use crate::plugins::SOURCES;

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Payments.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Agents; several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 400_000])]
    agents: Vec<u32>,
    /// The velocity detector's windows.
    #[arg(long, value_delimiter = ',', default_values_t = ["15m".to_owned(), "24h".to_owned()])]
    windows: Vec<String>,
    /// Measure what the scripts of this folder cost instead: `score.lua`, and the first ten of its rules.
    #[arg(long, value_name = "FOLDER")]
    scripts: Option<PathBuf>,
    /// The founding monitor, to be run on the same file.
    #[arg(long, default_value = "tests/bench/founding_monitor.py")]
    baseline: PathBuf,
}

/// Seconds of processor time that the founding monitor gets: its cost grows while its window fills.
const FOUNDING_SECS: &str = "20";

/// Measures.
pub(crate) fn bench(args: &BenchArgs, out: &mut Out) -> Result<(), Failure> {
    run::start_logging("error", out.is_json())?;
    if let Some(folder) = &args.scripts {
        return scripts::bench(args, folder, out);
    }
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    let mut founding: Option<f64> = None;
    for agents in &args.agents {
        let file = folder.path().join(format!("load-{agents}.jsonl"));
        load::write(&file, args.events, *agents)?;
        let baseline = match founding {
            Some(known) => known,
            None => *founding.insert(run_founding(args, &file)?.unwrap_or(0.0)),
        };
        for window in &args.windows {
            let measured = Measured::take(&file, window, args.events)?;
            out.document(&json!({
                "agents": agents, "window": window, "events": args.events,
                "json_tree_per_s": measured.tree, "decode_per_s": measured.decode, "engine_per_s": measured.engine, "whole_per_s": measured.whole,
                "bytes_per_agent": measured.bytes_per_agent, "restart_s": measured.restart_secs,
                "founding_per_s": baseline,
            }))?;
            rows.push(measured.row(*agents, window, baseline));
        }
    }
    out.table(
        &[
            "agents",
            "window",
            "JSON tree/s",
            "decode/s",
            "engine/s",
            "whole/s",
            "x JSON tree",
            "x founding",
            "bytes/agent",
            "restart s",
        ],
        &rows,
    )?;
    let measured = runtime()?.block_on(latency::measure())?;
    out.document(&json!({ "load_per_s": latency::RATE, "latency": measured }))?;
    let row = |what: &str, quantiles: latency::Quantiles| {
        vec![what.to_owned(), format!("{:.2}", quantiles.p50), format!("{:.2}", quantiles.p99)]
    };
    out.line(format!("\nLatency at {} payments per second, in milliseconds:", latency::RATE))?;
    out.table(
        &["way", "p50", "p99"],
        &[
            row("gate's socket \u{2192} railwatch (durable) \u{2192} Slack's socket", measured.notice_ms),
            row("a POST to the same Slack, without railwatch", measured.post_ms),
            row("a sync of one page to the same disk; an alarm takes two", measured.sync_ms),
        ],
    )
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

struct Measured {
    tree: f64,
    decode: f64,
    engine: f64,
    whole: f64,
    bytes_per_agent: f64,
    restart_secs: f64,
}

impl Measured {
    fn take(file: &Path, window: &str, events: u64) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("railwatch.toml");
        std::fs::write(&config, config_text(file, window))?;
        let tree = json_tree(file)?;
        let (decode, engine, bytes_per_agent) = in_one_thread(&config, file)?;
        let (whole, restart_secs) = runtime()?.block_on(whole(&config, events))?;
        Ok(Self { tree, decode, engine, whole, bytes_per_agent, restart_secs })
    }

    fn row(&self, agents: u32, window: &str, founding: f64) -> Vec<String> {
        let ratio = if founding > 0.0 { format!("{:.0}", self.whole / founding) } else { "-".to_owned() };
        vec![
            agents.to_string(),
            window.to_owned(),
            format!("{:.0}", self.tree),
            format!("{:.0}", self.decode),
            format!("{:.0}", self.engine),
            format!("{:.0}", self.whole),
            format!("{:.2}", self.whole / self.tree.max(1.0)),
            ratio,
            format!("{:.0}", self.bytes_per_agent),
            format!("{:.2}", self.restart_secs),
        ]
    }
}

fn config_text(file: &Path, window: &str) -> String {
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"bench.db\"\n[sources.load]\nplugin = \"file\"\npath = {:?}\n\
         [detectors.velocity]\nwindow = {window:?}\n[sinks.file]\nplugin = \"file\"\npath = \"notices.jsonl\"\n",
        file.display().to_string()
    )
}

/// What a core of this machine needs to read the payments into JSON trees and drop them: events per second.
fn json_tree(file: &Path) -> Result<f64, Failure> {
    let text = std::fs::read(file)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let started_at = SystemClock.now();
    let mut n_events = 0;
    for line in lines {
        let tree: serde_json::Value = serde_json::from_slice(line).map_err(anyhow::Error::from)?;
        n_events += u64::from(tree.is_object());
    }
    Ok(per_second(n_events, started_at, SystemClock.now()))
}

/// The decoder alone, then decoder and engine, on one thread without a store: payments per second, and the memory that
/// an agent takes.
fn in_one_thread(config: &Path, file: &Path) -> Result<(f64, f64, f64), Failure> {
    let loaded = run::load(config, true)?;
    let decoder = load_decoder(&loaded)?;
    let text = std::fs::read(file)?;
    let clock = SystemClock;

    let started_at = clock.now();
    let mut n_decoded = 0_u64;
    for_each_chunk(&text, &*decoder, |decoded, _| n_decoded += decoded.payments.len() as u64);
    let decode = per_second(n_decoded, started_at, clock.now());

    let before = resident_bytes();
    let mut engine = Engine::new([0; 16], build_generation(&loaded, 1)?.generation);
    let prices = Prices::default();
    let started_at = clock.now();
    for_each_chunk(&text, &*decoder, |mut decoded, now| {
        for payment in &mut decoded.payments {
            payment.valuation = prices.value(&payment.amount, now);
            payment.observed_at = payment.occurred_at;
        }
        let mut accepted = Accepted::default();
        engine.admit(now, decoded.payments, &mut accepted);
        engine.apply(1, &accepted.into_record(now), &mut Effects::default());
    });
    let rate = per_second(n_decoded, started_at, clock.now());
    let bytes = resident_bytes().saturating_sub(before) as f64 / engine.subjects_len().max(1) as f64;
    Ok((decode, rate, bytes))
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

/// Decodes a file in pieces of about a thousand lines.
fn for_each_chunk(text: &[u8], decoder: &dyn Decoder, mut each: impl FnMut(Decoded, Timestamp)) {
    const CHUNK_LEN: usize = 256 << 10;
    let mut rest = text;
    while !rest.is_empty() {
        let at_most = rest.len().min(CHUNK_LEN);
        let end = rest[..at_most].iter().rposition(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (body, tail) = rest.split_at(end);
        let mut decoded = Decoded::default();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            decoder
                .decode(&Message { body: line, headers: None, received_at: Timestamp::EPOCH }, &mut decoded);
        }
        let now = decoded.payments.iter().map(|payment| payment.occurred_at).max().unwrap_or_default();
        each(decoded, now);
        rest = tail;
    }
}

/// A railwatch in this process.
async fn start(config: &Path, clock: &Arc<SystemClock>) -> Result<Host, Failure> {
    let loaded = run::load(config, false)?;
    let secrets = Arc::new(SystemSecrets { base_dir: loaded.base_dir.clone() });
    let options = HostOptions { config_path: config.to_owned(), clock: clock.clone(), secrets, watch: false };
    Ok(Host::start(loaded, options).await?)
}

/// The whole process: payments per second until everything is durable and judged, and seconds of a restart.
async fn whole(config: &Path, events: u64) -> Result<(f64, f64), Failure> {
    let clock = Arc::new(SystemClock);
    let started_at = clock.now();
    let host = start(config, &clock).await?;
    let patience = Duration::from_secs(120 + events / 10_000);
    while host.processed() < events {
        if clock.now().since(started_at) > patience {
            return Err(
                anyhow::anyhow!("{} of {events} payments after {patience:?}", host.processed()).into()
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = per_second(events, started_at, clock.now());
    host.stop().await;
    let started_at = clock.now();
    let host = start(config, &clock).await?;
    let restart = clock.now().since(started_at).as_secs_f64();
    host.stop().await;
    Ok((rate, restart))
}

/// The founding monitor's rate on the same file, once it has filled what it can of its window.
fn run_founding(args: &BenchArgs, file: &Path) -> Result<Option<f64>, Failure> {
    if !args.baseline.exists() {
        return Ok(None);
    }
    let output = Command::new("python3")
        .arg(&args.baseline)
        .arg("offline")
        .arg(file)
        .args([FOUNDING_SECS, "900"])
        .output()
        .map_err(|error| anyhow::anyhow!("python3 cannot run the founding monitor: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let rate = words.windows(2).rev().find(|pair| pair[1] == "ev/s").map(|pair| pair[0]);
    Ok(rate.and_then(|number| number.parse().ok()))
}

fn per_second(events: u64, from: Timestamp, until: Timestamp) -> f64 {
    events as f64 / until.since(from).as_secs_f64().max(1e-9)
}

/// Memory of this process, from `/proc`; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
