//! Core Lightning: `listpays` (whole payments), `listsendpays` and `sendpay_*` (their parts). Source: the schemas in
//! `doc/schemas` of ElementsProject/lightning.

use railwatch_model::{Identity, SmolStr, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::format_smolstr;

use super::{Outgoing, Reports, State, payment_hash};
use crate::scalar::{Int, Text, short};

/// An answer, with or without its JSON-RPC envelope, or a notification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    pays: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    payments: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    sendpay_success: Option<&'a RawValue>,
    #[serde(borrow)]
    sendpay_failure: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClnPayment<'a> {
    #[serde(borrow)]
    payment_hash: Text<'a>,
    groupid: Int,
    partid: Int,
    #[serde(borrow)]
    destination: Text<'a>,
    /// An integer, or `"10000msat"` from older versions.
    #[serde(borrow)]
    amount_msat: Text<'a>,
    #[serde(borrow)]
    amount_sent_msat: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    created_at: Int,
    completed_at: Int,
    #[serde(borrow)]
    label: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Whole,
    Part,
}

pub(super) fn read(json: &str, reports: &mut Reports<'_>) {
    answer(json, reports, 0);
}

fn answer(json: &str, reports: &mut Reports<'_>, depth: u8) {
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(json) else {
        return reports.reject("bad_shape", "expected pays, payments or a sendpay notification", json);
    };
    if let (Some(inner), true) = (answer.result.or(answer.response), depth < 2) {
        return self::answer(inner.get(), reports, depth + 1);
    }
    let is_empty = answer.pays.is_none() && answer.payments.is_none();
    for pay in answer.pays.unwrap_or_default() {
        payment(pay.get(), Unit::Whole, reports);
    }
    for part in answer.payments.unwrap_or_default() {
        payment(part.get(), Unit::Part, reports);
    }
    match answer.sendpay_success.or(answer.sendpay_failure.map(failed_data)) {
        Some(part) => payment(part.get(), Unit::Part, reports),
        None if is_empty => reports.filter("empty message"),
        None => {}
    }
}

/// A failure notification has the part under `data`.
fn failed_data(failure: &RawValue) -> &RawValue {
    #[derive(Deserialize)]
    struct Failure<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_str::<Failure<'_>>(failure.get()).map_or(failure, |failure| failure.data)
}

fn payment(json: &str, unit: Unit, reports: &mut Reports<'_>) {
    let Ok(read) = serde_json::from_str::<ClnPayment<'_>>(json) else {
        return reports.reject("bad_shape", "expected a payment object", json);
    };
    let Some(hash) = payment_hash(read.payment_hash.as_str()) else {
        return reports.reject("no_id", "payment_hash must be 64 hexadecimal digits", json);
    };
    let state = match read.status.as_str() {
        "pending" => State::InFlight,
        "complete" => State::Succeeded,
        "failed" => State::Failed,
        _ => return reports.reject("bad_status", "status must be pending, complete or failed", json),
    };
    let sent = msat(&read.amount_sent_msat);
    // The amount of a part is absent where the payee of an old payment is unknown; then all that is known is what left.
    let amount = msat(&read.amount_msat).or(sent).or((state == State::Failed).then_some(0));
    let Some(amount_msat) = amount else {
        return reports.reject("bad_amount", "amount_msat must be an integer of at least 0", json);
    };
    let (group, part) = (read.groupid.get().unwrap_or(0), read.partid.get().unwrap_or(0));
    let is_first = unit == Unit::Whole || part <= 1;
    reports.book(Outgoing {
        id: if unit == Unit::Whole { hash.clone() } else { format_smolstr!("{hash}:{group}:{part}") },
        // One part stands for the purchase; were all of them to, only one would count.
        hash: is_first.then_some(hash),
        state,
        amount_msat,
        fee_msat: sent.map_or(0, |sent| sent.saturating_sub(amount_msat).max(0)),
        at: read
            .completed_at
            .get()
            .or(read.created_at.get())
            .and_then(|secs| Timestamp::from_number(secs).ok()),
        spender: read
            .label
            .get()
            .map(|label| Identity::new(SmolStr::new_static("ln.label"), short(label)))
            .into_iter()
            .collect(),
        payee: read.destination.get().map(short),
        resource: read.description.get().map(short),
        labels: Vec::new(),
    });
}

fn msat(text: &Text<'_>) -> Option<i128> {
    let text = text.as_str();
    text.strip_suffix("msat").unwrap_or(text).parse().ok().filter(|msat| *msat >= 0)
}
