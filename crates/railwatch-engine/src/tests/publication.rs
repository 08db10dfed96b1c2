//! Who looks on sees every change once, and as it is by then.

use std::collections::BTreeMap;

use railwatch_model::Usd;

use super::{engine, feed, payment, tick};
use crate::{Effects, Engine};

/// How often a slot was handed out, and what it was in the end.
type Seen = BTreeMap<usize, (usize, Option<(String, Usd)>)>;

/// Publishes everything, `rows_max` at a time: how often each slot was handed out, and what it is in the end.
fn publish(engine: &mut Engine, rows_max: usize) -> Seen {
    let mut seen = Seen::new();
    while engine.has_unpublished() {
        let mut handed_out = 0;
        engine.publish(rows_max, |slot, published| {
            handed_out += 1;
            let shown = published.map(|row| (row.subject.to_string(), row.totals.committed));
            let (n, last) = seen.entry(slot).or_insert((0, None));
            (*n, *last) = (*n + 1, shown);
        });
        assert!(handed_out <= rows_max);
    }
    seen
}

fn names(seen: &Seen) -> Vec<(String, Usd)> {
    let mut names: Vec<_> = seen.values().filter_map(|(_, shown)| shown.clone()).collect();
    names.sort();
    names
}

#[test]
fn every_change_is_published_once() {
    let (mut engine, mut effects) = (engine(), Effects::default());
    let paid = |n: i64| (0..50).map(|at| payment("a1", &format!("p{n}-{at}"), 1000 + n, 1)).collect();
    feed(&mut engine, 1000, paid(0), &mut effects);
    feed(&mut engine, 1001, vec![payment("a2", "q", 1001, 7)], &mut effects);
    let seen = publish(&mut engine, 1);
    let usd = |dollars: i64| Usd::from_cents(dollars * 100);
    let expected = [("a1".to_owned(), usd(50)), ("a2".to_owned(), usd(7)), ("the fleet".to_owned(), usd(57))];
    assert_eq!(names(&seen), expected);
    assert!(seen.values().all(|(n, _)| *n == 1), "{seen:?}");

    assert!(!engine.has_unpublished());
    feed(&mut engine, 1002, paid(2), &mut effects);
    let seen = publish(&mut engine, 10);
    assert_eq!(names(&seen), [("a1".to_owned(), usd(100)), ("the fleet".to_owned(), usd(107))]);
}

#[test]
fn who_leaves_memory_is_published_as_gone() {
    let (mut engine, mut effects) = (engine(), Effects::default());
    feed(&mut engine, 1000, vec![payment("a1", "p", 1000, 1)], &mut effects);
    publish(&mut engine, 100);
    tick(&mut engine, 1000 + 90 * 86_400, &mut effects);
    engine.checkpoint_begin();
    while !engine.checkpoint_step(100).is_empty() {}
    assert_eq!(engine.evict_idle(), 1);
    let seen = publish(&mut engine, 100);
    assert!(seen.values().any(|(_, shown)| shown.is_none()), "{seen:?}");
}
