//! Field paths, and the trie that reads all of a message's wanted fields in one pass without building a tree.
//!
//! Values come out as slices of the message's own text: an amount keeps its decimal digits, and nothing is copied
//! that nobody asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use foldhash::fast::FixedState;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// One path or several, tried in order; the first that holds something wins.
///
/// A path is a JSON pointer (`/data/object/id`, with `~1` for a slash and `~0` for a tilde inside a key) or dotted
/// (`data.object.id`). A number selects an element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths(Vec<FieldPath>);

/// One path, split into keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    keys: Vec<Box<str>>,
}

impl FieldPath {
    /// Keys that a path may have.
    const DEPTH_MAX: usize = 16;

    /// Reads a JSON pointer or a dotted path; the error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys: Vec<Box<str>> = match text.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|key| key.replace("~1", "/").replace("~0", "~").into()).collect()
            }
            None => text.split('.').map(Into::into).collect(),
        };
        if text.is_empty() || keys.iter().any(|key| key.is_empty()) || keys.len() > Self::DEPTH_MAX {
            return Err(format!(
                "{text:?} is not a field path; write it like \"/data/id\" or \"data.id\" (at most {} keys)",
                Self::DEPTH_MAX
            ));
        }
        Ok(Self { keys })
    }

    /// The last key.
    pub(crate) fn last(&self) -> &str {
        self.keys.last().map_or("", |key| key)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|key| write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")))
    }
}

impl Paths {
    /// Paths that are known to be right because they are written in this crate.
    pub(crate) fn of(paths: &[&str]) -> Self {
        let parse = |path: &&str| FieldPath::parse(path).expect("built-in paths are checked by a test");
        Self(paths.iter().map(parse).collect())
    }

    /// The paths in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FieldPath> {
        self.0.iter()
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, path) in self.0.iter().enumerate() {
            write!(f, "{}{path}", if nth == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for FieldPath {
    fn schema_name() -> Cow<'static, str> {
        "FieldPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a JSON pointer (/data/id) or a dotted path (data.id)" })
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field path such as \"/data/id\", or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Paths, E> {
                FieldPath::parse(text).map(|path| Paths(vec![path])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = seq.next_element()? {
                    paths.push(path);
                }
                if paths.is_empty() {
                    return Err(A::Error::custom("an empty list of paths finds nothing; leave the key out"));
                }
                Ok(Paths(paths))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Paths {
    fn schema_name() -> Cow<'static, str> {
        "Paths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string" },
            "description": "a field path, or several of which the first that holds something wins",
        })
    }
}

/// Slots of the fields that a trie looks for.
pub(crate) const SLOTS_MAX: usize = 64;

/// The raw JSON text found for each slot.
pub(crate) type Found<'de> = [Option<&'de str>; SLOTS_MAX];

/// All wanted paths, merged by their common beginnings.
#[derive(Debug, Clone)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    slots: SmallVec<[u8; 4]>,
    children: HashMap<Box<str>, Child, FixedState>,
}

#[derive(Debug, Clone, Copy)]
struct Child {
    node: usize,
    /// Its number among its siblings.
    nth: u32,
}

impl Trie {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()], slots: 0 }
    }

    /// Adds a path and returns its slot; `None` when all slots are taken.
    pub(crate) fn add(&mut self, path: &FieldPath) -> Option<usize> {
        let slot = self.slots;
        if slot >= SLOTS_MAX {
            return None;
        }
        let mut at = 0;
        for key in &path.keys {
            let next = self.nodes.len();
            let children = &mut self.nodes[at].children;
            let nth = u32::try_from(children.len()).ok()?;
            at = children.entry(key.clone()).or_insert(Child { node: next, nth }).node;
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[at].slots.push(u8::try_from(slot).ok()?);
        self.slots += 1;
        Some(slot)
    }

    /// Reads one JSON value, filling the slots of the paths that it has. A key that appears twice counts as its last.
    pub(crate) fn read<'de>(&self, text: &'de str, found: &mut Found<'de>) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Walk { trie: self, node: 0, found }.deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

struct Walk<'t, 'f, 'de> {
    trie: &'t Trie,
    node: usize,
    found: &'f mut Found<'de>,
}

impl<'de> Walk<'_, '_, 'de> {
    /// Forgets what an earlier occurrence of a repeated key left in this node's subtree.
    fn clear(&mut self, node: usize) {
        let Node { slots, children } = &self.trie.nodes[node];
        for slot in slots {
            self.found[usize::from(*slot)] = None;
        }
        for child in children.values() {
            self.clear(child.node);
        }
    }

    fn keep(&mut self, node: usize, raw: &'de str) -> serde_json::Result<()> {
        for slot in &self.trie.nodes[node].slots {
            self.found[usize::from(*slot)] = Some(raw);
        }
        if self.trie.nodes[node].children.is_empty() {
            return Ok(());
        }
        let mut inner = serde_json::Deserializer::from_str(raw);
        Walk { trie: self.trie, node, found: self.found }.deserialize(&mut inner)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        // One bit per child that this object has shown; more children than bits are cleared every time.
        let mut seen = 0_u64;
        while let Some(child) = map.next_key_seed(Key(&self.trie.nodes[self.node].children))? {
            let Some(Child { node, nth }) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let bit = 1_u64.checked_shl(nth).unwrap_or(0);
            if bit == 0 || seen & bit != 0 {
                self.clear(node);
            }
            seen |= bit;
            self.step(node, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            let children = &self.trie.nodes[self.node].children;
            let child = children.iter().find(|(key, _)| key.parse() == Ok(index));
            let Some((_, Child { node, .. })) = child else {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
                index += 1;
                continue;
            };
            let Some(raw) = seq.next_element::<&'de RawValue>()? else { return Ok(()) };
            self.keep(*node, raw.get()).map_err(A::Error::custom)?;
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> Walk<'_, '_, 'de> {
    /// Reads the value of a wanted key.
    fn step<A: MapAccess<'de>>(&mut self, child: usize, map: &mut A) -> Result<(), A::Error> {
        if self.trie.nodes[child].slots.is_empty() {
            return map.next_value_seed(Walk { trie: self.trie, node: child, found: self.found });
        }
        let raw = map.next_value::<&'de RawValue>()?.get();
        self.keep(child, raw).map_err(A::Error::custom)
    }
}

/// Finds a key among a node's children without copying it.
struct Key<'t>(&'t HashMap<Box<str>, Child, FixedState>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<Child>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<Child>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(key).copied())
    }
}

/// The text of a raw scalar: a string without quotes and escapes, a number or a boolean as written. `None` for null,
/// empty strings, objects and arrays.
pub(crate) fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' => {
            let inner = raw.get(1..raw.len().checked_sub(1)?)?;
            if inner.is_empty() {
                return None;
            }
            if !inner.as_bytes().contains(&b'\\') {
                return Some(Cow::Borrowed(inner));
            }
            serde_json::from_str::<String>(raw).ok().filter(|text| !text.is_empty()).map(Cow::Owned)
        }
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// The raw JSON at one path, for cursors and item lists.
#[derive(Debug, Clone)]
pub(crate) struct Pluck(Trie);

impl Pluck {
    pub(crate) fn new(path: &FieldPath) -> Self {
        let mut trie = Trie::new();
        trie.add(path).expect("the first path of a trie fits");
        Self(trie)
    }

    /// The raw JSON text at the path; `None` if there is nothing, or if `text` is not JSON.
    pub(crate) fn raw<'de>(&self, text: &'de str) -> Option<&'de str> {
        let mut found: Found<'de> = [None; SLOTS_MAX];
        self.0.read(text, &mut found).ok()?;
        found[0]
    }

    /// The scalar at the path.
    pub(crate) fn text<'de>(&self, text: &'de str) -> Option<Cow<'de, str>> {
        scalar(self.raw(text)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn pluck(path: &str, text: &str) -> Option<String> {
        Pluck::new(&FieldPath::parse(path).unwrap()).raw(text).map(str::to_owned)
    }

    #[test]
    fn paths_find_what_json_pointers_find() {
        let text = r#"{"a":{"b":[{"c":"x"},{"c":1.50}]},"k/y":true,"a":{"b":[0,{"c":2.50}]},"n":null}"#;
        assert_eq!(pluck("/a/b/1/c", text).as_deref(), Some("2.50"), "the last of two equal keys counts");
        assert_eq!(pluck("a.b.0", text).as_deref(), Some("0"));
        assert_eq!(pluck("/k~1y", text).as_deref(), Some("true"));
        assert_eq!(pluck("/n/x", text), None);
        assert_eq!(pluck("/a", "{\"a\":1}x"), None, "trailing bytes are not JSON");
    }

    #[test]
    fn a_repeated_key_forgets_the_first() {
        assert_eq!(pluck("/a/b", r#"{"a":{"b":1},"a":{"c":2}}"#), None);
        assert_eq!(pluck("/a/b", r#"{"a":{"b":1},"a":5}"#), None);
    }

    #[test]
    fn a_path_may_end_inside_another() {
        let mut trie = Trie::new();
        let whole = trie.add(&FieldPath::parse("/a").unwrap()).unwrap();
        let inner = trie.add(&FieldPath::parse("/a/b").unwrap()).unwrap();
        let mut found = [None; SLOTS_MAX];
        trie.read(r#"{"a":{"b":"x"}}"#, &mut found).unwrap();
        assert_eq!((found[whole], found[inner]), (Some(r#"{"b":"x"}"#), Some(r#""x""#)));
    }

    #[test]
    fn wrong_paths_say_what_is_right() {
        for wrong in ["", "/", "a..b", "/a//b", ".a"] {
            assert!(FieldPath::parse(wrong).unwrap_err().contains("/data/id"), "{wrong:?}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é\\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_serde_json(value in json_value(), path in "(/[a-c0-2]){1,4}") {
            let text = value.to_string();
            let found = pluck(&path, &text).map(|raw| serde_json::from_str::<Value>(&raw).unwrap());
            prop_assert_eq!(found.as_ref(), value.pointer(&path));
        }

        #[test]
        fn nothing_panics(text in "[\\[\\]{}\",:a1\\\\ ]{0,40}") {
            let _found = pluck("/a/1", &text);
        }
    }
}
