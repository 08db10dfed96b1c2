//! People and their alerts: silences, labels, explanations, escalation, what railwatch says about itself.

use railwatch_tests::{Answer, Home, HttpPeer, answers, now, overspend, until};
use serde_json::{Value, json};

/// A home that takes forged webhooks and tells one Slack channel; `rest` is the rest of its configuration.
fn home(slack: &HttpPeer, rest: &str) -> Home {
    let home = Home::new("");
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    home.configure(&config(&secret, rest));
    home
}

fn config(secret: &std::path::Path, rest: &str) -> String {
    format!(
        "[sources.hook]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n\n\
         [sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\ntimeout = \"2s\"\n\n{rest}"
    )
}

fn slack() -> HttpPeer {
    HttpPeer::start(answers(Vec::new(), Answer::status(200)))
}

/// An agent that exceeds a tiny budget with its first payment.
fn agent(id: &str) -> String {
    format!("[[agents]]\nid = {id:?}\nbudget = \"$10 / day\"\n\n")
}

/// The messages' headlines so far.
fn heard(slack: &HttpPeer) -> Vec<String> {
    let text =
        |request: railwatch_tests::Request| request.json()["text"].as_str().unwrap_or_default().to_owned();
    slack.requests().into_iter().map(text).collect()
}

#[track_caller]
fn hear(slack: &HttpPeer, what: &str) {
    until(&format!("somebody hears {what:?}"), 60, || {
        heard(slack).iter().any(|text| text.contains(what)).then_some(())
    });
}

fn alerts(home: &Home, agent: &str) -> Vec<Value> {
    let all = home.run(&["alerts", "list", "--all", "--json"]).documents();
    all.into_iter().filter(|alert| alert["subject"]["agent"] == agent).collect()
}

fn alert_id(home: &Home, agent: &str) -> String {
    until(&format!("{agent} has an alert"), 60, || {
        alerts(home, agent).first().and_then(|alert| alert["id"].as_str().map(str::to_owned))
    })
}

#[test]
fn a_silence_is_previewed_made_listed_and_expired() {
    let slack = slack();
    let home = home(&slack, &(agent("quiet") + &agent("loud")));
    let daemon = home.start();
    let add = ["silence", "add", "agent=qui*", "--for", "1h", "--reason", "a load test", "--json"];
    let made = home.run(&add).documents();
    let silence = made[0]["id"].as_str().unwrap();
    overspend(&daemon, "quiet");
    overspend(&daemon, "loud");
    hear(&slack, "loud");
    let hidden = alert_id(&home, "quiet");
    assert!(!heard(&slack).iter().any(|text| text.contains("quiet")), "{:?}", heard(&slack));

    let preview = home.run(&[&add[..], &["--preview"]].concat()).documents();
    assert_eq!(preview[0]["open"][0]["id"], hidden.as_str(), "{preview:?}");
    assert!(preview[0]["last_week"].as_u64().unwrap() >= 1);
    let listed = home.run(&["silence", "list", "--json"]).documents();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(silence)), "a preview makes none");
    let shown = home.run(&["alerts", "list"]).stdout;
    assert!(shown.contains("(silenced)"), "{shown}");
    let explained = home.run(&["explain", &hidden]).stdout;
    assert!(explained.contains("a load test") && explained.contains("nobody"), "{explained}");

    assert_eq!(home.run(&["silence", "expire", silence]).code, 0);
    hear(&slack, "quiet");
    assert_eq!(home.run(&["silence", "list", "--json"]).documents(), [] as [Value; 0]);
    assert_eq!(home.run(&["silence", "expire", silence]).code, 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_silence_survives_a_power_cut() {
    let slack = slack();
    let home = home(&slack, &(agent("quiet") + &agent("loud")));
    let daemon = home.start();
    let made = home.run(&["silence", "add", "agent=quiet", "--reason", "r", "--json"]).documents();
    daemon.kill();
    let daemon = home.start();
    let listed = home.run(&["silence", "list", "--json"]).documents();
    assert_eq!(listed[0]["id"], made[0]["id"]);
    overspend(&daemon, "quiet");
    overspend(&daemon, "loud");
    hear(&slack, "loud");
    alert_id(&home, "quiet");
    assert!(!heard(&slack).iter().any(|text| text.contains("quiet")));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_silence_that_makes_no_sense_is_refused_with_a_reason() {
    let slack = slack();
    let home = home(&slack, "");
    let daemon = home.start();
    for (args, says) in [
        (&["--reason", "r"][..], "needs a condition"),
        (&["agent=a", "--reason", " "], "say why"),
        (&["agent=a", "--for", "400d", "--reason", "r"], "a year at most"),
        (&["colour=red", "--reason", "r"], "cannot be matched"),
        (&["--alert", "a-none", "--reason", "r"], "no alert a-none"),
    ] {
        let refused = home.run(&[&["silence", "add"], args].concat());
        assert!(refused.code == 1 && refused.stderr.contains(says), "{args:?}: {refused:?}");
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_alert_is_explained_labelled_and_counted() {
    let slack = slack();
    let home = home(&slack, &agent("spender"));
    let daemon = home.start();
    overspend(&daemon, "spender");
    hear(&slack, "spender");
    let alert = alert_id(&home, "spender");
    let queue = home.run(&["review", "list", "--json"]).documents();
    assert!(queue.iter().any(|waiting| waiting["id"] == alert.as_str()), "{queue:?}");
    let label = home.run(&["review", "label", &alert, "false-positive", "--note", "a sale"]);
    assert_eq!(label.code, 0, "{label:?}");
    let queue = home.run(&["review", "list", "--json"]).documents();
    assert!(queue.iter().all(|waiting| waiting["id"] != alert.as_str()), "{queue:?}");

    let page = home.run(&["explain", &alert]).stdout;
    for says in [
        "500.00 in 1 payments over x402",
        "to shop",
        "false positive",
        "a sale",
        "to oncall: sent",
        "generation 1",
    ] {
        assert!(page.contains(says), "{says:?} is not in\n{page}");
    }
    let explained = home.run(&["explain", &alert, "--json"]).documents().remove(0);
    assert_eq!(explained["rails"][0]["usd"], "500.00", "{explained}");
    assert_eq!(explained["label"]["verdict"], "false_positive");

    let trigger = explained["alert"]["trigger"]["signal"].as_str().unwrap_or("budget").to_owned();
    let precision = home.run(&["review", "precision", "--json"]).documents();
    let own = precision.iter().find(|row| row["trigger"] == trigger.as_str()).unwrap();
    assert_eq!((&own["false_positives"], &own["precision"]), (&json!(1), &json!(0.0)));
    let tune = home.run(&["tune", &trigger]);
    assert!(tune.code == 1 && tune.stderr.contains("needs 5"), "{tune:?}");
    assert_eq!(home.run(&["review", "label", "a-none", "expected"]).code, 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn routes_and_sinks_are_tried_out_before_they_are_needed() {
    let slack = slack();
    let rest = "[[routes]]\nmatch = { team = \"growth\" }\nsinks = [\"oncall\"]\n\n\
                [[mutes]]\nname = \"always\"\nfrom = \"00:00\"\nuntil = \"24:00\"\nmatch = { severity = \"low\" }\n\n\
                [[teams]]\nid = \"growth\"\n\n[[agents]]\nid = \"a1\"\nteam = \"growth\"\n";
    let home = home(&slack, rest);
    let known = home.run(&["route", "test", "--agent", "a1", "--severity", "low", "--json"]).documents();
    assert_eq!(known[0]["told"][0]["sink"], "oncall");
    assert_eq!(known[0]["told"][0]["via"], "routes[0]");
    assert_eq!(known[0]["muted"][0]["name"], "always");
    let unknown = home.run(&["route", "test", "--agent", "a2"]);
    assert!(unknown.stdout.contains("nobody is told"), "{unknown:?}");

    let offline = home.run(&["notify", "test", "oncall"]);
    assert!(offline.code == 0 && offline.stdout.contains("oncall: sent"), "{offline:?}");
    let daemon = home.start();
    let online = home.run(&["notify", "test", "oncall"]);
    assert!(online.code == 0 && online.stdout.contains("oncall: sent"), "{online:?}");
    assert_eq!(heard(&slack).iter().filter(|text| text.contains("test of the sink oncall")).count(), 2);
    assert_eq!(home.run(&["notify", "test", "pager"]).code, 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_failed_reload_is_an_alert_until_the_mistake_is_mended() {
    let slack = slack();
    let home = home(&slack, "");
    let daemon = home.start();
    let secret = home.path("slack.url");
    home.configure(&config(&secret, "[alerts]\nvolume = \"loud\"\n"));
    let headers = [("x-railwatch-by", "ana"), ("content-type", "application/json")];
    let reload = || daemon.post("/v1/reload", &headers, b"{}").unwrap().status;
    assert_eq!(reload(), 422);
    hear(&slack, "generation 1 stays in force");
    home.configure(&config(&secret, "[alerts]\nmin_severity = \"low\"\n"));
    assert_eq!(reload(), 200);
    hear(&slack, "Resolved");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_sink_that_takes_nothing_is_told_through_another() {
    let (slack, dead) = (slack(), HttpPeer::start(answers(Vec::new(), Answer::status(404))));
    let home = Home::new("");
    let (good, bad) = (home.write("good.url", slack.url("/g")), home.write("bad.url", dead.url("/b/s3cr3t")));
    home.configure(&config(
        &good,
        &format!("[sinks.broken]\nplugin = \"discord\"\nurl = {{ file = {bad:?} }}\n\n{}", agent("spender")),
    ));
    let daemon = home.start();
    overspend(&daemon, "spender");
    hear(&slack, "sink broken does not take notices");
    assert!(!heard(&slack).iter().any(|text| text.contains("s3cr3t")));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_watchdog_hears_a_heart_and_no_alerts() {
    let (slack, watchdog) = (slack(), HttpPeer::start(answers(Vec::new(), Answer::status(200))));
    let home = Home::new("");
    let (chat, ping) =
        (home.write("chat.url", slack.url("/c")), home.write("ping.url", watchdog.url("/ping/1")));
    let heart =
        format!("[sinks.watchdog]\nplugin = \"heartbeat\"\nurl = {{ file = {ping:?} }}\nevery = \"1s\"\n\n");
    home.configure(&config(&chat, &(heart + &agent("spender"))));
    let daemon = home.start();
    overspend(&daemon, "spender");
    hear(&slack, "spender");
    until("three signs of life", 30, || (watchdog.requests().len() >= 3).then_some(()));
    assert!(watchdog.requests().iter().all(|request| request.body.is_empty() && request.path == "/ping/1"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_nobody_takes_goes_to_further_people_and_they_hear_of_its_end() {
    let (slack, pager) = (slack(), slack());
    let home = Home::new("");
    let (chat, boss) = (home.write("chat.url", slack.url("/c")), home.write("boss.url", pager.url("/b")));
    let rest = format!(
        "[sinks.boss]\nplugin = \"slack\"\nurl = {{ file = {boss:?} }}\n\n[[routes]]\nsinks = [\"oncall\"]\n\n\
         [[escalations]]\nname = \"boss\"\nafter = \"2s\"\nsinks = [\"boss\"]\n\n{}",
        agent("spender")
    );
    home.configure(&config(&chat, &rest));
    let daemon = home.start();
    overspend(&daemon, "spender");
    hear(&pager, "NOBODY TOOK IT");
    let alert = alert_id(&home, "spender");
    assert_eq!(home.run(&["alerts", "resolve", &alert, "--note", "stopped"]).code, 0);
    hear(&pager, "Resolved");
    hear(&slack, "Resolved");
    assert!(!heard(&slack).iter().any(|text| text.contains("NOBODY TOOK IT")));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_digest_is_told_at_its_hour_once_and_shown_when_asked_for() {
    let slack = slack();
    // The hour that was last, anywhere: it is told late, because railwatch was away.
    let hour = (now().secs() / 3600 % 24).to_string();
    let digest = format!("[[digests]]\nname = \"all\"\nat = \"{hour:0>2}:00\"\nsinks = [\"oncall\"]\n\n");
    let home = home(&slack, &(agent("spender") + &digest));
    let daemon = home.start();
    hear(&slack, "Digest");
    overspend(&daemon, "spender");
    hear(&slack, "spender");
    assert_eq!(daemon.stop(), 0);
    let daemon = home.start();
    let shown = home.run(&["digest", "all"]).stdout;
    assert!(shown.contains("spender: $500.00") && shown.contains("x402: $500.00"), "{shown}");
    let told = home.run(&["digest", "all", "--now"]);
    assert!(told.stdout.contains("all: told oncall"), "{told:?}");
    hear(&slack, "the fleet spent $500.00 in 1 purchase");
    let digests = heard(&slack).into_iter().filter(|text| text.contains("Digest")).count();
    assert_eq!(digests, 2, "one at its hour, one that was asked for");
    assert_eq!(home.run(&["digest", "none"]).code, 1);
    assert_eq!(daemon.stop(), 0);
}
