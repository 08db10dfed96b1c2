//! Times: RFC 3339 text, or a number in a known unit or in the one that its size implies.

use railwatch_model::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Problem;

/// How the message writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// RFC 3339 text, or a number whose size tells its unit (seconds to nanoseconds, 1973 to 2200).
    #[default]
    Auto,
    /// RFC 3339 text only.
    Rfc3339,
    /// Seconds since 1970, with or without a fraction.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// Microseconds since 1970.
    Us,
    /// Nanoseconds since 1970; below a microsecond is cut.
    Ns,
}

const TEXT_LEN_MAX: usize = 40;

/// Reads a time. Times in the future are kept: the engine decides what they mean.
pub(crate) fn read(text: &str, unit: TimeUnit) -> Result<Timestamp, Problem> {
    let bad = |detail: String| Problem::new("bad_time", detail);
    if text.len() > TEXT_LEN_MAX {
        return Err(bad(format!("times have at most {TEXT_LEN_MAX} characters")));
    }
    let time = match unit {
        TimeUnit::Auto | TimeUnit::Rfc3339 => {
            if unit == TimeUnit::Rfc3339 && !text.contains(':') {
                return Err(bad(format!("{text:?} is not RFC 3339; write it like 2026-01-31T02:00:00Z")));
            }
            Timestamp::parse(text).map_err(|error| bad(error.to_string()))?
        }
        TimeUnit::S => in_unit(text, 1_000_000)?,
        TimeUnit::Ms => in_unit(text, 1_000)?,
        TimeUnit::Us => in_unit(text, 1)?,
        TimeUnit::Ns => {
            let nanos: i64 = text.parse().map_err(|_| bad(format!("{text:?} is not a whole number")))?;
            Timestamp::from_micros(nanos.div_euclid(1_000))
        }
    };
    if time < Timestamp::EPOCH || time >= Timestamp::HORIZON {
        return Err(bad(format!("{text:?} is not between 1970 and 2200; see at_unit")));
    }
    Ok(time)
}

/// A decimal count of a unit of `micros` microseconds; digits below a microsecond are cut.
fn in_unit(text: &str, micros: i64) -> Result<Timestamp, Problem> {
    let bad = || Problem::new("bad_time", format!("{text:?} is not a number of the unit in at_unit"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(bad());
    }
    let whole: i64 = whole.parse().map_err(|_| bad())?;
    let mut total = whole.checked_mul(micros).ok_or_else(bad)?;
    let mut unit = micros;
    for digit in fraction.bytes() {
        unit /= 10;
        total = total.saturating_add(i64::from(digit - b'0') * unit);
    }
    Ok(Timestamp::from_micros(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_the_same_instant() {
        use TimeUnit::{Auto, Ms, Ns, Rfc3339, S, Us};
        let expected = Timestamp::parse("2026-01-31T02:00:00.25Z").unwrap();
        for (unit, text) in [
            (Auto, "2026-01-31T02:00:00.25Z"),
            (Rfc3339, "2026-01-31T03:00:00.250+01:00"),
            (Auto, "1769824800250"),
            (S, "1769824800.25"),
            (Ms, "1769824800250"),
            (Ms, "1769824800250.0001"),
            (Us, "1769824800250000"),
            (Ns, "1769824800250000999"),
        ] {
            assert_eq!(read(text, unit).unwrap(), expected, "{unit:?} {text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        use TimeUnit::{Auto, Ms, Rfc3339, S};
        for (unit, text) in [
            (Auto, "soon"),
            (Auto, "1960-01-01T00:00:00Z"),
            (Rfc3339, "1769824800"),
            (S, "1769824800250"),
            (S, "1e9"),
            (Ms, "99999999999999999999"),
            (S, "-1"),
        ] {
            assert_eq!(read(text, unit).unwrap_err().code, "bad_time", "{unit:?} {text}");
        }
    }
}
