//! Values as people write them in the host's own sections, each with its reader, its text and its schema.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;
use railwatch_model::{AgentId, Severity, SeverityRange, SmolStr, Timestamp, Usd};
use railwatch_plugin::config::{Dollars, Fraction, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Positive(pub Duration);

/// An IANA time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub Tz);

/// An agent's id: 1 to 200 bytes without control characters, and not one of railwatch's own `unmapped:` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(pub AgentId);

/// A velocity such as `"$8 / h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Velocity {
    /// How much.
    pub amount: Usd,
    /// Per what.
    pub per: Per,
}

/// A unit of time in budgets and velocities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

/// An amount of dollars per period, such as `"$10,000.00 / month"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerPeriod {
    /// How much; above zero.
    pub amount: Usd,
    /// The period.
    pub per: Per,
}

/// How often something may happen, such as `"30/m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How often; at least once.
    pub n: u32,
    /// Per what.
    pub per: Duration,
}

/// A time of the day, in minutes after midnight; 24:00 is its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayTime(pub u16);

/// A price in dollars for one whole unit of an asset, above zero, exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceText(pub SmolStr);

/// An address to listen on: `127.0.0.1:7414`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// An `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

/// A SHA-256 in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Text(pub [u8; 32]);

/// Checks a text by the mark that its schema carries; `None` for a mark that is not about a text.
pub(super) fn check(mark: &str, text: &str) -> Option<Result<(), String>> {
    fn reads<T: FromStr<Err = String>>(text: &str) -> Result<(), String> {
        text.parse::<T>().map(drop)
    }
    Some(match mark {
        "duration" => reads::<Span>(text),
        "dollars" => reads::<Dollars>(text),
        "fraction" => reads::<Fraction>(text),
        "positive_duration" => reads::<Positive>(text),
        "timezone" => reads::<Zone>(text),
        "agent_id" => reads::<AgentName>(text),
        "velocity" => reads::<Velocity>(text),
        "budget" => reads::<PerPeriod>(text),
        "severity_range" => reads::<SeverityRange>(text).map_err(|error| {
            let name = text.trim_start_matches(['<', '>', '=', ' ']);
            let names = Severity::ALL.iter().map(|severity| severity.as_str());
            let hint = super::diagnostic::did_you_mean(name, names.filter(|known| *known != name));
            hint.map_or(error.clone(), |hint| format!("{error}; {hint}"))
        }),
        "day_time" => reads::<DayTime>(text),
        "rate" => reads::<RateLimit>(text),
        "price" => reads::<PriceText>(text),
        "address" => reads::<Address>(text),
        "url" => reads::<Url>(text),
        "sha256" => reads::<Sha256Text>(text),
        "time" => Timestamp::parse(text).map(drop).map_err(|error| error.to_string()),
        _ => return None,
    })
}

/// What a text with this mark looks like, in words.
pub(super) fn expected(mark: &str) -> Option<&'static str> {
    Some(match mark {
        "duration" => "a duration such as \"15m\" or \"1h30m\"",
        "positive_duration" => "a duration above zero such as \"15m\" or \"1h30m\"",
        "dollars" => "a dollar amount such as \"$1,250.00\"",
        "fraction" => "a fraction such as \"80%\" or 0.8",
        "timezone" => "an IANA time zone such as \"Europe/Berlin\"",
        "agent_id" => "an agent's id such as \"research-7\"",
        "velocity" => "a velocity such as \"$8 / h\"",
        "budget" => "a budget such as \"$10,000.00 / month\"",
        "severity_range" => "a severity, or a range such as \">=high\"",
        "rate" => "a rate such as \"30/m\"",
        "day_time" => "a time of the day such as \"22:00\"",
        "price" => "dollars for one whole unit, such as \"65000\"",
        "address" => "an address and port such as \"127.0.0.1:7414\"",
        "url" => "an http:// or https:// address",
        "sha256" => "64 hexadecimal digits, as `railwatch token` prints them",
        "time" => "a time such as 2026-01-31T02:00:00Z",
        _ => return None,
    })
}

impl FromStr for Positive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Span(duration) = text.parse()?;
        if duration.is_zero() {
            Err("a duration above zero is needed".to_owned())
        } else {
            Ok(Self(duration))
        }
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let hint = super::diagnostic::did_you_mean(text, names);
            let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
            format!("{text:?} is not a time zone; write an IANA name like \"Europe/Berlin\" or \"UTC\"{hint}")
        })
    }
}

impl FromStr for AgentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = AgentId::new(text).filter(|id| !id.is_unmapped());
        id.map(Self).ok_or_else(|| {
            "an agent id has 1 to 200 bytes, no control characters, and does not begin with \"unmapped:\""
                .to_owned()
        })
    }
}

impl FromStr for Per {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "hour" | "h" => Ok(Self::Hour),
            "day" | "d" => Ok(Self::Day),
            "week" | "w" => Ok(Self::Week),
            "month" | "mo" => Ok(Self::Month),
            other => Err(format!("{other:?} is not a period; use hour, day, week or month")),
        }
    }
}

impl FromStr for PerPeriod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, per) = text.split_once('/').ok_or_else(|| {
            format!("{text:?} is not a budget; write it like \"$10,000.00 / month\", or as a table")
        })?;
        let Dollars(amount) = amount.trim().parse()?;
        let per = per.parse()?;
        if amount <= Usd::ZERO {
            return Err("a budget must be above zero".to_owned());
        }
        Ok(Self { amount, per })
    }
}

impl FromStr for Velocity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, per) = text.split_once('/').ok_or_else(|| {
            format!("{text:?} is not a velocity; write it like \"$8 / h\" or \"$40 / day\"")
        })?;
        let Dollars(amount) = amount.trim().parse()?;
        let per = per.parse()?;
        if amount <= Usd::ZERO {
            return Err("a usual velocity must be above zero".to_owned());
        }
        Ok(Self { amount, per })
    }
}

impl Velocity {
    /// Dollars per hour, for statistics. A month counts 730 hours.
    pub fn usd_per_hour(self) -> f64 {
        let hours = match self.per {
            Per::Hour => 1.0,
            Per::Day => 24.0,
            Per::Week => 168.0,
            Per::Month => 730.0,
        };
        self.amount.dollars() / hours
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate; write it like \"30/m\", \"1/s\" or \"100/h\"");
        let (n, per) = text.split_once('/').ok_or_else(wrong)?;
        let secs = match per.trim() {
            "s" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3600,
            _ => return Err(wrong()),
        };
        let n = n.trim().parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        Ok(Self { n, per: Duration::from_secs(secs) })
    }
}

impl FromStr for DayTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time of the day; write it like \"22:00\", up to \"24:00\"");
        let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return Err(wrong());
        }
        let (hour, minute): (u16, u16) =
            (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
        let minutes = hour * 60 + minute;
        if minute < 60 && minutes <= 24 * 60 { Ok(Self(minutes)) } else { Err(wrong()) }
    }
}

impl FromStr for PriceText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.trim().trim_start_matches('$').replace([',', '_'], "");
        let rate = railwatch_model::Rate::parse(&plain, "fixed", Timestamp::EPOCH);
        match rate {
            Ok(rate) if rate.nanos_per_unit > 0 => Ok(Self(plain.into())),
            Ok(_) => Err("a price must be above zero".to_owned()),
            Err(error) => Err(format!("{error}; write dollars per unit like \"65000\" or \"1.08\"")),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address and port; write it like \"127.0.0.1:7414\"");
        text.replace("localhost:", "127.0.0.1:").parse().map(Self).map_err(|_| wrong())
    }
}

impl FromStr for Sha256Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| "not 64 hexadecimal digits; `railwatch token` prints them".to_owned())
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?']));
        if has_host && !text.contains(char::is_whitespace) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not an address; write it like \"https://example.com/path\""))
        }
    }
}

impl fmt::Display for Positive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

impl fmt::Display for PerPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} / {}", self.amount, self.per)
    }
}

impl fmt::Display for Velocity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} / {}", self.amount, self.per)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{per}", self.n)
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for PriceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sha256Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reading, showing and the schema of a type that is a text in TOML.
macro_rules! text_value {
    ($type:ty, $mark:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $mark.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "x-railwatch": $mark })
            }
        }
    };
}

text_value!(Positive, "positive_duration", "a duration above zero such as \"15m\" or \"1h30m\"");
text_value!(Zone, "timezone", "an IANA time zone such as \"Europe/Berlin\"");
text_value!(AgentName, "agent_id", "an agent's id");
text_value!(Velocity, "velocity", "a velocity such as \"$8 / h\"");
text_value!(PerPeriod, "budget", "a budget such as \"$10,000.00 / month\"");
text_value!(RateLimit, "rate", "how often something may happen, such as \"30/m\"");
text_value!(DayTime, "day_time", "a time of the day such as \"22:00\"");
text_value!(PriceText, "price", "dollars for one whole unit, such as \"65000\"");
text_value!(Address, "address", "an address and port such as \"127.0.0.1:7414\"");
text_value!(Url, "url", "an http:// or https:// address");
text_value!(Sha256Text, "sha256", "the SHA-256 of a token in hexadecimal");
