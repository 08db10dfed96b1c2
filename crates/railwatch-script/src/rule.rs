//! Rules: `rule { id, severity, when, why, … }` as a [`RuleSet`].

use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Table, Value};
use railwatch_model::{Severity, SmolStr, Subject};
use railwatch_plugin::history::HistoryNeed;
use railwatch_plugin::rules::{Firing, RuleInfo, RuleSet, RuleState};
use railwatch_plugin::score::{Case, Score, Scorer as _};
use smol_str::format_smolstr;

use crate::error::{Failure, ScriptError, clean, message_of};
use crate::native::{self, Native};
use crate::score::LuaScore;
use crate::spec::Spec;
use crate::status::{Counters, ScriptKind};
use crate::view::{self, Views};
use crate::vm::Vm;

/// Bytes of an explanation.
pub(crate) const WHY_LEN_MAX: usize = 500;
/// How long a rule's condition must be false before its alert resolves, unless the rule says otherwise.
const CLEAR_AFTER: Duration = Duration::from_secs(15 * 60);

pub(crate) const KEYS: &[&str] = &[
    "about",
    "clear_after",
    "group_by",
    "history",
    "hold",
    "id",
    "severity",
    "shadow",
    "tests",
    "when",
    "why",
];

/// A compiled rule: its machine, its functions and what the engine must know of it.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) info: RuleInfo,
    pub(crate) counters: Arc<Counters>,
    scope: Scope,
    vm: Arc<Vm>,
    views: Views,
    when: Function,
    why: Option<Function>,
    /// The condition without the machine, if it is written simply enough.
    native: Option<Native>,
    /// True if `when` or `why` takes the notes; lending them costs as much as a small condition.
    takes_notes: bool,
}

/// Which subjects a rule is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Agent,
    Team,
    Fleet,
}

impl Scope {
    fn covers(self, subject: &Subject) -> bool {
        matches!(
            (self, subject),
            (Self::Agent, Subject::Agent(_)) | (Self::Team, Subject::Team(_)) | (Self::Fleet, Subject::Fleet)
        )
    }
}

impl Rule {
    pub(crate) fn read(vm: &Arc<Vm>, source: &str, table: Table) -> Result<Self, ScriptError> {
        let spec = Spec { lua: &vm.lua, table, file: &vm.file, source, what: "rule" };
        spec.known(KEYS)?;
        let id: String = spec.require("id", "a text such as \"night-drain\"")?;
        if !valid_id(&id) {
            return Err(spec.error("id", "use 1 to 60 lower-case letters, digits and dashes"));
        }
        let severity = severity(&spec)?;
        let info = RuleInfo {
            id: SmolStr::from(id),
            severity,
            hold: spec.span("hold", Duration::ZERO)?,
            clear_after: spec.span("clear_after", CLEAR_AFTER)?,
            shadow: spec.flag("shadow")?,
        };
        let when: Function = spec.require("when", "a function(p, a, state)")?;
        let why: Option<Function> = spec.get("why", "a function(p, a, state)")?;
        let takes_notes = [Some(&when), why.as_ref()].into_iter().flatten().any(takes_notes);
        let scope = scope(&spec)?;
        let native = when.info().line_defined.and_then(|line| native::condition(source, line));
        let views = Views::new(vm).map_err(|error| ScriptError::new(&vm.file, message_of(&error)))?;
        let counters = Counters::new(&spec, info.id.clone(), ScriptKind::Rule, vm.shared.limits.errors_max)?;
        Ok(Self { info, counters, scope, vm: Arc::clone(vm), views, when, why, native, takes_notes })
    }

    /// Whether the condition holds, and why; a failure of the condition leaves the notes as they were.
    pub(crate) fn holds(&self, notes: &mut RuleState) -> Result<Option<Reason>, Failure> {
        if !self.takes_notes {
            return self.ask();
        }
        self.vm.shared.notes.lend(notes);
        let outcome = self.ask();
        self.vm.shared.notes.settle(notes, outcome.is_ok());
        outcome
    }

    fn ask(&self) -> Result<Option<Reason>, Failure> {
        let Views { payment, agent, state } = &self.views;
        let returned = match self.takes_notes {
            true => self.vm.call::<Value>(&self.when, (payment, agent, state)),
            false => self.vm.call::<Value>(&self.when, (payment, agent)),
        };
        match returned? {
            Value::Boolean(true) => Ok(Some(self.explain())),
            Value::Boolean(false) | Value::Nil => Ok(None),
            other => {
                Err(Failure::plain(format!("when must return true or false, not a {}", other.type_name())))
            }
        }
    }

    /// A condition that holds is told even if its explanation is broken.
    fn explain(&self) -> Reason {
        let Some(why) = &self.why else { return Reason { text: self.plain_reason(), broken: None } };
        self.vm.shared.notes.freeze();
        let Views { payment, agent, state } = &self.views;
        let broken = match self.vm.call::<Value>(why, (payment, agent, state)) {
            Ok(Value::String(text)) => {
                return Reason { text: clean(&text.to_string_lossy(), WHY_LEN_MAX), broken: None };
            }
            Ok(other) => Failure::plain(format!("why must return a text, not a {}", other.type_name())),
            Err(failure) => failure,
        };
        Reason { text: self.plain_reason(), broken: Some(broken) }
    }

    fn plain_reason(&self) -> String {
        format!("the condition of rule {} holds", self.info.id)
    }

    fn evaluate(&self, case: &Case<'_>, notes: &mut RuleState) -> Option<String> {
        if self.counters.is_quarantined() || !self.scope.covers(case.subject) {
            return None;
        }
        let limits = &self.vm.shared.limits;
        if self.native.as_ref().is_some_and(|native| !native.may_hold(case, notes, limits)) {
            self.counters.good();
            return None;
        }
        let reason = match self.holds(notes) {
            Ok(None) => {
                self.counters.good();
                return None;
            }
            Ok(Some(reason)) => reason,
            Err(failure) => {
                record(&self.counters, failure, case);
                return None;
            }
        };
        match reason.broken {
            None => self.counters.good(),
            Some(failure) => record(&self.counters, failure, case),
        }
        Some(reason.text)
    }
}

/// What a shadow score would have said, and what the one in force says.
fn compare(scored: &Score, in_force: f64, threshold: f64) -> String {
    let parts = scored.contributions.iter().filter(|part| part.points > 0.0);
    let parts: Vec<String> = parts.map(|part| format!("{} {:.2}", part.name, part.points)).collect();
    let same =
        if in_force > threshold { "so does the score in force" } else { "the score in force does not" };
    clean(
        &format!("{:.2} = {} asks for review; {same} ({in_force:.2})", scored.value, parts.join(" + ")),
        WHY_LEN_MAX,
    )
}

#[cfg(test)]
impl LuaRules {
    /// What each rule's tree and its machine say of a case, and the notes that they leave.
    pub(crate) fn both(&self, case: &Case<'_>, notes: &RuleState) -> Vec<Both> {
        let ask = |rule: &Rule| {
            let (mut by_tree, mut by_machine) = (notes.clone(), notes.clone());
            let limits = &rule.vm.shared.limits;
            let tree = rule.native.as_ref().map(|native| native.may_hold(case, &mut by_tree, limits));
            let machine = view::with_case(case, || rule.holds(&mut by_machine));
            let is_error = machine.is_err();
            let machine = machine.is_ok_and(|reason| reason.is_some());
            Both { rule: rule.info.id.clone(), tree, machine, is_error, by_tree, by_machine }
        };
        self.rules.iter().map(ask).collect()
    }
}

/// See [`LuaRules::both`].
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) rule: SmolStr,
    pub(crate) tree: Option<bool>,
    pub(crate) machine: bool,
    pub(crate) is_error: bool,
    pub(crate) by_tree: RuleState,
    pub(crate) by_machine: RuleState,
}

/// Why a condition holds, in the rule's words; in plain ones if its explanation failed.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) text: String,
    pub(crate) broken: Option<Failure>,
}

/// Remembers a failure together with the case that caused it.
#[cold]
pub(crate) fn record(counters: &Counters, failure: Failure, case: &Case<'_>) {
    let payment = case.payment.map(|payment| format_smolstr!("{}/{}", payment.rail, payment.id));
    counters.failed(failure, case.at, payment, Some(case.subject.key()));
}

/// True if a function has a third parameter, or may have.
fn takes_notes(function: &Function) -> bool {
    let info = function.info();
    info.num_params >= 3 || info.is_vararg
}

fn valid_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=60).contains(&id.len()) && id.bytes().all(allowed)
}

fn severity(spec: &Spec<'_>) -> Result<Severity, ScriptError> {
    const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let Some(name) = spec.get::<String>("severity", "a text such as \"high\"")? else {
        return Ok(Severity::Medium);
    };
    ALL.into_iter().find(|severity| severity.as_str() == name).ok_or_else(|| {
        spec.error("severity", format!("{name:?} is not one of info, low, medium, high, critical"))
    })
}

fn scope(spec: &Spec<'_>) -> Result<Scope, ScriptError> {
    let wrong = || spec.error("group_by", "give one of { \"agent\" }, { \"team\" }, { \"fleet\" }");
    let Some(names) = spec.get::<Vec<String>>("group_by", "a list such as { \"agent\" }")? else {
        return Ok(Scope::Agent);
    };
    match names.as_slice() {
        [name] if name == "agent" => Ok(Scope::Agent),
        [name] if name == "team" => Ok(Scope::Team),
        [name] if name == "fleet" => Ok(Scope::Fleet),
        _ => Err(wrong()),
    }
}

/// Every rule of a generation. Errors of a rule are counted and shown; they never reach the engine.
#[derive(Debug)]
pub struct LuaRules {
    rules: Vec<Rule>,
    infos: Vec<RuleInfo>,
    need: HistoryNeed,
    /// Formulas that run beside the one in force, each with the score that it is held against.
    shadows: Vec<(LuaScore, f64)>,
}

impl LuaRules {
    pub(crate) fn new(rules: Vec<Rule>, need: HistoryNeed) -> Self {
        let infos = rules.iter().map(|rule| rule.info.clone()).collect();
        let need = HistoryNeed { groups: rules.iter().any(|rule| rule.scope != Scope::Agent), ..need };
        Self { rules, infos, need, shadows: Vec::new() }
    }

    /// Runs a formula beside the one in force: as a shadow rule that fires where its score is above `threshold`.
    pub fn shadow_score(&mut self, score: LuaScore, threshold: f64) {
        self.infos.push(RuleInfo {
            id: format_smolstr!("score-{}", score.name()),
            severity: Severity::Info,
            hold: Duration::ZERO,
            clear_after: CLEAR_AFTER,
            shadow: true,
        });
        self.shadows.push((score, threshold));
    }

    /// Memory that each rule's machine holds, in evaluation order.
    pub fn memory_bytes(&self) -> Vec<usize> {
        self.rules.iter().map(|rule| rule.vm.lua.used_memory()).collect()
    }
}

impl RuleSet for LuaRules {
    fn rules(&self) -> &[RuleInfo] {
        &self.infos
    }

    fn need(&self) -> HistoryNeed {
        self.need
    }

    fn evaluate(&mut self, case: &Case<'_>, states: &mut [RuleState], firings: &mut Vec<Firing>) {
        view::with_case(case, || {
            for (index, (rule, notes)) in self.rules.iter().zip(states).enumerate() {
                if let Some(why) = rule.evaluate(case, notes) {
                    firings.push(Firing { rule: index, why });
                }
            }
            for (index, (score, threshold)) in self.shadows.iter_mut().enumerate() {
                if case.signals.are_quiet() && score.ignores_quiet() {
                    continue;
                }
                // A failure is counted where it happens.
                if let Ok(scored) = score.score(case)
                    && scored.value > *threshold
                {
                    let rule = self.rules.len() + index;
                    firings.push(Firing { rule, why: compare(&scored, case.score, *threshold) });
                }
            }
        });
    }
}
