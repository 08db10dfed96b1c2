//! The Lightning source: LND's payment stream with sweeps of its list, and the lists of the other servers.
//!
//! LND's stream never replays what ended while nobody listened, so that every connect is followed by a sweep of the
//! list from the oldest payment that was still open.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::{Identity, SmolStr, Timestamp};
use railwatch_plugin::config::{self, ConfigError, Span};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::{Cursor, Phase, Source, SourceBuild, SourceContext, SourceError};
use reqwest::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use super::accounts::Accounts;
use super::{InFlight, LightningApi, LightningDecoder, wallets};
use crate::backoff::{Backoff, fail, wait};
use crate::connection::{Connection, ConnectionTable};
use crate::delivery::Pipeline;
use crate::poll::fetch::{Fetch, FetchError, Fetched, lost};
use crate::push::PushCheck;
use crate::scalar::{Int, Text};
use crate::table;

#[cfg(test)]
mod tests;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "lightning",
    summary: "outgoing payments of LND, Core Lightning, phoenixd, LNbits or lnget",
    example: EXAMPLE,
    schema: table::merged_schema::<LightningTable, ConnectionTable>,
    build: |table, build| Ok(Box::new(LightningSource::from_table(table, build)?)),
    decoder: |table, build| {
        let (_, rest) = table::split::<ConnectionTable>(table);
        Ok(Arc::new(config::parse::<LightningTable>(&rest)?.decoder(&build.name)))
    },
};

const EXAMPLE: &str = r#"[sources.node]
plugin = "lightning"
api = "lnd"
url = "https://127.0.0.1:8080"
node = "03ab7c0d5e7f6a0c1d2e3f405162738495a6b7c8d9eaf0b1c2d3e4f5061728394a"
auth = { header = "Grpc-Metadata-macaroon", secret = { env = "S" } }
"#;

/// The table of a `lightning` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LightningTable {
    /// The server's software.
    #[serde(default)]
    pub api: LightningApi,
    /// The server's address, such as `https://127.0.0.1:8080`.
    pub url: String,
    /// The name of the node or wallet: the identity `<api>.node` of what it pays. Default: the source's name.
    pub node: Option<String>,
    /// What a payment that is under way is.
    #[serde(default)]
    pub in_flight: InFlight,
    /// LND under litd: whether agents are told apart by litd's accounts. The macaroon then needs `account:read` too.
    #[serde(default)]
    pub accounts: bool,
    /// How often lists are read; LND's, beside its stream, ten times less often. Default: 30 s.
    #[serde(default = "interval")]
    pub interval: Span,
}

fn interval() -> Span {
    Span(Duration::from_secs(30))
}

/// Entries of one page.
const PAGE: usize = 200;
/// Entries of one page of a wallet.
const WALLET_PAGE: usize = 100;
/// How far behind the newest known entry, in seconds, a wallet's list is read again.
const WALLET_OVERLAP: u64 = 3600;
/// Pages of one sweep; what is left comes with the next one.
const PAGES_MAX: usize = 1000;
/// Bytes that a page may have.
const PAGE_LEN_MAX: usize = 32 << 20;
/// Bytes that a line of the stream may have.
const LINE_LEN_MAX: usize = 4 << 20;
/// What a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

impl LightningTable {
    fn decoder(&self, source: &SmolStr) -> LightningDecoder {
        let scheme = match self.api {
            LightningApi::Lnd => "lnd.node",
            LightningApi::Cln => "cln.node",
            LightningApi::Phoenixd => "phoenixd.node",
            LightningApi::Lnbits => "lnbits.node",
            LightningApi::Lnget => "lnget.node",
        };
        let name = self.node.as_deref().unwrap_or(source);
        LightningDecoder::new(self.api, self.in_flight, Identity::new(SmolStr::new_static(scheme), name))
    }
}

/// The reader of one server.
#[derive(Debug)]
pub struct LightningSource {
    config: LightningTable,
    decoder: LightningDecoder,
    connection: Connection,
}

impl LightningSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (connection, rest) = Connection::take(table, build)?;
        let config: LightningTable = config::parse(&rest)?;
        let valid =
            reqwest::Url::parse(&config.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !valid {
            return Err(ConfigError::new("url", "write it like \"https://127.0.0.1:8080\""));
        }
        if config.interval.0 < Duration::from_millis(10) {
            return Err(ConfigError::new("interval", "at least 10ms"));
        }
        if config.accounts && config.api != LightningApi::Lnd {
            return Err(ConfigError::new("accounts", "only LND has litd's accounts"));
        }
        let decoder = config.decoder(&build.name);
        Ok(Self { config, decoder, connection })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.config.url.trim_end_matches('/'))
    }
}

/// Why a connection ended.
enum Lost {
    Fetch(FetchError),
    Source(SourceError),
    Cancelled,
}

impl From<FetchError> for Lost {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<SourceError> for Lost {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

#[async_trait]
impl Source for LightningSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let tls = self.connection.tls().map_err(|message| fail(&cx, message))?;
        let fetch = Fetch::new(tls, self.connection.headers.clone(), TIMEOUT, PAGE_LEN_MAX);
        let fetch = fetch.map_err(|message| fail(&cx, message))?;
        let seed = Backoff::seed(&cx.name, cx.clock.now().micros());
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
        let place = cx.cursor.as_ref().and_then(|Cursor(cursor)| cursor.parse().ok()).unwrap_or(0);
        let mut reader = Reader {
            source: &self,
            cx: &cx,
            fetch,
            place,
            pipeline: Pipeline::default(),
            check: PushCheck::default(),
            accounts: Accounts::default(),
            is_current: false,
        };
        loop {
            let end = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(()),
                end = reader.follow() => end,
            };
            if std::mem::take(&mut reader.is_current) {
                backoff.reset();
            }
            match end {
                Lost::Cancelled => return Ok(()),
                Lost::Source(error) => return Err(error),
                Lost::Fetch(FetchError::Fatal(message)) => return Err(fail(&cx, message)),
                Lost::Fetch(FetchError::Transient { why, after }) => {
                    let pause = after.unwrap_or(Duration::ZERO).min(TIMEOUT * 120).max(backoff.next_wait());
                    if !wait(&cx, &why, pause).await {
                        return Ok(());
                    }
                }
            }
        }
    }
}

struct Reader<'a> {
    source: &'a LightningSource,
    cx: &'a SourceContext,
    fetch: Fetch,
    /// LND: everything up to this payment index is terminal. Core Lightning: the next `updated_index`. Wallets: when the
    /// newest entry was made, in Unix seconds.
    place: u64,
    pipeline: Pipeline,
    /// Compares LND's stream with its list.
    check: PushCheck,
    /// Whose payments are whose, where litd tells.
    accounts: Accounts,
    /// True once a sweep succeeded on this connection.
    is_current: bool,
}

/// What a sweep needs of an LND page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LndPage<'a> {
    #[serde(borrow)]
    payments: Vec<LndEntry<'a>>,
    last_index_offset: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LndEntry<'a> {
    payment_index: Int,
    #[serde(borrow)]
    status: Text<'a>,
}

/// What a sweep needs of a Core Lightning page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClnPage {
    payments: Vec<ClnEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClnEntry {
    updated_index: Int,
    created_index: Int,
}

/// What a sweep needs of an entry of a wallet's list: when it was made, as LNbits, lnget and phoenixd say it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WalletEntry<'a> {
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow)]
    created_at: Text<'a>,
    #[serde(rename = "createdAt")]
    created_ms: Int,
}

impl WalletEntry<'_> {
    /// In Unix seconds.
    fn made_at(&self) -> Option<u64> {
        let text = self.time.get().or(self.created_at.get()).and_then(wallets::time);
        let at = text.or_else(|| self.created_ms.get().and_then(|ms| Timestamp::from_number(ms).ok()));
        u64::try_from(at?.secs()).ok()
    }
}

impl Reader<'_> {
    /// Reads until the connection or the source ends.
    async fn follow(&mut self) -> Lost {
        match self.try_follow().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_follow(&mut self) -> Result<std::convert::Infallible, Lost> {
        // The stream is opened before the list is read: what happens between the two is in either.
        let mut stream = match self.source.config.api {
            LightningApi::Lnd => {
                let url = self.source.url("/v2/router/payments?no_inflight_updates=true");
                self.fetch.open(&url).await?
            }
            _ => None,
        };
        self.check.restart(self.cx.clock.now());
        let interval = self.source.config.interval.0;
        let interval = if stream.is_some() { interval * 10 } else { interval };
        let mut line = Vec::new();
        loop {
            self.sweep(stream.is_some()).await?;
            self.is_current = true;
            let detail = if stream.is_some() { "streaming" } else { "up to date" };
            self.cx.status.live(self.cx.clock.now(), detail);
            let pause = tokio::time::sleep(interval);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    () = self.cx.cancel.cancelled() => return Err(Lost::Cancelled),
                    Some(acked) = self.pipeline.next(), if !self.pipeline.is_empty() => { acked?; }
                    chunk = next_chunk(&mut stream) => {
                        // A silent stream is healthy, a closed one is not.
                        let closed = || FetchError::Transient { why: "the node closed the stream".to_owned(), after: None };
                        let chunk = chunk.map_err(lost)?.ok_or_else(closed)?;
                        self.lines(&mut line, &chunk).await?;
                    }
                    () = &mut pause => break,
                }
            }
        }
    }

    /// Hands over the lines that are complete.
    async fn lines(&mut self, line: &mut Vec<u8>, chunk: &[u8]) -> Result<(), Lost> {
        line.extend_from_slice(chunk);
        if let Some(end) = line.iter().rposition(|byte| *byte == b'\n') {
            let complete: Vec<u8> = line.drain(..=end).collect();
            let decoded = self.attributed(&complete).await?;
            self.check.pushed(&decoded.payments);
            self.check.show(&self.cx.status);
            self.pipeline.submit(self.cx, decoded, None).await?;
        }
        if line.len() > LINE_LEN_MAX {
            let mut decoded = Decoded::default();
            let detail = format!("a line of the stream has more than {LINE_LEN_MAX} bytes");
            decoded.reject("too_large", detail, &[], self.cx.clock.now());
            self.pipeline.submit(self.cx, decoded, None).await?;
            let why = "a line that is too long".to_owned();
            return Err(FetchError::Transient { why, after: None }.into());
        }
        Ok(())
    }

    /// Reads the list, beside a stream or without one.
    async fn sweep(&mut self, is_streamed: bool) -> Result<(), Lost> {
        match self.source.config.api {
            LightningApi::Lnd => self.sweep_lnd(is_streamed).await,
            LightningApi::Cln => self.sweep_cln().await,
            LightningApi::Phoenixd => self.sweep_wallet("/payments/outgoing?").await,
            LightningApi::Lnbits => self.sweep_wallet("/api/v1/payments?sortby=time&direction=desc&").await,
            LightningApi::Lnget => self.sweep_wallet("/api/events?").await,
        }
    }

    /// All payments from the oldest that is still open. The cursor stays before that one: the index of the last page
    /// would skip what was in flight when it was read.
    async fn sweep_lnd(&mut self, is_streamed: bool) -> Result<(), Lost> {
        let (mut at, mut oldest_open) = (self.place, None::<u64>);
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/payments?include_incomplete=true&index_offset={at}&max_payments={PAGE}");
            let Some(body) = self.get(&path).await? else { return Ok(()) };
            let page: LndPage<'_> = self.page(&body)?;
            let index = |int: Int| int.get().and_then(|index| u64::try_from(index).ok());
            let open =
                page.payments.iter().filter(|entry| !matches!(entry.status.as_str(), "SUCCEEDED" | "FAILED"));
            oldest_open = open.filter_map(|entry| index(entry.payment_index)).chain(oldest_open).min();
            let is_last = page.payments.len() < PAGE;
            let end = index(page.last_index_offset).filter(|_| !page.payments.is_empty()).unwrap_or(at);
            let place = oldest_open.map_or(end, |open| open.saturating_sub(1)).max(self.place);
            let has_moved = place != self.place;
            (at, self.place) = (end, place);
            let cursor = has_moved.then(|| Cursor(place.to_string()));
            if !page.payments.is_empty() {
                let decoded = self.attributed(&body).await?;
                if is_streamed {
                    self.check.listed(&decoded.payments);
                    self.check.show(&self.cx.status);
                }
                self.pipeline.submit(self.cx, decoded, cursor).await?;
            }
            if is_last {
                return Ok(());
            }
            self.cx.status.phase(Phase::Backfilling, format!("payment {at}"));
        }
        Ok(())
    }

    /// All parts that changed since the last sweep.
    async fn sweep_cln(&mut self) -> Result<(), Lost> {
        for _ in 0..PAGES_MAX {
            let request = format!(r#"{{"index":"updated","start":{},"limit":{PAGE}}}"#, self.place.max(1));
            let body = self.fetch.post(&self.source.url("/v1/listsendpays"), request).await?;
            let page: ClnPage = self.page(&body)?;
            // A part that was never updated has no such index; its creation says as much.
            let indexes =
                page.payments.iter().map(|entry| entry.updated_index.get().or(entry.created_index.get()));
            let last = indexes.flatten().filter_map(|index| u64::try_from(index).ok()).max();
            let Some(last) = last else { return Ok(()) };
            self.place = last.saturating_add(1).max(self.place);
            self.deliver(&body, Some(Cursor(self.place.to_string()))).await?;
            if page.payments.len() < PAGE {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The newest entries, again and again, as an entry may still change and what is known is not counted again; and those
    /// before them, back to where the last sweep was.
    async fn sweep_wallet(&mut self, path: &str) -> Result<(), Lost> {
        let (known_to, mut newest) = (self.place, self.place);
        for nth in 0..PAGES_MAX {
            let offset = nth * WALLET_PAGE;
            let url = format!("{path}limit={WALLET_PAGE}&offset={offset}");
            let Some(body) = self.get(&url).await? else { return Ok(()) };
            let entries: Vec<WalletEntry<'_>> = self.page(&body)?;
            let times = || entries.iter().filter_map(WalletEntry::made_at);
            newest = times().max().unwrap_or(0).max(newest);
            let is_joined =
                known_to == 0 || times().min().is_none_or(|oldest| oldest + WALLET_OVERLAP < known_to);
            let is_last = is_joined || entries.len() < WALLET_PAGE;
            let cursor = (is_last && newest != self.place).then(|| Cursor(newest.to_string()));
            self.deliver(&body, cursor).await?;
            if is_last {
                self.place = newest;
                return Ok(());
            }
            self.cx.status.phase(Phase::Backfilling, format!("entry {offset} from the newest"));
        }
        Ok(())
    }

    async fn get(&mut self, path: &str) -> Result<Option<Vec<u8>>, Lost> {
        match self.fetch.get(&self.source.url(path)).await? {
            Fetched::Body(body) => Ok(Some(body)),
            Fetched::Unchanged => Ok(None),
        }
    }

    fn page<'b, T: Deserialize<'b>>(&mut self, body: &'b [u8]) -> Result<T, Lost> {
        serde_json::from_slice(body).map_err(|_| {
            self.fetch.forget();
            FetchError::Transient { why: "a page that cannot be read".to_owned(), after: None }.into()
        })
    }

    async fn deliver(&mut self, body: &[u8], cursor: Option<Cursor>) -> Result<(), Lost> {
        let decoded = self.decode(body);
        self.pipeline.submit(self.cx, decoded, cursor).await?;
        Ok(())
    }

    /// The same, with the accounts behind the payments. Without litd's answer nothing is handed over: a payment would
    /// be somebody else's for good.
    async fn attributed(&mut self, body: &[u8]) -> Result<Decoded, Lost> {
        let mut decoded = self.decode(body);
        if self.source.config.accounts {
            if !self.accounts.know(&decoded.payments)
                && let Some(list) = self.get("/v1/accounts").await?
            {
                let learned = self.accounts.learn(&list, &decoded.payments);
                learned.map_err(|_| {
                    let why = "litd's accounts cannot be read".to_owned();
                    FetchError::Transient { why, after: None }
                })?;
            }
            self.accounts.name(&mut decoded.payments);
        }
        Ok(decoded)
    }

    fn decode(&self, body: &[u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let message = Message { body, headers: None, received_at: self.cx.clock.now() };
        self.source.decoder.decode(&message, &mut decoded);
        decoded
    }
}

async fn next_chunk(stream: &mut Option<Response>) -> Result<Option<bytes::Bytes>, reqwest::Error> {
    match stream {
        Some(stream) => stream.chunk().await,
        None => std::future::pending().await,
    }
}
