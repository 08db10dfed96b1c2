//! What the handlers share, and the thread that keeps the published view.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::{Alert, Seq, Signal, SmolStr, Subject, Timestamp, Usd};
use railwatch_plugin::clock::Clock;
use railwatch_store::{AlertFilter, Reader, Store, StoreError};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::board::{Board, Update};
use crate::limit::Limiter;
use crate::live::{Frame, Live};
use crate::problem::{Answer, Problem};
use crate::row::short;
use crate::scan::{self, Series};

/// The shortest time between two frames of the live stream.
const FRAME_EVERY: Duration = Duration::from_millis(400);
/// Frames go out this often even if nothing was paid: windows empty themselves.
const FRAME_AT_LEAST_EVERY: u32 = 10;
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
    pub totals: TotalsNow,
    /// The anomaly score.
    pub score: f64,
    /// The detectors' signals.
    pub signals: Vec<Signal>,
}

/// Sums of everything that was ever booked for an agent, in dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TotalsNow {
    /// Committed spend.
    pub committed: Usd,
    /// Settled spend, net.
    pub settled: Usd,
    /// Held now.
    pub held: Usd,
    /// Put aside.
    pub deposited: Usd,
    /// Earned.
    pub earned: Usd,
    /// Purchases.
    pub purchases: i64,
    /// Declined attempts.
    pub declined: u64,
    /// Tasks that were reported as finished: a lower bound, because instrumentation samples.
    pub tasks: u64,
    /// Those of them that ended with an error.
    pub tasks_failed: u64,
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

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Keeps the view until it is cancelled: the core ends when nobody can ask it any more, so that this must end first.
    /// It runs on a thread of its own: under load it is busy.
    pub async fn keep(self: Arc<Self>, mut updates: mpsc::Receiver<Update>) {
        self.restore_alerts();
        let mut frames = tokio::time::interval(FRAME_EVERY);
        frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shown, mut skipped, mut restored) = (0, 0, false);
        loop {
            tokio::select! {
                () = self.options.cancel.cancelled() => return,
                update = updates.recv() => match update {
                    Some(update) => self.board.take(update),
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
                    let is_due = table.version != shown || skipped >= FRAME_AT_LEAST_EVERY;
                    if is_due && self.live.is_watched() {
                        (shown, skipped) = (table.version, 0);
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
        let newest = self.live.newest().filter(|frame| table.now.since(frame.made_at) < FRAME_EVERY);
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
        let series = Arc::new(self.read(move |store| scan::series(store, &agent, hours, now)).await?);
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
