//! How agents are frozen.

use std::time::Duration;

use railwatch_model::Matcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Positive;

/// How agents are frozen: kept from paying for a while by the gates among the sinks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Freeze {
    /// How many people must agree before a person's freeze takes effect, whoever asks included; 2 needs `http.tokens`,
    /// which say who is who.
    #[schemars(range(min = 1, max = 2))]
    pub approvals: u8,
    /// How long a freeze lasts unless somebody says so.
    pub lasts: Positive,
    /// The longest that anybody may ask for.
    pub longest: Positive,
    /// What freezes agents by itself; the first that matches counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<FreezePolicy>,
}

/// Freezes the agent of an incident that matches, when people are told that it began, began again, grew worse or is
/// escalated. What is kept from people freezes nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezePolicy {
    /// Its name, unique.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// Which incidents; at least one condition.
    #[serde(rename = "match")]
    pub matches: Matcher,
    /// The rails; all of them by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rails: Vec<String>,
    /// For how long; `freeze.lasts` by default.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Positive>,
    /// How many people must agree first; 0 asks nobody.
    #[serde(default = "FreezePolicy::default_approvals")]
    #[schemars(range(max = 2))]
    pub approvals: u8,
    /// Agents that it may have frozen at a time without asking anybody; further ones wait for a person.
    #[serde(default = "FreezePolicy::default_at_most")]
    #[schemars(range(max = 1000))]
    pub at_most: u32,
}

impl FreezePolicy {
    fn default_approvals() -> u8 {
        1
    }

    fn default_at_most() -> u32 {
        10
    }
}

impl Default for Freeze {
    fn default() -> Self {
        Self {
            approvals: 1,
            lasts: Positive(Duration::from_secs(3600)),
            longest: Positive(Duration::from_secs(7 * 24 * 3600)),
            policies: Vec::new(),
        }
    }
}
