//! x402: HTTP payments settled on chain.
//!
//! The chain is the truth: [`X402LogDecoder`] reads token transfers of the agents' wallets. [`X402HookDecoder`] reads
//! what facilitators, resource servers and clients post, which comes earlier and knows the resource that was bought.
//! Both name a purchase by its authorization, so that it counts once whoever reports it first.

mod frames;
mod hex;
mod hooks;
mod logs;
mod network;
mod observer;
mod rpc;
mod session;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;

use railwatch_model::SmolStr;
use railwatch_plugin::config::ConfigError;

pub use frames::X402FrameDecoder;
pub use hooks::{HOOKS, X402HookDecoder, X402HookTable};
pub use logs::X402LogDecoder;
pub use network::TokenConfig;
pub use observer::{EVM, X402EvmTable, X402Source};

use network::Network;

/// One chain, the wallets whose payments count, and what counts.
#[derive(Debug, Clone)]
pub struct X402Chain {
    network: Network,
    wallets: BTreeSet<SmolStr>,
    count_plain_transfers: bool,
}

impl X402Chain {
    /// The chain `network` (`eip155:8453` or `base`). With no `wallets` every payer counts. `tokens` replaces the
    /// built-in tokens unless it is empty; `escrows` adds contracts that hold prepaid money.
    pub fn new(
        network: &str,
        wallets: &[String],
        tokens: &[TokenConfig],
        escrows: &[String],
        count_plain_transfers: bool,
    ) -> Result<Self, ConfigError> {
        let network =
            Network::new(network, tokens, escrows).map_err(|error| ConfigError::new("network", error))?;
        if network.tokens().next().is_none() {
            return Err(ConfigError::new(
                "token",
                format!("no token is known on {}; declare one", network.id),
            ));
        }
        let wallets = wallets
            .iter()
            .map(|wallet| {
                hex::address(wallet)
                    .ok_or_else(|| ConfigError::new("wallets", format!("{wallet:?} is not an address")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { network, wallets, count_plain_transfers })
    }

    fn is_watched(&self, address: &str) -> bool {
        self.wallets.is_empty() || self.wallets.contains(address)
    }
}
