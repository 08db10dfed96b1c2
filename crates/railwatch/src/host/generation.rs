//! From a checked configuration to an engine generation.

use railwatch_engine::{Directory, Equal, Escalation, Generation, Inhibition, Mute, SeenLimits, Settings};
use railwatch_model::{Facts, SmolStr, Subject, Timestamp};
use railwatch_plugin::column::Column;
use railwatch_plugin::config::ConfigError;
use railwatch_script::StatusHandle;

use crate::config::{self, Config, Loaded};
use crate::host::scripts::{self, Compiled};
use crate::plugins;

/// A generation, and the scripts that it runs.
pub(crate) struct Built {
    pub(crate) generation: Generation,
    pub(crate) scripts: Vec<StatusHandle>,
}

/// Builds everything that the engine runs from a configuration. Nothing running is touched.
pub(crate) fn build(loaded: &Loaded, number: u64) -> Result<Built, (String, ConfigError)> {
    let config = &loaded.config;
    let Compiled { rules, scorer, status } = scripts::compile(loaded)?;
    let generation = Generation {
        number,
        digest: SmolStr::new(&loaded.digest),
        settings: settings(config),
        directory: directory(config),
        columns: columns(config)?,
        scorer,
        rules,
    };
    Ok(Built { generation, scripts: status })
}

/// Builds a generation, or fails with the diagnostic.
pub(crate) fn build_or_fail(loaded: &Loaded, number: u64) -> anyhow::Result<Built> {
    build(loaded, number).map_err(|(section, error)| {
        anyhow::anyhow!(loaded.report(vec![loaded.diagnose(&section, &error)]).render(false))
    })
}

fn settings(config: &Config) -> Settings {
    let alerts = &config.alerts;
    let from = &alerts.severity_from;
    Settings {
        review_above: config.score.review_threshold.0,
        review_close_below: config.score.review_threshold.0 * 0.7,
        clear_after: alerts.clear_after.0,
        reopen_within: alerts.reopen_within.0,
        remind_every: alerts.remind_every.0,
        group_interval: alerts.group_interval.0,
        severity_from: [from.medium.0, from.high.0, from.critical.0],
        escalations: config.escalations.iter().map(escalation).collect(),
        mutes: config.mutes.iter().map(|block| mute(block, config)).collect(),
        inhibitions: config.inhibitions.iter().map(inhibition).collect(),
        subjects_max: config.limits.agents as usize,
        seen: SeenLimits { keys_max: config.limits.dedup_keys as usize, ..SeenLimits::default() },
        ..Settings::default()
    }
}

fn escalation(block: &config::Escalation) -> Escalation {
    Escalation { name: SmolStr::new(&block.name), after: block.after.0, matcher: block.matches.clone() }
}

fn mute(block: &config::Mute, config: &Config) -> Mute {
    let mut days = [block.days.is_empty(); 7];
    for day in &block.days {
        if let Some(begins) = days.get_mut(*day as usize) {
            *begins = true;
        }
    }
    Mute {
        name: SmolStr::new(&block.name),
        matcher: block.matches.clone(),
        days,
        from: block.from.0,
        until: block.until.0,
        tz: block.timezone.unwrap_or(config.timezone).0,
    }
}

/// The mute windows that hold these facts back at a time, and when each ends.
pub(crate) fn mutes_now(config: &Config, facts: &Facts, at: Timestamp) -> Vec<(String, Timestamp)> {
    let matching = config.mutes.iter().filter(|block| block.matches.accepts(facts));
    matching.filter_map(|block| Some((block.name.clone(), mute(block, config).ends_at(at)?))).collect()
}

fn inhibition(block: &config::Inhibition) -> Inhibition {
    let equal = block.equal.iter().map(|equal| match equal {
        config::Equal::Agent => Equal::Agent,
        config::Equal::Team => Equal::Team,
        config::Equal::Rail => Equal::Rail,
        config::Equal::Kind => Equal::Kind,
    });
    Inhibition { by: block.by.clone(), matcher: block.matches.clone(), equal: equal.collect() }
}

fn directory(config: &Config) -> Directory {
    let mut directory = Directory::new(config.agents());
    for (team, profile) in config.teams() {
        directory.set_profile(Subject::Team(team), profile);
    }
    directory.set_profile(Subject::Fleet, config.fleet());
    for (name, source) in &config.sources {
        if let Some(agent) = &source.common.agent {
            directory.set_default(name.clone(), agent.0.clone());
        }
    }
    directory
}

fn columns(config: &Config) -> Result<Vec<Box<dyn Column>>, (String, ConfigError)> {
    let enabled = config.detectors.iter().filter(|detector| detector.common.enabled);
    let build = |detector: &config::DetectorConfig| {
        let section = format!("detectors.{}", detector.plugin);
        let plugin = plugins::DETECTORS.iter().find(|plugin| plugin.name == detector.plugin);
        let Some(plugin) = plugin else {
            return Err((section, ConfigError::new("", "there is no such detector")));
        };
        (plugin.build)(&detector.table).map_err(|error| (section, error))
    };
    enabled.map(build).collect()
}
