//! `reload`, `rollback`, `diff`, `config history`, `shadow report`: what is in force, what was, and what would be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Args;
use railwatch_model::Timestamp;
use railwatch_store::{AuditEntry, Generation};
use serde_json::{Value, json};
use similar::TextDiff;

use crate::cli::client::Client;
use crate::cli::query::{reader, time};
use crate::cli::{EXIT_FAILURE, Failure, Out, run};
use crate::host::{Content, SHADOW, content};

/// Generations that are looked through for the one to go back to.
const GENERATIONS_MAX: u32 = 1_000;

/// Options of `reload`.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Wait for the outcome; a failure ends with exit code 1 and the diagnostics. `--wait=false` only asks.
    #[arg(
        long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    wait: bool,
}

/// `reload`.
pub(crate) fn reload(config: &Path, args: &ReloadArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::open(config)?;
    let report = client.post("/v1/reload", &json!({ "wait": args.wait }))?;
    out.document(&report)?;
    if !args.wait {
        return out.line("asked; `railwatch config history` shows what came of it");
    }
    let what = if report["changed"] == true { "in force" } else { "in force already, nothing changed" };
    out.line(format!("generation {} is {what}", report["generation"]))
}

/// `rollback`: to a recorded generation, or to the one before that in force.
pub(crate) fn rollback(config: &Path, to: Option<u64>, out: &mut Out) -> Result<(), Failure> {
    let client = Client::open(config)?;
    let to = match to {
        Some(to) => to,
        None => before_the_last(config)?,
    };
    let report = client.post("/v1/reload", &json!({ "to": to }))?;
    out.document(&report)?;
    out.line(format!(
        "generation {} is in force, with the content of generation {to}",
        report["generation"]
    ))?;
    out.line("The files are as they were: `railwatch diff` shows how they differ, and `railwatch reload` takes them.")
}

/// The newest generation whose content is not that of the last one.
fn before_the_last(config: &Path) -> Result<u64, Failure> {
    let generations = reader(config)?.generations(GENERATIONS_MAX)?;
    let last = generations.first().map(|last| last.digest.clone());
    let earlier = generations.iter().find(|generation| Some(&generation.digest) != last.as_ref());
    earlier.map(|generation| generation.number).ok_or_else(|| Failure {
        code: EXIT_FAILURE,
        message: "there is no earlier generation to go back to".to_owned(),
    })
}

/// `diff`: between two generations, or between one and the files.
pub(crate) fn diff(config: &Path, from: Option<u64>, to: Option<u64>, out: &mut Out) -> Result<(), Failure> {
    let store = reader(config)?;
    let from = match from {
        Some(from) => from,
        None => store.generations(1)?.first().map_or(0, |last| last.number),
    };
    let old = content(&store, from)?;
    let (new, name) = match to {
        Some(to) => (content(&store, to)?, format!("generation {to}")),
        None => (Content::of(&run::load(config, true)?), "files".to_owned()),
    };
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.texts().collect(), new.texts().collect());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut n_changed = 0;
    for file in names {
        let (before, after) = (old.get(file).copied(), new.get(file).copied());
        if before == after {
            continue;
        }
        n_changed += 1;
        out.document(&json!({ "file": file, "before": before, "after": after }))?;
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let header = (format!("generation {from}: {file}"), format!("{name}: {file}"));
        let diff = TextDiff::from_lines(before, after);
        out.line(diff.unified_diff().context_radius(3).header(&header.0, &header.1).to_string().trim_end())?;
    }
    if n_changed == 0 {
        out.line(format!("{name} and generation {from} are the same"))?;
    }
    Ok(())
}

/// `config history`: every generation, and every attempt that failed, newest first.
pub(crate) fn history(config: &Path, limit: u32, out: &mut Out) -> Result<(), Failure> {
    let store = reader(config)?;
    let mut lines: Vec<(Timestamp, Value)> = Vec::new();
    for generation in store.generations(limit)? {
        let Generation { number, at, digest, outcome, .. } = generation;
        lines.push((
            at,
            json!({ "generation": number, "at": at, "digest": digest, "by": outcome["by"], "edges": outcome["edges"] }),
        ));
    }
    for AuditEntry { at, by, detail, .. } in store.audit_of(Some("reload.failed"), limit)? {
        lines.push((at, json!({ "generation": null, "at": at, "by": by, "error": detail["error"] })));
    }
    lines.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    lines.truncate(limit as usize);
    let mut rows = Vec::new();
    for (at, line) in &lines {
        out.document(line)?;
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        rows.push(vec![
            line["generation"].as_u64().map_or_else(|| "failed".to_owned(), |number| number.to_string()),
            time(*at),
            text("by"),
            text("digest").chars().take(12).collect(),
            outcome(line),
        ]);
    }
    out.table(&["generation", "at", "by", "digest", "outcome"], &rows)
}

/// What an attempt changed at the edges, or its first error.
fn outcome(line: &Value) -> String {
    if let Some(error) = line["error"].as_str() {
        return error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    }
    let edges = line["edges"].as_object().into_iter().flatten();
    let changed = edges.filter_map(|(what, names)| {
        let names: Vec<&str> = names.as_array()?.iter().filter_map(Value::as_str).collect();
        (!names.is_empty()).then(|| format!("{} {}", what.replace('_', " "), names.join(", ")))
    });
    changed.collect::<Vec<_>>().join("; ")
}

/// Firings that one report looks at.
const FIRINGS_MAX: u32 = 10_000;

/// `shadow report`: what the rules and scores in shadow would have told.
pub(crate) fn shadow(config: &Path, rule: Option<&str>, out: &mut Out) -> Result<(), Failure> {
    let mut by_rule: BTreeMap<String, Vec<AuditEntry>> = BTreeMap::new();
    for firing in reader(config)?.audit_of(Some(SHADOW), FIRINGS_MAX)? {
        let name = firing.by.trim_start_matches("rule:").to_owned();
        if rule.is_none_or(|rule| rule == name) {
            by_rule.entry(name).or_default().push(firing);
        }
    }
    let mut rows = Vec::new();
    for (name, firings) in &by_rule {
        let subjects: BTreeSet<&String> = firings.iter().map(|firing| &firing.subject).collect();
        let (Some(last), Some(first)) = (firings.first(), firings.last()) else { continue };
        out.document(&json!({
            "rule": name, "firings": firings.len(), "subjects": subjects, "first_at": first.at, "last_at": last.at,
            "last_subject": last.subject, "last_why": last.detail,
        }))?;
        rows.push(vec![
            name.clone(),
            firings.len().to_string(),
            subjects.len().to_string(),
            time(first.at),
            time(last.at),
            last.detail.as_str().unwrap_or_default().to_owned(),
        ]);
    }
    out.table(&["in shadow", "would have fired", "subjects", "first", "last", "the last time"], &rows)?;
    for firing in by_rule.values().flatten().filter(|_| rule.is_some()) {
        out.line(format!(
            "{} {}: {}",
            time(firing.at),
            firing.subject,
            firing.detail.as_str().unwrap_or_default()
        ))?;
    }
    if by_rule.is_empty() {
        out.line("nothing that runs in shadow would have fired")?;
    }
    Ok(())
}
