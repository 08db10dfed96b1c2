//! What a message says, before any target lays it out.

use railwatch_model::{Notice, NoticeId, Occasion, SignalKind, Subject, Trigger};

use super::*;
use crate::testing::{HOSTILE, OCCASIONS, hostile, notice};

#[test]
fn every_occasion_says_what_since_when_at_stake_and_next() {
    for (occasion, name) in OCCASIONS {
        insta::assert_snapshot!(format!("message_{name}"), Message::of(&notice(occasion)).plain());
    }
}

#[test]
fn a_hostile_notice_is_bounded_and_inert() {
    let message = Message::of(&hostile());
    let text = message.plain();
    assert!(text.len() < 40_000, "{}", text.len());
    assert!(message.lead.chars().count() <= SENTENCE_CHARS_MAX && message.lead.ends_with('…'));
    assert_eq!((message.parts.len(), message.parts_left_out), (PARTS_MAX, 35));
    assert_eq!(message.link, None);
    assert!(!text.contains("://") && !text.contains("@channel") && !text.contains('\u{202e}'));
}

#[test]
fn only_web_links_are_offered() {
    let of = |link: &str| {
        let mut notice = notice(Occasion::Opened);
        notice.link = Some(link.to_owned());
        Message::of(&notice).link.map(|link| link.url)
    };
    assert_eq!(of("https://r.example/i/1").as_deref(), Some("https://r.example/i/1"));
    assert_eq!(of("https://r.example/\"><b>").as_deref(), Some("https://r.example/%22%3E%3Cb%3E"));
    for wrong in ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "r.example", HOSTILE] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
    assert_eq!(of(&format!("https://r.example/{}", "x".repeat(2000))), None);
}

#[test]
fn advice_follows_what_happened() {
    let advice = |subject: Subject, trigger: SignalKind| {
        let mut notice = Notice { id: NoticeId("n".into()), ..notice(Occasion::Opened) };
        notice.subject = subject;
        notice.alerts[0].trigger = Trigger::Signal(trigger);
        Message::of(&notice).next
    };
    let agent = notice(Occasion::Opened).subject;
    for (subject, kind, says) in [
        (agent.clone(), SignalKind::Budget, "raise the budget of agent_billing_7"),
        (agent.clone(), SignalKind::RailShift, "change rails"),
        (agent.clone(), SignalKind::Duplicate, "retry loop"),
        (agent, SignalKind::Velocity, "freeze it or revoke its key"),
        (
            Subject::Source("stripe".into()),
            SignalKind::Custom("rail_blind".into()),
            "connection of source stripe",
        ),
        (Subject::Railwatch, SignalKind::Custom("reload".into()), "railwatch's log"),
    ] {
        let next = advice(subject, kind);
        assert!(next.contains(says), "{next}");
    }
}

#[test]
fn evidence_is_said_as_chance() {
    for (nats, says) in [
        (0.0, None),
        (5.0, Some("98 % likely real; by chance once in 6 agent-days")),
        (31.0, Some("98 % likely real; practically never by chance")),
        (f64::MAX, Some("98 % likely real; practically never by chance")),
    ] {
        let mut notice = notice(Occasion::Opened);
        notice.alerts[0].signal.as_mut().unwrap().evidence = nats;
        let lines = Message::of(&notice).parts[0].evidence.clone();
        assert_eq!(lines.iter().find(|line| line.contains("likely")).map(String::as_str), says, "{nats}");
    }
}

#[test]
fn amounts_are_not_summed_over_alerts_of_one_incident() {
    let mut notice = notice(Occasion::Worsened);
    notice.alerts[1].spent_since_onset = Usd::from_cents(1_000);
    let fields = Message::of(&notice).fields;
    let stake = fields.iter().find(|field| field.name == "At stake").unwrap();
    assert_eq!(stake.value, "$57.00 spent, $55.38 beyond the usual");
}
