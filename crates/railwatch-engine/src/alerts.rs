//! The life of alerts, per subject: opened by a trigger that fires, held, silenced, escalated, acknowledged, resolved by
//! quiet, and told to people as incidents.
//!
//! Invariant: identical triggers at identical event positions give identical alert ids, whatever the batches were.

mod episode;
mod hush;

use std::time::Duration;

use railwatch_model::{
    Alert, AlertState, Contribution, Facts, IncidentId, Notice, NoticeId, Occasion, Payment, Severity,
    Signal, SmolStr, Subject, Timestamp, Trigger, Usd,
};
use railwatch_plugin::detector::Profile;
use serde::{Deserialize, Serialize};
use smol_str::format_smolstr;

use self::episode::Episode;
use self::hush::Hush;
pub(crate) use self::hush::{Hushes, Inhibitors};
use crate::effects::Effects;
use crate::settings::Settings;

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
    pub(crate) whom: Whom<'a>,
    pub(crate) hushes: Hushes<'a>,
    pub(crate) payment: Option<(&'a Payment, Usd)>,
    pub(crate) score: f64,
    pub(crate) contributions: &'a [Contribution],
}

/// Whom a book is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whom<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) profile: &'a Profile,
}

/// A subject's episodes and its incident.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    episodes: Vec<Episode>,
    incident: Option<Incident>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Incident {
    id: IncidentId,
    /// It was told, was over, and began again.
    reopened: bool,
    acknowledged_by: Option<SmolStr>,
    /// `None` while nobody has been told.
    told: Option<Told>,
    n_notices: u32,
    /// The escalations that it has gone through.
    escalated: Vec<SmolStr>,
    hush: Option<Hush>,
}

/// What people know of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Told {
    first_at: Timestamp,
    at: Timestamp,
    severity: Severity,
    triggers: u32,
}

/// Something that people must be told now.
struct Due {
    occasion: Occasion,
    severity: Severity,
    escalation: Option<SmolStr>,
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

    /// The alerts of an incident, open or not.
    pub(crate) fn of<'a>(&'a self, incident: &'a IncidentId) -> impl Iterator<Item = &'a Alert> {
        let alerts = self.episodes.iter().filter(|episode| episode.is_public());
        alerts.map(|episode| &episode.alert).filter(move |alert| alert.incident == *incident)
    }

    /// What matchers ask about the open alerts.
    pub(crate) fn facts(&self, whom: Whom<'_>) -> Facts {
        Facts::new(whom.subject, whom.profile.team.as_ref(), &whom.profile.labels).with(self.open())
    }

    /// When this book must be looked at again even if nothing happens.
    pub(crate) fn deadline(&self, settings: &Settings, now: Timestamp) -> Timestamp {
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
        self.incident.iter().fold(deadline, |deadline, incident| {
            deadline.min(incident.deadline(settings, now, self.n_open()))
        })
    }

    /// Takes all triggers' words at one moment into account.
    pub(crate) fn update(&mut self, moment: &Moment<'_>, opinions: &[Opinion<'_>], effects: &mut Effects) {
        let grace = moment.settings.reopen_within;
        self.forget(moment.now, grace);
        for episode in &mut self.episodes {
            if !opinions.iter().any(|opinion| opinion.trigger == episode.alert.trigger) {
                episode.quiet(moment, effects);
            }
        }
        for opinion in opinions {
            self.hear(moment, opinion, effects);
        }
        self.forget(moment.now, grace);
        self.tell(moment, effects);
    }

    /// Drops what was resolved so long ago that it would not be the same incident again.
    fn forget(&mut self, now: Timestamp, grace: Duration) {
        self.episodes.retain(|episode| {
            episode.alert.state != AlertState::Resolved || now.since(episode.alert.updated_at) < grace
        });
    }

    fn hear(&mut self, moment: &Moment<'_>, opinion: &Opinion<'_>, effects: &mut Effects) {
        let known = self.episodes.iter_mut().find(|episode| episode.alert.trigger == opinion.trigger);
        if let Some(episode) = known {
            if let Some(incident) = &self.incident
                && episode.may_reopen()
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

    /// Decides what people must be told now, and tells it unless something hushes it. That it is over is always told
    /// to those who know of it.
    fn tell(&mut self, moment: &Moment<'_>, effects: &mut Effects) {
        self.begin_incident();
        self.hush(moment, effects);
        while let Some(due) = self.due(moment) {
            let is_hushed = self.incident.as_ref().is_some_and(|incident| incident.hush.is_some());
            if is_hushed && due.occasion != Occasion::Resolved {
                return;
            }
            self.notify(moment.now, moment.whom, due, effects);
        }
    }

    /// Open alerts without an incident are a new one, or continue the one that they belonged to.
    fn begin_incident(&mut self) {
        let newest = self.episodes.iter().rev().find(|episode| episode.is_told());
        if let Some(episode) = newest
            && self.incident.is_none()
        {
            self.incident = Some(Incident {
                id: episode.alert.incident.clone(),
                reopened: episode.told,
                acknowledged_by: None,
                told: None,
                n_notices: 0,
                escalated: Vec::new(),
                hush: None,
            });
        }
    }

    /// Finds out whether something hushes the incident now, and marks its alerts when that changes.
    fn hush(&mut self, moment: &Moment<'_>, effects: &mut Effects) {
        let facts = (!moment.hushes.is_empty()).then(|| self.facts(moment.whom));
        let hush = facts.and_then(|facts| moment.hushes.check(moment.whom.subject, &facts, moment.now));
        let Some(incident) = &mut self.incident else { return };
        let by = hush.as_ref().map(|hush| hush.by.clone());
        incident.hush = hush;
        for episode in self.episodes.iter_mut().filter(|episode| episode.is_told()) {
            if episode.alert.silenced_by != by {
                episode.alert.silenced_by.clone_from(&by);
                episode.write(moment.now, effects);
            }
        }
    }

    fn due(&self, moment: &Moment<'_>) -> Option<Due> {
        let incident = self.incident.as_ref()?;
        let due = |occasion, severity| Some(Due { occasion, severity, escalation: None });
        let Some(severity) = self.open().map(|alert| alert.severity).max() else {
            return due(Occasion::Resolved, incident.told.map_or(Severity::Info, |told| told.severity));
        };
        let Some(told) = incident.told else {
            return due(if incident.reopened { Occasion::Reopened } else { Occasion::Opened }, severity);
        };
        let waited = moment.now.since(told.at);
        let joined = self.n_open() > told.triggers && waited >= moment.settings.group_interval;
        if severity > told.severity || joined {
            return due(Occasion::Worsened, severity);
        }
        if incident.acknowledged_by.is_some() {
            return None;
        }
        if let Some(name) = self.escalation(moment, incident, told) {
            return Some(Due { occasion: Occasion::Escalated, severity, escalation: Some(name) });
        }
        if waited >= moment.settings.remind_every { due(Occasion::Reminded, severity) } else { None }
    }

    /// The next escalation whose time has come.
    fn escalation(&self, moment: &Moment<'_>, incident: &Incident, told: Told) -> Option<SmolStr> {
        let waited = moment.now.since(told.first_at);
        let mut ripe = moment
            .settings
            .escalations
            .iter()
            .filter(|escalation| waited >= escalation.after && !incident.escalated.contains(&escalation.name))
            .peekable();
        ripe.peek()?;
        let facts = self.facts(moment.whom);
        ripe.find(|escalation| escalation.matcher.accepts(&facts)).map(|escalation| escalation.name.clone())
    }

    fn notify(&mut self, now: Timestamp, whom: Whom<'_>, due: Due, effects: &mut Effects) {
        let Due { occasion, severity, escalation } = due;
        let n_open = self.n_open();
        let Some(mut incident) = self.incident.take() else { return };
        let is_over = occasion == Occasion::Resolved;
        // Who was never told that it began need not hear that it is over.
        let is_news = incident.told.is_some() || matches!(occasion, Occasion::Opened | Occasion::Reopened);
        if is_news {
            incident.n_notices += 1;
            incident.escalated.extend(escalation);
            let told = incident.told.get_or_insert(Told { first_at: now, at: now, severity, triggers: 0 });
            told.at = now;
            told.severity = told.severity.max(severity);
            told.triggers = told.triggers.max(n_open);
            effects.notices.push(self.notice(now, whom, occasion, severity, &incident));
        }
        let told = self.episodes.iter_mut().filter(|episode| episode.alert.incident == incident.id);
        told.for_each(|episode| episode.told |= is_news);
        if !is_over {
            self.incident = Some(incident);
        }
    }

    fn notice(
        &self,
        now: Timestamp,
        whom: Whom<'_>,
        occasion: Occasion,
        severity: Severity,
        incident: &Incident,
    ) -> Notice {
        let id = &incident.id;
        let mut alerts: Vec<Alert> = self.of(id).cloned().collect();
        alerts.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then_with(|| a.id.cmp(&b.id)));
        Notice {
            id: NoticeId(format_smolstr!("{id}-{}-{}", incident.n_notices, now.secs())),
            incident: id.clone(),
            occasion,
            subject: whom.subject.clone(),
            team: whom.profile.team.clone(),
            labels: whom.profile.labels.clone(),
            escalations: incident.escalated.clone(),
            severity,
            headline: alerts.first().map(|alert| alert.summary.clone()).unwrap_or_default(),
            alerts,
            at: now,
            link: None,
            may_repeat: false,
            order: None,
            report: None,
        }
    }

    /// Shows how the freeze of this agent stands: on the alerts of an incident, or on those that are open.
    pub(crate) fn mark_freeze(
        &mut self,
        now: Timestamp,
        incident: Option<&IncidentId>,
        text: &SmolStr,
        effects: &mut Effects,
    ) {
        let is_meant = |episode: &Episode| match incident {
            Some(incident) => episode.alert.incident == *incident && episode.is_public(),
            None => episode.is_told(),
        };
        for episode in self.episodes.iter_mut().filter(|episode| is_meant(episode)) {
            episode.alert.freeze = Some(text.clone());
            episode.write(now, effects);
        }
    }

    fn n_open(&self) -> u32 {
        u32::try_from(self.open().count()).unwrap_or(u32::MAX)
    }

    /// A person takes the incident.
    pub(crate) fn acknowledge(
        &mut self,
        now: Timestamp,
        whom: Whom<'_>,
        by: &SmolStr,
        note: Option<&SmolStr>,
        effects: &mut Effects,
    ) {
        let Some(incident) = &mut self.incident else { return };
        if incident.acknowledged_by.is_some() {
            return;
        }
        incident.acknowledged_by = Some(by.clone());
        let severity = incident.told.map_or(Severity::Info, |told| told.severity);
        for episode in self.episodes.iter_mut().filter(|episode| episode.is_told()) {
            episode.alert.state = AlertState::Acknowledged;
            episode.alert.acknowledged_by = Some(by.clone());
            episode.alert.note = note.cloned().or(episode.alert.note.take());
            episode.write(now, effects);
        }
        let due = Due { occasion: Occasion::Acknowledged, severity, escalation: None };
        self.notify(now, whom, due, effects);
    }

    /// A person closes the incident. While its triggers go on firing it stays closed until the grace period is over;
    /// when they fire again after quiet, it opens again.
    pub(crate) fn resolve(
        &mut self,
        now: Timestamp,
        whom: Whom<'_>,
        by: &SmolStr,
        note: Option<&SmolStr>,
        effects: &mut Effects,
    ) {
        let Some(incident) = &self.incident else { return };
        let severity = incident.told.map_or(Severity::Info, |told| told.severity);
        for episode in self.episodes.iter_mut().filter(|episode| episode.is_told()) {
            episode.alert.note = note.cloned().or(episode.alert.note.take());
            episode.alert.acknowledged_by.get_or_insert_with(|| by.clone());
            episode.close(now, effects);
        }
        let due = Due { occasion: Occasion::Resolved, severity, escalation: None };
        self.notify(now, whom, due, effects);
    }
}

impl Incident {
    fn deadline(&self, settings: &Settings, now: Timestamp, n_open: u32) -> Timestamp {
        if let Some(hush) = &self.hush {
            return hush.until;
        }
        let Some(told) = self.told else { return Timestamp::MAX };
        let mut deadline = Timestamp::MAX;
        if n_open > told.triggers {
            deadline = told.at.after(settings.group_interval);
        }
        if self.acknowledged_by.is_none() {
            deadline = deadline.min(told.at.after(settings.remind_every));
            // An escalation whose time has passed waits for the incident to match it, which no clock brings about.
            let escalations =
                settings.escalations.iter().map(|escalation| told.first_at.after(escalation.after));
            deadline = escalations.filter(|at| *at > now).fold(deadline, Timestamp::min);
        }
        deadline
    }
}

/// Which alert of an incident is told first.
fn strength(alert: &Alert) -> f64 {
    let probability = alert.signal.as_ref().map_or(0.5, |signal| signal.probability);
    f64::from(alert.severity as u8) + probability
}
