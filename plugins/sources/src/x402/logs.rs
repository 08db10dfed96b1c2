//! Chain logs → payments. One purchase is one `Transfer`; the events beside it in its transaction say what it is.
//!
//! Ids survive a reorganisation: they name the authorization, or the transaction and what it moved, and never a block
//! or a position in it.

use std::collections::BTreeMap;

use railwatch_model::{
    Asset, Direction, Identity, Kind, Label, Money, Payment, RefScheme, SettlementRef, SmolStr, Status,
    Timestamp,
};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::format_smolstr;

use super::X402Chain;
use super::hex::{self, Quantity};
use super::network::is_permit2_proxy;
use super::view::RpcHead;
use crate::scalar::{Flag, Nested, Text, from_json};

/// The rail's name on payments.
pub(super) const RAIL: SmolStr = SmolStr::new_static("x402");

/// `Transfer(address,address,uint256)`.
pub(super) const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
/// `AuthorizationUsed(address,bytes32)` of EIP-3009.
pub(super) const AUTHORIZATION_USED: &str =
    "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
/// `AuthorizationCanceled(address,bytes32)` of EIP-3009.
const AUTHORIZATION_CANCELED: &str = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81";
/// `Settled()` and `SettledWithPermit()` of the Permit2 proxies.
const SETTLED: [&str; 2] = [
    "0x97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6",
    "0xde5b89d10fc800c459329c382fabfcad0be0ed7e5328e01fae04e507b09ef5d8",
];

/// A log as nodes send it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RpcLog<'a> {
    #[serde(borrow)]
    pub(super) address: Text<'a>,
    #[serde(borrow)]
    pub(super) topics: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) data: Text<'a>,
    #[serde(borrow)]
    pub(super) block_hash: Text<'a>,
    pub(super) block_number: Quantity,
    /// Absent on many nodes; a number in some receipts.
    pub(super) block_timestamp: Quantity,
    #[serde(borrow)]
    pub(super) transaction_hash: Text<'a>,
    pub(super) log_index: Quantity,
    /// True if the block of this log was reorganised away.
    pub(super) removed: Flag,
}

/// A payment with the place of its log in the chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mined {
    pub(super) payment: Payment,
    pub(super) block_number: u64,
    pub(super) block_hash: SmolStr,
    pub(super) removed: bool,
}

/// Decodes logs: an `eth_getLogs` answer, a receipt, subscription frames, or a list of any of them.
#[derive(Debug, Clone)]
pub struct X402LogDecoder {
    chain: X402Chain,
}

impl X402LogDecoder {
    /// A decoder for one chain.
    pub fn new(chain: X402Chain) -> Self {
        Self { chain }
    }
}

impl Decoder for X402LogDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        match read_logs(message.body) {
            Ok(logs) => {
                let mined = payments(&self.chain, &logs, message.received_at, decoded);
                decoded.payments.extend(mined.into_iter().map(|mut mined| {
                    if mined.removed {
                        mined.payment.status = Status::Retracted;
                    }
                    mined.payment
                }));
            }
            Err(detail) => decoded.reject("bad_json", detail, message.body, message.received_at),
        }
    }
}

/// Nested answers deeper than this are nonsense.
const DEPTH_MAX: u8 = 6;

/// The logs in a message, in its order.
pub(super) fn read_logs(body: &[u8]) -> Result<Vec<RpcLog<'_>>, String> {
    // The usual shape in one pass; every other one is found by looking for it.
    if let Ok(logs) = from_json::<Vec<RpcLog<'_>>>(body)
        && logs.iter().all(|log| !log.topics.is_empty())
    {
        return Ok(logs);
    }
    let logs = read_parts(body)?.into_iter().filter_map(|part| match part {
        Part::Log(log, _) => Some(*log),
        Part::Head(_) => None,
    });
    Ok(logs.collect())
}

/// What a message tells about the chain.
pub(super) enum Part<'a> {
    /// A log, and its JSON.
    Log(Box<RpcLog<'a>>, &'a str),
    Head(RpcHead<'a>),
}

/// The logs and heads in a message, in its order.
pub(super) fn read_parts(body: &[u8]) -> Result<Vec<Part<'_>>, String> {
    let place =
        |error: &serde_json::Error| format!("not JSON: line {}, column {}", error.line(), error.column());
    let body: &RawValue = from_json(body).map_err(|error| place(&error))?;
    let mut parts = Vec::new();
    collect(body.get(), 0, &mut parts).map_err(|error| place(&error))?;
    Ok(parts)
}

/// Where logs and heads may be inside an object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outer<'a> {
    #[serde(borrow)]
    topics: Option<&'a RawValue>,
    #[serde(borrow, rename = "parentHash")]
    parent_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    frame: Option<&'a RawValue>,
    #[serde(borrow)]
    frames: Option<&'a RawValue>,
    #[serde(borrow)]
    logs: Option<&'a RawValue>,
}

fn collect<'a>(json: &'a str, depth: u8, parts: &mut Vec<Part<'a>>) -> Result<(), serde_json::Error> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    match json.as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&'a RawValue> = serde_json::from_str(json)?;
            items.iter().try_for_each(|item| collect(item.get(), depth + 1, parts))
        }
        Some(b'{') => {
            let outer: Outer<'a> = serde_json::from_str(json)?;
            // A subscription request has topics too, but no block.
            if outer.topics.is_some() {
                let Nested(log): Nested<RpcLog<'a>> = serde_json::from_str(json)?;
                if log.block_hash.get().is_some() {
                    parts.push(Part::Log(Box::new(log), json));
                }
                return Ok(());
            }
            if outer.parent_hash.is_some() {
                let Nested(head): Nested<RpcHead<'a>> = serde_json::from_str(json)?;
                parts.push(Part::Head(head));
                return Ok(());
            }
            let inner = [outer.params, outer.result, outer.frame, outer.frames, outer.logs];
            inner.into_iter().flatten().try_for_each(|inner| collect(inner.get(), depth + 1, parts))
        }
        _ => Ok(()),
    }
}

/// Reads logs into payments, transaction by transaction; what is left out is recorded in `decoded`.
pub(super) fn payments(
    chain: &X402Chain,
    logs: &[RpcLog<'_>],
    received_at: Timestamp,
    decoded: &mut Decoded,
) -> Vec<Mined> {
    let mut mined = Vec::new();
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut transactions: BTreeMap<(&str, &str, bool), Vec<&RpcLog<'_>>> = BTreeMap::new();
    for log in logs {
        let (block, hash) = (log.block_hash.as_str(), log.transaction_hash.as_str());
        transactions.entry((block, hash, log.removed.get() == Some(true))).or_default().push(log);
        if order.last() != Some(&(block, hash)) {
            order.push((block, hash));
        }
    }
    for (block, hash) in order {
        for removed in [true, false] {
            if let Some(logs) = transactions.remove(&(block, hash, removed)) {
                let mut transaction = Transaction { chain, logs, received_at, decoded, mined: &mut mined };
                transaction.read(removed);
            }
        }
    }
    mined
}

/// The logs of one transaction in one block.
struct Transaction<'a, 'l> {
    chain: &'a X402Chain,
    logs: Vec<&'a RpcLog<'l>>,
    received_at: Timestamp,
    decoded: &'a mut Decoded,
    mined: &'a mut Vec<Mined>,
}

impl Transaction<'_, '_> {
    fn read(&mut self, removed: bool) {
        self.logs.sort_by_key(|log| log.log_index.0);
        self.logs.dedup_by_key(|log| {
            log.log_index.0.map_or_else(|| (None, log.data.as_str()), |at| (Some(at), ""))
        });
        let mut authorizations = self.authorizations();
        let is_permit2 = self.logs.iter().any(|log| {
            let topic = log.topics.first().map_or("", Text::as_str);
            SETTLED.contains(&topic)
                && hex::address(log.address.as_str()).is_some_and(|at| is_permit2_proxy(&at))
        });
        let mut moved: BTreeMap<(SmolStr, SmolStr, SmolStr, i128), u32> = BTreeMap::new();
        for log in self.logs.clone() {
            let Some(transfer) = self.transfer(log) else { continue };
            let waiting = authorizations.get_mut(&(transfer.token.clone(), transfer.from.clone()));
            let nonce = waiting.and_then(|nonces| (!nonces.is_empty()).then(|| nonces.remove(0)));
            let key = (transfer.token.clone(), transfer.from.clone(), transfer.to.clone(), transfer.value);
            let nth = moved.entry(key).and_modify(|nth| *nth += 1).or_insert(0);
            let method = if nonce.is_some() {
                Method::Eip3009
            } else if is_permit2 {
                Method::Permit2
            } else {
                Method::Transfer
            };
            let nth = *nth;
            self.book(log, &transfer, nonce, nth, method, removed);
        }
        for _ in authorizations.values().flatten() {
            self.filter("authorization without a transfer that counts");
        }
    }

    /// Nonces by token and payer, in the order of the log. The events of one payment come in either order.
    fn authorizations(&mut self) -> BTreeMap<(SmolStr, SmolStr), Vec<SmolStr>> {
        let mut authorizations: BTreeMap<_, Vec<SmolStr>> = BTreeMap::new();
        for log in &self.logs {
            let [kind, payer, nonce] = log.topics.as_slice() else { continue };
            if kind.as_str() != AUTHORIZATION_USED {
                continue;
            }
            let token = hex::address(log.address.as_str());
            if let (Some(token), Some(payer), Some(nonce)) =
                (token, hex::topic_address(payer.as_str()), hex::word(nonce.as_str()))
            {
                authorizations.entry((token, payer)).or_default().push(nonce);
            }
        }
        authorizations
    }

    /// The transfer in a log, if it is one that can count.
    fn transfer(&mut self, log: &RpcLog<'_>) -> Option<Transfer> {
        let kind = log.topics.first().map_or("", Text::as_str);
        if kind != TRANSFER {
            if kind == AUTHORIZATION_CANCELED {
                self.filter("authorization canceled");
            }
            return None;
        }
        let token = hex::address(log.address.as_str());
        let Some((token, asset)) =
            token.and_then(|token| Some((token.clone(), self.chain.network.asset(&token)?.clone())))
        else {
            self.filter("token that does not count");
            return None;
        };
        let [_, from, to] = log.topics.as_slice() else {
            self.reject(log, "bad_shape", "a Transfer must have three topics");
            return None;
        };
        let (Some(from), Some(to)) = (hex::topic_address(from.as_str()), hex::topic_address(to.as_str()))
        else {
            self.reject(log, "bad_address", "topics 1 and 2 must be padded addresses");
            return None;
        };
        match hex::amount(log.data.as_str()) {
            // Anyone can make a zero transfer in another's name; it poisons address books and is never a purchase.
            Ok(0) => {
                self.filter("zero value");
                None
            }
            Ok(value) => Some(Transfer { token, asset, from, to, value }),
            Err(error) => {
                self.reject(log, "bad_amount", error.to_string());
                None
            }
        }
    }

    fn book(
        &mut self,
        log: &RpcLog<'_>,
        transfer: &Transfer,
        nonce: Option<SmolStr>,
        nth: u32,
        method: Method,
        removed: bool,
    ) {
        let chain = self.chain;
        let (pays, receives) = (chain.is_watched(&transfer.from), chain.is_watched(&transfer.to));
        let from_escrow = chain.network.is_escrow(&transfer.from);
        let kind = if transfer.from == transfer.to {
            return self.filter("payer is payee");
        } else if from_escrow && receives {
            Kind::Refund
        } else if from_escrow || !pays {
            return self.filter("payer that is not watched");
        } else if chain.network.is_escrow(&transfer.to) {
            Kind::Deposit
        } else if method == Method::Transfer && !chain.count_plain_transfers {
            return self.filter("plain transfer");
        } else {
            Kind::Settle
        };
        let (Some(hash), Some(block)) =
            (hex::word(log.transaction_hash.as_str()), hex::word(log.block_hash.as_str()))
        else {
            return self.reject(
                log,
                "bad_hash",
                "transactionHash and blockHash must be 32 bytes of hexadecimal",
            );
        };
        let payment = self.payment(log, transfer, kind, &hash, nonce, nth, method);
        self.mined.push(Mined {
            payment,
            block_number: log.block_number.0.unwrap_or(0),
            block_hash: block,
            removed,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "what a payment is made of, once")]
    fn payment(
        &self,
        log: &RpcLog<'_>,
        transfer: &Transfer,
        kind: Kind,
        hash: &SmolStr,
        nonce: Option<SmolStr>,
        nth: u32,
        method: Method,
    ) -> Payment {
        let Transfer { token, asset, from, to, value } = transfer;
        let network = &self.chain.network.id;
        let auth = nonce.map(|nonce| authorization_ref(network, token, from, &nonce));
        let id = match &auth {
            Some(auth) => auth.clone(),
            None => format_smolstr!("{network}:{hash}:{token}:{from}:{to}:{value}:{nth}"),
        };
        let block_at =
            log.block_timestamp.0.and_then(|secs| i64::try_from(secs).ok()).map(Timestamp::from_secs);
        let block_at = block_at.filter(|at| *at < Timestamp::HORIZON);
        let mut payment = Payment::settle(
            RAIL,
            id,
            Money::new(*value, asset.clone()),
            block_at.unwrap_or(self.received_at),
        );
        payment.kind = kind;
        payment.status = Status::Seen;
        payment.direction = Direction::Spend;
        payment.observed_at = self.received_at;
        let (agent, peer) = if kind == Kind::Refund { (to, from) } else { (from, to) };
        payment.spender = spender(network, agent);
        payment.payee = Some(peer.clone());
        if kind == Kind::Settle {
            payment.settlement_refs = refs(auth, hash, from, *value, nth);
        }
        payment.labels = vec![
            Label { key: SmolStr::new_static("method"), value: SmolStr::new_static(method.as_str()) },
            Label { key: SmolStr::new_static("tx"), value: hash.clone() },
        ];
        payment
    }

    fn filter(&mut self, reason: &'static str) {
        self.decoded.filter(SmolStr::new_static(reason));
    }

    fn reject(&mut self, log: &RpcLog<'_>, code: &'static str, detail: impl Into<String>) {
        let place = format!("{} log {:?}", log.transaction_hash.as_str(), log.log_index.0);
        self.decoded.reject(
            code,
            format!("{place}: {}", detail.into()),
            log.data.as_str().as_bytes(),
            self.received_at,
        );
    }
}

/// A token transfer with checked parts.
struct Transfer {
    token: SmolStr,
    asset: Asset,
    from: SmolStr,
    to: SmolStr,
    value: i128,
}

/// How a transfer was authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `transferWithAuthorization`: x402's usual way, though not only x402's.
    Eip3009,
    /// Through a Permit2 proxy of x402.
    Permit2,
    /// A plain transfer by the wallet itself.
    Transfer,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Eip3009 => "eip3009",
            Self::Permit2 => "permit2",
            Self::Transfer => "transfer",
        }
    }
}

/// The value of [`RefScheme::EvmAuth`].
pub(super) fn authorization_ref(network: &str, token: &str, payer: &str, nonce: &str) -> SmolStr {
    format_smolstr!("{network}:{token}:{payer}:{nonce}")
}

/// The names under which other sources may report a settle. The `nth` equal transfer of one transaction is another
/// purchase and gets another name.
pub(super) fn refs(
    auth: Option<SmolStr>,
    hash: &str,
    payer: &str,
    value: i128,
    nth: u32,
) -> Vec<SettlementRef> {
    let tx = match nth {
        0 => format_smolstr!("{hash}:{payer}:{value}"),
        nth => format_smolstr!("{hash}:{payer}:{value}:{nth}"),
    };
    let auth = auth.map(|value| SettlementRef { scheme: RefScheme::EvmAuth, value });
    auth.into_iter().chain([SettlementRef { scheme: RefScheme::EvmTx, value: tx }]).collect()
}

/// A wallet is one identity on all chains, and one on this chain for those who want to tell them apart.
pub(super) fn spender(network: &str, address: &SmolStr) -> Vec<Identity> {
    let scheme = if network.starts_with("eip155:") { "evm.address" } else { "svm.address" };
    let scheme = SmolStr::new_static(scheme);
    vec![
        Identity::new(scheme.clone(), address.clone()),
        Identity::new(scheme, format_smolstr!("{network}:{address}")),
    ]
}
