//! A gate of the customer's own: it is told to freeze and to unfreeze agents, by requests signed as Standard Webhooks
//! says. The event is `agent.freeze` or `agent.unfreeze`; answering 2xx says that it is done.
//!
//! To freeze twice is to freeze once, so that a repetition does no harm. A request that comes too late, because the
//! gate was away for longer than the freeze lasts, is not sent any more.

use async_trait::async_trait;
use railwatch_model::{Freeze, GateOrder, GateVerb, Notice, Timestamp};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::http::{Peer, TIMEOUT};
use crate::signature::{Signer, header_id};
use crate::text::{fit, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "gate",
    summary: "Asks your payment gate to freeze and unfreeze agents (Standard Webhooks); tells people nothing",
    example: r#"[sinks.gate]
plugin = "gate"
url = "https://gate.example.com/railwatch"
secrets = [{ env = "RAILWATCH_GATE_SECRET" }]
dry_run = true # say false when you have seen what it would do
"#,
    schema: || schema_for!(GateConfig),
    build,
};

/// Characters of a reason in a request.
const REASON_CHARS_MAX: usize = 2000;
/// Alerts whose sentences a request carries.
const ALERTS_MAX: usize = 10;

/// Settings of a gate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GateConfig {
    /// The gate; https, or http on this machine.
    url: Address,
    /// The signing secrets, as `whsec_…` or plain base64 of 24 to 64 bytes. Each of them signs every request; during
    /// a rotation there are two. At least one, at most four.
    secrets: Vec<SecretRef>,
    /// True to rehearse: everything happens but the request.
    #[serde(default = "yes")]
    dry_run: bool,
    /// The rails that this gate stands before; all of them by default.
    #[serde(default)]
    rails: Vec<String>,
    /// How long one request may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn yes() -> bool {
    true
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct Gate {
    config: GateConfig,
    signer: Signer,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: GateConfig = parse(table)?;
    // Whoever could read a request on its way could repeat it.
    config.url.guards_credentials("url")?;
    let signer = Signer::new(config.secrets.clone(), Vault::of(build))?;
    let peer = Peer::new(config.timeout, build, &config.url.0)?;
    Ok(Box::new(Gate { config, signer, peer }))
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let notice = dispatch.notice;
        let body = match &notice.order {
            Some(order) => {
                check_time(order, self.peer.now())?;
                if !concerns(&order.freeze, &self.config.rails) {
                    return Ok(said("stands before other rails"));
                }
                request(order, notice)
            }
            None => json!({ "type": "railwatch.test", "timestamp": notice.at, "data": {} }),
        };
        let host = self.config.url.0.host_str().unwrap_or_default().to_owned();
        if self.config.dry_run && notice.order.is_some() {
            return Ok(said(&format!("dry run: would post {} to {host}", body["type"])));
        }
        let id = header_id(&notice.id.0);
        let request =
            self.signer.post(&self.peer, self.config.url.0.clone(), &id, body.to_string().into_bytes())?;
        let answer = self.peer.send(request, &[]).await?;
        Ok(said(&format!("{host} answered {}", answer.status.as_u16())))
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

/// What becomes of a gate's word: people read it beside the alert.
pub(crate) fn said(word: &str) -> Receipt {
    Receipt { reference: Some(word.into()) }
}

/// A freeze that is over must not begin.
pub(crate) fn check_time(order: &GateOrder, now: Timestamp) -> Result<(), DeliveryError> {
    if order.verb == GateVerb::Freeze && now >= order.freeze.until {
        return Err(DeliveryError::Rejected("the freeze was over before the gate could be asked".to_owned()));
    }
    Ok(())
}

/// True if a freeze is about a gate's rails; naming none means all.
pub(crate) fn concerns(freeze: &Freeze, rails: &[String]) -> bool {
    freeze.rails.is_empty()
        || rails.is_empty()
        || freeze.rails.iter().any(|rail| rails.iter().any(|own| own == rail))
}

fn request(order: &GateOrder, notice: &Notice) -> Value {
    let freeze = &order.freeze;
    let cut = |text: &str| fit(text, REASON_CHARS_MAX, plain_char);
    let alerts = notice.alerts.iter().take(ALERTS_MAX);
    let alerts = alerts.map(|alert| {
        json!({ "id": alert.id, "severity": alert.severity, "trigger": alert.trigger.to_string(),
                "summary": cut(&alert.summary), "spent_since_onset": alert.spent_since_onset })
    });
    json!({
        "type": order.verb.event(),
        "timestamp": notice.at,
        "data": {
            "freeze": freeze.id,
            "agent": freeze.agent,
            "team": notice.team,
            "rails": freeze.rails,
            "identities": order.identities,
            "until": freeze.until,
            "asked_by": freeze.by,
            "approved_by": freeze.approved_by,
            "lifted_by": freeze.lifted_by,
            "reason": cut(&freeze.reason),
            "incident": freeze.incident,
            "alerts": alerts.collect::<Vec<_>>(),
        },
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use railwatch_model::{FreezeId, FreezeStage, Identity, Occasion};

    use super::*;
    use crate::signature::{key, sign};
    use crate::testing::{HttpPeer, at, deliver, notice, reply, sink};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// An order about the sample notice's agent and one of its cards.
    pub(crate) fn order(verb: GateVerb) -> Notice {
        let mut notice = notice(Occasion::Freeze);
        notice.id = railwatch_model::NoticeId("f-1-freeze".into());
        let freeze = Freeze {
            id: FreezeId("f-1".into()),
            agent: notice.subject.agent().unwrap().clone(),
            rails: Vec::new(),
            reason: "42x its usual".into(),
            by: "dana".into(),
            alert: Some(notice.alerts[0].id.clone()),
            incident: Some(notice.incident.clone()),
            approvals: 1,
            approved_by: vec!["dana".into()],
            stage: FreezeStage::Frozen,
            asked_at: notice.at,
            lasts_secs: 3600,
            until: at("2026-11-23T03:00:10Z"),
            lifted_by: None,
            lifted_at: None,
            gates: Vec::new(),
        };
        let identities = vec![Identity { scheme: "stripe.card".into(), value: "ic_1abc".into() }];
        notice.order = Some(Box::new(GateOrder { verb, freeze, identities }));
        notice
    }

    fn gate(peer: &HttpPeer, more: &str) -> Box<dyn Sink> {
        let table = format!("url = {:?}\nsecrets = [{{ env = \"S\" }}]\n{more}", peer.url("/railwatch"));
        sink("gate", &table, &[("S", SECRET)])
    }

    #[test]
    fn a_gate_is_asked_by_a_signed_request() {
        let peer = HttpPeer::play(vec![reply(200, "{}"), reply(202, "")]);
        let gate = gate(&peer, "dry_run = false");
        for (verb, event, status) in
            [(GateVerb::Freeze, "agent.freeze", 200), (GateVerb::Unfreeze, "agent.unfreeze", 202)]
        {
            let notice = order(verb);
            let receipt = deliver(&*gate, &notice, None).unwrap();
            assert_eq!(receipt.reference.unwrap(), format!("127.0.0.1 answered {status}"));
            let request = peer.request();
            assert_eq!(request.headers["webhook-id"], "f-1-freeze");
            let signed = sign(&key(SECRET).unwrap(), "f-1-freeze", notice.at, request.body.as_bytes());
            assert_eq!(request.headers["webhook-signature"], signed);
            let body = request.json();
            assert_eq!(body["type"], event);
            assert_eq!(body["data"]["agent"], "agent_billing_7");
            assert_eq!(body["data"]["until"], "2026-11-23T03:00:10Z");
            assert_eq!(body["data"]["identities"][0]["value"], "ic_1abc");
            assert_eq!(body["data"]["reason"], "42x its usual");
        }
    }

    #[test]
    fn by_default_a_gate_only_rehearses() {
        let peer = HttpPeer::play(Vec::new());
        let receipt = deliver(&*gate(&peer, ""), &order(GateVerb::Freeze), None).unwrap();
        assert_eq!(receipt.reference.unwrap(), "dry run: would post \"agent.freeze\" to 127.0.0.1");
    }

    #[test]
    fn a_freeze_that_is_over_does_not_begin_and_still_ends() {
        let peer = HttpPeer::play(vec![reply(200, "")]);
        let gate = gate(&peer, "dry_run = false");
        let mut late = order(GateVerb::Freeze);
        late.order.as_mut().unwrap().freeze.until = late.at;
        let error = deliver(&*gate, &late, None).unwrap_err();
        assert!(matches!(&error, DeliveryError::Rejected(why) if why.contains("over before")), "{error}");
        late.order.as_mut().unwrap().verb = GateVerb::Unfreeze;
        assert!(deliver(&*gate, &late, None).is_ok());
    }

    #[test]
    fn a_gate_of_other_rails_is_not_asked() {
        let peer = HttpPeer::play(Vec::new());
        let gate = gate(&peer, "dry_run = false\nrails = [\"x402\"]");
        let mut order = order(GateVerb::Freeze);
        order.order.as_mut().unwrap().freeze.rails = vec!["stripe".into()];
        let receipt = deliver(&*gate, &order, None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("stands before other rails"));
    }
}
