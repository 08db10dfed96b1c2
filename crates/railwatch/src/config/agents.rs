//! Agents, teams, budgets and announcements as people write them, and what detectors get to see of them.

use std::collections::BTreeMap;
use std::fmt;

use chrono_tz::Tz;
use railwatch_model::{Label, SignalKind, SmolStr, Timestamp, Usd};
use railwatch_plugin::config::Dollars;
use railwatch_plugin::detector::{self, AgentConfig, Budget, Period, Profile};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::settings::Config;
use super::values::{AgentName, Per, PerPeriod, Positive, Velocity, Zone};

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its id, unique.
    pub id: AgentName,
    /// Its team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Agents with the same peer group are expected to behave alike; the team by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_group: Option<String>,
    /// The velocity that its owner expects, used until enough is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Velocity>,
    /// A person is told when it made no payment for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_after: Option<Positive>,
    /// Its only budget, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Its budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetSpec>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The rail identities that are its own: scheme → exact values, or globs with `*`.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, Vec<String>>,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// Its id, unique.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its only budget, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Its budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetSpec>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// All agents together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Its budgets.
    pub budgets: Vec<BudgetSpec>,
}

/// A planned change, so that it is not mistaken for an incident. Without agent and team it is about everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The team that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
    /// The kinds of signal that are silent; all but budget by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// The rails that it is about; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rails: Vec<String>,
    /// Why, for people.
    pub reason: String,
}

/// Money that may be spent in a period: `"$10,000.00 / month"`, or a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetSpec {
    /// Its name, unique for the subject; `hourly`, `daily`, `weekly`, `monthly` or `fixed` by default.
    pub name: SmolStr,
    /// How much; above zero.
    pub amount: Dollars,
    /// The period.
    #[serde(flatten)]
    pub period: BudgetPeriod,
    /// The time zone in which it begins; the configuration's `timezone` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Zone>,
}

/// When a budget begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum BudgetPeriod {
    /// Every hour, day, week or month.
    Every {
        /// Which of them.
        per: Per,
    },
    /// Never: it lasts from one instant to another.
    Fixed {
        /// The first instant.
        from: Timestamp,
        /// The end; after `from`.
        until: Timestamp,
    },
}

/// A budget written as a table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Budget")]
struct BudgetTable {
    /// How much, such as `"$1,250.00"`.
    amount: Dollars,
    /// The period: hour, day, week or month.
    #[serde(default)]
    per: Option<Per>,
    /// The first instant of a budget that does not begin anew.
    #[serde(default)]
    from: Option<Timestamp>,
    /// The end of a budget that does not begin anew.
    #[serde(default)]
    until: Option<Timestamp>,
    /// The time zone in which periods begin.
    #[serde(default)]
    timezone: Option<Zone>,
    /// Its name, needed if there are two for one period.
    #[serde(default)]
    name: Option<String>,
}

impl TryFrom<BudgetTable> for BudgetSpec {
    type Error = String;

    fn try_from(table: BudgetTable) -> Result<Self, String> {
        let period = match (table.per, table.from, table.until) {
            (Some(per), None, None) => BudgetPeriod::Every { per },
            (None, Some(from), Some(until)) if from < until => BudgetPeriod::Fixed { from, until },
            (None, Some(_), Some(_)) => return Err("a budget must end after it begins".to_owned()),
            _ => return Err("a budget needs either `per`, or `from` and `until`".to_owned()),
        };
        if table.amount.0 <= Usd::ZERO {
            return Err("a budget must be above zero".to_owned());
        }
        let name = table.name.map_or_else(|| period.default_name(), SmolStr::from);
        Ok(Self { name, amount: table.amount, period, timezone: table.timezone })
    }
}

impl From<PerPeriod> for BudgetSpec {
    fn from(PerPeriod { amount, per }: PerPeriod) -> Self {
        let period = BudgetPeriod::Every { per };
        Self { name: period.default_name(), amount: Dollars(amount), period, timezone: None }
    }
}

impl BudgetPeriod {
    fn default_name(self) -> SmolStr {
        SmolStr::new_static(match self {
            Self::Every { per: Per::Hour } => "hourly",
            Self::Every { per: Per::Day } => "daily",
            Self::Every { per: Per::Week } => "weekly",
            Self::Every { per: Per::Month } => "monthly",
            Self::Fixed { .. } => "fixed",
        })
    }
}

impl<'de> Deserialize<'de> for BudgetSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = BudgetSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a budget such as \"$10,000.00 / month\", or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BudgetSpec, E> {
                text.parse::<PerPeriod>().map(BudgetSpec::from).map_err(E::custom)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<BudgetSpec, A::Error> {
                let table = BudgetTable::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                table.try_into().map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for BudgetSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BudgetSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<PerPeriod>();
        let table = generator.subschema_for::<BudgetTable>();
        json_schema!({ "anyOf": [text, table] })
    }
}

impl BudgetSpec {
    fn resolve(&self, default: Tz) -> Budget {
        let period = match self.period {
            BudgetPeriod::Every { per: Per::Hour } => Period::Hour,
            BudgetPeriod::Every { per: Per::Day } => Period::Day,
            BudgetPeriod::Every { per: Per::Week } => Period::Week,
            BudgetPeriod::Every { per: Per::Month } => Period::Month,
            BudgetPeriod::Fixed { from, until } => Period::Fixed { from, until },
        };
        let tz = self.timezone.map_or(default, |zone| zone.0);
        Budget { name: self.name.clone(), amount: self.amount.0, period, tz }
    }
}

impl Agent {
    /// All of its budgets: `budget`, then `budgets`.
    pub fn all_budgets(&self) -> impl Iterator<Item = &BudgetSpec> {
        self.budget.iter().chain(&self.budgets)
    }

    /// Scheme and canonical value of each identity.
    pub fn identities(&self) -> impl Iterator<Item = (SmolStr, SmolStr)> {
        let all =
            self.matches.iter().flat_map(|(scheme, values)| values.iter().map(move |value| (scheme, value)));
        all.map(|(scheme, value)| (SmolStr::new(scheme), canonical(scheme, value)))
    }
}

impl Team {
    /// All of its budgets: `budget`, then `budgets`.
    pub fn all_budgets(&self) -> impl Iterator<Item = &BudgetSpec> {
        self.budget.iter().chain(&self.budgets)
    }
}

/// The spelling in which identities are compared: addresses are lower-cased, all else stays as it is.
pub(super) fn canonical(scheme: &str, value: &str) -> SmolStr {
    let value = value.trim();
    if scheme.starts_with("evm.") || value.starts_with("0x") {
        value.to_ascii_lowercase().into()
    } else {
        value.into()
    }
}

fn labels(labels: &BTreeMap<String, String>, owner: Option<&String>) -> Vec<Label> {
    let label = |(key, value): (&str, &String)| Label { key: key.into(), value: value.into() };
    let own = labels.iter().map(|(key, value)| label((key.as_str(), value)));
    let owner = owner.filter(|_| !labels.contains_key("owner")).map(|owner| label(("owner", owner)));
    own.chain(owner).collect()
}

impl Config {
    /// The agents as the engine knows them: time zones filled in, addresses lower-cased, with the announcements about
    /// them, their teams and the fleet.
    pub fn agents(&self) -> Vec<AgentConfig> {
        self.agents.iter().map(|agent| self.agent(agent)).collect()
    }

    fn agent(&self, agent: &Agent) -> AgentConfig {
        let team = agent.team.as_deref().map(SmolStr::new);
        let about = |announcement: &&Announcement| match (&announcement.agent, &announcement.team) {
            (Some(id), _) => *id == agent.id,
            (None, Some(name)) => Some(name) == agent.team.as_ref(),
            (None, None) => true,
        };
        AgentConfig {
            id: agent.id.0.clone(),
            profile: Profile {
                peer_group: agent.peer_group.as_deref().map(SmolStr::new).or_else(|| team.clone()),
                team,
                labels: labels(&agent.labels, agent.owner.as_ref()),
                budgets: agent.all_budgets().map(|budget| budget.resolve(self.timezone.0)).collect(),
                seed_usd_per_hour: agent.seed.map(Velocity::usd_per_hour),
                announcements: self.announcements.iter().filter(about).map(Announcement::resolve).collect(),
            },
            identities: agent.identities().collect(),
            quiet_after: agent.quiet_after.map(|quiet| quiet.0),
        }
    }

    /// The declared teams, with the announcements about them and about the fleet.
    pub fn teams(&self) -> Vec<(SmolStr, Profile)> {
        let profile = |team: &Team| Profile {
            labels: labels(&team.labels, team.owner.as_ref()),
            budgets: team.all_budgets().map(|budget| budget.resolve(self.timezone.0)).collect(),
            announcements: self.announced(|announcement| {
                announcement.agent.is_none() && announcement.team.as_ref().is_none_or(|name| *name == team.id)
            }),
            ..Profile::default()
        };
        self.teams.iter().map(|team| (SmolStr::new(&team.id), profile(team))).collect()
    }

    /// The fleet, with the announcements about it.
    pub fn fleet(&self) -> Profile {
        Profile {
            budgets: self.fleet.budgets.iter().map(|budget| budget.resolve(self.timezone.0)).collect(),
            announcements: self
                .announced(|announcement| announcement.agent.is_none() && announcement.team.is_none()),
            ..Profile::default()
        }
    }

    fn announced(&self, about: impl Fn(&Announcement) -> bool) -> Vec<detector::Announcement> {
        self.announcements
            .iter()
            .filter(|announcement| about(announcement))
            .map(Announcement::resolve)
            .collect()
    }
}

impl Announcement {
    fn resolve(&self) -> detector::Announcement {
        detector::Announcement {
            from: self.from,
            until: self.until,
            kinds: self.kinds.iter().map(|kind| SignalKind::from_name(kind)).collect(),
            rails: self.rails.iter().map(SmolStr::new).collect(),
            reason: self.reason.clone(),
        }
    }
}
