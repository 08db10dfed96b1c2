//! Small plugins that use what real ones use: secrets, nested tables, tagged choices, spans, checks in `build`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use railwatch_model::{Signal, SmolStr};
use railwatch_plugin::column::{Column, column};
use railwatch_plugin::config::{ConfigError, Fraction, Span, parse};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::detector::{Context, Detector, Observation, View};
use railwatch_plugin::registry::{DetectorPlugin, SinkPlugin, SourcePlugin};
use railwatch_plugin::secret::{Secret, SecretError, SecretRef, Secrets};
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use railwatch_plugin::source::{Source, SourceBuild, SourceContext, SourceError};
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::super::Registries;

/// Environment variables that exist are those whose name begins with `HAVE_`.
#[derive(Debug)]
pub(super) struct Vault;

impl Secrets for Vault {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Env(name) if name.starts_with("HAVE_") => Ok(Secret::new(*b"xyzzy")),
            SecretRef::Env(name) => Err(SecretError::NoEnv(name.clone())),
            SecretRef::File(_) => Err(SecretError::Empty),
        }
    }
}

/// A source with the shapes of a WebSocket client.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a table to be checked")]
struct Feed {
    /// The address.
    url: String,
    /// The bearer token.
    token: Option<SecretRef>,
    /// Where fields are.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// How long to wait for a message.
    #[serde(default = "Feed::idle")]
    idle: Span,
    /// The first wait after a failure.
    backoff: Option<Span>,
}

impl Feed {
    fn idle() -> Span {
        Span(std::time::Duration::from_secs(30))
    }
}

/// A source with the shapes of a webhook.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a table to be checked")]
struct Hook {
    /// The path on the host's listener.
    listen: String,
    /// How requests are verified.
    verify: Verify,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "scheme", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "a table to be checked")]
enum Verify {
    /// A keyed hash.
    HmacSha256 {
        /// The header.
        header: String,
        /// The key.
        secret: SecretRef,
    },
    /// Nothing is verified.
    AcceptForgedEvents,
}

/// A sink with the shapes of a chat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a table to be checked")]
struct Chat {
    /// Where to post.
    url: SecretRef,
    /// The channel.
    channel: Option<String>,
    /// The look.
    #[serde(default)]
    style: Style,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Style {
    /// One line.
    Short,
    /// Everything.
    #[default]
    Full,
}

/// A detector's table.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Threshold {
    /// The ratio that fires.
    #[schemars(range(min = 1.0))]
    ratio: f64,
    /// The window.
    window: Span,
    /// The share that fires.
    share: Fraction,
}

impl Default for Threshold {
    fn default() -> Self {
        Self { ratio: 3.0, window: Span(std::time::Duration::from_secs(900)), share: Fraction(0.8) }
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Source for Nothing {
    async fn run(self: Box<Self>, _cx: SourceContext) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Decoder for Nothing {
    fn decode(&self, _message: &Message<'_>, _decoded: &mut Decoded) {}
}

#[async_trait]
impl Sink for Nothing {
    async fn deliver(&self, _dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::default())
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

impl Detector for Nothing {
    type State = ();
    type Shared = ();

    fn name(&self) -> &'static str {
        "velocity"
    }

    fn observe(&self, _cx: &mut Context<'_, ()>, _state: &mut (), _seen: &Observation<'_>) {}

    fn tick(&self, _cx: &mut Context<'_, ()>, _state: &mut ()) {}

    fn signals(&self, _view: &View<'_, ()>, _state: &(), _signals: &mut Vec<Signal>) {}
}

fn feed_schema() -> Schema {
    schema_for!(Feed)
}

fn build_feed(table: &Table, with: &SourceBuild) -> Result<Box<dyn Source>, ConfigError> {
    let feed: Feed = parse(table)?;
    if let Some(token) = &feed.token {
        with.secrets.resolve(token).map_err(|error| ConfigError::new("token", error))?;
    }
    if !feed.url.starts_with("ws") {
        return Err(ConfigError::new("url", "expected an address such as wss://gate.example.com"));
    }
    for (field, place) in &feed.fields {
        if !place.starts_with('/') {
            return Err(ConfigError::new(
                format!("fields.{field}"),
                "expected a JSON pointer such as /amount",
            ));
        }
    }
    if feed.fields.is_empty() == with.decoder.is_none() {
        return Err(ConfigError::new("", "either `fields` or `decode` is needed"));
    }
    Ok(Box::new(Nothing))
}

fn no_decoder(_table: &Table, _with: &SourceBuild) -> Result<Arc<dyn Decoder>, ConfigError> {
    Ok(Arc::new(Nothing))
}

fn hook_schema() -> Schema {
    schema_for!(Hook)
}

fn build_hook(table: &Table, _with: &SourceBuild) -> Result<Box<dyn Source>, ConfigError> {
    let _hook: Hook = parse(table)?;
    Ok(Box::new(Nothing))
}

fn chat_schema() -> Schema {
    schema_for!(Chat)
}

fn build_chat(table: &Table, with: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let chat: Chat = parse(table)?;
    with.secrets.resolve(&chat.url).map_err(|error| ConfigError::new("url", error))?;
    Ok(Box::new(Nothing))
}

fn threshold_schema() -> Schema {
    schema_for!(Threshold)
}

fn build_velocity(table: &Table) -> Result<Box<dyn Column>, ConfigError> {
    let _threshold: Threshold = parse(table)?;
    Ok(column(Nothing))
}

const SOURCES: &[SourcePlugin] = &[
    SourcePlugin {
        name: "websocket",
        summary: "a payment gate's stream",
        example: "",
        schema: feed_schema,
        build: build_feed,
        decoder: no_decoder,
    },
    SourcePlugin {
        name: "webhook",
        summary: "signed webhooks",
        example: "",
        schema: hook_schema,
        build: build_hook,
        decoder: no_decoder,
    },
];

const SINKS: &[SinkPlugin] =
    &[SinkPlugin { name: "slack", summary: "a chat", example: "", schema: chat_schema, build: build_chat }];

const DETECTORS: &[DetectorPlugin] = &[DetectorPlugin {
    name: "velocity",
    summary: "dollars per hour",
    example: "",
    schema: threshold_schema,
    build: build_velocity,
}];

pub(super) fn registries() -> Registries<'static> {
    Registries { sources: SOURCES, sinks: SINKS, detectors: DETECTORS }
}

/// A name for use in expectations.
pub(super) fn name(text: &str) -> SmolStr {
    SmolStr::new(text)
}
