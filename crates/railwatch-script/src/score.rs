//! Scores: `score { inputs, parts, formula }` as a [`Scorer`].
//!
//! A formula gets numbers and returns numbers, one per part: no object crosses, which is what makes a scripted score
//! cost about as much as a compiled one.

use std::sync::Arc;

use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, MultiValue, Table, Value};
use railwatch_model::{Contribution, SignalKind, SmolStr};
use railwatch_plugin::score::{Case, Score, ScoreError, Scorer};

use crate::error::{Failure, ScriptError};
use crate::rule::record;
use crate::spec::{Spec, closest};
use crate::status::{Counters, ScriptKind};
use crate::view::{KINDS, SIGNAL_NUMBERS, signal_number};
use crate::vm::Vm;

/// Inputs and parts of one formula.
const ITEMS_MAX: usize = 24;

pub(crate) const KEYS: &[&str] = &["about", "formula", "inputs", "name", "parts", "shadow", "tests"];

/// A compiled formula.
#[derive(Debug, Clone)]
pub struct LuaScore {
    pub(crate) name: SmolStr,
    pub(crate) counters: Arc<Counters>,
    vm: Arc<Vm>,
    inputs: Vec<Input>,
    parts: Vec<SmolStr>,
    formula: Function,
}

/// One number that a formula asks for.
#[derive(Debug, Clone)]
enum Input {
    Signal {
        kind: SignalKind,
        field: SmolStr,
    },
    /// Dollars of the payment in hand.
    PaymentUsd,
}

impl Input {
    fn read(&self, case: &Case<'_>) -> f64 {
        match self {
            Self::Signal { kind, field } => {
                let number = signal_number(case.signal(kind), field).unwrap_or(0.0);
                if number.is_finite() { number } else { 0.0 }
            }
            Self::PaymentUsd => case.payment.map_or(0.0, |payment| payment.usd().dollars()),
        }
    }
}

impl LuaScore {
    pub(crate) fn read(vm: &Arc<Vm>, source: &str, table: Table) -> Result<Self, ScriptError> {
        let spec = Spec { lua: &vm.lua, table, file: &vm.file, source, what: "score" };
        spec.known(KEYS)?;
        let name: String = spec.require("name", "a text such as \"default\"")?;
        let inputs: Vec<String> = spec.require("inputs", "a list such as { \"velocity.ratio\" }")?;
        let parts: Vec<String> = spec.require("parts", "a list with the names of what formula returns")?;
        if inputs.len() > ITEMS_MAX || parts.is_empty() || parts.len() > ITEMS_MAX {
            return Err(spec.error(
                "parts",
                format!("a formula has 1 to {ITEMS_MAX} parts and at most {ITEMS_MAX} inputs"),
            ));
        }
        let inputs = inputs.iter().map(|text| input(text).map_err(|why| spec.error("inputs", why)));
        let inputs = inputs.collect::<Result<_, _>>()?;
        let formula = spec.require("formula", "a function of the inputs")?;
        let name = SmolStr::from(name);
        let counters = Counters::new(&spec, name.clone(), ScriptKind::Score, vm.shared.limits.errors_max)?;
        let parts = parts.into_iter().map(SmolStr::from).collect();
        Ok(Self { name, counters, vm: Arc::clone(vm), inputs, parts, formula })
    }

    /// True if the formula runs beside the one in force and decides nothing.
    pub fn is_shadow(&self) -> bool {
        self.counters.shadow
    }

    /// The name that the script gives itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn compute(&self, case: &Case<'_>) -> Result<Score, Failure> {
        let args = Numbers { inputs: &self.inputs, case };
        let Points { points, count } = self.vm.call(&self.formula, args)?;
        if count != self.parts.len() {
            return Err(Failure::plain(format!(
                "formula returned {count} numbers for {} parts",
                self.parts.len()
            )));
        }
        let mut contributions = Vec::with_capacity(count);
        let mut sum = 0.0;
        for (name, points) in self.parts.iter().zip(points) {
            if !points.is_finite() {
                return Err(Failure::plain(format!("part {name} is not a finite number")));
            }
            sum += points;
            contributions.push(Contribution { name: name.clone(), points });
        }
        Ok(Score { value: f64::clamp(sum, 0.0, 1.0), contributions })
    }
}

fn input(text: &str) -> Result<Input, String> {
    if text == "payment.usd" {
        return Ok(Input::PaymentUsd);
    }
    let wrong = || {
        format!(
            "{text:?} is not an input; write \"<signal>.<field>\" such as \"velocity.ratio\", or \"payment.usd\""
        )
    };
    let (kind, field) = text.split_once('.').ok_or_else(wrong)?;
    let valid = |name: &str| {
        !name.is_empty() && name.len() <= 60 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !valid(kind) || !valid(field) {
        return Err(wrong());
    }
    // Both may be names of somebody's own; what is nearly a known name is a slip.
    for (name, known) in [(kind, KINDS), (field, SIGNAL_NUMBERS)] {
        if !known.contains(&name)
            && let Some(near) = closest(name, known.iter().copied())
            && strsim::damerau_levenshtein(near, name) == 1
        {
            return Err(format!("{text:?}: did you mean {near:?} instead of {name:?}?"));
        }
    }
    Ok(Input::Signal { kind: SignalKind::from_name(kind), field: field.into() })
}

/// The arguments of a formula.
struct Numbers<'a, 'b> {
    inputs: &'a [Input],
    case: &'a Case<'b>,
}

impl IntoLuaMulti for Numbers<'_, '_> {
    fn into_lua_multi(self, _: &Lua) -> mlua::Result<MultiValue> {
        Ok(self.inputs.iter().map(|input| Value::Number(input.read(self.case))).collect())
    }
}

/// What a formula returned.
struct Points {
    points: [f64; ITEMS_MAX],
    count: usize,
}

impl FromLuaMulti for Points {
    fn from_lua_multi(values: MultiValue, _: &Lua) -> mlua::Result<Self> {
        let mut points = [0.0; ITEMS_MAX];
        let count = values.len();
        for (place, value) in points.iter_mut().zip(values) {
            *place = match value {
                Value::Number(number) => number,
                #[expect(clippy::cast_precision_loss, reason = "a score's part is a statistic")]
                Value::Integer(number) => number as f64,
                other => {
                    return Err(mlua::Error::runtime(format!(
                        "formula returned a {}, not a number",
                        other.type_name()
                    )));
                }
            };
        }
        Ok(Self { points, count })
    }
}

impl Scorer for LuaScore {
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError> {
        if self.counters.is_quarantined() {
            return Err(ScoreError(format!("{} is quarantined", self.vm.file)));
        }
        match self.compute(case) {
            Ok(score) => {
                self.counters.good();
                Ok(score)
            }
            Err(failure) => {
                let error = ScoreError(format!("{}: {}", self.vm.file, failure.message));
                record(&self.counters, failure, case);
                Err(error)
            }
        }
    }
}
