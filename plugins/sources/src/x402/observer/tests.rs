//! The observer against an in-process node: subscriptions, backfill, reorganizations, refusals, stalls, HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use railwatch_model::Status;
use railwatch_plugin::source::{Phase, SourceError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::EVM;
use crate::testing::{self, Host};
use crate::x402::view::tests::{head, log};

const ALICE: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

#[derive(Default)]
struct Chain {
    id: u64,
    tip: u64,
    heads: BTreeMap<u64, Value>,
    logs: Vec<Value>,
    /// Blocks that one `eth_getLogs` may ask for.
    span_max: u64,
    calls: Vec<String>,
}

/// A node on a free port. Frames that are pushed go to every connection; `None` hangs all of them up.
struct Node {
    chain: Arc<Mutex<Chain>>,
    pushes: broadcast::Sender<Option<String>>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Node {
    async fn start(is_ws: bool) -> Self {
        let chain = Arc::new(Mutex::new(Chain { id: 84532, span_max: 1000, ..Chain::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pushes, _) = broadcast::channel(256);
        let mut tasks = JoinSet::new();
        let (shared, sender) = (Arc::clone(&chain), pushes.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (chain, pushes) = (Arc::clone(&shared), sender.subscribe());
                if is_ws {
                    connections.spawn(serve_ws(stream, chain, pushes));
                } else {
                    connections.spawn(serve_http(stream, chain));
                }
            }
        });
        Self { chain, pushes, port, _tasks: tasks }
    }

    fn mine(&self, number: u64, hash: &str, parent: &str, logs: &[Value]) {
        let mut chain = self.chain.lock().unwrap();
        chain.heads.insert(number, head(number, hash, parent));
        chain.heads.retain(|at, _| *at <= number);
        let is_below = |log: &Value| log["blockNumber"].as_str().is_some_and(|at| hex(at) < number);
        chain.logs.retain(is_below);
        chain.logs.extend(logs.iter().cloned());
        chain.tip = number;
    }

    /// Mines and pushes, logs before the head as nodes do.
    fn push(&self, number: u64, hash: &str, parent: &str, logs: &[Value]) {
        self.mine(number, hash, parent, logs);
        for log in logs {
            self.frame(log);
        }
        self.frame(&head(number, hash, parent));
    }

    fn frame(&self, result: &Value) {
        let params = json!({"subscription": "0x1", "result": result});
        let frame = json!({"jsonrpc": "2.0", "method": "eth_subscription", "params": params});
        self.pushes.send(Some(frame.to_string())).ok();
    }

    fn calls(&self, method: &str) -> usize {
        self.chain.lock().unwrap().calls.iter().filter(|call| call.starts_with(method)).count()
    }

    fn observe(&self, extra: &str, cursor: Option<&str>) -> Host {
        let scheme = if extra.contains("poll_interval") { "http" } else { "ws" };
        let config = format!(
            "network = \"base-sepolia\"\nurl = \"{scheme}://127.0.0.1:{}\"\nwallets = [\"{ALICE}\"]\n{extra}",
            self.port
        );
        Host::run(testing::build(&EVM, &config).unwrap(), cursor, 64)
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

fn answer(chain: &Mutex<Chain>, request: &str) -> String {
    let request: Value = serde_json::from_str(request).unwrap();
    let (method, params) = (request["method"].as_str().unwrap(), &request["params"]);
    let mut chain = chain.lock().unwrap();
    chain.calls.push(format!("{method} {params}"));
    let result = match method {
        "eth_chainId" => json!(format!("0x{:x}", chain.id)),
        "eth_subscribe" => json!("0x1"),
        "eth_blockNumber" => json!(format!("0x{:x}", chain.tip)),
        "eth_getBlockByNumber" => {
            chain.heads.get(&hex(params[0].as_str().unwrap())).cloned().unwrap_or(Value::Null)
        }
        "eth_getBlockByHash" => {
            chain.heads.values().find(|head| head["hash"] == params[0]).cloned().unwrap_or(Value::Null)
        }
        "eth_getLogs" => {
            let filter = &params[0];
            let (from, to) =
                (hex(filter["fromBlock"].as_str().unwrap()), hex(filter["toBlock"].as_str().unwrap()));
            if to - from >= chain.span_max {
                let error = json!({"code": -32005, "message": "query returned more than 10000 results"});
                return json!({"jsonrpc": "2.0", "id": request["id"], "error": error}).to_string();
            }
            let matches = |log: &&Value| {
                let position = |at: usize| {
                    let wanted = filter["topics"].get(at).and_then(Value::as_array);
                    wanted.is_none_or(|wanted| wanted.contains(&log["topics"][at]))
                };
                (from..=to).contains(&hex(log["blockNumber"].as_str().unwrap())) && (0..3).all(position)
            };
            chain.logs.iter().filter(matches).cloned().collect()
        }
        _ => Value::Null,
    };
    json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string()
}

async fn serve_ws(
    stream: TcpStream,
    chain: Arc<Mutex<Chain>>,
    mut pushes: broadcast::Receiver<Option<String>>,
) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    loop {
        let reply = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(request))) => answer(&chain, &request),
                Some(Ok(_)) => continue,
                _ => return,
            },
            push = pushes.recv() => match push {
                Ok(Some(frame)) => frame,
                _ => return,
            },
        };
        if socket.send(Message::text(reply)).await.is_err() {
            return;
        }
    }
}

async fn serve_http(mut stream: TcpStream, chain: Arc<Mutex<Chain>>) {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let Ok(n @ 1..) = stream.read(&mut chunk).await else { return };
        buffer.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&buffer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let len = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        if body.len() < len.unwrap_or(0) {
            continue;
        }
        let reply = answer(&chain, body);
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{reply}", reply.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        buffer.clear();
    }
}

/// Takes durable deliveries until there are `n` payments; `status amount rRevision` of each, and the last cursor.
async fn collect(host: &mut Host, n: usize) -> (Vec<String>, Option<String>) {
    let delivery = host.collect(n).await;
    assert!(delivery.decoded.rejects.is_empty(), "{:?}", delivery.decoded.rejects);
    let lines = delivery.decoded.payments.iter();
    let lines = lines.map(|p| format!("{:?} {} r{}", p.status, p.amount.units(), p.revision)).collect();
    (lines, delivery.cursor.map(|cursor| cursor.0))
}

#[tokio::test]
async fn payments_are_seen_and_confirmed_by_the_blocks_above_them() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[]);
    let mut host = node.observe("confirmations = 2", None);
    host.next_durable().await;
    host.phase(Phase::Live).await;
    node.push(4, "a4", "a3", &[log(4, "a4", "77", 7)]);
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 7 r0"]);
    node.push(5, "a5", "a4", &[]);
    node.push(6, "a6", "a5", &[log(6, "a6", "88", 9)]);
    let (mut lines, cursor) = collect(&mut host, 2).await;
    lines.sort();
    assert_eq!(lines, ["Confirmed 7 r0", "Seen 9 r0"]);
    assert!(cursor.is_some());
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_04_a_head_switch_without_removed_logs_retracts_and_counts_again() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[]);
    let mut host = node.observe("confirmations = 5", None);
    host.next_durable().await;
    host.phase(Phase::Live).await;
    node.push(4, "a4", "a3", &[log(4, "a4", "77", 7)]);
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 7 r0"]);
    node.push(4, "b4", "a3", &[]);
    assert_eq!(collect(&mut host, 1).await.0, ["Retracted 7 r0"]);
    node.push(5, "b5", "b4", &[log(5, "b5", "77", 7)]);
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 7 r1"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_18_what_happened_while_the_connection_was_down_is_read_and_counted_once() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[]);
    let mut host = node.observe("confirmations = 50", None);
    host.next_durable().await;
    host.phase(Phase::Live).await;
    node.push(4, "a4", "a3", &[log(4, "a4", "77", 7)]);
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 7 r0"]);
    node.mine(5, "a5", "a4", &[log(5, "a5", "88", 9)]);
    node.pushes.send(None).unwrap();
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 9 r0"], "the first is not said again");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_resumes_at_the_cursor_and_notices_what_was_undone_meanwhile() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[log(3, "a3", "77", 7), log(3, "a3", "88", 9)]);
    let mut host = node.observe("confirmations = 50", None);
    let (lines, cursor) = collect(&mut host, 2).await;
    assert_eq!(lines, ["Seen 7 r0", "Seen 9 r0"]);
    host.stop().await.unwrap();
    node.mine(3, "b3", "a2", &[log(3, "b3", "88", 9)]);
    let mut host = node.observe("confirmations = 50", cursor.as_deref());
    assert_eq!(collect(&mut host, 1).await.0, ["Retracted 7 r0"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_19_a_range_that_is_too_large_is_halved() {
    let node = Node::start(true).await;
    node.chain.lock().unwrap().span_max = 10;
    node.mine(100, "a100", "a99", &[log(3, "a3", "77", 7), log(100, "a100", "88", 9)]);
    let mut host = node.observe("start_block = 0", None);
    assert_eq!(collect(&mut host, 2).await.0, ["Seen 7 r0", "Seen 9 r0"]);
    assert!(node.calls("eth_getLogs") > 20);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_07_a_log_without_a_time_gets_its_blocks() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[log(3, "a3", "77", 7)]);
    let mut host = node.observe("", None);
    let delivery = host.collect(1).await;
    assert_eq!(delivery.decoded.payments[0].occurred_at.secs(), 0x6b04_3126);
    assert_eq!(delivery.decoded.payments[0].status, Status::Seen);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn trap_21_a_node_on_another_chain_is_refused() {
    let node = Node::start(true).await;
    node.chain.lock().unwrap().id = 1;
    let mut host = node.observe("", None);
    let Err(SourceError::Fatal(message)) = host.ended().await else { panic!("it must not run") };
    assert_eq!(message, "the node is on chain 1, not on 84532");
}

#[tokio::test]
async fn trap_22_a_node_that_is_behind_does_not_move_the_cursor_back() {
    let node = Node::start(true).await;
    node.mine(100, "a100", "a99", &[]);
    let mut host = node.observe("", Some(r#"{"block":500}"#));
    let delivery = host.next_durable().await;
    assert!(delivery.cursor.unwrap().0.starts_with(r#"{"block":500"#));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_stalled_node_is_left_for_a_new_connection() {
    let node = Node::start(true).await;
    node.mine(3, "a3", "a2", &[]);
    let mut host = node.observe("stall = \"50ms\"", None);
    host.next_durable().await;
    let status = host.phase(Phase::Retrying).await;
    assert!(status.detail.starts_with("no new block for"), "{}", status.detail);
    host.next_durable().await;
    assert!(node.calls("eth_chainId") >= 2);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn an_http_node_is_asked_again_and_again() {
    let node = Node::start(false).await;
    node.mine(3, "a3", "a2", &[log(3, "a3", "77", 7)]);
    let mut host = node.observe("poll_interval = \"10ms\"\nconfirmations = 1", None);
    assert_eq!(collect(&mut host, 1).await.0, ["Seen 7 r0"]);
    node.mine(4, "a4", "a3", &[log(4, "a4", "88", 9)]);
    let (mut lines, _) = collect(&mut host, 2).await;
    lines.sort();
    assert_eq!(lines, ["Confirmed 7 r0", "Seen 9 r0"]);
    assert_eq!(node.calls("eth_subscribe"), 0);
    host.stop().await.unwrap();
}

#[test]
fn wrong_tables_say_what_is_accepted() {
    for (config, path, part) in [
        ("network = 'atlantis'", "network", "CAIP-2"),
        (
            "network = 'solana'\nwallets=['0x70997970C51812dc3A010C7d01b50e0d17dc79C8']\nurl='wss://h'",
            "network",
            "EVM",
        ),
        ("network = 'base'\nurl='wss://h'", "wallets", "name the wallets"),
        ("network = 'base'\nwallets=['0x12']\nurl='wss://h'", "wallets", "not an address"),
        ("network = 'base'\nwallets=['0x70997970C51812dc3A010C7d01b50e0d17dc79C8']", "url", "either"),
        (
            "network = 'base'\nwallets=['0x70997970C51812dc3A010C7d01b50e0d17dc79C8']\nurl='ftp://h'",
            "url",
            "wss://",
        ),
    ] {
        let error = testing::build(&EVM, config).map(drop).unwrap_err();
        assert_eq!(error.path, path, "{config}");
        assert!(error.message.contains(part), "{config}: {}", error.message);
    }
}
