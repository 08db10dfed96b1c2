//! Spend per rail over the last day, in minutes of event time.

use std::collections::BTreeMap;

use railwatch_model::{SmolStr, Timestamp, Usd};
use schemars::JsonSchema;
use serde::Serialize;

const MINUTE: i64 = 60;
/// Minutes that are kept: a day.
const MINUTES: usize = 1440;
/// Minutes of one window, as the velocity signal has it.
const WINDOW: usize = 15;
/// Rails that are told apart; further ones are summed as `other`.
const RAILS_MAX: usize = 32;

/// One rail now against its own last day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct RailNow {
    /// The rail.
    pub rail: SmolStr,
    /// Dollars per hour over the last 15 minutes.
    pub usd_per_hour: f64,
    /// The band that 15-minute windows of the last day mostly kept to (10 to 90 %), dollars per hour; `None` while
    /// less than two hours are known.
    pub usual: Option<[f64; 2]>,
    /// Dollars in the last 24 hours.
    pub usd_day: Usd,
    /// Payments in the last 24 hours.
    pub payments_day: u64,
    /// Dollars per hour in each quarter of an hour of the last six hours, oldest first.
    pub quarters: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Ring {
    usd: Vec<i64>,
    payments: Vec<u32>,
}

/// All rails.
#[derive(Debug, Default)]
pub(crate) struct Rails {
    rings: BTreeMap<SmolStr, Ring>,
    /// The newest minute that is kept.
    newest: i64,
    /// The first minute in which anything was paid.
    first: Option<i64>,
}

impl Rails {
    /// Moves the present to `now`: minutes that begin are empty.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let minute = now.secs().div_euclid(MINUTE);
        if minute <= self.newest {
            return;
        }
        let begun = usize::try_from(minute - self.newest).unwrap_or(MINUTES).min(MINUTES);
        for ring in self.rings.values_mut() {
            for back in 0..begun {
                let at = place(minute - i64::try_from(back).unwrap_or(0));
                (ring.usd[at], ring.payments[at]) = (0, 0);
            }
        }
        self.newest = minute;
    }

    /// Books what one payment committed.
    pub(crate) fn book(&mut self, rail: &SmolStr, at: Timestamp, usd: Usd) {
        let minute = at.secs().div_euclid(MINUTE).min(self.newest);
        if self.newest - minute >= i64::try_from(MINUTES).unwrap_or(i64::MAX) {
            return;
        }
        let name = if self.rings.contains_key(rail) || self.rings.len() < RAILS_MAX {
            rail.clone()
        } else {
            SmolStr::new_static("other")
        };
        let empty = || Ring { usd: vec![0; MINUTES], payments: vec![0; MINUTES] };
        let ring = self.rings.entry(name).or_insert_with(empty);
        let at = place(minute);
        ring.usd[at] = ring.usd[at].saturating_add(usd.nanos());
        ring.payments[at] = ring.payments[at].saturating_add(1);
        self.first = Some(self.first.map_or(minute, |first| first.min(minute)));
    }

    /// Every rail, the one that spends most now first.
    pub(crate) fn now(&self) -> Vec<RailNow> {
        let known = self.first.map_or(0, |first| self.newest - first);
        let known = usize::try_from(known).unwrap_or(0).min(MINUTES - 1);
        let mut rails: Vec<RailNow> =
            self.rings.iter().map(|(rail, ring)| self.rail(rail, ring, known)).collect();
        rails.sort_by(|a, b| b.usd_per_hour.total_cmp(&a.usd_per_hour).then(b.usd_day.cmp(&a.usd_day)));
        rails
    }

    fn rail(&self, rail: &SmolStr, ring: &Ring, known: usize) -> RailNow {
        let back = |minutes: usize| place(self.newest - i64::try_from(minutes).unwrap_or(0));
        let window = |end: usize| -> f64 {
            let nanos: i64 = (end..end + WINDOW).map(|minutes| ring.usd[back(minutes)]).sum();
            Usd::from_nanos(nanos).dollars() * 60.0 / WINDOW as f64
        };
        let mut windows: Vec<f64> = (1..known / WINDOW).map(|quarter| window(quarter * WINDOW)).collect();
        windows.sort_by(f64::total_cmp);
        let at = |share: usize| windows.get((windows.len() - 1) * share / 100).copied().unwrap_or_default();
        RailNow {
            rail: rail.clone(),
            usd_per_hour: window(0),
            usual: (windows.len() >= 8).then(|| [at(10), at(90)]),
            usd_day: Usd::from_nanos(ring.usd.iter().sum()),
            payments_day: ring.payments.iter().map(|n| u64::from(*n)).sum(),
            quarters: (0..24).rev().map(|quarter| window(quarter * WINDOW)).collect(),
        }
    }
}

fn place(minute: i64) -> usize {
    usize::try_from(minute.rem_euclid(1440)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 / 60 * 60 + minute * 60)
    }

    #[test]
    fn a_window_is_a_quarter_of_an_hour_and_the_day_forgets() {
        let mut rails = Rails::default();
        let rail = SmolStr::new("x402");
        for minute in 0..600 {
            rails.advance(at(minute));
            rails.book(&rail, at(minute), Usd::ONE);
        }
        let now = &rails.now()[0];
        assert_eq!(now.usd_per_hour, 60.0);
        assert_eq!(now.usual, Some([60.0, 60.0]));
        assert_eq!((now.usd_day, now.payments_day), (Usd::from_cents(60_000), 600));
        rails.advance(at(599 + 15));
        assert_eq!(rails.now()[0].usd_per_hour, 0.0);
        rails.advance(at(599 + 1440));
        assert_eq!((rails.now()[0].usd_day, rails.now()[0].payments_day), (Usd::ZERO, 0));
    }

    #[test]
    fn a_late_payment_counts_where_it_belongs_and_an_ancient_one_nowhere() {
        let mut rails = Rails::default();
        let rail = SmolStr::new("stripe");
        rails.advance(at(3000));
        rails.book(&rail, at(2000), Usd::ONE);
        rails.book(&rail, at(1000), Usd::ONE);
        let now = &rails.now()[0];
        assert_eq!((now.usd_day, now.usd_per_hour), (Usd::ONE, 0.0));
    }

    #[test]
    fn beyond_the_limit_rails_are_summed() {
        let mut rails = Rails::default();
        rails.advance(at(0));
        for n in 0..RAILS_MAX + 5 {
            rails.book(&SmolStr::new(format!("rail{n}")), at(0), Usd::ONE);
        }
        let other = rails.now().into_iter().find(|rail| rail.rail == "other").unwrap();
        assert_eq!(other.usd_day, Usd::from_cents(500));
    }
}
