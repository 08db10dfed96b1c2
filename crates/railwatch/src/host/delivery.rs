//! Delivery: notices leave the outbox for their sinks, one task per sink.
//!
//! Retry lives here and nowhere else. Invariants: a notice is marked sent only after the sink's receipt is recorded; an
//! attempt is recorded before it is made; an attempt that may have arrived is repeated at most once where the peer does
//! not recognize a repetition itself, and then the message says so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use railwatch_model::{ConditionKind, Notice, Occasion, Severity, SmolStr, Subject, Timestamp};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Sink};
use railwatch_store::Outcome;
use tokio_util::sync::CancellationToken;

use crate::host::core::CoreHandle;
use crate::host::gather::{GATHERED_MAX, Parcel, gather};
use crate::host::health::Health;
use crate::host::journal::Journal;
use crate::host::metrics::{Metrics, SinkCounters};
use crate::host::pace::{Breaker, Bucket};

/// Notices that one round takes where a repetition does no harm: a round is one transaction.
const CLAIM_MAX: u32 = 16;
/// A delivery that takes longer than this is cut off.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// The first pause after a failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A peer's `Retry-After` is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Attempts before a notice is given up: about four and a half hours of failures.
const ATTEMPTS_MAX: u32 = 60;
/// How long the outbox is left alone when nothing is known to be due.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// One sink's delivery task.
pub(crate) struct Delivery {
    pub(crate) name: SmolStr,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) link: Option<String>,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) cancel: CancellationToken,
}

/// How the next notices are told.
enum Pace {
    OneByOne,
    Gather,
    /// Nobody is told anything for this long: the rate limit is used up.
    Wait(Duration),
}

impl Delivery {
    /// Delivers until cancelled: the attempt in hand is finished and recorded first, others are put back.
    pub(crate) async fn run(mut self) {
        let counters = self.metrics.sink(&self.name);
        let mut breaker = Breaker::default();
        // A lone alarm must not wait for a count of what else there is.
        let mut is_burst = false;
        loop {
            if self.cancel.is_cancelled() {
                return;
            }
            let wait = breaker.wait(self.clock.now());
            if !wait.is_zero() {
                self.sleep(wait).await;
                continue;
            }
            let pace = self.gathers_now(is_burst).await;
            if let Pace::Wait(wait) = pace {
                self.sleep(wait).await;
                continue;
            }
            let limit = match pace {
                Pace::Gather => GATHERED_MAX,
                Pace::OneByOne | Pace::Wait(_) if self.sink.is_idempotent() && !breaker.is_wary() => {
                    CLAIM_MAX
                }
                Pace::OneByOne | Pace::Wait(_) => 1,
            };
            let Some(mut claim) = self.journal.claim(self.name.clone(), limit).await else { return };
            let claimed = tokio::select! {
                biased;
                claimed = claim.claimed() => claimed,
                () = self.cancel.cancelled() => Some(claim.withdraw()),
                () = self.until_due() => Some(claim.withdraw()),
            };
            let Some(claimed) = claimed else { return };
            is_burst = !claimed.is_empty();
            let parcels = match pace {
                Pace::Gather => gather(claimed),
                Pace::OneByOne | Pace::Wait(_) => claimed.into_iter().map(Parcel::single).collect(),
            };
            self.round(parcels, &mut breaker, &counters).await;
        }
    }

    /// Whether more waits than people can read one by one.
    async fn gathers_now(&mut self, is_burst: bool) -> Pace {
        let Some(bucket) = self.bucket.as_mut().filter(|_| self.sink.gathers()) else {
            return Pace::OneByOne;
        };
        let now = self.clock.now();
        let (available, wait) = (bucket.available(now), bucket.wait(now));
        if available > 0 && !is_burst {
            return Pace::OneByOne;
        }
        let name = self.name.clone();
        let due = self.journal.run(move |store| store.n_due(&name, now, GATHERED_MAX)).await;
        match due {
            Some(Ok(due)) if due > 0 && available == 0 => Pace::Wait(wait),
            Some(Ok(due)) if due > available => Pace::Gather,
            _ => Pace::OneByOne,
        }
    }

    /// Attempts what was claimed. What is not attempted, because the peer fails or railwatch stops, is put back.
    async fn round(&mut self, parcels: Vec<Parcel>, breaker: &mut Breaker, counters: &SinkCounters) {
        let mut parcels = parcels.into_iter();
        while let Some(next) = parcels.next() {
            if self.throttle().await {
                let failed = !self.attempt(next, breaker, counters).await;
                if !failed && !self.cancel.is_cancelled() {
                    continue;
                }
                self.journal.unclaim(parcels.flat_map(|parcel| parcel.ids).collect()).await;
            } else {
                let back = std::iter::once(next).chain(parcels);
                self.journal.unclaim(back.flat_map(|parcel| parcel.ids).collect()).await;
            }
            return;
        }
    }

    /// Waits until the rate limit allows an attempt; false if cancelled.
    async fn throttle(&mut self) -> bool {
        while let Some(bucket) = &mut self.bucket {
            match bucket.take(self.clock.now()) {
                Ok(()) => break,
                Err(wait) => self.sleep(wait).await,
            }
            if self.cancel.is_cancelled() {
                return false;
            }
        }
        true
    }

    async fn sleep(&self, wait: Duration) {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Waits until a notice that is not due now may have become due.
    async fn until_due(&self) {
        let name = self.name.clone();
        let due = self.journal.run(move |store| store.next_due(&name)).await;
        let pause = match due {
            Some(Ok(Some(at))) => at.since(self.clock.now()).clamp(Duration::from_millis(10), IDLE_MAX),
            _ => IDLE_MAX,
        };
        tokio::time::sleep(pause).await;
    }

    /// Makes one attempt and records how it ended; false if the sink did not take the notice.
    async fn attempt(&self, mut parcel: Parcel, breaker: &mut Breaker, counters: &SinkCounters) -> bool {
        let (attempt, in_doubt) = (parcel.attempt, parcel.in_doubt);
        let page = if parcel.notice.occasion == Occasion::Digest {
            String::new()
        } else if parcel.ids.len() == 1 {
            format!("incidents/{}", parcel.notice.incident)
        } else {
            "alerts".to_owned()
        };
        parcel.notice.link = self.link.as_ref().map(|base| format!("{base}/{page}"));
        parcel.notice.may_repeat = in_doubt;
        let notice = &parcel.notice;
        let dispatch = Dispatch { notice, earlier: parcel.earlier.as_ref() };
        let result = tokio::time::timeout(ATTEMPT_MAX, self.sink.deliver(dispatch)).await;
        let result = result.unwrap_or_else(|_| {
            Err(DeliveryError::Unanswered(format!("no answer within {} s", ATTEMPT_MAX.as_secs())))
        });
        let now = self.clock.now();
        let (outcome, error) = match result {
            Ok(receipt) => {
                counters.messages.inc();
                counters.sent.inc_by(parcel.ids.len() as u64);
                counters.seconds.observe(now.since(notice.at).as_secs_f64());
                (Outcome::Sent { receipt: parcel.keep(&receipt) }, None)
            }
            Err(error) => {
                let said = error.to_string();
                (self.failed(now, notice, attempt, in_doubt, error, counters), Some(said))
            }
        };
        let gave_up = matches!(outcome, Outcome::Dead { .. });
        let settled = parcel.ids.iter().map(|id| self.journal.settle(*id, outcome.clone(), now));
        join_all(settled).await;
        let Some(error) = error else {
            breaker.success();
            self.health.over(&Subject::Railwatch, ConditionKind::SinkFailing, &self.name);
            return true;
        };
        if breaker.failure(now) || gave_up {
            let summary = format!(
                "sink {} does not take notices ({error}); they wait in `railwatch outbox list`",
                self.name
            );
            let kind = ConditionKind::SinkFailing;
            self.health.hold(Subject::Railwatch, kind, &self.name, Severity::High, summary);
        }
        false
    }

    fn failed(
        &self,
        now: Timestamp,
        notice: &Notice,
        attempt: u32,
        in_doubt: bool,
        error: DeliveryError,
        counters: &SinkCounters,
    ) -> Outcome {
        let may_retry = attempt < ATTEMPTS_MAX;
        let again = |error: String, after, in_doubt| {
            counters.retried.inc();
            let at = now.after(backoff(attempt, after, notice));
            tracing::warn!(sink = %self.name, attempt, %error, retry_at = %at, "delivery failed, will retry");
            Outcome::Retry { at, error, in_doubt }
        };
        match error {
            DeliveryError::Retry { reason, after } if may_retry => again(reason, after, false),
            DeliveryError::Unanswered(_) if may_retry && self.sink.is_idempotent() => {
                again(error.to_string(), None, false)
            }
            DeliveryError::Unanswered(_) if may_retry && !in_doubt => again(error.to_string(), None, true),
            DeliveryError::Unanswered(reason) if !self.sink.is_idempotent() => {
                counters.unknown.inc();
                tracing::error!(sink = %self.name, attempt, error = %reason, "two attempts may have arrived");
                Outcome::Unknown { error: reason }
            }
            error => {
                counters.dead.inc();
                tracing::error!(sink = %self.name, attempt, %error, "delivery given up");
                Outcome::Dead { error: error.to_string() }
            }
        }
    }
}

/// Gives signs of life until cancelled, as long as payments are judged and kept. Nothing is made up for later.
pub(crate) async fn beat(
    name: SmolStr,
    sink: Box<dyn Sink>,
    every: Duration,
    core: CoreHandle,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) {
    let counters = metrics.sink(&name);
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = interval.tick() => {}
        }
        // The core answers only between batches, and its batches wait for the store: both are alive if it does.
        let alive = tokio::time::timeout(every, core.look(|_| ())).await.is_ok_and(|seen| seen.is_some());
        if !alive || metrics.store_healthy.get() != 1 {
            tracing::error!(sink = %name, "no sign of life is given: payments cannot be judged and kept");
            continue;
        }
        match sink.beat().await {
            Ok(()) => {
                counters.sent.inc();
            }
            Err(error) => {
                counters.dead.inc();
                tracing::warn!(sink = %name, %error, "the watchdog did not take a sign of life");
            }
        }
    }
}

/// The pause before the next attempt: what the peer asked for, or twice the last one; spread by a tenth, by the
/// notice's own name, so that many notices do not come back at once.
fn backoff(attempt: u32, asked: Option<Duration>, notice: &Notice) -> Duration {
    if let Some(asked) = asked {
        return asked.min(RETRY_AFTER_MAX);
    }
    let doubled = BACKOFF_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(BACKOFF_MAX);
    let spread =
        notice.id.0.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 100;
    doubled + doubled * spread / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use railwatch_model::{IncidentId, NoticeId};

    fn notice(id: &str) -> Notice {
        Notice {
            id: NoticeId(id.into()),
            incident: IncidentId("i".into()),
            occasion: Occasion::Opened,
            subject: Subject::Fleet,
            team: None,
            labels: Vec::new(),
            escalations: Vec::new(),
            severity: Severity::High,
            headline: String::new(),
            alerts: Vec::new(),
            at: Timestamp::EPOCH,
            link: None,
            may_repeat: false,
            order: None,
            report: None,
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_believe_the_peer() {
        let notice = notice("n");
        let secs = |attempt| backoff(attempt, None, &notice).as_secs_f64();
        assert!(secs(2) / secs(1) > 1.9);
        assert!(secs(50) <= BACKOFF_MAX.as_secs_f64() * 1.1);
        assert_eq!(backoff(1, Some(Duration::from_secs(90)), &notice), Duration::from_secs(90));
        assert_eq!(backoff(1, Some(Duration::from_secs(1_000_000)), &notice), RETRY_AFTER_MAX);
    }
}
