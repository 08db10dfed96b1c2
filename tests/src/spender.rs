//! An agent with a small budget, and the payment that is too much for it.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home};
use crate::wait::{now, until};

/// The source that hears of it, and the agent, whose table may go on.
pub const SPENDER: &str = "[sources.hook]\nplugin = \"webhook\"\nverify = \"none-accept-forged-events\"\n\n\
                           [[agents]]\nid = \"spender\"\nbudget = \"$10 / day\"\n";

/// Reports a payment of an agent that is fifty days' budget.
///
/// # Panics
/// If it is not accepted.
pub fn overspend(daemon: &Daemon<'_>, agent: &str) {
    daemon.wait_source("hook", "live");
    let id = format!("{agent}-{}", now().micros());
    let payment = json!({ "id": id, "agent_id": agent, "amount_usd": "500.00",
                          "rail": "x402", "payee": "shop", "ts": now() });
    assert_eq!(daemon.post("/in/hook", &[], payment.to_string().as_bytes()).unwrap().status, 200);
}

/// The first alert of the list, once there is one.
pub fn first_alert(home: &Home) -> Value {
    until("the agent has an alert", 60, || {
        home.run(&["alerts", "list", "--all", "--json"]).documents().into_iter().next()
    })
}
