//! The API's part for people who look after alerts: silences, reviews and labels, tests of sinks.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use railwatch_model::{Alert, ReviewVerdict, Silence, SmolStr, Timestamp};
use railwatch_store::{LabelCounts, Labelling};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::tune;
use crate::host::actions::{Preview, Refusal, SilenceWish};
use crate::host::api::{Answer, Api, Listing, Problem, actor};

/// Labels that a suggestion is made from: the latest ones.
const LABELS_MAX: u32 = 5_000;

/// The routes.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/v1/silences", get(silences).post(silence))
        .route("/v1/silences/preview", post(preview))
        .route("/v1/silences/{silence}/expire", post(unsilence))
        .route("/v1/reviews", get(reviews))
        .route("/v1/reviews/precision", get(precision))
        .route("/v1/reviews/tune/{trigger}", get(tuning))
        .route("/v1/alerts/{alert}/label", post(label))
        .route("/v1/sinks/{sink}/test", post(test))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Wrong(_) => StatusCode::BAD_REQUEST,
            Refusal::Missing(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, refusal.to_string())
    }
}

async fn silences(State(api): State<Api>) -> Answer<Vec<Silence>> {
    Ok(Json(api.actions.silences().await?))
}

async fn silence(
    State(api): State<Api>,
    headers: HeaderMap,
    Json(wish): Json<SilenceWish>,
) -> Answer<Silence> {
    Ok(Json(api.actions.silence(actor(&headers)?, wish).await?))
}

async fn preview(
    State(api): State<Api>,
    headers: HeaderMap,
    Json(wish): Json<SilenceWish>,
) -> Answer<Preview> {
    Ok(Json(api.actions.preview_silence(actor(&headers)?, wish).await?))
}

async fn unsilence(
    State(api): State<Api>,
    Path(silence): Path<String>,
    headers: HeaderMap,
) -> Answer<Silence> {
    Ok(Json(api.actions.unsilence(actor(&headers)?, &silence).await?))
}

async fn reviews(State(api): State<Api>, Query(listing): Query<Listing>) -> Answer<Vec<Alert>> {
    let limit = listing.limit();
    Ok(Json(api.actions.read(move |store| store.review_queue(limit)).await?.items))
}

#[derive(Debug, Deserialize)]
struct Since {
    since: Option<Timestamp>,
}

async fn precision(State(api): State<Api>, Query(since): Query<Since>) -> Answer<Vec<Value>> {
    let since = since.since.unwrap_or_default();
    let counts = api.actions.read(move |store| store.label_counts(since)).await?;
    Ok(Json(counts.iter().map(counts_json).collect()))
}

/// How one trigger's alerts were labelled, for programs.
pub(crate) fn counts_json(counts: &LabelCounts) -> Value {
    json!({
        "trigger": counts.trigger, "true_positives": counts.true_positives,
        "false_positives": counts.false_positives, "expected": counts.expected, "precision": counts.precision(),
    })
}

async fn tuning(State(api): State<Api>, Path(trigger): Path<String>) -> Answer<Value> {
    let name = trigger.clone();
    let labelled =
        api.actions.read(move |store| store.labelled(Some(&name), Timestamp::EPOCH, LABELS_MAX)).await?;
    let tuning = tune::suggest(&trigger, &labelled.items).map_err(Refusal::Conflict)?;
    Ok(Json(serde_json::to_value(tuning).unwrap_or_default()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    verdict: ReviewVerdict,
    #[serde(default)]
    note: Option<SmolStr>,
}

async fn label(
    State(api): State<Api>,
    Path(alert): Path<String>,
    headers: HeaderMap,
    Json(Label { verdict, note }): Json<Label>,
) -> Answer<Value> {
    let label = api.actions.label(actor(&headers)?, &alert, verdict, note).await?;
    Ok(Json(label_json(&label)))
}

/// A label for programs.
pub(crate) fn label_json(label: &Labelling) -> Value {
    json!({
        "alert": label.alert, "at": label.at, "by": label.by, "verdict": label.verdict.as_str(),
        "note": label.note,
    })
}

async fn test(State(api): State<Api>, Path(sink): Path<String>, headers: HeaderMap) -> Answer<Value> {
    let by = actor(&headers)?;
    let name = SmolStr::new(&sink);
    if !api.status.borrow().sinks.contains(&name) {
        return Err(Refusal::Missing(format!("no sink {sink:?} is running")).into());
    }
    let notice = api.actions.test_sink(by, name).await?;
    Ok(Json(json!({ "notice": notice })))
}
