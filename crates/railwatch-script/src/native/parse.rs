//! From the text of a function to its tree; `None` for whatever is outside of the small part.

use std::time::Duration;

use railwatch_model::{SignalKind, Usd};
use railwatch_plugin::history::Dimension;

use super::{Calendar, LOCALS_MAX, Math, Native, Node, Op, PaymentText, Question, Step};
use crate::time::FIELDS;
use crate::view::{KINDS, SIGNAL_NUMBERS, WINDOW_MAX};

/// How deep expressions may be nested.
const DEPTH_MAX: usize = 40;

/// The tree of the condition `when = function(p, a) … end` that begins in line `line` of `source`.
pub(crate) fn condition(source: &str, line: usize) -> Option<Native> {
    let mut parser = Parser::at_function(source, line, "when")?;
    let params = parser.params()?;
    let [payment, agent] = params.as_slice() else { return None };
    parser.payment = Some(payment.clone());
    parser.agent = Some(agent.clone());
    parser.body(&[1])
}

/// The tree of the formula `formula = function(…) … end` that begins in line `line` of `source`: numbers in, `n_parts`
/// numbers out.
pub(crate) fn formula(source: &str, line: usize, n_parts: usize) -> Option<Native> {
    let mut parser = Parser::at_function(source, line, "formula")?;
    parser.locals = parser.params()?;
    parser.body(&[n_parts])
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Number(f64),
    Text(String),
    Symbol(&'static str),
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "==", "~=", "<=", ">=", "..", "//", "(", ")", "{", "}", "[", "]", ",", ".", ":", "=", "<", ">", "+", "-",
    "*", "/", "%", "^", "#", ";",
];

fn tokens(source: &str) -> Option<Vec<(usize, Token)>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let len = if first == '\n' {
            line += 1;
            1
        } else if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("--") {
            if rest.starts_with("--[") {
                return None;
            }
            rest.find('\n').unwrap_or(rest.len())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push((line, Token::Name(rest.get(..len)?.to_owned())));
            len
        } else if first.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
            let text = rest.get(..len)?;
            // Other ways to write a number are left to the machine.
            if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                return None;
            }
            tokens.push((line, Token::Number(text.parse().ok()?)));
            len
        } else if first == '"' || first == '\'' {
            let len = rest.get(1..)?.find(first)?;
            let text = rest.get(1..=len)?;
            if text.contains(['\\', '\n']) {
                // An escaped quote would end it too early; a text of several lines is none.
                return None;
            }
            tokens.push((line, Token::Text(text.to_owned())));
            len + 2
        } else if first == '`' {
            let len = rest.get(1..)?.find('`')?;
            line += rest.get(1..=len)?.matches('\n').count();
            tokens.push((line, Token::Symbol("`")));
            len + 2
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol))?;
            tokens.push((line, Token::Symbol(symbol)));
            symbol.len()
        };
        rest = rest.get(len..)?;
    }
    Some(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// What the parameters are called.
    payment: Option<String>,
    agent: Option<String>,
    locals: Vec<String>,
    /// Names that the file gives to functions of `math`.
    aliases: Vec<(String, Math)>,
}

impl Parser {
    /// A parser behind `key = function` in that line. What stands before it may give names to functions of `math`; a
    /// file that gives other names to anything is left to the machine.
    fn at_function(source: &str, line: usize, key: &str) -> Option<Self> {
        let all = tokens(source)?;
        let starts = |at: &usize| {
            let is = |offset: usize, token: Token| all.get(at + offset).is_some_and(|found| found.1 == token);
            all.get(*at).is_some_and(|found| found.0 == line)
                && is(0, Token::Name(key.to_owned()))
                && is(1, Token::Symbol("="))
                && is(2, Token::Name("function".to_owned()))
        };
        let mut found = (0..all.len()).filter(starts);
        let start = found.next()?;
        if found.next().is_some() {
            return None;
        }
        let tokens = all.into_iter().map(|(_, token)| token).collect();
        let (payment, agent, locals) = (None, None, Vec::new());
        let mut parser = Self { tokens, at: 0, depth: 0, payment, agent, locals, aliases: Vec::new() };
        while parser.take_name("local") {
            parser.alias()?;
        }
        let declares = |token: &Token| matches!(token, Token::Name(name) if ["local", "function"].contains(&name.as_str()));
        // Further declarations before the function could be anything: other rules of a list among them.
        if parser.tokens.get(parser.at..start)?.iter().any(declares) {
            return None;
        }
        parser.at = start + 3;
        Some(parser)
    }

    /// `a, b = math.x, math.y`.
    fn alias(&mut self) -> Option<()> {
        let names = self.names()?;
        self.take("=").then_some(())?;
        for (index, name) in names.into_iter().enumerate() {
            if index > 0 {
                self.take(",").then_some(())?;
            }
            let function = self.math()?;
            self.aliases.push((name, function));
        }
        Some(())
    }

    /// `math.max`, not called.
    fn math(&mut self) -> Option<Math> {
        (self.take_name("math") && self.take(".")).then_some(())?;
        match self.name()?.as_str() {
            "max" => Some(Math::Max),
            "min" => Some(Math::Min),
            "log" => Some(Math::Log),
            "exp" => Some(Math::Exp),
            "abs" => Some(Math::Abs),
            "sqrt" => Some(Math::Sqrt),
            _ => None,
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<String> {
        let Some(Token::Name(name)) = self.peek().cloned() else { return None };
        self.at += 1;
        Some(name)
    }

    fn text(&mut self) -> Option<String> {
        let Some(Token::Text(text)) = self.peek().cloned() else { return None };
        self.at += 1;
        Some(text)
    }

    fn names(&mut self) -> Option<Vec<String>> {
        let mut names = vec![self.name()?];
        while self.take(",") {
            names.push(self.name()?);
        }
        Some(names)
    }

    fn params(&mut self) -> Option<Vec<String>> {
        self.take("(").then_some(())?;
        let names = self.names()?;
        self.take(")").then_some(names)
    }

    /// Statements up to `end`; each `return` gives as many results as one of `counts` says.
    fn body(mut self, counts: &[usize]) -> Option<Native> {
        let mut steps = Vec::new();
        loop {
            let step = if self.take_name("local") {
                let name = self.name()?;
                self.take("=").then_some(())?;
                let value = self.expression()?;
                (self.locals.len() < LOCALS_MAX).then_some(())?;
                self.locals.push(name);
                Step::Local(self.locals.len() - 1, value)
            } else if self.take_name("if") {
                let condition = self.expression()?;
                (self.take_name("then") && self.take_name("return")).then_some(())?;
                let results = self.list()?;
                self.take_name("end").then_some(())?;
                Step::ReturnIf(condition, results)
            } else if self.take_name("return") {
                Step::Return(self.list()?)
            } else {
                return None;
            };
            let is_last = matches!(step, Step::Return(_));
            if let Step::Return(results) | Step::ReturnIf(_, results) = &step
                && !counts.contains(&results.len())
            {
                return None;
            }
            steps.push(step);
            if is_last {
                return self.take_name("end").then_some(Native { steps });
            }
        }
    }

    fn list(&mut self) -> Option<Vec<Node>> {
        let mut nodes = vec![self.expression()?];
        while self.take(",") {
            nodes.push(self.expression()?);
        }
        Some(nodes)
    }

    fn expression(&mut self) -> Option<Node> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())?;
        let node = if self.take_name("if") { self.choice()? } else { self.or()? };
        self.depth -= 1;
        Some(node)
    }

    fn choice(&mut self) -> Option<Node> {
        let condition = self.expression()?;
        self.take_name("then").then_some(())?;
        let then = self.expression()?;
        self.take_name("else").then_some(())?;
        let other = self.expression()?;
        Some(Node::Choice(Box::new(condition), Box::new(then), Box::new(other)))
    }

    fn or(&mut self) -> Option<Node> {
        let mut left = self.and()?;
        while self.take_name("or") {
            left = Node::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Node> {
        let mut left = self.comparison()?;
        while self.take_name("and") {
            left = Node::And(Box::new(left), Box::new(self.comparison()?));
        }
        Some(left)
    }

    fn comparison(&mut self) -> Option<Node> {
        let mut left = self.sum()?;
        loop {
            let (op, swapped) = match self.peek() {
                Some(Token::Symbol("==")) => (Op::Equal, false),
                Some(Token::Symbol("~=")) => (Op::Differs, false),
                Some(Token::Symbol("<")) => (Op::Less, false),
                Some(Token::Symbol("<=")) => (Op::AtMost, false),
                Some(Token::Symbol(">")) => (Op::Less, true),
                Some(Token::Symbol(">=")) => (Op::AtMost, true),
                _ => return Some(left),
            };
            self.at += 1;
            let right = self.sum()?;
            let (l, r) = if swapped { (right, left) } else { (left, right) };
            left = Node::Binary(op, Box::new(l), Box::new(r));
        }
    }

    fn sum(&mut self) -> Option<Node> {
        let mut left = self.product()?;
        loop {
            let op = if self.take("+") {
                Op::Add
            } else if self.take("-") {
                Op::Subtract
            } else {
                return Some(left);
            };
            left = Node::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Option<Node> {
        let mut left = self.unary()?;
        loop {
            let op = if self.take("*") {
                Op::Multiply
            } else if self.take("/") {
                Op::Divide
            } else {
                return Some(left);
            };
            left = Node::Binary(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Option<Node> {
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())?;
        let node = if self.take_name("not") {
            Node::Not(Box::new(self.unary()?))
        } else if self.take("-") {
            Node::Negate(Box::new(self.unary()?))
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Some(node)
    }

    fn primary(&mut self) -> Option<Node> {
        let node = match self.peek()?.clone() {
            Token::Number(number) => {
                self.at += 1;
                Node::Number(number)
            }
            Token::Text(text) => {
                self.at += 1;
                Node::Text(text.into())
            }
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.expression()?;
                self.take(")").then_some(inner)?
            }
            Token::Symbol(_) => return None,
            Token::Name(name) => self.named(&name)?,
        };
        // Whatever is called, indexed or joined on is outside.
        match self.peek() {
            Some(Token::Symbol(":")) => self.method(node),
            Some(Token::Symbol("." | "[" | "(" | ".." | "^" | "%" | "//" | "{")) | Some(Token::Text(_)) => {
                None
            }
            _ => Some(node),
        }
    }

    fn named(&mut self, name: &str) -> Option<Node> {
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

    /// `p.at:hour()`, in UTC.
    fn method(&mut self, receiver: Node) -> Option<Node> {
        self.take(":").then_some(())?;
        let name = self.name()?;
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
