//! Settlement hooks → payments. A hook is a claim: what it says is settled counts as seen until the chain confirms it,
//! and what is only signed, verified or pending does not count.

use std::sync::Arc;

use railwatch_model::{
    Direction, Identity, Kind, Label, Money, Payment, RefScheme, SettlementRef, SmolStr, Status,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::Source;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use smol_str::format_smolstr;

use super::TokenConfig;
use super::hex;
use super::logs::{RAIL, authorization_ref, refs, spender};
use super::network::{Network, caip2, canonical_address};
use crate::redact::redact;
use crate::scalar::{Expandable, Flag, Nested, Text, from_json, short};
use crate::webhook::WebhookTable;
use crate::{posted, table};

/// The entry of the list of sources.
pub const HOOKS: SourcePlugin = SourcePlugin {
    name: "x402-hooks",
    summary: "settlements that x402 facilitators, resource servers and clients post",
    example: EXAMPLE,
    schema: table::merged_schema::<WebhookTable, X402HookTable>,
    build: |table, build| {
        let source = posted::build(table, build, |keys| Arc::new(X402HookDecoder::of(keys)))?;
        Ok(Box::new(source) as Box<dyn Source>)
    },
    decoder: |table, _| Ok(Arc::new(X402HookDecoder::of(posted::keys(table)?))),
};

const EXAMPLE: &str = r#"[sources.facilitator]
plugin = "x402-hooks"
path = "/in/x402"
direction = "spend"
verify = { preset = "standard-webhooks", secret = { env = "GATE_SECRET" } }
"#;

/// The rail's own keys of an `x402-hooks` source's table.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct X402HookTable {
    /// Whose money moves: `earn` for the hooks of a seller's server.
    pub direction: Direction,
    /// Tokens that count, on every network. Default: each network's USDC.
    pub token: Vec<TokenConfig>,
}

/// Decodes what the hooks of `x402Facilitator`, `x402ResourceServer` and `x402Client` post:
/// `{"hook": "facilitator.onAfterSettle", "context": {…}, "agent_id": "…"}`, or an array of them.
#[derive(Debug, Clone, Default)]
pub struct X402HookDecoder {
    direction: Direction,
    tokens: Vec<TokenConfig>,
}

impl X402HookDecoder {
    /// A decoder for hooks of agents that pay (or, for a seller's server, are paid). `tokens` replaces the built-in
    /// ones unless it is empty.
    pub fn new(direction: Direction, tokens: Vec<TokenConfig>) -> Self {
        Self { direction, tokens }
    }

    fn of(keys: X402HookTable) -> Self {
        Self::new(keys.direction, keys.token)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hook<'a> {
    #[serde(borrow)]
    hook: Text<'a>,
    #[serde(borrow)]
    agent_id: Text<'a>,
    #[serde(borrow)]
    context: Nested<Context<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Context<'a> {
    #[serde(borrow)]
    payment_payload: Nested<PaymentPayload<'a>>,
    #[serde(borrow)]
    requirements: Nested<Requirements<'a>>,
    #[serde(borrow)]
    result: Option<Nested<Settlement<'a>>>,
    #[serde(borrow)]
    settle_response: Option<Nested<Settlement<'a>>>,
    /// The client was asked again: the server did not take the payment.
    payment_required: Option<IgnoredAny>,
}

/// The parts of both protocol versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PaymentPayload<'a> {
    #[serde(borrow)]
    network: Text<'a>,
    #[serde(borrow)]
    payload: Nested<Signed<'a>>,
    #[serde(borrow)]
    resource: Expandable<Resource<'a>>,
    #[serde(borrow)]
    accepted: Nested<Requirements<'a>>,
    #[serde(borrow)]
    extensions: Nested<Extensions<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Signed<'a> {
    #[serde(borrow)]
    authorization: Nested<Authorization<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authorization<'a> {
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    nonce: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    url: Text<'a>,
}

impl<'a> From<Text<'a>> for Resource<'a> {
    fn from(url: Text<'a>) -> Self {
        Self { url }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extensions<'a> {
    #[serde(borrow, rename = "payment-identifier")]
    payment_identifier: Nested<Extension<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extension<'a> {
    #[serde(borrow)]
    info: Nested<Identifier<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Identifier<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Requirements<'a> {
    #[serde(borrow)]
    network: Text<'a>,
    #[serde(borrow)]
    asset: Text<'a>,
    #[serde(borrow)]
    amount: Text<'a>,
    #[serde(borrow)]
    max_amount_required: Text<'a>,
    #[serde(borrow)]
    pay_to: Text<'a>,
    #[serde(borrow)]
    resource: Expandable<Resource<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Settlement<'a> {
    success: Flag,
    #[serde(borrow)]
    error_reason: Text<'a>,
    #[serde(borrow)]
    payer: Text<'a>,
    #[serde(borrow)]
    transaction: Text<'a>,
    #[serde(borrow)]
    network: Text<'a>,
    /// For schemes that use less than was signed.
    #[serde(borrow)]
    amount: Text<'a>,
}

impl Decoder for X402HookDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let hooks = match message.body.trim_ascii_start().first() {
            Some(b'[') => from_json::<Vec<Hook<'_>>>(message.body),
            _ => from_json::<Hook<'_>>(message.body).map(|hook| vec![hook]),
        };
        let results = match &hooks {
            Ok(hooks) => hooks.iter().map(|hook| self.read(hook, message)).collect(),
            Err(error) => {
                let place = format!("not JSON: line {}, column {}", error.line(), error.column());
                vec![Err(reject("bad_json", place))]
            }
        };
        for result in results {
            match result {
                Ok(payment) => decoded.payments.push(payment),
                Err(Refusal::Filter(reason)) => decoded.filter(SmolStr::new_static(reason)),
                Err(Refusal::Reject(code, detail)) => {
                    let raw = redact(message.body, &["signature", "transaction", "preimage"], &[]);
                    decoded.reject(code, detail, &raw, message.received_at);
                }
            }
        }
    }
}

/// Why a hook is not a payment.
enum Refusal {
    Filter(&'static str),
    Reject(&'static str, String),
}

/// What a facilitator's answer means. A time-out is not an answer: the money may still move.
fn outcome(settlement: &Settlement<'_>) -> Result<Kind, Refusal> {
    match (settlement.success.get(), settlement.error_reason.as_str()) {
        (Some(true), _) => Ok(Kind::Settle),
        (_, "settlement_pending") => Err(Refusal::Filter("settlement pending")),
        (Some(false), _) => Ok(Kind::Declined),
        (None, _) => Err(Refusal::Reject("bad_shape", "the settlement has no \"success\"".to_owned())),
    }
}

impl X402HookDecoder {
    fn read(&self, hook: &Hook<'_>, message: &Message<'_>) -> Result<Payment, Refusal> {
        let Some((_, step)) = hook.hook.as_str().split_once('.') else {
            return Err(Refusal::Reject(
                "bad_shape",
                "/hook must be like \"facilitator.onAfterSettle\"".to_owned(),
            ));
        };
        let context = &hook.context.0;
        let settlement = context.settle_response.as_ref().or(context.result.as_ref());
        let refused = Settlement::default();
        let (settlement, kind) = match (step, settlement) {
            ("onVerifyFailure", _) => (&refused, Kind::Declined),
            ("onPaymentResponse", None) if context.payment_required.is_some() => (&refused, Kind::Declined),
            ("onAfterSettle" | "onPaymentResponse", Some(Nested(settlement))) => {
                (settlement, outcome(settlement)?)
            }
            ("onAfterSettle" | "onPaymentResponse", None) => {
                return Err(Refusal::Filter("hook without a settlement"));
            }
            _ => return Err(Refusal::Filter("signed or verified, not settled")),
        };
        self.payment(hook, settlement, kind, message)
    }

    fn payment(
        &self,
        hook: &Hook<'_>,
        settlement: &Settlement<'_>,
        kind: Kind,
        message: &Message<'_>,
    ) -> Result<Payment, Refusal> {
        let context = &hook.context.0;
        let (payload, terms) = (&context.payment_payload.0, context.terms());
        let name =
            settlement.network.get().or(terms.network.get()).or(payload.network.get()).unwrap_or_default();
        let network = caip2(name)
            .and_then(|id| Network::new(&id, &self.tokens, &[]).ok())
            .ok_or_else(|| reject("unknown_network", format!("network {name:.60?} is not known")))?;
        let token = canonical_address(&network.id, terms.asset.as_str());
        let asset = token.as_ref().and_then(|token| network.asset(token)).ok_or_else(|| {
            reject(
                "unknown_currency",
                format!("token {:.60?} is not known on {}", terms.asset.as_str(), network.id),
            )
        })?;
        let signed = &payload.payload.0.authorization.0;
        let payer = settlement.payer.get().or(signed.from.get()).unwrap_or_default();
        let payer = canonical_address(&network.id, payer).ok_or_else(|| {
            reject("no_agent", "neither payer nor authorization.from is an address".to_owned())
        })?;
        let price = settlement.amount.get().or(terms.amount.get()).or(terms.max_amount_required.get());
        let amount = price.and_then(|price| price.parse::<i128>().ok()).filter(|amount| *amount >= 0);
        let amount = amount.ok_or_else(|| {
            reject("bad_amount", "no amount: expected a decimal text of at most 127 bits".to_owned())
        })?;
        if amount == 0 && kind == Kind::Settle {
            return Err(Refusal::Filter("zero value"));
        }
        let nonce = hex::word(signed.nonce.as_str());
        let auth =
            nonce.and_then(|nonce| Some(authorization_ref(&network.id, token.as_ref()?, &payer, &nonce)));
        let hash = settlement.transaction.get();
        let id = match (&auth, hash) {
            (Some(auth), _) => format_smolstr!("hook:{auth}"),
            (None, Some(hash)) => format_smolstr!("hook:{}:{hash:.100}:{payer}:{amount}", network.id),
            (None, None) => return Err(reject("no_id", "neither a nonce nor a transaction".to_owned())),
        };
        let mut payment = Payment::settle(RAIL, id, Money::new(amount, asset.clone()), message.received_at);
        payment.kind = kind;
        payment.status = if kind == Kind::Settle { Status::Seen } else { Status::Confirmed };
        payment.direction = self.direction;
        payment.spender = hook.spender(&network.id, &payer);
        payment.payee = canonical_address(&network.id, terms.pay_to.as_str());
        payment.resource = context.resource().map(short);
        if kind == Kind::Settle {
            payment.settlement_refs = settle_refs(&network.id, auth, hash, &payer, amount);
        }
        payment.labels = hook.labels(settlement);
        Ok(payment)
    }
}

fn reject(code: &'static str, detail: String) -> Refusal {
    Refusal::Reject(code, detail)
}

/// The names under which the chain reports it.
fn settle_refs(
    network: &str,
    auth: Option<SmolStr>,
    hash: Option<&str>,
    payer: &str,
    amount: i128,
) -> Vec<SettlementRef> {
    match hash {
        Some(hash) if network.starts_with("eip155:") => {
            refs(auth, &hash.to_ascii_lowercase(), payer, amount, 0)
        }
        Some(hash) => {
            let value = format_smolstr!("svm:{hash}:{payer}:{amount}");
            vec![SettlementRef { scheme: RefScheme::Other, value }]
        }
        None => auth.map(|value| SettlementRef { scheme: RefScheme::EvmAuth, value }).into_iter().collect(),
    }
}

impl Context<'_> {
    fn terms(&self) -> &Requirements<'_> {
        let accepted = &self.payment_payload.0.accepted.0;
        if self.requirements.0.asset.get().is_some() { &self.requirements.0 } else { accepted }
    }

    fn resource(&self) -> Option<&str> {
        self.payment_payload.0.resource.0.url.get().or(self.terms().resource.0.url.get())
    }
}

impl Hook<'_> {
    fn spender(&self, network: &str, payer: &SmolStr) -> Vec<Identity> {
        let agent = self.agent_id.get().map(|agent| Identity::new(Identity::AGENT, agent));
        agent.into_iter().chain(spender(network, payer)).collect()
    }

    fn labels(&self, settlement: &Settlement<'_>) -> Vec<Label> {
        let identifier = self.context.0.payment_payload.0.extensions.0.payment_identifier.0.info.0.id.get();
        [
            ("tx", settlement.transaction.get()),
            ("payment_identifier", identifier),
            ("error", settlement.error_reason.get()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some(Label { key: SmolStr::new_static(key), value: short(value?) }))
        .collect()
    }
}
