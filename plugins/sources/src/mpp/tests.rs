//! Composed reports and the protocol's vectors through the decoder; one test per trap.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use railwatch_model::{Kind, RefScheme, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Value, json};

use super::challenge::decode_base64url;
use super::{MppDecoder, MppMapping, parse_challenges};
use crate::x402::TokenConfig;

const CHARGE: &str = include_str!("../../fixtures/mpp/mpp_ingest_charge.json");
const SESSION: &str = include_str!("../../fixtures/mpp/mpp_ingest_tempo_session.jsonl");
const VECTORS: &str = include_str!("../../fixtures/mpp/mpp.vectors.json");

fn decode(body: &str) -> Decoded {
    let token = TokenConfig {
        address: "0x20C0000000000000000000000000000000000001".to_owned(),
        symbol: "AlphaUSD".to_owned(),
        decimals: 6,
    };
    let mapping = MppMapping { tokens: vec![token], ..MppMapping::default() };
    let mut decoded = Decoded::default();
    let received_at = Timestamp::from_secs(1_795_440_000);
    MppDecoder::new(mapping)
        .decode(&Message { body: body.as_bytes(), headers: None, received_at }, &mut decoded);
    decoded
}

fn report(method: &str, intent: &str, request: &Value, receipt: &Value) -> Value {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    json!({"agent_id": "a1", "challenge": {"id": "c1", "realm": "api.example.com", "method": method,
        "intent": intent, "request": encode(request)}, "receipt": encode(receipt)})
}

fn success(extra: &Value) -> Value {
    let mut receipt =
        json!({"status": "success", "timestamp": "2026-11-23T12:30:00Z", "reference": "aa11bb22"});
    receipt.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    receipt
}

#[test]
fn a_charge_takes_its_amount_from_the_challenge_and_its_name_from_the_receipt() {
    let decoded = decode(CHARGE);
    let payment = &decoded.payments[0];
    assert_eq!(
        (payment.kind, &*payment.id, payment.amount.to_string().as_str()),
        (Kind::Settle, "stripe:pi_1RW0001", "50.00 USD")
    );
    assert_eq!(payment.occurred_at, Timestamp::parse("2026-11-23T12:30:00Z").unwrap());
    assert_eq!((&*payment.spender[0].scheme, &*payment.spender[0].value), ("agent", "agent-alpha"));
    assert_eq!(payment.resource.as_deref(), Some("https://api.example.com/paid"));
}

#[test]
fn trap_1_challenge_headers_and_lists() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for vector in vectors["challengeHeaders"].as_array().unwrap() {
        let parsed = parse_challenges(vector["header"].as_str().unwrap());
        assert_eq!(parsed.len(), 1, "{}", vector["name"]);
        for (key, value) in
            [("id", &parsed[0].id), ("realm", &parsed[0].realm), ("request", &parsed[0].request)]
        {
            assert_eq!(vector["params"][key].as_str(), Some(value.as_str()), "{}", vector["name"]);
        }
    }
    for vector in vectors["challengeLists"].as_array().unwrap() {
        let parsed: Vec<Value> = parse_challenges(vector["header"].as_str().unwrap())
            .into_iter()
            .map(|c| json!({"id": c.id, "realm": c.realm, "method": c.method, "intent": c.intent}))
            .collect();
        let expected = vector["challenges"].as_array().cloned().unwrap_or_default();
        assert_eq!(parsed.len(), expected.len(), "{}", vector["name"]);
        for (parsed, expected) in parsed.iter().zip(&expected) {
            for key in ["id", "realm", "method", "intent"] {
                assert_eq!(parsed[key], expected[key], "{}", vector["name"]);
            }
        }
    }
    let mixed = r#"Basic realm="a, b", Payment id="1", id="2", realm="x, y", method="m", intent="charge", request="cQ", Bearer, Payment id="3", realm="r""#;
    let parsed = parse_challenges(mixed);
    assert_eq!(parsed.len(), 1, "the incomplete offer is skipped");
    assert_eq!((parsed[0].id.as_str(), parsed[0].realm.as_str()), ("1", "x, y"));
}

#[test]
fn base64url_is_strict() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for vector in vectors["base64url"].as_array().unwrap() {
        let decoded = decode_base64url(vector["encoded"].as_str().unwrap()).map(hex::encode);
        let expected = vector["error"] != true;
        assert_eq!(decoded.is_some(), expected, "{}", vector["name"]);
        if let Some(bytes) = vector["decodedHex"].as_str() {
            assert_eq!(decoded.as_deref(), Some(bytes), "{}", vector["name"]);
        }
    }
    assert_eq!(decode_base64url("AB"), None, "trailing bits must be zero");
    assert_eq!(decode_base64url("AA=="), Some(vec![0]));
}

#[test]
fn trap_2_a_receipt_without_its_challenge_is_rejected() {
    let mut body: Value = serde_json::from_str(CHARGE).unwrap();
    body.as_object_mut().unwrap().remove("challenge");
    assert_eq!(decode(&body.to_string()).rejects[0].code, "no_challenge");
    let other = report(
        "stripe",
        "charge",
        &json!({"amount": "5", "currency": "usd"}),
        &success(&json!({"challengeId": "c2"})),
    );
    assert_eq!(decode(&other.to_string()).rejects[0].code, "challenge_mismatch");
}

#[test]
fn trap_3_session_receipts_are_running_totals_of_the_channel() {
    let decoded = decode(SESSION);
    let totals: Vec<String> = decoded.payments.iter().map(|payment| payment.amount.to_string()).collect();
    assert_eq!(totals, ["0.012500 AlphaUSD", "0.025000 AlphaUSD"]);
    assert!(decoded.payments.iter().all(|payment| payment.running_total));
    assert_eq!(decoded.payments[0].id, decoded.payments[1].id);
    assert!(decoded.payments[0].settlement_refs.is_empty(), "a total is not one purchase");
}

#[test]
fn trap_4_the_rail_below_is_named() {
    let refs = |method: &str, reference: &str, source: &str| -> Vec<(RefScheme, String)> {
        let mut body = report(
            method,
            "charge",
            &json!({"amount": "5", "currency": "sat"}),
            &success(&json!({"reference": reference})),
        );
        body["source"] = json!(source);
        let decoded = decode(&body.to_string());
        decoded.payments[0].settlement_refs.iter().map(|r| (r.scheme, r.value.to_string())).collect()
    };
    let challenge = (RefScheme::MppChallenge, "c1".to_owned());
    let hash = "EE071283CFBFAC3AA5123674E13C6A04808A4845DC821F382B02F59A4E00F2A2";
    assert_eq!(refs("lightning", hash, "")[1], (RefScheme::PaymentHash, hash.to_lowercase()));
    assert_eq!(refs("stripe", "pi_1", ""), [challenge.clone(), (RefScheme::StripePi, "pi_1".to_owned())]);
    let tx = format!("0x{hash}");
    assert_eq!(refs("evm", &tx, ""), [challenge], "a transaction hash alone is shared by batches");
    let expected = format!("{}:0xabc:5000", tx.to_lowercase());
    assert_eq!(refs("evm", &tx, "did:pkh:eip155:8453:0xABC")[1], (RefScheme::EvmTx, expected));
}

#[test]
fn trap_5_and_6_refunds_are_exact_and_count_only_when_they_arrived() {
    let close = |extra: &Value| {
        decode(
            &report("lightning", "session", &json!({"amount": "3", "currency": "sat"}), &success(extra))
                .to_string(),
        )
    };
    let refund = close(&json!({"refundSats": 9_223_372_036_854_775_807_i64, "refundStatus": "succeeded"}));
    assert_eq!(refund.payments[0].kind, Kind::Refund);
    assert_eq!(refund.payments[0].amount.units(), 9_223_372_036_854_775_807_000);
    assert_eq!(
        close(&json!({"refundSats": 5, "refundStatus": "failed"})).filtered,
        ["refund that did not arrive"]
    );
    assert_eq!(close(&json!({"refundStatus": "succeeded"})).filtered, ["zero amount"]);
}

#[test]
fn deposits_are_no_spend_and_draws_are() {
    let request =
        json!({"amount": "3", "currency": "sat", "depositAmount": "5000", "paymentHash": "aa11bb22"});
    let mut body = report("lightning", "session", &request, &success(&json!({})));
    body.as_object_mut().unwrap().remove("receipt");
    body["sessionId"] = json!("aa11bb22");
    body["action"] = json!("open");
    let deposit = decode(&body.to_string());
    assert_eq!((deposit.payments[0].kind, deposit.payments[0].amount.units()), (Kind::Deposit, 5_000_000));
    body["action"] = json!("bearer");
    assert_eq!(decode(&body.to_string()).filtered, ["session step without a total"]);
    body["cumulative"] = json!(42);
    let draw = decode(&body.to_string());
    assert_eq!((draw.payments[0].kind, draw.payments[0].running_total), (Kind::Settle, true));
    assert_eq!(draw.payments[0].amount.units(), 42_000);
}

#[test]
fn trap_7_the_unit_depends_on_the_currency() {
    for (currency, expected) in [
        ("usd", "50.00 USD"),
        ("jpy", "5000 JPY"),
        ("sat", "0.00005000000 BTC"),
        ("0x20c0000000000000000000000000000000000001", "0.005000 AlphaUSD"),
    ] {
        let body =
            report("m", "charge", &json!({"amount": "5000", "currency": currency}), &success(&json!({})));
        assert_eq!(decode(&body.to_string()).payments[0].amount.to_string(), expected);
    }
    let unknown = report("m", "charge", &json!({"amount": "5", "currency": "0xdead"}), &success(&json!({})));
    assert_eq!(decode(&unknown.to_string()).rejects[0].code, "unknown_currency");
}

#[test]
fn broken_reports_are_rejected_without_their_secrets() {
    for (body, code) in [("", "bad_json"), ("{", "bad_json"), ("{}", "no_challenge")] {
        assert_eq!(decode(body).rejects[0].code, code);
    }
    let leaky = r#"{"authorization":"Payment eyJzZWNyZXQ","receipt":"x"}"#;
    assert!(!String::from_utf8_lossy(&decode(leaky).rejects[0].raw).contains("eyJzZWNyZXQ"));
}
