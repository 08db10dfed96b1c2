//! What holds for every sink in the list.

use std::path::PathBuf;

use railwatch_plugin::sink::SinkBuild;

use crate::SINKS;
use crate::testing::build_with;

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
