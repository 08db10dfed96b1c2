//! `freeze`, `unfreeze` and `freezes`.

use std::path::Path;

use clap::Args;
use railwatch_model::{Freeze, FreezeStage, GateOutcome};
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::query::{encode, time};
use crate::cli::{Failure, Out};

/// What to freeze.
#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    /// The agent.
    agent: String,
    /// Why.
    #[arg(long, short)]
    reason: String,
    /// How long, such as 1h; the configuration's `freeze.lasts` without.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// Only on this rail; may be given more than once.
    #[arg(long)]
    rail: Vec<String>,
    /// The alert that is the reason; the strongest open one of the agent without.
    #[arg(long)]
    alert: Option<String>,
}

/// `freeze`.
pub(crate) fn freeze(config: &Path, args: &FreezeArgs, out: &mut Out) -> Result<(), Failure> {
    let wish = json!({
        "alert": args.alert, "rails": args.rail, "for": args.lasts, "reason": args.reason,
    });
    let path = format!("/v1/agents/{}/freeze", encode(&args.agent));
    show(&Client::open(config)?.post(&path, &wish)?, out)
}

/// `unfreeze`.
pub(crate) fn unfreeze(config: &Path, agent: &str, out: &mut Out) -> Result<(), Failure> {
    let path = format!("/v1/agents/{}/unfreeze", encode(agent));
    show(&Client::open(config)?.post(&path, &json!({}))?, out)
}

fn show(freeze: &Value, out: &mut Out) -> Result<(), Failure> {
    out.document(freeze)?;
    let freeze: Freeze = serde_json::from_value(freeze.clone()).map_err(anyhow::Error::from)?;
    out.line(format!("{}: {freeze}", freeze.agent))
}

/// `freezes`.
pub(crate) fn list(config: &Path, out: &mut Out) -> Result<(), Failure> {
    let freezes = Client::open(config)?.get("/v1/freezes")?;
    let freezes: Vec<Freeze> = serde_json::from_value(freezes).map_err(anyhow::Error::from)?;
    for freeze in &freezes {
        out.document(freeze)?;
    }
    let rows: Vec<Vec<String>> = freezes.iter().map(row).collect();
    out.table(&["freeze", "agent", "rails", "stage", "until", "by", "gates"], &rows)
}

fn row(freeze: &Freeze) -> Vec<String> {
    let stage = match freeze.stage {
        FreezeStage::Requested => {
            format!("asked for, {} of {} agreed", freeze.approved_by.len(), freeze.approvals)
        }
        FreezeStage::Frozen => "frozen".to_owned(),
        FreezeStage::Lifted => format!("ended by {}", freeze.lifted_by.as_deref().unwrap_or("-")),
    };
    let gates = freeze.gates.iter().map(|word| match word.outcome {
        GateOutcome::Waiting => format!("{}: asked", word.gate),
        GateOutcome::Done => format!("{}: {}", word.gate, word.detail),
        GateOutcome::Failed => format!("{}: FAILED: {}", word.gate, word.detail),
    });
    vec![
        freeze.id.to_string(),
        freeze.agent.to_string(),
        freeze.scope(),
        stage,
        time(freeze.lifted_at.unwrap_or(freeze.until)),
        freeze.by.to_string(),
        gates.collect::<Vec<_>>().join("; "),
    ]
}
