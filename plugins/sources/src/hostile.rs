//! Every rail's decoder against broken bytes: nothing panics, and nothing is lost without a word.

use std::sync::Arc;

use railwatch_model::{Identity, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};

use crate::lightning::{InFlight, LightningApi, LightningDecoder};
use crate::litellm::LiteLlmDecoder;
use crate::mpp::MppDecoder;
use crate::otlp::OtlpDecoder;
use crate::stripe::StripeDecoder;
use crate::x402::{X402Chain, X402HookDecoder, X402LogDecoder};

fn decoders() -> Vec<(Arc<dyn Decoder>, &'static str)> {
    let chain = X402Chain::new("base-sepolia", &[], &[], &[], true).unwrap();
    let lightning = |api| -> Arc<dyn Decoder> {
        Arc::new(LightningDecoder::new(api, InFlight::Hold, Identity::new("lnd.node", "03ab")))
    };
    let stripe = include_str!("../fixtures/stripe/composed_events.jsonl").lines().nth(1).unwrap();
    let hooks = include_str!("../fixtures/x402/hooks_v2.json");
    let hook_at = hooks.find("facilitator.onAfterSettle").unwrap();
    let hook = hooks.get(hook_at.saturating_sub(200)..hook_at + 3000).unwrap();
    vec![
        (Arc::new(StripeDecoder::default()), stripe),
        (Arc::new(X402LogDecoder::new(chain)), include_str!("../fixtures/x402/rpc_tx_receipt_block.json")),
        (Arc::new(X402HookDecoder::default()), hook),
        (lightning(LightningApi::Lnd), include_str!("../fixtures/lightning/lnd.rest.v1_payments.json")),
        (lightning(LightningApi::Cln), include_str!("../fixtures/lightning/lnd.rest.v1_payments.json")),
        (
            lightning(LightningApi::Phoenixd),
            r#"[{"paymentHash":"ab","isPaid":true,"sent":5,"fees":1000,"completedAt":1}]"#,
        ),
        (
            lightning(LightningApi::Lnbits),
            r#"{"payment":{"payment_hash":"ab","amount":-5,"status":"success"}}"#,
        ),
        (lightning(LightningApi::Lnget), r#"[{"payment_hash":"ab","amount_sat":5,"status":"success"}]"#),
        (Arc::new(MppDecoder::default()), include_str!("../fixtures/mpp/mpp_ingest_charge.json")),
        (Arc::new(LiteLlmDecoder), include_str!("../fixtures/litellm/litellm.generic_api.json")),
        (Arc::new(OtlpDecoder), include_str!("../fixtures/otlp/otlp.invoke_agent.json")),
    ]
}

fn decode(decoder: &dyn Decoder, body: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let received_at = Timestamp::from_secs(1_795_440_000);
    decoder.decode(&Message { body, headers: None, received_at }, &mut decoded);
    for payment in &decoded.payments {
        assert!(payment.amount.units() >= 0, "the kind gives the sign: {payment:?}");
        assert!(!payment.id.is_empty() && !payment.rail.is_empty());
    }
    decoded
}

#[test]
fn truncated_messages_are_rejected_or_read_and_never_panic() {
    for (decoder, body) in decoders() {
        for len in (0..body.len()).step_by(body.len() / 150 + 1) {
            decode(&*decoder, &body.as_bytes()[..len]);
        }
    }
}

#[test]
fn damaged_messages_are_rejected_or_read_and_never_panic() {
    for (decoder, body) in decoders() {
        let mut bytes = body.as_bytes().to_vec();
        for at in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
            for damage in [b'"', b'{', b'9', 0xff, 0] {
                let before = std::mem::replace(&mut bytes[at], damage);
                decode(&*decoder, &bytes);
                bytes[at] = before;
            }
        }
    }
}

#[test]
fn deep_nesting_and_foreign_shapes_are_answered() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for (decoder, _) in decoders() {
        for body in [deep.as_str(), "null", "5", "\"x\"", "[[[]]]", "{\"a\":{\"b\":[null]}}", "[null,1,{}]"] {
            decode(&*decoder, body.as_bytes());
        }
        assert!(!decode(&*decoder, b"{\"object\":").is_empty(), "{decoder:?} says that it lost something");
    }
}
