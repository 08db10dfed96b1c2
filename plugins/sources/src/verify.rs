//! Signatures of webhooks, as data: a scheme is a header, a format, the bytes that were signed and a key.
//!
//! Invariant: the raw body is verified before anything parses it, every comparison takes constant time, and neither
//! a secret nor the signed bytes appear in an error or a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use railwatch_model::Timestamp;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::secret::{SecretRef, Secrets};
use toml::Table;

mod config;
mod key;
mod template;

pub use config::{
    Encoding, Format, Hash, Preset, Scheme, SecretEncoding, TimestampConfig, TimestampUnit, VerifyConfig,
    VerifyTable,
};
use key::Key;
use template::{Signed, Template};

/// Why a request is not believed. The text is safe to send back: it names headers, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header that the scheme needs is not there, or is not text.
    #[error("header {0} is missing")]
    MissingHeader(HeaderName),
    /// The signature header holds no signature of a known kind.
    #[error("header {0} holds no signature of the expected form")]
    Malformed(HeaderName),
    /// The timestamp is missing or is not a number of the expected unit.
    #[error("the signature has no readable timestamp")]
    NoTimestamp,
    /// The request was signed too long ago: a replay, a very late delivery, or a wrong clock.
    #[error("the signature is older than the tolerance; check the clocks")]
    TooOld,
    /// The request claims to be signed in the future: a wrong clock.
    #[error("the signature is from the future; check the clocks")]
    TooNew,
    /// No key gives this signature for this body.
    #[error("no signature matches")]
    NoMatch,
}

/// Verifies requests by one configured scheme.
#[derive(Debug)]
pub struct Verifier {
    check: Check,
    secrets: Arc<dyn Secrets>,
}

#[derive(Debug)]
enum Check {
    /// Forged events are accepted, as the configuration says in plain words.
    Nothing,
    /// The header equals one of the expected values.
    Token { header: HeaderName, prefix: &'static str, keys: KeyRefs },
    /// The header holds a signature over the body.
    Signature(Box<Signature>),
}

#[derive(Debug)]
struct Signature {
    hash: Hash,
    header: HeaderName,
    format: Format,
    /// Tried in order; the first whose signature keys appear in the header decides, so that a strong signature
    /// cannot be dropped in favor of a weak one that is there as well.
    variants: Vec<Variant>,
    encoding: Encoding,
    prefix: String,
    timestamp: Option<TimestampRule>,
    keys: KeyRefs,
}

#[derive(Debug)]
struct Variant {
    sig_keys: Vec<String>,
    template: Template,
}

#[derive(Debug)]
struct TimestampRule {
    from: template::Source,
    unit: TimestampUnit,
    tolerance: Duration,
    future: Duration,
}

/// References to keys; they are resolved anew when no resolved key matches, so that a rotated file takes effect.
#[derive(Debug)]
struct KeyRefs {
    refs: Vec<SecretRef>,
    encoding: SecretEncoding,
    scheme: Scheme,
    user: Option<String>,
    resolved: std::sync::RwLock<Arc<Vec<Key>>>,
    /// When they were last read, in microseconds: a flood of forged requests does not become a flood of reads.
    read_at: AtomicI64,
}

/// The verifier that a source's block describes, live or for recorded requests; `None` if it describes none.
pub fn configured(table: &Table, secrets: &Arc<dyn Secrets>) -> Result<Option<Verifier>, ConfigError> {
    let config = match table.get("verify") {
        Some(verify) => {
            let keys = Table::from_iter([("verify".to_owned(), verify.clone())]);
            railwatch_plugin::config::parse::<VerifyKey>(&keys)?.verify
        }
        None => crate::stripe::verify_of(table)?,
    };
    config.map(|config| Verifier::new(&config, secrets)).transpose()
}

/// The one key of a block that is about verification.
#[derive(Debug, serde::Deserialize)]
struct VerifyKey {
    verify: Option<VerifyConfig>,
}

/// How often secrets are read again at most.
const READ_EVERY: Duration = Duration::from_secs(5);

impl KeyRefs {
    fn new(
        table: &VerifyTable,
        scheme: Scheme,
        encoding: SecretEncoding,
        secrets: &dyn Secrets,
    ) -> Result<Self, ConfigError> {
        let first = table.secret.clone().ok_or_else(|| {
            ConfigError::new(
                "verify.secret",
                "a secret is needed: { env = \"NAME\" } or { file = \"/path\" }",
            )
        })?;
        let refs = std::iter::once(first).chain(table.secrets_extra.iter().cloned()).collect();
        let user = table.user.clone();
        let keys = Self {
            refs,
            encoding,
            scheme,
            user,
            resolved: Default::default(),
            read_at: AtomicI64::new(i64::MIN),
        };
        let resolved = keys.resolve(table.hash.unwrap_or_default(), secrets)?;
        keys.store(resolved);
        Ok(keys)
    }

    fn resolve(&self, hash: Hash, secrets: &dyn Secrets) -> Result<Vec<Key>, ConfigError> {
        let resolve = |(nth, reference): (usize, &SecretRef)| {
            let path = if nth == 0 {
                "verify.secret".to_owned()
            } else {
                format!("verify.secrets_extra[{}]", nth - 1)
            };
            let secret =
                secrets.resolve(reference).map_err(|error| ConfigError::new(path.as_str(), error))?;
            Key::new(self.scheme, hash, self.encoding, self.user.as_deref(), &secret)
                .map_err(|message| ConfigError::new(path, message))
        };
        self.refs.iter().enumerate().map(resolve).collect()
    }

    /// The keys as they are now, unless they were read a moment ago.
    fn reread(&self, hash: Hash, secrets: &dyn Secrets, now: Timestamp) -> Option<Vec<Key>> {
        let read_at = Timestamp::from_micros(self.read_at.load(Ordering::Relaxed));
        if now < read_at.after(READ_EVERY) && now >= read_at {
            return None;
        }
        self.read_at.store(now.micros(), Ordering::Relaxed);
        self.resolve(hash, secrets).ok()
    }

    fn current(&self) -> Arc<Vec<Key>> {
        self.resolved.read().map(|keys| Arc::clone(&keys)).unwrap_or_default()
    }

    fn store(&self, keys: Vec<Key>) {
        if let Ok(mut resolved) = self.resolved.write() {
            *resolved = Arc::new(keys);
        }
    }
}

impl Verifier {
    /// Checks a configuration and resolves its secrets. Errors are below the key `verify`.
    pub fn new(config: &VerifyConfig, secrets: &Arc<dyn Secrets>) -> Result<Self, ConfigError> {
        let check = match config {
            VerifyConfig::AcceptForgedEvents => Check::Nothing,
            VerifyConfig::Table(table) => build(table, secrets.as_ref())?,
        };
        Ok(Self { check, secrets: Arc::clone(secrets) })
    }

    /// Believes a request, or says why not. `now` is the time of arrival.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        match &self.check {
            Check::Nothing => Ok(()),
            Check::Token { header, prefix, keys } => {
                let given = text(headers, header)?;
                let given =
                    given.strip_prefix(prefix).ok_or_else(|| VerifyError::Malformed(header.clone()))?;
                self.any_key(keys, Hash::default(), now, |key| key.equals(given.trim().as_bytes()))
            }
            Check::Signature(signature) => {
                let candidates = signature.candidates(headers, body, now)?;
                self.any_key(&signature.keys, signature.hash, now, |key| {
                    candidates.signatures.iter().any(|candidate| key.signed(&candidates.message, candidate))
                })
            }
        }
    }

    /// True if requests are believed without a signature.
    pub fn accepts_forged_events(&self) -> bool {
        matches!(self.check, Check::Nothing)
    }

    /// Tries the resolved keys, then reads the secrets again (they may have been rotated) and tries those.
    fn any_key(
        &self,
        keys: &KeyRefs,
        hash: Hash,
        now: Timestamp,
        fits: impl Fn(&Key) -> bool,
    ) -> Result<(), VerifyError> {
        // No early exit: how long it takes does not tell which key fits.
        let any = |keys: &[Key]| keys.iter().fold(false, |any, key| fits(key) | any);
        if any(&keys.current()) {
            return Ok(());
        }
        let Some(rotated) = keys.reread(hash, self.secrets.as_ref(), now) else {
            return Err(VerifyError::NoMatch);
        };
        if *keys.current() == rotated || !any(&rotated) {
            return Err(VerifyError::NoMatch);
        }
        keys.store(rotated);
        Ok(())
    }
}

/// What a request says it is signed with.
struct Candidates {
    message: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Signature {
    fn candidates(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Candidates, VerifyError> {
        let value = text(headers, &self.header)?;
        let pairs = self.format.pairs(value, &self.prefix);
        let timestamp = self.timestamp.as_ref();
        let stamp = timestamp.map(|rule| rule.check(&pairs, headers, now)).transpose()?;
        let signed = Signed { headers, pairs: &pairs, body, stamp };
        for variant in &self.variants {
            let keys = &variant.sig_keys;
            let mine = pairs.iter().filter(|(key, _)| keys.is_empty() || keys.iter().any(|name| name == key));
            let signatures: Vec<Vec<u8>> = mine.filter_map(|(_, text)| self.encoding.decode(text)).collect();
            if !signatures.is_empty() {
                let message = variant.template.render(&signed)?;
                return Ok(Candidates { message, signatures });
            }
        }
        Err(VerifyError::Malformed(self.header.clone()))
    }
}

impl TimestampRule {
    /// The timestamp's text, if it is within the window around `now`.
    fn check<'a>(
        &self,
        pairs: &[(&'a str, &'a str)],
        headers: &'a HeaderMap,
        now: Timestamp,
    ) -> Result<&'a str, VerifyError> {
        let text = self.from.find(pairs, headers).ok_or(VerifyError::NoTimestamp)?;
        let number: i64 = text.parse().map_err(|_| VerifyError::NoTimestamp)?;
        let signed_at = match self.unit {
            TimestampUnit::S => Timestamp::from_secs(number),
            TimestampUnit::Ms => Timestamp::from_micros(number.saturating_mul(1_000)),
        };
        if now > signed_at.after(self.tolerance) {
            return Err(VerifyError::TooOld);
        }
        if signed_at > now.after(self.future) {
            return Err(VerifyError::TooNew);
        }
        Ok(text)
    }
}

impl Format {
    /// The signature header as (key, value) pairs; a raw header is one pair with an empty key.
    fn pairs<'a>(self, value: &'a str, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let pair = |part: &'a str, separator: char| {
            part.split_once(separator).map(|(key, value)| (key.trim(), value.trim()))
        };
        match self {
            Self::Kv => value.split(',').filter_map(|part| pair(part, '=')).take(PAIRS_MAX).collect(),
            Self::List => {
                value.split_whitespace().filter_map(|part| pair(part, ',')).take(PAIRS_MAX).collect()
            }
            Self::Raw => value.trim().strip_prefix(prefix).map(|value| ("", value)).into_iter().collect(),
        }
    }
}

/// Pairs of one header that are looked at.
const PAIRS_MAX: usize = 32;

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Base64url => URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok(),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, VerifyError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| VerifyError::MissingHeader(name.clone()))
}

/// Completes a table with its preset and compiles it.
fn build(table: &VerifyTable, secrets: &dyn Secrets) -> Result<Check, ConfigError> {
    let full = table.with_preset()?;
    let scheme = full.scheme.ok_or_else(|| {
        ConfigError::new(
            "verify.scheme",
            "name a preset such as \"standard-webhooks\", or a scheme such as \"hmac\"",
        )
    })?;
    let encoding = full.secret_encoding.unwrap_or(match scheme {
        Scheme::Ed25519 | Scheme::EcdsaP256 => SecretEncoding::Base64,
        Scheme::Hmac | Scheme::Bearer | Scheme::Basic => SecretEncoding::Utf8,
    });
    let keys = KeyRefs::new(&full, scheme, encoding, secrets)?;
    if let Scheme::Bearer | Scheme::Basic = scheme {
        let prefix = match (&full.header, scheme) {
            (Some(_), _) => "",
            (None, Scheme::Basic) => "Basic ",
            (None, _) => "Bearer ",
        };
        let header = header(full.header.as_deref().unwrap_or("authorization"), "verify.header")?;
        return Ok(Check::Token { header, prefix, keys });
    }
    let name = full.header.as_deref();
    let name =
        name.ok_or_else(|| ConfigError::new("verify.header", "name the header that holds the signature"))?;
    let timestamp = full.timestamp.as_ref().map(TimestampRule::new).transpose()?;
    let variants = if full.preset == Some(Preset::Hook0) && table.signed.is_none() {
        vec![
            Variant::new(vec!["v1".into()], "{t}.{kv:h}.{signed_header_values}.{body}", true)?,
            Variant::new(vec!["v0".into()], "{t}.{body}", true)?,
        ]
    } else {
        let signed = full.signed.as_deref().unwrap_or("{body}");
        vec![Variant::new(full.sig_keys.clone(), signed, timestamp.is_some())?]
    };
    Ok(Check::Signature(Box::new(Signature {
        hash: full.hash.unwrap_or_default(),
        header: header(name, "verify.header")?,
        format: full.format.unwrap_or_default(),
        variants,
        encoding: full.encoding.unwrap_or_default(),
        prefix: full.prefix.clone().unwrap_or_default(),
        timestamp,
        keys,
    })))
}

impl Variant {
    fn new(sig_keys: Vec<String>, signed: &str, has_time: bool) -> Result<Self, ConfigError> {
        let template = Template::parse(signed).map_err(|error| ConfigError::new("verify.signed", error))?;
        if template.needs_time() && !has_time {
            let message = "{t} needs a table timestamp = { from = \"kv:t\" } that says where it is";
            return Err(ConfigError::new("verify.signed", message));
        }
        if !template.covers_body() {
            return Err(ConfigError::new("verify.signed", "the signature must cover {body}"));
        }
        Ok(Self { sig_keys, template })
    }
}

impl TimestampRule {
    fn new(config: &TimestampConfig) -> Result<Self, ConfigError> {
        let from = template::Source::parse(&config.from).ok_or_else(|| {
            ConfigError::new("verify.timestamp.from", "write \"kv:t\" or \"header:x-timestamp\"")
        })?;
        Ok(Self { from, unit: config.unit, tolerance: config.tolerance.0, future: config.future.0 })
    }
}

fn header(name: &str, path: &str) -> Result<HeaderName, ConfigError> {
    name.parse().map_err(|_| ConfigError::new(path, format!("{name:?} is not a header name")))
}

#[cfg(test)]
mod tests;
