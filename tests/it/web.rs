//! The HTTP API: what it answers, to whom, and what it refuses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use railwatch_tests::{Daemon, Home, now, peer_file, until};
use serde_json::{Value, json};

/// A source whose file the test writes.
const LEDGER: &str = "[sources.ledger]\nplugin = \"file\"\npath = \"ledger.jsonl\"\nfollow = true\n\
                      poll_every = \"20ms\"\ncurrency = \"USD\"\n";

fn payment(id: usize, agent: &str) -> String {
    format!("{{\"id\":\"p-{id}\",\"agent\":\"{agent}\",\"amount\":\"1.25\",\"at\":\"{}\"}}\n", now())
}

fn json_of(daemon: &Daemon<'_>, path: &str) -> Value {
    let answer = daemon.get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Waits until the published view knows this many agents.
fn wait_agents(daemon: &Daemon<'_>, n: u64) {
    until(&format!("{n} agents are listed"), 30, || {
        (json_of(daemon, "/v1/agents")["total"].as_u64() == Some(n)).then_some(())
    });
}

#[test]
fn lists_are_paged_filtered_and_exported() {
    let home = Home::new(LEDGER);
    home.write("ledger.jsonl", (0..7).map(|n| payment(n, &format!("agent {n}/ü"))).collect::<String>());
    let daemon = home.start();
    wait_agents(&daemon, 7);
    let mut names = Vec::new();
    let mut path = "/v1/agents?sort=name&limit=3".to_owned();
    loop {
        let page = json_of(&daemon, &path);
        names.extend(page["items"].as_array().unwrap().iter().map(|agent| agent["agent"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!(
            "/v1/agents?sort=name&limit=3&cursor={}",
            next.replace(' ', "%20").replace('ü', "%C3%BC")
        );
    }
    assert_eq!(names, (0..7).map(|n| json!(format!("agent {n}/ü"))).collect::<Vec<_>>());
    assert_eq!(json_of(&daemon, "/v1/agents?q=AGENT%203")["total"], 1);

    let one = json_of(&daemon, "/v1/agents/agent%203%2F%C3%BC");
    assert_eq!(one["totals"]["committed"], "1.25");
    assert_eq!(one["verdict"], "ok");
    let paid = json_of(&daemon, "/v1/payments?limit=4");
    assert_eq!(paid["items"].as_array().unwrap().len(), 4);
    let rest = json_of(&daemon, &format!("/v1/payments?limit=4&cursor={}", paid["next"].as_str().unwrap()));
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    assert_eq!(rest["next"], Value::Null);

    let csv = daemon.get("/v1/export/payments?format=csv").unwrap().body;
    let text = csv.lines().filter(|line| line.contains("p-")).count();
    assert_eq!(text, 7, "{csv}");
    assert!(csv.contains("agent,"), "{csv}");
    let lines = daemon.get("/v1/export/agents?format=jsonl").unwrap().body;
    assert_eq!(lines.lines().filter(|line| line.starts_with('{')).count(), 7, "{lines}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn wrong_questions_are_answered_with_a_problem() {
    let home = Home::new(LEDGER);
    home.write("ledger.jsonl", payment(1, "clerk"));
    let daemon = home.start();
    wait_agents(&daemon, 1);
    for (path, status) in [
        ("/v1/agents?sort=beauty", 400),
        ("/v1/agents?cursor=nonsense", 400),
        ("/v1/agents?unknown=1", 400),
        ("/v1/agents/nobody", 404),
        ("/v1/alerts/nothing", 404),
        ("/v1/generations/first", 404),
        ("/v1/export/secrets", 404),
        ("/v1/alerts?cursor=2020", 400),
        ("/v1/generations/1/diff?from=99", 404),
        ("/v1/no/such/thing", 404),
    ] {
        let answer = daemon.get(path).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{path}: {problem}");
    }
    let verdict = json_of(&daemon, "/v1/agents/nobody/verdict");
    assert_eq!((&verdict["verdict"], &verdict["known"]), (&json!("ok"), &json!(false)));
    assert_eq!(json_of(&daemon, "/v1/agents/clerk/verdict")["known"], true);
}

#[test]
fn other_names_and_other_sites_are_refused() {
    let home = Home::new(LEDGER);
    home.write("ledger.jsonl", "");
    let daemon = home.start();
    let head = |request: String| {
        let mut stream = TcpStream::connect(home.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    };
    let get =
        |host: &str| head(format!("GET /v1/fleet HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    assert_eq!(get(&home.address()), "200");
    assert_eq!(get("localhost:1"), "200");
    assert_eq!(get("evil.example"), "421");
    let post = |headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        daemon.post("/v1/reload", &all, b"{}").unwrap().status
    };
    assert_eq!(post(&[]), 400);
    assert_eq!(post(&[("x-railwatch-by", "eve"), ("origin", "http://evil.example")]), 403);
    assert_eq!(post(&[("x-railwatch-by", "eve"), ("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(post(&[("x-railwatch-by", "ann")]), 200);
}

#[test]
fn tokens_allow_what_their_roles_say() {
    let home = Home::new("");
    let mut config = LEDGER.to_owned();
    let mut tokens = Vec::new();
    for (name, role) in [("vera", "viewer"), ("rob", "responder"), ("ada", "author")] {
        let made = home.run(&["token", name, "--role", role, "--json"]).documents().remove(0);
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        config += &format!(
            "[[http.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{}\"\n",
            text("sha256")
        );
        tokens.push(format!("Bearer {}", text("token")));
    }
    home.configure(&config);
    home.write("ledger.jsonl", "");
    let daemon = home.start();
    let ask = |method: &str, path: &str, token: Option<&str>| {
        let mut headers = vec![("x-railwatch-by", "somebody"), ("content-type", "application/json")];
        headers.extend(token.map(|token| ("authorization", token)));
        railwatch_tests::call(&home.address(), method, path, &headers, b"{}").unwrap().status
    };
    let [vera, rob, ada] = [0, 1, 2].map(|at| Some(tokens[at].as_str()));
    assert_eq!(ask("GET", "/healthz", None), 200);
    assert_eq!(ask("GET", "/v1/fleet", None), 401);
    assert_eq!(ask("GET", "/metrics", None), 401);
    assert_eq!(ask("GET", "/v1/fleet", Some("Bearer rw_guess")), 401);
    assert_eq!(ask("GET", "/v1/fleet", vera), 200);
    assert_eq!(ask("POST", "/v1/alerts/x/acknowledge", vera), 403);
    assert_eq!(ask("POST", "/v1/alerts/x/acknowledge", rob), 404);
    assert_eq!(ask("POST", "/v1/reload", rob), 403);
    assert_eq!(ask("POST", "/v1/reload", ada), 200);
    assert_eq!(ask("POST", "/v1/outbox/1/drop", ada), 403);
    // Other tokens count as soon as the file is saved.
    let without_rob =
        config.replace("name = \"rob\"\nrole = \"responder\"", "name = \"vic\"\nrole = \"viewer\"");
    home.configure(&without_rob);
    until("the token is a viewer's", 30, || {
        (ask("POST", "/v1/alerts/x/acknowledge", rob) == 403).then_some(())
    });
    assert_eq!(ask("GET", "/v1/fleet", rob), 200);
    // A guesser is slowed down; its guesses cost nobody else.
    let guesses: Vec<u16> = (0..20).map(|_| ask("GET", "/v1/fleet", Some("Bearer rw_x"))).collect();
    assert!(guesses.contains(&429), "{guesses:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_listener_that_others_reach_needs_tokens() {
    let home = Home::new("");
    let config = home.write("open.toml", "[http]\nlisten = \"0.0.0.0:7414\"\n");
    let outcome = railwatch_tests::railwatch(&["--config", config.to_str().unwrap(), "check", "--offline"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(outcome.stderr.contains("railwatch token"), "{outcome:?}");
}

/// Reads one event of a stream: its name, id and data.
fn event(lines: &mut impl Iterator<Item = String>) -> (String, String, Value) {
    let (mut name, mut id) = (String::new(), String::new());
    for line in lines {
        if let Some(text) = line.strip_prefix("event: ") {
            text.clone_into(&mut name);
        } else if let Some(text) = line.strip_prefix("id: ") {
            text.clone_into(&mut id);
        } else if let Some(text) = line.strip_prefix("data: ") {
            return (name, id, serde_json::from_str(text).unwrap());
        }
    }
    panic!("the stream ended")
}

fn stream(home: &Home, last: Option<&str>) -> impl Iterator<Item = String> + use<> {
    let mut stream = TcpStream::connect(home.address()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    write!(stream, "GET /v1/live HTTP/1.1\r\nhost: {}\r\n{last}\r\n", home.address()).unwrap();
    BufReader::new(stream).lines().map(Result::unwrap)
}

#[test]
fn the_stream_tells_changes_and_resumes() {
    let home = Home::new(LEDGER);
    let ledger = home.write("ledger.jsonl", payment(1, "clerk"));
    let append = |text: String| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&ledger).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let daemon = home.start();
    wait_agents(&daemon, 1);
    let mut lines = stream(&home, None);
    let (name, _, snapshot) = event(&mut lines);
    assert_eq!((name.as_str(), &snapshot["order"]), ("snapshot", &json!(["clerk"])));
    append(payment(2, "novice"));
    let last = loop {
        let (name, id, change) = event(&mut lines);
        assert_eq!(name, "change");
        if change["order"].as_array().unwrap().len() == 2 {
            break id;
        }
    };
    drop(lines);
    append(payment(3, "third"));
    wait_agents(&daemon, 3);
    // Changes since then are told; a client of another process gets everything.
    let mut lines = stream(&home, Some(&last));
    loop {
        let (name, _, change) = event(&mut lines);
        assert_eq!(name, "change");
        if change["order"].as_array().unwrap().len() == 3 {
            break;
        }
    }
    let (name, _, snapshot) = event(&mut stream(&home, Some("elsewhere.5")));
    assert_eq!((name.as_str(), snapshot["order"].as_array().unwrap().len()), ("snapshot", 3));
    assert_eq!(daemon.stop(), 0);
}

/// A client's end of a WebSocket: what a server sends is short, whole and not masked.
struct Socket(BufReader<TcpStream>);

impl Socket {
    /// Shakes hands; the socket, or the status line of a refusal.
    fn open(home: &Home, path: &str, origin: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(home.address()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let host = home.address();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        // The key and its answer are those of RFC 6455.
        let accepts = head.iter().any(|line| line == "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        if accepts { Ok(Self(reader)) } else { Err(head.remove(0)) }
    }

    /// The next text: its event, id and data.
    fn event(&mut self) -> (String, String, Value) {
        let mut start = [0; 2];
        self.0.read_exact(&mut start).unwrap();
        assert_eq!(start[0], 0x81, "one whole text");
        let mut extended = vec![
            0;
            match start[1] {
                126 => 2,
                127 => 8,
                _ => 0,
            }
        ];
        self.0.read_exact(&mut extended).unwrap();
        let long = extended.iter().fold(0, |len, byte| (len << 8) | usize::from(*byte));
        let mut text = vec![0; if extended.is_empty() { usize::from(start[1]) } else { long }];
        self.0.read_exact(&mut text).unwrap();
        let mut told: Value = serde_json::from_slice(&text).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&told["event"]), text(&told["id"]), told["data"].take())
    }
}

#[test]
fn a_socket_tells_the_same_and_resumes() {
    let home = Home::new(LEDGER);
    let ledger = home.write("ledger.jsonl", payment(1, "clerk"));
    let daemon = home.start();
    wait_agents(&daemon, 1);
    let mut socket = Socket::open(&home, "/v1/live/socket", "").unwrap_or_else(|line| panic!("{line}"));
    let (event, first, snapshot) = socket.event();
    assert_eq!((event.as_str(), &snapshot["order"]), ("snapshot", &json!(["clerk"])));
    std::fs::OpenOptions::new()
        .append(true)
        .open(&ledger)
        .unwrap()
        .write_all(payment(2, "novice").as_bytes())
        .unwrap();
    loop {
        let (event, _, change) = socket.event();
        assert_eq!(event, "change");
        if change["order"].as_array().unwrap().len() == 2 {
            break;
        }
    }
    drop(socket);
    let mut socket = Socket::open(&home, &format!("/v1/live/socket?last={first}"), "")
        .unwrap_or_else(|line| panic!("{line}"));
    assert_eq!(socket.event().0, "change");
    let mut socket =
        Socket::open(&home, "/v1/live/socket?last=elsewhere.5", "").unwrap_or_else(|line| panic!("{line}"));
    assert_eq!(socket.event().0, "snapshot");
    // Another site's page may not open one, and who asks for no socket is told what this is.
    let refused = Socket::open(&home, "/v1/live/socket", "origin: http://evil.example\r\n").err();
    assert_eq!(refused.as_deref(), Some("HTTP/1.1 403 Forbidden"));
    assert_eq!(daemon.get("/v1/live/socket").unwrap().status, 426);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    let home = Home::new(LEDGER);
    home.write("ledger.jsonl", payment(1, "clerk"));
    let daemon = home.start();
    wait_agents(&daemon, 1);
    let ask = |known: &str| {
        let mut stream = TcpStream::connect(home.address()).unwrap();
        write!(
            stream,
            "GET /v1/generations HTTP/1.1\r\nhost: {}\r\nif-none-match: {known}\r\nconnection: close\r\n\r\n",
            home.address()
        )
        .unwrap();
        let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
        let tag = lines.iter().find_map(|line| line.strip_prefix("etag: ").map(str::to_owned)).unwrap();
        (lines[0].clone(), tag)
    };
    let (first, tag) = ask("\"none\"");
    assert!(first.contains("200"), "{first}");
    let (second, again) = ask(&tag);
    assert!(second.contains("304"), "{second}");
    assert_eq!(tag, again);
}

#[test]
fn the_description_is_what_the_server_does() {
    let home = Home::new(LEDGER);
    home.write("ledger.jsonl", (0..5).map(|n| payment(n, &format!("agent-{n}"))).collect::<String>());
    let daemon = home.start();
    wait_agents(&daemon, 5);
    let outcome = Command::new(peer_file("schemathesis/bin/schemathesis"))
        .args(["run", &format!("http://{}/openapi.json", home.address())])
        .args(["--max-examples", "20", "--seed", "7", "--phases", "examples,coverage,fuzzing"])
        // Streams do not end. How strict the server is beyond its description is its own business: what counts is that
        // nothing is an internal error and that every answer is as described.
        .args([
            "--exclude-path",
            "/v1/live",
            "--exclude-path",
            "/v1/live/socket",
            "--exclude-checks",
            "positive_data_acceptance,negative_data_rejection,unsupported_method",
        ])
        .args(["--request-timeout", "20", "--no-color"])
        .current_dir(home.path("."))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{text}\n{}", String::from_utf8_lossy(&outcome.stderr));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_is_shipped_for_monitoring_asks_for_numbers_that_exist() {
    let home = Home::new(&format!("{LEDGER}[sinks.terminal]\nplugin = \"terminal\"\n"));
    home.write("ledger.jsonl", payment(1, "clerk"));
    let daemon = home.start();
    wait_agents(&daemon, 1);
    let metrics = daemon.get("/metrics").unwrap().body;
    let mut asked = 0;
    for file in ["grafana.json", "rules.yml"] {
        let text =
            std::fs::read_to_string(railwatch_tests::repo_root().join("examples/monitoring").join(file));
        let text = text.unwrap();
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names.filter(|name| name.starts_with("railwatch_")) {
            let bare = name.trim_end_matches("_bucket").trim_end_matches("_total");
            assert!(metrics.contains(&format!("# HELP {bare} ")), "{file} asks for {name}:\n{metrics}");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn the_support_document_names_nobody() {
    let home = Home::new(&format!("{LEDGER}[[agents]]\nid = \"billing-secret\"\n"));
    home.write("ledger.jsonl", payment(1, "billing-secret"));
    let daemon = home.start();
    wait_agents(&daemon, 1);
    assert_eq!(home.run(&["support", "support.json"]).code, 0);
    let text = std::fs::read_to_string(home.path("support.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["daemon"]["fleet"]["agents"], 1);
    assert_eq!(document["store"]["journal"]["payments"], 1);
    assert!(!text.contains("billing-secret") && !text.contains("ledger"), "{text}");
    // It never overwrites what a person has.
    assert_eq!(home.run(&["support", "support.json"]).code, 1);
}
