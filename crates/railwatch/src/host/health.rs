//! Self-alerts: what is wrong with railwatch itself or a source, told like everything else.
//!
//! Whoever notices a condition calls [`Health::hold`] while it holds and [`Health::over`] when it is over, as often as
//! it likes: only changes are journaled. Neither call waits, so that they can be made from the store's thread too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use railwatch_model::{Condition, ConditionKind, Holding, Severity, SmolStr, Subject};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::host::core::{Command, CoreHandle};

/// Conditions that can hold at a time; more would be one alert each for something that has gone wrong as a whole.
const HELD_MAX: usize = 1_000;

/// Where conditions are reported.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

type Key = (Subject, ConditionKind, SmolStr);

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Key, Holding>,
    /// What the core has yet to hear.
    news: BTreeMap<Key, Option<Holding>>,
}

impl Health {
    /// The conditions that the engine believes to hold, from before railwatch was started.
    pub(crate) fn new(held: Vec<Condition>) -> Self {
        let known = held.into_iter().filter_map(|condition| {
            Some(((condition.subject, condition.kind, condition.about), condition.holding?))
        });
        let state = State { held: known.collect(), ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Something holds. `about` says which of several; the sentence says what happened and what to do, and contains no
    /// secret.
    pub(crate) fn hold(
        &self,
        subject: Subject,
        kind: ConditionKind,
        about: &str,
        severity: Severity,
        summary: impl AsRef<str>,
    ) {
        let holding = Holding { severity, summary: SmolStr::new(summary) };
        let key = (subject, kind, SmolStr::new(about));
        let mut state = self.state();
        let is_known = state.held.get(&key) == Some(&holding);
        if is_known || (state.held.len() >= HELD_MAX && !state.held.contains_key(&key)) {
            return;
        }
        state.held.insert(key.clone(), holding.clone());
        state.news.insert(key, Some(holding));
        drop(state);
        self.0.changed.notify_one();
    }

    /// True if something holds already, and is as grave.
    pub(crate) fn holds(
        &self,
        subject: &Subject,
        kind: ConditionKind,
        about: &str,
        severity: Severity,
    ) -> bool {
        let key = (subject.clone(), kind, SmolStr::new(about));
        self.state().held.get(&key).is_some_and(|holding| holding.severity == severity)
    }

    /// Something does not hold, or no longer.
    pub(crate) fn over(&self, subject: &Subject, kind: ConditionKind, about: &str) {
        self.end(|key| key.0 == *subject && key.1 == kind && key.2 == about);
    }

    /// Ends the conditions of one kind about things that are gone.
    pub(crate) fn keep(&self, kind: ConditionKind, still_there: impl Fn(&Subject, &str) -> bool) {
        self.end(|(subject, of_kind, about)| *of_kind == kind && !still_there(subject, about));
    }

    fn end(&self, ends: impl Fn(&Key) -> bool) {
        let mut state = self.state();
        let over: Vec<Key> = state.held.keys().filter(|key| ends(key)).cloned().collect();
        if over.is_empty() {
            return;
        }
        for key in over {
            state.held.remove(&key);
            state.news.insert(key, None);
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Brings news to the core until cancelled.
    pub(crate) async fn run(self, core: CoreHandle, cancel: CancellationToken) {
        loop {
            let news = std::mem::take(&mut self.state().news);
            for ((subject, kind, about), holding) in news {
                let condition = Condition { subject, kind, about, holding };
                if !core.send(Command::Report(condition)).await {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(health: &Health) -> Vec<String> {
        let news = std::mem::take(&mut health.state().news);
        let line = |((subject, kind, about), holding): (Key, Option<Holding>)| {
            let how = holding.map_or_else(|| "over".to_owned(), |holding| holding.summary.to_string());
            format!("{} {kind} {about}: {how}", subject.key())
        };
        news.into_iter().map(line).collect()
    }

    #[test]
    fn only_changes_are_news() {
        let health = Health::new(Vec::new());
        let source = || Subject::Source("gate".into());
        let fails = |why: &str| health.hold(source(), ConditionKind::RailBlind, "", Severity::High, why);
        health.over(&source(), ConditionKind::RailBlind, "");
        assert_eq!(news(&health), Vec::<String>::new());
        fails("refused");
        fails("refused");
        assert_eq!(news(&health), ["source:gate rail_blind : refused"]);
        fails("refused");
        assert_eq!(news(&health), Vec::<String>::new());
        fails("timeout");
        assert_eq!(news(&health), ["source:gate rail_blind : timeout"]);
        health.over(&source(), ConditionKind::RailBlind, "");
        assert_eq!(news(&health), ["source:gate rail_blind : over"]);
    }

    #[test]
    fn what_held_before_a_restart_ends_when_it_is_over_or_gone() {
        let held = |about: &str| Condition {
            subject: Subject::Railwatch,
            kind: ConditionKind::SinkFailing,
            about: about.into(),
            holding: Some(Holding { severity: Severity::High, summary: "down".into() }),
        };
        let health = Health::new(vec![held("slack"), held("mail")]);
        health.keep(ConditionKind::SinkFailing, |_, about| about != "mail");
        assert_eq!(news(&health), ["railwatch sink_failing mail: over"]);
        health.over(&Subject::Railwatch, ConditionKind::SinkFailing, "slack");
        assert_eq!(news(&health), ["railwatch sink_failing slack: over"]);
    }
}
