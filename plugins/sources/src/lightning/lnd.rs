//! LND's REST interface. Source: `lnrpc.Payment` in lnd's `router.swagger.json`; 64-bit integers are JSON texts.

use railwatch_model::{Label, SmolStr, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Outgoing, Reports, State, payment_hash};
use crate::scalar::{Int, Items, Nested, Text, short};

/// A stream line (`result` or `error`), a page (`payments`), or a bare payment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Nested<StreamError<'a>>>,
    #[serde(borrow)]
    payments: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    payment_hash: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamError<'a> {
    #[serde(borrow)]
    message: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LndPayment<'a> {
    #[serde(borrow)]
    payment_hash: Text<'a>,
    value_msat: Int,
    fee_msat: Int,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    failure_reason: Text<'a>,
    creation_time_ns: Int,
    #[serde(borrow)]
    htlcs: Items<Nested<Htlc<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Htlc<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    resolve_time_ns: Int,
    #[serde(borrow)]
    route: Nested<Route<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Route<'a> {
    #[serde(borrow)]
    hops: Items<Nested<Hop<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hop<'a> {
    #[serde(borrow)]
    pub_key: Text<'a>,
}

pub(super) fn read(json: &str, reports: &mut Reports<'_>) {
    // The stream's usual line in one pass.
    #[derive(Deserialize)]
    struct Streamed<'a> {
        #[serde(borrow)]
        result: LndPayment<'a>,
    }
    if let Ok(Streamed { result }) = serde_json::from_str::<Streamed<'_>>(json) {
        return payment(&result, json, reports);
    }
    // And its usual page: what is wrong in one is looked for item by item.
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        payments: Vec<LndPayment<'a>>,
    }
    if let Ok(Page { payments }) = serde_json::from_str::<Page<'_>>(json)
        && let Ok(outgoing) = payments.iter().map(outgoing).collect::<Result<Vec<_>, _>>()
        && !outgoing.is_empty()
    {
        return outgoing.into_iter().for_each(|outgoing| reports.book(outgoing));
    }
    let Ok(line) = serde_json::from_str::<Line<'_>>(json) else {
        return reports.reject("bad_shape", "expected a payment, a page of payments or a stream line", json);
    };
    if let Some(Nested(error)) = line.error {
        let detail = format!("the node ended the stream: {}", short(error.message.as_str()));
        return reports.reject("rail_error", detail, json);
    }
    let items = line.payments.unwrap_or_default();
    let is_empty = items.is_empty() && line.result.is_none();
    for item in items.iter().copied().chain(line.result).map(RawValue::get) {
        bare(item, reports);
    }
    if line.payment_hash.get().is_some() {
        bare(json, reports);
    } else if is_empty {
        reports.filter("empty message");
    }
}

fn bare(json: &str, reports: &mut Reports<'_>) {
    match serde_json::from_str::<LndPayment<'_>>(json) {
        Ok(read) => payment(&read, json, reports),
        Err(_) => reports.reject("bad_shape", "expected a payment object", json),
    }
}

fn payment(read: &LndPayment<'_>, json: &str, reports: &mut Reports<'_>) {
    match outgoing(read) {
        Ok(outgoing) => reports.book(outgoing),
        Err((code, detail)) => reports.reject(code, detail, json),
    }
}

/// The payment, or the code and the reason of its reject.
fn outgoing(read: &LndPayment<'_>) -> Result<Outgoing, (&'static str, &'static str)> {
    let Some(hash) = payment_hash(read.payment_hash.as_str()) else {
        return Err(("no_id", "payment_hash must be 64 hexadecimal digits"));
    };
    let state = match read.status.as_str() {
        "INITIATED" | "IN_FLIGHT" => State::InFlight,
        "SUCCEEDED" => State::Succeeded,
        "FAILED" => State::Failed,
        _ => return Err(("bad_status", "status must be IN_FLIGHT, SUCCEEDED or FAILED")),
    };
    // Sub-satoshi amounts exist: `value_sat` would round them away and is never used.
    let amount = read.value_msat.get().filter(|amount| *amount >= 0);
    let (Some(amount_msat), Some(fee_msat)) =
        (amount, read.fee_msat.get().or(Some(0)).filter(|fee| *fee >= 0))
    else {
        return Err(("bad_amount", "value_msat and fee_msat must be integers of at least 0"));
    };
    let reason = read.failure_reason.get().filter(|_| state == State::Failed);
    Ok(Outgoing {
        id: hash.clone(),
        hash: Some(hash),
        state,
        amount_msat,
        fee_msat,
        at: settled_at(read),
        spender: Vec::new(),
        payee: payee(read),
        resource: None,
        labels: reason
            .map(|reason| Label { key: SmolStr::new_static("failure"), value: short(reason) })
            .into_iter()
            .collect(),
    })
}

/// The last part's settlement, else the creation.
fn settled_at(read: &LndPayment<'_>) -> Option<Timestamp> {
    let settled = read.htlcs.0.iter().filter(|htlc| htlc.0.status.as_str() == "SUCCEEDED");
    let last = settled.filter_map(|htlc| htlc.0.resolve_time_ns.get()).max().filter(|at| *at > 0);
    last.or(read.creation_time_ns.get()).and_then(|nanos| Timestamp::from_number(nanos).ok())
}

/// The last hop of any route leads to the payee, with an invoice or without.
fn payee(read: &LndPayment<'_>) -> Option<SmolStr> {
    let routes = read.htlcs.0.iter().rev().map(|htlc| &htlc.0.route.0.hops.0);
    routes.filter_map(|hops| hops.last()?.0.pub_key.get()).next().map(short)
}
