//! The memory of an agent, and of a payment that is remembered so that a repeat is recognized. Measured in processes of
//! their own, whose memory nothing else has used.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::config_text;
use super::one_thread::{engine_per_s, lines};
use crate::cli::{Failure, Out, run};

/// Bytes of resident memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Of an engine that remembers no payments, by agents that paid.
    pub(super) bytes_per_agent: f64,
    /// What remembering the payments adds, by payments.
    pub(super) bytes_per_payment: f64,
}

/// What a measuring process says of its engine.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Answer {
    bytes: u64,
    agents: usize,
    payments: usize,
}

/// Measures a file of payments.
pub(super) fn measure(file: &Path) -> Result<Memory, Failure> {
    let (all, forgetful) = (ask(file, false)?, ask(file, true)?);
    let remembered = all.bytes.saturating_sub(forgetful.bytes);
    Ok(Memory {
        bytes_per_agent: forgetful.bytes as f64 / forgetful.agents.max(1) as f64,
        bytes_per_payment: remembered as f64 / all.payments.max(1) as f64,
    })
}

fn ask(file: &Path, forget: bool) -> Result<Answer, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--json", "bench", "--memory-of"]).arg(file);
    if forget {
        command.arg("--forget");
    }
    let output = command.output()?;
    let answer = serde_json::from_slice(&output.stdout);
    Ok(answer.map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::anyhow!("the measuring process answered nothing that can be read ({error}); it said: {said}")
    })?)
}

/// What a measuring process does. One that forgets remembers as few payments as may be configured.
pub(super) fn answer(file: &Path, forget: bool, out: &mut Out) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("railwatch.toml");
    let limits = if forget { "[limits]\ndedup_keys = 1000\n" } else { "" };
    std::fs::write(&config, config_text(file, "15m") + limits)?;
    let text = std::fs::read(file)?;
    let loaded = run::load(&config, true)?;
    let before = resident_bytes();
    let (_, engine) = engine_per_s(&loaded, &text)?;
    let bytes = resident_bytes().saturating_sub(before);
    out.document(&Answer { bytes, agents: engine.subjects_len(), payments: lines(&text).count() })
}

/// Memory of this process, from `/proc`; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
