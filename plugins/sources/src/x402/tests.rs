//! Recorded and composed logs and hooks through the decoders; one test per trap of the rail.

use railwatch_model::{Kind, Payment, RefScheme, Status, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Value, json};

use super::logs::{AUTHORIZATION_USED, TRANSFER};
use super::{TokenConfig, X402Chain, X402HookDecoder, X402LogDecoder};

const FRAMES: &str = include_str!("../../fixtures/x402/ws_frames_v2.json");
const ANSWERS: &str = include_str!("../../fixtures/x402/rpc_tx_receipt_block.json");
const HOOKS: &str = include_str!("../../fixtures/x402/hooks_v2.json");

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const ALICE: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const SHOP: &str = "0xa0ee7a142d267c1f36714e4a8f75612f20a79720";
const ESCROW: &str = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003";

fn received() -> Timestamp {
    Timestamp::from_secs(1_795_440_000)
}

fn chain() -> X402Chain {
    X402Chain::new("base-sepolia", &[], &[], &[], true).unwrap()
}

fn decode_on(chain: X402Chain, body: &str) -> Decoded {
    let mut decoded = Decoded::default();
    let message = Message { body: body.as_bytes(), headers: None, received_at: received() };
    X402LogDecoder::new(chain).decode(&message, &mut decoded);
    decoded
}

fn decode(logs: &[Value]) -> Decoded {
    decode_on(chain(), &json!(logs).to_string())
}

fn hook(body: &Value) -> Decoded {
    let mut decoded = Decoded::default();
    let body = body.to_string();
    let message = Message { body: body.as_bytes(), headers: None, received_at: received() };
    X402HookDecoder::default().decode(&message, &mut decoded);
    decoded
}

fn pad(address: &str) -> String {
    format!("0x{:0>64}", address.trim_start_matches("0x").to_lowercase())
}

fn log(index: u64, topics: &[&str], data: &str) -> Value {
    json!({"address": USDC, "topics": topics, "data": data, "blockHash": pad("b1"), "blockNumber": "0x4",
        "blockTimestamp": "0x6b043126", "transactionHash": pad("77"), "transactionIndex": "0x0",
        "logIndex": format!("0x{index:x}"), "removed": false})
}

fn transfer(index: u64, from: &str, to: &str, value: u128) -> Value {
    log(index, &[TRANSFER, &pad(from), &pad(to)], &format!("0x{value:064x}"))
}

fn used(index: u64, payer: &str, nonce: &str) -> Value {
    log(index, &[AUTHORIZATION_USED, &pad(payer), &pad(nonce)], "0x")
}

fn with(mut log: Value, key: &str, value: Value) -> Value {
    log[key] = value;
    log
}

fn method(payment: &Payment) -> &str {
    &payment.labels[0].value
}

/// `kind amount method`, which is what most traps are about.
#[track_caller]
fn check(decoded: &Decoded, expected: &[&str], filtered: &[&str]) {
    assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
    let lines: Vec<String> = decoded
        .payments
        .iter()
        .map(|payment| format!("{:?} {} {}", payment.kind, payment.amount, method(payment)))
        .collect();
    assert_eq!(lines, expected);
    assert_eq!(decoded.filtered, filtered);
}

#[test]
fn recorded_frames_become_three_seen_payments_of_two_payers() {
    let decoded = decode_on(chain(), FRAMES);
    check(
        &decoded,
        &[
            "Settle 0.010000 USDC@base-sepolia eip3009",
            "Settle 0.010000 USDC@base-sepolia eip3009",
            "Settle 0.500000 USDC@base-sepolia eip3009",
        ],
        &[],
    );
    let first = &decoded.payments[0];
    assert_eq!(
        first.id,
        "eip155:84532:0x036cbd53842c5426634e7929541ec2318f3dcf7e:0x70997970c51812dc3a010c7d01b50e0d17dc79c8:\
         0x792a3e5a7609a2bce03d152cf32d5883db7da6c2763431934c1fda0960c886f9"
    );
    assert_eq!(first.status, Status::Seen);
    assert_eq!(first.payee.as_deref(), Some(SHOP));
    assert_eq!(first.occurred_at, Timestamp::from_secs(0x6b04_3126));
    assert_eq!((&*first.spender[0].scheme, &*first.spender[0].value), ("evm.address", ALICE));
    assert_ne!(decoded.payments[1].spender, first.spender);
}

#[test]
fn recorded_answers_and_receipts_hold_the_same_payments() {
    let answers: Value = serde_json::from_str(ANSWERS).unwrap();
    let decoded = decode_on(chain(), &answers["eth_getLogs"].to_string());
    assert!(!decoded.payments.is_empty());
    let body = format!("[{}]", answers["eth_getTransactionReceipt"]);
    let receipt = decode_on(chain(), &body);
    assert_eq!(receipt.payments.len(), 1);
    assert!(decoded.payments.iter().any(|payment| payment.id == receipt.payments[0].id));
}

#[test]
fn trap_01_a_transfer_alone_is_not_x402() {
    check(&decode(&[transfer(0, ALICE, SHOP, 7)]), &["Settle 0.000007 USDC@base-sepolia transfer"], &[]);
    let strict = X402Chain::new("eip155:84532", &[], &[], &[], false).unwrap();
    check(&decode_on(strict, &json!([transfer(0, ALICE, SHOP, 7)]).to_string()), &[], &["plain transfer"]);
}

#[test]
fn trap_02_many_payments_in_one_transaction_are_told_apart() {
    let decoded = decode(&[
        used(0, ALICE, "a1"),
        transfer(1, ALICE, SHOP, 7),
        used(2, ALICE, "a2"),
        transfer(3, ALICE, SHOP, 7),
        transfer(4, ALICE, SHOP, 7),
    ]);
    let e3009 = "Settle 0.000007 USDC@base-sepolia eip3009";
    check(&decoded, &[e3009, e3009, "Settle 0.000007 USDC@base-sepolia transfer"], &[]);
    for name in [
        |payment: &Payment| payment.id.clone(),
        |payment: &Payment| {
            let tx = payment.settlement_refs.iter().find(|r| r.scheme == RefScheme::EvmTx);
            tx.unwrap().value.clone()
        },
    ] {
        let mut names: Vec<_> = decoded.payments.iter().map(name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
    }
}

#[test]
fn trap_03_and_27_the_same_payment_in_another_block_and_place_keeps_its_id() {
    let before = decode(&[used(0, ALICE, "a1"), transfer(1, ALICE, SHOP, 7)]);
    let moved = |log| with(log, "blockHash", json!(pad("b2")));
    let after = decode(&[moved(used(2, ALICE, "a1")), moved(transfer(3, ALICE, SHOP, 7))]);
    assert_eq!(before.payments[0].id, after.payments[0].id);
    let plain = decode(&[transfer(1, ALICE, SHOP, 7)]);
    let plain_moved = decode(&[moved(transfer(9, ALICE, SHOP, 7))]);
    assert_eq!(plain.payments[0].id, plain_moved.payments[0].id);
}

#[test]
fn trap_05_removed_logs_are_retractions() {
    let removed = |log| with(log, "removed", json!(true));
    let decoded = decode(&[removed(used(0, ALICE, "a1")), removed(transfer(1, ALICE, SHOP, 7))]);
    assert_eq!(decoded.payments[0].status, Status::Retracted);
    assert_eq!(method(&decoded.payments[0]), "eip3009");
}

#[test]
fn trap_07_block_time_is_missing_a_number_or_hexadecimal() {
    for (value, expected) in [
        (json!("0x6b043126"), Timestamp::from_secs(0x6b04_3126)),
        (json!(0x6b04_3126), Timestamp::from_secs(0x6b04_3126)),
        (Value::Null, received()),
    ] {
        let decoded = decode(&[with(transfer(0, ALICE, SHOP, 7), "blockTimestamp", value)]);
        assert_eq!(decoded.payments[0].occurred_at, expected);
    }
}

#[test]
fn trap_08_addresses_are_the_same_in_either_case() {
    let wallets = ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8".to_owned()];
    let watched = X402Chain::new("base-sepolia", &wallets, &[], &[], true).unwrap();
    let logs = json!([transfer(0, ALICE, SHOP, 7), transfer(1, SHOP, ALICE, 9)]).to_string();
    check(
        &decode_on(watched, &logs),
        &["Settle 0.000007 USDC@base-sepolia transfer"],
        &["payer that is not watched"],
    );
}

#[test]
fn trap_09_and_10_tokens_have_their_own_decimals_and_amounts_beyond_64_bits() {
    let token = TokenConfig { address: USDC.to_owned(), symbol: "BIG".to_owned(), decimals: 18 };
    let chain = X402Chain::new("base-sepolia", &[], &[token], &[], true).unwrap();
    let logs = json!([transfer(0, ALICE, SHOP, 123_456_789_012_345_678_901_234_567)]).to_string();
    check(&decode_on(chain, &logs), &["Settle 123456789.012345678901234567 BIG@base-sepolia transfer"], &[]);
}

#[test]
fn amounts_beyond_127_bits_are_rejected_and_never_wrap() {
    for data in [format!("0x{}", "f".repeat(64)), format!("0x{:064x}", u128::MAX), "0x".to_owned()] {
        let decoded =
            decode(&[with(transfer(0, ALICE, SHOP, 1), "data", json!(data)), transfer(1, ALICE, SHOP, 7)]);
        assert_eq!(decoded.rejects[0].code, "bad_amount", "{data}");
        assert_eq!(decoded.payments.len(), 1, "one bad log does not cost its neighbor");
    }
}

#[test]
fn trap_11_zero_transfers_are_dropped() {
    check(&decode(&[transfer(0, ALICE, SHOP, 0)]), &[], &["zero value"]);
}

#[test]
fn trap_12_look_alike_tokens_do_not_count() {
    let fake =
        with(transfer(0, ALICE, SHOP, 7), "address", json!("0x036cbd53842c5426634e7929541ec2318f3dcf7f"));
    check(&decode(&[fake]), &[], &["token that does not count"]);
}

#[test]
fn trap_13_a_transfer_to_oneself_is_no_spend() {
    check(&decode(&[transfer(0, ALICE, ALICE, 7)]), &[], &["payer is payee"]);
}

#[test]
fn trap_14_channels_take_deposits_and_give_refunds() {
    let wallets = [ALICE.to_owned()];
    let watched = X402Chain::new("base-sepolia", &wallets, &[], &[], true).unwrap();
    let logs =
        json!([transfer(0, ALICE, ESCROW, 7), transfer(1, ESCROW, ALICE, 5), transfer(2, ESCROW, SHOP, 2)]);
    let decoded = decode_on(watched, &logs.to_string());
    check(
        &decoded,
        &["Deposit 0.000007 USDC@base-sepolia transfer", "Refund 0.000005 USDC@base-sepolia transfer"],
        &["payer that is not watched"],
    );
    assert!(decoded.payments.iter().all(|payment| payment.spender[0].value == ALICE));
    assert!(decoded.payments.iter().all(|payment| payment.settlement_refs.is_empty()));
}

#[test]
fn permit2_is_told_by_the_settled_event_of_a_known_proxy() {
    let settled = "0x97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6";
    let proxy = json!("0x402085c248EeA27D92E8b30b2C58ed07f9E20001");
    let event = with(log(1, &[settled], "0x"), "address", proxy);
    check(
        &decode(&[transfer(0, ALICE, SHOP, 7), event]),
        &["Settle 0.000007 USDC@base-sepolia permit2"],
        &[],
    );
    let impostor = log(1, &[settled], "0x");
    check(
        &decode(&[transfer(0, ALICE, SHOP, 7), impostor]),
        &["Settle 0.000007 USDC@base-sepolia transfer"],
        &[],
    );
}

#[test]
fn trap_17_an_authorization_of_a_filtered_token_is_not_paired() {
    let other = |log| with(log, "address", json!(SHOP));
    let decoded = decode(&[
        other(used(0, ALICE, "a1")),
        other(transfer(1, ALICE, SHOP, 9)),
        transfer(2, ALICE, SHOP, 7),
    ]);
    check(
        &decoded,
        &["Settle 0.000007 USDC@base-sepolia transfer"],
        &["token that does not count", "authorization without a transfer that counts"],
    );
}

#[test]
fn trap_20_a_burst_within_one_block_keeps_the_chains_order() {
    let logs: Vec<Value> = (0..20_u64)
        .map(|nth| {
            let burst = transfer(nth, ALICE, SHOP, 100 + u128::from(nth));
            with(burst, "transactionHash", json!(pad(&format!("{:x}", 0xff - nth))))
        })
        .collect();
    let amounts: Vec<i128> = decode(&logs).payments.iter().map(|payment| payment.amount.units()).collect();
    assert_eq!(amounts, (100..120).collect::<Vec<i128>>());
}

#[test]
fn trap_25_a_relay_contract_is_the_payee_and_its_forwarding_is_not_ours() {
    let relay = "0x1111111111111111111111111111111111111111";
    let wallets = [ALICE.to_owned()];
    let watched = X402Chain::new("base-sepolia", &wallets, &[], &[], true).unwrap();
    let logs = json!([used(0, ALICE, "a1"), transfer(1, ALICE, relay, 7), transfer(2, relay, SHOP, 7)]);
    let decoded = decode_on(watched, &logs.to_string());
    check(&decoded, &["Settle 0.000007 USDC@base-sepolia eip3009"], &["payer that is not watched"]);
    assert_eq!(decoded.payments[0].payee.as_deref(), Some(relay));
}

#[test]
fn trap_26_a_canceled_authorization_is_no_spend() {
    let canceled = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81";
    check(&decode(&[log(0, &[canceled, &pad(ALICE), &pad("a1")], "0x")]), &[], &["authorization canceled"]);
}

#[test]
fn the_transfer_may_come_before_its_authorization() {
    let decoded = decode(&[transfer(0, ALICE, SHOP, 7), used(1, ALICE, "a1")]);
    check(&decoded, &["Settle 0.000007 USDC@base-sepolia eip3009"], &[]);
}

#[test]
fn recorded_hooks_count_once_and_only_after_the_settlement() {
    let hooks: Vec<Value> = serde_json::from_str(HOOKS).unwrap();
    let chain = decode_on(chain(), FRAMES).payments;
    let (mut ids, mut declined) = (Vec::new(), Vec::new());
    for body in &hooks {
        let decoded = hook(body);
        assert!(decoded.rejects.is_empty(), "{body}: {:?}", decoded.rejects);
        let context = &body["context"];
        let is_settled = context["result"]["success"] == true || context["settleResponse"]["success"] == true;
        let settles: Vec<_> =
            decoded.payments.iter().filter(|payment| payment.kind == Kind::Settle).collect();
        assert_eq!(settles.len(), usize::from(is_settled), "{}: {:?}", body["hook"], decoded.filtered);
        declined.extend(decoded.payments.iter().filter(|payment| payment.kind == Kind::Declined).cloned());
        for payment in settles {
            assert_eq!(payment.status, Status::Seen);
            assert!(payment.resource.as_ref().is_some_and(|url| url.starts_with("http://127.0.0.1:14021/")));
            let twin = chain.iter().find(|mined| mined.settlement_refs == payment.settlement_refs);
            assert_eq!(twin.map(|mined| &mined.amount), Some(&payment.amount));
            ids.push(payment.id.clone());
        }
    }
    assert_eq!(declined.len(), 2, "the facilitator and the client tell of one refusal");
    assert_eq!(declined[0].id, declined[1].id);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "facilitator, server and client name a payment alike");
}

fn settled(result: Value) -> Value {
    let hooks: Vec<Value> = serde_json::from_str(HOOKS).unwrap();
    let mut body = hooks.into_iter().find(|body| body["hook"] == "facilitator.onAfterSettle").unwrap();
    body["context"]["result"] = result;
    body
}

#[test]
fn trap_15_and_28_pending_settlements_do_not_count_however_often_they_come() {
    let pending = json!({"success": false, "errorReason": "settlement_pending", "payer": ALICE,
        "transaction": pad("77"), "network": "eip155:84532"});
    for _ in 0..2 {
        let decoded = hook(&settled(pending.clone()));
        assert!(decoded.payments.is_empty());
        assert_eq!(decoded.filtered, ["settlement pending"]);
    }
}

#[test]
fn trap_16_signed_is_not_spent() {
    let hooks: Vec<Value> = serde_json::from_str(HOOKS).unwrap();
    let signed = hooks.iter().find(|body| body["hook"] == "client.onAfterPaymentCreation").unwrap();
    assert_eq!(hook(signed).filtered, ["signed or verified, not settled"]);
    let verified = hooks.iter().find(|body| body["hook"] == "facilitator.onAfterVerify").unwrap();
    assert_eq!(hook(verified).filtered, ["signed or verified, not settled"]);
}

#[test]
fn refused_settlements_are_declined() {
    let refused = json!({"success": false, "errorReason": "invalid_exact_evm_insufficient_balance", "transaction": "",
        "network": "eip155:84532", "payer": ALICE});
    let decoded = hook(&settled(refused));
    assert_eq!(decoded.payments[0].kind, Kind::Declined);
    assert!(decoded.payments[0].settlement_refs.is_empty());
}

#[test]
fn trap_23_both_spellings_of_a_network_are_one() {
    let result = |network: &str| json!({"success": true, "transaction": pad("77"), "network": network, "payer": ALICE});
    let (v1, v2) = (hook(&settled(result("base-sepolia"))), hook(&settled(result("eip155:84532"))));
    assert_eq!(v1.payments[0].id, v2.payments[0].id);
    assert_eq!(hook(&settled(result("base-atlantis"))).rejects[0].code, "unknown_network");
    // Version 1: the price is `maxAmountRequired`, and the resource is a text among the requirements.
    let mut old = settled(result("base-sepolia"));
    old["context"]["requirements"] = json!({"scheme": "exact", "network": "base-sepolia", "asset": USDC,
        "maxAmountRequired": "10000", "resource": "https://api.example.com/v1", "payTo": SHOP});
    old["context"]["paymentPayload"].as_object_mut().unwrap().remove("resource");
    let old = hook(&old);
    assert_eq!(old.payments[0].amount.to_string(), "0.010000 USDC@base-sepolia");
    assert_eq!(old.payments[0].resource.as_deref(), Some("https://api.example.com/v1"));
}

#[test]
fn upto_counts_what_was_used_and_nothing_for_nothing() {
    let result = |amount: &str| {
        json!({"success": true, "transaction": pad("77"), "network": "eip155:84532",
        "payer": ALICE, "amount": amount})
    };
    assert_eq!(hook(&settled(result("2500"))).payments[0].amount.units(), 2500);
    assert_eq!(hook(&settled(result("0"))).filtered, ["zero value"]);
    let wide = "170141183460469231731687303715884105728";
    assert_eq!(hook(&settled(result(wide))).rejects[0].code, "bad_amount");
}

#[test]
fn a_hook_may_name_its_agent() {
    let mut body = settled(
        json!({"success": true, "transaction": pad("77"), "network": "eip155:84532", "payer": ALICE}),
    );
    body["agent_id"] = json!("research-7");
    assert_eq!(hook(&body).payments[0].spender[0].value, "research-7");
}

#[test]
fn broken_logs_and_hooks_are_rejected() {
    for body in ["", "{", "nonsense", "[{\"topics\":5}]"] {
        assert_eq!(decode_on(chain(), body).rejects[0].code, "bad_json", "{body}");
    }
    assert_eq!(hook(&json!({"hook": "none"})).rejects[0].code, "bad_shape");
    assert!(decode_on(chain(), &"[".repeat(100)).rejects.len() == 1);
    let short = with(transfer(0, ALICE, SHOP, 7), "transactionHash", json!("0x1"));
    assert_eq!(decode(&[short]).rejects[0].code, "bad_hash");
}
