//! A changed configuration takes effect while it runs; a broken one changes nothing.

use railwatch_tests::{Answer, Gate, GateOptions, Home, HttpPeer, answers, now, railwatch, until};
use serde_json::json;

use crate::gate::source;
use crate::totals::counted;

fn payment(seq: u64, amount: &str) -> String {
    json!({ "seq": seq, "id": format!("r-{seq}"), "agent_id": "spender", "amount_usd": amount, "ts": now() })
        .to_string()
}

#[test]
fn a_saved_change_is_in_force_and_the_gate_notices_nothing() {
    let gate = Gate::start(GateOptions::default());
    let slack = HttpPeer::start(answers(Vec::new(), Answer::status(200)));
    let home = Home::new(&source(&gate));
    let secret = home.write("slack.url", slack.url("/services/T/B/s3cr3t"));
    let daemon = home.start();
    gate.send([payment(1, "5.00")]);
    daemon.wait_applied(1);

    let budget = "\n[[agents]]\nid = \"spender\"\nbudget = \"$10 / day\"\n";
    let sink = format!("\n[sinks.oncall]\nplugin = \"slack\"\nurl = {{ file = {secret:?} }}\n");
    home.configure(&format!("{}{budget}{sink}", source(&gate)));
    until("the change is in force", 30, || (daemon.metric("railwatch_config_generation") == 2).then_some(()));
    assert_eq!(daemon.metric("railwatch_reloads_ok_total"), 1);
    let unchanged = home.run(&["reload", "--json"]).documents();
    assert_eq!(unchanged[0]["changed"], false, "{unchanged:?}");
    gate.send([payment(2, "500.00")]);
    until("the new sink is told of the new budget", 30, || {
        slack.requests().iter().any(|request| request.body.contains("spender")).then_some(())
    });
    assert_eq!(counted(&home), [("spender".to_owned(), 2, "505.00".to_owned())], "the state is kept");
    assert_eq!(gate.n_connections(), 1, "the gate's connection is kept");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_broken_change_is_reported_and_changes_nothing() {
    let gate = Gate::start(GateOptions::default());
    let home = Home::new(&source(&gate));
    let daemon = home.start();
    gate.send([payment(1, "5.00")]);
    daemon.wait_applied(1);

    home.configure(&format!("{}\n[[agents]]\nid = \"spender\"\nbugdet = \"$10 / day\"\n", source(&gate)));
    until("the mistake is counted", 30, || {
        (daemon.metric("railwatch_reloads_failed_total") > 0).then_some(())
    });
    let reload = home.run(&["reload"]);
    assert_ne!(reload.code, 0, "{reload:?}");
    assert!(reload.stderr.contains("bugdet") && reload.stderr.contains("budget"), "{reload:?}");
    assert!(home.log().contains("bugdet"), "the log says what is wrong");
    assert_eq!(daemon.metric("railwatch_config_generation"), 1);

    // A change that needs a restart is refused as a whole, and says so.
    home.configure(&source(&gate));
    let text = std::fs::read_to_string(home.config()).unwrap();
    let moved = home.write("moved.toml", text.replace("railwatch.db", "other.db"));
    std::fs::rename(moved, home.config()).unwrap();
    let reload = home.run(&["reload"]);
    assert!(reload.code != 0 && reload.stderr.contains("restart"), "{reload:?}");

    gate.send([payment(2, "7.00")]);
    daemon.wait_applied(2);
    assert_eq!(counted(&home), [("spender".to_owned(), 2, "12.00".to_owned())]);
    assert_eq!(gate.n_connections(), 1);
    assert_eq!(daemon.stop(), 0);
    let gone = home.run(&["reload"]);
    assert_eq!(gone.code, 4, "{gone:?}");
    assert!(gone.stderr.contains("is it running?"), "{gone:?}");
}

#[test]
fn there_is_nothing_to_reload_where_nothing_runs() {
    let outcome = railwatch(&["--config", "/nowhere/railwatch.toml", "reload"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
}
