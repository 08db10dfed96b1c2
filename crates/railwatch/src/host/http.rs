//! The one HTTP listener: webhook paths that sources mount, the API, metrics and health.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use railwatch_model::SmolStr;
use railwatch_plugin::http::{HttpCall, HttpMount, HttpReply, MountError};
use railwatch_web::Problem;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::host::connections::Connections;

/// Calls of one path that may wait for its source.
const CALLS_MAX: usize = 256;
/// How long a call may take, reading the body included.
const CALL_MAX: Duration = Duration::from_secs(30);

/// The mounted paths. One whose source is between two runs, as during a reload, stays: its callers are told to come
/// again, because not all of them would after "not found".
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts(Arc<RwLock<HashMap<String, Mount>>>);

#[derive(Debug, Clone)]
struct Mount {
    source: SmolStr,
    calls: mpsc::Sender<HttpCall>,
    body_len_max: usize,
}

impl Mounts {
    /// What one source mounts its paths with.
    pub(crate) fn of(&self, source: &SmolStr) -> MountsOf {
        MountsOf { mounts: self.clone(), source: source.clone() }
    }

    /// Forgets the paths of a source that does not run any more.
    pub(crate) fn unmount(&self, source: &SmolStr) {
        self.write().retain(|_, mount| mount.source != *source);
    }

    fn find(&self, path: &str) -> Option<Mount> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(path).cloned()
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Mount>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The paths of one source.
#[derive(Debug)]
pub(crate) struct MountsOf {
    mounts: Mounts,
    source: SmolStr,
}

#[async_trait]
impl HttpMount for MountsOf {
    async fn mount(&self, path: &str, body_len_max: usize) -> Result<mpsc::Receiver<HttpCall>, MountError> {
        if !path.starts_with("/in/") {
            return Err(MountError::Invalid(path.to_owned()));
        }
        let mut mounts = self.mounts.write();
        if mounts.get(path).is_some_and(|mount| !mount.calls.is_closed()) {
            return Err(MountError::Taken(path.to_owned()));
        }
        // What it had in an earlier run, perhaps under another path.
        mounts.retain(|_, mount| mount.source != self.source || !mount.calls.is_closed());
        let (calls, receiver) = mpsc::channel(CALLS_MAX);
        mounts.insert(path.to_owned(), Mount { source: self.source.clone(), calls, body_len_max });
        Ok(receiver)
    }
}

/// Serves until cancelled; calls that have begun are finished.
pub(crate) async fn serve(listener: TcpListener, app: Router, mounts: Mounts, cancel: CancellationToken) {
    // Webhooks pass no guard: their sources check signatures.
    let app = app.fallback_service(any(deliver).with_state(mounts));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    // `tap_io` lets handlers ask for the peer's address.
    let listener = Connections::new(listener, cancel.clone()).tap_io(|_| {});
    let served = axum::serve(listener, app).with_graceful_shutdown(cancel.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "http listener ended");
    }
}

/// Binds the listener, with an error that says what to do.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {address}: {error}; change [http] listen, or stop what uses the port"
        )
    })
}

/// Hands a call to the source that mounted its path.
async fn deliver(State(mounts): State<Mounts>, request: Request) -> Response {
    let path = request.uri().path();
    let Some(mount) = mounts.find(path) else {
        if path.starts_with("/in/") {
            return (StatusCode::NOT_FOUND, "no source is mounted here\n").into_response();
        }
        return Problem::missing("there is no such path; /openapi.json lists what there is").into_response();
    };
    match tokio::time::timeout(CALL_MAX, call(&mount, request)).await {
        Ok(response) => response,
        Err(_) => unavailable("the call took too long", 5),
    }
}

async fn call(mount: &Mount, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, mount.body_len_max).await else {
        let text = format!("bodies are limited to {} bytes\n", mount.body_len_max);
        return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
    };
    let (reply, answer) = oneshot::channel();
    let call = HttpCall { method: parts.method, uri: parts.uri, headers: parts.headers, body, reply };
    match mount.calls.try_send(call) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => return unavailable("too many calls are waiting", 5),
        Err(mpsc::error::TrySendError::Closed(_)) => return unavailable("the source is starting", 1),
    }
    match answer.await {
        Ok(HttpReply { status, content_type, body, retry_after }) => {
            let mut response =
                (status, [(header::CONTENT_TYPE, content_type)], Body::from(body)).into_response();
            if let Some(after) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
            }
            response
        }
        Err(_) => unavailable("the payment is not safe yet", 5),
    }
}

fn unavailable(reason: &str, retry_after_secs: u32) -> Response {
    let retry_after = [(header::RETRY_AFTER, retry_after_secs.to_string())];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after, format!("{reason}; try again\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(mounts: &Mounts, path: &str) -> Response {
        let request = Request::post(path).body(Body::from("{}")).unwrap();
        deliver(State(mounts.clone()), request).await
    }

    #[tokio::test]
    async fn a_path_stays_while_its_source_starts_anew() {
        let mounts = Mounts::default();
        assert_eq!(post(&mounts, "/in/gate").await.status(), StatusCode::NOT_FOUND);
        let (gate, other) = (mounts.of(&"gate".into()), mounts.of(&"other".into()));
        let calls = gate.mount("/in/gate", 10).await.unwrap();
        assert!(matches!(other.mount("/in/gate", 10).await, Err(MountError::Taken(_))));

        drop(calls);
        let between = post(&mounts, "/in/gate").await;
        assert_eq!(between.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(between.headers()[header::RETRY_AFTER], "1");

        let mut calls = gate.mount("/in/gate", 10).await.unwrap();
        let answer = async {
            let call = calls.recv().await.unwrap();
            call.reply.send(HttpReply::text(StatusCode::OK, "kept")).unwrap();
        };
        let (answered, ()) = tokio::join!(post(&mounts, "/in/gate"), answer);
        assert_eq!(answered.status(), StatusCode::OK);

        // Under another path from now on: the old one is gone.
        drop(calls);
        let _calls = gate.mount("/in/gate-2", 10).await.unwrap();
        assert_eq!(post(&mounts, "/in/gate").await.status(), StatusCode::NOT_FOUND);
        mounts.unmount(&"gate".into());
        assert_eq!(post(&mounts, "/in/gate-2").await.status(), StatusCode::NOT_FOUND);
    }
}
