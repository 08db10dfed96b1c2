//! Reads, merges, validates and checks, collecting every finding on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use railwatch_model::SmolStr;
use railwatch_plugin::config::ConfigError;
use railwatch_script::Files;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Diagnostics, Level, Place, SourceFile};
use super::files;
use super::settings::Config;
use super::tree::{self, Node, path_text};
use super::values::Zone;
use super::{Loaded, Options, Registries, SecretMark, check, plugins, schema, validate};

/// Loads a configuration with secrets from the environment and files.
pub fn load(path: &Path, registries: &Registries<'_>) -> Result<Loaded, Diagnostics> {
    load_with(path, registries, &Options::beside(path))
}

/// Loads a configuration. The error holds every finding, warnings included.
pub fn load_with(path: &Path, registries: &Registries<'_>, options: &Options) -> Result<Loaded, Diagnostics> {
    let mut findings = Vec::new();
    let sources = files::read_all(path, &mut findings);
    if !findings.is_empty() {
        return Err(Diagnostics::new(sources, findings, Vec::new()));
    }
    load_texts(files::base_dir(path), sources, None, registries, options)
}

/// Loads a configuration from the texts that it consisted of; scripts that are not given are read from their files.
pub fn load_texts(
    base_dir: PathBuf,
    sources: Vec<SourceFile>,
    scripts: Option<&Files>,
    registries: &Registries<'_>,
    options: &Options,
) -> Result<Loaded, Diagnostics> {
    let mut findings = Vec::new();
    let Some(mut root) = parse_all(&sources, &mut findings) else {
        let masks = suspicious_lines(&sources);
        return Err(Diagnostics::new(sources, findings, masks));
    };
    let schema = schema(registries);
    let mut build = Building::new(&root, &schema, findings);
    check::budgets(&mut build);
    let config = build.config(registries);
    let scripts = check::check(&mut build, &config, registries, &base_dir, scripts);
    plugins::check(&mut build, &config, registries, options, &base_dir);
    let (mut findings, masks, secrets) = (build.findings, build.masks, build.secret_marks);
    let failed = findings.iter().any(|finding| finding.level == Level::Error);
    if failed {
        return Err(Diagnostics::new(sources, findings, masks));
    }
    findings.extend(check::watches_nothing(&config));
    let digest = files::digest(&base_dir, &sources, &scripts);
    // Agents may be many, and nothing that is found later is about them.
    if let tree::Value::Table(table) = &mut root.value {
        table.remove("agents");
    }
    let warnings = Diagnostics::new(sources, findings, masks);
    Ok(Loaded { config, warnings, digest, scripts: Arc::new(scripts), secrets, base_dir, root })
}

/// The merged tree; `None` if a file is not TOML.
pub(super) fn parse_all(files: &[SourceFile], findings: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut root = Node::root(0);
    let mut fatal = false;
    for (index, file) in files.iter().enumerate() {
        let parsed = tree::parse(index, &file.text);
        fatal |= parsed.fatal;
        findings.extend(parsed.errors);
        tree::merge(&mut root, parsed.root, findings);
    }
    (!fatal).then_some(root)
}

/// In files that cannot be parsed, secrets are told by their keys alone: everything behind the `=` is hidden.
fn suspicious_lines(files: &[SourceFile]) -> Vec<Place> {
    let mut masks = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut start = 0_usize;
        for line in file.text.split_inclusive('\n') {
            if let Some((key, _)) = line.split_once('=')
                && validate::looks_secret(key)
            {
                let value_start = start.saturating_add(key.len()).saturating_add(1);
                masks.push(Place { file: index, start: value_start, end: start.saturating_add(line.len()) });
            }
            start = start.saturating_add(line.len());
        }
    }
    masks
}

/// An error of a plugin or of serde with its place: `error.path` leads below `node`, which stands at `path`.
pub(super) fn diagnose(path: &str, node: &Node, error: &ConfigError) -> Diagnostic {
    let (inner, steps) = node.locate(&error.path);
    let below = path_text(&steps);
    let found = below.len() >= error.path.len();
    let path = match (below.is_empty(), below.starts_with('[')) {
        (true, _) => path.to_owned(),
        (false, true) => format!("{path}{below}"),
        (false, false) => format!("{path}.{below}"),
    };
    let place = if found && !steps.is_empty() { inner.place } else { inner.key };
    Diagnostic::error(path.clone(), format!("`{path}` is wrong"), place).label(error.message.clone())
}

/// A configuration on its way from a tree to a [`Config`].
pub(super) struct Building<'a> {
    /// The merged tree.
    pub(super) root: &'a Node,
    /// What was found so far.
    pub(super) findings: Vec<Diagnostic>,
    /// References to secrets.
    pub(super) secrets: Vec<(String, Place, railwatch_plugin::secret::SecretRef)>,
    /// What the secrets of each source and sink come to.
    pub(super) secret_marks: BTreeMap<String, SecretMark>,
    /// What excerpts hide.
    pub(super) masks: Vec<Place>,
    /// Key paths with an error; whatever is above one of them is not read any further.
    broken: BTreeSet<String>,
}

impl<'a> Building<'a> {
    fn new(root: &'a Node, schema: &Json, mut findings: Vec<Diagnostic>) -> Self {
        let found = validate::validate(schema, schema, root);
        findings.extend(found.errors);
        let broken = findings.iter().map(|finding| finding.path.clone()).collect();
        Self {
            root,
            findings,
            secrets: found.secrets,
            secret_marks: BTreeMap::new(),
            masks: found.masks,
            broken,
        }
    }

    /// Records a finding.
    pub(super) fn report(&mut self, finding: Diagnostic) {
        if finding.level == Level::Error {
            self.broken.insert(finding.path.clone());
        }
        self.findings.push(finding);
    }

    /// True if there is an error at or below `path`.
    pub(super) fn is_broken(&self, path: &str) -> bool {
        let mut from_here = self.broken.range(path.to_owned()..).take_while(|next| next.starts_with(path));
        from_here.any(|next| is_at_or_below(next, path))
    }

    /// Reads the node at `path`; reports what serde refuses. `None` if there is an error anywhere below.
    fn read<T: DeserializeOwned>(&mut self, path: &str, node: &Node) -> Option<T> {
        if self.is_broken(path) {
            return None;
        }
        let toml::Value::Table(table) = node.to_toml() else { return None };
        match railwatch_plugin::config::parse(&table) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(diagnose(path, node, &error));
                None
            }
        }
    }

    /// A section that may be left out.
    fn section<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let root = self.root;
        root.child(key).and_then(|node| self.read(key, node)).unwrap_or_default()
    }

    /// The elements of an array of tables that can be read.
    fn list<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let elements = self.root.elements(key).iter().enumerate();
        elements.filter_map(|(index, node)| self.read(&format!("{key}[{index}]"), node)).collect()
    }

    /// The entries of a table of tables that can be read.
    fn map<T: DeserializeOwned>(&mut self, key: &str) -> BTreeMap<SmolStr, T> {
        let mut entries = BTreeMap::new();
        for (name, node) in self.root.child(key).and_then(Node::table).into_iter().flatten() {
            if let Some(value) = self.read(&entry_path(key, name), node) {
                entries.insert(name.into(), value);
            }
        }
        entries
    }

    fn config(&mut self, registries: &Registries<'_>) -> Config {
        let timezone = self.root.child("timezone").and_then(Node::text).and_then(|zone| zone.parse().ok());
        Config {
            timezone: timezone.unwrap_or(Zone(chrono_tz::UTC)),
            store: self.section("store"),
            http: self.section("http"),
            limits: self.section("limits"),
            sources: plugins::sources(self, registries),
            sinks: plugins::sinks(self, registries),
            detectors: plugins::detectors(self, registries),
            score: self.section("score"),
            rules: self.section("rules"),
            alerts: self.section("alerts"),
            routes: self.list("routes"),
            escalations: self.list("escalations"),
            mutes: self.list("mutes"),
            inhibitions: self.list("inhibitions"),
            freeze: self.section("freeze"),
            callbacks: self.section("callbacks"),
            people: self.list("people"),
            digests: self.list("digests"),
            agents: self.list("agents"),
            teams: self.list("teams"),
            fleet: self.section("fleet"),
            prices: self.map("prices"),
            announcements: self.list("announcements"),
        }
    }
}

/// True if the key path `path` is `above` or leads below it.
pub(super) fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The key path of an entry of a table.
pub(crate) fn entry_path(section: &str, name: &str) -> String {
    path_text(&[tree::Step::Key(section.to_owned()), tree::Step::Key(name.to_owned())])
}
