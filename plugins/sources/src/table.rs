//! One TOML table, two owners: a transport's own keys and the decoder's keys stand side by side, because that is how
//! people write a source. `flatten` would lose unknown-key errors, so the table is split by the decoder's schema.

use railwatch_plugin::config::{self, ConfigError};
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

use crate::decode::MappingConfig;

/// Keys that the host reads from a source's table before the plugin sees it; they mean nothing here.
const HOST_KEYS: &[&str] = &["plugin", "enabled"];

/// The keys that `T` has, and the others. The host's own keys are in neither.
pub(crate) fn split<T: JsonSchema>(table: &Table) -> (Table, Table) {
    let schema = schema_for!(T);
    let known = schema.get("properties").and_then(Value::as_object);
    let is_known = |key: &str| known.is_some_and(|known| known.contains_key(key));
    own(table).into_iter().partition(|(key, _)| is_known(key))
}

/// The table without the host's keys.
pub(crate) fn own(table: &Table) -> Table {
    let mut own = table.clone();
    own.retain(|key, _| !HOST_KEYS.contains(&key));
    own
}

/// Reads what [`split`] left for the transport. An unknown key is told about the keys that were split off as well.
pub(crate) fn parse_rest<T: DeserializeOwned, Split: JsonSchema>(rest: &Table) -> Result<T, ConfigError> {
    config::parse(rest).map_err(|mut error| {
        if error.message.starts_with("unknown field") {
            let mut keys = keys_of::<MappingConfig>();
            keys.extend(keys_of::<Split>());
            keys.sort_unstable();
            keys.dedup();
            error.message = format!("{}; or a key of the decoder: {}", error.message, keys.join(", "));
        }
        error
    })
}

fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = schema_for!(T);
    let keys = schema.get("properties").and_then(Value::as_object);
    keys.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// One schema with the properties of both.
pub(crate) fn merged_schema<A: JsonSchema, B: JsonSchema>() -> Schema {
    merge(schema_for!(A), &schema_for!(B))
}

/// One schema with the properties of all three.
pub(crate) fn schema_of_three<A: JsonSchema, B: JsonSchema, C: JsonSchema>() -> Schema {
    merge(merged_schema::<A, B>(), &schema_for!(C))
}

/// The first schema with the properties of the other.
fn merge(mut schema: Schema, other: &Schema) -> Schema {
    for part in ["properties", "$defs"] {
        let Some(Value::Object(theirs)) = other.get(part).cloned() else { continue };
        let ours = schema.ensure_object().entry(part).or_insert_with(|| Value::Object(Default::default()));
        if let Value::Object(ours) = ours {
            ours.extend(theirs);
        }
    }
    schema
}
