//! `run`, `check`, `init`, `config`, `plugins`: everything about a configuration and running it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use railwatch_plugin::clock::SystemClock;
use railwatch_plugin::secret::SystemSecrets;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::cli::{EXIT_CONFIG, Failure, Out};
use crate::config::{self, Loaded};
use crate::host::{Host, HostOptions};
use crate::plugins::{DETECTORS, REGISTRIES, SINKS, SOURCES};

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to log: error, warn, info, debug, or a filter such as `info,railwatch=debug`.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
    /// Do not reload when files change.
    #[arg(long)]
    no_watch: bool,
}

/// Loads a configuration, or fails with its diagnostics.
pub(crate) fn load(path: &Path, offline: bool) -> Result<Loaded, Failure> {
    let options = config::Options { offline, ..config::Options::beside(path) };
    config::load_with(path, &REGISTRIES, &options).map_err(|diagnostics| Failure {
        code: EXIT_CONFIG,
        message: diagnostics.render(false).trim().to_owned(),
    })
}

/// The configuration of an empty file.
pub(crate) fn defaults() -> Result<Loaded, Failure> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    load(file.path(), true)
}

/// Sends logs to standard error, as text or as JSON.
pub(crate) fn start_logging(filter: &str, json: bool) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(anyhow::Error::from)?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second logger in one process (tests) keeps the first.
    drop(if json { logger.json().try_init() } else { logger.try_init() });
    Ok(())
}

/// Runs until a signal comes.
pub(crate) fn run(path: &Path, args: &RunArgs, out: &mut Out) -> Result<(), Failure> {
    start_logging(&args.log, out.is_json())?;
    let loaded = load(path, false)?;
    if !loaded.warnings.list.is_empty() {
        tracing::warn!("the configuration is probably not what is meant\n{}", loaded.warnings.render(false));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let secrets = Arc::new(SystemSecrets { base_dir: loaded.base_dir.clone() });
        let (config_path, clock) = (path.to_owned(), Arc::new(SystemClock));
        let options = HostOptions { config_path, clock, secrets, watch: !args.no_watch };
        let host = Host::start(loaded, options).await?;
        tracing::info!(address = %host.address(), "running");
        let signal = wait_for_signal(&host).await?;
        tracing::info!(signal, "stopping");
        let farewell = host.stop().await;
        tracing::info!(
            accepted = farewell.accepted,
            seq = farewell.seq,
            "stopped; everything accepted is stored"
        );
        if farewell.unfinished.is_empty() {
            return Ok(());
        }
        let message = format!("did not stop in time: {}", farewell.unfinished.join(", "));
        Err(Failure { code: super::EXIT_FAILURE, message })
    })
}

/// Waits for the signal to stop; SIGHUP reloads.
async fn wait_for_signal(host: &Host) -> Result<&'static str, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = hangup.recv() => host.reload("SIGHUP").await,
        }
    }
}

/// Checks a configuration.
pub(crate) fn check(path: &Path, offline: bool, out: &mut Out) -> Result<(), Failure> {
    let options = config::Options { offline, ..config::Options::beside(path) };
    match config::load_with(path, &REGISTRIES, &options) {
        Ok(loaded) => {
            out.document(&json!({ "ok": true, "digest": loaded.digest, "warnings": loaded.warnings }))?;
            if !loaded.warnings.list.is_empty() {
                out.line(loaded.warnings.render(out.color()))?;
            }
            let config = &loaded.config;
            out.line(format!(
                "{}: {} sources, {} sinks, {} agents",
                path.display(),
                config.sources.len(),
                config.sinks.len(),
                config.agents.len()
            ))
        }
        Err(diagnostics) => {
            out.document(&json!({ "ok": false, "errors": diagnostics }))?;
            Err(Failure { code: EXIT_CONFIG, message: diagnostics.render(out.color()).trim().to_owned() })
        }
    }
}

/// Writes a configuration to start from, never over an existing file.
pub(crate) fn init(path: &Path, out: &mut Out) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", path.display()))?;
    file.write_all(config::init().as_bytes())?;
    out.document(&json!({ "written": path }))?;
    out.line(format!("wrote {}; next: railwatch --config {} run", path.display(), path.display()))
}

/// Prints the schema.
pub(crate) fn schema(out: &mut Out) -> Result<(), Failure> {
    let schema = config::schema(&REGISTRIES);
    out.text(&serde_json::to_string_pretty(&schema).map_err(anyhow::Error::from)?)
}

/// Prints a configuration with its defaults.
pub(crate) fn show(path: &Path, resolved: bool, out: &mut Out) -> Result<(), Failure> {
    let loaded = load(path, true)?;
    let shown =
        if resolved { config::show_resolved(&loaded.config, &REGISTRIES) } else { loaded.show_written() };
    out.text(&shown)
}

/// Lists what is built in.
pub(crate) fn plugins(out: &mut Out) -> Result<(), Failure> {
    let sources = SOURCES.iter().map(|plugin| ("source", plugin.name, plugin.summary));
    let detectors = DETECTORS.iter().map(|plugin| ("detector", plugin.name, plugin.summary));
    let sinks = SINKS.iter().map(|plugin| ("sink", plugin.name, plugin.summary));
    let mut rows = Vec::new();
    for (kind, name, summary) in sources.chain(detectors).chain(sinks) {
        out.document(&json!({ "kind": kind, "name": name, "summary": summary }))?;
        rows.push(vec![kind.to_owned(), name.to_owned(), summary.to_owned()]);
    }
    out.table(&["kind", "name", "what it is"], &rows)
}
