//! From a checked configuration to an engine generation, and from what was recorded of one to that one again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use railwatch_engine::{
    Directory, Engine, Equal, Escalation, FreezePolicy, FreezeSettings, Gate, Generation, Inhibition, Mute,
    SeenLimits, Settings,
};
use railwatch_model::{Facts, Seq, SmolStr, Subject, Timestamp};
use railwatch_plugin::column::Column;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::history::HistoryNeed;
use railwatch_script::{Files, StatusHandle};
use railwatch_store::{Reader, Store};
use serde::{Deserialize, Serialize};

use crate::config::{self, Config, Loaded, SourceFile};
use crate::host::scripts::{self, Compiled};
use crate::host::warm::{self, Warming};
use crate::plugins;

/// Bytes of configuration and scripts that the store keeps of one generation. Of a larger one it keeps the digest.
const CONTENT_LEN_MAX: usize = 8 << 20;

/// A generation, and the scripts that it runs.
pub(crate) struct Built {
    pub(crate) generation: Generation,
    pub(crate) scripts: Vec<StatusHandle>,
}

/// What a generation takes the place of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) scripts: &'a [StatusHandle],
}

/// Builds everything that the engine runs from a configuration. Nothing running is touched. What is known about agents
/// is left out if it is what `running` says, so that the engine need not look at every agent again; scripts that are
/// what they were there go on counting.
pub(crate) fn build(
    loaded: &Loaded,
    number: u64,
    running: Option<Running<'_>>,
) -> Result<Built, (String, ConfigError)> {
    let config = &loaded.config;
    let earlier = running.map_or(&[][..], |running| running.scripts);
    let Compiled { rules, scorer, status } = scripts::compile(loaded, earlier)?;
    let knows_the_same = running.is_some_and(|running| same_directory(&running.loaded.config, config));
    let generation = Generation {
        number,
        digest: SmolStr::new(&loaded.digest),
        settings: settings(config),
        directory: (!knows_the_same).then(|| directory(config)),
        columns: columns(config)?,
        scorer,
        rules,
    };
    Ok(Built { generation, scripts: status })
}

/// Builds a generation, or fails with the diagnostic.
pub(crate) fn build_or_fail(loaded: &Loaded, number: u64) -> anyhow::Result<Built> {
    build(loaded, number, None).map_err(|(section, error)| {
        anyhow::anyhow!(loaded.report(vec![loaded.diagnose(&section, &error)]).render(false))
    })
}

/// Builds a generation that takes the place of a running one, as a reload does.
pub(crate) fn build_after(running: &Loaded, loaded: &Loaded, number: u64) -> anyhow::Result<Generation> {
    let built = build(loaded, number, Some(Running { loaded: running, scripts: &[] }));
    built.map(|built| built.generation).map_err(|(_, error)| anyhow::anyhow!(error.to_string()))
}

/// The texts of a generation as the store keeps them, by their path below the folder of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    /// The configuration's files, in the order in which they are merged.
    pub(crate) config: Vec<(PathBuf, String)>,
    /// Scripts and fixtures.
    pub(crate) scripts: Files,
    /// Bytes that were too many to keep.
    pub(crate) omitted: usize,
}

impl Content {
    /// What a configuration consists of.
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let name =
            |file: &SourceFile| file.path.strip_prefix(&loaded.base_dir).unwrap_or(&file.path).to_owned();
        let config = loaded.sources_text().iter().map(|file| (name(file), file.text.clone()));
        Self { config: config.collect(), scripts: (*loaded.scripts).clone(), omitted: 0 }
    }

    /// The same, unless it is too long to be kept a thousand times.
    pub(crate) fn bounded(self) -> Self {
        let config = self.config.iter().map(|(_, text)| text.len());
        let len = config.chain(self.scripts.values().map(String::len)).sum();
        if len > CONTENT_LEN_MAX { Self { omitted: len, ..Self::default() } } else { self }
    }

    /// Every text by its name.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        let config = self.config.iter().map(|(path, text)| (path.display().to_string(), text.as_str()));
        config.chain(self.scripts.iter().map(|(name, text)| (name.clone(), text.as_str())))
    }
}

/// What the store keeps of a generation.
pub(crate) fn content(store: &Reader, number: u64) -> anyhow::Result<Content> {
    let found = store.generation(number)?.with_context(|| {
        format!("there is no generation {number}; `railwatch config history` lists what there is")
    })?;
    let content: Content = serde_json::from_value(found.content).unwrap_or_default();
    anyhow::ensure!(!content.config.is_empty(), "generation {number} was recorded without its texts");
    Ok(content)
}

/// Loads the configuration of a recorded generation again.
pub(crate) fn recorded(
    store: &Reader,
    number: u64,
    base_dir: &Path,
    options: &config::Options,
) -> anyhow::Result<Loaded> {
    let content = content(store, number)?;
    let file = |(path, text): (PathBuf, String)| SourceFile { path: base_dir.join(path), text };
    let sources = content.config.into_iter().map(file).collect();
    config::load_texts(base_dir.to_owned(), sources, Some(&content.scripts), &plugins::REGISTRIES, options)
        .map_err(|diagnostics| anyhow::anyhow!(diagnostics.render(false)))
}

/// The generations of a journal, built again as it comes to them.
pub(crate) struct Timeline<'a> {
    store: &'a Reader,
    base_dir: PathBuf,
    options: config::Options,
    /// The latest that was built, and its scripts.
    in_force: Option<(Loaded, Vec<StatusHandle>)>,
}

impl<'a> Timeline<'a> {
    /// The generations that `store` keeps of the configuration in `base_dir`.
    pub(crate) fn new(store: &'a Reader, base_dir: PathBuf) -> Self {
        // Their secrets may be gone by now, and nothing here needs them.
        let options =
            config::Options { offline: true, ..config::Options::beside(&base_dir.join("railwatch.toml")) };
        Self { store, base_dir, options, in_force: None }
    }

    /// The configuration that was built last.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.in_force.as_ref().map(|(loaded, _)| &loaded.config)
    }

    fn running(&self) -> Option<Running<'_>> {
        self.in_force.as_ref().map(|(loaded, scripts)| Running { loaded, scripts })
    }

    /// Builds a generation, to be what an engine begins with; `None`, with a warning, if that cannot be done any more.
    pub(crate) fn build(&mut self, number: u64) -> Option<Generation> {
        let loaded = recorded(self.store, number, &self.base_dir, &self.options);
        let built = loaded.and_then(|loaded| match build(&loaded, number, self.running()) {
            Ok(built) => Ok((loaded, built)),
            Err((_, error)) => Err(anyhow::anyhow!(error.to_string())),
        });
        match built {
            Ok((loaded, built)) => {
                self.in_force = Some((loaded, built.scripts));
                Some(built.generation)
            }
            Err(error) => {
                tracing::warn!(number, %error, "a generation cannot be built again; the one before it stays");
                None
            }
        }
    }

    /// Puts a generation in force at the position `seq` of the journal that names it.
    pub(crate) fn pass(&mut self, number: u64, seq: Seq, engine: &mut Engine) {
        if let Some(generation) = self.build(number)
            && let Some(config) = self.config()
        {
            self.install(generation, config, seq, engine);
        }
    }

    /// Installs a generation at the position `seq` of the journal, as the running railwatch did.
    pub(crate) fn install(&self, generation: Generation, config: &Config, seq: Seq, engine: &mut Engine) {
        let need = generation.rules.need();
        if warm::is_needed(engine.need(), need) {
            self.warm(config, need, seq, engine);
        }
        drop(engine.install(generation));
    }

    /// Fills windows up to the position `seq` of the journal.
    pub(crate) fn warm(&self, config: &Config, need: HistoryNeed, seq: Seq, engine: &mut Engine) {
        let reader = Store::open_read_only(self.store.path()).map_err(anyhow::Error::from);
        let begin = |reader| Warming::begin(reader, directory(config), need, engine.now(), seq);
        match reader.and_then(begin) {
            Ok(warming) => warming.hand_over(seq, engine),
            Err(error) => tracing::warn!(%error, "windows of new rules fill up as payments come"),
        }
    }

    /// Builds the configuration of the present, to be installed after the one that was built last.
    pub(crate) fn present(&self, loaded: &Loaded, number: u64) -> Result<Built, (String, ConfigError)> {
        build(loaded, number, self.running())
    }
}

/// True if two configurations know the same about agents, teams and sources' defaults.
fn same_directory(a: &Config, b: &Config) -> bool {
    let default = |config: &Config| -> Vec<_> {
        let sources = config.sources.iter();
        sources.map(|(name, source)| (name.clone(), source.common.agent.clone())).collect()
    };
    a.agents == b.agents
        && a.teams == b.teams
        && a.fleet == b.fleet
        && a.timezone == b.timezone
        && a.announcements == b.announcements
        && default(a) == default(b)
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
        freeze: freeze(config),
        subjects_max: config.limits.agents as usize,
        seen: SeenLimits { keys_max: config.limits.dedup_keys as usize, ..SeenLimits::default() },
        ..Settings::default()
    }
}

fn escalation(block: &config::Escalation) -> Escalation {
    Escalation { name: SmolStr::new(&block.name), after: block.after.0, matcher: block.matches.clone() }
}

fn freeze(config: &Config) -> FreezeSettings {
    let gates = config.gates().map(|(name, sink)| Gate { name: name.clone(), dry_run: sink.is_dry_run() });
    let policies = config.freeze.policies.iter().map(|policy| FreezePolicy {
        name: SmolStr::new(&policy.name),
        matcher: policy.matches.clone(),
        rails: policy.rails.iter().map(SmolStr::new).collect(),
        lasts_secs: whole_secs(policy.lasts.unwrap_or(config.freeze.lasts)),
        approvals: policy.approvals,
        at_most: policy.at_most as usize,
    });
    FreezeSettings {
        gates: gates.collect(),
        approvals: config.freeze.approvals,
        lasts_secs: whole_secs(config.freeze.lasts),
        longest_secs: whole_secs(config.freeze.longest),
        policies: policies.collect(),
    }
}

fn whole_secs(span: config::Positive) -> u32 {
    u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX).max(1)
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

/// What a configuration knows about agents, teams and sources.
pub(crate) fn directory(config: &Config) -> Directory {
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
