//! What the handlers share, and the thread that keeps the published view.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::{AgentId, Alert, Seq, Signal, SmolStr, Subject, Timestamp, Totals};
use railwatch_plugin::clock::Clock;
use railwatch_store::{AlertFilter, Reader, Store, StoreError};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Token};
use crate::board::{Board, Update};
use crate::limit::Limiter;
use crate::live::{Frame, Live};
use crate::problem::{Answer, Problem};
use crate::row::short;
use crate::scan::{self, Series};

/// The shortest time between two frames of the live stream: news of an alert does not wait longer.
const TICK: Duration = Duration::from_millis(100);
/// Everything else is gathered for this many ticks.
const FRAME_TICKS: u32 = 4;
/// A frame is this old at most when a new client begins with it.
const FRAME_FRESH: Duration = Duration::from_millis(400);
/// Frames go out after this many ticks even if nothing was paid: windows empty themselves.
const FRAME_TICKS_MAX: u32 = 40;
/// Live streams at a time.
const STREAMS_MAX: usize = 256;
/// Searches through the journal at a time; others wait their turn.
const SCANS_MAX: usize = 2;
/// How long a series that was searched for answers others.
const SERIES_FRESH: Duration = Duration::from_secs(4);
/// Series that are kept for others.
const SERIES_MAX: usize = 256;
/// Updates that wait for the keeper.
const UPDATES_MAX: usize = 256;
/// Open alerts that are read back at the start.
const ALERTS_MAX: u32 = 10_000;

/// What the web asks of the program around it.
#[async_trait]
pub trait Host: Send + Sync + std::fmt::Debug {
    /// Takes the incident of an alert in a person's name, durably; the alert as it is then.
    async fn acknowledge(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Answer<Alert>;

    /// Closes the incident of an alert in a person's name, durably; the alert as it is then.
    async fn resolve(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Answer<Alert>;

    /// An agent as the engine has it now; `None` if it is not in memory, an error while railwatch is stopping.
    async fn agent(&self, subject: Subject) -> Answer<Option<AgentNow>>;

    /// Dollars per hour that are usual for an agent in the hours of these times, by what is known now; `None` where too
    /// little is known.
    async fn usual(&self, subject: Subject, times: Vec<Timestamp>) -> Answer<Vec<Option<f64>>>;
}

/// An agent as the engine has it now.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentNow {
    /// Its key: `agent:a1`.
    pub subject: SmolStr,
    /// Its name.
    pub name: String,
    /// Its team.
    pub team: Option<SmolStr>,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid.
    pub last_at: Timestamp,
    /// Sums since it is known.
    pub totals: Totals,
    /// The anomaly score.
    pub score: f64,
    /// The detectors' signals.
    pub signals: Vec<Signal>,
}

/// What a site is made of.
#[derive(Debug)]
pub struct SiteOptions {
    /// The program around it.
    pub host: Arc<dyn Host>,
    /// The store, to read from.
    pub store_path: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may do what.
    pub access: Access,
    /// What was applied before the core began; later payments come as updates.
    pub recovered_until: Seq,
    /// The score above which a person reviews.
    pub review_above: f64,
    /// Ends the live streams.
    pub cancel: CancellationToken,
    /// A random word that tells this process from the one before.
    pub epoch: String,
}

/// Series by agent and hours, with the time at which they were searched for.
type KeptSeries = HashMap<(SmolStr, u32), (Timestamp, Arc<Series>)>;

/// What the handlers share.
#[derive(Debug)]
pub struct Site {
    pub(crate) options: SiteOptions,
    pub(crate) board: Board,
    pub(crate) live: Live,
    pub(crate) limiter: Limiter,
    pub(crate) streams: Arc<Semaphore>,
    scans: Semaphore,
    /// Series that were asked for lately, by agent and hours.
    series: Mutex<KeptSeries>,
}

impl Site {
    /// A site with an empty view.
    pub fn new(options: SiteOptions) -> Arc<Self> {
        Arc::new(Self {
            live: Live::new(options.epoch.clone()),
            board: Board::default(),
            limiter: Limiter::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            scans: Semaphore::new(SCANS_MAX),
            series: Mutex::default(),
            options,
        })
    }

    /// The channel that [`Site::keep`] reads.
    pub fn channel() -> (mpsc::Sender<Update>, mpsc::Receiver<Update>) {
        mpsc::channel(UPDATES_MAX)
    }

    pub(crate) fn review_above(&self) -> f32 {
        short(self.options.review_above)
    }

    /// Puts other tokens in force; browsers whose token is gone are signed out.
    pub fn set_tokens(&self, tokens: Vec<Token>) {
        self.options.access.set_tokens(tokens);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Keeps the view until it is cancelled: the core ends when nobody can ask it any more, so that this must end first.
    /// It runs on a thread of its own: under load it is busy.
    pub async fn keep(self: Arc<Self>, mut updates: mpsc::Receiver<Update>) {
        self.restore_alerts();
        let mut frames = tokio::time::interval(TICK);
        frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shown, mut skipped, mut restored, mut is_urgent) = (0, 0, false, false);
        loop {
            tokio::select! {
                () = self.options.cancel.cancelled() => return,
                update = updates.recv() => match update {
                    Some(update) => {
                        is_urgent |= matches!(update, Update::Alerts(_));
                        self.board.take(update);
                    }
                    None => return,
                },
                _ = frames.tick() => {
                    self.board.take(Update::Now(self.now()));
                    if !restored && updates.is_empty() {
                        restored = true;
                        self.restore_payments();
                    }
                    let table = self.board.read();
                    skipped += 1;
                    let has_news = table.version != shown && (is_urgent || skipped >= FRAME_TICKS);
                    if (has_news || skipped >= FRAME_TICKS_MAX) && self.live.is_watched() {
                        (shown, skipped, is_urgent) = (table.version, 0, false);
                        self.live.publish(&table, self.review_above());
                    }
                }
            }
        }
    }

    /// Reads back the open alerts, which the engine does not publish again.
    fn restore_alerts(&self) {
        let read = || {
            let store = Store::open_read_only(&self.options.store_path)?;
            let filter = AlertFilter { open_only: true, ..AlertFilter::default() };
            store.alerts(&filter, ALERTS_MAX)
        };
        match read() {
            Ok(alerts) => self.board.take(Update::Alerts(alerts.items)),
            Err(error) => tracing::warn!(%error, "the live view starts without the open alerts"),
        }
    }

    /// Reads back the last day of rails and sparks. Agents must be on the board by then.
    fn restore_payments(&self) {
        let until = self.options.recovered_until;
        let read = Store::open_read_only(&self.options.store_path)
            .and_then(|store| self.board.restore(&store, until, self.now()));
        if let Err(error) = read {
            tracing::warn!(%error, "the live view starts without its past");
        }
    }

    /// Reads the store on a thread of its own, so that a slow disk delays nobody else.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let path = self.options.store_path.clone();
        let task = tokio::task::spawn_blocking(move || read(&Store::open_read_only(&path)?));
        Ok(task.await.map_err(|_| Problem::stopping())??)
    }

    /// Searches the journal; few do so at a time.
    pub(crate) async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let _permit = self.scans.acquire().await.map_err(|_| Problem::stopping())?;
        self.read(scan).await
    }

    /// The frame that a new client begins with: the last one if it is fresh, so that many who come at once cost one.
    pub(crate) fn frame(&self) -> Arc<Frame> {
        let table = self.board.read();
        let newest = self.live.newest().filter(|frame| table.now.since(frame.made_at) < FRAME_FRESH);
        newest.unwrap_or_else(|| self.live.publish(&table, self.review_above()))
    }

    /// An agent's last hours, searched for once in a while however many look at it.
    pub(crate) async fn series(&self, agent: SmolStr, hours: u32) -> Answer<Arc<Series>> {
        let _permit = self.scans.acquire().await.map_err(|_| Problem::stopping())?;
        let key = (agent, hours);
        let is_fresh = |at: &Timestamp| self.now().since(*at) < SERIES_FRESH;
        if let Some((at, series)) = self.kept_series().get(&key)
            && is_fresh(at)
        {
            return Ok(series.clone());
        }
        let (agent, now) = (key.0.clone(), self.now());
        let mut series = self.read(move |store| scan::series(store, &agent, hours, now)).await?;
        if let Some(id) = AgentId::new(key.0.as_str()) {
            series.usual_per_hour = self.options.host.usual(Subject::Agent(id), series.times()).await?;
        }
        let series = Arc::new(series);
        let mut kept = self.kept_series();
        kept.retain(|_, (at, _)| is_fresh(at));
        if kept.len() < SERIES_MAX {
            kept.insert(key, (self.now(), series.clone()));
        }
        Ok(series)
    }

    fn kept_series(&self) -> MutexGuard<'_, KeptSeries> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the view on a thread for work: with many agents a pass takes milliseconds.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Answer<T> {
        let site = self.clone();
        tokio::task::spawn_blocking(move || look(&site)).await.map_err(|_| Problem::stopping())
    }
}
