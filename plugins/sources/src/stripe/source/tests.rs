//! The source against a host's double and an in-process API: signatures, durability, pages, overlap, restart.

use http::{HeaderMap, Method, StatusCode};
use railwatch_plugin::http::HttpReply;
use railwatch_plugin::source::Phase;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::PLUGIN;
use crate::testing::{Host, build, codes, ids};

/// The host's manual clock shows this.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn event(id: u32, created: i64) -> Value {
    json!({"id": format!("evt_{id}"), "object": "event", "created": created, "type": "issuing_transaction.created",
        "data": {"object": {"id": format!("ipi_{id}"), "amount": -100 - i64::from(id), "currency": "usd",
            "created": created, "card": "ic_1"}}})
}

fn signed(body: &str, at: i64) -> HeaderMap {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"whsec_c2VjcmV0");
    let signature = hex::encode(ring::hmac::sign(&key, format!("{at}.{body}").as_bytes()));
    let mut headers = HeaderMap::new();
    headers.insert("stripe-signature", format!("t={at},v1={signature}").parse().unwrap());
    headers
}

async fn post(host: &Host, body: &str, headers: HeaderMap) -> oneshot::Receiver<HttpReply> {
    host.mounts.call("/in/gate", Method::POST, headers, body.to_owned()).await
}

async fn status(answer: oneshot::Receiver<HttpReply>) -> StatusCode {
    answer.await.unwrap().status
}

/// An API that answers one request per connection.
struct Api(TcpListener);

impl Api {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn run(&self, config: &str, cursor: Option<&str>) -> Host {
        let address = self.0.local_addr().unwrap();
        let interval = if config.contains("poll_interval") { "" } else { "poll_interval = '10ms'\n" };
        let config = format!("api_url = 'http://{address}'\napi_key = {{ env = 'S' }}\n{interval}{config}");
        Host::run(build(&PLUGIN, &config).unwrap(), cursor, 64)
    }

    /// Answers the next request with events, newest first, and returns its first line.
    async fn answer(&self, events: &[Value], has_more: bool) -> String {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let body = json!({"object": "list", "data": events, "has_more": has_more}).to_string();
        let text =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.ok();
        let request = String::from_utf8(request).unwrap();
        assert!(request.to_ascii_lowercase().contains("authorization: bearer secret"), "{request}");
        request.lines().next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_signed_event_is_answered_once_it_is_durable() {
    let config = "webhook_secret = { env = 'GATE_SECRET' }";
    let mut host = Host::run(build(&PLUGIN, config).unwrap(), None, 8);
    host.phase(Phase::Live).await;
    let body = event(1, NOW).to_string();
    let answer = post(&host, &body, signed(&body, NOW)).await;
    assert_eq!(ids(&host.next_durable().await), ["ipi_1"]);
    assert_eq!(status(answer).await, StatusCode::OK);
    for forged in [signed(&body, NOW - 301), signed("another body", NOW), HeaderMap::new()] {
        assert_eq!(status(post(&host, &body, forged).await).await, StatusCode::UNAUTHORIZED);
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_19_what_is_not_understood_is_kept_and_answered_200() {
    let config = "webhook_secret = { env = 'GATE_SECRET' }";
    let mut host = Host::run(build(&PLUGIN, config).unwrap(), None, 8);
    host.phase(Phase::Live).await;
    let unknown = json!({"object": "event", "type": "moon.landed", "data": {"object": {}}}).to_string();
    for (body, n_rejects) in [(unknown.as_str(), 0), ("{\"object\":", 1)] {
        let answer = post(&host, body, signed(body, NOW)).await;
        let delivery = host.next_durable().await;
        assert_eq!(status(answer).await, StatusCode::OK);
        assert_eq!(delivery.decoded.rejects.len(), n_rejects);
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_webhook_the_list_of_events_is_read_page_by_page() {
    let api = Api::open().await;
    let mut host = api.run("", None);
    let line = api.answer(&[event(3, NOW - 10), event(2, NOW - 20)], true).await;
    assert!(line.starts_with(&format!("GET /v1/events?limit=100&created%5Bgte%5D={} ", NOW - DAY)), "{line}");
    let first = host.next_durable().await;
    assert_eq!(
        (ids(&first), first.cursor.clone()),
        (vec!["ipi_2", "ipi_3"], None),
        "the cursor waits for the last page"
    );
    let line = api.answer(&[event(1, NOW - 30)], false).await;
    assert!(line.contains("&starting_after=evt_2 "), "{line}");
    let second = host.next_durable().await;
    assert_eq!(ids(&second), ["ipi_1"]);
    assert_eq!(second.cursor.unwrap().0, (NOW - 10).to_string());
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_23_and_26_the_overlap_finds_late_events_and_repeats_none() {
    let api = Api::open().await;
    let mut host = api.run("types = ['issuing_*']", None);
    api.answer(&[event(3, NOW - 10)], false).await;
    assert_eq!(ids(&host.next_durable().await), ["ipi_3"]);
    let line = api.answer(&[event(3, NOW - 10), event(2, NOW - 500)], false).await;
    assert!(line.contains(&format!("gte%5D={}&types%5B%5D=issuing_%2A ", NOW - 610)), "{line}");
    assert_eq!(ids(&host.next_durable().await), ["ipi_2"], "it became visible late");
    api.answer(&[event(4, NOW - 5), event(3, NOW - 10), event(2, NOW - 500)], false).await;
    let third = host.next_durable().await;
    assert_eq!((ids(&third), third.cursor.clone().unwrap().0), (vec!["ipi_4"], (NOW - 5).to_string()));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_thin_event_is_fetched_at_once() {
    let api = Api::open().await;
    let config = "webhook_secret = { env = 'GATE_SECRET' }\npoll_interval = '1h'";
    let mut host = api.run(config, None);
    api.answer(&[event(1, NOW - 10)], false).await;
    assert_eq!(ids(&host.next_durable().await), ["ipi_1"]);
    let thin = json!({"id": "evt_2", "object": "v2.core.event", "type": "v1.issuing_transaction.created",
        "created": "2027-01-15T08:00:00.000Z", "snapshot_event": "evt_2",
        "related_object": {"id": "ipi_2", "type": "issuing.transaction", "url": "/v1/issuing/transactions/ipi_2"}})
    .to_string();
    let answer = post(&host, &thin, signed(&thin, NOW)).await;
    let filtered = host.next_durable().await;
    assert_eq!((filtered.decoded.payments.len(), filtered.decoded.filtered.len()), (0, 1));
    assert_eq!(status(answer).await, StatusCode::OK);
    api.answer(&[event(2, NOW), event(1, NOW - 10)], false).await;
    assert_eq!(ids(&host.next_durable().await), ["ipi_2"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_resumes_and_tells_what_stripe_keeps_no_longer() {
    let api = Api::open().await;
    let host = api.run("", Some(&(NOW - 5000).to_string()));
    let line = api.answer(&[], false).await;
    assert!(line.contains(&format!("gte%5D={} ", NOW - 5600)), "{line}");
    host.stop().await.unwrap();
    let mut host = api.run("", Some(&(NOW - 40 * DAY).to_string()));
    assert_eq!(codes(&host.next_durable().await), ["gap"]);
    let line = api.answer(&[], false).await;
    assert!(line.contains(&format!("gte%5D={} ", NOW - 30 * DAY)), "{line}");
    host.stop().await.unwrap();
}

#[test]
fn wrong_tables_say_what_is_accepted() {
    for (config, path, part) in [
        ("", "", "webhook_secret"),
        (
            "webhook_secret = { env = 'S' }\nverify = { preset = 'stripe', secret = { env = 'S' } }",
            "webhook_secret",
            "both",
        ),
        ("api_key = { env = 'NOPE' }", "api_key", "NOPE"),
        ("api_key = { env = 'S' }\napi_url = 'stripe'", "api_url", "https://"),
        ("api_key = { env = 'S' }\nrefunds = 'never'", "refunds", "charge"),
        ("api_key = { env = 'S' }\ndirection = 'spend'", "direction", "unknown field"),
    ] {
        let error = build(&PLUGIN, config).map(drop).unwrap_err();
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(error.message.contains(part), "{config}: {error}");
    }
}
