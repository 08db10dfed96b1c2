//! The store as the host uses it: real files, one binary.

mod fixture;
mod journal;
mod outbox;
