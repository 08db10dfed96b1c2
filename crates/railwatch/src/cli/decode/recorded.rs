//! Recordings: what one message is in a file of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use railwatch_model::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cli::{Failure, replay};

/// Bytes of one message, and of a file that is one.
const MESSAGE_LEN_MAX: u64 = 256 << 20;

/// One message.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    /// The headers of a request.
    pub(super) headers: Option<HeaderMap>,
    /// The body as it came.
    pub(super) body: Cow<'a, [u8]>,
    /// When it arrived, if the recording knows.
    pub(super) at: Option<Timestamp>,
}

/// A request as it is recorded. A body that is JSON itself is taken as it is written; a text is the body; bytes that are
/// no text come as base64.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    headers: BTreeMap<String, String>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    body_base64: Option<String>,
    #[serde(borrow, default)]
    at: Option<&'a RawValue>,
}

/// Calls `take` with every message of a file, and where it is.
pub(super) fn each(
    path: &Path,
    mut take: impl FnMut(&str, Recorded<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
    let mut reader: Box<dyn BufRead> = match &*name {
        "standard input" => Box::new(BufReader::new(io::stdin())),
        _ => replay::open(path)?,
    };
    let mut line = Vec::new();
    let mut number = 0_u64;
    while (&mut reader).take(MESSAGE_LEN_MAX).read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let text = line.trim_ascii();
        if number == 1 && !text.is_empty() && !is_json(text) {
            // Not a file of lines: one message, such as a document over several lines, or binary.
            (&mut reader).take(MESSAGE_LEN_MAX).read_to_end(&mut line)?;
            return take(&name, recorded(&line).with_context(|| name.to_string())?);
        }
        if !text.is_empty() {
            let place = format!("{name}:{number}");
            take(&place, recorded(text).with_context(|| place.clone())?)?;
        }
        line.clear();
    }
    Ok(())
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn recorded(text: &[u8]) -> anyhow::Result<Recorded<'_>> {
    let Ok(request) = serde_json::from_slice::<Request<'_>>(text) else {
        return Ok(Recorded { headers: None, body: Cow::Borrowed(text), at: None });
    };
    let body = match (request.body, request.body_base64) {
        (Some(body), None) if body.get().starts_with('"') => {
            Cow::Owned(serde_json::from_str::<String>(body.get())?.into_bytes())
        }
        (Some(body), None) => Cow::Borrowed(body.get().as_bytes()),
        (None, Some(body)) => Cow::Owned(STANDARD.decode(body).context("body_base64 is not base64")?),
        (Some(_), Some(_)) | (None, None) => {
            return Err(anyhow!("a request has a body or a body_base64"));
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse().with_context(|| format!("{name:?} is not a header name"))?;
        headers.append(name, HeaderValue::from_str(value).context("a header's value is not one")?);
    }
    let at = request.at.map(|at| Timestamp::parse(at.get().trim_matches('"'))).transpose();
    let at = at.context("\"at\" is no time; write RFC 3339 or Unix seconds")?;
    Ok(Recorded { headers: Some(headers), body, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> (bool, String) {
        let recorded = recorded(text.as_bytes()).unwrap();
        (recorded.headers.is_some(), String::from_utf8(recorded.body.into_owned()).unwrap())
    }

    #[test]
    fn a_request_is_told_from_a_message() {
        assert_eq!(body(r#"{"id": 1}"#), (false, r#"{"id": 1}"#.to_owned()));
        assert_eq!(body(r#"{"headers":{},"body":{"id": 1}}"#), (true, r#"{"id": 1}"#.to_owned()));
        assert_eq!(body(r#"{"headers":{"A":"b"},"body":"{\n}"}"#), (true, "{\n}".to_owned()));
        assert_eq!(body(r#"{"headers":{},"body_base64":"eA=="}"#), (true, "x".to_owned()));
        assert!(!body(r#"{"headers":{},"body":1,"id":2}"#).0, "somebody's own shape");
        assert!(recorded(br#"{"headers":{}}"#).is_err());
    }
}
