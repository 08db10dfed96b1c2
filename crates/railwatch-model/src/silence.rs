//! Silences: alerts that match one live on and reach nobody, until it ends.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Facts, Matcher, Timestamp};

/// Names one silence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SilenceId(pub SmolStr);

impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps alerts that match from people for a while. What is still open when it ends is told then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// Its name.
    pub id: SilenceId,
    /// What it hides.
    pub matcher: Matcher,
    /// Who made it.
    pub by: SmolStr,
    /// Why, in that person's words.
    pub reason: SmolStr,
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
    /// True if it ends as soon as nothing that it hides is open any more.
    pub until_resolved: bool,
}

impl Silence {
    /// True if it is in force at a time.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// True if it hides alerts with these facts at a time.
    pub fn hides(&self, facts: &Facts, now: Timestamp) -> bool {
        self.is_active(now) && self.matcher.accepts(facts)
    }
}
