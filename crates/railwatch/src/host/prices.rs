//! What assets are worth: dated rates, and the value that is recorded beside a payment when it is admitted.

use std::collections::BTreeMap;
use std::sync::RwLock;

use railwatch_model::{Money, Rate, SmolStr, Timestamp, Valuation};

use crate::config::Price;

/// The rates in force. Dollars and dollar stablecoins are worth their face value unless configured otherwise.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    rates: RwLock<BTreeMap<SmolStr, Rate>>,
}

impl Prices {
    /// Rates from the configuration's fixed prices.
    pub(crate) fn fixed(prices: &BTreeMap<SmolStr, Price>, now: Timestamp) -> Self {
        let rates = Self::default();
        rates.set(prices, now);
        rates
    }

    /// Replaces all rates by the configuration's fixed prices.
    pub(crate) fn set(&self, prices: &BTreeMap<SmolStr, Price>, now: Timestamp) {
        for (asset, _) in prices.iter().filter(|(_, price)| !price.poll.is_empty()) {
            tracing::warn!(%asset, "price providers are not asked yet, fixed_usd is used");
        }
        let fixed = prices.iter().filter_map(|(asset, price)| {
            let rate = Rate::parse(&price.fixed_usd.0, "fixed", now).ok()?;
            Some((asset.clone(), rate))
        });
        *self.rates.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fixed.collect();
    }

    /// The value of an amount, if its asset has a price: under its full code, or under the code without the chain.
    pub(crate) fn value(&self, amount: &Money, now: Timestamp) -> Option<Valuation> {
        let code = amount.asset().code();
        let base = code.split('@').next().unwrap_or(code);
        let rates = self.rates.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rate = match rates.get(code).or_else(|| rates.get(base)) {
            Some(rate) => rate.clone(),
            None if amount.asset().is_dollar() => Rate { at: now, ..Rate::peg() },
            None => return None,
        };
        let usd = rate.value(amount)?;
        Some(Valuation { usd, rate })
    }
}
