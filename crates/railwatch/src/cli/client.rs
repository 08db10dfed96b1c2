//! Talks to a running railwatch.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{EXIT_FAILURE, EXIT_NOT_RUNNING, Failure};
use crate::config::Loaded;

/// Bytes that an answer may have.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// A client of the railwatch that runs a configuration.
pub(crate) struct Client {
    base: String,
    /// A token, where the configuration has some: the environment's `RAILWATCH_TOKEN`.
    token: Option<String>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client for the address that a configuration listens on.
    pub(crate) fn new(loaded: &Loaded) -> Result<Self, Failure> {
        let base = format!("http://{}", loaded.config.http.listen.0);
        // Whoever installed one before is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let token = std::env::var_os("RAILWATCH_TOKEN").map(|token| token.to_string_lossy().into_owned());
        Ok(Self { base, token, http: http.map_err(anyhow::Error::from)?, runtime })
    }

    /// A client for the configuration at `path`; secrets are not needed to ask.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Self::new(&super::run::load(path, true)?)
    }

    /// Asks.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(self.http.get(format!("{}{path}", self.base)))
    }

    /// Does.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let by = std::env::var_os("USER")
            .map_or_else(|| "cli".to_owned(), |user| user.to_string_lossy().into_owned());
        self.send(self.http.post(format!("{}{path}", self.base)).header("x-railwatch-by", by).json(body))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        self.runtime.block_on(async {
            let unreachable = |error: reqwest::Error| Failure {
                code: EXIT_NOT_RUNNING,
                message: format!("railwatch does not answer at {}: {error}; is it running?", self.base),
            };
            let mut response = request.send().await.map_err(unreachable)?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER_LEN_MAX {
                    let message = "the answer is too large; ask for less with --limit".to_owned();
                    return Err(Failure { code: EXIT_FAILURE, message });
                }
            }
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            if status.is_success() {
                return Ok(value);
            }
            if status == reqwest::StatusCode::UNAUTHORIZED {
                let message = "railwatch needs a token: set RAILWATCH_TOKEN to one that it knows".to_owned();
                return Err(Failure { code: EXIT_FAILURE, message });
            }
            let detail = value.get("detail").and_then(Value::as_str).unwrap_or("no reason given");
            Err(Failure { code: EXIT_FAILURE, message: detail.to_owned() })
        })
    }
}
