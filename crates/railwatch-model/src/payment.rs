//! Payments: small state machines that rails report in pieces.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{AgentId, AgentVia, Identity, Label, Money, Timestamp, Valuation};

/// What a report says happened to money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money is reserved and may be captured later (a card authorization).
    Hold,
    /// A hold ended, wholly or in part, without a capture. The amount is what was freed.
    Release,
    /// Money moved. With a `parent` it captures that hold.
    Settle,
    /// Money came back for an earlier settle.
    Refund,
    /// A settle was undone by the rail (a chargeback lost, a clawback).
    Reversal,
    /// Money was put aside for later spending (a prepaid channel, a top-up). It is not spent yet.
    Deposit,
    /// A cost of paying: routing fee, gas, processing fee. It has a `parent` where the rail says so.
    Fee,
    /// A settle is contested; its money is withdrawn while that lasts.
    Dispute,
    /// The rail refused. No money moved; the amount says what was tried.
    Declined,
}

/// How sure the rail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Reported, and could still be undone by the rail (an unconfirmed block).
    Seen,
    /// Final as far as the rail knows.
    Confirmed,
    /// The report is void: the block was reorganised away, the transfer failed. Undoes an earlier `Seen`.
    Retracted,
}

/// Whose money moves, a property of the source's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// An agent pays.
    #[default]
    Spend,
    /// An agent is paid. Earnings are shown and never offset spend.
    Earn,
    /// Known and deliberately not counted.
    Ignore,
}

/// Which name space a settlement reference belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefScheme {
    /// `tx:payer:amount`: a transaction hash alone is shared by batched transfers.
    EvmTx,
    /// `caip2:token:payer:nonce` of an EIP-3009 or Permit2 authorization.
    EvmAuth,
    /// A Lightning payment hash.
    PaymentHash,
    /// A Stripe PaymentIntent id.
    StripePi,
    /// A Stripe charge id.
    StripeCharge,
    /// An MPP challenge id.
    MppChallenge,
    /// Any other reference that two sources share, prefixed by its own name space.
    Other,
}

/// A name that several rails may give to one and the same purchase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SettlementRef {
    /// The name space.
    pub scheme: RefScheme,
    /// The name.
    pub value: SmolStr,
}

/// One report of one step of one payment, as a source decoded it.
///
/// `(rail, id, kind)` names the step; the same step may be reported again with a later [`Status`]. A source fills in
/// what the rail said. The engine's `admit` adds `agent` and `agent_via`; the host's valuation adds `valuation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// The rail, such as `stripe`, `x402`, `lightning`.
    pub rail: SmolStr,
    /// The configured source that reported it.
    pub source: SmolStr,
    /// The rail's own name for the payment, stable across retries and redeliveries.
    pub id: SmolStr,
    /// What happened.
    pub kind: Kind,
    /// How sure the rail is.
    pub status: Status,
    /// Whose money moves.
    pub direction: Direction,
    /// How much: at least zero; the kind gives the sign. For [`Payment::running_total`] it is the total so far.
    pub amount: Money,
    /// True if `amount` is the running total of `(rail, parent or id, kind)` rather than a step: refunds on a charge,
    /// vouchers of a session. The engine counts the increase over the largest total seen.
    pub running_total: bool,
    /// For rails that may undo and redo one payment (a reorganisation): a later revision is counted again after a
    /// retraction of an earlier one. Zero elsewhere.
    pub revision: u64,
    /// The rail's word for when it happened.
    pub occurred_at: Timestamp,
    /// When railwatch received it.
    pub observed_at: Timestamp,
    /// Every identity of the spender that the message shows, most trusted first.
    pub spender: Vec<Identity>,
    /// The agent that the spender was resolved to.
    pub agent: Option<AgentId>,
    /// How the agent was found.
    pub agent_via: Option<AgentVia>,
    /// Who was paid.
    pub payee: Option<SmolStr>,
    /// What was bought: a URL, a model, a description.
    pub resource: Option<SmolStr>,
    /// The `id` of the payment that this one belongs to: the hold of a capture, the settle of a refund.
    pub parent: Option<SmolStr>,
    /// Names under which other rails may report the same purchase.
    pub settlement_refs: Vec<SettlementRef>,
    /// The task that the agent worked on.
    pub task: Option<SmolStr>,
    /// The session or conversation of that task.
    pub session: Option<SmolStr>,
    /// Labels from the source's configuration and the message.
    pub labels: Vec<Label>,
    /// The value in dollars; `None` until a price is known, which never keeps a payment from being recorded.
    pub valuation: Option<Valuation>,
}

impl Payment {
    /// A confirmed settle with nothing optional, to build upon.
    pub fn settle(
        rail: impl Into<SmolStr>,
        id: impl Into<SmolStr>,
        amount: Money,
        occurred_at: Timestamp,
    ) -> Self {
        Self {
            rail: rail.into(),
            source: SmolStr::default(),
            id: id.into(),
            kind: Kind::Settle,
            status: Status::Confirmed,
            direction: Direction::Spend,
            amount,
            running_total: false,
            revision: 0,
            occurred_at,
            observed_at: occurred_at,
            spender: Vec::new(),
            agent: None,
            agent_via: None,
            payee: None,
            resource: None,
            parent: None,
            settlement_refs: Vec::new(),
            task: None,
            session: None,
            labels: Vec::new(),
            valuation: None,
        }
    }

    /// The dollar value, zero while no price is known.
    pub fn usd(&self) -> crate::Usd {
        self.valuation.as_ref().map_or(crate::Usd::ZERO, |valuation| valuation.usd)
    }
}
