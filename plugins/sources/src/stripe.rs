//! Stripe: issued cards, shared payment tokens, PaymentIntents and charges, refunds and disputes.
//!
//! The decoder is pure: one event in, zero or more steps out. Nothing is remembered between events; the ids are
//! chosen so that whatever Stripe reports twice (an event redelivered, a PaymentIntent beside its charge, a capture
//! beside its authorization) is one step, or hangs on one parent.

mod bell;
mod currency;
mod decode;
mod object;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use railwatch_model::Direction;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use currency::money as stripe_money;
pub use decode::StripeDecoder;
pub(crate) use source::verify_of;
pub use source::{PLUGIN, StripeSource, StripeTable};

/// Which events report refunds of charges. Stripe sends both kinds for one refund; only one may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundEvents {
    /// `charge.refunded`, which every API version sends: the total refunded so far.
    #[default]
    Charge,
    /// `refund.created`, `refund.updated`, `refund.failed`: single refunds, which can also fail.
    Refund,
}

/// Whose money moves, by family of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StripeDirections {
    /// `issuing_*`: what the agents' cards pay.
    pub issuing: Direction,
    /// `shared_payment.issued_token.*`: sellers use tokens that the agents issued.
    pub issued_token: Direction,
    /// `shared_payment.granted_token.*`: the account is the seller.
    pub granted_token: Direction,
    /// `charge.*`, `payment_intent.*`, `refund.*`: `spend` where the account charges its own agents as customers.
    pub charge: Direction,
    /// `topup.*`: money put into the Stripe balance.
    pub topup: Direction,
    /// `payout.*`, `transfer.*`, `treasury.outbound_payment.*`.
    pub payout: Direction,
}

impl Default for StripeDirections {
    fn default() -> Self {
        Self {
            issuing: Direction::Spend,
            issued_token: Direction::Spend,
            granted_token: Direction::Earn,
            charge: Direction::Earn,
            topup: Direction::Ignore,
            payout: Direction::Ignore,
        }
    }
}

/// How events become payments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StripeMapping {
    /// The metadata key that names the agent; empty if metadata must not name one.
    pub agent_metadata: String,
    /// Whose money moves.
    pub directions: StripeDirections,
    /// Which events report refunds.
    pub refunds: RefundEvents,
    /// Decimals of Stripe's minor unit by lower-case currency, over the built-in table.
    pub currency_decimals: BTreeMap<String, u8>,
}

impl Default for StripeMapping {
    fn default() -> Self {
        Self {
            agent_metadata: "agent_id".to_owned(),
            directions: StripeDirections::default(),
            refunds: RefundEvents::default(),
            currency_decimals: BTreeMap::new(),
        }
    }
}
