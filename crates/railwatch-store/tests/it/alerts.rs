use railwatch_model::AlertState::{Acknowledged, Firing, Resolved};
use railwatch_model::{Alert, AlertId, IncidentId};
use railwatch_store::{AlertFilter, AuditEntry, Effects, Store};

use crate::fixture::{Folder, alert, append, at, payments};

fn write(store: &mut Store, seq: u64, alerts: &[Alert]) {
    store.write_effects(&[Effects { seq, alerts: alerts.to_vec(), ..Effects::default() }]).unwrap();
}

fn list(store: &Store, filter: &AlertFilter) -> Vec<String> {
    let listed = store.alerts(filter, 100).unwrap();
    assert_eq!(listed.unreadable, Vec::<railwatch_model::SmolStr>::new());
    listed.items.iter().map(|alert| alert.id.to_string()).collect()
}

#[test]
fn a_replay_of_older_batches_does_not_undo_newer_ones() {
    let folder = Folder::new();
    let mut store = folder.open();
    let id = AlertId("a".into());
    write(&mut store, 5, &[alert("a", Firing, 5), alert("a", Acknowledged, 5)]);
    write(&mut store, 9, &[alert("a", Resolved, 9)]);
    let (settled, history) = (store.alert(&id).unwrap(), store.alert_history(&id, 10).unwrap());
    assert_eq!(settled.as_ref().map(|alert| alert.state), Some(Resolved));
    assert_eq!(
        history.iter().map(|change| change.state.as_str()).collect::<Vec<_>>(),
        ["firing", "acknowledged", "resolved"]
    );
    for _ in 0..2 {
        write(&mut store, 5, &[alert("a", Firing, 5), alert("a", Acknowledged, 5)]);
        assert_eq!(store.alert(&id).unwrap(), settled);
        assert_eq!(store.alert_history(&id, 10).unwrap(), history);
        write(&mut store, 9, &[alert("a", Resolved, 9)]);
    }
    assert_eq!(store.alert_history(&id, 10).unwrap(), history);
}

#[test]
fn filters_select() {
    let folder = Folder::new();
    let mut store = folder.open();
    write(&mut store, 1, &[alert("a", Firing, 1), alert("b", Resolved, 2), alert("c", Acknowledged, 3)]);
    let all = AlertFilter::default;
    assert_eq!(list(&store, &all()), ["c", "b", "a"]);
    assert_eq!(list(&store, &AlertFilter { open_only: true, ..all() }), ["c", "a"]);
    assert_eq!(
        list(&store, &AlertFilter { subject: Some("agent:agent_1".into()), ..all() }),
        ["c", "b", "a"]
    );
    assert_eq!(list(&store, &AlertFilter { subject: Some("fleet".into()), ..all() }), [""; 0]);
    let incident = Some(IncidentId("incident-b".into()));
    assert_eq!(list(&store, &AlertFilter { incident, ..all() }), ["b"]);
    assert_eq!(list(&store, &AlertFilter { since: Some(at(2)), before: Some(at(3)), ..all() }), ["b"]);
    assert_eq!(store.n_alerts_open().unwrap(), 2);
    // Pages meet where many opened at once.
    write(&mut store, 4, &[alert("e", Firing, 3), alert("d", Firing, 3)]);
    assert_eq!(list(&store, &all()), ["c", "d", "e", "b", "a"]);
    let after = |id: &str, opened| AlertFilter { after: Some((at(opened), AlertId(id.into()))), ..all() };
    assert_eq!(list(&store, &after("c", 3)), ["d", "e", "b", "a"]);
    assert_eq!(list(&store, &after("e", 3)), ["b", "a"]);
}

#[test]
fn a_score_that_is_not_a_number_stops_nothing() {
    let folder = Folder::new();
    let mut store = folder.open();
    write(&mut store, 1, &[Alert { score: f64::NAN, ..alert("nan", Firing, 1) }, alert("b", Firing, 2)]);
    let listed = store.alerts(&AlertFilter::default(), 100).unwrap();
    assert_eq!((listed.items.len(), listed.unreadable), (1, vec!["nan".into()]));
    append(&mut store, &[payments(1, 1)]);
    let report = store.doctor(|_| {});
    assert_eq!(
        report.findings.iter().map(|finding| finding.place.as_str()).collect::<Vec<_>>(),
        ["alert nan"]
    );
}

#[test]
fn the_audit_keeps_what_batches_did_once_and_what_people_did_always() {
    let folder = Folder::new();
    let mut store = folder.open();
    let entry = |what: &str| AuditEntry {
        at: at(1),
        by: "ada".into(),
        what: what.into(),
        subject: "incident-a".into(),
        detail: serde_json::json!({ "note": "planned" }),
    };
    for _ in 0..2 {
        let audit = vec![entry("acknowledge"), entry("label")];
        store.write_effects(&[Effects { seq: 3, audit, ..Effects::default() }]).unwrap();
        store.record_audit(&entry("reload")).unwrap();
    }
    let whats: Vec<_> = store.audit(10).unwrap().into_iter().map(|entry| entry.what).collect();
    assert_eq!(whats, ["reload", "reload", "label", "acknowledge"]);
    assert_eq!(store.audit(1).unwrap(), [entry("reload")]);
}
