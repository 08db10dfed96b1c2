//! The API's part for people who look after alerts: silences, reviews and labels, tests of sinks.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use railwatch_model::{Alert, Freeze, Report, ReviewVerdict, Silence, SmolStr, Timestamp};
use railwatch_store::{LabelCounts, Labelling};
use railwatch_web::{Ask, Endpoints, Named, Problem, Told, get, post};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::tune;
use crate::host::actions::{FreezeWish, Preview, Refusal, SilenceWish};
use crate::host::api::{Api, JsonAnswer, Listing, Nothing, actor};
use crate::host::digest::Digests;

/// Labels that a suggestion is made from: the latest ones.
const LABELS_MAX: u32 = 5_000;

/// The endpoints.
pub(crate) fn endpoints() -> Endpoints<Api> {
    Endpoints::default()
        .add(get::<Vec<Value>>("/v1/silences", "Silences that are in force or will be."), silences)
        .add(
            post::<Value, Value>(
                "/v1/silences",
                "Make a silence: `match` or `alert`, `for` or `until`, and a `reason`.",
            ),
            silence,
        )
        .add(post::<Value, Value>("/v1/silences/preview", "Say what a silence would hide."), preview)
        .add(post::<Nothing, Value>("/v1/silences/{silence}/expire", "End a silence now."), unsilence)
        .add(get::<Vec<Alert>>("/v1/reviews", "Alerts that nobody has labelled.").query::<Listing>(), reviews)
        .add(
            get::<Vec<Value>>("/v1/reviews/precision", "How the alerts of each trigger were labelled.")
                .query::<Since>(),
            precision,
        )
        .add(get::<Value>("/v1/reviews/tune/{trigger}", "What the labels of a trigger suggest."), tuning)
        .add(post::<Label, Value>("/v1/alerts/{alert}/label", "Say what an alert was."), label)
        .add(
            post::<FreezeWish, Freeze>(
                "/v1/agents/{agent}/freeze",
                "Ask every gate to freeze an agent, or agree with somebody who asked.",
            ),
            freeze,
        )
        .add(
            post::<Nothing, Freeze>(
                "/v1/agents/{agent}/unfreeze",
                "End an agent's freeze, or take the request back.",
            ),
            unfreeze,
        )
        .add(
            get::<Report>("/v1/digests/{digest}", "What a digest would say about the time until now."),
            digest,
        )
        .add(post::<Nothing, Value>("/v1/digests/{digest}/tell", "Tell a digest now."), tell_digest)
        .add(get::<Vec<Freeze>>("/v1/freezes", "Freezes: asked for, in force, or over today."), freezes)
        .add(post::<Nothing, Value>("/v1/sinks/{sink}/test", "Send a test message."), test)
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
        Self::new(status, refusal.to_string())
    }
}

async fn silences(State(api): State<Api>) -> JsonAnswer<Vec<Silence>> {
    Ok(Json(api.actions.silences().await?))
}

async fn silence(
    State(api): State<Api>,
    headers: HeaderMap,
    Told(wish): Told<SilenceWish>,
) -> JsonAnswer<Silence> {
    Ok(Json(api.actions.silence(actor(&headers)?, wish).await?))
}

async fn preview(
    State(api): State<Api>,
    headers: HeaderMap,
    Told(wish): Told<SilenceWish>,
) -> JsonAnswer<Preview> {
    Ok(Json(api.actions.preview_silence(actor(&headers)?, wish).await?))
}

async fn unsilence(
    State(api): State<Api>,
    Named(silence): Named<String>,
    headers: HeaderMap,
) -> JsonAnswer<Silence> {
    Ok(Json(api.actions.unsilence(actor(&headers)?, &silence).await?))
}

async fn reviews(State(api): State<Api>, Ask(listing): Ask<Listing>) -> JsonAnswer<Vec<Alert>> {
    let limit = listing.limit();
    Ok(Json(api.actions.read(move |store| store.review_queue(limit)).await?.items))
}

/// From when on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Since {
    /// Only labels since then.
    since: Option<Timestamp>,
}

async fn precision(State(api): State<Api>, Ask(since): Ask<Since>) -> JsonAnswer<Vec<Value>> {
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

async fn tuning(State(api): State<Api>, Named(trigger): Named<String>) -> JsonAnswer<Value> {
    let name = trigger.clone();
    let labelled =
        api.actions.read(move |store| store.labelled(Some(&name), Timestamp::EPOCH, LABELS_MAX)).await?;
    let tuning = tune::suggest(&trigger, &labelled.items).map_err(Refusal::Conflict)?;
    Ok(Json(serde_json::to_value(tuning).unwrap_or_default()))
}

/// What an alert was.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Label {
    /// `true_positive`, `false_positive` or `expected`.
    verdict: ReviewVerdict,
    /// What others should know.
    #[serde(default)]
    note: Option<SmolStr>,
}

async fn label(
    State(api): State<Api>,
    Named(alert): Named<String>,
    headers: HeaderMap,
    Told(Label { verdict, note }): Told<Label>,
) -> JsonAnswer<Value> {
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

async fn freeze(
    State(api): State<Api>,
    Named(agent): Named<String>,
    headers: HeaderMap,
    Told(wish): Told<FreezeWish>,
) -> JsonAnswer<Freeze> {
    Ok(Json(api.actions.freeze(actor(&headers)?, &agent, wish).await?))
}

async fn unfreeze(
    State(api): State<Api>,
    Named(agent): Named<String>,
    headers: HeaderMap,
) -> JsonAnswer<Freeze> {
    Ok(Json(api.actions.unfreeze(actor(&headers)?, &agent).await?))
}

async fn freezes(State(api): State<Api>) -> JsonAnswer<Vec<Freeze>> {
    Ok(Json(api.actions.freezes().await?))
}

fn digests(api: &Api) -> Result<Digests, Refusal> {
    api.status.borrow().digests.clone().ok_or(Refusal::Stopping)
}

async fn digest(State(api): State<Api>, Named(digest): Named<String>) -> JsonAnswer<Report> {
    Ok(Json(digests(&api)?.preview(&digest).await?))
}

async fn tell_digest(
    State(api): State<Api>,
    Named(digest): Named<String>,
    headers: HeaderMap,
) -> JsonAnswer<Value> {
    let sinks = digests(&api)?.tell_now(actor(&headers)?, &digest).await?;
    Ok(Json(json!({ "sinks": sinks })))
}

async fn test(State(api): State<Api>, Named(sink): Named<String>, headers: HeaderMap) -> JsonAnswer<Value> {
    let by = actor(&headers)?;
    let name = SmolStr::new(&sink);
    if !api.status.borrow().sinks.contains(&name) {
        return Err(Refusal::Missing(format!("no sink {sink:?} is running")).into());
    }
    if api.status.borrow().hearts.contains(&name) {
        let why = format!("{sink} is a heartbeat: it gives signs of life by itself and takes no notices");
        return Err(Refusal::Wrong(why).into());
    }
    let notice = api.actions.test_sink(by, name).await?;
    Ok(Json(json!({ "notice": notice })))
}
