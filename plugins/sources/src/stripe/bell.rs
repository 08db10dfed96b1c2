//! A webhook beside the list of events. Thin events name an object and carry no amount: they ring for the list, which has
//! the whole of them. Whole events are compared with what the list has.

use std::sync::Arc;

use railwatch_plugin::decode::{Decoded, Decoder, Message};
use tokio::sync::Notify;

use super::decode::THIN;
use crate::push::PushCheck;

/// The decoder of a webhook beside which the list is read.
#[derive(Debug)]
pub(super) struct Doorbell {
    pub(super) decoder: Arc<dyn Decoder>,
    pub(super) bell: Arc<Notify>,
    pub(super) check: Arc<PushCheck>,
}

impl Decoder for Doorbell {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let (payments, filtered) = (decoded.payments.len(), decoded.filtered.len());
        self.decoder.decode(message, decoded);
        self.check.pushed(decoded.payments.get(payments..).unwrap_or_default());
        if decoded.filtered.iter().skip(filtered).any(|reason| *reason == THIN) {
            self.bell.notify_one();
        }
    }
}
