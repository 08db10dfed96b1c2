//! Charges, PaymentIntents, shared payment tokens, refunds and disputes of them; top-ups and payouts.

use railwatch_model::{Direction, Identity, Kind, SmolStr, Status};
use sha2::{Digest, Sha256};
use smol_str::format_smolstr;

use super::Steps;
use crate::scalar::short;
use crate::stripe::RefundEvents;
use crate::stripe::object::Party;

impl<'a> Steps<'a> {
    /// A shared payment token was used; the event shows the total captured so far. The token itself is a secret, so a
    /// hash of it stands for it.
    pub(super) fn shared_token(&mut self, direction: Direction, step: &str) {
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
    pub(super) fn charge(&mut self, direction: Direction, step: &str) {
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

    pub(super) fn payment_intent(&mut self, direction: Direction, step: &str) {
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
    pub(super) fn refund(&mut self, direction: Direction, step: &str) {
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
    pub(super) fn charge_dispute(&mut self, direction: Direction, step: &str) {
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

    pub(super) fn topup(&mut self, direction: Direction, step: &str) {
        match step {
            "succeeded" => self.plain(Kind::Deposit, direction, Status::Confirmed),
            "reversed" => self.plain(Kind::Deposit, direction, Status::Retracted),
            _ => self.filter("top-up without money"),
        }
    }

    pub(super) fn payout(&mut self, direction: Direction, step: &str) {
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
}

/// The first 64 bits of SHA-256, in hex.
fn fingerprint(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()).get(..8).unwrap_or_default())
}
