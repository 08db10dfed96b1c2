//! A simulated fleet: who pays whom how much, how often, over which rail. Deterministic but for the time of day.

use railwatch_model::Timestamp;
use serde_json::json;

/// One agent's habits.
pub(super) struct Agent {
    pub(super) name: &'static str,
    pub(super) team: &'static str,
    pub(super) budget: &'static str,
    rail: &'static str,
    payees: &'static [&'static str],
    payments_per_hour: f64,
    cents: f64,
}

/// The agent that will run away.
pub(super) const RUNAWAY: &str = "agent_billing_7";

/// The fleet.
pub(super) const AGENTS: &[Agent] = &[
    agent(
        "agent_billing_7",
        "billing",
        "$10,000 / month",
        "x402",
        &["api.ledger.dev", "fx.rates.io"],
        40.0,
        20.0,
    ),
    agent(
        "agent_billing_8",
        "billing",
        "$10,000 / month",
        "stripe",
        &["api.ledger.dev", "fx.rates.io"],
        30.0,
        25.0,
    ),
    agent(
        "research_1",
        "growth",
        "$8,000 / month",
        "x402",
        &["search.exa.example", "papers.example"],
        60.0,
        12.0,
    ),
    agent(
        "research_2",
        "growth",
        "$8,000 / month",
        "l402",
        &["search.exa.example", "maps.example"],
        50.0,
        9.0,
    ),
    agent("support_bot", "support", "$5,000 / month", "stripe", &["llm.example", "voice.example"], 80.0, 3.0),
    agent("scraper_3", "growth", "$6,000 / month", "l402", &["proxy.example", "captcha.example"], 70.0, 2.0),
    agent("trader_1", "treasury", "$40,000 / month", "x402", &["quotes.example", "news.example"], 45.0, 60.0),
    agent("ops_copilot", "platform", "$3,000 / month", "mpp", &["ci.example", "logs.example"], 20.0, 8.0),
];

const fn agent(
    name: &'static str,
    team: &'static str,
    budget: &'static str,
    rail: &'static str,
    payees: &'static [&'static str],
    payments_per_hour: f64,
    cents: f64,
) -> Agent {
    Agent { name, team, budget, rail, payees, payments_per_hour, cents }
}

const HISTORY_DAYS: i64 = 14;
/// How many times its usual the runaway pays.
pub(super) const RUNAWAY_FACTOR: f64 = 400.0;

/// The fleet at one point in time.
pub(super) struct Fleet {
    random: u64,
    n_payments: u64,
    /// When each agent pays next.
    next: Vec<Timestamp>,
    runs_away: bool,
}

impl Fleet {
    /// A fleet whose history ends at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let start = Timestamp::from_secs(now.secs() - HISTORY_DAYS * 86_400);
        let mut fleet = Self {
            random: 0x9e37_79b9_7f4a_7c15,
            n_payments: 0,
            next: vec![start; AGENTS.len()],
            runs_away: false,
        };
        for index in 0..AGENTS.len() {
            fleet.schedule(index, start);
        }
        fleet
    }

    /// From now on one agent pays far too fast.
    pub(super) fn run_away(&mut self, now: Timestamp) {
        self.runs_away = true;
        let index = AGENTS.iter().position(|agent| agent.name == RUNAWAY).unwrap_or(0);
        self.schedule(index, now);
    }

    /// When the next payment is due.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next.iter().min().copied().unwrap_or(Timestamp::MAX)
    }

    /// Takes the next payment, as the gate's JSON.
    pub(super) fn pay(&mut self) -> serde_json::Value {
        let index = (0..self.next.len()).min_by_key(|index| self.next.get(*index)).unwrap_or(0);
        let at = self.next_at();
        let agent = &AGENTS[index];
        self.n_payments += 1;
        let payee = agent.payees[usize::from(self.uniform() < 0.35)];
        // Amounts spread over about a factor of three around their middle.
        let cents = agent.cents * (0.5 + self.uniform() + self.uniform() * 0.5);
        let payment = json!({
            "id": format!("demo-{}", self.n_payments),
            "agent_id": agent.name,
            "rail": agent.rail,
            "amount": format!("{:.4}", cents / 100.0),
            "currency": "USD",
            "payee": payee,
            "ts": at,
        });
        self.schedule(index, at);
        payment
    }

    fn schedule(&mut self, index: usize, after: Timestamp) {
        let agent = &AGENTS[index];
        let hour = after.secs().rem_euclid(86_400) as f64 / 3600.0;
        let daily = 1.0 + 0.3 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
        let factor = if self.runs_away && agent.name == RUNAWAY { RUNAWAY_FACTOR } else { 1.0 };
        let rate_per_sec = agent.payments_per_hour * daily * factor / 3600.0;
        let gap_secs = -(1.0 - self.uniform()).ln() / rate_per_sec;
        let gap = std::time::Duration::from_secs_f64(gap_secs.clamp(0.001, 86_400.0));
        if let Some(next) = self.next.get_mut(index) {
            *next = after.after(gap);
        }
    }

    /// The next number of an xorshift generator, in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}
