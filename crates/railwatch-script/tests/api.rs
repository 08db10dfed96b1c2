//! The contracts between scripts and the engine: what is reported, remembered, refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use railwatch_model::{
    AgentId, AgentVia, Asset, Label, Money, Payment, Rate, Severity, Signal, SignalKind, SmolStr, Subject,
    Timestamp, Unit, Usd, Valuation,
};
use railwatch_plugin::decode::{Decoded, Message};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::history::{Dimension, Filter, HistoryView};
use railwatch_plugin::rules::{Firing, RuleSet, RuleState};
use railwatch_plugin::score::{Case, Signals};
use railwatch_script::{Files, Health, Limits, LuaRules, ScriptError, Scripts, run_tests};

/// A history with one answer to every question.
struct Lately;

impl HistoryView for Lately {
    fn spent(&self, window: Duration, filter: Filter<'_>) -> Usd {
        match filter {
            Filter::All => Usd::from_cents(i64::try_from(window.as_secs()).unwrap_or(0)),
            Filter::Rail(_) | Filter::Payee(_) | Filter::Task(_) => Usd::ONE,
        }
    }
    fn count(&self, _: Duration, _: Filter<'_>) -> u64 {
        3
    }
    fn distinct(&self, _: Duration, _: Dimension) -> u64 {
        2
    }
    fn largest(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::ONE
    }
    fn declined(&self, _: Duration) -> u64 {
        1
    }
    fn first_seen_at(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    fn previous_at(&self) -> Option<Timestamp> {
        None
    }
    fn is_new(&self, _: Dimension, value: &str) -> bool {
        value == "eve"
    }
    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        vec![("x402".into(), Usd::ONE)]
    }
}

fn payment() -> Payment {
    let at = Timestamp::parse("2026-01-05T02:30:00Z").unwrap();
    let mut payment =
        Payment::settle("x402", "p-1", Money::new(2_500_000, Asset::known("USDC@base").unwrap()), at);
    payment.agent = AgentId::new("a1");
    payment.agent_via = Some(AgentVia::Explicit);
    payment.payee = Some("shop".into());
    payment.spender = vec![railwatch_model::Identity::new("evm.address", "0xabc")];
    payment.valuation = Some(Valuation { usd: Usd::from_cents(250), rate: Rate::peg() });
    payment
}

/// A rule with a condition that its own tests do not reach.
fn rule_text(when: &str, more: &str) -> String {
    format!(
        "return rule {{ id = \"r\", when = function(p, a, state)\nif a.id == \"tester\" then return false end\n{when}\nend, \
         {more} tests = {{ {{ \"quiet\", feed = spend(\"tester\", usd(1)), expect = quiet }} }} }}"
    )
}

fn load(text: &str) -> Result<Scripts, Vec<ScriptError>> {
    Scripts::load(&Files::from([("rules/r.lua".into(), text.to_owned())]), &Limits::default())
}

fn loaded(text: &str) -> LuaRules {
    load(text).unwrap_or_else(|errors| panic!("{errors:?}")).into_rule_set()
}

fn evaluate_as(
    rules: &mut LuaRules,
    subject: &Subject,
    payment: Option<&Payment>,
    states: &mut [RuleState],
) -> Vec<Firing> {
    let signals = [Signal {
        value: 340.0,
        usual: 8.5,
        probability: 0.9,
        ..Signal::usual(SignalKind::Velocity, Unit::UsdPerHour)
    }];
    let labels = vec![Label { key: "tier".into(), value: "gold".into() }];
    let profile = Profile { labels, team: Some("growth".into()), ..Profile::default() };
    let at = Timestamp::parse("2026-01-05T02:30:00Z").unwrap();
    let case = Case {
        now: at,
        at,
        subject,
        payment,
        signals: Signals::known(&signals),
        score: 0.75,
        profile: &profile,
        history: &Lately,
    };
    let mut firings = Vec::new();
    rules.evaluate(&case, states, &mut firings);
    firings
}

fn evaluate(rules: &mut LuaRules, states: &mut [RuleState]) -> Vec<Firing> {
    evaluate_as(rules, &Subject::Agent(AgentId::new("a1").unwrap()), Some(&payment()), states)
}

/// Asserts that `expression` is true of the case in hand.
#[track_caller]
fn check(expression: &str) {
    let scripts = load(&rule_text(&format!("return {expression}"), "history = \"24h\",")).unwrap();
    let status = scripts.status_handle();
    let mut rules = scripts.into_rule_set();
    let fired = evaluate(&mut rules, &mut [RuleState::new()]).len();
    assert_eq!(fired, 1, "{expression}: {:?}", status.status()[0].last_errors);
}

/// Asserts that `expression` is an error whose message contains `part`.
#[track_caller]
fn check_error(expression: &str, part: &str) {
    let scripts = load(&rule_text(&format!("return {expression}"), "")).unwrap();
    let status = scripts.status_handle();
    assert!(evaluate(&mut scripts.into_rule_set(), &mut [RuleState::new()]).is_empty());
    let status = status.status();
    let error = status[0].last_errors.first().unwrap_or_else(|| panic!("{expression}: no error"));
    assert!(error.message.contains(part), "{expression}: {}", error.message);
    assert_eq!(
        (error.line, error.payment.as_deref()),
        (Some(3), Some("x402/p-1")),
        "{expression}: {error:?}"
    );
    assert_eq!(status[0].health, Health::Erroring);
}

#[test]
fn payments_agents_and_times_are_seen() {
    for expression in [
        "p.rail == \"x402\" and p.id == \"p-1\" and p.kind == \"settle\" and p.via == \"explicit\"",
        "p:spender(\"evm.address\") == \"0xabc\" and p:spender(\"agent\") == nil",
        "p.usd == usd(\"2.50\") and tostring(p.amount) == \"2.500000 USDC@base\" and p.task == nil",
        "a.id == \"a1\" and a.team == \"growth\" and a:label(\"tier\") == \"gold\" and a.score == 0.75 and not a.unmapped",
        "a:spent(\"10m\") == usd(6) and a:spent(\"10m\", \"payee\", p.payee) == usd(1)",
        "a:spent(\"10m\", \"task\", p.task) == usd(0) and a:count(\"10m\", \"task\", nil) == 0",
        "a:count(\"1h\") == 3 and a:distinct(\"1h\", \"payee\") == 2 and a:declined(\"1h\") == 1",
        "a:is_new(\"payee\", \"eve\") and not a:is_new(\"payee\", p.payee) and not a:is_new(\"task\", p.task)",
        "a.velocity.ratio == 40 and a.velocity.probability == 0.9 and not a.velocity.firing and a.budget.value == 0",
        "a.velocity.no_such_fact == nil and a:signal(\"mine\").value == 0 and a:by_rail(\"x402\") == usd(1)",
        "p.at:hour() == 2 and p.at:minute() == 30 and p.at:weekday() == 1 and p.at:hour(\"Asia/Tokyo\") == 11",
        "p.at:date() == \"2026-01-05\" and p.at:date(\"America/New_York\") == \"2026-01-04\"",
        "p.at - time(\"2026-01-05T02:00Z\") == 1800 and p.at + \"30m\" == time(\"2026-01-05T03:00:00Z\")",
        "p.at > a.first_seen_at and a.previous_at == nil and duration(\"1h30m\") == 5400",
        "`{a.id} spent {a:spent(\"10m\")} at {p.at}` == \"a1 spent $6.00 at 2026-01-05T02:30:00Z\"",
    ] {
        check(expression);
    }
}

#[test]
fn money_is_exact_and_never_a_number() {
    for expression in [
        "usd(\"0.1\") + usd(\"0.2\") == usd(\"0.3\") and -usd(1) < usd(0) and usd(3) * 2 == usd(6)",
        "money(1234, \"USD\") == usd(\"12.34\") and decimal(\"0.00213\", \"USD\") == usd(\"0.00213\")",
        "money(5, \"EUR\") + money(7, \"EUR\") == money(12, \"EUR\") and money(5, \"EUR\") < money(7, \"EUR\")",
        "money(21, \"sat\") == money(21000, \"msat\") and decimal(\"0.5\", \"sat\") == money(500, \"msat\")",
        "tostring(money(\"123456789012345678901234567890\", \"ETH\", 18)) == \"123456789012.345678901234567890 ETH\"",
        "usd(3000000000) + usd(1) > usd(3000000000) and usd(3000000001) == usd(3000000000) + usd(1)",
        "usd(1) / usd(4) == 0.25 and usd(5):dollars() == 5 and money(5, \"EUR\"):asset() == \"EUR\"",
        "usd(20):is_multiple_of(usd(5)) and not usd(21):is_multiple_of(usd(5)) and type(usd(1)) == \"userdata\"",
        "money(5, \"USDC@base\") ~= money(5, \"USDC@solana\")",
    ] {
        check(expression);
    }
    check_error("p.amount > usd(2)", "USD and USDC@base are different assets; p.usd");
    check_error("money(5, \"EUR\") + money(5, \"GBP\") == nil", "EUR and GBP are different assets");
    check_error("usd(5) + 1 > usd(5)", "cannot meet");
    check_error("usd(5) * 1.5 > usd(5)", "whole number");
    check_error(
        "usd(9000000000) + usd(9000000000) < usd(1) or money(\"170141183460469231731687303715884105727\", \"EUR\") * 2 == nil",
        "does not fit",
    );
    check_error("money(1.5, \"USD\") == nil", "decimal(\"1.5\", \"USD\")");
    check_error("decimal(\"1.005\", \"EUR\") == nil", "more decimals than EUR has");
    check_error("money(1, \"DOGECASH\") == nil", "unknown currency");
    check_error("p.ammount == nil", "did you mean \"amount\"");
    check_error("a:spent(\"10 parsecs\") == nil", "is not a duration");
    check_error("a:spent(\"10m\", \"colour\", \"red\") == nil", "is not one of \"rail\"");
    check_error("p.at:hour(\"Mars/Base\") == 2", "is not a time zone");
    check_error("usd(5):hour() == 2", "method of times");
}

#[test]
fn constants_keep_their_amount_and_stale_amounts_are_refused() {
    let text = rule_text(
        "local held = kept kept = p.amount return p.amount == PRICE and (held == nil or held == PRICE)",
        "",
    );
    let scripts = load(&format!("local PRICE, kept = decimal(\"2.5\", \"USDC@base\"), nil\n{text}")).unwrap();
    let mut rules = scripts.into_rule_set();
    for _ in 0..3 {
        assert_eq!(evaluate(&mut rules, &mut [RuleState::new()]).len(), 1);
    }
    let text = rule_text(
        "if kept then return kept > money(1, \"EUR\") end kept = money(7, \"EUR\") return false",
        "",
    );
    let scripts = load(&format!("local kept\n{text}")).unwrap();
    let status = scripts.status_handle();
    let mut rules = scripts.into_rule_set();
    evaluate(&mut rules, &mut [RuleState::new()]);
    evaluate(&mut rules, &mut [RuleState::new()]);
    assert!(status.status()[0].last_errors[0].message.contains("earlier call"), "{:?}", status.status());
}

#[test]
fn notes_persist_and_a_failed_call_takes_them_back() {
    let when = "state.n = (state.n or 0) + 1 state.usd, state.at, state.flag = p.usd, p.at, true state.text = \"x y\"\n\
                if state.n == 3 then error(\"third\") end\n\
                return state.n == 2 and state.usd == usd(\"2.5\") and state.at == p.at and state.flag and state.text == \"x y\"";
    let mut rules = loaded(&rule_text(when, "why = function(p, a, state) return `call {state.n}` end,"));
    let mut states = [RuleState::new()];
    assert!(evaluate(&mut rules, &mut states).is_empty());
    assert_eq!(evaluate(&mut rules, &mut states)[0].why, "call 2");
    let before = states[0].clone();
    assert!(evaluate(&mut rules, &mut states).is_empty());
    assert_eq!(states[0], before);
    // The notes are the engine's: another generation of the same rule goes on with them.
    let mut rules = loaded(&rule_text("return state.n == 2", ""));
    assert_eq!(evaluate(&mut rules, &mut states).len(), 1);
}

#[test]
fn explanations_are_bounded_and_cannot_forge_or_hide() {
    let why = |body: &str| format!("why = function(p, a, state) {body} end,");
    let said = |body: &str| {
        evaluate(&mut loaded(&rule_text("return true", &why(body))), &mut [RuleState::new()])[0].why.clone()
    };
    assert_eq!(said("return \"a\\nb\\27[31m\""), "a b[31m");
    assert!(said("return string.rep(\"é\", 30000)").len() <= 500);
    for (body, part) in [
        ("return nil", "why must return a text"),
        ("error(\"oops\")", "oops"),
        ("state.x = 1 return \"y\"", "in `when` only"),
    ] {
        let scripts = load(&rule_text("return true", &why(body))).unwrap();
        let status = scripts.status_handle();
        let firings = evaluate(&mut scripts.into_rule_set(), &mut [RuleState::new()]);
        assert_eq!(firings[0].why, "the condition of rule r holds", "{body}");
        assert!(status.status()[0].last_errors[0].message.contains(part), "{body}");
    }
}

#[test]
fn ticks_and_other_subjects() {
    let agent = Subject::Agent(AgentId::new("a1").unwrap());
    let team = Subject::Team("growth".into());
    let mut rules =
        loaded(&rule_text("return p.kind == \"tick\" and p.usd == usd(0) and p.payee == nil", ""));
    let mut states = [RuleState::new()];
    assert_eq!(evaluate_as(&mut rules, &agent, None, &mut states).len(), 1);
    assert!(evaluate_as(&mut rules, &agent, Some(&payment()), &mut states).is_empty());
    assert!(evaluate_as(&mut rules, &team, None, &mut states).is_empty());
    let mut rules = loaded(&rule_text("return a.id == \"team growth\"", "group_by = { \"team\" },"));
    assert_eq!(evaluate_as(&mut rules, &team, None, &mut states).len(), 1);
    assert!(evaluate_as(&mut rules, &agent, None, &mut states).is_empty());
}

#[test]
fn what_the_engine_needs_to_know() {
    let more = "severity = \"critical\", hold = \"2m\", clear_after = \"1h\", shadow = true,";
    let rules = loaded(&rule_text("return a:spent(\"7h\") > usd(5)", more));
    let info = &rules.rules()[0];
    assert_eq!((info.id.as_str(), info.severity, info.shadow), ("r", Severity::Critical, true));
    assert_eq!((info.hold.as_secs(), info.clear_after.as_secs()), (120, 3_600));
    assert_eq!(rules.need().longest.as_secs(), 7 * 3_600);
    check_error("a:spent(\"9\" .. \"h\") > usd(5)", "history = \"9h\"");
}

#[track_caller]
fn check_load(text: &str, line: Option<u32>, case: Option<&str>, part: &str) {
    let errors = load(text).unwrap_err();
    let error = &errors[0];
    assert!(error.to_string().contains(part), "{error}");
    assert_eq!(
        (error.file.as_str(), error.line, error.case.as_deref()),
        ("rules/r.lua", line, case),
        "{error}"
    );
}

#[test]
fn mistakes_are_placed_and_explained() {
    let tests = "tests = { { \"t\", feed = spend(\"a1\", usd(1)), expect = quiet } }";
    check_load("return rule {\n  id = 5 +\n}", Some(3), None, "Expected");
    check_load("return 5", None, None, "begin it with `return`");
    check_load(
        &format!("return rule {{\n id = \"x\",\n severty = \"high\", when = function() end, {tests} }}"),
        Some(3),
        None,
        "did you mean \"severity\"",
    );
    check_load(
        &format!("return rule {{\n id = \"X y\", when = function() end, {tests} }}"),
        Some(2),
        None,
        "lower-case",
    );
    check_load(
        &format!("return rule {{ id = \"x\",\n hold = 5, when = function() end, {tests} }}"),
        Some(2),
        None,
        "a text such as",
    );
    check_load(&format!("return rule {{ id = \"x\", {tests} }}"), Some(1), None, "when: missing");
    check_load(
        &format!("return rule {{ id = \"x\", severity = \"urgent\", when = function() end, {tests} }}"),
        Some(1),
        None,
        "not one of info",
    );
    check_load("return rule { id = \"x\", when = function() end }", None, None, "tests is missing");
    check_load("return rule { id = \"x\", when = function() end, tests = {} }", None, None, "0 tests");
    let failing = "return rule { id = \"x\", when = function(p) return p.usd > usd(5) end, tests = {\n{ \"ok\", feed = spend(\"a1\", usd(1)), expect = quiet },\n{ \"big\", feed = spend(\"a1\", usd(9)), expect = quiet } } }";
    check_load(failing, Some(3), Some("big"), "expected quiet, but a1 fired at +0s");
    let raising = "return rule { id = \"x\", when = function(p)\nreturn p.payee .. \"x\" == \"\" end, tests = {\n{ \"nil\", feed = spend(\"a1\", usd(9)), expect = quiet } } }";
    check_load(raising, Some(3), Some("nil"), "line 2: attempt to concatenate nil");
    let unclear = "return rule { id = \"x\", when = function(p) return false end, tests = { { \"t\", fed = 1, expect = quiet } } }";
    check_load(unclear, Some(1), Some("t"), "did you mean \"feed\"");
}

#[test]
fn all_mistakes_are_reported_at_once_and_ids_are_unique() {
    let good = rule_text("return false", "");
    let files = Files::from([
        ("rules/a.lua".into(), good.clone()),
        ("rules/b.lua".into(), good),
        ("rules/c.lua".into(), "return 1".into()),
        ("rules/d.lua".into(), "syntax error".into()),
    ]);
    let errors = Scripts::load(&files, &Limits::default()).unwrap_err();
    let said: BTreeMap<&str, &str> =
        errors.iter().map(|error| (error.file.as_str(), error.message.as_str())).collect();
    assert_eq!(said.keys().copied().collect::<Vec<_>>(), ["rules/b.lua", "rules/c.lua", "rules/d.lua"]);
    assert!(said["rules/b.lua"].contains("taken by rules/a.lua"));
    assert!(!run_tests(&files, "rules/c.lua", &Limits::default()).is_ok());
    assert_eq!(run_tests(&files, "rules/a.lua", &Limits::default()).passed, ["quiet"]);
}

#[test]
fn a_list_of_rules_may_share_a_file() {
    let text = "local function r(id, limit) return rule { id = id, when = function(p) return p.usd > limit end, tests = { { \"t\", feed = spend(\"a1\", usd(1)), expect = quiet } } } end\nreturn { r(\"one\", usd(2)), r(\"two\", usd(3)) }";
    let mut rules = loaded(text);
    let firings = evaluate(&mut rules, &mut [RuleState::new(), RuleState::new()]);
    assert_eq!(firings.iter().map(|firing| firing.rule).collect::<Vec<_>>(), [0]);
}

#[test]
fn scores_add_up_or_say_what_is_wrong() {
    let score = |formula: &str| {
        let text = format!(
            "return score {{ name = \"s\", inputs = {{ \"velocity.ratio\", \"payment.usd\" }}, parts = {{ \"a\", \"b\" }}, formula = function(ratio, usd)\n{formula}\nend, tests = {{ {{ \"t\", expect = 0 }} }} }}"
        );
        let scripts = Scripts::load(&Files::from([("score.lua".into(), text)]), &Limits::default()).unwrap();
        let mut scorer = scripts.scorer().unwrap();
        let signals =
            [Signal { value: 16.0, usual: 8.0, ..Signal::usual(SignalKind::Velocity, Unit::UsdPerHour) }];
        let subject = Subject::Agent(AgentId::new("a1").unwrap());
        let (payment, profile, at) = (payment(), Profile::default(), Timestamp::EPOCH);
        let case = Case {
            now: at,
            at,
            subject: &subject,
            payment: Some(&payment),
            signals: Signals::known(&signals),
            score: 0.0,
            profile: &profile,
            history: &Lately,
        };
        scorer.score(&case)
    };
    let found = score("return ratio / 10, usd / 10").unwrap();
    assert!((found.value - 0.45).abs() < 1e-12);
    assert_eq!(found.contributions.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!((score("return ratio * 10, 0").unwrap().value - 1.0).abs() < 1e-12);
    assert!(score("if ratio > 0 then return 1 end return 0, 0").unwrap_err().0.contains("number"));
    assert!(
        score("if ratio > 0 then return 0/0, 0 end return 0, 0")
            .unwrap_err()
            .0
            .contains("not a finite number")
    );
    assert!(score("if ratio > 0 then return \"x\", 0 end return 0, 0").unwrap_err().0.contains("score.lua"));
}

fn decode(body: &str, message: &str) -> Decoded {
    let text = format!(
        "return rail {{ name = \"acme\", decode = function(msg)\n{body}\nend, tests = {{ {{ \"t\", input = '{{\"skip\":true}}', expect = filtered }} }} }}"
    );
    let text = text.replace(
        "decode = function(msg)\n",
        "decode = function(msg)\nif msg.json and msg.json.skip then return nil, \"skip\" end\n",
    );
    let scripts = Scripts::load(&Files::from([("rails/acme.lua".into(), text)]), &Limits::default()).unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("x-event", http::HeaderValue::from_static("paid"));
    headers.insert("authorization", http::HeaderValue::from_static("Bearer s3cret"));
    headers.insert("x-acme-signature", http::HeaderValue::from_static("s3cret"));
    let message = Message {
        body: message.as_bytes(),
        headers: Some(&headers),
        received_at: Timestamp::from_secs(1_767_268_800),
    };
    let mut decoded = Decoded::default();
    scripts.decoder("rails/acme.lua").unwrap().decode(&message, &mut decoded);
    decoded
}

#[test]
fn a_decoder_returns_one_many_none_or_a_reject() {
    let one = "local b = msg.json return { id = b.id, at = b.at, amount = money(b.amount, \"USD\"), agent = b.agent, labels = { b = \"2\", a = msg.headers[\"x-event\"] } }";
    let message = r#"{"id":17,"at":1767268800.5,"amount":1234,"agent":"a1"}"#;
    let decoded = decode(one, message);
    let payment = &decoded.payments[0];
    assert_eq!((payment.id.as_str(), payment.rail.as_str()), ("17", "acme"));
    assert_eq!(payment.amount, Money::new(1_234, Asset::usd()));
    assert_eq!(payment.occurred_at.to_string(), "2026-01-01T12:00:00.500Z");
    assert_eq!(payment.labels.iter().map(|label| label.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let many = format!("local function one(msg) {one} end return {{ one(msg), one(msg) }}");
    assert_eq!(decode(&many, message).payments.len(), 2);
    assert_eq!(decode("return nil, \"heartbeat\"", "{}").filtered, ["heartbeat"]);
    assert_eq!(decode("return {}", "{}").filtered, ["no payment in it"]);
    for (body, message, code) in [
        (one, r#"{"at":1,"amount":1}"#, "no_id"),
        (one, r#"{"id":"x","amount":1}"#, "bad_time"),
        (one, r#"{"id":"x","at":1,"amount":-1}"#, "bad_amount"),
        (one, r#"{"id":"x","at":1,"amount":"1.5"}"#, "script_error"),
        (one, "not json", "script_error"),
        ("return { id = \"x\", at = 1, amount = usd(1), kind = \"gift\" }", "{}", "bad_field"),
        ("return { id = \"x\", at = 1, amount = 5 }", "{}", "bad_amount"),
        ("return { id = \"x\", at = 1, amout = usd(1) }", "{}", "bad_field"),
        ("return 7", "{}", "script_error"),
        ("while true do end", "{}", "script_error"),
    ] {
        let decoded = decode(body, message);
        assert_eq!(
            decoded.rejects.iter().map(|reject| reject.code).collect::<Vec<_>>(),
            [code],
            "{body} {message}: {decoded:?}"
        );
        assert!(decoded.payments.is_empty());
    }
}

#[test]
fn secrets_do_not_reach_a_decoder() {
    let body = "local all = \"\" for k, v in msg.headers do all ..= v end return nil, all .. msg.json.preimage .. msg.json.deep[1].client_secret";
    let decoded = decode(body, r#"{"preimage":"s3cret","deep":[{"client_secret":"s3cret"}]}"#);
    assert_eq!(decoded.filtered, ["paid[redacted][redacted]"], "{decoded:?}");
}

#[test]
fn a_message_that_explodes_is_a_reject() {
    let body = "return nil, \"ok\"";
    let wide = format!("[{}[]]", "[],".repeat(100_000));
    let decoded = decode(body, &wide);
    assert_eq!(decoded.rejects.len() + decoded.filtered.len(), 1);
    assert_eq!(decode(body, &"[".repeat(100_000)).filtered, ["ok"]);
    assert_eq!(decode(body, &" ".repeat(5 << 20)).rejects[0].code, "too_large");
}
