//! From a checked configuration to an engine generation.

use railwatch_engine::{Directory, Generation, SeenLimits, Settings};
use railwatch_model::{SmolStr, Subject};
use railwatch_plugin::column::Column;
use railwatch_plugin::config::ConfigError;
use railwatch_script::StatusHandle;

use crate::config::{Config, Loaded};
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
    let defaults = Settings::default();
    Settings {
        review_above: config.score.review_threshold.0,
        review_close_below: config.score.review_threshold.0 * 0.7,
        clear_after: config.alerts.clear_after.0,
        remind_every: config.alerts.remind_every.0,
        subjects_max: config.limits.agents as usize,
        seen: SeenLimits { keys_max: config.limits.dedup_keys as usize, ..SeenLimits::default() },
        ..defaults
    }
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
    let build = |detector: &crate::config::DetectorConfig| {
        let section = format!("detectors.{}", detector.plugin);
        let plugin = plugins::DETECTORS.iter().find(|plugin| plugin.name == detector.plugin);
        let Some(plugin) = plugin else {
            return Err((section, ConfigError::new("", "there is no such detector")));
        };
        (plugin.build)(&detector.table).map_err(|error| (section, error))
    };
    enabled.map(build).collect()
}
