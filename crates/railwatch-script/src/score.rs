//! Scores: `score { inputs, parts, formula }` as a [`Scorer`].
//!
//! A formula gets numbers and returns numbers, one per part: no object crosses, which is what makes a scripted score
//! cost about as much as a compiled one.

use std::sync::Arc;

use mlua::{Function, Table, Value, Variadic};
use railwatch_model::{Contribution, Signal, SignalKind, SmolStr, Verdict};
use railwatch_plugin::score::{Case, Score, ScoreError, Scorer};

use crate::error::{Failure, ScriptError};
use crate::native::{self, Guess, Native};
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
    /// The signals that the inputs are about, each once.
    kinds: Vec<SignalKind>,
    inputs: Vec<Input>,
    parts: Vec<SmolStr>,
    formula: Function,
    /// The formula without the machine, if it is written simply enough.
    native: Option<Arc<Native>>,
    /// True if the formula is zero where all detectors are quiet, whatever else they say.
    ignores_quiet: bool,
}

/// One number that a formula asks for.
#[derive(Debug, Clone)]
enum Input {
    /// A field of the signal with this place in [`LuaScore::kinds`].
    Signal { kind: usize, field: Field },
    /// Dollars of the payment in hand.
    PaymentUsd,
}

impl Input {
    /// What is known of it where no signal fires and none has a probability.
    fn guess_when_quiet(&self) -> Guess {
        match self {
            Self::Signal { field: Field::Probability | Field::Raised, .. } => Guess::Number(0.0),
            Self::Signal { field: Field::Ratio | Field::Other(_), .. } | Self::PaymentUsd => Guess::Finite,
        }
    }
}

/// A number of a signal.
#[derive(Debug, Clone)]
enum Field {
    /// Zero while the detector is still learning.
    Probability,
    Ratio,
    /// One if the signal fires, or is raised and has a probability; zero if not.
    Raised,
    Other(SmolStr),
}

impl Field {
    fn read(&self, signal: Option<&Signal>) -> f64 {
        let Some(signal) = signal else { return 0.0 };
        let number = match self {
            Self::Probability if signal.verdict == Verdict::Learning => 0.0,
            Self::Probability => signal.probability,
            Self::Raised => f64::from(u8::from(match signal.verdict {
                Verdict::Firing => true,
                Verdict::Raised => signal.probability > 0.0,
                Verdict::Usual | Verdict::Learning => false,
            })),
            Self::Ratio => signal.ratio(),
            Self::Other(name) => signal_number(Some(signal), name).unwrap_or(0.0),
        };
        if number.is_finite() { number } else { 0.0 }
    }
}

/// Calls a formula for as many numbers as there are names, and for what it returned beyond them. Values of fixed types
/// are read off the machine's stack at a fraction of the cost of a list.
macro_rules! call {
    ($vm:expr, $formula:expr, $args:expr, $points:expr, $($name:ident)+) => {{
        let ($($name,)+ rest): ($(call!(@number $name),)+ Value) = $vm.call($formula, $args)?;
        $points.extend([$($name),+]);
        rest
    }};
    (@number $name:ident) => { f64 };
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
        let mut kinds = Vec::new();
        let inputs =
            inputs.iter().map(|text| input(text, &mut kinds).map_err(|why| spec.error("inputs", why)));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let formula: Function = spec.require("formula", "a function of the inputs")?;
        let native = formula.info().line_defined.and_then(|line| native::formula(source, line, parts.len()));
        let guesses: Vec<Guess> = inputs.iter().map(Input::guess_when_quiet).collect();
        let ignores_quiet = native.as_ref().is_some_and(|native| native.is_zero_for(&guesses));
        let native = native.map(Arc::new);
        let name = SmolStr::from(name);
        let counters = Counters::new(&spec, name.clone(), ScriptKind::Score, vm.shared.limits.errors_max)?;
        let parts = parts.into_iter().map(SmolStr::from).collect();
        Ok(Self { name, counters, vm: Arc::clone(vm), kinds, inputs, parts, formula, native, ignores_quiet })
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
        let points = self.points(case)?;
        let mut contributions = Vec::with_capacity(points.len());
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

    /// What the formula returns, one number per part.
    fn points(&self, case: &Case<'_>) -> Result<Vec<f64>, Failure> {
        let (vm, formula, args) = (&self.vm, &self.formula, self.args(case));
        let n_parts = self.parts.len();
        let mut points = Vec::with_capacity(n_parts);
        if let Some(native) = &self.native
            && native.numbers(case, &args, &mut points).is_some()
        {
            return Ok(points);
        }
        points.clear();
        let rest = match n_parts {
            1 => call!(vm, formula, args, points, a),
            2 => call!(vm, formula, args, points, a b),
            3 => call!(vm, formula, args, points, a b c),
            4 => call!(vm, formula, args, points, a b c d),
            5 => call!(vm, formula, args, points, a b c d e),
            6 => call!(vm, formula, args, points, a b c d e f),
            7 => call!(vm, formula, args, points, a b c d e f g),
            8 => call!(vm, formula, args, points, a b c d e f g h),
            _ => {
                points = vm.call::<Variadic<f64>>(formula, args)?.into();
                Value::Nil
            }
        };
        if points.len() != n_parts || !rest.is_nil() {
            return Err(Failure::plain(format!(
                "formula must return exactly {n_parts} numbers, one per part"
            )));
        }
        Ok(points)
    }

    fn args(&self, case: &Case<'_>) -> Variadic<f64> {
        let mut signals = [None; ITEMS_MAX];
        for (place, kind) in signals.iter_mut().zip(&self.kinds) {
            *place = case.signal(kind);
        }
        let number = |input: &Input| match input {
            Input::Signal { kind, field } => field.read(signals.get(*kind).copied().flatten()),
            Input::PaymentUsd => case.payment.map_or(0.0, |payment| payment.usd().dollars()),
        };
        self.inputs.iter().map(number).collect()
    }
}

fn input(text: &str, kinds: &mut Vec<SignalKind>) -> Result<Input, String> {
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
    let field = match field {
        "probability" => Field::Probability,
        "ratio" => Field::Ratio,
        "raised" => Field::Raised,
        other => Field::Other(other.into()),
    };
    let wanted = SignalKind::from_name(kind);
    let kind = kinds.iter().position(|kind| *kind == wanted).unwrap_or_else(|| {
        kinds.push(wanted);
        kinds.len() - 1
    });
    Ok(Input::Signal { kind, field })
}

#[cfg(test)]
impl LuaScore {
    /// The same formula, asked of the machine only.
    pub(crate) fn without_tree(&self) -> Option<Self> {
        self.native.is_some().then(|| Self { native: None, ..self.clone() })
    }
}

impl Scorer for LuaScore {
    fn ignores_quiet(&self) -> bool {
        self.ignores_quiet
    }

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
