//! Loading: text in, a compiled and tested set out. Nothing live is touched, so that the host builds a generation
//! before it swaps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mlua::{Lua, Table, Value};
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::history::HistoryNeed;
use railwatch_plugin::rules::RuleInfo;
use railwatch_plugin::score::Scorer;
use smol_str::SmolStr;

use crate::error::ScriptError;
use crate::limits::Limits;
use crate::rail::LuaDecoder;
use crate::rule::{LuaRules, Rule};
use crate::score::LuaScore;
use crate::spec::MARK;
use crate::status::{ScriptStatus, StatusHandle};
use crate::testing::{self, TestReport};
use crate::view::WINDOW_MAX;
use crate::vm::Vm;

/// The score that is in force unless the configuration names another one.
pub const DEFAULT_SCORE: &str = "score.lua";

/// The files of a script folder: path below the folder, with `/`, to text.
pub type Files = BTreeMap<String, String>;

/// A compiled and tested generation of scripts.
#[derive(Debug, Default)]
pub struct Scripts {
    rules: Vec<Rule>,
    scores: BTreeMap<String, LuaScore>,
    decoders: BTreeMap<String, Arc<LuaDecoder>>,
    reports: Vec<TestReport>,
    status: StatusHandle,
    need: HistoryNeed,
}

/// What one file declares.
enum Item {
    Rule(Box<Rule>),
    Score(LuaScore),
    Rail(Arc<LuaDecoder>),
}

/// What one file came to.
struct Loaded {
    items: Vec<Item>,
    report: TestReport,
    need: Duration,
}

impl Scripts {
    /// Compiles every `.lua` file and runs its tests. What a file is for is what it returns: a rule, a list of rules,
    /// a score or a rail. Either everything loads or nothing does; all mistakes are reported at once.
    pub fn load(files: &Files, limits: &Limits) -> Result<Self, Vec<ScriptError>> {
        let shared = Arc::new(files.clone());
        let mut scripts = Self::default();
        let mut errors = Vec::new();
        for (file, source) in files.iter().filter(|(file, _)| is_script(file)) {
            match load_file(file, source, &shared, limits) {
                Ok(loaded) => scripts.add(file, loaded),
                Err(mut found) => errors.append(&mut found),
            }
        }
        scripts.check_ids(&mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        scripts.status = scripts.handle();
        Ok(scripts)
    }

    /// Has scripts that are the same as in an `earlier` generation go on counting where it is: what is known of their
    /// calls and errors stays, and so does a quarantine. Call it before the rules are given away.
    #[must_use]
    pub fn after(mut self, earlier: &[StatusHandle]) -> Self {
        let rules = self.rules.iter_mut().map(|rule| &mut rule.counters);
        let scores = self.scores.values_mut().map(|score| &mut score.counters);
        let rails = self.decoders.values_mut().filter_map(Arc::get_mut).map(|decoder| &mut decoder.counters);
        for counters in rules.chain(scores).chain(rails) {
            if let Some(known) = StatusHandle::of_unchanged(earlier, counters) {
                *counters = known;
            }
        }
        self.status = self.handle();
        self
    }

    fn add(&mut self, file: &str, loaded: Loaded) {
        self.need.longest = self.need.longest.max(loaded.need);
        self.reports.push(loaded.report);
        for item in loaded.items {
            match item {
                Item::Rule(rule) => self.rules.push(*rule),
                Item::Score(score) => {
                    self.scores.insert(file.to_owned(), score);
                }
                Item::Rail(decoder) => {
                    self.decoders.insert(file.to_owned(), decoder);
                }
            }
        }
    }

    fn check_ids(&self, errors: &mut Vec<ScriptError>) {
        let mut seen = BTreeMap::<&SmolStr, &str>::new();
        for rule in &self.rules {
            if let Some(first) = seen.insert(&rule.info.id, &rule.counters.file) {
                let message = format!(
                    "rule id {:?} is taken by {first}; ids are the keys of stored state",
                    rule.info.id
                );
                errors.push(ScriptError::new(&rule.counters.file, message));
            }
        }
    }

    fn handle(&self) -> StatusHandle {
        let rules = self.rules.iter().map(|rule| &rule.counters);
        let scores = self.scores.values().map(|score| &score.counters);
        let rails = self.decoders.values().map(|decoder| &decoder.counters);
        let counters = rules.chain(scores).chain(rails).cloned().collect();
        StatusHandle { counters, reports: self.reports.clone().into() }
    }

    /// What the engine will be told of the rules, in evaluation order.
    pub fn rules(&self) -> impl Iterator<Item = &RuleInfo> {
        self.rules.iter().map(|rule| &rule.info)
    }

    /// The rules, for the engine. They keep counting into [`Scripts::status_handle`].
    pub fn into_rule_set(self) -> LuaRules {
        LuaRules::new(self.rules, self.need)
    }

    /// The score in [`DEFAULT_SCORE`], if there is one. Clones of a score share its machine, which serves one thread
    /// at a time: an engine thread of its own loads a generation of its own.
    pub fn scorer(&self) -> Option<Box<dyn Scorer>> {
        self.score(DEFAULT_SCORE).map(|score| Box::new(score) as Box<dyn Scorer>)
    }

    /// The score in `file`, such as `scores/founding.lua`.
    pub fn score(&self, file: &str) -> Option<LuaScore> {
        self.scores.get(file).cloned()
    }

    /// The decoder in `file`, such as `rails/litellm.lua`.
    pub fn decoder(&self, file: &str) -> Option<Arc<dyn Decoder>> {
        self.decoders.get(file).map(|decoder| Arc::clone(decoder) as Arc<dyn Decoder>)
    }

    /// Files that declare a score, and files that declare a decoder, for "did you mean".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scores.keys().chain(self.decoders.keys()).map(String::as_str)
    }

    /// How every script does.
    pub fn status(&self) -> Vec<ScriptStatus> {
        self.status.status()
    }

    /// The same, for whoever must see it after the rules went to the engine.
    pub fn status_handle(&self) -> StatusHandle {
        self.status.clone()
    }

    /// What the scripts' own tests said, file by file.
    pub fn reports(&self) -> &[TestReport] {
        &self.reports
    }
}

/// Compiles one file of `files` and runs its tests, for `railwatch test PATH`.
pub fn run_tests(files: &Files, file: &str, limits: &Limits) -> TestReport {
    let Some(source) = files.get(file) else {
        return TestReport::failed(file, vec![ScriptError::new(file, "no such file in the script folder")]);
    };
    match load_file(file, source, &Arc::new(files.clone()), limits) {
        Ok(loaded) => loaded.report,
        Err(errors) => TestReport::failed(file, errors),
    }
}

pub(crate) fn is_script(file: &str) -> bool {
    file.ends_with(".lua") && !file.split('/').any(|part| part == "fixtures")
}

fn load_file(
    file: &str,
    source: &str,
    files: &Arc<Files>,
    limits: &Limits,
) -> Result<Loaded, Vec<ScriptError>> {
    let one = |error: ScriptError| vec![error];
    if source.len() > limits.source_bytes_max {
        return Err(one(ScriptError::new(file, format!("longer than {} bytes", limits.source_bytes_max))));
    }
    // Rails get more of everything; what a file is shows only after it ran, so that the folder decides.
    let rails = file.starts_with("rails/") || file.contains("/rails/");
    let limits = if rails { limits.of_rails() } else { *limits };
    let extend = |lua: &Lua, env: &Table| declarations(lua, env, file, files);
    let fail = |failure| one(ScriptError::of(file, failure));
    let vm = Arc::new(Vm::new(file, &limits, extend).map_err(fail)?);
    let returned = vm.run(source).map_err(fail)?;
    let tables = declared(file, returned).map_err(one)?;
    let (mut items, mut errors, mut report) = (Vec::new(), Vec::new(), TestReport::new(file));
    let mut need = static_need(source);
    for (kind, table) in tables {
        let tests = table.raw_get::<Value>("tests").unwrap_or(Value::Nil);
        let item = match read_item(&vm, source, kind, table) {
            Ok(item) => item,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let context = testing::Context { vm: &vm, source };
        match &item {
            Item::Rule(rule) => testing::rule(&context, rule, tests, &mut report),
            Item::Score(score) => testing::score(&context, score, tests, &mut report),
            Item::Rail(decoder) => testing::rail(&context, decoder, tests, &mut report),
        }
        items.push(item);
    }
    errors.append(&mut report.failures);
    if !errors.is_empty() {
        return Err(errors);
    }
    let asked = vm.shared.window_asked.load(Ordering::Relaxed);
    need = need.max(Duration::from_micros(asked)).min(WINDOW_MAX);
    vm.shared.window_max.store(u64::try_from(need.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    Ok(Loaded { items, report, need })
}

fn read_item(vm: &Arc<Vm>, source: &str, kind: Kind, table: Table) -> Result<Item, ScriptError> {
    match kind {
        Kind::Rule => Rule::read(vm, source, table).map(|rule| Item::Rule(Box::new(rule))),
        Kind::Score => LuaScore::read(vm, source, table).map(Item::Score),
        Kind::Rail => LuaDecoder::read(vm, source, table).map(|decoder| Item::Rail(Arc::new(decoder))),
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Rule,
    Score,
    Rail,
}

/// `rule`, `score`, `rail` mark the table that they are given; `fixture` reads a file of the folder's `fixtures/`.
pub(crate) fn declarations(lua: &Lua, env: &Table, file: &str, files: &Arc<Files>) -> mlua::Result<()> {
    for name in ["rule", "score", "rail"] {
        let mark = move |_: &Lua, table: Table| {
            table.raw_set(MARK, name)?;
            Ok(table)
        };
        env.raw_set(name, lua.create_function(mark)?)?;
    }
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let files = Arc::clone(files);
    let fixture = move |lua: &Lua, name: String| match files.get(&format!("{folder}fixtures/{name}")) {
        Some(text) => lua.create_string(text),
        None => Err(mlua::Error::runtime(format!("there is no file {folder}fixtures/{name}"))),
    };
    env.raw_set("fixture", lua.create_function(fixture)?)
}

/// The tables that a file returned: one, or a list of them.
fn declared(file: &str, returned: Value) -> Result<Vec<(Kind, Table)>, ScriptError> {
    let wrong = || {
        ScriptError::new(
            file,
            "a script returns rule { … }, score { … }, rail { … } or a list of rules; begin it with `return`",
        )
    };
    let Value::Table(table) = returned else { return Err(wrong()) };
    if let Some(kind) = kind_of(&table) {
        return Ok(vec![(kind, table)]);
    }
    let items: Vec<Table> = table.sequence_values().collect::<mlua::Result<_>>().map_err(|_| wrong())?;
    if items.is_empty() {
        return Err(wrong());
    }
    items.into_iter().map(|item| kind_of(&item).map(|kind| (kind, item)).ok_or_else(wrong)).collect()
}

fn kind_of(table: &Table) -> Option<Kind> {
    match table.raw_get::<Option<String>>(MARK).ok()??.as_str() {
        "rule" => Some(Kind::Rule),
        "score" => Some(Kind::Score),
        "rail" => Some(Kind::Rail),
        _ => None,
    }
}

/// The longest window that the source asks for in so many words: `:spent("24h")` or `history = "7d"`. Together with
/// what the tests asked for it is how much history the engine keeps; anything longer is an error when it is asked for.
fn static_need(source: &str) -> Duration {
    const ASKING: &[&str] = &[":spent(", ":count(", ":distinct(", ":largest(", ":declined(", "history ="];
    let spans = ASKING.iter().flat_map(|asking| {
        source.match_indices(asking).filter_map(|(at, _)| {
            let rest = source.get(at + asking.len()..)?.trim_start();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let text = rest.get(1..)?.split(quote).next()?;
            text.parse::<railwatch_plugin::config::Span>().ok().map(|span| span.0)
        })
    });
    // What was first or last is known of all time, by a history of any length.
    const KNOWING: &[&str] = &[":is_new(", "previous_at", "first_seen_at", ":by_rail("];
    let least = KNOWING.iter().any(|asking| source.contains(asking)).then_some(Duration::from_secs(1));
    spans.chain(least).max().unwrap_or_default()
}
