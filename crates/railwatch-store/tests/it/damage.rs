use std::fs;
use std::path::PathBuf;

use railwatch_model::SmolStr;
use railwatch_store::{Advice, Batch, Report, Store, StoreError, StoreOptions};

use crate::fixture::{Folder, append, at, payments};

const N_BATCHES: i64 = 6;

/// A closed store with six batches.
fn written() -> Folder {
    let folder = Folder::new();
    let mut store = folder.open();
    for secs in 1..=N_BATCHES {
        append(&mut store, &[payments(secs, 20)]);
    }
    folder
}

fn diagnose(folder: &Folder) -> Result<Report, StoreError> {
    Ok(Store::open(folder.path(), &StoreOptions::default())?.doctor(|_| {}))
}

#[test]
fn a_store_that_is_well_is_told_so() {
    let report = diagnose(&written()).unwrap();
    assert_eq!((report.findings, report.n_batches, report.n_payments), (vec![], 6, 120));
}

#[test]
fn a_flipped_bit_in_a_batch_is_found_and_the_others_are_still_read() {
    let folder = written();
    let mut bytes = fs::read(folder.path()).unwrap();
    let needle = b"payment-4-7";
    // SQLite leaves stale copies in free parts of its pages: flip them all.
    let places: Vec<_> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(needle)).collect();
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(folder.path(), bytes).unwrap();

    let report = diagnose(&folder).unwrap();
    let places: Vec<_> = report.findings.iter().map(|finding| finding.place.as_str()).collect();
    assert_eq!((places, report.n_batches), (vec!["journal batch 4"], 5));
    let read: Vec<_> = folder.open().batches(1).map(|batch| batch.map(|batch| batch.seq).ok()).collect();
    assert_eq!(read, [Some(1), Some(2), Some(3), None, Some(5), Some(6)]);
    let error = folder.open().batch(4).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }) && error.advice() == Advice::Stop, "{error}");
}

/// Wherever a page is overwritten: an error or a finding, never a panic, an endless loop, or a wrong batch.
#[test]
fn an_overwritten_page_is_never_read_as_truth() {
    let intact = written();
    let originals: Vec<_> = intact.open().batches(1).map(Result::unwrap).collect();
    let bytes = fs::read(intact.path()).unwrap();
    let page_size = usize::try_from(StoreOptions::default().page_size).unwrap();
    let n_used = bytes.len() / page_size;
    assert!(n_used > 20, "the schema alone has more pages than that");
    for page in 0..n_used {
        let folder = Folder::new();
        let mut damaged = bytes.clone();
        damaged[page * page_size..(page + 1) * page_size].fill(0xa5);
        fs::write(folder.path(), damaged).unwrap();
        match Store::open(folder.path(), &StoreOptions::default()) {
            Err(error) => assert_eq!(error.advice(), Advice::Stop, "page {page}: {error}"),
            Ok(store) => {
                for batch in store.batches(1).take(100).flatten() {
                    assert!(originals.contains(&batch), "page {page}: a wrong batch {}", batch.seq);
                }
                assert!(!store.doctor(|_| {}).is_healthy(), "page {page} is damaged, and nobody noticed");
            }
        }
    }
}

/// A WAL that lost its end is a store that lost its newest batches, whole ones.
#[test]
fn a_truncated_wal_leaves_a_prefix() {
    let folder = Folder::new();
    let mut store = folder.open();
    for secs in 1..=N_BATCHES {
        append(&mut store, &[payments(secs, 20)]);
    }
    let wal = |path: PathBuf| format!("{}-wal", path.display());
    let (file, log) = (fs::read(folder.path()).unwrap(), fs::read(wal(folder.path())).unwrap());
    let mut lasts = Vec::new();
    for keep in (0..=10).map(|tenths| log.len() * tenths / 10) {
        let copy = Folder::new();
        fs::write(copy.path(), &file).unwrap();
        fs::write(wal(copy.path()), &log[..keep]).unwrap();
        let mut store = copy.open();
        assert!(store.doctor(|_| {}).is_healthy());
        let last = store.journal_span().unwrap().last;
        assert_eq!(store.batches(1).count(), usize::try_from(last).unwrap());
        assert_eq!(append(&mut store, &[payments(99, 1)]), last + 1);
        lasts.push(last);
    }
    assert!(lasts.is_sorted() && lasts.first() == Some(&0) && lasts.last() == Some(&6), "{lasts:?}");
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_space() {
    let folder = Folder::new();
    let options = StoreOptions { size_max: Some(1 << 20), ..StoreOptions::default() };
    let mut store = Store::open(folder.path(), &options).unwrap();
    let append_with_cursor = |store: &mut Store, secs: i64| {
        let cursor: (SmolStr, String) = ("stripe".into(), secs.to_string());
        let records = [payments(secs, 500)];
        store.append(&Batch { records: &records, cursors: &[cursor], ..Batch::default() })
    };
    let (mut secs, error) = (1_i64..)
        .find_map(|secs| append_with_cursor(&mut store, secs).err().map(|error| (secs, error)))
        .unwrap();
    assert!(matches!(error, StoreError::Full) && error.advice() == Advice::FreeSpace, "{error}");
    let last = u64::try_from(secs - 1).unwrap();
    assert!(last > 5, "it was full after {last} batches");
    let check = |store: &Store, last: u64| {
        assert_eq!(store.journal_span().unwrap().last, last);
        assert_eq!(store.cursor("stripe").unwrap(), Some(last.to_string()));
        assert!(store.doctor(|_| {}).is_healthy());
    };
    check(&store, last);
    assert!(matches!(append_with_cursor(&mut store, secs), Err(StoreError::Full)), "it is still full");

    let epoch = store.checkpoint_begin(last).unwrap();
    store.checkpoint_commit(epoch, &[]).unwrap();
    assert_eq!(store.forget_batches(at(3), 100).unwrap(), 2);
    append_with_cursor(&mut store, secs).unwrap();
    check(&store, last + 1);
    drop(store);
    let mut store = folder.open();
    secs += 1;
    append_with_cursor(&mut store, secs).unwrap();
    check(&store, last + 2);
}

#[test]
fn a_missing_batch_is_told_and_a_far_away_one_does_not_stop_the_doctor() {
    let folder = written();
    let conn = rusqlite::Connection::open(folder.path()).unwrap();
    conn.execute("DELETE FROM journal WHERE seq = 3", []).unwrap();
    conn.execute("UPDATE journal SET seq = 1 << 60 WHERE seq = 6", []).unwrap();
    drop(conn);
    let report = diagnose(&folder).unwrap();
    let places: Vec<_> = report.findings.iter().map(|finding| finding.place.as_str()).collect();
    let far = 1_u64 << 60;
    let expected = [
        "journal batches 3 to 3".to_owned(),
        format!("journal batches 6 to {}", far - 1),
        format!("journal batch {far}"),
    ];
    assert_eq!(places, expected);
    let read = |from: u64| -> Vec<Option<u64>> {
        folder.open().batches(from).take(10).map(|batch| batch.map(|batch| batch.seq).ok()).collect()
    };
    assert_eq!(read(1), [Some(1), Some(2), None, Some(4), Some(5), None, None]);
    assert_eq!(read(3)[..2], [None, Some(4)], "a recovery that starts at the gap is told");
}
