//! `reload`, `rollback`, `diff`, `config history`, `shadow report`: what is in force, what was, and what would be.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::query::{reader, time};
use crate::cli::{EXIT_FAILURE, Failure, Out, run};
use crate::documents::{Attempt, EdgesChanged, ShadowRow, by_rule, changes};
use crate::host::{Content, FIRINGS_MAX, SHADOW, content};

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
    let changes = changes(old.texts(), new.texts());
    for change in &changes {
        out.document(change)?;
        out.line(change.unified(&format!("generation {from}"), &name).trim_end())?;
    }
    if changes.is_empty() {
        out.line(format!("{name} and generation {from} are the same"))?;
    }
    Ok(())
}

/// `config history`: every generation, and every attempt that failed, newest first.
pub(crate) fn history(config: &Path, limit: u32, out: &mut Out) -> Result<(), Failure> {
    let store = reader(config)?;
    let failed = store.audit_of(Some("reload.failed"), limit)?;
    let mut rows = Vec::new();
    for attempt in Attempt::merge(store.generations(limit)?, failed, limit) {
        out.document(&attempt)?;
        rows.push(vec![
            attempt.generation.map_or_else(|| "failed".to_owned(), |number| number.to_string()),
            time(attempt.at),
            attempt.by.to_string(),
            attempt.digest.as_deref().unwrap_or("-").chars().take(12).collect(),
            outcome(&attempt),
        ]);
    }
    out.table(&["generation", "at", "by", "digest", "outcome"], &rows)
}

/// What an attempt changed at the edges, or its first error.
fn outcome(attempt: &Attempt) -> String {
    if let Some(error) = &attempt.error {
        return error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    }
    let changed = attempt.edges.iter().flat_map(EdgesChanged::named);
    changed.map(|(what, names)| format!("{what} {}", names.join(", "))).collect::<Vec<_>>().join("; ")
}

/// `shadow report`: what the rules and scores in shadow would have told.
pub(crate) fn shadow(config: &Path, rule: Option<&str>, out: &mut Out) -> Result<(), Failure> {
    let mut by_rule = by_rule(reader(config)?.audit_of(Some(SHADOW), FIRINGS_MAX)?);
    by_rule.retain(|name, _| rule.is_none_or(|rule| rule == name));
    let mut rows = Vec::new();
    for (name, firings) in &by_rule {
        let Some(row) = ShadowRow::new(name, firings) else { continue };
        out.document(&row)?;
        rows.push(vec![
            name.clone(),
            row.firings.to_string(),
            row.subjects.len().to_string(),
            time(row.first_at),
            time(row.last_at),
            row.last_why,
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
