//! The tree and the machine say the same.

use std::path::Path;

use proptest::prelude::*;
use railwatch_model::{
    AgentId, AgentVia, Asset, Kind, Money, Payment, Rate, SmolStr, Subject, Unit, Usd, Valuation,
};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::history::HistoryView;
use railwatch_plugin::score::{Scorer as _, Signals};

use super::*;
use crate::{Files, Limits, LuaRules, Scripts, read_dir};

/// A history that answers with what it was given.
#[derive(Debug, Clone)]
struct Given {
    cents: [i64; 3],
    counts: [u64; 3],
    is_new: bool,
    since: Option<i64>,
}

impl HistoryView for Given {
    fn spent(&self, window: Duration, filter: Filter<'_>) -> Usd {
        let all = Usd::from_cents(self.cents[0] + i64::try_from(window.as_secs() % 7).unwrap());
        if filter == Filter::All { all } else { Usd::from_cents(self.cents[1]) }
    }
    fn count(&self, _: Duration, filter: Filter<'_>) -> u64 {
        if filter == Filter::All { self.counts[0] } else { self.counts[1] }
    }
    fn distinct(&self, _: Duration, _: Dimension) -> u64 {
        self.counts[2]
    }
    fn largest(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::from_cents(self.cents[2])
    }
    fn declined(&self, _: Duration) -> u64 {
        self.counts[1]
    }
    fn first_seen_at(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }
    fn previous_at(&self) -> Option<Timestamp> {
        self.since.map(Timestamp::from_secs)
    }
    fn is_new(&self, _: Dimension, _: &str) -> bool {
        self.is_new
    }
    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        Vec::new()
    }
}

/// Conditions with every construct of the small part, besides those of the rules that ship.
const CONDITIONS: &[&str] = &[
    "return p.usd >= usd(5) and p.usd < usd(\"12.50\") or p.kind == \"declined\"",
    "return not (p.payee == nil) and p.payee ~= \"shop\" and a:is_new(\"payee\", p.payee)",
    "return a:spent(\"1h\") * 2 > a:largest(\"1h\", \"rail\", p.rail) + usd(1) - usd(\"0.10\")",
    "return a:count(\"10m\", \"payee\", p.payee) / 2 + 1 >= a:distinct(\"24h\", \"task\") * -1 + 3",
    "return a.previous_at ~= nil and p.at - a.previous_at > duration(\"1h\") and p.at:weekday() <= 5",
    "return a.velocity.ratio > 2 and not a.velocity.firing or a.score > 0.5 or a.budget.probability >= 0.25",
    "local share = a:spent(\"1h\", \"payee\", p.payee) / a:spent(\"1h\") if p.task == nil then return share > 0.5 end return share > 0.9",
    "return math.max(a:count(\"1h\"), a:declined(\"1h\"), 3) > 7 and math.min(1, 2) == 1",
    "if p.at:hour() < 6 then return true end return a.unmapped",
    "return (if p.task == \"t\" then 1 else 2) == 1",
    "return a:spent(\"1h\") > 5",
    "return p.usd",
    "return p.status == \"confirmed\" and p.direction == \"spend\" and p.via == \"explicit\" and p.parent == nil",
    "return p.usd:is_multiple_of(usd(5)) and not p.usd:is_multiple_of(usd(0)) or string.sub(p.rail, 1, 4) == \"x402\"",
    "local n, last = state.n, state.at state.n, state.at, state.text = (n or 0) + 0.5, p.at, p.payee return last == nil or n > 3",
    "state.usd = p.usd state.usd, state.flag = state.usd + usd(1), state.flag ~= true return state.usd > usd(12)",
    "state.text = \"a text that is longer than what is kept in place, and even longer\" return state.text == nil",
    "state.n = nil return state.n ~= nil",
    "local k = state.text or 1 state.text = p.task return k == p.task",
];

fn rules() -> LuaRules {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rules");
    let mut files = read_dir(&dir, &Limits::default()).unwrap();
    for (n, body) in CONDITIONS.iter().enumerate() {
        let text = format!(
            "return rule {{ id = \"c{n}\", history = \"24h\",\n  when = function(p, a, state) {body} end,\n  tests = {{ {{ \"none\", feed = {{}}, \
             expect = quiet }} }} }}"
        );
        files.insert(format!("c{n}.lua"), text);
    }
    let scripts = Scripts::load(&files, &Limits::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
    scripts.into_rule_set()
}

#[derive(Debug, Clone)]
struct World {
    payment: Option<Payment>,
    signals: Vec<Signal>,
    given: Given,
    score: f64,
    at: i64,
}

fn worlds() -> impl Strategy<Value = World> {
    let cents = prop::array::uniform3(prop_oneof![0_i64..3_000, Just(10_000), Just(2_500)]);
    let counts = prop::array::uniform3(prop_oneof![0_u64..15, 150_u64..400]);
    let names = (prop::option::of("shop|eve"), prop::option::of("t|u"), "x402|stripe");
    let kind = prop_oneof![Just(Kind::Settle), Just(Kind::Declined), Just(Kind::Refund)];
    let payment = prop::option::weighted(0.9, (0_i64..4_000, names, kind));
    let number = prop_oneof![Just(0.0), 0.0..1.2, 0.0..9.0];
    let signals = prop::collection::vec((0_usize..3, number.clone(), number, any::<bool>()), 0..4);
    let history = (cents, counts, any::<bool>(), prop::option::of(1_760_000_000_i64..1_767_268_800));
    (payment, signals, history, 0.0..1.0, 1_767_225_600_i64..1_767_830_400).prop_map(
        |(payment, signals, (cents, counts, is_new, since), score, at)| World {
            payment: payment.map(|(cents, (payee, task, rail), kind)| {
                let time = Timestamp::from_secs(at);
                let mut payment = Payment::settle(rail, "p-1", Money::new(cents.into(), Asset::usd()), time);
                payment.kind = kind;
                payment.payee = payee.map(SmolStr::from);
                payment.task = task.map(SmolStr::from);
                payment.agent_via = Some(AgentVia::Explicit);
                payment.valuation = Some(Valuation { usd: Usd::from_cents(cents), rate: Rate::peg() });
                payment
            }),
            signals: signals
                .into_iter()
                .map(|(kind, value, probability, firing)| {
                    let kind =
                        [SignalKind::Velocity, SignalKind::Budget, SignalKind::RailShift][kind].clone();
                    let mut signal = Signal::usual(kind, Unit::Probability);
                    (signal.value, signal.usual, signal.probability) =
                        (value, 0.5, f64::min(probability, 1.0));
                    if firing {
                        signal.verdict = Verdict::Firing;
                    }
                    signal
                })
                .collect(),
            given: Given { cents, counts, is_new, since },
            score,
            at,
        },
    )
}

/// Notes as a rule may have left them, or somebody by hand.
fn notes() -> impl Strategy<Value = RuleState> {
    let key = "n|at|text|usd|flag|run|payee|last|via|source";
    let text = prop_oneof![
        (0_u32..12).prop_map(|n| format!("# {}", f64::from(n) / 2.0)),
        (0_i64..30).prop_map(|n| format!("$ {}", n * 500_000_000)),
        (0_i64..9).prop_map(|n| format!("@ {}", 1_767_225_600_000_000 + n * 60_000_000)),
        "\" (shop|eve|live|explicit|mapped)",
        Just("? true".to_owned()),
        Just("plain".to_owned()),
    ];
    prop::collection::btree_map(key.prop_map(SmolStr::from), text.prop_map(SmolStr::from), 0..6)
}

fn with_case<R>(world: &World, look: impl FnOnce(&Case<'_>) -> R) -> R {
    let (at, profile) = (Timestamp::from_secs(world.at), Profile::default());
    look(&Case {
        now: at,
        at,
        subject: &Subject::Agent(AgentId::new("a1").unwrap()),
        payment: world.payment.as_ref(),
        signals: Signals::known(&world.signals),
        score: world.score,
        profile: &profile,
        history: &world.given,
    })
}

thread_local! {
    /// Compiling takes a while.
    static RULES: LuaRules = rules();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_condition_holds_for_the_tree_where_it_holds_for_the_machine(world in worlds(), notes in notes()) {
        let answers = RULES.with(|rules| with_case(&world, |case| rules.both(case, &notes)));
        for both in answers {
            let Some(may_hold) = both.tree else { continue };
            let left = if may_hold { &notes } else { &both.by_machine };
            prop_assert_eq!(&both.by_tree, left, "{}", both.rule);
            // Where it is an error for the machine, the tree leaves it to it.
            let agrees = may_hold == both.machine || may_hold && both.is_error;
            prop_assert!(agrees, "{:?}", both);
        }
    }

    #[test]
    fn a_formula_is_the_same_number_for_number(world in worlds()) {
        for (file, text) in scores() {
            let files = Files::from([(file.clone(), text)]);
            let scripts = Scripts::load(&files, &Limits::default()).unwrap();
            let mut score = scripts.score(&file).unwrap();
            let mut machine = score.without_tree().unwrap_or_else(|| panic!("{file} has no tree"));
            let (native, machine) = with_case(&world, |case| (score.score(case), machine.score(case)));
            prop_assert_eq!(native, machine);
        }
    }
}

#[test]
fn what_is_zero_without_evidence_is_found_out_before_it_is_asked() {
    let ignores = |inputs: &str, formula: &str| {
        let text = format!(
            "return score {{ name = \"s\", inputs = {{ {inputs} }}, parts = {{ \"s\" }},\n  formula = function(a, b) {formula} end,\n  \
             tests = {{ {{ \"none\", signals = {{}}, expect = 0 }} }} }}"
        );
        let files = Files::from([("score.lua".to_owned(), text)]);
        let scripts = Scripts::load(&files, &Limits::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
        scripts.score("score.lua").unwrap().ignores_quiet()
    };
    let both = "\"velocity.probability\", \"velocity.ratio\"";
    assert!(ignores(both, "return a"));
    assert!(ignores(both, "return a * math.min(b / 5, 1)"));
    assert!(ignores(both, "if a > 0 then return b end return -math.log(1 - a)"));
    assert!(ignores("\"velocity.raised\", \"velocity.value\"", "return if a == 1 then b else 0"));
    assert!(!ignores(both, "return b / 100"), "the ratio of a quiet signal counts");
    assert!(!ignores(both, "return a * (b * b)"), "a product may overflow, and then be no number");
    assert!(!ignores(both, "return b / (a + 1) - b"));
    assert!(!ignores(both, "if b > 9 then return 1 end return 0"));
    assert!(!ignores(both, "local t = { a } return t[1]"), "not a formula of the small part");
    for (file, text) in scores() {
        let scripts = Scripts::load(&Files::from([(file.clone(), text)]), &Limits::default()).unwrap();
        assert!(scripts.score(&file).unwrap().ignores_quiet(), "{file}");
    }
}

fn scores() -> Files {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let mut files = read_dir(&dir, &Limits::default()).unwrap();
    files.retain(|file, _| file == "score.lua");
    files
}

#[test]
fn simple_rules_have_a_tree_and_others_have_none() {
    let world = World {
        payment: None,
        signals: Vec::new(),
        given: Given { cents: [0; 3], counts: [0; 3], is_new: false, since: None },
        score: 0.0,
        at: 1_767_225_600,
    };
    let answers = RULES.with(|rules| with_case(&world, |case| rules.both(case, &RuleState::new())));
    let without: Vec<SmolStr> =
        answers.into_iter().filter(|both| both.tree.is_none()).map(|both| both.rule).collect();
    assert!(without.is_empty(), "{without:?} have no tree");
    for text in [
        "when = function(p, a) return p[\"usd\"] end",
        "when = function(p, a) return p.usd > usd(p.id) end",
        "when = function(p, a) while true do end end",
        "when = function(p, a) return a:spent(p.rail) > usd(1) end",
        "when = function(p, a, state) return state[\"n\"] == 1 end",
        "when = function(p, a, state) state.n, state.n = 1, 2 return true end",
        "when = function(p, a, state) state.n, p.usd = 1, 2 return true end",
        "when = function(p, a, state) local s = state return s.n == 1 end",
        "when = function(p, a, state) return string.sub(p.rail, 2, 3) == \"4\" end",
        "when = function(p, a, state, more) return true end",
        "local usd = 5 when = function(p, a) return p.usd > usd(1) end",
        "when = function(p, a) return a:spent(\"91d\") > usd(1) end",
        "when = function(p, a) return \"a\\\"b\" == p.rail end",
        "when = function(p, a) return #p.rail > 3 end",
        "when = function(p, a) return p.usd .. \"\" == \"\" end",
    ] {
        assert!(condition(text, 1).is_none(), "{text}");
    }
}
