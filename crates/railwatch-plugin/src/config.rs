//! Values as people write them in TOML: `"15m"`, `"$10,000.00"`, `"80%"`; and the one way a plugin reads its table.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use railwatch_model::Usd;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A mistake in a plugin's table: the key path below the table and what would be accepted. The host adds file, line
/// and column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct ConfigError {
    /// The key path below the plugin's table, such as `verify.header`; empty for the table itself.
    pub path: String,
    /// What is wrong and what would be accepted.
    pub message: String,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

/// Reads a plugin's table into its config struct.
pub fn parse<T: DeserializeOwned>(table: &toml::Table) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        // `Display` adds the key path once more, on a line of its own.
        ConfigError { path, message: error.into_inner().message().trim().to_owned() }
    })
}

/// A duration such as `"250ms"`, `"15m"`, `"1h30m"`, `"7d"` or `"2w"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A fraction written as `"80%"` or `0.8`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fraction(pub f64);

/// A dollar value written as `"$1,250.00"`, `"1250 USD"` or `"0.05"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(pub Usd);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a duration; write it like \"250ms\", \"15m\", \"1h30m\" or \"7d\"");
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let millis_per_unit = match unit.trim() {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(millis_per_unit).map(Duration::from_millis).ok_or_else(wrong)?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in
            [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        if millis > 0 { write!(f, "{millis}ms") } else { Ok(()) }
    }
}

impl FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            text.trim().trim_start_matches('$').trim_end_matches("USD").trim().replace([',', '_'], "");
        Usd::parse(&plain).map(Self).map_err(|_| {
            format!("{text:?} is not a dollar amount; write it like \"$1,250.00\" or \"1250 USD\"")
        })
    }
}

impl FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a fraction; write it like \"80%\" or 0.8");
        let (number, divisor) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim(), 100.0),
            None => (text.trim(), 1.0),
        };
        let value = number.parse::<f64>().map_err(|_| wrong())? / divisor;
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(wrong()) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `Display` of a value rounds to cents; `Debug` is exact.
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Fraction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fraction such as \"80%\" or 0.8")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Fraction, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Fraction, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Fraction, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

/// Texts that a schema checks by pattern. The mark `x-railwatch` lets the host read the text with the type's own parser
/// and report every wrong one at once, with its place.
macro_rules! text_schema {
    ($type:ty, $name:literal, $mark:literal, $pattern:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string", "pattern": $pattern, "description": $description, "x-railwatch": $mark
                })
            }
        }
    };
}

text_schema!(
    Span,
    "Span",
    "duration",
    r"^([0-9]+ ?(ms|s|m|min|h|d|w) ?)+$",
    "a duration such as \"15m\" or \"1h30m\""
);
text_schema!(
    Dollars,
    "Dollars",
    "dollars",
    r"^\$?[0-9][0-9,_]*(\.[0-9]+)?( ?USD)?$",
    "a dollar amount such as \"$1,250.00\""
);

impl JsonSchema for Fraction {
    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "description": "a fraction such as \"80%\" or 0.8",
            "x-railwatch": "fraction"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_show_the_way_people_write_them() {
        for text in ["250ms", "15m", "1h30m", "1w", "36500d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, span.to_string().parse().unwrap());
        }
        for wrong in ["", "15", "m", "15 parsecs", "-1s", "99999999999999999999w", "1h 30"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_mistake_in_a_table_has_its_path_and_the_reason() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[serde(rename = "inner")]
            _inner: Inner,
        }
        #[derive(Debug, Deserialize)]
        struct Inner {
            #[serde(rename = "every")]
            _every: Span,
        }
        let table = "inner = { every = '15' }".parse().unwrap();
        let error = parse::<Outer>(&table).unwrap_err();
        assert_eq!(error.path, "inner.every");
        assert!(error.message.contains("write it like"), "{error}");
    }

    #[test]
    fn dollars_and_fractions() {
        assert_eq!("$10,000.00".parse(), Ok(Dollars(Usd::from_cents(1_000_000))));
        assert_eq!("0.05 USD".parse(), Ok(Dollars(Usd::from_cents(5))));
        assert!("ten".parse::<Dollars>().is_err());
        assert_eq!("80%".parse(), Ok(Fraction(0.8)));
        assert!("120%".parse::<Fraction>().is_err());
    }
}
