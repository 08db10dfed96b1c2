//! Alerts and what people do with them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use railwatch_model::{Alert, AlertId, SmolStr, Timestamp};
use railwatch_store::AlertFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::BY;
use crate::fleet::AlertBrief;
use crate::list::Page;
use crate::problem::{Answer, Ask, Named, Problem, Told};
use crate::site::Site;

/// Steps of an alert's life that are listed.
const CHANGES_MAX: u32 = 1000;

/// Which alerts to list.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertQuery {
    /// True to list resolved ones too.
    all: bool,
    /// Only this agent's.
    agent: Option<String>,
    /// How many; 50 by default.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Where the last page ended: its `next`.
    #[schemars(with = "Option<String>", regex(pattern = r"^[0-9]{1,18}\..{1,200}$"))]
    cursor: Option<Cursor>,
}

/// The place after an alert: when it opened, in microseconds, and its id.
#[derive(Debug, Clone)]
struct Cursor(Timestamp, AlertId);

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = |text: &str| {
            let (micros, id) = text.split_once('.')?;
            let is_id = !id.is_empty();
            is_id.then_some(Self(Timestamp::from_micros(micros.parse().ok()?), AlertId(id.into())))
        };
        read(&text).ok_or_else(|| serde::de::Error::custom("not a cursor: use the last page's `next`"))
    }
}

pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Ask(query): Ask<AlertQuery>,
) -> Answer<Json<Page<AlertBrief>>> {
    let limit = query.limit.unwrap_or(50).clamp(1, crate::list::PAGE_MAX);
    let filter = AlertFilter {
        open_only: !query.all,
        subject: query.agent.map(|agent| SmolStr::new(format!("agent:{agent}"))),
        after: query.cursor.map(|Cursor(at, id)| (at, id)),
        ..AlertFilter::default()
    };
    let read = move |store: &railwatch_store::Reader| {
        let listed = store.alerts(&filter, limit)?;
        let total = if filter.open_only { store.n_alerts_open()? } else { listed.items.len() as u64 };
        Ok((listed, total))
    };
    let (listed, total) = site.read(read).await?;
    let is_full = listed.items.len() == limit as usize;
    let place = |alert: &Alert| format!("{}.{}", alert.opened_at.micros(), alert.id);
    let last = listed.items.last().filter(|_| is_full).map(place);
    let items: Vec<AlertBrief> = listed.items.iter().map(AlertBrief::new).collect();
    Ok(Json(Page { total: usize::try_from(total).unwrap_or(usize::MAX), items, next: last }))
}

async fn find(site: &Site, alert: &str) -> Answer<Alert> {
    let id = AlertId(alert.into());
    let found = site.read(move |store| store.alert(&id)).await?;
    found.ok_or_else(|| Problem::missing(format!("there is no alert {alert}")))
}

pub(crate) async fn one(State(site): State<Arc<Site>>, Named(alert): Named<String>) -> Answer<Json<Alert>> {
    Ok(Json(find(&site, &alert).await?))
}

/// One step of an alert's life.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Change {
    /// When.
    at: Timestamp,
    /// The state since then.
    state: SmolStr,
    /// The severity since then.
    severity: SmolStr,
    /// The anomaly score at that time.
    score: f64,
    /// What was said at that time.
    summary: String,
    /// The journal position that caused it.
    seq: u64,
}

pub(crate) async fn history(
    State(site): State<Arc<Site>>,
    Named(alert): Named<String>,
) -> Answer<Json<Page<Change>>> {
    find(&site, &alert).await?;
    let id = AlertId(alert.as_str().into());
    let changes = site.read(move |store| store.alert_history(&id, CHANGES_MAX)).await?;
    let items: Vec<Change> = changes
        .into_iter()
        .map(|change| Change {
            at: change.at,
            state: change.state,
            severity: change.severity,
            score: change.score,
            summary: change.summary,
            seq: change.seq,
        })
        .collect();
    Ok(Json(Page { total: items.len(), items, next: None }))
}

/// What to remember.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Note {
    /// What others should know.
    #[schemars(length(max = 500))]
    note: Option<SmolStr>,
}

/// Who acts; the guard has checked it.
fn actor(headers: &HeaderMap) -> SmolStr {
    headers.get(BY).and_then(|by| by.to_str().ok()).unwrap_or_default().trim().into()
}

pub(crate) async fn acknowledge(
    State(site): State<Arc<Site>>,
    Named(alert): Named<String>,
    headers: HeaderMap,
    Told(note): Told<Note>,
) -> Answer<Json<Alert>> {
    Ok(Json(site.options.host.acknowledge(actor(&headers), &alert, note.note).await?))
}

pub(crate) async fn resolve(
    State(site): State<Arc<Site>>,
    Named(alert): Named<String>,
    headers: HeaderMap,
    Told(note): Told<Note>,
) -> Answer<Json<Alert>> {
    Ok(Json(site.options.host.resolve(actor(&headers), &alert, note.note).await?))
}
