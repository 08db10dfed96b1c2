use proptest::prelude::*;
use railwatch_model::{Asset, Money, Rate, Status, Valuation};

use super::*;

fn report(kind: Kind, id: &str, parent: Option<&str>, cents: i64) -> Admitted {
    let amount = Money::new(i128::from(cents), Asset::usd());
    let mut payment = Payment::settle("stripe", id, amount, Timestamp::from_secs(1_000_000));
    payment.kind = kind;
    payment.parent = parent.map(Into::into);
    payment.valuation = Some(Valuation { usd: Usd::from_cents(cents), rate: Rate::peg() });
    Admitted { payment, disposition: Disposition::First }
}

#[track_caller]
fn check(reports: &[Admitted], committed: i64, settled: i64, held: i64, purchases: i64) {
    let mut ledger = Ledger::default();
    for report in reports {
        ledger.book(report);
    }
    let totals = ledger.totals;
    assert_eq!(
        (totals.committed, totals.settled, totals.held, totals.purchases),
        (Usd::from_cents(committed), Usd::from_cents(settled), Usd::from_cents(held), purchases)
    );
}

#[test]
fn a_hold_and_its_capture_are_one_purchase() {
    let hold = report(Kind::Hold, "h", None, 1000);
    let capture = report(Kind::Settle, "c", Some("h"), 1000);
    check(std::slice::from_ref(&hold), 1000, 0, 1000, 1);
    check(&[hold.clone(), capture.clone()], 1000, 1000, 0, 1);
    check(&[capture, hold], 1000, 1000, 0, 1);
}

#[test]
fn partial_captures_tips_and_releases() {
    let hold = report(Kind::Hold, "h", None, 1000);
    let partial = report(Kind::Settle, "c", Some("h"), 400);
    let rest = report(Kind::Release, "r", Some("h"), 600);
    check(&[hold.clone(), partial.clone()], 1000, 400, 600, 1);
    check(&[hold.clone(), partial, rest], 400, 400, 0, 1);
    check(&[hold.clone(), report(Kind::Settle, "c", Some("h"), 1200)], 1200, 1200, 0, 1);
    check(&[hold.clone(), report(Kind::Release, "r", Some("h"), 1000)], 0, 0, 0, 1);
    let raised = report(Kind::Hold, "h2", Some("h"), 250);
    check(&[report(Kind::Hold, "h", None, 500), raised], 750, 0, 750, 1);
}

#[test]
fn refunds_reduce_the_budget_and_not_the_velocity() {
    check(
        &[report(Kind::Settle, "c", None, 1000), report(Kind::Refund, "r", Some("c"), 300)],
        1000,
        700,
        0,
        1,
    );
}

#[test]
fn deposits_and_declines_are_not_spend() {
    check(&[report(Kind::Deposit, "d", None, 1000), report(Kind::Declined, "x", None, 900)], 0, 0, 0, 0);
}

#[test]
fn running_totals_count_their_increase_whatever_their_order() {
    let total = |id: &str, cents| {
        let mut report = report(Kind::Refund, id, Some("charge"), cents);
        report.payment.running_total = true;
        report
    };
    let settle = report(Kind::Settle, "charge", None, 1000);
    check(&[settle.clone(), total("a", 100), total("b", 250)], 1000, 750, 0, 1);
    check(&[settle, total("b", 250), total("a", 100)], 1000, 750, 0, 1);
}

#[test]
fn a_retraction_takes_back_exactly_what_was_counted() {
    let settle = report(Kind::Settle, "c", None, 1000);
    let mut retracted = settle.clone();
    retracted.disposition = Disposition::Retracts;
    retracted.payment.status = Status::Retracted;
    check(&[settle, retracted], 0, 0, 0, 0);
}

proptest! {
    #[test]
    fn order_of_arrival_does_not_change_totals(
        pieces in prop::collection::vec((0..4_u8, 0..3_u8, 1..5000_i64), 1..12),
        seed in any::<u64>(),
    ) {
        let reports: Vec<Admitted> = pieces.iter().enumerate().map(|(n, (kind, purchase, cents))| {
            let hold = format!("h{purchase}");
            match kind {
                0 => report(Kind::Hold, &hold, None, *cents),
                1 => report(Kind::Settle, &format!("s{n}"), Some(&hold), *cents),
                2 => report(Kind::Release, &format!("r{n}"), Some(&hold), *cents),
                _ => report(Kind::Settle, &format!("s{n}"), None, *cents),
            }
        }).collect();
        let mut shuffled = reports.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
        }
        let totals = |reports: &[Admitted]| {
            let mut ledger = Ledger::default();
            reports.iter().for_each(|report| { ledger.book(report); });
            ledger.totals
        };
        prop_assert_eq!(totals(&reports), totals(&shuffled));
    }
}
