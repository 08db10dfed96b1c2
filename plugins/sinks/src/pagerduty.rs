//! PagerDuty, through Events API v2 (<https://developer.pagerduty.com/docs/events-api-v2-overview>): one PagerDuty
//! alert per incident, opened, acknowledged and resolved with it.
//!
//! The incident is the `dedup_key`, so a repeated notice changes nothing. A test notice triggers a real alert, of the
//! severity `info`, that a person must resolve: the events API has no other way to see whether a key works.

use async_trait::async_trait;
use railwatch_model::{Notice, Occasion, Severity};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::message::{Message, trigger_key};
use crate::text::{clean, fit, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "pagerduty",
    summary: "Triggers, acknowledges and resolves a PagerDuty alert per incident",
    example: r#"[sinks.pager]
plugin = "pagerduty"
routing_key = { env = "PAGERDUTY_ROUTING_KEY" }
"#,
    schema: || schema_for!(PagerDutyConfig),
    build,
};

const SUMMARY_CHARS_MAX: usize = 1024;
const DETAILS_CHARS_MAX: usize = 8000;

/// Settings of a PagerDuty sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PagerDutyConfig {
    /// The integration key of an Events API v2 integration.
    routing_key: SecretRef,
    /// The events server; `https://events.eu.pagerduty.com` in the EU region.
    #[serde(default = "api")]
    api: Address,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn api() -> Address {
    Address::of("https://events.pagerduty.com")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct PagerDuty {
    config: PagerDutyConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: PagerDutyConfig = parse(table)?;
    config.api.guards_credentials("api")?;
    let vault = Vault::of(build);
    vault.check("routing_key", &config.routing_key)?;
    let peer = Peer::new(config.timeout, build, &config.api.0)?;
    Ok(Box::new(PagerDuty { config, vault, peer }))
}

#[async_trait]
impl Sink for PagerDuty {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        if dispatch.notice.opens_nothing() {
            return Ok(Receipt::default());
        }
        let key = self.vault.text(&self.config.routing_key)?;
        let mut event = event(dispatch.notice);
        event["routing_key"] = json!(key);
        let url = self.config.api.join(&["v2", "enqueue"]);
        self.peer.send(self.peer.post_json(url, &event), &[&key]).await?;
        Ok(Receipt { reference: event["dedup_key"].as_str().map(Into::into) })
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

/// The event without its routing key.
fn event(notice: &Notice) -> Value {
    let dedup_key = dedup_key(notice);
    let action = match notice.occasion {
        Occasion::Acknowledged => "acknowledge",
        Occasion::Resolved => "resolve",
        Occasion::Opened
        | Occasion::Reopened
        | Occasion::Worsened
        | Occasion::Reminded
        | Occasion::Escalated
        | Occasion::Freeze
        | Occasion::Digest
        | Occasion::Test => {
            return trigger(notice, &dedup_key);
        }
    };
    json!({ "event_action": action, "dedup_key": dedup_key })
}

fn trigger(notice: &Notice, dedup_key: &str) -> Value {
    let message = Message::of(notice);
    let summary = format!("{}: {}", message.title, message.lead);
    let class = notice.alerts.first().map(|alert| trigger_key(&alert.trigger));
    let mut details: Map<String, Value> =
        message.fields.iter().map(|field| (field.name.to_owned(), json!(field.value))).collect();
    details.insert("Message".to_owned(), json!(fit(&message.plain(), DETAILS_CHARS_MAX, plain_char)));
    let links: Vec<_> =
        message.link.iter().map(|link| json!({ "href": link.url, "text": link.label })).collect();
    json!({
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "railwatch",
        "payload": {
            "summary": fit(&summary, SUMMARY_CHARS_MAX, plain_char),
            "source": clean(&notice.subject.key(), 200),
            "severity": severity(notice.severity),
            "timestamp": notice.at.to_string(),
            "component": clean(&notice.subject.to_string(), 200),
            "class": class,
            "custom_details": details,
        },
        "links": links,
    })
}

/// At most 255 characters.
fn dedup_key(notice: &Notice) -> String {
    format!("railwatch/{}", fit(&notice.incident.0, 240, plain_char))
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, deliver, hostile, notice, reply, sink};

    #[test]
    fn every_occasion_is_an_event() {
        let kept = OCCASIONS.into_iter().filter(|(occasion, _)| !notice(*occasion).opens_nothing());
        for (occasion, name) in kept {
            insta::assert_json_snapshot!(format!("pagerduty_{name}"), event(&notice(occasion)));
        }
        let event = event(&hostile());
        assert!(event["payload"]["summary"].as_str().unwrap().encode_utf16().count() <= 1024);
        assert!(event.to_string().len() < 512 * 1024);
        insta::assert_json_snapshot!("pagerduty_hostile", event);
    }

    #[test]
    fn the_dedup_key_joins_an_incidents_events_and_the_key_is_never_shown() {
        let key = "0123456789abcdef0123456789abcdef";
        let peer =
            HttpPeer::play(vec![reply(202, "{}"), reply(202, "{}"), reply(400, &format!("bad {key}"))]);
        let table = format!("routing_key = {{ env = \"K\" }}\napi = {:?}", peer.url(""));
        let pagerduty = sink("pagerduty", &table, &[("K", key)]);
        for (occasion, action) in [(Occasion::Opened, "trigger"), (Occasion::Resolved, "resolve")] {
            let receipt = deliver(&*pagerduty, &notice(occasion), None).unwrap();
            assert_eq!(receipt.reference.as_deref(), Some("railwatch/inc-7f3a"));
            let request = peer.request();
            assert_eq!(request.line, "POST /v2/enqueue HTTP/1.1");
            let event = request.json();
            assert_eq!((&event["event_action"], &event["routing_key"]), (&json!(action), &json!(key)));
        }
        let error = deliver(&*pagerduty, &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 400: bad •••".to_owned()));
    }
}
