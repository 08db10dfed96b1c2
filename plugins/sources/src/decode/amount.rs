//! Amounts: decimal text or an integer count, and a currency, become exact money. No float is ever made.

use railwatch_model::{Asset, Money, MoneyError, Rate, Usd};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Problem;

/// What the number in an amount field counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AmountUnit {
    /// Whole units with decimals: `12.34` dollars, `0.0015` USDC.
    #[default]
    Decimal,
    /// The asset's smallest unit: cents, millisatoshi, a token's atoms. (`atoms` means the same.)
    #[serde(alias = "atoms")]
    Minor,
}

/// How amounts are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Amounts {
    pub(crate) unit: AmountUnit,
    /// Tokens with decimals that the configuration vouches for.
    pub(crate) declared: Vec<Asset>,
}

/// Fiat amounts may have more decimals than coins do (a language model's tokens cost fractions of a cent). They keep
/// every digit, in the first of these scales that holds them; 24 is the last at which a dollar amount can be valued.
const FINE_SCALES: [u8; 3] = [9, 18, 24];
const TEXT_LEN_MAX: usize = 80;

/// A currency as the message names it: the asset, and the decimals that its amounts are written with.
struct Denomination {
    asset: Asset,
    decimals: u8,
    /// Fiat: more decimals are kept in a finer scale.
    refines: bool,
}

impl Amounts {
    /// Exact money from a number's text. Negative amounts are returned as such.
    pub(crate) fn read(&self, text: &str, currency: &str) -> Result<Money, Problem> {
        let bad = |error: &MoneyError| Problem::new("bad_amount", error);
        if text.len() > TEXT_LEN_MAX {
            return Err(Problem::new(
                "bad_amount",
                format!("amounts have at most {TEXT_LEN_MAX} characters"),
            ));
        }
        let denomination = self.denomination(currency)?;
        let money = parse(text, &denomination).map_err(|error| bad(&error))?;
        let absurd = money.asset().is_dollar()
            && !Rate::peg()
                .value(&money)
                .is_some_and(|usd| usd <= Usd::PAYMENT_MAX && usd >= Usd::PAYMENT_MAX.negated());
        if absurd {
            let detail = format!("{money} is beyond {}, the most that one payment may be", Usd::PAYMENT_MAX);
            return Err(Problem::new("bad_amount", detail));
        }
        Ok(money)
    }

    fn denomination(&self, currency: &str) -> Result<Denomination, Problem> {
        let whole = |asset: Asset| {
            let decimals = match self.unit {
                AmountUnit::Decimal => asset.scale(),
                AmountUnit::Minor => 0,
            };
            // Everything with few decimals is fiat; a token's atoms cannot be split.
            let refines = self.unit == AmountUnit::Decimal && asset.scale() <= 3;
            Denomination { asset, decimals, refines }
        };
        if let Some(asset) = self.declared.iter().find(|asset| asset.code() == currency) {
            return Ok(Denomination { refines: false, ..whole(asset.clone()) });
        }
        match currency {
            "USD" | "usd" => Ok(whole(Asset::usd())),
            "cents" | "usd_cents" => Ok(Denomination { asset: Asset::usd(), decimals: 0, refines: false }),
            "sat" | "sats" | "SAT" => Ok(Denomination { asset: Asset::btc(), decimals: 3, refines: false }),
            "msat" | "msats" | "MSAT" => {
                Ok(Denomination { asset: Asset::btc(), decimals: 0, refines: false })
            }
            other => Asset::known(other).map(whole).map_err(|error| Problem::new("unknown_currency", error)),
        }
    }
}

/// Reads the text in the denomination's own decimals, or, where it refines, in the first fine scale that holds it.
fn parse(text: &str, denomination: &Denomination) -> Result<Money, MoneyError> {
    let Denomination { asset, decimals, refines } = denomination;
    let in_own = || {
        Money::parse(text, asset.with_scale(*decimals)?).map(|money| Money::new(money.units(), asset.clone()))
    };
    if !refines {
        return in_own();
    }
    // Most texts have no exponent, and their length says which scale is too small without trying it.
    let fraction_len = text.split_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
    let holds = |scale: u8| fraction_len <= usize::from(scale);
    let mut result = if holds(*decimals) { Some(in_own()) } else { None };
    for scale in FINE_SCALES.into_iter().filter(|scale| holds(*scale)) {
        if !matches!(result, None | Some(Err(MoneyError::TooPrecise { .. }))) {
            break;
        }
        result = Some(Money::parse(text, asset.with_scale(scale)?));
    }
    // Finer than the finest scale: say what the asset's own decimals are.
    result.unwrap_or_else(in_own)
}

/// The currency that a field's name implies: `amount_usd`, `fee_sats`, `price_cents`.
pub(crate) fn implied_currency(field: &str) -> Option<&'static str> {
    const SUFFIXES: &[(&str, &str)] = &[
        ("usd", "USD"),
        ("usdc", "USDC"),
        ("cents", "usd_cents"),
        ("sat", "sat"),
        ("sats", "sat"),
        ("msat", "msat"),
        ("msats", "msat"),
    ];
    let suffix = field.rsplit('_').next().unwrap_or_default();
    SUFFIXES.iter().find(|(name, _)| *name == suffix).map(|(_, currency)| *currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unit: AmountUnit, text: &str, currency: &str, expected: Result<&str, &str>) {
        let declared = vec![Asset::new("WETH@base", 18).unwrap()];
        let read = Amounts { unit, declared }.read(text, currency);
        let shown = read.as_ref().map(ToString::to_string).map_err(|problem| problem.code);
        assert_eq!(shown.as_deref().map_err(|code| *code), expected);
    }

    #[test]
    fn amounts_are_exact() {
        use AmountUnit::{Decimal, Minor};
        check(Decimal, "12.3", "usd", Ok("12.30 USD"));
        check(Decimal, "8.7385", "USD", Ok("8.738500000 USD"));
        check(Decimal, "0.0021300000000000004", "USD", Ok("0.002130000000000000400000 USD"));
        check(Decimal, "2.13e-7", "USD", Ok("0.000000213 USD"));
        check(Decimal, "1.5", "USDC@base", Ok("1.500000 USDC@base"));
        check(Decimal, "5", "JPY", Ok("5 JPY"));
        check(Minor, "1500000", "USDC", Ok("1.500000 USDC"));
        check(Minor, "1234", "EUR", Ok("12.34 EUR"));
        check(Minor, "1", "WETH@base", Ok("0.000000000000000001 WETH@base"));
        check(Decimal, "21", "sat", Ok("0.00000021000 BTC"));
        check(Decimal, "21.5", "sat", Ok("0.00000021500 BTC"));
        check(Minor, "21", "msat", Ok("0.00000000021 BTC"));
        check(Decimal, "-3", "USD", Ok("-3.00 USD"));
        check(Decimal, "199", "usd_cents", Ok("1.99 USD"));
    }

    #[test]
    fn nonsense_is_refused() {
        use AmountUnit::{Decimal, Minor};
        for text in ["", "ten", "NaN", "1e400", "0x10", "1,5", "1e-99", "--1", "1.2.3"] {
            check(Decimal, text, "USD", Err("bad_amount"));
        }
        check(Decimal, "100000000.01", "USD", Err("bad_amount"));
        check(Decimal, "-100000001", "USDC", Err("bad_amount"));
        check(Decimal, "0.0000001", "USDC", Err("bad_amount"));
        check(Minor, "1.5", "USD", Err("bad_amount"));
        check(Minor, &"9".repeat(60), "BTC", Err("bad_amount"));
        check(Decimal, &"1".repeat(90), "BTC", Err("bad_amount"));
        check(Decimal, "1", "DOGE", Err("unknown_currency"));
    }

    #[test]
    fn the_most_that_a_payment_may_be_is_accepted() {
        check(AmountUnit::Decimal, "100000000", "USD", Ok("100000000.00 USD"));
    }
}
