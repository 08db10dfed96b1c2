//! The host of railwatch: configuration, wiring, supervision, delivery and the command line.

pub mod config;
