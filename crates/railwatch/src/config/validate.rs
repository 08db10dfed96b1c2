//! Validates a tree by a JSON Schema and reports everything that is wrong with it, with places.
//!
//! It knows the keywords that schemars writes and the mark `x-railwatch`, which names the parser of a text. What it
//! does not know it lets pass: reading a section with serde has the last word.

use std::collections::BTreeSet;
use std::path::PathBuf;

use railwatch_plugin::secret::SecretRef;
use serde_json::{Map, Value as Json};

use super::diagnostic::{Diagnostic, Place, did_you_mean};
use super::tree::{Node, Step, Value, path_text};
use super::values;

/// What a walk over the tree found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Diagnostic>,
    /// References to secrets, with their key paths.
    pub(super) secrets: Vec<(String, Place, SecretRef)>,
    /// Values that may be secrets themselves; excerpts hide them.
    pub(super) masks: Vec<Place>,
}

/// Validates `node` by `schema`, whose `$ref`s lead into `root`.
pub(super) fn validate(root: &Json, schema: &Json, node: &Node) -> Findings {
    let mut walk = Walk { root, path: Vec::new(), found: Findings::default() };
    walk.visit(schema, node);
    walk.found
}

/// Composition deeper than this is a loop of references.
const DEPTH_MAX: usize = 64;

struct Walk<'a> {
    root: &'a Json,
    path: Vec<Step>,
    found: Findings,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Json, node: &Node) {
        self.visit_at(schema, node, 0);
    }

    fn visit_at(&mut self, schema: &'a Json, node: &Node, depth: usize) {
        let Some(schema) = schema.as_object().filter(|_| depth < DEPTH_MAX) else { return };
        if schema.get("x-railwatch").and_then(Json::as_str) == Some("secret") {
            return self.secret(node);
        }
        if let Some(target) = schema.get("$ref").and_then(Json::as_str).and_then(|name| self.resolve(name)) {
            self.visit_at(target, node, depth + 1);
        }
        if !self.check_kind(schema, node) {
            return;
        }
        self.check_choice(schema, node);
        match &node.value {
            Value::Table(_) => self.check_table(schema, node),
            Value::Array(elements) => self.check_array(schema, node, elements),
            Value::Text(text) => self.check_text(schema, node, text),
            #[expect(clippy::cast_precision_loss, reason = "limits in schemas are far below 2^53")]
            Value::Integer(number) => self.check_number(schema, node, *number as f64),
            Value::Float(number) => self.check_number(schema, node, *number),
            Value::Boolean(_) => {}
        }
        for part in array(schema, "allOf") {
            self.visit_at(part, node, depth + 1);
        }
        for combinator in ["anyOf", "oneOf"] {
            self.check_any(array(schema, combinator), node, depth);
        }
        if let (Some(condition), Some(then)) = (schema.get("if"), schema.get("then"))
            && self.trial(condition, node, depth).errors.is_empty()
        {
            self.visit_at(then, node, depth + 1);
        }
    }

    fn resolve(&self, reference: &str) -> Option<&'a Json> {
        let name = reference.strip_prefix("#/$defs/")?;
        self.root.get("$defs")?.get(name)
    }

    fn error(&mut self, message: String, place: Place, label: impl Into<String>, help: Option<String>) {
        let error = Diagnostic::error(path_text(&self.path), message, place).label(label).help(help);
        self.found.errors.push(error);
    }

    /// Where we are, for messages: the key in quotes, or the file.
    fn name(&self) -> String {
        match self.path.is_empty() {
            true => "the file".to_owned(),
            false => format!("`{}`", path_text(&self.path)),
        }
    }

    fn check_kind(&mut self, schema: &Map<String, Json>, node: &Node) -> bool {
        let kinds = kinds(schema);
        if kinds.is_empty() || kinds.iter().any(|kind| is_kind(&node.value, kind)) {
            return true;
        }
        let expected = expected(schema, &kinds);
        let message = format!("{} must be {expected}, not {}", self.name(), node.value.kind());
        self.error(message, node.place, format!("expected {expected}"), None);
        false
    }

    fn check_choice(&mut self, schema: &Map<String, Json>, node: &Node) {
        let mut choices: Vec<&Json> = array(schema, "enum").iter().collect();
        choices.extend(schema.get("const"));
        choices.retain(|choice| !choice.is_null());
        if choices.is_empty() || choices.iter().any(|choice| equals(choice, &node.value)) {
            return;
        }
        let names: Vec<&str> = choices.iter().filter_map(|choice| choice.as_str()).collect();
        self.wrong_choice(&names, node);
    }

    fn wrong_choice(&mut self, names: &[&str], node: &Node) {
        let written = node.text().unwrap_or_default();
        let message = format!("{} cannot be {}", self.name(), shown(node));
        let label = if names.is_empty() { "not one of the choices".to_owned() } else { one_of(names) };
        self.error(message, node.place, label, did_you_mean(written, names.iter().copied()));
    }

    fn check_table(&mut self, schema: &'a Map<String, Json>, node: &Node) {
        let Some(table) = node.table() else { return };
        let properties = schema.get("properties").and_then(Json::as_object);
        for required in array(schema, "required").iter().filter_map(Json::as_str) {
            if !table.contains_key(required) {
                self.missing(required, properties, node);
            }
        }
        let known = self.known_keys(schema);
        for (key, child) in table {
            self.path.push(Step::Key(key.clone()));
            if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                self.visit(property, child);
            } else {
                match schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties")) {
                    Some(Json::Bool(false)) if !known.contains(key.as_str()) => {
                        self.unknown(&known, key, child)
                    }
                    Some(rest) => self.visit(rest, child),
                    None => {}
                }
            }
            self.path.pop();
        }
    }

    fn missing(&mut self, key: &str, properties: Option<&Map<String, Json>>, node: &Node) {
        let property = properties.and_then(|properties| properties.get(key));
        let about = property.and_then(|property| property.get("description")).and_then(Json::as_str);
        let message = format!("{} has no key `{key}`", self.name());
        let table = node.table().into_iter().flatten();
        let similar = table.map(|(key, _)| key.as_str()).find(|other| did_you_mean(other, [key]).is_some());
        let help = match (similar, about) {
            (Some(similar), _) => Some(format!("is `{similar}` meant to be `{key}`?")),
            (None, Some(about)) => Some(format!("`{key}`: {}", about.replace('\n', " "))),
            (None, None) => None,
        };
        self.error(message, node.key, format!("add `{key} = …`"), help);
    }

    fn unknown(&mut self, known: &BTreeSet<&str>, key: &str, child: &Node) {
        if looks_secret(key) {
            self.found.masks.push(child.place);
        }
        let parent = path_text(self.path.split_last().map_or(&[], |(_, parent)| parent));
        let place = if parent.is_empty() { "the file".to_owned() } else { format!("`{parent}`") };
        let list = known.iter().take(24).copied().collect::<Vec<_>>().join(", ");
        let help = did_you_mean(key, known.iter().copied()).or(match known.len() {
            0 => None,
            _ => Some(format!("known keys: {list}")),
        });
        self.error(
            format!("unknown key `{key}` in {place}"),
            child.key,
            "not a key that is known here",
            help,
        );
    }

    /// The keys that a schema and the schemas that it is composed of know.
    fn known_keys(&self, schema: &'a Map<String, Json>) -> BTreeSet<&'a str> {
        let mut known = BTreeSet::new();
        self.collect_keys(schema, &mut known, 0);
        known
    }

    fn collect_keys(&self, schema: &'a Map<String, Json>, known: &mut BTreeSet<&'a str>, depth: usize) {
        let properties = schema.get("properties").and_then(Json::as_object);
        known.extend(properties.into_iter().flat_map(Map::keys).map(String::as_str));
        let parts = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|combinator| array(schema, combinator));
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|name| self.resolve(name));
        for part in parts.chain(target).filter_map(Json::as_object).filter(|_| depth < DEPTH_MAX) {
            self.collect_keys(part, known, depth + 1);
        }
    }

    fn check_array(&mut self, schema: &'a Map<String, Json>, node: &Node, elements: &[Node]) {
        if let Some(items) = schema.get("items") {
            for (index, element) in elements.iter().enumerate() {
                self.path.push(Step::Index(index));
                self.visit(items, element);
                self.path.pop();
            }
        }
        let len = u64::try_from(elements.len()).unwrap_or(u64::MAX);
        let min = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        let max = schema.get("maxItems").and_then(Json::as_u64).unwrap_or(u64::MAX);
        if len < min {
            self.error(format!("{} needs at least {min}", self.name()), node.place, "too few", None);
        } else if len > max {
            self.error(format!("{} may have at most {max}", self.name()), node.place, "too many", None);
        }
    }

    fn check_text(&mut self, schema: &Map<String, Json>, node: &Node, text: &str) {
        if let Some(Err(reason)) = mark(schema).and_then(|mark| values::check(mark, text)) {
            let (reason, help) = match reason.split_once("; did you mean") {
                Some((reason, hint)) => (reason.to_owned(), Some(format!("did you mean{hint}"))),
                None => (reason, None),
            };
            let (what, label) = match reason.split_once("; ") {
                Some((what, label)) => (what.to_owned(), label.to_owned()),
                None => (reason, format!("expected {}", expected(schema, &["string"]))),
            };
            return self.error(format!("{} is wrong: {what}", self.name()), node.place, label, help);
        }
        let len = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if len < schema.get("minLength").and_then(Json::as_u64).unwrap_or(0) {
            self.error(format!("{} must not be empty", self.name()), node.place, "expected some text", None);
        } else if schema.get("maxLength").and_then(Json::as_u64).is_some_and(|max| len > max) {
            self.error(format!("{} is too long", self.name()), node.place, "expected a shorter text", None);
        }
    }

    fn check_number(&mut self, schema: &Map<String, Json>, node: &Node, number: f64) {
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        let is_fraction = mark(schema) == Some("fraction");
        let min = bound("minimum").or(is_fraction.then_some(0.0));
        let max = bound("maximum").or(is_fraction.then_some(1.0));
        let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
        let inside = min.is_none_or(|min| number >= min)
            && max.is_none_or(|max| number <= max)
            && above.is_none_or(|above| number > above)
            && below.is_none_or(|below| number < below);
        if inside {
            return;
        }
        let bounds = [
            min.map(|min| format!("at least {min}")),
            above.map(|above| format!("above {above}")),
            max.map(|max| format!("at most {max}")),
            below.map(|below| format!("below {below}")),
        ];
        let bounds = bounds.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        self.error(
            format!("{} is out of range", self.name()),
            node.place,
            format!("expected {bounds}"),
            None,
        );
    }

    /// One of the branches must fit; if none does, what the closest one misses is reported.
    fn check_any(&mut self, branches: &'a [Json], node: &Node, depth: usize) {
        let branches: Vec<&'a Json> = branches.iter().filter(|branch| !self.is_null(branch)).collect();
        if branches.is_empty() {
            return;
        }
        let names = self.only_choices(&branches);
        if let (Some(names), Value::Text(text)) = (names, &node.value) {
            if !names.contains(&text.as_str()) {
                self.wrong_choice(&names, node);
            }
            return;
        }
        if let Some((tag, names)) = self.tag(&branches)
            && let Some(written) = node.child(tag)
            && !written.text().is_some_and(|written| names.contains(&written))
        {
            self.path.push(Step::Key(tag.to_owned()));
            self.wrong_choice(&names, written);
            self.path.pop();
            return;
        }
        let fitting: Vec<&'a Json> =
            branches.iter().copied().filter(|branch| self.accepts(branch, node, depth)).collect();
        if fitting.is_empty() {
            let expected = branches.iter().filter_map(|branch| self.deref(branch));
            let expected: BTreeSet<String> =
                expected.map(|branch| self::expected(branch, &kinds(branch))).collect();
            let expected = expected.into_iter().collect::<Vec<_>>().join(" or ");
            let message = format!("{} must be {expected}, not {}", self.name(), node.value.kind());
            return self.error(message, node.place, format!("expected {expected}"), None);
        }
        let tried = fitting.into_iter().map(|branch| self.trial(branch, node, depth));
        if let Some(best) = tried.min_by_key(|found| found.errors.len()) {
            self.found.errors.extend(best.errors);
            self.found.secrets.extend(best.secrets);
            self.found.masks.extend(best.masks);
        }
    }

    fn trial(&self, schema: &'a Json, node: &Node, depth: usize) -> Findings {
        let mut walk = Walk { root: self.root, path: self.path.clone(), found: Findings::default() };
        walk.visit_at(schema, node, depth + 1);
        walk.found
    }

    fn deref(&self, schema: &'a Json) -> Option<&'a Map<String, Json>> {
        let object = schema.as_object()?;
        match object.get("$ref").and_then(Json::as_str) {
            Some(name) => self.resolve(name)?.as_object(),
            None => Some(object),
        }
    }

    fn is_null(&self, schema: &'a Json) -> bool {
        schema.get("type").and_then(Json::as_str) == Some("null")
    }

    /// True if the node's kind is one of the branch's, so that its errors are worth showing.
    fn accepts(&self, schema: &'a Json, node: &Node, depth: usize) -> bool {
        let Some(schema) = self.deref(schema) else { return true };
        if schema.get("x-railwatch").and_then(Json::as_str) == Some("secret") {
            return true;
        }
        let parts = ["anyOf", "oneOf"].into_iter().flat_map(|combinator| array(schema, combinator));
        let mut parts = parts.peekable();
        if parts.peek().is_some() && depth < DEPTH_MAX {
            return parts.any(|part| self.accepts(part, node, depth + 1));
        }
        let kinds = kinds(schema);
        kinds.is_empty() || kinds.iter().any(|kind| is_kind(&node.value, kind))
    }

    /// The texts to choose from, if the branches are nothing but fixed texts.
    fn only_choices(&self, branches: &[&'a Json]) -> Option<Vec<&'a str>> {
        let mut names = Vec::new();
        for branch in branches {
            let branch = self.deref(branch)?;
            let before = names.len();
            names.extend(branch.get("const").and_then(Json::as_str));
            names.extend(array(branch, "enum").iter().filter_map(Json::as_str));
            for part in array(branch, "oneOf") {
                names.extend(self.only_choices(&[part])?);
            }
            if names.len() == before {
                return None;
            }
        }
        Some(names)
    }

    /// The key that tells the branches apart, with its values, if there is one.
    fn tag(&self, branches: &[&'a Json]) -> Option<(&'a str, Vec<&'a str>)> {
        let tag_of = |branch: &&'a Json| -> Option<(&'a str, &'a str)> {
            let properties = self.deref(branch)?.get("properties")?.as_object()?;
            let fixed = properties.iter().find_map(|(key, value)| Some((key, value.get("const")?.as_str()?)));
            fixed.map(|(key, value)| (key.as_str(), value))
        };
        let (tag, _) = tag_of(branches.first()?)?;
        let named = branches.iter().map(|branch| tag_of(branch).filter(|(key, _)| *key == tag));
        let names: Option<Vec<&str>> = named.map(|named| named.map(|(_, value)| value)).collect();
        Some((tag, names?))
    }

    fn secret(&mut self, node: &Node) {
        let how = "expected { env = \"NAME\" } or { file = \"/path\" }";
        let Some(table) = node.table() else {
            self.found.masks.push(node.place);
            let message = format!("{} holds a secret, which may not stand in the file itself", self.name());
            return self.error(
                message,
                node.place,
                how,
                Some("put it into an environment variable or a file".into()),
            );
        };
        let reference = match (table.get("env"), table.get("file")) {
            (Some(name), None) => name.text().map(|name| SecretRef::Env(name.to_owned())),
            (None, Some(path)) => path.text().map(|path| SecretRef::File(PathBuf::from(path))),
            _ => None,
        };
        match reference.filter(|_| table.len() == 1) {
            Some(reference) => self.found.secrets.push((path_text(&self.path), node.place, reference)),
            None => {
                self.found.masks.push(node.place);
                self.error(format!("{} is not a reference to a secret", self.name()), node.place, how, None);
            }
        }
    }
}

fn array<'a>(schema: &'a Map<String, Json>, key: &str) -> &'a [Json] {
    schema.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn kinds(schema: &Map<String, Json>) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(kind)) => vec![kind.as_str()],
        Some(Json::Array(kinds)) => {
            kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null").collect()
        }
        _ => Vec::new(),
    }
}

fn is_kind(value: &Value, kind: &str) -> bool {
    match value {
        Value::Text(_) => kind == "string",
        Value::Integer(_) => matches!(kind, "integer" | "number"),
        Value::Float(_) => kind == "number",
        Value::Boolean(_) => kind == "boolean",
        Value::Array(_) => kind == "array",
        Value::Table(_) => kind == "object",
    }
}

/// The mark that names a text's parser.
fn mark(schema: &Map<String, Json>) -> Option<&str> {
    let format = schema.get("format").and_then(Json::as_str).filter(|format| *format == "date-time");
    schema.get("x-railwatch").and_then(Json::as_str).or(format.map(|_| "time"))
}

/// What is expected, in words: what a marked text looks like, else the kinds.
fn expected(schema: &Map<String, Json>, kinds: &[&str]) -> String {
    if let Some(words) = mark(schema).and_then(values::expected) {
        return words.to_owned();
    }
    let words = kinds.iter().map(|kind| match *kind {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "a table",
        other => other,
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn one_of(names: &[&str]) -> String {
    format!("expected one of {}", names.join(", "))
}

fn equals(choice: &Json, value: &Value) -> bool {
    match value {
        Value::Text(text) => choice.as_str() == Some(text),
        Value::Integer(number) => choice.as_i64() == Some(*number),
        Value::Float(number) => choice.as_f64() == Some(*number),
        Value::Boolean(flag) => choice.as_bool() == Some(*flag),
        Value::Array(_) | Value::Table(_) => false,
    }
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(_) | Value::Table(_) => node.value.kind().to_owned(),
    }
}

/// True for keys whose value is probably a secret, whatever it is.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["secret", "token", "password", "passwd", "key", "auth", "macaroon", "credential"]
        .iter()
        .any(|word| key.contains(word))
}
