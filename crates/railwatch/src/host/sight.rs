//! Whether a source sees its rail: "nothing was paid" and "nothing was seen" are two things, and people must know which.
//!
//! A source is blind when it has not been current for a while, or when its rail's own list has payments that the rail's
//! push has not brought for as long. Either is one alert per source, which stays until the source sees again.

use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{ConditionKind, Severity, SmolStr, Subject, Timestamp};
use railwatch_plugin::clock::Clock;
use railwatch_plugin::source::{Phase, SourceStatus, Unpushed};
use tokio::sync::watch;

use crate::host::health::Health;

/// How long a source may be away without anybody being told: a node that restarts, a deployment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches one source.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) source: SmolStr,
    pub(crate) health: Health,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: watch::Receiver<SourceStatus>,
    pub(crate) patience: Option<Duration>,
}

/// What a source sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seeing {
    Everything,
    /// Not enough to say that it is blind, until then.
    Doubtful(Timestamp),
    /// It has not been current since then.
    Nothing(Timestamp),
    /// Only what the list has.
    ListOnly(Unpushed),
}

impl Sight {
    /// Reports until it is dropped.
    pub(crate) async fn watch(mut self) {
        let patience = self.patience.unwrap_or(PATIENCE);
        let mut away_since = None;
        loop {
            let status = self.status.borrow_and_update().clone();
            let now = self.clock.now();
            let seeing = judge(&status, &mut away_since, now, patience);
            self.report(seeing, &status);
            let look_again = match seeing {
                Seeing::Doubtful(until) => until.since(now) + Duration::from_millis(1),
                Seeing::Everything | Seeing::Nothing(_) | Seeing::ListOnly(_) => Duration::from_secs(3600),
            };
            tokio::select! {
                biased;
                changed = self.status.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(look_again) => {}
            }
        }
    }

    fn report(&self, seeing: Seeing, status: &SourceStatus) {
        let subject = Subject::Source(self.source.clone());
        let name = &self.source;
        let (severity, summary) = match seeing {
            Seeing::Everything => return self.health.over(&subject, ConditionKind::RailBlind, ""),
            Seeing::Doubtful(_) => return,
            Seeing::Nothing(since) => {
                let why = reason(&status.detail);
                (Severity::High, format!("source {name} has not seen its rail since {since}: {why}"))
            }
            Seeing::ListOnly(Unpushed { since, .. }) => {
                let told = "what the rail pushes does not arrive";
                let hint = "payments are found in its list, later; check the webhook or the subscription";
                (Severity::Medium, format!("source {name}: {told} since {since}; {hint}"))
            }
        };
        // Each further attempt has a text of its own, and is not news.
        if !self.health.holds(&subject, ConditionKind::RailBlind, "", severity) {
            self.health.hold(subject, ConditionKind::RailBlind, "", severity, summary);
        }
    }
}

/// The last error without the time of the next attempt.
fn reason(detail: &str) -> &str {
    let detail = detail.split("; next try").next().unwrap_or(detail);
    if detail.is_empty() { "it does not answer" } else { detail }
}

fn judge(
    status: &SourceStatus,
    away_since: &mut Option<Timestamp>,
    now: Timestamp,
    patience: Duration,
) -> Seeing {
    match status.phase {
        Phase::Live | Phase::Done => *away_since = None,
        Phase::Starting | Phase::Retrying => {
            away_since.get_or_insert(now);
        }
        // Reading what is past is not seeing what is, and not being away either.
        Phase::Backfilling => {}
        // Whoever has stopped has said so.
        Phase::Failed => return Seeing::Doubtful(now.after(Duration::from_secs(3600))),
    }
    let unpushed = status.unpushed;
    let (since, blind) = match (*away_since, unpushed) {
        (Some(since), _) => (since, Seeing::Nothing(since)),
        (None, Some(unpushed)) => (unpushed.since, Seeing::ListOnly(unpushed)),
        (None, None) => return Seeing::Everything,
    };
    let until = since.after(patience);
    if now >= until { blind } else { Seeing::Doubtful(until) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_767_225_600 + secs)
    }

    /// What `+secs PHASE [unpushed since]` comes to, one word each.
    #[track_caller]
    fn check(steps: &[(i64, Phase, Option<i64>)], expected: &[&str]) {
        let mut away_since = None;
        let words = steps.iter().map(|(secs, phase, unpushed)| {
            let unpushed = unpushed.map(|since| Unpushed { payments: 1, since: at(since) });
            let status = SourceStatus { phase: *phase, unpushed, ..SourceStatus::default() };
            match judge(&status, &mut away_since, at(*secs), Duration::from_secs(60)) {
                Seeing::Everything => "everything".to_owned(),
                Seeing::Doubtful(until) => format!("wait {}", until.since(at(*secs)).as_secs()),
                Seeing::Nothing(since) => format!("nothing for {}", at(*secs).since(since).as_secs()),
                Seeing::ListOnly(_) => "list".to_owned(),
            }
        });
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_short_absence_is_nobodys_business() {
        check(
            &[
                (0, Phase::Starting, None),
                (5, Phase::Live, None),
                (100, Phase::Retrying, None),
                (130, Phase::Retrying, None),
                (140, Phase::Live, None),
                (150, Phase::Retrying, None),
            ],
            &["wait 60", "everything", "wait 60", "wait 30", "everything", "wait 60"],
        );
    }

    #[test]
    fn who_is_away_for_long_is_blind_until_it_is_current_again() {
        check(
            &[
                (0, Phase::Retrying, None),
                (30, Phase::Backfilling, None),
                (60, Phase::Retrying, None),
                (90, Phase::Backfilling, None),
                (91, Phase::Live, None),
            ],
            &["wait 60", "wait 30", "nothing for 60", "nothing for 90", "everything"],
        );
    }

    #[test]
    fn a_list_that_knows_more_than_the_push_is_doubted_first_and_believed_then() {
        check(
            &[
                (10, Phase::Live, Some(0)),
                (70, Phase::Live, Some(0)),
                (80, Phase::Live, None),
                (90, Phase::Done, None),
            ],
            &["wait 50", "list", "everything", "everything"],
        );
    }
}
