//! `support`: one document for whoever helps with a problem. Whatever could name a person, an agent, a payee, a host or a
//! secret is left out: what is not known to be harmless is replaced by what kind of thing it is.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::{Failure, Out};
use crate::config;
use crate::plugins::REGISTRIES;

/// Generations that are told.
const GENERATIONS: u32 = 20;
/// Keys of the configuration whose texts are words of railwatch's own.
const HARMLESS: [&str; 14] = [
    "plugin",
    "severity",
    "min_severity",
    "role",
    "timezone",
    "format",
    "preset",
    "kind",
    "direction",
    "period",
    "per",
    "scheme",
    "method",
    "encoding",
];

/// Options of `support`.
#[derive(Debug, Args)]
pub(crate) struct SupportArgs {
    /// Where to write it.
    #[arg(default_value = "railwatch-support.json")]
    path: PathBuf,
}

/// `support`.
pub(crate) fn support(config: &Path, args: &SupportArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = config::load_with(
        config,
        &REGISTRIES,
        &config::Options { offline: true, ..config::Options::beside(config) },
    );
    let mut document = Map::new();
    document.insert("railwatch".into(), env!("CARGO_PKG_VERSION").into());
    document.insert("system".into(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH).into());
    match &loaded {
        Ok(loaded) => {
            let shown = config::show_resolved(&loaded.config, &REGISTRIES);
            let table: toml::Table = shown.parse().map_err(anyhow::Error::from)?;
            document.insert("config".into(), redacted("", &serde_json::to_value(table).unwrap_or_default()));
            document.insert("warnings".into(), loaded.warnings.list.len().into());
            document.insert("store".into(), store(config));
            document.insert("daemon".into(), daemon(&Client::new(loaded)?));
        }
        // Diagnostics quote the configuration; who helps needs their number, the user sees them with `check`.
        Err(diagnostics) => drop(document.insert("config_errors".into(), diagnostics.list.len().into())),
    }
    let text = serde_json::to_string_pretty(&Value::Object(document)).map_err(anyhow::Error::from)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(&args.path).map_err(|error| {
            anyhow::anyhow!("{} cannot be written: {error}; choose another path", args.path.display())
        })?;
    writeln!(file, "{text}")?;
    out.document(&json!({ "written": args.path }))?;
    out.line(format!("wrote {}; read it before you pass it on", args.path.display()))
}

/// Sizes and counts.
fn store(config: &Path) -> Value {
    let read = || -> Result<Value, Failure> {
        let store = crate::cli::query::reader(config)?;
        let (span, totals, sizes) = (store.journal_span()?, store.outbox_totals()?, store.sizes()?);
        let generations: Vec<Value> = store
            .generations(GENERATIONS)?
            .iter()
            .map(|generation| json!({ "number": generation.number, "at": generation.at, "digest": generation.digest }))
            .collect();
        let rejects: Vec<Value> = store
            .reject_totals()?
            .into_iter()
            .enumerate()
            .map(|(at, (_, code, n))| json!({ "source": at, "code": code, "n": n }))
            .collect();
        Ok(json!({
            "journal": { "first": span.first, "last": span.last, "payments": span.payments_total },
            "outbox": { "waiting": totals.waiting, "sending": totals.sending, "dead": totals.dead, "unknown": totals.unknown },
            "sizes": format!("{sizes:?}"),
            "alerts_open": store.n_alerts_open()?,
            "generations": generations,
            "rejects": rejects,
        }))
    };
    read().unwrap_or_else(|failure| json!({ "error": without_names(&failure.message) }))
}

/// What a running railwatch says about itself.
fn daemon(client: &Client) -> Value {
    let status = match client.get("/v1/status") {
        Ok(status) => status,
        Err(failure) => return json!({ "error": without_names(&failure.message) }),
    };
    let sources = status["sources"].as_object().into_iter().flatten().map(|(_, source)| {
        let detail = without_names(source["detail"].as_str().unwrap_or_default());
        json!({ "phase": source["phase"], "failures": source["failures"], "detail": detail })
    });
    let scripts = status["scripts"].as_array().into_iter().flatten().map(|script| {
        let errors = script["last_errors"].as_array().into_iter().flatten();
        let errors: Vec<&Value> = errors.map(|error| &error["line"]).collect();
        json!({ "kind": script["kind"], "health": script["health"], "calls": script["calls"],
                "errors": script["errors"], "error_lines": errors })
    });
    json!({
        "generation": status["generation"],
        "subjects": status["subjects"],
        "sources": sources.collect::<Vec<_>>(),
        "scripts": scripts.collect::<Vec<_>>(),
        "fleet": client.get("/v1/fleet").map(|fleet| json!({
            "agents": fleet["agents"], "active": fleet["active"], "payments": fleet["payments"],
            "rails": fleet["rails"].as_array().map(Vec::len), "alerts_open": fleet["alerts_open"],
        })).unwrap_or_default(),
    })
}

/// A value of the configuration with only what is known to be harmless.
fn redacted(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(table) if matches!(key, "sources" | "sinks" | "prices") => {
            // Names are the user's own.
            let blocks =
                table.values().enumerate().map(|(at, block)| (format!("{key}-{at}"), redacted("", block)));
            Value::Object(blocks.collect())
        }
        Value::Object(table) if matches!(key, "match" | "map" | "labels") => {
            format!("<{} entries>", table.len()).into()
        }
        Value::Object(table) => {
            table.iter().map(|(key, value)| (key.clone(), redacted(key, value))).collect::<Map<_, _>>().into()
        }
        Value::Array(values) => values.iter().map(|value| redacted(key, value)).collect(),
        Value::String(text) if HARMLESS.contains(&key) || is_measure(text) => text.as_str().into(),
        Value::String(text) => format!("<text of {} characters>", text.chars().count()).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// True for numbers, durations, percentages and amounts, such as `15m`, `80%` and `$10,000.00 / month`.
fn is_measure(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let letters = text.chars().filter(|c| c.is_ascii_alphabetic()).count();
    let others = text.chars().all(|c| c.is_ascii_alphanumeric() || " .,%$/<>=".contains(c));
    digits > 0 && letters <= 5 && text.len() <= 24 && others
}

/// The words of a message without those that may name somebody: addresses, paths, quoted texts.
fn without_names(message: &str) -> String {
    let keep = |word: &&str| {
        word.chars().all(|c| c.is_ascii_alphabetic() || ".,;:()!?'-".contains(c))
            && word.matches(['.', ':']).count() <= 1
    };
    message.split_whitespace().map(|word| if keep(&word) { word } else { "…" }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_harmless_is_told() {
        let config = json!({
            "sources": { "acme-gate": { "plugin": "websocket", "url": "wss://user:pw@gate.acme.example/x?key=1",
                "backoff_max": "500ms", "secret": { "env": "ACME_KEY" } } },
            "agents": [{ "id": "billing-7", "team": "billing", "budget": "$10,000.00 / month",
                "match": { "evm.address": ["0xabc"] } }],
            "score": { "review_threshold": 0.7 },
        });
        let text = redacted("", &config).to_string();
        for secret in ["acme", "pw", "ACME", "billing-7", "0xabc", "evm.address"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for kept in ["websocket", "500ms", "$10,000.00 / month", "0.7"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn messages_lose_their_names() {
        let message =
            "cannot connect to wss://gate.acme.example/x: connection refused, trying 10.0.0.1:80 as \"bob\"";
        let text = without_names(message);
        assert_eq!(text, "cannot connect to … connection refused, trying … as …");
    }
}
