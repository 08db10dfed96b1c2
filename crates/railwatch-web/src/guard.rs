//! What every request passes: the name it came by, its rate, its token and role, and the headers of its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use crate::access::{BY, Caller, needed};
use crate::limit::Use;
use crate::problem::{Answer, Problem};
use crate::site::Site;

/// Bytes of a request's body.
pub(crate) const BODY_MAX: usize = 64 << 10;
/// Bytes of an answer that gets an ETag.
const TAGGED_MAX: u64 = 4 << 20;
/// Everything comes from here, nothing is inline, nobody may frame it.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                   connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
                   frame-ancestors 'none'";

/// Lets a request through, or says why not.
pub(crate) async fn guard(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let caller = match check(&site, &mut request) {
        Ok(caller) => caller,
        Err(problem) => return dressed(refused(problem)),
    };
    let wanted = request.headers().get(header::IF_NONE_MATCH).cloned();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = next.run(request).await;
    let response = if is_read { tagged(response, wanted.as_ref()).await } else { response };
    dressed(response)
}

fn check(site: &Site, request: &mut Request) -> Answer<Option<Caller>> {
    let access = &site.options.access;
    access.check_host(request.headers())?;
    let now = site.now();
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let too_many = || Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests; ask less often");
    if let Some(address) = address
        && !(site.limiter.take(address, Use::Request, now) && site.limiter.has(address, Use::Failure, now))
    {
        return Err(too_many());
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read {
        access.check_origin(request.headers())?;
    }
    let Some(role) = needed(request.method(), request.uri().path()) else { return Ok(None) };
    let caller = access.caller(request.headers(), now).inspect_err(|problem| {
        // Who sends no token at all guesses nothing.
        let guessed = request.headers().contains_key(header::AUTHORIZATION);
        if let Some(address) = address
            && guessed
            && problem.status == StatusCode::UNAUTHORIZED
        {
            site.limiter.take(address, Use::Failure, now);
        }
    })?;
    if caller.role < role {
        let detail = format!("this needs the role {role:?}; the token has {:?}", caller.role).to_lowercase();
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if !is_read {
        name_actor(request.headers_mut(), &caller)?;
    }
    Ok(Some(caller))
}

/// A token's name is the actor, whatever the request says; the header itself is needed all the same, because a page of
/// another origin cannot send it.
fn name_actor(headers: &mut HeaderMap, caller: &Caller) -> Answer<()> {
    let by = headers.get(BY).and_then(|by| by.to_str().ok()).map(str::trim).unwrap_or_default();
    if by.is_empty() || by.len() > 100 {
        return Err(Problem::bad("say who you are in the header X-Railwatch-By (1 to 100 characters)"));
    }
    if let Some(name) = &caller.name
        && let Ok(name) = HeaderValue::from_str(name)
    {
        headers.insert(BY, name);
    }
    Ok(())
}

fn refused(problem: Problem) -> Response {
    let status = problem.status;
    let mut response = problem.into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Gives an answer the tag of its content, and leaves the content out if the caller has it.
async fn tagged(response: Response, wanted: Option<&HeaderValue>) -> Response {
    let is_small = response.body().size_hint().exact().is_some_and(|len| len <= TAGGED_MAX);
    if response.status() != StatusCode::OK || !is_small {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Problem::stopping().into_response();
    };
    let tag = format!("W/\"{:016x}\"", FixedState::with_seed(7).hash_one(&bytes));
    let is_known = wanted.and_then(|wanted| wanted.to_str().ok()).is_some_and(|wanted| wanted.contains(&tag));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn dressed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CSP);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::CACHE_CONTROL, "no-cache");
    response
}
