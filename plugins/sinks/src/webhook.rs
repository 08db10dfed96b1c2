//! A signed webhook: the notice as JSON, signed as Standard Webhooks says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! The signature is HMAC-SHA256 over `id.timestamp.body`. With several secrets there are several signatures, so that
//! a receiver can change its secret without a gap.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use railwatch_model::{NoticeId, Timestamp};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use sha2::Sha256;
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::payload;
use crate::text::digest;

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

/// Signatures that one request carries: the current secret, the next, and room for one more.
const SECRETS_MAX: usize = 4;
/// The length of a key that Standard Webhooks asks for, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What marks an encoded secret.
const SECRET_PREFIX: &str = "whsec_";

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
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: WebhookConfig = parse(table)?;
    if !config.plain_http && config.url.guards_credentials("url").is_err() {
        return Err(ConfigError::new("url", "use an https:// address, or say plain_http = true"));
    }
    if !(1..=SECRETS_MAX).contains(&config.secrets.len()) {
        return Err(ConfigError::new("secrets", format!("give between 1 and {SECRETS_MAX} signing secrets")));
    }
    let vault = Vault::of(build);
    for (index, secret) in config.secrets.iter().enumerate() {
        let path = format!("secrets[{index}]");
        let text = vault.check(&path, secret)?;
        key(&text).map_err(|reason| ConfigError::new(path, reason))?;
    }
    let peer = Peer::new(config.timeout, build, &config.url.0)?;
    Ok(Box::new(Webhook { config, vault, peer }))
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let body = payload::json(dispatch.notice);
        let body = body.map_err(|error| DeliveryError::Rejected(format!("not writable as JSON: {error}")))?;
        let id = header_id(&dispatch.notice.id);
        let now = self.peer.now();
        let signatures = self.signatures(&id, now, &body)?;
        let request = self.peer.request(Method::POST, self.config.url.0.clone());
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.secs())
            .header("webhook-signature", signatures)
            .header("idempotency-key", &id)
            .body(body);
        self.peer.send(request, &[]).await?;
        Ok(Receipt { reference: Some(id.into()) })
    }

    fn is_idempotent(&self) -> bool {
        self.config.receiver_deduplicates
    }
}

impl Webhook {
    /// One `v1,…` per secret, separated by spaces.
    fn signatures(&self, id: &str, now: Timestamp, body: &[u8]) -> Result<String, DeliveryError> {
        let mut signatures = Vec::with_capacity(self.config.secrets.len());
        for secret in &self.config.secrets {
            let key = key(&self.vault.text(secret)?);
            let key = key.map_err(|reason| DeliveryError::Retry { reason, after: None })?;
            signatures.push(sign(&key, id, now, body));
        }
        Ok(signatures.join(" "))
    }
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn sign(key: &[u8], id: &str, now: Timestamp, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{}.", now.secs()).as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The key behind a secret's text. The reason does not show the text.
fn key(secret: &str) -> Result<Vec<u8>, String> {
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let key = STANDARD.decode(encoded).map_err(|_| "the signing secret is not base64".to_owned())?;
    if KEY_BYTES.contains(&key.len()) {
        return Ok(key);
    }
    let (min, max) = (KEY_BYTES.start(), KEY_BYTES.end());
    Err(format!("the signing secret has {} bytes; it needs {min} to {max}", key.len()))
}

/// The notice's id as a header: itself if it is short, printable and free of the dot that separates the signed parts
/// and of spaces; otherwise its digest. The body has the id as it is.
fn header_id(id: &NoticeId) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
    if (1..=128).contains(&id.0.len()) && id.0.bytes().all(is_plain) {
        return id.0.to_string();
    }
    format!("notice_{}", digest(&id.0))
}

#[cfg(test)]
mod tests {
    use railwatch_model::{Notice, Occasion};

    use super::*;
    use crate::testing::{HttpPeer, build_with, deliver, notice, reply, sink};

    const VECTOR: &str = include_str!("../fixtures/webhook/standardwebhooks_vector.json");
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn the_specifications_vector_is_met() {
        let vector: serde_json::Value = serde_json::from_str(VECTOR).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let now = Timestamp::from_secs(vector["webhook-timestamp"].as_i64().unwrap());
        let key = key(text("key")).unwrap();
        assert_eq!(sign(&key, text("webhook-id"), now, text("body").as_bytes()), text("webhook-signature"));
    }

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
    fn an_id_that_cannot_be_a_header_is_digested() {
        assert_eq!(header_id(&NoticeId("agent:a/opened".into())), "agent:a/opened");
        for odd in ["a b", "a.b", "ä", "a\r\nx: y", ""] {
            let id = header_id(&NoticeId(odd.into()));
            assert!(id.starts_with("notice_") && id.len() == 39, "{id}");
        }
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
