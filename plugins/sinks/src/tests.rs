//! What holds for every sink in the list.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use railwatch_model::{AgentId, Notice, Occasion, Subject, Trigger};
use railwatch_plugin::sink::{DeliveryError, SinkBuild};

use crate::message::Message;
use crate::testing::{HOSTILE, HttpPeer, OCCASIONS, RotatingSecret, build_with, deliver, notice, reply};
use crate::{SINKS, discord, slack, teams, telegram, terminal};

/// A secret for every reference that an example names.
const SECRETS: &[(&str, &str)] = &[
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x"),
    ("SLACK_BOT_TOKEN", "xoxb-1-s3cr3t"),
    ("TELEGRAM_BOT_TOKEN", "123456:AAH-s3cr3t"),
    ("DISCORD_WEBHOOK_URL", "https://discord.com/api/webhooks/1/s3cr3t"),
    ("TEAMS_WORKFLOW_URL", "https://prod.logic.azure.com/workflows/w?sig=s3cr3t"),
    ("SMTP_PASSWORD", "s3cr3t-smtp"),
    ("NTFY_TOPIC", "s3cr3t-topic"),
    ("PAGERDUTY_ROUTING_KEY", "0123456789abcdef0123456789abcdef"),
    ("OPSGENIE_API_KEY", "g3n13-k3y-s3cr3t"),
    ("WATCHDOG_URL", "https://watchdog.example/ping/s3cr3t-check"),
    ("RAILWATCH_GATE_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
    ("STRIPE_ISSUING_KEY", "rk_live_s3cr3t"),
    ("RAILWATCH_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
];

fn example_of(example: &str) -> toml::Table {
    let document: toml::Table = toml::from_str(example).unwrap();
    let sinks = document["sinks"].as_table().unwrap();
    let mut table = sinks.values().next().unwrap().as_table().unwrap().clone();
    table.remove("plugin");
    table
}

fn build() -> SinkBuild {
    build_with(SECRETS, PathBuf::from("/nonexistent"))
}

#[test]
fn every_example_names_its_plugin_and_builds() {
    for sink in SINKS {
        assert!(sink.example.contains(&format!("plugin = \"{}\"", sink.name)), "{}", sink.name);
        let built = (sink.build)(&example_of(sink.example), &build());
        assert!(built.is_ok(), "{}: {}", sink.name, built.unwrap_err());
    }
}

#[test]
fn every_example_key_is_in_the_schema_and_an_unknown_key_is_refused_by_name() {
    for sink in SINKS {
        let schema = serde_json::to_value((sink.schema)()).unwrap();
        let mut table = example_of(sink.example);
        for key in table.keys() {
            assert!(schema["properties"].get(key).is_some(), "{}: {key}", sink.name);
        }
        for (key, property) in schema["properties"].as_object().unwrap() {
            let described = property.get("description").is_some() || property.get("$ref").is_some();
            assert!(described, "{}: {key} has no description", sink.name);
        }
        table.insert("colour_of_bikeshed".to_owned(), toml::Value::Boolean(true));
        let error = (sink.build)(&table, &build()).unwrap_err();
        assert!(error.to_string().contains("colour_of_bikeshed"), "{}: {error}", sink.name);
    }
}

#[test]
fn names_are_unique_and_no_secret_shows_in_debug() {
    let mut names: Vec<_> = SINKS.iter().map(|sink| sink.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SINKS.len());
    for sink in SINKS {
        let built = (sink.build)(&example_of(sink.example), &build()).unwrap();
        let shown = format!("{built:?}");
        for (name, secret) in SECRETS {
            assert!(!shown.contains(secret), "{} shows {name}", sink.name);
        }
    }
}

#[test]
fn a_missing_secret_is_named_when_the_sink_is_built() {
    for sink in SINKS {
        let needs_one = SECRETS.iter().any(|(name, _)| sink.example.contains(name));
        let built = (sink.build)(&example_of(sink.example), &build_with(&[], PathBuf::from("/nonexistent")));
        assert_eq!(built.is_err(), needs_one, "{}", sink.name);
        if let Err(error) = built {
            assert!(error.message.contains("is not set"), "{}: {error}", sink.name);
            assert!(!error.path.is_empty(), "{}: {error}", sink.name);
        }
    }
}

#[test]
fn a_rotated_secret_takes_effect_without_a_rebuild() {
    let (old, new) = (HttpPeer::play(vec![reply(200, "")]), HttpPeer::play(vec![reply(200, "")]));
    let secret = Arc::new(RotatingSecret(Mutex::new(old.url("/old"))));
    let build = SinkBuild { secrets: secret.clone(), ..build() };
    let plugin = SINKS.iter().find(|sink| sink.name == "slack").unwrap();
    let slack = (plugin.build)(&example_of(plugin.example), &build).unwrap();
    deliver(&*slack, &notice(Occasion::Opened), None).unwrap();
    assert_eq!(old.request().line, "POST /old HTTP/1.1");
    *secret.0.lock().unwrap() = new.url("/new");
    deliver(&*slack, &notice(Occasion::Opened), None).unwrap();
    assert_eq!(new.request().line, "POST /new HTTP/1.1");
    *secret.0.lock().unwrap() = "http://elsewhere.example/not-https".to_owned();
    let error = deliver(&*slack, &notice(Occasion::Opened), None).unwrap_err();
    assert!(
        matches!(error, DeliveryError::Retry { .. }) && !error.to_string().contains("elsewhere"),
        "{error}"
    );
}

/// Texts that outsiders may send: anything, nothing, the hostile one, and long runs of what escapes make longer.
fn outsiders_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(String::new()),
        Just("\u{200b}\u{202e}".to_owned()),
        Just(HOSTILE.to_owned()),
        "[&<>*_~`|@:\\[\\]()#.\\\\-]{0,40}".prop_map(|text| text.repeat(60)),
    ]
}

/// A notice in which every text is an outsider's.
fn outsiders_notice() -> impl Strategy<Value = Notice> {
    let texts = prop::collection::vec(outsiders_text(), 7);
    (0..OCCASIONS.len(), texts, 0..8_usize, any::<(f64, f64)>()).prop_map(
        |(occasion, texts, n, (value, usual))| {
            let mut notice = notice(OCCASIONS[occasion].0);
            notice.subject = AgentId::new(texts[0].as_str()).map_or(Subject::Fleet, Subject::Agent);
            notice.headline = texts[1].clone();
            notice.incident.0 = texts[2].as_str().into();
            for alert in &mut notice.alerts {
                alert.trigger = Trigger::Rule(texts[3].as_str().into());
                alert.summary = texts[4].clone();
                alert.note = Some(texts[5].as_str().into());
                alert.acknowledged_by = Some(texts[6].as_str().into());
                alert.payments = vec![texts[5].as_str().into(); n];
                alert.contributions.iter_mut().for_each(|term| term.name = texts[6].as_str().into());
                if let Some(signal) = &mut alert.signal {
                    (signal.value, signal.usual) = (value, usual);
                    signal.about = Some(texts[0].as_str().into());
                    signal.facts = (0..n).map(|_| (texts[3].as_str().into(), value)).collect();
                }
            }
            notice.alerts = notice.alerts.iter().cycle().take(n * notice.alerts.len()).cloned().collect();
            notice
        },
    )
}

proptest! {
    #[test]
    fn no_text_breaks_a_layouts_limits(notice in outsiders_notice()) {
        let message = Message::of(&notice);
        slack::tests::check_blocks(&slack::body(&message));
        discord::tests::check_embed(&discord::body(&message));
        telegram::tests::check_html(&telegram::content(&message));
        let block = terminal::render(&message, false);
        prop_assert!(!block.chars().any(|c| c.is_control() && c != '\n'), "{:?}", block);
        teams::tests::check_card(&teams::body(message));
    }
}
