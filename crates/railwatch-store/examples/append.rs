//! Measures appends against the least that a durable log can do: the same bytes, appended to a plain file and synced.
//!
//! `cargo run --release -p railwatch-store --example append -- [folder [page_size]]`. Both sides alternate within one
//! run, because a shared disk drifts by more than what is measured; judge the ratios.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use railwatch_model::{
    Admitted, AgentId, AgentVia, Asset, Disposition, Identity, Money, Payment, Record, RefScheme,
    SettlementRef, Timestamp,
};
use railwatch_store::{Batch, Store, StoreOptions, WalKeeper};

const ROUNDS: usize = 5;
const PAYMENTS_PER_ROUND: usize = 100_000;
const BATCHES_MAX: usize = 500;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let page_size = args.next().map_or(Ok(StoreOptions::default().page_size), |text| text.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    println!("page size {page_size}");
    println!(
        "{:>6} {:>7} {:>12} {:>12} {:>6} | store, per append: p50, p99, max",
        "batch", "keeper", "file/s", "store/s", "ratio"
    );
    for size in [1, 100, 1000, 5000] {
        for with_keeper in [false, true] {
            measure(folder.path(), page_size, size, with_keeper)?;
        }
    }
    Ok(())
}

fn measure(folder: &Path, page_size: u32, size: usize, with_keeper: bool) -> Result<()> {
    let path = folder.join(format!("{size}-{with_keeper}.db"));
    let mut store = Store::open(&path, &StoreOptions { page_size, ..StoreOptions::default() })?;
    let mut file = File::create(folder.join("plain"))?;
    let records = [batch(size)?];
    let n_batches = (PAYMENTS_PER_ROUND / size).min(BATCHES_MAX);
    let keeper = with_keeper.then(|| store.wal_keeper()).transpose()?;
    let stop = &AtomicBool::new(false);
    let (mut plain, mut stored) = (Vec::new(), Vec::new());
    thread::scope(|scope| -> Result<()> {
        if let Some(keeper) = keeper {
            scope.spawn(move || keep(&keeper, stop));
        }
        let run = (0..ROUNDS).try_for_each(|_| -> Result<()> {
            time(&mut plain, n_batches, || append_plain(&mut file, &records))?;
            time(&mut stored, n_batches, || {
                store.append(&Batch { records: &records, ..Batch::default() })?;
                Ok(())
            })
        });
        stop.store(true, Ordering::Relaxed);
        run
    })?;
    report(size, with_keeper, &plain, &mut stored);
    Ok(())
}

fn keep(keeper: &WalKeeper, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = keeper.checkpoint() {
            println!("keeper: {error}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn append_plain(file: &mut File, records: &[Record]) -> Result<()> {
    file.write_all(&postcard::to_stdvec(records)?)?;
    Ok(file.sync_data()?)
}

fn time(spans: &mut Vec<Duration>, n: usize, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..n {
        let start = Instant::now();
        run()?;
        spans.push(start.elapsed());
    }
    Ok(())
}

fn report(size: usize, with_keeper: bool, plain: &[Duration], stored: &mut [Duration]) {
    let rate =
        |spans: &[Duration]| (size * spans.len()) as f64 / spans.iter().sum::<Duration>().as_secs_f64();
    let (plain, store) = (rate(plain), rate(stored));
    stored.sort_unstable();
    let quantile =
        |numerator: usize| stored.get(stored.len() * numerator / 1000).copied().unwrap_or_default();
    println!(
        "{size:>6} {with_keeper:>7} {plain:>12.0} {store:>12.0} {:>6.2} | {:?}, {:?}, {:?}",
        store / plain,
        quantile(500),
        quantile(990),
        quantile(999)
    );
}

/// Payments with the fields that a rail fills in: about a quarter of a kilobyte each.
fn batch(size: usize) -> Result<Record> {
    let now = Timestamp::from_secs(1_700_000_000);
    let admit = |n: usize| -> Option<Admitted> {
        let amount = Money::new(1_500_000, Asset::new("USDC@base", 6)?);
        let mut payment = Payment::settle("x402", format!("0x{n:064x}"), amount, now);
        payment.source = "gate".into();
        payment.agent = AgentId::new(format!("agent_billing_{}", n % 1000));
        payment.agent_via = Some(AgentVia::Mapped);
        payment.spender = vec![Identity::new("evm.address", format!("0x{n:040x}"))];
        payment.payee = Some("0x8f3cf7ad23cd3cadbd9735aff958023239c6a063".into());
        payment.resource = Some("https://api.example.com/v1/search".into());
        let value = format!("{n:064x}").into();
        payment.settlement_refs = vec![SettlementRef { scheme: RefScheme::EvmAuth, value }];
        Some(Admitted { payment, disposition: Disposition::First })
    };
    let payments: Option<Vec<_>> = (0..size).map(admit).collect();
    let payments = payments.context("the asset or the agent's name is refused")?;
    Ok(Record::Payments { now, payments })
}
