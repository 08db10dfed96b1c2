//! The parts of Stripe's events that railwatch reads, in one pass over the bytes.
//!
//! [`Object`] is the union of every object type: the event's `type` says which fields mean something. That reads each
//! API version by field path and ignores whatever is new.

use serde::Deserialize;

use crate::scalar::{Expandable, Flag, Int, Items, Nested, Text, Texts};

/// A snapshot event (`object: "event"`), or a thin one (`object: "v2.core.event"`) of which only the head matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) object: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    /// Unix seconds. (Thin events have RFC 3339, which reads as absent.)
    pub(super) created: Int,
    #[serde(borrow)]
    pub(super) api_version: Text<'a>,
    /// The connected account, for Connect.
    #[serde(borrow)]
    pub(super) account: Text<'a>,
    #[serde(borrow)]
    pub(super) data: Nested<Data<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub(super) object: Nested<Object<'a>>,
    pub(super) previous_attributes: Nested<Previous>,
}

/// What `*.updated` events say the object was before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Previous {
    pub(super) amount: Int,
}

/// Any object. Amounts are in Stripe's minor units.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    pub(super) amount: Int,
    pub(super) amount_received: Int,
    pub(super) amount_captured: Int,
    pub(super) amount_refunded: Int,
    pub(super) amount_capturable: Int,
    #[serde(borrow)]
    pub(super) currency: Text<'a>,
    pub(super) created: Int,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    pub(super) approved: Flag,
    pub(super) captured: Flag,
    #[serde(borrow)]
    pub(super) capture_method: Text<'a>,
    #[serde(borrow)]
    pub(super) authorization: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) card: Expandable<Card<'a>>,
    #[serde(borrow)]
    pub(super) cardholder: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) customer: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) charge: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) payment_intent: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) latest_charge: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) transaction: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) destination: Expandable<Node<'a>>,
    #[serde(borrow)]
    pub(super) metadata: Texts<'a>,
    #[serde(borrow)]
    pub(super) shared_metadata: Texts<'a>,
    #[serde(borrow)]
    pub(super) description: Text<'a>,
    #[serde(borrow)]
    pub(super) merchant_data: Nested<Merchant<'a>>,
    pub(super) pending_request: Nested<Request>,
    pub(super) request_history: Items<Nested<Request>>,
    pub(super) transactions: Items<Nested<Request>>,
    #[serde(borrow)]
    pub(super) balance_transactions: Items<Expandable<BalanceTransaction<'a>>>,
    #[serde(borrow)]
    pub(super) payment_method_options: Nested<MethodOptions<'a>>,
    #[serde(borrow)]
    pub(super) last_payment_error: Nested<PaymentError<'a>>,
    #[serde(borrow)]
    pub(super) transfer_data: Nested<TransferData<'a>>,
    #[serde(borrow)]
    pub(super) usage_details: Nested<Usage<'a>>,
    #[serde(borrow)]
    pub(super) seller_details: Nested<Party<'a>>,
    #[serde(borrow)]
    pub(super) agent_details: Nested<Party<'a>>,
}

/// A reference of which the id matters, and the metadata where the object is expanded.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) metadata: Texts<'a>,
}

impl<'a> From<Text<'a>> for Node<'a> {
    fn from(id: Text<'a>) -> Self {
        Self { id, ..Self::default() }
    }
}

/// An issued card: a whole object in authorizations, a bare id in transactions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Card<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) metadata: Texts<'a>,
    #[serde(borrow)]
    pub(super) cardholder: Expandable<Node<'a>>,
}

impl<'a> From<Text<'a>> for Card<'a> {
    fn from(id: Text<'a>) -> Self {
        Self { id, ..Self::default() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Merchant<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) network_id: Text<'a>,
    #[serde(borrow)]
    pub(super) category: Text<'a>,
    #[serde(borrow)]
    pub(super) url: Text<'a>,
}

/// An authorization's request, or a transaction inside an authorization.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    pub(super) amount: Int,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BalanceTransaction<'a> {
    pub(super) fee: Int,
    #[serde(borrow)]
    pub(super) currency: Text<'a>,
}

impl From<Text<'_>> for BalanceTransaction<'_> {
    fn from(_: Text<'_>) -> Self {
        Self::default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MethodOptions<'a> {
    #[serde(borrow)]
    pub(super) crypto: Nested<CryptoOptions<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CryptoOptions<'a> {
    #[serde(borrow)]
    pub(super) transaction_verification_options: Nested<Verification<'a>>,
}

/// The chain transaction that a crypto PaymentIntent stands for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Verification<'a> {
    #[serde(borrow)]
    pub(super) transaction_hash: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PaymentError<'a> {
    #[serde(borrow)]
    pub(super) charge: Expandable<Node<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TransferData<'a> {
    #[serde(borrow)]
    pub(super) destination: Expandable<Node<'a>>,
}

/// What was captured with a shared payment token, in total.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage<'a> {
    #[serde(borrow)]
    pub(super) amount_captured: Nested<Amount<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Amount<'a> {
    #[serde(borrow)]
    pub(super) currency: Text<'a>,
    pub(super) value: Int,
}

/// The other side of a shared payment token.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Party<'a> {
    #[serde(borrow)]
    pub(super) external_id: Text<'a>,
    #[serde(borrow)]
    pub(super) network_business_profile: Text<'a>,
}
