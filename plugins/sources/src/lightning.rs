//! Lightning: outgoing payments of LND, Core Lightning, phoenixd, LNbits and lnget, in exact millisatoshi.
//!
//! A payment is named by its hash. The money that arrives is the settle and the routing fee is a fee of its own, so
//! that both can be seen. Preimages are bearer secrets (an L402 token is a macaroon and a preimage): they are never
//! read, and rejects are kept without them.

mod accounts;
mod cln;
mod lnd;
mod node;
#[cfg(test)]
mod tests;
mod wallets;

use railwatch_model::{
    Asset, Identity, Kind, Label, Money, Payment, RefScheme, SettlementRef, SmolStr, Timestamp,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message, Reject};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::redact::redact;

pub use node::{LightningSource, LightningTable, PLUGIN};

/// The rail's name on payments.
const RAIL: SmolStr = SmolStr::new_static("lightning");

/// Keys whose values are secrets on this rail.
const SECRET_KEYS: &[&str] = &["payment_preimage", "preimage", "payment_secret", "paymentPreimage"];

/// Which software's messages are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LightningApi {
    /// LND: the lines of `/v2/router/payments` and the pages of `/v1/payments` (litd's account payments too).
    #[default]
    Lnd,
    /// Core Lightning: `listpays`, `listsendpays` and the `sendpay_*` notifications. Use either pays or sendpays in one
    /// source: the first are whole payments, the second their parts.
    Cln,
    /// phoenixd: `/payments/outgoing`.
    Phoenixd,
    /// LNbits: the wallet's WebSocket and `/api/v1/payments`.
    Lnbits,
    /// lnget: `/api/events`, which knows the URL behind each payment.
    Lnget,
}

/// What a payment that is under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InFlight {
    /// Nothing yet: most end within seconds.
    #[default]
    Ignore,
    /// A hold, which the settle captures and a failure releases.
    Hold,
}

/// Decodes the messages of one node or wallet.
#[derive(Debug, Clone)]
pub struct LightningDecoder {
    api: LightningApi,
    in_flight: InFlight,
    /// The identity of the node or wallet: the spender where the message names none that is narrower.
    node: Identity,
}

impl LightningDecoder {
    /// A decoder; `node` is the spender of last resort, such as `lnd.node` with the node's public key.
    pub fn new(api: LightningApi, in_flight: InFlight, node: Identity) -> Self {
        Self { api, in_flight, node }
    }
}

impl Decoder for LightningDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let mut rest = message.body;
        while !rest.trim_ascii().is_empty() {
            let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
            let first = values.next();
            match first {
                Some(Ok(value)) => {
                    let end = values.byte_offset();
                    self.value(value.get(), message.received_at, decoded);
                    rest = rest.get(end..).unwrap_or_default();
                }
                Some(Err(_)) | None => {
                    // Resume behind the broken line; what is cut off inside it is lost with it.
                    let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
                    let (broken, after) = rest.split_at(line);
                    if !broken.trim_ascii().is_empty() {
                        reject(decoded, "bad_json", "not a JSON value", broken, message.received_at);
                    }
                    rest = after;
                }
            }
        }
    }
}

impl LightningDecoder {
    fn value(&self, json: &str, received_at: Timestamp, decoded: &mut Decoded) {
        let mut ledger = Reports { decoder: self, received_at, decoded };
        match self.api {
            LightningApi::Lnd => lnd::read(json, &mut ledger),
            LightningApi::Cln => cln::read(json, &mut ledger),
            LightningApi::Phoenixd => wallets::phoenixd(json, &mut ledger),
            LightningApi::Lnbits => wallets::lnbits(json, &mut ledger),
            LightningApi::Lnget => wallets::lnget(json, &mut ledger),
        }
    }
}

fn reject(decoded: &mut Decoded, code: &'static str, detail: impl Into<String>, raw: &[u8], at: Timestamp) {
    let head = raw.get(..Reject::RAW_LEN_MAX).unwrap_or(raw);
    decoded.reject(code, detail, &redact(head, SECRET_KEYS, &[]), at);
}

/// Where an outgoing payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Succeeded,
    Failed,
}

/// An outgoing payment, as every API can say it.
#[derive(Debug)]
struct Outgoing {
    id: SmolStr,
    /// The payment hash, on the one report that stands for the purchase.
    hash: Option<SmolStr>,
    state: State,
    /// What arrives, in millisatoshi.
    amount_msat: i128,
    /// What the route costs, in millisatoshi.
    fee_msat: i128,
    at: Option<Timestamp>,
    /// Identities narrower than the node.
    spender: Vec<Identity>,
    payee: Option<SmolStr>,
    resource: Option<SmolStr>,
    labels: Vec<Label>,
}

/// Where the readers put what they find.
struct Reports<'a> {
    decoder: &'a LightningDecoder,
    received_at: Timestamp,
    decoded: &'a mut Decoded,
}

impl Reports<'_> {
    fn filter(&mut self, reason: &'static str) {
        self.decoded.filter(SmolStr::new_static(reason));
    }

    fn reject(&mut self, code: &'static str, detail: impl Into<String>, json: &str) {
        reject(self.decoded, code, detail, json.as_bytes(), self.received_at);
    }

    /// Turns an outgoing payment into its steps.
    fn book(&mut self, mut outgoing: Outgoing) {
        let holds = self.decoder.in_flight == InFlight::Hold;
        outgoing.spender.push(self.decoder.node.clone());
        let id = outgoing.id.clone();
        let parent = holds.then(|| id.clone());
        match outgoing.state {
            State::InFlight if holds => self.push(&outgoing, Kind::Hold, outgoing.amount_msat, None),
            State::InFlight => self.filter("in flight"),
            State::Succeeded => {
                if outgoing.amount_msat > 0 {
                    self.push(&outgoing, Kind::Settle, outgoing.amount_msat, parent);
                } else {
                    self.filter("zero amount");
                }
                if outgoing.fee_msat > 0 {
                    self.push(&outgoing, Kind::Fee, outgoing.fee_msat, Some(id));
                }
            }
            State::Failed => {
                self.push(&outgoing, Kind::Declined, outgoing.amount_msat, None);
                if holds {
                    self.push(&outgoing, Kind::Release, outgoing.amount_msat, parent);
                }
            }
        }
    }

    fn push(&mut self, outgoing: &Outgoing, kind: Kind, msat: i128, parent: Option<SmolStr>) {
        let at = outgoing.at.unwrap_or(self.received_at);
        let mut payment = Payment::settle(RAIL, outgoing.id.clone(), Money::new(msat, Asset::btc()), at);
        payment.kind = kind;
        payment.observed_at = self.received_at;
        payment.spender.clone_from(&outgoing.spender);
        payment.payee.clone_from(&outgoing.payee);
        payment.resource.clone_from(&outgoing.resource);
        payment.labels.clone_from(&outgoing.labels);
        payment.parent = parent;
        if matches!(kind, Kind::Settle | Kind::Fee) {
            let hash = outgoing.hash.clone();
            payment.settlement_refs = hash
                .map(|value| SettlementRef { scheme: RefScheme::PaymentHash, value })
                .into_iter()
                .collect();
        }
        self.decoded.payments.push(payment);
    }
}

/// A payment hash in its canonical spelling: 64 hexadecimal digits, lower case.
fn payment_hash(text: &str) -> Option<SmolStr> {
    let valid = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| text.to_ascii_lowercase().into())
}
