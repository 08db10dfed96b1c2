//! From the text of a function to its tree; `None` for whatever is outside of the small part.

use railwatch_model::SmolStr;

use super::token::{Token, tokens};
use super::{LOCALS_MAX, Math, Native, Node, Op, Step};
use crate::state::KEY_LEN_MAX;

/// How deep expressions may be nested.
const DEPTH_MAX: usize = 40;

/// The tree of the condition `when = function(p, a, state) … end` that begins in line `line` of `source`.
pub(crate) fn condition(source: &str, line: usize) -> Option<Native> {
    let mut parser = Parser::at_function(source, line, "when")?;
    let params = parser.params()?;
    let mut params = params.into_iter();
    (parser.payment, parser.agent, parser.notes) =
        (Some(params.next()?), Some(params.next()?), params.next());
    if params.next().is_some() {
        return None;
    }
    parser.body(&[1])
}

/// The tree of the formula `formula = function(…) … end` that begins in line `line` of `source`: numbers in, `n_parts`
/// numbers out.
pub(crate) fn formula(source: &str, line: usize, n_parts: usize) -> Option<Native> {
    let mut parser = Parser::at_function(source, line, "formula")?;
    parser.locals = parser.params()?;
    parser.body(&[n_parts])
}

#[derive(Default)]
pub(super) struct Parser {
    tokens: Vec<Token>,
    pub(super) at: usize,
    depth: usize,
    /// What the parameters are called.
    pub(super) payment: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) locals: Vec<String>,
    /// The keys of notes, each once.
    keys: Vec<SmolStr>,
    /// Names that the file gives to functions of `math`.
    pub(super) aliases: Vec<(String, Math)>,
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
        let mut parser = Self { tokens, ..Self::default() };
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
    pub(super) fn math(&mut self) -> Option<Math> {
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

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn take(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Option<String> {
        let Some(Token::Name(name)) = self.peek().cloned() else { return None };
        self.at += 1;
        Some(name)
    }

    pub(super) fn text(&mut self) -> Option<String> {
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
                let names = self.names()?;
                self.take("=").then_some(())?;
                let values = self.list()?;
                let first = self.locals.len();
                self.locals.extend(names);
                let n_names = self.locals.len() - first;
                (self.locals.len() <= LOCALS_MAX && n_names == values.len()).then_some(())?;
                Step::Locals(first, values)
            } else if self.notes.as_deref().is_some_and(|notes| self.is_name(notes)) {
                self.notes()?
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
                let n_locals = self.locals.len();
                return self.take_name("end").then_some(Native { steps, n_locals, keys: self.keys });
            }
        }
    }

    /// `state.a, state.b = x, y`, each key once.
    fn notes(&mut self) -> Option<Step> {
        let mut keys = Vec::new();
        loop {
            let name = self.name()?;
            (self.notes.as_ref() == Some(&name)).then_some(())?;
            let key = self.key()?;
            (!keys.contains(&key)).then_some(())?;
            keys.push(key);
            if !self.take(",") {
                break;
            }
        }
        self.take("=").then_some(())?;
        let values = self.list()?;
        (values.len() == keys.len()).then(|| Step::Notes(keys.into_iter().zip(values).collect()))
    }

    /// `.key`, the place of a key of notes.
    pub(super) fn key(&mut self) -> Option<usize> {
        self.take(".").then_some(())?;
        let key = self.name()?;
        (key.len() <= KEY_LEN_MAX).then_some(())?;
        Some(self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key.into());
            self.keys.len() - 1
        }))
    }

    pub(super) fn list(&mut self) -> Option<Vec<Node>> {
        let mut nodes = vec![self.expression()?];
        while self.take(",") {
            nodes.push(self.expression()?);
        }
        Some(nodes)
    }

    pub(super) fn expression(&mut self) -> Option<Node> {
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
}
