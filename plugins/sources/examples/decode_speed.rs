//! How many payments per second one core decodes, by rail, from the recorded fixtures.
//!
//! `cargo run --release -p railwatch-sources --example decode_speed`
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use railwatch_model::{Identity, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_sources::lightning::{InFlight, LightningApi, LightningDecoder};
use railwatch_sources::litellm::LiteLlmDecoder;
use railwatch_sources::mpp::MppDecoder;
use railwatch_sources::otlp::OtlpDecoder;
use railwatch_sources::stripe::StripeDecoder;
use railwatch_sources::x402::{X402Chain, X402HookDecoder, X402LogDecoder};

/// How long each row is measured.
const MEASURE: Duration = Duration::from_millis(800);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<34} {:>8} {:>12} {:>12}", "messages", "bytes", "messages/s", "payments/s");
    let stripe = StripeDecoder::default();
    for (name, line) in ["authorization", "issuing transaction", "charge", "payment intent", "refund"]
        .into_iter()
        .zip(include_str!("../fixtures/stripe/composed_events.jsonl").lines())
    {
        row(&format!("stripe {name}"), &stripe, line.as_bytes());
    }
    let chain = X402Chain::new("base-sepolia", &[], &[], &[], true)?;
    let logs = X402LogDecoder::new(chain);
    let answers: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/x402/rpc_tx_receipt_block.json"))?;
    let answer = answers["eth_getLogs"].to_string();
    row("x402 eth_getLogs", &logs, answer.as_bytes());
    let hooks: Vec<serde_json::Value> = serde_json::from_str(include_str!("../fixtures/x402/hooks_v2.json"))?;
    let settled = hooks.iter().find(|hook| hook["hook"] == "facilitator.onAfterSettle");
    let settled = settled.map(ToString::to_string).unwrap_or_default();
    row("x402 onAfterSettle", &X402HookDecoder::default(), settled.as_bytes());
    let node = Identity::new("lnd.node", "03ab");
    let lnd = LightningDecoder::new(LightningApi::Lnd, InFlight::Ignore, node);
    let stream = include_str!("../fixtures/lightning/lnd.rest.v2_router_payments.stream.ndjson");
    row("lightning lnd settled", &lnd, stream.lines().last().unwrap_or_default().as_bytes());
    row("mpp charge", &MppDecoder::default(), include_bytes!("../fixtures/mpp/mpp_ingest_charge.json"));
    row("litellm list of 2", &LiteLlmDecoder, include_bytes!("../fixtures/litellm/litellm.generic_api.json"));
    row("otlp openrouter", &OtlpDecoder, include_bytes!("../fixtures/otlp/openrouter.broadcast.otlp.json"));
    Ok(())
}

/// The processor time of this thread where the system tells it (Linux), so that a busy machine gives the same numbers.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn row(name: &str, decoder: &dyn Decoder, body: &[u8]) {
    // The fixtures are indented for people; rails send them compact.
    let compact = serde_json::from_slice::<serde_json::Value>(body).map(|value| value.to_string());
    let body = compact.map_or_else(|_| body.to_vec(), String::into_bytes);
    let received_at = Timestamp::from_secs(1_795_440_000);
    let (started, cpu_started) = (Instant::now(), cpu_time());
    let (mut n_messages, mut n_payments) = (0_u32, 0_usize);
    let mut decoded = Decoded::default();
    while started.elapsed() < MEASURE {
        for _ in 0..100 {
            decoded.payments.clear();
            decoded.filtered.clear();
            decoder.decode(black_box(&Message { body: &body, headers: None, received_at }), &mut decoded);
            n_payments += decoded.payments.len();
            n_messages += 1;
        }
    }
    let elapsed = started.elapsed();
    let secs = cpu_started.zip(cpu_time()).map_or(elapsed, |(before, after)| after - before).as_secs_f64();
    let rate = |n: f64| format!("{:.0}", n / secs);
    let payments = rate(n_payments as f64);
    println!("{name:<34} {:>8} {:>12} {payments:>12}", body.len(), rate(f64::from(n_messages)));
    assert!(decoded.rejects.is_empty(), "{name}: {:?}", decoded.rejects);
}
