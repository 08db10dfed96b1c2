//! Sources: one module per rail or transport, and the explicit list of them.
//!
//! A transport owns connections, signatures, cursors and retries; a decoder turns its messages into payments. This
//! crate knows neither the engine nor the store: what it makes goes through the intake of the plugin contract.

use railwatch_plugin::registry::SourcePlugin;

mod auth;
pub mod backoff;
mod connection;
pub mod decode;
mod delivery;
pub mod file;
#[cfg(test)]
mod hostile;
pub mod lightning;
pub mod litellm;
pub mod mpp;
pub mod otlp;
pub mod poll;
mod posted;
mod push;
mod redact;
mod scalar;
pub mod stripe;
mod table;
#[cfg(test)]
mod testing;
mod tls;
mod usage_cost;
pub mod verify;
pub mod webhook;
pub mod websocket;
pub mod x402;

pub use auth::AuthConfig;
pub use connection::ConnectionTable;

/// Every source of this crate. Adding one is one module and one line.
pub const SOURCES: &[SourcePlugin] = &[
    websocket::PLUGIN,
    webhook::PLUGIN,
    file::FILE,
    file::STDIN,
    poll::PLUGIN,
    stripe::PLUGIN,
    x402::EVM,
    x402::HOOKS,
    lightning::PLUGIN,
    mpp::PLUGIN,
    otlp::PLUGIN,
    litellm::PLUGIN,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_example_builds_and_its_keys_are_in_the_schema() {
        for plugin in SOURCES {
            let example: toml::Table = plugin.example.parse().unwrap();
            let (_, table) = example["sources"].as_table().unwrap().iter().next().unwrap();
            let table = table.as_table().unwrap();
            assert_eq!(table["plugin"].as_str(), Some(plugin.name));
            let build = testing::source_build(Path::new("."));
            (plugin.build)(table, &build)
                .map(drop)
                .unwrap_or_else(|error| panic!("{}: {error}", plugin.name));
            (plugin.decoder)(table, &build).unwrap();
            let schema = (plugin.schema)();
            for key in table.keys().filter(|key| *key != "plugin") {
                assert!(
                    schema.get("properties").and_then(|p| p.get(key)).is_some(),
                    "{}: {key}",
                    plugin.name
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (nth, plugin) in SOURCES.iter().enumerate() {
            assert!(SOURCES.iter().skip(nth + 1).all(|other| other.name != plugin.name), "{}", plugin.name);
        }
    }
}
