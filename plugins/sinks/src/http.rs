//! What every HTTP sink shares: one client with timeouts, capped answers, no redirects, and one way to say why a
//! delivery failed.
//!
//! Invariant: no error made here contains a URL, a path or a credential. Peers echo such things; what they say is
//! quoted briefly and with every secret taken out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use railwatch_model::Timestamp;
use railwatch_plugin::clock::Clock;
use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::sink::{DeliveryError, SinkBuild};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

/// Bytes of an answer that are read; the rest is left unread and the connection closed.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest wait that a peer may ask for. A longer one would silence an incident.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How long a delivery may take from connect to the end of the answer, unless the table says otherwise.
pub(crate) const TIMEOUT: Span = Span(Duration::from_secs(10));
/// Bounds for the `timeout` key: below, no TLS handshake finishes; above, one dead peer stalls its queue.
const TIMEOUT_MIN: Duration = Duration::from_millis(50);
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Characters of a peer's answer that an error quotes.
const QUOTE_CHARS_MAX: usize = 200;
/// Shorter texts are not worth hiding: hiding them would blank out ordinary words.
const HIDE_BYTES_MIN: usize = 6;

/// The client of one sink.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    client: Client,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

/// A peer's answer, read up to [`ANSWER_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The parsed `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// The start of the body.
    pub(crate) body: Vec<u8>,
}

impl Peer {
    /// A client; does no IO but reading the system's root certificates.
    pub(crate) fn new(timeout: Span, build: &SinkBuild, url: &Url) -> Result<Self, ConfigError> {
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout.0) {
            let (min, max) = (Span(TIMEOUT_MIN), Span(TIMEOUT_MAX));
            return Err(ConfigError::new("timeout", format!("{timeout} is not between {min} and {max}")));
        }
        // A second sink finds the provider installed, which is not an error.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = Client::builder()
            .user_agent("railwatch")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.0.min(CONNECT_TIMEOUT_MAX))
            .timeout(timeout.0)
            .pool_max_idle_per_host(1);
        if is_loopback(url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| {
            ConfigError::new("", format!("the TLS client cannot be set up: {}", root_cause(&error)))
        })?;
        Ok(Self { client, timeout: timeout.0, clock: Arc::clone(&build.clock) })
    }

    /// The time, for signatures.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts a request.
    pub(crate) fn request(&self, method: reqwest::Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Starts a POST of JSON.
    pub(crate) fn post_json(&self, url: Url, body: &Value) -> RequestBuilder {
        self.client.post(url).json(body)
    }

    /// Sends, and reads the answer whatever its status is. `Retry` if there is no connection, `Unanswered` if there is no
    /// answer.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> Result<Answer, DeliveryError> {
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| parse_retry_after(text, self.clock.now()));
        let body = read_capped(response).await;
        Ok(Answer { status, retry_after, body })
    }

    /// Sends, and takes any 2xx as the peer's word that it has the notice. `hide` are texts that no error may show.
    pub(crate) async fn send(&self, request: RequestBuilder, hide: &[&str]) -> Result<Answer, DeliveryError> {
        let answer = self.ask(request).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.into_error(hide)) }
    }

    fn no_answer(&self, error: &reqwest::Error) -> DeliveryError {
        if error.is_connect() {
            let reason = match error.is_timeout() {
                true => format!("cannot connect within {}", Span(self.timeout)),
                false => format!("cannot connect: {}", root_cause(error)),
            };
            return DeliveryError::Retry { reason, after: None };
        }
        DeliveryError::Unanswered(if error.is_timeout() {
            format!("no answer within {}", Span(self.timeout))
        } else {
            format!("the connection broke: {}", root_cause(error))
        })
    }
}

impl Answer {
    /// The body as JSON; `Null` if it is something else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the outbox must do about a status that is not 2xx: wait and retry on 408, 425, 429 and 5xx, give up on
    /// everything else (RFC 9110 §15, RFC 6585 §4). A gateway that had no proper answer itself cannot know what the
    /// peer behind it did.
    pub(crate) fn into_error(self, hide: &[&str]) -> DeliveryError {
        let status = self.status.as_u16();
        if self.status.is_redirection() {
            return DeliveryError::Rejected(format!(
                "HTTP {status}: redirects are not followed; configure the final address"
            ));
        }
        let said = quote(&self.body, hide);
        let reason =
            if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
        if matches!(status, 502 | 504) && self.retry_after.is_none() {
            DeliveryError::Unanswered(reason)
        } else if self.status.is_server_error() || matches!(status, 408 | 425 | 429) {
            DeliveryError::Retry { reason, after: self.retry_after }
        } else {
            DeliveryError::Rejected(reason)
        }
    }
}

/// A peer's words for an error: one short line, no control characters, no secrets.
pub(crate) fn quote(body: &[u8], hide: &[&str]) -> String {
    let head = body.get(..body.len().min(4 * QUOTE_CHARS_MAX)).unwrap_or_default();
    let mut said = String::from_utf8_lossy(head).into_owned();
    for secret in hide.iter().filter(|secret| secret.len() >= HIDE_BYTES_MIN) {
        said = said.replace(secret, "•••");
    }
    crate::text::clean(&said, QUOTE_CHARS_MAX)
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110 §10.2.3), at most [`RETRY_AFTER_MAX`]; `None` if it is
/// neither.
pub(crate) fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let secs = text.parse::<u64>().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(secs).min(RETRY_AFTER_MAX));
    }
    // IMF-fixdate is an RFC 2822 date in GMT; the two obsolete forms have not been sent in decades.
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    let wait = Timestamp::from_micros(at.timestamp_micros()).since(now);
    Some(wait.min(RETRY_AFTER_MAX))
}

/// True if the URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The start of the body. The status is the peer's word and has been read: a body that breaks off or never comes takes
/// nothing back, and asking again would tell people twice.
async fn read_capped(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(chunk.get(..chunk.len().min(room)).unwrap_or_default());
    }
    body
}

/// The innermost cause, which names what failed and never the URL (reqwest's outermost text does).
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) {
        return "the request failed".to_owned();
    }
    crate::text::clean(&cause.to_string(), QUOTE_CHARS_MAX)
}

#[cfg(test)]
mod tests;
