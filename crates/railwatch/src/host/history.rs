//! The API's part about what was in force when: generations, how they differ, reloads that failed, and what runs in
//! shadow.

use axum::Json;
use axum::extract::State;
use railwatch_web::{Answer, Ask, Endpoints, Named, Page, Problem, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::documents::{Attempt, ConfigFile, FileChange, ShadowRow, by_rule, changes};
use crate::host::api::{Api, JsonAnswer, Listing};
use crate::host::generation::{self, Content};
use crate::host::journal::SHADOW;

/// Firings that one report looks at.
pub(crate) const FIRINGS_MAX: u32 = 10_000;

/// The endpoints.
pub(crate) fn endpoints() -> Endpoints<Api> {
    Endpoints::default()
        .add(
            get::<Page<Attempt>>("/v1/generations", "Configurations that were put in force, newest first.")
                .query::<Listing>(),
            generations,
        )
        .add(
            get::<GenerationDetail>(
                "/v1/generations/{number}",
                "One configuration with its files. Secrets are references, so that none is in it.",
            ),
            one,
        )
        .add(
            get::<Vec<FileDiff>>(
                "/v1/generations/{number}/diff",
                "The files in which a generation differs from another one.",
            )
            .query::<Against>(),
            diff,
        )
        .add(
            get::<Vec<Attempt>>("/v1/reloads", "Generations and attempts that failed, newest first.")
                .query::<Listing>(),
            reloads,
        )
        .add(get::<Vec<ShadowRow>>("/v1/shadow", "What runs in shadow would have told."), shadow)
}

/// A generation.
#[derive(Debug, Serialize, JsonSchema)]
struct GenerationDetail {
    /// As in the list.
    #[serde(flatten)]
    made: Attempt,
    /// Its files; none if they were too large to keep.
    files: Vec<ConfigFile>,
}

/// How one file differs.
#[derive(Debug, Serialize, JsonSchema)]
struct FileDiff {
    /// The file.
    file: String,
    /// A unified diff.
    diff: String,
}

/// What to compare with.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Against {
    /// The older generation; the one before by default.
    #[schemars(range(min = 0))]
    from: Option<u64>,
}

async fn generations(State(api): State<Api>, Ask(listing): Ask<Listing>) -> JsonAnswer<Page<Attempt>> {
    let limit = listing.limit();
    let generations = api.actions.read(move |store| store.generations(limit)).await?;
    let items: Vec<Attempt> = generations.into_iter().map(Attempt::made).collect();
    Ok(Json(Page { total: items.len(), items, next: None }))
}

fn numbered(number: &str) -> Answer<u64> {
    let missing = || Problem::missing(format!("there is no generation {number}; see /v1/generations"));
    number.parse().ok().filter(|number| i64::try_from(*number).is_ok()).ok_or_else(missing)
}

async fn one(State(api): State<Api>, Named(number): Named<String>) -> JsonAnswer<GenerationDetail> {
    let parsed = numbered(&number)?;
    let found = api.actions.read(move |store| store.generation(parsed)).await?;
    let mut found = found.ok_or_else(|| Problem::missing(format!("there is no generation {number}")))?;
    let content: Content = serde_json::from_value(found.content.take()).unwrap_or_default();
    let file = |(path, text): (String, &str)| ConfigFile { path, text: text.to_owned() };
    let files = content.texts().map(file).collect();
    Ok(Json(GenerationDetail { made: Attempt::made(found), files }))
}

async fn diff(
    State(api): State<Api>,
    Named(number): Named<String>,
    Ask(against): Ask<Against>,
) -> JsonAnswer<Vec<FileDiff>> {
    let to = numbered(&number)?;
    let from = against.from.unwrap_or(to.saturating_sub(1));
    numbered(&from.to_string())?;
    let read = move |store: &railwatch_store::Reader| {
        Ok(generation::content(store, from).and_then(|old| Ok((old, generation::content(store, to)?))))
    };
    let contents = api.actions.read(read).await?;
    let (old, new) = contents.map_err(|error| Problem::missing(error.to_string()))?;
    let names = (format!("generation {from}"), format!("generation {to}"));
    let told = |change: FileChange| {
        let diff = change.unified(&names.0, &names.1);
        FileDiff { file: change.file, diff }
    };
    Ok(Json(changes(old.texts(), new.texts()).into_iter().map(told).collect()))
}

async fn reloads(State(api): State<Api>, Ask(listing): Ask<Listing>) -> JsonAnswer<Vec<Attempt>> {
    let limit = listing.limit();
    let read = move |store: &railwatch_store::Reader| {
        Ok(Attempt::merge(store.generations(limit)?, store.audit_of(Some("reload.failed"), limit)?, limit))
    };
    Ok(Json(api.actions.read(read).await?))
}

async fn shadow(State(api): State<Api>) -> JsonAnswer<Vec<ShadowRow>> {
    let firings = api.actions.read(|store| store.audit_of(Some(SHADOW), FIRINGS_MAX)).await?;
    let rows = by_rule(firings);
    Ok(Json(rows.iter().filter_map(|(rule, firings)| ShadowRow::new(rule, firings)).collect()))
}
