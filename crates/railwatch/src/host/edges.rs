//! The edges of the process: sources and sinks, each in a task of its own, started and stopped as the configuration
//! says. What did not change is not touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{ConditionKind, Severity, SmolStr, Subject};
use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::secret::{Secrets, SystemSecrets};
use railwatch_plugin::sink::{Dispatch, Receipt, Sink, SinkBuild};
use railwatch_plugin::source::{
    Cursor, Intake, Phase, Source, SourceBuild, SourceContext, SourceError, SourceStatus, StatusHandle,
    Submission,
};
use railwatch_script::Files;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Loaded, Positive, RateLimit, SecretMark, SinkConfig, SourceConfig, below, entry_path};
use crate::documents::EdgesChanged;
use crate::host::Status;
use crate::host::actions::{Actions, test_notice};
use crate::host::callbacks::{self, Proofs};
use crate::host::core::CoreHandle;
use crate::host::delivery::{self, Delivery};
use crate::host::digest;
use crate::host::health::Health;
use crate::host::http::Mounts;
use crate::host::journal::Journal;
use crate::host::metrics::Metrics;
use crate::host::pace::Bucket;
use crate::host::scripts::{self, CompiledDecoder};
use crate::host::sight::Sight;
use crate::host::supervisor::Supervisor;
use crate::plugins;

/// The first pause before a source is started again; it doubles up to the longest.
const RESTART_FIRST: Duration = Duration::from_millis(250);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A source that ran this long starts with the first pause again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// More messages than this nobody reads: what waits beyond is told together.
const READABLE: RateLimit = RateLimit { n: 20, per: Duration::from_secs(60) };

/// Everything that runs at the edges, and what it takes to run more.
#[derive(Debug)]
pub(crate) struct Edges {
    pub(crate) supervisor: Supervisor,
    pub(crate) core: CoreHandle,
    pub(crate) intake: mpsc::Sender<Submission>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) inlets: CancellationToken,
    pub(crate) outlets: CancellationToken,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) link: Option<String>,
    pub(crate) actions: Actions,
    pub(crate) sources: BTreeMap<SmolStr, Running<SourceConfig>>,
    pub(crate) sinks: BTreeMap<SmolStr, Running<SinkConfig>>,
    pub(crate) callbacks: Option<Running<callbacks::Settings>>,
    pub(crate) digests: Option<Running<digest::Settings>>,
}

/// What an edge was built from besides its own table: when none of it changed, the edge is not touched.
#[derive(Debug, Clone, PartialEq)]
struct Origin<C> {
    config: C,
    decoder: Files,
    secrets: SecretMark,
}

/// A task and what it was built from.
#[derive(Debug)]
pub(crate) struct Running<C> {
    origin: Origin<C>,
    scripts: Option<railwatch_script::StatusHandle>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    status: Option<watch::Receiver<SourceStatus>>,
}

/// Sources and sinks that are built and not yet started, and those that must end. Making it is the part that can fail.
pub(crate) struct Plan {
    sources: BTreeMap<SmolStr, PlannedSource>,
    sinks: BTreeMap<SmolStr, (Origin<SinkConfig>, Box<dyn Sink>)>,
    ending_sources: Vec<SmolStr>,
    ending_sinks: Vec<SmolStr>,
    /// The chats that are heard, if that has changed.
    callbacks: Option<(Origin<callbacks::Settings>, Proofs)>,
    digests: digest::Settings,
    base_dir: PathBuf,
}

struct PlannedSource {
    origin: Origin<SourceConfig>,
    decoder: Option<CompiledDecoder>,
    source: Box<dyn Source>,
}

type BuildError = (String, ConfigError);

impl Plan {
    /// True if the sink itself drops a second delivery.
    pub(crate) fn is_idempotent(&self, sink: &str) -> bool {
        self.sinks.get(sink).is_some_and(|(_, sink)| sink.is_idempotent())
    }

    /// What starts and what ends.
    pub(crate) fn summary(&self) -> EdgesChanged {
        EdgesChanged {
            sources_started: self.sources.keys().cloned().collect(),
            sources_ended: self.ending_sources.to_vec(),
            sinks_started: self.sinks.keys().cloned().collect(),
            sinks_ended: self.ending_sinks.to_vec(),
        }
    }
}

impl Edges {
    /// Builds what a configuration needs and is not running yet. Touches nothing that runs.
    pub(crate) fn plan(&self, loaded: &Loaded) -> Result<Plan, BuildError> {
        let base_dir = loaded.base_dir.clone();
        let wanted_sources = loaded.config.sources.iter().filter(|(_, source)| source.common.enabled);
        let wanted_sinks = loaded.config.sinks.iter().filter(|(_, sink)| sink.common.enabled);
        let (mut sources, mut sinks) = (BTreeMap::new(), BTreeMap::new());
        let secrets = |section: &str, name: &SmolStr| {
            loaded.secrets.get(&entry_path(section, name)).copied().unwrap_or_default()
        };
        for (name, config) in wanted_sources.clone() {
            let decode = config.common.decode.as_deref();
            let decoder = decode.map_or_else(Files::new, |path| below(&loaded.scripts, path));
            let origin = Origin { config: config.clone(), decoder, secrets: secrets("sources", name) };
            let running = self.sources.get(name);
            if running.is_none_or(|running| running.origin != origin || running.task.is_finished()) {
                let section = format!("sources.{name}");
                let earlier = running
                    .and_then(|running| running.scripts.as_ref())
                    .map_or(&[][..], std::slice::from_ref);
                let compile = |path| scripts::decoder(&loaded.scripts, &section, path, earlier);
                let decoder = decode.map(compile).transpose()?;
                let compiled = decoder.as_ref().map(|compiled| compiled.decoder.clone());
                let source = build_source(name, config, compiled, &self.secrets, &base_dir)?;
                sources.insert(name.clone(), PlannedSource { origin, decoder, source });
            }
        }
        for (name, config) in wanted_sinks.clone() {
            let origin =
                Origin { config: config.clone(), decoder: Files::new(), secrets: secrets("sinks", name) };
            if self.sinks.get(name).is_none_or(|running| running.origin != origin) {
                sinks.insert(name.clone(), (origin, self.build_sink(name, config, &base_dir)?));
            }
        }
        let is_wanted = |name: &&SmolStr| wanted_sources.clone().any(|(wanted, _)| wanted == *name);
        let ends = |name: &&SmolStr| !is_wanted(name) || sources.contains_key(*name);
        let ending_sources = self.sources.keys().filter(ends).cloned().collect();
        let is_wanted = |name: &&SmolStr| wanted_sinks.clone().any(|(wanted, _)| wanted == *name);
        let ends = |name: &&SmolStr| !is_wanted(name) || sinks.contains_key(*name);
        let ending_sinks = self.sinks.keys().filter(ends).cloned().collect();
        let callbacks = self.plan_callbacks(loaded)?;
        let digests = digest::Settings::of(&loaded.config);
        Ok(Plan { sources, sinks, ending_sources, ending_sinks, callbacks, digests, base_dir })
    }

    fn plan_callbacks(
        &self,
        loaded: &Loaded,
    ) -> Result<Option<(Origin<callbacks::Settings>, Proofs)>, BuildError> {
        let (callbacks, people) = (loaded.config.callbacks.clone(), loaded.config.people.clone());
        let config = callbacks::Settings { callbacks, people };
        let proofs = Proofs::new(&config, &self.secrets)?;
        let origin = Origin { config, decoder: Files::new(), secrets: SecretMark::default() };
        let is_known = match &self.callbacks {
            Some(running) => running.origin == origin,
            None => proofs.is_empty(),
        };
        Ok((!is_known).then_some((origin, proofs)))
    }

    async fn start_callbacks(&mut self, origin: Origin<callbacks::Settings>, proofs: Proofs) {
        end(self.callbacks.take()).await;
        self.mounts.unmount(&callbacks::OWNER);
        if proofs.is_empty() {
            return;
        }
        let cancel = self.inlets.child_token();
        let desk = callbacks::Desk::new(origin.config.clone(), self.actions.clone());
        let run = desk.run(proofs, self.mounts.clone(), cancel.clone());
        let task = self.supervisor.spawn("callbacks", run);
        self.callbacks = Some(Running { origin, scripts: None, cancel, task, status: None });
    }

    async fn start_digests(&mut self, config: digest::Settings) {
        if self.digests.as_ref().is_some_and(|running| running.origin.config == config) {
            return;
        }
        end(self.digests.take()).await;
        let digests = digest::Digests { settings: config.clone(), actions: self.actions.clone() };
        self.status.send_modify(|status| status.digests = Some(digests.clone()));
        if config.is_empty() {
            return;
        }
        let cancel = self.inlets.child_token();
        let task = self.supervisor.spawn("digests", digests.run(cancel.clone()));
        let origin = Origin { config, decoder: Files::new(), secrets: SecretMark::default() };
        self.digests = Some(Running { origin, scripts: None, cancel, task, status: None });
    }

    /// Carries a plan out: ends what must end, then starts what is new.
    pub(crate) async fn carry_out(&mut self, plan: Plan) {
        for name in &plan.ending_sources {
            end(self.sources.remove(name)).await;
            if !plan.sources.contains_key(name) {
                self.mounts.unmount(name);
            }
        }
        for name in &plan.ending_sinks {
            end(self.sinks.remove(name)).await;
            if !plan.sinks.contains_key(name) {
                self.bury(name.clone()).await;
            }
        }
        for (name, (origin, sink)) in plan.sinks {
            self.start_sink(name, origin, sink);
        }
        for (name, planned) in plan.sources {
            self.start_source(name, planned, plan.base_dir.clone());
        }
        self.start_digests(plan.digests).await;
        if let Some((origin, proofs)) = plan.callbacks {
            self.start_callbacks(origin, proofs).await;
        }
        let sources =
            self.sources.iter().filter_map(|(name, running)| Some((name.clone(), running.status.clone()?)));
        let (sources, sinks) = (sources.collect(), self.sinks.keys().cloned().collect());
        let hearts = self.sinks.iter().filter(|(_, sink)| sink.origin.config.is_heartbeat());
        let hearts = hearts.map(|(name, _)| name.clone()).collect();
        self.health.keep(
            ConditionKind::RailBlind,
            |subject, _| matches!(subject, Subject::Source(name) if self.sources.contains_key(name)),
        );
        self.health.keep(ConditionKind::SinkFailing, |_, sink| self.sinks.contains_key(sink));
        let decoders = self.sources.values().filter_map(|running| running.scripts.clone()).collect();
        self.status.send_modify(|status| {
            status.sources = sources;
            status.sinks = sinks;
            status.hearts = hearts;
            status.decoders = decoders;
        });
    }

    /// Gives up what waits for a sink that is no longer configured, so that it shows among the dead letters.
    async fn bury(&self, sink: SmolStr) {
        let now = self.clock.now();
        let buried =
            self.journal.run(move |store| store.bury_sink(&sink, now, "the sink is no longer configured"));
        if let Some(Err(error)) = buried.await {
            tracing::error!(%error, "notices of a removed sink cannot be given up");
        }
    }

    fn build_sink(
        &self,
        name: &SmolStr,
        config: &SinkConfig,
        base_dir: &std::path::Path,
    ) -> Result<Box<dyn Sink>, BuildError> {
        build_sink(name, config, self.secrets.clone(), self.clock.clone(), base_dir)
    }

    fn start_sink(&mut self, name: SmolStr, origin: Origin<SinkConfig>, sink: Box<dyn Sink>) {
        if let Some(every) = sink.beats_every() {
            let cancel = self.inlets.child_token();
            let (core, metrics) = (self.core.clone(), self.metrics.clone());
            let beat = delivery::beat(name.clone(), sink, every, core, metrics, cancel.clone());
            let task = self.supervisor.spawn(format!("sink {name}"), beat);
            self.sinks.insert(name, Running { origin, scripts: None, cancel, task, status: None });
            return;
        }
        let cancel = self.outlets.child_token();
        let limit = origin.config.common.rate_limit.or(sink.gathers().then_some(READABLE));
        let bucket = limit.map(|limit| Bucket::new(limit, self.clock.now()));
        let delivery = Delivery {
            name: name.clone(),
            sink,
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            link: self.link.clone(),
            bucket,
            cancel: cancel.clone(),
        };
        let task = self.supervisor.spawn(format!("sink {name}"), delivery.run());
        self.sinks.insert(name, Running { origin, scripts: None, cancel, task, status: None });
    }

    fn start_source(&mut self, name: SmolStr, planned: PlannedSource, base_dir: PathBuf) {
        let PlannedSource { origin, decoder, source } = planned;
        let scripts = decoder.as_ref().map(|compiled| compiled.status.clone());
        let cancel = self.inlets.child_token();
        let (handle, status) = StatusHandle::new();
        let sight = Sight {
            source: name.clone(),
            health: self.health.clone(),
            clock: self.clock.clone(),
            status: status.clone(),
            patience: origin.config.common.blind_after.map(|Positive(after)| after),
        };
        let supervised = SupervisedSource {
            name: name.clone(),
            config: origin.config.clone(),
            decoder: decoder.map(|compiled| compiled.decoder),
            base_dir,
            intake: Intake::new(name.clone(), self.intake.clone()),
            mounts: self.mounts.clone(),
            clock: self.clock.clone(),
            secrets: self.secrets.clone(),
            journal: self.journal.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            cancel: cancel.clone(),
            status: handle,
        };
        let task = self.supervisor.spawn(format!("source {name}"), supervised.run(source, sight));
        self.sources.insert(name, Running { origin, scripts, cancel, task, status: Some(status) });
    }
}

/// Builds a sink from its block.
fn build_sink(
    name: &SmolStr,
    config: &SinkConfig,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    base_dir: &std::path::Path,
) -> Result<Box<dyn Sink>, BuildError> {
    let section = format!("sinks.{name}");
    let plugin = plugins::SINKS.iter().find(|plugin| plugin.name == config.plugin);
    let plugin =
        plugin.ok_or_else(|| (section.clone(), ConfigError::new("plugin", "there is no such sink")))?;
    let with = SinkBuild { name: name.clone(), secrets, clock, base_dir: base_dir.to_owned() };
    (plugin.build)(&config.table, &with).map_err(|error| (section, error))
}

/// Sends a test message, or a sign of life, through a sink that is built for it alone, and returns the receipt.
pub(crate) fn send_test(loaded: &Loaded, sink: &str) -> anyhow::Result<Receipt> {
    let name = SmolStr::new(sink);
    let config =
        loaded.config.sinks.get(&name).ok_or_else(|| anyhow::anyhow!("there is no sink {sink:?}"))?;
    let secrets = Arc::new(SystemSecrets { base_dir: loaded.base_dir.clone() });
    let clock = Arc::new(SystemClock);
    let built = build_sink(&name, config, secrets, clock, &loaded.base_dir);
    let built = built.map_err(|(section, error)| {
        anyhow::anyhow!(loaded.report(vec![loaded.diagnose(&section, &error)]).render(false))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if built.beats_every().is_some() {
            built.beat().await?;
            return Ok(Receipt::default());
        }
        let notice = test_notice(sink, "the command line", SystemClock.now());
        Ok(built.deliver(Dispatch { notice: &notice, earlier: None }).await?)
    })
}

/// Builds a source from its block.
fn build_source(
    name: &SmolStr,
    config: &SourceConfig,
    decoder: Option<Arc<dyn Decoder>>,
    secrets: &Arc<dyn Secrets>,
    base_dir: &std::path::Path,
) -> Result<Box<dyn Source>, BuildError> {
    let section = format!("sources.{name}");
    let plugin = plugins::SOURCES.iter().find(|plugin| plugin.name == config.plugin);
    let plugin =
        plugin.ok_or_else(|| (section.clone(), ConfigError::new("plugin", "there is no such source")))?;
    let (name, secrets, base_dir) = (name.clone(), secrets.clone(), base_dir.to_owned());
    let with = SourceBuild { name, secrets, decoder, base_dir };
    (plugin.build)(&config.table, &with).map_err(|error| (section, error))
}

async fn end<C>(running: Option<Running<C>>) {
    let Some(running) = running else { return };
    running.cancel.cancel();
    if running.task.await.is_err() {
        tracing::error!("a task ended with a panic");
    }
}

/// One source with what it takes to start it again.
struct SupervisedSource {
    name: SmolStr,
    config: SourceConfig,
    /// Compiled and tested once: a file that changed meanwhile is a matter of the next reload.
    decoder: Option<Arc<dyn Decoder>>,
    base_dir: PathBuf,
    intake: Intake,
    mounts: Arc<Mounts>,
    clock: Arc<dyn Clock>,
    secrets: Arc<dyn Secrets>,
    journal: Journal,
    metrics: Arc<Metrics>,
    health: Health,
    cancel: CancellationToken,
    status: StatusHandle,
}

impl SupervisedSource {
    /// Runs the source, and tells people when it does not see its rail.
    async fn run(self, source: Box<dyn Source>, sight: Sight) {
        tokio::select! {
            biased;
            () = self.supervise(source) => {}
            () = sight.watch() => {}
        }
    }

    async fn supervise(&self, mut source: Box<dyn Source>) {
        let mut pause = RESTART_FIRST;
        loop {
            let started_at = self.clock.now();
            let result = source.run(self.context().await).await;
            if self.cancel.is_cancelled() {
                return;
            }
            match result {
                // It has read everything that there was.
                Ok(()) => {
                    let subject = Subject::Source(self.name.clone());
                    return self.health.over(&subject, ConditionKind::RailBlind, "");
                }
                Err(SourceError::Closed) => return,
                Err(SourceError::Transient(reason)) => {
                    if self.clock.now().since(started_at) >= STABLE_AFTER {
                        pause = RESTART_FIRST;
                    }
                    tracing::warn!(source = %self.name, error = %reason, "source stopped, will start again");
                    self.status.update(|status| {
                        status.phase = Phase::Retrying;
                        status.detail = reason;
                        status.failures += 1;
                    });
                }
                Err(error) => return self.fail(&error.to_string()),
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESTART_MAX);
            self.metrics.source(&self.name).restarts.inc();
            let decoder = self.decoder.clone();
            source = match build_source(&self.name, &self.config, decoder, &self.secrets, &self.base_dir) {
                Ok(source) => source,
                Err((_, error)) => return self.fail(&error.to_string()),
            };
        }
    }

    fn fail(&self, reason: &str) {
        tracing::error!(source = %self.name, error = %reason, "source failed, change its configuration");
        self.status.phase(Phase::Failed, reason);
        let summary = format!("source {} has failed and sees no payments: {reason}", self.name);
        let subject = Subject::Source(self.name.clone());
        self.health.hold(subject, ConditionKind::RailBlind, "", Severity::High, summary);
    }

    async fn context(&self) -> SourceContext {
        let name = self.name.clone();
        let cursor = self.journal.run(move |store| store.cursor(&name)).await;
        let cursor = match cursor {
            Some(Ok(cursor)) => cursor.map(Cursor),
            Some(Err(error)) => {
                tracing::error!(source = %self.name, %error, "cursor cannot be read, starting without");
                None
            }
            None => None,
        };
        SourceContext {
            name: self.name.clone(),
            intake: self.intake.clone(),
            cancel: self.cancel.clone(),
            clock: self.clock.clone(),
            cursor,
            http: Arc::new(self.mounts.of(&self.name)),
            status: self.status.clone(),
        }
    }
}
