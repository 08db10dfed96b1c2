//! A dead-man's switch: a watchdog elsewhere that raises the alarm when railwatch's sign of life stays away
//! (Healthchecks, Dead Man's Snitch, Cronitor, Uptime Kuma, …).
//!
//! The sign says that the whole of railwatch works, not merely that a process runs: the host gives it only while
//! payments can be judged and stored. What the watchdog missed is never sent later.

use std::time::Duration;

use async_trait::async_trait;
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use reqwest::Method;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use crate::endpoint::{Hook, hidden_part};
use crate::http::TIMEOUT;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "heartbeat",
    summary: "Gives a watchdog elsewhere a sign of life, so that silence is noticed",
    example: r#"[sinks.watchdog]
plugin = "heartbeat"
url = { env = "WATCHDOG_URL" }
every = "1m"
"#,
    schema: || schema_for!(HeartbeatConfig),
    build,
};

/// More often is a burden, less often is no watch.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// Settings of a heartbeat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeartbeatConfig {
    /// The address that the watchdog gave for this check, a secret: `{ env = "…" }` or `{ file = "…" }`.
    url: SecretRef,
    /// How often to give a sign; the watchdog should wait for about three of them. From `1s` to `1d`.
    #[serde(default = "every")]
    every: Span,
    /// How long one sign may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn every() -> Span {
    Span(Duration::from_secs(60))
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Heartbeat {
    hook: Hook,
    every: Duration,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let HeartbeatConfig { url, every, timeout } = parse(table)?;
    if !(EVERY_MIN..=EVERY_MAX).contains(&every.0) {
        return Err(ConfigError::new("every", format!("{every} is not between 1s and 1d")));
    }
    Ok(Box::new(Heartbeat { hook: Hook::new(url, timeout, build)?, every: every.0 }))
}

#[async_trait]
impl Sink for Heartbeat {
    async fn deliver(&self, _: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        Err(DeliveryError::Rejected("a heartbeat tells people nothing".to_owned()))
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn beats_every(&self) -> Option<Duration> {
        Some(self.every)
    }

    async fn beat(&self) -> Result<(), DeliveryError> {
        let url = self.hook.url()?;
        let hidden = hidden_part(&url);
        self.hook.peer.send(self.hook.peer.request(Method::POST, url), &[&hidden]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HttpPeer, build_with, reply, sink};

    fn beat(sink: &dyn Sink) -> Result<(), DeliveryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(sink.beat())
    }

    #[test]
    fn a_beat_is_one_request_without_a_body() {
        let peer = HttpPeer::play(vec![reply(200, "OK"), reply(404, "no check s3cr3t-check")]);
        let heart = sink("heartbeat", PLUGIN_TABLE, &[("URL", &peer.url("/ping/s3cr3t-check"))]);
        assert_eq!(heart.beats_every(), Some(Duration::from_secs(30)));
        assert_eq!(beat(&*heart), Ok(()));
        let request = peer.request();
        assert_eq!((request.line.as_str(), request.body.as_str()), ("POST /ping/s3cr3t-check HTTP/1.1", ""));
        let error = beat(&*heart).unwrap_err().to_string();
        assert!(error.contains("HTTP 404") && !error.contains("s3cr3t-check/"), "{error}");
    }

    const PLUGIN_TABLE: &str = "url = { env = \"URL\" }\nevery = \"30s\"";

    #[test]
    fn a_heart_beats_at_a_bearable_pace() {
        for (every, accepted) in [("1s", true), ("1d", true), ("500ms", false), ("2d", false)] {
            let table = toml::from_str(&format!("url = {{ env = \"URL\" }}\nevery = {every:?}")).unwrap();
            let secrets = [("URL", "https://watchdog.example/ping/1")];
            let built = build(&table, &build_with(&secrets, std::path::PathBuf::new()));
            assert_eq!(built.is_ok(), accepted, "{every}");
        }
    }
}
