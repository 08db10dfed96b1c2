//! Matchers: what routes, silences, mute windows, escalations and inhibitions ask about the alerts of one subject.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::{Alert, Label, Severity, SignalKind, Subject, Trigger};

/// Conditions that must all hold; without any, everything matches. In texts, `*` stands for any run of characters.
//
// Nothing is skipped when it is written: the journal's format has no names to tell what is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// The severity: `"high"` or `">=high"`.
    pub severity: Option<SeverityRange>,
    /// The agent; `*` stands for anything.
    pub agent: Option<String>,
    /// The team of the agent, or the team that it is about; `*` stands for anything.
    pub team: Option<String>,
    /// The source that a self-alert is about; `*` stands for anything.
    pub source: Option<String>,
    /// The rail; `*` stands for anything.
    pub rail: Option<String>,
    /// The kind of signal, or the id of a rule; `*` stands for anything.
    pub kind: Option<String>,
    /// Labels of the agent or team, each with a value in which `*` stands for anything.
    pub labels: BTreeMap<String, String>,
}

/// What matchers ask about: one subject and its alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The highest severity.
    pub severity: Severity,
    /// The agent, if it is about one.
    pub agent: Option<SmolStr>,
    /// The team of that agent, or the team that it is about.
    pub team: Option<SmolStr>,
    /// The source, if it is about one.
    pub source: Option<SmolStr>,
    /// The rails of its signals and payments.
    pub rails: BTreeSet<SmolStr>,
    /// The kinds of its signals and the ids of its rules.
    pub kinds: BTreeSet<SmolStr>,
    /// The labels of the subject.
    pub labels: Vec<Label>,
}

impl Facts {
    /// The facts of a subject without alerts.
    pub fn new(subject: &Subject, team: Option<&SmolStr>, labels: &[Label]) -> Self {
        let (agent, own_team, source) = match subject {
            Subject::Agent(agent) => (Some(agent.as_str().into()), None, None),
            Subject::Team(team) => (None, Some(team.clone()), None),
            Subject::Source(source) => (None, None, Some(source.clone())),
            Subject::Fleet | Subject::Railwatch => (None, None, None),
        };
        Self {
            severity: Severity::Info,
            agent,
            team: own_team.or_else(|| team.cloned()),
            source,
            rails: BTreeSet::new(),
            kinds: BTreeSet::new(),
            labels: labels.to_vec(),
        }
    }

    /// The facts of one alert.
    pub fn of_alert(alert: &Alert) -> Self {
        Self::new(&alert.subject, alert.team.as_ref(), &alert.labels).with([alert])
    }

    /// Adds alerts of the subject.
    pub fn with<'a>(mut self, alerts: impl IntoIterator<Item = &'a Alert>) -> Self {
        for alert in alerts {
            self.severity = self.severity.max(alert.severity);
            self.kinds.insert(match &alert.trigger {
                Trigger::Signal(kind) => SmolStr::new(kind.as_str()),
                Trigger::Rule(id) => id.clone(),
            });
            let paid = alert.payments.iter().filter_map(|payment| payment.split_once('/'));
            self.rails.extend(paid.map(|(rail, _)| SmolStr::new(rail)));
            let signal = alert.signal.as_ref();
            let signal =
                signal.filter(|signal| matches!(signal.kind, SignalKind::RailShift | SignalKind::NewRail));
            self.rails.extend(signal.and_then(|signal| signal.about.clone()));
        }
        self
    }
}

impl Matcher {
    /// True if it asks for nothing, and so matches everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True if every condition holds.
    pub fn accepts(&self, facts: &Facts) -> bool {
        let is = |pattern: &Option<String>, value: &Option<SmolStr>| {
            pattern.as_ref().is_none_or(|pattern| value.as_ref().is_some_and(|value| glob(pattern, value)))
        };
        let any = |pattern: &Option<String>, values: &BTreeSet<SmolStr>| {
            pattern.as_ref().is_none_or(|pattern| values.iter().any(|value| glob(pattern, value)))
        };
        self.severity.is_none_or(|range| range.contains(facts.severity))
            && is(&self.agent, &facts.agent)
            && is(&self.team, &facts.team)
            && is(&self.source, &facts.source)
            && any(&self.rail, &facts.rails)
            && any(&self.kind, &facts.kinds)
            && self.labels.iter().all(|(key, pattern)| {
                facts.labels.iter().any(|label| label.key == *key && glob(pattern, &label.value))
            })
    }
}

impl fmt::Display for Matcher {
    /// The conditions as people write them on the command line: `agent=a* severity=">=high"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("everything");
        }
        let named = [
            ("agent", &self.agent),
            ("team", &self.team),
            ("source", &self.source),
            ("rail", &self.rail),
            ("kind", &self.kind),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        let severity = self.severity.iter().map(|range| format!("severity={range}"));
        let labels = self.labels.iter().map(|(key, value)| format!("label.{key}={value}"));
        f.write_str(&named.chain(severity).chain(labels).collect::<Vec<_>>().join(" "))
    }
}

/// A range of severities: `"high"`, `">=high"`, `"<medium"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeverityRange {
    /// The lowest that is in it.
    pub min: Severity,
    /// The highest that is in it.
    pub max: Severity,
}

impl SeverityRange {
    /// Every severity.
    pub const ALL: Self = Self { min: Severity::Info, max: Severity::Critical };

    /// True if it is in the range.
    pub fn contains(self, severity: Severity) -> bool {
        (self.min..=self.max).contains(&severity)
    }
}

impl FromStr for SeverityRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let compact = text.replace(' ', "");
        let name = compact.trim_start_matches(['<', '>', '=']);
        let index = Severity::ALL.iter().position(|severity| severity.as_str() == name).ok_or_else(|| {
            format!(
                "{text:?} is not a severity; use info, low, medium, high, critical, or a range like \">=high\""
            )
        })?;
        let (first, last) = (0, Severity::ALL.len().saturating_sub(1));
        let nothing = || format!("no severity is in {text:?}");
        let (min, max) = match compact.strip_suffix(name).unwrap_or_default() {
            "" | "=" | "==" => (index, index),
            ">=" => (index, last),
            ">" => (index.saturating_add(1), last),
            "<=" => (first, index),
            "<" => (first, index.checked_sub(1).ok_or_else(nothing)?),
            other => return Err(format!("{other:?} is not a comparison; use >=, >, <=, < or nothing")),
        };
        match (Severity::ALL.get(min), Severity::ALL.get(max)) {
            (Some(&min), Some(&max)) => Ok(Self { min, max }),
            _ => Err(nothing()),
        }
    }
}

impl fmt::Display for SeverityRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            f.write_str(self.min.as_str())
        } else if self.min == Severity::Info {
            write!(f, "<={}", self.max.as_str())
        } else {
            write!(f, ">={}", self.min.as_str())
        }
    }
}

impl<'de> Deserialize<'de> for SeverityRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for SeverityRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for SeverityRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "severity_range".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a severity, or a range such as \">=high\"",
            "x-railwatch": "severity_range"
        })
    }
}

/// True if `text` has the shape of `pattern`, in which `*` stands for any run of characters. Linear in both lengths for
/// the patterns people write, and never worse than their product.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, tail)) = rest.split_once('*') {
        let Some((_, behind)) = text.split_once(part) else { return false };
        (text, rest) = (behind, tail);
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AgentId;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("spt_*", "spt_123", true),
            ("spt_*", "sp_123", false),
            ("*", "", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*b", "ab", false),
            ("", "x", false),
            ("", "", true),
            ("a**", "a", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let subject = Subject::Agent(AgentId::new("research-7").unwrap());
        let label = Label { key: "env".into(), value: "prod".into() };
        let mut facts = Facts::new(&subject, Some(&"growth".into()), &[label]);
        facts.severity = Severity::High;
        facts.kinds.insert("velocity".into());
        facts.rails.insert("x402".into());
        for (text, expected) in [
            ("{}", true),
            (r#"{"agent":"research-*","team":"growth","rail":"x*","kind":"velocity"}"#, true),
            (r#"{"agent":"research-*","team":"sales"}"#, false),
            (r#"{"severity":">=high","labels":{"env":"prod"}}"#, true),
            (r#"{"severity":"<high"}"#, false),
            (r#"{"labels":{"env":"test"}}"#, false),
            (r#"{"labels":{"other":"*"}}"#, false),
            (r#"{"source":"*"}"#, false),
        ] {
            let matcher: Matcher = serde_json::from_str(text).unwrap();
            assert_eq!(matcher.accepts(&facts), expected, "{text}");
        }
        assert!(serde_json::from_str::<Matcher>(r#"{"agnet":"a"}"#).is_err());
    }

    #[test]
    fn a_matcher_is_shown_as_it_is_written() {
        let text = r#"{"agent":"a*","severity":">=high","labels":{"env":"prod"}}"#;
        let matcher: Matcher = serde_json::from_str(text).unwrap();
        assert_eq!(matcher.to_string(), "agent=a* severity=>=high label.env=prod");
        assert_eq!(Matcher::default().to_string(), "everything");
    }
}
