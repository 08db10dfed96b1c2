//! `WWW-Authenticate: Payment …`: several challenges in one header line, quoted commas, foreign schemes in between
//! (RFC 9110, sections 5.6 and 11).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer};

use crate::scalar::{Expandable, Text};

/// An offer to pay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenge {
    /// The challenge's name; never empty.
    pub id: String,
    /// Whose resource it is.
    pub realm: String,
    /// `stripe`, `lightning`, `tempo`, …
    pub method: String,
    /// `charge`, `session` or `subscription`.
    pub intent: String,
    /// What is to be paid: base64url of a JSON object.
    pub request: String,
}

impl Challenge {
    fn is_complete(&self) -> bool {
        [&self.id, &self.realm, &self.method, &self.intent, &self.request].iter().all(|part| !part.is_empty())
    }

    /// Sets a parameter; of a repeated one the first counts.
    fn set(&mut self, name: &str, value: &str) {
        let part = match name.to_ascii_lowercase().as_str() {
            "id" => &mut self.id,
            "realm" => &mut self.realm,
            "method" => &mut self.method,
            "intent" => &mut self.intent,
            "request" => &mut self.request,
            _ => return,
        };
        if part.is_empty() {
            value.clone_into(part);
        }
    }
}

/// Offers in one header; more are read over.
const OFFERS_MAX: usize = 32;

/// The complete `Payment` challenges of a header, in its order.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut current: Option<Challenge> = None;
    let mut rest = header;
    while let Some(element) = next_element(&mut rest) {
        let (scheme, parameter) = split_scheme(element);
        if let Some(scheme) = scheme {
            challenges.extend(current.take().filter(Challenge::is_complete));
            current = scheme.eq_ignore_ascii_case("Payment").then(Challenge::default);
        }
        if let (Some(challenge), Some((name, value))) = (&mut current, parameter.split_once('=')) {
            challenge.set(name.trim(), &unquote(value.trim()));
        }
    }
    challenges.extend(current.filter(Challenge::is_complete));
    challenges.truncate(OFFERS_MAX);
    challenges
}

/// The next part up to a comma outside quotes.
fn next_element<'a>(rest: &mut &'a str) -> Option<&'a str> {
    if rest.is_empty() {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    let end = rest.char_indices().find(|(_, c)| {
        let ends = *c == ',' && !quoted;
        if *c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && *c == '\\' && !escaped;
        ends
    });
    let (element, tail) = match end {
        Some((at, _)) => (rest.get(..at), rest.get(at + 1..)),
        None => (Some(*rest), None),
    };
    *rest = tail.unwrap_or_default();
    element.map(str::trim)
}

/// `Payment id="…"` begins a challenge; `id="…"` continues one.
fn split_scheme(element: &str) -> (Option<&str>, &str) {
    let token = element.find([' ', '\t', '=']).unwrap_or(element.len());
    let (head, tail) = element.split_at(token);
    match tail.trim_start() {
        after if head.is_empty() || after.starts_with('=') => (None, element),
        after => (Some(head), after),
    }
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// Decodes strict base64url: with or without padding at the end, and nothing else that is lenient.
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);
    if text.contains('=') && !text.len().is_multiple_of(4) {
        return None;
    }
    ENGINE.decode(text).ok()
}

/// A challenge as clients post it: an object, or the header as it came, of which the first complete offer counts.
#[derive(Debug, Default)]
pub(super) struct Offered(Option<Challenge>);

impl Offered {
    pub(super) fn find(&self) -> Option<&Challenge> {
        self.0.as_ref()
    }
}

impl<'de> Deserialize<'de> for Offered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Expandable::<Parts<'_>>::deserialize(deserializer)?;
        let found = match parts.0.header.get() {
            Some(header) => parse_challenges(header).into_iter().next(),
            None => Some(parts.0.to_challenge()).filter(Challenge::is_complete),
        };
        Ok(Self(found))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parts<'a> {
    #[serde(skip)]
    header: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    realm: Text<'a>,
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow)]
    intent: Text<'a>,
    #[serde(borrow)]
    request: Text<'a>,
}

impl<'a> From<Text<'a>> for Parts<'a> {
    fn from(header: Text<'a>) -> Self {
        Self { header, ..Self::default() }
    }
}

impl Parts<'_> {
    fn to_challenge(&self) -> Challenge {
        let text = |text: &Text<'_>| text.as_str().to_owned();
        Challenge {
            id: text(&self.id),
            realm: text(&self.realm),
            method: text(&self.method),
            intent: text(&self.intent),
            request: text(&self.request),
        }
    }
}
