//! Freezes: a person's word or a policy's reaches the customer's gates, signed, across power cuts, and ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use railwatch_tests::{
    Answer, Home, HttpPeer, Request, SPENDER, Script, answers, first_alert, overspend, until,
};
use serde_json::{Value, json};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn gate() -> HttpPeer {
    HttpPeer::start(answers(Vec::new(), Answer::status(200)))
}

/// A home with one gate that is really asked; `rest` is the rest of its configuration.
fn home(gate: &HttpPeer, rest: &str) -> Home {
    let home = Home::new("");
    home.write("gate.key", SECRET);
    home.configure(&config(gate, rest));
    home
}

fn config(gate: &HttpPeer, rest: &str) -> String {
    let url = gate.url("/railwatch");
    format!(
        "{SPENDER}match = {{ \"stripe.card\" = [\"ic_1abc\"] }}\n\n[sinks.gate]\nplugin = \"gate\"\nurl = {url:?}\nsecrets = [{{ file = \"gate.key\" }}]\n\
         dry_run = false\ntimeout = \"30s\"\n\n{rest}"
    )
}

/// The events that a gate was asked, in order.
fn events(gate: &HttpPeer) -> Vec<String> {
    let event = |request: Request| request.json()["type"].as_str().unwrap_or_default().to_owned();
    gate.requests().into_iter().map(event).collect()
}

#[track_caller]
fn until_shown(home: &Home, what: &str) {
    until(&format!("the alert shows {what:?}"), 60, || {
        first_alert(home)["freeze"].as_str().is_some_and(|freeze| freeze.contains(what)).then_some(())
    });
}

#[test]
fn a_person_freezes_an_agent_and_the_alert_shows_what_the_gate_said() {
    let gate = gate();
    let home = home(&gate, "");
    let daemon = home.start();
    overspend(&daemon, "spender");
    first_alert(&home);
    let freeze = ["freeze", "spender", "--for", "1h", "--reason", "runs away", "--json"];
    let frozen = home.run(&freeze).documents();
    assert_eq!(frozen[0]["stage"], "frozen", "{frozen:?}");
    until_shown(&home, "gate: done");
    let again = home.run(&freeze);
    assert!(again.code == 1 && again.stderr.contains("frozen already until"), "{again:?}");
    assert_eq!(home.run(&["unfreeze", "spender"]).code, 0);
    until_shown(&home, "freeze ended by");
    until("the gate hears of both", 60, || (events(&gate).len() == 2).then_some(()));
    assert_eq!(events(&gate), ["agent.freeze", "agent.unfreeze"]);
    let data = &gate.requests()[0].json()["data"];
    assert_eq!((&data["agent"], &data["reason"]), (&json!("spender"), &json!("runs away")));
    assert_eq!(data["identities"], json!([{ "scheme": "stripe.card", "value": "ic_1abc" }]));
    until("the list shows the gate's words", 30, || {
        let listed = home.run(&["freezes"]).stdout;
        (listed.contains("ended by") && listed.contains("answered 200")).then_some(())
    });
    let unknown = home.run(&["freeze", "nobody", "--reason", "typo"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("there is no agent nobody"), "{unknown:?}");
    assert_eq!(daemon.stop(), 0);

    let mut library = Script::python("verify.py", &[]);
    let request = gate.requests().remove(0);
    let headers = request.headers.iter().filter(|(name, _)| name.starts_with("webhook-"));
    let headers: BTreeMap<&String, &String> = headers.map(|(name, value)| (name, value)).collect();
    library.say(&json!({ "secret": SECRET, "body": request.body, "headers": headers }));
    let said = until("the library's verdict", 30, || library.said().get(1).cloned());
    assert_eq!(said["accepted"], true, "{said}");
}

#[test]
fn a_policy_freezes_and_the_freeze_ends_by_itself_across_power_cuts() {
    let slow = Answer { delay: Duration::from_secs(20), ..Answer::status(200) };
    let gate = HttpPeer::start(answers(vec![slow], Answer::status(200)));
    let home = home(
        &gate,
        "[[freeze.policies]]\nname = \"runaway\"\nmatch = { kind = \"budget\" }\nfor = \"45s\"\napprovals = 0\n",
    );
    let daemon = home.start();
    overspend(&daemon, "spender");
    until("the gate is asked", 60, || (!gate.requests().is_empty()).then_some(()));
    daemon.kill();
    let daemon = home.start();
    until_shown(&home, "gate: done");
    daemon.kill();
    let daemon = home.start();
    until_shown(&home, "freeze ended by expiry; gate: done");
    assert_eq!(events(&gate), ["agent.freeze", "agent.freeze", "agent.unfreeze"]);
    let ids = gate
        .requests()
        .into_iter()
        .map(|request| request.headers.into_iter().find(|(name, _)| name == "webhook-id").map(|(_, id)| id));
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids[0], ids[1], "the repetition has the same name");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn two_people_agree_under_their_own_tokens() {
    let gate = gate();
    let home = home(&gate, "");
    let (mut tokens, mut rest) = (BTreeMap::new(), String::new());
    for name in ["ana", "ben"] {
        let made = home.run(&["token", name, "--role", "responder", "--json"]).documents().remove(0);
        let sha256 = made["sha256"].as_str().unwrap();
        rest += &format!("\n[[http.tokens]]\nname = {name:?}\nrole = \"responder\"\nsha256 = {sha256:?}\n");
        tokens.insert(name, made["token"].as_str().unwrap().to_owned());
    }
    home.configure(&config(&gate, &(rest + "\n[freeze]\napprovals = 2\n")));
    let daemon = home.start();
    let ask = |name: &str| {
        let bearer = format!("Bearer {}", tokens[name]);
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-railwatch-by", "somebody"),
            ("content-type", "application/json"),
        ];
        let answer =
            daemon.post("/v1/agents/spender/freeze", &headers, b"{\"reason\":\"runs away\"}").unwrap();
        let freeze: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, freeze["stage"].clone())
    };
    assert_eq!(ask("ana"), (200, json!("requested")));
    assert_eq!(ask("ana").0, 409, "one person is not two");
    assert!(events(&gate).is_empty());
    assert_eq!(ask("ben"), (200, json!("frozen")));
    until("the gate is asked", 60, || (events(&gate).len() == 1).then_some(()));
    assert_eq!(gate.requests()[0].json()["data"]["approved_by"], json!(["ana", "ben"]));
    assert_eq!(daemon.stop(), 0);
}
