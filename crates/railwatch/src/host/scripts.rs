//! The user's Lua: what the scripts that a configuration names compile to. Pure building: texts in, compiled and tested
//! scripts out, before anything running is touched.

use std::path::Path;
use std::sync::Arc;

use railwatch_plugin::config::ConfigError;
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::rules::RuleSet;
use railwatch_plugin::score::Scorer;
use railwatch_script::{Files, Limits, LuaScore, ScriptError, Scripts, StatusHandle};

use crate::config::{Config, Loaded, below, script_name};

/// A configuration's rules and score.
pub(crate) struct Compiled {
    pub(crate) rules: Box<dyn RuleSet>,
    pub(crate) scorer: Box<dyn Scorer>,
    /// How each script does, as long as it is in force.
    pub(crate) status: Vec<StatusHandle>,
}

/// A rail's decoder, and how it does.
#[derive(Debug, Clone)]
pub(crate) struct CompiledDecoder {
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) status: StatusHandle,
}

type BuildError = (String, ConfigError);

/// Compiles and tests everything that decides: rules and score. Those that did not change since `earlier` go on counting.
pub(crate) fn compile(loaded: &Loaded, earlier: &[StatusHandle]) -> Result<Compiled, BuildError> {
    let config: &Config = &loaded.config;
    let mut rule_files = Files::new();
    for path in &config.rules.paths {
        rule_files.extend(below(&loaded.scripts, path));
    }
    let rules = load(&rule_files, "rules", &Limits::default())?.after(earlier);
    let mut status = vec![rules.status_handle()];
    let mut rules = rules.into_rule_set();
    let mut scorer: Box<dyn Scorer> = Box::new(railwatch_detectors::anomaly_score::Probability);
    let named = [("script", &config.score.script), ("shadow", &config.score.shadow)];
    for (key, path) in named.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?))) {
        let (score, handle) = score(loaded, key, path, earlier)?;
        status.push(handle);
        // A formula that calls itself a shadow does not decide, whatever the key says.
        if key == "shadow" || score.is_shadow() {
            rules.shadow_score(score, config.score.review_threshold.0);
        } else {
            scorer = Box::new(score);
        }
    }
    Ok(Compiled { rules: Box::new(rules), scorer, status })
}

fn score(
    loaded: &Loaded,
    key: &str,
    path: &Path,
    earlier: &[StatusHandle],
) -> Result<(LuaScore, StatusHandle), BuildError> {
    let scripts = load(&below(&loaded.scripts, path), "score", &Limits::default())?.after(earlier);
    let score = scripts.score(&script_name(path)).ok_or_else(|| wrong("score", key, path, "a score"))?;
    Ok((score, scripts.status_handle()))
}

/// Compiles and tests the decoder that a source names; it goes on counting if it did not change since `earlier`.
pub(crate) fn decoder(
    all: &Files,
    section: &str,
    path: &Path,
    earlier: &[StatusHandle],
) -> Result<CompiledDecoder, BuildError> {
    let files = below(all, path);
    let scripts = load(&files, section, &Limits::default().of_rails())?.after(earlier);
    let decoder = scripts.decoder(&script_name(path));
    let decoder = decoder.ok_or_else(|| wrong(section, "decode", path, "a rail"))?;
    Ok(CompiledDecoder { decoder, status: scripts.status_handle() })
}

fn load(files: &Files, section: &str, limits: &Limits) -> Result<Scripts, BuildError> {
    Scripts::load(files, limits).map_err(|errors| (section.to_owned(), explain(&errors)))
}

fn explain(errors: &[ScriptError]) -> ConfigError {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    ConfigError::new("", lines.join("\n"))
}

fn wrong(section: &str, key: &str, path: &Path, expected: &str) -> BuildError {
    (section.to_owned(), ConfigError::new(key, format!("{} does not return {expected}", path.display())))
}
