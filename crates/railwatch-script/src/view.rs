//! What `when`, `why` and `formula` look at: `p`, the payment, and `a`, the agent.
//!
//! Both are objects without content, made once per machine: each access reads the [`Case`] of the call in hand, so
//! that a call costs no table and nothing that is not asked for is computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mlua::{Error, Lua, LuaString, Result, Table, Value};
use railwatch_model::{AgentVia, Direction, Kind, Payment, Signal, SignalKind, Status, Usd, Verdict};
use railwatch_plugin::history::{Dimension, Filter};
use railwatch_plugin::score::Case;
use scoped_tls_hkt::scoped_thread_local;

use crate::state;
use crate::value::{amount, span, time, usd};
use crate::vm::{Shared, Vm};

scoped_thread_local!(static CASE: for<'a> &'a Case<'a>);

/// The longest window that may be asked for.
pub(crate) const WINDOW_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Custom signals that one script may look at; each has an object of its own.
const CUSTOM_SIGNALS_MAX: usize = 64;

/// The kinds of signal that are fields of `a`.
pub(crate) const KINDS: &[&str] = &[
    "velocity",
    "rail_shift",
    "budget",
    "review",
    "drift",
    "new_payee",
    "new_rail",
    "duplicate",
    "price",
    "dormant",
];

/// Runs `body` with `case` in view of every machine of this thread.
pub(crate) fn with_case<R>(case: &Case<'_>, body: impl FnOnce() -> R) -> R {
    CASE.set(case, body)
}

/// The objects of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    pub(crate) payment: Table,
    pub(crate) agent: Table,
    pub(crate) state: Table,
}

impl Views {
    pub(crate) fn new(vm: &Vm) -> Result<Self> {
        let (lua, shared) = (&vm.lua, &vm.shared);
        Ok(Self {
            payment: payment(lua, shared)?,
            agent: agent(lua, shared)?,
            state: state::object(lua, shared)?,
        })
    }
}

fn look<R>(read: impl FnOnce(&Case<'_>) -> Result<R>) -> Result<R> {
    if !CASE.is_set() {
        return Err(Error::runtime("payments and agents can be looked at inside when, why and formula only"));
    }
    CASE.with(|case| read(case))
}

/// An object whose fields are computed and whose methods are `methods`.
fn object<F>(lua: &Lua, methods: Table, field: F) -> Result<Table>
where
    F: Fn(&Lua, &str) -> Result<Value> + Send + 'static,
{
    let metatable = lua.create_table()?;
    let read = move |lua: &Lua, (_, key): (bool, mlua::BorrowedStr)| field(lua, &key);
    metatable.raw_set("__index", lua.create_function(read)?)?;
    metatable.raw_set("__metatable", false)?;
    metatable.set_readonly(true);
    methods.set_metatable(Some(metatable))?;
    methods.set_readonly(true);
    Ok(methods)
}

fn text(lua: &Lua, text: Option<&str>) -> Result<Value> {
    text.map_or(Ok(Value::Nil), |text| Ok(Value::String(lua.create_string(text)?)))
}

fn payment(lua: &Lua, shared: &Arc<Shared>) -> Result<Table> {
    let methods = lua.create_table()?;
    let label = |lua: &Lua, (_, key): (bool, mlua::BorrowedStr)| {
        look(|case| {
            let labels = case.payment.map_or(&[][..], |payment| &payment.labels);
            text(lua, labels.iter().find(|label| label.key == *key).map(|label| label.value.as_str()))
        })
    };
    methods.raw_set("label", lua.create_function(label)?)?;
    let spender = |lua: &Lua, (_, scheme): (bool, mlua::BorrowedStr)| {
        look(|case| {
            let identities = case.payment.map_or(&[][..], |payment| &payment.spender);
            text(lua, identities.iter().find(|id| id.scheme == *scheme).map(|id| id.value.as_str()))
        })
    };
    methods.raw_set("spender", lua.create_function(spender)?)?;
    let cx = Arc::clone(shared);
    object(lua, methods, move |lua, key| {
        look(|case| match (key, case.payment) {
            ("at", _) => Ok(time(case.at)),
            ("now", _) => Ok(time(case.now)),
            ("usd", None) => usd(Usd::ZERO, &cx.arena),
            ("kind", None) => text(lua, Some("tick")),
            (_, Some(payment)) => payment_field(lua, &cx, payment, key),
            (key, None) if PAYMENT_FIELDS.contains(&key) => Ok(Value::Nil),
            (key, None) => Err(unknown("payment", key, PAYMENT_FIELDS)),
        })
    })
}

/// The fields of `p`.
pub(crate) const PAYMENT_FIELDS: &[&str] = &[
    "agent",
    "amount",
    "at",
    "direction",
    "id",
    "kind",
    "now",
    "parent",
    "payee",
    "rail",
    "resource",
    "session",
    "source",
    "status",
    "task",
    "usd",
    "via",
];

fn payment_field(lua: &Lua, shared: &Shared, payment: &Payment, key: &str) -> Result<Value> {
    match key {
        "usd" => usd(payment.usd(), &shared.arena),
        "amount" => amount(payment.amount.clone(), &shared.arena),
        "rail" => text(lua, Some(&payment.rail)),
        "payee" => text(lua, payment.payee.as_deref()),
        "task" => text(lua, payment.task.as_deref()),
        "session" => text(lua, payment.session.as_deref()),
        "resource" => text(lua, payment.resource.as_deref()),
        "parent" => text(lua, payment.parent.as_deref()),
        "id" => text(lua, Some(&payment.id)),
        "source" => text(lua, Some(&payment.source)),
        "agent" => text(lua, payment.agent.as_ref().map(railwatch_model::AgentId::as_str)),
        "kind" => text(lua, Some(kind_name(payment.kind))),
        "status" => text(lua, Some(status_name(payment.status))),
        "direction" => text(lua, Some(direction_name(payment.direction))),
        "via" => text(lua, payment.agent_via.map(via_name)),
        other => Err(unknown("payment", other, PAYMENT_FIELDS)),
    }
}

/// An unknown field is a mistake, not `nil`: a typo would make a rule silent for ever.
fn unknown(what: &str, key: &str, known: &[&str]) -> Error {
    let key = crate::error::clean(key, 60);
    match crate::spec::closest(&key, known.iter().copied()) {
        Some(near) => Error::runtime(format!("a {what} has no field {key:?}; did you mean {near:?}?")),
        None => Error::runtime(format!("a {what} has no field {key:?}; it has {}", known.join(", "))),
    }
}

pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Hold => "hold",
        Kind::Release => "release",
        Kind::Settle => "settle",
        Kind::Refund => "refund",
        Kind::Reversal => "reversal",
        Kind::Deposit => "deposit",
        Kind::Fee => "fee",
        Kind::Dispute => "dispute",
        Kind::Declined => "declined",
    }
}

pub(crate) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Seen => "seen",
        Status::Confirmed => "confirmed",
        Status::Retracted => "retracted",
    }
}

pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Spend => "spend",
        Direction::Earn => "earn",
        Direction::Ignore => "ignore",
    }
}

pub(crate) fn via_name(via: AgentVia) -> &'static str {
    match via {
        AgentVia::Explicit => "explicit",
        AgentVia::Mapped => "mapped",
        AgentVia::Linked => "linked",
        AgentVia::SourceDefault => "source_default",
        AgentVia::Unmapped => "unmapped",
    }
}

/// The fields of `a` besides its signals.
pub(crate) const AGENT_FIELDS: &[&str] = &["first_seen_at", "id", "previous_at", "score", "team", "unmapped"];

fn agent(lua: &Lua, shared: &Arc<Shared>) -> Result<Table> {
    let methods = lua.create_table()?;
    for kind in KINDS {
        methods.raw_set(*kind, signal(lua, shared, kind)?)?;
    }
    windows(lua, &methods, shared)?;
    facts(lua, &methods, shared)?;
    object(lua, methods, |lua, key| {
        look(|case| match key {
            "id" => match case.subject.agent() {
                Some(agent) => text(lua, Some(agent.as_str())),
                None => text(lua, Some(&case.subject.to_string())),
            },
            "score" => Ok(Value::Number(case.score)),
            "team" => text(lua, case.profile.team.as_deref()),
            "unmapped" => Ok(Value::Boolean(case.agent().is_some_and(railwatch_model::AgentId::is_unmapped))),
            "first_seen_at" => Ok(time(case.history.first_seen_at())),
            "previous_at" => Ok(case.history.previous_at().map_or(Value::Nil, time)),
            other => {
                let known: Vec<&str> =
                    AGENT_FIELDS.iter().chain(KINDS).chain(AGENT_METHODS).copied().collect();
                Err(unknown("agent", other, &known))
            }
        })
    })
}

/// The methods of `a`.
pub(crate) const AGENT_METHODS: &[&str] = &[
    "allowance",
    "by_rail",
    "count",
    "declined",
    "distinct",
    "is_new",
    "label",
    "largest",
    "signal",
    "spent",
];

type Query = (bool, mlua::BorrowedStr, Option<mlua::BorrowedStr>, Option<mlua::BorrowedStr>);

/// The window questions. A filter by a value that the payment does not have matches nothing.
fn windows(lua: &Lua, methods: &Table, shared: &Arc<Shared>) -> Result<()> {
    let cx = Arc::clone(shared);
    let spent = move |_: &Lua, (_, window, by, value): Query| {
        let window = cx.window(&window)?;
        let spent = look(|case| match filter(by.as_deref(), value.as_deref())? {
            Some(filter) => Ok(case.history.spent(window, filter)),
            None => Ok(Usd::ZERO),
        })?;
        usd(spent, &cx.arena)
    };
    methods.raw_set("spent", lua.create_function(spent)?)?;
    let cx = Arc::clone(shared);
    let count = move |_: &Lua, (_, window, by, value): Query| {
        let window = cx.window(&window)?;
        look(|case| match filter(by.as_deref(), value.as_deref())? {
            Some(filter) => Ok(case.history.count(window, filter)),
            None => Ok(0),
        })
    };
    methods.raw_set("count", lua.create_function(count)?)?;
    let cx = Arc::clone(shared);
    let largest = move |_: &Lua, (_, window, by, value): Query| {
        let window = cx.window(&window)?;
        let largest = look(|case| match filter(by.as_deref(), value.as_deref())? {
            Some(filter) => Ok(case.history.largest(window, filter)),
            None => Ok(Usd::ZERO),
        })?;
        usd(largest, &cx.arena)
    };
    methods.raw_set("largest", lua.create_function(largest)?)?;
    let cx = Arc::clone(shared);
    let distinct = move |_: &Lua, (_, window, of): (bool, mlua::BorrowedStr, mlua::BorrowedStr)| {
        let (window, dimension) = (cx.window(&window)?, dimension(&of)?);
        look(|case| Ok(case.history.distinct(window, dimension)))
    };
    methods.raw_set("distinct", lua.create_function(distinct)?)?;
    let cx = Arc::clone(shared);
    let declined = move |_: &Lua, (_, window): (bool, mlua::BorrowedStr)| {
        let window = cx.window(&window)?;
        look(|case| Ok(case.history.declined(window)))
    };
    methods.raw_set("declined", lua.create_function(declined)?)
}

fn facts(lua: &Lua, methods: &Table, shared: &Arc<Shared>) -> Result<()> {
    let is_new = |_: &Lua, (_, of, value): (bool, mlua::BorrowedStr, Option<mlua::BorrowedStr>)| {
        let dimension = dimension(&of)?;
        look(|case| Ok(value.as_deref().is_some_and(|value| case.history.is_new(dimension, value))))
    };
    methods.raw_set("is_new", lua.create_function(is_new)?)?;
    let label = |lua: &Lua, (_, key): (bool, mlua::BorrowedStr)| {
        look(|case| {
            let found = case.profile.labels.iter().find(|label| label.key == *key);
            text(lua, found.map(|label| label.value.as_str()))
        })
    };
    methods.raw_set("label", lua.create_function(label)?)?;
    let cx = Arc::clone(shared);
    let allowance = move |_: &Lua, (_, name): (bool, mlua::BorrowedStr)| {
        look(|case| match case.profile.budgets.iter().find(|budget| budget.name == *name) {
            Some(budget) => usd(budget.amount, &cx.arena),
            None => Ok(Value::Nil),
        })
    };
    methods.raw_set("allowance", lua.create_function(allowance)?)?;
    let cx = Arc::clone(shared);
    let by_rail = move |_: &Lua, (_, rail): (bool, Option<mlua::BorrowedStr>)| {
        look(|case| {
            let totals = case.history.by_rail();
            let found = totals.iter().find(|(name, _)| rail.as_deref() == Some(name.as_str()));
            usd(found.map_or(Usd::ZERO, |(_, total)| *total), &cx.arena)
        })
    };
    methods.raw_set("by_rail", lua.create_function(by_rail)?)?;
    let cx = Arc::clone(shared);
    let cache = lua.create_table()?;
    let n_cached = AtomicUsize::new(0);
    let custom = move |lua: &Lua, (_, name): (bool, LuaString)| {
        if let Some(known) = cache.raw_get::<Option<Table>>(&name)? {
            return Ok(known);
        }
        if n_cached.fetch_add(1, Ordering::Relaxed) >= CUSTOM_SIGNALS_MAX {
            return Err(Error::runtime(format!(
                "a script looks at {CUSTOM_SIGNALS_MAX} custom signals at most"
            )));
        }
        let object = signal(lua, &cx, &name.to_str()?)?;
        cache.raw_set(name, &object)?;
        Ok(object)
    };
    methods.raw_set("signal", lua.create_function(custom)?)
}

impl Shared {
    /// Reads a window and holds it against what the engine keeps.
    fn window(&self, text: &str) -> Result<Duration> {
        let window = span(text)?;
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        self.window_asked.fetch_max(micros, Ordering::Relaxed);
        if window > WINDOW_MAX {
            return Err(Error::runtime(format!("a window of {text} is longer than 90d")));
        }
        if micros > self.window_max.load(Ordering::Relaxed) {
            return Err(Error::runtime(format!(
                "a window of {text} was not announced; add history = {text:?} to the script"
            )));
        }
        Ok(window)
    }
}

/// `None` if the filter's value is missing: it matches nothing.
fn filter<'a>(by: Option<&'a str>, value: Option<&'a str>) -> Result<Option<Filter<'a>>> {
    let Some(by) = by else { return Ok(Some(Filter::All)) };
    let dimension = dimension(by)?;
    Ok(value.map(|value| match dimension {
        Dimension::Rail => Filter::Rail(value),
        Dimension::Payee => Filter::Payee(value),
        Dimension::Task => Filter::Task(value),
    }))
}

fn dimension(name: &str) -> Result<Dimension> {
    match name {
        "rail" => Ok(Dimension::Rail),
        "payee" => Ok(Dimension::Payee),
        "task" => Ok(Dimension::Task),
        other => Err(Error::runtime(format!("{other:?} is not one of \"rail\", \"payee\", \"task\""))),
    }
}

/// The fields of a signal that are numbers; any other name is looked for among the signal's facts.
pub(crate) const SIGNAL_NUMBERS: &[&str] = &["evidence", "probability", "ratio", "usual", "value"];

/// A number of a signal; zero when its detector says nothing, `None` for a fact that it does not have.
pub(crate) fn signal_number(signal: Option<&Signal>, field: &str) -> Option<f64> {
    let Some(signal) = signal else { return SIGNAL_NUMBERS.contains(&field).then_some(0.0) };
    match field {
        "value" => Some(signal.value),
        "usual" => Some(signal.usual),
        "ratio" => Some(signal.ratio()),
        "probability" => Some(signal.probability),
        "evidence" => Some(signal.evidence),
        fact => signal.fact(fact),
    }
}

fn signal(lua: &Lua, shared: &Arc<Shared>, name: &str) -> Result<Table> {
    let kind = SignalKind::from_name(name);
    let cx = Arc::clone(shared);
    object(lua, lua.create_table()?, move |lua, key| {
        look(|case| {
            let signal = case.signal(&kind);
            match key {
                "firing" => {
                    Ok(Value::Boolean(signal.is_some_and(|signal| signal.verdict == Verdict::Firing)))
                }
                "verdict" => text(lua, signal.map(|signal| verdict_name(signal.verdict))),
                "since" => Ok(signal.and_then(|signal| signal.since).map_or(Value::Nil, time)),
                "excess" => usd(signal.map_or(Usd::ZERO, |signal| signal.excess), &cx.arena),
                "about" => text(lua, signal.and_then(|signal| signal.about.as_deref())),
                number => Ok(signal_number(signal, number).map_or(Value::Nil, Value::Number)),
            }
        })
    })
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Learning => "learning",
        Verdict::Usual => "usual",
        Verdict::Raised => "raised",
        Verdict::Firing => "firing",
    }
}
