//! Standard Webhooks signatures
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): HMAC-SHA256 over
//! `id.timestamp.body`. With several secrets there are several signatures, so that a receiver can change its secret
//! without a gap.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use railwatch_model::Timestamp;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::DeliveryError;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Url};
use sha2::Sha256;

use crate::endpoint::Vault;
use crate::http::Peer;
use crate::text::digest;

/// Signatures that one request carries: the current secret, the next, and room for one more.
const SECRETS_MAX: usize = 4;
/// The length of a key that Standard Webhooks asks for, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What marks an encoded secret.
const SECRET_PREFIX: &str = "whsec_";

/// Signs what one sink sends.
#[derive(Debug)]
pub(crate) struct Signer {
    secrets: Vec<SecretRef>,
    vault: Vault,
}

impl Signer {
    /// Checks the secrets of the key `secrets`.
    pub(crate) fn new(secrets: Vec<SecretRef>, vault: Vault) -> Result<Self, ConfigError> {
        if !(1..=SECRETS_MAX).contains(&secrets.len()) {
            let message = format!("give between 1 and {SECRETS_MAX} signing secrets");
            return Err(ConfigError::new("secrets", message));
        }
        for (index, secret) in secrets.iter().enumerate() {
            let path = format!("secrets[{index}]");
            let text = vault.check(&path, secret)?;
            key(&text).map_err(|reason| ConfigError::new(path, reason))?;
        }
        Ok(Self { secrets, vault })
    }

    /// A signed POST of JSON; the id is the idempotency key.
    pub(crate) fn post(
        &self,
        peer: &Peer,
        url: Url,
        id: &str,
        body: Vec<u8>,
    ) -> Result<RequestBuilder, DeliveryError> {
        let now = peer.now();
        let signatures = self.signatures(id, now, &body)?;
        let request = peer.request(Method::POST, url);
        Ok(request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.secs())
            .header("webhook-signature", signatures)
            .header("idempotency-key", id)
            .body(body))
    }

    /// One `v1,…` per secret, separated by spaces.
    fn signatures(&self, id: &str, now: Timestamp, body: &[u8]) -> Result<String, DeliveryError> {
        let mut signatures = Vec::with_capacity(self.secrets.len());
        for secret in &self.secrets {
            let key = key(&self.vault.text(secret)?);
            let key = key.map_err(|reason| DeliveryError::Retry { reason, after: None })?;
            signatures.push(sign(&key, id, now, body));
        }
        Ok(signatures.join(" "))
    }
}

/// A name as a header: itself if it is short, printable and free of the dot that separates the signed parts and of
/// spaces; otherwise its digest.
pub(crate) fn header_id(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
    if (1..=128).contains(&name.len()) && name.bytes().all(is_plain) {
        return name.to_owned();
    }
    format!("notice_{}", digest(name))
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
pub(crate) fn sign(key: &[u8], id: &str, now: Timestamp, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{}.", now.secs()).as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The key behind a secret's text. The reason does not show the text.
pub(crate) fn key(secret: &str) -> Result<Vec<u8>, String> {
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let key = STANDARD.decode(encoded).map_err(|_| "the signing secret is not base64".to_owned())?;
    if KEY_BYTES.contains(&key.len()) {
        return Ok(key);
    }
    let (min, max) = (KEY_BYTES.start(), KEY_BYTES.end());
    Err(format!("the signing secret has {} bytes; it needs {min} to {max}", key.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = include_str!("../fixtures/webhook/standardwebhooks_vector.json");

    #[test]
    fn the_specifications_vector_is_met() {
        let vector: serde_json::Value = serde_json::from_str(VECTOR).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let now = Timestamp::from_secs(vector["webhook-timestamp"].as_i64().unwrap());
        let key = key(text("key")).unwrap();
        assert_eq!(sign(&key, text("webhook-id"), now, text("body").as_bytes()), text("webhook-signature"));
    }

    #[test]
    fn an_id_that_cannot_be_a_header_is_digested() {
        assert_eq!(header_id("agent:a/opened"), "agent:a/opened");
        for odd in ["a b", "a.b", "ä", "a\r\nx: y", ""] {
            let id = header_id(odd);
            assert!(id.starts_with("notice_") && id.len() == 39, "{id}");
        }
    }
}
