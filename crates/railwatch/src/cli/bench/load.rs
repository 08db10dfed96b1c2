//! A deterministic load: payments of many agents, some far busier than others, with repeats and late ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use railwatch_model::Timestamp;

use crate::cli::Failure;

/// Event time of the first payment.
const START: Timestamp = Timestamp::from_secs(1_760_000_000);
/// Payments per second of event time.
const RATE: f64 = 10_000.0;
/// Shares of payments that are delivered twice and that come late.
const REPEATED: f64 = 0.002;
const LATE: f64 = 0.01;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Writes `events` payments of `agents` agents whose activity follows Zipf's law.
pub(super) fn write(path: &Path, events: u64, agents: u32) -> Result<(), Failure> {
    let mut total = 0.0;
    let cumulative: Vec<f64> = (1..=agents)
        .map(|rank| {
            total += 1.0 / f64::from(rank);
            total
        })
        .collect();
    let mut random = Random(1);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut micros = START.micros() as f64;
    let mut last = String::new();
    for n in 0..events {
        micros += -(1.0 - random.uniform()).ln() / RATE * 1e6;
        if random.uniform() < REPEATED && !last.is_empty() {
            writeln!(file, "{last}")?;
            continue;
        }
        let rank = cumulative.partition_point(|sum| *sum < random.uniform() * total);
        let habits = mix(rank as u64 ^ 0x5151);
        let mean_dollars = (-3.0 + 7.0 * (habits >> 11 & 4095) as f64 / 4096.0).exp();
        let spread = random.uniform() + random.uniform() + random.uniform() + random.uniform() - 2.0;
        let dollars = (mean_dollars * (0.8 * spread).exp()).max(0.0001);
        let rails = ["stripe", "x402", "l402"];
        let home = usize::try_from(habits % 3).unwrap_or(0);
        let rail = if random.uniform() < 0.8 { home } else { (home + 1) % 3 };
        let late = if random.uniform() < LATE { random.uniform() * 5e6 } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, reason = "microseconds of this century")]
        let at = Timestamp::from_micros((micros - late) as i64);
        last = format!(
            "{{\"id\":\"evt_{:016x}\",\"ts\":\"{at}\",\"ts_us\":{},\"agent_id\":\"agt_{:012x}\",\"rail\":\"{}\",\
             \"amount_usd\":{dollars:.4},\"payee\":\"mch_{:06}\",\"currency\":\"USD\",\"status\":\"settled\",\
             \"tx\":\"0x{:016x}\",\"memo\":\"tool call {}\"}}",
            mix(n ^ 0xABCD_0000),
            at.micros(),
            mix(rank as u64 ^ 0x77) & 0xFFFF_FFFF_FFFF,
            rails[rail],
            random.next() % 5000,
            random.next(),
            n % 1000,
        );
        writeln!(file, "{last}")?;
    }
    Ok(file.flush()?)
}
