//! Freezes: who asked, who agreed, what gates are told, and the end that always comes by itself.
//!
//! The engine decides and keeps; the host brings orders to gates and their answers back.

use std::time::Duration;

use railwatch_model::{
    AgentId, AlertId, Freeze, FreezeId, FreezeStage, GateOrder, GateOutcome, GateVerb, GateWord, IncidentId,
    Notice, NoticeId, Occasion, Severity, SmolStr, Subject, Timestamp,
};
use smol_str::format_smolstr;

use crate::effects::Effects;
use crate::engine::Engine;
use crate::settings::FreezePolicy;

/// How long a freeze that is over is remembered: so that people see it, and no policy repeats it for its incident.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Freezes that are remembered.
pub const FREEZES_MAX: usize = 1_000;
/// Who ends a freeze whose time has come.
const EXPIRY: SmolStr = SmolStr::new_static("expiry");

impl Engine {
    /// Freezes that are asked for, in force, or over since less than a day, in the order in which they were asked for.
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// The freeze of an agent that is asked for or in force.
    pub fn freeze_of(&self, agent: &AgentId) -> Option<&Freeze> {
        self.freezes.iter().find(|freeze| freeze.is_open() && freeze.agent == *agent)
    }

    /// True if a freeze ends, lapses or is forgotten by `now`.
    pub(crate) fn has_freeze_due(&self, now: Timestamp) -> bool {
        self.freezes.iter().any(|freeze| now >= due_at(freeze))
    }

    /// Somebody asks for a freeze, or agrees with the one that is asked for.
    pub(crate) fn ask_freeze(&mut self, by: &SmolStr, wish: &Freeze, effects: &mut Effects) {
        let place = self.freezes.iter().position(|freeze| freeze.is_open() && freeze.agent == wish.agent);
        let place = match place {
            Some(place) => place,
            None if self.freezes.len() < FREEZES_MAX => {
                self.freezes.push(wish.clone());
                self.freezes.len() - 1
            }
            None => return,
        };
        let Some(freeze) = self.freezes.get_mut(place).filter(|it| it.stage == FreezeStage::Requested) else {
            return;
        };
        // A policy is nobody who could agree.
        let is_policy = freeze.id == wish.id && wish.by.starts_with(POLICY);
        if !is_policy && !freeze.approved_by.contains(by) {
            freeze.approved_by.push(by.clone());
        }
        if freeze.approved_by.len() >= usize::from(freeze.approvals) {
            freeze.stage = FreezeStage::Frozen;
            freeze.until = self.now.after(Duration::from_secs(u64::from(freeze.lasts_secs)));
            self.order(place, GateVerb::Freeze, effects);
        } else {
            let headline = format!(
                "{} asks to freeze {} on {}: {}; {} of {} people agreed",
                freeze.by,
                freeze.agent,
                freeze.scope(),
                freeze.reason,
                freeze.approved_by.len(),
                freeze.approvals
            );
            self.tell_of_freeze(place, "asked", headline, effects);
        }
        self.mark_freeze(place, effects);
    }

    /// Ends a freeze.
    pub(crate) fn lift(&mut self, by: &SmolStr, id: &FreezeId, effects: &mut Effects) {
        let Some(place) = self.freezes.iter().position(|freeze| freeze.id == *id && freeze.is_open()) else {
            return;
        };
        let now = self.now;
        let Some(freeze) = self.freezes.get_mut(place) else { return };
        let was = freeze.stage;
        freeze.stage = FreezeStage::Lifted;
        freeze.lifted_by = Some(by.clone());
        freeze.lifted_at = Some(now);
        if was == FreezeStage::Frozen {
            self.order(place, GateVerb::Unfreeze, effects);
        } else {
            let headline = match *by == EXPIRY {
                true => format!("{} is not frozen: not enough people agreed", freeze.agent),
                false => format!("{} is not frozen: {by} took the request back", freeze.agent),
            };
            self.tell_of_freeze(place, "lapsed", headline, effects);
        }
        self.mark_freeze(place, effects);
    }

    /// A gate answered, or was given up.
    pub(crate) fn gate_said(
        &mut self,
        id: &FreezeId,
        notice: &NoticeId,
        gate: &str,
        answer: (bool, &SmolStr),
        effects: &mut Effects,
    ) {
        let Some(place) = self.freezes.iter().position(|freeze| freeze.id == *id) else { return };
        let Some(freeze) = self.freezes.get_mut(place) else { return };
        let word = freeze.gates.iter_mut().find(|word| word.gate == gate && word.notice == *notice);
        let Some(word) = word else { return };
        let (is_done, detail) = answer;
        word.outcome = if is_done { GateOutcome::Done } else { GateOutcome::Failed };
        word.detail = detail.clone();
        if freeze.gates.iter().all(|word| word.outcome != GateOutcome::Waiting) {
            let (headline, when) = (headline(freeze), if freeze.is_open() { "frozen" } else { "lifted" });
            // A gate that is asked again by hand may answer again.
            let failed = freeze.gates.iter().filter(|word| word.outcome == GateOutcome::Failed).count();
            self.tell_of_freeze(place, &format!("{when}-{failed}"), headline, effects);
        }
        self.mark_freeze(place, effects);
    }

    /// Ends what has lasted long enough, and forgets what is over.
    pub(crate) fn pass_freezes(&mut self, effects: &mut Effects) {
        if !self.has_freeze_due(self.now) {
            return;
        }
        let now = self.now;
        let ended = self.freezes.iter().filter(|freeze| freeze.is_open() && now >= freeze.until);
        for id in ended.map(|freeze| freeze.id.clone()).collect::<Vec<_>>() {
            self.lift(&EXPIRY, &id, effects);
        }
        self.freezes.retain(|freeze| now < due_at(freeze));
    }

    /// Freezes the agents of incidents that were just told and that a policy is about.
    pub(crate) fn follow_policies(&mut self, told: usize, effects: &mut Effects) {
        if self.settings.freeze.policies.is_empty() || effects.notices.len() == told {
            return;
        }
        let news = effects.notices.get(told..).unwrap_or_default();
        let wishes: Vec<Freeze> = news.iter().filter_map(|notice| self.policy_wish(notice)).collect();
        for wish in wishes {
            let by = wish.by.clone();
            self.ask_freeze(&by, &wish, effects);
        }
    }

    fn policy_wish(&self, notice: &Notice) -> Option<Freeze> {
        let is_news = matches!(
            notice.occasion,
            Occasion::Opened | Occasion::Reopened | Occasion::Worsened | Occasion::Escalated
        );
        let agent = notice.subject.agent().filter(|_| is_news)?;
        let facts = notice.facts();
        let policy = self.settings.freeze.policies.iter().find(|policy| policy.matcher.accepts(&facts))?;
        let by = format_smolstr!("{POLICY}{}", policy.name);
        let is_known = |freeze: &Freeze| {
            freeze.agent == *agent
                && (freeze.is_open()
                    || (freeze.by == by && freeze.incident.as_ref() == Some(&notice.incident)))
        };
        if self.freezes.iter().any(is_known) {
            return None;
        }
        Some(self.wish_of(policy, by, agent, notice))
    }

    fn wish_of(&self, policy: &FreezePolicy, by: SmolStr, agent: &AgentId, notice: &Notice) -> Freeze {
        let n_frozen = self.freezes.iter().filter(|freeze| freeze.is_open() && freeze.by == by).count();
        // A storm must not stop a whole fleet without a person.
        let approvals = if n_frozen >= policy.at_most { policy.approvals.max(1) } else { policy.approvals };
        let (id, reason) = (FreezeId(format_smolstr!("f-{}", notice.id.0)), SmolStr::new(&notice.headline));
        Freeze {
            rails: policy.rails.clone(),
            alert: notice.alerts.first().map(|alert| alert.id.clone()),
            incident: Some(notice.incident.clone()),
            approvals,
            lasts_secs: policy.lasts_secs,
            ..Freeze::request(id, agent.clone(), by, reason, self.now)
        }
    }

    /// Tells every gate what to do. Orders about one agent reach a gate in their order.
    fn order(&mut self, place: usize, verb: GateVerb, effects: &mut Effects) {
        let Some(freeze) = self.freezes.get_mut(place) else { return };
        let word = if verb == GateVerb::Freeze { "freeze" } else { "unfreeze" };
        let notice = NoticeId(format_smolstr!("{}-{word}", freeze.id));
        let gates = &self.settings.freeze.gates;
        freeze.gates = gates
            .iter()
            .map(|gate| GateWord {
                gate: gate.name.clone(),
                notice: notice.clone(),
                dry_run: gate.dry_run,
                outcome: GateOutcome::Waiting,
                detail: SmolStr::default(),
            })
            .collect();
        let freeze = freeze.clone();
        let headline = format!("{} {}", verb.event(), freeze.agent);
        let mut order = self.freeze_notice(&freeze, notice, headline);
        order.incident = IncidentId(format_smolstr!("gate-{}", freeze.agent));
        let identities = self.directory.identities(&freeze.agent);
        order.order = Some(Box::new(GateOrder { verb, freeze, identities }));
        let gates = gates.iter().map(|gate| (gate.name.clone(), order.clone()));
        effects.orders.extend(gates);
    }

    fn tell_of_freeze(&self, place: usize, when: &str, headline: String, effects: &mut Effects) {
        let Some(freeze) = self.freezes.get(place) else { return };
        let agreed = freeze.approved_by.len();
        let id = NoticeId(format_smolstr!("{}-{when}-{agreed}", freeze.id));
        effects.notices.push(self.freeze_notice(freeze, id, headline));
    }

    fn freeze_notice(&self, freeze: &Freeze, id: NoticeId, headline: String) -> Notice {
        let subject = Subject::Agent(freeze.agent.clone());
        let row = self.subjects.slot(&subject).and_then(|slot| self.subjects.row(slot));
        let profile = self.directory.profile(&subject);
        let incident = freeze.incident.clone();
        let book = row.and_then(|row| row.kept.book.as_ref());
        let alerts = book.zip(incident.as_ref()).map(|(book, incident)| book.of(incident).cloned().collect());
        let alerts: Vec<railwatch_model::Alert> = alerts.unwrap_or_default();
        Notice {
            id,
            incident: incident.unwrap_or_else(|| IncidentId(freeze.id.0.clone())),
            occasion: Occasion::Freeze,
            subject,
            team: profile.team.clone(),
            labels: profile.labels.clone(),
            escalations: Vec::new(),
            severity: alerts.iter().map(|alert| alert.severity).max().unwrap_or(Severity::High),
            headline,
            alerts,
            at: self.now,
            link: None,
            may_repeat: false,
            order: None,
            report: None,
        }
    }

    /// Shows on the alerts how the freeze stands.
    fn mark_freeze(&mut self, place: usize, effects: &mut Effects) {
        let Some(freeze) = self.freezes.get(place) else { return };
        let text = SmolStr::new(freeze.to_string());
        let (subject, incident) = (Subject::Agent(freeze.agent.clone()), freeze.incident.clone());
        let Some(slot) = self.subjects.slot(&subject) else { return };
        self.save_early(slot);
        self.subjects.touch(slot);
        let now = self.now;
        if let Some(book) = self.subjects.row_mut(slot).and_then(|row| row.kept.book.as_mut()) {
            book.mark_freeze(now, incident.as_ref(), &text, effects);
        }
    }

    /// The incident that an agent has open, and its strongest alert: what a freeze without a named alert is about.
    pub fn open_incident(&self, agent: &AgentId) -> Option<(IncidentId, AlertId)> {
        let row = self.subjects.row(self.subjects.slot(&Subject::Agent(agent.clone()))?)?;
        let book = row.kept.book.as_ref()?;
        let strongest = book.open().max_by_key(|alert| alert.severity)?;
        Some((strongest.incident.clone(), strongest.id.clone()))
    }
}

/// What the name of a policy begins with where people's names stand.
const POLICY: &str = "policy ";

/// When something becomes of a freeze by itself.
fn due_at(freeze: &Freeze) -> Timestamp {
    freeze.lifted_at.map_or(freeze.until, |lifted_at| lifted_at.after(REMEMBERED))
}

fn headline(freeze: &Freeze) -> String {
    let words = freeze.gates.iter().map(|word| match word.outcome {
        GateOutcome::Failed => format!("{} FAILED ({})", word.gate, word.detail),
        _ if word.dry_run => format!("{} rehearsed it and changed nothing", word.gate),
        _ => format!("{} did it", word.gate),
    });
    let words = words.collect::<Vec<_>>().join(", ");
    let is_real = freeze.gates.iter().any(|word| !word.dry_run && word.outcome == GateOutcome::Done);
    match (freeze.lifted_by.as_ref(), is_real) {
        (Some(by), true) => format!("{} may pay again, lifted by {by}: {words}", freeze.agent),
        (Some(by), false) => format!("the freeze of {} was ended by {by}: {words}", freeze.agent),
        (None, true) => format!(
            "{} is frozen on {} until {} by {}: {words}; {}",
            freeze.agent,
            freeze.scope(),
            freeze.until,
            freeze.by,
            freeze.reason
        ),
        (None, false) => format!("{} is NOT frozen, asked for by {}: {words}", freeze.agent, freeze.by),
    }
}
