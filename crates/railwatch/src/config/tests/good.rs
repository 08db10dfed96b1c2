//! Configurations that load, and what they come to.

use railwatch_model::{AgentId, Facts, Occasion, Severity, Subject, Timestamp, Usd};
use railwatch_plugin::detector::Period;
use toml::Table;

use super::super::{init, schema, show_resolved};
use super::{fake, load_files, load_text};

/// Everything that can be said, said once.
const FULL: &str = include_str!("full.toml");

#[test]
fn the_starter_file_loads_and_equals_an_empty_one() {
    let starter = load_text(init());
    assert_eq!(starter.config, load_text("").config);
    let found: Vec<_> = starter.warnings.list.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(found, ["no source is enabled, so nothing is watched"]);
}

#[test]
fn the_starter_file_loads_with_every_example_switched_on() {
    let example = |line: &str| {
        let code = line.strip_prefix("# ")?;
        let is_code =
            code.starts_with('[') || code.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        (is_code && !code.starts_with("public")).then(|| code.to_owned())
    };
    let lines = init().lines().map(|line| example(line).unwrap_or_else(|| line.to_owned()));
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.replace("\"GATE_TOKEN\"", "\"HAVE_TOKEN\"").replace("\"SLACK_WEBHOOK\"", "\"HAVE_HOOK\"");
    let text = text
        .replace("agent = \"research-7\"  ", "fields = { amount = \"/amount\" }\nagent = \"research-7\"  ");
    let loaded = load_text(&text);
    assert_eq!(loaded.warnings.list, []);
    assert_eq!(
        (loaded.config.agents.len(), loaded.config.sources.len(), loaded.config.routes.len()),
        (1, 1, 1)
    );
}

#[test]
fn a_full_file_comes_to_what_it_says() {
    let loaded = load_text(FULL);
    let agents = loaded.config.agents();
    let agent = &agents[0];
    assert_eq!(agent.id, AgentId::new("research-7").unwrap());
    assert_eq!(agent.profile.team, Some(fake::name("growth")));
    assert_eq!(agent.profile.peer_group, Some(fake::name("researchers")));
    assert_eq!(agent.profile.seed_usd_per_hour, Some(8.0));
    assert_eq!(agent.quiet_after, Some(std::time::Duration::from_secs(2 * 86_400)));
    assert!(agent.identities.contains(&(fake::name("evm.address"), fake::name("0xabc"))));
    let budgets: Vec<_> =
        agent.profile.budgets.iter().map(|b| (b.name.as_str(), b.amount, b.tz.name())).collect();
    let expected = [
        ("monthly", Usd::from_cents(1_000_000), "Europe/Berlin"),
        ("daily", Usd::from_cents(5_000), "America/New_York"),
        ("launch", Usd::from_cents(100_000), "Europe/Berlin"),
    ];
    assert_eq!(budgets, expected);
    assert!(matches!(agent.profile.budgets[2].period, Period::Fixed { .. }));
    let reasons = |announcements: &[railwatch_plugin::detector::Announcement]| {
        announcements.iter().map(|announcement| announcement.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&agent.profile.announcements), ["sale week", "migration"]);
    assert_eq!(reasons(&agents[1].profile.announcements), ["migration"]);
    assert_eq!(reasons(&loaded.config.teams()[0].1.announcements), ["sale week", "migration"]);
    assert_eq!(reasons(&loaded.config.fleet().announcements), ["migration"]);
    let from = Timestamp::parse("2026-11-27T00:00:00Z").unwrap();
    assert_eq!(agent.profile.announcements[0].from, from);
    assert_eq!(loaded.config.fleet().budgets.len(), 1);
}

#[test]
fn the_hosts_keys_are_kept_from_the_plugins_table() {
    let loaded = load_text(FULL);
    let gate = &loaded.config.sources["gate"];
    assert_eq!(gate.plugin, "websocket");
    assert_eq!(gate.table.keys().map(String::as_str).collect::<Vec<_>>(), ["fields", "idle", "token", "url"]);
    assert_eq!(gate.common.labels["env"], "prod");
    assert!(!loaded.config.sources["old"].common.enabled);
    assert_eq!(loaded.config.sinks["ops"].common.min_severity, Some(Severity::Medium));
}

#[test]
fn what_is_shown_loads_again_to_the_same_configuration() {
    for text in ["", FULL] {
        let config = load_text(text).config;
        let shown = show_resolved(&config, &fake::registries());
        let again = load_text(&shown);
        assert_eq!(show_resolved(&again.config, &fake::registries()), shown);
        assert_eq!(again.config.agents(), config.agents());
        assert_eq!(again.config.limits, config.limits);
    }
    insta::assert_snapshot!("resolved", show_resolved(&load_text(FULL).config, &fake::registries()));
}

#[test]
fn files_in_conf_d_are_merged_in_name_order() {
    let files = [
        ("railwatch.toml", "[store]\npath = \"a.db\"\n[[agents]]\nid = \"a\"\n"),
        ("conf.d/20-more.toml", "[[agents]]\nid = \"c\"\n"),
        ("conf.d/10-agents.toml", "[store]\nretain = \"1d\"\n[[agents]]\nid = \"b\"\n"),
        ("conf.d/README.md", "not read"),
        ("conf.d/.hidden.toml", "not read ="),
    ];
    let loaded = load_files(&files, false).unwrap();
    let ids: Vec<_> = loaded.config.agents().iter().map(|agent| agent.id.to_string()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(loaded.config.store.path.to_str(), Some("a.db"));
    assert_eq!(loaded.config.store.retain.to_string(), "1d");
    assert_eq!(loaded.sources_text().len(), 3);
}

#[test]
fn the_digest_changes_with_any_file_and_with_nothing_else() {
    let digest = |script: &str, main: &str| {
        let files = [("railwatch.toml", main), ("rules/a.lua", script)];
        load_files(&files, false).unwrap().digest
    };
    let main = "[rules]\npaths = [\"rules\"]\n";
    assert_eq!(digest("return 1", main), digest("return 1", main));
    assert_ne!(digest("return 1", main), digest("return 2", main));
    assert_ne!(digest("return 1", main), digest("return 1", "[rules]\npaths = [\"rules\"] # why\n"));
    assert_eq!(digest("", main).len(), 64);
}

#[test]
fn two_generations_differ_where_they_differ() {
    let old = load_text(FULL).config;
    let new = load_text(&FULL.replace("wss://gate.example.com", "wss://gate2.example.com")).config;
    assert_ne!(old, new);
    let changed: Vec<_> =
        old.sources.keys().filter(|name| old.sources[*name] != new.sources[*name]).collect();
    assert_eq!(changed, ["gate"]);
    assert_eq!((&old.sinks, &old.agents), (&new.sinks, &new.agents));
}

#[test]
fn routes_tell_whom_they_say() {
    let config = load_text(FULL).config;
    let facts = |severity, agent: &str, rail: &str| {
        let agent = Subject::Agent(AgentId::new(agent).unwrap());
        let mut facts = Facts::new(&agent, Some(&"growth".into()), &[]);
        (facts.severity, facts.rails) = (severity, [rail.into()].into());
        facts
    };
    #[track_caller]
    fn check(config: &super::super::Config, facts: &Facts, expected: &[&str]) {
        let told = config.route(facts, Occasion::Opened, &[]);
        let told = told.iter().filter(|told| told.refused.is_none()).map(|told| told.sink.as_str());
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
    check(&config, &facts(Severity::Critical, "billing_7", "x402"), &["pager", "ops"]);
    check(&config, &facts(Severity::Critical, "other", "x402"), &["ops"]);
    check(&config, &facts(Severity::Medium, "billing_7", "stripe"), &["ops"]);
    check(&config, &facts(Severity::Low, "billing_7", "x402"), &[]);
    let everyone = load_text("[sinks.a]\nplugin = \"slack\"\nurl = { env = \"HAVE_A\" }\n").config;
    check(&everyone, &facts(Severity::Info, "x", "x402"), &["a"]);
}

#[test]
fn an_escalation_tells_further_sinks_and_they_hear_of_the_end() {
    let text = "[sinks.chat]\nplugin = \"slack\"\nurl = { env = \"HAVE_A\" }\n\
                [sinks.pager]\nplugin = \"slack\"\nurl = { env = \"HAVE_B\" }\n\
                [[routes]]\nsinks = [\"chat\"]\n\
                [[escalations]]\nname = \"late\"\nafter = \"15m\"\nsinks = [\"pager\"]\n";
    let config = load_text(text).config;
    let facts = Facts::new(&Subject::Fleet, None, &[]);
    for (occasion, escalations, expected) in [
        (Occasion::Opened, vec![], vec!["chat"]),
        (Occasion::Escalated, vec!["late".into()], vec!["pager"]),
        (Occasion::Resolved, vec!["late".into()], vec!["chat", "pager"]),
        (Occasion::Resolved, vec!["gone".into()], vec!["chat"]),
    ] {
        let told = config.route(&facts, occasion, &escalations);
        assert_eq!(told.iter().map(|told| told.sink.as_str()).collect::<Vec<_>>(), expected, "{occasion:?}");
    }
}

#[test]
fn the_schema_holds_every_plugins_keys_and_the_hosts() {
    let schema = schema(&fake::registries());
    let feed = &schema["$defs"]["source.websocket"];
    for key in ["url", "token", "plugin", "labels", "enabled", "decode"] {
        assert!(feed["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(feed["additionalProperties"], false);
    let plugins = &schema["properties"]["sources"]["additionalProperties"]["properties"]["plugin"]["enum"];
    assert_eq!(*plugins, serde_json::json!(["websocket", "webhook"]));
    assert!(schema["properties"]["detectors"]["properties"].get("velocity").is_some());
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name} leads nowhere");
    }
}

#[test]
fn findings_of_the_host_get_places() {
    let loaded = load_text(FULL);
    let error = railwatch_plugin::config::ConfigError::new("fields.amount", "no such field");
    let report = loaded.report(vec![loaded.diagnose("sources.gate", &error)]);
    let (file, line, column) = report.line_column(report.list[0].place.unwrap()).unwrap();
    assert_eq!(
        (file.path.to_str(), report.list[0].path.as_str()),
        (Some("railwatch.toml"), "sources.gate.fields.amount")
    );
    let written = FULL.lines().nth(line - 1).unwrap();
    assert!(written.get(column - 1..).unwrap().starts_with("\"/amount\""), "{written}");
}

#[test]
fn the_shown_configuration_names_secrets_and_holds_none() {
    let shown = show_resolved(&load_text(FULL).config, &fake::registries());
    assert!(!shown.contains("xyzzy"));
    let table: Table = shown.parse().unwrap();
    assert_eq!(table["sources"]["gate"]["token"]["env"].as_str(), Some("HAVE_TOKEN"));
}
