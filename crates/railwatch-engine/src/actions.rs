//! What people do, and what the host reports about railwatch itself.

use std::time::Duration;

use railwatch_model::{Action, Condition, Facts, IncidentId, Severity, Silence, SmolStr};
use railwatch_plugin::detector::Announcement;

use crate::alerts::{Level, Opinion, Whom};
use crate::effects::Effects;
use crate::engine::Engine;
use crate::subjects::Kept;

/// Conditions of one kind whose sentences an alert quotes.
const QUOTED_MAX: usize = 5;

impl Engine {
    pub(crate) fn act(&mut self, by: &SmolStr, action: &Action, effects: &mut Effects) {
        match action {
            Action::Acknowledge { incident, note } => {
                self.attend(incident, effects, |book, now, whom, effects| {
                    book.acknowledge(now, whom, by, note.as_ref(), effects);
                });
            }
            Action::Resolve { incident, note } => {
                self.attend(incident, effects, |book, now, whom, effects| {
                    book.resolve(now, whom, by, note.as_ref(), effects);
                });
            }
            Action::Announce { subject, from, until, kinds, rails, reason } => {
                let slot = self
                    .subjects
                    .slot(subject)
                    .unwrap_or_else(|| self.insert(subject.clone(), Kept::default()));
                self.save_early(slot);
                self.subjects.touch(slot);
                let now = self.now;
                if let Some(row) = self.subjects.row_mut(slot) {
                    row.kept.announcements.retain(|announcement| announcement.until > now);
                    row.kept.announcements.push(Announcement {
                        from: *from,
                        until: *until,
                        kinds: kinds.clone(),
                        rails: rails.clone(),
                        reason: reason.to_string(),
                    });
                }
                self.refresh_profile(slot);
            }
            Action::Silence(silence) => {
                self.silences.retain(|known| known.id != silence.id);
                self.silences.push(silence.clone());
                self.wake_incidents();
            }
            Action::Unsilence { silence } => self.end_silences(|known| known.id == *silence),
            Action::Freeze(freeze) => self.ask_freeze(by, freeze, effects),
            Action::Unfreeze { freeze } => self.lift(by, freeze, effects),
            Action::GateSaid { freeze, notice, gate, done, detail } => {
                self.gate_said(freeze, notice, gate, (*done, detail), effects);
            }
            // A label is the store's to keep; it changes no state here.
            Action::Label { .. } => {}
        }
    }

    /// Does something with the book of an open incident.
    fn attend(
        &mut self,
        incident: &IncidentId,
        effects: &mut Effects,
        work: impl FnOnce(&mut crate::alerts::Book, railwatch_model::Timestamp, Whom<'_>, &mut Effects),
    ) {
        let Some(slot) = self.incidents.get(incident).copied() else { return };
        self.save_early(slot);
        self.subjects.touch(slot);
        let (now, settings) = (self.now, &self.settings);
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let Some(book) = &mut row.kept.book else { return };
        work(book, now, Whom { subject: &row.subject, profile: &row.profile }, effects);
        let after = book.incident().cloned();
        let wake_at = row.kept.wake_at.min(book.deadline(settings, now));
        self.subjects.wake(slot, wake_at);
        self.index_incident(slot, Some(incident.clone()), after);
    }

    /// The host's word about a condition: it is an alert while it holds.
    pub(crate) fn report(&mut self, seq: u64, condition: &Condition, effects: &mut Effects) {
        let subject = &condition.subject;
        let slot = match (self.subjects.slot(subject), &condition.holding) {
            (Some(slot), _) => slot,
            (None, Some(_)) => self.insert(subject.clone(), Kept::default()),
            (None, None) => return,
        };
        self.save_early(slot);
        self.subjects.touch(slot);
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let held = &mut row.kept.conditions;
        held.retain(|known| (known.kind, &known.about) != (condition.kind, &condition.about));
        if condition.holding.is_some() {
            held.push(condition.clone());
            held.sort_by(|a, b| (a.kind, &a.about).cmp(&(b.kind, &b.about)));
        }
        self.evaluate(slot, seq, None, effects);
    }

    /// Keeps the index of open incidents, and what depends on which of them are open.
    pub(crate) fn index_incident(
        &mut self,
        slot: usize,
        before: Option<IncidentId>,
        after: Option<IncidentId>,
    ) {
        if self.refresh_inhibitor(slot) {
            self.wake_incidents();
        }
        if before == after {
            return;
        }
        if let Some(id) = after {
            self.incidents.insert(id, slot);
        }
        if let Some(id) = before {
            self.incidents.remove(&id);
            self.end_finished_silences(slot, &id);
        }
    }

    /// Finds out anew what every open incident explains, and looks at all of them with the next tick.
    pub(crate) fn review_hushes(&mut self) {
        self.inhibitors.clear();
        let mut slots: Vec<usize> = self.incidents.values().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            self.refresh_inhibitor(slot);
        }
        self.wake_incidents();
    }

    /// Finds out anew what the open incident of a subject explains; true if that changed.
    pub(crate) fn refresh_inhibitor(&mut self, slot: usize) -> bool {
        if self.settings.inhibitions.is_empty() && self.inhibitors.is_empty() {
            return false;
        }
        let Some(row) = self.subjects.row(slot) else { return false };
        let book = row.kept.book.as_ref().filter(|book| book.incident().is_some());
        let facts = book.map(|book| book.facts(row.whom()));
        let explains = |facts: &Facts| -> Vec<(usize, Facts)> {
            let all = self.settings.inhibitions.iter().enumerate();
            let hits = all.filter(|(_, inhibition)| inhibition.by.accepts(facts));
            hits.map(|(place, _)| (place, facts.clone())).collect()
        };
        let subject = row.subject.clone();
        let now = facts.iter().flat_map(explains).collect::<Vec<_>>();
        let before = if now.is_empty() {
            self.inhibitors.remove(&subject)
        } else {
            self.inhibitors.insert(subject, now.clone())
        };
        before.unwrap_or_default() != now
    }

    /// Ends the silences of which this is true; what they hid is looked at with the next tick.
    pub(crate) fn end_silences(&mut self, ends: impl Fn(&Silence) -> bool) {
        let before = self.silences.len();
        self.silences.retain(|silence| !ends(silence));
        if self.silences.len() < before {
            self.wake_incidents();
        }
    }

    /// Ends the silences that last until what they hid is over, when the incident that was just closed was the last.
    fn end_finished_silences(&mut self, slot: usize, closed: &IncidentId) {
        if !self.silences.iter().any(|silence| silence.until_resolved) {
            return;
        }
        let Some(row) = self.subjects.row(slot) else { return };
        let facts = |row: &crate::subjects::Row| {
            let book = row.kept.book.as_ref()?;
            Some(
                Facts::new(&row.subject, row.profile.team.as_ref(), &row.profile.labels)
                    .with(book.of(closed)),
            )
        };
        let Some(closed_facts) = facts(row) else { return };
        let now = self.now;
        let open: Vec<Facts> = self
            .incidents
            .values()
            .filter_map(|slot| self.subjects.row(*slot))
            .filter_map(|row| Some(row.kept.book.as_ref()?.facts(row.whom())))
            .collect();
        self.end_silences(|silence| {
            silence.until_resolved
                && silence.hides(&closed_facts, now)
                && !open.iter().any(|facts| silence.matcher.accepts(facts))
        });
    }

    /// Every open incident is looked at with the next tick.
    fn wake_incidents(&mut self) {
        let slots: Vec<usize> = self.incidents.values().copied().collect();
        for slot in slots {
            self.save_early(slot);
            self.subjects.touch(slot);
            self.subjects.wake(slot, self.now);
        }
    }
}

/// What conditions that hold say: those of one kind speak with one voice.
pub(crate) fn conditions<'a>(held: &[Condition]) -> Vec<Opinion<'a>> {
    let opinion = |same: &[Condition]| {
        let first = same.first()?;
        let holding = || same.iter().filter_map(|condition| condition.holding.as_ref());
        let mut said: Vec<String> =
            holding().take(QUOTED_MAX).map(|holding| holding.summary.to_string()).collect();
        if same.len() > QUOTED_MAX {
            said.push(format!("and {} more", same.len() - QUOTED_MAX));
        }
        Some(Opinion {
            trigger: first.kind.trigger(),
            level: Level::Firing,
            severity: holding().map(|holding| holding.severity).max().unwrap_or(Severity::Info),
            summary: said.join("; "),
            signal: None,
            hold: Duration::ZERO,
            clear_after: first.kind.clear_after(),
            shadow: false,
        })
    };
    held.chunk_by(|a, b| a.kind == b.kind).filter_map(opinion).collect()
}
