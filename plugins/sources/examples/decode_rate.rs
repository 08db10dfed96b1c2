//! Measures the declarative decoder on a typical event, against `serde_json::Value` alone:
//! `cargo run --release -p railwatch-sources --example decode_rate`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use railwatch_model::Timestamp;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_sources::decode::{Mapping, MappingConfig};

const N_EVENTS: u32 = 200_000;
const ROUNDS: usize = 5;

fn main() {
    let events: Vec<String> = (0..N_EVENTS).map(event).collect();
    let mapping = Mapping::new(&MappingConfig::default(), "gate".into()).expect("the defaults are right");
    let single = best(|| {
        let mut decoded = Decoded::default();
        for event in &events {
            decode(&mapping, event.as_bytes(), &mut decoded);
            if decoded.payments.len() >= 512 {
                black_box(&decoded);
                decoded.payments.clear();
            }
        }
    });
    let lines: Vec<String> = events.chunks(1000).map(|chunk| chunk.join("\n")).collect();
    let batched = best(|| {
        for body in &lines {
            let mut decoded = Decoded::default();
            decode(&mapping, body.as_bytes(), &mut decoded);
            assert_eq!(black_box(&decoded).payments.len(), 1000);
        }
    });
    let value = best(|| {
        for event in &events {
            black_box(serde_json::from_str::<serde_json::Value>(event).expect("it is JSON"));
        }
    });
    let mut report = format!("event of {} bytes, best of {ROUNDS}\n", events[0].len());
    for (name, took) in
        [("one per message", single), ("1000 lines per message", batched), ("Value alone", value)]
    {
        let rate = f64::from(N_EVENTS) / took.as_secs_f64();
        let ratio = value.as_secs_f64() / took.as_secs_f64();
        writeln!(report, "{name:>24}: {rate:>10.0} events/s, {ratio:.2} x Value").expect("a string grows");
    }
    std::io::stdout().write_all(report.as_bytes()).expect("the output is open");
}

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

fn decode(mapping: &Mapping, body: &[u8], decoded: &mut Decoded) {
    let received_at = Timestamp::from_secs(1_760_000_100);
    mapping.decode(&Message { body, headers: None, received_at }, decoded);
}

/// The shortest of some rounds: what the code costs when nothing else runs.
#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn best(mut round: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let start = std::time::Instant::now();
        round();
        start.elapsed()
    });
    times.min().unwrap_or_default()
}
