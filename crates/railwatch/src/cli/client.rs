//! Talks to a running railwatch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{EXIT_CONFIG, EXIT_FAILURE, EXIT_NOT_RUNNING, Failure};
use crate::config::{Http, Loaded, Store};

/// Bytes that an answer may have.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// Where a railwatch listens and keeps its store.
#[derive(Debug)]
pub(crate) struct Place {
    listen: String,
    /// The store's file.
    pub(crate) store: PathBuf,
}

impl Place {
    /// What the configuration at `path` says; a mistake in another section does not hide a railwatch that runs.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let failure = match super::run::load(path, true) {
            Ok(loaded) => {
                let listen = loaded.config.http.listen.0.to_string();
                return Ok(Self { listen, store: loaded.base_dir.join(&loaded.config.store.path) });
            }
            Err(failure) => failure,
        };
        let text = std::fs::read_to_string(path).ok();
        let Some(table) = text.and_then(|text| text.parse::<toml::Table>().ok()) else { return Err(failure) };
        let text = |section: &str, key: &str| table.get(section)?.get(key)?.as_str().map(str::to_owned);
        let listen = text("http", "listen").unwrap_or_else(|| Http::default().listen.0.to_string());
        let store = text("store", "path").map_or_else(|| Store::default().path, PathBuf::from);
        Ok(Self { listen, store: path.parent().unwrap_or(Path::new("")).join(store) })
    }
}

/// A client of the railwatch that runs a configuration.
pub(crate) struct Client {
    base: String,
    /// A token, where the configuration has some: the environment's `RAILWATCH_TOKEN`.
    token: Option<String>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client of the railwatch that runs the configuration at `path`; secrets are not needed to ask.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Self::at(&Place::of(path)?.listen)
    }

    /// A client of the railwatch that runs this configuration.
    pub(crate) fn new(loaded: &Loaded) -> Result<Self, Failure> {
        Self::at(&loaded.config.http.listen.0.to_string())
    }

    fn at(address: &str) -> Result<Self, Failure> {
        let base = format!("http://{address}");
        // Whoever installed one before is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let token = std::env::var_os("RAILWATCH_TOKEN").map(|token| token.to_string_lossy().into_owned());
        Ok(Self { base, token, http: http.map_err(anyhow::Error::from)?, runtime })
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
            // What the daemon refuses to put in force is the configuration's fault.
            let is_config = status == reqwest::StatusCode::UNPROCESSABLE_ENTITY;
            let code = if is_config { EXIT_CONFIG } else { EXIT_FAILURE };
            Err(Failure { code, message: detail.to_owned() })
        })
    }
}
