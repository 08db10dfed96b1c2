use railwatch_model::AlertState::{Firing, Resolved};
use railwatch_model::{Alert, IncidentId, Occasion};
use railwatch_store::{Effects, Store, StoreOptions};

use crate::fixture::{Folder, alert, append, at, notice, payments, sent};

fn checkpoint(store: &mut Store, seq: u64) {
    let epoch = store.checkpoint_begin(seq).unwrap();
    store.checkpoint_commit(epoch, &[]).unwrap();
}

fn kept(store: &Store) -> (u64, u64) {
    let span = store.journal_span().unwrap();
    (span.first, span.last)
}

#[test]
fn batches_are_forgotten_in_steps_up_to_the_recovery_position() {
    let folder = Folder::new();
    let mut store = folder.open();
    for secs in 1..=10 {
        append(&mut store, &[payments(secs, 1)]);
    }
    assert_eq!(store.forget_batches(at(100), 100).unwrap(), 0, "no checkpoint: a recovery needs them all");
    checkpoint(&mut store, 6);
    assert_eq!(store.forget_batches(at(4), 100).unwrap(), 3, "batch 4 is not older than its own time");
    assert_eq!(store.forget_batches(at(100), 2).unwrap(), 2);
    assert_eq!(kept(&store), (6, 10));
    checkpoint(&mut store, 10);
    assert_eq!(store.forget_batches(at(100), 100).unwrap(), 4);
    assert_eq!(kept(&store), (10, 10), "the newest stays, so that positions go on after a restart");
    drop(store);
    let mut store = folder.open();
    assert_eq!(append(&mut store, &[payments(11, 1)]), 11);
    assert_eq!(store.journal_span().unwrap().payments_total, 11);
    assert!(store.doctor(|_| {}).is_healthy());
}

#[test]
fn free_pages_go_back_to_the_disk() {
    let folder = Folder::new();
    let mut store = folder.open();
    for secs in 1..=20 {
        append(&mut store, &[payments(secs, 500)]);
    }
    checkpoint(&mut store, 20);
    store.forget_batches(at(100), 100).unwrap();
    let before = store.sizes().unwrap();
    assert!(before.free > before.file / 2, "{before:?}");
    store.shrink(u32::MAX).unwrap();
    let after = store.sizes().unwrap();
    assert!(after.free == 0 && after.file < before.file / 2, "{after:?}");
}

#[test]
fn effects_are_forgotten_only_when_no_recovery_would_write_them_again() {
    let folder = Folder::new();
    let mut store = folder.open();
    append(&mut store, &[payments(1, 1)]);
    let open = Alert { incident: IncidentId("open".into()), ..alert("b", Firing, 1) };
    let outbox = ["closed", "open"]
        .map(|incident| ("chat".into(), notice(&format!("n-{incident}"), incident, Occasion::Opened)));
    let alerts = vec![alert("a", Resolved, 1), open];
    store
        .write_effects(&[Effects { seq: 1, alerts, outbox: outbox.to_vec(), ..Effects::default() }])
        .unwrap();
    for claimed in store.claim("chat", at(2), 10).unwrap() {
        store.settle(claimed.id, at(2), &sent("{}")).unwrap();
    }
    let forget = |store: &mut Store| {
        (store.forget_outbox(at(100), 10).unwrap(), store.forget_alerts(at(100), 10).unwrap())
    };
    assert_eq!(forget(&mut store), (0, 0), "a recovery starts before batch 1");
    checkpoint(&mut store, 1);
    assert_eq!(forget(&mut store), (1, 1), "the open incident keeps its alert and its thread");
    assert_eq!(store.outbox(None, 10).unwrap()[0].incident.0, "open");
}

#[test]
fn a_backup_is_a_store_and_overwrites_nothing() {
    let (folder, other) = (Folder::new(), Folder::new());
    let mut store = folder.open();
    append(&mut store, &[payments(1, 3)]);
    Store::open_read_only(folder.path()).unwrap().backup_to(&other.path()).unwrap();
    append(&mut store, &[payments(2, 3)]);
    assert!(store.backup_to(&other.path()).is_err());
    let mut copy = other.open();
    assert_eq!(kept(&copy), (1, 1));
    assert!(copy.doctor(|_| {}).is_healthy());
    assert_eq!(append(&mut copy, &[payments(3, 1)]), 2);
}

#[test]
fn the_wal_stays_short_under_constant_load_with_and_without_a_keeper() {
    for with_keeper in [false, true] {
        let folder = Folder::new();
        let options = StoreOptions { wal_size_max: 1 << 20, ..StoreOptions::default() };
        let mut store = Store::open(folder.path(), &options).unwrap();
        let keeper = store.wal_keeper().unwrap();
        for secs in 1..=60 {
            append(&mut store, &[payments(secs, 1_000)]);
            if with_keeper {
                keeper.checkpoint().unwrap();
            }
        }
        let sizes = store.sizes().unwrap();
        assert!(sizes.file > 4 << 20 && sizes.wal < 2 << 20, "{sizes:?}");
        let wal = keeper.checkpoint().unwrap();
        assert_eq!(wal.n_copied, wal.n_pages);
    }
}
