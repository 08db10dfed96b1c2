use proptest::prelude::*;
use railwatch_model::{Asset, Money, Payment};
use railwatch_plugin::detector::Booking;

use super::*;

fn observe(history: &mut History, at: i64, cents: i64, payee: &str, longest: Duration) {
    let at = Timestamp::from_secs(at);
    let mut payment = Payment::settle("x402", "p", Money::new(i128::from(cents), Asset::usd()), at);
    payment.payee = Some(payee.into());
    let booking = Booking { committed: Usd::from_cents(cents), purchases: 1, ..Booking::default() };
    history.observe(&Observation { payment: &payment, booking, at, late: false }, longest);
}

proptest! {
    /// Against the naive model: keep everything, add up what is in the window.
    #[test]
    fn windows_agree_with_adding_up(
        payments in prop::collection::vec((0..5000_i64, 1..1000_i64, 0..4_u8), 1..200),
        window in 1..4000_u64,
    ) {
        let longest = Duration::from_secs(4000);
        let mut history = History::default();
        for (at, cents, payee) in &payments {
            observe(&mut history, *at, *cents, &format!("p{payee}"), longest);
        }
        let now = payments.iter().map(|(at, ..)| *at).max().unwrap();
        let window_secs = i64::try_from(window).unwrap();
        let inside: Vec<_> = payments.iter().filter(|(at, ..)| *at > now - window_secs).collect();
        let window = Duration::from_secs(window);
        let spent: i64 = inside.iter().map(|(_, cents, _)| *cents).sum();
        prop_assert_eq!(history.spent(window, Filter::All), Usd::from_cents(spent));
        prop_assert_eq!(history.count(window, Filter::All), inside.len() as u64);
        let largest = inside.iter().map(|(_, cents, _)| *cents).max().unwrap_or(0);
        prop_assert_eq!(history.largest(window, Filter::All), Usd::from_cents(largest));
        let to_p1: i64 = inside.iter().filter(|(.., payee)| *payee == 1).map(|(_, cents, _)| *cents).sum();
        prop_assert_eq!(history.spent(window, Filter::Payee("p1")), Usd::from_cents(to_p1));
        let mut payees: Vec<u8> = inside.iter().map(|(.., payee)| *payee).collect();
        payees.sort_unstable();
        payees.dedup();
        prop_assert_eq!(history.distinct(window, Dimension::Payee), payees.len() as u64);
    }
}

#[test]
fn a_busy_agent_keeps_its_totals_when_entries_are_merged() {
    let longest = Duration::from_secs(1_000_000);
    let mut history = History::default();
    for at in 0..10_000 {
        observe(&mut history, at, 1, "p", longest);
    }
    assert!(history.entries.len() <= ENTRIES_MAX);
    assert_eq!(history.spent(longest, Filter::All), Usd::from_cents(10_000));
    assert_eq!(history.count(longest, Filter::All), 10_000);
    assert_eq!(history.spent(Duration::from_secs(60), Filter::All), Usd::from_cents(60));
}

#[test]
fn only_the_payment_in_hand_is_new() {
    let mut history = History::default();
    let longest = Duration::from_secs(60);
    observe(&mut history, 0, 1, "a", longest);
    assert!(history.is_new(Dimension::Payee, "a"));
    observe(&mut history, 1, 1, "a", longest);
    assert!(!history.is_new(Dimension::Payee, "a"));
    assert!(history.is_new(Dimension::Payee, "never"));
    assert_eq!(history.previous_at(), Some(Timestamp::from_secs(0)));
}
