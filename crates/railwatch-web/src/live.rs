//! The live stream: what changed in the fleet, a few times a second, the same frames for everybody who looks.
//!
//! A client that reads too slowly misses frames and is given a whole snapshot instead; nothing waits for it. A client
//! that comes back with the id of its last frame gets what it missed, or a snapshot if that is too long ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use railwatch_model::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use crate::board::Table;
use crate::fleet::{AlertBrief, Fleet, summary, top};
use crate::row::AgentBrief;

/// Agents that the stream shows.
const AGENTS: u32 = 60;
/// Frames that a client may be behind.
const FRAMES: usize = 64;

/// One step of the stream.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Grows by one with every frame.
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) made_at: Timestamp,
    /// Everything that is shown.
    pub(crate) snapshot: String,
    /// What is different from the frame before.
    pub(crate) change: String,
}

/// The frames.
#[derive(Debug)]
pub(crate) struct Live {
    /// Tells the frames of one process from those of another.
    epoch: String,
    sender: broadcast::Sender<Arc<Frame>>,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    frames: VecDeque<Arc<Frame>>,
    /// What the last frame showed, by name.
    shown: HashMap<String, String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    fleet: &'a Fleet,
    /// The agents that need a look, in order.
    order: Vec<&'a str>,
    /// The order of the alerts.
    alerts_order: Vec<&'a str>,
    agents: Vec<&'a RawValue>,
    alerts: Vec<&'a RawValue>,
}

impl Live {
    pub(crate) fn new(epoch: String) -> Self {
        Self { epoch, sender: broadcast::channel(FRAMES).0, past: Mutex::default() }
    }

    /// True if somebody looks.
    pub(crate) fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.sender.subscribe()
    }

    /// The event id of a frame.
    pub(crate) fn id(&self, frame: &Frame) -> String {
        format!("{}.{}", self.epoch, frame.number)
    }

    /// Makes the next frame of the table and gives it to everybody who looks.
    pub(crate) fn publish(&self, table: &Table, review_above: f32) -> Arc<Frame> {
        let mut fleet = summary(table, review_above);
        let alerts = std::mem::take(&mut fleet.alerts);
        let agents = top(table, AGENTS);
        self.frame(&fleet, &agents, &alerts)
    }

    fn frame(&self, fleet: &Fleet, agents: &[AgentBrief], alerts: &[AlertBrief]) -> Arc<Frame> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = |value: Result<Box<RawValue>, serde_json::Error>| value.ok();
        let agents: Vec<(&str, Box<RawValue>)> = agents
            .iter()
            .filter_map(|agent| Some((agent.agent.as_str(), raw(serde_json::value::to_raw_value(agent))?)))
            .collect();
        let alerts: Vec<(&str, Box<RawValue>)> = alerts
            .iter()
            .filter_map(|alert| Some((alert.id.0.as_str(), raw(serde_json::value::to_raw_value(alert))?)))
            .collect();
        let is_new = |kind: &str, (name, value): &(&str, Box<RawValue>)| {
            past.shown.get(&format!("{kind}:{name}")).is_none_or(|old| old != value.get())
        };
        let shown = |all: bool| {
            let pick = |kind: &'static str, items: &'_ [(&'_ str, Box<RawValue>)]| -> Vec<usize> {
                (0..items.len()).filter(|at| all || is_new(kind, &items[*at])).collect()
            };
            let (picked_agents, picked_alerts) = (pick("agent", &agents), pick("alert", &alerts));
            let shown = Shown {
                fleet,
                order: agents.iter().map(|(name, _)| *name).collect(),
                alerts_order: alerts.iter().map(|(name, _)| *name).collect(),
                agents: picked_agents.into_iter().map(|at| &*agents[at].1).collect(),
                alerts: picked_alerts.into_iter().map(|at| &*alerts[at].1).collect(),
            };
            serde_json::to_string(&shown).unwrap_or_default()
        };
        let number = past.frames.back().map_or(1, |last| last.number + 1);
        let frame =
            Arc::new(Frame { number, made_at: fleet.now, snapshot: shown(true), change: shown(false) });
        let names = |kind: &'static str, items: &[(&str, Box<RawValue>)]| {
            let named =
                items.iter().map(move |(name, value)| (format!("{kind}:{name}"), value.get().to_owned()));
            named.collect::<Vec<_>>()
        };
        past.shown = names("agent", &agents).into_iter().chain(names("alert", &alerts)).collect();
        past.frames.push_back(frame.clone());
        if past.frames.len() > FRAMES {
            past.frames.pop_front();
        }
        // Nobody may be looking.
        drop(self.sender.send(frame.clone()));
        frame
    }

    /// The last frame that was made.
    pub(crate) fn newest(&self) -> Option<Arc<Frame>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).frames.back().cloned()
    }

    /// What a client that saw the frame `id` last has missed; `None` if only a snapshot helps.
    pub(crate) fn since(&self, id: &str) -> Option<Vec<Arc<Frame>>> {
        let (epoch, number) = id.rsplit_once('.')?;
        let number: u64 = number.parse().ok()?;
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = epoch == self.epoch
            && past.frames.front().is_some_and(|first| first.number <= number.saturating_add(1))
            && past.frames.back().is_some_and(|last| last.number >= number);
        is_known.then(|| past.frames.iter().filter(|frame| frame.number > number).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::board::{Board, Update};
    use crate::row::Row;

    fn show(board: &Board, agent: &str, score: f64) {
        let row = Row::new(agent.into(), score, &[]);
        board.take(Update::Rows(vec![(usize::from(agent.as_bytes()[0]), Some(row))]));
    }

    fn names(text: &str, key: &str) -> Vec<String> {
        let value: Value = serde_json::from_str(text).unwrap();
        let items = value[key].as_array().unwrap();
        items.iter().map(|item| item["agent"].as_str().or(item.as_str()).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_change_holds_only_what_is_different() {
        let (board, live) = (Board::default(), Live::new("e".into()));
        show(&board, "a", 0.1);
        show(&board, "b", 0.2);
        let first = live.publish(&board.read(), 0.7);
        assert_eq!(names(&first.change, "agents"), ["b", "a"]);
        show(&board, "a", 0.3);
        let second = live.publish(&board.read(), 0.7);
        assert_eq!(names(&second.change, "agents"), ["a"]);
        assert_eq!(names(&second.change, "order"), ["a", "b"]);
        assert_eq!(names(&second.snapshot, "agents"), ["a", "b"]);
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_or_a_snapshot() {
        let (board, live) = (Board::default(), Live::new("e".into()));
        show(&board, "a", 0.1);
        let first = live.publish(&board.read(), 0.7);
        let numbers = |id: &str| {
            live.since(id).map(|frames| frames.iter().map(|frame| frame.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&live.id(&first)), Some(vec![]));
        for _ in 0..10 {
            live.publish(&board.read(), 0.7);
        }
        assert_eq!(numbers("e.8"), Some(vec![9, 10, 11]));
        assert_eq!(numbers("other.8"), None);
        assert_eq!(numbers("e.12"), None);
        for _ in 0..FRAMES {
            live.publish(&board.read(), 0.7);
        }
        assert_eq!(numbers("e.8"), None);
    }
}
