//! Recorded bytes of every rail through `railwatch decode`: whole documents, lines, frames, pages, signed requests.

use std::path::{Path, PathBuf};

use railwatch_tests::{Home, SECRET, repo_root, sign_standard};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[sources.stripe]
plugin = "stripe"
webhook_secret = { file = "stripe.secret" }
directions = { charge = "spend" }

[sources.base]
plugin = "x402-evm"
network = "eip155:84532"
url = "wss://127.0.0.1:1"
wallets = ["0x70997970c51812dc3a010c7d01b50e0d17dc79c8", "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"]
confirmations = 1

[sources.facilitator]
plugin = "x402-hooks"
verify = "none-accept-forged-events"

[sources.mpp]
plugin = "mpp"
verify = "none-accept-forged-events"
tokens = [{ address = "0x20c0000000000000000000000000000000000001", symbol = "USDC", decimals = 6 }]

[sources.node]
plugin = "lightning"
url = "https://127.0.0.1:1"

[sources.litellm]
plugin = "litellm"
verify = "none-accept-forged-events"

[sources.traces]
plugin = "otlp"
verify = "none-accept-forged-events"

[sources.hook]
plugin = "webhook"
currency = "USD"
verify = { preset = "standard-webhooks", secret = { file = "hook.secret" } }

[sources.bank]
plugin = "file"
path = "bank.csv"
currency = "USD"
delimiter = ";"
[sources.bank.map]
id = "/Reference"
agent = "/Card holder"
amount = "/Amount"
at = "/Date"

[prices.BTC]
fixed_usd = "100000"

[[agents]]
id = "alice"
[agents.match]
"evm.address" = ["0x70997970c51812dc3a010c7d01b50e0d17dc79c8"]
"#;

fn home() -> Home {
    let home = Home::new(CONFIG);
    home.write("stripe.secret", "whsec_test_secret");
    home.write("hook.secret", SECRET);
    home
}

fn fixture(name: &str) -> PathBuf {
    repo_root().join("plugins/sources/fixtures").join(name)
}

fn decode(home: &Home, source: &str, file: &Path, more: &[&str]) -> Vec<Value> {
    let file = file.to_str().unwrap();
    home.run(&[&["decode", source, file, "--at", "2026-11-24T12:00:00Z"], more].concat()).documents()
}

/// `kind status agent amount asset =usd`, `reject code` or `filtered reason`.
fn line(document: &Value) -> String {
    let text = |key: &str| document[key].as_str().unwrap_or("-").to_owned();
    if document.get("reject").is_some() {
        return format!("reject {}", text("reject"));
    }
    if document.get("filtered").is_some() {
        return format!("filtered {}", text("filtered"));
    }
    if document.get("task").is_some() {
        return format!("task of {}", text("agent"));
    }
    let (kind, status, agent) = (text("kind"), text("status"), text("agent"));
    format!("{kind} {status} {agent} {} {} ={}", text("amount"), text("asset"), text("usd"))
}

#[track_caller]
fn check(documents: &[Value], expected: &[&str]) {
    assert_eq!(documents.iter().map(line).collect::<Vec<_>>(), expected, "{documents:#?}");
}

#[test]
fn stripe_events_become_steps_and_their_sum() {
    let home = home();
    let file = fixture("stripe/composed_events.jsonl");
    let steps = decode(&home, "stripe", &file, &[]);
    let net = decode(&home, "stripe", &file, &["--net"]);
    check(
        &steps,
        &[
            "hold confirmed agent-alpha 49.99 USD =49.99",
            "settle confirmed agent-alpha 49.99 USD =49.99",
            "settle confirmed agent-alpha 12.34 USD =12.34",
            "settle confirmed agent-alpha 12.34 USD =12.34",
            "refund confirmed agent-alpha 5.00 USD =5.00",
        ],
    );
    // The hold was captured in full: it is the settle.
    check(
        &net,
        &[
            "settle confirmed agent-alpha 49.99 USD =49.99",
            "settle confirmed agent-alpha 12.34 USD =12.34",
            "refund confirmed agent-alpha 5.00 USD =5.00",
        ],
    );
    let keys: Vec<&str> = steps[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted = [
        "id",
        "kind",
        "status",
        "direction",
        "agent",
        "rail",
        "amount",
        "asset",
        "usd",
        "at",
        "refs",
        "parent",
    ];
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
}

#[test]
fn frames_of_a_chain_are_read_with_its_reorganizations() {
    let home = home();
    let frames = fixture("x402/ws_frames_v2.json");
    check(
        &decode(&home, "base", &frames, &["--net"]),
        &[
            "settle confirmed alice 0.010000 USDC@base-sepolia =0.01",
            "settle confirmed unmapped:evm.address:0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc 0.010000 \
             USDC@base-sepolia =0.01",
            "settle confirmed alice 0.500000 USDC@base-sepolia =0.50",
        ],
    );
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(fixture("x402/reorg_dropped_frames.json")).unwrap()).unwrap();
    let frames = ["pay1", "pay2", "anvil_reorg depth1 (tx dropped)"]
        .iter()
        .flat_map(|step| recorded[*step]["frames"].as_array().unwrap());
    let lines: Vec<String> = frames.map(|frame| frame["frame"].to_string()).collect();
    let reorg = home.write("reorg.jsonl", lines.join("\n"));
    check(
        &decode(&home, "base", &reorg, &["--net"]),
        &["settle confirmed alice 0.010000 USDC@base-sepolia =0.01"],
    );
}

#[test]
fn every_other_rail_is_read_from_its_recording() {
    let home = home();
    check(
        &decode(&home, "mpp", &fixture("mpp/mpp_ingest_charge.json"), &[]),
        &["settle confirmed agent-alpha 50.00 USD =50.00"],
    );
    check(
        &decode(&home, "mpp", &fixture("mpp/mpp_ingest_tempo_session.jsonl"), &["--net"]),
        &["settle confirmed agent-alpha 0.025000 USDC =0.025"],
    );
    check(
        &decode(&home, "node", &fixture("lightning/lnd.rest.v1_payments.json"), &[]),
        &[
            "settle confirmed unmapped:lnd.node:node 0.00010000000 BTC =10.00",
            "fee confirmed unmapped:lnd.node:node 0.00000002020 BTC =0.00202",
        ],
    );
    let hooks = decode(&home, "facilitator", &fixture("x402/hooks_v2.json"), &["--net"]);
    let settled: Vec<String> = hooks.iter().map(line).filter(|line| line.starts_with("settle")).collect();
    assert_eq!(
        settled,
        [
            "settle seen alice 0.010000 USDC@base-sepolia =0.01",
            "settle seen unmapped:evm.address:0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc 0.010000 \
             USDC@base-sepolia =0.01",
            "settle seen alice 0.500000 USDC@base-sepolia =0.50",
        ]
    );
    let llm = decode(&home, "litellm", &fixture("litellm/litellm.generic_api.json"), &["--net"]);
    assert_eq!(llm.iter().filter(|document| document["usd"] == "0.00213").count(), 1, "{llm:#?}");
    let tasks = decode(&home, "traces", &fixture("otlp/otlp.invoke_agent.json"), &[]);
    assert_eq!(tasks.iter().map(line).filter(|line| line.starts_with("task")).count(), 1, "{tasks:#?}");
}

#[test]
fn a_csv_file_is_read_as_its_source_would() {
    let home = home();
    let rows = [
        "Reference;Card holder;Amount;Date;Note",
        "r-1;alice;1.25;2026-11-24T10:00:00Z;",
        "r-2;bob;2.50;2026-11-24T10:01:00Z;\"two\nlines; one \"\"row\"\"\"",
        "r-3;alice",
        "",
        "r-1;alice;1.25;2026-11-24T10:00:00Z;",
    ];
    let file = home.write("bank-export.csv", rows.join("\r\n"));
    check(
        &decode(&home, "bank", &file, &["--net"]),
        &["reject bad_csv", "settle confirmed alice 1.25 USD =1.25", "settle confirmed bob 2.50 USD =2.50"],
    );
    let first = file.to_str().unwrap();
    let twice = home.run(&["decode", "bank", first, first, "--at", "2026-11-24T12:00:00Z"]).documents();
    check(
        &twice,
        &[
            "reject bad_csv",
            "settle confirmed alice 1.25 USD =1.25",
            "settle confirmed bob 2.50 USD =2.50",
            "settle confirmed alice 1.25 USD =1.25",
        ]
        .repeat(2),
    );
}

#[test]
fn requests_are_verified_at_the_time_of_their_arrival() {
    let home = home();
    let cases: Value =
        serde_json::from_slice(&std::fs::read(fixture("verify/stripe.json")).unwrap()).unwrap();
    let mut judged = 0;
    for case in cases["cases"].as_array().unwrap() {
        if case["tolerance"] != 300 {
            continue;
        }
        home.write("stripe.secret", case["secret"].as_str().unwrap());
        let request = json!({
            "headers": { "Stripe-Signature": case["header"] },
            "body": case["payload"],
            "at": case["now"],
        });
        let file = home.write("request.jsonl", request.to_string());
        let documents = decode(&home, "stripe", &file, &[]);
        let refused = documents.iter().any(|document| document["reject"] == "unverified");
        assert_eq!(refused, case["expect"] == false, "{case:#?}: {documents:#?}");
        judged += 1;
    }
    assert!(judged >= 5, "{judged} cases");

    let at = 1_795_521_600;
    let body = r#"{"id":"w-1","agent_id":"bob","amount":"1.25"}"#;
    let request = |body: &str, signature: &str| {
        let headers =
            json!({ "webhook-id": "m", "webhook-timestamp": at.to_string(), "webhook-signature": signature });
        json!({ "headers": headers, "body": body }).to_string()
    };
    let signature = sign_standard(SECRET, "m", at, body.as_bytes());
    let lines =
        [request(body, &signature), request(&body.replace("1.25", "9.25"), &signature), body.to_owned()];
    let file = home.write("requests.jsonl", lines.join("\n"));
    check(
        &decode(&home, "hook", &file, &[]),
        &["settle confirmed bob 1.25 USD =1.25", "reject unverified", "settle confirmed bob 1.25 USD =1.25"],
    );
    check(
        &decode(&home, "hook", &file, &["--net"]),
        &["reject unverified", "settle confirmed bob 1.25 USD =1.25"],
    );
}

#[test]
fn what_cannot_be_decoded_says_where_it_is() {
    let home = home();
    let file = home.write("bad.jsonl", "{\"id\":\"x\"}\nnonsense\n");
    let rejects = decode(&home, "hook", &file, &[]);
    assert_eq!(rejects.len(), 2, "{rejects:#?}");
    for (nth, reject) in (1..).zip(&rejects) {
        assert!(reject["place"].as_str().unwrap().ends_with(&format!("bad.jsonl:{nth}")), "{reject}");
        assert!(!reject["detail"].as_str().unwrap().is_empty());
    }
    let nowhere = home.run(&["decode", "nobody", file.to_str().unwrap()]);
    assert_eq!((nowhere.code, nowhere.stderr.contains("[sources.nobody]")), (1, true), "{nowhere:?}");
    let missing = home.run(&["decode", "hook", "/nonexistent"]);
    assert_eq!((missing.code, missing.stderr.contains("/nonexistent")), (1, true), "{missing:?}");
}
