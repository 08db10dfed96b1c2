use std::ops::ControlFlow;

use railwatch_model::Timestamp;
use railwatch_store::{Checkpoint, Store, StoreError, SubjectRow};

use crate::fixture::{Folder, at};

fn row<'a>(key: &'a str, secs: i64, body: &'a [u8]) -> SubjectRow<'a> {
    SubjectRow { key, last_at: at(secs), view: "{}", body: Some(body) }
}

fn save(store: &mut Store, seq: u64, rows: &[SubjectRow<'_>]) -> u64 {
    let epoch = store.checkpoint_begin(seq).unwrap();
    store.save_subjects(epoch, rows).unwrap();
    epoch
}

fn commit(store: &mut Store, seq: u64, rows: &[SubjectRow<'_>]) {
    let epoch = save(store, seq, rows);
    store.checkpoint_commit(epoch, &[("fleet", format!("after {seq}").as_bytes())]).unwrap();
}

fn subjects(store: &Store, since: Timestamp) -> Vec<(String, Vec<u8>)> {
    let mut subjects = Vec::new();
    store
        .for_each_subject(since, |row| {
            subjects.push((row.key.to_owned(), row.body.unwrap_or_default().to_owned()));
            ControlFlow::Continue(())
        })
        .unwrap();
    subjects.sort_unstable();
    subjects
}

fn expect(store: &Store, expected: &[(&str, &[u8])]) {
    let expected: Vec<_> = expected.iter().map(|(key, body)| ((*key).to_owned(), body.to_vec())).collect();
    assert_eq!(subjects(store, Timestamp::EPOCH), expected);
    for (key, body) in expected {
        assert_eq!(store.load_subject(&key).unwrap().unwrap().body, body);
    }
}

fn n_rows(folder: &Folder) -> i64 {
    let conn = rusqlite::Connection::open(folder.path()).unwrap();
    conn.query_row("SELECT count(*) FROM subjects", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_checkpoint_counts_once_it_is_committed() {
    let folder = Folder::new();
    let mut store = folder.open();
    assert_eq!(store.checkpoint().unwrap(), None);
    let epoch = save(&mut store, 7, &[row("a", 1, b"a1"), row("b", 2, b"b1")]);
    expect(&store, &[]);
    store.checkpoint_commit(epoch, &[("fleet", b"f1")]).unwrap();
    expect(&store, &[("a", b"a1"), ("b", b"b1")]);
    assert_eq!(store.checkpoint().unwrap(), Some(Checkpoint { epoch, seq: 7 }));
    assert_eq!(store.global("fleet").unwrap().as_deref(), Some(&b"f1"[..]));
    assert_eq!(subjects(&store, at(2)).len(), 1, "only b was active since then");
}

#[test]
fn only_what_changed_is_saved_again_and_old_versions_are_purged() {
    let folder = Folder::new();
    let mut store = folder.open();
    commit(&mut store, 1, &[row("a", 1, b"a1"), row("b", 1, b"b1"), row("c", 1, b"c1")]);
    let forget = SubjectRow { body: None, ..row("c", 2, b"") };
    commit(&mut store, 2, &[row("a", 2, b"a2"), forget]);
    commit(&mut store, 3, &[row("a", 3, b"a3")]);
    let expected: &[(&str, &[u8])] = &[("a", b"a3"), ("b", b"b1")];
    expect(&store, expected);
    assert_eq!(n_rows(&folder), 6);
    let mut n_steps = 0;
    while store.purge_subjects(1).unwrap() {
        expect(&store, expected);
        n_steps += 1;
        assert!(n_steps < 20, "purging ends");
    }
    assert_eq!(n_rows(&folder), 2);
    assert!(!store.purge_subjects(1).unwrap());
    expect(&store, expected);
}

#[test]
fn rows_of_a_checkpoint_that_never_ended_are_never_seen() {
    let folder = Folder::new();
    let mut store = folder.open();
    commit(&mut store, 1, &[row("a", 1, b"a1")]);
    save(&mut store, 2, &[row("a", 2, b"torn"), row("b", 2, b"torn")]);
    drop(store);
    let mut store = folder.open();
    expect(&store, &[("a", b"a1")]);
    commit(&mut store, 3, &[row("c", 3, b"c3")]);
    expect(&store, &[("a", b"a1"), ("c", b"c3")]);
    assert_eq!(n_rows(&folder), 2);
}

#[test]
fn a_stale_epoch_is_refused() {
    let folder = Folder::new();
    let mut store = folder.open();
    let stale = save(&mut store, 1, &[]);
    let current = save(&mut store, 2, &[]);
    assert!(matches!(store.save_subjects(stale, &[row("a", 1, b"")]), Err(StoreError::NotFound { .. })));
    assert!(store.checkpoint_commit(stale, &[]).is_err());
    store.checkpoint_commit(current, &[]).unwrap();
    assert!(store.checkpoint_commit(current, &[]).is_err(), "it is committed already");
}

#[test]
fn views_are_listed_in_pages() {
    let folder = Folder::new();
    let mut store = folder.open();
    commit(&mut store, 1, &[row("a", 1, b"1"), row("b", 5, b"1"), row("c", 9, b"1")]);
    commit(&mut store, 2, &[SubjectRow { view: r#"{"n":2}"#, ..row("c", 9, b"2") }]);
    let page = store.subject_views(at(0), "", 2).unwrap();
    assert_eq!(page.iter().map(|view| view.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let page = store.subject_views(at(0), "b", 2).unwrap();
    assert_eq!((page.len(), page[0].view.as_str()), (1, r#"{"n":2}"#));
}
