//! A process that is killed while it appends: what it acknowledged is there, once.

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use railwatch_model::{Occasion, SmolStr, Timestamp};
use railwatch_store::{Batch, Effects, Store, StoreOptions, SubjectRow};

use crate::fixture::{Folder, notice, payments};

const N_KILLS: usize = 25;
const CHILD: &str = "RAILWATCH_STORE_TEST_APPENDS_TO";
const SUBJECTS: [&str; 3] = ["agent:a", "agent:b", "agent:c"];

/// The test starts itself as the process to kill.
#[test]
fn what_was_acknowledged_before_a_kill_is_there_once() {
    if let Some(path) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&path));
    }
    let folder = Folder::new();
    let mut last = 0;
    for n_acks in (0..N_KILLS).map(|kill| kill * 7 % 19 + 1) {
        let acknowledged = run_and_kill(&folder, n_acks);
        assert!(acknowledged > last, "the process went on where the one before was killed");
        last = check(&folder, acknowledged);
    }
}

fn append_for_ever(path: &Path) -> ! {
    let mut store = Store::open(path, &StoreOptions { wal_size_max: 1 << 20, ..Default::default() }).unwrap();
    let mut stdout = std::io::stdout();
    writeln!(stdout).unwrap();
    loop {
        let seq = store.journal_span().unwrap().last + 1;
        let secs = i64::try_from(seq).unwrap();
        let cursor: (SmolStr, String) = ("stripe".into(), seq.to_string());
        let told = notice(&format!("notice-{}", seq - 1), "incident", Occasion::Opened);
        let effects = Effects { seq: seq - 1, outbox: vec![("chat".into(), told)], ..Effects::default() };
        let records = [payments(secs, 50)];
        let batch = Batch { records: &records, cursors: &[cursor], effects: &[effects], rejects: &[] };
        assert_eq!(store.append(&batch).unwrap(), seq);
        writeln!(stdout, "ack {seq}").unwrap();
        if seq.is_multiple_of(3) {
            checkpoint(&mut store, seq);
        }
    }
}

fn checkpoint(store: &mut Store, seq: u64) {
    let epoch = store.checkpoint_begin(seq).unwrap();
    let body = seq.to_le_bytes();
    for key in SUBJECTS {
        let row = SubjectRow { key, last_at: Timestamp::EPOCH, view: "{}", body: Some(&body) };
        store.save_subjects(epoch, &[row]).unwrap();
    }
    store.checkpoint_commit(epoch, &[("fleet", &body)]).unwrap();
    store.purge_subjects(2).unwrap();
}

/// Kills the process after it acknowledged at least `n_acks` batches, wherever it is by then; returns the last of them.
fn run_and_kill(folder: &Folder, n_acks: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::what_was_acknowledged_before_a_kill_is_there_once", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acks = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    let mut acks = acks.map(|seq: u64| seq);
    let enough = acks.by_ref().take(n_acks).last();
    child.kill().unwrap();
    child.wait().unwrap();
    // What was acknowledged between the decision and the kill counts too.
    acks.last().or(enough).unwrap()
}

fn check(folder: &Folder, acknowledged: u64) -> u64 {
    let store = folder.open();
    let last = store.journal_span().unwrap().last;
    assert!(last == acknowledged || last == acknowledged + 1, "acknowledged {acknowledged}, there {last}");
    for (batch, seq) in store.batches(1).zip(1..=last) {
        let batch = batch.unwrap();
        assert_eq!((batch.seq, batch.records), (seq, vec![payments(i64::try_from(seq).unwrap(), 50)]));
    }
    assert_eq!(store.cursor("stripe").unwrap(), Some(last.to_string()));
    assert_eq!(store.outbox_totals().unwrap().waiting, last);
    if let Some(checkpoint) = store.checkpoint().unwrap() {
        let body = checkpoint.seq.to_le_bytes();
        let mut keys = Vec::new();
        let visit = |row: SubjectRow<'_>| {
            assert_eq!(row.body, Some(&body[..]), "{} is of another checkpoint", row.key);
            keys.push(row.key.to_owned());
            ControlFlow::Continue(())
        };
        store.for_each_subject(Timestamp::EPOCH, visit).unwrap();
        assert_eq!(keys, SUBJECTS);
        assert_eq!(store.global("fleet").unwrap().as_deref(), Some(&body[..]));
    }
    assert_eq!(store.doctor(|_| {}).findings, []);
    last
}
