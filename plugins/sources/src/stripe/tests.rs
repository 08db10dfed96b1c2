//! Recorded and composed events through the decoder; one test per trap of the rail.

use railwatch_model::{Direction, Kind, Payment, RefScheme, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Map, Value, json};

use super::{RefundEvents, StripeDecoder, StripeDirections, StripeMapping};

const COMPOSED: &str = include_str!("../../fixtures/stripe/composed_events.jsonl");
const AUTHORIZATION: &str = include_str!("../../fixtures/stripe/fixtures3.issuing.authorization.json");
const TRANSACTION: &str = include_str!("../../fixtures/stripe/fixtures3.issuing.transaction.json");
const CHARGE: &str = include_str!("../../fixtures/stripe/fixtures3.charge.json");
const INTENT: &str = include_str!("../../fixtures/stripe/fixtures3.payment_intent.json");
const REFUND: &str = include_str!("../../fixtures/stripe/fixtures3.refund.json");
const DISPUTE: &str = include_str!("../../fixtures/stripe/djstripe.dispute_dp_fakefakefakefake01.json");
const ISSUED: &str = include_str!("../../fixtures/stripe/private_preview.shared_payment.issued_token.json");
const GRANTED: &str = include_str!("../../fixtures/stripe/private_preview.shared_payment.granted_token.json");

fn received() -> Timestamp {
    Timestamp::from_secs(1_795_440_000)
}

fn decode_with(mapping: StripeMapping, body: &str) -> Decoded {
    let mut decoded = Decoded::default();
    let message = Message { body: body.as_bytes(), headers: None, received_at: received() };
    StripeDecoder::new(mapping).decode(&message, &mut decoded);
    decoded
}

fn decode(body: &str) -> Decoded {
    decode_with(StripeMapping::default(), body)
}

/// An event around a recorded object with some fields changed.
fn event(kind: &str, object: &str, changes: Value, previous: Value) -> String {
    let mut object: Value = serde_json::from_str(object).unwrap();
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    object.as_object_mut().unwrap().extend(changes);
    let data = Map::from_iter([("object".to_owned(), object), ("previous_attributes".to_owned(), previous)]);
    json!({"id": "evt_1", "object": "event", "created": 1_795_437_777, "type": kind, "data": data})
        .to_string()
}

/// `kind id amount status <parent`, which is what most traps are about.
fn line(payment: &Payment) -> String {
    let mut line = format!("{:?} {} {} {:?}", payment.kind, payment.id, payment.amount, payment.status);
    if payment.running_total {
        line.push_str(" total");
    }
    if let Some(parent) = &payment.parent {
        line.push_str(&format!(" <{parent}"));
    }
    line
}

#[track_caller]
fn check(decoded: &Decoded, expected: &[&str]) {
    assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
    assert_eq!(decoded.payments.iter().map(line).collect::<Vec<_>>(), expected, "{:?}", decoded.filtered);
}

#[track_caller]
fn check_filtered(decoded: &Decoded, reason: &str) {
    check(decoded, &[]);
    assert_eq!(decoded.filtered, [reason]);
}

fn spender(payment: &Payment) -> Vec<String> {
    payment.spender.iter().map(|identity| format!("{}={}", identity.scheme, identity.value)).collect()
}

fn spending_charges() -> StripeMapping {
    let directions = StripeDirections { charge: Direction::Spend, ..StripeDirections::default() };
    StripeMapping { directions, ..StripeMapping::default() }
}

#[test]
fn composed_events_become_hold_capture_one_sale_and_its_refund() {
    let decoded: Vec<Decoded> = COMPOSED.lines().map(decode).collect();
    check(&decoded[0], &["Hold iauth_1RW0001 49.99 USD Confirmed"]);
    check(&decoded[1], &["Settle ipi_1RW0001 49.99 USD Confirmed <iauth_1RW0001"]);
    check(&decoded[2], &["Settle pi_1RW0001 12.34 USD Confirmed"]);
    check(&decoded[3], &["Settle pi_1RW0001 12.34 USD Confirmed"]);
    check(&decoded[4], &["Refund pi_1RW0001 5.00 USD Confirmed total <pi_1RW0001"]);
    let hold = &decoded[0].payments[0];
    assert_eq!(hold.payee.as_deref(), Some("Rocket Rides"));
    assert_eq!(hold.resource.as_deref(), Some("taxicabs_limousines"));
    assert_eq!(hold.occurred_at, Timestamp::from_secs(1_795_433_400));
    assert_eq!(hold.observed_at, received());
    assert_eq!((hold.direction, decoded[2].payments[0].direction), (Direction::Spend, Direction::Earn));
    assert_eq!(hold.labels[0].value, "2026-07-29.dahlia");
}

#[test]
fn trap_08_a_late_authorization_names_the_hold_that_its_capture_names() {
    let lines: Vec<&str> = COMPOSED.lines().collect();
    let capture = &decode(lines[1]).payments[0];
    let late = &decode(lines[0]).payments[0];
    assert_eq!(capture.parent.as_ref(), Some(&late.id));
    // The object as it stands after the capture holds nothing any more, whatever event brings it.
    let closed = json!({"amount": 4999, "status": "closed", "transactions": [{"amount": -4999}]});
    check_filtered(
        &decode(&event("issuing_authorization.updated", AUTHORIZATION, closed, json!({"status": "pending"}))),
        "authorization closed by its captures",
    );
}

#[test]
fn trap_09_a_force_capture_has_no_parent() {
    let body = event("issuing_transaction.created", TRANSACTION, json!({"authorization": null}), json!({}));
    check(&decode(&body), &["Settle ipi_1Pgc78B7WZ01zgkWm0QxtFzQ 1.00 USD Confirmed"]);
}

#[test]
fn trap_10_hold_and_capture_are_one_purchase() {
    let lines: Vec<&str> = COMPOSED.lines().collect();
    let (hold, capture) = (&decode(lines[0]).payments[0], &decode(lines[1]).payments[0]);
    assert_eq!((hold.kind, capture.kind), (Kind::Hold, Kind::Settle));
    assert_eq!(capture.parent.as_deref(), Some(hold.id.as_str()));
}

#[test]
fn trap_11_the_card_is_an_object_or_a_text() {
    let lines: Vec<&str> = COMPOSED.lines().collect();
    let expanded = spender(&decode(lines[0]).payments[0]);
    let bare = spender(&decode(lines[1]).payments[0]);
    let expected =
        ["agent=agent-alpha", "stripe.card=ic_agentalpha", "stripe.cardholder=ich_1Pgag4B7WZ01zgkWdPVfBngi"];
    assert_eq!(expanded, expected);
    assert_eq!(bare, expected);
    let body = event("issuing_transaction.created", TRANSACTION, json!({"card": "ic_1"}), json!({}));
    assert_eq!(spender(&decode(&body).payments[0])[0], "stripe.card=ic_1");
}

#[test]
fn trap_12_a_negative_transaction_is_a_purchase() {
    for (amount, expected) in [
        (-4999, "Settle ipi_1Pgc78B7WZ01zgkWm0QxtFzQ 49.99 USD Confirmed <iauth_1Pgc78B7WZ01zgkW9IPKCfII"),
        (4999, "Refund ipi_1Pgc78B7WZ01zgkWm0QxtFzQ 49.99 USD Confirmed <iauth_1Pgc78B7WZ01zgkW9IPKCfII"),
    ] {
        let body = event("issuing_transaction.created", TRANSACTION, json!({"amount": amount}), json!({}));
        check(&decode(&body), &[expected]);
    }
    check_filtered(
        &decode(&event("issuing_transaction.updated", TRANSACTION, json!({}), json!({}))),
        "enrichment without money",
    );
}

#[test]
fn trap_13_a_charge_and_its_intent_are_one_step_with_the_same_references() {
    let lines: Vec<&str> = COMPOSED.lines().collect();
    let (charge, intent) = (&decode(lines[2]).payments[0], &decode(lines[3]).payments[0]);
    assert_eq!((&charge.rail, &charge.id, charge.kind), (&intent.rail, &intent.id, intent.kind));
    assert_eq!(charge.amount, intent.amount);
    let refs = |payment: &Payment| -> Vec<(RefScheme, String)> {
        payment.settlement_refs.iter().map(|r| (r.scheme, r.value.to_string())).collect()
    };
    let both = vec![
        (RefScheme::StripePi, "pi_1RW0001".to_owned()),
        (RefScheme::StripeCharge, "ch_1RW0001".to_owned()),
    ];
    assert_eq!(refs(charge), both);
    let with_challenge = [both, vec![(RefScheme::MppChallenge, "ch_1a2b3c4d5e".to_owned())]].concat();
    assert_eq!(refs(intent), with_challenge);
    // Servers that expand `latest_charge` mean the same.
    let expanded =
        json!({"id": "pi_2", "amount_received": 5, "latest_charge": {"id": "ch_2", "object": "charge"}});
    let decoded = decode(&event("payment_intent.succeeded", INTENT, expanded, json!({})));
    assert_eq!(refs(&decoded.payments[0])[1], (RefScheme::StripeCharge, "ch_2".to_owned()));
    // A charge without an intent stands for itself.
    let alone = json!({"payment_intent": null, "id": "ch_3", "amount_captured": 0, "captured": true});
    check(&decode(&event("charge.succeeded", CHARGE, alone, json!({}))), &["Settle ch_3 1.00 USD Confirmed"]);
}

#[test]
fn trap_14_one_refund_reported_twice_counts_once() {
    let refunded = event(
        "charge.refunded",
        CHARGE,
        json!({"id": "ch_1", "amount_refunded": 500, "captured": true}),
        json!({"amount_refunded": 0}),
    );
    let created =
        event("refund.created", REFUND, json!({"id": "re_1", "charge": "ch_1", "amount": 500}), json!({}));
    check(&decode(&refunded), &["Refund ch_1 5.00 USD Confirmed total <ch_1"]);
    check_filtered(&decode(&created), "counted by charge.refunded");
    let single = StripeMapping { refunds: RefundEvents::Refund, ..StripeMapping::default() };
    check_filtered(&decode_with(single.clone(), &refunded), "counted by refund events");
    check(&decode_with(single.clone(), &created), &["Refund re_1 5.00 USD Confirmed <ch_1"]);
    let failed =
        event("refund.failed", REFUND, json!({"id": "re_1", "charge": "ch_1", "amount": 500}), json!({}));
    check(&decode_with(single, &failed), &["Refund re_1 5.00 USD Retracted <ch_1"]);
}

#[test]
fn trap_15_two_partial_refunds_are_two_totals_of_one_charge() {
    for total in [500, 800] {
        let body = event(
            "charge.refunded",
            CHARGE,
            json!({"id": "ch_1", "amount_refunded": total, "captured": true}),
            json!({}),
        );
        check(&decode(&body), &[&format!("Refund ch_1 {}.00 USD Confirmed total <ch_1", total / 100)]);
    }
}

#[test]
fn trap_16_token_use_is_a_running_total_and_the_token_stays_secret() {
    let used = |total: i64| {
        let usage = json!({"amount_captured": {"currency": "usd", "value": total}});
        let changes =
            json!({"id": "spt_1SecretToken", "usage_details": usage, "shared_metadata": {"agent_id": "a1"}});
        decode(&event("shared_payment.issued_token.used", ISSUED, changes, json!({})))
    };
    let (first, second) = (used(500), used(1200));
    let id = first.payments[0].id.to_string();
    check(&first, &[&format!("Settle {id} 5.00 USD Confirmed total")]);
    check(&second, &[&format!("Settle {id} 12.00 USD Confirmed total")]);
    assert_eq!(spender(&first.payments[0]), ["agent=a1", &format!("stripe.spt={id}")]);
    assert_eq!(first.payments[0].payee.as_deref(), Some("network_business_profile"));
    assert!(!format!("{first:?}").contains("SecretToken"));
    // The seller's view of the same token is an earning of its own.
    let granted = decode(&event(
        "shared_payment.granted_token.used",
        GRANTED,
        json!({"id": "spt_1SecretToken"}),
        json!({}),
    ));
    assert_eq!(granted.payments[0].direction, Direction::Earn);
    assert_ne!(granted.payments[0].id, id);
}

#[test]
fn trap_17_currencies_without_and_with_three_decimals() {
    for (currency, expected) in [
        ("jpy", "4999 JPY"),
        ("kwd", "4.999 KWD"),
        ("ugx", "49.99 UGX"),
        ("isk", "49.99 ISK"),
        ("usd", "49.99 USD"),
    ] {
        let changes = json!({"amount": -4999, "currency": currency});
        let decoded = decode(&event("issuing_transaction.created", TRANSACTION, changes, json!({})));
        assert_eq!(decoded.payments[0].amount.to_string(), expected);
    }
    let unknown = event("issuing_transaction.created", TRANSACTION, json!({"currency": "qqq"}), json!({}));
    assert_eq!(decode(&unknown).rejects[0].code, "unknown_currency");
}

#[test]
fn trap_18_old_and_odd_envelopes() {
    let mut body: Value = serde_json::from_str(COMPOSED.lines().nth(1).unwrap()).unwrap();
    body["request"] = json!("req_1");
    body["api_version"] = Value::Null;
    body.as_object_mut().unwrap().remove("pending_webhooks");
    body.as_object_mut().unwrap().remove("livemode");
    let decoded = decode(&body.to_string());
    check(&decoded, &["Settle ipi_1RW0001 49.99 USD Confirmed <iauth_1RW0001"]);
    assert!(decoded.payments[0].labels.is_empty());
}

#[test]
fn trap_19_unknown_event_types_are_counted_and_left_out() {
    check_filtered(
        &decode(&event("entitlements.feature.created", CHARGE, json!({}), json!({}))),
        "unknown event type",
    );
    check_filtered(&decode(&event("charge.levitated", CHARGE, json!({}), json!({}))), "unknown event type");
}

#[test]
fn trap_20_a_thin_twin_carries_no_money() {
    let body = json!({"id": "evt_2", "object": "v2.core.event", "type": "v1.charge.succeeded",
        "created": "2026-02-15T00:27:45.330Z", "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
        "snapshot_event": "evt_1"});
    check_filtered(&decode(&body.to_string()), "thin event");
}

#[test]
fn trap_21_disputed_money_moves_with_its_funds_and_so_does_the_fee() {
    let dispute = |step: &str, lines: Value| {
        decode(&event(
            &format!("charge.dispute.{step}"),
            DISPUTE,
            json!({"balance_transactions": lines}),
            json!({}),
        ))
    };
    let withdrawal = json!({"amount": -1000, "fee": 1500, "currency": "usd"});
    check_filtered(&dispute("created", json!([withdrawal])), "dispute without money");
    check_filtered(&dispute("closed", json!([withdrawal])), "dispute without money");
    let id = "dp_1JAyTwJSZQVUcJYgPqasUEn1";
    let sale = "pi_1JAyTwJSZQVUcJYgBbsz0NuH";
    check(
        &dispute("funds_withdrawn", json!([withdrawal])),
        &[
            &format!("Dispute {id} 10.00 USD Confirmed <{sale}"),
            &format!("Fee {id}:fee 15.00 USD Confirmed <{id}"),
        ],
    );
    let keeps_fee = json!([withdrawal, {"amount": 1000, "fee": 0, "currency": "usd"}]);
    check(&dispute("funds_reinstated", keeps_fee), &[&format!("Dispute {id} 10.00 USD Retracted <{sale}")]);
    let returns_fee = json!([withdrawal, {"amount": 1000, "fee": -1500, "currency": "usd"}]);
    check(
        &dispute("funds_reinstated", returns_fee),
        &[
            &format!("Dispute {id} 10.00 USD Retracted <{sale}"),
            &format!("Fee {id}:fee 15.00 USD Retracted <{id}"),
        ],
    );
}

#[test]
fn trap_22_connected_accounts_are_spenders() {
    let mut body: Value = serde_json::from_str(COMPOSED.lines().nth(2).unwrap()).unwrap();
    body["account"] = json!("acct_agentco");
    let decoded = decode_with(spending_charges(), &body.to_string());
    assert_eq!(
        spender(&decoded.payments[0]),
        ["agent=agent-alpha", "stripe.customer=cus_agentalpha", "stripe.account=acct_agentco"]
    );
    assert_eq!(decoded.payments[0].direction, Direction::Spend);
}

#[test]
fn trap_23_webhook_and_poll_give_the_same_payments_oldest_first() {
    let mut newest_first: Vec<&str> = COMPOSED.lines().collect();
    newest_first.reverse();
    let page = format!(
        r#"{{"object":"list","url":"/v1/events","has_more":false,"data":[{}]}}"#,
        newest_first.join(",")
    );
    let pushed: Vec<Payment> = COMPOSED.lines().flat_map(|event| decode(event).payments).collect();
    assert_eq!(decode(&page).payments, pushed);
    let nested = format!(r#"{{"object":"list","data":[{page}]}}"#);
    assert_eq!(decode(&nested).rejects[0].code, "bad_shape");
}

#[test]
fn trap_24_a_declined_authorization_is_no_spend() {
    let declined = json!({"approved": false, "amount": 0, "status": "closed", "id": "iauth_1"});
    check(
        &decode(&event("issuing_authorization.created", AUTHORIZATION, declined, json!({}))),
        &["Declined iauth_1 7.00 USD Confirmed"],
    );
    let failed = json!({"id": "ch_1", "payment_intent": "pi_1"});
    check(&decode(&event("charge.failed", CHARGE, failed, json!({}))), &["Declined ch_1 1.00 USD Confirmed"]);
    let failed =
        json!({"id": "pi_1", "amount": 100, "last_payment_error": {"charge": "ch_1"}, "latest_charge": null});
    check(
        &decode(&event("payment_intent.payment_failed", INTENT, failed, json!({}))),
        &["Declined ch_1 1.00 USD Confirmed"],
    );
}

#[test]
fn trap_25_holds_end() {
    let updated = |changes: Value, previous: Value| {
        decode(&event("issuing_authorization.updated", AUTHORIZATION, changes, previous))
    };
    let id = json!("iauth_1");
    for status in ["reversed", "expired"] {
        let gone = json!({"id": id, "status": status, "amount": 0});
        check(
            &updated(gone, json!({"amount": 4999, "status": "pending"})),
            &["Release iauth_1 49.99 USD Confirmed <iauth_1"],
        );
        let kept = json!({"id": id, "status": status, "amount": 4999});
        check(
            &updated(kept, json!({"status": "pending"})),
            &["Release iauth_1 49.99 USD Confirmed <iauth_1"],
        );
    }
    let rest = json!({"id": id, "status": "closed", "amount": 4999, "transactions": [{"amount": -3000}]});
    check(&updated(rest, json!({"status": "pending"})), &["Release iauth_1 19.99 USD Confirmed <iauth_1"]);
    check(
        &updated(json!({"id": id, "amount": 4000}), json!({"amount": 4999})),
        &["Release iauth_1:4999-4000 9.99 USD Confirmed <iauth_1"],
    );
    check(
        &updated(json!({"id": id, "amount": 5999}), json!({"amount": 4999})),
        &["Hold iauth_1:4999-5999 10.00 USD Confirmed <iauth_1"],
    );
}

#[test]
fn an_intent_of_an_old_version_has_no_received_amount() {
    let body = json!({"object": "event", "api_version": "2017-08-15", "type": "payment_intent.succeeded",
        "created": 1_795_437_777, "data": {"object": {"id": "pi_1", "amount": 1234, "currency": "usd",
            "status": "succeeded", "latest_charge": {"id": "ch_1", "amount": 1234}}}});
    check(&decode(&body.to_string()), &["Settle pi_1 12.34 USD Confirmed"]);
}

#[test]
fn an_authorization_request_is_not_a_decision() {
    check_filtered(
        &decode(&event("issuing_authorization.request", AUTHORIZATION, json!({}), json!({}))),
        "authorization request without a decision",
    );
}

#[test]
fn a_manual_capture_is_a_hold_and_then_a_settle_of_it() {
    let charge = |kind: &str, changes: Value| decode(&event(kind, CHARGE, changes, json!({})));
    let held = json!({"id": "ch_1", "payment_intent": "pi_1", "captured": false, "amount_captured": 0});
    check(&charge("charge.succeeded", held.clone()), &["Hold pi_1 1.00 USD Confirmed"]);
    let captured = json!({"id": "ch_1", "payment_intent": "pi_1", "captured": true, "amount_captured": 80});
    check(&charge("charge.captured", captured), &["Settle pi_1 0.80 USD Confirmed <pi_1"]);
    check(&charge("charge.expired", held), &["Release pi_1 1.00 USD Confirmed <pi_1"]);
    let intent =
        json!({"id": "pi_1", "amount_received": 80, "capture_method": "manual", "latest_charge": "ch_1"});
    check(
        &decode(&event("payment_intent.succeeded", INTENT, intent, json!({}))),
        &["Settle pi_1 0.80 USD Confirmed <pi_1"],
    );
}

#[test]
fn issuing_disputes_give_money_back_and_may_take_it_again() {
    let dispute =
        r#"{"id":"idp_1","amount":100,"currency":"usd","created":1795437000,"transaction":"ipi_1"}"#;
    for (step, expected) in [
        ("funds_reinstated", "Refund idp_1 1.00 USD Confirmed <ipi_1"),
        ("funds_rescinded", "Refund idp_1 1.00 USD Retracted <ipi_1"),
    ] {
        check(
            &decode(&event(&format!("issuing_dispute.{step}"), dispute, json!({}), json!({}))),
            &[expected],
        );
    }
    check_filtered(
        &decode(&event("issuing_dispute.created", dispute, json!({}), json!({}))),
        "dispute without money",
    );
}

#[test]
fn broken_input_is_rejected_with_its_place_and_without_its_secrets() {
    for (body, code) in [
        ("", "bad_json"),
        ("{\"object\":\"event\"", "bad_json"),
        ("[]", "bad_shape"),
        ("{\"object\":\"charge\"}", "bad_shape"),
        (r#"{"object":"event","type":"charge.succeeded","data":{"object":{}}}"#, "no_id"),
        (r#"{"object":"event","type":"charge.succeeded","data":[]}"#, "no_id"),
        (
            r#"{"object":"event","type":"charge.succeeded","data":{"object":{"id":"ch_1","amount":1.5}}}"#,
            "bad_amount",
        ),
        (
            r#"{"object":"event","type":"charge.succeeded","data":{"object":{"id":"ch_1","amount":-5}}}"#,
            "bad_amount",
        ),
    ] {
        let decoded = decode(body);
        assert_eq!(decoded.rejects.len(), 1, "{body}");
        assert_eq!(decoded.rejects[0].code, code, "{body}");
    }
    let body = event(
        "payment_intent.succeeded",
        INTENT,
        json!({"amount_received": null, "amount": null}),
        json!({}),
    );
    let rejected = decode(&body);
    assert_eq!(rejected.rejects[0].code, "bad_amount");
    assert!(!String::from_utf8_lossy(&rejected.rejects[0].raw).contains("_secret_"));
}

#[test]
fn no_client_secret_reaches_a_payment() {
    for body in COMPOSED.lines() {
        let shown = format!("{:?}", decode(body));
        assert!(!shown.contains("_secret_"), "{shown}");
    }
}
