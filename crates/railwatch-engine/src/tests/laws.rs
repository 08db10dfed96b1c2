//! Laws: replay equals live, whatever the batches, checkpoints and repeats were.

use proptest::prelude::*;
use railwatch_model::{
    Action, Condition, ConditionKind, Contribution, Holding, Matcher, Severity, Silence, SilenceId, Status,
    Subject,
};
use railwatch_plugin::history::HistoryNeed;
use railwatch_plugin::rules::{Firing, RuleInfo, RuleSet, RuleState};

use super::*;
use crate::SortBy;
use crate::settings::{Escalation, Inhibition, Mute};

const T0: i64 = 1_767_225_600;

#[derive(Debug, Clone)]
struct Event {
    gap: i64,
    lag: i64,
    agent: u8,
    id: u8,
    status: u8,
    act: u8,
}

/// An engine whose alerts are silenced, muted, inhibited, escalated and reminded of within minutes.
fn engine() -> Engine {
    let mut generation = generation(1, 100.0);
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let matcher = |text: &str| serde_json::from_str::<Matcher>(text).unwrap();
    let settings = &mut generation.settings;
    settings.remind_every = minutes(25);
    settings.reopen_within = minutes(15);
    settings.escalations =
        vec![Escalation { name: "late".into(), after: minutes(10), matcher: Matcher::default() }];
    settings.mutes = vec![Mute {
        name: "early".into(),
        matcher: matcher(r#"{"agent":"a2"}"#),
        days: [true; 7],
        from: 20,
        until: 40,
        tz: chrono_tz::UTC,
    }];
    settings.inhibitions = vec![Inhibition {
        by: matcher(r#"{"kind":"rail_blind"}"#),
        matcher: matcher(r#"{"agent":"a1"}"#),
        equal: Vec::new(),
    }];
    Engine::new([7; 16], generation)
}

/// What somebody does now, if anything.
fn deed(act: u8, now: Timestamp, engine: &Engine) -> Option<Record> {
    let incident = || engine.open_alerts().first().map(|alert| alert.incident.clone());
    let silence = |until_resolved| {
        Action::Silence(Silence {
            id: SilenceId("s".into()),
            matcher: serde_json::from_str(r#"{"agent":"a0"}"#).unwrap(),
            by: "ana".into(),
            reason: "r".into(),
            from: now,
            until: now.after(Duration::from_secs(900)),
            until_resolved,
        })
    };
    let holding = Holding { severity: Severity::High, summary: "blind".into() };
    let (subject, kind) = (Subject::Source("gate".into()), ConditionKind::RailBlind);
    let condition = |holding| Condition { subject, kind, about: "".into(), holding };
    let action = match act {
        0 => Action::Acknowledge { incident: incident()?, note: None },
        1 => Action::Resolve { incident: incident()?, note: None },
        2 => silence(false),
        3 => silence(true),
        4 => Action::Unsilence { silence: SilenceId("s".into()) },
        5 => return Some(Record::Condition { now, condition: condition(Some(holding)) }),
        6 => return Some(Record::Condition { now, condition: condition(None) }),
        _ => return None,
    };
    Some(Record::Action { now, by: "ana".into(), action })
}

/// Scores what fires, and may say that it need not be asked where nothing does.
#[derive(Debug)]
struct Loud {
    ignores_quiet: bool,
}

impl Scorer for Loud {
    fn score(&mut self, case: &Case<'_>) -> Result<Score, ScoreError> {
        let is_firing = case.signals.iter().any(|signal| signal.verdict == Verdict::Firing);
        let points = if is_firing { 0.9 } else { 0.0 };
        Ok(Score { value: points, contributions: vec![Contribution { name: "loud".into(), points }] })
    }

    fn ignores_quiet(&self) -> bool {
        self.ignores_quiet
    }
}

/// Three rules: one looks at quiet signals, one at its notes, one at the score.
#[derive(Debug)]
struct Curious(Vec<RuleInfo>);

impl Curious {
    fn new() -> Self {
        let rule = |id: &str| RuleInfo {
            id: id.into(),
            severity: Severity::Low,
            hold: Duration::ZERO,
            clear_after: Duration::from_secs(120),
            shadow: id == "notes",
        };
        Self(["signals", "notes", "score"].map(rule).to_vec())
    }
}

impl RuleSet for Curious {
    fn rules(&self) -> &[RuleInfo] {
        &self.0
    }

    fn need(&self) -> HistoryNeed {
        HistoryNeed::default()
    }

    fn evaluate(&mut self, case: &Case<'_>, states: &mut [RuleState], firings: &mut Vec<Firing>) {
        let seen = states[1].get("seen").map_or(0, |seen| seen.parse::<u32>().unwrap()) + 1;
        states[1].insert("seen".into(), seen.to_string().into());
        let review = case.signal(&SignalKind::Review).is_some();
        let holds = [
            case.payment.is_some() && case.signals.iter().any(|signal| signal.value > 20.0),
            seen.is_multiple_of(5),
            case.score > 0.5 && review,
        ];
        let told = holds.into_iter().enumerate().filter(|(_, holds)| *holds);
        firings.extend(told.map(|(rule, _)| Firing { rule, why: format!("{seen} {:?}", case.signals) }));
    }
}

/// The engine with rules, whose scorer must be asked or not.
fn ruled(ignores_quiet: bool) -> Engine {
    let mut engine = engine();
    let mut generation = generation(2, 100.0);
    generation.scorer = Box::new(Loud { ignores_quiet });
    generation.rules = Box::new(Curious::new());
    drop(engine.install(generation));
    engine
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..90_i64, 0..400_i64, 0..3_u8, 0..140_u8, 0..8_u8, 0..14_u8)
        .prop_map(|(gap, lag, agent, id, status, act)| Event { gap, lag, agent, id, status, act });
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
        let deed = deed(event.act, now, engine);
        for record in [accepted.into_record(now)].into_iter().chain(deed).chain([Record::Tick { now }]) {
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

    /// Signals that nobody asked for, and a score that nobody needed, change nothing.
    #[test]
    fn calm_agents_are_judged_like_others(events in events()) {
        let (mut asked, mut expected) = (ruled(false), Effects::default());
        let records = journal(&events, &mut asked, &mut expected);
        let (mut spared, mut effects) = (ruled(true), Effects::default());
        for record in &records {
            spared.reapply(1, record, &mut effects);
        }
        prop_assert_eq!(snapshot(&asked), snapshot(&spared));
        prop_assert_eq!(expected, effects);
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
            if let Record::Tick { .. } | Record::Action { .. } | Record::Condition { .. } = record {
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
