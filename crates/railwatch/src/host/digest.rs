//! Digests: at a set hour people are told what a team spent, what moved, what is open, and what runs out.
//!
//! A digest is a notice like any other: the outbox keeps it, and its name, the digest's and the hour, is what keeps a
//! second one from being written. One whose hour fell into a short absence of railwatch is told late.

mod figures;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{
    AgentId, Alert, Facts, IncidentId, Notice, NoticeId, Occasion, Report, Severity, Signal, SignalKind,
    SmolStr, Subject, Timestamp,
};
use railwatch_store::{AuditEntry, Effects};
use smol_str::format_smolstr;
use tokio_util::sync::CancellationToken;

use self::figures::Figures;
use self::schedule::last_hour;
use crate::config::{Config, Digest, Every};
use crate::host::actions::{Actions, Refusal};

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// A digest is told up to this late.
const LATE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Agents whose budgets a digest looks at.
const BUDGETED_MAX: usize = 2_000;

/// Digests, and what must be known to make them; when it changes, the schedule starts anew.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settings {
    digests: Vec<Planned>,
    teams: Arc<HashMap<AgentId, SmolStr>>,
}

/// A digest and where it goes.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    digest: Digest,
    tz: chrono_tz::Tz,
    sinks: Vec<SmolStr>,
    /// Whose budgets it looks at.
    budgeted: Vec<Subject>,
}

impl Settings {
    /// What a configuration says.
    pub(crate) fn of(config: &Config) -> Self {
        if config.digests.is_empty() {
            return Self::default();
        }
        let team_of =
            |agent: &crate::config::Agent| Some((agent.id.0.clone(), agent.team.as_deref()?.into()));
        let teams = Arc::new(config.agents.iter().filter_map(team_of).collect());
        let digests = config.digests.iter().map(|digest| Planned {
            digest: digest.clone(),
            tz: digest.timezone.unwrap_or(config.timezone).0,
            sinks: sinks(config, digest),
            budgeted: budgeted(config, digest),
        });
        Self { digests: digests.collect(), teams }
    }

    /// True if nothing is ever told.
    pub(crate) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    fn find(&self, name: &str) -> Result<&Planned, Refusal> {
        let found = self.digests.iter().find(|planned| planned.digest.name == name);
        found.ok_or_else(|| Refusal::Missing(format!("there is no digest {name:?}")))
    }
}

fn subject(digest: &Digest) -> Subject {
    digest.team.as_ref().map_or(Subject::Fleet, |team| Subject::Team(team.into()))
}

/// The sinks that a digest names, or that routes name for its team.
fn sinks(config: &Config, digest: &Digest) -> Vec<SmolStr> {
    if !digest.sinks.is_empty() {
        return digest.sinks.iter().map(SmolStr::new).collect();
    }
    let facts = Facts::new(&subject(digest), None, &[]);
    let told = config.route(&facts, Occasion::Digest, &[]);
    // Nobody asked for a digest because it is severe.
    let is_enabled = |sink: &SmolStr| config.sinks.get(sink).is_some_and(|sink| sink.common.enabled);
    told.into_iter().map(|told| told.sink).filter(is_enabled).collect()
}

fn budgeted(config: &Config, digest: &Digest) -> Vec<Subject> {
    let has_budget = |agent: &&crate::config::Agent| agent.budget.is_some() || !agent.budgets.is_empty();
    let is_meant = |agent: &&crate::config::Agent| digest.team.is_none() || agent.team == digest.team;
    let agents = config.agents.iter().filter(has_budget).filter(is_meant);
    let agents = agents.map(|agent| Subject::Agent(agent.id.0.clone()));
    std::iter::once(subject(digest)).chain(agents).take(BUDGETED_MAX).collect()
}

/// Makes digests.
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    pub(crate) settings: Settings,
    pub(crate) actions: Actions,
}

impl Digests {
    /// Tells digests at their hours until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut told: HashMap<String, Timestamp> = HashMap::new();
        loop {
            for planned in &self.settings.digests {
                let now = self.actions.clock.now();
                let Some(hour) = last_hour(&planned.digest, planned.tz, now) else { continue };
                let is_due = now.since(hour) < LATE_MAX && told.get(&planned.digest.name) != Some(&hour);
                if !is_due {
                    continue;
                }
                match self.tell(planned, hour, name(planned, hour)).await {
                    Ok(_) => drop(told.insert(planned.digest.name.clone(), hour)),
                    Err(error) => {
                        tracing::error!(digest = planned.digest.name, %error, "a digest cannot be made");
                    }
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What a digest would say about the time until now.
    pub(crate) async fn preview(&self, name: &str) -> Result<Report, Refusal> {
        let planned = self.settings.find(name)?;
        let now = self.actions.clock.now();
        Ok(self.report(planned, schedule::before(&planned.digest, planned.tz, now), now).await?.0)
    }

    /// Tells a digest about the time until now, whatever its hour is.
    pub(crate) async fn tell_now(&self, by: SmolStr, name: &str) -> Result<Vec<SmolStr>, Refusal> {
        let planned = self.settings.find(name)?;
        let at = self.actions.clock.now();
        let id = NoticeId(format_smolstr!("digest-{name}-now-{}", at.micros()));
        let sinks = self.tell(planned, at, id).await?;
        let (what, subject) = (SmolStr::new_static("digest"), name.to_owned());
        let detail = serde_json::json!({ "sinks": sinks });
        self.actions.journal.audit(AuditEntry { at, by, what, subject, detail }).await;
        Ok(sinks)
    }

    async fn tell(&self, planned: &Planned, hour: Timestamp, id: NoticeId) -> Result<Vec<SmolStr>, Refusal> {
        let (asked, sinks) = (id.clone(), planned.sinks.clone());
        let told = self.actions.journal.run(move |store| {
            let entries = sinks.iter().map(|sink| store.outbox_entry(&asked, sink));
            entries.collect::<Result<Vec<_>, _>>()
        });
        let told = told.await.ok_or(Refusal::Stopping)??;
        if !told.is_empty() && told.iter().all(Option::is_some) {
            return Ok(planned.sinks.clone());
        }
        let from = schedule::before(&planned.digest, planned.tz, hour);
        let (report, headline) = self.report(planned, from, hour).await?;
        let notice = notice(planned, id, hour, headline, report);
        let outbox = planned.sinks.iter().map(|sink| (sink.clone(), notice.clone())).collect();
        let effects = Effects { outbox, ..Effects::default() };
        let queued = self.actions.journal.run(move |store| store.write_effects(&[effects]));
        queued.await.ok_or(Refusal::Stopping)??;
        Ok(planned.sinks.clone())
    }

    async fn report(
        &self,
        planned: &Planned,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(Report, String), Refusal> {
        let (teams, team) = (self.settings.teams.clone(), planned.digest.team.clone());
        let is_meant = move |agent: &AgentId| {
            team.as_ref().is_none_or(|team| teams.get(agent).is_some_and(|known| known == team))
        };
        let before = schedule::before(&planned.digest, planned.tz, from);
        let read = is_meant.clone();
        let figures =
            self.actions.read(move |store| Figures::read(store, [before, from, until], read)).await?;
        let budgeted = planned.budgeted.clone();
        let (open, budgets) = self
            .actions
            .core
            .look(move |engine| {
                let budget = |subject: &Subject| {
                    let signals = engine.signals(subject);
                    let budget = signals.into_iter().find(|signal| signal.kind == SignalKind::Budget)?;
                    Some((subject.clone(), budget))
                };
                (engine.open_alerts(), budgeted.iter().filter_map(budget).collect::<Vec<_>>())
            })
            .await
            .ok_or(Refusal::Stopping)?;
        let about = subject(&planned.digest);
        let open: Vec<Alert> = open
            .into_iter()
            .filter(|alert| match &alert.subject {
                Subject::Agent(agent) => is_meant(agent),
                other => *other == about || about == Subject::Fleet,
            })
            .collect();
        let budgets = run_outs(&budgets, until);
        let span = if planned.digest.every == Every::Day { "day" } else { "week" };
        Ok(figures.report(&about.to_string(), span, &open, &budgets))
    }
}

/// Budgets that run out within their period, the earliest first: who, in how many days, and when.
fn run_outs(budgets: &[(Subject, Signal)], now: Timestamp) -> Vec<String> {
    let mut soon: Vec<(f64, String)> = budgets
        .iter()
        .filter_map(|(subject, signal)| {
            let days = signal.fact("days_until_empty").filter(|days| (0.0..366.0).contains(days))?;
            let left = signal.fact("days_left").unwrap_or(f64::MAX);
            if days >= left {
                return None;
            }
            let at = now.after(Duration::from_secs_f64(days * 86_400.0)).to_utc().format("%Y-%m-%d");
            Some((days, format!("{subject}: empty on {at}, in {days:.1} days")))
        })
        .collect();
    soon.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    soon.into_iter().map(|(_, line)| line).collect()
}

fn name(planned: &Planned, hour: Timestamp) -> NoticeId {
    NoticeId(format_smolstr!("digest-{}-{}", planned.digest.name, hour.secs()))
}

fn notice(planned: &Planned, id: NoticeId, at: Timestamp, headline: String, report: Report) -> Notice {
    Notice {
        incident: IncidentId(id.0.clone()),
        id,
        occasion: Occasion::Digest,
        subject: subject(&planned.digest),
        team: None,
        labels: Vec::new(),
        escalations: Vec::new(),
        severity: Severity::Info,
        headline,
        alerts: Vec::new(),
        at,
        link: None,
        may_repeat: false,
        order: None,
        report: Some(Box::new(report)),
    }
}
