//! Stripe events → payments.

use railwatch_model::{
    Direction, Identity, Kind, Label, Payment, RefScheme, SettlementRef, SmolStr, Status, Timestamp,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message, Reject};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use smol_str::format_smolstr;

use super::currency::money;
use super::object::{Event, Object, Party};
use super::{RefundEvents, StripeMapping};
use crate::redact::redact;

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

    fn event(&self, body: &[u8], received_at: Timestamp, decoded: &mut Decoded) {
        let event: Event<'_> = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(error) => {
                let place = format!("not JSON: line {}, column {}", error.line(), error.column());
                return reject(decoded, "bad_json", place, body, received_at);
            }
        };
        match event.object.as_str() {
            "event" => {
                let mut steps = Steps { mapping: &self.mapping, event: &event, body, received_at, decoded };
                steps.read();
            }
            "v2.core.event" => decoded.filter(THIN),
            "list" => self.page(body, received_at, decoded),
            _ => {
                let detail = "/object must be \"event\", \"v2.core.event\" or \"list\"";
                reject(decoded, "bad_shape", detail, body, received_at);
            }
        }
    }

    /// Events in the order in which they happened; a page has the newest first.
    fn page(&self, body: &[u8], received_at: Timestamp, decoded: &mut Decoded) {
        match serde_json::from_slice::<Page<'_>>(body) {
            Ok(page) => {
                for event in page.data.iter().rev() {
                    let event = event.get().as_bytes();
                    // A page inside a page is nonsense, and must not recurse.
                    match serde_json::from_slice::<Event<'_>>(event) {
                        Ok(head) if head.object.as_str() == "list" => {
                            reject(decoded, "bad_shape", "a list inside a list", event, received_at);
                        }
                        _ => self.event(event, received_at, decoded),
                    }
                }
            }
            Err(_) => reject(decoded, "bad_shape", "/data must be a list of events", body, received_at),
        }
    }
}

impl Decoder for StripeDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        self.event(message.body, message.received_at, decoded);
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

    /// The hold of a card, and its end.
    fn authorization(&mut self, direction: Direction, step: &str) {
        let object = self.object();
        let before = self.event.data.0.previous_attributes.0.amount.get();
        match (step, object.status.as_str()) {
            ("created" | "updated", _) if object.approved.get() == Some(false) => {
                self.declined_authorization(direction);
            }
            ("created", "reversed" | "expired") | ("updated", "reversed" | "expired" | "closed") => {
                self.end_of_hold(direction, before);
            }
            ("updated", _) if before.is_some_and(|before| Some(before) > object.amount.get()) => {
                self.partial_release(direction, before.unwrap_or_default());
            }
            ("updated", _) if before.is_some_and(|before| before > 0) => {
                self.raise(direction, before.unwrap_or_default())
            }
            ("created" | "updated", _) => {
                if let Some(hold) = self.step(Kind::Hold, direction, object.amount.get()) {
                    self.push(hold);
                }
            }
            _ => self.filter("authorization request without a decision"),
        }
    }

    fn declined_authorization(&mut self, direction: Direction) {
        let object = self.object();
        let requested = object.request_history.0.first().map(|request| request.0.amount);
        let tried = [Some(object.amount), Some(object.pending_request.0.amount), requested];
        let tried = tried.into_iter().flatten().filter_map(|amount| amount.get()).find(|amount| *amount != 0);
        if let Some(declined) =
            self.step_of(Kind::Declined, direction, tried.or(Some(0)), self.object().id.as_str())
        {
            self.decoded.payments.push(declined);
        }
    }

    /// Frees what the authorization held and its transactions did not capture.
    fn end_of_hold(&mut self, direction: Direction, before: Option<i128>) {
        let object = self.object();
        let last_request = object.request_history.0.iter().rev().find_map(|request| request.0.amount.get());
        let held = before.or(object.amount.get()).filter(|held| *held > 0).or(last_request);
        let captured = object.transactions.0.iter().filter_map(|transaction| transaction.0.amount.get());
        let captured = captured.fold(0_i128, |sum, amount| sum.saturating_sub(amount)).max(0);
        let freed = held.map(|held| held.saturating_sub(captured));
        if freed.is_some_and(|freed| freed <= 0) {
            return self.filter("authorization closed by its captures");
        }
        if let Some(mut release) = self.step(Kind::Release, direction, freed) {
            release.parent = Some(release.id.clone());
            release.occurred_at = self.event_at();
            self.push(release);
        }
    }

    /// Part of a hold was freed; the id names the change, so that a second report of it is the same step.
    fn partial_release(&mut self, direction: Direction, before: i128) {
        let object = self.object();
        let now = object.amount.get().unwrap_or_default();
        if let Some(mut release) = self.step(Kind::Release, direction, Some(before.saturating_sub(now))) {
            release.parent = Some(release.id.clone());
            release.id = format_smolstr!("{}:{before}-{now}", release.id);
            release.occurred_at = self.event_at();
            self.push(release);
        }
    }

    /// A hold was raised (an incremental authorization): the difference is a hold that belongs to the first.
    fn raise(&mut self, direction: Direction, before: i128) {
        let now = self.object().amount.get().unwrap_or_default();
        if let Some(mut raise) = self.step(Kind::Hold, direction, Some(now.saturating_sub(before))) {
            raise.parent = Some(raise.id.clone());
            raise.id = format_smolstr!("{}:{before}-{now}", raise.id);
            raise.occurred_at = self.event_at();
            self.push(raise);
        }
    }

    /// Captures and refunds of a card. Stripe's sign: negative is a purchase.
    fn transaction(&mut self, direction: Direction, step: &str) {
        if step != "created" {
            return self.filter("enrichment without money");
        }
        let object = self.object();
        let Some(amount) = object.amount.get() else {
            return self.reject("bad_amount", "/data/object/amount must be an integer");
        };
        let kind = if amount < 0 { Kind::Settle } else { Kind::Refund };
        if let Some(mut payment) = self.step(kind, direction, Some(amount.saturating_abs())) {
            payment.parent = self.object().authorization.0.id.get().map(SmolStr::new);
            self.push(payment);
        }
    }

    /// The cardholder's side: money comes back at `funds_reinstated` and is taken again at `funds_rescinded`.
    fn issuing_dispute(&mut self, direction: Direction, step: &str) {
        let status = match step {
            "funds_reinstated" => Status::Confirmed,
            "funds_rescinded" => Status::Retracted,
            _ => return self.filter("dispute without money"),
        };
        if let Some(mut refund) = self.step(Kind::Refund, direction, self.object().amount.get()) {
            refund.status = status;
            refund.occurred_at = self.event_at();
            refund.parent = self.object().transaction.0.id.get().map(SmolStr::new);
            self.push(refund);
        }
    }

    /// A shared payment token was used; the event shows the total captured so far. The token itself is a secret, so a
    /// hash of it stands for it.
    fn shared_token(&mut self, direction: Direction, step: &str) {
        if step != "used" {
            return self.filter("token without use");
        }
        let object = self.object();
        let total = &object.usage_details.0.amount_captured.0;
        let id = format_smolstr!("spt#{direction:?}#{}", fingerprint(object.id.as_str())).to_lowercase();
        let Some(amount) = total.value.get() else {
            return self
                .reject("bad_amount", "/data/object/usage_details/amount_captured/value must be an integer");
        };
        let (total_currency, seller) = (total.currency.as_str(), self.payee_of_token());
        if let Some(mut settle) = self.step_in(Kind::Settle, direction, Some(amount), total_currency, &id) {
            settle.running_total = true;
            settle.occurred_at = self.event_at();
            settle.payee = seller;
            settle.spender.push(Identity::new("stripe.spt", id));
            self.push(settle);
        }
    }

    fn payee_of_token(&self) -> Option<SmolStr> {
        let Party { external_id, network_business_profile } = &self.object().seller_details.0;
        network_business_profile.get().or(external_id.get()).map(short)
    }

    /// A charge: part of its PaymentIntent if it has one, so that both are one step.
    fn charge(&mut self, direction: Direction, step: &str) {
        let object = self.object();
        let is_captured = object.captured.get() != Some(false);
        let captured = object.amount_captured.get().filter(|amount| *amount > 0).or(object.amount.get());
        let (kind, amount) = match step {
            "succeeded" if is_captured => (Kind::Settle, captured),
            "captured" => (Kind::Settle, captured),
            "succeeded" => (Kind::Hold, object.amount.get()),
            "expired" => (Kind::Release, object.amount.get()),
            "refunded" if !is_captured => (Kind::Release, object.amount_refunded.get()),
            "refunded" if self.mapping.refunds == RefundEvents::Charge => {
                (Kind::Refund, object.amount_refunded.get())
            }
            "refunded" => return self.filter("counted by refund events"),
            "failed" => (Kind::Declined, object.amount.get()),
            "pending" | "updated" => return self.filter("charge without money"),
            _ => return self.filter("unknown event type"),
        };
        let id = match kind {
            Kind::Declined => object.id.as_str(),
            _ => self.purchase(),
        };
        let Some(mut payment) = self.step_of(kind, direction, amount, id) else { return };
        payment.parent = match kind {
            Kind::Refund | Kind::Release => Some(payment.id.clone()),
            Kind::Settle if step == "captured" => Some(payment.id.clone()),
            _ => None,
        };
        payment.running_total = kind == Kind::Refund;
        if matches!(step, "captured" | "expired" | "refunded") {
            payment.occurred_at = self.event_at();
        }
        payment.settlement_refs =
            self.refs(self.object().payment_intent.0.id.get(), self.object().id.get(), kind);
        self.push(payment);
    }

    fn payment_intent(&mut self, direction: Direction, step: &str) {
        let object = self.object();
        let attempt = object.latest_charge.0.id.get().or(object.last_payment_error.0.charge.0.id.get());
        let is_manual = object.capture_method.as_str() == "manual";
        let (kind, amount, id) = match step {
            // Servers of old API versions leave `amount_received` out; what succeeded was received.
            "succeeded" => {
                (Kind::Settle, object.amount_received.get().or(object.amount.get()), object.id.get())
            }
            "amount_capturable_updated" => (Kind::Hold, object.amount_capturable.get(), object.id.get()),
            "canceled" if is_manual && attempt.is_some() => {
                (Kind::Release, object.amount.get(), object.id.get())
            }
            "payment_failed" => (Kind::Declined, object.amount.get(), attempt.or(object.id.get())),
            _ => return self.filter("payment intent without money"),
        };
        let Some(mut payment) = self.step_of(kind, direction, amount, id.unwrap_or_default()) else { return };
        payment.occurred_at = self.event_at();
        payment.parent = match kind {
            Kind::Release => Some(payment.id.clone()),
            Kind::Settle if is_manual => Some(payment.id.clone()),
            _ => None,
        };
        payment.settlement_refs = self.refs(self.object().id.get(), attempt, kind);
        self.push(payment);
    }

    /// Single refunds, where they are the ones that count.
    fn refund(&mut self, direction: Direction, step: &str) {
        if self.mapping.refunds != RefundEvents::Refund {
            return self.filter("counted by charge.refunded");
        }
        let object = self.object();
        let status = match (step, object.status.as_str()) {
            ("failed", _) | ("updated", "failed" | "canceled") => Status::Retracted,
            ("created" | "updated", _) => Status::Confirmed,
            _ => return self.filter("unknown event type"),
        };
        if let Some(mut refund) = self.step(Kind::Refund, direction, object.amount.get()) {
            refund.status = status;
            refund.parent = self.parent_purchase();
            self.push(refund);
        }
    }

    /// The seller's side: money moves at `funds_withdrawn` and comes back at `funds_reinstated`, each with its fee.
    fn charge_dispute(&mut self, direction: Direction, step: &str) {
        let status = match step {
            "funds_withdrawn" => Status::Confirmed,
            "funds_reinstated" => Status::Retracted,
            _ => return self.filter("dispute without money"),
        };
        let Some(mut dispute) = self.step(Kind::Dispute, direction, self.object().amount.get()) else {
            return;
        };
        dispute.status = status;
        dispute.parent = self.parent_purchase();
        dispute.occurred_at = self.event_at();
        let (id, at) = (dispute.id.clone(), dispute.occurred_at);
        self.push(dispute);
        if let Some((fee, currency)) = self.dispute_fee(status) {
            let fee_id = format_smolstr!("{id}:fee");
            if let Some(mut fee) = self.step_in(Kind::Fee, direction, Some(fee), &currency, &fee_id) {
                fee.status = status;
                fee.parent = Some(id);
                fee.occurred_at = at;
                self.push(fee);
            }
        }
    }

    /// The fee that was charged, or that is given back: a withdrawal has one positive fee; a reinstatement that
    /// returns it adds a negative one.
    fn dispute_fee(&self, status: Status) -> Option<(i128, SmolStr)> {
        let lines = || self.object().balance_transactions.0.iter();
        let fees = || lines().filter_map(|line| line.0.fee.get());
        let charged = fees().filter(|fee| *fee > 0).fold(0_i128, |sum, fee| sum.saturating_add(fee));
        let net = fees().fold(0_i128, |sum, fee| sum.saturating_add(fee));
        let currency = lines().find_map(|line| line.0.currency.get()).map(SmolStr::new)?;
        let counts = charged > 0 && (status == Status::Confirmed || net <= 0);
        counts.then_some((charged, currency))
    }

    fn topup(&mut self, direction: Direction, step: &str) {
        match step {
            "succeeded" => self.plain(Kind::Deposit, direction, Status::Confirmed),
            "reversed" => self.plain(Kind::Deposit, direction, Status::Retracted),
            _ => self.filter("top-up without money"),
        }
    }

    fn payout(&mut self, direction: Direction, step: &str) {
        let family = self.event.kind.as_str().split('.').next().unwrap_or_default();
        match (family, step) {
            ("payout", "paid") | ("transfer", "created") | ("treasury", "posted") => {
                self.plain(Kind::Settle, direction, Status::Confirmed);
            }
            ("payout", "failed" | "canceled") | ("treasury", "returned") => {
                self.plain(Kind::Settle, direction, Status::Retracted);
            }
            _ => self.filter("payout without money"),
        }
    }

    fn plain(&mut self, kind: Kind, direction: Direction, status: Status) {
        if let Some(mut payment) = self.step(kind, direction, self.object().amount.get()) {
            payment.status = status;
            payment.payee = self.object().destination.0.id.get().map(SmolStr::new);
            self.push(payment);
        }
    }

    /// The id that a charge and its PaymentIntent share.
    fn purchase(&self) -> &'a str {
        let object = self.object();
        object.payment_intent.0.id.get().unwrap_or(object.id.as_str())
    }

    /// The same for objects that refer to a charge.
    fn parent_purchase(&self) -> Option<SmolStr> {
        let object = self.object();
        object.payment_intent.0.id.get().or(object.charge.0.id.get()).map(SmolStr::new)
    }

    /// Names under which other sources may report the purchase. Only steps that move the purchase's own money carry
    /// them: a refund that did would be taken for the purchase.
    fn refs(&self, intent: Option<&str>, charge: Option<&str>, kind: Kind) -> Vec<SettlementRef> {
        if !matches!(kind, Kind::Hold | Kind::Settle) {
            return Vec::new();
        }
        let challenge = self.object().metadata.get("challenge_id");
        [
            (RefScheme::StripePi, intent),
            (RefScheme::StripeCharge, charge),
            (RefScheme::MppChallenge, challenge),
        ]
        .into_iter()
        .filter_map(|(scheme, value)| Some(SettlementRef { scheme, value: value?.into() }))
        .collect()
    }

    /// A step of the event's own object, in its currency.
    fn step(&mut self, kind: Kind, direction: Direction, amount: Option<i128>) -> Option<Payment> {
        let id = SmolStr::new(self.object().id.as_str());
        self.step_of(kind, direction, amount, &id)
    }

    fn step_of(
        &mut self,
        kind: Kind,
        direction: Direction,
        amount: Option<i128>,
        id: &str,
    ) -> Option<Payment> {
        let (id, currency) = (SmolStr::new(id), SmolStr::new(self.object().currency.as_str()));
        self.step_in(kind, direction, amount, &currency, &id)
    }

    /// A step with everything that all objects have in common; `None`, with the reason recorded, if there is none.
    fn step_in(
        &mut self,
        kind: Kind,
        direction: Direction,
        amount: Option<i128>,
        currency: &str,
        id: &str,
    ) -> Option<Payment> {
        let Some(amount) = amount.filter(|amount| *amount >= 0) else {
            self.reject(
                "bad_amount",
                format!("{}: the amount is missing or negative", self.event.kind.as_str()),
            );
            return None;
        };
        if amount == 0 && kind != Kind::Declined {
            self.filter("zero amount");
            return None;
        }
        let amount = match money(amount, currency, &self.mapping.currency_decimals) {
            Ok(amount) => amount,
            Err(error) => {
                self.reject("unknown_currency", format!("/data/object/currency: {error}"));
                return None;
            }
        };
        let object = self.object();
        let created = object.created.get().and_then(|secs| Timestamp::from_number(secs).ok());
        let mut payment = Payment::settle(RAIL, id, amount, created.unwrap_or_else(|| self.event_at()));
        payment.kind = kind;
        payment.direction = direction;
        payment.observed_at = self.received_at;
        payment.spender = self.spender();
        payment.payee = self.payee();
        payment.resource = self.resource();
        payment.labels = self.labels();
        Some(payment)
    }

    fn push(&mut self, payment: Payment) {
        self.decoded.payments.push(payment);
    }

    fn event_at(&self) -> Timestamp {
        let created = self.event.created.get().and_then(|secs| Timestamp::from_number(secs).ok());
        created.unwrap_or(self.received_at)
    }

    /// The agent that signed metadata names, then the rail's own identifiers from the narrowest to the widest.
    fn spender(&self) -> Vec<Identity> {
        let object = self.object();
        let card = &object.card.0;
        let holders = [&object.cardholder.0, &card.cardholder.0];
        let key = self.mapping.agent_metadata.as_str();
        let metadata = [&object.metadata, &object.shared_metadata, &card.metadata];
        let metadata = metadata.into_iter().chain(holders.map(|holder| &holder.metadata));
        let agent = metadata.map(|texts| texts.get(key)).find(Option::is_some).flatten();
        let holder = holders.into_iter().find_map(|holder| holder.id.get());
        [
            (Identity::AGENT, agent.filter(|_| !key.is_empty())),
            ("stripe.card", card.id.get()),
            ("stripe.cardholder", holder),
            ("stripe.customer", object.customer.0.id.get()),
            ("stripe.account", self.event.account.get()),
        ]
        .into_iter()
        .filter_map(|(scheme, value)| Some(Identity::new(SmolStr::new_static(scheme), value?)))
        .collect()
    }

    fn payee(&self) -> Option<SmolStr> {
        let object = self.object();
        let merchant = &object.merchant_data.0;
        let destination = object.transfer_data.0.destination.0.id.get();
        merchant.name.get().or(merchant.network_id.get()).or(destination).map(short)
    }

    fn resource(&self) -> Option<SmolStr> {
        let object = self.object();
        let merchant = &object.merchant_data.0;
        merchant.url.get().or(merchant.category.get()).or(object.description.get()).map(short)
    }

    fn labels(&self) -> Vec<Label> {
        let verified = &self.object().payment_method_options.0.crypto.0.transaction_verification_options.0;
        [("stripe_api_version", self.event.api_version.get()), ("evm_tx", verified.transaction_hash.get())]
            .into_iter()
            .filter_map(|(key, value)| Some(Label { key: SmolStr::new_static(key), value: value?.into() }))
            .collect()
    }
}

/// The first 64 bits of SHA-256, in hex.
fn fingerprint(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()).get(..8).unwrap_or_default())
}

/// Names that other people write are cut to a length that an alert can show.
fn short(text: &str) -> SmolStr {
    match text.char_indices().nth(200) {
        Some((len, _)) => text.get(..len).unwrap_or_default().into(),
        None => text.into(),
    }
}
