//! How many payments per second one core decodes, by rail, and how that compares with `serde_json::Value` alone, which
//! reads the same bytes and knows nothing of payments. The ratio is what can be compared between machines.
//!
//! `cargo run --release -p railwatch-sources --example decode_rate [NAME]`, where NAME is part of a row's name.
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use railwatch_model::{Identity, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_sources::decode::{Mapping, MappingConfig};
use railwatch_sources::lightning::{InFlight, LightningApi, LightningDecoder};
use railwatch_sources::litellm::LiteLlmDecoder;
use railwatch_sources::mpp::MppDecoder;
use railwatch_sources::otlp::OtlpDecoder;
use railwatch_sources::stripe::StripeDecoder;
use railwatch_sources::x402::{X402Chain, X402HookDecoder, X402LogDecoder};
use serde_json::Value;

/// How long one round of a row lasts; the best of all rounds counts, which is what the code costs when nothing else
/// runs.
const ROUND: Duration = Duration::from_millis(60);
const ROUNDS: usize = 9;
const RECEIVED_AT: Timestamp = Timestamp::from_secs(1_795_440_000);

/// Messages of one kind.
struct Row {
    name: String,
    decoder: Box<dyn Decoder>,
    bodies: Vec<Vec<u8>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("{:<28} {:>7} {:>12} {:>10} {:>8}", "payments of", "bytes", "payments/s", "MB/s", "x Value");
    for row in rows()?.iter().filter(|row| row.name.contains(&wanted)) {
        measure(row);
    }
    Ok(())
}

fn rows() -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, decoder: Box<dyn Decoder>, bodies: Vec<Vec<u8>>| {
        rows.push(Row { name: name.to_owned(), decoder, bodies });
    };
    let mapping = || Mapping::new(&MappingConfig::default(), "gate".into()).map(Box::new);
    let events: Vec<Vec<u8>> = (0..2000).map(|nth| event(nth).into_bytes()).collect();
    row("gate, one per message", mapping()?, events.clone());
    row("gate, 1000 lines", mapping()?, vec![events[..1000].join(&b'\n')]);
    for (name, line) in ["authorization", "transaction", "charge", "payment intent", "refund"]
        .into_iter()
        .zip(include_str!("../fixtures/stripe/composed_events.jsonl").lines())
    {
        row(&format!("stripe {name}"), Box::<StripeDecoder>::default(), vec![compact(line.as_bytes())]);
    }
    let answers: Value = serde_json::from_str(include_str!("../fixtures/x402/rpc_tx_receipt_block.json"))?;
    let logs = answers["eth_getLogs"].to_string().into_bytes();
    let chain = X402Chain::new("base-sepolia", &[], &[], &[], true)?;
    row("x402 logs", Box::new(X402LogDecoder::new(chain)), vec![logs]);
    let hooks: Vec<Value> = serde_json::from_str(include_str!("../fixtures/x402/hooks_v2.json"))?;
    let settled = hooks.iter().filter(|hook| hook["hook"] == "facilitator.onAfterSettle");
    let settled = settled.filter(|hook| hook["context"]["result"]["success"] == true).take(1);
    let settled = settled.map(|hook| hook.to_string().into_bytes()).collect();
    row("x402 hook", Box::<X402HookDecoder>::default(), settled);
    let node = |api| Box::new(LightningDecoder::new(api, InFlight::Ignore, Identity::new("node", "03ab")));
    let stream = include_str!("../fixtures/lightning/lnd.rest.v2_router_payments.stream.ndjson");
    let settled = stream.lines().last().unwrap_or_default();
    row("lightning lnd", node(LightningApi::Lnd), vec![compact(settled.as_bytes())]);
    let list = compact(include_bytes!("../fixtures/lightning/lnd.rest.v1_payments.json"));
    row("lightning lnd list", node(LightningApi::Lnd), vec![list]);
    row("lightning lnbits", node(LightningApi::Lnbits), vec![LNBITS.as_bytes().to_vec()]);
    let charge = compact(include_bytes!("../fixtures/mpp/mpp_ingest_charge.json"));
    row("mpp charge", Box::<MppDecoder>::default(), vec![charge]);
    let calls = compact(include_bytes!("../fixtures/litellm/litellm.generic_api.json"));
    row("litellm", Box::new(LiteLlmDecoder), vec![calls]);
    let spans = compact(include_bytes!("../fixtures/otlp/openrouter.broadcast.otlp.json"));
    row("otlp openrouter", Box::new(OtlpDecoder), vec![spans]);
    Ok(rows)
}

/// One payment of LNbits' list.
const LNBITS: &str = r#"[{"checking_id":"internal_5f2c","payment_hash":"5f2c0d6b7a1e4f3892b6c8d7e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3","wallet_id":"8f14e45fceea467a","amount":-210000,"fee":-21,"bolt11":"lnbc2100n1p5","fiat_provider":null,"status":"success","memo":"weather","expiry":"2026-11-24T13:00:00+00:00","webhook":null,"webhook_status":null,"preimage":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","tag":null,"extension":null,"time":"2026-11-24T12:00:00+00:00","created_at":"2026-11-24T12:00:00+00:00","updated_at":"2026-11-24T12:00:00+00:00","extra":{"agent_id":"trio"}}]"#;

/// An event of a gate, of typical size.
fn event(nth: u32) -> String {
    let (cents, millis) = (nth % 90_000 + 1, nth % 1000);
    format!(
        r#"{{"id":"evt_{nth:016x}","ts":"2025-10-09T08:53:20.{millis:03}Z","ts_us":{},"agent_id":"agt_{:012x}","rail":"x402","amount_usd":{}.{:04},"payee":"mch_{:06}","currency":"USD","status":"settled","tx":"0x{nth:016x}","memo":"tool call {}"}}"#,
        1_760_000_000_000_046_u64 + u64::from(nth),
        nth % 4096,
        cents / 100,
        cents % 10_000,
        nth % 5000,
        nth % 1000
    )
}

/// The fixtures are indented for people; rails send them compact.
fn compact(body: &[u8]) -> Vec<u8> {
    let value = serde_json::from_slice::<Value>(body);
    value.map_or_else(|_| body.to_vec(), |value| value.to_string().into_bytes())
}

fn measure(row: &Row) {
    let mut decoded = Decoded::default();
    let mut payments = 0;
    let (mut own, mut tree) = (f64::INFINITY, f64::INFINITY);
    // Alternating, so that a machine that slows down slows down both.
    for _ in 0..ROUNDS {
        own = own.min(secs_per_pass(|| {
            payments = 0;
            for body in &row.bodies {
                decoded.payments.clear();
                decoded.filtered.clear();
                let message = Message { body: black_box(body), headers: None, received_at: RECEIVED_AT };
                row.decoder.decode(&message, &mut decoded);
                payments += decoded.payments.len();
            }
        }));
        tree = tree.min(secs_per_pass(|| {
            for body in &row.bodies {
                for value in serde_json::Deserializer::from_slice(black_box(body)).into_iter::<Value>() {
                    drop(black_box(value));
                }
            }
        }));
    }
    assert!(payments > 0 && decoded.rejects.is_empty(), "{}: {:?}", row.name, decoded.rejects);
    let bytes: usize = row.bodies.iter().map(Vec::len).sum();
    let (bytes, payments) = (bytes as f64, payments as f64);
    println!(
        "{:<28} {:>7.0} {:>12.0} {:>10.0} {:>8.2}",
        row.name,
        bytes / payments,
        payments / own,
        bytes / own / 1e6,
        tree / own
    );
}

/// What one pass over all messages costs.
fn secs_per_pass(mut pass: impl FnMut()) -> f64 {
    let (started, cpu_started) = (Instant::now(), cpu_time());
    let mut n = 0_u32;
    while started.elapsed() < ROUND {
        for _ in 0..20 {
            pass();
            n += 1;
        }
    }
    let elapsed = started.elapsed();
    let took = cpu_started.zip(cpu_time()).map_or(elapsed, |(before, after)| after - before);
    took.as_secs_f64() / f64::from(n)
}

/// The processor time of this thread where the system tells it (Linux), so that a busy machine gives the same numbers.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
