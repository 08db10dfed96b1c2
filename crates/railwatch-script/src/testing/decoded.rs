//! Tests of rails: a message in, payments out.

use mlua::{Table, Value};
use railwatch_model::{Payment, SmolStr, Timestamp};
use railwatch_plugin::decode::{Decoded, Message};

use super::{Context, TestReport};
use crate::error::{ScriptError, message_of};
use crate::rail::LuaDecoder;
use crate::view;

/// Runs a rail's tests: `input` is text (from `fixture` or in place) or a table that stands for JSON.
pub(crate) fn rail(cx: &Context<'_>, decoder: &LuaDecoder, tests: Value, report: &mut TestReport) {
    cx.each(tests, report, |spec| {
        let lift = |error: ScriptError| error.message;
        let input: String =
            spec.require("input", "a text, such as fixture \"acme_ok.json\"").map_err(lift)?;
        let expect: Table =
            spec.require("expect", "a payment, a list, filtered or rejected").map_err(lift)?;
        let received_at = Timestamp::from_secs(1_767_268_800);
        let message = Message { body: input.as_bytes(), headers: None, received_at };
        let mut decoded = Decoded::default();
        // A message that the script fails on is a reject, which a test may expect.
        let stopped = decoder.attempt(&message, &mut decoded).is_err_and(|failure| failure.stopped);
        if stopped { Err(rejects(&decoded)) } else { compare(&decoded, &expect) }
    });
}

fn compare(decoded: &Decoded, expect: &Table) -> Result<(), String> {
    match expect.raw_get::<Option<String>>("expect").ok().flatten().as_deref() {
        Some("filtered") => {
            let met =
                decoded.payments.is_empty() && decoded.rejects.is_empty() && !decoded.filtered.is_empty();
            return if met {
                Ok(())
            } else {
                Err(format!("expected it to be filtered, but got {decoded:?}"))
            };
        }
        Some("rejected") => {
            return if decoded.rejects.is_empty() {
                Err(format!("expected a reject, but got {decoded:?}"))
            } else {
                Ok(())
            };
        }
        _ => {}
    }
    if !decoded.rejects.is_empty() {
        return Err(rejects(decoded));
    }
    let expected: Vec<Table> = if expect.raw_len() > 0 {
        expect.sequence_values().collect::<mlua::Result<_>>().map_err(|error| message_of(&error))?
    } else {
        vec![expect.clone()]
    };
    if expected.len() != decoded.payments.len() {
        return Err(format!(
            "expected {} payments, but got {}; filtered: {:?}",
            expected.len(),
            decoded.payments.len(),
            decoded.filtered
        ));
    }
    for (payment, expected) in decoded.payments.iter().zip(&expected) {
        for pair in expected.pairs::<String, Value>() {
            let (key, value) = pair.map_err(|error| message_of(&error))?;
            let wanted = value.to_string().map_err(|error| message_of(&error))?;
            let found = show(payment, &key).ok_or_else(|| format!("a payment has no {key:?} to compare"))?;
            if found != wanted {
                return Err(format!("expected {key} to be {wanted:?}, but it is {found:?}"));
            }
        }
    }
    Ok(())
}

fn rejects(decoded: &Decoded) -> String {
    let all: Vec<String> =
        decoded.rejects.iter().map(|reject| format!("{}: {}", reject.code, reject.detail)).collect();
    format!("rejected: {}", all.join("; "))
}

/// A field of a payment as a test writes it.
fn show(payment: &Payment, key: &str) -> Option<String> {
    let text =
        |text: &Option<SmolStr>| Some(text.as_ref().map_or_else(|| "nil".to_owned(), ToString::to_string));
    match key {
        "amount" => Some(payment.amount.to_string()),
        "agent" => Some(
            payment
                .spender
                .iter()
                .find(|id| id.scheme == "agent")
                .map_or("nil".to_owned(), |id| id.value.to_string()),
        ),
        "spender" => Some(
            payment
                .spender
                .iter()
                .map(|id| format!("{}:{}", id.scheme, id.value))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        "refs" => Some(
            payment.settlement_refs.iter().map(|found| found.value.to_string()).collect::<Vec<_>>().join(" "),
        ),
        "kind" => Some(view::kind_name(payment.kind).to_owned()),
        "status" => Some(view::status_name(payment.status).to_owned()),
        "direction" => Some(view::direction_name(payment.direction).to_owned()),
        "at" => Some(payment.occurred_at.to_string()),
        "id" => Some(payment.id.to_string()),
        "rail" => Some(payment.rail.to_string()),
        "payee" => text(&payment.payee),
        "task" => text(&payment.task),
        "session" => text(&payment.session),
        "resource" => text(&payment.resource),
        "parent" => text(&payment.parent),
        _ => None,
    }
}
