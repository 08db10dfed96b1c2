//! The HTTP API: what the command line and people's own programs ask a running railwatch.
//!
//! It listens on loopback unless configured otherwise. Requests that change something must carry the header
//! `X-Railwatch-By`, which a page in a browser cannot send across origins.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use railwatch_engine::SortBy;
use railwatch_model::{AgentId, SmolStr, Subject};
use railwatch_plugin::source::SourceStatus;
use railwatch_script::{ScriptStatus, StatusHandle};
use railwatch_store::AlertFilter;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::host::actions::Actions;
use crate::host::core::CoreHandle;
use crate::host::metrics::Metrics;
use crate::host::{Reload, Status, desk};

/// Rows that one answer may have.
const ROWS_MAX: u32 = 1000;

/// What the API's handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) core: CoreHandle,
    pub(crate) actions: Actions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) reload: tokio::sync::mpsc::Sender<Reload>,
}

/// The routes.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(api: Api) -> Router<S> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/agents", get(agents))
        .route("/v1/agents/{agent}", get(agent))
        .route("/v1/alerts", get(alerts))
        .route("/v1/alerts/{alert}", get(alert))
        .route("/v1/alerts/{alert}/acknowledge", post(acknowledge))
        .route("/v1/alerts/{alert}/resolve", post(resolve))
        .route("/v1/rejects", get(rejects))
        .route("/v1/outbox", get(outbox))
        .route("/v1/outbox/{id}/{verb}", post(change_outbox))
        .route("/v1/reload", post(reload))
        .merge(desk::router())
        .with_state(api)
}

/// An error as `application/problem+json` (RFC 9457).
pub(crate) struct Problem(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "title": self.0.canonical_reason(), "status": self.0.as_u16(), "detail": self.1 });
        (self.0, [("content-type", "application/problem+json")], body.to_string()).into_response()
    }
}

pub(crate) type Answer<T> = Result<Json<T>, Problem>;

fn stopping() -> Problem {
    Problem(StatusCode::SERVICE_UNAVAILABLE, "railwatch is stopping".to_owned())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    limit: Option<u32>,
    sort: Option<String>,
    all: Option<bool>,
    agent: Option<String>,
}

impl Listing {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).min(ROWS_MAX)
    }
}

async fn ready(State(api): State<Api>) -> Response {
    let healthy = api.metrics.store_healthy.get() == 1;
    let failed: Vec<String> = failed_sources(&api.status.borrow());
    if healthy && failed.is_empty() {
        return "ready\n".into_response();
    }
    let mut reasons = failed;
    if !healthy {
        reasons.push("the store cannot be written".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

fn failed_sources(status: &Status) -> Vec<String> {
    let failed = status
        .sources
        .iter()
        .filter(|(_, source)| source.borrow().phase == railwatch_plugin::source::Phase::Failed);
    failed.map(|(name, source)| format!("source {name}: {}", source.borrow().detail)).collect()
}

async fn metrics(State(api): State<Api>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", content_type)], api.metrics.render()).into_response()
}

#[derive(Debug, Serialize)]
struct StatusAnswer {
    generation: u64,
    digest: SmolStr,
    subjects: usize,
    sources: BTreeMap<SmolStr, SourceStatus>,
    sinks: Vec<SmolStr>,
    scripts: Vec<ScriptStatus>,
}

async fn status(State(api): State<Api>) -> Answer<StatusAnswer> {
    let (generation, digest, subjects) = api
        .core
        .look(|engine| (engine.generation(), SmolStr::new(engine.digest()), engine.subjects_len()))
        .await
        .ok_or_else(stopping)?;
    let status = api.status.borrow();
    let sources =
        status.sources.iter().map(|(name, source)| (name.clone(), source.borrow().clone())).collect();
    let scripts = status.scripts.iter().flat_map(StatusHandle::status).collect();
    Ok(Json(StatusAnswer { generation, digest, subjects, sources, sinks: status.sinks.clone(), scripts }))
}

async fn agents(
    State(api): State<Api>,
    Query(listing): Query<Listing>,
) -> Answer<Vec<railwatch_engine::SubjectView>> {
    let sort = match listing.sort.as_deref() {
        None | Some("score") => SortBy::Score,
        Some("spend") => SortBy::Spend,
        Some("recent") => SortBy::Recent,
        Some(other) => {
            let detail = format!("cannot sort by {other:?}; use score, spend or recent");
            return Err(Problem(StatusCode::BAD_REQUEST, detail));
        }
    };
    let limit = listing.limit() as usize;
    api.core.look(move |engine| engine.agents(sort, limit)).await.map(Json).ok_or_else(stopping)
}

async fn agent(State(api): State<Api>, Path(agent): Path<String>) -> Answer<railwatch_engine::SubjectView> {
    let Some(id) = AgentId::new(agent.as_str()) else {
        return Err(Problem(StatusCode::BAD_REQUEST, "not an agent's name".to_owned()));
    };
    let view = api.core.look(move |engine| engine.view(&Subject::Agent(id))).await.ok_or_else(stopping)?;
    view.map(Json).ok_or_else(|| Problem(StatusCode::NOT_FOUND, format!("no agent {agent:?} is active")))
}

async fn alerts(
    State(api): State<Api>,
    Query(listing): Query<Listing>,
) -> Answer<Vec<railwatch_model::Alert>> {
    let limit = listing.limit();
    let filter = AlertFilter {
        open_only: !listing.all.unwrap_or(false),
        subject: listing.agent.map(|agent| SmolStr::new(format!("agent:{agent}"))),
        ..AlertFilter::default()
    };
    Ok(Json(api.actions.read(move |store| store.alerts(&filter, limit)).await?.items))
}

async fn alert(State(api): State<Api>, Path(alert): Path<String>) -> Answer<railwatch_model::Alert> {
    Ok(Json(api.actions.alert(&alert).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Note {
    note: Option<SmolStr>,
}

async fn acknowledge(
    State(api): State<Api>,
    Path(alert): Path<String>,
    headers: HeaderMap,
    Json(note): Json<Note>,
) -> Answer<railwatch_model::Alert> {
    Ok(Json(api.actions.acknowledge(actor(&headers)?, &alert, note.note).await?))
}

async fn resolve(
    State(api): State<Api>,
    Path(alert): Path<String>,
    headers: HeaderMap,
    Json(note): Json<Note>,
) -> Answer<railwatch_model::Alert> {
    Ok(Json(api.actions.resolve(actor(&headers)?, &alert, note.note).await?))
}

/// Who asks.
pub(crate) fn actor(headers: &HeaderMap) -> Result<SmolStr, Problem> {
    let by = headers.get("x-railwatch-by").and_then(|value| value.to_str().ok()).map(str::trim);
    match by {
        Some(by) if !by.is_empty() && by.len() <= 100 => Ok(by.into()),
        _ => {
            let detail = "say who you are in the header X-Railwatch-By (1 to 100 characters)";
            Err(Problem(StatusCode::BAD_REQUEST, detail.to_owned()))
        }
    }
}

async fn rejects(State(api): State<Api>, Query(listing): Query<Listing>) -> Answer<Vec<serde_json::Value>> {
    let limit = listing.limit();
    let rejects = api.actions.read(move |store| store.rejects(limit)).await?;
    Ok(Json(rejects.iter().map(crate::cli::reject_json).collect()))
}

async fn outbox(State(api): State<Api>, Query(listing): Query<Listing>) -> Answer<Vec<serde_json::Value>> {
    let limit = listing.limit();
    let entries = api.actions.read(move |store| store.outbox(None, limit)).await?;
    Ok(Json(entries.iter().map(crate::cli::outbox_json).collect()))
}

async fn change_outbox(
    State(api): State<Api>,
    Path((id, verb)): Path<(i64, String)>,
    headers: HeaderMap,
) -> Answer<serde_json::Value> {
    api.actions.change_outbox(actor(&headers)?, id, &verb).await?;
    Ok(Json(json!({ "id": id, "done": verb })))
}

async fn reload(State(api): State<Api>, headers: HeaderMap) -> Result<Json<serde_json::Value>, Problem> {
    let by = actor(&headers)?;
    let (done, result) = tokio::sync::oneshot::channel();
    api.reload.send(Reload { by, done: Some(done) }).await.map_err(|_| stopping())?;
    match result.await {
        Ok(Ok(report)) => Ok(Json(report)),
        Ok(Err(diagnostics)) => Err(Problem(StatusCode::UNPROCESSABLE_ENTITY, diagnostics)),
        Err(_) => Err(stopping()),
    }
}
