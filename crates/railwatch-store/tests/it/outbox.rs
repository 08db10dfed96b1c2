use railwatch_model::Occasion::{Opened, Resolved};
use railwatch_model::{IncidentId, SmolStr};
use railwatch_store::{Effects, Interrupted, OutboxState, Outcome, Store, StoreError};

use crate::fixture::{Folder, at, notice, retry, sent};

/// Queues `(notice, incident)` pairs for `chat`.
fn queue(store: &mut Store, pairs: &[(&str, &str)]) {
    let entries = pairs.iter().map(|(id, incident)| (SmolStr::from("chat"), notice(id, incident, Opened)));
    store.write_effects(&[Effects { seq: 1, outbox: entries.collect(), ..Effects::default() }]).unwrap();
}

fn claim(store: &mut Store, secs: i64) -> Vec<(i64, u32)> {
    store.claim("chat", at(secs), 10).unwrap().iter().map(|claimed| (claimed.id, claimed.attempt)).collect()
}

fn states(store: &Store) -> Vec<&'static str> {
    let mut entries = store.outbox(None, 100).unwrap();
    entries.reverse();
    entries.iter().map(|entry| entry.state.as_str()).collect()
}

#[test]
fn effects_that_are_written_twice_queue_once() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    let first = claim(&mut store, 1);
    store.settle(first[0].0, at(2), &sent("{}")).unwrap();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    assert_eq!(states(&store), ["sent", "sending"]);
}

#[test]
fn an_entry_waits_for_the_earlier_one_of_its_incident_only() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i1"), ("n3", "i2")]);
    assert_eq!(claim(&mut store, 1), [(1, 1), (3, 1)]);
    store.settle(1, at(1), &retry(at(60), "503", false)).unwrap();
    assert_eq!(claim(&mut store, 59), []);
    assert_eq!(store.next_due("chat").unwrap(), Some(at(0)));
    assert_eq!(claim(&mut store, 60), [(1, 2)]);
    store.settle(1, at(61), &sent(r#"{"reference":"ts"}"#)).unwrap();
    let claimed = store.claim("chat", at(62), 10).unwrap();
    assert_eq!((claimed[0].id, claimed[0].earlier.as_deref()), (2, Some(r#"{"reference":"ts"}"#)));
    assert_eq!(store.earlier_receipt(&IncidentId("i2".into()), "chat").unwrap(), None);
}

#[test]
fn an_attempt_that_was_cut_short_is_known_after_a_restart() {
    let again = [(Interrupted::Resend, "retry", false), (Interrupted::ResendMarked, "unknown", true)];
    for (decision, second, marked) in again {
        let folder = Folder::new();
        let mut store = folder.open();
        queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
        store.claim("chat", at(1), 1).unwrap();
        drop(store);
        let mut store = folder.open();
        assert_eq!(store.settle_interrupted(at(5), |_| decision).unwrap(), 1);
        assert_eq!(states(&store), ["retry", "queued"]);
        assert_eq!(store.claim("chat", at(6), 1).unwrap()[0].in_doubt, marked);
        drop(store);
        let mut store = folder.open();
        assert_eq!(store.settle_interrupted(at(7), |_| decision).unwrap(), 1);
        assert_eq!(states(&store), [second, "queued"]);
    }
}

#[test]
fn an_attempt_that_may_have_arrived_is_repeated_with_a_mark() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    let claimed = store.claim("chat", at(1), 1).unwrap();
    assert!(!claimed[0].in_doubt);
    store.settle(1, at(1), &retry(at(2), "no answer", true)).unwrap();
    let claimed = store.claim("chat", at(2), 1).unwrap();
    assert_eq!((claimed[0].id, claimed[0].in_doubt, claimed[0].attempt), (1, true, 2));
    store.settle(1, at(3), &sent("{}")).unwrap();
    assert_eq!(store.outbox(Some(OutboxState::Sent), 1).unwrap()[0].n_doubts, 1);
    assert!(store.settle(1, at(4), &retry(at(5), "no answer", true)).is_err(), "no attempt is under way");
}

#[test]
fn what_was_claimed_and_not_attempted_goes_back() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    store.claim("chat", at(1), 1).unwrap();
    store.settle(1, at(1), &retry(at(1), "503", false)).unwrap();
    assert_eq!(claim(&mut store, 2), [(1, 2), (2, 1)]);
    store.unclaim(&[1, 2]).unwrap();
    assert_eq!(states(&store), ["retry", "queued"]);
    assert_eq!(claim(&mut store, 3), [(1, 2), (2, 1)]);
}

#[test]
fn people_retry_and_drop_what_is_not_on_its_way() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    claim(&mut store, 1);
    assert!(matches!(store.drop_outbox(1, at(2)), Err(StoreError::NotFound { .. })), "it is being sent");
    store.settle(1, at(2), &Outcome::Dead { error: "no such channel".to_owned() }).unwrap();
    store.settle(2, at(2), &Outcome::Unknown { error: "the task died".to_owned() }).unwrap();
    assert!(store.settle(1, at(3), &sent("{}")).is_err(), "no attempt is under way");
    assert_eq!(store.outbox_totals().unwrap().dead, 1);
    store.retry_outbox(1, at(3)).unwrap();
    store.drop_outbox(2, at(3)).unwrap();
    assert_eq!(claim(&mut store, 4), [(1, 2)]);
    assert_eq!(states(&store), ["sending", "dropped"]);
    assert!(store.retry_outbox(77, at(4)).unwrap_err().to_string().contains("no outbox entry 77"));
    let dropped = store.outbox(Some(OutboxState::Dropped), 10).unwrap();
    assert_eq!(dropped[0].notice.0, "n2");
}

#[test]
fn a_notice_survives_the_outbox_unchanged() {
    let folder = Folder::new();
    let mut store = folder.open();
    let sent = notice("n1", "i1", Resolved);
    let outbox = vec![("chat".into(), sent.clone()), ("mail".into(), sent.clone())];
    store.write_effects(&[Effects { seq: 1, outbox, ..Effects::default() }]).unwrap();
    assert_eq!(store.claim("mail", at(1), 10).unwrap()[0].notice, sent);
    assert_eq!(store.notice(1).unwrap(), Some(sent));
}

#[test]
fn entries_of_a_sink_that_is_gone_become_dead_letters() {
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1"), ("n2", "i2")]);
    claim(&mut store, 1);
    store.settle(1, at(2), &sent("{}")).unwrap();
    store.settle(2, at(2), &retry(at(9), "503", false)).unwrap();
    assert_eq!(store.waiting_by_sink().unwrap(), [("chat".into(), 1)]);
    assert_eq!(store.bury_sink("chat", at(3), "no such sink").unwrap(), 1);
    assert_eq!(states(&store), ["sent", "dead"]);
    assert_eq!(store.waiting_by_sink().unwrap(), []);
}

/// The law of recovery: writing a batch's effects again, at any moment of an entry's life, changes nothing.
#[test]
fn effects_may_be_written_again_at_any_moment() {
    let steps: [fn(&mut Store); 6] = [
        |store| drop(store.claim("chat", at(1), 1).unwrap()),
        |store| store.settle(1, at(2), &retry(at(3), "503", false)).unwrap(),
        |store| drop(store.claim("chat", at(3), 1).unwrap()),
        |store| store.settle(1, at(4), &Outcome::Unknown { error: "the task died".to_owned() }).unwrap(),
        |store| store.drop_outbox(1, at(5)).unwrap(),
        |store| store.retry_outbox(1, at(6)).unwrap(),
    ];
    let folder = Folder::new();
    let mut store = folder.open();
    queue(&mut store, &[("n1", "i1")]);
    for step in steps {
        step(&mut store);
        let before = store.outbox(None, 10).unwrap();
        queue(&mut store, &[("n1", "i1")]);
        assert_eq!(store.outbox(None, 10).unwrap(), before);
    }
}
