//! Digests: what a team spent, told at a set hour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Day;
use super::values::{DayTime, Zone};

/// A summary of a team, or of everybody: spend by agent and rail, movers, open alerts, budgets that run out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its name, unique.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// The team; everybody without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// How often; also the time that it is about.
    #[serde(default)]
    pub every: Every,
    /// The day of a weekly one.
    #[serde(default = "monday")]
    pub day: Day,
    /// The time of the day.
    pub at: DayTime,
    /// Whose time; the configuration's `timezone` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Zone>,
    /// The names of the sinks; those that routes name for the team by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<String>,
}

/// How often a digest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Every day, about the day before.
    #[default]
    Day,
    /// Every week, about the week before.
    Week,
}

fn monday() -> Day {
    Day::Mon
}
