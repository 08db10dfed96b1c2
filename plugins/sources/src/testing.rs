//! Doubles for tests: a host that takes deliveries and mounts paths, and secrets from a map.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use railwatch_model::Timestamp;
use railwatch_plugin::clock::ManualClock;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::http::{HttpCall, HttpMount, HttpReply, MountError};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::secret::{Secret, SecretError, SecretRef, Secrets};
use railwatch_plugin::source::{
    Cursor, Delivery, Intake, Phase, Source, SourceBuild, SourceContext, SourceError, SourceStatus,
    StatusHandle, Submission,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use toml::Table;

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Secrets by the name of their environment variable.
#[derive(Debug, Default)]
pub(crate) struct MapSecrets(pub(crate) HashMap<&'static str, &'static str>);

impl Secrets for MapSecrets {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = reference else { return Err(SecretError::Empty) };
        let found = self.0.get(name.as_str());
        found.map(|value| Secret::new(*value)).ok_or_else(|| SecretError::NoEnv(name.clone()))
    }
}

/// What the tests' sources build themselves from. The secret `S` is `secret`.
pub(crate) fn source_build(base_dir: &Path) -> SourceBuild {
    let secrets = MapSecrets(HashMap::from([("S", "secret"), ("GATE_SECRET", "whsec_c2VjcmV0")]));
    SourceBuild {
        name: "gate".into(),
        secrets: Arc::new(secrets),
        decoder: None,
        base_dir: base_dir.to_owned(),
    }
}

/// Builds a source from the text of its table.
pub(crate) fn build(plugin: &SourcePlugin, config: &str) -> Result<Box<dyn Source>, ConfigError> {
    build_in(plugin, config, Path::new("."))
}

pub(crate) fn build_in(
    plugin: &SourcePlugin,
    config: &str,
    base_dir: &Path,
) -> Result<Box<dyn Source>, ConfigError> {
    let table: Table = config.parse().expect("the test's TOML is right");
    (plugin.build)(&table, &source_build(base_dir))
}

/// A context that no source runs in yet, and the host's end of its intake.
pub(crate) struct Idle {
    pub(crate) cx: SourceContext,
    pub(crate) submissions: mpsc::Receiver<Submission>,
}

impl Idle {
    pub(crate) fn new() -> Self {
        let (sender, submissions) = mpsc::channel(8);
        let cx = SourceContext {
            name: "gate".into(),
            intake: Intake::new("gate".into(), sender),
            cancel: CancellationToken::new(),
            clock: Arc::new(ManualClock::default()),
            cursor: None,
            http: Arc::new(Mounts::default()),
            status: StatusHandle::new().0,
        };
        Self { cx, submissions }
    }
}

/// A host's end of everything that a source touches.
pub(crate) struct Host {
    pub(crate) submissions: mpsc::Receiver<Submission>,
    pub(crate) status: watch::Receiver<SourceStatus>,
    pub(crate) cancel: CancellationToken,
    pub(crate) mounts: Arc<Mounts>,
    tasks: JoinSet<Result<(), SourceError>>,
}

impl Host {
    /// Runs a source from a cursor. `room` is the capacity of the host's channel.
    pub(crate) fn run(source: Box<dyn Source>, cursor: Option<&str>, room: usize) -> Self {
        let (sender, submissions) = mpsc::channel(room);
        let (handle, status) = StatusHandle::new();
        let cancel = CancellationToken::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let mounts = Arc::new(Mounts::default());
        let cx = SourceContext {
            name: "gate".into(),
            intake: Intake::new("gate".into(), sender),
            cancel: cancel.clone(),
            clock,
            cursor: cursor.map(|text| Cursor(text.to_owned())),
            http: Arc::clone(&mounts) as _,
            status: handle,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(source.run(cx));
        Self { submissions, status, cancel, mounts, tasks }
    }

    /// The next delivery, not yet durable.
    pub(crate) async fn next(&mut self) -> Submission {
        let next = tokio::time::timeout(PATIENCE, self.submissions.recv()).await;
        next.expect("a delivery comes in time").expect("the source still runs")
    }

    /// The next delivery, made durable.
    pub(crate) async fn next_durable(&mut self) -> Delivery {
        let Submission { delivery, ack, .. } = self.next().await;
        ack.send(()).ok();
        delivery
    }

    /// Takes durable deliveries until there are `n` payments and rejects together.
    pub(crate) async fn collect(&mut self, n: usize) -> Delivery {
        let mut all = Delivery::default();
        while all.decoded.payments.len() + all.decoded.rejects.len() < n {
            let delivery = self.next_durable().await;
            all.decoded.payments.extend(delivery.decoded.payments);
            all.decoded.rejects.extend(delivery.decoded.rejects);
            all.cursor = delivery.cursor.or(all.cursor);
        }
        all
    }

    /// Waits until the source is in this phase.
    pub(crate) async fn phase(&mut self, phase: Phase) -> SourceStatus {
        let reached = self.status.wait_for(|status| status.phase == phase);
        tokio::time::timeout(PATIENCE, reached).await.expect("the phase comes in time").unwrap().clone()
    }

    /// Waits until the source returns by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), SourceError> {
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.expect("the source ends in time").expect("it ran").expect("it did not panic")
    }

    /// Asks the source to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), SourceError> {
        self.cancel.cancel();
        self.ended().await
    }
}

/// The ids of a delivery's payments.
pub(crate) fn ids(delivery: &Delivery) -> Vec<&str> {
    delivery.decoded.payments.iter().map(|payment| payment.id.as_str()).collect()
}

/// The codes of a delivery's rejects.
pub(crate) fn codes(delivery: &Delivery) -> Vec<&str> {
    delivery.decoded.rejects.iter().map(|reject| reject.code).collect()
}

/// A listener without sockets: tests call the mounted path directly.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Mutex<HashMap<String, mpsc::Sender<HttpCall>>>);

#[async_trait]
impl HttpMount for Mounts {
    async fn mount(&self, path: &str, _body_len_max: usize) -> Result<mpsc::Receiver<HttpCall>, MountError> {
        let (sender, receiver) = mpsc::channel(64);
        let mut mounts = self.0.lock().unwrap();
        match mounts.get(path) {
            Some(old) if !old.is_closed() => Err(MountError::Taken(path.to_owned())),
            _ => {
                mounts.insert(path.to_owned(), sender);
                Ok(receiver)
            }
        }
    }
}

impl Mounts {
    /// Sends a call to a mounted path; the answer comes through the receiver.
    pub(crate) async fn call(
        &self,
        path: &str,
        method: Method,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> oneshot::Receiver<HttpReply> {
        let sender = self.0.lock().unwrap().get(path).cloned().expect("the path is mounted");
        let (reply, answer) = oneshot::channel();
        let uri = path.parse().unwrap();
        sender
            .send(HttpCall { method, uri, headers, body: body.into(), reply })
            .await
            .expect("the source runs");
        answer
    }
}

/// A payment in the generic shape.
pub(crate) fn payment(id: u32) -> String {
    format!(r#"{{"id":"p{id}","seq":{id},"ts":1800000000,"agent_id":"a","amount_usd":"1.25"}}"#)
}
