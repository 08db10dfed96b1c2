//! One HTTP GET: authenticated, capped, conditional, and with the server's wish for patience.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Client, Response};

use crate::auth::RequestHeaders;

/// An answer that streams may be silent for months.
const ENDLESS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What a request gave.
pub(crate) enum Fetched {
    /// The same as last time.
    Unchanged,
    Body(Vec<u8>),
}

/// Why it gave nothing. The text holds no URL, which may hold secrets.
pub(crate) enum FetchError {
    Transient { why: String, after: Option<Duration> },
    Fatal(String),
}

#[derive(Debug)]
pub(crate) struct Fetch {
    client: Client,
    headers: RequestHeaders,
    body_len_max: usize,
    /// The last URL and its entity tag.
    seen: Option<(String, HeaderValue)>,
}

impl Fetch {
    pub(crate) fn new(
        tls: rustls::ClientConfig,
        headers: RequestHeaders,
        timeout: Duration,
        body_len_max: usize,
    ) -> Result<Self, String> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(timeout)
            // A redirect could carry credentials to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, headers, body_len_max, seen: None })
    }

    /// Forgets the last entity tag, so that the next answer is a whole one.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    pub(crate) async fn get(&mut self, url: &str) -> Result<Fetched, FetchError> {
        let headers = self.headers.resolve();
        let mut headers = headers.map_err(|why| FetchError::Transient { why, after: None })?;
        if let Some((seen, tag)) = &self.seen
            && seen == url
        {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        let response = self.client.get(url).headers(headers).send().await.map_err(lost)?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Fetched::Unchanged);
        }
        if !status.is_success() {
            return Err(refused(&response));
        }
        let tag = response.headers().get(ETAG).cloned();
        let body = self.body(response).await?;
        self.seen = tag.map(|tag| (url.to_owned(), tag));
        Ok(Fetched::Body(body))
    }

    /// Posts a JSON text.
    pub(crate) async fn post(&self, url: &str, json: String) -> Result<Vec<u8>, FetchError> {
        let headers = self.headers.resolve();
        let headers = headers.map_err(|why| FetchError::Transient { why, after: None })?;
        let request =
            self.client.post(url).headers(headers).header(CONTENT_TYPE, "application/json").body(json);
        let response = request.send().await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(refused(&response));
        }
        self.body(response).await
    }

    /// Opens an answer without an end; `None` if the server has no such path.
    pub(crate) async fn open(&self, url: &str) -> Result<Option<Response>, FetchError> {
        let headers = self.headers.resolve();
        let headers = headers.map_err(|why| FetchError::Transient { why, after: None })?;
        let request = self.client.get(url).headers(headers).timeout(ENDLESS);
        let response = request.send().await.map_err(lost)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            status if status.is_success() => Ok(Some(response)),
            _ => Err(refused(&response)),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, FetchError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(chunk)) if body.len() + chunk.len() <= self.body_len_max => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    let why = format!("a page of more than {} bytes (body_len_max)", self.body_len_max);
                    return Err(FetchError::Transient { why, after: None });
                }
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

/// reqwest's errors name the URL unless it is taken out.
pub(crate) fn lost(error: reqwest::Error) -> FetchError {
    FetchError::Transient { why: error.without_url().to_string(), after: None }
}

fn refused(response: &Response) -> FetchError {
    let status = response.status();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return FetchError::Fatal(format!("the server answers {status}; check auth"));
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|secs| secs.trim().parse().ok()).map(Duration::from_secs);
    FetchError::Transient { why: format!("the server answers {status}"), after }
}
