//! The configuration as it is in force: defaults filled in, secrets still references.

use serde::Serialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::Registries;
use super::settings::Config;

/// The whole configuration as TOML that loads again. Keys of plugins that were left out get the default that the
/// plugin's schema names; secrets stay references.
pub fn show_resolved(config: &Config, registries: &Registries<'_>) -> String {
    let mut root = Table::new();
    put(&mut root, "timezone", &config.timezone);
    put(&mut root, "store", &config.store);
    put(&mut root, "http", &config.http);
    put(&mut root, "limits", &config.limits);
    put(&mut root, "score", &config.score);
    put(&mut root, "rules", &config.rules);
    put(&mut root, "alerts", &config.alerts);
    put(&mut root, "fleet", &config.fleet);
    let sources = config.sources.iter().map(|(name, source)| {
        let plugin = registries.sources.iter().find(|plugin| plugin.name == source.plugin);
        let schema = plugin.map(|plugin| (plugin.schema)());
        (name.as_str(), block(Some(&source.plugin), &source.common, &source.table, schema))
    });
    root.insert("sources".to_owned(), section(sources));
    let sinks = config.sinks.iter().map(|(name, sink)| {
        let plugin = registries.sinks.iter().find(|plugin| plugin.name == sink.plugin);
        let schema = plugin.map(|plugin| (plugin.schema)());
        (name.as_str(), block(Some(&sink.plugin), &sink.common, &sink.table, schema))
    });
    root.insert("sinks".to_owned(), section(sinks));
    let detectors = config.detectors.iter().map(|detector| {
        let plugin = registries.detectors.iter().find(|plugin| plugin.name == detector.plugin);
        let schema = plugin.map(|plugin| (plugin.schema)());
        (detector.plugin.as_str(), block(None, &detector.common, &detector.table, schema))
    });
    root.insert("detectors".to_owned(), section(detectors));
    put(&mut root, "prices", &config.prices);
    put(&mut root, "routes", &config.routes);
    put(&mut root, "escalations", &config.escalations);
    put(&mut root, "mutes", &config.mutes);
    put(&mut root, "freeze", &config.freeze);
    put(&mut root, "callbacks", &config.callbacks);
    put(&mut root, "people", &config.people);
    put(&mut root, "digests", &config.digests);
    put(&mut root, "inhibitions", &config.inhibitions);
    put(&mut root, "teams", &config.teams);
    put(&mut root, "agents", &config.agents);
    put(&mut root, "announcements", &config.announcements);
    root.retain(|_, value| !is_empty(value));
    toml::to_string_pretty(&root).expect("every value came from TOML or is plain data")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Table(table) => table.is_empty(),
        Value::Array(array) => array.is_empty(),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            false
        }
    }
}

fn put<T: Serialize>(root: &mut Table, key: &str, value: &T) {
    let mut value = Value::try_from(value).expect("the host's sections are plain data");
    prune(&mut value);
    root.insert(key.to_owned(), value);
}

/// Takes out tables without anything in them, which say nothing.
fn prune(value: &mut Value) {
    match value {
        Value::Table(table) => {
            table.iter_mut().for_each(|(_, value)| prune(value));
            table.retain(|_, value| !value.as_table().is_some_and(Table::is_empty));
        }
        Value::Array(array) => array.iter_mut().for_each(prune),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn section<'a>(entries: impl Iterator<Item = (&'a str, Table)>) -> Value {
    Value::Table(entries.map(|(name, table)| (name.to_owned(), Value::Table(table))).collect())
}

fn block<C: Serialize>(
    plugin: Option<&str>,
    common: &C,
    own: &Table,
    schema: Option<schemars::Schema>,
) -> Table {
    let mut table = Table::new();
    if let Some(plugin) = plugin {
        table.insert("plugin".to_owned(), plugin.into());
    }
    if let Ok(Value::Table(common)) = Value::try_from(common) {
        table.extend(common.into_iter().filter(|(_, value)| !is_empty(value)));
    }
    let schema = schema.map(schemars::Schema::to_value).unwrap_or_default();
    for (key, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let default = property.get("default").filter(|default| !default.is_null());
        if let Some(default) = default.and_then(|default| Value::try_from(default).ok()) {
            table.insert(key.clone(), default);
        }
    }
    table.extend(own.clone());
    table
}
