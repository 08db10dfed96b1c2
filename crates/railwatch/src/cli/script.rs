//! `test`, `scripts`, `types`: working with Lua.

use std::path::{Path, PathBuf};

use railwatch_script::{Limits, read_dir, run_tests, types};
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::{EXIT_FAILURE, Failure, Out};

/// Runs the tests that scripts carry in themselves: one file, or all below a folder.
pub(crate) fn test(path: &Path, out: &mut Out) -> Result<(), Failure> {
    let folder: PathBuf = match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let limits = Limits::default();
    let files = read_dir(&folder, &limits).map_err(|error| anyhow::anyhow!(error.to_string()))?;
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let scripts = files.keys().filter(|name| name.ends_with(".lua"));
    let scripts = scripts.filter(|name| path.is_dir() || Some(*name) == wanted.as_ref());
    let (mut passed, mut failed, mut n_files) = (0, 0, 0);
    for name in scripts {
        let report = run_tests(&files, name, &limits);
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

/// Prints the type definitions that editors read.
pub(crate) fn print_types(out: &mut Out) -> Result<(), Failure> {
    out.text(&types())
}
