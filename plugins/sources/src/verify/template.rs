//! What was signed, as a template: `{t}.{body}`, `{header:webhook-id}.{t}.{body}`.

use http::{HeaderMap, HeaderName};

use super::VerifyError;

/// Where a value is: in the signature header's pairs or in a header of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Kv(String),
    Header(HeaderName),
}

impl Source {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("kv", key) if !key.is_empty() => Some(Self::Kv(key.to_owned())),
            ("header", name) => name.parse().ok().map(Self::Header),
            _ => None,
        }
    }

    pub(super) fn find<'a>(&self, pairs: &[(&'a str, &'a str)], headers: &'a HeaderMap) -> Option<&'a str> {
        match self {
            Self::Kv(key) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| *value),
            Self::Header(name) => headers.get(name)?.to_str().ok(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Body,
    Time,
    From(Source),
    /// The values of the headers that `h=…` lists, joined by dots.
    SignedHeaderValues,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

/// What a template is filled from.
pub(super) struct Signed<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) pairs: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) stamp: Option<&'a str>,
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let (name, tail) = tail.split_once('}').ok_or_else(|| format!("{text:?} has an open brace"))?;
            parts.push(match name {
                "body" => Part::Body,
                "t" => Part::Time,
                "signed_header_values" => Part::SignedHeaderValues,
                other => Part::From(Source::parse(other).ok_or_else(|| {
                    format!(
                        "{{{other}}} is not known; use {{body}}, {{t}}, {{kv:NAME}}, {{header:NAME}} or \
                         {{signed_header_values}}"
                    )
                })?),
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub(super) fn needs_time(&self) -> bool {
        self.0.contains(&Part::Time)
    }

    pub(super) fn covers_body(&self) -> bool {
        self.0.contains(&Part::Body)
    }

    pub(super) fn render(&self, signed: &Signed<'_>) -> Result<Vec<u8>, VerifyError> {
        let mut message = Vec::with_capacity(signed.body.len() + 128);
        for part in &self.0 {
            match part {
                Part::Literal(text) => message.extend_from_slice(text.as_bytes()),
                Part::Body => message.extend_from_slice(signed.body),
                Part::Time => {
                    message.extend_from_slice(signed.stamp.ok_or(VerifyError::NoTimestamp)?.as_bytes());
                }
                Part::From(source) => {
                    let found = source.find(signed.pairs, signed.headers);
                    message.extend_from_slice(found.ok_or_else(|| missing(source))?.as_bytes());
                }
                Part::SignedHeaderValues => message.extend_from_slice(signed.header_values()?.as_bytes()),
            }
        }
        Ok(message)
    }
}

impl Signed<'_> {
    fn header_values(&self) -> Result<String, VerifyError> {
        let names = Source::Kv("h".to_owned());
        let names = names.find(self.pairs, self.headers).ok_or_else(|| missing(&names))?;
        let mut values = Vec::new();
        for name in names.split_whitespace() {
            let name: HeaderName = name.parse().map_err(|_| VerifyError::NoMatch)?;
            let value = self.headers.get(&name).and_then(|value| value.to_str().ok());
            values.push(value.ok_or(VerifyError::MissingHeader(name))?);
        }
        Ok(values.join("."))
    }
}

fn missing(source: &Source) -> VerifyError {
    match source {
        Source::Header(name) => VerifyError::MissingHeader(name.clone()),
        Source::Kv(_) => VerifyError::NoMatch,
    }
}
