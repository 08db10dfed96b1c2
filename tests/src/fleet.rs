//! A simulated fleet whose every payment, and so every sum, is known.

use std::collections::BTreeMap;

use railwatch_model::{Timestamp, Usd};
use serde_json::json;

/// One agent's habits.
#[derive(Debug, Clone)]
pub struct Habit {
    /// Its name.
    pub agent: String,
    /// Payments in a usual hour.
    pub per_hour: f64,
    /// Cents of a usual payment.
    pub cents: u64,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Its place in the gate's sequence, from 1.
    pub seq: u64,
    /// Who pays.
    pub agent: String,
    /// When.
    pub at: Timestamp,
    /// How much.
    pub cents: u64,
    /// On which rail.
    pub rail: &'static str,
    /// To whom.
    pub payee: String,
}

impl Payment {
    /// As a gate writes it, on one line.
    pub fn line(&self) -> String {
        let Self { seq, agent, at, cents, rail, payee } = self;
        json!({
            "seq": seq, "id": format!("p-{seq}"), "agent_id": agent, "rail": rail,
            "amount": dollars(*cents), "currency": "USD", "payee": payee, "ts": at,
        })
        .to_string()
    }
}

/// Cents as railwatch writes dollars.
fn dollars(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// What each agent has spent: payments and dollars.
pub type Sums = BTreeMap<String, (u64, Usd)>;

/// A small generator of numbers that are the same in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; the seed must not be zero.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// The next number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        let bits = u32::try_from(self.next_u64() >> 32).unwrap_or_default();
        f64::from(bits) / f64::from(u32::MAX).next_up()
    }
}

/// Payments in the order of their times, with a running sequence.
#[derive(Debug, Clone)]
pub struct Fleet {
    habits: Vec<Habit>,
    random: Random,
    n_payments: u64,
    /// The sums of everything that was generated.
    pub sums: Sums,
}

impl Fleet {
    /// A fleet of `n` agents: most pay some ten times an hour.
    pub fn new(n: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let habit = |index: usize| Habit {
            agent: format!("agent_{index}"),
            per_hour: 6.0 + random.uniform() * 8.0,
            cents: 20 + random.below(200),
        };
        Self { habits: (0..n).map(habit).collect(), random, n_payments: 0, sums: Sums::new() }
    }

    /// What happens from one time to another. `faster` says how many times its usual an agent pays; others pay as
    /// usual.
    pub fn pay(&mut self, from: Timestamp, until: Timestamp, faster: &[(&str, f64)]) -> Vec<Payment> {
        let mut due = Vec::new();
        for habit in self.habits.clone() {
            let factor = faster.iter().find(|(agent, _)| *agent == habit.agent).map_or(1.0, |found| found.1);
            let mut at = from.secs_f64();
            loop {
                at += -(1.0 - self.random.uniform()).ln() * 3600.0 / (habit.per_hour * factor);
                if at >= until.secs_f64() {
                    break;
                }
                due.push(self.payment(&habit, at));
            }
        }
        due.sort_by_key(|payment| payment.at);
        for payment in &mut due {
            self.n_payments += 1;
            payment.seq = self.n_payments;
            let (payments, usd) = self.sums.entry(payment.agent.clone()).or_default();
            *payments += 1;
            *usd = usd.plus(Usd::from_cents(i64::try_from(payment.cents).unwrap()));
        }
        due
    }

    fn payment(&mut self, habit: &Habit, at: f64) -> Payment {
        let spread = habit.cents / 2;
        let micros = std::time::Duration::from_secs_f64(at).as_micros();
        Payment {
            seq: 0,
            agent: habit.agent.clone(),
            at: Timestamp::from_micros(i64::try_from(micros).unwrap_or_default()),
            cents: habit.cents - spread / 2 + self.random.below(spread + 1),
            rail: "x402",
            payee: format!("{}.example", if self.random.below(3) == 0 { "maps" } else { "search" }),
        }
    }
}
