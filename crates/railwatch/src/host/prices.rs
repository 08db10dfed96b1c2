//! What assets are worth: dated rates, and the value that is recorded beside a payment when it is admitted.
//!
//! Rates are fixed in the configuration, or the median of what providers say; `price_poll` asks them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use railwatch_model::{Money, Rate, SmolStr, Timestamp, Valuation};
use tokio::sync::Notify;

use crate::config::{Price, PricePoll};

/// The rates in force. Dollars and dollar stablecoins are worth their face value unless configured otherwise.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    quotes: RwLock<BTreeMap<SmolStr, Quote>>,
    /// Rung when other providers are to be asked.
    pub(crate) changed: Notify,
}

/// What is known about one asset.
#[derive(Debug)]
struct Quote {
    config: Price,
    fixed: Rate,
    /// The last answer of each provider.
    answers: Vec<Option<Rate>>,
    /// The median of the answers that agreed when the last one came.
    polled: Option<Rate>,
}

impl Prices {
    /// Rates from the configuration.
    pub(crate) fn fixed(prices: &BTreeMap<SmolStr, Price>, now: Timestamp) -> Self {
        let rates = Self::default();
        rates.set(prices, now);
        rates
    }

    /// Replaces what is configured. What unchanged providers said stays.
    pub(crate) fn set(&self, prices: &BTreeMap<SmolStr, Price>, now: Timestamp) {
        let mut quotes = self.quotes.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *quotes);
        for (asset, config) in prices {
            let Ok(fixed) = Rate::parse(&config.fixed_usd.0, "fixed", now) else { continue };
            let kept = before.remove(asset).filter(|quote| quote.config.poll == config.poll);
            let (answers, polled) = kept
                .map_or_else(|| (vec![None; config.poll.len()], None), |quote| (quote.answers, quote.polled));
            quotes.insert(asset.clone(), Quote { config: config.clone(), fixed, answers, polled });
        }
        drop(quotes);
        self.changed.notify_one();
    }

    /// The providers, each with its asset and its place among that asset's.
    pub(crate) fn providers(&self) -> Vec<(SmolStr, usize, PricePoll)> {
        let quotes = self.quotes.read().unwrap_or_else(PoisonError::into_inner);
        let of_asset = |(asset, quote): (&SmolStr, &Quote)| {
            let polls = quote.config.poll.iter().enumerate();
            polls.map(|(nth, poll)| (asset.clone(), nth, poll.clone())).collect::<Vec<_>>()
        };
        quotes.iter().flat_map(of_asset).collect()
    }

    /// Takes a provider's answer in; false if the providers disagree so much that the rate stays as it was.
    pub(crate) fn answer(&self, asset: &str, nth: usize, rate: Rate, now: Timestamp) -> bool {
        let mut quotes = self.quotes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(quote) = quotes.get_mut(asset) else { return true };
        let Some(answer) = quote.answers.get_mut(nth) else { return true };
        *answer = Some(rate);
        let median = median(&quote.answers, &quote.config, now);
        let agreed = median.is_some();
        quote.polled = median.or(quote.polled.take());
        agreed
    }

    /// The value of an amount, if its asset has a price: under its full code, or under the code without the chain.
    pub(crate) fn value(&self, amount: &Money, now: Timestamp) -> Option<Valuation> {
        let code = amount.asset().code();
        let base = code.split('@').next().unwrap_or(code);
        let quotes = self.quotes.read().unwrap_or_else(PoisonError::into_inner);
        let rate = match quotes.get(code).or_else(|| quotes.get(base)) {
            Some(quote) => quote.rate(now),
            None if amount.asset().is_dollar() => Rate { at: now, ..Rate::peg() },
            None => return None,
        };
        let usd = rate.value(amount)?;
        Some(Valuation { usd, rate })
    }
}

impl Quote {
    fn rate(&self, now: Timestamp) -> Rate {
        match &self.polled {
            Some(polled) if now.since(polled.at) <= self.config.max_stale.0 => {
                Rate { stale: now.since(polled.at) > self.config.stale_after.0, ..polled.clone() }
            }
            _ => self.fixed.clone(),
        }
    }
}

/// The median of the answers that are fresh and near the middle; `None` if none are.
fn median(answers: &[Option<Rate>], config: &Price, now: Timestamp) -> Option<Rate> {
    let is_fresh = |rate: &&Rate| now.since(rate.at) <= config.max_stale.0;
    let fresh: Vec<&Rate> = answers.iter().flatten().filter(is_fresh).collect();
    let center = middle(&fresh)?;
    #[expect(clippy::cast_possible_truncation, reason = "a share of a million")]
    let tolerance_ppm = (config.max_deviation.0 * 1e6) as i128;
    let is_near = |rate: &&Rate| {
        let distance = rate.nanos_per_unit.abs_diff(center);
        let allowed = center.saturating_mul(tolerance_ppm).unsigned_abs();
        distance.saturating_mul(1_000_000) <= allowed
    };
    let near: Vec<&Rate> = fresh.into_iter().filter(is_near).collect();
    let sources: Vec<&str> = near.iter().map(|rate| rate.source.as_str()).collect();
    Some(Rate {
        nanos_per_unit: middle(&near)?,
        source: sources.join(",").into(),
        at: near.iter().map(|rate| rate.at).max()?,
        stale: false,
    })
}

fn middle(rates: &[&Rate]) -> Option<i128> {
    let mut nanos: Vec<i128> = rates.iter().map(|rate| rate.nanos_per_unit).collect();
    nanos.sort_unstable();
    let upper = nanos.get(nanos.len() / 2)?;
    let lower = nanos.get(nanos.len().checked_sub(1)? / 2)?;
    Some(lower.saturating_add(*upper) / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use railwatch_model::Asset;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn prices() -> Prices {
        let poll =
            |n: usize| serde_json::json!({ "url": format!("https://p{n}.example/x"), "pointer": "/p" });
        let config = serde_json::json!({
            "fixed_usd": "90000", "max_deviation": "2%", "stale_after": "15m", "max_stale": "1d",
            "poll": [poll(0), poll(1), poll(2)],
        });
        let config: Price = serde_json::from_value(config).unwrap();
        Prices::fixed(&BTreeMap::from([("BTC".into(), config)]), NOW)
    }

    fn say(prices: &Prices, nth: usize, dollars: &str, at: Timestamp) -> bool {
        prices.answer("BTC", nth, Rate::parse(dollars, format!("p{nth}"), at).unwrap(), at)
    }

    /// What a bitcoin is worth, who says so, and whether that is old.
    #[track_caller]
    fn check(prices: &Prices, now: Timestamp, expected: (&str, &str, bool)) {
        let value = prices.value(&Money::parse("1", Asset::btc()).unwrap(), now).unwrap();
        let usd = serde_json::to_value(value.usd).unwrap();
        assert_eq!((usd.as_str().unwrap(), value.rate.source.as_str(), value.rate.stale), expected);
    }

    #[test]
    fn the_median_of_those_that_agree_counts() {
        let prices = prices();
        check(&prices, NOW, ("90000.00", "fixed", false));
        assert!(say(&prices, 0, "100000", NOW));
        check(&prices, NOW, ("100000.00", "p0", false));
        assert!(say(&prices, 1, "100100.50", NOW));
        check(&prices, NOW, ("100050.25", "p0,p1", false));
        assert!(say(&prices, 2, "1", NOW));
        check(&prices, NOW, ("100050.25", "p0,p1", false));
        assert!(say(&prices, 2, "100200", NOW));
        check(&prices, NOW, ("100100.50", "p0,p1,p2", false));
    }

    #[test]
    fn providers_that_disagree_change_nothing() {
        let prices = prices();
        assert!(say(&prices, 0, "100000", NOW));
        assert!(!say(&prices, 1, "50000", NOW));
        check(&prices, NOW, ("100000.00", "p0", false));
    }

    #[test]
    fn an_old_rate_is_marked_and_a_very_old_one_gives_way() {
        let prices = prices();
        assert!(say(&prices, 0, "100000", NOW));
        check(&prices, NOW.after(Duration::from_secs(901)), ("100000.00", "p0", true));
        check(&prices, NOW.after(Duration::from_secs(86_401)), ("90000.00", "fixed", false));
    }

    #[test]
    fn a_reload_keeps_what_the_same_providers_said() {
        let prices = prices();
        assert!(say(&prices, 0, "100000", NOW));
        let config = prices.quotes.read().unwrap()["BTC"].config.clone();
        prices.set(&BTreeMap::from([("BTC".into(), config.clone())]), NOW);
        check(&prices, NOW, ("100000.00", "p0", false));
        let other = Price { poll: Vec::new(), ..config };
        prices.set(&BTreeMap::from([("BTC".into(), other)]), NOW);
        check(&prices, NOW, ("90000.00", "fixed", false));
    }
}
