//! The endpoints. Everything that a program can ask and do is in the list below.

mod agents;
mod alerts;
mod export;
mod live;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::{get as route_get, post as route_post};
use railwatch_model::Alert;

use crate::fleet::{AlertBrief, Fleet};
use crate::guard::{BODY_MAX, guard};
use crate::list::{AgentQuery, Page};
use crate::openapi::{Endpoints, get, get_text, post};
use crate::page;
use crate::row::AgentBrief;
use crate::scan::{PaymentPage, PaymentQuery, Series, SeriesQuery};
use crate::site::Site;

fn endpoints() -> Endpoints<Arc<Site>> {
    Endpoints::default()
        .add(
            get::<Fleet>("/v1/fleet", "The fleet at a glance: rails, four signals, open alerts."),
            agents::fleet,
        )
        .add(
            get::<Page<AgentBrief>>("/v1/agents", "Agents, those that need a look first.")
                .query::<AgentQuery>(),
            agents::list,
        )
        .add(
            get::<agents::AgentDetail>("/v1/agents/{agent}", "One agent with its signals and open alerts."),
            agents::detail,
        )
        .add(
            get::<agents::VerdictBody>(
                "/v1/agents/{agent}/verdict",
                "Whether a gate should let the agent's next payment pass. Answered from memory.",
            ),
            agents::verdict,
        )
        .add(
            get::<Series>("/v1/agents/{agent}/series", "An agent's last hours.").query::<SeriesQuery>(),
            agents::series,
        )
        .add(
            get::<PaymentPage>("/v1/payments", "Payments, newest first.").query::<PaymentQuery>(),
            agents::payments,
        )
        .add(
            get::<Page<AlertBrief>>("/v1/alerts", "Alerts, the latest opened first.")
                .query::<alerts::AlertQuery>(),
            alerts::list,
        )
        .add(get::<Alert>("/v1/alerts/{alert}", "One alert with its evidence."), alerts::one)
        .add(
            get::<Page<alerts::Change>>(
                "/v1/alerts/{alert}/history",
                "What happened to an alert, oldest first.",
            ),
            alerts::history,
        )
        .add(
            post::<alerts::Note, Alert>(
                "/v1/alerts/{alert}/acknowledge",
                "Take the alert's incident, so that nobody is reminded of it.",
            ),
            alerts::acknowledge,
        )
        .add(
            post::<alerts::Note, Alert>("/v1/alerts/{alert}/resolve", "Close the alert's incident by hand."),
            alerts::resolve,
        )
        .add(
            get_text(
                "/v1/export/{what}",
                "agents, alerts or payments as a file: CSV or JSON lines.",
                "text/csv",
            )
            .query::<export::ExportQuery>(),
            export::export,
        )
        .add(
            get_text(
                "/v1/live",
                "The live stream (SSE): a snapshot, then changes. Send Last-Event-ID to resume.",
                "text/event-stream",
            )
            .query::<live::LiveQuery>(),
            live::events,
        )
        .add(
            get_text(
                "/v1/live/socket",
                "The live stream as a WebSocket: the same events, each `{ event, id, data }`.",
                "application/json",
            )
            .query::<live::LiveQuery>(),
            live::socket,
        )
}

/// Everything that is served: the API, the host's own endpoints, its other routes, and the dashboard.
pub fn router(site: &Arc<Site>, hosts: Endpoints<()>, others: Router) -> Router {
    let (api, document) = endpoints().with_state(site.clone()).merge(hosts).finish();
    let document: Arc<str> = document.into();
    let described =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) };
    let session = Router::new()
        .route("/v1/session", route_get(session::whoami).post(session::sign_in))
        .route("/v1/session/end", route_post(session::sign_out))
        .with_state(site.clone());
    let app = api
        .merge(others)
        .merge(session)
        .route("/openapi.json", route_get(described))
        .method_not_allowed_fallback(not_allowed);
    page::routes(app).layer(DefaultBodyLimit::max(BODY_MAX)).layer(from_fn_with_state(site.clone(), guard))
}

async fn not_allowed() -> crate::problem::Problem {
    let detail = "this path does not take that method; see /openapi.json";
    crate::problem::Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, detail)
}
