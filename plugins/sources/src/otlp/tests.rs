//! Recorded exports through the decoder, in both encodings; one test per trap.

use railwatch_model::Timestamp;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Value, json};

use super::OtlpDecoder;

const AGENT: &str = include_str!("../../fixtures/otlp/otlp.invoke_agent.json");
const PLAIN: &str = include_str!("../../fixtures/otlp/otlp.trace.example.json");
const OPENROUTER: &str = include_str!("../../fixtures/otlp/openrouter.broadcast.otlp.json");

fn decode(body: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let received_at = Timestamp::from_secs(1_795_440_000);
    OtlpDecoder.decode(&Message { body, headers: None, received_at }, &mut decoded);
    decoded
}

fn span(id: &str, parent: &str, attributes: &Value) -> Value {
    let attributes: Vec<Value> = attributes
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| {
            let kind = if value.is_f64() { "doubleValue" } else { "stringValue" };
            json!({"key": key, "value": {kind: value}})
        })
        .collect();
    json!({"traceId": "11".repeat(16), "spanId": id.repeat(8), "parentSpanId": parent.repeat(8), "name": "x",
        "endTimeUnixNano": "1795437005000000000", "attributes": attributes})
}

fn export(spans: &[Value]) -> Decoded {
    let body = json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": spans}]}]});
    decode(body.to_string().as_bytes())
}

fn agent(id: &str) -> Value {
    json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": id})
}

#[test]
fn an_invoked_agent_is_one_task() {
    let decoded = decode(AGENT.as_bytes());
    assert_eq!(decoded.tasks.len(), 1);
    let task = &decoded.tasks[0];
    assert_eq!(task.id, format!("{}:{}", "1".repeat(32), "a1".repeat(8)));
    assert_eq!((&*task.agent[0].scheme, &*task.agent[0].value), ("otel.agent.id", "research-7"));
    assert_eq!(task.session.as_deref(), Some("conv-1"));
    assert_eq!(task.ended_at, Timestamp::from_secs(1_795_437_005));
    assert!(!task.failed && decoded.payments.is_empty());
}

#[test]
fn spans_without_agents_are_no_tasks() {
    let decoded = decode(PLAIN.as_bytes());
    assert!(decoded.tasks.is_empty() && decoded.payments.is_empty() && decoded.rejects.is_empty());
    assert!(!decoded.filtered.is_empty());
}

#[test]
fn openrouter_counts_the_generation_and_not_its_wrapper() {
    let decoded = decode(OPENROUTER.as_bytes());
    assert_eq!(decoded.payments.len(), 1);
    let payment = &decoded.payments[0];
    assert_eq!(payment.amount.to_string(), "0.013542000000 USD");
    assert_eq!((&*payment.spender[0].scheme, &*payment.spender[0].value), ("openrouter.key", "agents-prod"));
    assert_eq!(payment.payee.as_deref(), Some("Anthropic"));
    assert_eq!(payment.resource.as_deref(), Some("anthropic/claude-sonnet-4.5"));
}

#[test]
fn trap_3_a_cost_on_a_parent_and_on_its_child_is_the_childs() {
    let cost = |amount: f64| json!({"gen_ai.usage.cost": amount});
    let mut root = agent("a");
    root["gen_ai.usage.cost"] = json!(0.5);
    let decoded = export(&[
        span("a1", "", &root),
        span("a2", "a1", &cost(0.5)),
        span("a3", "a2", &cost(0.2)),
        span("a4", "a2", &cost(0.3)),
    ]);
    let amounts: Vec<String> = decoded.payments.iter().map(|payment| payment.amount.to_string()).collect();
    assert_eq!(amounts, ["0.200000000000 USD", "0.300000000000 USD"]);
    assert!(decoded.payments.iter().all(|payment| payment.task.as_ref() == Some(&decoded.tasks[0].id)));
    assert!(decoded.payments.iter().all(|payment| payment.spender[0].value == "a"));
}

#[test]
fn nested_tasks_of_the_same_agent_are_steps_and_of_another_are_tasks() {
    let decoded =
        export(&[span("a1", "", &agent("a")), span("a2", "a1", &agent("a")), span("a3", "a1", &agent("b"))]);
    let agents: Vec<&str> = decoded.tasks.iter().map(|task| &*task.agent[0].value).collect();
    assert_eq!(agents, ["a", "b"]);
    assert_eq!(decoded.filtered, ["step of the same agent's task"]);
}

#[test]
fn repeated_exports_and_upper_case_ids_name_the_same_task() {
    let once = decode(AGENT.as_bytes());
    let again = decode(AGENT.replace("a1a1a1a1a1a1a1a1", "A1A1A1A1A1A1A1A1").as_bytes());
    assert_eq!(once.tasks, again.tasks);
}

#[test]
fn a_failed_span_is_a_failed_task() {
    let mut failed = span("a1", "", &agent("a"));
    failed["status"] = json!({"code": 2});
    assert!(export(&[failed]).tasks[0].failed);
}

#[test]
fn a_cycle_of_parents_ends() {
    let decoded =
        export(&[span("a1", "a2", &agent("a")), span("a2", "a1", &json!({"gen_ai.usage.cost": 0.5}))]);
    assert!(decoded.rejects.is_empty());
}

/// Encodes an export in protobuf, as a collector would.
fn protobuf(export: &Value) -> Vec<u8> {
    fn bytes(field: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        let mut len = payload.len();
        while len >= 0x80 {
            out.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        out.push(u8::try_from(len).unwrap());
        out.extend(payload);
        out
    }
    let attribute = |attribute: &Value| {
        let value = &attribute["value"];
        let value = match (value["stringValue"].as_str(), value["doubleValue"].as_f64()) {
            (Some(text), _) => bytes(1, text.as_bytes()),
            (None, Some(number)) => [vec![4 << 3 | 1], number.to_le_bytes().to_vec()].concat(),
            (None, None) => Vec::new(),
        };
        [bytes(1, attribute["key"].as_str().unwrap().as_bytes()), bytes(2, &value)].concat()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = Vec::new();
    for resource in list(&export["resourceSpans"]) {
        let keys: Vec<u8> =
            list(&resource["resource"]["attributes"]).iter().flat_map(|a| bytes(1, &attribute(a))).collect();
        let mut scopes = Vec::new();
        for scope in list(&resource["scopeSpans"]) {
            let mut spans = Vec::new();
            for span in list(&scope["spans"]) {
                let id = |key: &str| hex::decode(span[key].as_str().unwrap_or_default()).unwrap();
                let nanos =
                    |key: &str| span[key].as_str().map_or(0, |n| n.parse::<u64>().unwrap()).to_le_bytes();
                let mut parts =
                    [bytes(1, &id("traceId")), bytes(2, &id("spanId")), bytes(4, &id("parentSpanId"))]
                        .concat();
                parts.extend(bytes(5, span["name"].as_str().unwrap().as_bytes()));
                parts.extend([vec![7 << 3 | 1], nanos("startTimeUnixNano").to_vec()].concat());
                parts.extend([vec![8 << 3 | 1], nanos("endTimeUnixNano").to_vec()].concat());
                parts.extend(list(&span["attributes"]).iter().flat_map(|a| bytes(9, &attribute(a))));
                if span["status"]["code"] == 2 {
                    parts.extend(bytes(15, &[3 << 3, 2]));
                }
                spans.extend(bytes(2, &parts));
            }
            scopes.extend(bytes(2, &spans));
        }
        out.extend(bytes(1, &[bytes(1, &keys), scopes].concat()));
    }
    out
}

#[test]
fn protobuf_and_json_say_the_same() {
    for recorded in [AGENT, OPENROUTER, PLAIN] {
        let export: Value = serde_json::from_str(recorded).unwrap();
        let (from_json, from_protobuf) = (decode(recorded.as_bytes()), decode(&protobuf(&export)));
        assert_eq!(from_json.tasks, from_protobuf.tasks);
        assert_eq!(from_json.payments, from_protobuf.payments);
    }
}

#[test]
fn broken_exports_are_rejected_and_never_panic() {
    let mut whole = protobuf(&serde_json::from_str(AGENT).unwrap());
    for cut in 1..whole.len() {
        let decoded = decode(&whole[..cut]);
        assert!(decoded.tasks.len() <= 1, "{cut}");
    }
    for at in 0..whole.len() {
        whole[at] ^= 0xff;
        decode(&whole);
        whole[at] ^= 0xff;
    }
    for body in [&b"{"[..], b"{\"resourceSpans\":5}", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
        assert_eq!(decode(body).rejects[0].code, "bad_otlp");
    }
    assert_eq!(decode(b" ").filtered, ["empty message"]);
    assert!(decode(b"{}").is_empty());
}
