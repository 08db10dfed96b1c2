//! Laws: replay equals live, whatever the batches, checkpoints and repeats were.

use proptest::prelude::*;
use railwatch_model::{Status, Subject};

use super::*;
use crate::SortBy;

const T0: i64 = 1_767_225_600;

#[derive(Debug, Clone)]
struct Event {
    gap: i64,
    lag: i64,
    agent: u8,
    id: u8,
    status: u8,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..90_i64, 0..400_i64, 0..3_u8, 0..60_u8, 0..8_u8)
        .prop_map(|(gap, lag, agent, id, status)| Event { gap, lag, agent, id, status });
    prop::collection::vec(event, 1..80)
}

/// The records that a host would journal for these events, with ticks between.
fn journal(events: &[Event], engine: &mut Engine, effects: &mut Effects) -> Vec<Record> {
    let mut secs = T0;
    let mut records = Vec::new();
    for event in events {
        secs += event.gap;
        let id = format!("p{}", event.id);
        let dollars = i64::from(event.id) + 1;
        let mut payment = payment(&format!("a{}", event.agent), &id, secs - event.lag, dollars);
        payment.observed_at = Timestamp::from_secs(secs);
        payment.status =
            [Status::Confirmed, Status::Retracted, Status::Seen][usize::from(event.status).min(2)];
        let now = Timestamp::from_secs(secs);
        let mut accepted = Accepted::default();
        engine.admit(now, [payment], &mut accepted);
        for record in [accepted.into_record(now), Record::Tick { now }] {
            engine.apply(1, &record, effects);
            records.push(record);
        }
    }
    records
}

fn snapshot(engine: &Engine) -> Vec<crate::SubjectView> {
    let mut views = engine.agents(SortBy::Recent, usize::MAX);
    views.sort_by(|a, b| a.subject.cmp(&b.subject));
    views
}

proptest! {
    #[test]
    fn replay_equals_live(events in events()) {
        let (mut live, mut live_effects) = (engine(), Effects::default());
        let records = journal(&events, &mut live, &mut live_effects);
        let (mut replayed, mut effects) = (engine(), Effects::default());
        for record in &records {
            replayed.reapply(1, record, &mut effects);
        }
        prop_assert_eq!(snapshot(&live), snapshot(&replayed));
        prop_assert_eq!(live_effects, effects);
        prop_assert_eq!(live.seen_len(), replayed.seen_len());
    }

    /// A checkpoint that is taken piecemeal while the engine goes on, restored and continued, equals a run without.
    #[test]
    fn recovery_equals_live(events in events(), cut in 0..160_usize, step in 1..3_usize) {
        let (mut live, mut live_effects) = (engine(), Effects::default());
        let records = journal(&events, &mut live, &mut live_effects);
        let cut = cut.min(records.len());

        let (mut saved, mut before, mut unused) = (engine(), Effects::default(), Effects::default());
        for record in &records[..cut] {
            saved.reapply(1, record, &mut before);
        }
        let globals = saved.checkpoint_begin();
        let mut rows = Vec::new();
        for record in &records[cut..] {
            saved.reapply(1, record, &mut unused);
            rows.extend(saved.checkpoint_step(step));
        }
        loop {
            let more = saved.checkpoint_step(step);
            if more.is_empty() { break; }
            rows.extend(more);
        }

        let mut recovered = engine();
        recovered.restore_globals(&globals).unwrap();
        for row in &rows {
            recovered.restore(&row.state).unwrap();
        }
        for record in &records[..cut] {
            recovered.remember_record(record);
        }
        let mut after = before;
        for record in &records[cut..] {
            recovered.reapply(1, record, &mut after);
        }
        prop_assert_eq!(snapshot(&live), snapshot(&recovered));
        prop_assert_eq!(live_effects, after);
    }

    #[test]
    fn delivering_twice_changes_nothing(events in events()) {
        let (mut once, mut twice) = (engine(), engine());
        let records = journal(&events, &mut once, &mut Effects::default());
        for record in &records {
            if let Record::Payments { now, payments } = record {
                let reports = || payments.iter().map(|admitted| admitted.payment.clone());
                let mut accepted = Accepted::default();
                twice.admit(*now, reports(), &mut accepted);
                twice.admit(*now, reports(), &mut accepted);
                prop_assert_eq!(accepted.payments.len(), payments.len());
                twice.apply(1, &accepted.into_record(*now), &mut Effects::default());
            }
            if let Record::Tick { .. } = record {
                twice.apply(1, record, &mut Effects::default());
            }
        }
        prop_assert_eq!(snapshot(&once), snapshot(&twice));
    }
}

#[test]
fn an_idle_agent_leaves_memory_and_comes_back_the_same() {
    let (mut engine, mut effects) = (engine(), Effects::default());
    feed(&mut engine, T0, vec![payment("a1", "p1", T0, 5)], &mut effects);
    engine.checkpoint_begin();
    let saved = engine.checkpoint_step(100);
    let agent = Subject::Agent(AgentId::new("a1").unwrap());
    let before = engine.view(&agent);
    tick(&mut engine, T0 + 3 * 86_400, &mut effects);
    engine.checkpoint_begin();
    while !engine.checkpoint_step(100).is_empty() {}
    assert_eq!(engine.evict_idle(), 1);
    assert_eq!(engine.view(&agent), None);
    let state = &saved.iter().find(|saved| saved.subject == agent).unwrap().state;
    assert_eq!(engine.restore(state), Ok(vec![]));
    assert_eq!(engine.view(&agent), before);
}
