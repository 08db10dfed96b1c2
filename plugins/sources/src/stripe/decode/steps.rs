//! What all steps have in common: amount, time, spender, payee, names.

use railwatch_model::{
    Direction, Identity, Kind, Label, Payment, RefScheme, SettlementRef, SmolStr, Timestamp,
};

use super::{RAIL, Steps};
use crate::scalar::short;
use crate::stripe::currency::money;

impl Steps<'_> {
    /// Names under which other sources may report the purchase. Only steps that move the purchase's own money carry
    /// them: a refund that did would be taken for the purchase.
    pub(super) fn refs(&self, intent: Option<&str>, charge: Option<&str>, kind: Kind) -> Vec<SettlementRef> {
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
    pub(super) fn step(&mut self, kind: Kind, direction: Direction, amount: Option<i128>) -> Option<Payment> {
        let id = SmolStr::new(self.object().id.as_str());
        self.step_of(kind, direction, amount, &id)
    }

    pub(super) fn step_of(
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
    pub(super) fn step_in(
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

    pub(super) fn push(&mut self, payment: Payment) {
        self.decoded.payments.push(payment);
    }

    pub(super) fn event_at(&self) -> Timestamp {
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
