//! `doctor`: is the store sound?

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use railwatch_store::Progress;
use serde_json::json;

use crate::cli::query::reader;
use crate::cli::{EXIT_STORE, Failure, Out};

/// Checks the store, whether or not railwatch is running.
pub(crate) fn doctor(config: &Path, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    let bar = ProgressBar::new(0);
    if out.is_json() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    let report = reader.doctor(|progress| match progress {
        Progress::Pages => bar.set_message("checking pages"),
        Progress::Batches { done, total } => {
            bar.set_message("reading the journal");
            bar.set_length(total);
            bar.set_position(done);
        }
        _ => {}
    });
    bar.finish_and_clear();
    for finding in &report.findings {
        out.document(&json!({ "place": finding.place, "cause": finding.cause, "remedy": finding.remedy }))?;
        out.line(format!("{}: {}\n  {}", finding.place, finding.cause, finding.remedy))?;
    }
    let (batches, payments, subjects) = (report.n_batches, report.n_payments, report.n_subjects);
    let healthy = report.is_healthy();
    out.document(
        &json!({ "healthy": healthy, "batches": batches, "payments": payments, "subjects": subjects }),
    )?;
    let (alerts, notices) = (report.n_alerts, report.n_outbox);
    out.line(format!(
        "{}: {batches} batches with {payments} payments, {subjects} saved subjects, {alerts} alerts, {notices} notices: {}",
        reader.path().display(),
        if healthy { "sound" } else { "NOT sound" }
    ))?;
    if healthy {
        return Ok(());
    }
    Err(Failure { code: EXIT_STORE, message: "the store is not sound, see above".to_owned() })
}
