//! Prometheus Alertmanager, through its API v2: one Alertmanager alert per incident, that its routes, silences and
//! receivers then treat like any other.
//!
//! Labels are an alert's identity there. The severity must be one, since routes match on it; so a notice that an
//! incident worsened also ends the alerts of the lower severities.

use async_trait::async_trait;
use railwatch_model::{Notice, Occasion, Severity, Timestamp};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::message::{Message, trigger_key};
use crate::text::{clean, fit, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "alertmanager",
    summary: "Posts alerts to Prometheus Alertmanager",
    example: r#"[sinks.am]
plugin = "alertmanager"
url = "http://127.0.0.1:9093"
labels = { team = "payments" }
"#,
    schema: || schema_for!(AlertmanagerConfig),
    build,
};

/// Characters of a label and of an annotation.
const LABEL_CHARS_MAX: usize = 200;
const ANNOTATION_CHARS_MAX: usize = 4000;
/// Labels that a table may add.
const LABELS_MAX: usize = 20;
const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
/// How long a test alert lasts.
const TEST_LASTS: Duration = Duration::from_secs(300);

/// Settings of an Alertmanager sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AlertmanagerConfig {
    /// Alertmanager's address, without `/api/v2/alerts`.
    url: Address,
    /// A bearer token, where a proxy before Alertmanager asks for one; needs https.
    token: Option<SecretRef>,
    /// Labels that every alert gets, for routing.
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    /// When Alertmanager may forget an incident of which it hears nothing more. Choose it longer than the time
    /// between two reminders, or Alertmanager reports an open incident as resolved.
    #[serde(default = "expires_after")]
    expires_after: Span,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn expires_after() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Alertmanager {
    config: AlertmanagerConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: AlertmanagerConfig = parse(table)?;
    let vault = Vault::of(build);
    if let Some(token) = &config.token {
        config.url.guards_credentials("url")?;
        vault.check("token", token)?;
    }
    if config.labels.len() > LABELS_MAX {
        return Err(ConfigError::new("labels", format!("at most {LABELS_MAX} labels can be added")));
    }
    for name in config.labels.keys() {
        check_label(name).map_err(|reason| ConfigError::new(format!("labels.{name}"), reason))?;
    }
    let peer = Peer::new(config.timeout, build, &config.url.0)?;
    Ok(Box::new(Alertmanager { config, vault, peer }))
}

/// A Prometheus label name that is not one of ours.
fn check_label(name: &str) -> Result<(), &'static str> {
    let is_start = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let is_valid = name.as_bytes().first().is_some_and(is_start)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match name {
        "alertname" | "incident" | "subject" | "severity" => Err("this label is set by railwatch"),
        _ if is_valid => Ok(()),
        _ => Err("a label's name has only letters, digits and underscores"),
    }
}

#[async_trait]
impl Sink for Alertmanager {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        if dispatch.notice.opens_nothing() {
            return Ok(Receipt::default());
        }
        let url = self.config.url.join(&["api", "v2", "alerts"]);
        let request = self.peer.post_json(url, &self.alerts(dispatch.notice));
        let token = self.config.token.as_ref().map(|token| self.vault.text(token)).transpose()?;
        let request = match &token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        self.peer.send(request, &[token.as_deref().unwrap_or_default()]).await?;
        Ok(Receipt { reference: Some(dispatch.notice.incident.0.clone()) })
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

impl Alertmanager {
    fn alerts(&self, notice: &Notice) -> Value {
        let ends_at = match notice.occasion {
            Occasion::Resolved => notice.at,
            Occasion::Test => notice.at.after(TEST_LASTS),
            Occasion::Opened
            | Occasion::Reopened
            | Occasion::Worsened
            | Occasion::Reminded
            | Occasion::Escalated
            | Occasion::Freeze
            | Occasion::Digest
            | Occasion::Acknowledged => notice.at.after(self.config.expires_after.0),
        };
        let lower = SEVERITIES
            .iter()
            .filter(|severity| notice.occasion == Occasion::Worsened && **severity < notice.severity);
        let ended = lower.map(|severity| self.alert(notice, *severity, notice.at));
        std::iter::once(self.alert(notice, notice.severity, ends_at)).chain(ended).collect()
    }

    fn alert(&self, notice: &Notice, severity: Severity, ends_at: Timestamp) -> Value {
        let onset_at = notice.alerts.iter().map(|alert| alert.onset_at).min().unwrap_or(notice.at);
        let mut alert = json!({
            "labels": self.labels(notice, severity),
            "annotations": annotations(notice),
            "startsAt": onset_at.min(ends_at).to_string(),
            "endsAt": ends_at.to_string(),
        });
        if let Some(link) = Message::of(notice).link {
            alert["generatorURL"] = json!(link.url);
        }
        alert
    }

    fn labels(&self, notice: &Notice, severity: Severity) -> Map<String, Value> {
        let mut labels: Map<String, Value> = self
            .config
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), json!(fit(value, LABEL_CHARS_MAX, plain_char))))
            .collect();
        labels.insert("alertname".to_owned(), json!("RailwatchIncident"));
        labels.insert("incident".to_owned(), json!(clean(&notice.incident.0, LABEL_CHARS_MAX)));
        labels.insert("subject".to_owned(), json!(clean(&notice.subject.key(), LABEL_CHARS_MAX)));
        labels.insert("severity".to_owned(), json!(severity.as_str()));
        labels
    }
}

fn annotations(notice: &Notice) -> Map<String, Value> {
    let message = Message::of(notice);
    let triggers = notice.alerts.iter().take(10).map(|alert| trigger_key(&alert.trigger));
    let mut annotations = Map::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            annotations.insert(name.to_owned(), json!(fit(value, ANNOTATION_CHARS_MAX, plain_char)));
        }
    };
    add("title", &message.title);
    add("summary", &message.lead);
    add("description", &message.plain());
    add("next", &message.next);
    add("triggers", &triggers.collect::<Vec<_>>().join(", "));
    for field in &message.fields {
        add(&field.name.to_lowercase().replace(' ', "_"), &field.value);
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, at, deliver, hostile, notice, reply, sink};

    fn posted(notice: &Notice) -> Value {
        let peer = HttpPeer::play(vec![reply(200, "")]);
        let sink = sink(
            "alertmanager",
            &format!("url = {:?}\nlabels = {{ env = \"prod\" }}", peer.url("/am/")),
            &[],
        );
        deliver(&*sink, notice, None).unwrap();
        let request = peer.request();
        assert_eq!(request.line, "POST /am/api/v2/alerts HTTP/1.1");
        request.json()
    }

    #[test]
    fn every_occasion_is_posted() {
        let kept = OCCASIONS.into_iter().filter(|(occasion, _)| !notice(*occasion).opens_nothing());
        for (occasion, name) in kept {
            insta::assert_json_snapshot!(format!("alertmanager_{name}"), posted(&notice(occasion)));
        }
        insta::assert_json_snapshot!("alertmanager_hostile", posted(&hostile()));
    }

    #[test]
    fn an_incident_ends_with_the_labels_that_it_began_with() {
        let (opened, resolved) = (posted(&notice(Occasion::Opened)), posted(&notice(Occasion::Resolved)));
        assert_eq!(opened[0]["labels"], resolved[0]["labels"]);
        let time = |alert: &Value, key: &str| at(alert[0][key].as_str().unwrap());
        assert!(time(&opened, "endsAt") > notice(Occasion::Opened).at);
        assert_eq!(time(&resolved, "endsAt"), notice(Occasion::Resolved).at);
        assert_eq!(time(&resolved, "startsAt"), time(&opened, "startsAt"));
    }

    #[test]
    fn a_worse_incident_ends_its_lower_severities() {
        let alerts = posted(&notice(Occasion::Worsened));
        let severities: Vec<_> = alerts
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| alert["labels"]["severity"].as_str().unwrap())
            .collect();
        assert_eq!(severities, ["high", "info", "low", "medium"]);
    }

    #[test]
    fn our_labels_cannot_be_overridden_and_names_are_checked() {
        for name in ["severity", "alertname", "1st", "a-b", ""] {
            assert!(check_label(name).is_err(), "{name}");
        }
        assert!(check_label("team_1").is_ok());
    }
}
