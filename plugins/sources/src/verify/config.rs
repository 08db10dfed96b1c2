//! The configuration of a verifier, and the presets that fill it in.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::secret::SecretRef;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// How a webhook's requests are verified: a table, or the plain words `"none-accept-forged-events"`.
#[derive(Debug, Clone)]
pub enum VerifyConfig {
    /// Nothing is verified: whoever can reach the path can invent payments.
    AcceptForgedEvents,
    /// A scheme.
    Table(Box<VerifyTable>),
}

/// The plain words that turn verification off.
const NONE: &str = "none-accept-forged-events";

/// A signature scheme. A preset fills in everything but the secret; what is written beside it wins.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyTable {
    /// A known sender's scheme.
    pub preset: Option<Preset>,
    /// The kind of proof.
    pub scheme: Option<Scheme>,
    /// The hash of an HMAC.
    pub hash: Option<Hash>,
    /// The header that holds the signature or the token.
    pub header: Option<String>,
    /// How the signature header is written.
    pub format: Option<Format>,
    /// Which keys of the header hold signatures; empty means all. Repeated keys are all tried.
    pub sig_keys: Vec<String>,
    /// The bytes that were signed: `{body}`, `{t}`, `{kv:NAME}`, `{header:NAME}`, `{signed_header_values}` and text.
    pub signed: Option<String>,
    /// How signatures are written.
    pub encoding: Option<Encoding>,
    /// What precedes the signature in a raw header, such as `sha256=`.
    pub prefix: Option<String>,
    /// The key: an HMAC's secret, a token, a password, or a public key.
    pub secret: Option<SecretRef>,
    /// Further keys that are accepted, for rotation.
    pub secrets_extra: Vec<SecretRef>,
    /// How the key is written.
    pub secret_encoding: Option<SecretEncoding>,
    /// The user name of basic authentication.
    pub user: Option<String>,
    /// Where the time of signing is, and how far it may be from now.
    pub timestamp: Option<TimestampConfig>,
}

/// Senders whose scheme is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Stripe: `Stripe-Signature`.
    Stripe,
    /// Agentic Commerce Protocol: `Merchant-Signature`.
    Acp,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks,
    /// Svix and those who use it (Privy, Crossmint, Dodo): `svix-*`.
    Svix,
    /// Hook0, which Coinbase CDP uses: `X-Hook0-Signature`.
    Hook0,
    /// GitHub's style: `X-Hub-Signature-256: sha256=<hex>`; set `header` for others.
    GithubStyle,
    /// BTCPay Server: `BTCPay-Sig: sha256=<hex>`.
    Btcpay,
    /// phoenixd: `X-Phoenix-Signature`.
    Phoenixd,
    /// Lightspark: `lightspark-signature`.
    Lightspark,
    /// Spark: `X-Spark-Signature`.
    Spark,
    /// Strike: `X-Webhook-Signature`.
    Strike,
    /// Circle: `X-Circle-Signature`; the secret is the public key of `X-Circle-Key-Id`.
    Circle,
}

/// The kind of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// A keyed hash over the signed bytes.
    Hmac,
    /// An Ed25519 signature; the secret is the public key.
    Ed25519,
    /// An ECDSA signature (P-256, SHA-256, DER); the secret is the public key.
    EcdsaP256,
    /// `Authorization: Bearer <secret>`, or the secret alone in `header`. Proves the sender, not the body.
    Bearer,
    /// `Authorization: Basic …`. Proves the sender, not the body.
    Basic,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// SHA-1, for senders that have nothing better.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a signature header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The signature alone.
    #[default]
    Raw,
    /// `t=…,v1=…`.
    Kv,
    /// `v1,<signature> v1,<signature>`.
    List,
}

/// How signatures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal, either case.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
    /// Base64 of the URL alphabet, with or without padding.
    Base64url,
}

/// How keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretEncoding {
    /// The text itself is the key.
    Utf8,
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
    /// `whsec_` and base64, as Standard Webhooks has it; `whpk_` and base64 is an Ed25519 public key.
    StdWebhooks,
}

/// Where the time of signing is, and how far it may be from now.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimestampConfig {
    /// `kv:NAME` in the signature header, or `header:NAME`.
    pub from: String,
    /// The unit.
    #[serde(default)]
    pub unit: TimestampUnit,
    /// How old a signature may be.
    #[serde(default = "five_minutes")]
    pub tolerance: Span,
    /// How far in the future it may be.
    #[serde(default = "five_minutes")]
    pub future: Span,
}

/// The unit of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampUnit {
    /// Seconds since 1970.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
}

fn five_minutes() -> Span {
    Span(Duration::from_secs(300))
}

impl VerifyTable {
    /// The table of a preset with a secret, for sources that know their sender.
    pub fn preset(preset: Preset, secret: SecretRef) -> Self {
        Self { preset: Some(preset), secret: Some(secret), ..Self::default() }
    }

    /// This table with the gaps filled from its preset.
    pub(super) fn with_preset(&self) -> Result<Self, ConfigError> {
        let Some(preset) = self.preset else { return Ok(self.clone()) };
        if self.scheme.is_some() {
            return Err(ConfigError::new(
                "verify.scheme",
                "the preset decides the scheme; leave one of both out",
            ));
        }
        let base = preset.table();
        let mut full = self.clone();
        full.scheme = base.scheme;
        full.hash = full.hash.or(base.hash);
        full.header = full.header.or(base.header);
        full.format = full.format.or(base.format);
        full.signed = full.signed.or(base.signed);
        full.encoding = full.encoding.or(base.encoding);
        full.prefix = full.prefix.or(base.prefix);
        full.secret_encoding = full.secret_encoding.or(base.secret_encoding);
        full.timestamp = full.timestamp.or(base.timestamp);
        if full.sig_keys.is_empty() {
            full.sig_keys = base.sig_keys;
        }
        Ok(full)
    }
}

impl Preset {
    /// What is known about a sender (`specs` of the senders, as of 2026).
    fn table(self) -> VerifyTable {
        let raw = |header: &str| VerifyTable { header: Some(header.into()), ..hmac() };
        match self {
            Self::Stripe => timed_kv("stripe-signature"),
            Self::Acp => timed_kv("merchant-signature"),
            Self::StandardWebhooks => standard("webhook"),
            Self::Svix => standard("svix"),
            Self::Hook0 => VerifyTable { sig_keys: Vec::new(), ..timed_kv("x-hook0-signature") },
            Self::GithubStyle => VerifyTable { prefix: Some("sha256=".into()), ..raw("x-hub-signature-256") },
            Self::Btcpay => VerifyTable { prefix: Some("sha256=".into()), ..raw("btcpay-sig") },
            Self::Phoenixd => raw("x-phoenix-signature"),
            Self::Lightspark => raw("lightspark-signature"),
            Self::Spark => raw("x-spark-signature"),
            Self::Strike => raw("x-webhook-signature"),
            Self::Circle => VerifyTable {
                scheme: Some(Scheme::EcdsaP256),
                encoding: Some(Encoding::Base64),
                ..raw("x-circle-signature")
            },
        }
    }
}

fn hmac() -> VerifyTable {
    VerifyTable { scheme: Some(Scheme::Hmac), hash: Some(Hash::Sha256), ..VerifyTable::default() }
}

/// `t=…,v1=<hex of t.body>`.
fn timed_kv(header: &str) -> VerifyTable {
    VerifyTable {
        header: Some(header.into()),
        format: Some(Format::Kv),
        sig_keys: vec!["v1".into()],
        signed: Some("{t}.{body}".into()),
        timestamp: Some(TimestampConfig::seconds("kv:t")),
        ..hmac()
    }
}

/// Standard Webhooks with this prefix of its three headers.
fn standard(prefix: &str) -> VerifyTable {
    VerifyTable {
        header: Some(format!("{prefix}-signature")),
        format: Some(Format::List),
        sig_keys: vec!["v1".into(), "v1a".into()],
        signed: Some(format!("{{header:{prefix}-id}}.{{t}}.{{body}}")),
        encoding: Some(Encoding::Base64),
        secret_encoding: Some(SecretEncoding::StdWebhooks),
        timestamp: Some(TimestampConfig::seconds(&format!("header:{prefix}-timestamp"))),
        ..hmac()
    }
}

impl TimestampConfig {
    /// Seconds, at most five minutes from now.
    pub fn seconds(from: &str) -> Self {
        let unit = TimestampUnit::S;
        Self { from: from.to_owned(), unit, tolerance: five_minutes(), future: five_minutes() }
    }
}

impl<'de> Deserialize<'de> for VerifyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsOrTable;
        impl<'de> Visitor<'de> for WordsOrTable {
            type Value = VerifyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a table such as {{ preset = \"standard-webhooks\", secret = {{ env = \"…\" }} }}, or {NONE:?}"
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<VerifyConfig, E> {
                if text == NONE {
                    Ok(VerifyConfig::AcceptForgedEvents)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VerifyConfig, A::Error> {
                let table = VerifyTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(VerifyConfig::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(WordsOrTable)
    }
}

impl JsonSchema for VerifyConfig {
    fn schema_name() -> Cow<'static, str> {
        "Verify".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<VerifyTable>();
        json_schema!({ "anyOf": [{ "const": NONE }, table] })
    }
}
