//! Sinks: the right edge, where notices reach people.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::{Notice, SmolStr};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::secret::Secrets;

/// A way to tell people. Holds no queue and retries nothing: the outbox does both.
#[async_trait]
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Delivers one notice, once. Called from the sink's own delivery task; at most one call at a time.
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError>;

    /// True if the peer itself drops a second delivery of the same notice id. Where it is false, an attempt whose
    /// outcome is unknown is shown as "sent?".
    fn is_idempotent(&self) -> bool;

    /// True if people read it one by one: when more notices wait than its rate limit lets through, one message may tell
    /// several of them.
    fn gathers(&self) -> bool {
        false
    }

    /// How often this sink wants a sign of life; such a sink tells nobody anything and is given no notices.
    fn beats_every(&self) -> Option<Duration> {
        None
    }

    /// Gives a sign of life: railwatch sees payments, judges them and keeps them.
    async fn beat(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Dispatch<'a> {
    /// The notice; its id is the idempotency key.
    pub notice: &'a Notice,
    /// The receipt of this incident's first notice on this sink: reply in its thread, or edit it.
    pub earlier: Option<&'a Receipt>,
}

/// The peer's word that it has the notice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// The peer's name for the message: a Slack `ts`, a mail's Message-ID, a PagerDuty dedup key.
    pub reference: Option<SmolStr>,
}

/// Why a delivery failed and what the outbox does about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The peer surely does not have it: try again, not before `after` if the peer said so. The reason never contains a secret or a URL with one.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// The peer's `Retry-After`.
        after: Option<Duration>,
    },
    /// The peer may or may not have it: the request was under way, and no proper answer came. The reason never contains
    /// a secret.
    #[error("{0}; it may have arrived")]
    Unanswered(String),
    /// The peer will never take this notice: it goes to the dead letters.
    #[error("{0}")]
    Rejected(String),
}

/// What a sink builds itself from, besides its table.
#[derive(Debug, Clone)]
pub struct SinkBuild {
    /// The name in the configuration.
    pub name: SmolStr,
    /// Resolves secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The time, for signatures.
    pub clock: Arc<dyn Clock>,
    /// The folder that relative paths in the table are relative to.
    pub base_dir: std::path::PathBuf,
}
