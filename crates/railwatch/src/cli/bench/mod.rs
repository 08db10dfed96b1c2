//! `bench`: the whole path on this machine, with everything in one run so that ratios can be trusted.
//!
//! Payments are read from a file of JSON lines, decoded, deduplicated, made durable, judged by the detectors that ship,
//! scored, and turned into alerts, by the same host that `run` runs. The baselines are the time that `serde_json` takes to
//! read the same file into a tree, the decoder alone, the engine alone, without scripts and with the score and a rule in
//! Lua, and, where Python is at hand, the founding monitor on the same file. Then the way of one alarm is timed, from a
//! gate's socket to a chat's, under a steady load.

mod latency;
mod load;
mod memory;
mod one_thread;
mod scripts;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::secret::SystemSecrets;
use serde_json::json;

use self::memory::Memory;
use self::one_thread::OneThread;
use crate::cli::{Failure, Out, run};
use crate::host::{Host, HostOptions};

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
    /// Say what memory an engine takes for this file: how `bench` asks itself.
    #[arg(long, value_name = "FILE", hide = true)]
    memory_of: Option<PathBuf>,
    /// Remember hardly any payments.
    #[arg(long, requires = "memory_of", hide = true)]
    forget: bool,
    /// The founding monitor, to be run on the same file.
    #[arg(long, default_value = "tests/bench/founding_monitor.py")]
    baseline: PathBuf,
}

/// Seconds of processor time that the founding monitor gets: its cost grows while its window fills.
const FOUNDING_SECS: &str = "20";

/// Measures.
pub(crate) fn bench(args: &BenchArgs, out: &mut Out) -> Result<(), Failure> {
    run::start_logging("error", out.is_json())?;
    if let Some(file) = &args.memory_of {
        return memory::answer(file, args.forget, out);
    }
    if let Some(folder) = &args.scripts {
        return scripts::bench(args, folder, out);
    }
    let folder = tempfile::tempdir()?;
    let mut columns = Vec::new();
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
                "one_thread": measured.one_thread, "memory": measured.memory, "whole_per_s": measured.whole, "restart_s": measured.restart_secs,
                "founding_per_s": baseline,
            }))?;
            columns.push((format!("{agents} agents, {window}"), measured.cells(baseline)));
        }
    }
    let head: Vec<&str> = std::iter::once("").chain(columns.iter().map(|(head, _)| head.as_str())).collect();
    let first = columns.first().map(|(_, cells)| cells.iter().map(|(what, _)| *what)).into_iter().flatten();
    let rows: Vec<Vec<String>> = first
        .enumerate()
        .map(|(row, what)| {
            let cells = columns.iter().filter_map(|(_, cells)| cells.get(row)).map(|(_, cell)| cell.clone());
            std::iter::once(what.to_owned()).chain(cells).collect()
        })
        .collect();
    out.table(&head, &rows)?;
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

/// One column of the table.
struct Measured {
    one_thread: OneThread,
    memory: Memory,
    whole: f64,
    restart_secs: f64,
}

impl Measured {
    fn take(file: &Path, window: &str, events: u64) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("railwatch.toml");
        std::fs::write(&config, config_text(file, window))?;
        let memory = memory::measure(file)?;
        let one_thread = one_thread::measure(file, &config)?;
        let (whole, restart_secs) = runtime()?.block_on(whole(&config, events))?;
        Ok(Self { one_thread, memory, whole, restart_secs })
    }

    /// The lines of its column, with what they say.
    fn cells(&self, founding: f64) -> Vec<(&'static str, String)> {
        let OneThread { json_tree_per_s, decode_per_s, engine_per_s, engine_lua_per_s } = self.one_thread;
        let rate = |per_s: f64| format!("{:.0} k/s", per_s / 1e3);
        let by_tree =
            |per_s: f64| format!("{} = {:.2} x the tree", rate(per_s), per_s / json_tree_per_s.max(1.0));
        let by_founding =
            if founding > 0.0 { format!("{:.0} x", self.whole / founding) } else { "-".to_owned() };
        vec![
            ("one thread: JSON into trees", rate(json_tree_per_s)),
            ("one thread: decode", by_tree(decode_per_s)),
            ("one thread: engine", by_tree(engine_per_s)),
            ("one thread: engine, Lua score and rule", by_tree(engine_lua_per_s)),
            ("whole process, durable", by_tree(self.whole)),
            ("  beside the founding monitor", by_founding),
            ("memory of an agent", format!("{:.0} bytes", self.memory.bytes_per_agent)),
            ("memory of a remembered payment", format!("{:.0} bytes", self.memory.bytes_per_payment)),
            ("restart", format!("{:.2} s", self.restart_secs)),
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
    let rate = one_thread::per_second(events, clock.now().since(started_at));
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
