//! The store as the host uses it: real files, one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alerts;
mod checkpoint;
mod damage;
mod fixture;
mod journal;
mod kill;
mod open;
mod outbox;
mod retention;
