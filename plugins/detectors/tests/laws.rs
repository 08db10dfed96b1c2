//! Laws of the detectors, through the public list: what must hold for any stream, and what the four signals say about
//! streams that people would recognise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::*;
use railwatch_detectors::DETECTORS;
use railwatch_detectors::anomaly_score::scorer;
use railwatch_model::{
    AgentId, Asset, Money, Payment, Rate, Signal, SignalKind, SmolStr, Subject, Timestamp, Usd, Valuation,
    Verdict,
};
use railwatch_plugin::column::{Column, Look, Row};
use railwatch_plugin::detector::{Announcement, Booking, Budget, Observation, Period, Profile, Usual};
use railwatch_plugin::explain::explain;
use railwatch_plugin::history::{Dimension, Filter, HistoryView};
use railwatch_plugin::score::{Case, Signals};

/// 2026-03-02, a Monday.
const START: i64 = 1_772_409_600;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// One subject with all detectors; plays the engine's part.
struct Rig {
    columns: Vec<Box<dyn Column>>,
    subject: Subject,
    profile: Profile,
    usual: Usual,
    clock: Timestamp,
    wake_at: Timestamp,
    random: u64,
}

/// One payment.
#[derive(Debug, Clone)]
struct Pay {
    secs: i64,
    nanos: i64,
    payee: &'static str,
    rail: &'static str,
    purchases: i32,
}

fn pay(secs: i64, cents: i64) -> Pay {
    Pay { secs, nanos: cents * 10_000_000, payee: "p1", rail: "x402", purchases: 1 }
}

impl Rig {
    fn new() -> Self {
        let mut columns: Vec<_> =
            DETECTORS.iter().map(|plugin| (plugin.build)(&toml::Table::new()).unwrap()).collect();
        for column in &mut columns {
            column.reset(0);
        }
        Self {
            columns,
            subject: Subject::Agent(AgentId::new("a1").unwrap()),
            profile: Profile::default(),
            usual: Usual::default(),
            clock: Timestamp::EPOCH,
            wake_at: Timestamp::MAX,
            random: 1,
        }
    }

    fn observe(&mut self, pay: &Pay) {
        self.observe_at(pay, pay.secs);
    }

    fn observe_at(&mut self, pay: &Pay, now_secs: i64) {
        let now = Timestamp::from_secs(now_secs);
        let at = Timestamp::from_secs(pay.secs).min(now.after(Duration::from_secs(300)));
        let late = at < self.clock.before(Duration::from_secs(120));
        self.clock = self.clock.max(at);
        let usd = Usd::from_nanos(pay.nanos);
        let mut payment = Payment::settle(pay.rail, "id", Money::new(0, Asset::usd()), at);
        payment.payee = Some(pay.payee.into());
        payment.valuation = Some(Valuation { usd, rate: Rate::peg() });
        let booking =
            Booking { committed: usd, settled: usd, purchases: pay.purchases, ..Booking::default() };
        let seen = Observation { payment: &payment, booking, at, late };
        self.each(now, |column, row| column.observe(row, &seen));
    }

    fn tick(&mut self, now_secs: i64) {
        self.each(Timestamp::from_secs(now_secs), |column, row| column.tick(row));
    }

    fn each(&mut self, now: Timestamp, mut visit: impl FnMut(&mut dyn Column, Row<'_>)) {
        for column in &mut self.columns {
            let row = Row {
                slot: 0,
                now,
                clock: self.clock,
                subject: &self.subject,
                profile: &self.profile,
                usual: &mut self.usual,
                wake_at: &mut self.wake_at,
            };
            visit(column.as_mut(), row);
        }
    }

    fn signals(&self, now_secs: i64) -> Vec<Signal> {
        let mut signals = Vec::new();
        let now = Timestamp::from_secs(now_secs);
        for column in &self.columns {
            let look = Look { now, subject: &self.subject, profile: &self.profile, usual: &self.usual };
            column.signals(0, look, &mut signals);
        }
        signals
    }

    /// Asserts that a detector that says it is quiet gives no signal that fires or has a probability.
    fn assert_quiet_is_true(&self, now_secs: i64) {
        let now = Timestamp::from_secs(now_secs);
        let look = Look { now, subject: &self.subject, profile: &self.profile, usual: &self.usual };
        for column in self.columns.iter().filter(|column| column.quiet(0, look)) {
            let mut signals = Vec::new();
            column.signals(0, look, &mut signals);
            let says = |signal: &&Signal| signal.verdict == Verdict::Firing || signal.probability > 0.0;
            assert_eq!(signals.iter().find(says), None, "{} is quiet", column.name());
        }
    }

    fn signal(&self, now_secs: i64, kind: &SignalKind) -> Option<Signal> {
        self.signals(now_secs).into_iter().find(|signal| signal.kind == *kind)
    }

    fn firing(&self, now_secs: i64) -> Vec<SignalKind> {
        let signals = self.signals(now_secs).into_iter();
        signals.filter(|signal| signal.verdict == Verdict::Firing).map(|signal| signal.kind).collect()
    }

    fn save(&self) -> Vec<Vec<u8>> {
        let mut saved = vec![Vec::new(); self.columns.len()];
        self.columns.iter().zip(&mut saved).for_each(|(column, bytes)| column.save(0, bytes));
        saved
    }

    /// A number below `n`, the same ones in every run.
    fn below(&mut self, n: i64) -> i64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(self.random >> 33).unwrap() % n
    }

    /// `days` of a payment about every ten minutes, a dollar or so each; returns the second after.
    fn live(&mut self, from: i64, days: i64, scale: i64) -> i64 {
        let mut secs = from;
        while secs < from + days * DAY {
            let cents = 50 + self.below(100);
            let mut pay = pay(secs, cents);
            pay.nanos *= scale;
            pay.payee = ["p1", "p2", "p3"][usize::try_from(self.below(3)).unwrap()];
            self.observe(&pay);
            assert_eq!(self.firing(secs), [], "at {}", Timestamp::from_secs(secs));
            secs += 1 + self.below(1200);
        }
        from + days * DAY
    }
}

struct NoHistory;

impl HistoryView for NoHistory {
    fn spent(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::ZERO
    }
    fn count(&self, _: Duration, _: Filter<'_>) -> u64 {
        0
    }
    fn distinct(&self, _: Duration, _: Dimension) -> u64 {
        0
    }
    fn largest(&self, _: Duration, _: Filter<'_>) -> Usd {
        Usd::ZERO
    }
    fn declined(&self, _: Duration) -> u64 {
        0
    }
    fn first_seen_at(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    fn previous_at(&self) -> Option<Timestamp> {
        None
    }
    fn is_new(&self, _: Dimension, _: &str) -> bool {
        false
    }
    fn by_rail(&self) -> Vec<(SmolStr, Usd)> {
        Vec::new()
    }
}

/// The score of a rig's signals, by both scorers; contributions must add up.
fn scores(rig: &Rig, now_secs: i64) -> [f64; 2] {
    let signals = rig.signals(now_secs);
    ["probability", "founding"].map(|name| {
        let now = Timestamp::from_secs(now_secs);
        let case = Case {
            now,
            at: now,
            subject: &rig.subject,
            payment: None,
            signals: Signals::known(&signals),
            score: 0.0,
            profile: &rig.profile,
            history: &NoHistory,
        };
        let score = scorer(name).unwrap().score(&case).unwrap();
        let sum: f64 = score.contributions.iter().map(|part| part.points).sum();
        assert_eq!(score.value, sum, "{name}");
        assert!((0.0..=1.0).contains(&score.value), "{name} {}", score.value);
        score.value
    })
}

#[test]
fn every_example_is_a_table_of_its_detector_and_mistakes_are_explained() {
    for plugin in DETECTORS {
        let config: toml::Table = toml::from_str(plugin.example).unwrap();
        let table = config["detectors"][plugin.name].as_table().unwrap();
        assert_eq!((plugin.build)(table).unwrap().name(), plugin.name);
        let wrong = toml::from_str("treshold = 1").unwrap();
        assert!((plugin.build)(&wrong).unwrap_err().to_string().contains("treshold"), "{}", plugin.name);
    }
    for (name, wrong) in [
        ("velocity", "ratio = 0.5"),
        ("velocity", "window = \"5s\""),
        ("rail_shift", "share = \"20%\""),
        ("drift", "evidence = { open = 3.0, close = 5.0 }"),
    ] {
        let plugin = DETECTORS.iter().find(|plugin| plugin.name == name).unwrap();
        assert!((plugin.build)(&toml::from_str(wrong).unwrap()).is_err(), "{wrong}");
    }
}

#[test]
fn a_spike_of_forty_times_fires_within_minutes_and_reaches_review_alone() {
    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    let fired = (0..600).map(|n| end + n * 15).find(|secs| {
        rig.observe(&pay(*secs, 100));
        rig.firing(*secs).contains(&SignalKind::Velocity)
    });
    let fired = fired.expect("a spike of forty times fires");
    assert!(fired - end <= 300, "after {} s", fired - end);
    let signal = rig.signal(fired, &SignalKind::Velocity).unwrap();
    assert!(signal.ratio() >= 3.0, "{signal:?}");
    let text = explain(&signal, &rig.subject, Timestamp::from_secs(fired));
    assert!(text.contains("its usual") && text.contains("Monday 00:00 (2 weeks known)"), "{text}");
    (0..40).for_each(|n| rig.observe(&pay(fired + n * 15, 100)));
    let [probability, founding] = scores(&rig, fired + 600);
    assert!(probability > 0.7, "{probability}");
    assert!((0.39..=0.41).contains(&founding), "the founding formula gives a spike alone 0.4: {founding}");
}

#[test]
fn a_new_agent_is_learned_before_anything_fires() {
    let mut rig = Rig::new();
    for n in 0..200 {
        rig.observe(&pay(START + n, 100));
        let signal = rig.signal(START + n, &SignalKind::Velocity).unwrap();
        assert_eq!(signal.verdict, Verdict::Learning);
    }
    assert!(scores(&rig, START + 200)[0] < 0.7);
}

#[test]
fn an_expected_velocity_is_used_until_enough_is_learned() {
    let mut rig = Rig::new();
    rig.profile.seed_usd_per_hour = Some(8.0);
    for n in 0..120 {
        rig.observe(&pay(START + n * 10, 100));
    }
    assert_eq!(rig.firing(START + 1200), [SignalKind::Velocity], "$360/h against $8/h");
    let mut rig = Rig::new();
    rig.profile.seed_usd_per_hour = Some(400.0);
    for n in 0..120 {
        rig.observe(&pay(START + n * 10, 100));
    }
    assert_eq!(rig.firing(START + 1200), []);
}

#[test]
fn a_week_of_silence_does_not_make_the_first_payment_an_incident() {
    for silence in [2, 7, 40, 400] {
        let mut rig = Rig::new();
        let end = rig.live(START, 14, 1) + silence * DAY;
        for n in 0..4 {
            rig.observe(&pay(end + n * 600, 100));
            assert_eq!(rig.firing(end + n * 600), [], "after {silence} days");
        }
    }
}

#[test]
fn an_outage_that_is_flushed_at_once_is_no_incident() {
    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    let held = 3 * HOUR / 600;
    // Newest first: all but the first are late.
    for n in (0..held).rev() {
        rig.observe_at(&pay(end + n * 600, 100), end + 3 * HOUR);
        assert_eq!(rig.firing(end + 3 * HOUR), []);
    }
}

#[test]
fn an_incident_of_hours_is_not_its_own_excuse() {
    let mut rig = Rig::new();
    let end = rig.live(START, 21, 1);
    let mut usual = Vec::new();
    for secs in (end..end + 4 * HOUR).step_by(30) {
        rig.observe(&pay(secs, 100));
        usual.push(rig.signal(secs, &SignalKind::Velocity).unwrap().usual);
        if secs > end + HOUR {
            assert!(rig.firing(secs).contains(&SignalKind::Velocity), "at {}", Timestamp::from_secs(secs));
        }
    }
    let (first, last) = (usual[0], usual[usual.len() - 1]);
    assert!(last < 1.5 * first, "what is usual rose from {first} to {last} dollars per hour");
}

#[test]
fn evidence_fades_in_silence() {
    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    (0..60).for_each(|n| rig.observe(&pay(end + n * 10, 100)));
    assert!(rig.firing(end + 600).contains(&SignalKind::Velocity));
    assert!(rig.wake_at <= Timestamp::from_secs(end + 2 * HOUR), "it wants to be looked at again");
    rig.tick(end + DAY);
    let signal = rig.signal(end + DAY, &SignalKind::Velocity).unwrap();
    assert_eq!((signal.verdict, signal.value), (Verdict::Usual, 0.0));
}

#[test]
fn a_rail_that_takes_over_fires_unless_it_was_announced() {
    for announced in [false, true] {
        let mut rig = Rig::new();
        let end = rig.live(START, 14, 1);
        if announced {
            rig.profile.announcements.push(Announcement {
                from: Timestamp::from_secs(end),
                until: Timestamp::from_secs(end + 9 * DAY),
                kinds: vec![SignalKind::RailShift, SignalKind::NewPayee],
                rails: vec!["stripe".into()],
                reason: "migration".to_owned(),
            });
        }
        for n in 0..36 {
            rig.observe(&Pay { rail: "stripe", ..pay(end + n * 600, 100) });
        }
        let signal = rig.signal(end + 35 * 600, &SignalKind::RailShift).unwrap();
        assert_eq!(signal.verdict == Verdict::Firing, !announced, "{signal:?}");
        assert!(announced || signal.about.as_deref() == Some("stripe"));
        assert_eq!(signal.value, 1.0);
        assert_eq!(signal.fact("dominant"), Some(1.0));
    }
}

#[test]
fn a_budget_that_will_not_last_is_said_days_before() {
    let budget = |dollars: i64| Budget {
        name: "monthly".into(),
        amount: Usd::from_cents(dollars * 100),
        period: Period::Month,
        tz: Tz::UTC,
    };
    // About $144 a day: $4,500 for the month.
    for (dollars, fires) in [(9_000, false), (2_500, true)] {
        let mut rig = Rig::new();
        rig.profile.budgets.push(budget(dollars));
        let mut fired = None;
        for n in 0..144 * 10 {
            let secs = START + n * 600;
            rig.observe(&pay(secs, 100));
            if fired.is_none() && rig.firing(secs).contains(&SignalKind::Budget) {
                fired = Some((secs - START) / DAY);
            }
        }
        assert_eq!(fired.is_some(), fires, "${dollars}");
        let signal = rig.signal(START + 10 * DAY, &SignalKind::Budget).unwrap();
        assert!(fired.is_none_or(|day| day <= 5), "on day {fired:?}");
        let used = signal.fact("percent_used").unwrap();
        assert!((used - 1440.0 / dollars as f64 * 100.0).abs() < 0.5, "{used}");
    }
}

#[test]
fn an_overdrawn_budget_is_certain_even_for_a_new_agent() {
    let mut rig = Rig::new();
    rig.profile.budgets.push(Budget {
        name: "daily".into(),
        amount: Usd::from_cents(500),
        period: Period::Day,
        tz: Tz::UTC,
    });
    for n in 0..6 {
        assert_eq!(rig.firing(START + n * 60), [], "payment {n}");
        rig.observe(&pay(START + n * 60, 90));
    }
    assert_eq!(rig.firing(START + 360), [SignalKind::Budget]);
    rig.observe(&pay(START + DAY, 90));
    assert_eq!(rig.firing(START + DAY), [], "a new day");
}

#[test]
fn theft_is_a_large_payment_to_an_unknown_payee_over_an_unknown_rail() {
    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    rig.observe(&Pay { rail: "l402", payee: "drain", ..pay(end, 900) });
    rig.observe(&Pay { rail: "l402", payee: "drain", ..pay(end + 1200, 900) });
    assert!(rig.firing(end + 1200).contains(&SignalKind::NewPayee));
}

#[test]
fn a_price_that_jumps_and_a_payment_made_twice_fire() {
    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    for n in 0..8 {
        rig.observe(&pay(end + n * 700, 1_000));
    }
    assert!(rig.firing(end + 8 * 700).contains(&SignalKind::Price));

    let mut rig = Rig::new();
    let end = rig.live(START, 14, 1);
    for n in 0..40 {
        rig.observe(&pay(end + n * 600, 70 + n));
        rig.observe(&pay(end + n * 600 + 2, 70 + n));
    }
    assert!(rig.firing(end + 40 * 600).contains(&SignalKind::Duplicate));
}

#[test]
fn reports_that_move_no_money_change_nothing() {
    let mut rig = Rig::new();
    let end = rig.live(START, 3, 1);
    let before = (rig.save(), rig.signals(end));
    rig.observe(&Pay { purchases: 0, ..pay(end, 0) });
    assert_eq!((rig.save(), rig.signals(end)), before);
}

#[test]
fn a_retraction_removes_its_effect() {
    let mut rig = Rig::new();
    let end = rig.live(START, 7, 1);
    rig.observe(&pay(end, 100));
    let before = rig.signal(end, &SignalKind::Velocity).unwrap();
    let large = Pay { nanos: 5_000_000_000, ..pay(end, 0) };
    (0..50).for_each(|_| rig.observe(&large));
    assert!(rig.firing(end).contains(&SignalKind::Velocity));
    (0..50).for_each(|_| rig.observe(&Pay { nanos: -5_000_000_000, purchases: -1, ..pay(end, 0) }));
    let after = rig.signal(end, &SignalKind::Velocity).unwrap();
    assert!((after.value - before.value).abs() < 0.01, "{} {}", after.value, before.value);
    assert!(after.evidence <= before.evidence + 0.5, "{} {}", after.evidence, before.evidence);
}

#[test]
fn evidence_does_not_depend_on_the_currency() {
    let run = |scale| {
        let mut rig = Rig::new();
        let end = rig.live(START, 7, scale);
        (0..40).for_each(|n| rig.observe(&Pay { nanos: 700_000_000 * scale, ..pay(end + n * 120, 0) }));
        rig.signal(end + 4800, &SignalKind::Velocity).unwrap()
    };
    let (dollars, other) = (run(1), run(1024));
    assert!((dollars.evidence - other.evidence).abs() < 0.02 * dollars.evidence, "{dollars:?} {other:?}");
    assert!((dollars.value * 1024.0 - other.value).abs() < 1e-3 * other.value);
}

#[test]
fn a_year_of_an_agent_fits_into_two_kibibytes() {
    let mut rig = Rig::new();
    for (n, payee) in (0..365 * 24).zip(["p1", "p2", "p3", "p4"].into_iter().cycle()) {
        rig.observe(&Pay { payee, ..pay(START + n * HOUR, 100) });
    }
    let bytes: usize = rig.save().iter().map(Vec::len).sum();
    assert!(bytes <= 2048, "{bytes}");
}

fn any_pay() -> impl Strategy<Value = (i64, i64, Pay)> {
    let gap = prop_oneof![0..600_i64, 0..30 * DAY, -2 * DAY..0, Just(4000 * DAY)];
    let nanos = prop_oneof![0..10_000_000_000_i64, Just(0), any::<i64>()];
    let purchases = prop_oneof![Just(1), Just(0), Just(-1)];
    let rail = prop_oneof![Just("x402"), Just("stripe"), Just("l402")];
    let payee = prop_oneof![Just("p1"), Just("p2"), Just("")];
    (gap, 0..DAY, nanos, purchases, rail, payee).prop_map(|(gap, delay, nanos, purchases, rail, payee)| {
        (gap, delay, Pay { secs: 0, nanos, payee, rail, purchases })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_input_makes_a_number_infinite_or_a_state_unreadable(
        known in any::<bool>(),
        pays in prop::collection::vec(any_pay(), 1..40),
    ) {
        let mut rig = Rig::new();
        rig.profile.seed_usd_per_hour = Some(1e-300);
        for period in [Period::Hour, Period::Week] {
            let amount = Usd::from_cents(1_000);
            rig.profile.budgets.push(Budget { name: format!("{period:?}").into(), amount, period, tz: Tz::UTC });
        }
        let mut secs = START;
        if known {
            (0..300).for_each(|n| rig.observe(&pay(START + n * 700, 100 + n % 7)));
            secs += 300 * 700;
        }
        for (gap, delay, pay) in pays {
            secs = (secs + gap).max(0);
            rig.observe_at(&Pay { secs, ..pay }, secs.saturating_add(delay));
            rig.assert_quiet_is_true(secs);
            for signal in rig.signals(secs) {
                for number in [signal.value, signal.usual, signal.evidence, signal.probability] {
                    prop_assert!(number.is_finite(), "{signal:?}");
                }
                prop_assert!(signal.facts.iter().all(|(_, fact)| fact.is_finite()), "{signal:?}");
                prop_assert!((0.0..=1.0).contains(&signal.probability), "{signal:?}");
                prop_assert!(signal.evidence >= 0.0, "{signal:?}");
                explain(&signal, &rig.subject, Timestamp::from_secs(secs));
            }
            scores(&rig, secs);
            rig.tick(secs.saturating_add(delay));
        }
        let saved = rig.save();
        for (column, bytes) in rig.columns.iter_mut().zip(&saved) {
            column.reset(0);
            column.load(0, bytes).unwrap();
        }
        prop_assert_eq!(rig.save(), saved);
    }

    #[test]
    fn arrival_order_within_the_allowed_lateness_hardly_matters(seed in 0..1000_usize) {
        let run = |order: Vec<i64>| {
            let mut rig = Rig::new();
            let end = rig.live(START, 4, 1);
            for offset in order {
                rig.observe_at(&pay(end + offset, 100), end + 110);
            }
            let velocity = rig.signal(end + 110, &SignalKind::Velocity).unwrap();
            (velocity.value, velocity.evidence)
        };
        let offsets: Vec<i64> = (0..22).map(|n| n * 5).collect();
        let mut shuffled = offsets.clone();
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, (seed * 31 + index * 17) % (index + 1));
        }
        let (in_order, out_of_order) = (run(offsets), run(shuffled));
        prop_assert!((in_order.0 - out_of_order.0).abs() < 1e-5 * in_order.0, "{in_order:?} {out_of_order:?}");
        // Time is charged up to the newest payment; what the floor at zero makes of that is the difference.
        prop_assert!((in_order.1 - out_of_order.1).abs() < 3.0, "{:?} {:?}", in_order, out_of_order);
    }
}
