//! The corpus of hostile scripts in `tests/hostile`: each file is the body of a condition, and says in its second line
//! how its call must end: `stopped` by a limit, with an `error` of its own, or as if nothing had happened (`false`).

use std::path::Path;
use std::time::Duration;

use railwatch_model::{AgentId, Asset, Money, Payment, Subject, Timestamp};
use railwatch_plugin::detector::Profile;
use railwatch_plugin::rules::{RuleSet, RuleState};
use railwatch_plugin::score::{Case, Signals};

use crate::status::Health;
use crate::{Files, Limits, LuaRules, Scripts, sim};

/// The corpus: name, expected outcome, rule.
fn corpus() -> Vec<(String, String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let body = std::fs::read_to_string(path).unwrap();
        let outcome = body.lines().nth(1).unwrap().strip_prefix("-- outcome: ").unwrap().to_owned();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), outcome, guarded("hostile", &body))
    };
    files.iter().map(read).collect()
}

/// A rule whose own tests never reach `body`: it wakes when a payment comes over the rail `live`.
fn guarded(id: &str, body: &str) -> String {
    format!(
        "local function attack(p, a, state)\n{body}\nend\nreturn rule {{ id = \"{id}\", \
         when = function(p, a, state) if p.rail == \"live\" then return attack(p, a, state) end return false end, \
         tests = {{ {{ \"quiet\", feed = spend(\"a1\", usd(1)), expect = quiet }} }} }}"
    )
}

/// Calls are stopped by what they do, not by how fast this machine is.
fn limits() -> Limits {
    Limits {
        deadline: Duration::from_secs(60),
        tests_deadline: Duration::from_secs(600),
        ..Limits::default()
    }
}

fn load(hostile: &str) -> (LuaRules, crate::StatusHandle) {
    let innocent = guarded("innocent", "return a:spent(\"10m\") >= usd(0)");
    let files = Files::from([("a.lua".into(), hostile.to_owned()), ("b.lua".into(), innocent)]);
    let scripts = Scripts::load(&files, &limits()).unwrap();
    let status = scripts.status_handle();
    (scripts.into_rule_set(), status)
}

fn live(rules: &mut LuaRules, states: &mut [RuleState]) -> Vec<usize> {
    let at = Timestamp::from_secs(1_767_268_800);
    let mut payment = Payment::settle("live", "p-1", Money::new(100, Asset::usd()), at);
    payment.payee = Some("shop".into());
    let subject = Subject::Agent(AgentId::new("a1").unwrap());
    let (profile, history) = (Profile::default(), sim::History::default());
    let case = Case {
        now: at,
        at,
        subject: &subject,
        payment: Some(&payment),
        signals: Signals::known(&[]),
        score: 0.0,
        profile: &profile,
        history: &history,
    };
    let mut firings = Vec::new();
    rules.evaluate(&case, states, &mut firings);
    firings.iter().map(|firing| firing.rule).collect()
}

#[test]
fn every_hostile_script_is_contained_and_hurts_nobody_else() {
    let corpus = corpus();
    assert!(corpus.len() >= 25);
    let mut wrong = Vec::new();
    for (name, outcome, source) in corpus {
        let (mut rules, status) = load(&source);
        let mut states = vec![RuleState::from([("kept".into(), "# 1".into())]), RuleState::new()];
        let started = crate::system_monotonic();
        let fired = live(&mut rules, &mut states);
        let took = crate::system_monotonic() - started;
        println!("{name:<22} {took:?}");
        if fired != [1] {
            wrong.push(format!("{name}: the other rule must fire, and only it: {fired:?}"));
        }
        let status = &status.status()[0];
        let found = match status.last_errors.first() {
            None => "false",
            Some(error) if error.message.starts_with("stopped") => "stopped",
            Some(_) => "error",
        };
        if found != outcome {
            wrong
                .push(format!("{name}: expected {outcome}, found {found}: {:?}", status.last_errors.first()));
        }
        for error in &status.last_errors {
            assert!(error.message.len() <= 500 && !error.message.contains('\n'), "{name}: {}", error.message);
            assert_eq!(error.payment.as_deref(), Some("live/p-1"), "{name}");
        }
        assert_eq!(states[0].len(), 1, "{name}: the notes of a failed call are taken back");
        let memory_bytes = rules.memory_bytes();
        assert!(
            memory_bytes.iter().all(|bytes| *bytes <= limits().memory_bytes_max),
            "{name}: {memory_bytes:?}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_script_that_keeps_failing_is_quarantined_and_seen() {
    let (mut rules, status) = load(&guarded("hostile", "while true do end"));
    let mut states = vec![RuleState::new(), RuleState::new()];
    for _ in 0..25 {
        assert_eq!(live(&mut rules, &mut states), [1]);
    }
    let status = status.status();
    assert_eq!(status[0].health, Health::Quarantined);
    assert_eq!((status[0].errors, status[0].calls), (20, 20));
    assert_eq!(status[0].last_errors.len(), 10);
    assert_eq!(status[1].health, Health::Ok);
}

#[test]
fn memory_that_a_script_keeps_is_its_own() {
    let hoard = "local kept = {}\n".to_owned()
        + &guarded("hostile", "for i = 1, 20 do kept[#kept + 1] = table.create(10000, 0) end return false");
    let (mut rules, status) = load(&hoard);
    let mut states = vec![RuleState::new(), RuleState::new()];
    for _ in 0..10 {
        assert_eq!(live(&mut rules, &mut states), [1]);
    }
    let status = status.status();
    assert!(status[0].last_errors[0].message.contains("memory limit"), "{:?}", status[0].last_errors);
    assert_eq!(status[1].errors, 0);
}

/// A clock that moves a millisecond at every look.
fn hasty() -> Duration {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MILLIS: AtomicU64 = AtomicU64::new(0);
    Duration::from_millis(MILLIS.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn the_wall_deadline_stops_what_the_steps_would_not() {
    let limits =
        Limits { steps_max: u32::MAX, monotonic: hasty, tests_deadline: Duration::MAX, ..Limits::default() };
    let files = Files::from([("a.lua".into(), guarded("hostile", "while true do pcall(error) end"))]);
    let scripts = Scripts::load(&files, &limits).unwrap();
    let status = scripts.status_handle();
    live(&mut scripts.into_rule_set(), &mut [RuleState::new()]);
    assert_eq!(status.status()[0].last_errors[0].message, "stopped: ran longer than 50ms");
}

#[test]
fn a_hostile_file_does_not_load() {
    for body in
        ["while true do end", "local t = {} while true do t[#t + 1] = table.create(1000, 0) end", "return 7"]
    {
        let files = Files::from([("a.lua".into(), body.to_owned())]);
        let errors = Scripts::load(&files, &limits()).unwrap_err();
        assert_eq!((errors.len(), errors[0].file.as_str()), (1, "a.lua"), "{errors:?}");
    }
}
