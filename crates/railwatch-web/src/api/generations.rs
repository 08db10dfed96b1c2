//! Configuration generations: what was in force when, and who changed it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use railwatch_model::{SmolStr, Timestamp};
use railwatch_store::Generation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::list::Page;
use crate::problem::{Answer, Ask, Named, Problem};
use crate::site::Site;

/// How many generations to list.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GenerationQuery {
    /// How many; 50 by default.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

/// A generation in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GenerationBrief {
    /// Its number.
    number: u64,
    /// When it was put in force.
    at: Timestamp,
    /// The hash of its content.
    digest: SmolStr,
    /// Who did it, and what it started and ended.
    outcome: Value,
}

/// A generation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GenerationDetail {
    /// As in the list.
    #[serde(flatten)]
    brief: GenerationBrief,
    /// Its files.
    files: Vec<ConfigFile>,
}

/// A file of a configuration.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ConfigFile {
    /// Where it was read.
    path: String,
    /// What was in it.
    text: String,
}

impl GenerationBrief {
    fn new(generation: &Generation) -> Self {
        Self {
            number: generation.number,
            at: generation.at,
            digest: generation.digest.clone(),
            outcome: generation.outcome.clone(),
        }
    }
}

pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Ask(query): Ask<GenerationQuery>,
) -> Answer<Json<Page<GenerationBrief>>> {
    let limit = query.limit.unwrap_or(50).clamp(1, crate::list::PAGE_MAX);
    let generations = site.read(move |store| store.generations(limit)).await?;
    let items: Vec<GenerationBrief> = generations.iter().map(GenerationBrief::new).collect();
    Ok(Json(Page { total: items.len(), items, next: None }))
}

pub(crate) async fn one(
    State(site): State<Arc<Site>>,
    Named(number): Named<String>,
) -> Answer<Json<GenerationDetail>> {
    let missing = || Problem::missing(format!("there is no generation {number}; see /v1/generations"));
    let parsed: u64 = number.parse().ok().filter(|n| *n <= i64::MAX.cast_unsigned()).ok_or_else(missing)?;
    let found = site.read(move |store| store.generation(parsed)).await?.ok_or_else(missing)?;
    let brief = GenerationBrief::new(&found);
    let files = serde_json::from_value(found.content).unwrap_or_default();
    Ok(Json(GenerationDetail { brief, files }))
}
