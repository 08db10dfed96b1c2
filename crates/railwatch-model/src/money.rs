//! Exact money. An amount is an integer count of an asset's smallest unit; it is never a float, and amounts of
//! different assets never meet without a dated [`Rate`].

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::{SmolStr, ToSmolStr};

use crate::Timestamp;

/// What an amount is counted in: a code and the number of decimals between its unit of speech and its smallest unit.
///
/// Invariant: two assets are the same only if code *and* scale agree, so that a token that lies about its decimals
/// can never be added to the real one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asset {
    code: SmolStr,
    scale: u8,
}

/// An exact, signed amount of one asset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Money {
    units: i128,
    asset: Asset,
}

/// Why an amount cannot be read, computed or valued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Two different assets met.
    #[error("{left} and {right} are different assets; convert one with a dated rate first")]
    AssetMismatch {
        /// The left operand's asset.
        left: SmolStr,
        /// The right operand's asset.
        right: SmolStr,
    },
    /// The result does not fit.
    #[error("the amount does not fit into 128 bits")]
    Overflow,
    /// The text is not a plain decimal number.
    #[error("{0:?} is not a decimal amount such as 12.34")]
    NotDecimal(String),
    /// The text has more decimals than the asset's smallest unit.
    #[error("{text} has more decimals than {asset} has ({scale})")]
    TooPrecise {
        /// The text as it came.
        text: String,
        /// The asset's code.
        asset: SmolStr,
        /// The asset's decimals.
        scale: u8,
    },
    /// The code is not one that railwatch knows, and no scale was given with it.
    #[error(
        "unknown currency {0:?}; use an ISO 4217 code, BTC, sat, msat, or declare the token with its decimals"
    )]
    UnknownAsset(String),
}

/// ISO 4217 codes whose minor unit is not 1/100 (source: ISO 4217 list one; Stripe's table agrees but for the
/// rail-specific exceptions that the stripe source handles).
const ZERO_DECIMALS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
const THREE_DECIMALS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const TWO_DECIMALS: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BMD",
    "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CNY", "COP", "CRC", "CUP",
    "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP",
    "GMD", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR",
    "KPW", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP",
    "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "PAB", "PEN",
    "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP",
    "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TOP", "TRY", "TTD", "TWD",
    "TZS", "UAH", "USD", "UYU", "UZS", "VES", "WST", "XCD", "YER", "ZAR", "ZMW", "ZWG",
];

impl Asset {
    /// Decimals above this cannot be told apart from nonsense (ERC-20 allows 255, real tokens stay at 18).
    pub const SCALE_MAX: u8 = 36;

    /// An asset with a scale that the caller vouches for, such as a token read from its contract.
    pub fn new(code: impl Into<SmolStr>, scale: u8) -> Option<Self> {
        let code = code.into();
        (scale <= Self::SCALE_MAX && !code.is_empty()).then_some(Self { code, scale })
    }

    /// The same code counted in another smallest unit; an error beyond [`Asset::SCALE_MAX`].
    pub fn with_scale(&self, scale: u8) -> Result<Self, MoneyError> {
        if scale > Self::SCALE_MAX {
            return Err(MoneyError::Overflow);
        }
        Ok(Self { code: self.code.clone(), scale })
    }

    /// US dollars in cents.
    pub fn usd() -> Self {
        Self { code: SmolStr::new_static("USD"), scale: 2 }
    }

    /// Bitcoin in millisatoshi, the smallest unit that Lightning counts in.
    pub fn btc() -> Self {
        Self { code: SmolStr::new_static("BTC"), scale: 11 }
    }

    /// Finds an asset that needs no declaration: ISO 4217 (either case), `BTC`, and `USDC`, `USDT`, `EURC`, `PYUSD`
    /// alone or as `USDC@base` (6 decimals on every chain that railwatch knows).
    pub fn known(code: &str) -> Result<Self, MoneyError> {
        let (base, _chain) = code.split_once('@').unwrap_or((code, ""));
        let upper = base.to_ascii_uppercase();
        let scale = match upper.as_str() {
            "BTC" => 11,
            "USDC" | "USDT" | "EURC" | "PYUSD" => 6,
            iso if ZERO_DECIMALS.contains(&iso) => 0,
            iso if THREE_DECIMALS.contains(&iso) => 3,
            iso if TWO_DECIMALS.contains(&iso) => 2,
            _ => return Err(MoneyError::UnknownAsset(code.chars().take(40).collect())),
        };
        let code = match code.split_once('@') {
            Some((_, chain)) => format!("{upper}@{chain}").to_smolstr(),
            None => upper.to_smolstr(),
        };
        Ok(Self { code, scale })
    }

    /// The code, such as `USD` or `USDC@base`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Decimals between the unit of speech and the smallest unit.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    /// True for assets that are worth one US dollar by definition of this product: `USD` and dollar stablecoins.
    /// A deviation from the peg is configured with a price, like that of any other asset.
    pub fn is_dollar(&self) -> bool {
        let base = self.code.split('@').next().unwrap_or_default();
        matches!(base, "USD" | "USDC" | "USDT" | "PYUSD")
    }
}

impl Money {
    /// `units` of the smallest unit of `asset`.
    pub const fn new(units: i128, asset: Asset) -> Self {
        Self { units, asset }
    }

    /// Reads a decimal text such as `12.34` or `1.5e-6`, exactly. More decimals than the asset has are an error,
    /// unless they are zeros.
    pub fn parse(text: &str, asset: Asset) -> Result<Self, MoneyError> {
        let units = parse_scaled(text, asset.scale).map_err(|error| match error {
            MoneyError::TooPrecise { text, .. } => {
                MoneyError::TooPrecise { text, asset: asset.code.clone(), scale: asset.scale }
            }
            other => other,
        })?;
        Ok(Self { units, asset })
    }

    /// Smallest units, signed.
    pub const fn units(&self) -> i128 {
        self.units
    }

    /// The asset.
    pub const fn asset(&self) -> &Asset {
        &self.asset
    }

    /// True if there is nothing.
    pub const fn is_zero(&self) -> bool {
        self.units == 0
    }

    /// The sum; an error if the assets differ or the sum does not fit.
    pub fn checked_add(&self, other: &Self) -> Result<Self, MoneyError> {
        self.same_asset(other)?;
        let units = self.units.checked_add(other.units).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, asset: self.asset.clone() })
    }

    /// The difference; an error if the assets differ or it does not fit.
    pub fn checked_sub(&self, other: &Self) -> Result<Self, MoneyError> {
        self.same_asset(other)?;
        let units = self.units.checked_sub(other.units).ok_or(MoneyError::Overflow)?;
        Ok(Self { units, asset: self.asset.clone() })
    }

    /// The same amount with the opposite sign.
    pub fn checked_neg(&self) -> Result<Self, MoneyError> {
        let units = self.units.checked_neg().ok_or(MoneyError::Overflow)?;
        Ok(Self { units, asset: self.asset.clone() })
    }

    /// The decimal text without the code, such as `-0.05`.
    pub fn decimal(&self) -> String {
        format_scaled(self.units, self.asset.scale, self.asset.scale)
    }

    fn same_asset(&self, other: &Self) -> Result<(), MoneyError> {
        if self.asset == other.asset {
            return Ok(());
        }
        Err(MoneyError::AssetMismatch { left: self.asset.code.clone(), right: other.asset.code.clone() })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.asset.code)
    }
}

/// Decimal digits that always fit into 64 bits: nearly every amount has fewer, and takes a tenth of the time.
const U64_DIGITS: usize = 19;

/// Reads `text` as an integer count of `10^-scale`, exactly.
fn parse_scaled(text: &str, scale: u8) -> Result<i128, MoneyError> {
    let not_decimal = || MoneyError::NotDecimal(text.chars().take(60).collect());
    let trimmed = text.trim();
    let (sign, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1_i128, rest),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| not_decimal())?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = whole.bytes().chain(fraction.bytes());
    if (whole.is_empty() && fraction.is_empty()) || !all.clone().all(|byte| byte.is_ascii_digit()) {
        return Err(not_decimal());
    }
    let fraction_len = i32::try_from(fraction.len()).map_err(|_| not_decimal())?;
    let units = if whole.len().saturating_add(fraction.len()) <= U64_DIGITS {
        let small = all.fold(0_u64, |units, digit| {
            units.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')))
        });
        i128::from(small)
    } else {
        let large = |units: i128, digit: u8| {
            units.checked_mul(10)?.checked_add(i128::from(digit.saturating_sub(b'0')))
        };
        all.clone().try_fold(0_i128, large).ok_or(MoneyError::Overflow)?
    };
    if units == 0 {
        return Ok(0);
    }
    let shift = i32::from(scale).saturating_add(exponent).saturating_sub(fraction_len);
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let scaled = if shift >= 0 {
        units.checked_mul(power.ok_or(MoneyError::Overflow)?).ok_or(MoneyError::Overflow)?
    } else {
        match power {
            Some(power) if units.checked_rem(power) == Some(0) => units.checked_div(power).unwrap_or(0),
            _ => {
                let text = text.chars().take(60).collect();
                return Err(MoneyError::TooPrecise { text, asset: SmolStr::default(), scale });
            }
        }
    };
    scaled.checked_mul(sign).ok_or(MoneyError::Overflow)
}

/// Writes `units * 10^-scale`, keeping at least `decimals_min` decimals (and no more zeros than that).
fn format_scaled(units: i128, scale: u8, decimals_min: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = units.unsigned_abs().to_string();
    let scale = usize::from(scale);
    let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
    let keep = fraction.trim_end_matches('0').len().max(usize::from(decimals_min).min(scale));
    let fraction = fraction.get(..keep).unwrap_or(fraction);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Money")]
struct MoneyText {
    asset: SmolStr,
    units: String,
    scale: u8,
}

impl Serialize for Money {
    /// Text formats: `{"asset":"USDC@base","units":"1500000","scale":6}`; the journal keeps integers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let asset = self.asset.code.clone();
            MoneyText { asset, units: self.units.to_string(), scale: self.asset.scale }.serialize(serializer)
        } else {
            (&self.asset, self.units).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = MoneyText::deserialize(deserializer)?;
            let units = text.units.parse().map_err(|_| D::Error::custom("units must be an integer text"))?;
            let asset =
                Asset::new(text.asset, text.scale).ok_or_else(|| D::Error::custom("scale above 36"))?;
            Ok(Self { units, asset })
        } else {
            let (asset, units) = Deserialize::deserialize(deserializer)?;
            Ok(Self { units, asset })
        }
    }
}

/// A US-dollar value in nano-dollars (10^-9 $), which keeps a language model's token costs and a dollar stablecoin's
/// atoms exact. Values are comparable across rails; they are never paid.
///
/// Arithmetic saturates at ±9.2 billion dollars; a single payment beyond [`Usd::PAYMENT_MAX`] is refused at the door,
/// so that saturation is never met by an honest total.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One dollar.
    pub const ONE: Self = Self(1_000_000_000);
    /// The largest value that one payment may have: 100 million dollars.
    pub const PAYMENT_MAX: Self = Self(100_000_000 * 1_000_000_000);

    /// A value from nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A value from whole cents, saturating.
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents.saturating_mul(10_000_000))
    }

    /// Reads a decimal text such as `12.34`; at most nine decimals.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        i64::try_from(parse_scaled(text, 9)?).map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// Nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Dollars as a float, for statistics, ratios and charts. Never feed it back into an amount.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The sum, saturating.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, saturating.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The opposite, saturating.
    pub const fn negated(self) -> Self {
        Self(self.0.saturating_neg())
    }

    /// This value rounded half up to cents, as `12.34`.
    pub fn to_cents_text(self) -> String {
        let cents = self.0.saturating_add(5_000_000).div_euclid(10_000_000);
        format_scaled(i128::from(cents), 2, 2)
    }
}

impl fmt::Display for Usd {
    /// `$12.34`; small values keep their exact decimals: `$0.000002`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = Self(self.0.saturating_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if magnitude.0 >= Self::ONE.0 / 10 || magnitude.0 == 0 {
            write!(f, "{sign}${}", magnitude.to_cents_text())
        } else {
            write!(f, "{sign}${}", format_scaled(i128::from(magnitude.0), 9, 2))
        }
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", format_scaled(i128::from(self.0), 9, 2))
    }
}

impl Serialize for Usd {
    /// Text formats: the exact decimal text, `"12.34"`; the journal keeps the integer.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&format_scaled(i128::from(self.0), 9, 2))
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

impl JsonSchema for Usd {
    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?$" })
    }
}

/// What one whole unit of an asset was worth at a point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Nano-dollars for one whole unit (one bitcoin, one euro).
    pub nanos_per_unit: i128,
    /// Who said so: `peg`, `fixed`, or a provider's name.
    pub source: SmolStr,
    /// When they said so.
    pub at: Timestamp,
    /// True if the rate was older than its `stale_after` when it was used.
    pub stale: bool,
}

impl Rate {
    /// A rate from a decimal text in dollars per whole unit.
    pub fn parse(dollars: &str, source: impl Into<SmolStr>, at: Timestamp) -> Result<Self, MoneyError> {
        Ok(Self { nanos_per_unit: parse_scaled(dollars, 9)?, source: source.into(), at, stale: false })
    }

    /// One dollar is one dollar.
    pub fn peg() -> Self {
        Self {
            nanos_per_unit: 1_000_000_000,
            source: SmolStr::new_static("peg"),
            at: Timestamp::EPOCH,
            stale: false,
        }
    }

    /// The value of `money` at this rate, rounded half away from zero to the nano-dollar; `None` if it does not fit.
    pub fn value(&self, money: &Money) -> Option<Usd> {
        let product = money.units.checked_mul(self.nanos_per_unit)?;
        let unit = 10_i128.checked_pow(u32::from(money.asset.scale))?;
        let half = unit.checked_div(2)?.checked_mul(product.signum())?;
        let nanos = product.checked_add(half)?.checked_div(unit)?;
        i64::try_from(nanos).ok().map(Usd)
    }
}

/// A payment's value in dollars as recorded when it was admitted; it is never revalued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Valuation {
    /// The value.
    pub usd: Usd,
    /// The rate that gave it.
    pub rate: Rate,
}
