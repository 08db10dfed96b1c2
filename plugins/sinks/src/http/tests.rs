//! How every HTTP sink behaves towards a peer that answers, refuses, dawdles or misbehaves.

use std::time::Duration;

use railwatch_model::Occasion;
use railwatch_plugin::sink::{DeliveryError, Receipt};

use super::parse_retry_after;
use crate::testing::{HttpPeer, Reply, URL_TABLE, at, deliver, notice, reply, sink};

const PATH: &str = "/services/T0/B0/s3cr3t-path";

fn outcome(answer: Reply) -> Result<Receipt, DeliveryError> {
    let peer = HttpPeer::play(vec![answer]);
    let table = format!("{URL_TABLE}\ntimeout = \"300ms\"");
    let slack = sink("slack", &table, &[("URL", &peer.url(PATH))]);
    let result = deliver(&*slack, &notice(Occasion::Opened), None);
    if let Err(error) = &result {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("http://"), "{shown}");
    }
    result
}

#[track_caller]
fn check_retried(answer: Reply, says: &str, after_secs: Option<u64>) {
    match outcome(answer) {
        Err(DeliveryError::Retry { reason, after }) => {
            assert!(reason.contains(says), "{reason}");
            assert_eq!(after, after_secs.map(Duration::from_secs));
        }
        other => panic!("expected a retry, got {other:?}"),
    }
}

#[track_caller]
fn check_unanswered(answer: Reply, says: &str) {
    match outcome(answer) {
        Err(DeliveryError::Unanswered(reason)) => assert!(reason.contains(says), "{reason}"),
        other => panic!("expected no answer, got {other:?}"),
    }
}

#[track_caller]
fn check_rejected(answer: Reply, says: &str) {
    match outcome(answer) {
        Err(DeliveryError::Rejected(reason)) => assert!(reason.contains(says), "{reason}"),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

fn with_header(status: u16, name: &'static str, value: &str) -> Reply {
    Reply::Answer(status, vec![(name, value.to_owned())], String::new())
}

#[test]
fn any_2xx_is_a_receipt() {
    for status in [200, 201, 202, 204] {
        assert_eq!(outcome(reply(status, "")), Ok(Receipt::default()));
    }
}

#[test]
fn a_busy_peer_is_asked_again_when_it_says() {
    check_retried(with_header(429, "retry-after", "17"), "HTTP 429", Some(17));
    check_retried(with_header(429, "retry-after", "Mon, 23 Nov 2026 02:00:40 GMT"), "HTTP 429", Some(30));
    check_retried(with_header(503, "retry-after", "soon"), "HTTP 503", None);
    check_retried(reply(500, "oops"), "HTTP 500: oops", None);
    check_retried(reply(408, ""), "HTTP 408", None);
}

#[test]
fn a_refusal_is_final() {
    check_rejected(reply(400, "invalid_blocks"), "HTTP 400: invalid_blocks");
    check_rejected(reply(403, "invalid_token"), "HTTP 403: invalid_token");
    check_rejected(reply(410, ""), "HTTP 410");
}

#[test]
fn a_redirect_is_not_followed() {
    check_rejected(
        with_header(302, "location", "http://127.0.0.1:1/elsewhere"),
        "redirects are not followed",
    );
    check_rejected(with_header(307, "location", "/elsewhere"), "redirects are not followed");
}

#[test]
fn a_peer_that_says_nothing_may_have_it() {
    check_unanswered(Reply::Silence, "no answer within 300ms");
    check_unanswered(Reply::Close, "the connection broke");
}

#[test]
fn a_gateway_without_an_answer_does_not_know() {
    check_unanswered(reply(502, "bad gateway"), "HTTP 502: bad gateway");
    check_unanswered(reply(504, ""), "HTTP 504");
    check_retried(with_header(502, "retry-after", "3"), "HTTP 502", Some(3));
}

#[test]
fn a_status_counts_even_if_its_body_never_comes() {
    for cut in [Reply::Stall as fn(u16) -> Reply, Reply::Half] {
        assert_eq!(outcome(cut(200)), Ok(Receipt::default()));
        check_retried(cut(500), "HTTP 500", None);
        check_rejected(cut(400), "HTTP 400");
    }
}

#[test]
fn a_peer_that_is_not_there_is_asked_again() {
    let peer = HttpPeer::play(Vec::new());
    let url = peer.url(PATH);
    drop(peer);
    let error = deliver(&*sink("slack", URL_TABLE, &[("URL", &url)]), &notice(Occasion::Opened), None);
    match error {
        Err(DeliveryError::Retry { reason, .. }) => {
            assert!(!reason.contains("s3cr3t"), "{reason}");
        }
        other => panic!("expected a retry, got {other:?}"),
    }
}

#[test]
fn a_huge_answer_is_not_read_to_its_end() {
    let huge = "x".repeat(20 * 1024 * 1024);
    assert_eq!(outcome(reply(200, &huge)), Ok(Receipt::default()));
    match outcome(reply(400, &huge)) {
        Err(DeliveryError::Rejected(reason)) => assert!(reason.chars().count() < 250, "{reason}"),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

#[test]
fn an_answer_that_echoes_secrets_and_controls_is_quoted_safely() {
    check_rejected(
        reply(400, "no \u{1b}[31m channel\r\n at services/T0/B0/s3cr3t-path"),
        "no [31m channel at •••",
    );
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let now = at("2026-11-23T02:00:10Z");
    for (text, secs) in [
        ("0", Some(0)),
        (" 5 ", Some(5)),
        ("99999999999999999999999", Some(3600)),
        ("86400", Some(3600)),
        ("Mon, 23 Nov 2026 02:01:10 GMT", Some(60)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("Sat, 23 Nov 2126 02:01:10 GMT", Some(3600)),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("tomorrow", None),
    ] {
        assert_eq!(parse_retry_after(text, now), secs.map(Duration::from_secs), "{text:?}");
    }
}
