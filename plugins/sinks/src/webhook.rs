//! A signed webhook: the notice as JSON, signed as Standard Webhooks says.

use async_trait::async_trait;
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::payload;
use crate::signature::{Signer, header_id};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "webhook",
    summary: "Posts the notice as signed JSON (Standard Webhooks)",
    example: r#"[sinks.internal]
plugin = "webhook"
url = "https://alerts.example.com/railwatch"
secrets = [{ env = "RAILWATCH_WEBHOOK_SECRET" }]
"#,
    schema: || schema_for!(WebhookConfig),
    build,
};

/// Settings of a signed webhook.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookConfig {
    /// The receiver; https, or http on this machine, or any http with `plain_http`.
    url: Address,
    /// Say `true` to send over plain http to another machine: notices can then be read on the way, though not forged.
    #[serde(default)]
    plain_http: bool,
    /// The signing secrets, as `whsec_…` or plain base64 of 24 to 64 bytes. Each of them signs every request; during
    /// a rotation there are two. At least one, at most four.
    secrets: Vec<SecretRef>,
    /// Say `true` if the receiver drops a second request with the same `webhook-id`: then an attempt whose outcome
    /// is unknown needs no remark.
    #[serde(default)]
    receiver_deduplicates: bool,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Webhook {
    config: WebhookConfig,
    signer: Signer,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: WebhookConfig = parse(table)?;
    if !config.plain_http && config.url.guards_credentials("url").is_err() {
        return Err(ConfigError::new("url", "use an https:// address, or say plain_http = true"));
    }
    let signer = Signer::new(config.secrets.clone(), Vault::of(build))?;
    let peer = Peer::new(config.timeout, build, &config.url.0)?;
    Ok(Box::new(Webhook { config, signer, peer }))
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let body = payload::json(dispatch.notice);
        let body = body.map_err(|error| DeliveryError::Rejected(format!("not writable as JSON: {error}")))?;
        // The body has the id as it is.
        let id = header_id(&dispatch.notice.id.0);
        let request = self.signer.post(&self.peer, self.config.url.0.clone(), &id, body)?;
        self.peer.send(request, &[]).await?;
        Ok(Receipt { reference: Some(id.into()) })
    }

    fn is_idempotent(&self) -> bool {
        self.config.receiver_deduplicates
    }
}

#[cfg(test)]
mod tests {
    use railwatch_model::{Notice, Occasion};

    use super::*;
    use crate::signature::{key, sign};
    use crate::testing::{HttpPeer, build_with, deliver, notice, reply, sink};

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn every_secret_signs_what_is_sent() {
        let peer = HttpPeer::play(vec![reply(204, "")]);
        let table =
            format!("url = {:?}\nsecrets = [{{ env = \"OLD\" }}, {{ env = \"NEW\" }}]", peer.url("/in"));
        let webhook = sink("webhook", &table, &[("OLD", OLD), ("NEW", NEW)]);
        let notice = notice(Occasion::Opened);
        let receipt = deliver(&*webhook, &notice, None).unwrap();
        let request = peer.request();
        assert_eq!(request.headers["webhook-id"], notice.id.0.as_str());
        assert_eq!(request.headers["idempotency-key"], notice.id.0.as_str());
        assert_eq!(request.headers["webhook-timestamp"], notice.at.secs().to_string());
        assert_eq!(receipt.reference.as_deref(), Some(notice.id.0.as_str()));
        let expected: Vec<_> = [OLD, NEW]
            .iter()
            .map(|secret| sign(&key(secret).unwrap(), &notice.id.0, notice.at, request.body.as_bytes()))
            .collect();
        assert_eq!(request.headers["webhook-signature"], expected.join(" "));
        assert_eq!(serde_json::from_str::<Notice>(&request.body).unwrap(), notice);
    }

    #[test]
    fn bad_settings_are_refused_by_key() {
        for (table, path, says) in [
            ("url = \"https://a.example\"\nsecrets = []", "secrets", "between 1 and 4"),
            ("url = \"https://a.example\"\nsecrets = [{ env = \"SHORT\" }]", "secrets[0]", "needs 24 to 64"),
            ("url = \"https://a.example\"\nsecrets = [{ env = \"NOT\" }]", "secrets[0]", "not base64"),
            ("url = \"http://a.example\"\nsecrets = [{ env = \"OLD\" }]", "url", "plain_http = true"),
            (
                "url = \"https://a.example\"\nsecrets = [{ env = \"OLD\" }]\ntimeout = \"1h\"",
                "timeout",
                "between",
            ),
        ] {
            let secrets = [("SHORT", "c2hvcnQ="), ("NOT", "!not base64!"), ("OLD", OLD)];
            let table = toml::from_str(table).unwrap();
            let error = build(&table, &build_with(&secrets, std::path::PathBuf::new())).unwrap_err();
            assert_eq!(error.path, path);
            assert!(error.message.contains(says) && !error.message.contains("c2hvcnQ"), "{error}");
        }
    }
}
