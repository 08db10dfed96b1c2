//! Who a payment belongs to: the configured identity map, and the order in which its answers are believed.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use railwatch_model::{AgentId, AgentVia, Identity, Payment, SmolStr, Subject};
use railwatch_plugin::detector::{AgentConfig, Profile};

/// What the configuration knows about agents, teams and sources. Replaced as a whole by a new generation.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    profiles: HashMap<Subject, Arc<Profile>, FixedState>,
    exact: HashMap<Identity, AgentId, FixedState>,
    globs: Vec<(SmolStr, SmolStr, AgentId)>,
    defaults: HashMap<SmolStr, AgentId, FixedState>,
    unknown: Arc<Profile>,
}

impl Directory {
    /// A directory of these agents.
    pub fn new(agents: Vec<AgentConfig>) -> Self {
        let mut directory = Self::default();
        for agent in agents {
            for (scheme, value) in agent.identities {
                if value.contains('*') {
                    directory.globs.push((scheme, value, agent.id.clone()));
                } else {
                    directory.exact.insert(Identity { scheme, value }, agent.id.clone());
                }
            }
            directory.profiles.insert(Subject::Agent(agent.id), Arc::new(agent.profile));
        }
        directory
    }

    /// Adds what is known about a team or the fleet.
    pub fn set_profile(&mut self, subject: Subject, profile: Profile) {
        self.profiles.insert(subject, Arc::new(profile));
    }

    /// Adds the agent that a source's payments belong to when nothing else says so.
    pub fn set_default(&mut self, source: SmolStr, agent: AgentId) {
        self.defaults.insert(source, agent);
    }

    /// What is known about a subject; an empty profile for an unknown one.
    pub fn profile(&self, subject: &Subject) -> Arc<Profile> {
        self.profiles.get(subject).unwrap_or(&self.unknown).clone()
    }

    /// The agent that claims an identity.
    pub fn lookup(&self, identity: &Identity) -> Option<&AgentId> {
        self.exact.get(identity).or_else(|| {
            let matches = |(scheme, glob, _): &&(SmolStr, SmolStr, AgentId)| {
                *scheme == identity.scheme && glob_matches(glob, &identity.value)
            };
            self.globs.iter().find(matches).map(|(_, _, agent)| agent)
        })
    }

    /// Resolves a payment's spender. First hit wins: explicit, mapped, linked, default of the source, unmapped.
    pub(crate) fn resolve(
        &self,
        payment: &Payment,
        linked: impl FnOnce() -> Option<AgentId>,
    ) -> (AgentId, AgentVia) {
        self.resolve_or(&payment.spender, &payment.source, linked)
    }

    /// Resolves identities that no other payment can help with.
    pub(crate) fn resolve_identities(&self, identities: &[Identity], source: &str) -> AgentId {
        self.resolve_or(identities, source, || None).0
    }

    fn resolve_or(
        &self,
        identities: &[Identity],
        source: &str,
        linked: impl FnOnce() -> Option<AgentId>,
    ) -> (AgentId, AgentVia) {
        let explicit = identities.iter().filter(|identity| identity.scheme == Identity::AGENT);
        if let Some(agent) = explicit.filter_map(|identity| AgentId::new(identity.value.clone())).next() {
            return (agent, AgentVia::Explicit);
        }
        if let Some(agent) = identities.iter().find_map(|identity| self.lookup(identity)) {
            return (agent.clone(), AgentVia::Mapped);
        }
        if let Some(agent) = linked() {
            return (agent, AgentVia::Linked);
        }
        if let Some(agent) = self.defaults.get(source) {
            return (agent.clone(), AgentVia::SourceDefault);
        }
        let identity = identities.first().cloned();
        let identity = identity.unwrap_or_else(|| Identity::new("source", source));
        (AgentId::unmapped(&identity), AgentVia::Unmapped)
    }
}

/// True if `text` has the shape of `glob`, in which `*` stands for any run of characters. Linear in both lengths for
/// the patterns people write, and never worse than their product.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            retry = Some((g, t));
            g += 1;
        } else if glob.get(g) == text.get(t) {
            g += 1;
            t += 1;
        } else if let Some((star, start)) = retry {
            retry = Some((star, start + 1));
            g = star + 1;
            t = start + 1;
        } else {
            return false;
        }
    }
    glob.get(g..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("spt_*", "spt_123", true),
            ("spt_*", "sp_123", false),
            ("*", "", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("", "x", false),
            ("a**", "a", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} on {text}");
        }
    }
}
