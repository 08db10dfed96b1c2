//! `POST /v1/evaluate`: an expression of the script API on an agent's live state. It reads a copy, on a thread of its
//! own, so that nothing waits for it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use railwatch_model::{AgentId, Subject};
use railwatch_web::{Problem, Told};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::api::{Api, JsonAnswer};

/// What is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The agent that `a` is.
    agent: String,
    /// Such as `a:spent("1h")`.
    expression: String,
}

/// What it is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Evaluated {
    /// The value, as text.
    value: String,
}

/// Answers with the value as text.
pub(crate) async fn evaluate(
    State(api): State<Api>,
    Told(question): Told<Question>,
) -> JsonAnswer<Evaluated> {
    let Question { agent, expression } = question;
    let Some(id) = AgentId::new(agent.as_str()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "not an agent's name".to_owned()));
    };
    let snapshot = api
        .core
        .look(move |engine| engine.snapshot(&Subject::Agent(id)))
        .await
        .ok_or_else(Problem::stopping)?;
    let snapshot = snapshot
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no agent {agent:?} is active")))?;
    let evaluate = move || railwatch_script::evaluate(&expression, &snapshot.case(), snapshot.longest());
    let answer = tokio::task::spawn_blocking(evaluate).await.map_err(|_| Problem::stopping())?;
    match answer {
        Ok(value) => Ok(Json(Evaluated { value })),
        Err(reason) => Err(Problem::new(StatusCode::BAD_REQUEST, reason)),
    }
}
