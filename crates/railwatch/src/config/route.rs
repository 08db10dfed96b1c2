//! Which sinks are told: routes in order, the first that matches wins unless it says `continue`.

use railwatch_model::{Severity, SmolStr};

use super::settings::{Config, Match};

/// What routes ask about a notice.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its severity.
    pub severity: Severity,
    /// The agent, if it is about one.
    pub agent: Option<&'a str>,
    /// The team of that agent, or the team that it is about.
    pub team: Option<&'a str>,
    /// The rails of its signals and payments.
    pub rails: &'a [&'a str],
    /// The kinds of its signals.
    pub kinds: &'a [&'a str],
}

impl Match {
    /// True if every condition holds.
    pub fn accepts(&self, target: &Target<'_>) -> bool {
        let is = |pattern: &Option<String>, value: Option<&str>| match (pattern, value) {
            (None, _) => true,
            (Some(pattern), Some(value)) => glob(pattern, value),
            (Some(_), None) => false,
        };
        let any = |pattern: &Option<String>, values: &[&str]| match pattern {
            None => true,
            Some(pattern) => values.iter().any(|value| glob(pattern, value)),
        };
        self.severity.is_none_or(|range| range.contains(target.severity))
            && is(&self.agent, target.agent)
            && is(&self.team, target.team)
            && any(&self.rail, target.rails)
            && any(&self.kind, target.kinds)
    }
}

impl Config {
    /// The enabled sinks that are told, each once, in order.
    pub fn sinks_for(&self, target: &Target<'_>) -> Vec<SmolStr> {
        if target.severity < self.alerts.min_severity {
            return Vec::new();
        }
        let mut names: Vec<&str> = Vec::new();
        if self.routes.is_empty() {
            names.extend(self.sinks.keys().map(SmolStr::as_str));
        }
        for route in self.routes.iter().filter(|route| route.matches.accepts(target)) {
            names.extend(route.sinks.iter().map(String::as_str));
            if !route.goes_on {
                break;
            }
        }
        let mut told = Vec::new();
        for name in names {
            let wanted = self.sinks.get(name).is_some_and(|sink| {
                sink.common.enabled && sink.common.min_severity.is_none_or(|min| target.severity >= min)
            });
            if wanted && !told.iter().any(|earlier| earlier == name) {
                told.push(SmolStr::new(name));
            }
        }
        told
    }
}

/// True if `text` is `pattern`, where each `*` stands for any run of characters. Linear in both for one star, and
/// never worse than their product.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    true
}
