use std::fs;

use railwatch_store::{Advice, Generation, Store, StoreError, StoreOptions};
use rusqlite::Connection;

use crate::fixture::{Folder, append, at, payments};

#[track_caller]
fn refused(folder: &Folder) -> StoreError {
    let error = Store::open(folder.path(), &StoreOptions::default()).unwrap_err();
    assert_eq!(error.advice(), Advice::Stop);
    error
}

#[test]
fn a_second_writer_is_told_who_holds_the_store() {
    let folder = Folder::new();
    let store = folder.open();
    let error = refused(&folder);
    assert!(matches!(error, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    folder.open();
}

#[test]
fn readers_see_what_a_running_writer_committed() {
    let folder = Folder::new();
    let mut store = folder.open();
    append(&mut store, &[payments(1, 2)]);
    let reader = Store::open_read_only(folder.path()).unwrap();
    assert_eq!(reader.journal_span().unwrap().last, 1);
    append(&mut store, &[payments(2, 2)]);
    assert_eq!(reader.batches(1).count(), 2);
    drop(store);
    assert_eq!(reader.batches(1).count(), 2);
}

#[test]
fn a_reader_creates_nothing() {
    let folder = Folder::new();
    assert!(matches!(Store::open_read_only(folder.path()), Err(StoreError::CannotOpen { .. })));
    assert!(!folder.path().exists());
    fs::write(folder.path(), "").unwrap();
    assert!(matches!(Store::open_read_only(folder.path()), Err(StoreError::NotAStore { .. })));
}

#[test]
fn a_later_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open());
    Connection::open(folder.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(refused(&folder), StoreError::Newer { found: 99, .. }));
    assert!(matches!(Store::open_read_only(folder.path()), Err(StoreError::Newer { .. })));
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let folder = Folder::new();
    let text = "this is not a database, it is a text of more than sixteen bytes\n".repeat(99);
    fs::write(folder.path(), &text).unwrap();
    let error = refused(&folder);
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(folder.path()).unwrap(), text);

    let folder = Folder::new();
    Connection::open(folder.path()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(refused(&folder), StoreError::NotAStore { .. }));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = Folder::new();
    let path = folder.path().join("missing").join("railwatch.db");
    let error = Store::open(&path, &StoreOptions::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::CannotOpen { .. }) && error.to_string().contains("missing"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut store = folder.open();
    append(&mut store, &[payments(1, 1)]);
    for suffix in ["", "-wal"] {
        let path = format!("{}{suffix}", folder.path().display());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn generations_are_recorded_and_their_outcome_replaced() {
    let folder = Folder::new();
    let mut store = folder.open();
    let generation = |number: u64, outcome: &str| Generation {
        number,
        at: at(1),
        digest: "abc".into(),
        content: serde_json::json!({ "railwatch.toml": "[store]" }),
        outcome: outcome.into(),
    };
    for attempt in [generation(1, "active"), generation(2, "building"), generation(2, "failed")] {
        store.record_generation(&attempt).unwrap();
    }
    assert_eq!(store.generations(10).unwrap(), [generation(2, "failed"), generation(1, "active")]);
    assert_eq!(store.generation(1).unwrap(), Some(generation(1, "active")));
    assert_eq!(store.generation(3).unwrap(), None);
}
