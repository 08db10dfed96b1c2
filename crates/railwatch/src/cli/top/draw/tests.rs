use serde_json::json;

use super::*;
use crate::cli::top::model::Sort;

fn gauge(state: &str, value: f64, usual: f64) -> Value {
    json!({ "state": state, "value": value, "usual": usual, "probability": 0.5 })
}

fn agent(name: &str, state: &str, value: f64, severity: &Value) -> Value {
    let spark: Vec<f64> = (0..24).map(|at| if at > 20 { 80.0 } else { 2.0 }).collect();
    json!({
        "agent": name, "score": value / 400.0, "velocity": gauge(state, value, 8.1), "severity": severity,
        "rail": gauge("usual", 0.97, 0.95), "rail_name": "x402", "spark": spark,
        "budget": { "state": state, "days_until_empty": 0.4, "days_left": 9.0 },
    })
}

fn model() -> Model {
    let mut model = Model::new(Sort::Attention);
    let lane = |signal: &str, firing: u64, about: Value| {
        let top = json!({ "agent": "agent_billing_7", "value": 340.0, "usual": 8.1, "about": about });
        json!({ "signal": signal, "learning": 0, "usual": 7, "raised": 0, "firing": firing, "top": [top] })
    };
    model.fleet = json!({
        "alerts_untaken": 2, "usd_per_hour": 402.1, "usd_day": "1250.50", "active": 8, "agents": 8,
        "lanes": [lane("velocity", 1, Value::Null), lane("rail_shift", 0, json!("x402")),
                  lane("budget", 1, json!("0.4")), lane("score", 0, Value::Null)],
        "alerts": [{ "id": "a-1", "subject": "agent:agent_billing_7" }],
    });
    model.take_agents(&json!({ "total": 2, "items": [
        agent("agent_billing_7", "firing", 340.0, &json!("critical")),
        agent("名前 that is far too long\u{1b}[2J for its column", "usual", 8.0, &Value::Null),
    ] }));
    model
}

/// The screen without its colors, which a test's output does not have.
fn small(model: &Model) -> String {
    let lines = lines(model, 80, 24);
    assert_eq!(lines.len(), 24);
    assert!(lines.iter().all(|line| measure_text_width(line) <= 80), "{lines:#?}");
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_list_fits_a_small_terminal() {
    insta::assert_snapshot!(small(&model()));
}

#[test]
fn an_agent_fits_a_small_terminal() {
    let mut model = model();
    model.open();
    let summary = "agent_billing_7 spends $340.00/h, 42x its usual $8.10/h for a Tuesday 02:00; $57.00 beyond its usual";
    model.detail = json!({
        "verdict": "freeze", "score": 0.91, "team": "billing",
        "totals": { "committed": "912.25", "purchases": 4120 },
        "alerts": [{ "id": "a-1", "subject": "agent:agent_billing_7", "severity": "critical",
                     "acknowledged_by": "ann", "summary": summary }],
        "signals": [{ "kind": "velocity", "verdict": "firing", "value": 340.0, "usual": 8.1, "unit": "usd_per_hour" },
                    { "kind": "budget", "verdict": "usual", "value": 2.0, "usual": 3.3, "unit": "percent_per_day",
                      "about": "monthly" }],
    });
    let points: Vec<f64> = (0..180).map(|at| if at > 150 { 340.0 } else { 8.0 }).collect();
    model.series = json!({ "usd_per_hour": points });
    insta::assert_snapshot!(small(&model));
    assert_eq!(model.alert_in_hand().as_deref(), Some("a-1"));
}

#[test]
fn any_size_of_terminal_is_filled_and_not_more() {
    for (width, height) in [(1, 1), (20, 3), (80, 24), (200, 60)] {
        let drawn = lines(&model(), width, height);
        assert_eq!(drawn.len(), height, "{width}x{height}");
    }
}

#[test]
fn amounts_are_short() {
    assert_eq!([0.0, 8.1, 340.0, 12_500.0, 2.5e6].map(usd), ["$0.00", "$8.10", "$340", "$12.5k", "$2.5M"]);
}
