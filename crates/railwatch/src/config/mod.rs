//! The configuration: `railwatch.toml` and `conf.d/*.toml` beside it, read, merged, checked, and explained where wrong.
//!
//! `railwatch check` and `railwatch run` both call [`load`]. It finds all mistakes in one pass: TOML syntax, unknown
//! keys and wrong types (by the JSON Schema of the host and of every plugin), values that cannot be read, references
//! to nothing, secrets that cannot be had, and whatever a plugin's own `build` refuses. It starts nothing, opens no
//! socket, and never shows a secret.
//!
//! Invariant: a [`Config`] that [`load`] returned needs no further check by anybody.

mod adopt;
mod agents;
mod check;
mod diagnostic;
mod digest;
mod files;
mod freeze;
mod init;
mod load;
mod people;
mod plugins;
mod route;
mod schema;
mod settings;
mod show;
mod tree;
mod validate;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::registry::{DetectorPlugin, SinkPlugin, SourcePlugin};
use railwatch_plugin::secret::{Secrets, SystemSecrets};
use railwatch_script::Files;

pub use adopt::{Edited, adopt};
pub use agents::{Agent, Announcement, BudgetPeriod, BudgetSpec, Fleet, Team};
pub use diagnostic::{Diagnostic, Diagnostics, Level, Place, SourceFile};
pub use digest::{Digest, Every};
pub(crate) use files::{below, script_name};
pub use freeze::{Freeze, FreezePolicy};
pub use init::init;
pub(crate) use load::entry_path;
pub use load::{load, load_texts, load_with};
pub use people::{Callbacks, Person, SlackCallbacks, TelegramCallbacks};
pub use route::Told;
pub use schema::schema;
pub use settings::{
    AccessToken, Alerts, Config, Day, DetectorCommon, DetectorConfig, Equal, Escalation, Http, Inhibition,
    Limits, Mute, Price, PricePoll, Route, Rules, Score, SeverityFrom, SinkCommon, SinkConfig, SourceCommon,
    SourceConfig, Store,
};
pub use show::show_resolved;
pub use values::{
    Address, AgentName, DayTime, Per, PerPeriod, Positive, PriceText, RateLimit, Sha256Text, Url, Velocity,
    Zone,
};

/// The plugins that a configuration may name.
#[derive(Debug, Clone, Copy)]
pub struct Registries<'a> {
    /// The sources.
    pub sources: &'a [SourcePlugin],
    /// The sinks.
    pub sinks: &'a [SinkPlugin],
    /// The detectors, in the order in which the engine asks them.
    pub detectors: &'a [DetectorPlugin],
}

/// How to load.
#[derive(Debug, Clone)]
pub struct Options {
    /// Resolves secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The time, for plugins that need it to be built.
    pub clock: Arc<dyn Clock>,
    /// True if secrets need not be there (`check --offline`): a missing one is a warning, and the plugin that needs it
    /// is checked by its schema only.
    pub offline: bool,
}

impl Options {
    /// With secrets from the environment and from files beside the configuration at `path`.
    pub fn beside(path: &Path) -> Self {
        let secrets = SystemSecrets { base_dir: files::base_dir(path) };
        Self { secrets: Arc::new(secrets), clock: Arc::new(SystemClock), offline: false }
    }
}

/// Equal marks are equal secrets, within this process; nothing can be learned from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecretMark(u64);

/// A configuration that can be run.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant, with the texts of all files.
    pub warnings: Diagnostics,
    /// The hash of the content of all files, in lower-case hex: equal digests are equal configurations.
    pub digest: String,
    /// Every script and fixture that it names, by its path as the configuration writes it: what runs is built from
    /// these texts, whatever happens to the files meanwhile.
    pub scripts: Arc<Files>,
    /// What the secrets of each source and sink come to, by key path such as `sources.gate`.
    pub secrets: BTreeMap<String, SecretMark>,
    /// The folder that relative paths are relative to.
    pub base_dir: PathBuf,
    /// Where everything stands, for errors that are found later.
    root: tree::Node,
}

impl Loaded {
    /// A finding of the host's own about a section such as `sources.gate`: a plugin that refused its table when it was
    /// built for good, a script that does not compile. Show it with [`Loaded::report`].
    pub fn diagnose(&self, section: &str, error: &ConfigError) -> Diagnostic {
        let (node, steps) = self.root.locate(section);
        load::diagnose(&tree::path_text(&steps), node, error)
    }

    /// Findings with the texts that they point into.
    pub fn report(&self, findings: Vec<Diagnostic>) -> Diagnostics {
        self.warnings.with(findings)
    }

    /// True if the files at `path` and the scripts still have the content that this was read from.
    pub fn is_current(&self, path: &Path) -> bool {
        let mut findings = Vec::new();
        let sources = files::read_all(path, &mut findings);
        let mut scripts = Files::new();
        for (_, named) in self.config.scripts() {
            match files::scripts(&self.base_dir, named) {
                Ok(found) => scripts.extend(found),
                Err(_) => return false,
            }
        }
        findings.is_empty() && files::digest(&self.base_dir, &sources, &scripts) == self.digest
    }

    /// What the files say together, as TOML that loads again; comments are not part of it, and secrets are references.
    pub fn show_written(&self) -> String {
        let tree = load::parse_all(self.sources_text(), &mut Vec::new());
        let table = tree.map_or_else(|| toml::Table::new().into(), |tree| tree.to_toml());
        toml::to_string_pretty(&table).expect("every value came from TOML")
    }

    /// The texts of the configuration files, in the order in which they were merged.
    pub fn sources_text(&self) -> &[SourceFile] {
        &self.warnings.files
    }
}
