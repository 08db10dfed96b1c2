//! Telegram, through a bot.
//!
//! The first notice of an incident is a message; worse, reminding and resolving notices reply to it; an
//! acknowledgement edits it in place, which tells everyone who looks and rings nobody. Telegram does not drop a
//! repeated message.

use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::{Occasion, Severity, SmolStr};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Answer, Peer, RETRY_AFTER_MAX, TIMEOUT};
use crate::message::{Message, Press};
use crate::text::{fit, html_char, join_within};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "telegram",
    summary: "Sends to a Telegram chat through a bot",
    example: r#"[sinks.phone]
plugin = "telegram"
token = { env = "TELEGRAM_BOT_TOKEN" }
chat = "-1001234567890"
"#,
    schema: || schema_for!(TelegramConfig),
    build,
};

/// Characters of a message (<https://core.telegram.org/bots/api#sendmessage>). Telegram counts after parsing; this
/// sink counts the markup too.
const TEXT_CHARS_MAX: usize = 4096;
const TITLE_CHARS_MAX: usize = 300;
/// Buttons side by side: more are cut off on a phone.
const BUTTONS_PER_ROW: usize = 2;
const SENTENCE_CHARS_MAX: usize = 800;
const VALUE_CHARS_MAX: usize = 200;

/// Settings of a Telegram sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TelegramConfig {
    /// The bot's token, as its maker BotFather gave it.
    token: SecretRef,
    /// The chat: a number as text (groups are negative) or `@channelname`.
    chat: String,
    /// The topic in a forum group.
    topic: Option<i64>,
    /// Buttons below messages; `[callbacks.telegram]` hears them. One press of `freeze` freezes: Telegram asks nobody
    /// whether that is meant.
    #[serde(default)]
    buttons: Vec<Press>,
    /// The bot API server.
    #[serde(default = "api")]
    api: Address,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn api() -> Address {
    Address::of("https://api.telegram.org")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Telegram {
    config: TelegramConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: TelegramConfig = parse(table)?;
    config.api.guards_credentials("api")?;
    let is_name = config.chat.strip_prefix('@').is_some_and(|name| !name.is_empty());
    if !is_name && config.chat.parse::<i64>().is_err() {
        return Err(ConfigError::new(
            "chat",
            "give the chat's number, such as \"-1001234567890\", or \"@name\"",
        ));
    }
    let vault = Vault::of(build);
    check_token(&vault.check("token", &config.token)?).map_err(|reason| ConfigError::new("token", reason))?;
    let peer = Peer::new(config.timeout, build, &config.api.0)?;
    Ok(Box::new(Telegram { config, vault, peer }))
}

/// A token is part of the path: `123456:ABC-DEF`.
fn check_token(token: &str) -> Result<(), &'static str> {
    let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-');
    if token.bytes().all(is_sane) {
        Ok(())
    } else {
        Err("the secret is not a bot token such as 123456:ABC-DEF")
    }
}

#[async_trait]
impl Sink for Telegram {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let message = Message::with_buttons(dispatch.notice, &self.config.buttons);
        let earlier = dispatch.earlier.and_then(|receipt| receipt.reference.as_deref());
        let earlier = earlier.and_then(|reference| reference.parse::<i64>().ok());
        if let (Some(id), Occasion::Acknowledged) = (earlier, message.occasion)
            && self.edit(&message, id).await?
        {
            return Ok(Receipt { reference: Some(SmolStr::from(id.to_string())) });
        }
        let answer = self.call("sendMessage", &self.new_message(&message, earlier)).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(answer));
        }
        let id = answer.json()["result"]["message_id"].as_i64();
        Ok(Receipt { reference: id.map(|id| SmolStr::from(id.to_string())) })
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

impl Telegram {
    /// Edits the first message. False if it cannot be edited any more, so that a new one must be sent.
    async fn edit(&self, message: &Message, id: i64) -> Result<bool, DeliveryError> {
        let mut body = content(message);
        body["chat_id"] = json!(self.config.chat);
        body["message_id"] = json!(id);
        let answer = self.call("editMessageText", &body).await?;
        if answer.status.is_success() {
            return Ok(true);
        }
        let said = answer.json()["description"].as_str().unwrap_or_default().to_owned();
        match answer.status.as_u16() {
            // An earlier attempt got through and only its answer was lost.
            400 if said.contains("message is not modified") => Ok(true),
            400 => Ok(false),
            _ => Err(self.refusal(answer)),
        }
    }

    fn new_message(&self, message: &Message, earlier: Option<i64>) -> Value {
        let mut body = content(message);
        body["chat_id"] = json!(self.config.chat);
        body["disable_notification"] = json!(is_quiet(message));
        if let Some(topic) = self.config.topic {
            body["message_thread_id"] = json!(topic);
        }
        if let Some(id) = earlier {
            body["reply_parameters"] = json!({ "message_id": id, "allow_sending_without_reply": true });
        }
        body
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Answer, DeliveryError> {
        let token = self.vault.text(&self.config.token)?;
        check_token(&token)
            .map_err(|reason| DeliveryError::Retry { reason: reason.to_owned(), after: None })?;
        let url = self.config.api.join(&[&format!("bot{token}"), method]);
        self.peer.ask(self.peer.post_json(url, body)).await
    }

    /// Telegram says how long to wait in the body.
    fn refusal(&self, mut answer: Answer) -> DeliveryError {
        let secs = answer.json()["parameters"]["retry_after"].as_u64();
        let wait = secs.map(|secs| Duration::from_secs(secs).min(RETRY_AFTER_MAX));
        answer.retry_after = answer.retry_after.or(wait);
        let token = self.vault.text(&self.config.token).unwrap_or_default();
        answer.into_error(&[&token])
    }
}

/// Nobody's phone rings for what can wait.
fn is_quiet(message: &Message) -> bool {
    matches!(message.occasion, Occasion::Acknowledged | Occasion::Resolved)
        || matches!(message.severity, Severity::Info | Severity::Low)
}

/// Text and keyboard, the same for a new and an edited message.
pub(crate) fn content(message: &Message) -> Value {
    let mut body = json!({
        "text": text(message),
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    let link = message.link.iter().map(|link| json!([{ "text": link.label, "url": link.url }]));
    let rows = message.buttons.chunks(BUTTONS_PER_ROW).map(|row| {
        let row = row.iter().map(|button| json!({ "text": button.label, "callback_data": button.words }));
        Value::Array(row.collect())
    });
    let rows: Vec<Value> = rows.chain(link).collect();
    if !rows.is_empty() {
        body["reply_markup"] = json!({ "inline_keyboard": rows });
    }
    body
}

/// The alerts get the room that everything else leaves.
fn text(message: &Message) -> String {
    let line = |text: &str, max| fit(text, max, html_char);
    let mut head = vec![
        format!("<b>{} {}</b>", message.mark(), line(&message.title, TITLE_CHARS_MAX)),
        line(&message.lead, SENTENCE_CHARS_MAX),
        String::new(),
    ];
    let fields = message.fields.iter();
    head.extend(
        fields.map(|field| format!("<b>{}:</b> {}", field.name, line(&field.value, VALUE_CHARS_MAX))),
    );
    let mut tail = vec![String::new(), format!("<b>Next:</b> {}", line(&message.next, SENTENCE_CHARS_MAX))];
    tail.extend(message.footers.iter().map(|footer| format!("<i>{}</i>", line(footer, TITLE_CHARS_MAX))));
    let (head, tail) = (head.join("\n"), tail.join("\n"));
    let used = head.encode_utf16().count() + tail.encode_utf16().count() + 2;
    let parts = message.parts.iter().flat_map(|part| {
        let title = format!("\n<b>{}</b>", line(&part.title, TITLE_CHARS_MAX));
        let lead = (!part.lead.is_empty()).then(|| line(&part.lead, SENTENCE_CHARS_MAX));
        let details = part.details().into_iter().map(|detail| line(&detail, TITLE_CHARS_MAX));
        std::iter::once(title).chain(lead).chain(details).collect::<Vec<_>>()
    });
    let parts = join_within(parts.chain(message.left_out()), TEXT_CHARS_MAX.saturating_sub(used));
    [head, parts, tail].iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, PRESSES, deliver, hostile, notice, reply, sink};

    const TOKEN: &str = "123456:AAH-secret_token";

    fn telegram(peer: &HttpPeer) -> Box<dyn Sink> {
        let table = format!("token = {{ env = \"T\" }}\nchat = \"-100\"\napi = {:?}", peer.url(""));
        sink("telegram", &table, &[("T", TOKEN)])
    }

    fn first() -> Receipt {
        Receipt { reference: Some("77".into()) }
    }

    /// Telegram's limit, and only our own tags, each closed.
    #[track_caller]
    pub(crate) fn check_html(body: &Value) {
        let text = body["text"].as_str().unwrap();
        assert!((1..=TEXT_CHARS_MAX).contains(&text.encode_utf16().count()));
        let tags = ["<b>", "</b>", "<i>", "</i>"];
        let bare = tags.iter().fold(text.to_owned(), |text, tag| text.replace(tag, ""));
        assert!(!bare.contains(['<', '>', '"']), "{bare}");
        assert_eq!(text.matches("<b>").count(), text.matches("</b>").count());
    }

    #[test]
    fn every_occasion_keeps_telegrams_limits() {
        for (occasion, name) in OCCASIONS {
            let body = content(&Message::of(&notice(occasion)));
            insta::assert_json_snapshot!(format!("telegram_{name}"), body);
        }
        let body = content(&Message::of(&hostile()));
        check_html(&body);
        insta::assert_json_snapshot!("telegram_hostile", body);
    }

    #[test]
    fn buttons_keep_telegrams_limit() {
        let body = content(&Message::with_buttons(&notice(Occasion::Opened), &PRESSES));
        let rows = body["reply_markup"]["inline_keyboard"].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| row.as_array().unwrap().len()).collect::<Vec<_>>(), [2, 2, 1, 1]);
        let data = rows
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .filter_map(|button| button["callback_data"].as_str());
        assert!(data.clone().all(|data| (1..=64).contains(&data.len())));
        assert_eq!(data.count(), 5);
        let mut long = notice(Occasion::Opened);
        long.alerts[0].id = railwatch_model::AlertId("a".repeat(60).into());
        assert_eq!(
            Message::with_buttons(&long, &PRESSES).buttons.len(),
            1,
            "what cannot be said is not offered"
        );
        let over = Message::with_buttons(&notice(Occasion::Resolved), &PRESSES);
        assert_eq!(over.buttons.len(), 2, "what is over can be labelled");
    }

    #[test]
    fn later_notices_reply_and_acknowledgements_edit() {
        let sent = r#"{"ok":true,"result":{"message_id":78}}"#;
        for (occasion, earlier, method, expected) in [
            (Occasion::Opened, None, "sendMessage", "78"),
            (Occasion::Worsened, Some(first()), "sendMessage", "78"),
            (Occasion::Resolved, Some(first()), "sendMessage", "78"),
            (Occasion::Acknowledged, Some(first()), "editMessageText", "77"),
            (Occasion::Acknowledged, None, "sendMessage", "78"),
        ] {
            let peer = HttpPeer::play(vec![reply(200, sent)]);
            let receipt = deliver(&*telegram(&peer), &notice(occasion), earlier.as_ref()).unwrap();
            assert_eq!(receipt.reference.as_deref(), Some(expected));
            let request = peer.request();
            assert_eq!(request.line, format!("POST /bot{TOKEN}/{method} HTTP/1.1"));
            let body = request.json();
            assert_eq!(body["chat_id"], "-100");
            let refers = if method == "editMessageText" {
                &body["message_id"]
            } else {
                &body["reply_parameters"]["message_id"]
            };
            assert_eq!(refers.as_i64(), earlier.map(|_| 77));
        }
    }

    #[test]
    fn an_edit_that_is_already_there_is_done_and_one_that_cannot_be_is_sent_anew() {
        let same = r#"{"ok":false,"description":"Bad Request: message is not modified: …"}"#;
        let peer = HttpPeer::play(vec![reply(400, same)]);
        assert_eq!(deliver(&*telegram(&peer), &notice(Occasion::Acknowledged), Some(&first())), Ok(first()));
        let gone = r#"{"ok":false,"description":"Bad Request: message to edit not found"}"#;
        let peer = HttpPeer::play(vec![reply(400, gone), reply(200, r#"{"result":{"message_id":9}}"#)]);
        let receipt = deliver(&*telegram(&peer), &notice(Occasion::Acknowledged), Some(&first())).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("9"));
    }

    #[test]
    fn telegrams_wait_is_heeded_and_the_token_never_shown() {
        let busy = r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":7}}"#;
        let peer = HttpPeer::play(vec![reply(429, busy)]);
        let error = deliver(&*telegram(&peer), &notice(Occasion::Opened), None).unwrap_err();
        assert!(matches!(error, DeliveryError::Retry { after: Some(after), .. } if after.as_secs() == 7));
        let peer = HttpPeer::play(vec![reply(401, &format!("bad token {TOKEN}"))]);
        let error = deliver(&*telegram(&peer), &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 401: bad token •••".to_owned()));
    }
}
