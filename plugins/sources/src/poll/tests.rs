use std::time::Duration;

use railwatch_plugin::source::{Phase, SourceError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::PLUGIN;
use crate::testing::{Host, build, codes, ids, payment};

/// An HTTP server that answers one request per connection.
struct Api {
    listener: TcpListener,
}

impl Api {
    async fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn run(&self, query: &str, config: &str, cursor: Option<&str>) -> Host {
        let address = self.listener.local_addr().unwrap();
        let config = format!(
            "url = 'http://{address}/list{query}'\ninterval = '10ms'\nbackoff_max = '20ms'\nitems = '/data'\n{config}"
        );
        Host::run(build(&PLUGIN, &config).unwrap(), cursor, 64)
    }

    /// Answers the next request, and returns its head.
    async fn answer(&self, head: &str, body: &str) -> String {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let len = body.len();
        let text = format!("HTTP/1.1 {head}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.ok();
        String::from_utf8(request).unwrap()
    }
}

fn page(items: &[u32], next: Option<&str>) -> String {
    let items: Vec<String> = items.iter().map(|id| payment(*id)).collect();
    let next = serde_json::Value::from(next);
    format!("{{\"data\":[{}],\"next\":{next}}}", items.join(","))
}

#[track_caller]
fn asks(request: &str, target: &str) {
    assert!(request.starts_with(&format!("GET /list{target} HTTP")), "{request}");
}

#[tokio::test]
async fn ascending_pages_are_read_until_there_is_nothing_new() {
    let api = Api::open().await;
    let config = "cursor = '/seq'\nfirst = '0'\ntoken = { env = 'S' }";
    let mut host = api.run("?after={cursor}", config, None);
    let request = api.answer("200 OK", &page(&[1, 2], None)).await;
    asks(&request, "?after=0");
    assert!(request.to_ascii_lowercase().contains("authorization: bearer secret"), "{request}");
    let delivery = host.next_durable().await;
    assert_eq!(ids(&delivery), ["p1", "p2"]);
    assert_eq!(delivery.cursor.unwrap().0, "2");
    asks(&api.answer("200 OK", &page(&[3], None)).await, "?after=2");
    assert_eq!(ids(&host.next_durable().await), ["p3"]);
    asks(&api.answer("200 OK", &page(&[], None)).await, "?after=3");
    host.phase(Phase::Live).await;
    asks(&api.answer("200 OK", &page(&[], None)).await, "?after=3");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn it_begins_at_the_durable_cursor() {
    let api = Api::open().await;
    let host = api.run("?after={cursor}", "cursor = '/seq'", Some("7/8"));
    asks(&api.answer("200 OK", &page(&[], None)).await, "?after=7%2F8");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn page_tokens_are_followed() {
    let api = Api::open().await;
    let mut host = api.run("?page={page}", "next = '/next'", None);
    asks(&api.answer("200 OK", &page(&[1], Some("t2"))).await, "?page=");
    asks(&api.answer("200 OK", &page(&[2], None)).await, "?page=t2");
    assert_eq!(ids(&host.collect(2).await), ["p1", "p2"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_descending_feed_stops_at_the_known_item_and_turns_around() {
    let api = Api::open().await;
    let config = "order = 'desc'\ncursor = '/id'\nnext = '/next'";
    let mut host = api.run("?page={page}", config, Some("p2"));
    asks(&api.answer("200 OK", &page(&[5, 4], Some("b"))).await, "?page=");
    asks(&api.answer("200 OK", &page(&[3, 2, 1], Some("c"))).await, "?page=b");
    let all = host.collect(3).await;
    assert_eq!(ids(&all), ["p3", "p4", "p5"], "oldest first, and not what was known");
    assert_eq!(all.cursor.unwrap().0, "p5");
    asks(&api.answer("200 OK", &page(&[5, 4], Some("b"))).await, "?page=");
    asks(&api.answer("200 OK", &page(&[6, 5], Some("b"))).await, "?page=");
    assert_eq!(ids(&host.next_durable().await), ["p6"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_in_a_descending_feed_is_told() {
    let api = Api::open().await;
    let config = "order = 'desc'\ncursor = '/id'\nnext = '/next'\npages_max = 1";
    let mut host = api.run("?page={page}", config, Some("p2"));
    api.answer("200 OK", &page(&[9, 8], Some("b"))).await;
    let all = host.collect(3).await;
    assert_eq!((ids(&all), codes(&all)), (vec!["p8", "p9"], vec!["gap"]));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn entity_tags_save_the_body() {
    let api = Api::open().await;
    let mut host = api.run("", "", None);
    api.answer("200 OK\r\netag: \"v1\"", &page(&[1], None)).await;
    host.next_durable().await;
    let request = api.answer("304 Not Modified", "").await;
    assert!(request.to_ascii_lowercase().contains("if-none-match: \"v1\""), "{request}");
    api.answer("200 OK", &page(&[2], None)).await;
    assert_eq!(ids(&host.next_durable().await), ["p2"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn failures_wait_and_say_why() {
    let api = Api::open().await;
    let mut host = api.run("?key=private", "body_len_max = 400", None);
    api.answer("500 Oops", "").await;
    let status = host.phase(Phase::Retrying).await;
    assert!(status.detail.contains("500") && !status.detail.contains("private"), "{}", status.detail);
    api.answer("200 OK", "<html>").await;
    assert_eq!(codes(&host.next_durable().await), ["bad_json"]);
    api.answer("200 OK", &"x".repeat(500)).await;
    api.answer("200 OK", &page(&[1], None)).await;
    assert_eq!(ids(&host.next_durable().await), ["p1"], "a page that is too large costs nothing but a try");
    assert_eq!(host.status.borrow().failures, 3);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn retry_after_is_honored() {
    let api = Api::open().await;
    let mut host = api.run("", "", None);
    api.answer("429 Too Many Requests\r\nretry-after: 3600", "").await;
    assert!(host.phase(Phase::Retrying).await.detail.contains("3600000 ms"));
    let asked = tokio::time::timeout(Duration::from_millis(80), api.listener.accept()).await;
    assert!(asked.is_err(), "nothing is asked before the server wishes it");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_credential_needs_a_person_and_redirects_are_not_followed() {
    let api = Api::open().await;
    let mut host = api.run("", "", None);
    api.answer("302 Found\r\nlocation: http://127.0.0.1:1/", "").await;
    assert!(host.phase(Phase::Retrying).await.detail.contains("302"));
    api.answer("401 Unauthorized", "").await;
    assert!(matches!(host.ended().await, Err(SourceError::Fatal(reason)) if reason.contains("check auth")));
}

#[test]
fn wrong_configuration_says_what_is_right() {
    for (config, path) in [
        ("url = 'ftp://x/'", "url"),
        ("url = 'http://x/'\norder = 'desc'", "cursor"),
        ("url = 'http://x/'\ninterval = '0s'", "interval"),
        ("url = 'http://x/'\nitems = ''", "items"),
        ("url = 'http://x/'\nfirst_url = 'nope'", "first_url"),
    ] {
        assert_eq!(build(&PLUGIN, config).err().unwrap().path, path, "{config}");
    }
}
