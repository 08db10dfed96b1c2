//! The source against in-process servers.

use std::sync::{Arc, Mutex};

use railwatch_plugin::source::{Phase, SourceError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::PLUGIN;
use crate::testing::{Host, build};

/// A server that answers lists with what it is told and keeps the stream open; `None` closes it.
struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
    lines: broadcast::Sender<Option<String>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    payments: Vec<Value>,
    accounts: Value,
    requests: Vec<String>,
    has_stream: bool,
    status: u16,
}

impl Server {
    async fn start(has_stream: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { has_stream, status: 200, ..State::default() }));
        let (lines, _) = broadcast::channel(64);
        let mut tasks = JoinSet::new();
        let (shared, sender) = (Arc::clone(&state), lines.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared), sender.subscribe()));
            }
        });
        Self { port, state, lines, _tasks: tasks }
    }

    fn run(&self, api: &str, cursor: Option<&str>) -> Host {
        self.run_with(api, "", cursor)
    }

    fn run_with(&self, api: &str, more: &str, cursor: Option<&str>) -> Host {
        let config = format!(
            "{more}\napi = '{api}'\nurl = 'http://127.0.0.1:{}'\ninterval = '20ms'\nauth = {{ header = 'Rune', secret = {{ env = 'S' }} }}",
            self.port
        );
        Host::run(build(&PLUGIN, &config).unwrap(), cursor, 64)
    }

    fn set(&self, payments: Vec<Value>) {
        self.state.lock().unwrap().payments = payments;
    }

    fn requests(&self, part: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| request.contains(part)).count()
    }
}

async fn serve(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    mut lines: broadcast::Receiver<Option<String>>,
) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut chunk = [0; 4096];
        let Ok(n @ 1..) = stream.read(&mut chunk).await else { return };
        request.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= len.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    assert!(head.contains("rune: secret"), "{head}");
    let line = head.lines().next().unwrap_or_default().to_owned();
    let (reply, is_stream) = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{line} {body}"));
        let is_stream = line.contains("/v2/router/payments");
        if is_stream && !state.has_stream {
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), false)
        } else if is_stream {
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), true)
        } else {
            let offset: u64 = line
                .split("index_offset=")
                .nth(1)
                .and_then(|rest| rest.split('&').next()?.parse().ok())
                .unwrap_or(0);
            let listed: Vec<&Value> =
                state.payments.iter().filter(|payment| index(payment) > offset).collect();
            let last = listed.last().map_or(0, |payment| index(payment));
            let body = if line.contains("/v1/accounts") {
                state.accounts.clone()
            } else if line.contains("/api/v1/payments") {
                let number = |name: &str| line.split(name).nth(1)?.split(['&', ' ']).next()?.parse().ok();
                let (skip, take) = (number("offset=").unwrap_or(0), number("limit=").unwrap_or(0));
                json!(listed.iter().skip(skip).take(take).collect::<Vec<_>>())
            } else {
                json!({"payments": listed, "last_index_offset": last.to_string()})
            }
            .to_string();
            let status = state.status;
            (
                format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                ),
                false,
            )
        }
    };
    stream.write_all(reply.as_bytes()).await.ok();
    if !is_stream {
        return;
    }
    loop {
        let Ok(Some(line)) = lines.recv().await else { return };
        // A line may come in two chunks.
        let (first, second) = line.split_at(line.len() / 2);
        for part in [first, second] {
            stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.ok();
            stream.flush().await.ok();
        }
    }
}

fn index(payment: &Value) -> u64 {
    payment["payment_index"].as_str().map_or(1, |index| index.parse().unwrap())
}

fn payment(index: u64, status: &str) -> Value {
    json!({"payment_hash": format!("{index:064x}"), "value_msat": "5000", "fee_msat": "0", "status": status,
        "creation_time_ns": "1623798791682499710", "payment_index": index.to_string()})
}

fn kinds(delivery: &railwatch_plugin::source::Delivery) -> Vec<String> {
    let payments = delivery.decoded.payments.iter();
    payments.map(|payment| format!("{:?} {}", payment.kind, payment.id.trim_start_matches('0'))).collect()
}

#[tokio::test]
async fn trap_01_the_cursor_stays_before_what_is_still_in_flight() {
    let server = Server::start(true).await;
    server.set(vec![payment(1, "SUCCEEDED"), payment(2, "IN_FLIGHT"), payment(3, "SUCCEEDED")]);
    let mut host = server.run("lnd", None);
    let delivery = host.next_durable().await;
    assert_eq!(kinds(&delivery), ["Settle 1", "Settle 3"]);
    assert_eq!(delivery.cursor.unwrap().0, "1");
    host.stop().await.unwrap();
    server.set(vec![payment(1, "SUCCEEDED"), payment(2, "SUCCEEDED"), payment(3, "SUCCEEDED")]);
    let mut host = server.run("lnd", Some("1"));
    let delivery = host.next_durable().await;
    assert_eq!(kinds(&delivery), ["Settle 2", "Settle 3"]);
    assert_eq!(delivery.cursor.unwrap().0, "3");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_02_and_18_a_closed_stream_is_opened_again_and_what_ended_meanwhile_is_found() {
    let server = Server::start(true).await;
    let mut host = server.run("lnd", None);
    host.phase(Phase::Live).await;
    server.lines.send(Some(format!("{}\n", json!({"result": payment(1, "SUCCEEDED")})))).unwrap();
    assert_eq!(kinds(&host.next_durable().await), ["Settle 1"]);
    server.set(vec![payment(1, "SUCCEEDED"), payment(2, "SUCCEEDED")]);
    server.lines.send(None).unwrap();
    host.phase(Phase::Retrying).await;
    assert_eq!(kinds(&host.next_durable().await), ["Settle 1", "Settle 2"]);
    assert_eq!(server.requests("/v2/router/payments"), 2);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_node_without_the_stream_is_polled() {
    let server = Server::start(false).await;
    server.set(vec![payment(1, "SUCCEEDED")]);
    let mut host = server.run("lnd", None);
    assert_eq!(kinds(&host.next_durable().await), ["Settle 1"]);
    server.set(vec![payment(1, "SUCCEEDED"), payment(2, "FAILED")]);
    assert_eq!(kinds(&host.next_durable().await), ["Declined 2"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn core_lightning_is_read_by_its_updates() {
    let server = Server::start(false).await;
    server.set(vec![
        json!({"payment_hash": "ab".repeat(32), "status": "complete", "amount_msat": 7, "amount_sent_msat": 7,
        "groupid": 1, "created_index": 3, "updated_index": 9}),
    ]);
    let mut host = server.run("cln", None);
    let delivery = host.next_durable().await;
    assert_eq!((delivery.decoded.payments.len(), delivery.cursor.unwrap().0.as_str()), (1, "10"));
    host.next_durable().await;
    assert!(
        server.requests(r#"POST /v1/listsendpays HTTP/1.1 {"index":"updated","start":10,"limit":200}"#) >= 1
    );
    host.stop().await.unwrap();
}

#[tokio::test]
async fn the_newest_entries_of_a_wallet_are_read_again_and_again() {
    let server = Server::start(false).await;
    let entry =
        |status: &str| json!({"payment_hash": "cd".repeat(32), "amount": -5000, "fee": 0, "status": status});
    server.set(vec![entry("pending")]);
    let mut host = server.run("lnbits", None);
    assert_eq!(host.next_durable().await.decoded.filtered, ["in flight"]);
    server.set(vec![entry("success")]);
    loop {
        let delivery = host.next_durable().await;
        if delivery.decoded.payments.len() == 1 {
            break;
        }
    }
    host.stop().await.unwrap();
}

/// The wallet's entries, newest first: one per second from `1` to `last`.
fn entries(last: i64) -> Vec<Value> {
    let entry = |nth: i64| {
        json!({"payment_hash": format!("{nth:064x}"), "amount": -5000, "fee": 0, "status": "success",
            "time": railwatch_model::Timestamp::from_secs(1_795_000_000 + nth * 60).to_string()})
    };
    (1..=last).rev().map(entry).collect()
}

#[tokio::test]
async fn more_than_a_page_of_a_wallet_is_read_back_to_where_the_last_sweep_was() {
    let server = Server::start(false).await;
    server.set(entries(300));
    let mut host = server.run("lnbits", None);
    let cursor = host.collect(100).await.cursor.unwrap().0;
    host.stop().await.unwrap();
    server.set(entries(450));
    let mut host = server.run("lnbits", Some(&cursor));
    let delivery = host.collect(300).await;
    let mut ids: Vec<_> = delivery.decoded.payments.iter().map(|payment| payment.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 300, "150 new ones, and the page in which the overlap of an hour ends");
    assert_eq!(server.requests("offset=300"), 0);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_15_litds_accounts_tell_whose_a_payment_is_and_lnd_how_much_it_was() {
    use base64::Engine as _;
    let server = Server::start(true).await;
    server.set(vec![payment(1, "SUCCEEDED"), payment(2, "SUCCEEDED"), payment(3, "SUCCEEDED")]);
    let in_hex =
        |index: u64| json!({"hash": format!("{index:064x}"), "state": "SUCCEEDED", "full_amount": "9"});
    let mut bytes = [0; 32];
    bytes[31] = 2;
    let in_base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
    server.state.lock().unwrap().accounts = json!({"accounts": [
        {"id": "a1", "label": "research-7", "payments": [in_hex(1)]},
        {"id": "a2", "payments": [{"hash": in_base64, "full_amount": "7"}]},
    ]});
    let mut host = server.run_with("lnd", "accounts = true", None);
    let delivery = host.collect(3).await;
    let line = |payment: &railwatch_model::Payment| {
        let names = payment.spender.iter().map(|name| format!("{}={}", name.scheme, name.value));
        format!("{} {}", payment.amount.units(), names.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(
        delivery.decoded.payments.iter().map(line).collect::<Vec<_>>(),
        [
            "5000 litd.account=label:research-7 litd.account=a1 lnd.node=gate",
            "5000 litd.account=a2 lnd.node=gate",
            "5000 lnd.node=gate",
        ]
    );
    assert_eq!(server.requests("/v1/accounts"), 1);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_brings_nothing_is_told_by_the_list() {
    let server = Server::start(true).await;
    let mut host = server.run("lnd", None);
    host.phase(Phase::Live).await;
    let mut missed = payment(1, "SUCCEEDED");
    let at = 1_800_000_001_000_000_000_u64;
    missed["creation_time_ns"] = json!(at.to_string());
    server.set(vec![missed.clone()]);
    host.collect(1).await;
    assert_eq!(host.status.borrow().unpushed.map(|unpushed| unpushed.payments), Some(1));
    let mut next = payment(2, "SUCCEEDED");
    next["creation_time_ns"] = json!((at + 1_000_000_000).to_string());
    server.lines.send(Some(json!({"result": next}).to_string() + "\n")).unwrap();
    host.collect(1).await;
    assert_eq!(host.status.borrow().unpushed, None);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_credential_stops_the_source() {
    let server = Server::start(false).await;
    server.state.lock().unwrap().status = 401;
    let mut host = server.run("lnbits", None);
    assert!(matches!(host.ended().await, Err(SourceError::Fatal(_))));
}
