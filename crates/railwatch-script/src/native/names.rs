//! What names mean in the small part: parameters and what they have, constants, the functions of `math`.

use std::time::Duration;

use railwatch_model::{SignalKind, Usd};
use railwatch_plugin::history::Dimension;

use super::parse::Parser;
use super::token::Token;
use super::{Calendar, Math, Node, PaymentText, Question, whole};
use crate::time::FIELDS;
use crate::view::{KINDS, SIGNAL_NUMBERS, WINDOW_MAX};

impl Parser {
    pub(super) fn named(&mut self, name: &str) -> Option<Node> {
        if let Some(place) = self.locals.iter().rposition(|local| local == name) {
            self.at += 1;
            return Some(Node::Local(place));
        }
        if self.payment.as_deref() == Some(name) {
            self.at += 1;
            return self.payment_field();
        }
        if self.agent.as_deref() == Some(name) {
            self.at += 1;
            return self.agent_member();
        }
        if self.notes.as_deref() == Some(name) {
            self.at += 1;
            return self.key().map(Node::Note);
        }
        if let Some((_, function)) = self.aliases.iter().find(|(alias, _)| alias == name) {
            let function = *function;
            self.at += 1;
            return self.call(function);
        }
        match name {
            "math" => {
                let function = self.math()?;
                self.call(function)
            }
            "string" => {
                self.at += 1;
                self.prefix()
            }
            "nil" | "true" | "false" => {
                self.at += 1;
                Some(if name == "nil" { Node::Nil } else { Node::Bool(name == "true") })
            }
            "usd" | "duration" => {
                self.at += 1;
                self.take("(").then_some(())?;
                let node = if name == "usd" {
                    self.dollars()?
                } else {
                    Node::Number(span(&self.text()?)?.as_secs_f64())
                };
                self.take(")").then_some(node)
            }
            _ => None,
        }
    }

    fn call(&mut self, function: Math) -> Option<Node> {
        self.take("(").then_some(())?;
        let args = self.list()?;
        let is_one = args.len() == 1;
        (self.take(")") && (is_one || matches!(function, Math::Max | Math::Min))).then_some(())?;
        Some(Node::Math(function, args))
    }

    /// `string.sub(text, 1, 100)`.
    fn prefix(&mut self) -> Option<Node> {
        (self.take(".") && self.take_name("sub") && self.take("(")).then_some(())?;
        let text = self.expression()?;
        (self.take(",") && self.number()? == 1.0 && self.take(",")).then_some(())?;
        let len = usize::try_from(whole(self.number()?)?).ok()?;
        self.take(")").then(|| Node::Prefix(Box::new(text), len))
    }

    fn number(&mut self) -> Option<f64> {
        let Some(Token::Number(number)) = self.peek() else { return None };
        let number = *number;
        self.at += 1;
        Some(number)
    }

    /// The constant in `usd(…)`.
    fn dollars(&mut self) -> Option<Node> {
        let text = match self.peek()?.clone() {
            Token::Number(number) => number.to_string(),
            Token::Text(text) => text.trim().trim_start_matches('$').replace(',', ""),
            Token::Name(_) | Token::Symbol(_) => return None,
        };
        self.at += 1;
        Usd::parse(&text).ok().map(|usd| Node::Usd(usd.nanos()))
    }

    fn payment_field(&mut self) -> Option<Node> {
        self.take(".").then_some(())?;
        Some(match self.name()?.as_str() {
            "at" => Node::At,
            "usd" => Node::PaymentUsd,
            "kind" => Node::PaymentKind,
            "rail" => Node::PaymentText(PaymentText::Rail),
            "payee" => Node::PaymentText(PaymentText::Payee),
            "task" => Node::PaymentText(PaymentText::Task),
            "session" => Node::PaymentText(PaymentText::Session),
            "resource" => Node::PaymentText(PaymentText::Resource),
            "source" => Node::PaymentText(PaymentText::Source),
            "parent" => Node::PaymentText(PaymentText::Parent),
            "status" => Node::PaymentText(PaymentText::Status),
            "direction" => Node::PaymentText(PaymentText::Direction),
            "via" => Node::PaymentText(PaymentText::Via),
            _ => return None,
        })
    }

    fn agent_member(&mut self) -> Option<Node> {
        if self.take(":") {
            return self.agent_method();
        }
        self.take(".").then_some(())?;
        let field = self.name()?;
        Some(match field.as_str() {
            "score" => Node::Score,
            "unmapped" => Node::Unmapped,
            "first_seen_at" => Node::FirstSeen,
            "previous_at" => Node::Previous,
            kind if KINDS.contains(&kind) => {
                self.take(".").then_some(())?;
                let kind = SignalKind::from_name(kind);
                match self.name()?.as_str() {
                    "firing" => Node::SignalFiring(kind),
                    number if SIGNAL_NUMBERS.contains(&number) => Node::SignalNumber(kind, number.into()),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn agent_method(&mut self) -> Option<Node> {
        let method = self.name()?;
        self.take("(").then_some(())?;
        let node = match method.as_str() {
            "spent" => self.window(Question::Spent)?,
            "count" => self.window(Question::Count)?,
            "largest" => self.window(Question::Largest)?,
            "declined" => Node::Declined(span(&self.text()?)?),
            "distinct" => {
                let window = span(&self.text()?)?;
                self.take(",").then_some(())?;
                Node::Distinct(window, dimension(&self.text()?)?)
            }
            "is_new" => {
                let dimension = dimension(&self.text()?)?;
                self.take(",").then_some(())?;
                Node::IsNew(dimension, Box::new(self.expression()?))
            }
            _ => return None,
        };
        self.take(")").then_some(node)
    }

    fn window(&mut self, question: Question) -> Option<Node> {
        let window = span(&self.text()?)?;
        let by = if self.take(",") {
            let dimension = dimension(&self.text()?)?;
            self.take(",").then_some(())?;
            Some((dimension, Box::new(self.expression()?)))
        } else {
            None
        };
        Some(Node::Window(question, window, by))
    }

    /// `p.at:hour()`, in UTC; `p.usd:is_multiple_of(usd(1))`.
    pub(super) fn method(&mut self, receiver: Node) -> Option<Node> {
        self.take(":").then_some(())?;
        let name = self.name()?;
        if name == "is_multiple_of" {
            self.take("(").then_some(())?;
            let unit = self.expression()?;
            return self.take(")").then(|| Node::IsMultiple(Box::new(receiver), Box::new(unit)));
        }
        let (_, field) = FIELDS.iter().find(|(known, _)| *known == name)?;
        (self.take("(") && self.take(")")).then_some(())?;
        let calendar: Calendar = *field;
        Some(Node::Calendar(calendar, Box::new(receiver)))
    }
}

fn span(text: &str) -> Option<Duration> {
    let span = text.parse::<railwatch_plugin::config::Span>().ok()?.0;
    (span <= WINDOW_MAX).then_some(span)
}

fn dimension(name: &str) -> Option<Dimension> {
    match name {
        "rail" => Some(Dimension::Rail),
        "payee" => Some(Dimension::Payee),
        "task" => Some(Dimension::Task),
        _ => None,
    }
}
