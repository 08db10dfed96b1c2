//! What the daemon counted against what was paid.

use railwatch_model::Usd;
use railwatch_tests::{Daemon, Home, Sums, until};
use serde_json::Value;

/// Waits until the daemon has judged as many payments as the sums hold, then compares every agent, to the cent.
#[track_caller]
pub(crate) fn check_totals(home: &Home, daemon: &Daemon<'_>, expected: &Sums) {
    let wanted: u64 = expected.values().map(|(payments, _)| payments).sum();
    wait_counted(daemon, wanted);
    assert_eq!(counted(home), text(expected));
}

/// Waits until this many payments are counted, power cuts notwithstanding.
#[track_caller]
pub(crate) fn wait_counted(daemon: &Daemon<'_>, wanted: u64) {
    until(&format!("{wanted} payments are counted"), 60, || {
        let page: Value = serde_json::from_str(&daemon.get("/v1/agents?limit=1000")?.body).ok()?;
        let agents = page["items"].as_array()?;
        let counted: u64 = agents.iter().filter_map(|agent| agent["purchases"].as_u64()).sum();
        (counted >= wanted).then_some(())
    });
}

/// `railwatch agents`: payments and dollars of every agent.
#[track_caller]
pub(crate) fn counted(home: &Home) -> Vec<(String, u64, String)> {
    let views = home.run(&["agents", "--json", "--limit", "1000"]).documents();
    let row = |agent: &Value| {
        let text = |key: &str| agent[key].as_str().unwrap().to_owned();
        (text("agent"), agent["purchases"].as_u64().unwrap(), text("spent_usd"))
    };
    let mut rows: Vec<_> = views.iter().map(row).collect();
    rows.sort();
    rows
}

fn text(sums: &Sums) -> Vec<(String, u64, String)> {
    let dollars = |usd: &Usd| serde_json::to_value(usd).unwrap().as_str().unwrap().to_owned();
    sums.iter().map(|(agent, (n, usd))| (agent.clone(), *n, dollars(usd))).collect()
}
