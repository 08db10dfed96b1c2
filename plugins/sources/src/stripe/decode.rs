//! Stripe events → payments.

mod charges;
mod issuing;
mod steps;

use railwatch_model::{Direction, SmolStr, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message, Reject};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::StripeMapping;
use super::object::{Event, Object};
use crate::redact::redact;
use crate::scalar::from_json;

/// The rail's name on payments.
const RAIL: SmolStr = SmolStr::new_static("stripe");

/// The reason for which thin events are left out: they hold no amount.
pub(super) const THIN: SmolStr = SmolStr::new_static("thin event");

/// Decodes snapshot events, alone or as a page of `GET /v1/events`.
#[derive(Debug, Clone, Default)]
pub struct StripeDecoder {
    mapping: StripeMapping,
}

/// A page of `GET /v1/events`.
#[derive(Debug, Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
}

impl StripeDecoder {
    /// A decoder with this mapping.
    pub fn new(mapping: StripeMapping) -> Self {
        Self { mapping }
    }

    fn event(&self, event: &Event<'_>, body: &[u8], received_at: Timestamp, decoded: &mut Decoded) {
        match event.object.as_str() {
            "event" => {
                let mut steps = Steps { mapping: &self.mapping, event, body, received_at, decoded };
                steps.read();
            }
            "v2.core.event" => decoded.filter(THIN),
            _ => {
                let detail = "/object must be \"event\", \"v2.core.event\" or \"list\"";
                reject(decoded, "bad_shape", detail, body, received_at);
            }
        }
    }

    /// Events in the order in which they happened; a page has the newest first.
    fn page(&self, body: &[u8], received_at: Timestamp, decoded: &mut Decoded) {
        match from_json::<Page<'_>>(body) {
            Ok(page) => {
                for item in page.data.iter().rev() {
                    let body = item.get().as_bytes();
                    // A page inside a page is nonsense, and is no event.
                    match serde_json::from_str::<Event<'_>>(item.get()) {
                        Ok(event) => self.event(&event, body, received_at, decoded),
                        Err(_) => {
                            reject(decoded, "bad_shape", "an event must be an object", body, received_at)
                        }
                    }
                }
            }
            Err(_) => reject(decoded, "bad_shape", "/data must be a list of events", body, received_at),
        }
    }
}

impl Decoder for StripeDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let (body, at) = (message.body, message.received_at);
        match from_json::<Event<'_>>(body) {
            Ok(event) if event.object.as_str() == "list" => self.page(body, at, decoded),
            Ok(event) => self.event(&event, body, at, decoded),
            Err(error) => {
                let place = format!("not JSON: line {}, column {}", error.line(), error.column());
                reject(decoded, "bad_json", place, body, at);
            }
        }
    }
}

/// Keeps the evidence without `client_secret` and shared payment tokens.
fn reject(decoded: &mut Decoded, code: &'static str, detail: impl Into<String>, body: &[u8], at: Timestamp) {
    let head = body.get(..Reject::RAW_LEN_MAX).unwrap_or(body);
    decoded.reject(code, detail, &redact(head, &["client_secret"], &["spt_"]), at);
}

/// One event on its way to payments.
struct Steps<'a> {
    mapping: &'a StripeMapping,
    event: &'a Event<'a>,
    body: &'a [u8],
    received_at: Timestamp,
    decoded: &'a mut Decoded,
}

impl<'a> Steps<'a> {
    fn read(&mut self) {
        let kind = self.event.kind.as_str();
        let directions = &self.mapping.directions;
        let (family, step) = kind.rsplit_once('.').unwrap_or((kind, ""));
        let (direction, read): (Direction, fn(&mut Self, Direction, &str)) = match family {
            "issuing_authorization" => (directions.issuing, Self::authorization),
            "issuing_transaction" => (directions.issuing, Self::transaction),
            "issuing_dispute" => (directions.issuing, Self::issuing_dispute),
            "shared_payment.issued_token" => (directions.issued_token, Self::shared_token),
            "shared_payment.granted_token" => (directions.granted_token, Self::shared_token),
            "charge" => (directions.charge, Self::charge),
            "payment_intent" => (directions.charge, Self::payment_intent),
            "refund" => (directions.charge, Self::refund),
            "charge.dispute" => (directions.charge, Self::charge_dispute),
            "topup" => (directions.topup, Self::topup),
            "payout" | "transfer" | "treasury.outbound_payment" => (directions.payout, Self::payout),
            "charge.refund" | "issuing_card" | "issuing_cardholder" | "billing.alert" => {
                return self.filter("event without money");
            }
            _ => return self.filter("unknown event type"),
        };
        if direction == Direction::Ignore {
            return self.filter("ignored by direction");
        }
        if self.object().id.get().is_none() {
            return self.reject("no_id", "/data/object/id is missing");
        }
        read(self, direction, step);
    }

    fn object(&self) -> &'a Object<'a> {
        let event: &'a Event<'a> = self.event;
        &event.data.0.object.0
    }

    fn filter(&mut self, reason: &'static str) {
        self.decoded.filter(SmolStr::new_static(reason));
    }

    fn reject(&mut self, code: &'static str, detail: impl Into<String>) {
        reject(self.decoded, code, detail, self.body, self.received_at);
    }
}
