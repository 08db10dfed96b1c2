//! Where a sink sends to, and with what credential: URLs that are secrets, addresses that are not, tokens.
//!
//! A chat's webhook URL lets anyone who has it write to the channel, so it is always a reference to a secret, even
//! for a test peer: there is then no text in a configuration that an error or a log could show.

use std::borrow::Cow;
use std::sync::Arc;

use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::secret::{Secret, SecretRef, Secrets};
use railwatch_plugin::sink::{DeliveryError, SinkBuild};
use reqwest::Url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Table;

use crate::http::{Peer, TIMEOUT, is_loopback};

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
        "HttpAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": "^https?://", "x-railwatch": "url",
            "description": "an http:// or https:// address without user and password"
        })
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

/// Settings of a sink that posts to a webhook.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookConfig {
    /// The webhook's URL, a secret: `{ env = "…" }` or `{ file = "…" }`.
    url: SecretRef,
    /// How long one delivery may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn timeout() -> Span {
    TIMEOUT
}

/// A webhook whose URL lets anyone who has it write to a channel.
#[derive(Debug)]
pub(crate) struct Hook {
    url: SecretRef,
    vault: Vault,
    pub(crate) peer: Peer,
}

impl Hook {
    /// Checks the table and the secret, and makes the client.
    pub(crate) fn build(table: &Table, build: &SinkBuild) -> Result<Self, ConfigError> {
        let HookConfig { url, timeout } = parse(table)?;
        Self::new(url, timeout, build)
    }

    /// Checks the secret and makes the client.
    pub(crate) fn new(url: SecretRef, timeout: Span, build: &SinkBuild) -> Result<Self, ConfigError> {
        let vault = Vault::of(build);
        let address = vault.check_url("url", &url)?;
        Ok(Self { peer: Peer::new(timeout, build, &address)?, url, vault })
    }

    /// The URL of a delivery.
    pub(crate) fn url(&self) -> Result<Url, DeliveryError> {
        self.vault.url(&self.url)
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
    pub(crate) fn check_url(&self, key: &str, url: &SecretRef) -> Result<Url, ConfigError> {
        self.read_url(url).map_err(|reason| ConfigError::new(key, reason))
    }

    /// The URL of a delivery.
    pub(crate) fn url(&self, url: &SecretRef) -> Result<Url, DeliveryError> {
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

    /// Secret URLs are https; plain http is for a peer on this machine.
    fn read_url(&self, reference: &SecretRef) -> Result<Url, String> {
        let text = self.read_text(reference)?;
        let url = Url::parse(&text).map_err(|error| format!("the secret is not a URL: {error}"))?;
        if url.scheme() == "https" || (is_http(&url) && is_loopback(&url)) {
            return Ok(url);
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
    use crate::testing::build_with;

    #[test]
    fn a_secret_url_is_https_or_on_this_machine_and_never_shown() {
        for (url, accepted) in [
            ("https://hooks.slack.com/services/T0/B0/topsecret", true),
            ("http://127.0.0.1:9/topsecret", true),
            ("http://[::1]:9/topsecret", true),
            ("http://localhost:9/topsecret", true),
            ("http://127.0.0.1.evil.example/topsecret", false),
            ("http://localhost@evil.example/topsecret", false),
            ("ftp://127.0.0.1/topsecret", false),
            ("topsecret", false),
        ] {
            let vault = Vault::of(&build_with(&[("HOOK", url)], std::path::PathBuf::new()));
            let checked = vault.check_url("url", &SecretRef::Env("HOOK".to_owned()));
            assert_eq!(checked.is_ok(), accepted, "{url}");
            if let Err(error) = checked {
                assert!(error.path == "url" && !error.to_string().contains("topsecret"), "{error}");
            }
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
