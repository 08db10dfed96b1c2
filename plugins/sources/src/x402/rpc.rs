//! JSON-RPC over WebSocket or HTTP, one call at a time; what a node pushes meanwhile waits in order.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

/// What a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// What a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that an answer may have: ten thousand logs, which is where providers stop.
const ANSWER_LEN_MAX: usize = 32 << 20;
/// Frames that may wait during a call; more means that this side is too slow, and reading anew is cheaper.
const BACKLOG_MAX: usize = 10_000;

/// Why a call gave no result. Texts hold no URL: providers put keys into it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// The connection is unusable.
    #[error("{0}")]
    Lost(String),
    /// The node answered with an error.
    #[error("the node answers {code}: {message}")]
    Refused { code: i64, message: String },
    /// The server asks for patience (HTTP 429).
    #[error("the server asks for patience")]
    Busy,
    /// Only a person can help.
    #[error("{0}")]
    Denied(String),
}

impl RpcError {
    /// True if the node no longer keeps what was asked for. geth answers 4444 (EIP-4444); others only say it.
    pub(super) fn is_pruned(&self) -> bool {
        let Self::Refused { code, message } = self else { return false };
        let message = message.to_ascii_lowercase();
        *code == 4444 || ["pruned", "pruning", "history"].iter().any(|word| message.contains(word))
    }
}

/// A node.
pub(super) enum Rpc {
    Ws(Box<Ws>),
    Http(Http),
}

/// A WebSocket connection.
pub(super) struct Ws {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    pushed: VecDeque<String>,
}

/// An HTTP endpoint.
pub(super) struct Http {
    client: reqwest::Client,
    url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    id: Option<Value>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcFailure>,
    #[serde(borrow)]
    method: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RpcFailure {
    code: i64,
    message: String,
}

impl Rpc {
    /// Connects; the scheme of the URL decides how.
    pub(super) async fn connect(url: &str, tls: rustls::ClientConfig) -> Result<Self, RpcError> {
        if url.starts_with("http") {
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .timeout(CALL_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|error| RpcError::Lost(error.without_url().to_string()))?;
            return Ok(Self::Http(Http { client, url: url.to_owned() }));
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(ANSWER_LEN_MAX))
            .max_frame_size(Some(ANSWER_LEN_MAX));
        let connector = Connector::Rustls(std::sync::Arc::new(tls));
        let connect =
            tokio_tungstenite::connect_async_tls_with_config(url, Some(config), true, Some(connector));
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Err(_) => Err(RpcError::Lost("connecting took too long".to_owned())),
            Ok(Ok((socket, _))) => Ok(Self::Ws(Box::new(Ws { socket, next_id: 0, pushed: VecDeque::new() }))),
            Ok(Err(tungstenite::Error::Http(answer))) if matches!(answer.status().as_u16(), 401 | 403) => {
                Err(RpcError::Denied(format!(
                    "the node answers {}; check the key in the URL",
                    answer.status()
                )))
            }
            Ok(Err(tungstenite::Error::Http(answer))) => {
                Err(RpcError::Lost(format!("the node answers {}", answer.status())))
            }
            Ok(Err(error)) => Err(lost(&error)),
        }
    }

    /// Calls a method and returns the JSON text of its result.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Result<String, RpcError> {
        let call = async {
            match self {
                Self::Ws(ws) => ws.call(method, params).await,
                Self::Http(http) => http.call(method, params).await,
            }
        };
        let answered = tokio::time::timeout(CALL_TIMEOUT, call).await;
        answered.unwrap_or_else(|_| Err(RpcError::Lost(format!("{method} took too long"))))
    }

    /// The next frame that the node pushes; never resolves over HTTP. Safe to drop while it waits.
    pub(super) async fn pushed(&mut self) -> Result<String, RpcError> {
        match self {
            Self::Ws(ws) => match ws.pushed.pop_front() {
                Some(frame) => Ok(frame),
                None => ws.frame().await,
            },
            Self::Http(_) => std::future::pending().await,
        }
    }

    /// True if the node pushes.
    pub(super) fn is_push(&self) -> bool {
        matches!(self, Self::Ws(_))
    }
}

/// tungstenite's errors name no URL except for a malformed one.
fn lost(error: &tungstenite::Error) -> RpcError {
    RpcError::Lost(match error {
        tungstenite::Error::Url(_) => "the URL is malformed".to_owned(),
        other => other.to_string(),
    })
}

impl Ws {
    async fn call(&mut self, method: &str, params: Value) -> Result<String, RpcError> {
        self.next_id += 1;
        let id = self.next_id;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.socket.send(Message::text(request.to_string())).await.map_err(|error| lost(&error))?;
        loop {
            let frame = self.frame().await?;
            match serde_json::from_str::<Answer<'_>>(&frame) {
                Ok(answer) if answer.method.is_none() && answer.id == Some(json!(id)) => {
                    return result(&answer);
                }
                _ if self.pushed.len() < BACKLOG_MAX => self.pushed.push_back(frame),
                _ => return Err(RpcError::Lost("too many frames waited".to_owned())),
            }
        }
    }

    async fn frame(&mut self) -> Result<String, RpcError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => {
                    return Err(RpcError::Lost("the node hung up".to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error)),
            }
        }
    }
}

impl Http {
    async fn call(&self, method: &str, params: Value) -> Result<String, RpcError> {
        let unreachable = |error: reqwest::Error| RpcError::Lost(error.without_url().to_string());
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut response = self.client.post(&self.url).json(&request).send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            401 | 403 => return Err(RpcError::Denied(format!("the node answers {}", response.status()))),
            429 => return Err(RpcError::Busy),
            _ => {}
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_LEN_MAX {
                return Err(RpcError::Refused {
                    code: -32005,
                    message: "the answer is too large".to_owned(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        match serde_json::from_slice::<Answer<'_>>(&body) {
            Ok(answer) => result(&answer),
            Err(_) => Err(RpcError::Lost(format!("the node answers {} without JSON", response.status()))),
        }
    }
}

fn result(answer: &Answer<'_>) -> Result<String, RpcError> {
    match (&answer.error, answer.result) {
        (Some(error), _) => {
            let message = error.message.chars().take(200).collect();
            Err(RpcError::Refused { code: error.code, message })
        }
        (None, result) => Ok(result.map_or_else(|| "null".to_owned(), |result| result.get().to_owned())),
    }
}
