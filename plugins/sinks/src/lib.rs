//! Sinks: the ways in which railwatch tells people. One file per target over one shared `http` module.
//!
//! A sink lays out a message for its target, sends it once and says what happened. It keeps no queue, retries
//! nothing, and reads its secrets anew at every delivery. What every sink holds to:
//!
//! - names, memos and peers' answers are hostile: they are cleaned once and escaped for the target, so that none of
//!   them can mention a channel, format, link, reorder or end a line;
//! - every part of a message has a limit, and a cut is marked with `…`;
//! - no error shows a URL or a credential.

mod alertmanager;
mod discord;
mod email;
mod endpoint;
mod file;
mod gate;
mod heartbeat;
mod http;
mod message;
mod ntfy;
mod opsgenie;
mod pagerduty;
mod payload;
mod signature;
mod slack;
mod slack_bot;
mod stripe_issuing;
mod teams;
mod telegram;
mod terminal;
mod text;
mod webhook;

#[cfg(test)]
mod testing;

use railwatch_plugin::registry::SinkPlugin;

/// Every sink that configuration can name.
pub const SINKS: &[SinkPlugin] = &[
    terminal::PLUGIN,
    file::PLUGIN,
    slack::PLUGIN,
    slack_bot::PLUGIN,
    webhook::PLUGIN,
    telegram::PLUGIN,
    discord::PLUGIN,
    teams::PLUGIN,
    email::PLUGIN,
    ntfy::PLUGIN,
    pagerduty::PLUGIN,
    opsgenie::PLUGIN,
    alertmanager::PLUGIN,
    heartbeat::PLUGIN,
    gate::PLUGIN,
    stripe_issuing::PLUGIN,
];

#[cfg(test)]
mod tests;
