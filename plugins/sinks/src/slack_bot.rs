//! Slack, through an app's bot token: one thread per incident.
//!
//! The first notice is a message in the channel; later ones answer in its thread, and those that must be seen are
//! shown in the channel as well. The first message always shows the present state: an acknowledgement and a
//! resolution edit it. Slack does not drop a repeated post.

use async_trait::async_trait;
use railwatch_model::{Occasion, SmolStr};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT, quote};
use crate::message::{Message, Press};
use crate::slack;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "slack_bot",
    summary: "Posts to Slack through a bot, one thread per incident",
    example: r#"[sinks.oncall]
plugin = "slack_bot"
token = { env = "SLACK_BOT_TOKEN" }
channel = "C0123456789"
"#,
    schema: || schema_for!(SlackBotConfig),
    build,
};

/// Errors that pass by themselves (<https://docs.slack.dev/reference/methods/chat.postMessage#errors>).
const PASSING: &[&str] = &[
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
];

/// Settings of a Slack bot sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SlackBotConfig {
    /// The bot's token (`xoxb-…`) with the scope `chat:write`.
    token: SecretRef,
    /// The channel's id, such as `C0123456789`; the bot must be a member.
    channel: String,
    /// Buttons below messages; `[callbacks.slack]` hears them.
    #[serde(default)]
    buttons: Vec<Press>,
    /// The API server.
    #[serde(default = "api")]
    api: Address,
    /// How long one call may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn api() -> Address {
    Address::of("https://slack.com/api")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct SlackBot {
    config: SlackBotConfig,
    vault: Vault,
    peer: Peer,
}

/// Where the incident's first message is; written as `channel/ts`.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    channel: &'a str,
    ts: &'a str,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: SlackBotConfig = parse(table)?;
    config.api.guards_credentials("api")?;
    let is_id = !config.channel.is_empty() && config.channel.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id {
        return Err(ConfigError::new("channel", "give the channel's id, such as \"C0123456789\""));
    }
    let vault = Vault::of(build);
    vault.check("token", &config.token)?;
    let peer = Peer::new(config.timeout, build, &config.api.0)?;
    Ok(Box::new(SlackBot { config, vault, peer }))
}

#[async_trait]
impl Sink for SlackBot {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let message = Message::with_buttons(dispatch.notice, &self.config.buttons);
        let earlier = dispatch.earlier.and_then(|receipt| receipt.reference.as_deref());
        let head = earlier.and_then(|reference| reference.split_once('/'));
        let Some(head) = head.map(|(channel, ts)| Head { channel, ts }) else {
            return self.post(&message, None).await;
        };
        // The edit comes first, because repeating it after a failed post changes nothing.
        let is_edited = match message.occasion {
            Occasion::Acknowledged | Occasion::Resolved => self.edit(&message, head).await?,
            Occasion::Opened
            | Occasion::Reopened
            | Occasion::Worsened
            | Occasion::Reminded
            | Occasion::Escalated
            | Occasion::Freeze
            | Occasion::Digest
            | Occasion::Test => false,
        };
        if is_edited && message.occasion == Occasion::Acknowledged {
            return Ok(Receipt { reference: earlier.map(SmolStr::from) });
        }
        self.post(&message, Some(head)).await
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

impl SlackBot {
    async fn post(&self, message: &Message, head: Option<Head<'_>>) -> Result<Receipt, DeliveryError> {
        let mut body = slack::body(message);
        body["channel"] = json!(self.config.channel);
        if let Some(head) = head {
            body["thread_ts"] = json!(head.ts);
            body["reply_broadcast"] = json!(matches!(
                message.occasion,
                Occasion::Reopened | Occasion::Worsened | Occasion::Reminded | Occasion::Escalated
            ));
        }
        let answer =
            self.call("chat.postMessage", &body).await?.map_err(|error| into_delivery_error(&error))?;
        let reference = match (answer["channel"].as_str(), answer["ts"].as_str()) {
            (Some(channel), Some(ts)) => Some(SmolStr::from(format!("{channel}/{ts}"))),
            _ => None,
        };
        Ok(Receipt { reference })
    }

    /// Edits the first message. False if it is not there any more.
    async fn edit(&self, message: &Message, head: Head<'_>) -> Result<bool, DeliveryError> {
        let mut body = slack::body(message);
        body["channel"] = json!(head.channel);
        body["ts"] = json!(head.ts);
        match self.call("chat.update", &body).await? {
            Ok(_) => Ok(true),
            Err(error) if PASSING.contains(&error.as_str()) => Err(into_delivery_error(&error)),
            Err(_) => Ok(false),
        }
    }

    /// Calls a method. The inner error is Slack's own word for it: Slack says most errors with status 200.
    async fn call(&self, method: &str, body: &Value) -> Result<Result<Value, String>, DeliveryError> {
        let token = self.vault.text(&self.config.token)?;
        let url = self.config.api.join(&[method]);
        let request = self.peer.post_json(url, body).bearer_auth(&token);
        let answer = self.peer.send(request, &[&token]).await?;
        let said = answer.json();
        match said["ok"].as_bool() {
            Some(true) => Ok(Ok(said)),
            Some(false) => Ok(Err(quote(said["error"].as_str().unwrap_or("unknown").as_bytes(), &[&token]))),
            None => Err(DeliveryError::Unanswered("the answer is not Slack's".to_owned())),
        }
    }
}

fn into_delivery_error(error: &str) -> DeliveryError {
    let reason = format!("slack says {error}");
    if PASSING.contains(&error) {
        DeliveryError::Retry { reason, after: None }
    } else {
        DeliveryError::Rejected(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slack::tests::check_blocks;
    use crate::testing::{HttpPeer, deliver, notice, reply, sink};

    const SENT: &str = r#"{"ok":true,"channel":"C1","ts":"17.2"}"#;

    fn bot(peer: &HttpPeer) -> Box<dyn Sink> {
        let table = format!("token = {{ env = \"T\" }}\nchannel = \"C1\"\napi = {:?}", peer.url("/api"));
        sink("slack_bot", &table, &[("T", "xoxb-s3cr3t")])
    }

    /// One call that the bot makes.
    #[derive(Debug, Clone, Copy)]
    struct Call {
        method: &'static str,
        /// The thread that it posts to.
        thread: Option<&'static str>,
        /// The message that it edits.
        edited: Option<&'static str>,
        /// Whether the post is shown in the channel as well.
        broadcast: Option<bool>,
    }

    const POST: Call = Call { method: "chat.postMessage", thread: None, edited: None, broadcast: None };
    const EDIT: Call = Call { method: "chat.update", edited: Some("17.1"), ..POST };
    const REPLY: Call = Call { thread: Some("17.1"), broadcast: Some(false), ..POST };
    const SHOWN: Call = Call { broadcast: Some(true), ..REPLY };

    #[track_caller]
    fn check(occasion: Occasion, earlier: Option<&str>, calls: &[Call]) {
        let peer = HttpPeer::play(calls.iter().map(|_| reply(200, SENT)).collect());
        let earlier = earlier.map(|reference| Receipt { reference: Some(reference.into()) });
        deliver(&*bot(&peer), &notice(occasion), earlier.as_ref()).unwrap();
        for call in calls {
            let request = peer.request();
            assert_eq!(request.line, format!("POST /api/{} HTTP/1.1", call.method));
            assert_eq!(request.headers["authorization"], "Bearer xoxb-s3cr3t");
            let body = request.json();
            check_blocks(&body);
            assert_eq!(body["thread_ts"].as_str(), call.thread);
            assert_eq!(body["ts"].as_str(), call.edited);
            assert_eq!(body["reply_broadcast"].as_bool(), call.broadcast);
        }
    }

    #[test]
    fn an_incident_is_a_thread() {
        let head = Some("C1/17.1");
        check(Occasion::Opened, None, &[POST]);
        check(Occasion::Worsened, head, &[SHOWN]);
        check(Occasion::Acknowledged, head, &[EDIT]);
        check(Occasion::Acknowledged, None, &[POST]);
        check(Occasion::Resolved, head, &[EDIT, REPLY]);
    }

    #[test]
    fn buttons_say_what_callbacks_understand() {
        let peer = HttpPeer::play(vec![reply(200, SENT)]);
        let table = format!(
            "token = {{ env = \"T\" }}\nchannel = \"C1\"\napi = {:?}\nbuttons = [\"acknowledge\", \"silence\", \"label\", \"freeze\"]",
            peer.url("/api")
        );
        let notice = notice(Occasion::Opened);
        deliver(&*sink("slack_bot", &table, &[("T", "xoxb-s3cr3t")]), &notice, None).unwrap();
        let body = peer.request().json();
        check_blocks(&body);
        let actions =
            body["blocks"].as_array().unwrap().iter().find(|block| block["type"] == "actions").unwrap();
        let elements = actions["elements"].as_array().unwrap();
        let alert = notice.alerts[0].id.0.as_str();
        let words: Vec<&str> = elements.iter().filter_map(|element| element["value"].as_str()).collect();
        let expected =
            ["ack X", "silence X 1h", "label X true_positive", "label X false_positive", "freeze X"];
        assert_eq!(words, expected.map(|words| words.replace('X', alert)));
        let grave: Vec<bool> = elements.iter().map(|element| element.get("confirm").is_some()).collect();
        assert_eq!(grave, [false, false, false, false, true, false], "only a freeze asks first");
    }

    #[test]
    fn the_receipt_is_channel_and_time_of_the_message() {
        let peer = HttpPeer::play(vec![reply(200, SENT)]);
        let receipt = deliver(&*bot(&peer), &notice(Occasion::Opened), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("C1/17.2"));
    }

    #[test]
    fn an_error_in_a_200_is_an_error() {
        for (said, is_retried) in [
            (r#"{"ok":false,"error":"channel_not_found"}"#, false),
            (r#"{"ok":false,"error":"invalid_auth"}"#, false),
            (r#"{"ok":false,"error":"internal_error"}"#, true),
            ("<html>gateway</html>", true),
        ] {
            let peer = HttpPeer::play(vec![reply(200, said)]);
            let error = deliver(&*bot(&peer), &notice(Occasion::Opened), None).unwrap_err();
            assert_eq!(!matches!(error, DeliveryError::Rejected(_)), is_retried, "{said}: {error}");
        }
    }

    #[test]
    fn a_deleted_first_message_is_replaced_by_a_post() {
        let gone = r#"{"ok":false,"error":"message_not_found"}"#;
        let peer = HttpPeer::play(vec![reply(200, gone), reply(200, SENT)]);
        let earlier = Receipt { reference: Some("C1/17.1".into()) };
        let receipt = deliver(&*bot(&peer), &notice(Occasion::Acknowledged), Some(&earlier)).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("C1/17.2"));
    }
}
