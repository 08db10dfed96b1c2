//! Parsed TOML that remembers where every key and value stands, and the merging of several files into one tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Place};

/// A value, where it stands, and the key that names it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the key stands (a table's header), or the value itself for the elements of an array.
    pub(super) key: Place,
    /// Where the value stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: Value,
}

/// A TOML value. Dates are kept as texts: everything that reads a time reads RFC 3339.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// One step of a key path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A key path as people read it: `agents[3].match."evm.address"`.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => write!(text, "[{index}]").expect("a String grows"),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !key.is_empty() && key.chars().all(bare) {
                    text.push_str(key);
                } else {
                    write!(text, "{key:?}").expect("a String grows");
                }
            }
        }
    }
    text
}

impl Value {
    /// The kind, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// An empty table at the very beginning of a file.
    pub(super) fn root(file: usize) -> Self {
        let place = Place { file, start: 0, end: 0 };
        Self { key: place, place, value: Value::Table(BTreeMap::new()) }
    }

    pub(super) fn table(&self) -> Option<&BTreeMap<String, Self>> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    pub(super) fn array(&self) -> Option<&[Self]> {
        if let Value::Array(array) = &self.value { Some(array) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The child under `key` of a table.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        self.table()?.get(key)
    }

    /// The elements under `key`, for the arrays of tables at the top.
    pub(super) fn elements(&self, key: &str) -> &[Self] {
        self.child(key).and_then(Self::array).unwrap_or_default()
    }

    /// The deepest node that a serde-style path (`verify.header`, `match.evm.address[0]`) leads to, and the steps that
    /// were found. Keys may contain dots.
    pub(super) fn locate(&self, path: &str) -> (&Self, Vec<Step>) {
        let (mut node, mut rest, mut steps) = (self, path, Vec::new());
        loop {
            rest = rest.trim_start_matches('.');
            let Some((next, step, tail)) = node.step(rest) else { return (node, steps) };
            steps.push(step);
            (node, rest) = (next, tail);
        }
    }

    fn step<'a, 'p>(&'a self, rest: &'p str) -> Option<(&'a Self, Step, &'p str)> {
        match &self.value {
            Value::Table(table) => {
                let fits = |key: &str| {
                    let tail = rest.strip_prefix(key)?;
                    (tail.is_empty() || tail.starts_with(['.', '['])).then_some(tail)
                };
                let best = table.iter().filter_map(|(key, node)| fits(key).map(|tail| (key, node, tail)));
                let (key, node, tail) = best.max_by_key(|(key, ..)| key.len())?;
                Some((node, Step::Key(key.clone()), tail))
            }
            Value::Array(array) => {
                let (index, tail) = rest.strip_prefix('[')?.split_once(']')?;
                let index = index.parse().ok()?;
                Some((array.get(index)?, Step::Index(index), tail))
            }
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => None,
        }
    }

    /// The plain TOML value.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Text(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Float(number) => toml::Value::Float(*number),
            Value::Boolean(flag) => toml::Value::Boolean(*flag),
            Value::Array(array) => toml::Value::Array(array.iter().map(Self::to_toml).collect()),
            Value::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_toml())).collect())
            }
        }
    }
}

/// Parses one file. Everything that could be understood is in the tree even if there are errors; `fatal` is true if
/// an error is one that leaves the rest of the tree in doubt.
pub(super) struct Parsed {
    pub(super) root: Node,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) fatal: bool,
}

/// Parses the text of file number `file`.
pub(super) fn parse(file: usize, text: &str) -> Parsed {
    let (table, toml_errors) = DeTable::parse_recoverable(text);
    let mut errors = Vec::new();
    let mut root = Node::root(file);
    root.value = read_table(file, table.get_ref(), &mut errors);
    let mut fatal = false;
    for error in toml_errors {
        let span = error.span().unwrap_or(0..0);
        let place = Place { file, start: span.start, end: span.end };
        if error.message() == "duplicate key" {
            let name = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
            let mut duplicate =
                Diagnostic::error("", format!("{name} is defined twice"), place).label("defined again here");
            let first = earlier_key(&root, name, span.start);
            if let Some(first) = first.or_else(|| earlier_header(file, text, span)) {
                duplicate = duplicate.related(first, "first defined here");
            }
            errors.push(duplicate);
        } else {
            fatal = true;
            errors.push(Diagnostic::error("", "this is not TOML", place).label(error.message()));
        }
    }
    Parsed { root, errors, fatal }
}

fn read_table(file: usize, table: &DeTable<'_>, errors: &mut Vec<Diagnostic>) -> Value {
    let mut entries = BTreeMap::new();
    for (key, value) in table.iter() {
        let span = key.span();
        let key_place = Place { file, start: span.start, end: span.end };
        let node = read_value(file, Some(key_place), value, errors);
        entries.insert(key.get_ref().to_string(), node);
    }
    Value::Table(entries)
}

fn read_value(
    file: usize,
    key: Option<Place>,
    value: &toml::Spanned<DeValue<'_>>,
    errors: &mut Vec<Diagnostic>,
) -> Node {
    let span = value.span();
    let place = Place { file, start: span.start, end: span.end };
    let mut too_large = |what: &str| {
        errors.push(Diagnostic::error("", format!("this {what} is too large"), place).label("does not fit"));
    };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Integer(number) => {
            let read = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(read.unwrap_or_else(|_| {
                too_large("integer");
                0
            }))
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => {
                too_large("float");
                Value::Float(0.0)
            }
        },
        DeValue::Array(array) => {
            Value::Array(array.iter().map(|element| read_value(file, None, element, errors)).collect())
        }
        DeValue::Table(table) => read_table(file, table, errors),
    };
    Node { key: key.unwrap_or(place), place, value }
}

/// The key of this name that stands last before `before`: the parser does not say which one it kept.
fn earlier_key(node: &Node, name: &str, before: usize) -> Option<Place> {
    let children: Box<dyn Iterator<Item = (&str, &Node)>> = match &node.value {
        Value::Table(table) => Box::new(table.iter().map(|(key, node)| (key.as_str(), node))),
        Value::Array(array) => Box::new(array.iter().map(|node| ("", node))),
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => return None,
    };
    let found = children.flat_map(|(key, child)| {
        let own = (key == name && child.key.start < before).then_some(child.key);
        [own, earlier_key(child, name, before)]
    });
    found.flatten().max_by_key(|place| place.start)
}

/// The first line that is the same as the one with `span`: of a table's two headers the parser keeps the second.
fn earlier_header(file: usize, text: &str, span: std::ops::Range<usize>) -> Option<Place> {
    let line_start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let header = text.get(line_start..)?.lines().next()?.trim();
    let mut start = 0_usize;
    for line in text.get(..line_start)?.split_inclusive('\n') {
        if line.trim() == header {
            return Some(Place { file, start, end: start.saturating_add(line.trim_end().len()) });
        }
        start = start.saturating_add(line.len());
    }
    None
}

/// Adds a further file's tree. Tables merge, arrays of tables at the top are joined, and a key that both define is an
/// error that shows both places.
pub(super) fn merge(into: &mut Node, from: Node, errors: &mut Vec<Diagnostic>) {
    merge_at(into, from, &mut Vec::new(), errors);
}

fn merge_at(into: &mut Node, from: Node, path: &mut Vec<Step>, errors: &mut Vec<Diagnostic>) {
    let first = into.key;
    match (&mut into.value, from.value) {
        (Value::Table(old), Value::Table(new)) => {
            for (key, node) in new {
                path.push(Step::Key(key.clone()));
                match old.entry(key) {
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(node);
                    }
                    std::collections::btree_map::Entry::Occupied(mut entry) => {
                        merge_at(entry.get_mut(), node, path, errors);
                    }
                }
                path.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) if path.len() == 1 && all_tables(old) && all_tables(&new) => {
            old.extend(new);
        }
        _ => {
            let path = path_text(path);
            let message = format!("{path} is defined twice");
            let twice = Diagnostic::error(path, message, from.key)
                .label("defined again here")
                .related(first, "first defined here");
            errors.push(twice);
        }
    }
}

fn all_tables(array: &[Node]) -> bool {
    array.iter().all(|node| matches!(node.value, Value::Table(_)))
}
