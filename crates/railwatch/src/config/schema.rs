//! The JSON Schema of the whole configuration file, with every plugin's part merged in. `check` validates by the very
//! schema that editors get.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value as Json, json};

use super::Registries;
use super::agents::{Agent, Announcement, Fleet, Team};
use super::digest::Digest;
use super::freeze::Freeze;
use super::people::{Callbacks, Person};
use super::settings::{
    Alerts, DetectorCommon, Escalation, Http, Inhibition, Limits, Mute, Price, Route, Rules, Score,
    SinkCommon, SourceCommon, Store,
};
use super::values::Zone;

/// The file as a whole; sources, sinks and detectors are filled in from the registries.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "railwatch configuration")]
#[expect(dead_code, reason = "only its schema is used: the sections are read one by one")]
struct Root {
    /// The time zone in which budgets begin unless they name their own; UTC by default.
    timezone: Option<Zone>,
    /// The embedded store.
    store: Option<Store>,
    /// The host's HTTP listener: webhooks, API, metrics, health.
    http: Option<Http>,
    /// Limits on what outsiders can grow.
    limits: Option<Limits>,
    /// Where payments come from, by name.
    sources: Option<BTreeMap<String, SourceCommon>>,
    /// Where notices go, by name.
    sinks: Option<BTreeMap<String, SinkCommon>>,
    /// The detectors, by plugin.
    detectors: Option<BTreeMap<String, DetectorCommon>>,
    /// The anomaly score.
    score: Option<Score>,
    /// The user's rules.
    rules: Option<Rules>,
    /// The life of alerts.
    alerts: Option<Alerts>,
    /// Which notice goes to which sink, in order.
    routes: Option<Vec<Route>>,
    /// Who is told when nobody takes an incident.
    escalations: Option<Vec<Escalation>>,
    /// When people are not told.
    mutes: Option<Vec<Mute>>,
    /// Which incidents explain others.
    inhibitions: Option<Vec<Inhibition>>,
    /// How agents are frozen.
    freeze: Option<Freeze>,
    /// Chats whose buttons and commands are heard.
    callbacks: Option<Callbacks>,
    /// Who may act from them.
    people: Option<Vec<Person>>,
    /// Summaries that are told at set hours.
    digests: Option<Vec<Digest>>,
    /// The agents.
    agents: Option<Vec<Agent>>,
    /// The teams.
    teams: Option<Vec<Team>>,
    /// All agents together.
    fleet: Option<Fleet>,
    /// Prices, by asset code.
    prices: Option<BTreeMap<String, Price>>,
    /// Planned changes.
    announcements: Option<Vec<Announcement>>,
}

/// The JSON Schema (draft 2020-12) of the whole file.
pub fn schema(registries: &Registries<'_>) -> Json {
    let mut root = host_schema::<Root>().to_value();
    let mut defs =
        root.get_mut("$defs").and_then(Json::as_object_mut).map(std::mem::take).unwrap_or_default();
    let sources = registries.sources.iter().map(|plugin| (plugin.name, plugin.summary, (plugin.schema)()));
    let sources = named_plugins("source", sources, &host_schema::<SourceCommon>(), &mut defs);
    let sinks = registries.sinks.iter().map(|plugin| (plugin.name, plugin.summary, (plugin.schema)()));
    let sinks = named_plugins("sink", sinks, &host_schema::<SinkCommon>(), &mut defs);
    let common = host_schema::<DetectorCommon>();
    let detectors = registries.detectors.iter().map(|plugin| {
        let reference = define("detector", plugin.name, (plugin.schema)(), &common, &mut defs);
        (plugin.name.to_owned(), described(reference, plugin.summary))
    });
    let detectors = Json::Object(detectors.collect());
    let properties = &mut root["properties"];
    properties["sources"] = section("Where payments come from, by name.", &sources);
    properties["sinks"] = section("Where notices go, by name.", &sinks);
    properties["detectors"] = json!({
        "type": "object",
        "description": "The detectors, by plugin.",
        "properties": detectors,
        "additionalProperties": false,
    });
    for shared in
        [host_schema::<SourceCommon>(), host_schema::<SinkCommon>(), host_schema::<DetectorCommon>()]
    {
        let own = shared.get("$defs").and_then(Json::as_object).cloned().unwrap_or_default();
        defs.extend(own);
    }
    root["$defs"] = Json::Object(defs);
    root
}

fn host_schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

fn section(description: &str, entry: &Json) -> Json {
    json!({ "type": "object", "description": description, "additionalProperties": entry })
}

fn described(reference: Json, summary: &str) -> Json {
    let mut schema = reference;
    schema["description"] = summary.into();
    schema
}

/// The schema of an entry whose key `plugin` chooses the rest.
fn named_plugins(
    kind: &str,
    plugins: impl Iterator<Item = (&'static str, &'static str, Schema)>,
    common: &Schema,
    defs: &mut Map<String, Json>,
) -> Json {
    let mut names = Vec::new();
    let mut choices = Vec::new();
    for (name, summary, schema) in plugins {
        let then = described(define(kind, name, schema, common, defs), summary);
        choices.push(json!({
            "if": { "properties": { "plugin": { "const": name } }, "required": ["plugin"] },
            "then": then,
        }));
        names.push(name);
    }
    json!({
        "type": "object",
        "properties": { "plugin": { "description": "The plugin.", "enum": names } },
        "required": ["plugin"],
        "allOf": choices,
    })
}

/// Puts a plugin's schema among the definitions, with the host's keys added, and returns a reference to it.
fn define(kind: &str, name: &str, schema: Schema, common: &Schema, defs: &mut Map<String, Json>) -> Json {
    let prefix = format!("{kind}.{name}");
    let mut own = schema.to_value();
    if !own.is_object() {
        own = json!({ "type": "object" });
    }
    rename_references(&mut own, &prefix);
    for key in ["$schema", "title"] {
        own.as_object_mut().map(|object| object.remove(key));
    }
    if let Some(Json::Object(inner)) = own.as_object_mut().and_then(|object| object.remove("$defs")) {
        defs.extend(inner.into_iter().map(|(key, value)| (format!("{prefix}.{key}"), value)));
    }
    let mut keys = common.get("properties").and_then(Json::as_object).cloned().unwrap_or_default();
    if kind != "detector" {
        keys.insert("plugin".to_owned(), json!({ "type": "string" }));
    }
    add_keys(&mut own, &keys);
    defs.insert(prefix.clone(), own);
    json!({ "$ref": format!("#/$defs/{prefix}") })
}

/// `#/$defs/X` becomes `#/$defs/<prefix>.X`, and `#` becomes the plugin's own definition.
fn rename_references(schema: &mut Json, prefix: &str) {
    match schema {
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Json::String(reference) if key == "$ref" => {
                        if let Some(name) = reference.strip_prefix("#/$defs/") {
                            *reference = format!("#/$defs/{prefix}.{name}");
                        } else if reference == "#" {
                            *reference = format!("#/$defs/{prefix}");
                        }
                    }
                    other => rename_references(other, prefix),
                }
            }
        }
        Json::Array(array) => array.iter_mut().for_each(|value| rename_references(value, prefix)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// Allows the host's keys in a plugin's table and refuses every key that neither knows. A plugin's own key wins.
fn add_keys(schema: &mut Json, keys: &Map<String, Json>) {
    let Some(object) = schema.as_object_mut() else { return };
    let mut composed = false;
    for combinator in ["allOf", "anyOf", "oneOf"] {
        for branch in object.get_mut(combinator).and_then(Json::as_array_mut).into_iter().flatten() {
            composed = true;
            add_keys(branch, keys);
        }
    }
    if composed && !object.contains_key("properties") {
        return;
    }
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    for (key, value) in keys {
        if let Some(properties) = properties.as_object_mut() {
            properties.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if !composed && !object.contains_key("$ref") && !object.contains_key("unevaluatedProperties") {
        object.entry("additionalProperties").or_insert(Json::Bool(false));
    }
}
