//! ntfy (<https://docs.ntfy.sh/publish/#publish-as-json>): push messages to phones, self-hosted or public.

use async_trait::async_trait;
use railwatch_model::{Occasion, Severity};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::message::Message;
use crate::text::{fit, join_within, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "ntfy",
    summary: "Pushes to phones through ntfy",
    example: r#"[sinks.push]
plugin = "ntfy"
topic = { env = "NTFY_TOPIC" }
"#,
    schema: || schema_for!(NtfyConfig),
    build,
};

/// Bytes of a message; a longer one becomes an attachment.
const MESSAGE_BYTES_MAX: usize = 4096;
const TITLE_CHARS_MAX: usize = 250;

/// Settings of an ntfy sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NtfyConfig {
    /// The topic. On a public server whoever knows it can read and write it, so it is a secret.
    topic: SecretRef,
    /// The server.
    #[serde(default = "server")]
    url: Address,
    /// An access token, where the server asks for one.
    token: Option<SecretRef>,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn server() -> Address {
    Address::of("https://ntfy.sh")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Ntfy {
    config: NtfyConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: NtfyConfig = parse(table)?;
    config.url.guards_credentials("url")?;
    let vault = Vault::of(build);
    vault.check("topic", &config.topic)?;
    if let Some(token) = &config.token {
        vault.check("token", token)?;
    }
    let peer = Peer::new(config.timeout, build, &config.url.0)?;
    Ok(Box::new(Ntfy { config, vault, peer }))
}

#[async_trait]
impl Sink for Ntfy {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let topic = self.vault.text(&self.config.topic)?;
        let token = self.config.token.as_ref().map(|token| self.vault.text(token)).transpose()?;
        let mut body = body(&Message::of(dispatch.notice));
        body["topic"] = json!(topic);
        let request = self.peer.post_json(self.config.url.0.clone(), &body);
        let request = match &token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = self.peer.send(request, &[&topic, token.as_deref().unwrap_or_default()]).await?;
        Ok(Receipt { reference: answer.json()["id"].as_str().map(Into::into) })
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// The message without its topic. ntfy shows it as plain text.
fn body(message: &Message) -> Value {
    let mut body = json!({
        "title": fit(&format!("{} {}", message.mark(), message.title), TITLE_CHARS_MAX, plain_char),
        "message": text(message),
        "priority": priority(message),
        "tags": ["railwatch", message.severity.as_str()],
    });
    if let Some(link) = &message.link {
        body["click"] = json!(link.url);
        body["actions"] = json!([{ "action": "view", "label": link.label, "url": link.url }]);
    }
    body
}

/// What matters first: a phone shows the first lines. A character has at most three bytes per UTF-16 unit, so a third
/// of the bytes is a safe number of units.
fn text(message: &Message) -> String {
    let fields = message.fields.iter().map(|field| format!("{}: {}", field.name, field.value));
    let parts = message.parts.iter().flat_map(|part| {
        let lead = (!part.lead.is_empty()).then(|| part.lead.clone());
        std::iter::once(part.title.clone()).chain(lead).chain(part.details())
    });
    let lines = [message.lead.clone(), format!("Next: {}", message.next)].into_iter();
    join_within(lines.chain(fields).chain(parts).chain(message.footers.clone()), MESSAGE_BYTES_MAX / 3)
}

fn priority(message: &Message) -> u8 {
    match (message.occasion, message.severity) {
        (Occasion::Acknowledged | Occasion::Resolved, _) => 2,
        (_, Severity::Critical) => 5,
        (_, Severity::High) => 4,
        (_, Severity::Medium) | (Occasion::Test, _) => 3,
        (_, Severity::Low) => 2,
        (_, Severity::Info) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, deliver, hostile, notice, reply, sink};

    #[test]
    fn every_occasion_keeps_ntfys_limits() {
        for (occasion, name) in OCCASIONS {
            insta::assert_json_snapshot!(format!("ntfy_{name}"), body(&Message::of(&notice(occasion))));
        }
        let body = body(&Message::of(&hostile()));
        assert!(body["message"].as_str().unwrap().len() <= MESSAGE_BYTES_MAX);
        insta::assert_json_snapshot!("ntfy_hostile", body);
    }

    #[test]
    fn the_topic_and_the_token_are_sent_and_never_shown() {
        let peer =
            HttpPeer::play(vec![reply(200, r#"{"id":"m1"}"#), reply(403, "no s3cr3t-topic for tk_s3cr3t")]);
        let table =
            format!("topic = {{ env = \"A\" }}\ntoken = {{ env = \"B\" }}\nurl = {:?}", peer.url("/"));
        let ntfy = sink("ntfy", &table, &[("A", "s3cr3t-topic"), ("B", "tk_s3cr3t")]);
        let receipt = deliver(&*ntfy, &notice(Occasion::Opened), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("m1"));
        let request = peer.request();
        assert_eq!(request.headers["authorization"], "Bearer tk_s3cr3t");
        assert_eq!(request.json()["topic"], "s3cr3t-topic");
        let error = deliver(&*ntfy, &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 403: no ••• for •••".to_owned()));
    }
}
