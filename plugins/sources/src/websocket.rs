//! The payment-gate WebSocket client: one JSON message or an array of them per frame.
//!
//! It reconnects with backoff, resumes where the gate offers that, notices half-open sockets, and hands frames that
//! are ready together over in one delivery. What a frame means is the decoder's business.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use http::uri::PathAndQuery;
use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::decode::{Decoded, Decoder};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::{Cursor, Source, SourceBuild, SourceContext, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _, protocol::WebSocketConfig};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use toml::Table;

use crate::backoff::{Backoff, fail, wait};
use crate::connection::{Connection, ConnectionTable};
use crate::decode::{FieldPath, MappingConfig, Pluck};
use crate::delivery::Pipeline;
use crate::{decode, table};

mod session;
#[cfg(test)]
mod tests;

use session::{End, Session};

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "websocket",
    summary: "a payment gate's WebSocket feed, one JSON message or an array of them per frame",
    example: EXAMPLE,
    schema: table::schema_of_three::<WebSocketTable, ConnectionTable, MappingConfig>,
    build: |table, build| Ok(Box::new(WebSocketSource::from_table(table, build)?)),
    decoder: |table, build| Ok(decode::take(table, build)?.0),
};

const EXAMPLE: &str = r#"[sources.gate]
plugin = "websocket"
url = "ws://127.0.0.1:9000/payments"
rail = "x402"
subscribe = ['{"op":"subscribe","since":"{cursor}"}']
resume = { pointer = "/seq" }

[sources.gate.map]
agent = "/agent_id"
amount = "/amount_usd"
"#;

/// The transport's keys of a `websocket` source's table; the decoder's stand beside them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSocketTable {
    /// `ws://` or `wss://`.
    pub url: String,
    /// Messages that are sent after every connect; `{cursor}` becomes the cursor, escaped for a JSON string.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// How to go on after a lost connection, if the gate offers that.
    pub resume: Option<ResumeConfig>,
    /// A message that is sent once payments are durable; `{cursor}` becomes their cursor.
    pub ack: Option<String>,
    /// Bytes that a message may have; larger ones are rejected and counted. Default: 1 MiB.
    #[serde(default = "frame_len_max")]
    pub frame_len_max: usize,
    /// Silence after which a ping is sent. Default: 20 s.
    #[serde(default = "ping_after")]
    pub ping_after: Span,
    /// Silence, pings included, after which the connection counts as dead. Default: 60 s.
    #[serde(default = "dead_after")]
    pub dead_after: Span,
    /// What a connect may take, TLS and handshake included. Default: 10 s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// The longest wait between attempts. Default: 30 s.
    #[serde(default = "backoff_max")]
    pub backoff_max: Span,
    /// Messages that are handed over in one delivery at most. Default: 512.
    #[serde(default = "batch_max")]
    pub batch_max: usize,
}

/// How the gate resumes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeConfig {
    /// Where a message holds its place in the gate's sequence.
    pub pointer: FieldPath,
    /// The query parameter of the URL that takes the cursor; without it, use `{cursor}` in `subscribe`.
    pub query: Option<String>,
    /// The cursor before there is one; without it, nothing is asked for in the query and `{cursor}` is empty.
    pub first: Option<String>,
}

fn frame_len_max() -> usize {
    1 << 20
}

fn ping_after() -> Span {
    Span(Duration::from_secs(20))
}

fn dead_after() -> Span {
    Span(Duration::from_secs(60))
}

fn connect_timeout() -> Span {
    Span(Duration::from_secs(10))
}

fn backoff_max() -> Span {
    Span(Duration::from_secs(30))
}

fn batch_max() -> usize {
    512
}

/// The client.
#[derive(Debug)]
pub struct WebSocketSource {
    config: WebSocketTable,
    url: Uri,
    connection: Connection,
    decoder: Arc<dyn Decoder>,
    pointer: Option<Pluck>,
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

impl WebSocketSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (decoder, rest) = decode::take(table, build)?;
        let (connection, rest) = Connection::take(&rest, build)?;
        let config: WebSocketTable = table::parse_rest::<_, ConnectionTable>(&rest)?;
        let url: Uri = config.url.parse().map_err(|error| ConfigError::new("url", error))?;
        if !matches!(url.scheme_str(), Some("ws" | "wss")) || url.host().is_none() {
            return Err(ConfigError::new("url", "write it like \"wss://gate.example.com/payments\""));
        }
        if config.batch_max == 0 || config.frame_len_max == 0 {
            return Err(ConfigError::new("", "batch_max and frame_len_max are at least 1"));
        }
        if config.dead_after.0 <= config.ping_after.0 {
            return Err(ConfigError::new(
                "dead_after",
                "must be longer than ping_after, or no ping is ever answered",
            ));
        }
        let pointer = config.resume.as_ref().map(|resume| Pluck::new(&resume.pointer));
        Ok(Self { config, url, connection, decoder, pointer })
    }

    /// The URL without query and user, which may hold secrets.
    fn shown_url(&self) -> String {
        let host = self.url.host().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{host}{port}{}", self.url.scheme_str().unwrap_or_default(), self.url.path())
    }

    fn cursor_text<'a>(&'a self, cursor: Option<&'a Cursor>) -> Option<&'a str> {
        let first = self.config.resume.as_ref().and_then(|resume| resume.first.as_deref());
        cursor.map(|cursor| cursor.0.as_str()).or(first)
    }

    /// The URL, with the cursor in its query where the gate takes it there.
    fn url_from(&self, cursor: Option<&Cursor>) -> Result<Uri, String> {
        let name = self.config.resume.as_ref().and_then(|resume| resume.query.as_deref());
        let (Some(name), Some(cursor)) = (name, self.cursor_text(cursor)) else {
            return Ok(self.url.clone());
        };
        let joint = if self.url.query().is_some() { '&' } else { '?' };
        let path = self.url.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = format!("{path}{joint}{}={}", percent(name), percent(cursor));
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query =
            Some(path.parse().map_err(|_| "the cursor does not fit into a URL".to_owned())?);
        Uri::from_parts(parts).map_err(|error| error.to_string())
    }

    async fn connect(&self, cursor: Option<&Cursor>, connector: Connector) -> Result<Socket, Refusal> {
        let url = self.url_from(cursor).map_err(Refusal::Transient)?;
        let mut request = url.into_client_request().map_err(|error| Refusal::Fatal(error.to_string()))?;
        request.headers_mut().extend(self.connection.headers.resolve().map_err(Refusal::Transient)?);
        let limit = self.config.frame_len_max.saturating_mul(16).max(16 << 20);
        let config = WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit));
        let connect =
            tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, Some(connector));
        match tokio::time::timeout(self.config.connect_timeout.0, connect).await {
            Err(_) => Err(Refusal::Transient("connecting took too long".to_owned())),
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response)))
                if matches!(response.status().as_u16(), 401 | 403) =>
            {
                Err(Refusal::Fatal(format!("the gate answers {}; check auth", response.status())))
            }
            Ok(Err(error)) => Err(Refusal::Transient(error.to_string())),
        }
    }
}

/// Why there is no connection.
enum Refusal {
    Transient(String),
    Fatal(String),
}

#[async_trait]
impl Source for WebSocketSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let tls = self.connection.tls().map_err(|message| fail(&cx, message))?;
        let connector = Connector::Rustls(Arc::new(tls));
        let seed = Backoff::seed(&cx.name, cx.clock.now().micros());
        let mut backoff = Backoff::new(Duration::from_millis(250), self.config.backoff_max.0, seed);
        let mut cursor = cx.cursor.clone();
        let mut pipeline = Pipeline::default();
        loop {
            let connect = self.connect(cursor.as_ref(), connector.clone());
            let connected = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(()),
                connected = connect => connected,
            };
            let why = match connected {
                Err(Refusal::Fatal(message)) => return Err(fail(&cx, message)),
                Err(Refusal::Transient(message)) => message,
                Ok(socket) => {
                    cx.status.live(cx.clock.now(), format!("connected to {}", self.shown_url()));
                    let before = cursor.clone();
                    let mut session = Session::new(&self, &cx, socket, &mut pipeline, &mut cursor);
                    let end = session.run().await;
                    if session.n_messages > 0 && (self.pointer.is_none() || before != cursor) {
                        backoff.reset();
                    }
                    match end? {
                        End::Cancelled => return Ok(()),
                        End::Lost(message) => message,
                    }
                }
            };
            if !wait(&cx, &why, backoff.next_wait()).await {
                return Ok(());
            }
        }
    }
}

/// Percent-encodes what is not unreserved (RFC 3986, section 2.3).
pub(crate) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
