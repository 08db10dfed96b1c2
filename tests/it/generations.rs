//! What was in force and what is: history, differences, going back, what runs in shadow, scripts that fail.

use std::fs;

use railwatch_tests::{Answer, Daemon, Gate, GateOptions, Home, HttpPeer, answers, now, until};
use serde_json::{Value, json};

use crate::gate::source;

fn payment(seq: u64, amount: &str) -> String {
    json!({ "seq": seq, "id": format!("g-{seq}"), "agent_id": "spender", "amount_usd": amount, "ts": now() })
        .to_string()
}

fn rule(id: &str, extra: &str, dollars: u64) -> String {
    format!(
        "return rule {{ id = \"{id}\", {extra}\n  when = function(p, a) return p.usd > usd({dollars}) end,\n  why = \
         function(p, a) return `{{a.id}} paid {{p.usd}}` end,\n  tests = {{ {{ \"small\", feed = spend(\"a1\", usd(1)), \
         expect = quiet }} }},\n}}\n"
    )
}

fn write_rule(home: &Home, name: &str, text: &str) {
    fs::create_dir_all(home.path("scripts/rules")).unwrap();
    fs::write(home.path(&format!("scripts/rules/{name}.lua")), text).unwrap();
}

fn with_rules(gate: &Gate, extra: &str) -> String {
    format!("{}\n[rules]\npaths = [\"scripts/rules\"]\n{extra}", source(gate))
}

fn alerts(home: &Home) -> Vec<Value> {
    home.run(&["alerts", "list", "--all", "--json"]).documents()
}

fn wait_generation(daemon: &Daemon<'_>, number: u64) {
    until(&format!("generation {number}"), 30, || {
        (daemon.metric("railwatch_config_generation") == number).then_some(())
    });
}

#[test]
fn a_rollback_puts_a_recorded_generation_in_force_until_the_files_change() {
    let gate = Gate::start(GateOptions::default());
    let home = Home::new("");
    write_rule(&home, "large", &rule("large", "", 10));
    home.configure(&with_rules(&gate, ""));
    let daemon = home.start();
    let missing = home.run(&["rollback"]);
    assert!(missing.code == 1 && missing.stderr.contains("no earlier generation"), "{missing:?}");
    write_rule(&home, "large", &rule("large", "", 1_000));
    wait_generation(&daemon, 2);
    let same = home.run(&["diff"]);
    assert!(same.code == 0 && same.stdout.contains("are the same"), "{same:?}");
    let between = home.run(&["diff", "1", "2"]);
    assert!(between.stdout.contains("-  when = function(p, a) return p.usd > usd(10) end,"), "{between:?}");
    assert!(between.stdout.contains("+++ generation 2: scripts/rules/large.lua"), "{between:?}");

    let rolled = home.run(&["rollback", "--json"]).documents();
    assert_eq!((&rolled[0]["generation"], &rolled[0]["content_of"]), (&json!(3), &json!(1)), "{rolled:?}");
    gate.send([payment(1, "20.00")]);
    until("the old rule fires", 30, || (alerts(&home).len() == 1).then_some(()));
    // Saving the same text again does not undo it; saying so does.
    write_rule(&home, "large", &rule("large", "", 1_000));
    assert!(home.run(&["diff"]).stdout.contains("+  when = function(p, a) return p.usd > usd(1000) end,"));
    assert_eq!(daemon.metric("railwatch_config_generation"), 3);
    assert_eq!(home.run(&["reload", "--json"]).documents()[0]["generation"], 4);
    let unknown = home.run(&["rollback", "77"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("there is no generation 77"), "{unknown:?}");
    let history = home.run(&["config", "history", "--json"]).documents();
    let numbers: Vec<&Value> = history.iter().map(|line| &line["generation"]).collect();
    assert_eq!(numbers, [&Value::Null, &json!(4), &json!(3), &json!(2), &json!(1)], "{history:?}");
    assert_eq!(history[2]["digest"], history[4]["digest"]);
    assert_eq!(gate.n_connections(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_runs_in_shadow_is_recorded_and_told_to_nobody() {
    let gate = Gate::start(GateOptions::default());
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    write_rule(&home, "large", &rule("large", "shadow = true, clear_after = \"1s\",", 10));
    write_rule(&home, "huge", &rule("huge", "", 400));
    home.write(
        "eager.lua",
        "return score { name = \"eager\", inputs = { \"payment.usd\" }, parts = { \"size\" },\n  formula = \
         function(usd) return math.min(usd / 100, 1) end,\n  tests = { { \"small\", payment = usd(1), expect = 0.01 } },\n}\n",
    );
    let sink = format!("[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n");
    home.configure(&with_rules(&gate, &format!("[score]\nshadow = \"eager.lua\"\n{sink}")));
    let daemon = home.start();
    gate.send([payment(1, "5.00"), payment(2, "50.00"), payment(3, "90.00"), payment(4, "500.00")]);
    daemon.wait_applied(4);
    until("slack hears of the rule that is not in shadow", 30, || {
        slack.requests().iter().any(|request| request.body.contains("500.00")).then_some(())
    });
    assert!(
        !slack.requests().iter().any(|request| request.body.contains("50.00 ")),
        "the shadow told somebody"
    );
    let report = home.run(&["shadow", "report", "--json"]).documents();
    let of = |rule: &str| {
        report.iter().find(|line| line["rule"] == rule).unwrap_or_else(|| panic!("{rule}: {report:?}"))
    };
    assert_eq!(
        (of("large")["firings"].as_u64(), &of("large")["subjects"]),
        (Some(1), &json!(["agent:spender"]))
    );
    assert!(of("score-eager")["last_why"].as_str().unwrap().contains("the score in force does not"));
    assert!(home.run(&["shadow", "report", "large"]).stdout.contains("spender paid $50.00"));
    assert!(alerts(&home).iter().all(|alert| !alert["trigger"].to_string().contains("large")));
    assert_eq!(daemon.metric("railwatch_shadow_firings_total"), 2);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_rotated_secret_is_taken_and_nothing_else_starts_again() {
    let gate = Gate::start(GateOptions::default());
    let (old, new) = (
        HttpPeer::start(answers(Vec::new(), Answer::status(200))),
        HttpPeer::start(answers(Vec::new(), Answer::status(200))),
    );
    let home = Home::new("");
    write_rule(&home, "large", &rule("large", "clear_after = \"1s\",", 10));
    let secret = home.write("slack.url", old.url("/services/T/B/old"));
    let sink = format!("[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n");
    home.configure(&with_rules(&gate, &sink));
    let daemon = home.start();
    home.write("slack.url", new.url("/services/T/B/new"));
    // Either this takes it, or it was seen before.
    assert_eq!(home.run(&["reload"]).code, 0);
    let history = home.run(&["config", "history", "--json"]).documents();
    let second = history.iter().find(|attempt| attempt["generation"] == 2).unwrap();
    assert_eq!(second["edges"]["sinks_started"], json!(["oncall"]), "{history:?}");
    assert_eq!(second["edges"]["sources_started"], json!([]), "{history:?}");
    gate.send([payment(1, "50.00")]);
    until("the new address is told", 30, || (!new.requests().is_empty()).then_some(()));
    assert!(old.requests().is_empty());
    assert_eq!(gate.n_connections(), 1);
    assert_eq!(home.run(&["reload", "--json"]).documents()[0]["changed"], false);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_edited_decoder_is_taken_and_a_failing_script_is_seen() {
    let home = Home::new("");
    let decoder = |divisor: u64| {
        format!(
            "return rail {{\n  name = \"acme\",\n  decode = function(msg)\n    local b = msg.json\n    return {{ id = b.id, \
             at = msg.received_at, agent = b.who, amount = money(b.cents // {divisor}, \"USD\") }}\n  end,\n  tests = {{ {{ \
             \"one\", input = '{{\"id\":\"1\",\"who\":\"a\",\"cents\":100}}', expect = {{ amount = \"{} USD\" }} }} }},\n}}\n",
            if divisor == 1 { "1.00" } else { "0.10" }
        )
    };
    fs::create_dir_all(home.path("scripts/rails")).unwrap();
    home.write("scripts/rails/acme.lua", decoder(1));
    write_rule(&home, "broken", &rule("broken", "", 1));
    home.configure(
        "[rules]\npaths = [\"scripts/rules\"]\n[sources.acme]\nplugin = \"webhook\"\npath = \"/in/acme\"\ndecode = \
         \"scripts/rails/acme.lua\"\nverify = \"none-accept-forged-events\"\n",
    );
    let daemon = home.start();
    daemon.wait_source("acme", "live");
    let post = |id: u64| {
        let body = json!({ "id": id.to_string(), "who": "spender", "cents": 1_000 }).to_string();
        daemon.post("/in/acme", &[("content-type", "application/json")], body.as_bytes()).unwrap().status
    };
    assert_eq!(post(1), 200);
    daemon.wait_applied(1);
    home.write("scripts/rails/acme.lua", decoder(10));
    wait_generation(&daemon, 2);
    // Reloads come one after the other: this one ends when the one before has taken its place at the edges too.
    assert_eq!(home.run(&["reload"]).code, 0);
    daemon.wait_source("acme", "live");
    (2..40).for_each(|id| assert_eq!(post(id), 200));
    daemon.wait_applied(39);
    let agents = home.run(&["agents", "--json"]).documents();
    assert_eq!(agents[0]["spent_usd"], "48.00", "{agents:?}");
    let scripts = home.run(&["scripts", "--json"]).documents();
    let find = |name: &str| scripts.iter().find(|script| script["name"] == name).unwrap();
    assert_eq!((&find("acme")["health"], &find("acme")["calls"]), (&json!("ok"), &json!(38)));
    assert_eq!(find("acme")["errors"], 0);
    assert_eq!(find("broken")["health"], "ok");
    home.write(
        "scripts/rules/broken.lua",
        rule("broken", "", 1).replace(
            "return p.usd",
            "if p.at:hour() >= 0 and a.id == \"spender\" then error(\"oh\") end return p.usd",
        ),
    );
    wait_generation(&daemon, 3);
    (40..80).for_each(|id| assert_eq!(post(id), 200));
    daemon.wait_applied(79);
    assert_eq!(daemon.metric("railwatch_scripts_quarantined"), 1);
    let evaluated = home.run(&["scripts"]);
    assert!(evaluated.stdout.contains("quarantined"), "{evaluated:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_quarantine_is_told_and_ends_with_an_edit_of_its_script_only() {
    let gate = Gate::start(GateOptions::default());
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    let broken = rule("broken", "", 1)
        .replace("return p.usd", "if a.id == \"spender\" then error(\"oh\") end return p.usd");
    write_rule(&home, "broken", &broken);
    write_rule(&home, "noted", &rule("noted", "", 1_000).replace("(p, a)", "(p, a, state)"));
    let sink = format!("[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n");
    home.configure(&with_rules(&gate, &sink));
    let daemon = home.start();
    gate.send((1..=30).map(|seq| payment(seq, "2.00")));
    daemon.wait_applied(30);
    until("people are told of the script", 30, || {
        let told =
            |request: &railwatch_tests::Request| request.body.contains("rules/broken.lua keeps failing");
        slack.requests().iter().any(told).then_some(())
    });
    let script = |name: &str| {
        let scripts = home.run(&["scripts", "--json"]).documents();
        scripts.into_iter().find(|script| script["name"] == name).unwrap()
    };
    let before = script("broken");
    assert_eq!((&before["health"], &before["errors"]), (&json!("quarantined"), &json!(20)), "{before}");
    assert_eq!(script("noted")["calls"], 30);

    // Something else changes.
    write_rule(&home, "other", &rule("other", "", 2_000));
    wait_generation(&daemon, 2);
    gate.send([payment(31, "2.00")]);
    daemon.wait_applied(31);
    assert_eq!(script("broken"), before, "as it was");
    assert_eq!((&script("noted")["calls"], &script("other")["calls"]), (&json!(31), &json!(1)));

    write_rule(&home, "broken", &rule("broken", "", 1_000));
    wait_generation(&daemon, 3);
    gate.send([payment(32, "2.00")]);
    daemon.wait_applied(32);
    let edited = script("broken");
    assert_eq!(
        (&edited["health"], &edited["calls"], &edited["errors"]),
        (&json!("ok"), &json!(1), &json!(0))
    );
    until("its alert is over", 30, || {
        let is_over = |alert: &Value| {
            alert["trigger"].to_string().contains("script_quarantined") && alert["state"] == "resolved"
        };
        alerts(&home).iter().any(is_over).then_some(())
    });
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn longer_windows_of_new_rules_begin_filled() {
    let gate = Gate::start(GateOptions::default());
    let home = Home::new(&source(&gate));
    let daemon = home.start();
    let ago = |seq: u64, amount: &str, secs: i64| {
        let at = now().before(std::time::Duration::from_secs(secs.unsigned_abs()));
        json!({ "seq": seq, "id": format!("g-{seq}"), "agent_id": "spender", "amount_usd": amount, "ts": at })
            .to_string()
    };
    gate.send([ago(1, "5.00", 36_000), ago(2, "30.00", 5_400)]);
    daemon.wait_applied(2);
    let window = |id: &str, window: &str, dollars: u64| {
        rule(id, "", dollars)
            .replace("p.usd > usd", &format!("a:spent(\"{window}\") > usd"))
            .replace("{p.usd}", &format!("{{a:spent(\"{window}\")}}"))
    };
    let told = |what: &str| {
        until(what, 30, || alerts(&home).iter().any(|alert| alert["summary"] == what).then_some(()));
    };
    // No rule asked for history before: what was paid is known nevertheless.
    write_rule(&home, "hours", &window("hours", "2h", 30));
    home.configure(&with_rules(&gate, ""));
    wait_generation(&daemon, 2);
    gate.send([ago(3, "1.00", 0)]);
    told("spender paid $31.00");
    // And now for longer.
    write_rule(&home, "day", &window("day", "24h", 36));
    wait_generation(&daemon, 3);
    gate.send([ago(4, "1.00", 0)]);
    told("spender paid $37.00");
    // A replay fills them at the same place, and a power cut takes nothing away.
    let replayed = home.run(&["replay", "railwatch.db", "--json"]);
    assert!(replayed.code == 0 && replayed.stdout.contains("spender paid $37.00"), "{replayed:?}");
    daemon.kill();
    let daemon = home.start();
    write_rule(&home, "again", &window("again", "24h", 37));
    wait_generation(&daemon, 5);
    gate.send([ago(5, "1.00", 0)]);
    told("spender paid $38.00");
    assert_eq!(daemon.stop(), 0);
}
