//! The SDK: what a source, a decoder, a detector, a scorer, a rule set and a sink must be.
//!
//! This is the one crate that a plugin author imports. It defines contracts and the small values that cross them; it
//! contains no rail, no detector and no sink, and it knows neither the engine nor the store.

pub mod clock;
pub mod column;
pub mod config;
pub mod decode;
pub mod detector;
pub mod explain;
pub mod history;
pub mod http;
pub mod registry;
pub mod rules;
pub mod score;
pub mod secret;
pub mod sink;
pub mod source;

pub use railwatch_model as model;
