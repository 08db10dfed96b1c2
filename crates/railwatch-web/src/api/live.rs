//! The live stream as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::live::Frame;
use crate::problem::{Answer, Ask, Problem};
use crate::site::Site;

/// Silence after which a comment tells both ends that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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

struct Follower {
    site: Arc<Site>,
    frames: broadcast::Receiver<Arc<Frame>>,
    ready: Vec<Event>,
    /// The last frame that was sent.
    number: u64,
    agent: Option<(String, Option<String>)>,
    once: bool,
    _permit: OwnedSemaphorePermit,
}

pub(crate) async fn live(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Ask(query): Ask<LiveQuery>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
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
            (frames.iter().rev().map(|frame| change(&site, frame)).collect(), number)
        }
        None => {
            let frame = site.look(|site| site.frame()).await?;
            (vec![snapshot(&site, &frame)], frame.number)
        }
    };
    let agent = query.agent.map(|agent| (agent, None));
    let follower = Follower { site, frames, ready, number, agent, once: query.once, _permit: permit };
    let stream = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn change(site: &Site, frame: &Frame) -> Event {
    Event::default().event("change").id(site.live.id(frame)).data(&frame.change)
}

fn snapshot(site: &Site, frame: &Frame) -> Event {
    Event::default().event("snapshot").id(site.live.id(frame)).data(&frame.snapshot)
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Some(event);
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
                    self.ready.push(change(&self.site, &frame));
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
            self.ready.push(snapshot(&self.site, &frame));
        }
    }

    fn agent_event(&mut self) -> Option<Event> {
        let (agent, told) = self.agent.as_mut()?;
        let brief = self.site.board.brief(agent)?;
        let text = serde_json::to_string(&brief).ok()?;
        if told.as_ref() == Some(&text) {
            return None;
        }
        *told = Some(text.clone());
        Some(Event::default().event("agent").data(text))
    }
}
