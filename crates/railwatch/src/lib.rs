//! The host of railwatch: configuration, wiring, supervision, delivery and the command line.

pub mod cli;
pub mod config;
mod documents;
pub mod host;
pub mod plugins;
