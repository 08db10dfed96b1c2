//! The chain observer: subscribes to the wallets' transfers, reads what happened before, and follows the tip.
//!
//! Invariant: the cursor never passes a block that the node has not shown, and every start reads the last blocks
//! again, so that nothing between a lost connection and the next one is missed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_plugin::config::{self, ConfigError, Span};
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::secret::{SecretRef, Secrets};
use railwatch_plugin::source::{Cursor, Source, SourceBuild, SourceContext, SourceError};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use super::rpc::{Rpc, RpcError};
use super::session::{End, Session};
use super::view::View;
use super::{TokenConfig, X402Chain, X402FrameDecoder};
use crate::backoff::{Backoff, fail, wait};
use crate::delivery::Pipeline;
use crate::push::PushCheck;
use crate::{table, tls};

#[cfg(test)]
mod tests;

/// The entry of the list of sources.
pub const EVM: SourcePlugin = SourcePlugin {
    name: "x402-evm",
    summary: "token transfers of the agents' wallets on an EVM chain, over JSON-RPC",
    example: EXAMPLE,
    schema: || schema_for!(X402EvmTable),
    build: |table, build| Ok(Box::new(X402Source::from_table(table, build)?)),
    decoder: |table, _| {
        let table = parse(table)?;
        Ok(Arc::new(X402FrameDecoder::new(table.chain()?, table.confirmations)) as Arc<dyn Decoder>)
    },
};

const EXAMPLE: &str = r#"[sources.base]
plugin = "x402-evm"
network = "eip155:8453"
url = "wss://base-rpc.publicnode.com"
wallets = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]
confirmations = 2
"#;

/// The table of an `x402-evm` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct X402EvmTable {
    /// The CAIP-2 id or name of the chain, such as `eip155:8453` or `base`. The node must be on it.
    pub network: String,
    /// The node: `wss://` follows the tip live, `https://` asks every `poll_interval`.
    pub url: Option<String>,
    /// The same from a secret, for providers that put a key into the URL.
    pub url_secret: Option<SecretRef>,
    /// The agents' wallets.
    #[serde(default)]
    pub wallets: Vec<String>,
    /// Tokens that count. Default: the chain's USDC.
    #[serde(default)]
    pub token: Vec<TokenConfig>,
    /// Further contracts that hold prepaid money: transfers to them are deposits.
    #[serde(default)]
    pub escrows: Vec<String>,
    /// Blocks above a payment before it is confirmed. Default: 2.
    #[serde(default = "confirmations")]
    pub confirmations: u64,
    /// Blocks that are read again at every start and reconnect. Default: 64.
    #[serde(default = "overlap")]
    pub backfill_overlap_blocks: u64,
    /// The first block that is read when there is no cursor. Default: the overlap before the tip.
    pub start_block: Option<u64>,
    /// Blocks that one `eth_getLogs` asks for; halved when the node refuses. Default: 1000.
    #[serde(default = "blocks_max")]
    pub max_blocks_per_getlogs: u64,
    /// Wallets in one filter. Default: 500.
    #[serde(default = "topics_max")]
    pub max_topics_per_filter: usize,
    /// Silence of the chain after which the connection counts as dead. Default: 60 s.
    #[serde(default = "stall")]
    pub stall: Span,
    /// How often an `https://` node is asked. Default: 2 s.
    #[serde(default = "poll_interval")]
    pub poll_interval: Span,
    /// Whether transfers without an x402 mark count: a wallet that is drained sends plain transfers. Default: true.
    #[serde(default = "yes")]
    pub count_plain_transfers: bool,
    /// Further trusted roots in PEM.
    pub ca_file: Option<PathBuf>,
}

fn confirmations() -> u64 {
    2
}

fn overlap() -> u64 {
    64
}

fn blocks_max() -> u64 {
    1000
}

fn topics_max() -> usize {
    500
}

fn stall() -> Span {
    Span(Duration::from_secs(60))
}

fn poll_interval() -> Span {
    Span(Duration::from_secs(2))
}

fn yes() -> bool {
    true
}

fn parse(table: &Table) -> Result<X402EvmTable, ConfigError> {
    config::parse(&table::own(table))
}

impl X402EvmTable {
    pub(super) fn chain(&self) -> Result<X402Chain, ConfigError> {
        let Self { network, wallets, token, escrows, count_plain_transfers, .. } = self;
        X402Chain::new(network, wallets, token, escrows, *count_plain_transfers)
    }
}

/// The observer.
#[derive(Debug)]
pub struct X402Source {
    pub(super) config: X402EvmTable,
    pub(super) chain: X402Chain,
    pub(super) chain_id: u64,
    secrets: Arc<dyn Secrets>,
    base_dir: PathBuf,
}

impl X402Source {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let config = parse(table)?;
        let chain = config.chain()?;
        let chain_id = chain.network.chain_id();
        let chain_id = chain_id
            .ok_or_else(|| ConfigError::new("network", "an EVM chain such as \"eip155:8453\" or \"base\""))?;
        if config.wallets.is_empty() {
            return Err(ConfigError::new("wallets", "name the wallets to watch, such as [\"0x7099…79C8\"]"));
        }
        if config.max_blocks_per_getlogs == 0 || config.max_topics_per_filter == 0 {
            let message = "max_blocks_per_getlogs and max_topics_per_filter are at least 1";
            return Err(ConfigError::new("", message));
        }
        if config.url.is_some() == config.url_secret.is_some() {
            return Err(ConfigError::new("url", "needs either url or url_secret"));
        }
        let (secrets, base_dir) = (Arc::clone(&build.secrets), build.base_dir.clone());
        let source = Self { config, chain, chain_id, secrets, base_dir };
        let path = if source.config.url.is_some() { "url" } else { "url_secret" };
        source.url().map_err(|message| ConfigError::new(path, message))?;
        Ok(source)
    }

    /// The node's URL; read at every connect, so that a rotated key takes effect.
    fn url(&self) -> Result<String, String> {
        let url = match (&self.config.url, &self.config.url_secret) {
            (Some(url), _) => url.clone(),
            (None, Some(secret)) => {
                let secret = self.secrets.resolve(secret).map_err(|error| error.to_string())?;
                secret.expose_str().map_err(|error| error.to_string())?.to_owned()
            }
            (None, None) => String::new(),
        };
        let known = ["ws://", "wss://", "http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if known {
            Ok(url)
        } else {
            Err("the URL must begin with wss://, ws://, https:// or http://".to_owned())
        }
    }
}

#[async_trait]
impl Source for X402Source {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let ca_file = self.config.ca_file.as_ref().map(|path| self.base_dir.join(path));
        let tls = tls::client_config(ca_file.as_deref()).map_err(|message| fail(&cx, message))?;
        let seed = Backoff::seed(&cx.name, cx.clock.now().micros());
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30), seed);
        let mut view = View::new(self.chain.clone(), self.config.confirmations);
        let mut next_block = cx.cursor.as_ref().and_then(|Cursor(cursor)| view.restore(cursor));
        let mut pipeline = Pipeline::default();
        let check = PushCheck::default();
        loop {
            let url = self.url().map_err(|message| fail(&cx, message))?;
            let connected = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Ok(()),
                connected = Rpc::connect(&url, tls.clone()) => connected,
            };
            let why = match connected {
                Ok(rpc) => {
                    let mut session =
                        Session::new(&self, &cx, rpc, &mut view, &mut pipeline, &mut next_block, &check);
                    let end = session.run().await;
                    if session.is_caught_up {
                        backoff.reset();
                    }
                    match end {
                        End::Cancelled => return Ok(()),
                        End::Source(error) => return Err(error),
                        End::Rpc(error) => error,
                    }
                }
                Err(error) => error,
            };
            if let RpcError::Denied(message) = why {
                return Err(fail(&cx, message));
            }
            if !wait(&cx, &why.to_string(), backoff.next_wait()).await {
                return Ok(());
            }
        }
    }
}

/// Shows that the observer is current.
pub(super) fn live(cx: &SourceContext, tip: Option<u64>) {
    let detail = tip.map_or_else(|| "connected".to_owned(), |tip| format!("block {tip}"));
    cx.status.live(cx.clock.now(), detail);
}
