//! `bench`: the whole path on this machine, with everything in one run so that ratios can be trusted.
//!
//! Payments are read from a file of JSON lines, decoded, deduplicated, made durable, judged by the detectors that ship,
//! scored, and turned into alerts, by the same host that `run` runs. The baselines are the same decoder alone, the
//! engine alone, and, where Python is at hand, the founding monitor on the same file.

mod load;

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
    /// The founding monitor, to be run on the same file.
    #[arg(long, default_value = "tests/bench/founding_monitor.py")]
    baseline: PathBuf,
}

/// Payments that the baseline gets at most: its cost grows with the window.
const BASELINE_EVENTS: u64 = 20_000;

/// Measures.
pub(crate) fn bench(args: &BenchArgs, out: &mut Out) -> Result<(), Failure> {
    run::start_logging("error", out.is_json())?;
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
                "decode_per_s": measured.decode, "engine_per_s": measured.engine, "whole_per_s": measured.whole,
                "bytes_per_agent": measured.bytes_per_agent, "restart_s": measured.restart_secs,
                "founding_per_s": baseline,
            }))?;
            rows.push(measured.row(*agents, window, baseline));
        }
    }
    out.table(
        &["agents", "window", "decode/s", "engine/s", "whole/s", "x founding", "bytes/agent", "restart s"],
        &rows,
    )
}

struct Measured {
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
        let (decode, engine, bytes_per_agent) = in_one_thread(&config, file)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (whole, restart_secs) = runtime.block_on(whole(&config, events))?;
        Ok(Self { decode, engine, whole, bytes_per_agent, restart_secs })
    }

    fn row(&self, agents: u32, window: &str, founding: f64) -> Vec<String> {
        let ratio = if founding > 0.0 { format!("{:.0}", self.whole / founding) } else { "-".to_owned() };
        vec![
            agents.to_string(),
            window.to_owned(),
            format!("{:.0}", self.decode),
            format!("{:.0}", self.engine),
            format!("{:.0}", self.whole),
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

/// The decoder alone, then decoder and engine, on one thread without a store: payments per second, and the memory that
/// an agent takes.
fn in_one_thread(config: &Path, file: &Path) -> Result<(f64, f64, f64), Failure> {
    let loaded = run::load(config, true)?;
    let source = loaded.config.sources.values().next();
    let table = source.map(|source| source.table.clone()).unwrap_or_default();
    let plugin = SOURCES.iter().find(|plugin| plugin.name == "file");
    let plugin = plugin.ok_or_else(|| anyhow::anyhow!("there is no file source"))?;
    let (secrets, base_dir) = (Arc::new(SystemSecrets), loaded.base_dir.clone());
    let with = SourceBuild { name: "load".into(), secrets, decoder: None, base_dir };
    let decoder = (plugin.decoder)(&table, &with).map_err(anyhow::Error::from)?;
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

/// The whole process: payments per second until everything is durable and judged, and seconds of a restart.
async fn whole(config: &Path, events: u64) -> Result<(f64, f64), Failure> {
    let clock = Arc::new(SystemClock);
    let start = async || -> Result<Host, Failure> {
        let options = HostOptions {
            config_path: config.to_owned(),
            clock: clock.clone(),
            secrets: Arc::new(SystemSecrets),
            watch: false,
        };
        Ok(Host::start(run::load(config, false)?, options).await?)
    };
    let started_at = clock.now();
    let host = start().await?;
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
    let host = start().await?;
    let restart = clock.now().since(started_at).as_secs_f64();
    host.stop().await;
    Ok((rate, restart))
}

/// The founding monitor's rate on the same file.
fn run_founding(args: &BenchArgs, file: &Path) -> Result<Option<f64>, Failure> {
    if !args.baseline.exists() {
        return Ok(None);
    }
    let events = args.events.min(BASELINE_EVENTS).to_string();
    let output = Command::new("python3")
        .arg(&args.baseline)
        .arg("offline")
        .arg(file)
        .args([events.as_str(), "900"])
        .output()
        .map_err(|error| anyhow::anyhow!("python3 cannot run the founding monitor: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.split_whitespace().zip(text.split_whitespace().skip(1)).find(|(_, next)| *next == "ev/s");
    Ok(rate.and_then(|(number, _)| number.parse().ok()))
}

fn per_second(events: u64, from: Timestamp, until: Timestamp) -> f64 {
    events as f64 / until.since(from).as_secs_f64().max(1e-9)
}

/// Memory of this process, from `/proc`; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
