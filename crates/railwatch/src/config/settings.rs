//! The checked configuration: the host's own sections, and each plugin's table beside what the host handles for it.
//!
//! The field docs are the reference: they become the JSON Schema that editors show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use railwatch_model::{Direction, Matcher, Severity, SmolStr, Usd};
use railwatch_plugin::config::{Dollars, Fraction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents::{Agent, Announcement, Fleet, Team};
use super::digest::Digest;
use super::freeze::Freeze;
use super::load::entry_path;
use super::people::{Callbacks, Person};
use super::values::{Address, AgentName, DayTime, Positive, PriceText, RateLimit, Sha256Text, Url, Zone};

/// A checked configuration. Two generations are compared with `==`, section by section.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The time zone in which budgets begin unless they name their own.
    pub timezone: Zone,
    /// The embedded store.
    pub store: Store,
    /// The host's HTTP listener.
    pub http: Http,
    /// Limits on what outsiders can grow.
    pub limits: Limits,
    /// The sources by name, disabled ones included.
    pub sources: BTreeMap<SmolStr, SourceConfig>,
    /// The sinks by name, disabled ones included.
    pub sinks: BTreeMap<SmolStr, SinkConfig>,
    /// Every detector of the registry in the registry's order, disabled ones included.
    pub detectors: Vec<DetectorConfig>,
    /// The anomaly score.
    pub score: Score,
    /// The user's rules.
    pub rules: Rules,
    /// The life of alerts.
    pub alerts: Alerts,
    /// Which notice goes to which sink, in order.
    pub routes: Vec<Route>,
    /// Who is told when nobody takes an incident.
    pub escalations: Vec<Escalation>,
    /// When people are not told.
    pub mutes: Vec<Mute>,
    /// Which incidents explain others.
    pub inhibitions: Vec<Inhibition>,
    /// How agents are frozen.
    pub freeze: Freeze,
    /// Chats whose buttons and commands are heard.
    pub callbacks: Callbacks,
    /// Who may act from them.
    pub people: Vec<Person>,
    /// Summaries that are told at set hours.
    pub digests: Vec<Digest>,
    /// The agents.
    pub agents: Vec<Agent>,
    /// The teams.
    pub teams: Vec<Team>,
    /// All agents together.
    pub fleet: Fleet,
    /// Prices by asset code.
    pub prices: BTreeMap<SmolStr, Price>,
    /// Planned changes.
    pub announcements: Vec<Announcement>,
}

/// A source: what the host handles, and the plugin's own table.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// The plugin.
    pub plugin: SmolStr,
    /// What the host handles.
    pub common: SourceCommon,
    /// The plugin's own keys.
    pub table: toml::Table,
}

impl SinkConfig {
    /// True if it is given signs of life instead of notices.
    pub fn is_heartbeat(&self) -> bool {
        self.plugin == "heartbeat"
    }

    /// True if it freezes agents and tells people nothing.
    pub fn is_gate(&self) -> bool {
        GATES.contains(&self.plugin.as_str())
    }

    /// True if a gate only rehearses, as it does unless it says otherwise.
    pub fn is_dry_run(&self) -> bool {
        self.table.get("dry_run").and_then(toml::Value::as_bool).unwrap_or(true)
    }
}

/// The plugins that freeze agents.
pub(super) const GATES: [&str; 2] = ["gate", "stripe_issuing"];

/// A sink: what the host handles, and the plugin's own table.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// The plugin.
    pub plugin: SmolStr,
    /// What the host handles.
    pub common: SinkCommon,
    /// The plugin's own keys.
    pub table: toml::Table,
}

/// A detector: what the host handles, and the plugin's own table.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorConfig {
    /// The plugin; also the key below `detectors`.
    pub plugin: SmolStr,
    /// What the host handles.
    pub common: DetectorCommon,
    /// The plugin's own keys.
    pub table: toml::Table,
}

/// The keys of every source that the host handles itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceCommon {
    /// False keeps the block and does not run it.
    pub enabled: bool,
    /// The agent of payments whose spender no agent claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Whose money moves, if the rail cannot tell: spend, earn or ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Labels for every payment of this source.
    pub labels: BTreeMap<String, String>,
    /// A decoder in Lua, relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<PathBuf>,
    /// How long it may go without seeing its rail before people are told (`rail_blind`). Default: 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_after: Option<Positive>,
}

/// The keys of every sink that the host handles itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SinkCommon {
    /// False keeps the block and does not use it.
    pub enabled: bool,
    /// The lowest severity that this sink is told about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// How many messages it is given at most, such as `"30/m"`. What waits beyond is told together in one message where
    /// people read it, and later elsewhere. `"20/m"` by default where people read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// The keys of every detector that the host handles itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorCommon {
    /// False switches it off; its state is kept.
    pub enabled: bool,
}

/// The host's part of a plugin's block.
pub(super) trait Common: serde::de::DeserializeOwned + Default {
    /// Its keys.
    const KEYS: &'static [&'static str];
}

impl Common for SourceCommon {
    const KEYS: &'static [&'static str] =
        &["enabled", "agent", "direction", "labels", "decode", "blind_after"];
}

impl Common for SinkCommon {
    const KEYS: &'static [&'static str] = &["enabled", "min_severity", "rate_limit"];
}

impl Common for DetectorCommon {
    const KEYS: &'static [&'static str] = &["enabled"];
}

impl Config {
    /// The sinks that can freeze agents.
    pub fn gates(&self) -> impl Iterator<Item = (&SmolStr, &SinkConfig)> {
        self.sinks.iter().filter(|(_, sink)| sink.is_gate() && sink.common.enabled)
    }

    /// Every path of scripts that is named, with the key that names it.
    pub fn scripts(&self) -> impl Iterator<Item = (String, &Path)> {
        let decoders = self.sources.iter().filter_map(|(name, source)| {
            Some((format!("{}.decode", entry_path("sources", name)), source.common.decode.as_deref()?))
        });
        let scores = [("score.script", &self.score.script), ("score.shadow", &self.score.shadow)];
        let scores = scores.into_iter().filter_map(|(at, path)| Some((at.to_owned(), path.as_deref()?)));
        let rules = self.rules.paths.iter().enumerate();
        let rules = rules.map(|(index, path)| (format!("rules.paths[{index}]"), path.as_path()));
        decoders.chain(scores).chain(rules)
    }
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The database file, relative to the configuration file.
    pub path: PathBuf,
    /// How long payments are kept.
    pub retain: Positive,
}

/// The host's HTTP listener: webhooks, API, metrics, health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address to listen on.
    pub listen: Address,
    /// Where people reach it, for links in notices; browsers may use this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<Url>,
    /// Who may do what; `railwatch token` makes one. Without any, it listens on loopback only and whoever can connect
    /// may do everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<AccessToken>,
}

/// A token of the API and the dashboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessToken {
    /// Whose it is: the actor in the audit.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// What it allows: viewer, responder, author or admin.
    pub role: railwatch_web::Role,
    /// The SHA-256 of the token in hexadecimal; the token itself is written nowhere.
    pub sha256: Sha256Text,
}

/// Limits on what outsiders can grow. Reaching one is counted and shown, never silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Agents that are tracked, unmapped spenders included; the least recently seen unmapped ones make room.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub agents: u32,
    /// Payments that are remembered for recognizing a second report.
    #[schemars(range(min = 1000, max = 1_000_000_000))]
    pub dedup_keys: u32,
    /// Undecodable messages that are kept for `railwatch rejects`.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub reject_rows: u32,
    /// Bytes of the database file; without, the disk decides. When there is no room, payments wait, rails are told to
    /// try again, and `/readyz` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub store_bytes: Option<u64>,
    /// Payments in one journal batch.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_payments: u32,
    /// Deliveries that wait for the journal before sources feel back-pressure.
    #[schemars(range(min = 1, max = 100_000))]
    pub intake_deliveries: u32,
}

/// The anomaly score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Score {
    /// The score above which a person reviews.
    pub review_threshold: Fraction,
    /// A score in Lua, relative to the configuration file; the built-in one without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// A score in Lua that runs beside the one in force and decides nothing; `railwatch shadow report` compares them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<PathBuf>,
}

/// The user's rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Lua files, or folders of them, relative to the configuration file.
    pub paths: Vec<PathBuf>,
}

/// The life of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How long a trigger must be quiet before its alert resolves.
    pub clear_after: Positive,
    /// What fires again within this time after it was resolved is the same incident again.
    pub reopen_within: Positive,
    /// Alerts that join an open incident are told this long after the last notice about it.
    pub group_interval: Positive,
    /// How often people are reminded of an incident that nobody took.
    pub remind_every: Positive,
    /// The lowest severity that people are told about.
    pub min_severity: Severity,
    /// The money at risk from which an alert is medium, high or critical: what is lost already, and what the next hour
    /// costs if nobody acts.
    pub severity_from: SeverityFrom,
}

/// Money at risk that makes a severity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeverityFrom {
    /// Medium from here.
    pub medium: Dollars,
    /// High from here.
    pub high: Dollars,
    /// Critical from here.
    pub critical: Dollars,
}

/// Sends notices that match to some sinks. Without any route, every sink gets everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What a notice must be; nothing matches everything.
    #[serde(default, rename = "match")]
    pub matches: Matcher,
    /// The names of the sinks.
    #[schemars(length(min = 1))]
    pub sinks: Vec<String>,
    /// True to try the routes below as well.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
}

/// Tells further sinks of an incident that nobody takes. They hear of its end, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// Its name, unique.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which incidents; nothing matches everything.
    #[serde(default, rename = "match")]
    pub matches: Matcher,
    /// How long after people were first told.
    pub after: Positive,
    /// The names of the sinks.
    #[schemars(length(min = 1))]
    pub sinks: Vec<String>,
}

/// Hours in which people are not told. What is still open at their end is told then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// Its name, for people.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which incidents; nothing matches everything.
    #[serde(default, rename = "match")]
    pub matches: Matcher,
    /// The days on which the hours begin; every day by default.
    #[serde(default)]
    pub days: Vec<Day>,
    /// The time of the day at which they begin.
    pub from: DayTime,
    /// The time at which they end; not after `from`: on the next day.
    pub until: DayTime,
    /// Whose time; the configuration's `timezone` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Zone>,
}

/// While an incident that matches `by` is open, others that match are not told: it explains them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inhibition {
    /// The incident that explains.
    pub by: Matcher,
    /// The incidents that are explained.
    #[serde(rename = "match")]
    pub matches: Matcher,
    /// What both must share.
    #[serde(default)]
    pub equal: Vec<Equal>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What two incidents may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Equal {
    /// The agent.
    Agent,
    /// The team.
    Team,
    /// A rail.
    Rail,
    /// A kind of signal, or a rule.
    Kind,
}

/// What one asset is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Dollars for one whole unit: until a provider answers, and after all fell silent.
    pub fixed_usd: PriceText,
    /// Decimals of the smallest unit, for assets that railwatch does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 36))]
    pub decimals: Option<u8>,
    /// Where to ask; the median counts.
    #[serde(default)]
    pub poll: Vec<PricePoll>,
    /// Providers further from the median than this are left out.
    #[serde(default = "Price::default_max_deviation")]
    pub max_deviation: Fraction,
    /// A rate older than this is marked as stale.
    #[serde(default = "Price::default_stale_after")]
    pub stale_after: Positive,
    /// A rate older than this gives way to `fixed_usd`.
    #[serde(default = "Price::default_max_stale")]
    pub max_stale: Positive,
}

/// A price provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PricePoll {
    /// The address of a JSON document.
    pub url: Url,
    /// The JSON pointer of the price in it.
    #[schemars(regex(pattern = r"^/"))]
    pub pointer: String,
    /// How often to ask.
    #[serde(default = "PricePoll::default_every")]
    pub every: Positive,
}

const fn secs(secs: u64) -> Positive {
    Positive(std::time::Duration::from_secs(secs))
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Price {
    fn default_max_deviation() -> Fraction {
        Fraction(0.02)
    }

    fn default_stale_after() -> Positive {
        secs(HOUR / 4)
    }

    fn default_max_stale() -> Positive {
        secs(DAY)
    }
}

impl PricePoll {
    fn default_every() -> Positive {
        secs(60)
    }
}

impl Default for SourceCommon {
    fn default() -> Self {
        Self {
            enabled: true,
            agent: None,
            direction: None,
            labels: BTreeMap::new(),
            decode: None,
            blind_after: None,
        }
    }
}

impl Default for SinkCommon {
    fn default() -> Self {
        Self { enabled: true, min_severity: None, rate_limit: None }
    }
}

impl Default for DetectorCommon {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "railwatch.db".into(), retain: secs(90 * DAY) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: Address(([127, 0, 0, 1], 7414).into()), public_url: None, tokens: Vec::new() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agents: 400_000,
            dedup_keys: 50_000_000,
            reject_rows: 100_000,
            store_bytes: None,
            batch_payments: 4096,
            intake_deliveries: 1024,
        }
    }
}

impl Default for Score {
    fn default() -> Self {
        Self { review_threshold: Fraction(0.7), script: None, shadow: None }
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            clear_after: secs(HOUR),
            reopen_within: secs(HOUR / 2),
            group_interval: secs(HOUR / 12),
            remind_every: secs(DAY / 2),
            min_severity: Severity::Info,
            severity_from: SeverityFrom::default(),
        }
    }
}

impl Default for SeverityFrom {
    fn default() -> Self {
        let dollars = |dollars: i64| Dollars(Usd::from_cents(dollars * 100));
        Self { medium: dollars(1), high: dollars(20), critical: dollars(500) }
    }
}
