//! Freezing agents: what people may ask for, and who must agree.

use railwatch_model::{
    Action, AgentId, AlertId, Freeze, FreezeId, FreezeStage, IncidentId, SmolStr, Subject,
};
use railwatch_plugin::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Actions, Done, Refusal, check_text};
use crate::host::freeze::is_person;

/// Rails that one freeze may name.
const RAILS_MAX: usize = 20;

/// A freeze as people ask for it.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FreezeWish {
    /// The alert that is the reason; the strongest open one of the agent by default.
    pub(crate) alert: Option<SmolStr>,
    /// On these rails; on all of them if none is named.
    pub(crate) rails: Vec<SmolStr>,
    /// How long, such as `"1h"`; the configuration's `freeze.lasts` by default.
    #[serde(rename = "for")]
    #[schemars(with = "Option<String>")]
    pub(crate) lasts: Option<Span>,
    /// Why.
    pub(crate) reason: String,
}

impl Actions {
    /// Freezes an agent, or agrees with somebody who asked for that.
    pub(crate) async fn freeze(&self, by: SmolStr, agent: &str, wish: FreezeWish) -> Done<Freeze> {
        if wish.reason.trim().is_empty() {
            return wrong("say why: whoever answers for the agent will want to know");
        }
        check_text("reason", Some(&wish.reason))?;
        if wish.rails.len() > RAILS_MAX || wish.rails.iter().any(|rail| rail.is_empty() || rail.len() > 64) {
            return wrong(&format!("name at most {RAILS_MAX} rails, each with 1 to 64 characters"));
        }
        if !is_person(&by) {
            return wrong("a person's name must not begin with \"policy \" or \"gate \"");
        }
        let agent = self.known_agent(agent).await?;
        let about = match &wish.alert {
            Some(alert) => Some(self.alert_of(&agent, alert).await?),
            None => None,
        };
        let whom = agent.clone();
        let (settings, open, incident, n) = self
            .core
            .look(move |engine| {
                let settings = engine.freeze_settings();
                (
                    (settings.gates.len(), settings.approvals, settings.lasts_secs, settings.longest_secs),
                    engine.freeze_of(&whom).cloned(),
                    engine.open_incident(&whom),
                    engine.freezes().len(),
                )
            })
            .await
            .ok_or(Refusal::Stopping)?;
        let (gates, approvals, lasts_secs, longest_secs) = settings;
        match open {
            Some(open) => may_agree(&open, &by)?,
            None if gates == 0 => {
                let why = "no gate is configured; add a sink with plugin = \"gate\" or \"stripe_issuing\"";
                return Err(Refusal::Conflict(why.to_owned()));
            }
            None if n >= railwatch_engine::FREEZES_MAX => {
                return Err(Refusal::Conflict(format!("there are {n} freezes already")));
            }
            None => {}
        }
        let lasts_secs = match wish.lasts {
            Some(lasts) => u32::try_from(lasts.0.as_secs()).unwrap_or(u32::MAX),
            None => lasts_secs,
        };
        if !(1..=longest_secs).contains(&lasts_secs) {
            return wrong(&format!("a freeze lasts between 1 and {longest_secs} seconds (freeze.longest)"));
        }
        let (incident, alert) = about.or(incident).unzip();
        let (id, reason) = (FreezeId(super::random_name("f")?), SmolStr::new(wish.reason.trim()));
        let request = Freeze::request(id, agent.clone(), by.clone(), reason, self.clock.now());
        let freeze = Freeze { rails: wish.rails, alert, incident, approvals, lasts_secs, ..request };
        self.act(by, Action::Freeze(Box::new(freeze))).await?;
        let now = self.core.look(move |engine| engine.freeze_of(&agent).cloned()).await;
        let now = now.ok_or(Refusal::Stopping)?;
        now.ok_or_else(|| Refusal::Conflict("the freeze was ended in the same moment".to_owned()))
    }

    /// Ends an agent's freeze before its time.
    pub(crate) async fn unfreeze(&self, by: SmolStr, agent: &str) -> Done<Freeze> {
        let agent = agent_id(agent)?;
        let name = agent.clone();
        let open = self.core.look(move |engine| engine.freeze_of(&agent).cloned()).await;
        let open = open.ok_or(Refusal::Stopping)?;
        let open = open.ok_or_else(|| Refusal::Conflict(format!("{name} is not frozen")))?;
        let id = open.id.clone();
        self.act(by, Action::Unfreeze { freeze: open.id }).await?;
        let freezes = self.freezes().await?;
        let ended = freezes.into_iter().find(|freeze| freeze.id == id);
        ended.ok_or_else(|| Refusal::Missing(format!("{id} is forgotten already")))
    }

    /// Freezes that are asked for, in force, or over today.
    pub(crate) async fn freezes(&self) -> Done<Vec<Freeze>> {
        self.core.look(|engine| engine.freezes().to_vec()).await.ok_or(Refusal::Stopping)
    }

    async fn known_agent(&self, agent: &str) -> Done<AgentId> {
        let agent = agent_id(agent)?;
        let asked = agent.clone();
        let is_known = self.core.look(move |engine| engine.has_heard_of(&asked)).await;
        if is_known.ok_or(Refusal::Stopping)? {
            return Ok(agent);
        }
        // It may have been idle for so long that it left memory.
        let key = Subject::Agent(agent.clone()).key();
        match self.read(move |store| store.load_subject(&key)).await? {
            Some(_) => Ok(agent),
            None => Err(Refusal::Missing(format!("there is no agent {agent}"))),
        }
    }

    async fn alert_of(&self, agent: &AgentId, alert: &str) -> Done<(IncidentId, AlertId)> {
        let alert = self.alert(alert).await?;
        if alert.subject.agent() == Some(agent) {
            return Ok((alert.incident, alert.id));
        }
        wrong(&format!("alert {} is about {}, not about {agent}", alert.id, alert.subject))
    }
}

fn wrong<T>(why: &str) -> Done<T> {
    Err(Refusal::Wrong(why.to_owned()))
}

fn agent_id(agent: &str) -> Done<AgentId> {
    AgentId::new(agent).ok_or_else(|| Refusal::Wrong(format!("{agent:?} is not an agent's name")))
}

/// Whether a further wish about an agent means something: only that somebody else agrees.
fn may_agree(open: &Freeze, by: &SmolStr) -> Done<()> {
    let conflict = |why: String| Err(Refusal::Conflict(why));
    match open.stage {
        FreezeStage::Requested if open.approved_by.contains(by) => {
            conflict(format!("you asked for it already ({}); another person must agree", open.id))
        }
        FreezeStage::Requested => Ok(()),
        FreezeStage::Frozen | FreezeStage::Lifted => {
            conflict(format!("{} is frozen already until {}; unfreeze it first", open.agent, open.until))
        }
    }
}
