//! Gathering: when more notices wait for a sink than people can read one by one, one message tells them all.
//!
//! Every notice is in exactly one message, and every one of them keeps its own entry in the outbox and its own outcome.

use std::collections::BTreeMap;

use railwatch_model::{Alert, IncidentId, Notice, NoticeId, Occasion, Severity, SmolStr, Subject, Usd};
use railwatch_plugin::sink::Receipt;
use railwatch_store::{Claimed, OutboxId};
use serde::Serialize;

/// Notices that one message tells at most.
pub(crate) const GATHERED_MAX: u32 = 1_000;
/// Kinds of alerts that a headline counts.
const KINDS_MAX: usize = 4;

/// One message on its way, and the outbox entries that it delivers.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) ids: Vec<OutboxId>,
    pub(crate) notice: Notice,
    /// The number of this attempt, of the entry that was tried most often.
    pub(crate) attempt: u32,
    pub(crate) in_doubt: bool,
    pub(crate) earlier: Option<Receipt>,
}

/// A receipt with the name of the message, if it told several notices.
#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    gathered: Option<&'a str>,
}

impl Parcel {
    /// One notice as it is.
    pub(crate) fn single(claimed: Claimed) -> Self {
        let Claimed { id, notice, attempt, in_doubt, earlier } = claimed;
        let earlier = earlier.and_then(|receipt| serde_json::from_str(&receipt).ok());
        Self { ids: vec![id], notice, attempt, in_doubt, earlier }
    }

    /// What the outbox keeps of a receipt. A message about several incidents is no thread for one of them.
    pub(crate) fn keep(&self, receipt: &Receipt) -> String {
        let none = Receipt::default();
        let kept = match self.ids.len() {
            1 => Kept { receipt, gathered: None },
            _ => Kept { receipt: &none, gathered: Some(self.notice.incident.0.as_str()) },
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }
}

/// As few messages as tell all of these: one about what begins or goes on, one about what was taken or is over.
pub(crate) fn gather(claimed: Vec<Claimed>) -> Vec<Parcel> {
    let (mut news, mut ends, mut parcels) = (Vec::new(), Vec::new(), Vec::new());
    for claimed in claimed {
        match claimed.notice.occasion {
            Occasion::Acknowledged | Occasion::Resolved => ends.push(claimed),
            // What a freeze came to is told by itself: it is about one agent, and somebody waits for it.
            Occasion::Freeze | Occasion::Digest | Occasion::Test => parcels.push(Parcel::single(claimed)),
            Occasion::Opened
            | Occasion::Reopened
            | Occasion::Worsened
            | Occasion::Reminded
            | Occasion::Escalated => news.push(claimed),
        }
    }
    parcels.extend([news, ends].into_iter().filter_map(together));
    parcels
}

fn together(mut claimed: Vec<Claimed>) -> Option<Parcel> {
    if claimed.len() < 2 {
        return claimed.pop().map(Parcel::single);
    }
    let (first, last) = (claimed.first()?, claimed.last()?);
    let id = format!("gathered-{}", first.id);
    let (notice_id, at) = (format!("{id}-{}", last.id), last.notice.at);
    let occasion = occasion(&claimed);
    let subject = subject(&claimed);
    let severity = claimed.iter().map(|claimed| claimed.notice.severity).max().unwrap_or(Severity::Info);
    let ids = claimed.iter().map(|claimed| claimed.id).collect();
    let attempt = claimed.iter().map(|claimed| claimed.attempt).max().unwrap_or(1);
    let in_doubt = claimed.iter().any(|claimed| claimed.in_doubt);
    let n = claimed.len();
    let mut alerts: Vec<Alert> = claimed.into_iter().flat_map(|claimed| claimed.notice.alerts).collect();
    alerts.sort_by(|a, b| {
        let rank = |alert: &Alert| (alert.severity, alert.spent_since_onset);
        rank(b).cmp(&rank(a)).then_with(|| a.id.cmp(&b.id))
    });
    let notice = Notice {
        id: NoticeId(notice_id.into()),
        incident: IncidentId(id.into()),
        occasion,
        subject,
        team: None,
        labels: Vec::new(),
        escalations: Vec::new(),
        severity,
        headline: headline(n, occasion, &alerts),
        alerts,
        at,
        link: None,
        may_repeat: false,
        order: None,
        report: None,
    };
    Some(Parcel { ids, notice, attempt, in_doubt, earlier: None })
}

/// What most people should make of it: that something is new, if anything is.
fn occasion(claimed: &[Claimed]) -> Occasion {
    let order = [
        Occasion::Opened,
        Occasion::Reopened,
        Occasion::Escalated,
        Occasion::Worsened,
        Occasion::Reminded,
        Occasion::Resolved,
        Occasion::Acknowledged,
    ];
    let is_there = |occasion: &Occasion| claimed.iter().any(|claimed| claimed.notice.occasion == *occasion);
    order.into_iter().find(is_there).unwrap_or(Occasion::Opened)
}

/// The team that all of them are in, or everybody.
fn subject(claimed: &[Claimed]) -> Subject {
    let mut teams = claimed.iter().map(|claimed| claimed.notice.team.as_ref());
    match teams.next().flatten() {
        Some(team) if teams.all(|other| other == Some(team)) => Subject::Team(team.clone()),
        _ => Subject::Fleet,
    }
}

/// `312 incidents at once: 300 velocity, 12 budget; $4,100.00 spent since they began; the worst: …`.
fn headline(n: usize, occasion: Occasion, alerts: &[Alert]) -> String {
    let mut kinds: BTreeMap<SmolStr, usize> = BTreeMap::new();
    let mut spent: BTreeMap<&Subject, Usd> = BTreeMap::new();
    for alert in alerts {
        *kinds.entry(SmolStr::new(alert.trigger.to_string())).or_default() += 1;
        // The alerts of one subject look at the same money.
        let most = spent.entry(&alert.subject).or_default();
        *most = alert.spent_since_onset.max(*most);
    }
    let mut kinds: Vec<(SmolStr, usize)> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let listed = kinds.iter().take(KINDS_MAX).map(|(kind, n)| format!("{n} {kind}"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    let what = match occasion {
        Occasion::Resolved | Occasion::Acknowledged => format!("{n} incidents are taken or over"),
        _ => format!("{n} incidents at once"),
    };
    let total = spent.values().fold(Usd::ZERO, |sum, usd| sum.plus(*usd));
    let worst = alerts.first().map_or_else(String::new, |alert| format!("; the worst: {}", alert.summary));
    format!("{what}: {listed}; {total} spent since they began{worst}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::tests::alert;
    use railwatch_model::{AgentId, SignalKind, Timestamp};

    fn claimed(id: i64, agent: &str, team: Option<&str>, occasion: Occasion) -> Claimed {
        let mut one = alert(&format!("a-{id}"), SignalKind::Velocity, 10.0);
        one.subject = Subject::Agent(AgentId::new(agent).unwrap());
        one.spent_since_onset = Usd::from_cents(100 * id);
        one.summary = format!("{agent} spends a lot");
        let notice = Notice {
            id: NoticeId(format!("n-{id}").into()),
            incident: IncidentId(format!("i-{id}").into()),
            occasion,
            subject: one.subject.clone(),
            team: team.map(SmolStr::new),
            labels: Vec::new(),
            escalations: Vec::new(),
            severity: one.severity,
            headline: one.summary.clone(),
            alerts: vec![one],
            at: Timestamp::from_secs(id),
            link: None,
            may_repeat: false,
            order: None,
            report: None,
        };
        Claimed { id, notice, attempt: 1, in_doubt: id == 3, earlier: None }
    }

    #[test]
    fn one_message_tells_what_begins_and_one_what_is_over() {
        let parcels = gather(vec![
            claimed(1, "a1", Some("growth"), Occasion::Opened),
            claimed(2, "a2", Some("growth"), Occasion::Resolved),
            claimed(3, "a3", Some("growth"), Occasion::Reminded),
            claimed(4, "a4", Some("growth"), Occasion::Opened),
            claimed(5, "a5", None, Occasion::Resolved),
        ]);
        let ids: Vec<&[OutboxId]> = parcels.iter().map(|parcel| parcel.ids.as_slice()).collect();
        assert_eq!(ids, [&[1, 3, 4][..], &[2, 5]]);
        let news = &parcels[0];
        assert_eq!(news.notice.subject, Subject::Team("growth".into()));
        assert_eq!((news.notice.occasion, news.in_doubt), (Occasion::Opened, true));
        assert_eq!(
            news.notice.headline,
            "3 incidents at once: 3 velocity; $8.00 spent since they began; the worst: a4 spends a lot"
        );
        assert_eq!(
            (parcels[1].notice.occasion, &parcels[1].notice.subject),
            (Occasion::Resolved, &Subject::Fleet)
        );
        assert_ne!(parcels[0].notice.id, parcels[1].notice.id);
        let receipt = Receipt { reference: Some("C1/17.2".into()) };
        assert_eq!(news.keep(&receipt), r#"{"reference":null,"gathered":"gathered-1"}"#);
    }

    #[test]
    fn a_single_notice_is_told_as_it_is() {
        let parcels = gather(vec![claimed(7, "a7", None, Occasion::Opened)]);
        assert_eq!(parcels[0].notice.incident.0, "i-7");
        let receipt = Receipt { reference: Some("C1/17.2".into()) };
        assert_eq!(parcels[0].keep(&receipt), r#"{"reference":"C1/17.2"}"#);
        assert!(gather(Vec::new()).is_empty());
    }
}
