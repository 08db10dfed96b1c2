//! The signed webhook: mounts a path on the host's listener, verifies, decodes, and answers 2xx only once the
//! payments are durable. Redeliveries are welcome: the engine counts them once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Method, StatusCode};
use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::http::{HttpCall, HttpReply};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::{Delivery, Phase, Source, SourceBuild, SourceContext, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use crate::decode::MappingConfig;
use crate::verify::{Verifier, VerifyConfig};
use crate::{decode, delivery, table};

#[cfg(test)]
mod tests;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "webhook",
    summary: "payments that a sender posts and signs",
    example: EXAMPLE,
    schema: table::merged_schema::<WebhookTable, MappingConfig>,
    build: |table, build| Ok(Box::new(WebhookSource::from_table(table, build)?)),
    decoder: |table, build| Ok(decode::take(table, build)?.0),
};

const EXAMPLE: &str = r#"[sources.gate]
plugin = "webhook"
path = "/in/gate"
rail = "x402"
verify = { preset = "standard-webhooks", secret = { env = "GATE_SECRET" } }
"#;

/// The transport's keys of a `webhook` source's table; the decoder's stand beside them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTable {
    /// Where it is mounted. Default: `/in/` and the source's name.
    pub path: Option<String>,
    /// How requests are verified.
    pub verify: Option<VerifyConfig>,
    /// Bytes that a body may have. Default: 1 MiB.
    #[serde(default = "body_len_max")]
    pub body_len_max: usize,
    /// Requests that are worked on at once; further ones wait in the host. Default: 256.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: usize,
    /// How long a request waits for the disk before it is answered 503. Default: 10 s.
    #[serde(default = "deadline")]
    pub deadline: Span,
}

fn body_len_max() -> usize {
    1 << 20
}

fn in_flight_max() -> usize {
    256
}

fn deadline() -> Span {
    Span(Duration::from_secs(10))
}

/// What senders are asked to wait after a 503.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The receiver.
#[derive(Debug)]
pub struct WebhookSource {
    config: WebhookTable,
    path: String,
    verifier: Verifier,
    decoder: Arc<dyn Decoder>,
    /// What a verified request is answered, once it is durable.
    answer: fn(&Decoded) -> HttpReply,
}

impl WebhookSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (decoder, rest) = decode::take(table, build)?;
        Self::new(table::parse_rest::<_, MappingConfig>(&rest)?, decoder, build)
    }

    /// A receiver with a decoder of the caller's choice, for rails that bring their own. Without a verifier it does
    /// not build.
    pub fn new(
        config: WebhookTable,
        decoder: Arc<dyn Decoder>,
        build: &SourceBuild,
    ) -> Result<Self, ConfigError> {
        let verify = config.verify.as_ref().ok_or_else(|| {
            ConfigError::new(
                "verify",
                "a webhook needs a verifier, such as verify = { preset = \"standard-webhooks\", secret = { env = \
                 \"NAME\" } }; verify = \"none-accept-forged-events\" turns it off",
            )
        })?;
        let verifier = Verifier::new(verify, &build.secrets)?;
        let path = config.path.clone().unwrap_or_else(|| format!("/in/{}", build.name));
        if !path.starts_with("/in/") {
            return Err(ConfigError::new("path", format!("{path:?} cannot be mounted; begin it with /in/")));
        }
        if config.in_flight_max == 0 || config.body_len_max == 0 {
            return Err(ConfigError::new("", "in_flight_max and body_len_max are at least 1"));
        }
        Ok(Self { config, path, verifier, decoder, answer: describe })
    }

    /// Answers verified requests with `answer`, for rails that expect an answer of their own.
    pub(crate) fn answering(self, answer: fn(&Decoded) -> HttpReply) -> Self {
        Self { answer, ..self }
    }

    async fn answer(&self, cx: &SourceContext, call: HttpCall) -> Result<(), SourceError> {
        let HttpCall { method, headers, body, reply, .. } = call;
        let answer = match method {
            Method::POST | Method::PUT => self.receive(cx, &headers, &body).await,
            // Senders check an endpoint with HEAD or GET before they use it.
            Method::HEAD | Method::GET => {
                Ok(HttpReply::text(StatusCode::OK, "railwatch: post payments here\n"))
            }
            _ => Ok(HttpReply::text(StatusCode::METHOD_NOT_ALLOWED, "post payments here\n")),
        };
        let (answer, result) = match answer {
            Ok(answer) => (answer, Ok(())),
            Err(error) => (busy("railwatch is stopping\n"), Err(error)),
        };
        if reply.send(answer).is_err() {
            tracing::debug!(source = %cx.name, "the sender hung up before the answer");
        }
        result
    }

    async fn receive(
        &self,
        cx: &SourceContext,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Result<HttpReply, SourceError> {
        let received_at = cx.clock.now();
        if let Err(error) = self.verifier.verify(headers, body, received_at) {
            cx.status.update(|status| {
                status.failures += 1;
                status.detail = format!("a request was refused: {error}");
            });
            return Ok(HttpReply::text(StatusCode::UNAUTHORIZED, format!("{error}\n")));
        }
        let mut decoded = Decoded::default();
        if body.len() > self.config.body_len_max {
            let detail =
                format!("a body of {} bytes; body_len_max is {}", body.len(), self.config.body_len_max);
            decoded.reject("too_large", detail, body, received_at);
        } else {
            self.decoder.decode(&Message { body, headers: Some(headers), received_at }, &mut decoded);
        }
        let answer = (self.answer)(&decoded);
        delivery::note(cx, &decoded);
        match tokio::time::timeout(self.config.deadline.0, hand_over(cx, decoded)).await {
            Ok(durable) => durable.map(|()| answer),
            Err(_) => Ok(busy("the journal is behind; try again\n")),
        }
    }
}

/// Resolves once the delivery is durable; dropping it before it was taken takes it back.
async fn hand_over(cx: &SourceContext, decoded: Decoded) -> Result<(), SourceError> {
    if decoded.is_empty() {
        return Ok(());
    }
    cx.intake.submit(Delivery { decoded, cursor: None }).await?.durable().await
}

/// The answer to a verified request, given once its payments are durable. A request of which nothing was understood
/// is answered 400 with the reasons; one of which some parts were not is answered 200, so that a retry does not
/// repeat what cannot succeed.
fn describe(decoded: &Decoded) -> HttpReply {
    let (n_payments, n_rejects) = (decoded.payments.len(), decoded.rejects.len());
    let reasons: Vec<String> =
        decoded.rejects.iter().take(10).map(|reject| format!("{}: {}", reject.code, reject.detail)).collect();
    let status = match decoded.rejects.first() {
        Some(reject) if n_payments == 0 && reject.code == "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        Some(_) if n_payments == 0 => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let body = serde_json::json!({
        "accepted": n_payments,
        "ignored": decoded.filtered.len(),
        "rejected": n_rejects,
        "reasons": reasons,
    });
    HttpReply { content_type: "application/json", ..HttpReply::text(status, body.to_string()) }
}

fn busy(text: &str) -> HttpReply {
    HttpReply { retry_after: Some(RETRY_AFTER), ..HttpReply::text(StatusCode::SERVICE_UNAVAILABLE, text) }
}

#[async_trait]
impl Source for WebhookSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let mount = cx.http.mount(&self.path, self.config.body_len_max).await;
        let mut calls = mount.map_err(|error| {
            cx.status.phase(Phase::Failed, error.to_string());
            SourceError::Fatal(error.to_string())
        })?;
        let forged = if self.verifier.accepts_forged_events() { "; FORGED EVENTS ARE ACCEPTED" } else { "" };
        cx.status.phase(Phase::Live, format!("listening on {}{forged}", self.path));
        let mut in_flight = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = cx.cancel.cancelled() => break,
                Some(answered) = in_flight.next(), if !in_flight.is_empty() => answered?,
                call = calls.recv(), if in_flight.len() < self.config.in_flight_max => match call {
                    Some(call) => in_flight.push(self.answer(&cx, call)),
                    None => return Err(SourceError::Transient("the host unmounted the path".to_owned())),
                },
            }
        }
        // Requests that wait for the disk get their answer if it comes soon; the others are sent again.
        drop(calls);
        let finish = async { while in_flight.next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(1), finish).await.is_err() {
            tracing::debug!(source = %cx.name, "stopped before every request had its answer");
        }
        Ok(())
    }
}
