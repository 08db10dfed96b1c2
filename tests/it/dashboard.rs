//! The dashboard in a real browser.

use std::time::Duration;

use railwatch_model::Timestamp;
use railwatch_tests::{Browser, Daemon, Fleet, Gate, GateOptions, Home, Payment, now, until};
use serde_json::{Value, json};

use crate::totals::wait_counted;

const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);
const PAGES: [&str; 9] = [
    "/",
    "/agents",
    "/agents/agent_3",
    "/alerts",
    "/alerts?show=silences",
    "/reviews",
    "/rails",
    "/rules",
    "/reloads",
];
/// Remembers when the page first shows an incident, by the clock of this machine.
const WATCH: &str = "window.seenAt = null; new MutationObserver(() => { if (!window.seenAt && \
                     document.querySelector('.incident')) window.seenAt = Date.now(); }) \
                     .observe(document.querySelector('#main'), { childList: true, subtree: true })";
/// An incident is on the page this long after the payment was received, at most.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// Who runs away, and how many times as fast as usual.
const RUNAWAY: (&str, f64) = ("agent_3", 40.0);

fn browser(home: &Home) -> Browser {
    Browser::start(&format!("http://{}", home.address()))
}

fn lines(payments: &[Payment]) -> Vec<String> {
    payments.iter().map(Payment::line).collect()
}

#[test]
fn the_first_run_says_what_to_do() {
    let home = Home::new("");
    let _daemon = home.start();
    let browser = browser(&home);
    browser.open("/", DESK, false);
    assert!(browser.wait(".welcome h1").contains("no payment yet"));
    assert!(browser.wait(".welcome .steps").contains("[sources.gate]"));
    assert_eq!(browser.violations(), Vec::<String>::new());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A daemon that has learned two weeks of a fleet behind a gate, and what the runaway pays next.
fn learned<'a>(gate: &Gate, home: &'a Home) -> (Daemon<'a>, Vec<Payment>) {
    let mut fleet = Fleet::new(8, 0x5eed_0002);
    let (end, day) = (now(), Duration::from_secs(86_400));
    let incident = Duration::from_secs(15 * 60);
    let calm = fleet.pay(end.before(day * 14), end.before(incident), &[]);
    let wild = fleet.pay(end.before(incident), end, &[RUNAWAY]);
    let daemon = home.start();
    gate.send(lines(&calm));
    wait_counted(&daemon, calm.len() as u64);
    (daemon, wild)
}

#[test]
fn a_runaway_appears_by_itself_and_is_taken_in_the_page() {
    let gate = Gate::start(GateOptions { per_frame: 20, drop_after: 0 });
    let home = Home::new(&crate::gate::source(&gate));
    let (daemon, wild) = learned(&gate, &home);
    let browser = browser(&home);
    browser.open("/", DESK, false);
    assert_eq!(browser.wait(".headline h1"), "All calm");

    // Nobody touches the page: it changes by itself.
    browser.run(WATCH);
    for minute in wild.chunk_by(|earlier, later| earlier.at.secs() / 60 == later.at.secs() / 60) {
        gate.send(lines(minute));
        wait_counted(&daemon, minute.last().unwrap().seq);
    }
    let incident = browser.wait(".incident");
    for word in [RUNAWAY.0, "its usual", "x402", "Acknowledge"] {
        assert!(incident.contains(word), "{word}: {incident}");
    }
    assert!(browser.wait(".headline h1").contains("incident"));
    shown_in_time(&home, &browser);

    browser.press("a");
    browser.fill("dialog input[name=by]", "ann");
    browser.fill("dialog textarea", "looking");
    browser.click("dialog button.primary");
    browser.gone(".incident.firing");
    assert_eq!(browser.wait(".toast"), "Taken by ann.");
    let taken = home.run(&["alerts", "list", "--json"]).documents();
    let is_taken = |alert: &Value| {
        (alert["state"] == "acknowledged") && alert["acknowledged_by"] == "ann" && alert["note"] == "looking"
    };
    assert!(!taken.is_empty() && taken.iter().all(is_taken), "{taken:#?}");

    // And what is done elsewhere is seen here.
    browser.open("/alerts", DESK, true);
    browser.wait(".alert-list .acknowledged");
    let id = taken[0]["id"].as_str().unwrap();
    browser.open(&format!("/alerts/{id}"), DESK, true);
    browser.wait(".timeline .acknowledged");
    assert!(browser.wait("details.card").contains("All of this as text"));
    let explained = browser.run("document.querySelector('details.card pre').textContent");
    assert!(explained.as_str().unwrap().contains("taken by  ann: looking"), "{explained}");
    browser.press("s");
    browser.fill("dialog input[name=by]", "ann");
    browser.fill("dialog input[name=reason]", "a known batch");
    until("the silence is previewed", 30, || {
        browser.wait("dialog .preview").contains("Hides 1 open alert until").then_some(())
    });
    browser.click("dialog button.primary");
    assert_eq!(browser.wait(".toast"), "Silenced for 1h.");
    assert_eq!(home.run(&["silence", "list", "--json"]).documents().len(), 1);
    until("the page says how long it is silenced", 30, || {
        let figures = browser.wait("dl.figures");
        (figures.contains(" min left") && figures.contains("by ann: a known batch")).then_some(())
    });
    assert_eq!(home.run(&["alerts", "resolve", id, "--note", "key rotated"]).code, 0);
    browser.open("/alerts", DESK, true);
    browser.wait(".card.empty h2");
    browser.open(&format!("/alerts/{id}"), DESK, true);
    assert!(browser.wait(".timeline .resolved").contains("resolved"));
    browser.click("[data-verdict=true_positive]");
    browser.fill("dialog input[name=by]", "ann");
    browser.click("dialog button.primary");
    assert_eq!(browser.wait(".toast"), "Saved. Thresholds can be tuned with it.");
    let precision = daemon.get("/v1/reviews/precision").unwrap().body;
    assert!(precision.contains("\"true_positives\":1"), "{precision}");

    for (size, dark) in [(DESK, false), (DESK, true), (PHONE, false)] {
        for page in PAGES {
            browser.open(page, size, dark);
            browser.wait(".page > :nth-child(2)");
            let too_wide = browser.run("document.documentElement.scrollWidth - innerWidth");
            assert_eq!(too_wide, json!(0), "{page} at {size:?}");
            assert_eq!(browser.violations(), Vec::<String>::new(), "{page} at {size:?}, dark: {dark}");
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(daemon.stop(), 0);
}

/// The page showed the incident within a second of the payment that opened it: both times are of this machine's clock.
fn shown_in_time(home: &Home, browser: &Browser) {
    let seen_ms = browser.run("window.seenAt").as_f64().expect("the page noticed when it changed");
    let alerts = home.run(&["alerts", "list", "--json"]).documents();
    let opened = alerts.iter().map(|alert| Timestamp::parse(alert["opened_at"].as_str().unwrap()).unwrap());
    // The journal's time of an alert is the arrival of the payment that opened it.
    let received_ms = opened.min().unwrap().secs_f64() * 1e3;
    eprintln!("on the page {:.0} ms after the payment was received", seen_ms - received_ms);
    let latest = SHOWN_WITHIN.as_secs_f64() * 1e3;
    // The browser's clock counts whole milliseconds.
    assert!((-1.0..=latest).contains(&(seen_ms - received_ms)), "{received_ms} {seen_ms}");
}

const RULES: &str = "[rules]\npaths = [\"rules\"]\n";

fn rule(dollars: u32) -> String {
    format!(
        "return rule {{ id = \"large\", shadow = true, about = \"Tried out first.\",\n  when = function(p, a) return p.usd \
         > usd({dollars}) end,\n  tests = {{ {{ \"a small one\", feed = spend(\"a1\", usd(1)), expect = quiet }} }},\n}}\n"
    )
}

#[test]
fn rules_and_reloads_are_told_and_taken_back_in_the_page() {
    let ledger = "[sources.ledger]\nplugin = \"file\"\npath = \"ledger.jsonl\"\ncurrency = \"USD\"\n";
    let home = Home::new("");
    std::fs::create_dir_all(home.path("rules")).unwrap();
    home.write("rules/large.lua", rule(10));
    home.write(
        "ledger.jsonl",
        format!("{{\"id\":\"1\",\"agent\":\"anna\",\"amount\":\"50\",\"at\":\"{}\"}}\n", now()),
    );
    home.configure(&format!("{ledger}{RULES}"));
    let daemon = home.start();
    let browser = browser(&home);
    browser.open("/rules", DESK, false);
    until("the firing in shadow is told", 30, || {
        let card = browser.wait(".script");
        let says = ["1 passed", "shadow", "Tried out first.", "about 1 agent"];
        says.iter().all(|word| card.contains(word)).then_some(())
    });
    browser.click(".script details:last-of-type summary");
    assert!(browser.wait(".script pre.numbered").contains("p.usd > usd(10)"));

    browser.open("/reloads", DESK, false);
    assert!(browser.wait(".timeline").contains("railwatch was started"));
    home.write("rules/large.lua", rule(20));
    browser.wait("[data-diff='2']");
    browser.click("[data-diff='2'] summary");
    assert_eq!(browser.wait(".diff .minus").matches("usd(10)").count(), 1);
    assert_eq!(browser.wait(".diff .plus").matches("usd(20)").count(), 1);
    home.write("rules/large.lua", "return rule {");
    assert!(browser.wait(".timeline .failed").contains("Nothing changed"));
    browser.click("[data-act=rollback][data-id='1']");
    browser.wait("dialog .patches .plus");
    browser.fill("dialog input[name=by]", "ann");
    browser.click("dialog button.primary");
    assert!(browser.wait(".toast").contains("Generation 3 is in force, with the content of generation 1"));
    browser.wait(".timeline li.firing-now [data-diff='3']");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.violations(), Vec::<String>::new());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn keys_lead_everywhere() {
    let home = Home::new(
        "[sources.ledger]\nplugin = \"file\"\npath = \"ledger.jsonl\"\nfollow = true\npoll_every = \"20ms\"\n\
         currency = \"USD\"\n",
    );
    let line = |name: &str| {
        let at = now();
        format!("{{\"id\":\"{name}\",\"agent\":\"{name}\",\"amount\":\"1\",\"at\":\"{at}\"}}\n")
    };
    home.write("ledger.jsonl", ["anna", "berta", "<img src=x onerror=alert(1)>"].map(line).concat());
    let _daemon = home.start();
    let browser = browser(&home);
    browser.open("/", DESK, false);
    // A name from outside is text and nothing else.
    until("three agents are shown", 30, || {
        (browser.run("document.querySelectorAll('.agents tbody tr').length") == json!(3)).then_some(())
    });
    assert_eq!(browser.run("document.querySelectorAll('.agents img').length"), json!(0));
    browser.press("j");
    browser.press("j");
    browser.press("k");
    browser.press("Enter");
    assert!(browser.wait(".page.agent h1").contains('<'));
    browser.press("3");
    browser.wait(".page.alerts");
    browser.press("/");
    browser.fill("#q", "berta");
    browser.press("Enter");
    assert!(browser.wait(".page.agent h1").contains("berta"));
    assert!(browser.run("location.pathname").as_str().unwrap().ends_with("/agents/berta"));
    browser.press("?");
    browser.wait("dialog[open] .keys");
    browser.press("Escape");
    browser.press("t");
    assert_eq!(browser.run("document.documentElement.dataset.theme"), json!("dark"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
