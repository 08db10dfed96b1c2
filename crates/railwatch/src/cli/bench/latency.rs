//! Latency from socket to socket: a payment leaves a WebSocket gate, and the POST that tells about it arrives at a
//! Slack webhook, while the gate sends a steady load.
//!
//! The alarm is a rule on one large payment, so that nothing but the way is measured: no window has to fill. Beside
//! each alarm the same process posts straight to the same listener and syncs a page to the same disk. That is the floor
//! on this machine at this moment: an alarm takes two syncs (the payment; the alert with its attempt) and one post. The
//! sink's own limit is raised, so that twenty alarms a second are not gathered into one message.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use futures_util::SinkExt;
use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::cli::Failure;

/// The load, in payments per second.
pub(super) const RATE: u32 = 5_000;
/// Alarms; the 99th percentile is the fourth slowest of them.
const ALARMS: u32 = 400;
/// Payments between two alarms: one every 50 ms.
const ALARM_EVERY: u32 = RATE / 20;
/// How long the last messages may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// The rule that makes an alarm of a payment.
const RULE: &str = r#"return rule {
  id = "alarm", about = "One payment of more than a million dollars.", severity = "critical",
  when = function(p) return p.usd > usd(1000000) end,
  why = function(p) return `paid {p.usd}` end,
  tests = { { "two million", feed = { spend("a", usd(2000000)) }, expect = firing("a") } } }
"#;

/// Milliseconds: half of the messages are faster than `p50`, all but a hundredth faster than `p99`.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Latency {
    /// From the gate's socket to the sink's.
    pub(super) notice_ms: Quantiles,
    /// A POST without railwatch in between.
    pub(super) post_ms: Quantiles,
    /// A sync of one page.
    pub(super) sync_ms: Quantiles,
}

/// Runs railwatch between a gate and a listener.
pub(super) async fn measure() -> Result<Latency, Failure> {
    let folder = tempfile::tempdir()?;
    let arrivals = Arc::new(Arrivals::default());
    let sink = TcpListener::bind(("127.0.0.1", 0)).await?;
    let sink_url = format!("http://{}", sink.local_addr()?);
    let gate = TcpListener::bind(("127.0.0.1", 0)).await?;
    let config = write_config(folder.path(), &format!("ws://{}/", gate.local_addr()?), &sink_url)?;
    let router = Router::new().route("/{*path}", post(arrived)).with_state(arrivals.clone());
    let measured = async {
        let clock = Arc::new(SystemClock);
        let host = super::start(&config, &clock).await?;
        let sent = pay(&gate, &format!("{sink_url}/direct"), &folder.path().join("page")).await;
        let deadline = clock.now().after(PATIENCE);
        while arrivals.len() < 2 * ALARMS as usize && clock.now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        host.stop().await;
        let (sent, syncs) = sent?;
        arrivals.latency(&sent, syncs)
    };
    tokio::select! {
        served = axum::serve(sink, router).into_future() => Err(anyhow::anyhow!("the listener ended: {served:?}").into()),
        measured = measured => measured,
    }
}

fn write_config(folder: &Path, gate: &str, sink: &str) -> Result<std::path::PathBuf, Failure> {
    std::fs::create_dir(folder.join("rules"))?;
    std::fs::write(folder.join("rules/alarm.lua"), RULE)?;
    std::fs::write(folder.join("hook.url"), format!("{sink}/services/bench"))?;
    let config = folder.join("railwatch.toml");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"bench.db\"\n[sources.gate]\nplugin = \"websocket\"\n\
         url = \"{gate}\"\n[rules]\npaths = [\"rules\"]\n[sinks.slack]\nplugin = \"slack\"\nurl = {{ file = \"hook.url\" }}\nrate_limit = \"1000/s\"\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

/// The gate: sends the load, each payment in a frame of its own, and returns when which alarm was sent, and what the
/// syncs beside them took.
async fn pay(
    gate: &TcpListener,
    direct: &str,
    page: &Path,
) -> Result<(HashMap<String, Timestamp>, Vec<f64>), Failure> {
    let (mut sent, mut syncs) = (HashMap::new(), Vec::new());
    let (stream, _) = gate.accept().await?;
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await.map_err(anyhow::Error::from)?;
    let client = reqwest::Client::new();
    let mut due = tokio::time::interval(Duration::from_millis(1));
    let mut n_sent = 0_u32;
    while n_sent < ALARMS * ALARM_EVERY {
        due.tick().await;
        for _ in 0..RATE / 1_000 {
            n_sent += 1;
            let is_alarm = n_sent.is_multiple_of(ALARM_EVERY);
            let agent =
                if is_alarm { format!("alarm-{n_sent:07}-") } else { format!("agent-{}", n_sent % 997) };
            let dollars = if is_alarm { 2_000_000 } else { 1 };
            let now = SystemClock.now();
            let text = format!(
                "{{\"id\":\"p{n_sent}\",\"ts\":\"{now}\",\"agent_id\":\"{agent}\",\"rail\":\"x402\",\"amount_usd\":{dollars},\
                 \"payee\":\"m{}\",\"status\":\"settled\"}}",
                n_sent % 50
            );
            socket.feed(Message::text(text)).await.map_err(anyhow::Error::from)?;
            if is_alarm {
                socket.flush().await.map_err(anyhow::Error::from)?;
                sent.insert(agent, now);
                let direct_name = format!("direct-{n_sent:07}-");
                sent.insert(direct_name.clone(), SystemClock.now());
                client.post(direct).body(direct_name).send().await.map_err(anyhow::Error::from)?;
                let page = page.to_owned();
                syncs.push(
                    tokio::task::spawn_blocking(move || sync(&page)).await.map_err(anyhow::Error::from)??,
                );
            }
        }
        socket.flush().await.map_err(anyhow::Error::from)?;
    }
    Ok((sent, syncs))
}

/// Writes a page and waits until it is on the disk; milliseconds.
fn sync(page: &Path) -> std::io::Result<f64> {
    let started_at = SystemClock.now();
    let mut file = OpenOptions::new().create(true).append(true).open(page)?;
    file.write_all(&[0; 4096])?;
    file.sync_data()?;
    Ok(SystemClock.now().since(started_at).as_secs_f64() * 1e3)
}

/// When which message arrived.
#[derive(Debug, Default)]
struct Arrivals(Mutex<HashMap<String, Timestamp>>);

async fn arrived(State(arrivals): State<Arc<Arrivals>>, body: Bytes) {
    let now = SystemClock.now();
    let text = String::from_utf8_lossy(&body);
    for prefix in ["alarm-", "direct-"] {
        let name = text.find(prefix).and_then(|at| text.get(at..at + prefix.len() + 8));
        if let Some(name) = name {
            arrivals.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_insert(now);
        }
    }
}

impl Arrivals {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn latency(&self, sent: &HashMap<String, Timestamp>, syncs: Vec<f64>) -> Result<Latency, Failure> {
        let arrived = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let took = |prefix: &str| -> Result<Quantiles, Failure> {
            let mut all = Vec::new();
            for (name, at) in sent.iter().filter(|(name, _)| name.starts_with(prefix)) {
                let arrived = arrived.get(name);
                let arrived = arrived.ok_or_else(|| anyhow::anyhow!("nobody was told of {name}"))?;
                all.push(arrived.since(*at).as_secs_f64() * 1e3);
            }
            Ok(Quantiles::of(all))
        };
        Ok(Latency { notice_ms: took("alarm-")?, post_ms: took("direct-")?, sync_ms: Quantiles::of(syncs) })
    }
}

impl Quantiles {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |share: usize| all.get(all.len() * share / 100).copied().unwrap_or(f64::NAN);
        Self { p50: at(50), p99: at(99) }
    }
}
