//! Polling: an HTTP GET whose pages hold payments, with a cursor in the URL or a known id to stop at.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::{Cursor, Phase, Source, SourceBuild, SourceContext, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use crate::backoff::{Backoff, fail, wait};
use crate::connection::{Connection, ConnectionTable};
use crate::decode::{FieldPath, MappingConfig, Pluck};
use crate::delivery::Pipeline;
use crate::{decode, table};

pub(crate) mod fetch;
mod page;
#[cfg(test)]
mod tests;

use fetch::{Fetch, FetchError, Fetched};
use page::Page;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "poll",
    summary: "payments from an HTTP API that is asked again and again",
    example: EXAMPLE,
    schema: table::schema_of_three::<PollTable, ConnectionTable, MappingConfig>,
    build: |table, build| Ok(Box::new(PollSource::from_table(table, build)?)),
    decoder: |table, build| Ok(decode::take(table, build)?.0),
};

const EXAMPLE: &str = r#"[sources.charges]
plugin = "poll"
url = "https://api.example.com/v1/charges?limit=100&after={cursor}"
items = "/data"
cursor = "/id"
interval = "30s"
auth = { secret = { env = "GATE_SECRET" } }
rail = "skyfire"
currency = "USD"
"#;

/// The transport's keys of a `poll` source's table; the decoder's stand beside them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PollTable {
    /// The URL. `{cursor}` becomes the place to go on from, `{page}` the token of the next page.
    pub url: String,
    /// The URL while there is no cursor. Default: `url` with `first`.
    pub first_url: Option<String>,
    /// What `{cursor}` is while there is none. Default: nothing.
    #[serde(default)]
    pub first: String,
    /// Where the list of payments is in a page. Default: the page is the list.
    pub items: Option<FieldPath>,
    /// Where an item holds its place: the cursor of an ascending feed, the known id of a descending one.
    pub cursor: Option<FieldPath>,
    /// Where a page holds the token of the next one.
    pub next: Option<FieldPath>,
    /// The order of items.
    #[serde(default)]
    pub order: Order,
    /// How often to ask when there is nothing more. Default: 30 s.
    #[serde(default = "interval")]
    pub interval: Span,
    /// Pages that are read in one go at most. Default: 20.
    #[serde(default = "pages_max")]
    pub pages_max: u32,
    /// Bytes that a page may have. Default: 4 MiB.
    #[serde(default = "body_len_max")]
    pub body_len_max: usize,
    /// What a request may take. Default: 30 s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// The longest wait after failures. Default: 5 min.
    #[serde(default = "backoff_max")]
    pub backoff_max: Span,
}

/// The order of items in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first: reading goes on behind the last item.
    #[default]
    Asc,
    /// Newest first: reading stops at the item that was the newest one before.
    Desc,
}

fn interval() -> Span {
    Span(Duration::from_secs(30))
}

fn pages_max() -> u32 {
    20
}

fn body_len_max() -> usize {
    4 << 20
}

fn timeout() -> Span {
    Span(Duration::from_secs(30))
}

fn backoff_max() -> Span {
    Span(Duration::from_secs(300))
}

/// The poller.
#[derive(Debug)]
pub struct PollSource {
    config: PollTable,
    connection: Connection,
    decoder: Arc<dyn Decoder>,
    items: Option<Pluck>,
    place: Option<Pluck>,
    next: Option<Pluck>,
}

impl PollSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        // Pages are cut into items here, because places are per item; the decoder then sees plain lists.
        let mut table = table.clone();
        let items = table.remove("items");
        let (decoder, mut rest) = decode::take(&table, build)?;
        rest.extend(items.map(|items| ("items".to_owned(), items)));
        let (connection, rest) = Connection::take(&rest, build)?;
        let config: PollTable = table::parse_rest::<_, ConnectionTable>(&rest)?;
        for (path, url) in [("url", Some(&config.url)), ("first_url", config.first_url.as_ref())] {
            let Some(url) = url else { continue };
            let plain = url.replace("{cursor}", "").replace("{page}", "");
            let valid = reqwest::Url::parse(&plain).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !valid {
                return Err(ConfigError::new(
                    path,
                    "write it like \"https://api.example.com/list?after={cursor}\"",
                ));
            }
        }
        if config.order == Order::Desc && config.cursor.is_none() {
            let message = "a descending feed needs the path of an item's id, to know where to stop";
            return Err(ConfigError::new("cursor", message));
        }
        if config.interval.0 < Duration::from_millis(10) || config.pages_max == 0 {
            return Err(ConfigError::new("interval", "at least 10ms; and pages_max is at least 1"));
        }
        let pluck = |path: &Option<FieldPath>| path.as_ref().map(Pluck::new);
        let (items, place, next) = (pluck(&config.items), pluck(&config.cursor), pluck(&config.next));
        Ok(Self { config, connection, decoder, items, place, next })
    }

    fn url(&self, cursor: Option<&str>, page: Option<&str>) -> String {
        let template = match (cursor, page, &self.config.first_url) {
            (None, None, Some(first)) => first,
            _ => &self.config.url,
        };
        let fill = |value: &str| crate::websocket::percent(value);
        template
            .replace("{cursor}", &fill(cursor.unwrap_or(&self.config.first)))
            .replace("{page}", &fill(page.unwrap_or_default()))
    }
}

#[async_trait]
impl Source for PollSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let tls = self.connection.tls().map_err(|message| fail(&cx, message))?;
        let fetch =
            Fetch::new(tls, self.connection.headers.clone(), self.config.timeout.0, self.config.body_len_max);
        let fetch = fetch.map_err(|message| fail(&cx, message))?;
        let seed = Backoff::seed(&cx.name, cx.clock.now().micros());
        let mut backoff = Backoff::new(Duration::from_secs(1), self.config.backoff_max.0, seed);
        let cursor = cx.cursor.clone().map(|cursor| cursor.0);
        let mut poll = Poll { source: &self, cx: &cx, fetch, cursor, pipeline: Pipeline::default() };
        loop {
            let round = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(()),
                round = poll.round() => round,
            };
            let pause = match round {
                Ok(()) => {
                    backoff.reset();
                    cx.status.live(cx.clock.now(), "up to date");
                    self.config.interval.0
                }
                Err(RoundError::Source(error)) => return Err(error),
                Err(RoundError::Fetch(FetchError::Fatal(message))) => return Err(fail(&cx, message)),
                Err(RoundError::Fetch(FetchError::Transient { why, after })) => {
                    let pause = after.unwrap_or(Duration::ZERO).max(backoff.next_wait());
                    if !wait(&cx, &why, pause.min(RETRY_AFTER_MAX)).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            if !poll.rest(pause).await? {
                return Ok(());
            }
        }
    }
}

/// A server that asks for more patience than this is asked again anyway.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

enum RoundError {
    Fetch(FetchError),
    Source(SourceError),
}

struct Poll<'a> {
    source: &'a PollSource,
    cx: &'a SourceContext,
    fetch: Fetch,
    /// The place behind everything that was handed over.
    cursor: Option<String>,
    pipeline: Pipeline,
}

impl Poll<'_> {
    /// Reads until there is nothing new.
    async fn round(&mut self) -> Result<(), RoundError> {
        match self.source.config.order {
            Order::Asc => self.ascending().await,
            Order::Desc => self.descending().await,
        }
    }

    async fn ascending(&mut self) -> Result<(), RoundError> {
        let mut token = None;
        for nth in 0..self.source.config.pages_max {
            let url = self.source.url(self.cursor.as_deref(), token.as_deref());
            let Some(page) = self.page(url).await? else { return Ok(()) };
            if page.items.is_empty() {
                return Ok(());
            }
            if nth > 0 {
                self.cx.status.phase(Phase::Backfilling, "reading further pages");
            }
            let place = page.places.last().cloned().flatten();
            let cursor = if self.source.place.is_some() { place } else { page.next.clone() };
            let moved = cursor.is_some() && cursor != self.cursor;
            let more = moved || page.next.as_ref().is_some_and(|next| Some(next) != token.as_ref());
            self.deliver(&page.items, cursor.clone()).await?;
            self.cursor = cursor.or(self.cursor.take());
            token = page.next;
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn descending(&mut self) -> Result<(), RoundError> {
        let (mut pages, mut token) = (Vec::new(), None::<String>);
        let mut newest = None;
        let mut complete = false;
        for _ in 0..self.source.config.pages_max {
            let url = self.source.url(self.cursor.as_deref(), token.as_deref());
            let Some(mut page) = self.page(url).await? else { return Ok(()) };
            newest = newest.or_else(|| page.places.first().cloned().flatten());
            let known = page.places.iter().position(|place| place.is_some() && *place == self.cursor);
            page.items.truncate(known.unwrap_or(page.items.len()));
            let next = page.next.take().filter(|next| Some(next) != token.as_ref());
            complete = known.is_some() || next.is_none() || page.items.is_empty();
            pages.push(page.items);
            token = next;
            if complete {
                break;
            }
        }
        if !complete && self.cursor.is_some() {
            self.gap().await?;
        }
        while let Some(mut items) = pages.pop() {
            items.reverse();
            let cursor = if pages.is_empty() { newest.clone() } else { None };
            if !items.is_empty() {
                self.deliver(&items, cursor).await?;
            }
        }
        self.cursor = newest.or(self.cursor.take());
        Ok(())
    }

    /// Says that there were more new items than pages that may be read.
    async fn gap(&mut self) -> Result<(), RoundError> {
        let mut decoded = Decoded::default();
        let n_pages = self.source.config.pages_max;
        let detail =
            format!("{n_pages} pages (pages_max) did not reach the last known item: payments are missing");
        decoded.reject("gap", detail, &[], self.cx.clock.now());
        self.pipeline.submit(self.cx, decoded, None).await.map_err(RoundError::Source)
    }

    /// A page that changed since it was last read.
    async fn page(&mut self, url: String) -> Result<Option<Page>, RoundError> {
        let body = match self.fetch.get(&url).await.map_err(RoundError::Fetch)? {
            Fetched::Unchanged => return Ok(None),
            Fetched::Body(body) => body,
        };
        match Page::cut(
            &body,
            self.source.items.as_ref(),
            self.source.place.as_ref(),
            self.source.next.as_ref(),
        ) {
            Ok(page) => Ok(Some(page)),
            Err(detail) => {
                self.fetch.forget();
                let mut decoded = Decoded::default();
                decoded.reject("bad_json", detail.clone(), &body, self.cx.clock.now());
                self.pipeline.submit(self.cx, decoded, None).await.map_err(RoundError::Source)?;
                Err(RoundError::Fetch(FetchError::Transient { why: detail, after: None }))
            }
        }
    }

    async fn deliver(&mut self, items: &[String], cursor: Option<String>) -> Result<(), RoundError> {
        let body = format!("[{}]", items.join(","));
        let mut decoded = Decoded::default();
        let received_at = self.cx.clock.now();
        self.source
            .decoder
            .decode(&Message { body: body.as_bytes(), headers: None, received_at }, &mut decoded);
        self.pipeline.submit(self.cx, decoded, cursor.map(Cursor)).await.map_err(RoundError::Source)
    }

    /// Waits for the next round while acknowledgements come in; false if the source must stop.
    async fn rest(&mut self, pause: Duration) -> Result<bool, SourceError> {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => return Ok(false),
                Some(acked) = self.pipeline.next(), if !self.pipeline.is_empty() => { acked?; }
                () = &mut pause => return Ok(true),
            }
        }
    }
}
