//! The harness of the integration tests: a real `railwatch` process, real peers on loopback, fleets whose sums are
//! known to the cent.
//!
//! Nothing here sleeps for a fixed time: every wait asks again until the answer is there or its deadline passes, and
//! then panics with what was missing. Everything that is started ends with the value that started it.

#![expect(clippy::unwrap_used, reason = "a harness has nobody to report to: a failure is the test's failure")]

mod alertmanager;
mod browser;
mod call;
mod chain;
mod child;
mod daemon;
mod fleet;
mod gate;
mod lnbits;
mod peer;
mod recording;
mod rpc_proxy;
mod script;
mod sign;
mod spender;
mod stripe;
mod wait;
mod x402;

pub use alertmanager::Alertmanager;
pub use browser::Browser;
pub use call::{Response, call};
pub use chain::Chain;
pub use daemon::{Daemon, Home, Outcome, peer_file, python, railwatch, repo_root};
pub use fleet::{Fleet, Habit, Payment, Random, Sums};
pub use gate::{Gate, GateOptions, special};
pub use lnbits::LightningWallet;
pub use peer::{Answer, HttpPeer, Request, answers};
pub use recording::{Arrival, Incident, Recording};
pub use rpc_proxy::RpcProxy;
pub use script::Script;
pub use sign::{SECRET, form, sign_slack, sign_standard, sign_stripe};
pub use spender::{SPENDER, first_alert, overspend};
pub use stripe::StripeAccount;
pub use wait::{now, until};
pub use x402::X402Stack;
