//! Tests that live in the script's own file, run on every load.

use std::time::Duration;

use mlua::{Table, Value};
use railwatch_model::{
    AgentId, AgentVia, Kind, Label, Money, Payment, Rate, Signal, SignalKind, SmolStr, Subject, Timestamp,
    Unit, Usd, Valuation, Verdict,
};
use railwatch_plugin::decode::{Decoded, Message};
use railwatch_plugin::detector::{Budget, Period, Profile};
use railwatch_plugin::score::Case;
use smol_str::format_smolstr;

use crate::error::{Failure, ScriptError, message_of};
use crate::rail::LuaDecoder;
use crate::rule::Rule;
use crate::score::LuaScore;
use crate::sim::{self, Alarm, FEED_MAX, Timeline, World};
use crate::spec::Spec;
use crate::value::{self, Scalar};
use crate::view;
use crate::vm::Vm;

/// What the tests of one file said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    /// The file.
    pub file: String,
    /// The names of the tests that passed.
    pub passed: Vec<String>,
    /// What failed, or why the file does not load at all.
    pub failures: Vec<ScriptError>,
}

impl TestReport {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), passed: Vec::new(), failures: Vec::new() }
    }

    pub(crate) fn failed(file: &str, failures: Vec<ScriptError>) -> Self {
        Self { failures, ..Self::new(file) }
    }

    /// True if nothing failed.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Tests of one script.
const TESTS_MAX: usize = 100;

/// Where tests run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) source: &'a str,
}

/// The keys of a test.
const KEYS: &[&str] =
    &["budgets", "clock", "expect", "feed", "input", "labels", "payment", "score", "signals", "team"];

impl Context<'_> {
    /// Runs `check` on every test of a script. A script without tests does not load.
    fn each(&self, tests: Value, report: &mut TestReport, check: impl Fn(&Spec<'_>) -> Result<(), String>) {
        let file = self.vm.file.as_str();
        let Value::Table(tests) = tests else {
            report
                .failures
                .push(ScriptError::new(file, "tests is missing; a script loads only with tests that pass"));
            return;
        };
        let n_tests = tests.raw_len();
        if n_tests == 0 || n_tests > TESTS_MAX {
            report.failures.push(ScriptError::new(file, format!("{n_tests} tests; give 1 to {TESTS_MAX}")));
            return;
        }
        let started = (self.vm.shared.limits.monotonic)();
        for test in tests.sequence_values::<Table>() {
            let (case, outcome) = self.one(test, &check);
            match outcome {
                Ok(()) => report.passed.push(case),
                Err(message) => report.failures.push(self.failure(case, message)),
            }
            if (self.vm.shared.limits.monotonic)().saturating_sub(started)
                > self.vm.shared.limits.tests_deadline
            {
                let limit = self.vm.shared.limits.tests_deadline;
                report.failures.push(ScriptError::new(file, format!("the tests take longer than {limit:?}")));
                return;
            }
        }
    }

    fn one(
        &self,
        test: mlua::Result<Table>,
        check: &impl Fn(&Spec<'_>) -> Result<(), String>,
    ) -> (String, Result<(), String>) {
        let Ok(table) = test else {
            return (String::new(), Err("a test is a table that begins with its name".to_owned()));
        };
        let name: String = match table.raw_get(1_i64) {
            Ok(name) => name,
            Err(_) => return (String::new(), Err("a test begins with its name, a text".to_owned())),
        };
        if let Err(error) = table.raw_set(1_i64, Value::Nil) {
            return (name, Err(message_of(&error)));
        }
        let spec = Spec { lua: &self.vm.lua, table, file: &self.vm.file, source: self.source, what: "test" };
        let outcome = spec.known(KEYS).map_err(|error| error.message).and_then(|()| check(&spec));
        (name, outcome)
    }

    fn failure(&self, case: String, message: String) -> ScriptError {
        let line = self.source.lines().position(|line| !case.is_empty() && line.contains(&case));
        let line = line.and_then(|index| u32::try_from(index + 1).ok());
        ScriptError { line, case: Some(case), ..ScriptError::new(self.vm.file.clone(), message) }
    }

    fn scalar(&self, value: &Value) -> Result<Option<Scalar>, String> {
        Scalar::read(value, &self.vm.shared.arena).map_err(|error| message_of(&error))
    }
}

fn describe(failure: &Failure) -> String {
    match failure.line {
        Some(line) => format!("line {line}: {}", failure.message),
        None => failure.message.clone(),
    }
}

/// Runs a rule's tests.
pub(crate) fn rule(cx: &Context<'_>, rule: &Rule, tests: Value, report: &mut TestReport) {
    let started = (cx.vm.shared.limits.monotonic)();
    cx.each(tests, report, |spec| {
        let (clock, world) = world(cx, spec)?;
        let expectations = expectations(spec, clock)?;
        let mut world = world;
        world.looks.extend(expectations.iter().filter_map(|expectation| expectation.at));
        world.looks.push(clock);
        let limits = cx.vm.shared.limits;
        let timeline = sim::play(world, &rule.info, |case, notes| {
            if (limits.monotonic)().saturating_sub(started) > limits.tests_deadline {
                return Err(Failure::plain("the tests take too long"));
            }
            view::with_case(case, || rule.holds(notes))
        });
        let timeline = timeline.map_err(|failure| describe(&failure))?;
        expectations.iter().try_for_each(|expectation| expectation.check(&timeline, clock))
    });
}

/// What a rule's test expects.
struct Expectation {
    alarm: Alarm,
    /// Nobody in particular: the whole world stays quiet.
    subject: Option<Subject>,
    at: Option<Timestamp>,
    said: String,
}

fn expectations(spec: &Spec<'_>, clock: Timestamp) -> Result<Vec<Expectation>, String> {
    let table: Table = spec
        .require("expect", "firing(agent, at), quiet or a list of these")
        .map_err(|error| error.message)?;
    let single = table.raw_get::<Value>("expect").is_ok_and(|value| !value.is_nil());
    if single {
        return Ok(vec![expectation(&table, clock)?]);
    }
    let all: Vec<Expectation> = table
        .sequence_values::<Table>()
        .map(|item| item.map_err(|error| message_of(&error)).and_then(|item| expectation(&item, clock)))
        .collect::<Result<_, _>>()?;
    if all.is_empty() {
        Err("expect is empty; a test that expects nothing proves nothing".to_owned())
    } else {
        Ok(all)
    }
}

fn expectation(table: &Table, clock: Timestamp) -> Result<Expectation, String> {
    let text = |key: &str| table.raw_get::<Option<String>>(key).map_err(|error| message_of(&error));
    let alarm = match text("expect")?.as_deref() {
        Some("firing") => Alarm::Firing,
        Some("resolved") => Alarm::Resolved,
        Some("quiet") => Alarm::Quiet,
        _ => {
            return Err(
                "expect is firing(agent, at), resolved(agent, at), quiet_at(agent, at) or quiet".to_owned()
            );
        }
    };
    let agent = text("agent")?;
    let said = text("at")?.unwrap_or_default();
    let at = match said.strip_prefix('+') {
        Some(span) => Some(clock.after(value::span(span).map_err(|error| message_of(&error))?)),
        None if said.is_empty() => None,
        None => return Err(format!("{said:?} is not a time since the clock, such as \"+12m\"")),
    };
    let subject = match agent {
        Some(agent) => Some(Subject::Agent(AgentId::new(agent).ok_or("an agent's name has 1 to 200 bytes")?)),
        None => None,
    };
    if subject.is_none() && alarm != Alarm::Quiet {
        return Err("name the agent that is expected to fire".to_owned());
    }
    Ok(Expectation { alarm, subject, at, said })
}

impl Expectation {
    fn check(&self, timeline: &Timeline, clock: Timestamp) -> Result<(), String> {
        let first = || match timeline.first() {
            Some((at, subject, why)) => {
                format!("{subject} fired at +{}: {why}", railwatch_plugin::config::Span(at.since(clock)))
            }
            None => "nothing fired".to_owned(),
        };
        let Some(subject) = &self.subject else {
            return if timeline.first().is_none() {
                Ok(())
            } else {
                Err(format!("expected quiet, but {}", first()))
            };
        };
        let found = timeline.state(subject, self.at);
        let met = match (self.alarm, self.at) {
            (Alarm::Firing, None) => timeline.ever(subject),
            (Alarm::Quiet, _) => found != Alarm::Firing,
            (expected, _) => found == expected,
        };
        if met {
            return Ok(());
        }
        let when = if self.said.is_empty() { String::new() } else { format!(" at {}", self.said) };
        let name = |alarm| match alarm {
            Alarm::Quiet => "quiet",
            Alarm::Firing => "firing",
            Alarm::Resolved => "resolved",
        };
        Err(format!(
            "expected {subject} to be {}{when}, but it is {}; {}",
            name(self.alarm),
            name(found),
            first()
        ))
    }
}

fn world(cx: &Context<'_>, spec: &Spec<'_>) -> Result<(Timestamp, World), String> {
    let lift = |error: ScriptError| error.message;
    let clock: Option<String> = spec.get("clock", "a text such as \"2026-01-01T02:00Z\"").map_err(lift)?;
    let clock = crate::time::parse(clock.as_deref().unwrap_or("2026-01-01T12:00Z"))?;
    let mut world = World { signals: signals(cx, spec)?, profile: profile(cx, spec)?, ..World::default() };
    world.score = spec.get("score", "a number").map_err(lift)?.unwrap_or(0.0);
    if let Some(feed) = spec.get::<Table>("feed", "spend(…), declined(…) or a list of these").map_err(lift)?
    {
        let single = feed.raw_get::<Value>("feed").is_ok_and(|value| !value.is_nil());
        let mut items = Vec::new();
        if single {
            items.push(feed);
        } else {
            for item in feed.sequence_values::<Table>() {
                items.push(item.map_err(|error| format!("feed: {}", message_of(&error)))?);
            }
        }
        for item in items {
            self::feed(cx, &item, clock, &mut world.feed)?;
        }
        world.feed.sort_by_key(|(_, payment)| payment.occurred_at);
    }
    Ok((clock, world))
}

/// One `spend(agent, amount, { every, times, after, payee, rail, task, resource, via })`.
fn feed(
    cx: &Context<'_>,
    item: &Table,
    clock: Timestamp,
    feed: &mut Vec<(Subject, Payment)>,
) -> Result<(), String> {
    const OPTIONS: &[&str] =
        &["after", "every", "payee", "rail", "resource", "session", "task", "times", "via"];
    let wrong = |error: mlua::Error| format!("feed: {}", message_of(&error));
    let lift = |error: ScriptError| error.message;
    let kind = match item.raw_get::<String>("feed").map_err(wrong)?.as_str() {
        "declined" => Kind::Declined,
        "refund" => Kind::Refund,
        _ => Kind::Settle,
    };
    let agent: String = item.raw_get("agent").map_err(wrong)?;
    let agent = AgentId::new(agent).ok_or("feed: an agent's name has 1 to 200 bytes")?;
    let scalar = cx.scalar(&item.raw_get("amount").map_err(wrong)?)?;
    let (money, usd) = match &scalar {
        Some(Scalar::Usd(usd)) => (value::to_money(&Scalar::Usd(*usd)), *usd),
        // A stablecoin is worth its face; anything else has no price in a test.
        Some(Scalar::Amount(money)) if money.asset().is_dollar() => {
            (Some(money.clone()), Rate::peg().value(money).unwrap_or(Usd::ZERO))
        }
        other => (other.as_ref().and_then(value::to_money), Usd::ZERO),
    };
    let money: Money = money.ok_or("feed: the amount is not an amount; write usd(6)")?;
    let options: Table = item.raw_get("options").map_err(wrong)?;
    let options =
        Spec { lua: &cx.vm.lua, table: options, file: &cx.vm.file, source: cx.source, what: "feed" };
    options.known(OPTIONS).map_err(lift)?;
    let times: u32 = options.get("times", "a whole number").map_err(lift)?.unwrap_or(1);
    let every = options.span("every", Duration::from_secs(60)).map_err(lift)?;
    let after = options.span("after", Duration::ZERO).map_err(lift)?;
    let text = |key| options.get::<String>(key, "a text").map(|text| text.map(SmolStr::from)).map_err(lift);
    let rail = text("rail")?.unwrap_or_else(|| "x402".into());
    if feed.len() + usize::try_from(times).unwrap_or(usize::MAX) > FEED_MAX {
        return Err(format!("feed: more than {FEED_MAX} payments"));
    }
    for turn in 0..times {
        let at = clock.after(after).after(every.saturating_mul(turn));
        let mut payment =
            Payment::settle(rail.clone(), format_smolstr!("test-{}", feed.len()), money.clone(), at);
        payment.kind = kind;
        payment.agent = Some(agent.clone());
        payment.agent_via = Some(via(text("via")?.as_deref())?);
        payment.payee = text("payee")?;
        payment.task = text("task")?;
        payment.session = text("session")?;
        payment.resource = text("resource")?;
        payment.valuation = Some(Valuation { usd, rate: Rate::peg() });
        feed.push((Subject::Agent(agent.clone()), payment));
    }
    Ok(())
}

fn via(name: Option<&str>) -> Result<AgentVia, String> {
    match name {
        None | Some("explicit") => Ok(AgentVia::Explicit),
        Some("mapped") => Ok(AgentVia::Mapped),
        Some("linked") => Ok(AgentVia::Linked),
        Some("source_default") => Ok(AgentVia::SourceDefault),
        Some("unmapped") => Ok(AgentVia::Unmapped),
        Some(other) => {
            Err(format!("feed: via {other:?} is not explicit, mapped, linked, source_default or unmapped"))
        }
    }
}

/// `signals = { velocity = { value = 340, usual = 8, probability = 0.9 } }`; other numbers are facts.
fn signals(cx: &Context<'_>, spec: &Spec<'_>) -> Result<Vec<Signal>, String> {
    let Some(table) = spec.get::<Table>("signals", "a table by kind").map_err(|error| error.message)? else {
        return Ok(Vec::new());
    };
    let mut signals = Vec::new();
    for pair in table.pairs::<String, Table>() {
        let (name, fields) = pair.map_err(|error| format!("signals: {}", message_of(&error)))?;
        let mut signal = Signal::usual(SignalKind::from_name(&name), Unit::Probability);
        for pair in fields.pairs::<String, Value>() {
            let (key, value) = pair.map_err(|error| format!("signals.{name}: {}", message_of(&error)))?;
            set_field(cx, &mut signal, &key, &value).map_err(|why| format!("signals.{name}.{key}: {why}"))?;
        }
        signals.push(signal);
    }
    signals.sort_by(|left, right| left.kind.cmp(&right.kind));
    Ok(signals)
}

fn set_field(cx: &Context<'_>, signal: &mut Signal, key: &str, value: &Value) -> Result<(), String> {
    if let Some(scalar) = cx.scalar(value)? {
        match (key, scalar) {
            ("excess", Scalar::Usd(usd)) => signal.excess = usd,
            ("since", Scalar::Time(at)) => signal.since = Some(at),
            _ => return Err("only excess is an amount and only since is a time".to_owned()),
        }
        return Ok(());
    }
    match (key, value) {
        ("firing", Value::Boolean(firing)) => {
            signal.verdict = if *firing { Verdict::Firing } else { Verdict::Usual };
        }
        ("about", Value::String(text)) => signal.about = Some(text.to_string_lossy().into()),
        ("value", _) => signal.value = number(value)?,
        ("usual", _) => signal.usual = number(value)?,
        ("probability", _) => signal.probability = number(value)?,
        ("evidence", _) => signal.evidence = number(value)?,
        (fact, _) => signal.facts.push((fact.into(), number(value)?)),
    }
    Ok(())
}

fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => Ok(*number),
        #[expect(clippy::cast_precision_loss, reason = "a test's number is small")]
        Value::Integer(number) => Ok(*number as f64),
        other => Err(format!("a {} is not a number", other.type_name())),
    }
}

fn profile(cx: &Context<'_>, spec: &Spec<'_>) -> Result<Profile, String> {
    let lift = |error: ScriptError| error.message;
    let mut profile = Profile {
        team: spec.get::<String>("team", "a text").map_err(lift)?.map(SmolStr::from),
        ..Profile::default()
    };
    if let Some(labels) = spec.get::<Table>("labels", "a table").map_err(lift)? {
        for pair in labels.pairs::<String, String>() {
            let (key, value) = pair.map_err(|error| format!("labels: {}", message_of(&error)))?;
            profile.labels.push(Label { key: key.into(), value: value.into() });
        }
        profile.labels.sort();
    }
    if let Some(budgets) =
        spec.get::<Table>("budgets", "a table such as { monthly = usd(500) }").map_err(lift)?
    {
        for pair in budgets.pairs::<String, Value>() {
            let (name, value) = pair.map_err(|error| format!("budgets: {}", message_of(&error)))?;
            let Some(Scalar::Usd(amount)) = cx.scalar(&value)? else {
                return Err(format!("budgets.{name} is not in dollars"));
            };
            profile.budgets.push(Budget {
                name: name.into(),
                amount,
                period: Period::Month,
                tz: chrono_tz::Tz::UTC,
            });
        }
        profile.budgets.sort_by(|left, right| left.name.cmp(&right.name));
    }
    Ok(profile)
}

/// Runs a score's tests: `expect` is the score, within a millionth, or a table of parts.
pub(crate) fn score(cx: &Context<'_>, score: &LuaScore, tests: Value, report: &mut TestReport) {
    cx.each(tests, report, |spec| {
        let signals = signals(cx, spec)?;
        let expect: Value =
            spec.require("expect", "a number or a table of parts").map_err(|error| error.message)?;
        let payment = match cx.scalar(&spec.table.raw_get("payment").unwrap_or(Value::Nil))? {
            Some(Scalar::Usd(usd)) => Some(paid(usd)),
            Some(_) => return Err("payment is the payment's value, such as usd(5)".to_owned()),
            None => None,
        };
        let subject = Subject::Agent(AgentId::new("a1").ok_or("no agent")?);
        let profile = Profile::default();
        let nothing = sim_history();
        let case = Case {
            now: Timestamp::EPOCH,
            at: Timestamp::EPOCH,
            subject: &subject,
            payment: payment.as_ref(),
            signals: &signals,
            score: 0.0,
            profile: &profile,
            history: &nothing,
        };
        let scored = score.compute(&case).map_err(|failure| describe(&failure))?;
        let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-6;
        let Value::Table(parts) = expect else {
            let expected = number(&expect)?;
            let text =
                format!("expected {expected}, but the score is {}: {:?}", scored.value, scored.contributions);
            return if close(scored.value, expected) { Ok(()) } else { Err(text) };
        };
        for pair in parts.pairs::<String, f64>() {
            let (name, expected) = pair.map_err(|error| format!("expect: {}", message_of(&error)))?;
            let part = scored.contributions.iter().find(|part| part.name == name);
            let found = part.ok_or_else(|| format!("there is no part {name:?}"))?.points;
            if !close(found, expected) {
                return Err(format!("expected part {name} to be {expected}, but it is {found}"));
            }
        }
        Ok(())
    });
}

fn paid(usd: Usd) -> Payment {
    let money =
        value::to_money(&Scalar::Usd(usd)).unwrap_or_else(|| Money::new(0, railwatch_model::Asset::usd()));
    let mut payment = Payment::settle("x402", "test", money, Timestamp::EPOCH);
    payment.valuation = Some(Valuation { usd, rate: Rate::peg() });
    payment
}

fn sim_history() -> impl railwatch_plugin::history::HistoryView {
    sim::History::default()
}

/// Runs a rail's tests: `input` is text (from `fixture` or in place) or a table that stands for JSON.
pub(crate) fn rail(cx: &Context<'_>, decoder: &LuaDecoder, tests: Value, report: &mut TestReport) {
    cx.each(tests, report, |spec| {
        let lift = |error: ScriptError| error.message;
        let input: String =
            spec.require("input", "a text, such as fixture \"acme_ok.json\"").map_err(lift)?;
        let expect: Table =
            spec.require("expect", "a payment, a list, filtered or rejected").map_err(lift)?;
        let received_at = Timestamp::from_secs(1_767_268_800);
        let message = Message { body: input.as_bytes(), headers: None, received_at };
        let mut decoded = Decoded::default();
        // A message that the script fails on is a reject, which a test may expect.
        let stopped = decoder.attempt(&message, &mut decoded).is_err_and(|failure| failure.stopped);
        if stopped { Err(rejects(&decoded)) } else { compare(&decoded, &expect) }
    });
}

fn compare(decoded: &Decoded, expect: &Table) -> Result<(), String> {
    match expect.raw_get::<Option<String>>("expect").ok().flatten().as_deref() {
        Some("filtered") => {
            let met =
                decoded.payments.is_empty() && decoded.rejects.is_empty() && !decoded.filtered.is_empty();
            return if met {
                Ok(())
            } else {
                Err(format!("expected it to be filtered, but got {decoded:?}"))
            };
        }
        Some("rejected") => {
            return if decoded.rejects.is_empty() {
                Err(format!("expected a reject, but got {decoded:?}"))
            } else {
                Ok(())
            };
        }
        _ => {}
    }
    if !decoded.rejects.is_empty() {
        return Err(rejects(decoded));
    }
    let expected: Vec<Table> = if expect.raw_len() > 0 {
        expect.sequence_values().collect::<mlua::Result<_>>().map_err(|error| message_of(&error))?
    } else {
        vec![expect.clone()]
    };
    if expected.len() != decoded.payments.len() {
        return Err(format!(
            "expected {} payments, but got {}; filtered: {:?}",
            expected.len(),
            decoded.payments.len(),
            decoded.filtered
        ));
    }
    for (payment, expected) in decoded.payments.iter().zip(&expected) {
        for pair in expected.pairs::<String, Value>() {
            let (key, value) = pair.map_err(|error| message_of(&error))?;
            let wanted = value.to_string().map_err(|error| message_of(&error))?;
            let found = show(payment, &key).ok_or_else(|| format!("a payment has no {key:?} to compare"))?;
            if found != wanted {
                return Err(format!("expected {key} to be {wanted:?}, but it is {found:?}"));
            }
        }
    }
    Ok(())
}

fn rejects(decoded: &Decoded) -> String {
    let all: Vec<String> =
        decoded.rejects.iter().map(|reject| format!("{}: {}", reject.code, reject.detail)).collect();
    format!("rejected: {}", all.join("; "))
}

/// A field of a payment as a test writes it.
fn show(payment: &Payment, key: &str) -> Option<String> {
    let text =
        |text: &Option<SmolStr>| Some(text.as_ref().map_or_else(|| "nil".to_owned(), ToString::to_string));
    match key {
        "amount" => Some(payment.amount.to_string()),
        "agent" => Some(
            payment
                .spender
                .iter()
                .find(|id| id.scheme == "agent")
                .map_or("nil".to_owned(), |id| id.value.to_string()),
        ),
        "spender" => Some(
            payment
                .spender
                .iter()
                .map(|id| format!("{}:{}", id.scheme, id.value))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        "refs" => Some(
            payment.settlement_refs.iter().map(|found| found.value.to_string()).collect::<Vec<_>>().join(" "),
        ),
        "kind" => Some(view::kind_name(payment.kind).to_owned()),
        "status" => Some(view::status_name(payment.status).to_owned()),
        "direction" => Some(view::direction_name(payment.direction).to_owned()),
        "at" => Some(payment.occurred_at.to_string()),
        "id" => Some(payment.id.to_string()),
        "rail" => Some(payment.rail.to_string()),
        "payee" => text(&payment.payee),
        "task" => text(&payment.task),
        "session" => text(&payment.session),
        "resource" => text(&payment.resource),
        "parent" => text(&payment.parent),
        _ => None,
    }
}
