//! `tail`: payments as they are recorded, read from the store beside the running monitor.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use railwatch_model::{Admitted, Record, Seq};

use crate::cli::query::reader;
use crate::cli::{Failure, Out};

/// How often the store is asked for news.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Options of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Begin this many batches back.
    #[arg(long, short = 'n', default_value_t = 10)]
    batches: u64,
    /// Only payments of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// End at the last payment instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
}

/// Prints payments until interrupted.
pub(crate) fn tail(config: &Path, args: &TailArgs, out: &mut Out) -> Result<(), Failure> {
    let reader = reader(config)?;
    let mut next: Seq = reader.journal_span()?.last.saturating_sub(args.batches).saturating_add(1).max(1);
    loop {
        for batch in reader.batches(next) {
            let batch = batch?;
            next = batch.seq.saturating_add(1);
            for record in batch.records {
                if let Record::Payments { payments, .. } = record {
                    for admitted in payments.iter().filter(|admitted| wanted(admitted, args.agent.as_deref()))
                    {
                        print(admitted, out)?;
                    }
                }
            }
        }
        if args.no_follow {
            return Ok(());
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn wanted(admitted: &Admitted, agent: Option<&str>) -> bool {
    agent.is_none_or(|agent| admitted.payment.agent.as_ref().is_some_and(|id| id.as_str() == agent))
}

fn print(admitted: &Admitted, out: &mut Out) -> Result<(), Failure> {
    out.document(admitted)?;
    let payment = &admitted.payment;
    let kind = serde_json::to_value(payment.kind).unwrap_or_default();
    out.line(format!(
        "{} {:<20} {:<8} {:<10} {:>24} {:>12} {}",
        payment.occurred_at.to_string().chars().take(19).collect::<String>(),
        payment.agent.as_ref().map_or("-", |agent| agent.as_str()),
        kind.as_str().unwrap_or_default(),
        payment.rail,
        payment.amount.to_string(),
        payment.usd().to_string(),
        payment.payee.as_deref().unwrap_or("-"),
    ))
}
