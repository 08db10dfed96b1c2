//! Agents, their payments, and the fleet.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use railwatch_model::{AgentId, SmolStr, Subject, Timestamp, Verdict};
use schemars::JsonSchema;
use serde::Serialize;

use crate::fleet::{AlertBrief, Fleet, alerts_of, summary};
use crate::list::{AgentQuery, Page};
use crate::problem::{Answer, Ask, Named, Problem};
use crate::row::{Advice, AgentBrief};
use crate::scan::{self, PaymentPage, PaymentQuery, Series, SeriesQuery};
use crate::site::{AgentNow, Site};

pub(crate) async fn fleet(State(site): State<Arc<Site>>) -> Answer<Json<Fleet>> {
    let fleet = site.look(|site| summary(&site.board.read(), site.review_above()));
    Ok(Json(fleet.await?))
}

pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Ask(query): Ask<AgentQuery>,
) -> Answer<Json<Page<AgentBrief>>> {
    Ok(Json(site.look(move |site| query.page(&site.board.read())).await?))
}

/// One agent.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentDetail {
    /// As the engine has it now.
    #[serde(flatten)]
    now: AgentNow,
    /// What a gate may do with its next payment.
    verdict: Advice,
    /// Its spark and gauges, as lists show them.
    brief: Option<AgentBrief>,
    /// Its open alerts.
    alerts: Vec<AlertBrief>,
}

pub(crate) async fn detail(
    State(site): State<Arc<Site>>,
    Named(agent): Named<String>,
) -> Answer<Json<AgentDetail>> {
    let unknown = || Problem::missing(format!("no agent {agent:?} is active"));
    let id = AgentId::new(agent.as_str()).ok_or_else(unknown)?;
    let now = site.options.host.agent(Subject::Agent(id)).await?.ok_or_else(unknown)?;
    let brief = site.board.brief(&agent);
    let table = site.board.read();
    let alerts = alerts_of(&table, &agent).map(AlertBrief::new).collect();
    let verdict = brief.as_ref().map_or(Advice::Ok, |brief| brief.verdict);
    Ok(Json(AgentDetail { now, verdict, brief, alerts }))
}

/// What a gate may do.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VerdictBody {
    /// The agent.
    agent: String,
    /// The verdict.
    verdict: Advice,
    /// Why, one sentence each; empty if nothing speaks against it.
    reasons: Vec<String>,
    /// False if railwatch has not seen this agent pay.
    known: bool,
    /// The anomaly score.
    score: f32,
    /// The time of the journal that this is about.
    at: Timestamp,
}

pub(crate) async fn verdict(
    State(site): State<Arc<Site>>,
    Named(agent): Named<String>,
) -> Answer<Json<VerdictBody>> {
    let table = site.board.read();
    let Some(row) = table.row(&agent) else {
        let reasons = vec!["railwatch has not seen this agent pay".to_owned()];
        let (verdict, at) = (Advice::Ok, table.now);
        return Ok(Json(VerdictBody { agent, verdict, reasons, known: false, score: 0.0, at }));
    };
    let mut reasons: Vec<String> = match row.alerts {
        0 => Vec::new(),
        _ => alerts_of(&table, &agent).map(|alert| alert.summary.clone()).collect(),
    };
    if row.budget.is_some_and(|budget| budget.percent_used >= 100.0) {
        reasons.push(format!("{agent} has used up its budget"));
    }
    if reasons.is_empty() && row.velocity.state == Verdict::Firing {
        reasons.push(format!("{agent} spends {:.1}x its usual", row.velocity.ratio()));
    }
    if reasons.is_empty() && row.advice() > Advice::Ok {
        reasons.push(format!("a signal of {agent} fires"));
    }
    let (verdict, score, at) = (row.advice(), row.score, table.now);
    Ok(Json(VerdictBody { agent, verdict, reasons, known: true, score, at }))
}

pub(crate) async fn series(
    State(site): State<Arc<Site>>,
    Named(agent): Named<SmolStr>,
    Ask(query): Ask<SeriesQuery>,
) -> Answer<Json<Series>> {
    let series = site.series(agent, query.hours.unwrap_or(6).clamp(1, 168)).await?;
    Ok(Json(Series::clone(&series)))
}

pub(crate) async fn payments(
    State(site): State<Arc<Site>>,
    Ask(query): Ask<PaymentQuery>,
) -> Answer<Json<PaymentPage>> {
    Ok(Json(site.scan(move |store| scan::payments(store, &query)).await?))
}
