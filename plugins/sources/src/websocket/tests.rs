use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use railwatch_plugin::source::{Phase, SourceError};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::PLUGIN;
use crate::testing::{Host, build, codes, ids, payment};

/// A payment gate on a free port.
struct Gate {
    listener: TcpListener,
}

type Socket = WebSocketStream<TcpStream>;

impl Gate {
    async fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn source(&self, config: &str) -> Box<dyn railwatch_plugin::source::Source> {
        let url = format!("ws://{}/payments?v=1", self.listener.local_addr().unwrap());
        build(&PLUGIN, &format!("url = '{url}'\nbackoff_max = '20ms'\n{config}")).unwrap()
    }

    /// The next connection and the request that opened it.
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    async fn accept(&self) -> (Socket, Request) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut seen = None;
        let note = |request: &Request, response: Response| {
            seen = Some(request.clone());
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
        (socket, seen.unwrap())
    }
}

async fn send(socket: &mut Socket, text: String) {
    socket.send(Message::text(text)).await.unwrap();
}

async fn hear(socket: &mut Socket) -> String {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return text.as_str().to_owned();
        }
    }
}

#[tokio::test]
async fn frames_become_payments_and_ready_frames_travel_together() {
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source(""), None, 8);
    let (mut socket, _) = gate.accept().await;
    for id in 0..1000 {
        socket.feed(Message::text(payment(id))).await.unwrap();
    }
    socket.feed(Message::text(format!("[{},{}]", payment(1000), payment(1001)))).await.unwrap();
    socket.feed(Message::binary(payment(1002))).await.unwrap();
    socket.flush().await.unwrap();
    let (mut seen, mut n_deliveries) = (Vec::new(), 0);
    while seen.len() < 1003 {
        let delivery = host.next_durable().await;
        assert!(delivery.decoded.payments.len() <= 513, "512 frames, one of them an array of two");
        seen.extend(ids(&delivery).into_iter().map(str::to_owned));
        n_deliveries += 1;
    }
    let expected: Vec<String> = (0..1003).map(|id| format!("p{id}")).collect();
    assert_eq!(seen, expected);
    assert!(n_deliveries < 200, "{n_deliveries} deliveries for 1002 frames");
    let status = host.phase(Phase::Live).await;
    assert!(status.detail.contains("/payments") && !status.detail.contains("v=1"), "{}", status.detail);
    assert!(status.last_event_at.is_some() && status.last_message_at.is_some());
    host.stop().await.unwrap();
}

#[tokio::test]
async fn it_reconnects_and_resumes_after_the_last_message() {
    let gate = Gate::open().await;
    let config = r#"
        resume = { pointer = "/seq", query = "since", first = "0" }
        subscribe = ['{"op":"sub","after":"{cursor}"}']
        auth = { secret = { env = "S" } }
    "#;
    let mut host = Host::run(gate.source(config), None, 8);
    let (mut socket, request) = gate.accept().await;
    assert_eq!(request.uri().query(), Some("v=1&since=0"));
    assert_eq!(request.headers()["authorization"], "Bearer secret");
    assert_eq!(hear(&mut socket).await, r#"{"op":"sub","after":"0"}"#);
    send(&mut socket, payment(1)).await;
    send(&mut socket, format!("[{},{}]", payment(2), payment(3))).await;
    send(&mut socket, r#"{"heartbeat":1}"#.to_owned()).await;
    let all = host.collect(4).await;
    assert_eq!(ids(&all), ["p1", "p2", "p3"]);
    assert_eq!(all.cursor.unwrap().0, "3");
    drop(socket);
    let (mut socket, request) = gate.accept().await;
    assert_eq!(request.uri().query(), Some("v=1&since=3"));
    assert_eq!(hear(&mut socket).await, r#"{"op":"sub","after":"3"}"#);
    assert!(host.status.borrow().failures >= 1);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn the_durable_cursor_of_an_earlier_run_is_where_it_begins() {
    let gate = Gate::open().await;
    let source = gate.source(r#"resume = { pointer = "/seq", query = "since" }"#);
    let host = Host::run(source, Some("41 &"), 8);
    let (_socket, request) = gate.accept().await;
    assert_eq!(request.uri().query(), Some("v=1&since=41%20%26"));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn acknowledgements_follow_the_disk_in_order() {
    let gate = Gate::open().await;
    let config = "batch_max = 1\nack = '{\"ack\":\"{cursor}\"}'\nresume = { pointer = '/seq' }";
    let mut host = Host::run(gate.source(config), None, 8);
    let (mut socket, _) = gate.accept().await;
    for id in 1..=3 {
        send(&mut socket, payment(id)).await;
    }
    let (one, two, three) = (host.next().await, host.next().await, host.next().await);
    let cursors: Vec<_> = [&one, &two, &three].iter().map(|s| s.delivery.cursor.clone().unwrap().0).collect();
    assert_eq!(cursors, ["1", "2", "3"], "all three are in flight before any is durable");
    three.ack.send(()).unwrap();
    two.ack.send(()).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), socket.next()).await;
    assert!(early.is_err(), "nothing is acknowledged before the first is durable");
    one.ack.send(()).unwrap();
    for id in 1..=3 {
        assert_eq!(hear(&mut socket).await, format!("{{\"ack\":\"{id}\"}}"));
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_delivery_ends_the_source() {
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source(""), None, 8);
    let (mut socket, _) = gate.accept().await;
    send(&mut socket, payment(1)).await;
    drop(host.next().await);
    assert!(matches!(host.ended().await, Err(SourceError::Closed)));
}

#[tokio::test]
async fn a_half_open_socket_is_pinged_and_then_dropped() {
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source("ping_after = '30ms'\ndead_after = '90ms'"), None, 8);
    // The peer never reads, so that it never answers a ping.
    let (_silent, _) = gate.accept().await;
    let (mut second, _) = gate.accept().await;
    assert!(host.status.borrow().failures >= 1);
    // A peer that reads answers pings and stays: a payment after several silences arrives on this connection.
    let mut n_pings = 0;
    while n_pings < 4 {
        if let Message::Ping(_) = second.next().await.unwrap().unwrap() {
            second.flush().await.unwrap();
            n_pings += 1;
        }
    }
    send(&mut second, payment(7)).await;
    assert_eq!(ids(&host.next_durable().await), ["p7"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn garbage_and_giant_frames_are_counted_and_cost_nothing_else() {
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source(""), None, 8);
    let (mut socket, _) = gate.accept().await;
    send(&mut socket, "}{".to_owned()).await;
    send(&mut socket, "x".repeat(10 << 20)).await;
    send(&mut socket, payment(1)).await;
    let all = host.collect(3).await;
    assert_eq!((ids(&all), codes(&all)), (vec!["p1"], vec!["bad_json", "too_large"]));
    assert!(all.decoded.rejects[1].raw.len() <= 4096);
    send(&mut socket, payment(2)).await;
    assert_eq!(ids(&host.next_durable().await), ["p2"], "on the same connection");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_frame_beyond_every_limit_costs_the_connection_only() {
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source(""), None, 8);
    let (mut socket, _) = gate.accept().await;
    socket.send(Message::text("x".repeat(17 << 20))).await.ok();
    assert_eq!(codes(&host.next_durable().await), ["too_large"]);
    let (mut socket, _) = gate.accept().await;
    send(&mut socket, payment(1)).await;
    assert_eq!(ids(&host.next_durable().await), ["p1"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn back_pressure_reaches_the_gate_and_stopping_is_prompt() {
    let gate = Gate::open().await;
    let host = Host::run(gate.source("batch_max = 1"), None, 1);
    let (mut socket, _) = gate.accept().await;
    // Nobody takes deliveries: the source stops reading, and the gate's buffers fill.
    let flood = async {
        let big = payment(1).replace("\"a\"", &format!("\"{}\"", "a".repeat(100_000)));
        while socket.send(Message::text(big.clone())).await.is_ok() {}
    };
    let blocked = tokio::time::timeout(Duration::from_millis(500), flood).await;
    assert!(blocked.is_err(), "sending blocks");
    assert_eq!(host.submissions.len(), 1);
    let stop = tokio::time::timeout(Duration::from_secs(5), host.stop());
    stop.await.expect("it stops promptly").unwrap();
}

#[tokio::test]
async fn a_wrong_credential_needs_a_person_and_a_closed_port_does_not() {
    use tokio::io::AsyncWriteExt as _;
    let gate = Gate::open().await;
    let mut host = Host::run(gate.source(""), None, 8);
    let (mut stream, _) = gate.listener.accept().await.unwrap();
    stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(matches!(host.ended().await, Err(SourceError::Fatal(reason)) if reason.contains("401")));
    assert_eq!(host.status.borrow().phase, Phase::Failed);

    let gate = Gate::open().await;
    let source = gate.source("");
    drop(gate);
    let mut host = Host::run(source, None, 8);
    let status = host.phase(Phase::Retrying).await;
    assert!(status.detail.contains("next try"), "{}", status.detail);
    host.stop().await.unwrap();
}

#[track_caller]
fn check_wrong(config: &str, path: &str, says: &str) {
    let error = build(&PLUGIN, config).err().expect("it is wrong");
    assert_eq!(error.path, path, "{error}");
    assert!(error.message.contains(says), "{error}");
}

#[test]
fn wrong_configuration_says_what_is_right() {
    check_wrong("url = 'http://x/'", "url", "wss://");
    check_wrong("", "", "url");
    check_wrong("url = 'ws://x/'\nbogus = 1", "bogus", "currency");
    check_wrong("url = 'ws://x/'\nauth = { secret = { env = 'NOPE' } }", "auth.secret", "NOPE");
    check_wrong("url = 'ws://x/'\ntoken = { env = 'NOPE' }", "token", "NOPE");
    let both = "url = 'ws://x/'\ntoken = { env = 'S' }\nauth = { secret = { env = 'S' } }";
    check_wrong(both, "token", "one of both");
    check_wrong("url = 'ws://x/'\nping_after = '2m'", "dead_after", "longer");
    check_wrong("url = 'ws://x/'\nmap.amount = ''", "map.amount", "/data/id");
    check_wrong("url = 'ws://x/'\ndecode = 'x.lua'", "decode", "x.lua");
}
