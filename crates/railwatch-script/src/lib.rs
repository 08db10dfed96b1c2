//! Scripts: rules, scores and rail decoders in Lua (Luau), sandboxed, bounded, tested on every load.
//!
//! This crate turns text into implementations of the plugin contracts
//! ([`RuleSet`](railwatch_plugin::rules::RuleSet), [`Scorer`](railwatch_plugin::score::Scorer),
//! [`Decoder`](railwatch_plugin::decode::Decoder)). It reads no file but through [`read_dir`] and [`read_script`], knows neither the engine
//! nor the store, and nothing in it depends on the wall clock but the deadline that stops a runaway script.
//!
//! Invariants: a script cannot send, sleep, or read time, files, network or another script; a call ends within its
//! deadline; a failing call changes nothing and is shown with the payment that caused it; a script whose own tests fail
//! does not load.

mod arena;
mod error;
mod files;
#[cfg(test)]
mod hostile;
mod json;
mod limits;
mod native;
mod payment;
mod rail;
mod reference;
mod repl;
mod rule;
mod score;
mod scripts;
mod sim;
mod spec;
mod state;
mod status;
mod testing;
mod time;
mod value;
mod view;
mod vm;

pub use error::ScriptError;
pub use files::{read_dir, read_script};
pub use limits::{Limits, Monotonic, system_monotonic};
pub use rail::LuaDecoder;
pub use reference::{reference, types};
pub use repl::evaluate;
pub use rule::LuaRules;
pub use score::LuaScore;
pub use scripts::{DEFAULT_SCORE, Files, Scripts, run_tests};
pub use status::{Health, LastError, ScriptKind, ScriptStatus, StatusHandle};
pub use testing::TestReport;
