//! What people press and write in their chats comes back here: verified, mapped to a person, done as everything else
//! that people do, and answered.
//!
//! Invariants: nothing is parsed before its sender is proven; what was seen once is not done again; whoever the
//! configuration does not name does nothing. A request that is older than this process is not done: it may be a
//! repetition of one that an earlier process has seen.

mod command;
mod slack;
mod telegram;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use railwatch_model::{SmolStr, Timestamp};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::http::{HttpCall, HttpMount as _, HttpReply};
use railwatch_plugin::secret::Secrets;
use railwatch_sources::verify::{Verifier, VerifyConfig, VerifyTable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Callbacks, Person};
use crate::host::actions::Actions;
use crate::host::http::Mounts;

/// Where Slack posts buttons and slash commands.
pub(crate) const SLACK_PATH: &str = "/in/callbacks/slack";
/// Where Telegram posts updates.
pub(crate) const TELEGRAM_PATH: &str = "/in/callbacks/telegram";
/// Who holds the paths; no source may be called so.
pub(crate) const OWNER: SmolStr = SmolStr::new_static("callbacks/");
/// Bytes of a request: Slack sends the whole message along.
const BODY_MAX: usize = 256 << 10;
/// Requests that are remembered, so that a repetition is recognized; older than five minutes they are refused anyway.
const SEEN_MAX: usize = 20_000;
/// Requests that are being done at a time.
const AT_ONCE_MAX: usize = 32;
/// How long telling a person what came of it may take.
const TELL_MAX: Duration = Duration::from_secs(5);

/// What the chats are known by and who is who; when it changes, the callbacks start anew.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settings {
    pub(crate) callbacks: Callbacks,
    pub(crate) people: Vec<Person>,
}

/// A request of a proven sender.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// Names the request: the same name is the same request.
    name: String,
    /// Who, as the chat knows them.
    who: Who,
    /// What, in the words of [`command`].
    words: String,
    /// How to answer.
    answer: Answer,
}

/// A person as a chat knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Slack { user: String, workspace: String },
    Telegram { user: i64 },
}

/// How a person is told what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// In the answer to the request, in the chat's own form.
    Here(Here),
    /// By a request to this address of Slack's; the request itself is answered at once.
    There(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Here {
    SlackCommand,
    TelegramQuery { id: String },
    TelegramMessage { chat: i64, message: i64 },
}

/// One chat: how its sender is proven and how its requests are read.
struct Chat {
    name: &'static str,
    calls: mpsc::Receiver<HttpCall>,
    verifier: Verifier,
    read: fn(&[u8], &HeaderMap) -> Result<Option<Asked>, &'static str>,
}

/// Requests that were seen.
#[derive(Debug, Default)]
struct Seen {
    names: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// True if it is new.
    fn is_new(&mut self, name: &str) -> bool {
        if !self.names.insert(name.to_owned()) {
            return false;
        }
        self.order.push_back(name.to_owned());
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        true
    }
}

/// What it takes to do what people ask.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) settings: Settings,
    pub(crate) actions: Actions,
    pub(crate) clock: Arc<dyn Clock>,
    /// Tells people what came of it.
    http: reqwest::Client,
}

/// How Slack and Telegram prove themselves, checked before anything is started.
#[derive(Debug)]
pub(crate) struct Proofs {
    slack: Option<Verifier>,
    telegram: Option<Verifier>,
}

impl Proofs {
    /// Resolves the secrets.
    pub(crate) fn new(
        settings: &Settings,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Self, (String, ConfigError)> {
        let verifier = |section: &str, table: VerifyTable| {
            Verifier::new(&VerifyConfig::Table(Box::new(table)), secrets)
                .map_err(|error| (format!("callbacks.{section}"), ConfigError::new("", error.message)))
        };
        let Callbacks { slack, telegram } = &settings.callbacks;
        let slack = slack.as_ref().map(|slack| verifier("slack", slack::proof(slack))).transpose()?;
        let telegram =
            telegram.as_ref().map(|telegram| verifier("telegram", telegram::proof(telegram))).transpose()?;
        Ok(Self { slack, telegram })
    }

    /// True if no chat is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.slack.is_none() && self.telegram.is_none()
    }
}

impl Desk {
    pub(crate) fn new(settings: Settings, actions: Actions) -> Self {
        // Whoever installed one before is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(TELL_MAX).redirect(reqwest::redirect::Policy::none());
        let clock = actions.clock.clone();
        Self { settings, actions, clock, http: http.build().unwrap_or_default() }
    }

    /// Takes requests until cancelled.
    pub(crate) async fn run(self, proofs: Proofs, mounts: Arc<Mounts>, cancel: CancellationToken) {
        let started_at = self.clock.now();
        let (mut seen, mut under_way) = (Seen::default(), FuturesUnordered::new());
        let mut slack = mount(&mounts, "slack", SLACK_PATH, proofs.slack, slack::read).await;
        let mut telegram = mount(&mounts, "telegram", TELEGRAM_PATH, proofs.telegram, telegram::read).await;
        loop {
            let has_room = under_way.len() < AT_ONCE_MAX;
            let (chat, call) = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                Some(call) = next(&mut slack), if has_room && slack.is_some() => (&slack, call),
                Some(call) = next(&mut telegram), if has_room && telegram.is_some() => (&telegram, call),
                else => return,
            };
            let Some(chat) = chat else { continue };
            match self.admit(chat, &call, &mut seen, started_at) {
                Ok(Some(asked)) => under_way.push(self.answer(call, asked)),
                Ok(None) => reply(call, HttpReply::text(StatusCode::OK, "")),
                Err((status, why)) => {
                    tracing::warn!(chat = chat.name, why, "a callback is refused");
                    reply(call, HttpReply::text(status, why));
                }
            }
        }
    }

    /// Lets a request through once, if its sender is who he says.
    fn admit(
        &self,
        chat: &Chat,
        call: &HttpCall,
        seen: &mut Seen,
        started_at: Timestamp,
    ) -> Result<Option<Asked>, (StatusCode, String)> {
        if call.method != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "post here".to_owned()));
        }
        let now = self.clock.now();
        let proof = chat.verifier.verify(&call.headers, &call.body, now);
        proof.map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string()))?;
        if slack::sent_at(&call.headers).is_some_and(|sent_at| sent_at.secs() < started_at.secs()) {
            return Err((StatusCode::CONFLICT, "sent before railwatch started; do it again".to_owned()));
        }
        let asked = (chat.read)(&call.body, &call.headers);
        let asked = asked.map_err(|why| (StatusCode::BAD_REQUEST, why.to_owned()))?;
        Ok(asked.filter(|asked| seen.is_new(&format!("{} {}", chat.name, asked.name))))
    }

    async fn answer(&self, call: HttpCall, asked: Asked) {
        match &asked.answer {
            Answer::Here(here) => {
                let said = self.attend(&asked).await;
                let body = match here {
                    Here::SlackCommand => slack::whisper(&said),
                    Here::TelegramQuery { id } => telegram::answer_query(id, &said),
                    Here::TelegramMessage { chat, message } => {
                        telegram::answer_message(*chat, *message, &said)
                    }
                };
                let body = body.to_string().into_bytes().into();
                let content_type = "application/json";
                reply(call, HttpReply { status: StatusCode::OK, content_type, body, retry_after: None });
            }
            Answer::There(address) => {
                // Slack waits for three seconds only.
                reply(call, HttpReply::text(StatusCode::OK, ""));
                let said = self.attend(&asked).await;
                let Some(address) = slack::safe_address(address) else { return };
                let told = self.http.post(address).json(&slack::whisper(&said)).send().await;
                if let Err(error) = told {
                    tracing::warn!(error = %error.without_url(), "a person cannot be told what came of a click");
                }
            }
        }
    }

    /// Does what is asked, and says what came of it.
    async fn attend(&self, asked: &Asked) -> String {
        let Some(person) = self.person(&asked.who) else {
            tracing::warn!(who = ?asked.who, "a callback of somebody whom the configuration does not name");
            return format!("railwatch does not know you: add {} to [[people]]", asked.who.as_setting());
        };
        command::attend(&self.actions, SmolStr::new(&person.name), &asked.words).await
    }

    fn person(&self, who: &Who) -> Option<&Person> {
        let workspace = self.settings.callbacks.slack.as_ref().and_then(|slack| slack.workspace.as_deref());
        self.settings.people.iter().find(|person| match who {
            Who::Slack { user, workspace: from } => {
                person.slack.as_deref() == Some(user.as_str())
                    && workspace.is_none_or(|workspace| workspace == from)
            }
            Who::Telegram { user } => person.telegram == Some(*user),
        })
    }
}

impl Who {
    /// As the configuration writes it.
    fn as_setting(&self) -> String {
        match self {
            Self::Slack { user, .. } => format!("slack = {user:?}"),
            Self::Telegram { user } => format!("telegram = {user}"),
        }
    }
}

async fn mount(
    mounts: &Mounts,
    name: &'static str,
    path: &str,
    verifier: Option<Verifier>,
    read: fn(&[u8], &HeaderMap) -> Result<Option<Asked>, &'static str>,
) -> Option<Chat> {
    let verifier = verifier?;
    match mounts.of(&OWNER).mount(path, BODY_MAX).await {
        Ok(calls) => Some(Chat { name, calls, verifier, read }),
        Err(error) => {
            tracing::error!(%error, "callbacks are not heard");
            None
        }
    }
}

async fn next(chat: &mut Option<Chat>) -> Option<HttpCall> {
    match chat {
        Some(chat) => chat.calls.recv().await,
        None => None,
    }
}

fn reply(call: HttpCall, reply: HttpReply) {
    // The caller may have gone.
    drop(call.reply.send(reply));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_new_until_much_more_was_seen() {
        let mut seen = Seen::default();
        assert!(seen.is_new("a") && !seen.is_new("a"));
        assert!((0..SEEN_MAX).all(|n| seen.is_new(&n.to_string())));
        assert!(seen.is_new("a"));
        assert_eq!(seen.names.len(), SEEN_MAX);
    }
}
