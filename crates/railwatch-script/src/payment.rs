//! A decoder's table as a [`Payment`].

use mlua::{Table, Value};
use railwatch_model::{
    AgentId, Direction, Identity, Kind, Label, Payment, RefScheme, SettlementRef, SmolStr, Status,
};

use crate::error::{clean, message_of};
use crate::spec::{MARK, closest};
use crate::time;
use crate::value::{self, Scalar};
use crate::vm::Vm;

/// The fields of a payment that a decoder may return.
pub(crate) const FIELDS: &[&str] = &[
    "agent",
    "amount",
    "at",
    "direction",
    "id",
    "kind",
    "labels",
    "parent",
    "payee",
    "rail",
    "refs",
    "resource",
    "revision",
    "running_total",
    "session",
    "spender",
    "status",
    "task",
];

/// Bytes of a text field.
const TEXT_LEN_MAX: usize = 512;
/// Entries of a list field.
const ENTRIES_MAX: usize = 32;

/// Why a table is not a payment: a code for metrics and a sentence for people.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

fn wrong(code: &'static str, detail: impl Into<String>) -> Wrong {
    Wrong { code, detail: detail.into() }
}

fn field(table: &Table, key: &str) -> Result<Value, Wrong> {
    table.raw_get(key).map_err(|error| wrong("bad_field", format!("{key}: {}", message_of(&error))))
}

fn text(key: &str, value: &Value) -> Result<Option<SmolStr>, Wrong> {
    let text = match value {
        Value::Nil => return Ok(None),
        Value::String(text) => text
            .to_str()
            .map(|text| text.to_owned())
            .map_err(|_| wrong("bad_field", format!("{key} is not UTF-8 text")))?,
        Value::Integer(number) => number.to_string(),
        Value::Number(number) if number.fract() == 0.0 => number.to_string(),
        other => return Err(wrong("bad_field", format!("{key} is a {}, not a text", other.type_name()))),
    };
    let text = clean(&text, TEXT_LEN_MAX);
    Ok((!text.is_empty()).then(|| text.into()))
}

fn text_field(table: &Table, key: &str) -> Result<Option<SmolStr>, Wrong> {
    text(key, &field(table, key)?)
}

/// Reads the table that a decoder of `rail` returned.
pub(crate) fn read(vm: &Vm, rail: &SmolStr, table: &Table) -> Result<Payment, Wrong> {
    known(table)?;
    let id = text_field(table, "id")?
        .ok_or_else(|| wrong("no_id", "id is missing; give the rail's own name of the payment"))?;
    let at = match field(table, "at")? {
        Value::Nil => return Err(wrong("bad_time", "at is missing; give the rail's time")),
        value => match Scalar::read(&value, &vm.shared.arena) {
            Ok(Some(Scalar::Time(at))) => at,
            _ => time::read(&value)
                .map_err(|error| wrong("bad_time", format!("at: {}", message_of(&error))))?,
        },
    };
    let scalar = Scalar::read(&field(table, "amount")?, &vm.shared.arena).ok().flatten();
    let money = scalar.as_ref().and_then(value::to_money);
    let money = money.ok_or_else(|| {
        wrong("bad_amount", "amount is not an amount; write money(units, code) or decimal(text, code)")
    })?;
    if money.units() < 0 {
        return Err(wrong(
            "bad_amount",
            format!("amount is {money}; give it without a sign, the kind says the direction"),
        ));
    }
    let rail = text_field(table, "rail")?.unwrap_or_else(|| rail.clone());
    let mut payment = Payment::settle(rail, id, money, at);
    payment.kind = choice(table, "kind", KINDS)?.unwrap_or(Kind::Settle);
    payment.status = choice(table, "status", STATUSES)?.unwrap_or(Status::Confirmed);
    payment.direction = choice(table, "direction", DIRECTIONS)?.unwrap_or_default();
    payment.payee = text_field(table, "payee")?;
    payment.resource = text_field(table, "resource")?;
    payment.parent = text_field(table, "parent")?;
    payment.task = text_field(table, "task")?;
    payment.session = text_field(table, "session")?;
    payment.running_total = matches!(field(table, "running_total")?, Value::Boolean(true));
    payment.revision = revision(table)?;
    payment.spender = spender(table)?;
    payment.settlement_refs = refs(table)?;
    payment.labels = labels(table)?;
    Ok(payment)
}

fn known(table: &Table) -> Result<(), Wrong> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| wrong("bad_field", message_of(&error)))?;
        let Value::String(key) = key else {
            return Err(wrong("bad_field", "a payment has named fields only"));
        };
        let key = key.to_string_lossy();
        if !FIELDS.contains(&key.as_str()) && key != MARK {
            let hint = closest(&key, FIELDS.iter().copied()).unwrap_or("none of the known fields");
            return Err(wrong(
                "bad_field",
                format!("a payment has no field {:?}; nearest is {hint}", clean(&key, 60)),
            ));
        }
    }
    Ok(())
}

const KINDS: &[(&str, Kind)] = &[
    ("settle", Kind::Settle),
    ("hold", Kind::Hold),
    ("release", Kind::Release),
    ("refund", Kind::Refund),
    ("reversal", Kind::Reversal),
    ("deposit", Kind::Deposit),
    ("fee", Kind::Fee),
    ("dispute", Kind::Dispute),
    ("declined", Kind::Declined),
];
const STATUSES: &[(&str, Status)] =
    &[("confirmed", Status::Confirmed), ("seen", Status::Seen), ("retracted", Status::Retracted)];
const DIRECTIONS: &[(&str, Direction)] =
    &[("spend", Direction::Spend), ("earn", Direction::Earn), ("ignore", Direction::Ignore)];
const SCHEMES: &[(&str, RefScheme)] = &[
    ("evm_tx", RefScheme::EvmTx),
    ("evm_auth", RefScheme::EvmAuth),
    ("payment_hash", RefScheme::PaymentHash),
    ("stripe_pi", RefScheme::StripePi),
    ("stripe_charge", RefScheme::StripeCharge),
    ("mpp_challenge", RefScheme::MppChallenge),
    ("other", RefScheme::Other),
];

fn choice<T: Copy>(table: &Table, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, Wrong> {
    let Some(name) = text_field(table, key)? else { return Ok(None) };
    match choices.iter().find(|(known, _)| *known == name) {
        Some((_, choice)) => Ok(Some(*choice)),
        None => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Err(wrong("bad_field", format!("{key} {name:?} is not one of {}", names.join(", "))))
        }
    }
}

fn revision(table: &Table) -> Result<u64, Wrong> {
    match text_field(table, "revision")? {
        None => Ok(0),
        Some(text) => {
            text.parse().map_err(|_| wrong("bad_field", format!("revision {text:?} is not a whole number")))
        }
    }
}

/// `agent` first, then `spender = { { "scheme", "value" }, … }`, most trusted first.
fn spender(table: &Table) -> Result<Vec<Identity>, Wrong> {
    let mut identities = Vec::new();
    if let Some(agent) = text_field(table, "agent")? {
        let agent = AgentId::new(agent).ok_or_else(|| wrong("bad_field", "agent has more than 200 bytes"))?;
        identities.push(Identity::new(Identity::AGENT, agent.as_str()));
    }
    for (scheme, value) in pairs(table, "spender")? {
        identities.push(Identity { scheme, value });
    }
    Ok(identities)
}

fn refs(table: &Table) -> Result<Vec<SettlementRef>, Wrong> {
    let mut refs = Vec::new();
    for (name, value) in pairs(table, "refs")? {
        let found = SCHEMES.iter().find(|(known, _)| *known == name);
        let (_, scheme) =
            found.ok_or_else(|| wrong("bad_field", format!("refs: {name:?} is not a known scheme")))?;
        refs.push(SettlementRef { scheme: *scheme, value });
    }
    Ok(refs)
}

/// A list of pairs; a pair without a value is left out.
fn pairs(table: &Table, key: &str) -> Result<Vec<(SmolStr, SmolStr)>, Wrong> {
    let list = match field(table, key)? {
        Value::Nil => return Ok(Vec::new()),
        Value::Table(list) => list,
        other => {
            return Err(wrong("bad_field", format!("{key} is a {}, not a list of pairs", other.type_name())));
        }
    };
    let mut found = Vec::new();
    for entry in list.sequence_values::<Table>() {
        let entry =
            entry.map_err(|_| wrong("bad_field", format!("{key} is a list of {{ \"scheme\", value }}")))?;
        let part = |index: i64| text(key, &entry.raw_get(index).unwrap_or(Value::Nil));
        if let (Some(scheme), Some(value)) = (part(1)?, part(2)?) {
            found.push((scheme, value));
        }
        if found.len() > ENTRIES_MAX {
            return Err(wrong("too_large", format!("{key} has more than {ENTRIES_MAX} entries")));
        }
    }
    Ok(found)
}

fn labels(table: &Table) -> Result<Vec<Label>, Wrong> {
    let map = match field(table, "labels")? {
        Value::Nil => return Ok(Vec::new()),
        Value::Table(map) => map,
        other => return Err(wrong("bad_field", format!("labels is a {}, not a table", other.type_name()))),
    };
    let mut labels = Vec::new();
    for pair in map.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| wrong("bad_field", message_of(&error)))?;
        if let (Some(key), Some(value)) = (text("labels", &key)?, text("labels", &value)?) {
            labels.push(Label { key, value });
        }
        if labels.len() > ENTRIES_MAX {
            return Err(wrong("too_large", format!("more than {ENTRIES_MAX} labels")));
        }
    }
    // A table has no order of its own.
    labels.sort();
    Ok(labels)
}
