//! What a configuration generation can change about the engine.

use std::time::Duration;

use chrono_tz::Tz;
use railwatch_model::{Matcher, Severity, SmolStr, Usd};
use railwatch_plugin::column::Column;
use railwatch_plugin::rules::RuleSet;
use railwatch_plugin::score::Scorer;

use crate::identity::Directory;
use crate::seen::SeenLimits;

/// Thresholds and limits of the engine itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A score above this opens a review.
    pub review_above: f64,
    /// An open review stays open down to this score.
    pub review_close_below: f64,
    /// An alert resolves when its trigger was quiet for this long.
    pub clear_after: Duration,
    /// A trigger that fires again within this time after resolution continues its episode.
    pub reopen_within: Duration,
    /// People are reminded of an incident that nobody took, this often.
    pub remind_every: Duration,
    /// News of an incident that joins it later waits until this long after the last notice.
    pub group_interval: Duration,
    /// Who is told when nobody takes an incident, in the order in which they are tried.
    pub escalations: Vec<Escalation>,
    /// When people are not told.
    pub mutes: Vec<Mute>,
    /// Which incidents explain others.
    pub inhibitions: Vec<Inhibition>,
    /// Who is asked to freeze agents, and when that happens by itself.
    pub freeze: FreezeSettings,
    /// Money at risk from which an alert is medium, high and critical.
    pub severity_from: [Usd; 3],
    /// Agents without a payment for this long leave memory; their state stays in the store.
    pub idle_after: Duration,
    /// Agents kept in memory at most.
    pub subjects_max: usize,
    /// Bounds of the deduplication memory.
    pub seen: SeenLimits,
}

/// An incident that matches and that nobody took is told to further people.
#[derive(Debug, Clone, PartialEq)]
pub struct Escalation {
    /// The name; the host knows which sinks it means.
    pub name: SmolStr,
    /// How long after people were first told.
    pub after: Duration,
    /// Which incidents.
    pub matcher: Matcher,
}

/// Hours in which people are not told of incidents that match; what is still open at their end is told then.
#[derive(Debug, Clone, PartialEq)]
pub struct Mute {
    /// The name.
    pub name: SmolStr,
    /// Which incidents.
    pub matcher: Matcher,
    /// The days on which the hours begin, Monday first.
    pub days: [bool; 7],
    /// The first minute of the day.
    pub from: u16,
    /// The minute of the day at which it ends, up to 1440; not after `from`: on the next day.
    pub until: u16,
    /// Whose days and hours.
    pub tz: Tz,
}

/// While an incident that matches `by` is open, those that match `matcher` are not told: it explains them.
#[derive(Debug, Clone, PartialEq)]
pub struct Inhibition {
    /// The incident that explains.
    pub by: Matcher,
    /// The incidents that are explained.
    pub matcher: Matcher,
    /// What both must share.
    pub equal: Vec<Equal>,
}

/// Who is asked to freeze agents, and when that happens by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FreezeSettings {
    /// The sinks that are gates.
    pub gates: Vec<Gate>,
    /// How many people must agree before a person's freeze takes effect.
    pub approvals: u8,
    /// How long a freeze lasts unless somebody says so, in seconds.
    pub lasts_secs: u32,
    /// The longest that anybody may ask for, in seconds.
    pub longest_secs: u32,
    /// What freezes agents by itself; the first that matches counts.
    pub policies: Vec<FreezePolicy>,
}

/// A sink that can freeze agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The sink.
    pub name: SmolStr,
    /// True if it only rehearses.
    pub dry_run: bool,
}

/// The agent of an incident that matches is frozen when people are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FreezePolicy {
    /// The name.
    pub name: SmolStr,
    /// Which incidents.
    pub matcher: Matcher,
    /// On these rails; on all of them if none is named.
    pub rails: Vec<SmolStr>,
    /// For how long, in seconds.
    pub lasts_secs: u32,
    /// How many people must agree first.
    pub approvals: u8,
    /// Agents that it freezes at a time without a person's word.
    pub at_most: usize,
}

/// What two incidents may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            review_above: 0.7,
            review_close_below: 0.5,
            clear_after: Duration::from_secs(3600),
            reopen_within: Duration::from_secs(1800),
            remind_every: Duration::from_secs(12 * 3600),
            group_interval: Duration::from_secs(300),
            escalations: Vec::new(),
            mutes: Vec::new(),
            inhibitions: Vec::new(),
            freeze: FreezeSettings::default(),
            severity_from: [Usd::ONE, Usd::from_cents(2_000), Usd::from_cents(50_000)],
            idle_after: Duration::from_secs(24 * 3600),
            subjects_max: 1_000_000,
            seen: SeenLimits::default(),
        }
    }
}

impl Settings {
    /// The severity that money at risk deserves.
    pub(crate) fn severity(&self, at_risk: Usd) -> Severity {
        let [medium, high, critical] = self.severity_from;
        match at_risk {
            usd if usd >= critical => Severity::Critical,
            usd if usd >= high => Severity::High,
            usd if usd >= medium => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// Everything that can be replaced while the engine runs. Built in full before anything running is touched.
#[derive(Debug)]
pub struct Generation {
    /// The number; later generations have larger ones.
    pub number: u64,
    /// The hash of the configuration that it was built from.
    pub digest: SmolStr,
    /// Thresholds and limits.
    pub settings: Settings,
    /// Agents, teams, identities; `None` if they are as they were.
    pub directory: Option<Directory>,
    /// Detectors in evaluation order, in empty columns; running ones hand their state over by name.
    pub columns: Vec<Box<dyn Column>>,
    /// The score.
    pub scorer: Box<dyn Scorer>,
    /// The rules.
    pub rules: Box<dyn RuleSet>,
}
