use railwatch_model::{Record, SmolStr, Timestamp};
use railwatch_store::{Batch, JournalSpan, Reject, Store, StoreError, StoreOptions};

use crate::fixture::{Folder, append, at, payments, sent};

#[test]
fn what_was_appended_is_read_back_in_order_after_a_reopen() {
    let folder = Folder::new();
    let batches =
        [vec![payments(1, 3), Record::Tick { now: at(2) }], vec![payments(3, 0)], vec![payments(4, 9)]];
    let mut store = folder.open();
    for (records, seq) in batches.iter().zip(1..) {
        assert_eq!(append(&mut store, records), seq);
    }
    drop(store);
    let store = folder.open();
    let read: Vec<_> = store.batches(1).map(|batch| batch.unwrap().records).collect();
    assert_eq!(read, batches);
    assert_eq!(store.batches(3).count(), 1);
    assert_eq!(store.journal_span().unwrap(), JournalSpan { first: 1, last: 3, payments_total: 12 });
    assert_eq!(store.batch(1).unwrap().unwrap().last_at, at(2));
    assert_eq!(store.batch(4).unwrap(), None);
}

#[test]
fn a_batch_brings_its_cursors_and_rejects() {
    let folder = Folder::new();
    let mut store =
        Store::open(folder.path(), &StoreOptions { rejects_max: 3, ..Default::default() }).unwrap();
    let reject = |n: i64| Reject {
        at: at(n),
        source: "stripe".into(),
        code: "bad_amount".into(),
        detail: format!("reject {n}"),
        raw: b"{}".to_vec(),
    };
    for n in 0..5 {
        let cursor: (SmolStr, String) = ("stripe".into(), format!("evt_{n}"));
        let batch = Batch {
            records: &[payments(n, 1)],
            cursors: &[cursor],
            rejects: &[reject(n)],
            ..Batch::default()
        };
        store.append(&batch).unwrap();
    }
    assert_eq!(store.cursor("stripe").unwrap().as_deref(), Some("evt_4"));
    assert_eq!(store.cursor("x402").unwrap(), None);
    assert_eq!(store.rejects(10).unwrap(), [reject(4), reject(3), reject(2)]);
    assert_eq!(store.reject_totals().unwrap(), [("stripe".into(), "bad_amount".into(), 5)]);
}

#[test]
fn times_select_batches_even_when_the_clock_jumped_back() {
    let folder = Folder::new();
    let mut store = folder.open();
    for secs in [10, 20, 30, 15, 40, 50] {
        append(&mut store, &[payments(secs, 1)]);
    }
    let select = |from: Timestamp, until: Timestamp| -> Vec<u64> {
        store.batches_between(from, until).unwrap().map(|batch| batch.unwrap().seq).collect()
    };
    assert_eq!(select(at(15), at(45)), [2, 3, 4, 5]);
    assert_eq!(select(at(16), at(45)), [2, 3, 5]);
    assert_eq!(select(at(45), at(100)), [6]);
    assert_eq!(select(at(60), at(100)), [0_u64; 0]);
    assert_eq!(select(at(0), at(10)), [0_u64; 0]);
}

#[test]
fn an_empty_batch_is_refused() {
    let mut store = Folder::new().open();
    assert!(matches!(store.append(&Batch::default()), Err(StoreError::Unstorable { .. })));
    assert_eq!(append(&mut store, &[payments(1, 1)]), 1);
}

#[test]
fn calls_that_belong_together_are_durable_together_or_not_at_all() {
    let folder = Folder::new();
    let mut store = folder.open();
    let kept = store.together(|store| {
        append(store, &[payments(1, 2)]);
        // A part that fails leaves no trace and does not end the others.
        assert!(store.settle(7, at(1), &sent("{}")).is_err());
        Ok(append(store, &[payments(2, 3)]))
    });
    assert_eq!(kept.unwrap(), 2);
    let undone: Result<(), StoreError> = store.together(|store| {
        append(store, &[payments(3, 4)]);
        Err(StoreError::Busy)
    });
    assert!(undone.is_err());
    assert_eq!(append(&mut store, &[payments(4, 5)]), 3, "the position is free again");
    drop(store);
    let span = JournalSpan { first: 1, last: 3, payments_total: 10 };
    assert_eq!(folder.open().journal_span().unwrap(), span);
}

#[test]
fn a_full_store_undoes_what_belongs_together_and_goes_on_when_there_is_room() {
    let folder = Folder::new();
    let options = StoreOptions { size_max: Some(1 << 20), ..StoreOptions::default() };
    let mut store = Store::open(folder.path(), &options).unwrap();
    append(&mut store, &[payments(1, 1)]);
    let full = store.together(|store| {
        append(store, &[payments(2, 1)]);
        store.append(&Batch { records: &[payments(3, 20_000)], ..Batch::default() })
    });
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    assert_eq!(append(&mut store, &[payments(2, 1)]), 2);
}
