//! Conditions and formulas without the machine: what is written in a small part of the language (comparisons, arithmetic,
//! fields, windows, `if … then return … end`) is also read into a tree that is evaluated in Rust, at a tenth of the cost
//! of a call into the machine.
//!
//! The machine stays the judge. A condition that the tree finds false is false; one that it finds true, or cannot
//! answer, is asked of the machine. A tree never fails: whatever would be an error is the machine's to tell. Anything
//! outside of the small part (notes, tables, calls of one's own, other names) has no tree.

mod parse;

use std::time::Duration;

use railwatch_model::{Signal, SignalKind, Timestamp, Verdict};
use railwatch_plugin::history::{Dimension, Filter};
use railwatch_plugin::score::Case;

use crate::view::{kind_name, signal_number};

pub(crate) use parse::{condition, formula};

/// Parameters and locals of one function.
const LOCALS_MAX: usize = 48;

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PaymentText {
    Rail,
    Payee,
    Task,
    Session,
    Resource,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Spent,
    Count,
    Largest,
}

#[derive(Debug)]
enum Step {
    Local(usize, Node),
    ReturnIf(Node, Vec<Node>),
    Return(Vec<Node>),
}

/// A function of the small part.
#[derive(Debug)]
pub(crate) struct Native {
    steps: Vec<Step>,
}

/// The machine must be asked.
struct Bail;

type Answer<'a> = Result<Val<'a>, Bail>;

/// What a tree is evaluated on.
struct Frame<'a, 'b> {
    case: &'b Case<'a>,
    locals: [Val<'b>; LOCALS_MAX],
}

impl Native {
    /// False if the condition certainly does not hold.
    pub(crate) fn may_hold(&self, case: &Case<'_>) -> bool {
        let mut frame = Frame { case, locals: [Val::Nil; LOCALS_MAX] };
        match self.run(&mut frame) {
            Ok([result]) => !matches!(frame.eval(result), Ok(Val::Bool(false) | Val::Nil)),
            Ok(_) | Err(Bail) => true,
        }
    }

    /// The numbers that a formula returns for these inputs; `None` if the machine must be asked.
    pub(crate) fn numbers(&self, case: &Case<'_>, inputs: &[f64], numbers: &mut Vec<f64>) -> Option<()> {
        let mut frame = Frame { case, locals: [Val::Nil; LOCALS_MAX] };
        for (local, input) in frame.locals.iter_mut().zip(inputs) {
            *local = Val::Num(*input);
        }
        for result in self.run(&mut frame).ok()? {
            let Ok(Val::Num(number)) = frame.eval(result) else { return None };
            numbers.push(number);
        }
        Some(())
    }

    fn run<'b>(&'b self, frame: &mut Frame<'_, 'b>) -> Result<&'b [Node], Bail> {
        for step in &self.steps {
            match step {
                Step::Local(place, node) => {
                    let value = frame.eval(node)?;
                    *frame.locals.get_mut(*place).ok_or(Bail)? = value;
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

impl<'b> Frame<'_, 'b> {
    fn eval(&self, node: &'b Node) -> Answer<'b> {
        let case = self.case;
        Ok(match node {
            Node::Number(number) => Val::Num(*number),
            Node::Text(text) => Val::Text(text),
            Node::Usd(nanos) => Val::Usd(*nanos),
            Node::Bool(flag) => Val::Bool(*flag),
            Node::Nil => Val::Nil,
            Node::Local(place) => *self.locals.get(*place).ok_or(Bail)?,
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
            Node::Math(function, args) => Val::Num(self.math(*function, args)?),
        })
    }

    fn payment_text(&self, field: PaymentText) -> Val<'b> {
        let Some(payment) = self.case.payment else { return Val::Nil };
        let text = match field {
            PaymentText::Rail => Some(&payment.rail),
            PaymentText::Source => Some(&payment.source),
            PaymentText::Payee => payment.payee.as_ref(),
            PaymentText::Task => payment.task.as_ref(),
            PaymentText::Session => payment.session.as_ref(),
            PaymentText::Resource => payment.resource.as_ref(),
        };
        text.map_or(Val::Nil, |text| Val::Text(text))
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

    /// Comparisons in the machine's own order, so that what is not a number comes out the same.
    fn math(&self, function: Math, args: &'b [Node]) -> Result<f64, Bail> {
        let mut best: Option<f64> = None;
        for arg in args {
            let Val::Num(number) = self.eval(arg)? else { return Err(Bail) };
            best = match (best, function) {
                (Some(so_far), Math::Max) if !is_above(number, so_far) => Some(so_far),
                (Some(so_far), Math::Min) if !is_above(so_far, number) => Some(so_far),
                _ => Some(number),
            };
        }
        let number = best.ok_or(Bail)?;
        Ok(match function {
            Math::Max | Math::Min => number,
            Math::Log => number.ln(),
            Math::Exp => number.exp(),
            Math::Abs => number.abs(),
            Math::Sqrt => number.sqrt(),
        })
    }
}

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
