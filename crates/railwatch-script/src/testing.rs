//! Tests that live in the script's own file, run on every load.

mod decoded;
mod scene;

use mlua::{Table, Value};
use railwatch_model::{AgentId, Money, Payment, Rate, Subject, Timestamp, Usd, Valuation};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::score::{Case, Signals};

pub(crate) use decoded::rail;

use crate::error::{Failure, ScriptError, message_of};
use crate::rule::Rule;
use crate::score::LuaScore;
use crate::sim::{self, Alarm, Timeline};
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
pub(crate) const KEYS: &[&str] =
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
        let (clock, world) = scene::world(cx, spec)?;
        let expectations = expectations(spec, clock)?;
        let mut world = world;
        world.looks.extend(expectations.iter().filter_map(|expectation| expectation.at));
        world.looks.push(clock);
        let limits = cx.vm.shared.limits;
        let timeline = sim::play(world, &rule.info, |case, notes| {
            if (limits.monotonic)().saturating_sub(started) > limits.tests_deadline {
                return Err(Failure::plain("the tests take too long"));
            }
            let reason = view::with_case(case, || rule.holds(notes))?;
            // An explanation that fails is told around in production; in a test it is a mistake.
            reason.map_or(Ok(None), |reason| reason.broken.map_or(Ok(Some(reason.text)), Err))
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

/// Runs a score's tests: `expect` is the score, within a millionth, or a table of parts.
pub(crate) fn score(cx: &Context<'_>, score: &LuaScore, tests: Value, report: &mut TestReport) {
    cx.each(tests, report, |spec| {
        let signals = scene::signals(cx, spec)?;
        let expect: Value =
            spec.require("expect", "a number or a table of parts").map_err(|error| error.message)?;
        let payment = match cx.scalar(&spec.table.raw_get("payment").unwrap_or(Value::Nil))? {
            Some(Scalar::Usd(usd)) => Some(paid(usd)),
            Some(_) => return Err("payment is the payment's value, such as usd(5)".to_owned()),
            None => None,
        };
        let subject = Subject::Agent(AgentId::new("a1").ok_or("no agent")?);
        let profile = Profile::default();
        let nothing = sim::History::default();
        let case = Case {
            now: Timestamp::EPOCH,
            at: Timestamp::EPOCH,
            subject: &subject,
            payment: payment.as_ref(),
            signals: Signals::known(&signals),
            score: 0.0,
            profile: &profile,
            history: &nothing,
        };
        let scored = score.compute(&case).map_err(|failure| describe(&failure))?;
        let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-6;
        let Value::Table(parts) = expect else {
            let expected = scene::number(&expect)?;
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
