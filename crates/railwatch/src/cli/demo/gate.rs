//! A payment gate: a WebSocket server that tells whoever connects about every payment, the past ones first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock, SystemClock};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use crate::cli::Failure;

/// Payments in one frame of history.
const FRAME_LEN: usize = 200;
/// How often the gate looks whether somebody pays.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The gate.
pub(super) struct Gate {
    pub(super) url: String,
    shared: Arc<Shared>,
    cancel: CancellationToken,
}

struct Shared {
    fleet: Mutex<Fleet>,
    history_len: AtomicU64,
    live: AtomicBool,
}

impl Gate {
    /// Starts a gate on a free port.
    pub(super) async fn start(fleet: Fleet) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("ws://{}/payments", listener.local_addr()?);
        let shared = Shared {
            fleet: Mutex::new(fleet),
            history_len: AtomicU64::new(u64::MAX),
            live: AtomicBool::new(false),
        };
        let (shared, cancel) = (Arc::new(shared), CancellationToken::new());
        let (served, until) = (shared.clone(), cancel.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "the demo's gate is not a part of railwatch's task tree"
        )]
        tokio::spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = accept(listener, served) => {}
            }
        });
        Ok(Self { url, shared, cancel })
    }

    /// Payments of the past; not known before they are sent.
    pub(super) fn history_len(&self) -> u64 {
        self.shared.history_len.load(Ordering::SeqCst)
    }

    /// Lets the fleet pay in real time.
    pub(super) fn go_live(&self) {
        self.shared.live.store(true, Ordering::SeqCst);
    }

    /// Lets one agent run away.
    pub(super) fn run_away(&self) {
        self.shared
            .fleet
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .run_away(SystemClock.now());
    }

    /// Closes the gate.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }
}

/// Serves one watcher, which is all that the demo has.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = serve(stream, &shared).await {
            tracing::debug!(%error, "the gate's watcher is gone");
        }
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let (mut sink, mut incoming) = tokio_tungstenite::accept_async(stream).await?.split();
    let now = SystemClock.now();
    let mut n_sent = 0;
    loop {
        let frame = take(shared, now, FRAME_LEN);
        if frame.is_empty() {
            break;
        }
        n_sent += frame.len() as u64;
        sink.send(Message::text(serde_json::Value::Array(frame).to_string())).await?;
    }
    shared.history_len.store(n_sent, Ordering::SeqCst);
    loop {
        tokio::select! {
            message = incoming.next() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(_)) => {}
            },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if shared.live.load(Ordering::SeqCst) {
            for payment in take(shared, SystemClock.now(), FRAME_LEN) {
                sink.send(Message::text(payment.to_string())).await?;
            }
        }
    }
}

/// The next payments up to `until`.
fn take(shared: &Shared, until: Timestamp, len_max: usize) -> Vec<serde_json::Value> {
    let mut fleet = shared.fleet.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut payments = Vec::new();
    while payments.len() < len_max && fleet.next_at() <= until {
        payments.push(fleet.pay());
    }
    payments
}
