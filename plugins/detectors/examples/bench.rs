//! Feeds a recorded or simulated fleet through the detectors and writes what they say, for the scorer of the bench.
//!
//! `bench DATA [OPEN [timing|total [DETECTORS]]]` reads `DATA/events.jsonl.gz` (one payment per line, in arrival order), `agents.json` and
//! `annotations.jsonl`. It writes `DATA/sweep.jsonl` (every rise of evidence from 6 nats on, for moving the threshold
//! with hindsight) and `DATA/default.jsonl` (alerts with a life, opened at OPEN, 10 nats by default), and prints cost
//! and size. It plays the part of the engine: one slot per agent, signals after each payment, ticks when wished.
//!
//! `bench storm AGENTS PAYMENTS` measures the path of a payment alone: agents of a large fleet pay at random, 10,000
//! times a second, so that memory is cold and no hour ends; nothing is written.

#![expect(clippy::print_stdout, reason = "it prints a report")]
#![expect(clippy::cast_possible_truncation, reason = "its input is numbers in JSON")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::time::{Duration, Instant};

use chrono_tz::Tz;
use railwatch_detectors::DETECTORS;
use railwatch_model::{
    AgentId, Asset, Money, Payment, Rate, Signal, SignalKind, SmolStr, Subject, Timestamp, Usd, Valuation,
    Verdict,
};
use railwatch_plugin::column::{Column, Look, Row};
use railwatch_plugin::detector::{Announcement, Booking, Budget, Observation, Period, Profile, Usual};

type Error = Box<dyn std::error::Error>;

/// Payments whose states are fetched from memory at once.
const AHEAD: usize = 16;

/// A column with the time spent in it.
struct Timed {
    column: Box<dyn Column>,
    spent: Duration,
}

struct Agent {
    subject: Subject,
    profile: Profile,
    usual: Usual,
    clock: Timestamp,
    wake_at: Timestamp,
    /// The last line of the sweep per kind: when, and how strong.
    told: HashMap<SignalKind, (Timestamp, f64)>,
    /// Open alerts: last told when, how strong, and since when it is usual again.
    open: HashMap<SignalKind, (Timestamp, f64, Option<Timestamp>)>,
}

struct Fleet {
    columns: Vec<Timed>,
    agents: Vec<Agent>,
    wakes: BinaryHeap<Reverse<(Timestamp, usize)>>,
    sweep: Box<dyn Write>,
    default: Box<dyn Write>,
    open_nats: f64,
    signals: Vec<Signal>,
    timing: bool,
    ticks: u32,
}

impl Fleet {
    fn new(chosen: Option<&str>, sweep: Box<dyn Write>, default: Box<dyn Write>) -> Result<Self, Error> {
        let mut columns = Vec::new();
        let is_chosen = |name: &str| chosen.is_none_or(|names| names.split(',').any(|one| one == name));
        for plugin in DETECTORS.iter().filter(|plugin| is_chosen(plugin.name)) {
            let table: toml::Table = toml::from_str("[evidence]\nopen = 6.0\n")?;
            columns.push(Timed { column: (plugin.build)(&table)?, spent: Duration::ZERO });
        }
        let (agents, wakes, signals) = (Vec::new(), BinaryHeap::new(), Vec::new());
        Ok(Self { columns, agents, wakes, sweep, default, open_nats: 10.0, signals, timing: false, ticks: 0 })
    }

    fn add(&mut self, name: &str, profile: Profile) -> Result<(), Error> {
        for timed in &mut self.columns {
            timed.column.reset(self.agents.len());
        }
        self.agents.push(Agent {
            subject: Subject::Agent(AgentId::new(name).ok_or("an agent without a name")?),
            profile,
            usual: Usual::default(),
            clock: Timestamp::EPOCH,
            wake_at: Timestamp::MAX,
            told: HashMap::new(),
            open: HashMap::new(),
        });
        Ok(())
    }

    /// Takes payments in; returns the processor time that it took.
    fn arrive_all(&mut self, payments: &[(usize, Payment)]) -> Result<Duration, Error> {
        let begun = cpu_time();
        for next in payments.chunks(AHEAD) {
            for (slot, _) in next {
                self.columns.iter().for_each(|timed| timed.column.touch(*slot));
            }
            for (slot, payment) in next {
                self.arrive(*slot, payment)?;
            }
        }
        Ok(cpu_time().saturating_sub(begun))
    }

    fn arrive(&mut self, slot: usize, payment: &Payment) -> Result<(), Error> {
        let now = payment.observed_at;
        while let Some(Reverse((at, sleeper))) = self.wakes.peek().copied()
            && at <= now
        {
            self.wakes.pop();
            if self.agents[sleeper].wake_at <= at {
                self.tick(sleeper, at)?;
            }
        }
        let agent = &mut self.agents[slot];
        let at = payment.occurred_at.min(now.after(Duration::from_secs(300)));
        let late = at < agent.clock.before(Duration::from_secs(120));
        agent.clock = agent.clock.max(at);
        let booking =
            Booking { committed: payment.usd(), settled: payment.usd(), purchases: 1, ..Booking::default() };
        let seen = Observation { payment, booking, at, late };
        self.each(slot, now, |column, row| column.observe(row, &seen));
        self.look(slot, now)
    }

    fn tick(&mut self, slot: usize, now: Timestamp) -> Result<(), Error> {
        self.ticks += 1;
        self.agents[slot].wake_at = Timestamp::MAX;
        self.each(slot, now, |column, row| column.tick(row));
        self.look(slot, now)
    }

    fn each(&mut self, slot: usize, now: Timestamp, mut visit: impl FnMut(&mut dyn Column, Row<'_>)) {
        let agent = &mut self.agents[slot];
        let before = agent.wake_at;
        for timed in &mut self.columns {
            let row = Row {
                slot,
                now,
                clock: agent.clock,
                subject: &agent.subject,
                profile: &agent.profile,
                usual: &mut agent.usual,
                wake_at: &mut agent.wake_at,
            };
            let begun = self.timing.then(clock);
            visit(&mut *timed.column, row);
            timed.spent += begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        }
        if agent.wake_at < before {
            self.wakes.push(Reverse((agent.wake_at, slot)));
        }
    }

    fn look(&mut self, slot: usize, now: Timestamp) -> Result<(), Error> {
        self.signals.clear();
        let agent = &mut self.agents[slot];
        let look = Look { now, subject: &agent.subject, profile: &agent.profile, usual: &agent.usual };
        if agent.open.is_empty() && self.columns.iter().all(|timed| timed.column.quiet(slot, look)) {
            return Ok(());
        }
        for timed in &mut self.columns {
            let look = Look { now, subject: &agent.subject, profile: &agent.profile, usual: &agent.usual };
            let begun = self.timing.then(clock);
            timed.column.signals(slot, look, &mut self.signals);
            timed.spent += begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        }
        for signal in &self.signals {
            let nats = signal.evidence;
            if signal.verdict == Verdict::Firing {
                let told = agent.told.get(&signal.kind);
                if told.is_none_or(|(at, before)| {
                    now.since(*at) >= Duration::from_secs(43_200) || nats >= before + 0.7
                }) {
                    agent.told.insert(signal.kind.clone(), (now, nats));
                    write(&mut self.sweep, now, &agent.subject, &signal.kind, nats)?;
                }
            }
            let firing = signal.verdict == Verdict::Firing && nats >= self.open_nats;
            let open = agent.open.get_mut(&signal.kind);
            match open {
                None if firing => {
                    agent.open.insert(signal.kind.clone(), (now, nats, None));
                    write(&mut self.default, now, &agent.subject, &signal.kind, nats)?;
                }
                Some((told_at, before, usual_since)) => {
                    let again = nats >= *before + 5.0 || now.since(*told_at) >= Duration::from_secs(43_200);
                    if firing && again {
                        (*told_at, *before) = (now, nats);
                        write(&mut self.default, now, &agent.subject, &signal.kind, nats)?;
                    }
                    *usual_since = match signal.verdict {
                        Verdict::Usual | Verdict::Learning => Some(usual_since.unwrap_or(now)),
                        Verdict::Raised | Verdict::Firing => None,
                    };
                }
                None => {}
            }
        }
        let present = |kind: &SignalKind| self.signals.iter().any(|signal| signal.kind == *kind);
        for (kind, (_, _, usual_since)) in &mut agent.open {
            if !present(kind) {
                *usual_since = Some(usual_since.unwrap_or(now));
            }
        }
        agent.open.retain(|_, (_, _, since)| since.is_none_or(|at| now.since(at).as_secs() < 3600));
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn clock() -> Instant {
    Instant::now()
}

/// Time that this process was on a processor, so that a busy machine does not count; zero where `/proc` has no such file.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn write(
    out: &mut impl Write,
    now: Timestamp,
    subject: &Subject,
    kind: &SignalKind,
    nats: f64,
) -> Result<(), Error> {
    let agent = subject.to_string();
    writeln!(
        out,
        r#"{{"ts":{:.3},"agent_id":"{agent}","kind":"{kind}","score":{nats:.3}}}"#,
        now.secs_f64()
    )?;
    Ok(())
}

fn number(value: &serde_json::Value, key: &str) -> Result<f64, Error> {
    value[key].as_f64().ok_or_else(|| format!("no number {key} in {value}").into())
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> Result<&'a str, Error> {
    value[key].as_str().ok_or_else(|| format!("no text {key} in {value}").into())
}

fn time(value: &serde_json::Value, key: &str) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_micros((number(value, key)? * 1e6) as i64))
}

fn profile(agent: &serde_json::Value) -> Result<Profile, Error> {
    let cents = (number(agent, "budget_usd")? * 100.0).round() as i64;
    Ok(Profile {
        peer_group: Some(text(agent, "peer_group")?.into()),
        budgets: vec![Budget {
            name: "period".into(),
            amount: Usd::from_cents(cents),
            period: Period::Fixed { from: time(agent, "period_start")?, until: time(agent, "period_end")? },
            tz: Tz::UTC,
        }],
        ..Profile::default()
    })
}

fn announcement(note: &serde_json::Value) -> Result<Announcement, Error> {
    Ok(Announcement {
        from: time(note, "ts_start")?,
        until: time(note, "ts_end")?,
        kinds: vec![SignalKind::RailShift, SignalKind::NewRail, SignalKind::NewPayee],
        rails: vec![text(note, "rail_to")?.into()],
        reason: text(note, "type")?.to_owned(),
    })
}

fn payment(line: &str) -> Result<(String, Payment), Error> {
    let event: serde_json::Value = serde_json::from_str(line)?;
    let micros = (number(&event, "amount_usd")? * 1e6).round() as i64;
    let amount = Money::new(i128::from(micros), Asset::known("USDC")?);
    let mut payment =
        Payment::settle(text(&event, "rail")?, text(&event, "id")?, amount, time(&event, "ts")?);
    payment.observed_at = time(&event, "ingest_ts")?;
    payment.payee = Some(text(&event, "payee")?.into());
    payment.valuation = Some(Valuation { usd: Usd::from_nanos(micros * 1000), rate: Rate::peg() });
    Ok((text(&event, "agent_id")?.to_owned(), payment))
}

fn main() -> Result<(), Error> {
    let argument = |index: usize| std::env::args().nth(index);
    let data = argument(1)
        .ok_or("usage: bench DATA [OPEN [timing|total [DETECTORS]]] | bench storm AGENTS PAYMENTS")?;
    if data == "storm" {
        let number = |index| {
            argument(index).and_then(|text| text.parse().ok()).ok_or("usage: bench storm AGENTS PAYMENTS")
        };
        return storm(usize::try_from(number(2)?)?, number(3)?);
    }
    let open_nats = argument(2).map_or(Ok(10.0), |text| text.parse())?;
    let timing = argument(3).is_some_and(|text| text == "timing");
    let out = |name: &str| File::create(format!("{data}/{name}.jsonl")).map(BufWriter::new);
    let (sweep, default) = (Box::new(out("sweep")?), Box::new(out("default")?));
    let mut fleet = Fleet { open_nats, timing, ..Fleet::new(argument(4).as_deref(), sweep, default)? };
    let mut slots: HashMap<String, usize> = HashMap::new();
    let listed: serde_json::Value = serde_json::from_reader(File::open(format!("{data}/agents.json"))?)?;
    for agent in listed.as_array().ok_or("agents.json is a list")? {
        let name = text(agent, "agent_id")?;
        slots.insert(name.to_owned(), fleet.agents.len());
        fleet.add(name, profile(agent)?)?;
    }
    for line in BufReader::new(File::open(format!("{data}/annotations.jsonl"))?).lines() {
        let note: serde_json::Value = serde_json::from_str(&line?)?;
        let slot = slots[text(&note, "agent_id")?];
        fleet.agents[slot].profile.announcements.push(announcement(&note)?);
    }
    feed(&data, &slots, &mut fleet)?;
    report(&fleet);
    Ok(())
}

fn feed(data: &str, slots: &HashMap<String, usize>, fleet: &mut Fleet) -> Result<(), Error> {
    let events = flate2::read::GzDecoder::new(File::open(format!("{data}/events.jsonl.gz"))?);
    let mut lines = BufReader::new(events).lines();
    let mut ids: HashSet<SmolStr, foldhash::fast::RandomState> = HashSet::default();
    let (mut n, mut spent) = (0_u32, Duration::ZERO);
    loop {
        let mut chunk = Vec::with_capacity(10_000);
        for line in lines.by_ref().take(10_000) {
            let (agent, payment) = payment(&line?)?;
            if ids.insert(payment.id.clone()) {
                chunk.push((slots[&agent], payment));
            }
        }
        if chunk.is_empty() {
            break;
        }
        spent += fleet.arrive_all(&chunk)?;
        n += u32::try_from(chunk.len())?;
    }
    println!("{n} payments, {} ns of processor time each with the feeder", (spent / n.max(1)).as_nanos());
    println!("  {} ticks among them", fleet.ticks);
    for timed in &fleet.columns {
        if fleet.timing {
            println!("  {}: {} ns each", timed.column.name(), (timed.spent / n.max(1)).as_nanos());
        }
    }
    Ok(())
}

fn storm(n_agents: usize, n_payments: u32) -> Result<(), Error> {
    let mut fleet = Fleet::new(None, Box::new(std::io::sink()), Box::new(std::io::sink()))?;
    let start = Timestamp::from_secs(1_772_409_600);
    for agent in 0..n_agents {
        let period = Period::Month;
        let budget = Budget { name: "monthly".into(), amount: Usd::from_cents(100_000), period, tz: Tz::UTC };
        // What it will pay: with a word from its owner an agent is known from ten payments on.
        let seed_usd_per_hour = Some(10_000.0 * 3600.0 * 2.55 / n_agents as f64);
        let profile = Profile { budgets: vec![budget], seed_usd_per_hour, ..Profile::default() };
        fleet.add(&format!("agt_{agent:012x}"), profile)?;
    }
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    // First everybody becomes known, which is not measured.
    let known = u32::try_from(n_agents)? * 16;
    let (mut spent, mut sent) = (Duration::ZERO, 0);
    while sent < known + n_payments {
        let mut chunk = Vec::with_capacity(10_000);
        for _ in 0..10_000 {
            sent += 1;
            let slot = usize::try_from(below(n_agents as u64))?;
            let payee = below(4);
            let cents = i64::try_from(100 * payee + below(50) + 80)?;
            let at = start.after(Duration::from_micros(u64::from(sent) * 100));
            let rail = ["x402", "stripe", "l402"][usize::try_from(below(3))?];
            let mut payment = Payment::settle(rail, "id", Money::new(0, Asset::usd()), at);
            payment.payee = Some(format!("https://payee-{payee}.example/v1").into());
            payment.valuation = Some(Valuation { usd: Usd::from_cents(cents), rate: Rate::peg() });
            chunk.push((slot, payment));
        }
        let took = fleet.arrive_all(&chunk)?;
        spent += if sent > known { took } else { Duration::ZERO };
    }
    let n = (sent - known).max(1);
    println!("{n} payments, {} ns of processor time each with the feeder", (spent / n).as_nanos());
    report(&fleet);
    Ok(())
}

fn report(fleet: &Fleet) {
    let mut total = 0;
    for timed in &fleet.columns {
        let mut bytes = Vec::new();
        for slot in 0..fleet.agents.len() {
            timed.column.save(slot, &mut bytes);
        }
        let mean = bytes.len() / fleet.agents.len().max(1);
        total += mean;
        println!("  {}: {mean} bytes stored per agent", timed.column.name());
    }
    println!("  together: {total} bytes stored per agent");
}
