//! Thin events name an object and carry no amount: they ring for the list of events, which has the whole of them.

use std::sync::Arc;

use railwatch_plugin::decode::{Decoded, Decoder, Message};
use tokio::sync::Notify;

use super::decode::THIN;

/// The decoder of a webhook beside which the list is read.
#[derive(Debug)]
pub(super) struct Doorbell {
    pub(super) decoder: Arc<dyn Decoder>,
    pub(super) bell: Arc<Notify>,
}

impl Decoder for Doorbell {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let before = decoded.filtered.len();
        self.decoder.decode(message, decoded);
        if decoded.filtered.iter().skip(before).any(|reason| *reason == THIN) {
            self.bell.notify_one();
        }
    }
}
