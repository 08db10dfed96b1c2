//! Sources: the left edge, where rails' bytes become payments.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use railwatch_model::{SmolStr, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::decode::{Decoded, Decoder};
use crate::http::HttpMount;
use crate::secret::Secrets;

/// A running connection to a rail. Built from configuration, owned by one task, closed by returning.
#[async_trait]
pub trait Source: Send {
    /// Runs until `cx.cancel` fires (then `Ok`) or until it cannot go on. The supervisor restarts it with backoff
    /// after `Transient` and leaves it stopped, with its status shown, after `Fatal`.
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError>;
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Trying again may help: the peer hung up, the network is down.
    #[error("{0}")]
    Transient(String),
    /// Only a person can help: a wrong credential, a wrong chain, a missing file.
    #[error("{0}")]
    Fatal(String),
    /// The host is shutting down.
    #[error("the intake is closed")]
    Closed,
}

/// Everything that a source may use besides its own configuration.
#[derive(Debug)]
pub struct SourceContext {
    /// The name in the configuration; stamped on every payment.
    pub name: SmolStr,
    /// Where payments go.
    pub intake: Intake,
    /// Fires when the source must stop: finish the message in hand and return.
    pub cancel: CancellationToken,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The cursor of the last durable delivery, from an earlier run.
    pub cursor: Option<Cursor>,
    /// Where an HTTP receiver mounts its path on the host's listener.
    pub http: Arc<dyn HttpMount>,
    /// Where the source shows how it is.
    pub status: StatusHandle,
}

/// What a source builds itself from, besides its table.
#[derive(Debug, Clone)]
pub struct SourceBuild {
    /// The name in the configuration.
    pub name: SmolStr,
    /// Resolves secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The decoder that `decode = "….lua"` names, compiled by the host; `None` if the table has no such key.
    pub decoder: Option<Arc<dyn Decoder>>,
    /// The folder that relative paths in the table are relative to.
    pub base_dir: std::path::PathBuf,
}

/// A rail's own word for "how far": opaque to the host, stored in the transaction of the payments that it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What a source hands over in one piece. It is durable as a whole or not at all.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Payments, rejects and filtered parts, in order.
    pub decoded: Decoded,
    /// Where to resume once this delivery is durable.
    pub cursor: Option<Cursor>,
}

/// The bounded way into the host.
#[derive(Debug, Clone)]
pub struct Intake {
    source: SmolStr,
    sender: mpsc::Sender<Submission>,
}

/// A delivery on its way to the journal.
#[derive(Debug)]
pub struct Submission {
    /// The source that made it.
    pub source: SmolStr,
    /// The delivery.
    pub delivery: Delivery,
    /// Fired once the delivery is durable; dropped if it never will be.
    pub ack: oneshot::Sender<()>,
}

/// Resolves when the delivery is durable.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<()>);

impl Intake {
    /// An intake for `source` over the host's channel.
    pub fn new(source: SmolStr, sender: mpsc::Sender<Submission>) -> Self {
        Self { source, sender }
    }

    /// Waits for room, which is the back-pressure that a rail feels, then hands the delivery over. The returned
    /// [`Ack`] resolves when it is durable; acknowledge to the rail after that and not before.
    pub async fn submit(&self, delivery: Delivery) -> Result<Ack, SourceError> {
        let permit = self.sender.reserve().await.map_err(|_| SourceError::Closed)?;
        let (ack, durable) = oneshot::channel();
        permit.send(Submission { source: self.source.clone(), delivery, ack });
        Ok(Ack(durable))
    }
}

impl Ack {
    /// Waits until the delivery is durable. `Closed` means that it is not, and must be delivered again.
    pub async fn durable(self) -> Result<(), SourceError> {
        self.0.await.map_err(|_| SourceError::Closed)
    }
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct SourceStatus {
    /// The phase.
    pub phase: Phase,
    /// One line for people: the peer, the last error and when the next try is.
    pub detail: String,
    /// When the last message came.
    pub last_message_at: Option<Timestamp>,
    /// The newest `occurred_at` seen.
    pub last_event_at: Option<Timestamp>,
    /// How long after it happened the newest payment of the last delivery was heard of, in seconds.
    pub lag_secs: Option<u64>,
    /// Until when the rail was seen: it answered, and had no more to tell. An agent without payments before this time
    /// did not pay; what happens after it is not seen yet. `None` for rails that only ever speak when something
    /// happens.
    pub seen_to: Option<Timestamp>,
    /// What the rail's list of payments has and its push has not brought. `None` while the push brings everything, and
    /// where there is only one of both.
    pub unpushed: Option<Unpushed>,
    /// Connections or polls that failed since the start.
    pub failures: u64,
}

/// Payments that were found in a rail's list and never pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unpushed {
    /// How many.
    pub payments: u64,
    /// When the first of them happened.
    pub since: Timestamp,
}

/// The phases of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not connected yet.
    #[default]
    Starting,
    /// Connected and current.
    Live,
    /// Reading what happened while it was away.
    Backfilling,
    /// Lost its connection and will try again.
    Retrying,
    /// Read everything there was (a file without follow).
    Done,
    /// Stopped until a person changes something.
    Failed,
}

/// The writing end of a source's status.
#[derive(Clone)]
pub struct StatusHandle(Arc<watch::Sender<SourceStatus>>);

impl StatusHandle {
    /// A handle and the end to read from.
    pub fn new() -> (Self, watch::Receiver<SourceStatus>) {
        let (sender, receiver) = watch::channel(SourceStatus::default());
        (Self(Arc::new(sender)), receiver)
    }

    /// Changes the status in place.
    pub fn update(&self, change: impl FnOnce(&mut SourceStatus)) {
        self.0.send_modify(change);
    }

    /// Says that the source is live and has seen its rail until `now`.
    pub fn live(&self, now: Timestamp, detail: impl Into<String>) {
        self.update(|status| {
            status.phase = Phase::Live;
            status.detail = detail.into();
            status.seen_to = status.seen_to.max(Some(now));
        });
    }

    /// Sets phase and detail.
    pub fn phase(&self, phase: Phase, detail: impl Into<String>) {
        self.update(|status| {
            status.phase = phase;
            status.detail = detail.into();
        });
    }
}

impl fmt::Debug for StatusHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0.borrow(), f)
    }
}
