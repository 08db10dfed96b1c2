//! Measures what a restart waits for: saved subjects read back, and batches decoded for a replay.
//!
//! `cargo run --release -p railwatch-store --example recovery -- [folder [n_subjects]]`.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use railwatch_model::{Admitted, AgentId, Asset, Disposition, Money, Payment, Record, Timestamp};
use railwatch_store::{Batch, Store, StoreOptions, SubjectRow};

const STATE_LEN: usize = 1_500;
const CHUNK: usize = 1_000;
const N_BATCHES: usize = 300;
const BATCH: usize = 1_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let n_subjects: usize = args.next().map_or(Ok(400_000), |text| text.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    let path = folder.path().join("railwatch.db");
    let mut store = Store::open(&path, &StoreOptions::default())?;
    timed("save all subjects", n_subjects, || checkpoint(&mut store, n_subjects, 1))?;
    timed("save every tenth again", n_subjects / 10, || checkpoint(&mut store, n_subjects, 10))?;
    timed("purge what they supersede", n_subjects, || {
        while store.purge_subjects(1_000)? {}
        Ok(())
    })?;
    append(&mut store)?;
    drop(store);
    let store = timed("open", 1, || Ok(Store::open(&path, &StoreOptions::default())?))?;
    timed("read all subjects", n_subjects, || {
        let mut n_bytes = 0;
        store.for_each_subject(Timestamp::EPOCH, |row| {
            n_bytes += row.body.unwrap_or_default().len();
            ControlFlow::Continue(())
        })?;
        anyhow::ensure!(n_bytes == n_subjects * STATE_LEN, "{n_bytes} bytes came back");
        Ok(())
    })?;
    timed("replay payments", N_BATCHES * BATCH, || {
        let n =
            store.batches(1).map(|batch| batch.map(|batch| batch.records.len())).sum::<Result<usize, _>>()?;
        anyhow::ensure!(n == N_BATCHES, "{n} records came back");
        Ok(())
    })
}

fn timed<T>(what: &str, n: usize, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = run()?;
    let span = start.elapsed();
    println!("{what:<28} {span:>10.2?} {:>12.0}/s", n as f64 / span.as_secs_f64());
    Ok(result)
}

fn checkpoint(store: &mut Store, n_subjects: usize, step: usize) -> Result<()> {
    let epoch = store.checkpoint_begin(0)?;
    let body = vec![7; STATE_LEN];
    // Agents are interned in order of appearance, so their names arrive in no order.
    let name = |n: usize| format!("agent:agent_{}", n.wrapping_mul(0x9e37_79b9) % 0xffff_fffb);
    let keys: Vec<_> = (0..n_subjects).step_by(step).map(name).collect();
    for chunk in keys.chunks(CHUNK) {
        let row =
            |key| SubjectRow { key, last_at: Timestamp::EPOCH, view: r#"{"spend":"0"}"#, body: Some(&body) };
        let rows: Vec<_> = chunk.iter().map(|key| row(key.as_str())).collect();
        store.save_subjects(epoch, &rows)?;
    }
    Ok(store.checkpoint_commit(epoch, &[])?)
}

fn append(store: &mut Store) -> Result<()> {
    let now = Timestamp::from_secs(1_700_000_000);
    let admit = |n: usize| -> Option<Admitted> {
        let amount = Money::new(1_500_000, Asset::new("USDC@base", 6)?);
        let mut payment = Payment::settle("x402", format!("0x{n:064x}"), amount, now);
        payment.agent = AgentId::new(format!("agent_billing_{}", n % 1000));
        payment.payee = Some("0x8f3cf7ad23cd3cadbd9735aff958023239c6a063".into());
        Some(Admitted { payment, disposition: Disposition::First })
    };
    let payments: Option<Vec<_>> = (0..BATCH).map(admit).collect();
    let payments = payments.context("the asset or the agent's name is refused")?;
    let records = [Record::Payments { now, payments }];
    for _ in 0..N_BATCHES {
        store.append(&Batch { records: &records, ..Batch::default() })?;
    }
    Ok(())
}
