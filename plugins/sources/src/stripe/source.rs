//! The Stripe source: a webhook, or the list of events, or both. The list alone needs no public address; beside a
//! webhook it finds what was lost on the way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_plugin::config::{self, ConfigError, Span};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::source::{Cursor, Phase, Source, SourceBuild, SourceContext, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;
use tokio::sync::Notify;
use toml::Table;

use super::bell::Doorbell;
use super::{StripeDecoder, StripeMapping};
use crate::auth::RequestHeaders;
use crate::backoff::{Backoff, fail, wait};
use crate::delivery::Pipeline;
use crate::poll::fetch::{Fetch, FetchError, Fetched};
use crate::push::PushCheck;
use crate::scalar::{Int, Text};
use crate::verify::{Preset, VerifyConfig, VerifyTable};
use crate::webhook::{WebhookSource, WebhookTable};
use crate::{posted, table, tls};

#[cfg(test)]
mod tests;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "stripe",
    summary: "Stripe's events, by webhook, from /v1/events, or both",
    example: EXAMPLE,
    schema: table::schema_of_three::<WebhookTable, StripeTable, StripeMapping>,
    build: |table, build| Ok(Box::new(StripeSource::from_table(table, build)?)),
    decoder: |table, _| Ok(Arc::new(StripeDecoder::new(posted::keys(table)?))),
};

const EXAMPLE: &str = r#"[sources.stripe]
plugin = "stripe"
path = "/in/stripe"
webhook_secret = { env = "GATE_SECRET" }
api_key = { env = "S" }
"#;

/// Stripe's keys of a `stripe` source's table, beside those of the webhook and of [`StripeMapping`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StripeTable {
    /// The endpoint's signing secret, `whsec_` included; short for `verify` with the preset `stripe`.
    pub webhook_secret: Option<SecretRef>,
    /// Further secrets that are accepted, while one is rolled.
    #[serde(default)]
    pub webhook_secrets_extra: Vec<SecretRef>,
    /// A restricted key with `Events: read`. With it the list of events is read too; without a webhook secret it is
    /// the only way.
    pub api_key: Option<SecretRef>,
    /// Where the API is. Default: `https://api.stripe.com`.
    #[serde(default = "api_url")]
    pub api_url: String,
    /// How often the list is read. Default: 30 s.
    #[serde(default = "poll_interval")]
    pub poll_interval: Span,
    /// How far back the first run reads. Default: 24 h; Stripe keeps 30 days.
    #[serde(default = "backfill")]
    pub backfill: Span,
    /// How far behind the newest event every read begins, for events that become visible late. Default: 10 min.
    #[serde(default = "overlap")]
    pub overlap: Span,
    /// Types of events to ask for, at most 20. Default: all.
    #[serde(default)]
    pub types: Vec<String>,
}

fn api_url() -> String {
    "https://api.stripe.com".to_owned()
}

fn poll_interval() -> Span {
    Span(Duration::from_secs(30))
}

fn backfill() -> Span {
    Span(Duration::from_secs(86_400))
}

fn overlap() -> Span {
    Span(Duration::from_secs(600))
}

/// How long Stripe keeps events.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// Bytes that a page of 100 events may have.
const PAGE_LEN_MAX: usize = 16 << 20;
/// What a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pages of one read: a million events.
const PAGES_MAX: u32 = 10_000;
/// Events of the overlap that are remembered, so that they are not handed over again.
const RECENT_MAX: usize = 100_000;

/// The receiver and reader.
#[derive(Debug)]
pub struct StripeSource {
    webhook: Option<WebhookSource>,
    list: Option<EventList>,
}

/// The reader of `GET /v1/events`.
#[derive(Debug)]
struct EventList {
    config: StripeTable,
    headers: RequestHeaders,
    decoder: Arc<dyn Decoder>,
    /// Rung by thin events: there is something to read.
    bell: Arc<Notify>,
    /// Compares the webhook with the list, where there are both.
    check: Option<Arc<PushCheck>>,
}

impl StripeTable {
    /// What `webhook_secret` is short for.
    fn verify(&self) -> Option<VerifyConfig> {
        let secret = self.webhook_secret.clone()?;
        let secrets_extra = self.webhook_secrets_extra.clone();
        let preset = VerifyTable { secrets_extra, ..VerifyTable::preset(Preset::Stripe, secret) };
        Some(VerifyConfig::Table(Box::new(preset)))
    }
}

/// What a block's `webhook_secret` is short for.
pub(crate) fn verify_of(table: &Table) -> Result<Option<VerifyConfig>, ConfigError> {
    if !table.contains_key("webhook_secret") {
        return Ok(None);
    }
    let (own, _) = table::split::<StripeTable>(table);
    Ok(config::parse::<StripeTable>(&own)?.verify())
}

impl StripeSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (mapping, rest) = table::split::<StripeMapping>(table);
        let (own, rest) = table::split::<StripeTable>(&rest);
        let mapping: StripeMapping = config::parse(&mapping)?;
        let config: StripeTable = config::parse(&own)?;
        let mut webhook: WebhookTable = config::parse(&rest)?;
        if let Some(verify) = config.verify() {
            if webhook.verify.is_some() {
                let message = "is short for verify with the preset stripe; leave one of both out";
                return Err(ConfigError::new("webhook_secret", message));
            }
            webhook.verify = Some(verify);
        }
        let decoder: Arc<dyn Decoder> = Arc::new(StripeDecoder::new(mapping));
        let bell = Arc::new(Notify::new());
        let mut check = None;
        let webhook = match (webhook.verify.is_some(), config.api_key.is_some()) {
            (true, true) => {
                let check = check.insert(Arc::new(PushCheck::default()));
                let (decoder, bell, check) = (Arc::clone(&decoder), Arc::clone(&bell), Arc::clone(check));
                Some(posted::webhook(webhook, Arc::new(Doorbell { decoder, bell, check }), build)?)
            }
            (true, false) => Some(posted::webhook(webhook, Arc::clone(&decoder), build)?),
            (false, true) => None,
            (false, false) => {
                let message = "needs webhook_secret = { env = … }, api_key = { env = … }, or both";
                return Err(ConfigError::new("", message));
            }
        };
        let is_listed = config.api_key.is_some();
        let list = is_listed.then(|| EventList::new(config, decoder, bell, check, build)).transpose()?;
        Ok(Self { webhook, list })
    }
}

#[async_trait]
impl Source for StripeSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        match (self.webhook, self.list) {
            (Some(webhook), Some(list)) => {
                let beside = SourceContext {
                    name: cx.name.clone(),
                    intake: cx.intake.clone(),
                    cancel: cx.cancel.clone(),
                    clock: Arc::clone(&cx.clock),
                    cursor: None,
                    http: Arc::clone(&cx.http),
                    status: cx.status.clone(),
                };
                let webhook = Box::new(webhook).run(beside);
                tokio::try_join!(webhook, list.run(&cx)).map(|_| ())
            }
            (Some(webhook), None) => Box::new(webhook).run(cx).await,
            (None, Some(list)) => list.run(&cx).await,
            (None, None) => Ok(()),
        }
    }
}

/// A page of events, each kept as it came.
#[derive(Debug, Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
}

/// What the reader needs of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    created: Int,
}

/// Why a read ended early.
enum ReadError {
    Fetch(FetchError),
    Source(SourceError),
}

/// What the reader knows between reads.
struct Place {
    /// The newest `created` that was read to the end, in Unix seconds.
    newest: Option<i64>,
    /// Ids of events in the overlap, with their times.
    recent: HashMap<SmolStr, i64>,
}

impl EventList {
    fn new(
        config: StripeTable,
        decoder: Arc<dyn Decoder>,
        bell: Arc<Notify>,
        check: Option<Arc<PushCheck>>,
        build: &SourceBuild,
    ) -> Result<Self, ConfigError> {
        let valid =
            reqwest::Url::parse(&config.api_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !valid {
            return Err(ConfigError::new("api_url", "write it like \"https://api.stripe.com\""));
        }
        if config.types.len() > 20 {
            return Err(ConfigError::new("types", "Stripe takes at most 20 types"));
        }
        if config.poll_interval.0 < Duration::from_millis(10) {
            return Err(ConfigError::new("poll_interval", "at least 10ms; Stripe advises 30s"));
        }
        let headers = RequestHeaders::new(None, config.api_key.as_ref(), &BTreeMap::new(), &build.secrets);
        let headers = headers.map_err(|error| ConfigError::new("api_key", error.message))?;
        Ok(Self { config, headers, decoder, bell, check })
    }

    async fn run(&self, cx: &SourceContext) -> Result<(), SourceError> {
        let tls = tls::client_config(None).map_err(|message| fail(cx, message))?;
        let fetch = Fetch::new(tls, self.headers.clone(), TIMEOUT, PAGE_LEN_MAX);
        let mut fetch = fetch.map_err(|message| fail(cx, message))?;
        let seed = Backoff::seed(&cx.name, cx.clock.now().micros());
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300), seed);
        let newest = cx.cursor.as_ref().and_then(|Cursor(cursor)| cursor.parse().ok());
        let mut place = Place { newest, recent: HashMap::new() };
        let mut pipeline = Pipeline::default();
        if let Some(check) = &self.check {
            check.restart(cx.clock.now());
        }
        loop {
            let read = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(()),
                read = self.read(cx, &mut fetch, &mut place, &mut pipeline) => read,
            };
            match read {
                Ok(()) => {
                    backoff.reset();
                    cx.status.live(cx.clock.now(), "up to date");
                }
                Err(ReadError::Source(error)) => return Err(error),
                Err(ReadError::Fetch(FetchError::Fatal(message))) => return Err(fail(cx, message)),
                Err(ReadError::Fetch(FetchError::Transient { why, after })) => {
                    let pause = after.unwrap_or(Duration::ZERO).min(RETENTION / 720).max(backoff.next_wait());
                    if !wait(cx, &why, pause).await {
                        return Ok(());
                    }
                    continue;
                }
            }
            if !self.rest(cx, &mut pipeline).await? {
                return Ok(());
            }
        }
    }

    /// Reads everything since the last read, minus the overlap. Pages come newest first and are handed over as they
    /// come, since order does not matter behind the intake; the cursor moves with the last one.
    async fn read(
        &self,
        cx: &SourceContext,
        fetch: &mut Fetch,
        place: &mut Place,
        pipeline: &mut Pipeline,
    ) -> Result<(), ReadError> {
        let from = self.from(cx, place, pipeline).await?;
        let (mut newest, mut after) = (place.newest, None::<SmolStr>);
        for _ in 0..PAGES_MAX {
            let body = match fetch.get(&self.url(from, after.as_deref())).await.map_err(ReadError::Fetch)? {
                Fetched::Body(body) => body,
                Fetched::Unchanged => return Ok(()),
            };
            let Ok(page) = serde_json::from_slice::<Page<'_>>(&body) else {
                fetch.forget();
                let why = "a page that is no list of events".to_owned();
                return Err(ReadError::Fetch(FetchError::Transient { why, after: None }));
            };
            let mut fresh = Vec::new();
            for event in &page.data {
                let head: Head<'_> = serde_json::from_str(event.get()).unwrap_or_default();
                let created = head.created.get().and_then(|secs| i64::try_from(secs).ok()).unwrap_or(from);
                newest = newest.max(Some(created));
                after = head.id.get().map(SmolStr::new);
                let is_known =
                    head.id.get().is_some_and(|id| place.recent.insert(id.into(), created).is_some());
                if !is_known {
                    fresh.push(event.get());
                }
            }
            let is_last = !page.has_more || after.is_none();
            let cursor = newest.filter(|_| is_last && newest != place.newest);
            self.deliver(cx, pipeline, &fresh, cursor).await?;
            if is_last {
                place.newest = newest;
                place.forget(from);
                return Ok(());
            }
            cx.status.phase(Phase::Backfilling, "reading further pages");
        }
        Ok(())
    }

    /// Waits for the next read while acknowledgements come in; false if the source must stop.
    async fn rest(&self, cx: &SourceContext, pipeline: &mut Pipeline) -> Result<bool, SourceError> {
        let pause = tokio::time::sleep(self.config.poll_interval.0);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(false),
                Some(acked) = pipeline.next(), if !pipeline.is_empty() => { acked?; }
                () = self.bell.notified() => return Ok(true),
                () = &mut pause => return Ok(true),
            }
        }
    }

    /// Where to begin. What Stripe does not keep any more is said, once per read, and cannot be had here.
    async fn from(
        &self,
        cx: &SourceContext,
        place: &Place,
        pipeline: &mut Pipeline,
    ) -> Result<i64, ReadError> {
        let now = cx.clock.now();
        let kept = now.before(RETENTION).secs();
        let secs = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let Some(newest) = place.newest else {
            return Ok(now.before(self.config.backfill.0).secs().max(kept));
        };
        if newest < kept {
            let mut decoded = Decoded::default();
            let detail =
                "the last read was over 30 days ago, and Stripe keeps events no longer: payments are missing";
            decoded.reject("gap", detail, &[], now);
            pipeline.submit(cx, decoded, None).await.map_err(ReadError::Source)?;
        }
        Ok(newest.saturating_sub(secs(self.config.overlap.0)).max(kept))
    }

    fn url(&self, from: i64, after: Option<&str>) -> String {
        let mut url = format!(
            "{}/v1/events?limit=100&created%5Bgte%5D={from}",
            self.config.api_url.trim_end_matches('/')
        );
        for kind in &self.config.types {
            url.push_str(&format!("&types%5B%5D={}", crate::websocket::percent(kind)));
        }
        if let Some(after) = after {
            url.push_str(&format!("&starting_after={}", crate::websocket::percent(after)));
        }
        url
    }

    async fn deliver(
        &self,
        cx: &SourceContext,
        pipeline: &mut Pipeline,
        events: &[&str],
        cursor: Option<i64>,
    ) -> Result<(), ReadError> {
        let mut decoded = Decoded::default();
        if !events.is_empty() {
            let body = format!(r#"{{"object":"list","data":[{}]}}"#, events.join(","));
            let message = Message { body: body.as_bytes(), headers: None, received_at: cx.clock.now() };
            self.decoder.decode(&message, &mut decoded);
        }
        if let Some(check) = &self.check {
            check.listed(&decoded.payments);
            check.show(&cx.status);
        }
        let cursor = cursor.map(|newest| Cursor(newest.to_string()));
        pipeline.submit(cx, decoded, cursor).await.map_err(ReadError::Source)
    }
}

impl Place {
    /// Forgets events that no further read can show again.
    fn forget(&mut self, from: i64) {
        self.recent.retain(|_, created| *created >= from);
        if self.recent.len() > RECENT_MAX {
            self.recent.clear();
        }
    }
}
