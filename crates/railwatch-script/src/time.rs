//! Times as scripts see them: event time, read in UTC or in a named zone.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use mlua::{Error, Lua, LuaString, Result, Table, Value};
use railwatch_model::Timestamp;

use crate::value::receiver_time;
use crate::vm::Shared;

pub(crate) type Field = fn(&DateTime<Tz>) -> u32;

/// The methods that read one field of the calendar.
pub(crate) const FIELDS: &[(&str, Field)] = &[
    ("hour", |at| at.hour()),
    ("minute", |at| at.minute()),
    ("weekday", |at| at.weekday().number_from_monday()),
    ("day", |at| at.day()),
    ("month", |at| at.month()),
];

/// Adds the methods of times.
pub(crate) fn install(lua: &Lua, methods: &Table, shared: &Arc<Shared>) -> Result<()> {
    for (name, field) in FIELDS {
        let cx = Arc::clone(shared);
        let read = move |_: &Lua, (at, tz): (Value, Option<LuaString>)| {
            let at = receiver_time(&at, &cx.arena, name)?;
            match tz {
                None => Ok(field(&at.to_utc().with_timezone(&Tz::UTC))),
                Some(tz) => Ok(field(&at.to_utc().with_timezone(&zone(&tz.to_str()?)?))),
            }
        };
        methods.raw_set(*name, lua.create_function(read)?)?;
    }
    let cx = Arc::clone(shared);
    let date = move |_: &Lua, (at, tz): (Value, Option<LuaString>)| {
        let at = receiver_time(&at, &cx.arena, "date")?;
        let tz = tz.map_or(Ok(Tz::UTC), |tz| zone(&tz.to_str()?))?;
        Ok(at.to_utc().with_timezone(&tz).format("%Y-%m-%d").to_string())
    };
    methods.raw_set("date", lua.create_function(date)?)?;
    let cx = Arc::clone(shared);
    let unix = move |_: &Lua, at: Value| Ok(receiver_time(&at, &cx.arena, "unix")?.secs_f64());
    methods.raw_set("unix", lua.create_function(unix)?)
}

fn zone(name: &str) -> Result<Tz> {
    let unknown = |_| {
        Error::runtime(format!("{name:?} is not a time zone; write one like \"Europe/Berlin\" or \"UTC\""))
    };
    name.parse().map_err(unknown)
}

/// A time as rails write it: RFC 3339, with or without seconds, or a number of seconds, milliseconds, … since the
/// epoch.
pub(crate) fn read(value: &Value) -> Result<Timestamp> {
    let text = match value {
        Value::Integer(number) => number.to_string(),
        Value::Number(number) if number.is_finite() => number.to_string(),
        Value::String(text) => text.to_string_lossy(),
        other => return Err(Error::runtime(format!("{} is not a time", other.type_name()))),
    };
    parse(&text).map_err(Error::runtime)
}

/// RFC 3339, also in the short form `2026-01-01T02:00Z`.
pub(crate) fn parse(text: &str) -> std::result::Result<Timestamp, String> {
    let full = match text.strip_suffix('Z') {
        Some(short) if short.len() == "2026-01-01T02:00".len() => format!("{short}:00Z"),
        _ => text.to_owned(),
    };
    Timestamp::parse(&full).map_err(|error| error.to_string())
}
