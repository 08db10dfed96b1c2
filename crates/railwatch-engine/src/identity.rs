//! Who a payment belongs to: the configured identity map, and the order in which its answers are believed.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use railwatch_model::{AgentId, AgentVia, Identity, Payment, SmolStr, Subject, glob};
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

    /// True if the configuration names this subject.
    pub(crate) fn is_configured(&self, subject: &Subject) -> bool {
        self.profiles.contains_key(subject)
    }

    /// The identities that an agent claims one by one, in order.
    pub fn identities(&self, agent: &AgentId) -> Vec<Identity> {
        let own = self.exact.iter().filter(|(_, owner)| *owner == agent);
        let mut own: Vec<Identity> = own.map(|(identity, _)| identity.clone()).collect();
        own.sort_unstable();
        own
    }

    /// The agent that claims an identity.
    pub fn lookup(&self, identity: &Identity) -> Option<&AgentId> {
        self.exact.get(identity).or_else(|| {
            let matches = |(scheme, pattern, _): &&(SmolStr, SmolStr, AgentId)| {
                *scheme == identity.scheme && glob(pattern, &identity.value)
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
