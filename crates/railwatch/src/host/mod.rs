//! The host: everything around the engine that waits, reads, writes and can fail.
//!
//! Threads and tasks form a tree. Sources (tasks) feed the core (a thread that owns the engine), which feeds the
//! journal (a thread that owns the store); deliveries (tasks) take notices from the outbox to sinks. Shutdown walks
//! the same way: sources stop, the core applies what is on its way and saves its state, deliveries finish what is in
//! hand, the store closes.

mod actions;
mod api;
mod callbacks;
mod connections;
mod core;
mod delivery;
mod desk;
mod digest;
mod disk;
mod edges;
mod eval;
mod freeze;
mod gather;
mod generation;
mod health;
mod history;
mod http;
mod journal;
mod metrics;
mod pace;
mod price_poll;
mod prices;
mod publish;
mod recovery;
mod reload;
mod scripts;
mod sight;
mod stamp;
mod supervisor;
mod warm;
mod watch;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use railwatch_engine::{Engine, SortBy, SubjectView};
use railwatch_model::{Alert, ConditionKind, SmolStr, Subject};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::secret::Secrets;
use railwatch_plugin::source::SourceStatus;
use railwatch_script::{ScriptStatus, StatusHandle};
use railwatch_store::{Store, StoreOptions, WalKeeper};
use railwatch_web::Site;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::core::{Command, Core, CoreHandle};
use self::edges::Edges;
pub(crate) use self::edges::send_test;
pub(crate) use self::generation::{
    Content, Timeline, build_after, build_or_fail as build_generation, content, mutes_now,
};
use self::health::Health;
pub(crate) use self::history::FIRINGS_MAX;
use self::http::Mounts;
use self::journal::Journal;
pub(crate) use self::journal::SHADOW;
use self::metrics::Metrics;
pub(crate) use self::prices::Prices;
use self::publish::Publisher;
pub(crate) use self::reload::Reload;
pub(crate) use self::stamp::stamp;
use self::supervisor::Supervisor;
use crate::config::Loaded;

/// How often time passes for the engine.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How often the state is saved.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How often the write-ahead log is copied back.
const KEEP_WAL_EVERY: Duration = Duration::from_secs(1);
/// How often old data is deleted.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// Rows of each kind that one maintenance round deletes.
const MAINTAIN_ROWS: u32 = 2_000;
/// How long the parts of railwatch may take to stop.
const GRACE: Duration = Duration::from_secs(20);

/// What the host is given besides its configuration.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The configuration file, to read again on reload.
    pub config_path: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Resolves secrets.
    pub secrets: Arc<dyn Secrets>,
    /// True to reload when files change.
    pub watch: bool,
}

/// How sources and sinks are, for the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) sources: BTreeMap<SmolStr, tokio::sync::watch::Receiver<SourceStatus>>,
    pub(crate) sinks: Vec<SmolStr>,
    /// Those of them that give signs of life and take no notices.
    pub(crate) hearts: Vec<SmolStr>,
    /// Makes digests.
    pub(crate) digests: Option<digest::Digests>,
    /// Rules and scores.
    pub(crate) scripts: Vec<StatusHandle>,
    /// Decoders.
    pub(crate) decoders: Vec<StatusHandle>,
}

impl Status {
    /// How every script in force does.
    pub(crate) fn scripts(&self) -> Vec<ScriptStatus> {
        self.scripts.iter().chain(&self.decoders).flat_map(StatusHandle::status).collect()
    }
}

/// A running railwatch.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    supervisor: Supervisor,
    /// Stops what brings work: sources, the listener, the ticker, the watcher.
    inlets: CancellationToken,
    /// Stops what takes work away: deliveries.
    outlets: CancellationToken,
    core: CoreHandle,
    journal: Journal,
    threads: Vec<(&'static str, JoinHandle<()>)>,
    metrics: Arc<Metrics>,
    reloads: mpsc::Sender<Reload>,
}

/// What a stopped railwatch did.
#[derive(Debug, Default)]
pub struct Farewell {
    /// Tasks that did not stop in time.
    pub unfinished: Vec<String>,
    /// Payments that were accepted.
    pub accepted: u64,
    /// The last journal position.
    pub seq: i64,
}

impl Host {
    /// Opens the store, recovers, and starts everything that the configuration names.
    pub async fn start(loaded: Loaded, options: HostOptions) -> anyhow::Result<Self> {
        let HostOptions { clock, .. } = &options;
        let clock = clock.clone();
        let config = Arc::new(loaded.config.clone());
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::default();
        let store_path = loaded.base_dir.join(&config.store.path);
        let listener = http::bind(config.http.listen.0).await?;
        let address = listener.local_addr()?;
        let mut store = open_store(&store_path, &config)?;

        let number = store.generations(1)?.first().map_or(1, |last| last.number + 1);
        metrics.began(number, &loaded.digest);
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).context("the system gives no random numbers")?;
        let (engine, recovered) = recovery::recover(&mut store, secret, &loaded, number, clock.now())?;
        tracing::info!(
            subjects = recovered.subjects,
            reapplied = recovered.reapplied,
            seq = recovered.applied,
            unreadable = recovered.unreadable,
            "recovered"
        );

        let (journal, store_commands) = Journal::new();
        let (core, core_commands) = CoreHandle::new();
        let (intake, submissions) = mpsc::channel(config.limits.intake_deliveries as usize);
        let (inlets, outlets) = (CancellationToken::new(), CancellationToken::new());
        let (status_sender, status) =
            tokio::sync::watch::channel(Status { scripts: recovered.scripts.clone(), ..Status::default() });
        let prices = Arc::new(Prices::fixed(&config.prices, clock.now()));
        let mounts = Mounts::default();
        let health = Health::new(engine.conditions());
        // The configuration that is being started with is in force.
        health.over(&Subject::Railwatch, ConditionKind::ReloadFailed, "");
        let actions = actions::Actions {
            core: core.clone(),
            journal: journal.clone(),
            store_path: Arc::from(store_path.clone()),
            clock: clock.clone(),
        };
        let edges = Edges {
            supervisor: supervisor.clone(),
            core: core.clone(),
            intake,
            mounts: Arc::new(mounts.clone()),
            clock: clock.clone(),
            secrets: options.secrets.clone(),
            journal: journal.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            inlets: inlets.clone(),
            outlets: outlets.clone(),
            status: status_sender,
            link: config.http.public_url.as_ref().map(|url| url.0.trim_end_matches('/').to_owned()),
            actions: actions.clone(),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            callbacks: None,
            digests: None,
        };
        let planned = edges.plan(&loaded).map_err(|(section, error)| {
            anyhow::anyhow!(loaded.report(vec![loaded.diagnose(&section, &error)]).render(false))
        })?;
        let interrupted =
            journal::settle_interrupted(&mut store, &*clock, |sink| planned.is_idempotent(sink))?;
        if interrupted > 0 {
            tracing::warn!(interrupted, "deliveries were cut short when railwatch last ended");
        }

        let keeper = store.wal_keeper()?;
        supervisor.spawn("wal keeper", keep_wal_short(keeper, outlets.clone()));
        let (appended_sender, appended) = mpsc::channel(core::IN_FLIGHT_MAX);
        let site = web::site(&config, store_path.clone(), recovered.applied, &actions, &inlets)?;
        let (updates, published) = Site::channel();
        let threads = vec![
            spawn_view(site.clone(), published)?,
            spawn_store(store, store_commands, appended_sender, &clock, &metrics)?,
            spawn_core(Core {
                engine,
                config: config.clone(),
                prices: prices.clone(),
                clock: clock.clone(),
                journal: journal.clone(),
                metrics: metrics.clone(),
                submissions,
                commands: core_commands,
                appended,
                checkpoint_every: CHECKPOINT_EVERY,
                publisher: Publisher::new(updates, metrics.clone()),
                applied: recovered.applied,
            })?,
        ];

        let (reload_sender, reloads) = mpsc::channel(4);
        let api = api::Api {
            core: core.clone(),
            actions,
            metrics: metrics.clone(),
            status,
            reload: reload_sender.clone(),
        };
        let (described, others) = api::routes(api);
        let app = railwatch_web::router(&site, described, others);
        supervisor.spawn("http", http::serve(listener, app, mounts, inlets.clone()));
        supervisor.spawn("self-alerts", health.clone().run(core.clone(), inlets.clone()));
        supervisor.spawn("freezes", freeze::follow(core.clone(), journal.clone(), inlets.clone()));
        supervisor
            .spawn("disk", disk::watch(store_path.clone(), health.clone(), metrics.clone(), inlets.clone()));
        supervisor.spawn("ticker", tick(core.clone(), inlets.clone()));
        supervisor.spawn(
            "maintenance",
            maintain(journal.clone(), clock.clone(), config.store.retain.0, inlets.clone()),
        );
        let (watched_sender, watched) = tokio::sync::watch::channel(watch::Watched::of(&loaded));
        if options.watch {
            let watching =
                watch::watch(options.config_path.clone(), watched, reload_sender.clone(), inlets.clone());
            supervisor.spawn("watcher", watching);
        }
        supervisor.spawn("prices", price_poll::run(prices.clone(), clock.clone(), inlets.clone()));
        let reloader = reload::Reloader {
            options,
            store_path: store_path.clone(),
            watched: watched_sender,
            held_back: None,
            need: recovered.need,
            core: core.clone(),
            journal: journal.clone(),
            prices,
            metrics: metrics.clone(),
            edges,
            site,
            running: loaded,
            number,
            cancel: inlets.clone(),
        };
        let started = reloader.begin(planned).await;
        supervisor.spawn("reloader", started.run(reloads));
        Ok(Self {
            address,
            supervisor,
            inlets,
            outlets,
            core,
            journal,
            threads,
            metrics,
            reloads: reload_sender,
        })
    }

    /// The address that the listener got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Payments that were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.metrics.accepted_total()
    }

    /// Payments that were received and are accounted for: accepted or recognized as repeats.
    pub fn processed(&self) -> u64 {
        self.metrics.processed_total()
    }

    /// The first `limit` agents in this order.
    pub async fn agents(&self, sort: SortBy, limit: usize) -> Vec<SubjectView> {
        self.core.look(move |engine| engine.agents(sort, limit)).await.unwrap_or_default()
    }

    /// The open alerts.
    pub async fn open_alerts(&self) -> Vec<Alert> {
        self.core.look(Engine::open_alerts).await.unwrap_or_default()
    }

    /// Reads the configuration again; the outcome is logged.
    pub async fn reload(&self, by: &str) {
        let wish = Reload { by: SmolStr::new(by), to: None, done: None };
        if self.reloads.send(wish).await.is_err() {
            tracing::debug!("too late to reload");
        }
    }

    /// Stops everything, in the order in which payments flow; nothing that was acknowledged is lost.
    pub async fn stop(self) -> Farewell {
        let Self { supervisor, inlets, outlets, core, journal, threads, metrics, .. } = self;
        inlets.cancel();
        drop(core);
        let mut unfinished = Vec::new();
        let mut threads = threads.into_iter().rev();
        // The core ends when its last source and its last asker are gone.
        if let Some(thread) = threads.next() {
            unfinished.extend(join(thread, GRACE).await);
        }
        outlets.cancel();
        unfinished.extend(supervisor.wait(GRACE).await);
        drop(journal);
        for thread in threads {
            unfinished.extend(join(thread, GRACE).await);
        }
        Farewell { unfinished, accepted: metrics.accepted_total(), seq: metrics.journal_seq.get() }
    }
}

/// Compiles the Lua decoder at `path`, or fails with the diagnostic.
pub(crate) fn lua_decoder(loaded: &Loaded, path: &std::path::Path) -> anyhow::Result<Arc<dyn Decoder>> {
    scripts::decoder(&loaded.scripts, "sources", path, &[])
        .map(|compiled| compiled.decoder)
        .map_err(|(_, error)| anyhow::anyhow!(error.to_string()))
}

fn open_store(path: &std::path::Path, config: &crate::config::Config) -> anyhow::Result<Store> {
    let options = StoreOptions {
        rejects_max: config.limits.reject_rows,
        size_max: config.limits.store_bytes,
        ..StoreOptions::default()
    };
    Ok(Store::open(path, &options)?)
}

fn spawn_store(
    store: Store,
    commands: mpsc::Receiver<journal::Command>,
    appended: mpsc::Sender<journal::Appended>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(&'static str, JoinHandle<()>)> {
    let (clock, metrics) = (clock.clone(), metrics.clone());
    let run = move || journal::run(store, commands, &appended, &*clock, &metrics);
    Ok(("store", std::thread::Builder::new().name("store".to_owned()).spawn(run)?))
}

fn spawn_view(
    site: Arc<Site>,
    published: mpsc::Receiver<railwatch_web::Update>,
) -> anyhow::Result<(&'static str, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let run = move || runtime.block_on(site.keep(published));
    Ok(("view", std::thread::Builder::new().name("view".to_owned()).spawn(run)?))
}

fn spawn_core(core: Core) -> anyhow::Result<(&'static str, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let run = move || runtime.block_on(core.run());
    Ok(("core", std::thread::Builder::new().name("core".to_owned()).spawn(run)?))
}

/// Waits for a thread, at most for `grace`; its name if it did not end well.
async fn join((name, thread): (&'static str, JoinHandle<()>), grace: Duration) -> Option<String> {
    let joined = tokio::task::spawn_blocking(move || thread.join());
    match tokio::time::timeout(grace, joined).await {
        Ok(Ok(Ok(()))) => None,
        Ok(_) => Some(format!("{name} (panicked)")),
        Err(_) => Some(name.to_owned()),
    }
}

async fn tick(core: CoreHandle, cancel: CancellationToken) {
    let mut interval = tokio::time::interval(TICK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = interval.tick() => {
                if !core.send(Command::Tick).await {
                    return;
                }
            }
        }
    }
}

/// Copies the write-ahead log back into the file while appends go on, so that none of them has to.
async fn keep_wal_short(mut keeper: WalKeeper, cancel: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(KEEP_WAL_EVERY) => {}
        }
        let kept = tokio::task::spawn_blocking(move || (keeper.checkpoint(), keeper)).await;
        let Ok((result, returned)) = kept else { return };
        if let Err(error) = result {
            tracing::warn!(%error, "the write-ahead log cannot be copied back yet");
        }
        keeper = returned;
    }
}

/// Deletes what is older than people want to keep, a little at a time.
async fn maintain(journal: Journal, clock: Arc<dyn Clock>, retain: Duration, cancel: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(MAINTAIN_EVERY) => {}
        }
        let before = clock.now().before(retain);
        let done = journal.run(move |store| {
            store.forget_batches(before, MAINTAIN_ROWS)?;
            store.forget_outbox(before, MAINTAIN_ROWS)?;
            store.forget_audit(before, MAINTAIN_ROWS)?;
            store.forget_alerts(before, MAINTAIN_ROWS)?;
            store.purge_subjects(MAINTAIN_ROWS)?;
            store.shrink(MAINTAIN_ROWS)
        });
        if let Some(Err(error)) = done.await {
            tracing::error!(%error, "old data cannot be deleted");
        }
    }
}
