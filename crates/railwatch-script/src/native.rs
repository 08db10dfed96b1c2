//! Conditions and formulas without the machine: what is written in a small part of the language (comparisons, arithmetic,
//! fields, windows, `if … then return … end`) is also read into a tree that is evaluated in Rust, at a tenth of the cost
//! of a call into the machine.
//!
//! The machine stays the judge. A condition that the tree finds false is false, and what it wrote into its notes is
//! written; one that it finds true, or cannot answer, is asked of the machine with the notes as they were. A tree never
//! fails: whatever would be an error is the machine's to tell. Anything outside of the small part (tables, calls of
//! one's own, other names) has no tree.

mod names;
mod notes;
mod parse;
mod quiet;
mod token;

use std::time::Duration;

use railwatch_model::{Signal, SignalKind, SmolStr, Timestamp, Verdict};
use railwatch_plugin::history::{Dimension, Filter};
use railwatch_plugin::rules::RuleState;
use railwatch_plugin::score::Case;
use smallvec::SmallVec;

use crate::limits::Limits;
use crate::view::{direction_name, kind_name, signal_number, status_name, via_name};

pub(crate) use parse::{condition, formula};
pub(crate) use quiet::Guess;

/// Parameters and locals of one function.
const LOCALS_MAX: usize = 48;
/// Most conditions have no more.
const LOCALS_FEW: usize = 4;

/// A value of the small part.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Val<'a> {
    Nil,
    Bool(bool),
    Num(f64),
    Text(&'a str),
    Usd(i64),
    Time(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Less,
    AtMost,
    Equal,
    Differs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Math {
    Max,
    Min,
    Log,
    Exp,
    Abs,
    Sqrt,
}

/// A field of the calendar, asked in UTC.
type Calendar = crate::time::Field;

#[derive(Debug)]
enum Node {
    Number(f64),
    Text(Box<str>),
    Usd(i64),
    Bool(bool),
    Nil,
    Local(usize),
    /// The note with this place in [`Native::keys`].
    Note(usize),
    /// The first bytes of a text.
    Prefix(Box<Self>, usize),
    At,
    PaymentUsd,
    PaymentKind,
    PaymentText(PaymentText),
    Score,
    Unmapped,
    FirstSeen,
    Previous,
    SignalNumber(SignalKind, Box<str>),
    SignalFiring(SignalKind),
    Window(Question, Duration, Option<(Dimension, Box<Self>)>),
    Distinct(Duration, Dimension),
    Declined(Duration),
    IsNew(Dimension, Box<Self>),
    Calendar(Calendar, Box<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Binary(Op, Box<Self>, Box<Self>),
    Choice(Box<Self>, Box<Self>, Box<Self>),
    Math(Math, Vec<Self>),
    IsMultiple(Box<Self>, Box<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PaymentText {
    Rail,
    Payee,
    Task,
    Session,
    Resource,
    Source,
    Parent,
    Status,
    Direction,
    Via,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Spent,
    Count,
    Largest,
}

#[derive(Debug)]
enum Step {
    /// Locals from this place on.
    Locals(usize, Vec<Node>),
    /// Notes by their places; all values come before the first is written.
    Notes(Vec<(usize, Node)>),
    ReturnIf(Node, Vec<Node>),
    Return(Vec<Node>),
}

/// A function of the small part.
#[derive(Debug)]
pub(crate) struct Native {
    steps: Vec<Step>,
    n_locals: usize,
    keys: Vec<SmolStr>,
}

/// The machine must be asked.
struct Bail;

type Answer<'a> = Result<Val<'a>, Bail>;

/// What a tree is evaluated on.
struct Frame<'a, 'b, 'f> {
    case: &'b Case<'a>,
    keys: &'b [SmolStr],
    locals: &'f mut [Val<'b>],
    notes: &'b RuleState,
    /// What the call wrote so far, by the places of the keys.
    written: SmallVec<[(usize, Val<'b>); 4]>,
}

impl Native {
    /// False if the condition certainly does not hold; then its notes are written.
    pub(crate) fn may_hold(&self, case: &Case<'_>, notes: &mut RuleState, limits: &Limits) -> bool {
        let denied = self.with_frame(case, notes, &[], |frame, results| {
            let [result] = results else { return None };
            matches!(frame.eval(result), Ok(Val::Bool(false) | Val::Nil)).then_some(())?;
            notes::changes(frame, limits)
        });
        let Some(changes) = denied else { return true };
        notes::write(changes, &self.keys, notes);
        false
    }

    /// The numbers that a formula returns for these inputs; `None` if the machine must be asked.
    pub(crate) fn numbers(&self, case: &Case<'_>, inputs: &[f64], numbers: &mut Vec<f64>) -> Option<()> {
        self.with_frame(case, &RuleState::new(), inputs, |frame, results| {
            for result in results {
                let Ok(Val::Num(number)) = frame.eval(result) else { return None };
                numbers.push(number);
            }
            Some(())
        })
    }

    /// Runs the steps up to a `return`, and has `end` look at what it returns; `None` if the machine must be asked.
    fn with_frame<'b, R>(
        &'b self,
        case: &'b Case<'_>,
        notes: &'b RuleState,
        inputs: &[f64],
        end: impl FnOnce(&Frame<'_, 'b, '_>, &'b [Node]) -> Option<R>,
    ) -> Option<R> {
        let (mut few, mut many);
        let locals: &mut [Val<'b>] = if self.n_locals <= LOCALS_FEW {
            few = [Val::Nil; LOCALS_FEW];
            &mut few
        } else {
            many = [Val::Nil; LOCALS_MAX];
            &mut many
        };
        for (local, input) in locals.iter_mut().zip(inputs) {
            *local = Val::Num(*input);
        }
        let mut frame = Frame { case, keys: &self.keys, locals, notes, written: SmallVec::new() };
        let results = self.run(&mut frame).ok()?;
        end(&frame, results)
    }

    fn run<'b>(&'b self, frame: &mut Frame<'_, 'b, '_>) -> Result<&'b [Node], Bail> {
        for step in &self.steps {
            match step {
                Step::Locals(first, nodes) => {
                    for (place, node) in (*first..).zip(nodes) {
                        let value = frame.eval(node)?;
                        *frame.locals.get_mut(place).ok_or(Bail)? = value;
                    }
                }
                Step::Notes(assignments) => {
                    let mut values = SmallVec::<[_; 4]>::new();
                    for (key, node) in assignments {
                        values.push((*key, frame.eval(node)?));
                    }
                    frame.written.extend(values);
                }
                Step::ReturnIf(condition, results) => {
                    if truthy(frame.eval(condition)?) {
                        return Ok(results);
                    }
                }
                Step::Return(results) => return Ok(results),
            }
        }
        Err(Bail)
    }
}

fn truthy(value: Val<'_>) -> bool {
    !matches!(value, Val::Nil | Val::Bool(false))
}

impl<'b> Frame<'_, 'b, '_> {
    fn eval(&self, node: &'b Node) -> Answer<'b> {
        let case = self.case;
        Ok(match node {
            Node::Number(number) => Val::Num(*number),
            Node::Text(text) => Val::Text(text),
            Node::Usd(nanos) => Val::Usd(*nanos),
            Node::Bool(flag) => Val::Bool(*flag),
            Node::Nil => Val::Nil,
            Node::Local(place) => *self.locals.get(*place).ok_or(Bail)?,
            Node::Note(key) => self.note(*key)?,
            Node::Prefix(text, len) => match self.eval(text)? {
                Val::Text(text) => Val::Text(text.get(..text.len().min(*len)).ok_or(Bail)?),
                _ => return Err(Bail),
            },
            Node::At => Val::Time(case.at.micros()),
            Node::PaymentUsd => Val::Usd(case.payment.map_or(0, |payment| payment.usd().nanos())),
            Node::PaymentKind => Val::Text(case.payment.map_or("tick", |payment| kind_name(payment.kind))),
            Node::PaymentText(field) => self.payment_text(*field),
            Node::Score => Val::Num(case.score),
            Node::Unmapped => Val::Bool(case.agent().is_some_and(railwatch_model::AgentId::is_unmapped)),
            Node::FirstSeen => Val::Time(case.history.first_seen_at().micros()),
            Node::Previous => case.history.previous_at().map_or(Val::Nil, |at| Val::Time(at.micros())),
            Node::SignalNumber(kind, name) => {
                signal_number(case.signal(kind), name).map_or(Val::Nil, Val::Num)
            }
            Node::SignalFiring(kind) => {
                Val::Bool(case.signal(kind).is_some_and(|signal: &Signal| signal.verdict == Verdict::Firing))
            }
            Node::Window(question, window, by) => self.window(*question, *window, by.as_ref())?,
            Node::Distinct(window, dimension) => Val::Num(case.history.distinct(*window, *dimension) as f64),
            Node::Declined(window) => Val::Num(case.history.declined(*window) as f64),
            Node::IsNew(dimension, name) => match self.eval(name)? {
                Val::Nil => Val::Bool(false),
                Val::Text(name) => Val::Bool(case.history.is_new(*dimension, name)),
                _ => return Err(Bail),
            },
            Node::Calendar(field, at) => match self.eval(at)? {
                Val::Time(micros) => {
                    let at = Timestamp::from_micros(micros).to_utc();
                    Val::Num(f64::from(field(&at.with_timezone(&chrono_tz::Tz::UTC))))
                }
                _ => return Err(Bail),
            },
            Node::Not(inner) => Val::Bool(!truthy(self.eval(inner)?)),
            Node::Negate(inner) => match self.eval(inner)? {
                Val::Num(number) => Val::Num(-number),
                _ => return Err(Bail),
            },
            Node::And(left, right) => match self.eval(left)? {
                left if truthy(left) => self.eval(right)?,
                left => left,
            },
            Node::Or(left, right) => match self.eval(left)? {
                left if truthy(left) => left,
                _ => self.eval(right)?,
            },
            Node::Binary(op, left, right) => binary(*op, self.eval(left)?, self.eval(right)?)?,
            Node::Choice(condition, then, other) => {
                self.eval(if truthy(self.eval(condition)?) { then } else { other })?
            }
            Node::Math(function, args) => {
                let mut numbers = SmallVec::<[f64; 6]>::new();
                for arg in args {
                    let Val::Num(number) = self.eval(arg)? else { return Err(Bail) };
                    numbers.push(number);
                }
                Val::Num(function.of(&numbers).ok_or(Bail)?)
            }
            Node::IsMultiple(amount, unit) => match (self.eval(amount)?, self.eval(unit)?) {
                (Val::Usd(_), Val::Usd(0)) => Val::Bool(false),
                (Val::Usd(amount), Val::Usd(unit)) => Val::Bool(amount.checked_rem(unit).ok_or(Bail)? == 0),
                _ => return Err(Bail),
            },
        })
    }

    fn payment_text(&self, field: PaymentText) -> Val<'b> {
        let Some(payment) = self.case.payment else { return Val::Nil };
        let text = match field {
            PaymentText::Rail => Some(payment.rail.as_str()),
            PaymentText::Source => Some(payment.source.as_str()),
            PaymentText::Payee => payment.payee.as_deref(),
            PaymentText::Task => payment.task.as_deref(),
            PaymentText::Session => payment.session.as_deref(),
            PaymentText::Resource => payment.resource.as_deref(),
            PaymentText::Parent => payment.parent.as_deref(),
            PaymentText::Status => Some(status_name(payment.status)),
            PaymentText::Direction => Some(direction_name(payment.direction)),
            PaymentText::Via => payment.agent_via.map(via_name),
        };
        text.map_or(Val::Nil, Val::Text)
    }

    fn window(
        &self,
        question: Question,
        window: Duration,
        by: Option<&'b (Dimension, Box<Node>)>,
    ) -> Answer<'b> {
        let filter = match by {
            None => Some(Filter::All),
            Some((dimension, value)) => match (dimension, self.eval(value)?) {
                // A filter by a value that is not there matches nothing.
                (_, Val::Nil) => None,
                (Dimension::Rail, Val::Text(name)) => Some(Filter::Rail(name)),
                (Dimension::Payee, Val::Text(name)) => Some(Filter::Payee(name)),
                (Dimension::Task, Val::Text(name)) => Some(Filter::Task(name)),
                _ => return Err(Bail),
            },
        };
        let history = self.case.history;
        Ok(match (question, filter) {
            (Question::Spent | Question::Largest, None) => Val::Usd(0),
            (Question::Count, None) => Val::Num(0.0),
            (Question::Spent, Some(filter)) => Val::Usd(history.spent(window, filter).nanos()),
            (Question::Largest, Some(filter)) => Val::Usd(history.largest(window, filter).nanos()),
            (Question::Count, Some(filter)) => Val::Num(history.count(window, filter) as f64),
        })
    }
}

impl Math {
    /// Comparisons in the machine's own order, so that what is not a number comes out the same; `None` without numbers.
    fn of(self, numbers: &[f64]) -> Option<f64> {
        let mut numbers = numbers.iter().copied();
        let first = numbers.next()?;
        Some(match self {
            Self::Max => {
                numbers.fold(first, |best, number| if is_above(number, best) { number } else { best })
            }
            Self::Min => {
                numbers.fold(first, |best, number| if is_above(best, number) { number } else { best })
            }
            Self::Log => first.ln(),
            Self::Exp => first.exp(),
            Self::Abs => first.abs(),
            Self::Sqrt => first.sqrt(),
        })
    }
}

/// Two operands and an operator, as the machine has it.
fn binary<'a>(op: Op, left: Val<'a>, right: Val<'a>) -> Answer<'a> {
    use Val::{Num, Time, Usd};
    Ok(match (op, left, right) {
        (Op::Equal, left, right) => Val::Bool(left == right),
        (Op::Differs, left, right) => Val::Bool(left != right),
        (Op::Less, Num(l), Num(r)) => Val::Bool(l < r),
        (Op::AtMost, Num(l), Num(r)) => Val::Bool(l <= r),
        (Op::Less, Usd(l), Usd(r)) | (Op::Less, Time(l), Time(r)) => Val::Bool(l < r),
        (Op::AtMost, Usd(l), Usd(r)) | (Op::AtMost, Time(l), Time(r)) => Val::Bool(l <= r),
        (Op::Add, Num(l), Num(r)) => Num(l + r),
        (Op::Subtract, Num(l), Num(r)) => Num(l - r),
        (Op::Multiply, Num(l), Num(r)) => Num(l * r),
        (Op::Divide, Num(l), Num(r)) => Num(l / r),
        (Op::Add, Usd(l), Usd(r)) => Usd(l.checked_add(r).ok_or(Bail)?),
        (Op::Subtract, Usd(l), Usd(r)) => Usd(l.checked_sub(r).ok_or(Bail)?),
        (Op::Multiply, Usd(money), Num(times)) | (Op::Multiply, Num(times), Usd(money)) => {
            Usd(money.checked_mul(whole(times).ok_or(Bail)?).ok_or(Bail)?)
        }
        (Op::Divide, Usd(_), Usd(0)) => Num(0.0),
        (Op::Divide, Usd(l), Usd(r)) => Num(l as f64 / r as f64),
        (Op::Subtract, Time(l), Time(r)) => {
            Num(Timestamp::from_micros(l).secs_f64() - Timestamp::from_micros(r).secs_f64())
        }
        _ => return Err(Bail),
    })
}

/// False if either is not a number.
fn is_above(number: f64, other: f64) -> bool {
    number > other
}

/// A number that an amount may be multiplied by on the short way.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 1e9).then_some(number as i64)
}

#[cfg(test)]
mod tests;
