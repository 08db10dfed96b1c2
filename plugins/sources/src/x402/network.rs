//! Networks, tokens and contracts. Source: the default assets and contract addresses of `@x402/evm` 2.27.0 and the
//! network names of x402 version 1.

use std::collections::{BTreeMap, BTreeSet};

use railwatch_model::{Asset, SmolStr};
use schemars::JsonSchema;
use serde::Deserialize;
use smol_str::format_smolstr;

use super::hex;

/// CAIP-2 id, version-1 name.
const NETWORKS: &[(&str, &str)] = &[
    ("eip155:8453", "base"),
    ("eip155:84532", "base-sepolia"),
    ("eip155:1", "ethereum"),
    ("eip155:137", "polygon"),
    ("eip155:42161", "arbitrum"),
    ("eip155:43114", "avalanche"),
    ("eip155:42220", "celo"),
    ("eip155:143", "monad"),
    ("eip155:1329", "sei"),
    ("eip155:4326", "megaeth"),
    ("eip155:31612", "mezo"),
    ("eip155:2741", "abstract"),
    ("eip155:11124", "abstract-testnet"),
    ("eip155:43113", "avalanche-fuji"),
    ("eip155:4689", "iotex"),
    ("eip155:1328", "sei-testnet"),
    ("eip155:80002", "polygon-amoy"),
    ("eip155:3338", "peaq"),
    ("eip155:1514", "story"),
    ("eip155:41923", "educhain"),
    ("eip155:324705682", "skale-base-sepolia"),
    ("eip155:988", "stable"),
    ("eip155:2201", "stable-testnet"),
    ("eip155:14", "flare"),
    ("eip155:11155111", "sepolia"),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana"),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "solana-devnet"),
];

/// Network, token address, symbol, decimals.
const TOKENS: &[(&str, &str, &str, u8)] = &[
    ("eip155:8453", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USDC", 6),
    ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e", "USDC", 6),
    ("eip155:1", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "USDC", 6),
    ("eip155:137", "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359", "USDC", 6),
    ("eip155:42161", "0xaf88d065e77c8cc2239327c5edb3a432268e5831", "USDC", 6),
    ("eip155:43114", "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e", "USDC", 6),
    ("eip155:42220", "0xceba9300f2b948710d2653dd7b07f33a8b32118c", "USDC", 6),
    ("eip155:143", "0x754704bc059f8c67012fed69bc8a327a5aafb603", "USDC", 6),
    ("eip155:1329", "0xe15fc38f6d8c56af07bbcbe3baf5708a2bf42392", "USDC", 6),
    ("eip155:4326", "0xfafddbb3fc7688494971a79cc65dca3ef82079e7", "MegaUSD", 18),
    ("eip155:31612", "0xdd468a1ddc392dcdbef6db6e34e89aa338f9f186", "mUSD", 18),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC", 6),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "USDC", 6),
];

/// Contracts that hold prepaid money: channels, deposit collectors and escrows.
const ESCROWS: &[&str] = &[
    "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003",
    "0x4020806089470a89826cb9fb1f4059150b550004",
    "0x4020425faf3b746c082c2f942b4e5159887b0005",
    "0xf96815976523e00e65be8f34ca5e64b4f41eb19c",
];

/// Contracts whose `Settled` events mark Permit2 payments.
const PERMIT2_PROXIES: &[&str] =
    &["0x402085c248eea27d92e8b30b2c58ed07f9e20001", "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002"];

/// A token that counts. Every other contract is left out, whatever it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The contract's address.
    pub address: String,
    /// The code that prices and budgets use, such as `USDC`.
    pub symbol: String,
    /// Decimals of the smallest unit, as the contract says.
    pub decimals: u8,
}

/// One chain as the decoder knows it.
#[derive(Debug, Clone)]
pub(super) struct Network {
    /// The CAIP-2 id.
    pub(super) id: SmolStr,
    tokens: BTreeMap<SmolStr, Asset>,
    escrows: BTreeSet<SmolStr>,
}

impl Network {
    /// The network with this CAIP-2 id or version-1 name. `tokens` replaces the built-in ones unless it is empty;
    /// `escrows` is added to the built-in ones.
    pub(super) fn new(name: &str, tokens: &[TokenConfig], escrows: &[String]) -> Result<Self, NetworkError> {
        let id = caip2(name).ok_or_else(|| NetworkError::Unknown(name.chars().take(60).collect()))?;
        let mut network = Self { tokens: builtin_tokens(&id), escrows: BTreeSet::new(), id };
        if !tokens.is_empty() {
            network.tokens =
                tokens.iter().map(|token| declared(&network.id, token)).collect::<Result<_, _>>()?;
        }
        network.escrows.extend(ESCROWS.iter().map(|escrow| SmolStr::new_static(escrow)));
        for escrow in escrows {
            network
                .escrows
                .insert(hex::address(escrow).ok_or_else(|| NetworkError::Address(escrow.clone()))?);
        }
        Ok(network)
    }

    /// The asset of a token contract that counts.
    pub(super) fn asset(&self, token: &str) -> Option<&Asset> {
        self.tokens.get(token)
    }

    /// The token contracts that count.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &SmolStr> {
        self.tokens.keys()
    }

    /// The contracts that hold prepaid money.
    pub(super) fn escrows(&self) -> impl Iterator<Item = &SmolStr> {
        self.escrows.iter()
    }

    pub(super) fn is_escrow(&self, address: &str) -> bool {
        self.escrows.contains(address)
    }

    /// The number in `eip155:<number>`.
    pub(super) fn chain_id(&self) -> Option<u64> {
        self.id.strip_prefix("eip155:")?.parse().ok()
    }
}

/// Why a network cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NetworkError {
    #[error("unknown network {0:?}; write a CAIP-2 id such as \"eip155:8453\"")]
    Unknown(String),
    #[error("{0:?} is not an address such as \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\"")]
    Address(String),
    #[error("token {symbol:?} has {decimals} decimals; at most {max} are supported")]
    Decimals { symbol: String, decimals: u8, max: u8 },
}

/// True for the contracts whose `Settled` events mark Permit2 payments.
pub(super) fn is_permit2_proxy(address: &str) -> bool {
    PERMIT2_PROXIES.contains(&address)
}

/// The CAIP-2 id behind an id or a version-1 name.
pub(super) fn caip2(name: &str) -> Option<SmolStr> {
    if let Some((id, _)) = NETWORKS.iter().find(|(id, short)| *id == name || *short == name) {
        return Some(SmolStr::new_static(id));
    }
    let number = name.strip_prefix("eip155:")?;
    number.parse::<u64>().ok().map(|number| format_smolstr!("eip155:{number}"))
}

/// An address in its canonical spelling: lower case on EVM chains, as it is elsewhere.
pub(super) fn canonical_address(network: &str, text: &str) -> Option<SmolStr> {
    if network.starts_with("eip155:") {
        return hex::address(text);
    }
    let plain = (32..=44).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| text.into())
}

fn builtin_tokens(id: &str) -> BTreeMap<SmolStr, Asset> {
    TOKENS
        .iter()
        .filter(|(network, ..)| *network == id)
        .filter_map(|(network, address, symbol, decimals)| {
            Some((SmolStr::new_static(address), Asset::new(asset_code(network, symbol), *decimals)?))
        })
        .collect()
}

fn declared(network: &str, token: &TokenConfig) -> Result<(SmolStr, Asset), NetworkError> {
    let TokenConfig { address, symbol, decimals } = token;
    let address =
        canonical_address(network, address).ok_or_else(|| NetworkError::Address(address.clone()))?;
    let asset = Asset::new(asset_code(network, symbol), *decimals).filter(|_| !symbol.is_empty());
    let max = Asset::SCALE_MAX;
    let asset =
        asset.ok_or_else(|| NetworkError::Decimals { symbol: symbol.clone(), decimals: *decimals, max })?;
    Ok((address, asset))
}

/// `USDC@base`: the same token on two chains is two assets.
fn asset_code(network: &str, symbol: &str) -> SmolStr {
    let name = NETWORKS.iter().find(|(id, _)| *id == network).map_or(network, |(_, name)| name);
    format_smolstr!("{symbol}@{name}")
}
