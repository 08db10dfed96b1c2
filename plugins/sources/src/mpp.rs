//! MPP, the Machine Payments Protocol: challenge and receipt together become a payment.
//!
//! A receipt carries no amount and a challenge carries no proof, so the hook in the agent's client posts both. Charges
//! are settles; sessions are running totals of what was spent from a deposit, and the deposit itself is no spend.

mod challenge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use railwatch_model::{
    Asset, Direction, Identity, Kind, Money, Payment, RefScheme, SettlementRef, SmolStr, Timestamp,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message, Reject};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::Source;
use schemars::JsonSchema;
use serde::Deserialize;
use smol_str::format_smolstr;

use crate::redact::redact;
use crate::scalar::{Int, Nested, Text, short};
use crate::stripe::stripe_money;
use crate::webhook::WebhookTable;
use crate::x402::TokenConfig;
use crate::{posted, table};

pub use challenge::{Challenge, parse_challenges};

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "mpp",
    summary: "Machine Payments Protocol: challenges with their receipts, posted by clients",
    example: EXAMPLE,
    schema: table::merged_schema::<WebhookTable, MppMapping>,
    build: |table, build| {
        let source = posted::build(table, build, |mapping| Arc::new(MppDecoder::new(mapping)))?;
        Ok(Box::new(source) as Box<dyn Source>)
    },
    decoder: |table, _| Ok(Arc::new(MppDecoder::new(posted::keys(table)?))),
};

const EXAMPLE: &str = r#"[sources.mpp]
plugin = "mpp"
path = "/in/mpp"
verify = { scheme = "bearer", secret = { env = "GATE_SECRET" } }
"#;

/// The rail's name on payments.
const RAIL: SmolStr = SmolStr::new_static("mpp");
/// Keys whose values are secrets in what clients post.
const SECRET_KEYS: &[&str] = &["authorization", "credential", "preimage", "spt", "signature"];

/// How hooks become payments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MppMapping {
    /// Tokens by contract, for methods that settle on a chain.
    pub tokens: Vec<TokenConfig>,
    /// Whose money moves.
    pub direction: Direction,
}

/// Decodes `{agent_id?, source?, url?, challenge, receipt}`; `challenge` is an object or the `WWW-Authenticate` header.
#[derive(Debug, Clone, Default)]
pub struct MppDecoder {
    mapping: MppMapping,
}

impl MppDecoder {
    /// A decoder with this mapping.
    pub fn new(mapping: MppMapping) -> Self {
        Self { mapping }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ingest<'a> {
    #[serde(borrow)]
    agent_id: Text<'a>,
    /// The payer's DID from the credential.
    #[serde(borrow)]
    source: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    challenge: challenge::Offered,
    /// The `Payment-Receipt` header.
    #[serde(borrow)]
    receipt: Text<'a>,
    /// For session steps that have no receipt: `open`, `topUp`, or `bearer` with `cumulative`.
    #[serde(borrow)]
    action: Text<'a>,
    /// What was drawn from the session so far, in the challenge's base units.
    cumulative: Int,
    #[serde(rename = "sessionId", borrow)]
    session_id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Receipt<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    reference: Text<'a>,
    #[serde(borrow)]
    challenge_id: Text<'a>,
    #[serde(borrow)]
    channel_id: Text<'a>,
    spent: Int,
    refund_sats: Int,
    #[serde(borrow)]
    refund_status: Text<'a>,
}

/// The challenge's `request`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Request<'a> {
    amount: Int,
    #[serde(borrow)]
    currency: Text<'a>,
    #[serde(borrow)]
    recipient: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    payment_hash: Text<'a>,
    deposit_amount: Int,
    method_details: Nested<MethodDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MethodDetails {
    deposit_amount: Int,
}

/// Why there is no payment.
enum Refusal {
    Filter(&'static str),
    Reject(&'static str, String),
}

fn refuse(code: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal::Reject(code, detail.into())
}

impl Decoder for MppDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let ingests = serde_json::Deserializer::from_slice(message.body).into_iter::<Ingest<'_>>();
        let mut n_read = 0;
        for ingest in ingests {
            n_read += 1;
            let read = match &ingest {
                Ok(ingest) => self.read(ingest, message.received_at),
                Err(error) => Err(refuse(
                    "bad_json",
                    format!("not JSON: line {}, column {}", error.line(), error.column()),
                )),
            };
            match read {
                Ok(payment) => decoded.payments.push(payment),
                Err(Refusal::Filter(reason)) => decoded.filter(SmolStr::new_static(reason)),
                Err(Refusal::Reject(code, detail)) => {
                    let head = message.body.get(..Reject::RAW_LEN_MAX).unwrap_or(message.body);
                    decoded.reject(code, detail, &redact(head, SECRET_KEYS, &["spt_"]), message.received_at);
                }
            }
        }
        if n_read == 0 {
            decoded.reject("bad_json", "an empty body", message.body, message.received_at);
        }
    }
}

/// One report, with its base64url parts decoded.
struct Report<'a> {
    ingest: &'a Ingest<'a>,
    challenge: &'a Challenge,
    request: Request<'a>,
    receipt: Receipt<'a>,
    at: Timestamp,
}

impl MppDecoder {
    fn read(&self, ingest: &Ingest<'_>, received_at: Timestamp) -> Result<Payment, Refusal> {
        let Some(challenge) = ingest.challenge.find() else {
            return Err(refuse(
                "no_challenge",
                "a receipt carries no amount: /challenge must be a Payment challenge",
            ));
        };
        let request = challenge::decode_base64url(&challenge.request)
            .ok_or_else(|| refuse("bad_base64", "/challenge/request must be base64url"))?;
        let request: Request<'_> = serde_json::from_slice(&request)
            .map_err(|_| refuse("bad_request", "/challenge/request must hold a JSON object"))?;
        let receipt = ingest.receipt.get().map(challenge::decode_base64url);
        let bytes = match receipt {
            Some(Some(bytes)) => bytes,
            Some(None) => return Err(refuse("bad_base64", "/receipt must be base64url")),
            None if ingest.action.get().is_some() => b"{}".to_vec(),
            None => return Err(Refusal::Filter("challenge without a receipt")),
        };
        let receipt: Receipt<'_> = serde_json::from_slice(&bytes)
            .map_err(|_| refuse("bad_receipt", "/receipt must hold a JSON object"))?;
        if ingest.receipt.get().is_some() && receipt.status.as_str() != "success" {
            return Err(Refusal::Filter("receipt without success"));
        }
        if receipt.challenge_id.get().is_some_and(|id| id != challenge.id) {
            return Err(refuse("challenge_mismatch", "/receipt is for another challenge"));
        }
        let at = Timestamp::parse(receipt.timestamp.as_str()).unwrap_or(received_at);
        let report = Report { ingest, challenge, request, receipt, at };
        let mut payment = self.payment(&report)?;
        payment.observed_at = received_at;
        Ok(payment)
    }

    fn payment(&self, report: &Report<'_>) -> Result<Payment, Refusal> {
        let Report { receipt, request, challenge, ingest, .. } = report;
        let is_lightning = challenge.method == "lightning";
        match challenge.intent.as_str() {
            "charge" | "subscription" => {
                let id = receipt.reference.get().unwrap_or(&challenge.id);
                let mut payment = self.step(report, Kind::Settle, request.amount, id)?;
                payment.settlement_refs = report.refs(payment.amount.units());
                Ok(payment)
            }
            "session" if is_lightning && receipt.refund_status.get().is_some() => self.refund(report),
            "session" if is_lightning && matches!(ingest.action.as_str(), "open" | "topUp") => {
                let amount = [request.deposit_amount, request.method_details.0.deposit_amount];
                let amount = amount.into_iter().find(|amount| amount.get().is_some()).unwrap_or_default();
                let hash = request.payment_hash.get().unwrap_or(&challenge.id);
                let mut deposit = self.step(report, Kind::Deposit, amount, hash)?;
                deposit.parent = report.session().map(SmolStr::new);
                Ok(deposit)
            }
            "session" => {
                let total = if ingest.cumulative.get().is_some() { ingest.cumulative } else { receipt.spent };
                if total.get().is_none() {
                    return Err(Refusal::Filter("session step without a total"));
                }
                let session = report
                    .session()
                    .ok_or_else(|| refuse("no_id", "no channelId, sessionId or reference"))?;
                let mut payment = self.step(report, Kind::Settle, total, session)?;
                payment.running_total = true;
                Ok(payment)
            }
            other => Err(refuse(
                "bad_intent",
                format!("intent {other:.40?}; expected charge, session or subscription"),
            )),
        }
    }

    /// What is left of a Lightning session's deposit comes back as an incoming payment, if it arrived.
    fn refund(&self, report: &Report<'_>) -> Result<Payment, Refusal> {
        if report.receipt.refund_status.as_str() != "succeeded" {
            return Err(Refusal::Filter("refund that did not arrive"));
        }
        let session = report.session().ok_or_else(|| refuse("no_id", "no sessionId or reference"))?;
        let sats = report.receipt.refund_sats.get().unwrap_or(0);
        let msat = sats.checked_mul(1000).filter(|msat| *msat >= 0);
        let msat = msat.ok_or_else(|| refuse("bad_amount", "refundSats must be an integer of at least 0"))?;
        let mut refund = self.step_of(report, Kind::Refund, Money::new(msat, Asset::btc()), session)?;
        refund.parent = Some(format_smolstr!("{}:{session:.120}", report.challenge.method));
        Ok(refund)
    }

    fn step(&self, report: &Report<'_>, kind: Kind, amount: Int, id: &str) -> Result<Payment, Refusal> {
        let amount = amount.get().filter(|amount| *amount >= 0);
        let units =
            amount.ok_or_else(|| refuse("bad_amount", "the amount must be an integer of at least 0"))?;
        let money = self.money(units, report.request.currency.as_str())?;
        self.step_of(report, kind, money, id)
    }

    fn step_of(&self, report: &Report<'_>, kind: Kind, amount: Money, id: &str) -> Result<Payment, Refusal> {
        if amount.is_zero() {
            return Err(Refusal::Filter("zero amount"));
        }
        let id = format_smolstr!("{}:{id:.120}", report.challenge.method);
        let mut payment = Payment::settle(RAIL, id, amount, report.at);
        payment.kind = kind;
        payment.direction = self.mapping.direction;
        payment.spender = report.spender();
        payment.payee = report.request.recipient.get().or(Some(&report.challenge.realm)).map(short);
        payment.resource = report.ingest.url.get().or(report.request.description.get()).map(short);
        Ok(payment)
    }

    /// The unit depends on the currency: minor units of a currency, satoshi, or base units of a token.
    fn money(&self, units: i128, currency: &str) -> Result<Money, Refusal> {
        let overflow = || refuse("bad_amount", "the amount is too large");
        match currency {
            "sat" => Ok(Money::new(units.checked_mul(1000).ok_or_else(overflow)?, Asset::btc())),
            "msat" => Ok(Money::new(units, Asset::btc())),
            token if token.starts_with("0x") => {
                let declared =
                    self.mapping.tokens.iter().find(|known| known.address.eq_ignore_ascii_case(token));
                let asset = declared.and_then(|token| Asset::new(token.symbol.as_str(), token.decimals));
                let asset = asset.ok_or_else(|| {
                    refuse(
                        "unknown_currency",
                        format!("token {token:.60} is not declared in tokens, with its decimals"),
                    )
                })?;
                Ok(Money::new(units, asset))
            }
            fiat => stripe_money(units, fiat, &BTreeMap::new())
                .map_err(|error| refuse("unknown_currency", error.to_string())),
        }
    }
}

impl Report<'_> {
    fn session(&self) -> Option<&str> {
        self.receipt.channel_id.get().or(self.ingest.session_id.get()).or(self.receipt.reference.get())
    }

    fn spender(&self) -> Vec<Identity> {
        [(Identity::AGENT, self.ingest.agent_id.get()), ("mpp.source", self.ingest.source.get())]
            .into_iter()
            .filter_map(|(scheme, value)| Some(Identity::new(SmolStr::new_static(scheme), short(value?))))
            .collect()
    }

    /// Names under which the rail below may report the same money. A chain transaction needs its payer too.
    fn refs(&self, units: i128) -> Vec<SettlementRef> {
        let reference = self.receipt.reference.get().unwrap_or_default();
        let below = match self.challenge.method.as_str() {
            "stripe" | "card" if reference.starts_with("pi_") => {
                Some((RefScheme::StripePi, short(reference)))
            }
            "lightning" if reference.len() == 64 => {
                Some((RefScheme::PaymentHash, reference.to_ascii_lowercase().into()))
            }
            "evm" | "tempo" | "usdc" if reference.len() == 66 => self.payer().map(|payer| {
                let tx = reference.to_ascii_lowercase();
                (RefScheme::EvmTx, format_smolstr!("{tx}:{payer}:{units}"))
            }),
            _ => None,
        };
        let challenge = Some((RefScheme::MppChallenge, short(&self.challenge.id)));
        [challenge, below]
            .into_iter()
            .flatten()
            .map(|(scheme, value)| SettlementRef { scheme, value })
            .collect()
    }

    /// The address in `did:pkh:eip155:<chain>:<address>`.
    fn payer(&self) -> Option<String> {
        let account = self.ingest.source.get()?.strip_prefix("did:pkh:eip155:")?;
        account.split_once(':').map(|(_, address)| address.to_ascii_lowercase())
    }
}
