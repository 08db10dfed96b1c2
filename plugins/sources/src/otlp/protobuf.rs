//! OTLP in protobuf, read field by field. Source: `opentelemetry/proto/{trace,common,resource}/v1` of
//! open-telemetry/opentelemetry-proto; the wire format is that of protobuf.dev/programming-guides/encoding.

use std::borrow::Cow;

use super::spans::{Attributes, ResourceSpans, Span};

/// A field's value as it is on the wire.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message.
struct Fields<'a>(&'a [u8]);

const BROKEN: &str = "not an OTLP export: broken protobuf";

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| BROKEN.to_owned())?;
                Value::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| BROKEN.to_owned())?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(BROKEN.to_owned()),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(|| BROKEN.to_owned())?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BROKEN.to_owned())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| BROKEN.to_owned())?;
        self.0 = rest;
        Ok(head)
    }
}

/// Calls `read` for each field.
fn each<'a>(
    bytes: &'a [u8],
    mut read: impl FnMut(u64, Value<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        read(number, value)?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Reads an export.
pub(super) fn read(body: &[u8]) -> Result<Vec<ResourceSpans<'_>>, String> {
    let mut resources = Vec::new();
    each(body, |number, value| {
        if let (1, Value::Bytes(bytes)) = (number, value) {
            resources.push(resource_spans(bytes)?);
        }
        Ok(())
    })?;
    Ok(resources)
}

fn resource_spans(bytes: &[u8]) -> Result<ResourceSpans<'_>, String> {
    let mut read = ResourceSpans::default();
    each(bytes, |number, value| match (number, value) {
        (1, Value::Bytes(resource)) => each(resource, |number, value| {
            if let (1, Value::Bytes(bytes)) = (number, value) {
                read.resource.push(key_value(bytes)?);
            }
            Ok(())
        }),
        (2, Value::Bytes(scope)) => each(scope, |number, value| {
            if let (2, Value::Bytes(bytes)) = (number, value) {
                read.spans.push(span(bytes)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(read)
}

fn span(bytes: &[u8]) -> Result<Span<'_>, String> {
    let mut read = Span::default();
    each(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(id)) => read.trace_id = hex::encode(id),
            (2, Value::Bytes(id)) => read.span_id = hex::encode(id),
            (4, Value::Bytes(id)) => read.parent_id = hex::encode(id),
            (5, Value::Bytes(name)) => read.name = text(name),
            (7, Value::Fixed64(nanos)) => read.start_nanos = nanos,
            (8, Value::Fixed64(nanos)) => read.end_nanos = nanos,
            (9, Value::Bytes(attribute)) => read.attributes.push(key_value(attribute)?),
            (15, Value::Bytes(status)) => each(status, |number, value| {
                if let (3, Value::Varint(code)) = (number, value) {
                    read.failed = code == 2;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

fn key_value(bytes: &[u8]) -> Result<<Attributes<'_> as IntoIterator>::Item, String> {
    let (mut key, mut found) = (Cow::Borrowed(""), Cow::Borrowed(""));
    each(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(bytes)) => key = text(bytes),
            (2, Value::Bytes(bytes)) => found = any_value(bytes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, found))
}

/// The text of a scalar; a double as the shortest decimal that means it.
fn any_value(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let mut found = Cow::Borrowed("");
    each(bytes, |number, value| {
        found = match (number, value) {
            (1, Value::Bytes(bytes)) => text(bytes),
            (3, Value::Varint(number)) => Cow::Owned(number.cast_signed().to_string()),
            (4, Value::Fixed64(bits)) => Cow::Owned(f64::from_bits(bits).to_string()),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(found)
}
