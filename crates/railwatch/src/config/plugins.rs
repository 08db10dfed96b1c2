//! The plugins' tables: parting what the host handles from what is the plugin's own, and asking each plugin to build
//! itself, which is the last and most exact check.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use railwatch_model::SmolStr;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::sink::SinkBuild;
use railwatch_plugin::source::SourceBuild;
use schemars::Schema;

use super::diagnostic::{Diagnostic, Level};
use super::load::{Building, diagnose, entry_path, is_at_or_below};
use super::settings::{
    Common, Config, DetectorCommon, DetectorConfig, SinkCommon, SinkConfig, SourceCommon, SourceConfig,
};
use super::tree::Node;
use super::{Options, Registries, SecretMark};

/// The sources whose blocks have no mistake that the schema knows.
pub(super) fn sources(
    build: &mut Building<'_>,
    registries: &Registries<'_>,
) -> BTreeMap<SmolStr, SourceConfig> {
    let schema = |name: &str| Some((registries.sources.iter().find(|plugin| plugin.name == name)?.schema)());
    named(build, "sources", schema, |plugin, common: SourceCommon, table| SourceConfig {
        plugin,
        common,
        table,
    })
}

/// The sinks whose blocks have no mistake that the schema knows.
pub(super) fn sinks(build: &mut Building<'_>, registries: &Registries<'_>) -> BTreeMap<SmolStr, SinkConfig> {
    let schema = |name: &str| Some((registries.sinks.iter().find(|plugin| plugin.name == name)?.schema)());
    named(build, "sinks", schema, |plugin, common: SinkCommon, table| SinkConfig { plugin, common, table })
}

/// All detectors of the registry, with their blocks where there are any.
pub(super) fn detectors(build: &mut Building<'_>, registries: &Registries<'_>) -> Vec<DetectorConfig> {
    let detector = |plugin: &railwatch_plugin::registry::DetectorPlugin| {
        let path = entry_path("detectors", plugin.name);
        let node = build.root.child("detectors").and_then(|detectors| detectors.child(plugin.name));
        let (common, table) = match node.filter(|_| !build.is_broken(&path)) {
            Some(node) => split::<DetectorCommon>(build, &path, node, &(plugin.schema)()).unwrap_or_default(),
            None => Default::default(),
        };
        DetectorConfig { plugin: plugin.name.into(), common, table }
    };
    registries.detectors.iter().map(detector).collect()
}

fn named<C: Common, T>(
    build: &mut Building<'_>,
    section: &str,
    schema: impl Fn(&str) -> Option<Schema>,
    make: impl Fn(SmolStr, C, toml::Table) -> T,
) -> BTreeMap<SmolStr, T> {
    let mut entries = BTreeMap::new();
    for (name, node) in build.root.child(section).and_then(Node::table).into_iter().flatten() {
        let path = entry_path(section, name);
        if build.is_broken(&path) {
            continue;
        }
        let Some(plugin) = node.child("plugin").and_then(Node::text) else { continue };
        let Some(schema) = schema(plugin) else { continue };
        if let Some((common, table)) = split(build, &path, node, &schema) {
            entries.insert(name.into(), make(plugin.into(), common, table));
        }
    }
    entries
}

/// Parts a block into the host's keys and the plugin's table. A host key that the plugin's schema has too is in both.
fn split<C: Common>(
    build: &mut Building<'_>,
    path: &str,
    node: &Node,
    schema: &Schema,
) -> Option<(C, toml::Table)> {
    let toml::Value::Table(mut table) = node.to_toml() else { return None };
    let mut own = toml::Table::new();
    for key in C::KEYS {
        if let Some(value) = table.get(*key) {
            own.insert((*key).to_owned(), value.clone());
        }
        if !has_key(schema, key) {
            table.remove(*key);
        }
    }
    if !has_key(schema, "plugin") {
        table.remove("plugin");
    }
    match railwatch_plugin::config::parse(&own) {
        Ok(common) => Some((common, table)),
        Err(error) => {
            build.report(diagnose(path, node, &error));
            None
        }
    }
}

fn has_key(schema: &Schema, key: &str) -> bool {
    schema.get("properties").and_then(|properties| properties.get(key)).is_some()
}

/// Resolves every secret, then lets every enabled plugin build itself; what was built is dropped.
pub(super) fn check(
    build: &mut Building<'_>,
    config: &Config,
    registries: &Registries<'_>,
    options: &Options,
    base_dir: &Path,
) {
    let unresolved = check_secrets(build, config, options);
    let root = build.root;
    let is_ready = |path: &str| !unresolved.iter().any(|secret| is_at_or_below(secret, path));
    let node = |section: &str, name: &str| root.child(section).and_then(|nodes| nodes.child(name));
    let mut refused: Vec<(String, &Node, ConfigError)> = Vec::new();
    for (name, source) in config.sources.iter().filter(|(_, source)| source.common.enabled) {
        let plugin = registries.sources.iter().find(|plugin| plugin.name == source.plugin);
        let path = entry_path("sources", name);
        if let (Some(plugin), Some(node), true) = (plugin, node("sources", name), is_ready(&path)) {
            let decoder: Option<Arc<dyn Decoder>> =
                source.common.decode.as_ref().map(|_| Arc::new(NoDecoder) as _);
            let secrets = Arc::clone(&options.secrets);
            let with = SourceBuild { name: name.clone(), secrets, decoder, base_dir: base_dir.to_owned() };
            refused.extend((plugin.build)(&source.table, &with).err().map(|error| (path, node, error)));
        }
    }
    for (name, sink) in config.sinks.iter().filter(|(_, sink)| sink.common.enabled) {
        let plugin = registries.sinks.iter().find(|plugin| plugin.name == sink.plugin);
        let path = entry_path("sinks", name);
        if let (Some(plugin), Some(node), true) = (plugin, node("sinks", name), is_ready(&path)) {
            let (secrets, clock) = (Arc::clone(&options.secrets), Arc::clone(&options.clock));
            let with = SinkBuild { name: name.clone(), secrets, clock, base_dir: base_dir.to_owned() };
            refused.extend((plugin.build)(&sink.table, &with).err().map(|error| (path, node, error)));
        }
    }
    for (plugin, detector) in registries.detectors.iter().zip(&config.detectors) {
        let path = entry_path("detectors", plugin.name);
        if build.is_broken(&path) || !detector.common.enabled {
            continue;
        }
        let node = node("detectors", plugin.name).unwrap_or(root);
        refused.extend((plugin.build)(&detector.table).err().map(|error| (path, node, error)));
    }
    for (path, node, error) in refused {
        build.report(diagnose(&path, node, &error));
    }
}

/// Reports secrets that cannot be had, and returns their key paths.
fn check_secrets(build: &mut Building<'_>, config: &Config, options: &Options) -> Vec<String> {
    let sources = config.sources.iter().filter(|(_, source)| !source.common.enabled);
    let sinks = config.sinks.iter().filter(|(_, sink)| !sink.common.enabled);
    let mut disabled: Vec<String> = sources.map(|(name, _)| entry_path("sources", name)).collect();
    disabled.extend(sinks.map(|(name, _)| entry_path("sinks", name)));
    let mut unresolved = Vec::new();
    for (path, place, reference) in std::mem::take(&mut build.secrets) {
        if disabled.iter().any(|entry| is_at_or_below(&path, entry)) {
            continue;
        }
        let error = match options.secrets.resolve(&reference) {
            Ok(secret) => {
                mark(build, config, &path, secret.expose());
                continue;
            }
            Err(error) => error,
        };
        let level = if options.offline { Level::Warning } else { Level::Error };
        let finding = Diagnostic::error(path.clone(), format!("the secret `{path}` cannot be had"), place);
        build.report(Diagnostic { level, ..finding.label(error.to_string()) });
        unresolved.push(path);
    }
    unresolved
}

/// Adds a secret to what the secrets of its source or sink come to.
fn mark(build: &mut Building<'_>, config: &Config, path: &str, secret: &[u8]) {
    /// Drawn once per process, so that marks say nothing to anybody who sees them.
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let sources = config.sources.keys().map(|name| entry_path("sources", name));
    let mut entries = sources.chain(config.sinks.keys().map(|name| entry_path("sinks", name)));
    if let Some(entry) = entries.find(|entry| is_at_or_below(path, entry)) {
        let mark = build.secret_marks.entry(entry).or_default();
        *mark = SecretMark(KEYS.hash_one((mark.0, path, secret)));
    }
}

/// Stands in for a decoder in Lua, which the host compiles later: checking a table decodes nothing.
#[derive(Debug)]
struct NoDecoder;

impl Decoder for NoDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        decoded.reject("not_loaded", "the decoder is not loaded", message.body, message.received_at);
    }
}
