//! LiteLLM: the `generic_api` callback posts what each call to a model cost, as an array, as lines or alone.

use std::sync::Arc;

use railwatch_model::{Identity, Label, Payment, SmolStr, Timestamp};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::Source;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::posted;
use crate::scalar::{Nested, Text, from_json, short};
use crate::usage_cost::dollars;
use crate::webhook::WebhookTable;

/// The entry of the list of sources.
pub const PLUGIN: SourcePlugin = SourcePlugin {
    name: "litellm",
    summary: "what calls to models cost, posted by LiteLLM's generic_api callback",
    example: EXAMPLE,
    schema: || schema_for!(WebhookTable),
    build: |table, build| {
        let source = posted::build::<NoKeys>(table, build, |_| Arc::new(LiteLlmDecoder))?;
        Ok(Box::new(source) as Box<dyn Source>)
    },
    decoder: |_, _| Ok(Arc::new(LiteLlmDecoder)),
};

const EXAMPLE: &str = r#"[sources.litellm]
plugin = "litellm"
path = "/in/litellm"
verify = { scheme = "bearer", secret = { env = "GATE_SECRET" } }
"#;

/// This rail has no keys of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

/// The rail's name on payments: what models cost, whoever reports it.
pub(crate) const RAIL: SmolStr = SmolStr::new_static("llm");

/// Decodes `StandardLoggingPayload` records.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiteLlmDecoder;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    trace_id: Text<'a>,
    /// A float; its text is what counts.
    #[serde(borrow)]
    response_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow, rename = "endTime")]
    end_time: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    custom_llm_provider: Text<'a>,
    #[serde(borrow)]
    api_base: Text<'a>,
    #[serde(borrow)]
    metadata: Nested<Metadata<'a>>,
    #[serde(borrow)]
    request_tags: Tags<'a>,
    #[serde(borrow)]
    end_user: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_api_key_hash: Text<'a>,
    #[serde(borrow)]
    user_api_key_alias: Text<'a>,
    #[serde(borrow)]
    user_api_key_team_id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Tags<'a>(#[serde(borrow)] Option<Vec<Text<'a>>>);

impl Decoder for LiteLlmDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let at = message.received_at;
        if let Some((payments, filtered)) = whole_list(message.body, at) {
            decoded.payments.extend(payments);
            return filtered.into_iter().for_each(|reason| decoded.filter(SmolStr::new_static(reason)));
        }
        let mut n_values = 0;
        for value in serde_json::Deserializer::from_slice(message.body).into_iter::<&RawValue>() {
            n_values += 1;
            let Ok(value) = value else {
                return decoded.reject(
                    "bad_json",
                    "expected a record, a list or lines of records",
                    message.body,
                    at,
                );
            };
            if value.get().starts_with('[') {
                let records: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
                records.iter().for_each(|record| read(record.get(), at, decoded));
            } else {
                read(value.get(), at, decoded);
            }
        }
        if n_values == 0 {
            decoded.reject("bad_json", "an empty body", message.body, at);
        }
    }
}

/// The usual message in one pass: a list of which nothing is rejected. What is wrong in another one is looked for record by
/// record, so that the evidence is that record.
fn whole_list(body: &[u8], received_at: Timestamp) -> Option<(Vec<Payment>, Vec<&'static str>)> {
    let records: Vec<Record<'_>> = from_json(body).ok()?;
    let (mut payments, mut filtered) = (Vec::with_capacity(records.len()), Vec::new());
    for record in &records {
        match record.outcome(received_at) {
            Ok(payment) => payments.push(payment),
            Err(Refusal::Filter(reason)) => filtered.push(reason),
            Err(Refusal::Reject(..)) => return None,
        }
    }
    Some((payments, filtered))
}

fn read(json: &str, received_at: Timestamp, decoded: &mut Decoded) {
    let outcome = match serde_json::from_str::<Record<'_>>(json) {
        Ok(record) => record.outcome(received_at),
        Err(_) => Err(Refusal::Reject("bad_shape", "expected a StandardLoggingPayload object")),
    };
    match outcome {
        Ok(payment) => decoded.payments.push(payment),
        Err(Refusal::Filter(reason)) => decoded.filter(SmolStr::new_static(reason)),
        Err(Refusal::Reject(code, detail)) => decoded.reject(code, detail, json.as_bytes(), received_at),
    }
}

/// Why a record is not a payment.
enum Refusal {
    Filter(&'static str),
    Reject(&'static str, &'static str),
}

impl Record<'_> {
    fn outcome(&self, received_at: Timestamp) -> Result<Payment, Refusal> {
        let Some(id) = self.id.get() else {
            return Err(Refusal::Reject("no_id", "/id is missing"));
        };
        if self.status.as_str() == "failure" {
            return Err(Refusal::Filter("failed call"));
        }
        let cost = self.response_cost.map(|cost| cost.get().trim_matches('"')).filter(|cost| *cost != "null");
        let Some(cost) = cost else { return Err(Refusal::Filter("call without a cost")) };
        let amount = match dollars(cost) {
            Ok(amount) if amount.units() > 0 => amount,
            Ok(amount) if amount.is_zero() => return Err(Refusal::Filter("zero amount")),
            _ => {
                let detail = "/response_cost must be a decimal number of at least 0";
                return Err(Refusal::Reject("bad_amount", detail));
            }
        };
        let ended = self.end_time.and_then(|at| Timestamp::parse(at.get().trim_matches('"')).ok());
        let mut payment = Payment::settle(RAIL, short(id), amount, ended.unwrap_or(received_at));
        payment.observed_at = received_at;
        payment.spender = self.spender();
        payment.payee = self.custom_llm_provider.get().or(self.api_base.get()).map(short);
        payment.resource = self.model.get().map(short);
        payment.session = self.trace_id.get().map(short);
        let team = self.metadata.0.user_api_key_team_id.get();
        payment.labels = team
            .map(|team| Label { key: SmolStr::new_static("litellm_team"), value: short(team) })
            .into_iter()
            .collect();
        Ok(payment)
    }

    /// The tag `agent:<id>` names the agent; the key's alias comes next.
    fn spender(&self) -> Vec<Identity> {
        let tags = self.request_tags.0.as_deref().unwrap_or_default();
        let agent = tags.iter().find_map(|tag| tag.as_str().strip_prefix("agent:"));
        let metadata = &self.metadata.0;
        [
            (Identity::AGENT, agent),
            ("litellm.key_alias", metadata.user_api_key_alias.get()),
            ("litellm.key", metadata.user_api_key_hash.get()),
            ("litellm.end_user", self.end_user.get()),
        ]
        .into_iter()
        .filter_map(|(scheme, value)| Some(Identity::new(SmolStr::new_static(scheme), short(value?))))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../fixtures/litellm/litellm.generic_api.json");

    fn decode(body: &str) -> Decoded {
        let mut decoded = Decoded::default();
        let received_at = Timestamp::from_secs(1_795_440_000);
        LiteLlmDecoder.decode(&Message { body: body.as_bytes(), headers: None, received_at }, &mut decoded);
        decoded
    }

    #[test]
    fn trap_1_a_list_holds_several_calls_and_failures_are_no_spend() {
        let decoded = decode(RECORDED);
        assert_eq!(decoded.payments.len(), 1);
        assert_eq!(decoded.filtered, ["failed call"]);
        let payment = &decoded.payments[0];
        assert_eq!(payment.amount.to_string(), "0.002130000000 USD");
        assert_eq!(payment.occurred_at, Timestamp::from_micros(1_795_437_001_500_000));
        let spender: Vec<_> = payment.spender.iter().map(|i| (&*i.scheme, &*i.value)).collect();
        assert_eq!(spender[..2], [("agent", "research-7"), ("litellm.key_alias", "research-7")]);
        assert_eq!(payment.session.as_deref(), Some("tr-1"));
    }

    #[test]
    fn trap_2_costs_are_read_from_their_text() {
        for (cost, expected) in
            [("2.1e-06", Some(2_100_000)), ("0.30000000000000004", Some(300_000_000_000)), ("null", None)]
        {
            let decoded = decode(&format!(r#"{{"id":"c","status":"success","response_cost":{cost}}}"#));
            assert_eq!(decoded.payments.first().map(|payment| payment.amount.units()), expected, "{cost}");
        }
    }

    #[test]
    fn lines_are_read_like_a_list() {
        let record = r#"{"id":"c1","status":"success","response_cost":0.5}"#;
        let decoded = decode(&format!("{record}\n{}\n", record.replace("c1", "c2")));
        assert_eq!(decoded.payments.len(), 2);
    }

    #[test]
    fn broken_records_are_rejected() {
        for (body, code) in [
            ("", "bad_json"),
            ("[", "bad_json"),
            ("{}", "no_id"),
            ("[5]", "bad_shape"),
            (r#"{"id":"c","response_cost":"free"}"#, "bad_amount"),
            (r#"{"id":"c","response_cost":-1}"#, "bad_amount"),
        ] {
            assert_eq!(decode(body).rejects[0].code, code, "{body}");
        }
    }
}
