//! Who paid: agents, and the rail identities that lead to them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

/// The name of an agent as its owner writes it, or `unmapped:<scheme>:<value>` for a spender that no agent claims.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct AgentId(#[schemars(with = "String")] SmolStr);

impl AgentId {
    /// Bytes that an agent's name may have; longer names from rails are cut by [`AgentId::unmapped`].
    pub const LEN_MAX: usize = 200;

    /// An agent's name: 1 to 200 bytes without control characters.
    pub fn new(name: impl Into<SmolStr>) -> Option<Self> {
        let name = name.into();
        let valid = !name.is_empty() && name.len() <= Self::LEN_MAX && !name.chars().any(char::is_control);
        valid.then_some(Self(name))
    }

    /// The stand-in for a spender that no agent claims; it gets signals of its own.
    pub fn unmapped(identity: &Identity) -> Self {
        let value: String = identity.value.chars().filter(|c| !c.is_control()).take(120).collect();
        Self(format_smolstr!("unmapped:{}:{value}", identity.scheme))
    }

    /// True for [`AgentId::unmapped`].
    pub fn is_unmapped(&self) -> bool {
        self.0.starts_with("unmapped:")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rail's word for a spender: a wallet, a card, an account label, a key alias.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The kind of identifier, such as `agent`, `evm.address` or `stripe.card`. The scheme `agent` is an explicit
    /// agent id from a signed or trusted part of the message.
    pub scheme: SmolStr,
    /// The identifier in its canonical spelling (addresses lower-cased).
    pub value: SmolStr,
}

impl Identity {
    /// The scheme of an explicit agent id.
    pub const AGENT: &'static str = "agent";

    /// An identity.
    pub fn new(scheme: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        Self { scheme: scheme.into(), value: value.into() }
    }
}

/// How a payment's agent was found; recorded so that an attribution can be audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentVia {
    /// The message named the agent in a trusted field.
    Explicit,
    /// An `[agents.match]` entry claims the identity.
    Mapped,
    /// Another payment with the same settlement reference, card or authorization had an agent.
    Linked,
    /// The source has a default agent.
    SourceDefault,
    /// Nobody claims the identity.
    Unmapped,
}

/// A key and a value that people attach to agents and payments, such as `team = growth`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Label {
    /// The key.
    pub key: SmolStr,
    /// The value.
    pub value: SmolStr,
}
