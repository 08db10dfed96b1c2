//! The part of the HTTP API that is about the host itself: status, rejects, outbox, reload, metrics and health. What
//! people do about alerts is in `desk`; the rest is in `railwatch-web`, whose guard every request passes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get as route_get;
use axum::{Json, Router};
use railwatch_model::SmolStr;
use railwatch_plugin::source::SourceStatus;
use railwatch_script::ScriptStatus;
use railwatch_web::{Answer, Ask, Endpoints, Named, Problem, Told, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::documents::{OutboxRow, RejectRow, ReloadReport};
use crate::host::actions::Actions;
use crate::host::core::CoreHandle;
use crate::host::eval::{Evaluated, Question, evaluate};
use crate::host::metrics::Metrics;
use crate::host::{Reload, Status, desk, history};

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

/// The endpoints that the API describes, and the routes beside them.
pub(crate) fn routes(api: Api) -> (Endpoints<()>, Router) {
    let described = desk::endpoints()
        .merge(history::endpoints())
        .add(
            get::<StatusAnswer>("/v1/status", "Sources, sinks, scripts and the generation in force."),
            status,
        )
        .add(
            get::<Vec<RejectRow>>("/v1/rejects", "Parts of messages that were not understood, newest first.")
                .query::<Listing>(),
            rejects,
        )
        .add(
            get::<Vec<OutboxRow>>("/v1/outbox", "Notices on their way to sinks, newest first.")
                .query::<Listing>(),
            outbox,
        )
        .add(
            post::<Nothing, OutboxDone>(
                "/v1/outbox/{id}/{verb}",
                "Try a notice again (retry) or give it up (drop).",
            ),
            change_outbox,
        )
        .add(
            post::<ReloadRequest, ReloadReport>(
                "/v1/reload",
                "Put the files, or a recorded generation, in force.",
            ),
            reload,
        )
        .add(
            post::<Question, Evaluated>(
                "/v1/evaluate",
                "An expression of the script API on an agent's live state.",
            ),
            evaluate,
        )
        .with_state(api.clone());
    let others = Router::new()
        .route("/healthz", route_get(|| async { "ok\n" }))
        .route("/readyz", route_get(ready))
        .route("/metrics", route_get(metrics))
        .with_state(api);
    (described, others)
}

pub(crate) type JsonAnswer<T> = Answer<Json<T>>;

/// An empty object.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Nothing {}

/// How much to list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// How many; 100 by default.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

impl Listing {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, ROWS_MAX)
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
    api.metrics.scripts(&api.status.borrow().scripts());
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", content_type)], api.metrics.render()).into_response()
}

/// How railwatch is.
#[derive(Debug, Serialize, JsonSchema)]
struct StatusAnswer {
    /// The generation of the configuration in force.
    generation: u64,
    /// The hash of its content.
    digest: SmolStr,
    /// Agents, teams and others that are in memory.
    subjects: usize,
    /// The sources, by name.
    sources: BTreeMap<SmolStr, SourceStatus>,
    /// The sinks that run.
    sinks: Vec<SmolStr>,
    /// Rules, scores and decoders.
    scripts: Vec<ScriptStatus>,
}

/// What was done to a notice.
#[derive(Debug, Serialize, JsonSchema)]
struct OutboxDone {
    /// The notice's number in the outbox.
    id: i64,
    /// `retry` or `drop`.
    done: String,
}

async fn status(State(api): State<Api>) -> JsonAnswer<StatusAnswer> {
    let (generation, digest, subjects) = api
        .core
        .look(|engine| (engine.generation(), SmolStr::new(engine.digest()), engine.subjects_len()))
        .await
        .ok_or_else(Problem::stopping)?;
    let status = api.status.borrow();
    let sources =
        status.sources.iter().map(|(name, source)| (name.clone(), source.borrow().clone())).collect();
    let scripts = status.scripts();
    Ok(Json(StatusAnswer { generation, digest, subjects, sources, sinks: status.sinks.clone(), scripts }))
}

/// Who asks.
pub(crate) fn actor(headers: &HeaderMap) -> Answer<SmolStr> {
    let by = headers.get(railwatch_web::BY).and_then(|value| value.to_str().ok()).map(str::trim);
    match by {
        Some(by) if !by.is_empty() && by.len() <= 100 => Ok(by.into()),
        _ => {
            let detail = "say who you are in the header X-Railwatch-By (1 to 100 characters)";
            Err(Problem::bad(detail))
        }
    }
}

async fn rejects(State(api): State<Api>, Ask(listing): Ask<Listing>) -> JsonAnswer<Vec<RejectRow>> {
    let limit = listing.limit();
    let rejects = api.actions.read(move |store| store.rejects(limit)).await?;
    Ok(Json(rejects.iter().map(RejectRow::new).collect()))
}

async fn outbox(State(api): State<Api>, Ask(listing): Ask<Listing>) -> JsonAnswer<Vec<OutboxRow>> {
    let limit = listing.limit();
    let entries = api.actions.read(move |store| store.outbox(None, limit)).await?;
    Ok(Json(entries.iter().map(OutboxRow::new).collect()))
}

async fn change_outbox(
    State(api): State<Api>,
    Named((id, verb)): Named<(i64, String)>,
    headers: HeaderMap,
) -> JsonAnswer<OutboxDone> {
    api.actions.change_outbox(actor(&headers)?, id, &verb).await?;
    Ok(Json(OutboxDone { id, done: verb }))
}

/// What is asked of a reload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReloadRequest {
    /// A generation to go back to; the files without one.
    to: Option<u64>,
    /// False to ask and not wait for the outcome.
    wait: bool,
}

impl Default for ReloadRequest {
    fn default() -> Self {
        Self { to: None, wait: true }
    }
}

async fn reload(
    State(api): State<Api>,
    headers: HeaderMap,
    Told(request): Told<ReloadRequest>,
) -> JsonAnswer<ReloadReport> {
    let by = actor(&headers)?;
    let (done, result) = tokio::sync::oneshot::channel();
    let wish = Reload { by, to: request.to, done: request.wait.then_some(done) };
    api.reload.send(wish).await.map_err(|_| Problem::stopping())?;
    if !request.wait {
        return Ok(Json(ReloadReport::default()));
    }
    match result.await {
        Ok(Ok(report)) => Ok(Json(report)),
        Ok(Err(diagnostics)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, diagnostics)),
        Err(_) => Err(Problem::stopping()),
    }
}
