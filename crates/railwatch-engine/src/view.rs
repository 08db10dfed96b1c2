//! What people see of a subject: the same facts for the command line, the API, the dashboard and the store's table.

use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{
    AgentId, Alert, AlertId, Condition, Facts, Signal, Silence, SmolStr, Subject, Timestamp, Totals,
};
use railwatch_plugin::column::Look;
use railwatch_plugin::detector::Profile;
use railwatch_plugin::score::{Case, Signals};
use serde::Serialize;

use crate::engine::Engine;
use crate::history::History;
use crate::settings::FreezeSettings;

/// One subject at the present moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectView {
    /// The subject's key, such as `agent:a1`.
    pub subject: SmolStr,
    /// Its name as people say it.
    pub name: String,
    /// Its team.
    pub team: Option<SmolStr>,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid.
    pub last_at: Timestamp,
    /// Sums since it is known.
    pub totals: Totals,
    /// The anomaly score.
    pub score: f64,
    /// The detectors' signals.
    pub signals: Vec<Signal>,
    /// Its open alerts.
    pub alerts: Vec<AlertId>,
}

/// How a listing is ordered; always the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortBy {
    /// By anomaly score, then by spend.
    #[default]
    Score,
    /// By committed spend.
    Spend,
    /// By the time of the last payment.
    Recent,
}

/// What rules may look at of one subject, as it was at one moment: to be asked elsewhere, while the engine goes on.
#[derive(Debug, Clone)]
pub struct Snapshot {
    now: Timestamp,
    subject: Subject,
    profile: Arc<Profile>,
    signals: Vec<Signal>,
    score: f64,
    history: History,
    longest: Duration,
}

impl Snapshot {
    /// As a rule sees it on a tick.
    pub fn case(&self) -> Case<'_> {
        Case {
            now: self.now,
            at: self.now,
            subject: &self.subject,
            payment: None,
            signals: Signals::known(&self.signals),
            score: self.score,
            profile: &self.profile,
            history: &self.history,
        }
    }

    /// The longest window that the rules in force ask for; what is older is not kept.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

impl Engine {
    /// What rules may look at of a subject, if it is in memory.
    pub fn snapshot(&self, subject: &Subject) -> Option<Snapshot> {
        let row = self.subjects.row(self.subjects.slot(subject)?)?;
        let mut history = row.kept.history.as_deref().cloned().unwrap_or_default();
        history.advance(self.now);
        Some(Snapshot {
            now: self.now,
            subject: row.subject.clone(),
            profile: row.profile.clone(),
            signals: self.signals(subject),
            score: row.kept.score,
            history,
            longest: self.rules.need().longest,
        })
    }

    /// One subject, if it is in memory.
    pub fn view(&self, subject: &Subject) -> Option<SubjectView> {
        self.view_slot(self.subjects.slot(subject)?)
    }

    /// What the detectors think of a subject now; nothing if it is not in memory.
    pub fn signals(&self, subject: &Subject) -> Vec<Signal> {
        let mut signals = Vec::new();
        if let Some(slot) = self.subjects.slot(subject) {
            self.collect_signals(slot, &mut signals);
        }
        signals
    }

    /// Dollars per hour that are usual for a subject in the hours of these times, by what is known now. `None` where
    /// too little is known, or the subject is not in memory.
    pub fn usual_at(&self, subject: &Subject, times: &[Timestamp]) -> Vec<Option<f64>> {
        let found = self.subjects.slot(subject).and_then(|slot| Some((slot, self.subjects.row(slot)?)));
        let Some((slot, row)) = found else { return vec![None; times.len()] };
        let look =
            Look { now: self.now, subject: &row.subject, profile: &row.profile, usual: &row.kept.usual };
        let usual = |at: &Timestamp| self.columns.iter().find_map(|column| column.usual_at(slot, look, *at));
        times.iter().map(usual).collect()
    }

    /// The first `limit` agents in this order.
    pub fn agents(&self, sort: SortBy, limit: usize) -> Vec<SubjectView> {
        let mut agents: Vec<(f64, usize)> = self
            .subjects
            .iter()
            .filter(|(_, row)| matches!(row.subject, Subject::Agent(_)))
            .map(|(slot, row)| {
                let spend = row.kept.ledger.totals.committed.dollars();
                let rank = match sort {
                    SortBy::Score => row.kept.score + spend * 1e-12,
                    SortBy::Spend => spend,
                    SortBy::Recent => row.kept.last_at.secs_f64(),
                };
                (rank, slot)
            })
            .collect();
        agents.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        agents.into_iter().take(limit).filter_map(|(_, slot)| self.view_slot(slot)).collect()
    }

    /// Every open alert, in the order of their subjects.
    pub fn open_alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self
            .incidents
            .values()
            .filter_map(|slot| self.subjects.row(*slot)?.kept.book.as_ref())
            .flat_map(|book| book.open().cloned())
            .collect();
        alerts.sort_by(|a, b| a.subject.cmp(&b.subject).then_with(|| a.id.cmp(&b.id)));
        alerts
    }

    /// The silences that are in force or will be, in the order in which they were made.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// The conditions that hold, in the order of their subjects and kinds.
    pub fn conditions(&self) -> Vec<Condition> {
        let rows = self.subjects.iter().map(|(_, row)| row);
        let mut held: Vec<Condition> = rows.flat_map(|row| row.kept.conditions.iter().cloned()).collect();
        held.sort_by(|a, b| (&a.subject, a.kind, &a.about).cmp(&(&b.subject, b.kind, &b.about)));
        held
    }

    /// The conditions of one subject that hold.
    pub fn conditions_of(&self, subject: &Subject) -> &[Condition] {
        let row = self.subjects.slot(subject).and_then(|slot| self.subjects.row(slot));
        row.map_or(&[], |row| &row.kept.conditions)
    }

    /// How agents are frozen in the generation in force.
    pub fn freeze_settings(&self) -> &FreezeSettings {
        &self.settings.freeze
    }

    /// True if the configuration or a payment has named this agent, and it has not left memory since.
    pub fn has_heard_of(&self, agent: &AgentId) -> bool {
        let subject = Subject::Agent(agent.clone());
        self.knows(&subject) || self.directory.is_configured(&subject)
    }

    /// What matchers ask about an open incident's alerts.
    pub fn incident_facts(&self, incident: &railwatch_model::IncidentId) -> Option<Facts> {
        let row = self.subjects.row(*self.incidents.get(incident)?)?;
        Some(row.kept.book.as_ref()?.facts(row.whom()))
    }

    fn view_slot(&self, slot: usize) -> Option<SubjectView> {
        let row = self.subjects.row(slot)?;
        let mut signals = Vec::new();
        self.collect_signals(slot, &mut signals);
        Some(SubjectView {
            subject: row.subject.key(),
            name: row.subject.to_string(),
            team: row.profile.team.clone(),
            first_at: row.kept.born_at,
            last_at: row.kept.last_at,
            totals: row.kept.ledger.totals,
            score: row.kept.score,
            signals,
            alerts: row.kept.book.iter().flat_map(|book| book.open()).map(|alert| alert.id.clone()).collect(),
        })
    }
}
