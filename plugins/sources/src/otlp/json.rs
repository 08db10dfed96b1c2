//! OTLP in JSON: ids in hexadecimal of either case, 64-bit integers as texts or numbers, unknown fields ignored.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::spans::{Attributes, ResourceSpans, Span};
use crate::scalar::{Int, Nested, Text, from_json};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    resource_spans: Vec<Resource<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(borrow)]
    resource: Nested<Keys<'a>>,
    #[serde(borrow)]
    scope_spans: Vec<Scope<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Keys<'a> {
    #[serde(borrow)]
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scope<'a> {
    #[serde(borrow)]
    spans: Vec<JsonSpan<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonSpan<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
    #[serde(borrow)]
    parent_span_id: Text<'a>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    start_time_unix_nano: Int,
    end_time_unix_nano: Int,
    #[serde(borrow)]
    attributes: Vec<KeyValue<'a>>,
    status: Nested<SpanStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpanStatus {
    code: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeyValue<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Nested<AnyValue<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AnyValue<'a> {
    #[serde(borrow)]
    string_value: Text<'a>,
    #[serde(borrow)]
    int_value: Text<'a>,
    /// The number's own text: a cost must not pass through a float.
    #[serde(borrow)]
    double_value: Option<&'a RawValue>,
}

/// Reads an export.
pub(super) fn read(body: &[u8]) -> Result<Vec<ResourceSpans<'_>>, String> {
    let request: Request<'_> = from_json(body)
        .map_err(|error| format!("not an OTLP export: line {}, column {}", error.line(), error.column()))?;
    Ok(request.resource_spans.into_iter().map(resource).collect())
}

fn resource(read: Resource<'_>) -> ResourceSpans<'_> {
    let spans = read.scope_spans.into_iter().flat_map(|scope| scope.spans).map(span).collect();
    ResourceSpans { resource: attributes(read.resource.0.attributes), spans }
}

fn span(read: JsonSpan<'_>) -> Span<'_> {
    let nanos = |int: Int| int.get().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0);
    Span {
        trace_id: read.trace_id.as_str().to_ascii_lowercase(),
        span_id: read.span_id.as_str().to_ascii_lowercase(),
        parent_id: read.parent_span_id.as_str().to_ascii_lowercase(),
        name: read.name,
        start_nanos: nanos(read.start_time_unix_nano),
        end_nanos: nanos(read.end_time_unix_nano),
        failed: read.status.0.code.get() == Some(2),
        attributes: attributes(read.attributes),
    }
}

fn attributes(read: Vec<KeyValue<'_>>) -> Attributes<'_> {
    read.into_iter()
        .map(|KeyValue { key, value: Nested(value) }| {
            let text = match value.double_value {
                Some(number) => Cow::Borrowed(number.get().trim_matches('"')),
                None if value.int_value.get().is_some() => value.int_value.into_cow(),
                None => value.string_value.into_cow(),
            };
            (key, text)
        })
        .collect()
}
