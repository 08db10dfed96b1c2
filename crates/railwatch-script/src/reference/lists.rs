//! The names of the script API: how each is written, its Luau type, what it is.

/// One name of the API: how it is written, its Luau type, and what it is.
pub(super) struct Entry(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

/// A part of the page; `class` is the name of its type in the definition file.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) intro: &'static str,
    pub(super) class: &'static str,
    pub(super) entries: &'static [Entry],
}

pub(super) const RULE: &[Entry] = &[
    Entry(
        "id",
        "string",
        "The key of the rule's alerts and notes, across files and reloads: `a-z`, `0-9`, `-`.",
    ),
    Entry(
        "when",
        "(p: Payment, a: Agent, state: State) -> boolean?",
        "The condition. Called at every payment, and at ticks so that windows run out.",
    ),
    Entry(
        "why",
        "((p: Payment, a: Agent, state: State) -> string)?",
        "The explanation: one line, at most 500 bytes.",
    ),
    Entry("severity", "string?", "`info`, `low`, `medium` (the default), `high` or `critical`."),
    Entry("hold", "string?", "How long the condition must hold before people are told. Default: at once."),
    Entry("clear_after", "string?", "How long it must be false before the alert resolves. Default: `15m`."),
    Entry("group_by", "{ string }?", "`{ \"agent\" }` (the default), `{ \"team\" }` or `{ \"fleet\" }`."),
    Entry(
        "history",
        "string?",
        "The longest window that is asked for, if it is not written out in the script.",
    ),
    Entry(
        "shadow",
        "boolean?",
        "Runs and tells nobody; `railwatch shadow report` says what it would have told.",
    ),
    Entry("about", "string?", "One sentence for the list of rules."),
    Entry("tests", "{ Test }", "At least one."),
];

pub(super) const SCORE: &[Entry] = &[
    Entry("name", "string", "Its name."),
    Entry(
        "inputs",
        "{ string }",
        "The numbers that `formula` gets: `<signal>.<field>`, with the numbers of a signal, its facts, or `raised` (1 if it fires, or is raised and has a probability; else 0); or `payment.usd`. A probability is 0 while its detector learns.",
    ),
    Entry("parts", "{ string }", "The names of the numbers that `formula` returns."),
    Entry(
        "formula",
        "(...number) -> ...number",
        "Returns one number per part; the score is their sum, cut to 0…1.",
    ),
    Entry(
        "shadow",
        "boolean?",
        "Runs beside the score in force and decides nothing, as one named by `[score] shadow` does.",
    ),
    Entry("about", "string?", "One sentence."),
    Entry("tests", "{ Test }", "At least one."),
];

pub(super) const RAIL: &[Entry] = &[
    Entry("name", "string", "The rail of its payments, unless they name another."),
    Entry(
        "decode",
        "(msg: Message) -> (Decoded | { Decoded } | nil, string?)",
        "One payment, a list, or `nil` and the reason why it is none (counted as filtered). An error makes the message a reject.",
    ),
    Entry("about", "string?", "One sentence."),
    Entry("tests", "{ Test }", "At least one."),
];

pub(super) const PAYMENT: &[Entry] = &[
    Entry("at", "Time", "When it happened; on a tick, the time of the tick."),
    Entry("now", "Time", "The time of the journal."),
    Entry("usd", "Money", "Its value in dollars, zero while no price is known and on a tick."),
    Entry("amount", "Money?", "The amount in its own asset."),
    Entry(
        "kind",
        "string",
        "`settle`, `hold`, `release`, `refund`, `reversal`, `deposit`, `fee`, `dispute`, `declined`; `tick` when there is no payment, and then every field that may be nil is.",
    ),
    Entry("status", "string?", "`confirmed`, `seen` or `retracted`."),
    Entry("direction", "string?", "`spend`, `earn` or `ignore`."),
    Entry("rail", "string?", "The rail."),
    Entry("payee", "string?", "Who was paid."),
    Entry("task", "string?", "The task that it was for."),
    Entry("session", "string?", "The session of that task."),
    Entry("resource", "string?", "What was bought."),
    Entry("parent", "string?", "The payment that it belongs to."),
    Entry("id", "string?", "The rail's name of it."),
    Entry("source", "string?", "The configured source that reported it."),
    Entry("agent", "string?", "The agent."),
    Entry(
        "via",
        "string?",
        "How the agent was found: `explicit`, `mapped`, `linked`, `source_default`, `unmapped`.",
    ),
    Entry("label", "(self: Payment, key: string) -> string?", "A label of the payment."),
    Entry(
        "spender",
        "(self: Payment, scheme: string) -> string?",
        "An identity of the spender, such as `evm.address`.",
    ),
];

pub(super) const AGENT: &[Entry] = &[
    Entry("id", "string", "The agent, team or fleet."),
    Entry("team", "string?", "Its team."),
    Entry("score", "number", "The anomaly score."),
    Entry("unmapped", "boolean", "True for a wallet, card or account that no agent claims."),
    Entry("first_seen_at", "Time", "When it first spent."),
    Entry("previous_at", "Time?", "When it spent before the payment in hand."),
    Entry(
        "spent",
        "(self: Agent, window: string, by: string?, value: string?) -> Money",
        "Dollars of the last `window`, of all or `by` one `\"rail\"`, `\"payee\"` or `\"task\"`; a nil value matches nothing.",
    ),
    Entry(
        "count",
        "(self: Agent, window: string, by: string?, value: string?) -> number",
        "Payments of the last `window`.",
    ),
    Entry(
        "largest",
        "(self: Agent, window: string, by: string?, value: string?) -> Money",
        "The largest payment of the last `window`.",
    ),
    Entry(
        "distinct",
        "(self: Agent, window: string, of: string) -> number",
        "Different rails, payees or tasks.",
    ),
    Entry("declined", "(self: Agent, window: string) -> number", "Declined and failed attempts."),
    Entry(
        "is_new",
        "(self: Agent, of: string, value: string?) -> boolean",
        "True if this rail, payee or task was never seen before the payment in hand.",
    ),
    Entry("by_rail", "(self: Agent, rail: string?) -> Money", "Dollars spent over a rail in all."),
    Entry("label", "(self: Agent, key: string) -> string?", "A label of the agent."),
    Entry(
        "allowance",
        "(self: Agent, budget: string) -> Money?",
        "The amount of a budget, such as `monthly`.",
    ),
    Entry("signal", "(self: Agent, name: string) -> Signal", "A signal by its name."),
    Entry("velocity", "Signal", "Dollars per hour against the learned usual, which is the baseline."),
    Entry("rail_shift", "Signal", "One rail's share against its history."),
    Entry("budget", "Signal", "Budget use against what is left of the period."),
    Entry("review", "Signal", "The score passed the review threshold."),
    Entry("drift", "Signal", "Spend rises over days."),
    Entry("new_payee", "Signal", "Money goes to somebody new."),
    Entry("new_rail", "Signal", "Money goes over a new rail."),
    Entry("duplicate", "Signal", "One purchase is paid again and again."),
    Entry("price", "Signal", "A payee charges far more than before."),
    Entry("dormant", "Signal", "A quiet agent spends again."),
];

pub(super) const SIGNAL: &[Entry] = &[
    Entry("value", "number", "What is seen now; zero if the detector says nothing."),
    Entry("usual", "number", "What is usual, in the same unit."),
    Entry("ratio", "number", "`value / usual`."),
    Entry("probability", "number", "That this is a real incident."),
    Entry("evidence", "number", "Against chance, in nats."),
    Entry("firing", "boolean", "Above its own threshold."),
    Entry("verdict", "string?", "`learning`, `usual`, `raised` or `firing`."),
    Entry("since", "Time?", "When the run of evidence began."),
    Entry("excess", "Money", "Dollars beyond the usual since then."),
    Entry(
        "about",
        "string?",
        "The rail, payee or budget that it is about. Any other field is one of the signal's facts, a number or nil.",
    ),
];

pub(super) const MONEY: &[Entry] = &[
    Entry("asset", "(self: Money) -> string", "The code."),
    Entry(
        "dollars",
        "(self: Money) -> number",
        "Dollars as a number, for statistics; an error for any other asset.",
    ),
    Entry(
        "is_multiple_of",
        "(self: Money, unit: Money) -> boolean",
        "True if it is a whole number of `unit`.",
    ),
];

pub(super) const TIME: &[Entry] = &[
    Entry(
        "hour",
        "(self: Time, tz: string?) -> number",
        "0 to 23, in UTC or in a zone such as `Europe/Berlin`.",
    ),
    Entry("minute", "(self: Time, tz: string?) -> number", "0 to 59."),
    Entry("weekday", "(self: Time, tz: string?) -> number", "1 (Monday) to 7."),
    Entry("day", "(self: Time, tz: string?) -> number", "1 to 31."),
    Entry("month", "(self: Time, tz: string?) -> number", "1 to 12."),
    Entry("date", "(self: Time, tz: string?) -> string", "`2026-01-31`."),
    Entry("unix", "(self: Time) -> number", "Seconds since 1970."),
];

pub(super) const MESSAGE: &[Entry] = &[
    Entry(
        "json",
        "any",
        "The body, if it is JSON. `null` is nil; a number that a double cannot hold exactly is a text; values of secret fields (preimages, client secrets, keys) are `[redacted]`.",
    ),
    Entry("text", "string?", "The body, if it is not JSON."),
    Entry("json_error", "string?", "Why it is not JSON."),
    Entry(
        "headers",
        "{ [string]: string }",
        "HTTP headers by lower-case name, without credentials and signatures.",
    ),
    Entry("received_at", "Time", "When it arrived."),
];

pub(super) const DECODED: &[Entry] = &[
    Entry("id", "string | number", "The rail's own name, stable across retries."),
    Entry(
        "at",
        "Time | string | number",
        "RFC 3339, or seconds, milliseconds, microseconds, nanoseconds since 1970.",
    ),
    Entry("amount", "Money", "At least zero; the kind says the direction."),
    Entry("kind", "string?", "As in a payment; `settle` by default."),
    Entry("status", "string?", "`confirmed` by default."),
    Entry("direction", "string?", "`spend` by default."),
    Entry("agent", "string?", "The agent, from a trusted field."),
    Entry(
        "spender",
        "{ { string } }?",
        "Further identities, most trusted first: `{ { \"lnbits.wallet\", id } }`.",
    ),
    Entry("payee", "string?", "Who was paid."),
    Entry("resource", "string?", "What was bought."),
    Entry("task", "string?", "The task."),
    Entry("session", "string?", "The session."),
    Entry("parent", "string?", "The id of the payment that it belongs to."),
    Entry("rail", "string?", "The rail, if it is not the decoder's own."),
    Entry(
        "refs",
        "{ { string } }?",
        "Names that other rails give to the same purchase: `evm_tx`, `evm_auth`, `payment_hash`, `stripe_pi`, `stripe_charge`, `mpp_challenge`, `other`.",
    ),
    Entry("labels", "{ [string]: string }?", "Labels."),
    Entry("running_total", "boolean?", "True if the amount is the total so far."),
    Entry("revision", "number?", "For rails that undo and redo a payment."),
];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry("rule", "(spec: Rule) -> Rule", "Declares a rule. A file returns one, or a list."),
    Entry("score", "(spec: Score) -> Score", "Declares a score."),
    Entry("rail", "(spec: Rail) -> Rail", "Declares a decoder."),
    Entry("usd", "(dollars: number | string) -> Money", "`usd(50)`, `usd(\"0.25\")`."),
    Entry(
        "money",
        "(units: number | string, code: string, decimals: number?) -> Money",
        "Whole smallest units: `money(1234, \"USD\")` is $12.34; `sat` and `msat` are known.",
    ),
    Entry(
        "decimal",
        "(amount: number | string, code: string, decimals: number?) -> Money",
        "Units of speech: `decimal(\"12.34\", \"EUR\")`; never rounds.",
    ),
    Entry("time", "(at: string | number) -> Time", "A time from a text or a number."),
    Entry("duration", "(text: string) -> number", "Seconds: `duration(\"30d\")`."),
    Entry("fixture", "(name: string) -> string", "The text of `fixtures/<name>` beside the script."),
    Entry(
        "spend",
        "(agent: string, amount: Money, options: Feed?) -> Fed",
        "Payments for a test: `{ every, times, after, payee, rail, task, session, resource, source, via }`.",
    ),
    Entry("declined", "(agent: string, amount: Money, options: Feed?) -> Fed", "Declined attempts."),
    Entry("refund", "(agent: string, amount: Money, options: Feed?) -> Fed", "Refunds."),
    Entry(
        "firing",
        "(agent: string, at: string?) -> Expectation",
        "People are told at `+12m` after the clock; without a time, at any time.",
    ),
    Entry("resolved", "(agent: string, at: string) -> Expectation", "It was told and is over."),
    Entry("quiet_at", "(agent: string, at: string) -> Expectation", "Nobody is told at that time."),
    Entry("quiet", "Expectation", "Nobody is told of anybody, ever."),
    Entry("filtered", "Expectation", "A message that is no payment."),
    Entry("rejected", "Expectation", "A message that cannot be understood."),
];

pub(super) const TEST: &[Entry] = &[
    Entry("clock", "string?", "When the test begins; noon by default."),
    Entry("feed", "any", "`spend(…)`, `declined(…)`, `refund(…)` or a list of these."),
    Entry(
        "signals",
        "{ [string]: { [string]: any } }?",
        "What the detectors say: `{ velocity = { value = 340, usual = 8 } }`.",
    ),
    Entry("score", "number?", "The score."),
    Entry("team", "string?", "The agents' team."),
    Entry("labels", "{ [string]: string }?", "The agents' labels."),
    Entry("budgets", "{ [string]: Money }?", "The agents' budgets."),
    Entry("payment", "Money?", "For scores: the value of the payment."),
    Entry("input", "string?", "For rails: the message."),
    Entry(
        "expect",
        "any",
        "For rules: expectations. For scores: the score, or a table of parts. For rails: a payment, a list, `filtered` or `rejected`.",
    ),
];

pub(super) const PARTS: &[Part] = &[
    Part { title: "`rule { … }`", intro: "", class: "Rule", entries: RULE },
    Part { title: "`p`, the payment", intro: "", class: "Payment", entries: PAYMENT },
    Part {
        title: "`a`, the agent",
        intro: "Windows are texts such as `\"10m\"`, in event time, up to 90 days.",
        class: "Agent",
        entries: AGENT,
    },
    Part { title: "A signal, such as `a.velocity`", intro: "", class: "Signal", entries: SIGNAL },
    Part { title: "Functions", intro: "", class: "", entries: FUNCTIONS },
    Part {
        title: "Money",
        intro: "Exact, and never a number. `+`, `-` and comparisons need one asset on both sides, anything else is an error that names both; `*` needs a whole number; `/` of two amounts is a plain ratio.",
        class: "Money",
        entries: MONEY,
    },
    Part { title: "Time", intro: "`t - t` is seconds, `t + \"30m\"` a time.", class: "Time", entries: TIME },
    Part { title: "`score { … }`", intro: "", class: "Score", entries: SCORE },
    Part { title: "`rail { … }`", intro: "", class: "Rail", entries: RAIL },
    Part { title: "`msg`, the message", intro: "", class: "Message", entries: MESSAGE },
    Part { title: "What `decode` returns", intro: "", class: "Decoded", entries: DECODED },
    Part {
        title: "A test",
        intro: "A table that begins with its name: `{ \"fires after hold\", clock = …, feed = …, expect = … }`.",
        class: "Test",
        entries: TEST,
    },
];

/// What is left of the standard library.
pub(super) const LIBRARY: &[(&str, &[&str])] = &[
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse",
            "split", "sub", "upper",
        ],
    ),
    (
        "table",
        &[
            "clear", "clone", "concat", "create", "find", "freeze", "insert", "isfrozen", "pack", "remove",
            "sort", "unpack",
        ],
    ),
    (
        "math",
        &[
            "abs", "ceil", "clamp", "exp", "floor", "fmod", "huge", "log", "log10", "max", "min", "modf",
            "pi", "pow", "round", "sign", "sqrt", "tanh",
        ],
    ),
];
