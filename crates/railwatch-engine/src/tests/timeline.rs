//! Payments in at times, notices out at times.

use railwatch_model::{Action, AlertState, Occasion, Status, Subject};

use super::*;

const T0: i64 = 1_767_225_600;

/// One line of a timeline: seconds after the start, and what happens.
enum Step {
    Pay(i64, &'static str, i64),
    Tick(i64),
    Acknowledge(i64),
}

use Step::{Acknowledge, Pay, Tick};

/// Runs a timeline and compares the notices, written as `+seconds occasion`.
#[track_caller]
fn check(steps: &[Step], expected: &[&str]) {
    let mut engine = engine();
    let mut told = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let mut effects = Effects::default();
        let at = match step {
            Pay(at, agent, dollars) => {
                feed(
                    &mut engine,
                    T0 + at,
                    vec![payment(agent, &format!("p{n}"), T0 + at, *dollars)],
                    &mut effects,
                );
                at
            }
            Tick(at) => {
                tick(&mut engine, T0 + at, &mut effects);
                at
            }
            Acknowledge(at) => {
                let incident = engine.open_alerts()[0].incident.clone();
                let now = Timestamp::from_secs(T0 + at);
                let action = Action::Acknowledge { incident, note: None };
                engine.apply(1, &Record::Action { now, by: "ana".into(), action }, &mut effects);
                at
            }
        };
        for notice in effects.notices {
            told.push(format!("+{at} {:?} {}", notice.occasion, notice.subject));
        }
    }
    assert_eq!(told, expected);
}

#[test]
fn a_spike_opens_once_and_resolves_after_quiet() {
    check(
        &[Pay(0, "a1", 60), Pay(1, "a1", 60), Pay(2, "a1", 60), Tick(60), Tick(300), Tick(661), Tick(2000)],
        &["+1 Opened a1", "+661 Resolved a1"],
    );
}

#[test]
fn raised_keeps_open_and_does_not_open() {
    check(&[Pay(0, "a1", 60), Tick(60), Tick(700)], &[]);
    check(
        &[Pay(0, "a1", 110), Tick(60), Pay(500, "a1", 60), Tick(540), Tick(1100), Tick(1141)],
        &["+0 Opened a1", "+1141 Resolved a1"],
    );
}

#[test]
fn a_relapse_within_the_grace_period_continues_the_episode() {
    let mut engine = engine();
    let mut effects = Effects::default();
    feed(&mut engine, T0, vec![payment("a1", "p1", T0, 200)], &mut effects);
    tick(&mut engine, T0 + 60, &mut effects);
    tick(&mut engine, T0 + 661, &mut effects);
    let first = effects.alerts[0].id.clone();
    assert_eq!(effects.alerts.last().unwrap().state, AlertState::Resolved);
    let mut effects = Effects::default();
    feed(&mut engine, T0 + 700, vec![payment("a1", "p2", T0 + 700, 200)], &mut effects);
    assert_eq!(engine.open_alerts()[0].id, first);
    assert_eq!(effects.notices[0].occasion, Occasion::Reopened);
}

#[test]
fn an_acknowledged_incident_is_not_reminded_of() {
    let half_day = 12 * 3600;
    let keep_firing = |engine: &mut Engine, effects: &mut Effects| {
        for hour in 0..14 {
            let at = T0 + hour * 3600;
            feed(engine, at, vec![payment("a1", &format!("p{hour}"), at, 200)], effects);
            tick(engine, at + 60, effects);
            feed(engine, at + 500, vec![payment("a1", &format!("q{hour}"), at + 500, 60)], effects);
        }
    };
    let mut settled = generation(1, 100.0);
    settled.settings.clear_after = Duration::from_secs(7200);
    let mut engine = Engine::new([7; 16], settled);
    let mut effects = Effects::default();
    keep_firing(&mut engine, &mut effects);
    let occasions: Vec<_> = effects.notices.iter().map(|notice| (notice.occasion, notice.at)).collect();
    assert_eq!(
        occasions,
        [
            (Occasion::Opened, Timestamp::from_secs(T0)),
            (Occasion::Reminded, Timestamp::from_secs(T0 + half_day)),
        ]
    );
    check(
        &[Pay(0, "a1", 200), Acknowledge(5), Acknowledge(6), Tick(60), Tick(700)],
        &["+0 Opened a1", "+5 Acknowledged a1", "+700 Resolved a1"],
    );
}

#[test]
fn agents_do_not_share_incidents() {
    check(&[Pay(0, "a1", 200), Pay(1, "a2", 200)], &["+0 Opened a1", "+1 Opened a2"]);
}

#[test]
fn late_payments_count_and_do_not_alert() {
    let mut engine = engine();
    let mut effects = Effects::default();
    feed(&mut engine, T0, vec![payment("a1", "p1", T0, 1)], &mut effects);
    feed(&mut engine, T0 + 5, vec![payment("a1", "p2", T0 - 86_400, 500)], &mut effects);
    assert_eq!(effects.notices, []);
    assert_eq!(engine.late(), 1);
    let view = engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap();
    assert_eq!(view.totals.committed, Usd::from_cents(50_100));
}

#[test]
fn a_reorganized_payment_is_counted_once() {
    let mut engine = engine();
    let report = |status, revision| {
        let mut payment = payment("a1", "tx1", T0, 10);
        (payment.status, payment.revision) = (status, revision);
        payment
    };
    let spent = |engine: &Engine| {
        engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap().totals.committed.dollars()
    };
    for (status, revision, accepted, dollars) in [
        (Status::Seen, 100, 1, 10.0),
        (Status::Seen, 100, 0, 10.0),
        (Status::Retracted, 100, 1, 0.0),
        (Status::Retracted, 100, 0, 0.0),
        (Status::Seen, 101, 1, 10.0),
        (Status::Confirmed, 101, 1, 10.0),
        (Status::Confirmed, 101, 0, 10.0),
    ] {
        let admitted = feed(&mut engine, T0, vec![report(status, revision)], &mut Effects::default());
        assert_eq!((admitted.len(), spent(&engine)), (accepted, dollars), "{status:?} {revision}");
    }
}

#[test]
fn a_retraction_that_overtakes_its_report_voids_it() {
    let mut engine = engine();
    let mut void = payment("a1", "tx1", T0, 10);
    void.status = Status::Retracted;
    feed(&mut engine, T0, vec![void], &mut Effects::default());
    feed(&mut engine, T0, vec![payment("a1", "tx1", T0, 10)], &mut Effects::default());
    let view = engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap();
    assert_eq!(view.totals.committed, Usd::ZERO);
}

#[test]
fn two_rails_report_one_purchase() {
    let view = |rail: &str, id: &str, agent: Option<&str>| {
        let mut view = payment("x", id, T0, 10);
        view.rail = rail.into();
        view.spender = agent.map(|agent| Identity::new(Identity::AGENT, agent)).into_iter().collect();
        let value = "0xabc".into();
        view.settlement_refs =
            vec![railwatch_model::SettlementRef { scheme: railwatch_model::RefScheme::EvmTx, value }];
        view
    };
    for order in [["stripe", "x402"], ["x402", "stripe"]] {
        let mut engine = engine();
        for rail in order {
            feed(
                &mut engine,
                T0,
                vec![view(rail, rail, (rail == order[0]).then_some("a1"))],
                &mut Effects::default(),
            );
        }
        let view = engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap();
        assert_eq!((view.totals.committed, view.totals.purchases), (Usd::from_cents(1000), 1));
        assert_eq!(engine.subjects_len(), 2, "the agent and the fleet, nobody unmapped");
    }
}

/// A charge, its PaymentIntent with the challenge that it answers, and the receipt of that challenge: in whatever order
/// the first two come, the receipt is known.
#[test]
fn a_repeat_under_a_further_name_is_the_same_purchase_and_makes_the_name_known() {
    use railwatch_model::{Disposition, RefScheme, SettlementRef};
    let named = |mut payment: Payment, names: &[(RefScheme, &str)]| {
        payment.settlement_refs = names
            .iter()
            .map(|(scheme, value)| SettlementRef { scheme: *scheme, value: (*value).into() })
            .collect();
        payment
    };
    let purchase = || payment("a1", "pi_1", T0, 60);
    let charge = || named(purchase(), &[(RefScheme::StripePi, "pi_1")]);
    let intent = || named(purchase(), &[(RefScheme::StripePi, "pi_1"), (RefScheme::MppChallenge, "c")]);
    let receipt = || named(payment("a1", "receipt", T0, 60), &[(RefScheme::MppChallenge, "c")]);
    for (reports, expected) in [
        (
            [charge(), intent(), receipt()],
            vec![Disposition::First, Disposition::Enriches, Disposition::Enriches],
        ),
        ([intent(), charge(), receipt()], vec![Disposition::First, Disposition::Enriches]),
        ([receipt(), intent(), charge()], vec![Disposition::First, Disposition::Enriches]),
    ] {
        let (mut engine, mut effects) = (engine(), Effects::default());
        let mut admitted = Vec::new();
        for report in reports.clone().into_iter().chain(reports) {
            admitted.extend(feed(&mut engine, T0, vec![report], &mut effects));
        }
        assert_eq!(admitted.iter().map(|admitted| admitted.disposition).collect::<Vec<_>>(), expected);
        let agent = engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap();
        assert_eq!((agent.totals.purchases, agent.totals.committed), (1, Usd::from_cents(6_000)));
    }
}

/// A hook reports first, then the chain, which changes its mind; the hook is told again before the chain has it again.
#[test]
fn what_the_chain_undoes_is_undone_whoever_reported_it_first() {
    let report = |id: &str, status: Status, revision: u64| {
        let mut payment = payment("a1", id, T0, 60);
        (payment.status, payment.revision) = (status, revision);
        let value = "eip155:8453:0xt:0xp:0x1".into();
        payment.settlement_refs =
            vec![railwatch_model::SettlementRef { scheme: railwatch_model::RefScheme::EvmAuth, value }];
        payment
    };
    let (mut engine, mut effects) = (engine(), Effects::default());
    let mut committed = Vec::new();
    for payment in [
        report("hook", Status::Seen, 0),
        report("chain", Status::Seen, 0),
        report("chain", Status::Retracted, 0),
        report("hook", Status::Seen, 0),
        report("chain", Status::Seen, 1),
        report("hook", Status::Seen, 0),
        report("chain", Status::Confirmed, 1),
    ] {
        feed(&mut engine, T0, vec![payment], &mut effects);
        let view = engine.view(&Subject::Agent(AgentId::new("a1").unwrap())).unwrap();
        committed.push(view.totals.committed.dollars());
    }
    assert_eq!(committed, [60.0, 60.0, 0.0, 0.0, 60.0, 60.0, 60.0]);
}

#[test]
fn an_identity_leads_to_its_agent_and_an_unknown_one_is_watched() {
    let mut engine = engine();
    let mut known = payment("x", "p1", T0, 1);
    known.spender = vec![Identity::new("evm.address", "0xa2")];
    let mut unknown = payment("x", "p2", T0, 1);
    unknown.spender = vec![Identity::new("evm.address", "0xffff")];
    let admitted = feed(&mut engine, T0, vec![known, unknown], &mut Effects::default());
    let agents: Vec<_> = admitted.iter().map(|a| a.payment.agent.as_ref().unwrap().as_str()).collect();
    assert_eq!(agents, ["a2", "unmapped:evm.address:0xffff"]);
}

#[test]
fn a_replaced_detector_keeps_its_state_and_open_alerts() {
    let mut engine = engine();
    let mut effects = Effects::default();
    feed(&mut engine, T0, vec![payment("a1", "p1", T0, 60)], &mut effects);
    engine.install(generation(2, 50.0));
    feed(&mut engine, T0 + 1, vec![payment("a1", "p2", T0 + 1, 1)], &mut effects);
    assert_eq!(effects.alerts.len(), 1, "the 60 dollars of the old generation count against the new limit");
    assert_eq!(effects.alerts[0].generation, 2);
}
