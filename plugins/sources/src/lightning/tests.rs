//! Recorded messages through the decoder; one test per trap of the rail.

use railwatch_model::{Identity, Kind, Payment, RefScheme, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Value, json};

use super::{InFlight, LightningApi, LightningDecoder};

const STREAM: &str = include_str!("../../fixtures/lightning/lnd.rest.v2_router_payments.stream.ndjson");
const PAGE: &str = include_str!("../../fixtures/lightning/lnd.rest.v1_payments.json");
const CLN: &str = include_str!("../../fixtures/lightning/cln.examples.json");
const HASH: &str = "ee071283cfbfac3aa5123674e13c6a04808a4845dc821f382b02f59a4e00f2a2";

fn received() -> Timestamp {
    Timestamp::from_secs(1_795_440_000)
}

fn decode_as(api: LightningApi, in_flight: InFlight, body: &str) -> Decoded {
    let mut decoded = Decoded::default();
    let message = Message { body: body.as_bytes(), headers: None, received_at: received() };
    LightningDecoder::new(api, in_flight, Identity::new("lnd.node", "03ab")).decode(&message, &mut decoded);
    decoded
}

fn decode(api: LightningApi, body: &Value) -> Decoded {
    decode_as(api, InFlight::Ignore, &body.to_string())
}

fn line(payment: &Payment) -> String {
    let id: String = payment.id.chars().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect();
    let parent = payment.parent.as_ref().map_or("", |_| " <");
    format!("{:?} …{id} {}{parent}", payment.kind, payment.amount.units())
}

/// `kind …id msat <`, which is what most traps are about.
#[track_caller]
fn check(decoded: &Decoded, expected: &[&str]) {
    assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
    assert_eq!(decoded.payments.iter().map(line).collect::<Vec<_>>(), expected, "{:?}", decoded.filtered);
}

fn lnd(changes: &Value) -> Value {
    let page: Value = serde_json::from_str(PAGE).unwrap();
    let mut payment = page["payments"][0].clone();
    payment.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    payment
}

#[test]
fn the_recorded_stream_is_one_payment_and_its_fee() {
    let decoded = decode_as(LightningApi::Lnd, InFlight::Ignore, STREAM);
    check(&decoded, &["Settle …00f2a2 10000000", "Fee …00f2a2 2020 <"]);
    assert_eq!(decoded.filtered, ["in flight", "in flight"]);
    let settle = &decoded.payments[0];
    assert_eq!(settle.amount.to_string(), "0.00010000000 BTC");
    assert_eq!(settle.settlement_refs[0].scheme, RefScheme::PaymentHash);
    assert_eq!(settle.settlement_refs[0].value, HASH);
    assert_eq!(settle.payee.as_deref().and_then(|key| key.get(..4)), Some("03b3"));
    assert_eq!(settle.spender[0].value, "03ab");
}

#[test]
fn trap_02_stream_and_page_say_the_same() {
    let streamed = decode_as(LightningApi::Lnd, InFlight::Ignore, STREAM).payments;
    assert_eq!(decode_as(LightningApi::Lnd, InFlight::Ignore, PAGE).payments, streamed);
}

#[test]
fn trap_03_two_failures_of_one_payment_are_one_step() {
    let failed = |reason: &str| {
        decode(LightningApi::Lnd, &lnd(&json!({"status": "FAILED", "failure_reason": reason})))
    };
    let (first, second) = (failed("FAILURE_REASON_TIMEOUT"), failed("FAILURE_REASON_NO_ROUTE"));
    check(&first, &["Declined …00f2a2 10000000"]);
    assert_eq!(
        (&first.payments[0].id, first.payments[0].kind),
        (&second.payments[0].id, second.payments[0].kind)
    );
}

#[test]
fn trap_05_broken_lines_cost_only_themselves() {
    let good = lnd(&json!({})).to_string();
    let body = format!(
        "{{\"error\":{{\"code\":2,\"message\":\"shutting down\"}}}}\n{{}}\nnot json \"payment_preimage\":\"5d00\"\n{{\"result\":{good}}}\n"
    );
    let decoded = decode_as(LightningApi::Lnd, InFlight::Ignore, &body);
    let codes: Vec<_> = decoded.rejects.iter().map(|reject| reject.code).collect();
    assert_eq!(codes, ["rail_error", "bad_json"]);
    assert!(!String::from_utf8_lossy(&decoded.rejects[1].raw).contains("5d00"));
    assert_eq!(decoded.payments.len(), 2);
}

#[test]
fn trap_06_and_07_integers_are_texts_and_sub_satoshi_amounts_are_exact() {
    let odd = lnd(&json!({"value_msat": "1", "value_sat": "0", "fee_msat": 3}));
    check(&decode(LightningApi::Lnd, &odd), &["Settle …00f2a2 1", "Fee …00f2a2 3 <"]);
    let missing = lnd(&json!({"value_msat": null}));
    assert_eq!(decode(LightningApi::Lnd, &missing).rejects[0].code, "bad_amount");
}

#[test]
fn trap_08_the_last_part_settles_a_payment_of_many_parts() {
    let parts = json!([
        {"status": "SUCCEEDED", "resolve_time_ns": "1623798793000000000"},
        {"status": "FAILED", "resolve_time_ns": "1623798799000000000"},
        {"status": "SUCCEEDED", "resolve_time_ns": "1623798795000000000"},
    ]);
    let decoded = decode(LightningApi::Lnd, &lnd(&json!({"htlcs": parts})));
    assert_eq!(decoded.payments.len(), 2);
    assert_eq!(decoded.payments[0].occurred_at, Timestamp::from_secs(1_623_798_795));
}

#[test]
fn trap_09_a_spontaneous_payment_has_a_payee_too() {
    let decoded = decode(LightningApi::Lnd, &lnd(&json!({"payment_request": ""})));
    assert_eq!(decoded.payments[0].payee.as_deref().and_then(|key| key.get(..4)), Some("03b3"));
}

#[test]
fn trap_04_11_and_17_a_hold_is_captured_or_released_by_its_hash() {
    let of = |status: &str| {
        decode_as(LightningApi::Lnd, InFlight::Hold, &lnd(&json!({"status": status})).to_string())
    };
    check(&of("IN_FLIGHT"), &["Hold …00f2a2 10000000"]);
    check(&of("INITIATED"), &["Hold …00f2a2 10000000"]);
    check(&of("SUCCEEDED"), &["Settle …00f2a2 10000000 <", "Fee …00f2a2 2020 <"]);
    check(&of("FAILED"), &["Declined …00f2a2 10000000", "Release …00f2a2 10000000 <"]);
    assert_eq!(of("SUCCEEDED").payments[0].parent.as_deref(), Some(HASH));
}

#[test]
fn trap_12_parts_of_core_lightning_add_up_and_failed_groups_do_not_count() {
    let part = |group: u32, part: u32, status: &str| {
        json!({"payment_hash": HASH, "groupid": group, "partid": part, "amount_msat": 5000, "amount_sent_msat": 5001,
            "status": status, "created_at": 1_738_000_000, "payment_preimage": "3e3b", "label": "agent:a1"})
    };
    let body = json!({"payments": [part(1, 1, "failed"), part(1, 2, "failed"), part(2, 1, "complete"), part(2, 2, "complete")]});
    let decoded = decode(LightningApi::Cln, &body);
    check(
        &decoded,
        &[
            "Declined …a2:1:1 5000",
            "Declined …a2:1:2 5000",
            "Settle …a2:2:1 5000",
            "Fee …a2:2:1 1 <",
            "Settle …a2:2:2 5000",
            "Fee …a2:2:2 1 <",
        ],
    );
    let settles = decoded.payments.iter().filter(|payment| payment.kind == Kind::Settle);
    let refs: usize = settles.map(|payment| payment.settlement_refs.len()).sum();
    assert_eq!(refs, 1, "one part stands for the purchase");
    assert_eq!(
        (&*decoded.payments[0].spender[0].scheme, &*decoded.payments[0].spender[0].value),
        ("ln.label", "agent:a1")
    );
}

#[test]
fn recorded_answers_of_core_lightning() {
    let examples: Value = serde_json::from_str(CLN).unwrap();
    let mut settles = 0;
    for (method, list) in [("listpays", "pays"), ("listsendpays", "payments")] {
        for example in examples[method].as_array().unwrap() {
            let decoded = decode(LightningApi::Cln, &example["response"]);
            assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
            let entries = example["response"][list].as_array().unwrap();
            let complete = entries.iter().filter(|entry| entry["status"] == "complete").count();
            let settled = decoded.payments.iter().filter(|payment| payment.kind == Kind::Settle);
            let counted = settled.filter(|payment| payment.settlement_refs.len() == 1).count();
            assert_eq!(counted, complete);
            settles += counted;
        }
    }
    assert!(settles > 2);
    let old = json!({"pays": [{"payment_hash": HASH, "status": "complete", "amount_msat": "7msat", "amount_sent_msat": "9msat"}]});
    check(&decode(LightningApi::Cln, &old), &["Settle …00f2a2 7", "Fee …00f2a2 2 <"]);
    let pushed = json!({"sendpay_success": {"payment_hash": HASH, "groupid": 1, "status": "complete", "amount_msat": 7, "amount_sent_msat": 7}});
    check(&decode(LightningApi::Cln, &pushed), &["Settle …a2:1:0 7"]);
}

#[test]
fn trap_13_phoenixd_mixes_satoshi_and_millisatoshi() {
    let payment = |paid: bool, completed: Value| {
        json!({"type": "outgoing_payment", "paymentId": "7b1a", "paymentHash": HASH, "isPaid": paid, "sent": 104,
            "fees": 4040, "preimage": "11", "completedAt": completed, "createdAt": 1_738_000_000_000_u64})
    };
    let paid = decode(LightningApi::Phoenixd, &json!([payment(true, json!(1_738_000_001_000_u64))]));
    check(&paid, &["Settle …00f2a2 99960", "Fee …00f2a2 4040 <"]);
    assert_eq!(paid.payments[0].occurred_at, Timestamp::from_secs(1_738_000_001));
    assert_eq!(decode(LightningApi::Phoenixd, &payment(false, Value::Null)).filtered, ["in flight"]);
    let failed = decode(LightningApi::Phoenixd, &payment(false, json!(1_738_000_001_000_u64)));
    check(&failed, &["Declined …00f2a2 99960"]);
    let received = json!({"type": "payment_received", "amountSat": 5, "paymentHash": HASH});
    assert_eq!(decode(LightningApi::Phoenixd, &received).filtered, ["incoming payment"]);
}

#[test]
fn trap_14_lnbits_pays_in_negative_amounts_and_pushes_what_it_lists() {
    let payment = json!({"checking_id": "internal_1", "payment_hash": HASH, "wallet_id": "w1", "amount": -210_000, "fee": -3,
        "memo": "agent_id=evil", "time": "2026-11-24T02:00:00.000000", "status": "success", "preimage": "00",
        "extra": {"agent_id": "agent-alpha", "nested": {"x": [1]}}});
    let listed = decode(LightningApi::Lnbits, &json!([payment]));
    check(&listed, &["Settle …00f2a2 210000", "Fee …00f2a2 3 <"]);
    assert_eq!(
        decode(LightningApi::Lnbits, &json!({"wallet_balance": 1, "payment": payment})).payments,
        listed.payments
    );
    let spender: Vec<_> = listed.payments[0].spender.iter().map(|identity| &*identity.value).collect();
    assert_eq!(spender, ["agent-alpha", "w1", "03ab"]);
    assert_eq!(listed.payments[0].occurred_at, Timestamp::parse("2026-11-24T02:00:00Z").unwrap());
    let incoming = json!([{"payment_hash": HASH, "amount": 210_000, "status": "success"}]);
    assert_eq!(decode(LightningApi::Lnbits, &incoming).filtered, ["incoming payment"]);
}

#[test]
fn lnget_adds_the_resource_to_the_nodes_payment() {
    let event = json!([{"id": 1, "domain": "api.example.com", "url": "https://api.example.com/paid", "payment_hash": HASH,
        "amount_sat": 10_000, "fee_sat": 2, "status": "success", "created_at": "2026-11-24T02:00:00Z"},
        {"id": 2, "domain": "api.example.com", "status": "success", "payment_hash": ""}]);
    let decoded = decode(LightningApi::Lnget, &event);
    check(&decoded, &["Settle …00f2a2 10000000", "Fee …00f2a2 2000 <"]);
    let node = &decode_as(LightningApi::Lnd, InFlight::Ignore, PAGE).payments[0];
    assert_eq!(decoded.payments[0].settlement_refs, node.settlement_refs);
    assert_ne!(decoded.payments[0].id, node.id);
    assert_eq!(decoded.payments[0].resource.as_deref(), Some("https://api.example.com/paid"));
}

/// What the payee writes is not to be believed about the payer.
#[test]
fn a_memo_or_description_names_no_agent() {
    let claim = "agent_id=boss agent:boss";
    let lnbits = json!({"payment_hash": HASH, "amount": -5000, "fee": 0, "status": "success", "memo": claim});
    let cln = json!({"payments": [{"payment_hash": HASH, "status": "complete", "amount_msat": 5000,
        "amount_sent_msat": 5000, "description": claim, "groupid": 1, "partid": 0}]});
    for (api, body) in [(LightningApi::Lnbits, lnbits), (LightningApi::Cln, cln)] {
        let decoded = decode(api, &body);
        let payment = &decoded.payments[0];
        assert!(payment.spender.iter().all(|name| name.scheme != Identity::AGENT), "{:?}", payment.spender);
        assert_eq!(payment.resource.as_deref(), Some(claim));
    }
}

#[test]
fn trap_16_no_preimage_is_kept() {
    for body in [STREAM.to_owned(), PAGE.to_owned(), lnd(&json!({"value_msat": null})).to_string()] {
        let decoded = decode_as(LightningApi::Lnd, InFlight::Hold, &body);
        let kept: String =
            decoded.rejects.iter().map(|reject| String::from_utf8_lossy(&reject.raw).into_owned()).collect();
        assert!(!format!("{decoded:?}{kept}").contains("5d00b3ac"), "{body}");
    }
}
