//! What a scripted score and scripted rules cost per call, next to the same thing in Rust.
//!
//! `cargo run --release -p railwatch-script --example cost`. Judge the ratios; absolute times move with the machine.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use railwatch_model::{
    AgentId, Asset, Contribution, Money, Payment, Rate, Signal, SignalKind, SmolStr, Subject, Timestamp,
    Unit, Usd, Valuation,
};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::history::{Dimension, Filter, HistoryView};
use railwatch_plugin::rules::{RuleSet, RuleState};
use railwatch_plugin::score::{Case, Score, ScoreError, Scorer, Signals};
use railwatch_script::{Limits, Scripts, read_dir, system_monotonic};

/// Answers at once, so that only the way through the script is measured.
struct Instant;

impl HistoryView for Instant {
    fn spent(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::from_cents(1_234)
    }
    fn count(&self, _: Duration, _: Filter<'_>) -> u64 {
        7
    }
    fn distinct(&self, _: Duration, _: Dimension) -> u64 {
        2
    }
    fn largest(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::ONE
    }
    fn declined(&self, _: Duration) -> u64 {
        0
    }
    fn first_seen_at(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    fn previous_at(&self) -> Option<Timestamp> {
        Some(Timestamp::EPOCH)
    }
    fn is_new(&self, _: Dimension, _: &str) -> bool {
        false
    }
    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        Vec::new()
    }
}

/// The default score in Rust: noisy-or over six groups, with its parts.
#[derive(Debug)]
struct Compiled;

impl Scorer for Compiled {
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError> {
        let p = |kind: &SignalKind| case.signal(kind).map_or(0.0, |signal| signal.probability.min(0.999_999));
        let nats = |p: f64| -(1.0 - p).ln();
        let groups = [
            ("velocity", nats(p(&SignalKind::Velocity).max(p(&SignalKind::Drift)))),
            ("rail_shift", nats(p(&SignalKind::RailShift).max(p(&SignalKind::NewRail)))),
            ("budget", nats(p(&SignalKind::Budget))),
            ("payee", nats(p(&SignalKind::NewPayee).max(p(&SignalKind::Price)))),
            ("duplicate", nats(p(&SignalKind::Duplicate))),
            ("dormant", nats(p(&SignalKind::Dormant))),
        ];
        let sum: f64 = groups.iter().map(|(_, nats)| nats).sum();
        let value = 1.0 - (-sum).exp();
        let share = if sum > 0.0 { value / sum } else { 0.0 };
        let part = |(name, nats): &(&'static str, f64)| Contribution {
            name: SmolStr::new_static(name),
            points: nats * share,
        };
        Ok(Score { value, contributions: groups.iter().map(part).collect() })
    }
}

fn nanos(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = system_monotonic();
        for _ in 0..calls {
            call();
        }
        best = best.min((system_monotonic() - started).as_secs_f64() * 1e9 / f64::from(calls));
    }
    best
}

fn main() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let files = read_dir(&dir, &Limits::default()).expect("the shipped scripts can be read");
    let subject = Subject::Agent(AgentId::new("agent_billing_7").expect("a valid name"));
    let at = Timestamp::parse("2026-01-01T02:00:00Z").expect("a valid time");
    let mut payment = Payment::settle("x402", "p-1", Money::new(600, Asset::usd()), at);
    payment.payee = Some("api.example.com".into());
    payment.task = Some("t-1".into());
    payment.valuation = Some(Valuation { usd: Usd::from_cents(600), rate: Rate::peg() });
    let mut signals = Vec::new();
    for (kind, probability) in [
        (SignalKind::Velocity, 0.3),
        (SignalKind::RailShift, 0.1),
        (SignalKind::Budget, 0.2),
        (SignalKind::Price, 0.0),
    ] {
        signals.push(Signal { probability, ..Signal::usual(kind, Unit::Probability) });
    }
    let profile = Profile::default();
    let case = Case {
        now: at,
        at,
        subject: &subject,
        payment: Some(&payment),
        signals: Signals::known(&signals),
        score: 0.3,
        profile: &profile,
        history: &Instant,
    };
    let compiled = nanos(200_000, || drop(black_box(Compiled.score(&case))));
    report("score: compiled", compiled, compiled);
    for file in files.keys().filter(|file| file.starts_with("score")) {
        let scripts = Scripts::load(&only(&files, file), &Limits::default()).expect("a shipped score loads");
        let mut score = scripts.score(file).expect("the file declares a score");
        report(&format!("score: {file}"), nanos(200_000, || drop(black_box(score.score(&case)))), compiled);
    }
    for file in files.keys().filter(|file| file.starts_with("rules/")) {
        let scripts = Scripts::load(&only(&files, file), &Limits::default()).expect("a shipped rule loads");
        let mut rules = scripts.into_rule_set();
        let (mut states, mut firings) = ([RuleState::new()], Vec::new());
        let cost = nanos(100_000, || {
            rules.evaluate(&case, &mut states, &mut firings);
            firings.clear();
        });
        report(&format!("rule: {file}"), cost, compiled);
    }
    hostile(&case);
}

/// How long the worst of the hostile scripts runs under the default limits; the deadline is 50 ms.
fn hostile(case: &Case<'_>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut took = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the corpus can be read") {
        let path = entry.expect("the corpus can be read").path();
        let body = std::fs::read_to_string(&path).expect("the corpus can be read");
        let text = format!(
            "local function attack(p, a, state)\n{body}\nend\nreturn rule {{ id = \"h\", when = function(p, a, state) \
             if a.id ~= \"tester\" then return attack(p, a, state) end return false end, \
             tests = {{ {{ \"quiet\", feed = spend(\"tester\", usd(1)), expect = quiet }} }} }}"
        );
        let files = railwatch_script::Files::from([("h.lua".into(), text)]);
        let mut rules = Scripts::load(&files, &Limits::default()).expect("the corpus loads").into_rule_set();
        let started = system_monotonic();
        rules.evaluate(case, &mut [RuleState::new()], &mut Vec::new());
        took.push((system_monotonic() - started, path));
    }
    took.sort();
    for (took, path) in took.iter().rev().take(5) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        report(&format!("hostile: {name}"), took.as_secs_f64() * 1e9, 1e6);
    }
}

fn only(files: &railwatch_script::Files, file: &str) -> railwatch_script::Files {
    files.iter().filter(|(name, _)| *name == file).map(|(name, text)| (name.clone(), text.clone())).collect()
}

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn report(what: &str, nanos: f64, compiled: f64) {
    println!("{what:<42} {nanos:>7.0} ns   {:>5.1}x", nanos / compiled);
}
