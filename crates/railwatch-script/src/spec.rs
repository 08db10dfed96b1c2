//! Reading the tables that scripts declare things with: known keys, right types, and a hint for a misspelled one.

use std::time::Duration;

use mlua::{FromLua, Lua, Table, Value};
use railwatch_plugin::config::Span;

use crate::error::{ScriptError, message_of};

/// The known name that `name` most likely means.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// A declaration under reading.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) lua: &'a Lua,
    pub(crate) table: Table,
    pub(crate) file: &'a str,
    pub(crate) source: &'a str,
    /// What is declared, for messages: `rule`, `test`.
    pub(crate) what: &'static str,
}

impl Spec<'_> {
    pub(crate) fn error(&self, key: &str, message: impl std::fmt::Display) -> ScriptError {
        ScriptError::new(self.file, format!("{} {key}: {message}", self.what)).near(self.source, key)
    }

    /// Refuses keys that are not in `known`.
    pub(crate) fn known(&self, known: &[&str]) -> Result<(), ScriptError> {
        for pair in self.table.pairs::<Value, Value>() {
            let (key, _) = pair.map_err(|error| self.error("", message_of(&error)))?;
            let key = match key {
                Value::String(text) => text.to_string_lossy(),
                other => format!("[{}]", other.type_name()),
            };
            if known.contains(&key.as_str()) || key == MARK {
                continue;
            }
            let hint = closest(&key, known.iter().copied()).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            return Err(self.error(&key, format!("unknown key; {hint}")));
        }
        Ok(())
    }

    /// The value at `key`, if there is one.
    pub(crate) fn get<T: FromLua>(&self, key: &str, expected: &str) -> Result<Option<T>, ScriptError> {
        let value: Value = self.table.raw_get(key).map_err(|error| self.error(key, message_of(&error)))?;
        if value.is_nil() {
            return Ok(None);
        }
        let found = value.type_name();
        let text_wanted = expected.starts_with("a text");
        if text_wanted && !value.is_string() || expected == FLAG && !value.is_boolean() {
            return Err(self.error(key, format!("{found} where {expected} is needed")));
        }
        T::from_lua(value, self.lua)
            .map(Some)
            .map_err(|_| self.error(key, format!("{found} where {expected} is needed")))
    }

    /// The value at `key`, which must be there.
    pub(crate) fn require<T: FromLua>(&self, key: &str, expected: &str) -> Result<T, ScriptError> {
        let missing = || {
            let mut error = self.error(key, format!("missing; give {expected}"));
            error.line = None;
            error.column = None;
            error.near(self.source, "id")
        };
        self.get(key, expected)?.ok_or_else(missing)
    }

    /// A flag, false if it is not given.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ScriptError> {
        Ok(self.get(key, FLAG)?.unwrap_or(false))
    }

    /// A duration such as `"2m"`.
    pub(crate) fn span(&self, key: &str, default: Duration) -> Result<Duration, ScriptError> {
        match self.get::<String>(key, "a text such as \"2m\"")? {
            None => Ok(default),
            Some(text) => text.parse::<Span>().map(|span| span.0).map_err(|message| self.error(key, message)),
        }
    }
}

const FLAG: &str = "true or false";

/// The key that `rule`, `score` and `rail` mark their tables with.
pub(crate) const MARK: &str = "\u{1}kind";
