//! Which sinks are told: routes in order, the first that matches wins unless it says `continue`; then the sinks of the
//! escalations that the incident has gone through.

use railwatch_model::{Facts, Notice, Occasion, SmolStr};

use super::settings::{Config, SinkConfig};

/// Why a sink is told or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The sink.
    pub sink: SmolStr,
    /// What names it, such as `route 2` or `escalation nobody-there`.
    pub via: String,
    /// Why it is not told all the same.
    pub refused: Option<&'static str>,
}

impl Config {
    /// The sinks that are told of a notice, each once, in order.
    pub fn sinks_for(&self, notice: &Notice) -> Vec<SmolStr> {
        let told = self.route(&notice.facts(), notice.occasion, &notice.escalations);
        told.into_iter().filter(|told| told.refused.is_none()).map(|told| told.sink).collect()
    }

    /// Every sink that routes and escalations name for these facts, each once, in order.
    pub fn route(&self, facts: &Facts, occasion: Occasion, escalations: &[SmolStr]) -> Vec<Told> {
        let mut named: Vec<(&str, String)> = Vec::new();
        // Those who are told anyway know already: an escalation is for further people.
        if occasion != Occasion::Escalated {
            named.extend(self.routed(facts));
        }
        let latest = if occasion == Occasion::Escalated { escalations.len().saturating_sub(1) } else { 0 };
        for name in escalations.iter().skip(latest) {
            let escalation = self.escalations.iter().find(|escalation| escalation.name == *name);
            let sinks = escalation.iter().flat_map(|escalation| &escalation.sinks);
            named.extend(sinks.map(|sink| (sink.as_str(), format!("escalation {name}"))));
        }
        let mut told: Vec<Told> = Vec::new();
        for (sink, via) in named {
            if told.iter().any(|earlier| earlier.sink == sink) {
                continue;
            }
            let refused = self.refusal(facts, self.sinks.get(sink));
            told.push(Told { sink: sink.into(), via, refused });
        }
        told
    }

    fn routed(&self, facts: &Facts) -> Vec<(&str, String)> {
        if self.routes.is_empty() {
            let all = self.sinks.iter().filter(|(_, sink)| !sink.is_heartbeat() && !sink.is_gate());
            return all.map(|(sink, _)| (sink.as_str(), "no routes: all sinks".to_owned())).collect();
        }
        let mut named = Vec::new();
        for (place, route) in self.routes.iter().enumerate().filter(|(_, route)| route.matches.accepts(facts))
        {
            named.extend(route.sinks.iter().map(|sink| (sink.as_str(), format!("routes[{place}]"))));
            if !route.goes_on {
                break;
            }
        }
        named
    }

    fn refusal(&self, facts: &Facts, sink: Option<&SinkConfig>) -> Option<&'static str> {
        let Some(sink) = sink else { return Some("it is not configured") };
        if !sink.common.enabled {
            return Some("it is disabled");
        }
        if facts.severity < self.alerts.min_severity {
            return Some("the severity is below alerts.min_severity");
        }
        let is_below = sink.common.min_severity.is_some_and(|min| facts.severity < min);
        is_below.then_some("the severity is below the sink's min_severity")
    }
}
