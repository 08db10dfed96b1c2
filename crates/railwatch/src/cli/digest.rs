//! `digest`: what a digest says now, and telling it now.

use std::path::Path;

use clap::Args;
use railwatch_model::Report;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::query::encode;
use crate::cli::{Failure, Out};

/// Which digest.
#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// Its name in the configuration.
    name: String,
    /// Tell its sinks now, about the time until now; without, it is only shown here.
    #[arg(long)]
    now: bool,
}

/// `digest`.
pub(crate) fn digest(config: &Path, args: &DigestArgs, out: &mut Out) -> Result<(), Failure> {
    let (client, path) = (Client::open(config)?, format!("/v1/digests/{}", encode(&args.name)));
    if args.now {
        let told = client.post(&format!("{path}/tell"), &json!({}))?;
        out.document(&told)?;
        let sinks = told["sinks"].as_array().cloned().unwrap_or_default();
        let sinks: Vec<&str> = sinks.iter().filter_map(serde_json::Value::as_str).collect();
        return out.line(format!("{}: told {}", args.name, sinks.join(", ")));
    }
    let report = client.get(&path)?;
    out.document(&report)?;
    let report: Report = serde_json::from_value(report).map_err(anyhow::Error::from)?;
    for section in &report.sections {
        out.line(format!("{}:", section.title))?;
        for line in &section.lines {
            out.line(format!("  {line}"))?;
        }
    }
    if report.sections.is_empty() { out.line("nothing was spent and nothing is open") } else { Ok(()) }
}
