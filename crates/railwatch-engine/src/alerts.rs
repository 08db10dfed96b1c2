//! The life of alerts, per subject: opened by a trigger that fires, held, acknowledged, resolved by quiet, and told to
//! people as incidents.
//!
//! Invariant: identical triggers at identical event positions give identical alert ids, whatever the batches were.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use railwatch_model::{
    Alert, AlertId, AlertState, Contribution, IncidentId, Notice, NoticeId, Occasion, Payment, Severity,
    Signal, SmolStr, Subject, Timestamp, Trigger, Usd,
};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};
use smol_str::format_smolstr;

use crate::effects::{Effects, ShadowFiring};
use crate::settings::Settings;

/// Payments that an alert names.
const PAYMENTS_MAX: usize = 10;
/// An open alert whose numbers merely move is written to the store this often.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// How a trigger stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Keeps open what is open.
    Raised,
    /// Opens.
    Firing,
}

/// One trigger's word at one moment. A trigger without one is quiet.
#[derive(Debug)]
pub(crate) struct Opinion<'a> {
    pub(crate) trigger: Trigger,
    pub(crate) level: Level,
    pub(crate) severity: Severity,
    pub(crate) summary: String,
    pub(crate) signal: Option<&'a Signal>,
    pub(crate) hold: Duration,
    pub(crate) clear_after: Duration,
    pub(crate) shadow: bool,
}

/// The moment that opinions are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Timestamp,
    pub(crate) at: Timestamp,
    pub(crate) seq: u64,
    pub(crate) generation: u64,
    pub(crate) settings: &'a Settings,
    pub(crate) subject: &'a Subject,
    pub(crate) payment: Option<(&'a Payment, Usd)>,
    pub(crate) score: f64,
    pub(crate) contributions: &'a [Contribution],
}

/// A subject's episodes and its incident.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    episodes: Vec<Episode>,
    incident: Option<Incident>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Episode {
    alert: Alert,
    hold: Duration,
    clear_after: Duration,
    shadow: bool,
    quiet_since: Option<Timestamp>,
    written_at: Timestamp,
    /// The size of each payment in `alert.payments`.
    sizes: Vec<Usd>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Incident {
    id: IncidentId,
    acknowledged_by: Option<SmolStr>,
    told_severity: Severity,
    told_triggers: u32,
    told_at: Timestamp,
    n_notices: u32,
}

impl Book {
    /// True if nothing is open or remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.episodes.is_empty() && self.incident.is_none()
    }

    /// The open incident.
    pub(crate) fn incident(&self) -> Option<&IncidentId> {
        self.incident.as_ref().map(|incident| &incident.id)
    }

    /// The open alerts.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Alert> {
        self.episodes.iter().filter(|episode| episode.is_told()).map(|episode| &episode.alert)
    }

    /// When this book must be looked at again even if nothing happens.
    pub(crate) fn deadline(&self, settings: &Settings) -> Timestamp {
        let mut deadline = Timestamp::MAX;
        for episode in &self.episodes {
            let next = match (episode.alert.state, episode.quiet_since) {
                (AlertState::Resolved, _) => episode.alert.updated_at.after(settings.reopen_within),
                (AlertState::Pending, _) => episode.alert.onset_at.after(episode.hold),
                (AlertState::Firing | AlertState::Acknowledged, Some(since)) => {
                    since.after(episode.clear_after)
                }
                (AlertState::Firing | AlertState::Acknowledged, None) => Timestamp::MAX,
            };
            deadline = deadline.min(next);
        }
        if let Some(incident) = &self.incident {
            if incident.acknowledged_by.is_none() {
                deadline = deadline.min(incident.told_at.after(settings.remind_every));
            }
            if self.n_told() > incident.told_triggers {
                deadline = deadline.min(incident.told_at.after(settings.group_interval));
            }
        }
        deadline
    }

    /// Takes all triggers' words at one moment into account.
    pub(crate) fn update(&mut self, moment: &Moment<'_>, opinions: &[Opinion<'_>], effects: &mut Effects) {
        for episode in &mut self.episodes {
            if !opinions.iter().any(|opinion| opinion.trigger == episode.alert.trigger) {
                episode.quiet(moment, effects);
            }
        }
        for opinion in opinions {
            self.hear(moment, opinion, effects);
        }
        let grace = moment.settings.reopen_within;
        self.episodes.retain(|episode| {
            episode.alert.state != AlertState::Resolved || moment.now.since(episode.alert.updated_at) < grace
        });
        self.tell(moment, effects);
    }

    fn hear(&mut self, moment: &Moment<'_>, opinion: &Opinion<'_>, effects: &mut Effects) {
        let known = self.episodes.iter_mut().find(|episode| episode.alert.trigger == opinion.trigger);
        if let Some(episode) = known {
            if let Some(incident) = &self.incident
                && episode.alert.state == AlertState::Resolved
            {
                // Should it fire again, it joins what is open now.
                episode.alert.incident = incident.id.clone();
            }
            episode.hear(moment, opinion, effects);
        } else if opinion.level == Level::Firing {
            let incident = self.incident.as_ref().map(|incident| incident.id.clone());
            let mut episode = Episode::open(moment, opinion, incident);
            episode.ripen(moment, effects);
            self.episodes.push(episode);
        }
    }

    /// Decides whether people must be told something now.
    fn tell(&mut self, moment: &Moment<'_>, effects: &mut Effects) {
        let n_told = self.n_told();
        let severity = self.open().map(|alert| alert.severity).max();
        let (occasion, severity) = match (&self.incident, severity) {
            (None, None) => return,
            (None, Some(severity)) => (Occasion::Opened, severity),
            (Some(incident), None) => (Occasion::Resolved, incident.told_severity),
            (Some(incident), Some(severity)) => {
                let waited = moment.now.since(incident.told_at);
                let joined = n_told > incident.told_triggers && waited >= moment.settings.group_interval;
                if severity > incident.told_severity || joined {
                    (Occasion::Worsened, severity)
                } else if incident.acknowledged_by.is_none() && waited >= moment.settings.remind_every {
                    (Occasion::Reminded, severity)
                } else {
                    return;
                }
            }
        };
        self.notify(moment.now, moment.subject, occasion, severity, effects);
    }

    fn notify(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        occasion: Occasion,
        severity: Severity,
        effects: &mut Effects,
    ) {
        let n_told = self.n_told();
        let newest = self.episodes.iter().rev().find(|episode| episode.is_told());
        let newest = newest.map(|episode| &episode.alert.incident);
        let Some(id) = self.incident().or(newest).cloned() else { return };
        let mut alerts: Vec<Alert> = self
            .episodes
            .iter()
            .filter(|episode| episode.is_public() && episode.alert.incident == id)
            .map(|episode| episode.alert.clone())
            .collect();
        alerts.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then_with(|| a.id.cmp(&b.id)));
        let headline = alerts.first().map(|alert| alert.summary.clone()).unwrap_or_default();
        let incident = self.incident.get_or_insert_with(|| Incident {
            id: id.clone(),
            acknowledged_by: None,
            told_severity: severity,
            told_triggers: 0,
            told_at: now,
            n_notices: 0,
        });
        incident.n_notices += 1;
        incident.told_at = now;
        incident.told_severity = severity.max(incident.told_severity);
        incident.told_triggers = n_told.max(incident.told_triggers);
        let n = incident.n_notices;
        if occasion == Occasion::Resolved {
            self.incident = None;
        }
        effects.notices.push(Notice {
            id: NoticeId(format_smolstr!("{id}-{n}-{}", now.secs())),
            incident: id,
            occasion,
            subject: subject.clone(),
            severity,
            headline,
            alerts,
            at: now,
            link: None,
        });
    }

    fn n_told(&self) -> u32 {
        u32::try_from(self.open().count()).unwrap_or(u32::MAX)
    }

    /// A person takes the incident.
    pub(crate) fn acknowledge(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        by: &SmolStr,
        note: Option<&SmolStr>,
        effects: &mut Effects,
    ) {
        let Some(incident) = &mut self.incident else { return };
        if incident.acknowledged_by.is_some() {
            return;
        }
        incident.acknowledged_by = Some(by.clone());
        let severity = incident.told_severity;
        for episode in self.episodes.iter_mut().filter(|episode| episode.is_told()) {
            episode.alert.state = AlertState::Acknowledged;
            episode.alert.acknowledged_by = Some(by.clone());
            episode.alert.note = note.cloned().or(episode.alert.note.take());
            episode.write(now, effects);
        }
        self.notify(now, subject, Occasion::Acknowledged, severity, effects);
    }

    /// A person closes the incident. It opens anew if its triggers go on firing after the grace period.
    pub(crate) fn resolve(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        by: &SmolStr,
        note: Option<&SmolStr>,
        effects: &mut Effects,
    ) {
        let Some(incident) = &self.incident else { return };
        let severity = incident.told_severity;
        for episode in self.episodes.iter_mut().filter(|episode| episode.is_told()) {
            episode.alert.note = note.cloned().or(episode.alert.note.take());
            episode.alert.acknowledged_by.get_or_insert_with(|| by.clone());
            episode.resolve(now, effects);
        }
        self.notify(now, subject, Occasion::Resolved, severity, effects);
    }
}

impl Episode {
    fn open(moment: &Moment<'_>, opinion: &Opinion<'_>, incident: Option<IncidentId>) -> Self {
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
                subject: moment.subject.clone(),
                trigger: opinion.trigger.clone(),
                state: AlertState::Pending,
                severity: opinion.severity,
                summary: opinion.summary.clone(),
                signal: opinion.signal.cloned(),
                score: moment.score,
                contributions: moment.contributions.to_vec(),
                spent_since_onset: Usd::ZERO,
                payments: Vec::new(),
                onset_at,
                opened_at: moment.now,
                updated_at: moment.now,
                resolved_at: None,
                acknowledged_by: None,
                note: None,
                generation: moment.generation,
                opened_seq: moment.seq,
            },
            hold: opinion.hold,
            clear_after: opinion.clear_after,
            shadow: opinion.shadow,
            quiet_since: None,
            written_at: moment.now,
            sizes: Vec::new(),
        };
        episode.count(moment);
        // The payment in hand is part of the signal's excess already.
        let excess = opinion.signal.map_or(Usd::ZERO, |signal| signal.excess);
        episode.alert.spent_since_onset = excess.max(episode.alert.spent_since_onset);
        episode
    }

    /// True if people have been or may be told about it: not pending, not a shadow.
    fn is_public(&self) -> bool {
        !self.shadow && self.alert.state != AlertState::Pending
    }

    /// True if it is open and told.
    fn is_told(&self) -> bool {
        self.is_public() && self.alert.state != AlertState::Resolved
    }

    fn hear(&mut self, moment: &Moment<'_>, opinion: &Opinion<'_>, effects: &mut Effects) {
        self.shadow = opinion.shadow;
        (self.hold, self.clear_after) = (opinion.hold, opinion.clear_after);
        if self.alert.state == AlertState::Resolved {
            if opinion.level != Level::Firing {
                return;
            }
            self.alert.state = AlertState::Firing;
            self.alert.resolved_at = None;
            self.alert.acknowledged_by = None;
        }
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
    fn ripen(&mut self, moment: &Moment<'_>, effects: &mut Effects) -> bool {
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

    fn quiet(&mut self, moment: &Moment<'_>, effects: &mut Effects) {
        match self.alert.state {
            // A condition that ended before its hold time was over never was an alert.
            AlertState::Pending => {
                self.alert.state = AlertState::Resolved;
                self.alert.updated_at = Timestamp::EPOCH;
            }
            AlertState::Resolved => {}
            AlertState::Firing | AlertState::Acknowledged => {
                let since = *self.quiet_since.get_or_insert(moment.now);
                if moment.now.since(since) >= self.clear_after {
                    self.resolve(moment.now, effects);
                }
            }
        }
    }

    fn resolve(&mut self, now: Timestamp, effects: &mut Effects) {
        self.alert.state = AlertState::Resolved;
        self.alert.resolved_at = Some(now);
        self.quiet_since = None;
        if self.shadow {
            self.alert.updated_at = now;
        } else {
            self.write(now, effects);
        }
    }

    fn write(&mut self, now: Timestamp, effects: &mut Effects) {
        self.alert.updated_at = now;
        self.written_at = now;
        effects.alerts.push(self.alert.clone());
    }
}

/// Which alert of an incident is told first.
fn strength(alert: &Alert) -> f64 {
    let probability = alert.signal.as_ref().map_or(0.5, |signal| signal.probability);
    f64::from(alert.severity as u8) + probability
}

/// A name from what opened the episode: the subject, the trigger, and the payment or time.
fn name(moment: &Moment<'_>, trigger: Option<&Trigger>) -> SmolStr {
    let mut hasher = SipHasher24::new();
    moment.subject.hash(&mut hasher);
    trigger.hash(&mut hasher);
    match moment.payment {
        Some((payment, _)) => (&payment.rail, &payment.id, payment.kind, payment.status).hash(&mut hasher),
        None => moment.now.hash(&mut hasher),
    }
    hasher.write_u8(0);
    let hash = hasher.finish128();
    format_smolstr!("{:016x}{:04x}", hash.h1, hash.h2 & 0xffff)
}
