//! The virtual world that a rule's tests run in: fed payments, a clock that moves by minutes, alerts that hold and
//! clear. It has no engine and no detectors; signals and scores are what the test says they are.

use std::collections::BTreeMap;
use std::time::Duration;

use railwatch_model::{Kind, Payment, Signal, SmolStr, Subject, Timestamp, Usd};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::history::{Dimension, Filter, HistoryView};
use railwatch_plugin::rules::{RuleInfo, RuleState};
use railwatch_plugin::score::{Case, Signals};

/// Payments of one test.
pub(crate) const FEED_MAX: usize = 2_000;
/// Evaluations of one test.
const EVALUATIONS_MAX: usize = 20_000;
/// How long after a payment the clock still moves minute by minute.
const BUSY: Duration = Duration::from_secs(3 * 3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// What a test starts from.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) signals: Vec<Signal>,
    pub(crate) score: f64,
    pub(crate) profile: Profile,
    /// By agent, in time order over all.
    pub(crate) feed: Vec<(Subject, Payment)>,
    /// Times at which somebody wants to know, besides those of the feed.
    pub(crate) looks: Vec<Timestamp>,
}

/// An agent's payments so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    payments: Vec<Payment>,
    at: Timestamp,
}

impl History {
    fn window(&self, window: Duration) -> impl Iterator<Item = &Payment> {
        let (from, until) = (self.at.before(window), self.at);
        self.payments.iter().filter(move |payment| payment.occurred_at > from && payment.occurred_at <= until)
    }

    fn spends(&self, window: Duration, filter: Filter<'_>) -> impl Iterator<Item = &Payment> {
        self.window(window).filter(move |payment| payment.kind == Kind::Settle && matches(payment, filter))
    }
}

fn matches(payment: &Payment, filter: Filter<'_>) -> bool {
    match filter {
        Filter::All => true,
        Filter::Rail(rail) => payment.rail == rail,
        Filter::Payee(payee) => payment.payee.as_deref() == Some(payee),
        Filter::Task(task) => payment.task.as_deref() == Some(task),
    }
}

fn property(payment: &Payment, dimension: Dimension) -> Option<&SmolStr> {
    match dimension {
        Dimension::Rail => Some(&payment.rail),
        Dimension::Payee => payment.payee.as_ref(),
        Dimension::Task => payment.task.as_ref(),
    }
}

impl HistoryView for History {
    fn spent(&self, window: Duration, filter: Filter<'_>) -> Usd {
        self.spends(window, filter).fold(Usd::ZERO, |sum, payment| sum.plus(payment.usd()))
    }

    fn count(&self, window: Duration, filter: Filter<'_>) -> u64 {
        self.spends(window, filter).count() as u64
    }

    fn distinct(&self, window: Duration, dimension: Dimension) -> u64 {
        let spends = self.spends(window, Filter::All);
        let values: std::collections::BTreeSet<&SmolStr> =
            spends.filter_map(|payment| property(payment, dimension)).collect();
        values.len() as u64
    }

    fn largest(&self, window: Duration, filter: Filter<'_>) -> Usd {
        self.spends(window, filter).map(Payment::usd).max().unwrap_or(Usd::ZERO)
    }

    fn declined(&self, window: Duration) -> u64 {
        self.window(window).filter(|payment| payment.kind == Kind::Declined).count() as u64
    }

    fn first_seen_at(&self) -> Timestamp {
        self.payments.first().map_or(self.at, |payment| payment.occurred_at)
    }

    fn previous_at(&self) -> Option<Timestamp> {
        let before = self.payments.len().checked_sub(2)?;
        self.payments.get(before).map(|payment| payment.occurred_at)
    }

    fn is_new(&self, dimension: Dimension, value: &str) -> bool {
        let before = self.payments.len().saturating_sub(1);
        self.payments
            .iter()
            .take(before)
            .all(|payment| property(payment, dimension).is_none_or(|known| known != value))
    }

    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        let mut totals = BTreeMap::<SmolStr, Usd>::new();
        for payment in self.payments.iter().filter(|payment| payment.kind == Kind::Settle) {
            let total = totals.entry(payment.rail.clone()).or_default();
            *total = total.plus(payment.usd());
        }
        let mut totals: Vec<_> = totals.into_iter().collect();
        totals.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
        totals
    }
}

/// Whether people are told about an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    Quiet,
    Firing,
    Resolved,
}

/// The life of the alerts of one rule, by agent.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    changes: Vec<(Timestamp, Subject, Alarm, String)>,
}

impl Timeline {
    /// How things stood at `at`; at the end if `None`.
    pub(crate) fn state(&self, subject: &Subject, at: Option<Timestamp>) -> Alarm {
        let before = |change: &&(Timestamp, Subject, Alarm, String)| {
            change.1 == *subject && at.is_none_or(|at| change.0 <= at)
        };
        self.changes.iter().rev().find(before).map_or(Alarm::Quiet, |change| change.2)
    }

    /// The first alert: when, about whom, and why.
    pub(crate) fn first(&self) -> Option<(Timestamp, &Subject, &str)> {
        let change = self.changes.iter().find(|change| change.2 == Alarm::Firing)?;
        Some((change.0, &change.1, &change.3))
    }

    /// True if people were ever told about `subject`.
    pub(crate) fn ever(&self, subject: &Subject) -> bool {
        self.changes.iter().any(|change| change.1 == *subject && change.2 == Alarm::Firing)
    }
}

#[derive(Debug, Default)]
struct Life {
    history: History,
    notes: RuleState,
    pending_since: Option<Timestamp>,
    firing: bool,
    clear_since: Option<Timestamp>,
}

/// Plays a world to its end. `ask` says whether the condition holds, with the reason, or ends the test.
pub(crate) fn play<E>(
    world: World,
    info: &RuleInfo,
    mut ask: impl FnMut(&Case<'_>, &mut RuleState) -> Result<Option<String>, E>,
) -> Result<Timeline, E> {
    let World { signals, score, profile, feed, looks } = world;
    let mut lives = BTreeMap::<Subject, Life>::new();
    let mut timeline = Timeline::default();
    let times = times(&feed, &looks, info);
    let mut feed = feed.into_iter().peekable();
    for now in times {
        let mut paid = Vec::new();
        while let Some((subject, payment)) = feed.next_if(|(_, payment)| payment.occurred_at <= now) {
            let life = lives.entry(subject.clone()).or_default();
            life.history.payments.push(payment);
            life.history.at = now;
            let payment = life.history.payments.last().cloned();
            let case = Case {
                now,
                at: now,
                subject: &subject,
                payment: payment.as_ref(),
                signals: Signals::known(&signals),
                score,
                profile: &profile,
                history: &life.history,
            };
            let holds = ask(&case, &mut life.notes)?;
            timeline.step(
                life_step(&mut life.pending_since, &mut life.firing, &mut life.clear_since, info, now, holds),
                now,
                &subject,
            );
            paid.push(subject);
        }
        for (subject, life) in lives.iter_mut().filter(|(subject, _)| !paid.contains(subject)) {
            life.history.at = now;
            let case = Case {
                now,
                at: now,
                subject,
                payment: None,
                signals: Signals::known(&signals),
                score,
                profile: &profile,
                history: &life.history,
            };
            let holds = ask(&case, &mut life.notes)?;
            timeline.step(
                life_step(&mut life.pending_since, &mut life.firing, &mut life.clear_since, info, now, holds),
                now,
                subject,
            );
        }
    }
    Ok(timeline)
}

impl Timeline {
    fn step(&mut self, change: Option<(Alarm, String)>, now: Timestamp, subject: &Subject) {
        if let Some((alarm, why)) = change {
            self.changes.push((now, subject.clone(), alarm, why));
        }
    }
}

/// One look at a condition: the same hold and clear rules as the engine's.
fn life_step(
    pending_since: &mut Option<Timestamp>,
    firing: &mut bool,
    clear_since: &mut Option<Timestamp>,
    info: &RuleInfo,
    now: Timestamp,
    holds: Option<String>,
) -> Option<(Alarm, String)> {
    match holds {
        Some(why) => {
            *clear_since = None;
            let since = *pending_since.get_or_insert(now);
            if !*firing && now.since(since) >= info.hold {
                *firing = true;
                return Some((Alarm::Firing, why));
            }
        }
        None => {
            *pending_since = None;
            let since = *clear_since.get_or_insert(now);
            if *firing && now.since(since) >= info.clear_after {
                *firing = false;
                return Some((Alarm::Resolved, String::new()));
            }
        }
    }
    None
}

/// When to look: at every payment, every minute for a while after one, and when the test asks.
fn times(feed: &[(Subject, Payment)], looks: &[Timestamp], info: &RuleInfo) -> Vec<Timestamp> {
    let mut times: Vec<Timestamp> =
        feed.iter().map(|(_, payment)| payment.occurred_at).chain(looks.iter().copied()).collect();
    times.sort_unstable();
    let after_last = info.hold.saturating_add(Duration::from_secs(600)).min(BUSY);
    let end = times.last().map_or(Timestamp::EPOCH, |last| last.after(after_last));
    let mut all = Vec::new();
    for (index, at) in times.iter().enumerate() {
        let next = times.get(index + 1).copied().unwrap_or(end);
        let mut minute = *at;
        while minute < next && minute.since(*at) <= BUSY && all.len() < EVALUATIONS_MAX {
            all.push(minute);
            minute = minute.after(MINUTE);
        }
    }
    all.dedup();
    all
}
