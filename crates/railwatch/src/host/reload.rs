//! Hot reload: a changed configuration is built in full, takes effect at one journal position, and only then replaces
//! what it changes. Any error before that changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use railwatch_model::{ConditionKind, Severity, SmolStr, Subject};
use railwatch_plugin::config::ConfigError;
use railwatch_store::{AuditEntry, Generation};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Loaded};
use crate::host::HostOptions;
use crate::host::core::{Command, CoreHandle};
use crate::host::edges::{Edges, Plan};
use crate::host::generation::{self, Built};
use crate::host::journal::{Command as StoreCommand, Journal};
use crate::host::metrics::Metrics;
use crate::host::prices::Prices;
use crate::plugins::REGISTRIES;

/// Editors write in several steps: files must be still for this long.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// A wish to reload.
#[derive(Debug)]
pub(crate) struct Reload {
    /// Who wishes it.
    pub(crate) by: SmolStr,
    /// What came of it: a report, or the diagnostics.
    pub(crate) done: Option<oneshot::Sender<Result<serde_json::Value, String>>>,
}

/// Owns what a generation consists of outside the engine.
pub(crate) struct Reloader {
    pub(crate) options: HostOptions,
    pub(crate) core: CoreHandle,
    pub(crate) journal: Journal,
    pub(crate) prices: Arc<Prices>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) edges: Edges,
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
            };
            let Some(Reload { by, done }) = wish else { return };
            let result = self.reload(&by).await;
            match &result {
                Ok(report) => tracing::info!(%by, %report, "reloaded"),
                Err(diagnostics) => tracing::error!(%by, "reload failed, nothing changed\n{diagnostics}"),
            }
            if let Some(done) = done {
                // Whoever asked may have gone.
                drop(done.send(result));
            }
        }
    }

    async fn reload(&mut self, by: &str) -> Result<serde_json::Value, String> {
        match self.attempt(by).await {
            Ok(report) => {
                self.edges.health.over(Subject::Railwatch, ConditionKind::ReloadFailed, "");
                self.metrics.reloads_ok.inc_by(u64::from(report["changed"] == true));
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

    /// All that can fail comes first.
    async fn attempt(&mut self, by: &str) -> Result<serde_json::Value, String> {
        let loaded = load(&self.options)?;
        if loaded.digest == self.running.digest {
            return Ok(json!({ "generation": self.number, "changed": false }));
        }
        self.refuse_fixed_changes(&loaded)?;
        let explain = |(section, error): (String, ConfigError)| {
            loaded.report(vec![loaded.diagnose(&section, &error)]).render(false)
        };
        let number = self.number + 1;
        let Built { generation, scripts } = generation::build(&loaded, number).map_err(explain)?;
        let plan = self.edges.plan(&loaded).map_err(explain)?;

        let config = Arc::new(loaded.config.clone());
        self.prices.set(&config.prices, self.options.clock.now());
        let (done, in_force) = oneshot::channel();
        let install = Command::Install { generation: Box::new(generation), config, done };
        if !self.core.send(install).await || in_force.await.is_err() {
            return Err("railwatch is stopping".to_owned());
        }
        self.running = loaded;
        self.number = number;
        let summary = plan.summary();
        self.record(by, &summary).await;
        self.edges.status.send_modify(|status| status.scripts = scripts);
        self.edges.carry_out(plan).await;
        // A later recovery must not apply old records with new settings: save the state under the new ones.
        self.core.send(Command::Checkpoint { done: None }).await;
        Ok(json!({ "generation": number, "changed": true, "edges": summary }))
    }

    /// Some keys are read once, at the start.
    fn refuse_fixed_changes(&self, loaded: &Loaded) -> Result<(), String> {
        let (old, new) = (&self.running.config, &loaded.config);
        let changed = [("store", old.store != new.store), ("http", old.http != new.http)];
        match changed.iter().find(|(_, changed)| *changed) {
            Some((section, _)) => {
                let error =
                    ConfigError::new("", "takes effect only when railwatch is started again; restart it");
                Err(loaded.report(vec![loaded.diagnose(section, &error)]).render(false))
            }
            None => Ok(()),
        }
    }

    async fn record(&self, by: &str, outcome: &serde_json::Value) {
        let files = self
            .running
            .sources_text()
            .iter()
            .map(|file| json!({ "path": file.path.display().to_string(), "text": file.text }));
        let generation = Generation {
            number: self.number,
            at: self.options.clock.now(),
            digest: SmolStr::new(&self.running.digest),
            content: files.collect(),
            outcome: json!({ "by": by, "edges": outcome }),
        };
        self.journal.send(StoreCommand::Generation(generation)).await;
    }
}

/// Reads and checks the configuration.
fn load(options: &HostOptions) -> Result<Loaded, String> {
    let with =
        config::Options { secrets: options.secrets.clone(), clock: options.clock.clone(), offline: false };
    config::load_with(&options.config_path, &REGISTRIES, &with)
        .map_err(|diagnostics| diagnostics.render(false))
}

/// Wishes for a reload when a file changes. Folders are watched rather than files, because editors replace files.
pub(crate) async fn watch(files: Vec<PathBuf>, wishes: mpsc::Sender<Reload>, cancel: CancellationToken) {
    let (sender, mut changes) = mpsc::channel(1);
    let mut folders: BTreeSet<PathBuf> =
        files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
    let beside = files.first().and_then(|file| file.parent()).map(|folder| folder.join("conf.d"));
    folders.extend(beside.filter(|folder| folder.is_dir()));
    let on_change = move |event: notify::Result<notify::Event>| {
        let is_change = event
            .is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| is_config(path)));
        if is_change {
            // A full channel already says that something changed.
            sender.try_send(()).ok();
        }
    };
    let watcher = RecommendedWatcher::new(on_change, notify::Config::default()).and_then(|mut watcher| {
        folders.iter().try_for_each(|folder| {
            let folder = if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder };
            watcher.watch(folder, RecursiveMode::NonRecursive)
        })?;
        Ok(watcher)
    });
    let _watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; use `railwatch reload` or SIGHUP");
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        while let Ok(Some(())) = tokio::time::timeout(DEBOUNCE, changes.recv()).await {}
        let wish = Reload { by: SmolStr::new_static("watcher"), done: None };
        if wishes.send(wish).await.is_err() {
            return;
        }
    }
}

fn is_config(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml" || extension == "lua")
}
