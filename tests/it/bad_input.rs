//! Whatever comes in: a payment, or a counted reject that says what is wrong; never a panic, a hang or a silent drop.

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use railwatch_tests::{Gate, GateOptions, Home, now, railwatch, special};
use serde_json::{Value, json};

use crate::gate::source;
use crate::totals::counted;

const OPEN_DOOR: &str = "[sources.hook]\nplugin = \"webhook\"\npath = \"/in/hook\"\n\
                         verify = \"none-accept-forged-events\"\n";

/// Bodies that are no payments: the reject's code, and a part of what it says.
fn wrong_bodies() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let payment = |key: &str, value: &str| {
        let mut fields =
            vec![("id", "\"x\""), ("agent_id", "\"a\""), ("amount_usd", "1"), ("ts", "1790000000")];
        fields.retain(|(known, _)| *known != key);
        fields.push((key, value));
        let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    let nested = [b"[".repeat(5_000), b"]".repeat(5_000)].concat();
    let mut broken = payment("payee", "\"?\"");
    let question = broken.iter().rposition(|byte| *byte == b'?').unwrap();
    broken[question] = 0xff;
    vec![
        (b"{\"id\": \"x\",".to_vec(), "bad_json", "not JSON"),
        (b"oops".to_vec(), "bad_json", "not JSON"),
        (b"42".to_vec(), "not_an_object", "JSON object"),
        (br#"{"id":"x","amount_usd":1,"ts":1790000000}"#.to_vec(), "no_agent", "/agent_id"),
        (payment("agent_id", "{\"name\":\"a\"}"), "no_agent", "/agent_id"),
        (payment("agent_id", "\"\\u0000\""), "bad_agent", "/agent_id"),
        (payment("amount_usd", "-1"), "bad_amount", "negative"),
        (payment("amount_usd", "\"a lot\""), "bad_amount", "not a decimal amount"),
        (payment("amount_usd", "[1]"), "bad_amount", "/amount_usd"),
        (payment("amount_usd", "null"), "bad_amount", "/amount_usd"),
        (payment("amount_usd", "100000000000"), "bad_amount", "beyond"),
        (payment("amount_usd", "18446744073709551616"), "bad_amount", "beyond"),
        (payment("amount_usd", &"9".repeat(50)), "bad_amount", "128 bits"),
        (payment("amount_usd", "1e400"), "bad_amount", "/amount_usd"),
        (br#"{"id":"x","agent_id":"a","amount":1,"currency":"XXQ"}"#.to_vec(), "unknown_currency", "XXQ"),
        (
            br#"{"id":"x","agent_id":"a","amount":1,"ts":1790000000}"#.to_vec(),
            "unknown_currency",
            "no currency",
        ),
        (payment("ts", "\"soon\""), "bad_time", "soon"),
        (payment("ts", "\"2526-01-31T02:00:00Z\""), "bad_time", "2200"),
        (br#"{"agent_id":"a","amount_usd":1}"#.to_vec(), "no_id", "redelivery"),
        (payment("status", "\"wobbly\""), "bad_kind", "wobbly"),
        (payment("rail", &format!("\"{}\"", "r".repeat(300))), "bad_rail", "64"),
        (nested, "too_deep", "64"),
        (broken, "bad_utf8", "UTF-8"),
    ]
}

#[test]
fn what_is_wrong_is_rejected_with_a_reason_and_counted() {
    let home = Home::new(OPEN_DOOR);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let cases = wrong_bodies();
    for (body, code, detail) in &cases {
        let answer = daemon.post("/in/hook", &[], body).unwrap();
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]);
        assert_eq!(answer.status, 400, "{shown}: {answer:?}");
        assert!(answer.body.contains(code) && answer.body.contains(detail), "{shown}: {answer:?}");
    }
    let rejects = home.run(&["rejects", "--json", "--limit", "1000"]).documents();
    assert_eq!(rejects.len(), cases.len());
    for (_, code, detail) in &cases {
        let is_it = |reject: &&Value| {
            reject["code"] == *code && reject["detail"].as_str().is_some_and(|text| text.contains(detail))
        };
        assert!(rejects.iter().any(|reject| is_it(&reject)), "no {code} with {detail:?} in {rejects:#?}");
    }
    assert_eq!(daemon.metric("railwatch_payments_rejected_total"), cases.len() as u64);
    assert_eq!(daemon.get("/readyz").unwrap().status, 200, "rejects are no reason to be unready");
    assert_eq!(counted(&home), []);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let home = Home::new(OPEN_DOOR);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    assert_eq!(daemon.post("/in/hook", &[], &vec![b' '; 10 << 20]).unwrap().status, 413);
    assert_eq!(daemon.get("/healthz").unwrap().status, 200);
}

#[test]
fn every_way_to_write_a_time_is_read() {
    let home = Home::new(OPEN_DOOR);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let at = now();
    let secs = at.secs();
    let times = [
        Some(json!(secs)),
        Some(json!(secs.to_string())),
        Some(json!(format!("{secs}.250"))),
        Some(json!(secs * 1_000)),
        Some(json!(secs * 1_000_000)),
        Some(json!(at)),
        Some(json!(at.after(Duration::from_secs(86_400)))),
        None,
    ];
    for (nth, ts) in times.iter().enumerate() {
        let mut payment = json!({ "id": format!("t-{nth}"), "agent_id": "clockmaker", "amount_usd": "1.00" });
        if let Some(ts) = ts {
            payment["ts"] = ts.clone();
        }
        let answer = daemon.post("/in/hook", &[], payment.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{payment}: {answer:?}");
    }
    assert_eq!(counted(&home), [("clockmaker".to_owned(), times.len() as u64, "8.00".to_owned())]);
}

#[test]
fn broken_frames_cost_a_reject_and_never_the_payments_around_them() {
    let gate = Gate::start(GateOptions::default());
    let home = Home::new(&source(&gate));
    let daemon = home.start();
    let payment = |seq: u64| {
        json!({ "seq": seq, "id": format!("b-{seq}"), "agent_id": "a", "amount_usd": "1.00", "ts": now() })
            .to_string()
    };
    let frames = [
        (json!({ "text": "{\"id\": \"cut off" }), "bad_json"),
        (json!({ "binary_base64": "AAECAwQF" }), "bad_json"),
        (json!({ "filler_len": 2 << 20 }), "too_large"),
        (json!({ "broken_text_base64": "eyJpZCI6Iv8ifQ==" }), "bad_utf8"),
        (json!({ "filler_len": 10 << 20 }), "too_large"),
    ];
    for (nth, (frame, code)) in (1..).zip(&frames) {
        gate.send([special(frame), payment(2 * nth)]);
        daemon.wait_applied(nth);
        let rejects = home.run(&["rejects", "--json", "--limit", "100"]).documents();
        assert_eq!(rejects.len() as u64, nth, "{rejects:#?}");
        assert_eq!(rejects[0]["code"], *code, "the newest comes first: {rejects:#?}");
        assert!(!rejects[0]["detail"].as_str().unwrap().is_empty(), "{rejects:#?}");
    }
    assert_eq!(counted(&home), [("a".to_owned(), 5, "5.00".to_owned())]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_store_in_use_and_a_store_that_is_broken_are_told_apart() {
    let home = Home::new(OPEN_DOOR);
    let other = Home::new("");
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let store = home.path("railwatch.db");
    let config = format!("[http]\nlisten = \"{}\"\n[store]\npath = {store:?}\n", other.address());
    let second = home.write("second.toml", config);
    let outcome = railwatch(&["--config", second.to_str().unwrap(), "run"]);
    assert_eq!(outcome.code, 5, "{outcome:?}");
    assert!(outcome.stderr.contains("is in use by process"), "{outcome:?}");

    let mut payments = String::new();
    for nth in 0..2_000 {
        let line = json!({ "id": format!("c-{nth}"), "agent_id": "a", "amount_usd": "1.00", "ts": now() });
        payments.push_str(&format!("{line}\n"));
    }
    assert_eq!(daemon.post("/in/hook", &[], payments.as_bytes()).unwrap().status, 200);
    assert_eq!(daemon.stop(), 0);
    let sound = home.run(&["doctor"]);
    assert_eq!(sound.code, 0, "{sound:?}");

    let mut file = OpenOptions::new().write(true).open(&store).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > 40_960, "the store has {length} bytes");
    file.seek(SeekFrom::Start(8_192)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(length - 8_192).unwrap()]).unwrap();
    drop(file);
    let broken = home.run(&["doctor"]);
    assert_eq!(broken.code, 5, "{broken:?}");
    let run = home.run(&["run"]);
    assert_eq!(run.code, 5, "{run:?}");
}

#[test]
fn mistakes_in_the_configuration_are_all_shown_with_their_place() {
    let home = Home::new(
        "[sources.gate]\nplugin = \"websockt\"\n\n[alerts]\nclear_aftr = \"1h\"\nremind_every = \"x\"\n",
    );
    for verb in ["check", "run"] {
        let outcome = home.run(&[verb]);
        assert_eq!(outcome.code, 3, "{outcome:?}");
        for wanted in
            ["railwatch.toml:8:", "railwatch.toml:11:", "websocket", "clear_after", "railwatch.toml:12:"]
        {
            assert!(outcome.stderr.contains(wanted), "no {wanted}: {}", outcome.stderr);
        }
    }
}
