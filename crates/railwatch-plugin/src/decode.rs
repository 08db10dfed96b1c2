//! Decoding: bytes in, payments and rejects out. Pure, so that recorded bytes are its tests.

use bytes::Bytes;
use railwatch_model::{Payment, SmolStr, TaskReport, Timestamp};

/// One message from a rail, verified and complete.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The body as it came.
    pub body: &'a [u8],
    /// HTTP headers, where the transport has them.
    pub headers: Option<&'a http::HeaderMap>,
    /// When it was received.
    pub received_at: Timestamp,
}

/// What a decoder made of a message.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Decoded {
    /// Payments, in the message's order.
    pub payments: Vec<Payment>,
    /// Tasks that agents finished, in the message's order.
    pub tasks: Vec<TaskReport>,
    /// Parts that could not be understood: counted, sampled and kept for `railwatch rejects`.
    pub rejects: Vec<Reject>,
    /// Parts that were understood and deliberately left out, with the reason; never counted as lost.
    pub filtered: Vec<SmolStr>,
}

impl Decoded {
    /// Records a part that could not be understood.
    pub fn reject(&mut self, code: &'static str, detail: impl Into<String>, raw: &[u8], at: Timestamp) {
        self.rejects.push(Reject::new(code, detail, raw, at));
    }

    /// Records a part that is deliberately not a payment.
    pub fn filter(&mut self, reason: impl Into<SmolStr>) {
        self.filtered.push(reason.into());
    }

    /// True if the message held nothing at all.
    pub fn is_empty(&self) -> bool {
        self.payments.is_empty()
            && self.tasks.is_empty()
            && self.rejects.is_empty()
            && self.filtered.is_empty()
    }
}

/// A part of a message that is not a payment that railwatch understands.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// A stable code for metrics: `bad_json`, `no_agent`, `bad_amount`, `unknown_currency`, `bad_time`, `too_large`, …
    pub code: &'static str,
    /// What is wrong, where (a JSON pointer or column), and what would be accepted.
    pub detail: String,
    /// The first [`Reject::RAW_LEN_MAX`] bytes of the part.
    pub raw: Bytes,
    /// When it was received.
    pub at: Timestamp,
}

impl Reject {
    /// Bytes of the offending part that are kept.
    pub const RAW_LEN_MAX: usize = 4096;

    /// A reject that keeps the beginning of the offending bytes.
    pub fn new(code: &'static str, detail: impl Into<String>, raw: &[u8], at: Timestamp) -> Self {
        let raw = Bytes::copy_from_slice(raw.get(..Self::RAW_LEN_MAX).unwrap_or(raw));
        Self { code, detail: detail.into(), raw, at }
    }
}

/// Turns messages into payments. Built-in ones live beside their rail, declarative ones come from TOML field paths,
/// and Lua files make the third kind; the transport does not know which it has.
pub trait Decoder: Send + Sync + std::fmt::Debug {
    /// Called once per message, on the source's task. Never fails: what is wrong becomes a reject.
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded);

    /// Called at the end of a recording, and never live: gives out what was held back in case it goes on.
    fn finish(&self, _at: Timestamp, _decoded: &mut Decoded) {}
}
