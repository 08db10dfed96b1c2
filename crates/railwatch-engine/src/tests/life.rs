//! The life of alerts as timelines in text: what happens at which second, and below it who is told what at which second.
//!
//! `wait` lets time pass like the host does: a tick in every second in which something is due.

use railwatch_model::{
    Action, AlertState, Condition, ConditionKind, Freeze, FreezeId, GateWord, Holding, Matcher, Severity,
    Silence, SilenceId, Subject,
};

use super::*;
use crate::settings::{Equal, Escalation, Inhibition, Mute};
use railwatch_model::Occasion;

/// Thursday, 2026-01-01T00:00:00Z.
pub(super) const T0: i64 = 1_767_225_600;

pub(super) struct Life {
    pub(super) engine: Engine,
    now: i64,
    n: u32,
    told: Vec<String>,
    pub(super) effects: Effects,
}

/// Runs a timeline with changed settings and compares every notice with the lines that begin with `>`.
#[track_caller]
pub(super) fn life(change: impl FnOnce(&mut Settings), text: &str) -> Life {
    let mut generation = generation(1, 100.0);
    change(&mut generation.settings);
    let (engine, effects) = (Engine::new([7; 16], generation), Effects::default());
    let mut life = Life { engine, now: 0, n: 0, told: Vec::new(), effects };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (expected, steps): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.starts_with('>'));
    for step in steps {
        let (at, what) = step.split_once(' ').unwrap();
        life.step(at.parse().unwrap(), &what.split_whitespace().collect::<Vec<_>>());
    }
    let expected: Vec<String> = expected
        .iter()
        .map(|line| line.trim_start_matches('>').split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(life.told, expected, "\n{:#?}", life.engine.open_alerts());
    life
}

impl Life {
    fn step(&mut self, at: i64, words: &[&str]) {
        let from = if words == ["wait"] { self.now + 1 } else { at };
        self.now = at;
        match words {
            ["wait"] => {
                for second in from..=at {
                    if self.engine.has_due(Timestamp::from_secs(T0 + second)) {
                        let mut effects = Effects::default();
                        tick(&mut self.engine, T0 + second, &mut effects);
                        self.note(second, effects);
                    }
                }
            }
            ["pay", agent, dollars] => {
                self.n += 1;
                let mut effects = Effects::default();
                let payment = payment(agent, &format!("p{}", self.n), T0 + at, dollars.parse().unwrap());
                feed(&mut self.engine, T0 + at, vec![payment], &mut effects);
                self.note(at, effects);
            }
            ["ack"] => self.act(Action::Acknowledge { incident: self.incident(), note: None }),
            ["resolve"] => self.act(Action::Resolve { incident: self.incident(), note: None }),
            ["silence", matcher, "for", secs, rest @ ..] => {
                let (key, value) = matcher.split_once('=').unwrap();
                let silence = Silence {
                    id: SilenceId("s-1".into()),
                    matcher: serde_json::from_value(serde_json::json!({ key: value })).unwrap(),
                    by: "ana".into(),
                    reason: "maintenance".into(),
                    from: Timestamp::from_secs(T0 + at),
                    until: Timestamp::from_secs(T0 + at + secs.parse::<i64>().unwrap()),
                    until_resolved: rest == ["until-resolved"],
                };
                self.act(Action::Silence(silence));
            }
            ["unsilence"] => self.act(Action::Unsilence { silence: SilenceId("s-1".into()) }),
            ["freeze", agent, by, approvals, secs] => {
                let wish = self.freeze(agent, by, approvals.parse().unwrap(), secs.parse().unwrap());
                self.apply(|now| Record::Action { now, by: (*by).into(), action: Action::Freeze(wish) });
            }
            ["unfreeze"] => {
                let freeze = self.engine.freezes().last().unwrap().id.clone();
                self.act(Action::Unfreeze { freeze });
            }
            ["gate", answer] => {
                let freeze = self.engine.freezes().last().unwrap();
                let (freeze, word) = (freeze.id.clone(), freeze.gates[0].clone());
                let (done, detail) = (*answer == "done", (*answer).into());
                let GateWord { gate, notice, .. } = word;
                self.act(Action::GateSaid { freeze, notice, gate, done, detail });
            }
            ["hold", kind, about, severity] => self.report(kind, about, Some(severity)),
            ["over", kind, about] => self.report(kind, about, None),
            other => panic!("{other:?}"),
        }
    }

    fn freeze(&self, agent: &str, by: &str, approvals: u8, lasts_secs: u32) -> Box<Freeze> {
        let now = Timestamp::from_secs(T0 + self.now);
        let agent = AgentId::new(agent).unwrap();
        let (incident, alert) = self.engine.open_incident(&agent).unzip();
        let id = FreezeId(format!("f-{}", self.now).into());
        let request = Freeze::request(id, agent, by.into(), "runaway".into(), now);
        Box::new(Freeze { alert, incident, approvals, lasts_secs, ..request })
    }

    fn incident(&self) -> railwatch_model::IncidentId {
        self.engine.open_alerts()[0].incident.clone()
    }

    fn act(&mut self, action: Action) {
        self.apply(|now| Record::Action { now, by: "ana".into(), action });
    }

    fn report(&mut self, kind: &str, about: &str, severity: Option<&str>) {
        let kind = ConditionKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap();
        let named =
            |name: &str| Severity::ALL.into_iter().find(|severity| severity.as_str() == name).unwrap();
        let holding = severity
            .map(|severity| Holding { severity: named(severity), summary: format!("{about} is ill").into() });
        let subject = match kind {
            ConditionKind::RailBlind => Subject::Source(about.into()),
            _ => Subject::Railwatch,
        };
        let condition = Condition { subject, kind, about: about.into(), holding };
        self.apply(|now| Record::Condition { now, condition });
    }

    fn apply(&mut self, record: impl FnOnce(Timestamp) -> Record) {
        let mut effects = Effects::default();
        self.engine.apply(1, &record(Timestamp::from_secs(T0 + self.now)), &mut effects);
        self.note(self.now, effects);
    }

    fn note(&mut self, at: i64, effects: Effects) {
        for notice in &effects.notices {
            let also = notice.escalations.last().filter(|_| notice.occasion == Occasion::Escalated);
            let also = also.map_or_else(String::new, |name| format!(" {name}"));
            let severity = notice.severity.as_str();
            self.told.push(format!("+{at} {} {} {severity}{also}", notice.occasion.as_str(), notice.subject));
        }
        for (gate, notice) in &effects.orders {
            let order = notice.order.as_ref().unwrap();
            self.told.push(format!("+{at} {gate} {} {}", order.verb.event(), order.freeze.agent));
        }
        self.effects.alerts.extend(effects.alerts);
        self.effects.orders.extend(effects.orders);
        self.effects.notices.extend(effects.notices);
    }
}

pub(super) fn matcher(text: &str) -> Matcher {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_is_still_open_when_a_silence_ends_is_told_then() {
    let life = life(
        |_| {},
        "0   silence agent=a1 for 600
         10  pay a1 200
         20  pay a2 200
         > +20 opened a2 high
         900 wait
         > +600 opened a1 high
         > +660 resolved a1 high
         > +660 resolved a2 high",
    );
    let hidden = life.effects.alerts.iter().find_map(|alert| alert.silenced_by.as_ref()).unwrap();
    assert_eq!(hidden, "silence s-1 by ana: maintenance");
    assert!(life.engine.silences().is_empty());
}

#[test]
fn what_lives_and_ends_in_a_silence_is_told_to_nobody_and_kept() {
    let life = life(
        |_| {},
        "0    silence kind=minute_limit for 7200
         10   pay a1 200
         3000 wait",
    );
    let last = life.effects.alerts.last().unwrap();
    assert_eq!((last.state, last.resolved_at), (AlertState::Resolved, Some(Timestamp::from_secs(T0 + 660))));
}

#[test]
fn a_silence_stops_reminders_and_not_the_word_that_it_is_over() {
    life(
        |settings| settings.remind_every = Duration::from_secs(120),
        "0    pay a1 200
         > +0 opened a1 high
         130  wait
         > +120 reminded a1 high
         140  silence team=* for 60
         141  silence agent=a1 for 7200
         2000 wait
         > +660 resolved a1 high",
    );
}

#[test]
fn an_ended_silence_hides_no_more() {
    life(
        |_| {},
        "0   silence agent=a* for 7200
         10  pay a1 200
         300 unsilence
         301 wait
         > +301 opened a1 high
         310 ack
         > +310 acknowledged a1 high",
    );
}

#[test]
fn a_silence_until_resolved_ends_with_what_it_hid() {
    let life = life(
        |_| {},
        "0    pay a1 200
         > +0 opened a1 high
         5    silence agent=a1 for 86400 until-resolved
         10   pay a1 200
         1000 wait
         > +660 resolved a1 high
         5000 pay a1 200
         > +5000 opened a1 high",
    );
    assert!(life.engine.silences().is_empty());
}

#[test]
fn a_mute_window_holds_back_until_its_end_in_its_own_time_zone() {
    let nights = |settings: &mut Settings| {
        settings.clear_after = Duration::from_secs(12 * 3600);
        settings.mutes = vec![Mute {
            name: "nights".into(),
            matcher: matcher(r#"{"severity":"<critical"}"#),
            days: [true; 7],
            from: 22 * 60,
            until: 7 * 60,
            tz: chrono_tz::Europe::Berlin,
        }];
    };
    // Midnight in London is one o'clock in Berlin; its morning comes at six.
    life(
        nights,
        "60    pay a1 200
         70    pay a2 700
         > +70 opened a2 critical
         22000 wait
         > +21600 opened a1 high",
    );
}

#[test]
fn mute_windows_follow_days_and_clocks_that_are_put_forward() {
    let window = |days: [bool; 7], from: u16, until: u16| Mute {
        name: "m".into(),
        matcher: Matcher::default(),
        days,
        from,
        until,
        tz: chrono_tz::Europe::Berlin,
    };
    let weekend = [false, false, false, false, false, true, true];
    for (days, from, until, now, expected) in [
        ([true; 7], 22 * 60, 7 * 60, "2026-01-01T20:59:00Z", None),
        ([true; 7], 22 * 60, 7 * 60, "2026-01-01T21:00:00Z", Some("2026-01-02T06:00:00Z")),
        ([true; 7], 22 * 60, 7 * 60, "2026-01-02T05:59:59Z", Some("2026-01-02T06:00:00Z")),
        ([true; 7], 22 * 60, 7 * 60, "2026-01-02T06:00:00Z", None),
        // Saturday's night lasts into Sunday, and Sunday's into Monday; Friday's is none.
        (weekend, 22 * 60, 7 * 60, "2026-01-03T02:00:00Z", None),
        (weekend, 22 * 60, 7 * 60, "2026-01-05T02:00:00Z", Some("2026-01-05T06:00:00Z")),
        (weekend, 0, 24 * 60, "2026-01-03T12:00:00Z", Some("2026-01-03T23:00:00Z")),
        (weekend, 0, 24 * 60, "2026-01-05T12:00:00Z", None),
        // On 2026-03-29 the hour from two to three does not exist, and the night is an hour shorter.
        ([true; 7], 22 * 60, 7 * 60, "2026-03-28T23:00:00Z", Some("2026-03-29T05:00:00Z")),
        ([true; 7], 23 * 60, 150, "2026-03-29T00:30:00Z", Some("2026-03-29T01:30:00Z")),
    ] {
        let ends_at = window(days, from, until).ends_at(Timestamp::parse(now).unwrap());
        assert_eq!(ends_at, expected.map(|at| Timestamp::parse(at).unwrap()), "{from}-{until} at {now}");
    }
}

fn two_steps(settings: &mut Settings) {
    settings.clear_after = Duration::from_secs(12 * 3600);
    let step = |name: &str, mins: u64, text: &str| Escalation {
        name: name.into(),
        after: Duration::from_secs(mins * 60),
        matcher: matcher(text),
    };
    settings.escalations = vec![step("lead", 15, "{}"), step("boss", 60, r#"{"severity":"critical"}"#)];
}

#[test]
fn what_nobody_takes_is_escalated_step_by_step() {
    life(
        two_steps,
        "0    pay a1 700
         > +0 opened a1 critical
         7200 wait
         > +900 escalated a1 critical lead
         > +3600 escalated a1 critical boss",
    );
}

#[test]
fn who_takes_it_stops_the_escalation() {
    life(
        two_steps,
        "0    pay a1 700
         > +0 opened a1 critical
         890  ack
         > +890 acknowledged a1 critical
         7200 wait",
    );
}

#[test]
fn an_escalation_waits_until_the_incident_matches_it() {
    life(
        |settings| {
            two_steps(settings);
            settings.escalations.remove(0);
        },
        "0    pay a1 200
         > +0 opened a1 high
         7200 wait
         7210 pay a1 700
         > +7210 worsened a1 critical
         > +7210 escalated a1 critical boss",
    );
}

#[test]
fn a_relapse_is_the_same_incident_again_and_is_counted() {
    let life = life(
        |_| {},
        "0    pay a1 200
         > +0 opened a1 high
         90   pay a1 200
         1000 wait
         > +720 resolved a1 high
         1010 pay a1 200
         > +1010 reopened a1 high",
    );
    let alerts = life.engine.open_alerts();
    assert_eq!((alerts.len(), alerts[0].times_seen), (1, 2));
    let incidents: std::collections::BTreeSet<_> =
        life.effects.notices.iter().map(|notice| &notice.incident).collect();
    assert_eq!(incidents.len(), 1);
}

#[test]
fn what_a_person_closed_stays_closed_while_it_goes_on_and_opens_after_quiet() {
    life(
        |_| {},
        "0   pay a1 200
         > +0 opened a1 high
         5   resolve
         > +5 resolved a1 high
         10  pay a1 200
         120 wait
         130 pay a1 200
         > +130 reopened a1 high",
    );
}

#[test]
fn what_a_person_closed_and_goes_on_for_too_long_is_a_new_incident() {
    let mut text = "0 pay a1 200\n> +0 opened a1 high\n5 resolve\n> +5 resolved a1 high\n".to_owned();
    // Never quiet: the trigger is asked with every payment, and every payment exceeds the limit.
    for second in (10..2_000).step_by(10) {
        text.push_str(&format!("{second} pay a1 200\n"));
    }
    text.push_str("> +1810 opened a1 high\n");
    life(
        |settings| settings.severity_from = [Usd::ONE, Usd::from_cents(2_000), Usd::from_cents(1 << 40)],
        &text,
    );
}

#[test]
fn an_incident_that_explains_another_keeps_it_from_people() {
    life(
        |settings| {
            settings.inhibitions = vec![Inhibition {
                by: matcher(r#"{"kind":"rail_blind"}"#),
                matcher: matcher(r#"{"agent":"a1"}"#),
                equal: Vec::new(),
            }];
        },
        "0   hold rail_blind gate high
         > +0 opened source gate high
         10  pay a1 200
         15  pay a2 200
         > +15 opened a2 high
         100 over rail_blind gate
         200 wait
         > +160 resolved source gate high
         > +161 opened a1 high",
    );
}

#[test]
fn inhibition_may_ask_for_something_shared() {
    let shared = |equal| {
        move |settings: &mut Settings| {
            let everything = Matcher::default();
            settings.inhibitions = vec![Inhibition { by: everything.clone(), matcher: everything, equal }];
        }
    };
    let same = "0 pay a1 200\n> +0 opened a1 high\n5 pay a2 200\n";
    life(shared(vec![Equal::Kind]), same);
    life(shared(vec![Equal::Rail]), same);
    life(shared(vec![Equal::Agent]), &format!("{same}> +5 opened a2 high\n"));
    life(shared(vec![Equal::Team]), &format!("{same}> +5 opened a2 high\n"));
}

#[test]
fn a_condition_is_an_alert_while_it_holds_and_comes_and_goes_as_one() {
    let life = life(
        |_| {},
        "0   hold sink_failing slack medium
         > +0 opened railwatch medium
         10  over sink_failing slack
         30  hold sink_failing slack medium
         40  hold sink_failing slack high
         > +40 worsened railwatch high
         100 over sink_failing slack
         300 wait
         > +160 resolved railwatch high",
    );
    assert!(life.engine.conditions().is_empty());
    assert_eq!(life.effects.alerts.last().unwrap().times_seen, 2);
}

#[test]
fn conditions_of_one_kind_speak_with_one_voice() {
    let life = life(
        |_| {},
        "0  hold script_quarantined night.lua medium
         > +0 opened railwatch medium
         5  hold script_quarantined score.lua medium
         10 over script_quarantined night.lua
         20 over script_quarantined score.lua
         > +20 resolved railwatch medium",
    );
    let said: Vec<&str> = life.effects.alerts.iter().map(|alert| alert.summary.as_str()).collect();
    assert_eq!(said.first(), Some(&"night.lua is ill"));
    assert_eq!(said.last(), Some(&"score.lua is ill"));
}
