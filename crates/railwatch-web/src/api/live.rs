//! The live stream, as server-sent events and as a WebSocket: the same events with the same ids over both.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::live::Frame;
use crate::problem::{Answer, Ask, Problem};
use crate::site::Site;

/// Silence after which a sign of life tells both ends that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client may take nothing before it is let go.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes of a message that a client may send: it has nothing to say but signs of life.
const MESSAGE_MAX: usize = 4 << 10;

/// What to follow.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LiveQuery {
    /// Also tell when this agent changes.
    agent: Option<String>,
    /// The id of the last event, for clients that cannot send `Last-Event-ID`.
    last: Option<String>,
    /// True ends the stream after the snapshot.
    once: bool,
}

/// One event of the stream.
struct Told {
    event: &'static str,
    /// What to send to resume after it.
    id: Option<String>,
    /// A JSON document.
    data: String,
}

impl Told {
    fn change(site: &Site, frame: &Frame) -> Self {
        Self { event: "change", id: Some(site.live.id(frame)), data: frame.change.clone() }
    }

    fn snapshot(site: &Site, frame: &Frame) -> Self {
        Self { event: "snapshot", id: Some(site.live.id(frame)), data: frame.snapshot.clone() }
    }

    fn into_sse(self) -> Event {
        let event = Event::default().event(self.event).data(self.data);
        match self.id {
            Some(id) => event.id(id),
            None => event,
        }
    }

    fn into_message(self) -> Message {
        let id = self.id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        Message::text(format!("{{\"event\":\"{}\",\"id\":{id},\"data\":{}}}", self.event, self.data))
    }
}

/// One client, and what it has seen.
struct Follower {
    site: Arc<Site>,
    frames: broadcast::Receiver<Arc<Frame>>,
    ready: Vec<Told>,
    /// The last frame that was sent.
    number: u64,
    agent: Option<(String, Option<String>)>,
    once: bool,
    _permit: OwnedSemaphorePermit,
}

/// The stream as server-sent events.
pub(crate) async fn events(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Ask(query): Ask<LiveQuery>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let follower = Follower::new(site, &headers, query).await?;
    let stream = unfold(follower, |mut follower| async move {
        let told = follower.next().await?;
        Some((Ok(told.into_sse()), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The stream as a WebSocket.
pub(crate) async fn socket(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Ask(query): Ask<LiveQuery>,
    mut request: Request,
) -> Answer<Response> {
    // Browsers open sockets across sites, with cookies, and ask nobody.
    site.options.access.check_origin(&headers)?;
    let says = |name: header::HeaderName, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let is_upgrade = says(header::CONNECTION, "upgrade")
        && says(header::UPGRADE, "websocket")
        && says(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade).cloned();
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    drop(request);
    let (Some(key), Some(upgrade)) = (key, upgrade) else {
        let detail = "this is a WebSocket (RFC 6455, version 13); for server-sent events ask /v1/live";
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, detail));
    };
    let follower = Follower::new(site, &headers, query).await?;
    let talking = async move {
        match upgrade.await {
            Ok(upgraded) => follower.talk(upgraded).await,
            Err(error) => tracing::debug!(%error, "a client asked for a socket and left"),
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a socket outlives its request; it holds one of the permits and ends with the site"
    )]
    drop(tokio::spawn(talking));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Problem::bad("the header Sec-WebSocket-Key is not one"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

impl Follower {
    async fn new(site: Arc<Site>, headers: &HeaderMap, query: LiveQuery) -> Answer<Self> {
        let too_many = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many live streams are open");
        let permit = site.streams.clone().try_acquire_owned().map_err(|_| too_many())?;
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let last = last.or(query.last);
        // Subscribed first, so that nothing falls between the snapshot and the changes after it.
        let frames = site.live.subscribe();
        let missed = last.and_then(|id| site.live.since(&id));
        let (ready, number) = match missed {
            Some(frames) => {
                let number = frames.last().map_or(0, |frame| frame.number);
                (frames.iter().rev().map(|frame| Told::change(&site, frame)).collect(), number)
            }
            None => {
                let frame = site.look(|site| site.frame()).await?;
                (vec![Told::snapshot(&site, &frame)], frame.number)
            }
        };
        let agent = query.agent.map(|agent| (agent, None));
        Ok(Self { site, frames, ready, number, agent, once: query.once, _permit: permit })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop() {
                return Some(told);
            }
            if self.once {
                return None;
            }
            let received = tokio::select! {
                () = self.site.options.cancel.cancelled() => return None,
                received = self.frames.recv() => received,
            };
            match received {
                Ok(frame) if frame.number > self.number => {
                    self.number = frame.number;
                    let of_agent = self.agent_event();
                    self.ready.extend(of_agent);
                    self.ready.push(Told::change(&self.site, &frame));
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => self.catch_up(),
            }
        }
    }

    /// The newest frame as a whole takes the place of those that were missed.
    fn catch_up(&mut self) {
        self.frames = self.frames.resubscribe();
        if let Some(frame) = self.site.live.newest() {
            self.number = frame.number;
            self.ready.push(Told::snapshot(&self.site, &frame));
        }
    }

    fn agent_event(&mut self) -> Option<Told> {
        let (agent, told) = self.agent.as_mut()?;
        let brief = self.site.board.brief(agent)?;
        let data = serde_json::to_string(&brief).ok()?;
        if told.as_ref() == Some(&data) {
            return None;
        }
        *told = Some(data.clone());
        Some(Told { event: "agent", id: None, data })
    }

    /// Speaks to a socket until one of the two has enough. While the client does not read, frames pass it by, and it is
    /// then given a snapshot.
    async fn talk(mut self, upgraded: Upgraded) {
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let stream =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (mut sink, mut heard) = stream.split();
        loop {
            let message = tokio::select! {
                told = tokio::time::timeout(KEEP_ALIVE, self.next()) => match told {
                    Ok(Some(told)) => told.into_message(),
                    Ok(None) => break,
                    Err(_) => Message::Ping(Vec::new().into()),
                },
                // Reading answers pings and notices the end; what else a client says changes nothing.
                said = heard.next() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => continue,
                },
            };
            match tokio::time::timeout(STALLED, sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        // The client may be gone already.
        drop(tokio::time::timeout(STALLED, sink.close()).await);
    }
}
