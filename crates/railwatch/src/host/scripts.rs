//! The user's Lua: which files a configuration names, and what they compile to. Pure building: text in, compiled and
//! tested scripts out, before anything running is touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use railwatch_plugin::config::ConfigError;
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::rules::{NoRules, RuleSet};
use railwatch_plugin::score::Scorer;
use railwatch_script::{Files, Limits, ScriptError, Scripts, StatusHandle, read_dir};

use crate::config::{Config, Loaded};

/// A configuration's rules and score.
pub(crate) struct Compiled {
    pub(crate) rules: Box<dyn RuleSet>,
    pub(crate) scorer: Box<dyn Scorer>,
    /// How each script does, as long as it is in force.
    pub(crate) status: Vec<StatusHandle>,
}

type BuildError = (String, ConfigError);

/// Compiles and tests everything that decides: rules and score.
pub(crate) fn compile(loaded: &Loaded) -> Result<Compiled, BuildError> {
    let config: &Config = &loaded.config;
    let mut status = Vec::new();
    let rules: Box<dyn RuleSet> = if config.rules.paths.is_empty() {
        Box::new(NoRules)
    } else {
        let scripts = load(&rule_files(&loaded.base_dir, &config.rules.paths)?, "rules")?;
        status.push(scripts.status_handle());
        Box::new(scripts.into_rule_set())
    };
    let scorer: Box<dyn Scorer> = match &config.score.script {
        None => Box::new(railwatch_detectors::anomaly_score::Probability),
        Some(path) => {
            let (files, name) = one(&loaded.base_dir.join(path), "score")?;
            let scripts = load(&files, "score")?;
            status.push(scripts.status_handle());
            let score = scripts.score(&name).ok_or_else(|| wrong("score", "script", path, "a score"))?;
            Box::new(score)
        }
    };
    Ok(Compiled { rules, scorer, status })
}

/// Compiles and tests the decoder that a source names.
pub(crate) fn decoder(base_dir: &Path, section: &str, path: &Path) -> Result<Arc<dyn Decoder>, BuildError> {
    let (files, name) = one(&base_dir.join(path), section)?;
    let scripts = load(&files, section)?;
    scripts.decoder(&name).ok_or_else(|| wrong(section, "decode", path, "a rail"))
}

fn load(files: &Files, section: &str) -> Result<Scripts, BuildError> {
    Scripts::load(files, &Limits::default()).map_err(|errors| (section.to_owned(), explain(&errors)))
}

/// The files that rules are in: named ones, and all of a named folder.
fn rule_files(base_dir: &Path, paths: &[PathBuf]) -> Result<Files, BuildError> {
    let mut all = Files::new();
    for path in paths {
        let full = base_dir.join(path);
        let (files, prefix) = if full.is_dir() {
            let files = read_dir(&full, &Limits::default())
                .map_err(|error| ("rules".to_owned(), explain(&[error])))?;
            (files, path.as_path())
        } else {
            (one(&full, "rules")?.0, path.parent().unwrap_or(Path::new("")))
        };
        all.extend(files.into_iter().map(|(name, text)| (prefix.join(name).display().to_string(), text)));
    }
    Ok(all)
}

/// One script with the fixtures beside it, and its name among them.
fn one(path: &Path, section: &str) -> Result<(Files, String), BuildError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files =
        read_dir(folder, &Limits::default()).map_err(|error| (section.to_owned(), explain(&[error])))?;
    files.retain(|file, _| *file == name || !file.ends_with(".lua"));
    if files.contains_key(&name) {
        return Ok((files, name));
    }
    let error = ConfigError::new("", format!("script {} cannot be read", path.display()));
    Err((section.to_owned(), error))
}

fn explain(errors: &[ScriptError]) -> ConfigError {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    ConfigError::new("", lines.join("\n"))
}

fn wrong(section: &str, key: &str, path: &Path, expected: &str) -> BuildError {
    (section.to_owned(), ConfigError::new(key, format!("{} does not return {expected}", path.display())))
}
