//! Browsers sign in with a token and keep a cookie that scripts cannot read.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use railwatch_model::SmolStr;
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::limit::Use;
use crate::problem::{Answer, Told};
use crate::site::Site;

/// Who the caller is.
#[derive(Debug, Serialize)]
pub(crate) struct Whoami {
    /// True if a token is needed and none came.
    needs_token: bool,
    /// The token's name.
    name: Option<SmolStr>,
    /// What the caller may do.
    role: Option<Role>,
}

pub(crate) async fn whoami(State(site): State<Arc<Site>>, headers: HeaderMap) -> Json<Whoami> {
    let access = &site.options.access;
    Json(match access.caller(&headers, site.now()) {
        Ok(caller) => Whoami { needs_token: false, name: caller.name, role: Some(caller.role) },
        Err(_) => Whoami { needs_token: true, name: None, role: None },
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    token: String,
}

pub(crate) async fn sign_in(
    State(site): State<Arc<Site>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Told(body): Told<SignIn>,
) -> Answer<Response> {
    let now = site.now();
    let signed_in = site.options.access.sign_in(body.token.trim(), now).inspect_err(|_| {
        site.limiter.take(address.ip(), Use::Failure, now);
    });
    let (cookie, caller) = signed_in?;
    tracing::info!(name = ?caller.name, %address, "signed in");
    let whoami = Whoami { needs_token: false, name: caller.name, role: Some(caller.role) };
    Ok(([(header::SET_COOKIE, cookie)], Json(whoami)).into_response())
}

pub(crate) async fn sign_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let cookie = site.options.access.sign_out(&headers);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}
