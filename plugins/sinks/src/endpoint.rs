//! Where a sink sends to, and with what credential: URLs that are secrets, addresses that are not, tokens.
//!
//! A chat's webhook URL lets anyone who has it write to the channel, so it is a secret reference. A plain text is
//! accepted only for a loopback address, which is a test peer and guards nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use railwatch_plugin::config::ConfigError;
use railwatch_plugin::secret::{Secret, SecretRef, Secrets};
use railwatch_plugin::sink::{DeliveryError, SinkBuild};
use reqwest::Url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::is_loopback;

/// A URL that is a secret: `{ env = "NAME" }`, `{ file = "/run/secrets/name" }`, or a plain loopback URL for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretUrl {
    /// A reference, resolved at every delivery.
    Reference(SecretRef),
    /// A peer on this machine.
    Loopback(Url),
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SecretUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ env = \"NAME\" } or { file = \"/run/secrets/name\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretUrl, E> {
                // The text may be the secret itself, so the message must not repeat it.
                match Url::parse(text) {
                    Ok(url) if is_loopback(&url) && is_http(&url) => Ok(SecretUrl::Loopback(url)),
                    _ => Err(E::custom(
                        "this URL is a secret: write { env = \"NAME\" } or { file = \"/run/secrets/name\" } \
                         (a plain text may only name a loopback peer)",
                    )),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretUrl, A::Error> {
                SecretRef::deserialize(MapAccessDeserializer::new(map)).map(SecretUrl::Reference)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for SecretUrl {
    fn schema_name() -> Cow<'static, str> {
        "SecretUrl".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reference = generator.subschema_for::<SecretRef>();
        let loopback = r"^https?://(localhost|127\.|\[::1\])";
        json_schema!({
            "description": "A secret URL: { env = \"NAME\" } or { file = \"…\" }; plain only for loopback peers.",
            "anyOf": [reference, { "type": "string", "pattern": loopback }]
        })
    }
}

/// An address that is not a secret, such as `https://alertmanager.internal:9093`. It may carry no user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) Url);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let url = Url::parse(&text).map_err(|error| D::Error::custom(format!("not a URL: {error}")))?;
        if !is_http(&url) {
            return Err(D::Error::custom("only http:// and https:// addresses can be used"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(D::Error::custom("an address carries no user or password; use the token key"));
        }
        Ok(Self(url))
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://", "description": "an http or https address" })
    }
}

impl Address {
    /// An address written in this crate.
    pub(crate) fn of(text: &'static str) -> Self {
        Self(Url::parse(text).expect("addresses written in this crate are URLs"))
    }

    /// The address with `path` appended to its own.
    pub(crate) fn join(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Refuses to send a credential in the clear: plain http is for this machine only.
    pub(crate) fn guards_credentials(&self, key: &str) -> Result<(), ConfigError> {
        if self.0.scheme() == "https" || is_loopback(&self.0) {
            return Ok(());
        }
        Err(ConfigError::new(key, "a credential is not sent over plain http; use an https:// address"))
    }
}

/// Resolves one sink's secrets, anew for every delivery so that a rotated secret takes effect by itself.
#[derive(Debug, Clone)]
pub(crate) struct Vault(Arc<dyn Secrets>);

impl Vault {
    /// The vault of a sink.
    pub(crate) fn of(build: &SinkBuild) -> Self {
        Self(Arc::clone(&build.secrets))
    }

    /// Checks a secret URL when the sink is built.
    pub(crate) fn check_url(&self, key: &str, url: &SecretUrl) -> Result<Url, ConfigError> {
        self.read_url(url).map_err(|reason| ConfigError::new(key, reason))
    }

    /// The URL of a delivery.
    pub(crate) fn url(&self, url: &SecretUrl) -> Result<Url, DeliveryError> {
        self.read_url(url).map_err(not_now)
    }

    /// Checks a token when the sink is built.
    pub(crate) fn check(&self, key: &str, reference: &SecretRef) -> Result<String, ConfigError> {
        self.read_text(reference).map_err(|reason| ConfigError::new(key, reason))
    }

    /// The token of a delivery.
    pub(crate) fn text(&self, reference: &SecretRef) -> Result<String, DeliveryError> {
        self.read_text(reference).map_err(not_now)
    }

    fn read_url(&self, url: &SecretUrl) -> Result<Url, String> {
        let reference = match url {
            SecretUrl::Loopback(url) => return Ok(url.clone()),
            SecretUrl::Reference(reference) => reference,
        };
        let text = self.read_text(reference)?;
        let parsed = Url::parse(&text).map_err(|error| format!("the secret is not a URL: {error}"))?;
        if parsed.scheme() == "https" || (is_http(&parsed) && is_loopback(&parsed)) {
            return Ok(parsed);
        }
        Err("the secret is not an https:// URL".to_owned())
    }

    fn read_text(&self, reference: &SecretRef) -> Result<String, String> {
        let secret: Secret = self.0.resolve(reference).map_err(|error| error.to_string())?;
        let text = secret.expose_str().map_err(|error| error.to_string())?.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("the secret is empty or has control characters".to_owned());
        }
        Ok(text.to_owned())
    }
}

/// The part of a URL that identifies the caller, to be hidden when a peer echoes it.
pub(crate) fn hidden_part(url: &Url) -> String {
    url.path().trim_start_matches('/').to_owned()
}

/// A secret that cannot be read now may be readable after its rotation has finished.
fn not_now(reason: String) -> DeliveryError {
    DeliveryError::Retry { reason, after: None }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Urls {
        url: SecretUrl,
    }

    fn read(text: &str) -> Result<SecretUrl, String> {
        toml::from_str::<Urls>(text).map(|urls| urls.url).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_webhook_url_is_a_reference() {
        let env = SecretUrl::Reference(SecretRef::Env("HOOK".to_owned()));
        assert_eq!(read(r#"url = { env = "HOOK" }"#), Ok(env));
        assert!(matches!(read(r#"url = "http://127.0.0.1:9/x""#), Ok(SecretUrl::Loopback(_))));
        assert!(matches!(read(r#"url = "http://[::1]:9/x""#), Ok(SecretUrl::Loopback(_))));
        for wrong in [
            "https://hooks.slack.com/services/T0/B0/topsecret",
            "http://127.0.0.1.evil.example/topsecret",
            "http://localhost@evil.example/topsecret",
            "topsecret",
        ] {
            let error = read(&format!("url = {wrong:?}")).unwrap_err();
            assert!(error.contains("env =") && !error.contains("topsecret"), "{error}");
        }
    }

    #[test]
    fn an_address_carries_no_credential() {
        #[derive(Debug, Deserialize)]
        struct Addresses {
            #[expect(dead_code, reason = "only whether it parses matters")]
            url: Address,
        }
        for (text, accepted) in [
            ("https://a.example/x", true),
            ("http://am:9093", true),
            ("ftp://a.example", false),
            ("https://user:pw@a.example", false),
            ("a.example", false),
        ] {
            let read = toml::from_str::<Addresses>(&format!("url = {text:?}"));
            assert_eq!(read.is_ok(), accepted, "{text}");
        }
        let address = Address::of("https://a.example/base/");
        assert_eq!(address.join(&["api", "a/b"]).as_str(), "https://a.example/base/api/a%2Fb");
        assert!(Address::of("http://a.example").guards_credentials("token").is_err());
    }
}
