//! What a test sets up: payments, signals, budgets, labels.

use std::time::Duration;

use mlua::{Table, Value};
use railwatch_model::{
    AgentId, AgentVia, Kind, Label, Money, Payment, Rate, Signal, SignalKind, SmolStr, Subject, Timestamp,
    Unit, Usd, Valuation, Verdict,
};
use railwatch_plugin::detector::{Budget, Period, Profile};
use smol_str::format_smolstr;

use super::Context;
use crate::error::{ScriptError, message_of};
use crate::sim::{FEED_MAX, World};
use crate::spec::Spec;
use crate::value::{self, Scalar};

/// The world of a test, and the time at which it begins.
pub(super) fn world(cx: &Context<'_>, spec: &Spec<'_>) -> Result<(Timestamp, World), String> {
    let lift = |error: ScriptError| error.message;
    let clock: Option<String> = spec.get("clock", "a text such as \"2026-01-01T02:00Z\"").map_err(lift)?;
    let clock = crate::time::parse(clock.as_deref().unwrap_or("2026-01-01T12:00Z"))?;
    let mut world = World { signals: signals(cx, spec)?, profile: profile(cx, spec)?, ..World::default() };
    world.score = spec.get("score", "a number").map_err(lift)?.unwrap_or(0.0);
    if let Some(feed) = spec.get::<Table>("feed", "spend(…), declined(…) or a list of these").map_err(lift)?
    {
        let single = feed.raw_get::<Value>("feed").is_ok_and(|value| !value.is_nil());
        let mut items = Vec::new();
        if single {
            items.push(feed);
        } else {
            for item in feed.sequence_values::<Table>() {
                items.push(item.map_err(|error| format!("feed: {}", message_of(&error)))?);
            }
        }
        for item in items {
            self::feed(cx, &item, clock, &mut world.feed)?;
        }
        world.feed.sort_by_key(|(_, payment)| payment.occurred_at);
    }
    Ok((clock, world))
}

/// One `spend(agent, amount, { every, times, after, payee, rail, task, resource, via })`.
fn feed(
    cx: &Context<'_>,
    item: &Table,
    clock: Timestamp,
    feed: &mut Vec<(Subject, Payment)>,
) -> Result<(), String> {
    const OPTIONS: &[&str] =
        &["after", "every", "payee", "rail", "resource", "session", "source", "task", "times", "via"];
    let wrong = |error: mlua::Error| format!("feed: {}", message_of(&error));
    let lift = |error: ScriptError| error.message;
    let kind = match item.raw_get::<String>("feed").map_err(wrong)?.as_str() {
        "declined" => Kind::Declined,
        "refund" => Kind::Refund,
        _ => Kind::Settle,
    };
    let agent: String = item.raw_get("agent").map_err(wrong)?;
    let agent = AgentId::new(agent).ok_or("feed: an agent's name has 1 to 200 bytes")?;
    let scalar = cx.scalar(&item.raw_get("amount").map_err(wrong)?)?;
    let (money, usd) = match &scalar {
        Some(Scalar::Usd(usd)) => (value::to_money(&Scalar::Usd(*usd)), *usd),
        // A stablecoin is worth its face; anything else has no price in a test.
        Some(Scalar::Amount(money)) if money.asset().is_dollar() => {
            (Some(money.clone()), Rate::peg().value(money).unwrap_or(Usd::ZERO))
        }
        other => (other.as_ref().and_then(value::to_money), Usd::ZERO),
    };
    let money: Money = money.ok_or("feed: the amount is not an amount; write usd(6)")?;
    let options: Table = item.raw_get("options").map_err(wrong)?;
    let options =
        Spec { lua: &cx.vm.lua, table: options, file: &cx.vm.file, source: cx.source, what: "feed" };
    options.known(OPTIONS).map_err(lift)?;
    let times: u32 = options.get("times", "a whole number").map_err(lift)?.unwrap_or(1);
    let every = options.span("every", Duration::from_secs(60)).map_err(lift)?;
    let after = options.span("after", Duration::ZERO).map_err(lift)?;
    let text = |key| options.get::<String>(key, "a text").map(|text| text.map(SmolStr::from)).map_err(lift);
    let rail = text("rail")?.unwrap_or_else(|| "x402".into());
    if feed.len() + usize::try_from(times).unwrap_or(usize::MAX) > FEED_MAX {
        return Err(format!("feed: more than {FEED_MAX} payments"));
    }
    for turn in 0..times {
        let at = clock.after(after).after(every.saturating_mul(turn));
        let mut payment =
            Payment::settle(rail.clone(), format_smolstr!("test-{}", feed.len()), money.clone(), at);
        payment.kind = kind;
        payment.agent = Some(agent.clone());
        payment.agent_via = Some(via(text("via")?.as_deref())?);
        payment.source = text("source")?.unwrap_or_default();
        payment.payee = text("payee")?;
        payment.task = text("task")?;
        payment.session = text("session")?;
        payment.resource = text("resource")?;
        payment.valuation = Some(Valuation { usd, rate: Rate::peg() });
        feed.push((Subject::Agent(agent.clone()), payment));
    }
    Ok(())
}

fn via(name: Option<&str>) -> Result<AgentVia, String> {
    match name {
        None | Some("explicit") => Ok(AgentVia::Explicit),
        Some("mapped") => Ok(AgentVia::Mapped),
        Some("linked") => Ok(AgentVia::Linked),
        Some("source_default") => Ok(AgentVia::SourceDefault),
        Some("unmapped") => Ok(AgentVia::Unmapped),
        Some(other) => {
            Err(format!("feed: via {other:?} is not explicit, mapped, linked, source_default or unmapped"))
        }
    }
}

/// `signals = { velocity = { value = 340, usual = 8, probability = 0.9 } }`; other numbers are facts.
pub(super) fn signals(cx: &Context<'_>, spec: &Spec<'_>) -> Result<Vec<Signal>, String> {
    let Some(table) = spec.get::<Table>("signals", "a table by kind").map_err(|error| error.message)? else {
        return Ok(Vec::new());
    };
    let mut signals = Vec::new();
    for pair in table.pairs::<String, Table>() {
        let (name, fields) = pair.map_err(|error| format!("signals: {}", message_of(&error)))?;
        let mut signal = Signal::usual(SignalKind::from_name(&name), Unit::Probability);
        for pair in fields.pairs::<String, Value>() {
            let (key, value) = pair.map_err(|error| format!("signals.{name}: {}", message_of(&error)))?;
            set_field(cx, &mut signal, &key, &value).map_err(|why| format!("signals.{name}.{key}: {why}"))?;
        }
        signals.push(signal);
    }
    signals.sort_by(|left, right| left.kind.cmp(&right.kind));
    Ok(signals)
}

fn set_field(cx: &Context<'_>, signal: &mut Signal, key: &str, value: &Value) -> Result<(), String> {
    if let Some(scalar) = cx.scalar(value)? {
        match (key, scalar) {
            ("excess", Scalar::Usd(usd)) => signal.excess = usd,
            ("since", Scalar::Time(at)) => signal.since = Some(at),
            _ => return Err("only excess is an amount and only since is a time".to_owned()),
        }
        return Ok(());
    }
    match (key, value) {
        ("firing", Value::Boolean(firing)) => {
            signal.verdict = if *firing { Verdict::Firing } else { Verdict::Usual };
        }
        ("about", Value::String(text)) => signal.about = Some(text.to_string_lossy().into()),
        ("value", _) => signal.value = number(value)?,
        ("usual", _) => signal.usual = number(value)?,
        ("probability", _) => signal.probability = number(value)?,
        ("evidence", _) => signal.evidence = number(value)?,
        (fact, _) => signal.facts.push((fact.into(), number(value)?)),
    }
    Ok(())
}

/// A number that a test wrote.
pub(super) fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => Ok(*number),
        #[expect(clippy::cast_precision_loss, reason = "a test's number is small")]
        Value::Integer(number) => Ok(*number as f64),
        other => Err(format!("a {} is not a number", other.type_name())),
    }
}

fn profile(cx: &Context<'_>, spec: &Spec<'_>) -> Result<Profile, String> {
    let lift = |error: ScriptError| error.message;
    let mut profile = Profile {
        team: spec.get::<String>("team", "a text").map_err(lift)?.map(SmolStr::from),
        ..Profile::default()
    };
    if let Some(labels) = spec.get::<Table>("labels", "a table").map_err(lift)? {
        for pair in labels.pairs::<String, String>() {
            let (key, value) = pair.map_err(|error| format!("labels: {}", message_of(&error)))?;
            profile.labels.push(Label { key: key.into(), value: value.into() });
        }
        profile.labels.sort();
    }
    if let Some(budgets) =
        spec.get::<Table>("budgets", "a table such as { monthly = usd(500) }").map_err(lift)?
    {
        for pair in budgets.pairs::<String, Value>() {
            let (name, value) = pair.map_err(|error| format!("budgets: {}", message_of(&error)))?;
            let Some(Scalar::Usd(amount)) = cx.scalar(&value)? else {
                return Err(format!("budgets.{name} is not in dollars"));
            };
            profile.budgets.push(Budget {
                name: name.into(),
                amount,
                period: Period::Month,
                tz: chrono_tz::Tz::UTC,
            });
        }
        profile.budgets.sort_by(|left, right| left.name.cmp(&right.name));
    }
    Ok(profile)
}
