//! The API's part for people who look after alerts: silences, reviews and labels, tests of sinks.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use railwatch_model::{Alert, Freeze, NoticeId, Report, ReviewVerdict, Silence, SmolStr, Timestamp};
use railwatch_web::{Ask, Endpoints, Named, Problem, Told, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::explain::{Explained, Explanation};
use crate::cli::tune::{self, Tuning};
use crate::documents::{LabelRow, PrecisionRow};
use crate::host::actions::{FreezeWish, Preview, Refusal, SilenceWish};
use crate::host::api::{Api, JsonAnswer, Listing, Nothing, actor};
use crate::host::digest::Digests;

/// Labels that a suggestion is made from: the latest ones.
const LABELS_MAX: u32 = 5_000;

/// The endpoints.
pub(crate) fn endpoints() -> Endpoints<Api> {
    Endpoints::default()
        .add(get::<Vec<Silence>>("/v1/silences", "Silences that are in force or will be."), silences)
        .add(
            post::<SilenceWish, Silence>(
                "/v1/silences",
                "Make a silence: `match` or `alert`, `for` or `until`, and a `reason`.",
            ),
            silence,
        )
        .add(post::<SilenceWish, Preview>("/v1/silences/preview", "Say what a silence would hide."), preview)
        .add(post::<Nothing, Silence>("/v1/silences/{silence}/expire", "End a silence now."), unsilence)
        .add(get::<Vec<Alert>>("/v1/reviews", "Alerts that nobody has labelled.").query::<Listing>(), reviews)
        .add(
            get::<Vec<PrecisionRow>>(
                "/v1/reviews/precision",
                "How the alerts of each trigger were labelled.",
            )
            .query::<Since>(),
            precision,
        )
        .add(get::<Tuning>("/v1/reviews/tune/{trigger}", "What the labels of a trigger suggest."), tuning)
        .add(
            get::<Explained>(
                "/v1/alerts/{alert}/explanation",
                "Why an alert fired, what it cost by rail, who was told, and what people said.",
            ),
            explanation,
        )
        .add(post::<Label, LabelRow>("/v1/alerts/{alert}/label", "Say what an alert was."), label)
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
        .add(post::<Nothing, DigestTold>("/v1/digests/{digest}/tell", "Tell a digest now."), tell_digest)
        .add(get::<Vec<Freeze>>("/v1/freezes", "Freezes: asked for, in force, or over today."), freezes)
        .add(post::<Nothing, Tested>("/v1/sinks/{sink}/test", "Send a test message."), test)
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

async fn explanation(State(api): State<Api>, Named(alert): Named<String>) -> JsonAnswer<Explained> {
    let alert = api.actions.alert(&alert).await?;
    let explanation = api.actions.read(move |store| Explanation::read(store, alert)).await?;
    Ok(Json(explanation.told()))
}

/// From when on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Since {
    /// Only labels since then.
    since: Option<Timestamp>,
}

async fn precision(State(api): State<Api>, Ask(since): Ask<Since>) -> JsonAnswer<Vec<PrecisionRow>> {
    let since = since.since.unwrap_or_default();
    let counts = api.actions.read(move |store| store.label_counts(since)).await?;
    Ok(Json(counts.iter().map(PrecisionRow::new).collect()))
}

async fn tuning(State(api): State<Api>, Named(trigger): Named<String>) -> JsonAnswer<Tuning> {
    let name = trigger.clone();
    let labelled =
        api.actions.read(move |store| store.labelled(Some(&name), Timestamp::EPOCH, LABELS_MAX)).await?;
    let tuning = tune::suggest(&trigger, &labelled.items).map_err(Refusal::Conflict)?;
    Ok(Json(tuning))
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
) -> JsonAnswer<LabelRow> {
    let label = api.actions.label(actor(&headers)?, &alert, verdict, note).await?;
    Ok(Json(LabelRow::new(&label)))
}

/// A test message that is on its way.
#[derive(Debug, Serialize, JsonSchema)]
struct Tested {
    /// The notice, to be found in the outbox.
    notice: NoticeId,
}

/// A digest that is on its way.
#[derive(Debug, Serialize, JsonSchema)]
struct DigestTold {
    /// The sinks that are told.
    sinks: Vec<SmolStr>,
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
) -> JsonAnswer<DigestTold> {
    let sinks = digests(&api)?.tell_now(actor(&headers)?, &digest).await?;
    Ok(Json(DigestTold { sinks }))
}

async fn test(State(api): State<Api>, Named(sink): Named<String>, headers: HeaderMap) -> JsonAnswer<Tested> {
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
    Ok(Json(Tested { notice }))
}
