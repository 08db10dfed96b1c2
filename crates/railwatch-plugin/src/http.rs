//! The host owns the HTTP listener; a source mounts a path on it and answers calls.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// One request. The body is complete, decompressed, and within the mount's limit.
#[derive(Debug)]
pub struct HttpCall {
    /// The method.
    pub method: http::Method,
    /// The path and query.
    pub uri: http::Uri,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The answer; dropping it answers 503, so that the rail tries again.
    pub reply: oneshot::Sender<HttpReply>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// The status code.
    pub status: http::StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// When the sender should try again: the `Retry-After` of a 429 or 503.
    pub retry_after: Option<Duration>,
}

impl HttpReply {
    /// A short text answer.
    pub fn text(status: http::StatusCode, text: impl Into<String>) -> Self {
        let body = Bytes::from(text.into());
        Self { status, content_type: "text/plain; charset=utf-8", body, retry_after: None }
    }
}

/// Why a path cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Another source has it.
    #[error("path {0} is mounted by another source")]
    Taken(String),
    /// It does not begin with a slash, or belongs to railwatch itself.
    #[error("path {0} cannot be mounted; use one that begins with /in/")]
    Invalid(String),
}

/// Mounts paths.
#[async_trait]
pub trait HttpMount: Send + Sync + std::fmt::Debug {
    /// Mounts `path`; calls arrive until the receiver is dropped, which unmounts it. Bodies above `body_len_max` are
    /// answered 413 by the host.
    async fn mount(&self, path: &str, body_len_max: usize) -> Result<mpsc::Receiver<HttpCall>, MountError>;
}

/// For hosts without a listener (`decode`, tests of other sources): nothing can be mounted.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHttp;

#[async_trait]
impl HttpMount for NoHttp {
    async fn mount(&self, path: &str, _body_len_max: usize) -> Result<mpsc::Receiver<HttpCall>, MountError> {
        Err(MountError::Invalid(path.to_owned()))
    }
}
