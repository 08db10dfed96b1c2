//! `agents adopt`: makes an unmapped spender an agent's own, in the configuration file.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::cli::{EXIT_CONFIG, EXIT_FAILURE, Failure, Out, run};
use crate::config::{self, Edited};

/// Options of `agents adopt`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The spender as `railwatch agents` shows it: `unmapped:SCHEME:VALUE`.
    spender: String,
    /// The agent that it belongs to; one that is not declared yet is.
    agent: String,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// An unmapped spender's name shows this many characters of its identity.
const SHOWN_CHARS: usize = 120;

/// Adopts.
pub(crate) fn adopt(config: &Path, args: &AdoptArgs, out: &mut Out) -> Result<(), Failure> {
    run::load(config, true)?;
    let identity = args.spender.strip_prefix("unmapped:").and_then(|rest| rest.split_once(':'));
    let Some((scheme, value)) = identity.filter(|(scheme, value)| !scheme.is_empty() && !value.is_empty())
    else {
        let message = format!("{:?} is no unmapped spender; write unmapped:SCHEME:VALUE", args.spender);
        return Err(Failure { code: EXIT_FAILURE, message });
    };
    if args.agent.starts_with("unmapped:") {
        let message = "an agent needs a name of its own, not that of a spender".to_owned();
        return Err(Failure { code: EXIT_FAILURE, message });
    }
    // A longer identity is known by its beginning only.
    let glob = if value.chars().count() >= SHOWN_CHARS { "*" } else { "" };
    let edited = config::adopt(config, &args.agent, scheme, &format!("{value}{glob}"));
    let edited = edited.ok_or_else(|| Failure {
        code: EXIT_CONFIG,
        message: format!("{} cannot be edited; see railwatch check", config.display()),
    })?;
    let Edited { path, line, text, .. } = &edited;
    if args.dry_run {
        out.document(&json!({ "path": path, "line": line, "text": text }))?;
        let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        return out.line(format!("{}:{line}: {shown}", path.display()));
    }
    write(&edited.path, &edited.text)?;
    if let Err(failure) = run::load(config, true) {
        // Such as an identity that another agent claims.
        write(&edited.path, &edited.before)?;
        return Err(failure);
    }
    out.document(&json!({ "spender": args.spender, "agent": args.agent, "path": path, "line": line }))?;
    out.line(format!(
        "{}:{line}: what {scheme} {value} pays from now on is {}'s; a running railwatch takes it up by itself.\n\
         What it has paid so far stays with {}.",
        path.display(),
        args.agent,
        args.spender
    ))
}

/// Replaces a file in one step, with its permissions.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = tempfile::Builder::new().prefix(".railwatch-").tempfile_in(folder)?;
    std::fs::write(fresh.path(), text)?;
    if let Ok(metadata) = std::fs::metadata(path) {
        std::fs::set_permissions(fresh.path(), metadata.permissions())?;
    }
    fresh.persist(path).map_err(|error| Failure::from(error.error))?;
    Ok(())
}
