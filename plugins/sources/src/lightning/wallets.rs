//! Wallet servers with small interfaces: phoenixd, LNbits, lnget.

use railwatch_model::{Identity, SmolStr, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::format_smolstr;

use super::{Outgoing, Reports, State, payment_hash};
use crate::scalar::{Flag, Int, Text, Texts, short};

/// Millisatoshi in one satoshi.
const MSAT_PER_SAT: i128 = 1000;

/// The entries of a list, or the one object.
fn entries<'a>(json: &'a str) -> Option<Vec<&'a str>> {
    if json.starts_with('[') {
        let items: Vec<&'a RawValue> = serde_json::from_str(json).ok()?;
        return Some(items.into_iter().map(RawValue::get).collect());
    }
    json.starts_with('{').then(|| vec![json])
}

fn each<'a>(json: &'a str, reports: &mut Reports<'_>, mut read: impl FnMut(&'a str, &mut Reports<'_>)) {
    match entries(json) {
        Some(entries) if entries.is_empty() => reports.filter("empty message"),
        Some(entries) => entries.into_iter().for_each(|entry| read(entry, reports)),
        None => reports.reject("bad_shape", "expected a payment or a list of payments", json),
    }
}

/// phoenixd counts `sent` in satoshi, including the fees, and `fees` in millisatoshi. Source: `PaymentTypes` of
/// ACINQ/phoenixd and `WalletPayment.amount` of ACINQ/lightning-kmp.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PhoenixdPayment<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    payment_id: Text<'a>,
    #[serde(borrow)]
    payment_hash: Text<'a>,
    is_paid: Flag,
    sent: Int,
    fees: Int,
    completed_at: Int,
    created_at: Int,
}

pub(super) fn phoenixd(json: &str, reports: &mut Reports<'_>) {
    each(json, reports, |json, reports| {
        let Ok(read) = serde_json::from_str::<PhoenixdPayment<'_>>(json) else {
            return reports.reject("bad_shape", "expected a payment object", json);
        };
        if matches!(read.kind.as_str(), "payment_received" | "incoming_payment") {
            return reports.filter("incoming payment");
        }
        let hash = payment_hash(read.payment_hash.as_str());
        let Some(id) = hash.clone().or(read.payment_id.get().map(short)) else {
            return reports.reject("no_id", "neither paymentHash nor paymentId", json);
        };
        let state = match (read.is_paid.get(), read.completed_at.get()) {
            (Some(true), _) => State::Succeeded,
            (_, Some(_)) => State::Failed,
            (_, None) => State::InFlight,
        };
        let fee_msat = read.fees.get().unwrap_or(0);
        let sent = read.sent.get().and_then(|sats| sats.checked_mul(MSAT_PER_SAT));
        let amount = sent.and_then(|sent| sent.checked_sub(fee_msat));
        let Some(amount_msat) = amount.filter(|amount| *amount >= 0 && fee_msat >= 0) else {
            return reports.reject(
                "bad_amount",
                "sent (satoshi) must be an integer of at least fees (millisatoshi)",
                json,
            );
        };
        let at = read.completed_at.get().or(read.created_at.get());
        let at = at.and_then(|millis| Timestamp::from_number(millis).ok());
        reports.book(Outgoing { hash, at, ..plain(id, state, amount_msat, fee_msat) });
    });
}

/// LNbits counts in millisatoshi; a negative amount leaves the wallet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LnbitsPayment<'a> {
    #[serde(borrow)]
    payment_hash: Text<'a>,
    #[serde(borrow)]
    checking_id: Text<'a>,
    amount: Int,
    fee: Int,
    #[serde(borrow)]
    status: Text<'a>,
    pending: Flag,
    /// Unix seconds, or ISO 8601 without a zone (UTC).
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow)]
    wallet_id: Text<'a>,
    #[serde(borrow)]
    memo: Text<'a>,
    #[serde(borrow)]
    extra: Texts<'a>,
}

/// A WebSocket push.
#[derive(Debug, Deserialize)]
struct LnbitsPush<'a> {
    #[serde(borrow)]
    payment: &'a RawValue,
}

pub(super) fn lnbits(json: &str, reports: &mut Reports<'_>) {
    if let Ok(push) = serde_json::from_str::<LnbitsPush<'_>>(json) {
        return lnbits_payment(push.payment.get(), reports);
    }
    each(json, reports, lnbits_payment);
}

fn lnbits_payment(json: &str, reports: &mut Reports<'_>) {
    let Ok(read) = serde_json::from_str::<LnbitsPayment<'_>>(json) else {
        return reports.reject("bad_shape", "expected a payment object", json);
    };
    let Some(amount) = read.amount.get() else {
        return reports.reject("bad_amount", "amount must be an integer of millisatoshi", json);
    };
    if amount >= 0 {
        return reports.filter("incoming payment");
    }
    let hash = payment_hash(read.payment_hash.as_str());
    let Some(id) = hash.clone().or(read.checking_id.get().map(short)) else {
        return reports.reject("no_id", "neither payment_hash nor checking_id", json);
    };
    let state = match (read.status.as_str(), read.pending.get()) {
        ("success" | "complete", _) | ("", Some(false)) => State::Succeeded,
        ("failed", _) => State::Failed,
        ("pending", _) | ("", Some(true)) => State::InFlight,
        _ => return reports.reject("bad_status", "status must be success, pending or failed", json),
    };
    let scheme = |name: &'static str| SmolStr::new_static(name);
    let agent = read.extra.get("agent_id").map(|agent| Identity::new(Identity::AGENT, short(agent)));
    let wallet = read.wallet_id.get().map(|wallet| Identity::new(scheme("lnbits.wallet"), short(wallet)));
    let fee_msat = read.fee.get().unwrap_or(0).saturating_abs();
    reports.book(Outgoing {
        hash,
        at: time(read.time.as_str()),
        spender: agent.into_iter().chain(wallet).collect(),
        resource: read.memo.get().map(short),
        ..plain(id, state, amount.saturating_abs(), fee_msat)
    });
}

/// A time as wallets write it; without a zone it is UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}Z"))).ok()
}

/// lnget counts in satoshi and knows what was bought.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LngetEvent<'a> {
    #[serde(borrow)]
    domain: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow)]
    payment_hash: Text<'a>,
    amount_sat: Int,
    fee_sat: Int,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    created_at: Text<'a>,
}

pub(super) fn lnget(json: &str, reports: &mut Reports<'_>) {
    each(json, reports, |json, reports| {
        let Ok(read) = serde_json::from_str::<LngetEvent<'_>>(json) else {
            return reports.reject("bad_shape", "expected an event object", json);
        };
        let Some(hash) = payment_hash(read.payment_hash.as_str()) else {
            return reports.filter("request without a payment");
        };
        let state = if read.status.as_str() == "success" { State::Succeeded } else { State::Failed };
        let msat = |sats: Int| sats.get().unwrap_or(0).checked_mul(MSAT_PER_SAT).filter(|msat| *msat >= 0);
        let (Some(amount_msat), Some(fee_msat)) = (msat(read.amount_sat), msat(read.fee_sat)) else {
            return reports.reject(
                "bad_amount",
                "amount_sat and fee_sat must be integers of at least 0",
                json,
            );
        };
        reports.book(Outgoing {
            // Not the hash alone: the node's report of the payment is another view, which this one enriches.
            hash: Some(hash.clone()),
            at: Timestamp::parse(read.created_at.as_str()).ok(),
            payee: read.domain.get().map(short),
            resource: read.url.get().map(short),
            ..plain(format_smolstr!("lnget:{hash}"), state, amount_msat, fee_msat)
        });
    });
}

fn plain(id: SmolStr, state: State, amount_msat: i128, fee_msat: i128) -> Outgoing {
    let (spender, labels) = (Vec::new(), Vec::new());
    Outgoing {
        id,
        hash: None,
        state,
        amount_msat,
        fee_msat,
        at: None,
        spender,
        payee: None,
        resource: None,
        labels,
    }
}
