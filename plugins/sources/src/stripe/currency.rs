//! Stripe's minor units. Source: Stripe's currency documentation; where it disagrees with ISO 4217 the amount is
//! rescaled to the ISO asset, so that one currency is one asset on every rail.

use std::collections::BTreeMap;

use railwatch_model::{Asset, Money, MoneyError};

/// Currencies that Stripe counts in whole units.
const ZERO_DECIMALS: &[&str] = &[
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
];
/// Currencies that Stripe counts in thousandths (the last digit is always zero on cards).
const THREE_DECIMALS: &[&str] = &["bhd", "jod", "kwd", "omr", "tnd"];

/// `units` of Stripe's minor unit of `currency` (lower case). `decimals` overrides the table by lower-case code, for
/// currencies whose documentation and practice disagree.
///
/// Stripe's special cases: ISK and UGX have no minor unit in ISO 4217 and two decimals (ending in 00) in the API; MGA
/// has two in ISO 4217 and none in the API.
pub(crate) fn money(
    units: i128,
    currency: &str,
    decimals: &BTreeMap<String, u8>,
) -> Result<Money, MoneyError> {
    if currency == "usd" && decimals.is_empty() {
        return Ok(Money::new(units, Asset::usd()));
    }
    let lower = currency.to_ascii_lowercase();
    let exponent = decimals.get(&lower).copied().unwrap_or_else(|| exponent(&lower));
    let asset = match Asset::known(&lower) {
        Ok(asset) => asset,
        Err(error) => {
            let declared =
                decimals.get(&lower).and_then(|scale| Asset::new(lower.to_ascii_uppercase(), *scale));
            declared.ok_or(error)?
        }
    };
    rescale(units, exponent, asset)
}

fn exponent(lower: &str) -> u8 {
    if ZERO_DECIMALS.contains(&lower) {
        0
    } else if THREE_DECIMALS.contains(&lower) {
        3
    } else {
        2
    }
}

/// Counts `units * 10^-exponent` in the asset's own unit; an amount that the asset cannot express keeps Stripe's
/// scale, as an asset of its own.
fn rescale(units: i128, exponent: u8, asset: Asset) -> Result<Money, MoneyError> {
    let up = asset.scale().saturating_sub(exponent);
    let down = exponent.saturating_sub(asset.scale());
    let factor = 10_i128.checked_pow(u32::from(up)).ok_or(MoneyError::Overflow)?;
    let divisor = 10_i128.checked_pow(u32::from(down)).ok_or(MoneyError::Overflow)?;
    if units % divisor != 0 {
        let wide = Asset::new(asset.code(), exponent).ok_or(MoneyError::Overflow)?;
        return Ok(Money::new(units, wide));
    }
    (units / divisor).checked_mul(factor).map(|units| Money::new(units, asset)).ok_or(MoneyError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: i128, currency: &str, expected: &str) {
        assert_eq!(money(units, currency, &BTreeMap::new()).unwrap().to_string(), expected);
    }

    #[test]
    fn every_row_of_the_table() {
        for code in ZERO_DECIMALS {
            let upper = code.to_ascii_uppercase();
            let expected = if *code == "mga" { "500.00 MGA".to_owned() } else { format!("500 {upper}") };
            check(500, code, &expected);
        }
        for code in THREE_DECIMALS {
            check(5120, code, &format!("5.120 {}", code.to_ascii_uppercase()));
        }
    }

    #[test]
    fn special_cases_are_whole_in_iso_and_two_decimals_at_stripe() {
        check(500, "isk", "5 ISK");
        check(500, "ugx", "5 UGX");
        check(505, "ugx", "5.05 UGX");
        check(-4999, "usd", "-49.99 USD");
        check(4999, "EUR", "49.99 EUR");
        check(1000, "huf", "10.00 HUF");
        check(1000, "twd", "10.00 TWD");
    }

    #[test]
    fn the_configuration_may_overrule_the_table() {
        let decimals = BTreeMap::from([("ugx".to_owned(), 0), ("zzz".to_owned(), 4)]);
        assert_eq!(money(500, "ugx", &decimals).unwrap().to_string(), "500 UGX");
        assert_eq!(money(12_345, "zzz", &decimals).unwrap().to_string(), "1.2345 ZZZ");
        assert!(money(1, "qqq", &decimals).is_err());
        assert_eq!(money(1, "usd", &decimals).unwrap().to_string(), "0.01 USD");
    }
}
