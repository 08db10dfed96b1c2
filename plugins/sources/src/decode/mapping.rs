//! The declarative decoder's configuration: which field of a message is which part of a payment.

use std::collections::BTreeMap;

use railwatch_model::{Asset, Direction, Kind, Label, RefScheme, SmolStr, Status};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use schemars::JsonSchema;
use serde::Deserialize;

use super::amount::{self, AmountUnit, Amounts};
use super::framing::Framing;
use super::path::{FieldPath, Paths, Pluck, Trie};
use super::time::TimeUnit;

/// What a message's fields mean. Every key is optional; the defaults read railwatch's own generic shape:
/// `{"id":"…","ts":"…","agent_id":"…","rail":"…","amount_usd":1.25,"payee":"…","status":"settled"}`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MappingConfig {
    /// A decoder written in Lua instead of this mapping; the host compiles it.
    pub decode: Option<String>,
    /// The rail of messages that name none; the source's name if left out.
    pub rail: Option<String>,
    /// The agent of messages that name none.
    pub agent: Option<String>,
    /// The currency of messages that name none: an ISO 4217 code, `USDC`, `BTC`, `sat`, `msat`, `usd_cents`, or a
    /// token from `assets`.
    pub currency: Option<String>,
    /// Tokens that railwatch does not know, with their decimals: `{ "WETH@base" = 18 }`.
    pub assets: BTreeMap<String, u8>,
    /// What the number in the amount field counts.
    pub amount_unit: AmountUnit,
    /// What a negative amount means.
    pub negative: Negative,
    /// How times are written.
    pub at_unit: TimeUnit,
    /// What to do with a message that has no id.
    pub missing_id: MissingId,
    /// Whose money moves.
    pub direction: Direction,
    /// True if amounts are the total so far of one id (refunds on a charge, vouchers of a session).
    pub running_total: bool,
    /// Further words of the kind field and what they mean; the usual ones (`settled`, `paid`, `failed`, `refunded`,
    /// `authorized`, `pending`, …) are known.
    pub kinds: BTreeMap<String, KindAs>,
    /// Labels that every payment of this source gets.
    pub labels: BTreeMap<String, String>,
    /// Where the list of payments is inside the message, if the message is an envelope.
    pub items: Option<FieldPath>,
    /// The fields.
    pub map: FieldsConfig,
}

/// Where each part of a payment is. A key that is left out keeps its default paths.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FieldsConfig {
    /// The rail's own name for the payment. Default: `id`, `event_id`, `payment_id`, `tx_id`, `transaction_id`.
    pub id: Option<Paths>,
    /// The agent's name, from a signed or trusted part of the message. Default: `agent_id`, `agent`.
    pub agent: Option<Paths>,
    /// The rail. Default: `rail`, then the key `rail` of this table.
    pub rail: Option<Paths>,
    /// The amount: a number or a text. Default: `amount_usd`, `amount`. A name that ends in `_usd`, `_usdc`,
    /// `_cents`, `_sats` or `_msats` implies the currency.
    pub amount: Option<Paths>,
    /// The currency. Default: `currency`, `asset`.
    pub currency: Option<Paths>,
    /// When it happened. Default: `ts`, `at`, `timestamp`, `occurred_at`, `created_at`, `time`; without any, the time
    /// of arrival, marked by the label `occurred_at = received`.
    pub at: Option<Paths>,
    /// What happened. Default: `kind`, `status`; without any, a settle.
    pub kind: Option<Paths>,
    /// Who was paid. Default: `payee`, `merchant`, `recipient`, `to`.
    pub payee: Option<Paths>,
    /// What was bought. Default: `resource`, `url`, `description`, `memo`.
    pub resource: Option<Paths>,
    /// The id of the payment that this one belongs to. Default: `parent`, `parent_id`.
    pub parent: Option<Paths>,
    /// The task. Default: `task_id`, `task`.
    pub task: Option<Paths>,
    /// The session. Default: `session_id`, `session`.
    pub session: Option<Paths>,
    /// Identities of the spender: scheme (`evm.address`, `stripe.card`, `key`, …) → field. In the order of the
    /// schemes' names.
    pub spender: BTreeMap<String, Paths>,
    /// Labels: name → field.
    pub labels: BTreeMap<String, Paths>,
    /// Names that other rails give to the same purchase: `evm_tx`, `evm_auth`, `payment_hash`, `stripe_pi`,
    /// `stripe_charge`, `mpp_challenge` or `other` → field. An `evm_tx` is completed with payer and amount.
    pub refs: BTreeMap<RefName, Paths>,
}

/// [`RefScheme`] as a configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of RefScheme, where they are explained")]
pub enum RefName {
    EvmTx,
    EvmAuth,
    PaymentHash,
    StripePi,
    StripeCharge,
    MppChallenge,
    Other,
}

impl RefName {
    fn scheme(self) -> RefScheme {
        match self {
            Self::EvmTx => RefScheme::EvmTx,
            Self::EvmAuth => RefScheme::EvmAuth,
            Self::PaymentHash => RefScheme::PaymentHash,
            Self::StripePi => RefScheme::StripePi,
            Self::StripeCharge => RefScheme::StripeCharge,
            Self::MppChallenge => RefScheme::MppChallenge,
            Self::Other => RefScheme::Other,
        }
    }
}

/// What a negative amount means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Negative {
    /// A mistake: the message is rejected with the code `bad_amount`.
    #[default]
    Reject,
    /// A refund of that much.
    Refund,
}

/// What to do with a message that has no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingId {
    /// The id is a hash of the message without its white space, so that a redelivery counts once. Two payments whose
    /// messages are equal in every byte count once, too; a message with neither id nor time is therefore rejected.
    #[default]
    Hash,
    /// The message is rejected with the code `no_id`.
    Reject,
}

/// What a word of the kind field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindAs {
    /// Money is reserved.
    Hold,
    /// A reservation ended without a capture.
    Release,
    /// Money moved.
    Settle,
    /// Money is about to move and may still be undone: a settle with the status `seen`.
    Pending,
    /// An earlier `pending` is void.
    Retracted,
    /// Money came back.
    Refund,
    /// The rail took a settle back.
    Reversal,
    /// Money was put aside for later spending.
    Deposit,
    /// A cost of paying.
    Fee,
    /// A settle is contested.
    Dispute,
    /// The rail refused; no money moved.
    Declined,
    /// Known, and not a payment.
    Ignore,
}

impl KindAs {
    /// The step and its status; `None` for [`KindAs::Ignore`].
    pub(super) fn step(self) -> Option<(Kind, Status)> {
        let kind = match self {
            Self::Hold => Kind::Hold,
            Self::Release => Kind::Release,
            Self::Settle => Kind::Settle,
            Self::Pending => return Some((Kind::Settle, Status::Seen)),
            Self::Retracted => return Some((Kind::Settle, Status::Retracted)),
            Self::Refund => Kind::Refund,
            Self::Reversal => Kind::Reversal,
            Self::Deposit => Kind::Deposit,
            Self::Fee => Kind::Fee,
            Self::Dispute => Kind::Dispute,
            Self::Declined => Kind::Declined,
            Self::Ignore => return None,
        };
        Some((kind, Status::Confirmed))
    }
}

/// Words that need no entry in `kinds`; the frequent ones come first.
const KINDS: &[(&str, KindAs)] = &[
    ("settled", KindAs::Settle),
    ("settle", KindAs::Settle),
    ("success", KindAs::Settle),
    ("succeeded", KindAs::Settle),
    ("completed", KindAs::Settle),
    ("confirmed", KindAs::Settle),
    ("paid", KindAs::Settle),
    ("captured", KindAs::Settle),
    ("payment", KindAs::Settle),
    ("ok", KindAs::Settle),
    ("declined", KindAs::Declined),
    ("failed", KindAs::Declined),
    ("failure", KindAs::Declined),
    ("rejected", KindAs::Declined),
    ("pending", KindAs::Pending),
    ("processing", KindAs::Pending),
    ("submitted", KindAs::Pending),
    ("retracted", KindAs::Retracted),
    ("refund", KindAs::Refund),
    ("refunded", KindAs::Refund),
    ("hold", KindAs::Hold),
    ("authorized", KindAs::Hold),
    ("authorised", KindAs::Hold),
    ("release", KindAs::Release),
    ("released", KindAs::Release),
    ("voided", KindAs::Release),
    ("reversal", KindAs::Reversal),
    ("reversed", KindAs::Reversal),
    ("chargeback", KindAs::Reversal),
    ("deposit", KindAs::Deposit),
    ("topup", KindAs::Deposit),
    ("fee", KindAs::Fee),
    ("dispute", KindAs::Dispute),
    ("disputed", KindAs::Dispute),
];

/// The declarative decoder.
#[derive(Debug)]
pub struct Mapping {
    pub(super) source: SmolStr,
    pub(super) trie: Trie,
    pub(super) fields: Fields,
    pub(super) items: Option<Pluck>,
    pub(super) amounts: Amounts,
    pub(super) rail: SmolStr,
    pub(super) agent: Option<railwatch_model::AgentId>,
    pub(super) currency: Option<SmolStr>,
    pub(super) at_unit: TimeUnit,
    pub(super) negative: Negative,
    pub(super) missing_id: MissingId,
    pub(super) direction: Direction,
    pub(super) running_total: bool,
    kinds: Vec<(SmolStr, KindAs)>,
    pub(super) labels: Vec<Label>,
}

/// Where a field is: consecutive slots of the trie, tried in order.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) first: usize,
    pub(super) paths: Paths,
    /// Per path, what its name says about the currency.
    pub(super) implied: Vec<Option<&'static str>>,
}

#[derive(Debug)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) agent: Field,
    pub(super) rail: Field,
    pub(super) amount: Field,
    pub(super) currency: Field,
    pub(super) at: Field,
    pub(super) kind: Field,
    pub(super) payee: Field,
    pub(super) resource: Field,
    pub(super) parent: Field,
    pub(super) task: Field,
    pub(super) session: Field,
    pub(super) spender: Vec<(SmolStr, Field)>,
    pub(super) labels: Vec<(SmolStr, Field)>,
    pub(super) refs: Vec<(RefScheme, Field)>,
}

impl Mapping {
    /// Checks a configuration and compiles it for a source of this name.
    pub fn new(config: &MappingConfig, source: SmolStr) -> Result<Self, ConfigError> {
        let mut trie = Trie::new();
        let fields = Fields::compile(&config.map, &mut trie)?;
        let declared = declared_assets(&config.assets)?;
        let amounts = Amounts { unit: config.amount_unit, declared };
        if let Some(currency) = &config.currency {
            amounts.read("1", currency).map_err(|problem| ConfigError::new("currency", problem.detail))?;
        }
        let agent = config.agent.as_ref().map(|name| {
            railwatch_model::AgentId::new(name.as_str())
                .ok_or_else(|| ConfigError::new("agent", "an agent's name has 1 to 200 bytes of plain text"))
        });
        let kinds = config.kinds.iter().map(|(word, kind)| (word.as_str(), *kind));
        let labels = config.labels.iter();
        Ok(Self {
            rail: config.rail.as_ref().map_or_else(|| source.clone(), SmolStr::new),
            source,
            trie,
            fields,
            items: config.items.as_ref().map(Pluck::new),
            amounts,
            agent: agent.transpose()?,
            currency: config.currency.as_ref().map(SmolStr::new),
            at_unit: config.at_unit,
            negative: config.negative,
            missing_id: config.missing_id,
            direction: config.direction,
            running_total: config.running_total,
            kinds: kinds.chain(KINDS.iter().copied()).map(|(word, kind)| (word.into(), kind)).collect(),
            labels: labels.map(|(key, value)| Label { key: key.into(), value: value.into() }).collect(),
        })
    }

    /// What a word of the kind field means.
    pub(super) fn kind(&self, word: &str) -> Option<KindAs> {
        self.kinds.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, kind)| *kind)
    }

    /// The words of the kind field, for messages.
    pub(super) fn kind_words(&self) -> String {
        let words: Vec<&str> = self.kinds.iter().map(|(word, _)| word.as_str()).collect();
        words.join(", ")
    }
}

impl Decoder for Mapping {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let at = message.received_at;
        let mut framing = Framing::new(self.items.as_ref(), at);
        framing.cut(message.body, decoded, &mut |item, decoded| self.decode_item(item, at, decoded));
    }
}

fn declared_assets(assets: &BTreeMap<String, u8>) -> Result<Vec<Asset>, ConfigError> {
    let declare = |(code, scale): (&String, &u8)| {
        Asset::new(code.as_str(), *scale).ok_or_else(|| {
            let message = format!("a token needs a code and 0 to {} decimals", Asset::SCALE_MAX);
            ConfigError::new(format!("assets.{code}"), message)
        })
    };
    assets.iter().map(declare).collect()
}

impl Fields {
    fn compile(map: &FieldsConfig, trie: &mut Trie) -> Result<Self, ConfigError> {
        let mut field = |name: &str, paths: &Option<Paths>, default: &[&str]| {
            Field::compile(trie, name, paths.clone().unwrap_or_else(|| Paths::of(default)))
        };
        Ok(Self {
            id: field("id", &map.id, &["id", "event_id", "payment_id", "tx_id", "transaction_id"])?,
            agent: field("agent", &map.agent, &["agent_id", "agent"])?,
            rail: field("rail", &map.rail, &["rail"])?,
            amount: field("amount", &map.amount, &["amount_usd", "amount"])?,
            currency: field("currency", &map.currency, &["currency", "asset"])?,
            at: field("at", &map.at, &["ts", "at", "timestamp", "occurred_at", "created_at", "time"])?,
            kind: field("kind", &map.kind, &["kind", "status"])?,
            payee: field("payee", &map.payee, &["payee", "merchant", "recipient", "to"])?,
            resource: field("resource", &map.resource, &["resource", "url", "description", "memo"])?,
            parent: field("parent", &map.parent, &["parent", "parent_id"])?,
            task: field("task", &map.task, &["task_id", "task"])?,
            session: field("session", &map.session, &["session_id", "session"])?,
            spender: Field::compile_map(trie, "spender", &map.spender)?,
            labels: Field::compile_map(trie, "labels", &map.labels)?,
            refs: map
                .refs
                .iter()
                .map(|(name, paths)| Ok((name.scheme(), Field::compile(trie, "refs", paths.clone())?)))
                .collect::<Result<_, ConfigError>>()?,
        })
    }
}

impl Field {
    fn compile(trie: &mut Trie, name: &str, paths: Paths) -> Result<Self, ConfigError> {
        let mut first = None;
        for path in paths.iter() {
            let slot = trie.add(path).ok_or_else(|| {
                let message = format!("a mapping may have {} paths in all", super::path::SLOTS_MAX);
                ConfigError::new(format!("map.{name}"), message)
            })?;
            first.get_or_insert(slot);
        }
        let implied = paths.iter().map(|path| amount::implied_currency(path.last())).collect();
        Ok(Self { first: first.unwrap_or(0), paths, implied })
    }

    fn compile_map(
        trie: &mut Trie,
        name: &str,
        map: &BTreeMap<String, Paths>,
    ) -> Result<Vec<(SmolStr, Self)>, ConfigError> {
        let compile = |(key, paths): (&String, &Paths)| {
            Ok((key.into(), Self::compile(trie, &format!("{name}.{key}"), paths.clone())?))
        };
        map.iter().map(compile).collect()
    }
}
