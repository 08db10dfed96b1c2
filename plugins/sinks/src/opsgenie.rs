//! Opsgenie, through the Alert API v2 (<https://docs.opsgenie.com/docs/alert-api>): one Opsgenie alert per incident,
//! created, acknowledged and closed with it.
//!
//! The incident is the alert's `alias`: a repeated notice only raises a counter there.

use async_trait::async_trait;
use railwatch_model::{Notice, Occasion, Severity};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::message::Message;
use crate::text::{clean, fit, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "opsgenie",
    summary: "Creates, acknowledges and closes an Opsgenie alert per incident",
    example: r#"[sinks.genie]
plugin = "opsgenie"
api_key = { env = "OPSGENIE_API_KEY" }
"#,
    schema: || schema_for!(OpsgenieConfig),
    build,
};

const MESSAGE_CHARS_MAX: usize = 130;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const ENTITY_CHARS_MAX: usize = 200;

/// Settings of an Opsgenie sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpsgenieConfig {
    /// The key of an API integration.
    api_key: SecretRef,
    /// The API server; `https://api.eu.opsgenie.com` in the EU region.
    #[serde(default = "api")]
    api: Address,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn api() -> Address {
    Address::of("https://api.opsgenie.com")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Opsgenie {
    config: OpsgenieConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: OpsgenieConfig = parse(table)?;
    config.api.guards_credentials("api")?;
    let vault = Vault::of(build);
    vault.check("api_key", &config.api_key)?;
    let peer = Peer::new(config.timeout, build, &config.api.0)?;
    Ok(Box::new(Opsgenie { config, vault, peer }))
}

#[async_trait]
impl Sink for Opsgenie {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        if dispatch.notice.opens_nothing() {
            return Ok(Receipt::default());
        }
        let key = self.vault.text(&self.config.api_key)?;
        let alias = alias(dispatch.notice);
        let (url, body) = call(&self.config.api, dispatch.notice, &alias);
        let mut authorization = HeaderValue::try_from(format!("GenieKey {key}")).map_err(|_| {
            DeliveryError::Retry { reason: "the API key is not a header".to_owned(), after: None }
        })?;
        authorization.set_sensitive(true);
        let request = self.peer.post_json(url, &body).header(AUTHORIZATION, authorization);
        self.peer.send(request, &[&key]).await?;
        Ok(Receipt { reference: Some(alias.into()) })
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

fn call(api: &Address, notice: &Notice, alias: &str) -> (Url, Value) {
    let verb = match notice.occasion {
        Occasion::Acknowledged => "acknowledge",
        Occasion::Resolved => "close",
        Occasion::Opened
        | Occasion::Reopened
        | Occasion::Worsened
        | Occasion::Reminded
        | Occasion::Escalated
        | Occasion::Freeze
        | Occasion::Digest
        | Occasion::Test => {
            return (api.join(&["v2", "alerts"]), create(notice, alias));
        }
    };
    let mut url = api.join(&["v2", "alerts", alias, verb]);
    url.query_pairs_mut().append_pair("identifierType", "alias");
    let person = notice.alerts.iter().find_map(|alert| alert.acknowledged_by.as_ref());
    let person = person.map_or("railwatch".to_owned(), |person| clean(person, 100));
    (url, json!({ "source": "railwatch", "user": person }))
}

fn create(notice: &Notice, alias: &str) -> Value {
    let message = Message::of(notice);
    let details: Map<String, Value> =
        message.fields.iter().map(|field| (field.name.to_owned(), json!(field.value))).collect();
    json!({
        "message": fit(&message.title, MESSAGE_CHARS_MAX, plain_char),
        "alias": alias,
        "description": fit(&message.plain(), DESCRIPTION_CHARS_MAX, plain_char),
        "priority": priority(notice.severity),
        "source": "railwatch",
        "entity": clean(&notice.subject.key(), ENTITY_CHARS_MAX),
        "tags": ["railwatch", notice.severity.as_str()],
        "details": details,
    })
}

/// At most 512 characters.
fn alias(notice: &Notice) -> String {
    format!("railwatch/{}", fit(&notice.incident.0, 400, plain_char))
}

fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "P1",
        Severity::High => "P2",
        Severity::Medium => "P3",
        Severity::Low => "P4",
        Severity::Info => "P5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, deliver, hostile, notice, reply, sink};

    fn call_of(notice: &Notice) -> Value {
        let (url, body) = call(&api(), notice, &alias(notice));
        json!({ "url": url.as_str(), "body": body })
    }

    #[test]
    fn every_occasion_is_a_call() {
        let kept = OCCASIONS.into_iter().filter(|(occasion, _)| !notice(*occasion).opens_nothing());
        for (occasion, name) in kept {
            insta::assert_json_snapshot!(format!("opsgenie_{name}"), call_of(&notice(occasion)));
        }
        let call = call_of(&hostile());
        let len = |key: &str| call["body"][key].as_str().unwrap().encode_utf16().count();
        assert!(len("message") <= 130 && len("description") <= 15_000 && len("entity") <= 512);
        insta::assert_json_snapshot!("opsgenie_hostile", call);
    }

    #[test]
    fn the_key_is_sent_as_a_header_and_never_shown() {
        let peer = HttpPeer::play(vec![reply(202, "{}"), reply(422, "key g3n13-k3y is odd")]);
        let table = format!("api_key = {{ env = \"K\" }}\napi = {:?}", peer.url(""));
        let opsgenie = sink("opsgenie", &table, &[("K", "g3n13-k3y")]);
        let receipt = deliver(&*opsgenie, &notice(Occasion::Acknowledged), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("railwatch/inc-7f3a"));
        let request = peer.request();
        assert_eq!(
            request.line,
            "POST /v2/alerts/railwatch%2Finc-7f3a/acknowledge?identifierType=alias HTTP/1.1"
        );
        assert_eq!(request.headers["authorization"], "GenieKey g3n13-k3y");
        let error = deliver(&*opsgenie, &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 422: key ••• is odd".to_owned()));
    }
}
