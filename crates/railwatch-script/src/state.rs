//! A rule's notes about a subject: `state.key` in the script, a [`RuleState`] in the engine.
//!
//! Changes of a call that fails are taken back, so that a rule's notes never hold half of what it meant to write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlua::{Error, Lua, LuaString, Result, Table, Value};
use railwatch_model::{SmolStr, Timestamp, Usd};
use railwatch_plugin::rules::RuleState;
use smol_str::format_smolstr;

use crate::value::{self, Scalar};
use crate::vm::Shared;

/// Bytes of a key.
pub(crate) const KEY_LEN_MAX: usize = 64;

/// The notes of the call in hand.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    notes: RuleState,
    /// The notes as they were before the first change of this call.
    before: Option<RuleState>,
    /// False while `why` runs: an explanation changes nothing.
    writable: bool,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the engine's notes to the script.
    pub(crate) fn lend(&self, notes: &mut RuleState) {
        let mut open = self.lock();
        open.notes = std::mem::take(notes);
        open.before = None;
        open.writable = true;
    }

    /// Ends writing; what was written stays readable.
    pub(crate) fn freeze(&self) {
        self.lock().writable = false;
    }

    /// Gives the notes back: changed if the call succeeded, as they were if it failed.
    pub(crate) fn settle(&self, notes: &mut RuleState, succeeded: bool) {
        let mut open = self.lock();
        let before = open.before.take();
        let now = std::mem::take(&mut open.notes);
        *notes = match before {
            Some(before) if !succeeded => before,
            _ => now,
        };
    }

    fn get(&self, key: &str) -> Option<SmolStr> {
        self.lock().notes.get(key).cloned()
    }

    fn set(&self, key: &str, value: Option<SmolStr>, keys_max: usize) -> Result<()> {
        let mut open = self.lock();
        if !open.writable {
            return Err(Error::runtime("state can be changed in `when` only"));
        }
        if value.is_some() && open.notes.len() >= keys_max && !open.notes.contains_key(key) {
            return Err(Error::runtime(format!("state holds {keys_max} keys already")));
        }
        if open.before.is_none() {
            open.before = Some(open.notes.clone());
        }
        match value {
            Some(value) => open.notes.insert(key.into(), value),
            None => open.notes.remove(key),
        };
        Ok(())
    }
}

/// The object that scripts know as `state`.
pub(crate) fn object(lua: &Lua, shared: &Arc<Shared>) -> Result<Table> {
    let metatable = lua.create_table()?;
    let cx = Arc::clone(shared);
    let read = move |lua: &Lua, (_, key): (bool, LuaString)| match cx.notes.get(&key.to_str()?) {
        Some(text) => decode(lua, &text, &cx),
        None => Ok(Value::Nil),
    };
    metatable.raw_set("__index", lua.create_function(read)?)?;
    let cx = Arc::clone(shared);
    let write = move |_: &Lua, (_, key, value): (bool, LuaString, Value)| {
        if key.as_bytes().len() > KEY_LEN_MAX {
            return Err(Error::runtime(format!("a key of state has at most {KEY_LEN_MAX} bytes")));
        }
        let text = encode(&value, &cx)?;
        let len_max = cx.limits.state_value_bytes_max;
        if text.as_ref().is_some_and(|text| text.len() > len_max) {
            return Err(Error::runtime(format!("a value of state has at most {len_max} bytes")));
        }
        cx.notes.set(&key.to_str()?, text, cx.limits.state_keys_max)
    };
    metatable.raw_set("__newindex", lua.create_function(write)?)?;
    metatable.raw_set("__metatable", false)?;
    metatable.set_readonly(true);
    let object = lua.create_table()?;
    object.set_metatable(Some(metatable))?;
    Ok(object)
}

/// What a stored note is; the first character of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Usd,
    Time,
    Flag,
    Number,
    Text,
}

impl Mark {
    const ALL: [(Self, &str); 5] =
        [(Self::Usd, "$"), (Self::Time, "@"), (Self::Flag, "?"), (Self::Number, "#"), (Self::Text, "\"")];

    /// A stored note in its parts.
    pub(crate) fn read(text: &str) -> (Self, &str) {
        let (mark, body) = text.split_once(' ').unwrap_or(("\"", text));
        let known = Self::ALL.iter().find(|(_, sign)| *sign == mark);
        (known.map_or(Self::Text, |(mark, _)| *mark), body)
    }
}

/// A note as the engine stores it: one character for what it is, then its text.
pub(crate) fn stored(mark: Mark, body: impl std::fmt::Display) -> SmolStr {
    let sign = Mark::ALL.iter().find(|(known, _)| *known == mark).map_or("\"", |(_, sign)| *sign);
    format_smolstr!("{sign} {body}")
}

fn encode(value: &Value, shared: &Shared) -> Result<Option<SmolStr>> {
    if let Some(scalar) = Scalar::read(value, &shared.arena)? {
        return match scalar {
            Scalar::Usd(usd) => Ok(Some(stored(Mark::Usd, usd.nanos()))),
            Scalar::Time(at) => Ok(Some(stored(Mark::Time, at.micros()))),
            Scalar::Amount(_) => Err(Error::runtime("state keeps amounts in USD only; store p.usd")),
        };
    }
    match value {
        Value::Nil => Ok(None),
        Value::Boolean(flag) => Ok(Some(stored(Mark::Flag, flag))),
        Value::Integer(number) => Ok(Some(stored(Mark::Number, number))),
        Value::Number(number) => Ok(Some(stored(Mark::Number, number))),
        Value::String(text) => Ok(Some(stored(Mark::Text, &*text.to_str()?))),
        other => Err(Error::runtime(format!(
            "state keeps texts, numbers, flags, dollars and times, not a {}",
            other.type_name()
        ))),
    }
}

fn decode(lua: &Lua, text: &str, shared: &Shared) -> Result<Value> {
    let (mark, body) = Mark::read(text);
    let number = || body.parse::<i64>().ok();
    match mark {
        Mark::Usd => {
            number().map_or(Ok(Value::Nil), |nanos| value::usd(Usd::from_nanos(nanos), &shared.arena))
        }
        Mark::Time => Ok(number().map_or(Value::Nil, |micros| value::time(Timestamp::from_micros(micros)))),
        Mark::Flag => Ok(Value::Boolean(body == "true")),
        Mark::Number => Ok(body.parse().map_or(Value::Nil, Value::Number)),
        Mark::Text => Ok(Value::String(lua.create_string(body)?)),
    }
}
