//! One episode: an alert, and what its life depends on.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use railwatch_model::{Alert, AlertId, AlertState, IncidentId, SmolStr, Timestamp, Trigger, Usd};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};
use smol_str::format_smolstr;

use super::{Level, Moment, Opinion};
use crate::effects::{Effects, ShadowFiring};

/// Payments that an alert names.
const PAYMENTS_MAX: usize = 10;
/// An open alert whose numbers merely move is written to the store this often.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) alert: Alert,
    pub(super) hold: Duration,
    pub(super) clear_after: Duration,
    shadow: bool,
    pub(super) quiet_since: Option<Timestamp>,
    written_at: Timestamp,
    /// People were told of it at least once.
    pub(super) told: bool,
    /// A person closed it: as long as its trigger goes on firing it stays so, until the grace period is over.
    closed: bool,
    /// The size of each payment in `alert.payments`.
    sizes: Vec<Usd>,
}

impl Episode {
    pub(super) fn open(moment: &Moment<'_>, opinion: &Opinion<'_>, incident: Option<IncidentId>) -> Self {
        let id = AlertId(format_smolstr!("a-{}", name(moment, Some(&opinion.trigger))));
        let incident = incident.unwrap_or_else(|| IncidentId(format_smolstr!("i-{}", name(moment, None))));
        let onset_at = match opinion.hold {
            Duration::ZERO => opinion.signal.and_then(|signal| signal.since).unwrap_or(moment.at),
            _ => moment.at,
        };
        let mut episode = Self {
            alert: Alert {
                id,
                incident,
                subject: moment.whom.subject.clone(),
                team: moment.whom.profile.team.clone(),
                labels: moment.whom.profile.labels.clone(),
                trigger: opinion.trigger.clone(),
                state: AlertState::Pending,
                severity: opinion.severity,
                summary: opinion.summary.clone(),
                signal: opinion.signal.cloned(),
                score: moment.score,
                contributions: moment.contributions.to_vec(),
                spent_since_onset: Usd::ZERO,
                payments: Vec::new(),
                times_seen: 1,
                silenced_by: None,
                onset_at,
                opened_at: moment.now,
                updated_at: moment.now,
                resolved_at: None,
                acknowledged_by: None,
                note: None,
                freeze: None,
                generation: moment.generation,
                opened_seq: moment.seq,
            },
            hold: opinion.hold,
            clear_after: opinion.clear_after,
            shadow: opinion.shadow,
            quiet_since: None,
            written_at: moment.now,
            told: false,
            closed: false,
            sizes: Vec::new(),
        };
        episode.count(moment);
        // The payment in hand is part of the signal's excess already.
        let excess = opinion.signal.map_or(Usd::ZERO, |signal| signal.excess);
        episode.alert.spent_since_onset = excess.max(episode.alert.spent_since_onset);
        episode
    }

    /// True if people have been or may be told about it: not pending, not a shadow.
    pub(super) fn is_public(&self) -> bool {
        !self.shadow && self.alert.state != AlertState::Pending
    }

    /// True if it is open and told.
    pub(super) fn is_told(&self) -> bool {
        self.is_public() && self.alert.state != AlertState::Resolved
    }

    /// True if it is over and would begin again if its trigger fired.
    pub(super) fn may_reopen(&self) -> bool {
        self.alert.state == AlertState::Resolved && !self.closed
    }

    pub(super) fn hear(&mut self, moment: &Moment<'_>, opinion: &Opinion<'_>, effects: &mut Effects) {
        self.shadow = opinion.shadow;
        (self.hold, self.clear_after) = (opinion.hold, opinion.clear_after);
        let again = opinion.level == Level::Firing && !self.closed && self.quiet_since.is_some();
        if self.alert.state == AlertState::Resolved {
            if opinion.level != Level::Firing || self.closed {
                return;
            }
            self.alert.state = AlertState::Firing;
            self.alert.resolved_at = None;
            self.alert.acknowledged_by = None;
        }
        self.alert.times_seen = self.alert.times_seen.saturating_add(u32::from(again));
        self.quiet_since = None;
        self.count(moment);
        let rises = opinion.severity > self.alert.severity;
        self.alert.severity = self.alert.severity.max(opinion.severity);
        let ripe = self.ripen(moment, effects);
        if opinion.level == Level::Firing {
            self.alert.summary.clone_from(&opinion.summary);
            self.alert.signal = opinion.signal.cloned();
            self.alert.score = moment.score;
            self.alert.contributions = moment.contributions.to_vec();
        }
        if !ripe && self.is_public() && (rises || moment.now.since(self.written_at) >= REFRESH_EVERY) {
            self.write(moment.now, effects);
        }
    }

    /// Adds the payment in hand to what was spent since the onset.
    fn count(&mut self, moment: &Moment<'_>) {
        let Some((payment, usd)) = moment.payment else { return };
        self.alert.spent_since_onset = self.alert.spent_since_onset.plus(usd);
        let place = self.sizes.partition_point(|size| *size >= usd);
        if usd > Usd::ZERO && place < PAYMENTS_MAX {
            self.sizes.insert(place, usd);
            self.alert.payments.insert(place, format_smolstr!("{}/{}", payment.rail, payment.id));
            self.sizes.truncate(PAYMENTS_MAX);
            self.alert.payments.truncate(PAYMENTS_MAX);
        }
    }

    /// Turns a pending alert into a firing one when it has been held for long enough.
    pub(super) fn ripen(&mut self, moment: &Moment<'_>, effects: &mut Effects) -> bool {
        let held = moment.at.max(moment.now).since(self.alert.onset_at) >= self.hold;
        if self.alert.state != AlertState::Pending || !held {
            return false;
        }
        self.alert.state = AlertState::Firing;
        self.alert.opened_at = moment.now;
        if self.shadow {
            let (rule, subject) = (self.alert.trigger.clone(), self.alert.subject.clone());
            effects.shadow.push(ShadowFiring {
                rule,
                subject,
                at: moment.now,
                why: self.alert.summary.clone(),
            });
        } else {
            self.write(moment.now, effects);
        }
        true
    }

    pub(super) fn quiet(&mut self, moment: &Moment<'_>, effects: &mut Effects) {
        match self.alert.state {
            // A condition that ended before its hold time was over never was an alert.
            AlertState::Pending => {
                self.alert.state = AlertState::Resolved;
                self.alert.updated_at = Timestamp::EPOCH;
            }
            // Quiet at last: the next time it fires is news.
            AlertState::Resolved => self.closed = false,
            AlertState::Firing | AlertState::Acknowledged => {
                let since = *self.quiet_since.get_or_insert(moment.now);
                if moment.now.since(since) >= self.clear_after {
                    self.resolve(moment.now, effects);
                }
            }
        }
    }

    /// A person closes it.
    pub(super) fn close(&mut self, now: Timestamp, effects: &mut Effects) {
        self.closed = self.quiet_since.is_none();
        self.resolve(now, effects);
    }

    pub(super) fn resolve(&mut self, now: Timestamp, effects: &mut Effects) {
        self.alert.state = AlertState::Resolved;
        self.alert.resolved_at = Some(now);
        self.alert.silenced_by = None;
        self.quiet_since.get_or_insert(now);
        if self.shadow {
            self.alert.updated_at = now;
        } else {
            self.write(now, effects);
        }
    }

    pub(super) fn write(&mut self, now: Timestamp, effects: &mut Effects) {
        self.alert.updated_at = now;
        self.written_at = now;
        effects.alerts.push(self.alert.clone());
    }
}

/// A name from what opened the episode: the subject, the trigger, and the payment or time.
fn name(moment: &Moment<'_>, trigger: Option<&Trigger>) -> SmolStr {
    let mut hasher = SipHasher24::new();
    moment.whom.subject.hash(&mut hasher);
    trigger.hash(&mut hasher);
    match moment.payment {
        Some((payment, _)) => (&payment.rail, &payment.id, payment.kind, payment.status).hash(&mut hasher),
        None => moment.now.hash(&mut hasher),
    }
    hasher.write_u8(0);
    let hash = hasher.finish128();
    format_smolstr!("{:016x}{:04x}", hash.h1, hash.h2 & 0xffff)
}
