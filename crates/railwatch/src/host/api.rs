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
use railwatch_model::{Action, AgentId, AlertId, AlertState, IncidentId, SmolStr, Subject};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::source::SourceStatus;
use railwatch_script::{ScriptStatus, StatusHandle};
use railwatch_store::{AlertFilter, AuditEntry, Reader, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::host::core::CoreHandle;
use crate::host::journal::Journal;
use crate::host::metrics::Metrics;
use crate::host::{Reload, Status};

/// Rows that one answer may have.
const ROWS_MAX: u32 = 1000;

/// What the API's handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) core: CoreHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) store_path: Arc<std::path::Path>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) reload: tokio::sync::mpsc::Sender<Reload>,
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<dyn Clock>,
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
        .with_state(api)
}

/// An error as `application/problem+json` (RFC 9457).
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "title": self.0.canonical_reason(), "status": self.0.as_u16(), "detail": self.1 });
        (self.0, [("content-type", "application/problem+json")], body.to_string()).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

type Answer<T> = Result<Json<T>, Problem>;

fn stopping() -> Problem {
    Problem(StatusCode::SERVICE_UNAVAILABLE, "railwatch is stopping".to_owned())
}

#[derive(Debug, Deserialize)]
struct Listing {
    limit: Option<u32>,
    sort: Option<String>,
    all: Option<bool>,
    agent: Option<String>,
}

impl Listing {
    fn limit(&self) -> u32 {
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

/// Reads the store on a thread of its own, so that a slow disk delays nobody else.
async fn read<T: Send + 'static>(
    api: &Api,
    read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let path = api.store_path.clone();
    let task = tokio::task::spawn_blocking(move || read(&Store::open_read_only(&path)?));
    Ok(task.await.map_err(|_| stopping())??)
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
    Ok(Json(read(&api, move |store| store.alerts(&filter, limit)).await?.items))
}

async fn find_alert(api: &Api, alert: String) -> Result<railwatch_model::Alert, Problem> {
    let id = AlertId(alert.as_str().into());
    let found = read(api, move |store| store.alert(&id)).await?;
    found.ok_or_else(|| Problem(StatusCode::NOT_FOUND, format!("there is no alert {alert}")))
}

async fn alert(State(api): State<Api>, Path(alert): Path<String>) -> Answer<railwatch_model::Alert> {
    Ok(Json(find_alert(&api, alert).await?))
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
    act(&api, alert, &headers, |incident| Action::Acknowledge { incident, note: note.note }).await
}

async fn resolve(
    State(api): State<Api>,
    Path(alert): Path<String>,
    headers: HeaderMap,
    Json(note): Json<Note>,
) -> Answer<railwatch_model::Alert> {
    act(&api, alert, &headers, |incident| Action::Resolve { incident, note: note.note }).await
}

async fn act(
    api: &Api,
    alert: String,
    headers: &HeaderMap,
    action: impl FnOnce(IncidentId) -> Action,
) -> Answer<railwatch_model::Alert> {
    let by = actor(headers)?;
    let found = find_alert(api, alert.clone()).await?;
    if found.state == AlertState::Resolved {
        return Err(Problem(StatusCode::CONFLICT, format!("alert {alert} is resolved already")));
    }
    if !api.core.act(by, action(found.incident)).await {
        return Err(stopping());
    }
    Ok(Json(find_alert(api, alert).await?))
}

fn actor(headers: &HeaderMap) -> Result<SmolStr, Problem> {
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
    let rejects = read(&api, move |store| store.rejects(limit)).await?;
    Ok(Json(rejects.iter().map(crate::cli::reject_json).collect()))
}

async fn outbox(State(api): State<Api>, Query(listing): Query<Listing>) -> Answer<Vec<serde_json::Value>> {
    let limit = listing.limit();
    let entries = read(&api, move |store| store.outbox(None, limit)).await?;
    Ok(Json(entries.iter().map(crate::cli::outbox_json).collect()))
}

async fn change_outbox(
    State(api): State<Api>,
    Path((id, verb)): Path<(i64, String)>,
    headers: HeaderMap,
) -> Answer<serde_json::Value> {
    let by = actor(&headers)?;
    let at = api.clock.now();
    let change = match verb.as_str() {
        "retry" => Store::retry_outbox,
        "drop" => Store::drop_outbox,
        other => return Err(Problem(StatusCode::NOT_FOUND, format!("{other:?} is not retry or drop"))),
    };
    let what = SmolStr::new(format!("outbox.{verb}"));
    let entry = AuditEntry { at, by, what, subject: id.to_string(), detail: serde_json::Value::Null };
    let changed = api.journal.run(move |store| {
        change(store, id, at)?;
        store.record_audit(&entry)
    });
    changed.await.ok_or_else(stopping)?.map_err(|error| Problem(StatusCode::CONFLICT, error.to_string()))?;
    api.journal.outbox.notify_waiters();
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
