//! JSON as script values: numbers exact or as text, secrets left out, `null` as nothing.

use std::borrow::Cow;

use mlua::{Error, Lua, Result, Value};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Levels of nesting.
const DEPTH_MAX: u8 = 48;

/// Fields whose values never reach a script: they are bearer secrets or proofs of payment, and nothing that a script
/// computes needs them.
const SECRETS: &[&str] = &[
    "access_token",
    "adminkey",
    "api_key",
    "apikey",
    "authorization",
    "client_secret",
    "inkey",
    "macaroon",
    "password",
    "payment_preimage",
    "preimage",
    "private_key",
    "r_preimage",
    "refresh_token",
    "secret",
];

/// True for the name of a field that is kept from scripts.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Reads a JSON text.
///
/// A number that a double holds exactly as it is written becomes a number; any other becomes its text, so that no
/// amount loses a digit on the way to `money` or `decimal`.
pub(crate) fn read(lua: &Lua, text: &[u8]) -> Result<Value> {
    let raw: &RawValue =
        serde_json::from_slice(text).map_err(|error| Error::runtime(format!("not JSON: {error}")))?;
    convert(lua, raw.get(), 0)
}

fn convert(lua: &Lua, text: &str, depth: u8) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(Error::runtime(format!("JSON nested deeper than {DEPTH_MAX} levels")));
    }
    match text.as_bytes().first() {
        Some(b'{') => object(lua, text, depth),
        Some(b'[') => {
            let items: Items<'_> = parse(text)?;
            let table = lua.create_table_with_capacity(items.0.len(), 0)?;
            for item in items.0 {
                table.raw_push(convert(lua, item.get(), depth + 1)?)?;
            }
            Ok(Value::Table(table))
        }
        Some(b'"') => Ok(Value::String(lua.create_string(parse::<Cow<'_, str>>(text)?.as_bytes())?)),
        Some(b't') => Ok(Value::Boolean(true)),
        Some(b'f') => Ok(Value::Boolean(false)),
        Some(b'n') | None => Ok(Value::Nil),
        Some(_) => number(lua, text),
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::runtime(format!("not JSON: {error}")))
}

fn object(lua: &Lua, text: &str, depth: u8) -> Result<Value> {
    let fields: Fields<'_> = parse(text)?;
    let table = lua.create_table_with_capacity(0, fields.0.len())?;
    for (name, value) in fields.0 {
        let value = if is_secret(&name) && value.get() != "null" {
            Value::String(lua.create_string("[redacted]")?)
        } else {
            convert(lua, value.get(), depth + 1)?
        };
        table.raw_set(name.as_ref(), value)?;
    }
    Ok(Value::Table(table))
}

fn number(lua: &Lua, text: &str) -> Result<Value> {
    let double: f64 = text.parse().map_err(|_| Error::runtime(format!("{text:?} is not a JSON number")))?;
    if digits(text) == digits(&double.to_string()) {
        return Ok(Value::Number(double));
    }
    Ok(Value::String(lua.create_string(text)?))
}

/// The significant digits and the decimal exponent of a number's text: `1.50e1` and `15` are the same.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let trailing = i64::try_from(all.len() - all.trim_end_matches('0').len()).ok()?;
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(trailing)?;
    Some((negative, significant.to_owned(), shift))
}

/// An object's fields in their order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);
/// A list's items.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((field.0.0, field.1));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_exact() {
        let lua = Lua::new();
        let kind = |text: &str| read(&lua, text.as_bytes()).unwrap().type_name().to_owned();
        for text in ["0", "-1.5", "0.00213", "1795437000.25", "1e3", "9007199254740992", "0.1000"] {
            assert_eq!(kind(text), "number", "{text}");
        }
        for text in ["9007199254740993", "12345678901234567890", "0.12345678901234567891", "1e400"] {
            assert_eq!(kind(text), "string", "{text}");
        }
    }

    #[test]
    fn secrets_and_depth() {
        let lua = Lua::new();
        let Value::Table(table) =
            read(&lua, br#"{"preimage":"00ff","a":null,"b":[1,{"c":"\u00e9"}]}"#).unwrap()
        else {
            panic!("an object is a table")
        };
        assert_eq!(table.get::<String>("preimage").unwrap(), "[redacted]");
        assert!(table.get::<Value>("a").unwrap().is_nil());
        let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        assert!(read(&lua, deep.as_bytes()).unwrap_err().to_string().contains("nested deeper"));
    }
}
