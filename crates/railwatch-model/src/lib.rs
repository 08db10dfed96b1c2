//! The nouns and laws of railwatch: money, time, payments, signals, alerts and notices.
//!
//! Everything here is a value: no IO, no async, no clock, no randomness, and no float ever touches an amount.
//! Every other crate imports this one; it imports none of them.
#![warn(clippy::arithmetic_side_effects)]

mod alert;
mod condition;
mod freeze;
mod identity;
mod journal;
mod matcher;
mod money;
mod notice;
mod payment;
mod signal;
mod silence;
mod task;
mod time;
mod totals;

pub use alert::{Alert, AlertId, AlertState, Contribution, IncidentId, Severity, Subject, Trigger};
pub use condition::{Condition, ConditionKind, Holding};
pub use freeze::{Freeze, FreezeId, FreezeStage, GateOrder, GateOutcome, GateVerb, GateWord};
pub use identity::{AgentId, AgentVia, Identity, Label};
pub use journal::{Action, Admitted, Disposition, Record, ReviewVerdict, Seq};
pub use matcher::{Facts, Matcher, SeverityRange, glob};
pub use money::{Asset, Money, MoneyError, Rate, Usd, Valuation};
pub use notice::{Notice, NoticeId, Occasion, Report, Section};
pub use payment::{Direction, Kind, Payment, RefScheme, SettlementRef, Status};
pub use signal::{Basis, Signal, SignalKind, Unit, Verdict};
pub use silence::{Silence, SilenceId};
pub use task::TaskReport;
pub use time::{Timestamp, TimestampError};
pub use totals::Totals;

/// A short immutable string: ids, names and codes of up to 23 bytes live inline without an allocation.
pub use smol_str::SmolStr;
