//! Reloading under load changes nothing but what was edited: the alerts of a run with random edits, good and broken, are
//! those of a run in which the same generations were in force at the same journal positions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use railwatch_tests::{Daemon, Gate, GateOptions, Home, Random, now, until};
use serde_json::{Value, json};

use crate::gate::source;
use crate::totals::{counted, wait_counted};

const EDITS: u64 = 40;
const PER_EDIT: u64 = 25;
const AGENTS: u64 = 6;

/// What is edited, and who pays meanwhile.
struct World<'a> {
    home: &'a Home,
    gate: &'a Gate,
    random: Random,
    n_sent: u64,
    cents: BTreeMap<String, (u64, u64)>,
    /// Where the rule `large` is.
    large: &'static str,
    budget: u64,
}

impl World<'_> {
    /// Payments that nobody waits for.
    fn pay(&mut self) {
        let mut lines = Vec::new();
        for _ in 0..PER_EDIT {
            self.n_sent += 1;
            let agent = format!("agent_{}", self.random.below(AGENTS));
            let cents = 1 + self.random.below(3_000);
            let sum = self.cents.entry(agent.clone()).or_default();
            *sum = (sum.0 + 1, sum.1 + cents);
            let amount = dollars(cents);
            let (seq, payee) = (self.n_sent, format!("shop_{}", self.random.below(9)));
            lines.push(
                json!({ "seq": seq, "id": format!("e-{seq}"), "agent_id": agent, "amount_usd": amount, "payee": payee, "ts": now() })
                    .to_string(),
            );
        }
        self.gate.send(lines);
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.home.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        let to = self.home.path(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.home.path(from), to).unwrap();
    }

    fn configure(&self, extra: &str) {
        let budget = self.budget;
        self.home.configure(&format!(
            "{}\n[rules]\npaths = [\"scripts/rules\"]\n[[agents]]\nid = \"agent_0\"\nbudget = \"${budget} / day\"\n{extra}",
            source(self.gate)
        ));
    }

    /// One edit that may mean something; true if it is broken.
    fn edit(&mut self) -> bool {
        let (dollars, times) = (5 + self.random.below(24), 2 + self.random.below(9));
        let kind = self.random.below(10);
        match kind {
            0 => self.script(self.large, &large(dollars)),
            1 => self.script("scripts/rules/often.lua", &often(times)),
            2 => self.script("scripts/rules/more/mean.lua", &mean(dollars)),
            3 if self.home.path("scripts/rules/often.lua").exists() => {
                drop(fs::remove_file(self.home.path("scripts/rules/often.lua")))
            }
            4 => self.move_large(),
            5 => {
                self.budget = 10 + self.random.below(500);
                self.configure("");
            }
            6 => self.script("scripts/rules/often.lua", "return rule { id = \"often\", when = function("),
            7 => self.script(
                "scripts/rules/often.lua",
                &often(3).replace("expect = quiet", "expect = firing(\"a1\")"),
            ),
            8 => self.configure("[[agents]]\nid = \"agent_1\"\nbugdet = \"$1 / day\"\n"),
            // Half of a set, then the rest.
            _ => {
                let whole = large(dollars);
                self.script(self.large, whole.split_at(whole.len() / 2).0);
                self.configure("[alerts]\nclear_after = \"2m");
                self.script(self.large, &whole);
                self.configure("");
            }
        }
        (6..=8).contains(&kind)
    }

    /// The broken files are mended.
    fn mend(&self) {
        self.script("scripts/rules/often.lua", &often(4));
        self.configure("");
    }

    fn move_large(&mut self) {
        let to = if self.large.contains("more") {
            "scripts/rules/large.lua"
        } else {
            "scripts/rules/more/large.lua"
        };
        self.rename(self.large, to);
        self.large = to;
    }

    /// One edit that means nothing.
    fn edit_nothing(&mut self) {
        let path = self.home.path(self.large);
        let text = fs::read_to_string(&path).unwrap();
        match self.random.below(5) {
            0 => fs::write(&path, &text).unwrap(),
            1 => fs::write(&path, format!("{text}-- a remark\n")).unwrap(),
            2 => self.move_large(),
            3 => {
                self.script("fresh", &text);
                self.rename("fresh", self.large);
            }
            _ => self.configure("# a remark\n"),
        }
    }
}

/// Cents as railwatch writes dollars.
fn dollars(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn rule(id: &str, when: &str) -> String {
    format!(
        "return rule {{\n  id = \"{id}\", severity = \"high\", clear_after = \"1s\",\n  when = function(p, a, state)\n    \
         state.seen = (state.seen or 0) + 1\n    return {when}\n  end,\n  why = function(p, a, state) return `{{a.id}} \
         {{p.usd}} {{state.seen}}` end,\n  tests = {{ {{ \"quiet\", feed = spend(\"a1\", usd(\"0.01\")), expect = quiet }} }},\n}}\n"
    )
}

fn large(dollars: u64) -> String {
    rule("large", &format!("p.usd > usd({dollars})"))
}

fn often(times: u64) -> String {
    rule("often", &format!("a:count(\"10m\", \"payee\", p.payee) > {times}"))
}

fn mean(dollars: u64) -> String {
    rule("mean", &format!("a:count(\"10m\") > 3 and a:spent(\"10m\") > usd({dollars}) * a:count(\"10m\")"))
}

fn start<'a>(home: &'a Home, gate: &'a Gate, seed: u64) -> World<'a> {
    let random = Random::new(seed);
    let large_at = "scripts/rules/large.lua";
    let world = World { home, gate, random, n_sent: 0, cents: BTreeMap::new(), large: large_at, budget: 100 };
    world.script(large_at, &large(20));
    world.configure("");
    world
}

/// What every run must hold, whatever was edited: every payment counted once, one connection, no script left behind.
fn check(world: &World<'_>, daemon: &Daemon<'_>) {
    wait_counted(daemon, world.n_sent);
    let expected: Vec<_> =
        world.cents.iter().map(|(agent, (n, cents))| (agent.clone(), *n, dollars(*cents))).collect();
    assert_eq!(counted(world.home), expected, "every payment is counted once");
    assert_eq!(world.gate.n_connections(), 1, "the gate's connection is kept");
}

/// The alerts that the daemon recorded, and those of replays, by id.
fn alerts(home: &Home, args: &[&str]) -> BTreeMap<String, Value> {
    let documents = home.run(args).documents().into_iter().filter(|document| document.get("id").is_some());
    documents.map(|alert| (alert["id"].as_str().unwrap().to_owned(), alert)).collect()
}

fn recorded(home: &Home) -> BTreeMap<String, Value> {
    alerts(home, &["alerts", "list", "--all", "--limit", "100000", "--json"])
}

/// What does not depend on how often an open alert was written.
fn core(alerts: &BTreeMap<String, Value>, keys: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let row = |alert: &Value| keys.iter().map(|key| alert[*key].clone()).collect();
    alerts.iter().map(|(id, alert)| (id.clone(), row(alert))).collect()
}

const MEANING: [&str; 7] = ["subject", "trigger", "onset_at", "opened_at", "opened_seq", "severity", "state"];

fn store(home: &Home) -> String {
    let path: &Path = &home.path("railwatch.db");
    path.to_str().unwrap().to_owned()
}

fn equals_its_generations(seed: u64) {
    let gate = Gate::start(GateOptions { per_frame: 4, drop_after: 0 });
    let home = Home::new("");
    let mut world = start(&home, &gate, seed);
    let daemon = home.start();
    for n in 0..EDITS {
        world.pay();
        let is_broken = world.edit();
        world.pay();
        // Some edits are taken when somebody says so, the others when they are seen.
        if n % 2 == 0 || is_broken {
            let outcome = home.run(&["reload"]);
            assert_eq!(outcome.code, if is_broken { 3 } else { 0 }, "{outcome:?}");
        }
        if is_broken {
            world.mend();
        }
    }
    world.mend();
    assert_eq!(home.run(&["reload", "--wait"]).code, 0);
    world.pay();
    check(&world, &daemon);
    let generations = daemon.metric("railwatch_config_generation");
    assert!(generations > 8, "{generations} generations");
    assert!(daemon.metric("railwatch_reloads_failed_total") > 0);
    assert_eq!(daemon.metric("railwatch_reload_failing"), 0);
    assert_eq!(daemon.stop(), 0);

    let live = recorded(&home);
    let triggers: std::collections::BTreeSet<String> =
        live.values().map(|alert| alert["trigger"].to_string()).collect();
    assert!(live.len() > 9 && triggers.len() >= 3, "{} alerts of {triggers:?}", live.len());
    let path = store(&home);
    let replayed = alerts(&home, &["replay", &path, "--json"]);
    let keys = [&MEANING[..], &["generation"]].concat();
    assert_eq!(core(&live, &keys), core(&replayed, &keys));
    let history = home.run(&["config", "history", "--limit", "1000", "--json"]).documents();
    assert_eq!(history.iter().filter(|line| line["generation"].is_u64()).count() as u64, generations);
    assert!(
        history.iter().any(|line| line["error"].as_str().is_some_and(|error| error.contains("often.lua:")))
    );
    assert!(history.iter().any(|line| line["error"].as_str().is_some_and(|error| error.contains("bugdet"))));
}

#[test]
fn a_run_with_random_edits_equals_one_with_the_same_generations() {
    equals_its_generations(0x5eed_0031);
    equals_its_generations(0x5eed_0032);
}

#[test]
fn edits_that_mean_nothing_change_nothing() {
    let gate = Gate::start(GateOptions { per_frame: 4, drop_after: 0 });
    let home = Home::new("");
    let mut world = start(&home, &gate, 0x5eed_0033);
    world.script("scripts/rules/often.lua", &often(4));
    let daemon = home.start();
    for _ in 0..EDITS {
        world.pay();
        world.edit_nothing();
    }
    world.configure("");
    until("the last edit is in force", 30, || (home.run(&["reload"]).code == 0).then_some(()));
    world.pay();
    check(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
    let (live, path) = (recorded(&home), store(&home));
    assert!(live.len() > 9, "{}", live.len());
    let without = alerts(&home, &["replay", &path, "--current", "--json"]);
    assert_eq!(core(&live, &MEANING), core(&without, &MEANING));
}
