//! Delivery: notices leave the outbox for their sinks, one task per sink.
//!
//! Retry lives here and nowhere else. Invariant: a notice is marked sent only after the sink's receipt is recorded,
//! and an attempt is recorded before it is made.

use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{Notice, SmolStr, Subject};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink};
use railwatch_store::Claimed;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Target};
use crate::host::journal::{Journal, Outcome};
use crate::host::metrics::{Metrics, SinkCounters};

/// Notices that one round takes: a round is one transaction.
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
    pub(crate) link: Option<String>,
    pub(crate) cancel: CancellationToken,
}

impl Delivery {
    /// Delivers until cancelled: the attempt in hand is finished and recorded first.
    pub(crate) async fn run(self) {
        let counters = self.metrics.sink(&self.name);
        loop {
            let rung = self.journal.outbox.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.cancel.is_cancelled() {
                return;
            }
            let Some(claimed) = self.journal.claim(self.name.clone(), self.clock.now(), CLAIM_MAX).await
            else {
                return;
            };
            if claimed.is_empty() {
                let pause = self.pause().await;
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = rung => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            for notice in claimed {
                self.attempt(notice, &counters).await;
            }
        }
    }

    /// How long nothing is due.
    async fn pause(&self) -> Duration {
        let name = self.name.clone();
        let due = self.journal.run(move |store| store.next_due(&name)).await;
        match due {
            Some(Ok(Some(at))) => at.since(self.clock.now()).clamp(Duration::from_millis(10), IDLE_MAX),
            _ => IDLE_MAX,
        }
    }

    async fn attempt(&self, claimed: Claimed, counters: &SinkCounters) {
        let Claimed { id, mut notice, attempt, earlier } = claimed;
        let earlier: Option<Receipt> = earlier.and_then(|receipt| serde_json::from_str(&receipt).ok());
        notice.link = self.link.as_ref().map(|base| format!("{base}/incidents/{}", notice.incident));
        let dispatch = Dispatch { notice: &notice, earlier: earlier.as_ref() };
        let result = tokio::time::timeout(ATTEMPT_MAX, self.sink.deliver(dispatch)).await;
        let now = self.clock.now();
        let outcome = match result {
            Ok(Ok(receipt)) => {
                counters.sent.inc();
                counters.seconds.observe(now.since(notice.at).as_secs_f64());
                Outcome::Sent { receipt: serde_json::to_string(&receipt).unwrap_or_default() }
            }
            Ok(Err(DeliveryError::Retry { reason, after })) if attempt < ATTEMPTS_MAX => {
                counters.retried.inc();
                let at = now.after(backoff(attempt, after, &notice));
                tracing::warn!(sink = %self.name, attempt, error = %reason, retry_at = %at, "delivery failed, will retry");
                Outcome::Retry { at, error: reason }
            }
            Ok(Err(error)) => {
                counters.dead.inc();
                tracing::error!(sink = %self.name, attempt, %error, "delivery given up");
                Outcome::Dead { error: error.to_string() }
            }
            Err(_) if self.sink.is_idempotent() && attempt < ATTEMPTS_MAX => {
                counters.retried.inc();
                let error = format!("no answer within {} s", ATTEMPT_MAX.as_secs());
                Outcome::Retry { at: now.after(backoff(attempt, None, &notice)), error }
            }
            Err(_) => {
                counters.dead.inc();
                Outcome::Unknown { error: format!("no answer within {} s", ATTEMPT_MAX.as_secs()) }
            }
        };
        self.journal.settle(id, outcome, now).await;
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

/// The sinks that a notice goes to.
pub(crate) fn route(config: &Config, notice: &Notice) -> Vec<SmolStr> {
    let team = match &notice.subject {
        Subject::Team(team) => Some(team.to_string()),
        Subject::Agent(agent) => {
            let agent = config.agents.iter().find(|known| known.id.0 == *agent);
            agent.and_then(|agent| agent.team.clone())
        }
        Subject::Fleet | Subject::Source(_) | Subject::Railwatch => None,
    };
    let kinds: Vec<String> = notice.alerts.iter().map(|alert| kind(&alert.trigger)).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let payments = notice.alerts.iter().flat_map(|alert| &alert.payments);
    let mut rails: Vec<&str> =
        payments.filter_map(|payment| payment.split_once('/').map(|(rail, _)| rail)).collect();
    rails.sort_unstable();
    rails.dedup();
    config.sinks_for(&Target {
        severity: notice.severity,
        agent: notice.subject.agent().map(|agent| agent.as_str()),
        team: team.as_deref(),
        rails: &rails,
        kinds: &kinds,
    })
}

fn kind(trigger: &railwatch_model::Trigger) -> String {
    match trigger {
        railwatch_model::Trigger::Signal(kind) => kind.to_string(),
        railwatch_model::Trigger::Rule(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use railwatch_model::{IncidentId, NoticeId, Occasion, Severity, Timestamp};

    fn notice(id: &str) -> Notice {
        Notice {
            id: NoticeId(id.into()),
            incident: IncidentId("i".into()),
            occasion: Occasion::Opened,
            subject: Subject::Fleet,
            severity: Severity::High,
            headline: String::new(),
            alerts: Vec::new(),
            at: Timestamp::EPOCH,
            link: None,
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
