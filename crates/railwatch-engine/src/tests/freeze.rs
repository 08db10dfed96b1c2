//! Freezes as timelines in text: who asks and agrees at which second, and what gates and people are told.

use railwatch_model::{FreezeStage, GateOutcome};

use super::life::{T0, life, matcher};
use super::*;
use crate::settings::{FreezePolicy, Gate};

fn gate(settings: &mut Settings) {
    settings.freeze.gates = vec![Gate { name: "gate".into(), dry_run: false }];
}

/// A policy that freezes whoever is in a high incident.
fn policy(settings: &mut Settings, approvals: u8, at_most: usize) {
    gate(settings);
    settings.freeze.policies = vec![FreezePolicy {
        name: "runaway".into(),
        matcher: matcher(r#"{"severity":">=high"}"#),
        rails: Vec::new(),
        lasts_secs: 300,
        approvals,
        at_most,
    }];
}

#[test]
fn a_freeze_is_asked_of_gates_and_ends_by_itself() {
    let life = life(
        gate,
        "0    pay a1 200
         > +0 opened a1 high
         10   freeze a1 ana 1 300
         > +10 gate agent.freeze a1
         12   gate done
         > +12 freeze a1 high
         400  wait
         > +310 gate agent.unfreeze a1
         401  gate done
         > +401 freeze a1 high
         700  wait
         > +660 resolved a1 high",
    );
    let told = |word: &str| life.effects.notices.iter().any(|notice| notice.headline.contains(word));
    assert!(told("a1 is frozen on every rail until 2026-01-01T00:05:10Z by ana: gate did it; runaway"));
    assert!(told("a1 may pay again, lifted by expiry: gate did it"));
    let order = life.effects.orders[0].1.order.as_ref().unwrap();
    assert_eq!(order.identities, [Identity::new("evm.address", "0xa1")]);
    let shown = life.effects.alerts.iter().filter_map(|alert| alert.freeze.as_deref());
    let shown: Vec<&str> = shown.collect();
    assert_eq!(shown[0], "frozen by ana on every rail until 2026-01-01T00:05:10Z; gate: asked");
    assert_eq!(shown[1], "frozen by ana on every rail until 2026-01-01T00:05:10Z; gate: done");
    assert!(shown.contains(&"freeze ended by expiry; gate: done"), "{shown:?}");
}

#[test]
fn two_people_must_agree_where_two_are_needed() {
    let life = life(
        gate,
        "0   freeze a1 ana 2 300
         > +0 freeze a1 high
         5   freeze a1 ana 2 300
         > +5 freeze a1 high
         10  freeze a1 ben 1 300
         > +10 gate agent.freeze a1",
    );
    let freeze = &life.engine.freezes()[0];
    assert_eq!((freeze.id.0.as_str(), freeze.approvals), ("f-0", 2), "the second wish changes nothing else");
    assert_eq!(freeze.approved_by, ["ana", "ben"]);
    assert_eq!(freeze.until, Timestamp::from_secs(T0 + 310));
}

#[test]
fn a_request_that_nobody_agrees_with_lapses_and_no_gate_hears_of_it() {
    let life = life(
        gate,
        "0    freeze a1 ana 2 300
         > +0 freeze a1 high
         4000 wait
         > +3600 freeze a1 high",
    );
    assert_eq!(life.engine.freezes()[0].stage, FreezeStage::Lifted);
    assert!(life.effects.notices[1].headline.contains("not enough people agreed"));
}

#[test]
fn what_a_gate_refuses_is_told_and_may_be_done_later() {
    let life = life(
        gate,
        "0   freeze a1 ana 1 3000
         > +0 gate agent.freeze a1
         5   gate refused
         > +5 freeze a1 high
         60  gate done
         > +60 freeze a1 high
         90  unfreeze
         > +90 gate agent.unfreeze a1
         91  gate done
         > +91 freeze a1 high",
    );
    assert!(
        life.effects.notices[0]
            .headline
            .contains("a1 is NOT frozen, asked for by ana: gate FAILED (refused)")
    );
    assert_eq!(life.engine.freezes()[0].gates[0].outcome, GateOutcome::Done);
}

#[test]
fn a_policy_freezes_once_per_incident_and_stops_at_its_limit() {
    let life = life(
        |settings| policy(settings, 0, 1),
        "0    pay a1 200
         > +0 opened a1 high
         > +0 gate agent.freeze a1
         5    pay a2 200
         > +5 opened a2 high
         > +5 freeze a2 high
         6    freeze a2 ana 1 300
         > +6 gate agent.freeze a2
         340  wait
         > +300 gate agent.unfreeze a1
         > +306 gate agent.unfreeze a2
         700  wait
         > +660 resolved a1 high
         > +660 resolved a2 high
         800  pay a1 200
         > +800 reopened a1 high",
    );
    assert_eq!(life.engine.freezes()[0].by, "policy runaway");
}

#[test]
fn what_is_kept_from_people_freezes_nobody() {
    life(
        |settings| policy(settings, 0, 10),
        "0   silence agent=a1 for 600
         10  pay a1 200
         400 wait",
    );
}

#[test]
fn freezes_survive_a_checkpoint_and_end_after_it() {
    let mut life = life(gate, "0 freeze a1 ana 1 300\n > +0 gate agent.freeze a1");
    let globals = life.engine.checkpoint_begin();
    let mut generation = generation(2, 100.0);
    gate(&mut generation.settings);
    let mut engine = Engine::new([7; 16], generation);
    engine.restore_globals(&globals).unwrap();
    assert!(
        engine.has_due(Timestamp::from_secs(T0 + 300)) && !engine.has_due(Timestamp::from_secs(T0 + 299))
    );
    let mut effects = Effects::default();
    tick(&mut engine, T0 + 300, &mut effects);
    assert_eq!(effects.orders.len(), 1);
}
