//! OTLP: traces of instrumented agents. Finished `invoke_agent` spans are tasks; spans with a cost attribute are what
//! models cost. OpenRouter's Broadcast is the same format.

mod json;
mod protobuf;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::Source;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::posted;
use crate::webhook::WebhookTable;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "otlp",
    summary: "tasks and model costs from OpenTelemetry traces, over OTLP/HTTP",
    example: EXAMPLE,
    schema: || schema_for!(WebhookTable),
    build: |table, build| {
        let source = posted::build::<NoKeys>(table, build, |_| Arc::new(OtlpDecoder))?;
        Ok(Box::new(source) as Box<dyn Source>)
    },
    decoder: |_, _| Ok(Arc::new(OtlpDecoder)),
};

const EXAMPLE: &str = r#"[sources.traces]
plugin = "otlp"
path = "/in/v1/traces"
body_len_max = 4_194_304
verify = { scheme = "bearer", secret = { env = "GATE_SECRET" } }
"#;

/// This rail has no keys of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

/// Decodes `ExportTraceServiceRequest` in JSON or protobuf; which one it is, the content type says, else the first
/// byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtlpDecoder;

impl Decoder for OtlpDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let body = message.body;
        // An export without spans is a health check.
        if body.trim_ascii().is_empty() {
            return decoded.filter("empty message");
        }
        let read = if is_json(message) { json::read(body) } else { protobuf::read(body) };
        match read {
            Ok(spans) => spans::report(&spans, message.received_at, decoded),
            Err(detail) => decoded.reject("bad_otlp", detail, body, message.received_at),
        }
    }
}

fn is_json(message: &Message<'_>) -> bool {
    let content_type = message.headers.and_then(|headers| headers.get(http::header::CONTENT_TYPE));
    match content_type.and_then(|value| value.to_str().ok()) {
        Some(content_type) if content_type.contains("protobuf") => false,
        Some(content_type) if content_type.contains("json") => true,
        _ => message.body.trim_ascii_start().starts_with(b"{"),
    }
}
