//! Hot reload: a changed configuration is built in full, takes effect at one journal position, and only then replaces
//! what it changes. Any error before that changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{ConditionKind, Seq, Severity, SmolStr, Subject};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::history::HistoryNeed;
use railwatch_script::ScriptStatus;
use railwatch_store::{AuditEntry, Generation, Store};
use railwatch_web::Site;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Http, Loaded};
use crate::documents::{EdgesChanged, ReloadReport};
use crate::host::HostOptions;
use crate::host::core::{Command, CoreHandle, Install};
use crate::host::edges::{Edges, Plan};
use crate::host::generation::{self, Built, Content};
use crate::host::journal::{Command as StoreCommand, Journal};
use crate::host::metrics::Metrics;
use crate::host::prices::Prices;
use crate::host::warm::{self, Warming};
use crate::host::watch::{DEBOUNCE, WATCHER, Watched};
use crate::host::web;
use crate::plugins::REGISTRIES;

/// A set of files that is still changing is read again, this often.
const ATTEMPTS_MAX: usize = 5;

/// How often the scripts in force are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A wish to reload.
#[derive(Debug)]
pub(crate) struct Reload {
    /// Who wishes it.
    pub(crate) by: SmolStr,
    /// The recorded generation to go back to; `None` reads the files.
    pub(crate) to: Option<u64>,
    /// What came of it: a report, or the diagnostics.
    pub(crate) done: Option<oneshot::Sender<Result<ReloadReport, String>>>,
}

/// Owns what a generation consists of outside the engine.
pub(crate) struct Reloader {
    pub(crate) options: HostOptions,
    pub(crate) store_path: PathBuf,
    /// Tells the watcher what to watch.
    pub(crate) watched: watch::Sender<Watched>,
    /// The digest of files that a rollback set aside: they take effect when they change or when somebody says so.
    pub(crate) held_back: Option<String>,
    /// How much history the rules in force need.
    pub(crate) need: HistoryNeed,
    pub(crate) core: CoreHandle,
    pub(crate) journal: Journal,
    pub(crate) prices: Arc<Prices>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) edges: Edges,
    pub(crate) site: Arc<Site>,
    pub(crate) running: Loaded,
    pub(crate) number: u64,
    pub(crate) cancel: CancellationToken,
}

impl Reloader {
    /// Records the first generation and starts its edges.
    pub(crate) async fn begin(mut self, plan: Plan) -> Self {
        self.record("start", &plan.summary()).await;
        let (number, digest) = (self.number, SmolStr::new(&self.running.digest));
        self.core.send(Command::Began { number, digest }).await;
        self.edges.carry_out(plan).await;
        self
    }

    /// Takes wishes until cancelled.
    pub(crate) async fn run(mut self, mut wishes: mpsc::Receiver<Reload>) {
        loop {
            let wish = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                wish = wishes.recv() => wish,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    self.look_at_scripts();
                    continue;
                }
            };
            let Some(Reload { by, to, done }) = wish else { return };
            let result = self.reload(&by, to).await;
            match &result {
                Ok(report) if by == WATCHER && !report.changed => {
                    tracing::debug!("files were written and say the same");
                }
                Ok(report) => tracing::info!(%by, ?report, "reloaded"),
                Err(diagnostics) => tracing::error!(%by, "reload failed, nothing changed\n{diagnostics}"),
            }
            if let Some(done) = done {
                // Whoever asked may have gone.
                drop(done.send(result));
            }
        }
    }

    /// Tells people of scripts that are not called any more, and of their return.
    fn look_at_scripts(&self) {
        let scripts = self.edges.status.borrow().scripts();
        let kind = ConditionKind::ScriptQuarantined;
        let is_out = |script: &&ScriptStatus| script.health == railwatch_script::Health::Quarantined;
        let name = |script: &ScriptStatus| format!("{}:{}", script.file, script.name);
        let out: Vec<String> = scripts.iter().filter(is_out).map(name).collect();
        self.edges.health.keep(kind, |_, about| out.iter().any(|name| name == about));
        for script in scripts.iter().filter(is_out) {
            let summary = format!(
                "{} keeps failing and is not called any more; `railwatch scripts` says why, an edit of it puts it back",
                script.file
            );
            self.edges.health.hold(Subject::Railwatch, kind, &name(script), Severity::High, summary);
        }
    }

    async fn reload(&mut self, by: &str, to: Option<u64>) -> Result<ReloadReport, String> {
        let outcome = match to {
            Some(number) => self.roll_back(by, number).await,
            None => self.reload_files(by).await,
        };
        self.metrics.reload_failing.set(i64::from(outcome.is_err()));
        match outcome {
            Ok(report) => {
                self.edges.health.over(&Subject::Railwatch, ConditionKind::ReloadFailed, "");
                self.metrics.reloads_ok.inc_by(u64::from(report.changed));
                Ok(report)
            }
            Err(diagnostics) => {
                self.metrics.reloads_failed.inc();
                // The file's text may hold what nobody should see in a chat; the diagnostics are in the log.
                let summary = format!(
                    "the changed configuration has errors, so generation {} stays in force; run `railwatch check`",
                    self.number
                );
                let kind = ConditionKind::ReloadFailed;
                self.edges.health.hold(Subject::Railwatch, kind, "", Severity::Medium, summary);
                let at = self.options.clock.now();
                let detail = json!({ "error": diagnostics });
                let (by, what) = (SmolStr::new(by), SmolStr::new_static("reload.failed"));
                let subject = self.options.config_path.display().to_string();
                self.journal.audit(AuditEntry { at, by, what, subject, detail }).await;
                Err(diagnostics)
            }
        }
    }

    /// Puts the files in force. What is wrong for a moment only, because it is being written, is not told.
    async fn reload_files(&mut self, by: &str) -> Result<ReloadReport, String> {
        let mut told = None;
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt_files(by).await {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => {}
                Err(diagnostics) if told.as_ref() == Some(&diagnostics) => return Err(diagnostics),
                Err(diagnostics) => told = Some(diagnostics),
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
        Err(told
            .unwrap_or_else(|| "the files never stopped changing; reload when they are complete".to_owned()))
    }

    /// All that can fail comes first. `None` if the files changed while they were being read.
    async fn attempt_files(&mut self, by: &str) -> Result<Option<ReloadReport>, String> {
        let loaded = load(&self.options)?;
        self.watched.send_replace(Watched::of(&loaded));
        let is_held = by == WATCHER && self.held_back.as_ref() == Some(&loaded.digest);
        let is_same = loaded.digest == self.running.digest && loaded.secrets == self.running.secrets;
        if is_held || is_same {
            return Ok(Some(ReloadReport { generation: Some(self.number), ..ReloadReport::default() }));
        }
        let prepared = self.prepare(&loaded)?;
        if !loaded.is_current(&self.options.config_path) {
            return Ok(None);
        }
        self.held_back = None;
        self.put_in_force(by, loaded, prepared).await.map(Some)
    }

    /// Puts a recorded generation in force again, under a new number. The files stay as they are.
    async fn roll_back(&mut self, by: &str, number: u64) -> Result<ReloadReport, String> {
        let options = config_options(&self.options);
        let loaded = Store::open_read_only(&self.store_path)
            .map_err(anyhow::Error::from)
            .and_then(|store| generation::recorded(&store, number, &self.running.base_dir, &options))
            .map_err(|error| error.to_string())?;
        let prepared = self.prepare(&loaded)?;
        let files = load(&self.options).ok().map(|files| files.digest);
        self.held_back = files.filter(|digest| *digest != loaded.digest);
        let mut report = self.put_in_force(by, loaded, prepared).await?;
        report.content_of = Some(number);
        Ok(report)
    }

    /// Builds everything that a configuration needs and is not running yet.
    fn prepare(&self, loaded: &Loaded) -> Result<(Built, Plan), String> {
        self.refuse_fixed_changes(loaded)?;
        let explain = |(section, error): (String, ConfigError)| {
            loaded.report(vec![loaded.diagnose(&section, &error)]).render(false)
        };
        let scripts = self.edges.status.borrow().scripts.clone();
        let running = generation::Running { loaded: &self.running, scripts: &scripts };
        let built = generation::build(loaded, self.number + 1, Some(running)).map_err(explain)?;
        Ok((built, self.edges.plan(loaded).map_err(explain)?))
    }

    async fn put_in_force(
        &mut self,
        by: &str,
        loaded: Loaded,
        (Built { generation, scripts }, plan): (Built, Plan),
    ) -> Result<ReloadReport, String> {
        let summary = plan.summary();
        let need = generation.rules.need();
        let warming = self.warm(&loaded, need).await;
        self.need = need;
        let replaced = std::mem::replace(&mut self.running, loaded);
        self.number += 1;
        // Recorded first: the journal must not name a generation that nobody can build again.
        self.record(by, &summary).await;
        let config = Arc::new(self.running.config.clone());
        self.prices.set(&config.prices, self.options.clock.now());
        let (done, in_force) = oneshot::channel();
        let install = Command::Install(Box::new(Install { generation, config, warming, done }));
        let stopping = || "railwatch is stopping".to_owned();
        if !self.core.send(install).await {
            return Err(stopping());
        }
        let retired = in_force.await.map_err(|_| stopping())?;
        // Hundreds of thousands of agents take a while to free.
        tokio::task::spawn_blocking(move || drop((retired, replaced)));
        self.edges.status.send_modify(|status| status.scripts = scripts);
        self.site.set_tokens(web::tokens(&self.running.config));
        self.edges.carry_out(plan).await;
        self.core.send(Command::Checkpoint { done: None }).await;
        Ok(ReloadReport { generation: Some(self.number), changed: true, edges: summary, content_of: None })
    }

    /// Fills windows that are longer than any before.
    async fn warm(&self, loaded: &Loaded, need: HistoryNeed) -> Option<Warming> {
        if !warm::is_needed(self.need, need) {
            return None;
        }
        let (path, now) = (self.store_path.clone(), self.options.clock.now());
        let directory = generation::directory(&loaded.config);
        let read = move || Warming::begin(Store::open_read_only(&path)?, directory, need, now, Seq::MAX);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(warming)) => Some(warming),
            Ok(Err(error)) => {
                tracing::warn!(%error, "windows of new rules fill up as payments come");
                None
            }
            Err(_) => None,
        }
    }

    /// Some keys are read once, at the start.
    fn refuse_fixed_changes(&self, loaded: &Loaded) -> Result<(), String> {
        let (old, new) = (&self.running.config, &loaded.config);
        // Tokens are not among them.
        let fixed = |config: &Config| Http { tokens: Vec::new(), ..config.http.clone() };
        let changed = [("store", old.store != new.store), ("http", fixed(old) != fixed(new))];
        match changed.iter().find(|(_, changed)| *changed) {
            Some((section, _)) => {
                let error =
                    ConfigError::new("", "takes effect only when railwatch is started again; restart it");
                Err(loaded.report(vec![loaded.diagnose(section, &error)]).render(false))
            }
            None => Ok(()),
        }
    }

    async fn record(&self, by: &str, outcome: &EdgesChanged) {
        let content = Content::of(&self.running).bounded();
        let generation = Generation {
            number: self.number,
            at: self.options.clock.now(),
            digest: SmolStr::new(&self.running.digest),
            content: serde_json::to_value(content).unwrap_or_default(),
            outcome: json!({ "by": by, "edges": outcome }),
        };
        self.journal.send(StoreCommand::Generation(generation)).await;
    }
}

fn config_options(options: &HostOptions) -> config::Options {
    config::Options { secrets: options.secrets.clone(), clock: options.clock.clone(), offline: false }
}

/// Reads and checks the configuration.
fn load(options: &HostOptions) -> Result<Loaded, String> {
    config::load_with(&options.config_path, &REGISTRIES, &config_options(options))
        .map_err(|diagnostics| diagnostics.render(false))
}
