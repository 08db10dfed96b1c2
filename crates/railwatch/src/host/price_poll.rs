//! Asks price providers. What they say goes to [`Prices`]; that they say nothing is logged once, and costs no payment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use railwatch_model::{Rate, SmolStr, Timestamp};
use railwatch_plugin::clock::Clock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::PricePoll;
use crate::host::prices::Prices;

/// What a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that an answer may have.
const ANSWER_LEN_MAX: usize = 1 << 20;
/// How often it is looked whose turn it is, at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(60);

type Provider = (SmolStr, usize);

/// Asks for as long as railwatch runs.
pub(crate) async fn run(prices: Arc<Prices>, clock: Arc<dyn Clock>, cancel: CancellationToken) {
    // Making a client reads the system's certificates, which is for those who need one.
    let mut client = None;
    let mut asked_at: BTreeMap<(Provider, String), Timestamp> = BTreeMap::new();
    let mut silent: BTreeSet<Provider> = BTreeSet::new();
    loop {
        let (now, providers) = (clock.now(), prices.providers());
        let mut pause = LOOK_EVERY;
        let mut due = Vec::new();
        for (asset, nth, poll) in providers {
            let asked =
                asked_at.entry(((asset.clone(), nth), poll.url.0.clone())).or_insert(Timestamp::EPOCH);
            if now.since(*asked) >= poll.every.0 {
                *asked = now;
                due.push((asset, nth, poll));
            } else {
                pause = pause.min(poll.every.0.saturating_sub(now.since(*asked)));
            }
        }
        if client.is_none() && !due.is_empty() {
            client = match build_client() {
                Ok(client) => Some(client),
                Err(error) => return tracing::error!(%error, "price providers cannot be asked"),
            };
        }
        let asking = join_all(client.iter().flat_map(|client| {
            std::mem::take(&mut due).into_iter().map(move |(asset, nth, poll)| async move {
                let answer = ask(client, &poll, now).await;
                (asset, nth, poll, answer)
            })
        }));
        let answers = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            answers = asking => answers,
        };
        for (asset, nth, poll, answer) in answers {
            pause = pause.min(poll.every.0);
            let provider = (asset, nth);
            match answer {
                Ok(rate) => {
                    silent.remove(&provider);
                    if !prices.answer(&provider.0, nth, rate, now) {
                        tracing::warn!(asset = %provider.0, "price providers disagree, the rate stays as it was");
                    }
                }
                Err(reason) => {
                    if silent.insert(provider.clone()) {
                        let host = host_of(&poll);
                        tracing::warn!(asset = %provider.0, %host, reason, "price provider does not answer");
                    }
                }
            }
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = prices.changed.notified() => {}
            () = tokio::time::sleep(pause.max(Duration::from_millis(10))) => {}
        }
    }
}

fn build_client() -> reqwest::Result<reqwest::Client> {
    // A source or sink may have installed it, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().user_agent("railwatch").timeout(TIMEOUT).build()
}

async fn ask(client: &reqwest::Client, poll: &PricePoll, now: Timestamp) -> Result<Rate, String> {
    // An error would show the URL, which may hold a key.
    let fail = |error: reqwest::Error| error.without_url().to_string();
    let response = client.get(&poll.url.0).send().await.map_err(fail)?;
    let mut response = response.error_for_status().map_err(fail)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fail)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LEN_MAX {
            return Err(format!("the answer has more than {ANSWER_LEN_MAX} bytes"));
        }
    }
    let document: Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())?;
    let price = match document.pointer(&poll.pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(format!("there is no price at {}", poll.pointer)),
    };
    let rate = Rate::parse(&price, host_of(poll), now).map_err(|error| error.to_string())?;
    if rate.nanos_per_unit <= 0 {
        return Err(format!("{price:.40} is no price"));
    }
    Ok(rate)
}

/// The provider's name on rates: its host.
fn host_of(poll: &PricePoll) -> SmolStr {
    let url = reqwest::Url::parse(&poll.url.0).ok();
    url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("provider").into()
}
