//! The integration tests: a real daemon, real peers, loopback only. Run them with `bash tests/run`.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a failure is the test's failure")]

mod adopt;
mod alertmanager;
mod alerts;
mod bad_input;
mod callbacks;
mod cli;
mod crash;
mod dashboard;
mod decode;
mod delivery;
mod demo;
mod equivalence;
mod files;
mod freeze;
mod gate;
mod generations;
mod node;
mod poll;
mod pressure;
mod prices;
mod rails;
mod receivers;
mod reload;
mod sight;
mod tidy;
mod totals;
mod web;
mod webhook;
mod x402;
