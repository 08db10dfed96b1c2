//! What language models cost: estimates that gateways compute in floating point and write as decimal texts.

use railwatch_model::{Asset, Money, MoneyError};

/// Decimals of an estimate: a picodollar, a thousandth of what a valuation keeps.
const SCALE: u8 = 12;
/// Decimals with which the text is read before it is rounded; beyond them everything is noise.
const READ_SCALE: u8 = 30;

/// Reads a dollar estimate from its decimal text (`0.00213`, `2.1e-06`), rounded half up to a picodollar: what lies
/// beyond is the sender's floating-point noise. No float is involved here.
pub(crate) fn dollars(text: &str) -> Result<Money, MoneyError> {
    let overflow = || MoneyError::Overflow;
    let wide = Asset::new("USD", READ_SCALE).ok_or_else(overflow)?;
    let asset = Asset::new("USD", SCALE).ok_or_else(overflow)?;
    let units = match Money::parse(text, wide) {
        Ok(read) => read.units(),
        // Smaller than a picodollar's noise, or more digits than anyone can have measured.
        Err(MoneyError::TooPrecise { .. }) => return Money::parse(&cut(text), asset),
        Err(error) => return Err(error),
    };
    let divisor = 10_i128.checked_pow(u32::from(READ_SCALE - SCALE)).ok_or_else(overflow)?;
    let rounded = units.checked_add(divisor / 2).ok_or_else(overflow)?.div_euclid(divisor);
    Ok(Money::new(rounded, asset))
}

/// The plain decimals that fit; an exponent this small is nothing.
fn cut(text: &str) -> String {
    if text.contains(['e', 'E']) {
        return "0".to_owned();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().take(usize::from(SCALE)).collect();
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_exact_to_the_picodollar() {
        for (text, units) in [
            ("0.00213", 2_130_000_000),
            ("2.1e-06", 2_100_000),
            ("0.30000000000000004", 300_000_000_000),
            ("1.2345678901234567e-05", 12_345_679),
            ("0", 0),
            ("3", 3_000_000_000_000),
            ("1e-300", 0),
            ("0.1234567890123456789012345678901234", 123_456_789_012),
        ] {
            assert_eq!(dollars(text).unwrap().units(), units, "{text}");
        }
        assert!(dollars("NaN").is_err());
        assert!(dollars("").is_err());
        assert!(dollars("1e40").is_err());
    }
}
