//! `bench --scripts FOLDER`: what the scripts of a folder cost the engine's thread, in ratios of one run, and how long
//! the engine stands still when one rule is edited.

use std::path::Path;
use std::time::Duration;

use railwatch_engine::{Accepted, Effects, Engine};
use railwatch_model::{AgentId, Payment, Timestamp};
use railwatch_plugin::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::one_thread::engine_per_s;
use super::{BenchArgs, load};
use crate::cli::{Failure, Out, run};
use crate::host::{build_after, build_generation};

/// Rules of the folder that are measured, in the order of their names.
const RULES: usize = 10;
/// Times that each is measured; the best counts, because others use the machine too.
const ROUNDS: usize = 3;
/// Edits of a rule.
const EDITS: u64 = 5;
/// Agents that are in memory when a rule is edited.
const AGENTS_AT_RELOAD: u32 = 400_000;

/// Measures.
pub(super) fn bench(args: &BenchArgs, scripts: &Path, out: &mut Out) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let agents = args.agents.first().copied().unwrap_or(10_000);
    let file = folder.path().join("load.jsonl");
    load::write(&file, args.events, agents)?;
    let rules = folder.path().join("rules");
    std::fs::create_dir_all(&rules)?;
    let mut sources: Vec<_> = std::fs::read_dir(scripts.join("rules"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    sources.sort();
    for path in sources.iter().take(RULES) {
        std::fs::copy(path, rules.join(path.file_name().unwrap_or_default()))?;
    }
    let score = std::path::absolute(scripts.join("score.lua"))?;
    let score = format!("[score]\nscript = {:?}\n", score.display().to_string());
    let with_rules = "[rules]\npaths = [\"rules\"]\n".to_owned();
    let variants = [
        ("no script", String::new()),
        ("score.lua", score.clone()),
        ("10 rules", with_rules.clone()),
        ("score.lua and 10 rules", score + &with_rules),
    ];
    let text = std::fs::read(&file)?;
    let mut best = [0.0_f64; 4];
    for _ in 0..ROUNDS {
        for ((_, config), best) in variants.iter().zip(&mut best) {
            let path = folder.path().join("railwatch.toml");
            std::fs::write(&path, super::config_text(&file, "15m") + config)?;
            *best = best.max(engine_per_s(&run::load(&path, true)?, &text)?.0);
        }
    }
    let mut rows = Vec::new();
    for ((name, _), rate) in variants.iter().zip(best) {
        let cost = 1.0 - rate / best[0];
        out.document(&json!({ "scripts": name, "engine_per_s": rate, "cost": cost }))?;
        let nanos = 1e9 / rate - 1e9 / best[0];
        rows.push(vec![
            (*name).to_owned(),
            format!("{rate:.0}"),
            format!("{:.0} %", cost * 100.0),
            format!("{nanos:.0}"),
        ]);
    }
    out.table(&["scripts", "engine/s", "costs", "ns/payment"], &rows)?;
    let pause = reload_pause(&folder.path().join("railwatch.toml"), &rules)?;
    out.document(&json!({ "agents": AGENTS_AT_RELOAD, "reload_pause_s": pause }))?;
    out.line(format!(
        "one rule edited at {AGENTS_AT_RELOAD} agents: the engine stands still for {:.2} ms",
        pause * 1e3
    ))
}

/// Seconds that an edit of one rule takes the engine's thread: the shortest of a few, because others use the machine,
/// too.
fn reload_pause(config: &Path, rules: &Path) -> Result<f64, Failure> {
    let mut running = run::load(config, true)?;
    let mut engine = Engine::new([0; 16], build_generation(&running, 1)?.generation);
    let at = Timestamp::from_secs(1_760_000_000);
    for first in (0..AGENTS_AT_RELOAD).step_by(1_000) {
        let payment = |n: u32| {
            let money = railwatch_model::Money::new(100, railwatch_model::Asset::usd());
            let mut payment = Payment::settle("x402", format!("p-{n}"), money, at);
            payment.agent = AgentId::new(format!("agent-{n}"));
            payment.spender.extend(payment.agent.as_ref().map(|agent| railwatch_model::Identity {
                scheme: railwatch_model::Identity::AGENT.into(),
                value: agent.as_str().into(),
            }));
            payment.observed_at = at;
            payment
        };
        let mut accepted = Accepted::default();
        engine.admit(at, (first..first + 1_000).map(payment), &mut accepted);
        engine.apply(1, &accepted.into_record(at), &mut Effects::default());
    }
    let edited = rules.join("night_drain.lua");
    let text = std::fs::read_to_string(&edited)?;
    let mut shortest = Duration::MAX;
    for number in 2..2 + EDITS {
        // The rule's own tests pass with a few dollars more.
        std::fs::write(&edited, text.replace("usd(50)", &format!("usd({})", 49 + number)))?;
        let after = run::load(config, true)?;
        let generation = build_after(&running, &after, number)?;
        // By the clock: what a thread has used of a processor is not known to a millisecond. What was replaced is freed
        // by another thread.
        let started = SystemClock.now();
        let retired = engine.install(generation);
        shortest = shortest.min(SystemClock.now().since(started));
        drop(retired);
        running = after;
    }
    Ok(shortest.as_secs_f64())
}
