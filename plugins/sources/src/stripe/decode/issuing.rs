//! Issued cards: authorizations hold, transactions capture and refund, disputes give back.

use railwatch_model::{Direction, Kind, SmolStr, Status};
use smol_str::format_smolstr;

use super::Steps;

impl Steps<'_> {
    /// The hold of a card, and its end.
    pub(super) fn authorization(&mut self, direction: Direction, step: &str) {
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
            self.push(declined);
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
    pub(super) fn transaction(&mut self, direction: Direction, step: &str) {
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
    pub(super) fn issuing_dispute(&mut self, direction: Direction, step: &str) {
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
}
