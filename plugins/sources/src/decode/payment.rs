//! One item's raw fields become one payment, or a reject that says where and what would be accepted.

use std::borrow::Cow;

use railwatch_model::{
    AgentId, AgentVia, Identity, Kind, Label, Money, Payment, RefScheme, SettlementRef, SmolStr, Status,
    Timestamp,
};
use railwatch_plugin::decode::Decoded;
use sha2::{Digest, Sha256};

use super::Problem;
use super::mapping::{Field, KindAs, Mapping, MissingId, Negative};
use super::path::{Found, SLOTS_MAX, scalar};
use super::time;

/// Bytes that an id may have; a longer one is replaced by its hash, which is as stable.
const ID_LEN_MAX: usize = 256;
/// Bytes that other texts may have; longer ones are cut.
const TEXT_LEN_MAX: usize = 512;
/// Bytes that a rail's name may have.
const RAIL_LEN_MAX: usize = 64;

/// Why an item is no payment.
enum Unwanted {
    Filtered(&'static str),
    Wrong(Problem),
}

impl From<Problem> for Unwanted {
    fn from(problem: Problem) -> Self {
        Self::Wrong(problem)
    }
}

impl Mapping {
    /// Decodes one item and files the result.
    pub(super) fn decode_item(&self, raw: &str, received_at: Timestamp, decoded: &mut Decoded) {
        match self.payment(raw, received_at) {
            Ok(payment) => decoded.payments.push(payment),
            Err(Unwanted::Filtered(reason)) => decoded.filter(reason),
            Err(Unwanted::Wrong(problem)) => {
                decoded.reject(problem.code, problem.detail, raw.as_bytes(), received_at);
            }
        }
    }

    fn payment(&self, raw: &str, received_at: Timestamp) -> Result<Payment, Unwanted> {
        if !raw.starts_with('{') {
            return Err(self.not_an_object(raw).into());
        }
        let mut found: Found<'_> = [None; SLOTS_MAX];
        self.trie
            .read(raw, &mut found)
            .map_err(|error| Problem::new("bad_json", format!("not JSON: {error}")))?;
        let Some((mut kind, status)) = self.step(&found)? else {
            return Err(Unwanted::Filtered("the kind is ignored by configuration"));
        };
        let mut amount = self.amount(&found, kind)?;
        if amount.units() < 0 {
            kind = self.negative_kind(kind, &amount)?;
            amount = amount.checked_neg().map_err(|error| Problem::new("bad_amount", error))?;
        }
        let occurred_at = self.occurred_at(&found)?;
        let id = self.id(&found, raw, occurred_at.is_some())?;
        let rail = self.rail(&found)?;
        let mut payment = Payment::settle(rail, id, amount, occurred_at.unwrap_or(received_at));
        payment.source = self.source.clone();
        payment.kind = kind;
        payment.status = status;
        payment.direction = self.direction;
        payment.running_total = self.running_total;
        payment.observed_at = received_at;
        self.who(&found, &mut payment)?;
        self.circumstances(&found, &mut payment);
        if occurred_at.is_none() {
            payment.labels.push(label("occurred_at", "received"));
        }
        Ok(payment)
    }

    /// A bare scalar or a list is told apart from text that is not JSON at all.
    fn not_an_object(&self, raw: &str) -> Problem {
        match serde_json::from_str::<serde::de::IgnoredAny>(raw) {
            Ok(_) => Problem::new("not_an_object", "a payment is a JSON object such as {\"id\":\"…\"}"),
            Err(error) => Problem::new("bad_json", format!("not JSON: {error}")),
        }
    }

    fn step(&self, found: &Found<'_>) -> Result<Option<(Kind, Status)>, Problem> {
        let field = &self.fields.kind;
        let Some(word) = field.text(found) else { return Ok(KindAs::Settle.step()) };
        let known = self.kind(&word).ok_or_else(|| {
            let detail = format!(
                "{:?} at {} is not a known kind; known are {}; add it to kinds",
                cut(&word, 40),
                field.paths,
                self.kind_words()
            );
            Problem::new("bad_kind", detail)
        })?;
        Ok(known.step())
    }

    fn amount(&self, found: &Found<'_>, kind: Kind) -> Result<Money, Problem> {
        let field = &self.fields.amount;
        let (text, implied) = match field.text_and_nth(found) {
            Some((text, nth)) => (text, field.implied.get(nth).copied().flatten()),
            // A refusal that names no amount moved no money and still counts as a refusal.
            None if kind == Kind::Declined => (Cow::Borrowed("0"), None),
            None => {
                let detail = format!("no amount at {}; a number or its text is accepted", field.paths);
                return Err(Problem::new("bad_amount", detail));
            }
        };
        let named = || self.fields.currency.text(found).or(self.currency.as_deref().map(Cow::Borrowed));
        let currency = match implied {
            Some(implied) => Cow::Borrowed(implied),
            None => match named() {
                Some(currency) => currency,
                None if kind == Kind::Declined && text == "0" => Cow::Borrowed("USD"),
                None => {
                    let at = &self.fields.currency.paths;
                    let detail =
                        format!("no currency at {at}; map it, or set currency = \"USD\" for this source");
                    return Err(Problem::new("unknown_currency", detail));
                }
            },
        };
        let read = self.amounts.read(&text, &currency);
        read.map_err(|problem| Problem {
            detail: format!("{} (at {})", problem.detail, field.paths),
            ..problem
        })
    }

    fn negative_kind(&self, kind: Kind, amount: &Money) -> Result<Kind, Problem> {
        match (self.negative, kind) {
            (Negative::Refund, Kind::Settle | Kind::Refund) => Ok(Kind::Refund),
            (Negative::Refund | Negative::Reject, _) => {
                let detail =
                    format!("{amount} is negative; set negative = \"refund\" if that means a refund");
                Err(Problem::new("bad_amount", detail))
            }
        }
    }

    fn occurred_at(&self, found: &Found<'_>) -> Result<Option<Timestamp>, Problem> {
        let field = &self.fields.at;
        let Some(text) = field.text(found) else { return Ok(None) };
        let time = time::read(&text, self.at_unit);
        time.map(Some).map_err(|problem| Problem {
            detail: format!("{} (at {})", problem.detail, field.paths),
            ..problem
        })
    }

    fn id(&self, found: &Found<'_>, raw: &str, has_time: bool) -> Result<SmolStr, Problem> {
        let field = &self.fields.id;
        if let Some(text) = field.text(found) {
            return Ok(if text.len() <= ID_LEN_MAX { text.into() } else { hash_of(text.bytes()) });
        }
        if self.missing_id == MissingId::Reject {
            return Err(Problem::new("no_id", format!("no id at {}", field.paths)));
        }
        if !has_time {
            let detail = format!(
                "no id at {} and no time at {}: a repeated payment could not be told from a redelivery",
                field.paths, self.fields.at.paths
            );
            return Err(Problem::new("no_id", detail));
        }
        Ok(hash_of(significant(raw)))
    }

    fn rail(&self, found: &Found<'_>) -> Result<SmolStr, Problem> {
        let Some(text) = self.fields.rail.text(found) else { return Ok(self.rail.clone()) };
        if text.len() > RAIL_LEN_MAX || text.chars().any(char::is_control) {
            let at = &self.fields.rail.paths;
            return Err(Problem::new(
                "bad_rail",
                format!("a rail's name at {at} has 1 to {RAIL_LEN_MAX} bytes"),
            ));
        }
        let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
        Ok(if upper { text.to_ascii_lowercase().into() } else { text.into() })
    }

    fn who(&self, found: &Found<'_>, payment: &mut Payment) -> Result<(), Problem> {
        let field = &self.fields.agent;
        if let Some(name) = field.text(found) {
            if AgentId::new(&*name).is_none() {
                let detail = format!("the name at {} has 1 to {} plain bytes", field.paths, AgentId::LEN_MAX);
                return Err(Problem::new("bad_agent", detail));
            }
            payment.spender.reserve_exact(1 + self.fields.spender.len());
            payment
                .spender
                .push(Identity { scheme: SmolStr::new_static(Identity::AGENT), value: name.into() });
        }
        for (scheme, field) in &self.fields.spender {
            if let Some(value) = field.text(found) {
                let value = canonical(scheme, &value);
                payment.spender.push(Identity { scheme: scheme.clone(), value });
            }
        }
        if payment.spender.is_empty() && self.agent.is_none() {
            let detail = format!(
                "no agent at {}; map it, map a spender identity, or set agent = \"…\" for this source",
                field.paths
            );
            return Err(Problem::new("no_agent", detail));
        }
        let names_agent = payment.spender.first().is_some_and(|first| first.scheme == Identity::AGENT);
        if let (false, Some(agent)) = (names_agent, &self.agent) {
            payment.agent = Some(agent.clone());
            payment.agent_via = Some(AgentVia::SourceDefault);
        }
        Ok(())
    }

    fn circumstances(&self, found: &Found<'_>, payment: &mut Payment) {
        let fields = &self.fields;
        let text = |field: &Field| field.text(found).map(|text| SmolStr::from(cut(&text, TEXT_LEN_MAX)));
        payment.payee = text(&fields.payee);
        payment.resource = text(&fields.resource);
        payment.parent = text(&fields.parent);
        payment.task = text(&fields.task);
        payment.session = text(&fields.session);
        payment.labels.extend(self.labels.iter().cloned());
        for (key, field) in &fields.labels {
            if let Some(value) = text(field) {
                payment.labels.push(Label { key: key.clone(), value });
            }
        }
        for (scheme, field) in &fields.refs {
            if let Some(value) = text(field).and_then(|value| self.reference(*scheme, &value, payment)) {
                payment.settlement_refs.push(SettlementRef { scheme: *scheme, value });
            }
        }
    }

    /// A transaction hash alone is shared by batched transfers, so that it only counts with payer and amount.
    fn reference(&self, scheme: RefScheme, value: &str, payment: &Payment) -> Option<SmolStr> {
        if scheme != RefScheme::EvmTx {
            return Some(value.into());
        }
        let payer = payment.spender.iter().find(|identity| identity.scheme == "evm.address")?;
        let units = payment.amount.units();
        Some(format!("{}:{}:{units}", value.to_ascii_lowercase(), payer.value).into())
    }
}

impl Field {
    /// The first path's text that is there.
    fn text<'de>(&self, found: &Found<'de>) -> Option<Cow<'de, str>> {
        self.text_and_nth(found).map(|(text, _)| text)
    }

    /// The text, and which path it was found at.
    fn text_and_nth<'de>(&self, found: &Found<'de>) -> Option<(Cow<'de, str>, usize)> {
        let slots = found.get(self.first..self.first + self.implied.len())?;
        slots.iter().enumerate().find_map(|(nth, raw)| Some((scalar((*raw)?)?, nth)))
    }
}

fn label(key: &'static str, value: &'static str) -> Label {
    Label { key: SmolStr::new_static(key), value: SmolStr::new_static(value) }
}

/// Addresses are compared in lower case.
fn canonical(scheme: &str, value: &str) -> SmolStr {
    let value = cut(value, TEXT_LEN_MAX);
    if scheme.starts_with("evm.") { value.to_ascii_lowercase().into() } else { value.into() }
}

/// The first `len` bytes, or fewer so that no character is cut in two.
fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or(text)
}

/// A short, stable name for some bytes.
fn hash_of(bytes: impl Iterator<Item = u8>) -> SmolStr {
    let bytes: Vec<u8> = bytes.collect();
    let digest = Sha256::digest(&bytes);
    format!("sha256:{}", hex::encode(&digest[..16])).into()
}

/// The bytes of a JSON text without the white space between its tokens.
fn significant(raw: &str) -> impl Iterator<Item = u8> {
    let (mut in_string, mut escaped) = (false, false);
    raw.bytes().filter(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        in_string || !byte.is_ascii_whitespace()
    })
}

#[cfg(test)]
mod tests {
    use railwatch_plugin::decode::{Decoder, Message};
    use serde_json::Value;

    use super::*;
    use crate::decode::MappingConfig;

    const GATE: &str = r#"{"id":"evt_1","ts":"2025-10-09T08:53:20.000Z","ts_us":1760000000000046,"agent_id":"a1",
        "rail":"X402","amount_usd":8.7385,"payee":"mch_1","currency":"USD","status":"settled","memo":"tool \"x\""}"#;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
    }

    fn decode(config: &str, body: &str) -> Decoded {
        let config: MappingConfig = toml::from_str(config).unwrap();
        let mapping = Mapping::new(&config, "gate".into()).unwrap();
        let mut decoded = Decoded::default();
        let message = Message { body: body.as_bytes(), headers: None, received_at: now() };
        mapping.decode(&message, &mut decoded);
        decoded
    }

    #[track_caller]
    fn payment(config: &str, body: &str) -> Payment {
        let mut decoded = decode(config, body);
        assert_eq!(decoded.rejects, [], "{body}");
        decoded.payments.pop().unwrap()
    }

    #[track_caller]
    fn check_reject(config: &str, body: &str, code: &str, says: &str) {
        let decoded = decode(config, body);
        assert_eq!(decoded.payments, [], "{body}");
        let reject = decoded.rejects.first().expect("there is a reject");
        assert_eq!(reject.code, code, "{}", reject.detail);
        assert!(reject.detail.contains(says), "{}", reject.detail);
    }

    #[test]
    fn the_generic_shape_needs_no_configuration() {
        let paid = payment("", GATE);
        assert_eq!((paid.rail.as_str(), paid.source.as_str(), paid.id.as_str()), ("x402", "gate", "evt_1"));
        assert_eq!(paid.amount.to_string(), "8.738500000 USD");
        assert_eq!(paid.occurred_at.to_string(), "2025-10-09T08:53:20Z");
        assert_eq!(paid.observed_at, now());
        assert_eq!(paid.spender, [Identity::new("agent", "a1")]);
        assert_eq!(paid.payee.as_deref(), Some("mch_1"));
        assert_eq!(paid.resource.as_deref(), Some("tool \"x\""));
        assert_eq!((paid.kind, paid.status), (Kind::Settle, Status::Confirmed));
    }

    #[test]
    fn every_field_can_be_mapped() {
        let config = r#"
            amount_unit = "atoms"
            at_unit = "ms"
            direction = "earn"
            labels = { team = "growth" }
            kinds = { done = "settle", noise = "ignore" }
            [map]
            id = "data.tx"
            agent = ["/meta/bot", "/meta/agent"]
            amount = "/data/value"
            currency = "/data/token"
            at = "/data/when"
            kind = "/event"
            spender = { "evm.address" = "/data/from" }
            labels = { env = "/meta/env" }
            refs = { evm_tx = "/data/tx", payment_hash = "/data/hash" }
            task = "/meta/task"
        "#;
        let body = r#"{"event":"Done","meta":{"agent":7,"env":"prod","task":"t1"},"data":{"tx":"0xAB","value":"1500000",
            "token":"USDC@base","when":1769824800000,"from":"0xFFee","hash":"h1"}}"#;
        let paid = payment(config, body);
        assert_eq!(paid.amount.to_string(), "1.500000 USDC@base");
        assert_eq!(paid.spender, [Identity::new("agent", "7"), Identity::new("evm.address", "0xffee")]);
        let refs: Vec<_> = paid.settlement_refs.iter().map(|reference| reference.value.as_str()).collect();
        assert_eq!(refs, ["0xab:0xffee:1500000", "h1"]);
        let labels: Vec<_> = paid.labels.iter().map(|l| (l.key.as_str(), l.value.as_str())).collect();
        assert_eq!(labels, [("team", "growth"), ("env", "prod")]);
        assert_eq!((paid.direction, paid.task.as_deref()), (railwatch_model::Direction::Earn, Some("t1")));
        assert_eq!(decode(config, r#"{"event":"noise"}"#).filtered.len(), 1);
    }

    #[test]
    fn litellm_spend_is_exact_and_failures_are_no_spend() {
        let config = r#"
            rail = "llm"
            currency = "USD"
            [map]
            agent = "/metadata/user_api_key_alias"
            amount = "/response_cost"
            at = "/startTime"
            payee = "/model"
        "#;
        let decoded = decode(config, include_str!("../../fixtures/litellm/generic_api.json"));
        let shown: Vec<_> = decoded.payments.iter().map(|p| (p.kind, p.amount.decimal())).collect();
        assert_eq!(shown, [(Kind::Settle, "0.002130000".to_owned()), (Kind::Declined, "0.00".to_owned())]);
    }

    #[test]
    fn the_agent_comes_from_the_message_the_spender_or_the_source() {
        let body = r#"{"id":"1","ts":1,"amount_usd":1,"from":"0xA"}"#;
        check_reject("", body, "no_agent", "set agent");
        let spender = payment("map.spender = { 'evm.address' = '/from' }", body);
        assert_eq!((spender.agent, spender.spender.len()), (None, 1));
        let default = payment("agent = 'bot'", body);
        assert_eq!(default.agent, AgentId::new("bot"));
        assert_eq!(default.agent_via, Some(AgentVia::SourceDefault));
        let explicit = payment("agent = 'bot'", r#"{"id":"1","ts":1,"amount_usd":1,"agent":"x"}"#);
        assert_eq!(explicit.agent, None, "the engine resolves what the message says");
        check_reject("", r#"{"id":"1","ts":1,"amount_usd":1,"agent":"a\u0007"}"#, "bad_agent", "plain");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |fields: &str| format!("{{\"id\":\"1\",\"ts\":1,\"agent\":\"a\",{fields}}}");
        check_reject("", &with(r#""amount":-5,"currency":"USD""#), "bad_amount", "negative");
        check_reject("", &with(r#""amount":5"#), "unknown_currency", "currency = \"USD\"");
        check_reject("", &with(r#""amount":5,"currency":"ZZZ""#), "unknown_currency", "ZZZ");
        check_reject(
            "",
            &with(r#""amount":{"x":1},"currency":"USD""#),
            "bad_amount",
            "/amount_usd or /amount",
        );
        check_reject("", &with(r#""amount_usd":1,"status":"odd""#), "bad_kind", "settled");
        check_reject("", &with(r#""amount_usd":1,"rail":"x\ny""#), "bad_rail", "/rail");
        check_reject("", &with(r#""amount_usd":"999999999""#), "bad_amount", "beyond");
        check_reject("", r#"{"id":"1","agent":"a","amount_usd":1,"ts":"tomorrow"}"#, "bad_time", "/ts");
        check_reject("", r#"{"agent":"a","amount_usd":1}"#, "no_id", "redelivery");
        check_reject("missing_id = 'reject'", r#"{"agent":"a","ts":1,"amount_usd":1}"#, "no_id", "/id");
        check_reject("", "{\"id\":", "bad_json", "EOF");
        check_reject("", "42", "not_an_object", "object");
        check_reject("", "hello", "bad_json", "not JSON");
    }

    #[test]
    fn a_negative_amount_can_mean_a_refund() {
        let paid = payment("negative = 'refund'", r#"{"id":"1","ts":1,"agent":"a","amount_usd":-2.5}"#);
        assert_eq!((paid.kind, paid.amount.decimal().as_str()), (Kind::Refund, "2.50"));
    }

    #[test]
    fn a_missing_id_is_a_hash_that_ignores_white_space() {
        let one = payment("", r#"{"ts":1,"agent":"a b","amount_usd":1}"#);
        let two = payment("", "{ \"ts\": 1, \"agent\":\"a b\",\n \"amount_usd\":1 }");
        let other = payment("", r#"{"ts":1,"agent":"ab","amount_usd":1}"#);
        assert_eq!(one.id, two.id);
        assert_ne!(one.id, other.id);
        assert!(one.id.starts_with("sha256:"));
        let long =
            payment("", &format!(r#"{{"id":"{}","ts":1,"agent":"a","amount_usd":1}}"#, "x".repeat(300)));
        assert!(long.id.starts_with("sha256:"));
    }

    #[test]
    fn a_missing_time_is_the_arrival_and_says_so_and_the_future_is_kept() {
        let paid = payment("", r#"{"id":"1","agent":"a","amount_usd":1}"#);
        assert_eq!((paid.occurred_at, paid.labels.len()), (now(), 1));
        let future = payment("", r#"{"id":"1","agent":"a","amount_usd":1,"ts":"2030-01-01T00:00:00Z"}"#);
        assert!(future.occurred_at > now());
    }

    #[test]
    fn wrong_configuration_is_refused_with_its_path() {
        for (config, path) in
            [("currency = 'DOGE'", "currency"), ("agent = ''", "agent"), ("assets = { X = 99 }", "assets.X")]
        {
            let config: MappingConfig = toml::from_str(config).unwrap();
            assert_eq!(Mapping::new(&config, "s".into()).unwrap_err().path, path);
        }
        assert!(toml::from_str::<MappingConfig>("map.amuont = '/a'").is_err());
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(body in "[\\[\\]{}\",:a0-9.e\\-\\\\ \n]{0,80}") {
            decode("", &body);
        }

        #[test]
        fn amounts_survive_to_the_last_digit(units in 0_i64..10_000_000_000_000_000) {
            let text = Money::new(i128::from(units), railwatch_model::Asset::new("USD", 9).unwrap()).decimal();
            let body = Value::from(text.clone());
            let paid = payment("", &format!(r#"{{"id":"1","ts":1,"agent":"a","amount_usd":{body}}}"#));
            let usd = railwatch_model::Rate::peg().value(&paid.amount).unwrap();
            proptest::prop_assert_eq!(usd.nanos(), units);
        }
    }
}
