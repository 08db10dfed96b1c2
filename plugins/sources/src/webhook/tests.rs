use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};
use railwatch_plugin::http::HttpReply;
use railwatch_plugin::source::Phase;
use tokio::sync::oneshot;

use super::PLUGIN;
use crate::testing::{Host, build, codes, ids, payment};

const PATH: &str = "/in/gate";
/// The host's manual clock shows this.
const NOW: i64 = 1_800_000_000;

async fn host(config: &str, room: usize) -> Host {
    let config = if config.contains("verify") {
        config.to_owned()
    } else {
        format!("verify = {{ preset = 'standard-webhooks', secret = {{ env = 'GATE_SECRET' }} }}\n{config}")
    };
    let mut host = Host::run(build(&PLUGIN, &config).unwrap(), None, room);
    host.phase(Phase::Live).await;
    host
}

fn signed(body: &[u8], at: i64) -> HeaderMap {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let message = [format!("m1.{at}.").as_bytes(), body].concat();
    let signature = STANDARD.encode(ring::hmac::sign(&key, &message));
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "m1".parse().unwrap());
    headers.insert("webhook-timestamp", at.into());
    headers.insert("webhook-signature", format!("v1,{signature}").parse().unwrap());
    headers
}

async fn post(host: &Host, body: &str) -> oneshot::Receiver<HttpReply> {
    let headers = signed(body.as_bytes(), NOW);
    host.mounts.call(PATH, Method::POST, headers, body.to_owned()).await
}

fn text(reply: &HttpReply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

#[tokio::test]
async fn a_request_is_answered_once_its_payments_are_durable() {
    let mut host = host("", 8).await;
    let mut answer = post(&host, &format!("[{},{}]", payment(1), payment(2))).await;
    let submission = host.next().await;
    assert_eq!(ids(&submission.delivery), ["p1", "p2"]);
    let early = tokio::time::timeout(Duration::from_millis(30), &mut answer).await;
    assert!(early.is_err(), "no answer before the disk");
    submission.ack.send(()).unwrap();
    let reply = answer.await.unwrap();
    assert_eq!((reply.status, reply.content_type), (StatusCode::OK, "application/json"));
    assert!(text(&reply).contains("\"accepted\":2"));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn requests_are_worked_on_side_by_side_up_to_a_bound() {
    let mut host = host("in_flight_max = 2", 8).await;
    let first = post(&host, &payment(1)).await;
    let second = post(&host, &payment(2)).await;
    let third = post(&host, &payment(3)).await;
    let (one, two) = (host.next().await, host.next().await);
    assert!(host.submissions.try_recv().is_err(), "the third waits in the host");
    two.ack.send(()).unwrap();
    assert_eq!(second.await.unwrap().status, StatusCode::OK);
    host.next().await.ack.send(()).unwrap();
    assert_eq!(third.await.unwrap().status, StatusCode::OK);
    one.ack.send(()).unwrap();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn forged_requests_are_refused_before_anything_parses_them() {
    let host = host("", 8).await;
    for (headers, body) in [
        (HeaderMap::new(), payment(1)),
        (signed(payment(1).as_bytes(), NOW), payment(2)),
        (signed(payment(1).as_bytes(), NOW - 301), payment(1)),
        (signed(payment(1).as_bytes(), NOW + 301), payment(1)),
    ] {
        let reply = host.mounts.call(PATH, Method::POST, headers, body).await.await.unwrap();
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{}", text(&reply));
    }
    assert_eq!(host.submissions.len(), 0);
    assert_eq!(host.status.borrow().failures, 4);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn garbage_is_counted_and_answered_with_the_reason() {
    let mut host = host("body_len_max = 200", 8).await;
    for (body, code, status) in [
        ("}{".to_owned(), "bad_json", StatusCode::BAD_REQUEST),
        (r#"{"id":"1","ts":1,"amount_usd":1}"#.to_owned(), "no_agent", StatusCode::BAD_REQUEST),
        ("x".repeat(201), "too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = post(&host, &body).await;
        assert_eq!(codes(&host.next_durable().await), [code]);
        let reply = answer.await.unwrap();
        assert_eq!(reply.status, status);
        assert!(text(&reply).contains(code), "{}", text(&reply));
    }
    let answer = post(&host, &format!("{}\nnonsense", payment(1))).await;
    let delivery = host.next_durable().await;
    assert_eq!((ids(&delivery), codes(&delivery)), (vec!["p1"], vec!["bad_json"]));
    assert_eq!(answer.await.unwrap().status, StatusCode::OK, "what was good is taken");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn back_pressure_becomes_503_with_retry_after() {
    let host = host("deadline = '40ms'", 1).await;
    let first = post(&host, &payment(1)).await;
    let second = post(&host, &payment(2)).await;
    for answer in [first, second] {
        let reply = answer.await.unwrap();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.retry_after, Some(Duration::from_secs(5)));
    }
    assert_eq!(host.submissions.len(), 1, "the one that found no room was taken back");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn endpoint_checks_are_answered_and_other_methods_are_not() {
    let host = host("verify = 'none-accept-forged-events'", 8).await;
    for (method, status) in [
        (Method::HEAD, StatusCode::OK),
        (Method::GET, StatusCode::OK),
        (Method::DELETE, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let reply = host.mounts.call(PATH, method, HeaderMap::new(), "").await.await.unwrap();
        assert_eq!(reply.status, status);
    }
    let reply = host.mounts.call(PATH, Method::POST, HeaderMap::new(), "[]").await;
    let mut host = host;
    host.next_durable().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    assert!(host.status.borrow().detail.contains("FORGED"));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_unmounts_and_lets_the_disk_finish() {
    let mut host = host("", 8).await;
    let answer = post(&host, &payment(1)).await;
    let submission = host.next().await;
    host.cancel.cancel();
    submission.ack.send(()).unwrap();
    host.ended().await.unwrap();
    assert_eq!(answer.await.unwrap().status, StatusCode::OK);
}

#[test]
fn a_webhook_without_a_verifier_does_not_build() {
    let error = build(&PLUGIN, "").err().unwrap();
    assert_eq!(error.path, "verify");
    assert!(error.message.contains("none-accept-forged-events"));
    let error = build(&PLUGIN, "path = '/api'\nverify = 'none-accept-forged-events'").err().unwrap();
    assert_eq!(error.path, "path");
}
