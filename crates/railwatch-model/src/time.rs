//! Points in time, in whole microseconds since the Unix epoch, UTC.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time. Text formats (JSON, TOML, Lua) show it as RFC 3339; the journal keeps the integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// Why a text or a number is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is neither RFC 3339 nor a number.
    #[error("{0:?} is not an RFC 3339 time such as 2026-01-31T02:00:00Z")]
    NotRfc3339(String),
    /// The number is outside the years 1970 to 2200, in every unit that it could be in.
    #[error("{0} is not a time between 1970 and 2200 in seconds, milliseconds, microseconds or nanoseconds")]
    OutOfRange(i128),
}

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last instant that can be represented.
    pub const MAX: Self = Self(i64::MAX);
    /// 2200-01-01T00:00:00Z: anything later from a rail is a mistake.
    pub const HORIZON: Self = Self(7_258_118_400_000_000);

    /// A time from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A time from whole seconds since the epoch, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    #[inline]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[inline]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since the epoch, for statistics (never for money).
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// `self + span`, saturating at [`Timestamp::MAX`].
    #[inline]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// `self - span`, saturating.
    #[inline]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads a number whose unit the sender did not say: seconds, milliseconds, microseconds or nanoseconds
    /// are told apart by size, which is unambiguous between 1973 and 2200.
    pub fn from_number(number: i128) -> Result<Self, TimestampError> {
        let micros = match number {
            0..100_000_000_000 => number.saturating_mul(1_000_000),
            100_000_000_000..100_000_000_000_000 => number.saturating_mul(1_000),
            100_000_000_000_000..100_000_000_000_000_000 => number,
            _ => number.div_euclid(1_000),
        };
        match i64::try_from(micros) {
            Ok(micros) if (0..Self::HORIZON.0).contains(&micros) => Ok(Self(micros)),
            _ => Err(TimestampError::OutOfRange(number)),
        }
    }

    /// Reads RFC 3339, or a bare number as [`Timestamp::from_number`] does (a fraction of a second is kept to the
    /// microsecond).
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let text = text.trim();
        if let Ok(number) = text.parse::<i128>() {
            return Self::from_number(number);
        }
        if let Some((whole, fraction)) = text.split_once('.')
            && !fraction.is_empty()
            && fraction.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(secs) = whole.parse::<i128>()
        {
            let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
            let micros = micros.fold(0_i64, |sum, digit| {
                sum.saturating_mul(10).saturating_add(i64::from(digit.saturating_sub(b'0')))
            });
            return Ok(Self(Self::from_number(secs)?.0.saturating_add(micros)));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_micros()))
            .map_err(|_| TimestampError::NotRfc3339(text.chars().take(60).collect()))
    }

    /// The calendar view, UTC.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_unit_that_their_size_implies() {
        let expected = Timestamp::parse("2026-01-31T02:00:00Z").unwrap();
        for text in ["1769824800", "1769824800000", "1769824800000000", "1769824800000000000", "1769824800.0"]
        {
            assert_eq!(Timestamp::parse(text), Ok(expected), "{text}");
        }
        assert_eq!(Timestamp::parse("1769824800.25").unwrap().micros(), expected.micros() + 250_000);
    }

    #[test]
    fn nonsense_is_refused_with_a_remedy() {
        assert!(Timestamp::parse("yesterday").unwrap_err().to_string().contains("RFC 3339"));
        assert!(matches!(Timestamp::parse("-5"), Err(TimestampError::OutOfRange(-5))));
        assert!(Timestamp::from_number(i128::MAX).is_err());
    }

    #[test]
    fn text_round_trips() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-24T02:07:13.000250Z"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
    }
}
