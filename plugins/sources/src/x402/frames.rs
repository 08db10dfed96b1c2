//! Recorded frames: what a node pushed and answered, decoded in its order, with the reorganizations among it.
//!
//! Live, a reorganization makes the session ask the node again; a recording can only be believed: blocks that a head
//! replaces are gone, and what they held counts again where the recording shows it mined anew.

use std::sync::{Mutex, MutexGuard, PoisonError};

use railwatch_model::{SmolStr, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};

use super::X402Chain;
use super::logs::{Part, read_logs, read_parts};
use super::view::View;

/// Decodes frames one after the other.
#[derive(Debug)]
pub struct X402FrameDecoder {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    view: View,
    /// Logs of one transaction, as JSON: what its payments are is known once all of them are there.
    pending: Vec<String>,
    transaction: SmolStr,
}

impl X402FrameDecoder {
    /// A decoder for one chain; a payment is confirmed once its block has `confirmations` blocks above it.
    pub fn new(chain: X402Chain, confirmations: u64) -> Self {
        let view = View::new(chain, confirmations);
        Self { state: Mutex::new(State { view, pending: Vec::new(), transaction: SmolStr::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decoder for X402FrameDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let at = message.received_at;
        let parts = match read_parts(message.body) {
            Ok(parts) => parts,
            Err(detail) => return decoded.reject("bad_json", detail, message.body, at),
        };
        let mut state = self.state();
        for part in parts {
            match part {
                Part::Log(log, json) => {
                    let transaction = log.transaction_hash.as_str();
                    if state.transaction != transaction {
                        state.settle(at, decoded);
                        state.transaction = transaction.into();
                    }
                    state.pending.push(json.to_owned());
                }
                Part::Head(head) => {
                    state.settle(at, decoded);
                    if let Some(from) = state.view.replaced_from(&head) {
                        state.view.drop_above(from.saturating_sub(1), at, decoded);
                    }
                    state.view.head(&head);
                    state.view.confirm(at, decoded);
                }
            }
        }
    }

    fn finish(&self, at: Timestamp, decoded: &mut Decoded) {
        self.state().settle(at, decoded);
    }
}

impl State {
    /// Takes the logs of a complete transaction in.
    fn settle(&mut self, at: Timestamp, decoded: &mut Decoded) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let body = format!("[{}]", pending.join(","));
        match read_logs(body.as_bytes()) {
            Ok(logs) => self.view.logs(&logs, at, decoded),
            Err(detail) => decoded.reject("bad_json", detail, body.as_bytes(), at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REORG: &str = include_str!("../../fixtures/x402/reorg_dropped_frames.json");
    const FRAMES: &str = include_str!("../../fixtures/x402/ws_frames_v2.json");

    #[track_caller]
    fn check(messages: &[&str], expected: &[&str]) {
        let chain = X402Chain::new("base-sepolia", &[], &[], &[], true).unwrap();
        let decoder = X402FrameDecoder::new(chain, 1);
        let mut decoded = Decoded::default();
        for body in messages {
            let received_at = Timestamp::from_secs(1_795_440_000);
            decoder.decode(&Message { body: body.as_bytes(), headers: None, received_at }, &mut decoded);
        }
        decoder.finish(Timestamp::from_secs(1_795_440_000), &mut decoded);
        let lines: Vec<String> = decoded
            .payments
            .iter()
            .map(|payment| format!("{:?} {}", payment.status, payment.amount.units()))
            .collect();
        assert_eq!((lines, decoded.rejects), (expected.iter().map(ToString::to_string).collect(), vec![]));
    }

    #[test]
    fn a_recording_is_decoded_in_its_order() {
        let expected = [
            "Seen 10000",
            "Confirmed 10000",
            "Seen 10000",
            "Seen 500000",
            "Confirmed 10000",
            "Confirmed 500000",
        ];
        check(&[FRAMES], &expected);
    }

    #[test]
    fn what_a_head_replaces_is_retracted() {
        let steps: serde_json::Value = serde_json::from_str(REORG).unwrap();
        let steps: Vec<String> =
            ["pay1", "pay2", "anvil_reorg depth1 (tx dropped)"].map(|step| steps[step].to_string()).to_vec();
        let messages: Vec<&str> = steps.iter().map(String::as_str).collect();
        check(&messages, &["Seen 10000", "Seen 500000", "Confirmed 10000", "Retracted 500000"]);
    }
}
