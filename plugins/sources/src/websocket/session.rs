//! One connection's life: subscribe, read, hand over, acknowledge, watch for silence.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use railwatch_plugin::decode::Message as Body;
use railwatch_plugin::source::SourceError;
use tokio::time::Instant;
use tungstenite::Message;

use super::{Cursor, Decoded, Pipeline, Socket, SourceContext, WebSocketSource, tungstenite};

/// Bytes after which a batch is handed over, whatever its count.
const BATCH_LEN_MAX: usize = 1 << 20;

/// How a connection ended, when it did not end the source.
pub(super) enum End {
    Cancelled,
    Lost(String),
}

pub(super) struct Session<'a> {
    source: &'a WebSocketSource,
    cx: &'a SourceContext,
    socket: Socket,
    pipeline: &'a mut Pipeline,
    /// The place of the newest message that was handed over: where a new connection resumes. Deliveries of this run
    /// are in the host's hands in order; if one is lost, the pipeline ends the source.
    cursor: &'a mut Option<Cursor>,
    pub(super) n_messages: u64,
    heard_at: Instant,
    pinged: bool,
}

/// Messages that were ready together.
#[derive(Default)]
struct Batch {
    decoded: Decoded,
    cursor: Option<Cursor>,
    n_messages: usize,
    n_bytes: usize,
    /// Why the connection ended after these messages.
    lost: Option<String>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        source: &'a WebSocketSource,
        cx: &'a SourceContext,
        socket: Socket,
        pipeline: &'a mut Pipeline,
        cursor: &'a mut Option<Cursor>,
    ) -> Self {
        Self { source, cx, socket, pipeline, cursor, n_messages: 0, heard_at: Instant::now(), pinged: false }
    }

    /// Runs until the connection or the source ends.
    pub(super) async fn run(&mut self) -> Result<End, SourceError> {
        if let Err(error) = self.subscribe().await {
            return Ok(End::Lost(error.to_string()));
        }
        loop {
            let deadline = self.heard_at + self.patience();
            let cancel = self.cx.cancel.clone();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(self.close().await),
                Some(acked) = self.pipeline.next(), if !self.pipeline.is_empty() => {
                    if let Err(error) = self.acknowledge(acked?).await {
                        return Ok(End::Lost(error.to_string()));
                    }
                }
                message = self.socket.next() => {
                    if let Some(end) = self.batch(message).await? {
                        return Ok(end);
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    if let Some(end) = self.silence().await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), tungstenite::Error> {
        let cursor = self.source.cursor_text(self.cursor.as_ref()).unwrap_or_default().to_owned();
        for template in &self.source.config.subscribe {
            self.socket.feed(Message::text(fill(template, &cursor))).await?;
        }
        self.socket.flush().await
    }

    async fn acknowledge(&mut self, cursor: Option<Cursor>) -> Result<(), tungstenite::Error> {
        let (Some(template), Some(cursor)) = (&self.source.config.ack, cursor) else { return Ok(()) };
        self.socket.send(Message::text(fill(template, &cursor.0))).await
    }

    /// How long silence is fine: until a ping is due, then until the peer counts as dead.
    fn patience(&self) -> std::time::Duration {
        let config = &self.source.config;
        if self.pinged { config.dead_after.0 } else { config.ping_after.0 }
    }

    async fn silence(&mut self) -> Option<End> {
        if self.pinged {
            return Some(End::Lost("the gate is silent and answers no ping".to_owned()));
        }
        self.pinged = true;
        // A half-open socket takes a ping without complaint until its buffers are full, which one ping never does.
        self.socket
            .send(Message::Ping(Default::default()))
            .await
            .err()
            .map(|error| End::Lost(error.to_string()))
    }

    /// Takes a message and those that are ready with it, and hands them over.
    async fn batch(
        &mut self,
        first: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<End>, SourceError> {
        let mut batch = Batch::default();
        self.take(first, &mut batch);
        let full = |batch: &Batch, max: usize| batch.n_messages >= max || batch.n_bytes >= BATCH_LEN_MAX;
        while batch.lost.is_none() && !full(&batch, self.source.config.batch_max) {
            let Some(message) = self.socket.next().now_or_never() else { break };
            self.take(message, &mut batch);
        }
        self.heard_at = Instant::now();
        self.pinged = false;
        if batch.lost.is_none() {
            let now = self.cx.clock.now();
            self.cx.status.update(|status| status.seen_to = status.seen_to.max(Some(now)));
        }
        self.n_messages += u64::try_from(batch.n_messages).unwrap_or(u64::MAX);
        let Batch { decoded, cursor, lost, .. } = batch;
        self.pipeline.submit(self.cx, decoded, cursor.clone()).await.or_else(|error| self.stopped(error))?;
        if cursor.is_some() {
            *self.cursor = cursor;
        }
        Ok(lost.map(End::Lost))
    }

    /// A delivery that was not taken because the source must stop is no error: it comes again.
    fn stopped(&self, error: SourceError) -> Result<(), SourceError> {
        if self.cx.cancel.is_cancelled() { Ok(()) } else { Err(error) }
    }

    fn take(&self, message: Option<Result<Message, tungstenite::Error>>, batch: &mut Batch) {
        match message {
            Some(Ok(Message::Text(text))) => self.decode(text.as_bytes(), batch),
            Some(Ok(Message::Binary(bytes))) => self.decode(&bytes, batch),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map(|frame| format!(": {} {:.80}", frame.code, frame.reason.as_str()));
                batch.lost = Some(format!("the gate closed the connection{}", reason.unwrap_or_default()));
            }
            Some(Err(error)) => self.broken(&error, batch),
            None => batch.lost = Some("the gate hung up".to_owned()),
        }
    }

    fn decode(&self, body: &[u8], batch: &mut Batch) {
        batch.n_messages += 1;
        batch.n_bytes += body.len();
        let received_at = self.cx.clock.now();
        let max = self.source.config.frame_len_max;
        if body.len() > max {
            let detail = format!("a message of {} bytes; frame_len_max is {max}", body.len());
            return batch.decoded.reject("too_large", detail, body, received_at);
        }
        self.source.decoder.decode(&Body { body, headers: None, received_at }, &mut batch.decoded);
        if let Some(cursor) = self.place(body) {
            batch.cursor = Some(cursor);
        }
    }

    /// The gate's place of a message, or of the last one of an array.
    fn place(&self, body: &[u8]) -> Option<Cursor> {
        let pointer = self.source.pointer.as_ref()?;
        let text = std::str::from_utf8(body).ok()?.trim_ascii();
        let last = if text.starts_with('[') {
            serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text).ok()?.pop()?.get()
        } else {
            text
        };
        Some(Cursor(pointer.text(last)?.into_owned()))
    }

    /// What a broken message costs: the connection, and a counted reject if the gate is to blame.
    fn broken(&self, error: &tungstenite::Error, batch: &mut Batch) {
        let code = match error {
            tungstenite::Error::Capacity(_) => Some("too_large"),
            tungstenite::Error::Utf8(_) => Some("bad_utf8"),
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                None
            }
            tungstenite::Error::Protocol(_) => Some("bad_frame"),
            _ => None,
        };
        if let Some(code) = code {
            batch.decoded.reject(code, error.to_string(), &[], self.cx.clock.now());
        }
        batch.lost = Some(error.to_string());
    }

    /// Says goodbye, without waiting for the answer.
    async fn close(&mut self) -> End {
        let goodbye = tokio::time::timeout(std::time::Duration::from_millis(200), self.socket.close(None));
        if let Ok(Err(error)) = goodbye.await {
            tracing::debug!(source = %self.cx.name, %error, "closing failed");
        }
        End::Cancelled
    }
}

/// A message from its template; the cursor is escaped for a JSON string.
fn fill(template: &str, cursor: &str) -> String {
    let quoted = serde_json::Value::from(cursor).to_string();
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    template.replace("{cursor}", inner)
}
