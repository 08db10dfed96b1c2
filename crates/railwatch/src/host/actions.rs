//! What people can do to a running railwatch, in one place for the command line, the API, buttons in chats and the
//! dashboard. Every action is checked here, journaled by the core, and kept in the audit with the name of its author.

mod freeze;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{
    Action, Alert, AlertId, AlertState, Facts, IncidentId, Matcher, Notice, NoticeId, Occasion,
    ReviewVerdict, Severity, Silence, SilenceId, SmolStr, Subject, Timestamp,
};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::config::Span;
use railwatch_store::{AlertFilter, AuditEntry, Effects, Labelling, OutboxId, Reader, Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::core::CoreHandle;
use crate::host::journal::Journal;

/// Characters of a reason or a note.
const TEXT_CHARS_MAX: usize = 500;
/// Silences at a time: each open incident is compared with all of them.
const SILENCES_MAX: usize = 1_000;
/// The longest silence: whoever wants longer changes the configuration.
const SILENCE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How far a preview looks back.
const PREVIEW_DAYS: u64 = 7;
/// Alerts that a preview looks at.
const PREVIEW_ALERTS_MAX: u32 = 20_000;

/// Does what people ask for.
#[derive(Debug, Clone)]
pub(crate) struct Actions {
    pub(crate) core: CoreHandle,
    pub(crate) journal: Journal,
    pub(crate) store_path: Arc<Path>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why an action is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// What it is about does not exist.
    #[error("{0}")]
    Missing(String),
    /// It cannot be done any more, or not yet.
    #[error("{0}")]
    Conflict(String),
    /// railwatch is stopping.
    #[error("railwatch is stopping")]
    Stopping,
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) use self::freeze::FreezeWish;

type Done<T> = Result<T, Refusal>;

/// A silence as people ask for it: matchers or an alert, how long, and why.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SilenceWish {
    /// What it hides.
    #[serde(rename = "match")]
    pub(crate) matcher: Matcher,
    /// Instead of matchers: the subject and the trigger of this alert.
    pub(crate) alert: Option<SmolStr>,
    /// From; now by default.
    pub(crate) from: Option<Timestamp>,
    /// How long, such as `"2h"`.
    #[serde(rename = "for")]
    pub(crate) lasts: Option<Span>,
    /// Instead of how long: until when.
    pub(crate) until: Option<Timestamp>,
    /// True to end it as soon as what it hides is over.
    pub(crate) until_resolved: bool,
    /// Why.
    pub(crate) reason: String,
}

/// What a silence would hide.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Preview {
    /// The silence.
    pub(crate) silence: Silence,
    /// Open alerts that it would hide now.
    pub(crate) open: Vec<Alert>,
    /// Alerts of the last seven days that it would have hidden.
    pub(crate) last_week: u64,
    /// Of them, those that were high or critical.
    pub(crate) last_week_severe: u64,
}

impl Actions {
    /// Reads the store on a thread of its own, so that a slow disk delays nobody else.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Done<T> {
        let path = self.store_path.clone();
        let task = tokio::task::spawn_blocking(move || read(&Store::open_read_only(&path)?));
        Ok(task.await.map_err(|_| Refusal::Stopping)??)
    }

    /// One alert.
    pub(crate) async fn alert(&self, alert: &str) -> Done<Alert> {
        let id = AlertId(alert.into());
        let found = self.read(move |store| store.alert(&id)).await?;
        found.ok_or_else(|| Refusal::Missing(format!("there is no alert {alert}")))
    }

    /// Takes the incident of an alert.
    pub(crate) async fn acknowledge(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Done<Alert> {
        check_text("note", note.as_deref())?;
        self.attend(by, alert, |incident| Action::Acknowledge { incident, note: note.clone() }).await
    }

    /// Closes the incident of an alert.
    pub(crate) async fn resolve(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Done<Alert> {
        check_text("note", note.as_deref())?;
        self.attend(by, alert, |incident| Action::Resolve { incident, note: note.clone() }).await
    }

    /// Does something with the incident of an alert, or with all incidents that one message told.
    async fn attend(&self, by: SmolStr, alert: &str, action: impl Fn(IncidentId) -> Action) -> Done<Alert> {
        if alert.starts_with("gathered-") {
            return self.attend_all(by, alert, action).await;
        }
        let found = self.alert(alert).await?;
        if found.state == AlertState::Resolved {
            return Err(Refusal::Conflict(format!("alert {alert} is resolved already")));
        }
        self.act(by, action(found.incident)).await?;
        let id = found.id;
        let changed = self.settled(move |store| store.alert(&id)).await?;
        changed.ok_or_else(|| Refusal::Missing(format!("alert {alert} is forgotten already")))
    }

    /// Reads behind everything that the core has sent to be written: what a person just did is seen.
    async fn settled<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Done<T> {
        Ok(self.journal.run(read).await.ok_or(Refusal::Stopping)??)
    }

    async fn attend_all(
        &self,
        by: SmolStr,
        name: &str,
        action: impl Fn(IncidentId) -> Action,
    ) -> Done<Alert> {
        let message = name.to_owned();
        let incidents = self.read(move |store| store.gathered(&message)).await?;
        let first = incidents.first().cloned();
        let first = first.ok_or_else(|| Refusal::Missing(format!("no message is named {name}")))?;
        for incident in incidents {
            self.act(by.clone(), action(incident)).await?;
        }
        let filter = AlertFilter { incident: Some(first), ..AlertFilter::default() };
        let alerts = self.read(move |store| store.alerts(&filter, 1)).await?;
        alerts
            .items
            .into_iter()
            .next()
            .ok_or_else(|| Refusal::Missing(format!("{name} is forgotten already")))
    }

    /// Says what an alert was.
    pub(crate) async fn label(
        &self,
        by: SmolStr,
        alert: &str,
        verdict: ReviewVerdict,
        note: Option<SmolStr>,
    ) -> Done<Labelling> {
        check_text("note", note.as_deref())?;
        let id = self.alert(alert).await?.id;
        self.act(by, Action::Label { alert: id.clone(), verdict, note }).await?;
        let label = self.settled(move |store| store.label(&id)).await?;
        label.ok_or_else(|| Refusal::Missing(format!("alert {alert} is forgotten already")))
    }

    /// Makes a silence.
    pub(crate) async fn silence(&self, by: SmolStr, wish: SilenceWish) -> Done<Silence> {
        let silence = self.plan_silence(by.clone(), wish).await?;
        let n = self.core.look(|engine| engine.silences().len()).await.ok_or(Refusal::Stopping)?;
        if n >= SILENCES_MAX {
            let why = format!("there are {SILENCES_MAX} silences already; expire some, or use a mute window");
            return Err(Refusal::Conflict(why));
        }
        self.act(by, Action::Silence(silence.clone())).await?;
        Ok(silence)
    }

    /// Says what a silence would hide, and makes none.
    pub(crate) async fn preview_silence(&self, by: SmolStr, wish: SilenceWish) -> Done<Preview> {
        let silence = self.plan_silence(by, wish).await?;
        let matcher = silence.matcher.clone();
        let open = self.core.look(railwatch_engine::Engine::open_alerts).await.ok_or(Refusal::Stopping)?;
        let open = open.into_iter().filter(|alert| matcher.accepts(&Facts::of_alert(alert))).collect();
        let since = self.clock.now().before(Duration::from_secs(PREVIEW_DAYS * 86_400));
        let filter = AlertFilter { since: Some(since), ..AlertFilter::default() };
        let past = self.read(move |store| store.alerts(&filter, PREVIEW_ALERTS_MAX)).await?;
        let hidden = past.items.iter().filter(|alert| silence.matcher.accepts(&Facts::of_alert(alert)));
        let (mut last_week, mut last_week_severe) = (0, 0);
        for alert in hidden {
            last_week += 1;
            last_week_severe += u64::from(alert.severity >= Severity::High);
        }
        Ok(Preview { silence, open, last_week, last_week_severe })
    }

    async fn plan_silence(&self, by: SmolStr, wish: SilenceWish) -> Done<Silence> {
        let wrong = |why: &str| Err(Refusal::Wrong(why.to_owned()));
        let matcher = match &wish.alert {
            Some(_) if !wish.matcher.is_empty() => {
                return wrong("give either matchers or an alert");
            }
            Some(alert) => like(&self.alert(alert).await?),
            None => wish.matcher,
        };
        if matcher.is_empty() {
            return wrong("a silence needs a condition, such as agent=research-7; agent=* hides every agent");
        }
        if wish.reason.trim().is_empty() {
            return wrong("say why: whoever misses the alert will want to know");
        }
        check_text("reason", Some(&wish.reason))?;
        let now = self.clock.now();
        let from = wish.from.unwrap_or(now);
        let until = match (wish.lasts, wish.until) {
            (Some(lasts), None) => from.after(lasts.0),
            (None, Some(until)) => until,
            _ => return wrong("give either how long (for) or until when (until)"),
        };
        if until <= now || until <= from {
            return wrong("a silence must end after it begins, and not in the past");
        }
        if until > now.after(SILENCE_MAX) {
            return wrong("a silence lasts for a year at most; use a mute window or change the rule");
        }
        let id = SilenceId(random_name("s")?);
        let reason = SmolStr::new(wish.reason.trim());
        Ok(Silence { id, matcher, by, reason, from, until, until_resolved: wish.until_resolved })
    }

    /// The silences that are in force or will be.
    pub(crate) async fn silences(&self) -> Done<Vec<Silence>> {
        self.core.look(|engine| engine.silences().to_vec()).await.ok_or(Refusal::Stopping)
    }

    /// Ends a silence before its time.
    pub(crate) async fn unsilence(&self, by: SmolStr, id: &str) -> Done<Silence> {
        let known = self.silences().await?.into_iter().find(|silence| silence.id.0 == id);
        let known =
            known.ok_or_else(|| Refusal::Missing(format!("no silence {id} is in force or to come")))?;
        self.act(by, Action::Unsilence { silence: known.id.clone() }).await?;
        Ok(known)
    }

    /// Tries a notice again, or gives it up: `retry` or `drop`.
    pub(crate) async fn change_outbox(&self, by: SmolStr, id: OutboxId, verb: &str) -> Done<()> {
        let at = self.clock.now();
        let change = match verb {
            "retry" => Store::retry_outbox,
            "drop" => Store::drop_outbox,
            other => return Err(Refusal::Missing(format!("{other:?} is not retry or drop"))),
        };
        let what = SmolStr::new(format!("outbox.{verb}"));
        let entry = AuditEntry { at, by, what, subject: id.to_string(), detail: serde_json::Value::Null };
        let changed = self.journal.run(move |store| {
            change(store, id, at)?;
            store.record_audit(&entry)
        });
        changed.await.ok_or(Refusal::Stopping)?.map_err(|error| Refusal::Conflict(error.to_string()))?;
        Ok(())
    }

    /// Queues a test message for a sink; its delivery is seen in the outbox.
    pub(crate) async fn test_sink(&self, by: SmolStr, sink: SmolStr) -> Done<NoticeId> {
        let at = self.clock.now();
        let notice = test_notice(&sink, &by, at);
        let id = notice.id.clone();
        let effects = Effects { outbox: vec![(sink, notice)], ..Effects::default() };
        let queued = self.journal.run(move |store| store.write_effects(&[effects]));
        queued.await.ok_or(Refusal::Stopping)??;
        Ok(id)
    }

    async fn act(&self, by: SmolStr, action: Action) -> Done<()> {
        // The core has sent what follows from it to the store's thread, which is done with that when it answers.
        let is_done = self.core.act(by, action).await && self.journal.run(|_| ()).await.is_some();
        if is_done { Ok(()) } else { Err(Refusal::Stopping) }
    }
}

/// A message that says that messages arrive.
pub(crate) fn test_notice(sink: &str, by: &str, at: Timestamp) -> Notice {
    let id = format!("test-{sink}-{}", at.micros());
    Notice {
        id: NoticeId(id.as_str().into()),
        incident: IncidentId(id.into()),
        occasion: Occasion::Test,
        subject: Subject::Railwatch,
        team: None,
        labels: Vec::new(),
        escalations: Vec::new(),
        severity: Severity::Info,
        headline: format!("this is a test of the sink {sink}, asked for by {by}"),
        alerts: Vec::new(),
        at,
        link: None,
        may_repeat: false,
        order: None,
        report: None,
    }
}

/// The subject and the trigger of an alert.
fn like(alert: &Alert) -> Matcher {
    let facts = Facts::of_alert(alert);
    let text = |text: Option<SmolStr>| text.map(|text| text.to_string());
    let is_team = matches!(alert.subject, Subject::Team(_));
    Matcher {
        agent: text(facts.agent),
        team: if is_team { text(facts.team) } else { None },
        source: text(facts.source),
        kind: text(facts.kinds.first().cloned()),
        ..Matcher::default()
    }
}

/// A name that nothing else has, such as `s-0123abcd`.
fn random_name(kind: &str) -> Done<SmolStr> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|_| Refusal::Conflict("no random numbers".to_owned()))?;
    Ok(SmolStr::new(format!("{kind}-{:08x}", u32::from_be_bytes(random))))
}

fn check_text(what: &str, text: Option<&str>) -> Done<()> {
    let text = text.unwrap_or_default();
    if text.chars().count() > TEXT_CHARS_MAX || text.chars().any(|c| c.is_control() && c != '\n') {
        let why = format!("a {what} has at most {TEXT_CHARS_MAX} characters and no control characters");
        return Err(Refusal::Wrong(why));
    }
    Ok(())
}
