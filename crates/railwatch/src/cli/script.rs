//! `test`, `scripts`, `repl`, `types`: working with Lua.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use railwatch_script::{Files, Limits, read_dir, read_script, run_tests, types};
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::{EXIT_FAILURE, Failure, Out};

/// How often `test --watch` looks for a change.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs the tests that scripts carry in themselves: one file, or all below a folder; with `watch`, again whenever one
/// of them changes.
pub(crate) fn test(path: &Path, watch: bool, out: &mut Out) -> Result<(), Failure> {
    let mut files = read(path)?;
    let mut outcome = test_files(path, &files, out);
    while watch && !out.is_broken() {
        if let Err(failure) = &outcome {
            out.failure(failure);
        }
        outcome = loop {
            std::thread::sleep(LOOK_EVERY);
            // A file that is being replaced is missing for a moment.
            let Ok(found) = read(path) else { continue };
            if found != files {
                files = found;
                out.line("")?;
                break test_files(path, &files, out);
            }
        };
    }
    outcome
}

fn read(path: &Path) -> Result<Files, Failure> {
    let limits = Limits::default();
    let files = if path.is_dir() { read_dir(path, &limits) } else { read_script(path, &limits) };
    Ok(files.map_err(|error| anyhow::anyhow!("{error}; see {}", path.display()))?)
}

fn test_files(path: &Path, files: &Files, out: &mut Out) -> Result<(), Failure> {
    let (mut passed, mut failed, mut n_files) = (0, 0, 0);
    for name in files.keys().filter(|name| name.ends_with(".lua")) {
        let report = run_tests(files, name, &Limits::default());
        n_files += 1;
        passed += report.passed.len();
        failed += report.failures.len();
        let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
        out.document(&json!({ "file": name, "passed": report.passed.len(), "failures": failures }))?;
        let verdict = if report.is_ok() { "ok" } else { "FAILED" };
        out.line(format!("{verdict:<6} {name}: {} passed", report.passed.len()))?;
        for failure in failures {
            out.line(format!("       {failure}"))?;
        }
    }
    out.line(format!("{n_files} files: {passed} passed, {failed} failed"))?;
    if n_files == 0 {
        let message = format!("there is no script at {}", path.display());
        return Err(Failure { code: EXIT_FAILURE, message });
    }
    if failed > 0 {
        return Err(Failure { code: EXIT_FAILURE, message: format!("{failed} script tests failed") });
    }
    Ok(())
}

/// Shows how the scripts in force do.
pub(crate) fn scripts(config: &Path, out: &mut Out) -> Result<(), Failure> {
    let status = Client::open(config)?.get("/v1/status")?;
    let scripts = status["scripts"].as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for script in &scripts {
        out.document(script)?;
        let text = |key: &str| script[key].as_str().unwrap_or("-").to_owned();
        let last =
            script.pointer("/last_errors/0/message").and_then(serde_json::Value::as_str).unwrap_or_default();
        rows.push(vec![
            text("name"),
            text("kind"),
            text("health"),
            script["calls"].to_string(),
            script["errors"].to_string(),
            text("file"),
            last.to_owned(),
        ]);
    }
    out.table(&["script", "kind", "health", "calls", "errors", "file", "last error"], &rows)
}

/// Reads expressions and shows what they are for an agent as it is now.
pub(crate) fn repl(config: &Path, agent: Option<String>, out: &mut Out) -> Result<(), Failure> {
    let client = Client::open(config)?;
    let mut agent = match agent {
        Some(agent) => agent,
        None => most_anomalous(&client)?,
    };
    let is_terminal = std::io::stdin().is_terminal();
    out.line(format!(
        "a is {agent}; try a:spent(\"1h\"), a.velocity.ratio, a.score. `:agent NAME` changes it."
    ))?;
    let mut line = String::new();
    loop {
        if is_terminal {
            eprint_prompt(&agent);
        }
        line.clear();
        if std::io::stdin().lock().take(LINE_LEN_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let expression = line.trim();
        if let Some(name) = expression.strip_prefix(":agent ") {
            agent = name.trim().to_owned();
            continue;
        }
        if expression.is_empty() {
            continue;
        }
        match client.post("/v1/evaluate", &json!({ "agent": agent, "expression": expression })) {
            Ok(answer) => {
                out.document(&answer)?;
                out.line(answer["value"].as_str().unwrap_or_default())?;
            }
            Err(failure) if failure.code == EXIT_FAILURE => out.failure(&failure),
            Err(failure) => return Err(failure),
        }
    }
}

/// Bytes of one line.
const LINE_LEN_MAX: u64 = 8_192;

fn eprint_prompt(agent: &str) {
    let mut error = std::io::stderr();
    // Without a terminal to write to there is nobody to be asked.
    drop(write!(error, "{agent}> ").and_then(|()| error.flush()));
}

fn most_anomalous(client: &Client) -> Result<String, Failure> {
    let agents = client.get("/v1/agents?limit=1")?;
    let name = agents.pointer("/items/0/agent").and_then(serde_json::Value::as_str);
    name.map(str::to_owned).ok_or_else(|| Failure {
        code: EXIT_FAILURE,
        message: "no agent has paid yet; there is nothing to look at".to_owned(),
    })
}

/// Prints the type definitions that editors read.
pub(crate) fn print_types(out: &mut Out) -> Result<(), Failure> {
    out.text(&types())
}
