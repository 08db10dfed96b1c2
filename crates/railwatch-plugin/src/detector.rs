//! Detectors: pure functions from a subject's payments to signals.
//!
//! A detector is configuration plus functions. The engine owns its state, one value per subject and one shared by all
//! subjects, so that a reconfigured or replaced detector loses nothing. The engine calls it synchronously and in
//! journal order; a detector never reads a clock, draws a random number or does IO, and it cannot fail.

use std::time::Duration;

use chrono_tz::Tz;
use railwatch_model::{AgentId, Label, Payment, Signal, SignalKind, SmolStr, Subject, Timestamp, Usd};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A detector's opinion-forming functions.
pub trait Detector: Send + Sync + std::fmt::Debug + 'static {
    /// What it remembers of one subject. Kept small: it exists once per agent, 400,000 times on one machine.
    type State: Default + Serialize + DeserializeOwned + Send + 'static;
    /// What it remembers of all subjects together: peer groups, calibration. Use `()` for nothing.
    type Shared: Default + Serialize + DeserializeOwned + Send + 'static;

    /// The name in the configuration and the key of its state in the store.
    fn name(&self) -> &'static str;

    /// Which subjects it is asked about. The default is agents only.
    fn scope(&self) -> Scope {
        Scope::AGENTS
    }

    /// Reads one field in every 64 bytes of the state that `observe` will use, and returns anything made of them. The
    /// engine calls it for the next few payments at once: the states of a large fleet lie in memory, not in the
    /// processor's cache, and misses that wait for each other cost more than the work itself. Optional.
    fn touch(&self, _state: &Self::State) -> u32 {
        0
    }

    /// Takes a payment into account. Called once per payment and subject, in journal order.
    fn observe(&self, cx: &mut Context<'_, Self::Shared>, state: &mut Self::State, seen: &Observation<'_>);

    /// Takes the passing of time into account. Called at `cx.now` for subjects whose wake time has come, and before
    /// their alerts are reconsidered.
    fn tick(&self, cx: &mut Context<'_, Self::Shared>, state: &mut Self::State);

    /// True if it has nothing to say: no signal that it would give now fires or has a probability above zero. Where all
    /// detectors are quiet and nothing is open, signals are only asked for if a rule looks at them; that is so with
    /// most payments, and this is far cheaper to answer. `false` is never wrong.
    fn quiet(&self, _view: &View<'_, Self::Shared>, _state: &Self::State) -> bool {
        false
    }

    /// Says what it thinks now. Changes nothing; called after `observe` or `tick`, and whenever somebody looks.
    /// A signal that is usual may be left out, except by the four detectors that people always want to see.
    fn signals(&self, view: &View<'_, Self::Shared>, state: &Self::State, signals: &mut Vec<Signal>);

    /// Dollars per hour that it holds for usual in the hour of `at`, for charts: by what it knows now, so that the past
    /// is shown against today's knowledge. Only the detector that learns the baseline answers.
    fn usual_at(&self, _view: &View<'_, Self::Shared>, _state: &Self::State, _at: Timestamp) -> Option<f64> {
        None
    }
}

/// The kinds of subject that a detector is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Single agents.
    pub agents: bool,
    /// Teams.
    pub teams: bool,
    /// The fleet as one.
    pub fleet: bool,
}

impl Scope {
    /// Single agents only.
    pub const AGENTS: Self = Self { agents: true, teams: false, fleet: false };
    /// Everything.
    pub const ALL: Self = Self { agents: true, teams: true, fleet: true };
}

/// One payment as the ledger booked it for one subject.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The payment.
    pub payment: &'a Payment,
    /// What it did to the totals.
    pub booking: Booking,
    /// When it happened: `occurred_at`, not later than its arrival plus five minutes.
    pub at: Timestamp,
    /// True if it is more than two minutes behind the subject's clock: it corrects totals, budgets and shares, and
    /// is no evidence of anything happening now.
    pub late: bool,
}

/// What one report does to a subject's money. The parts are exact and signed; zero where nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Booking {
    /// Spend as it is committed: holds and settles, whichever of the two came first for one purchase; taken back by
    /// retractions. This is what velocity and shares are about.
    pub committed: Usd,
    /// Settled spend net of refunds, reversals and open disputes, fees included.
    pub settled: Usd,
    /// Change of what is held and may still be captured.
    pub held: Usd,
    /// Change of what is put aside (deposits).
    pub deposited: Usd,
    /// +1 for a purchase that was not counted before, -1 for its retraction, 0 for every other report.
    pub purchases: i32,
    /// +1 for a declined or failed attempt.
    pub declined: u32,
    /// Earnings; never offset against spend.
    pub earned: Usd,
}

/// What a detector gets along with a subject when it observes or ticks.
#[derive(Debug)]
pub struct Context<'a, Shared> {
    /// The time of the tick, or the arrival of the payment; while history is read, the time at which it happened.
    pub now: Timestamp,
    /// The subject's clock: the newest event time seen, never beyond `now` plus five minutes.
    pub clock: Timestamp,
    /// Whom it is about.
    pub subject: &'a Subject,
    /// What the configuration says about the subject.
    pub profile: &'a Profile,
    /// What the detectors before it learned about this subject; the first one publishes, the others read.
    pub usual: &'a mut Usual,
    /// The state that all subjects share.
    pub shared: &'a mut Shared,
    /// Set this to be ticked at that time, at the latest: the earliest wish of all detectors wins.
    pub wake_at: &'a mut Timestamp,
}

impl<Shared> Context<'_, Shared> {
    /// Asks for a tick at `at` or before.
    pub fn wake_by(&mut self, at: Timestamp) {
        *self.wake_at = at.min(*self.wake_at);
    }
}

/// What a detector gets when it is asked for its signals.
#[derive(Debug)]
pub struct View<'a, Shared> {
    /// The time that the signals are about.
    pub now: Timestamp,
    /// Whom they are about.
    pub subject: &'a Subject,
    /// What the configuration says about the subject.
    pub profile: &'a Profile,
    /// What the velocity detector last published for this subject.
    pub usual: &'a Usual,
    /// The state that all subjects share.
    pub shared: &'a Shared,
}

/// What is usual for a subject here and now. The velocity detector learns it; the others read it instead of learning
/// it again.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usual {
    /// Expected payments per hour in this hour of the week.
    pub payments_per_hour: f32,
    /// Expected dollars per hour in this hour of the week.
    pub usd_per_hour: f32,
    /// Mean dollars per day over the coming days.
    pub usd_per_day: f32,
    /// Variance of a day's dollars divided by their mean (dispersion), in dollars.
    pub dispersion_day: f32,
    /// Hours of the subject's life that were learned from.
    pub learned_hours: f32,
    /// How much of what is seen now should be learned: 1 normally, less while evidence of an incident stands.
    pub learn_weight: f32,
    /// Payments that were learned from.
    pub payments: u32,
    /// Mean payments per hour over all hours.
    pub payments_per_hour_mean: f32,
    /// Mean size of a cluster of payments (a session) within an hour, in payments.
    pub cluster_payments: f32,
    /// The same in dollars, single amounts capped at `amount_cap`.
    pub cluster_usd: f32,
    /// Dollars that a single payment counts for at most where the level is learned.
    pub amount_cap: f32,
    /// Mean of the natural logarithm of a payment's dollars.
    pub amount_log_mean: f32,
    /// Standard deviation of that logarithm.
    pub amount_log_sd: f32,
    /// Evidence in nats that spend stands at one and a half times its usual for long; the drift detector's business.
    pub drift_nats: f32,
    /// When that evidence began; the epoch if there is none.
    pub drift_since: Timestamp,
    /// Dollars spent beyond the usual since then.
    pub drift_excess: f32,
    /// Evidence in nats that the agent pays one payee over and over, which it does not usually do.
    pub loop_nats: f32,
    /// When that evidence began.
    pub loop_since: Timestamp,
    /// True once enough is known for evidence to mean anything.
    pub warm: bool,
    /// When the alarm that stands began; the epoch while there is none.
    pub alarm_since: Timestamp,
    /// When a detector last confirmed that alarm.
    pub alarm_at: Timestamp,
    /// The same for detectors of sudden changes only: what happens then is told already and is no drift.
    pub burst_at: Timestamp,
}

impl Usual {
    /// Evidence in nats from which nothing should be learned for a while.
    pub const ALARM_NATS: f32 = 14.0;
    const ALARM_HOLD: Duration = Duration::from_secs(2 * 3600);
    const ALARM_DAY: Duration = Duration::from_secs(86_400);

    /// A detector of a sudden change reports its evidence at `now`, so that the others stop learning from an incident.
    pub fn report(&mut self, now: Timestamp, nats: f32) {
        if nats >= Self::ALARM_NATS {
            self.burst_at = now;
        }
        self.report_lasting(now, nats);
    }

    /// A detector of a lasting change reports its evidence at `now`.
    pub fn report_lasting(&mut self, now: Timestamp, nats: f32) {
        if self.alarm_since != Timestamp::EPOCH && now.since(self.alarm_since) > 3 * Self::ALARM_DAY {
            self.alarm_since = Timestamp::EPOCH;
        }
        if nats >= Self::ALARM_NATS {
            if self.alarm_since == Timestamp::EPOCH {
                self.alarm_since = now;
            }
            self.alarm_at = now;
        }
    }

    /// True while a sudden change is told, and for two hours after.
    pub fn bursting(&self, now: Timestamp) -> bool {
        self.burst_at != Timestamp::EPOCH && now.since(self.burst_at) < Self::ALARM_HOLD
    }

    /// True while nothing should be learned: for two hours after the last alarm, and at most a day.
    pub fn frozen(&self, now: Timestamp) -> bool {
        self.alarm_since != Timestamp::EPOCH
            && now.since(self.alarm_at) < Self::ALARM_HOLD
            && now.since(self.alarm_since) < Self::ALARM_DAY
    }
}

/// What the configuration and people say about a subject.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// The team, if it is an agent in one.
    pub team: Option<SmolStr>,
    /// Agents that are expected to behave alike; the prior of a new one comes from them. Defaults to the team.
    pub peer_group: Option<SmolStr>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Budgets.
    pub budgets: Vec<Budget>,
    /// The usual velocity in dollars per hour that the owner expects, used until enough is learned.
    pub seed_usd_per_hour: Option<f64>,
    /// Announced changes that are in force or will be.
    pub announcements: Vec<Announcement>,
}

/// A planned change: signals of the named kinds are silent while it lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
    /// The kinds that are silent; empty means all but budget.
    pub kinds: Vec<SignalKind>,
    /// The rails that it is about; empty means all.
    pub rails: Vec<SmolStr>,
    /// Why, in its author's words.
    pub reason: String,
}

/// Money that a subject may spend in a period.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Its name, unique for the subject; `monthly` by default for a monthly one, and so on.
    pub name: SmolStr,
    /// How much.
    pub amount: Usd,
    /// The period.
    pub period: Period,
    /// The time zone in which periods begin.
    pub tz: Tz,
}

/// When a budget begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// On the hour.
    Hour,
    /// At midnight.
    Day,
    /// On Monday at midnight.
    Week,
    /// On the first of the month at midnight.
    Month,
    /// Never: it lasts from one instant to another.
    Fixed {
        /// The first instant.
        from: Timestamp,
        /// The end.
        until: Timestamp,
    },
}

/// The configured agent behind a profile, as the host knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The agent.
    pub id: AgentId,
    /// Its profile.
    pub profile: Profile,
    /// The rail identities that are its own: scheme, and an exact value or a glob with `*`.
    pub identities: Vec<(SmolStr, SmolStr)>,
    /// When a person must be told that it is quiet: longer than this without a payment; `None` never.
    pub quiet_after: Option<Duration>,
}
