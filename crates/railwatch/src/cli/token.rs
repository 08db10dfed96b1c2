//! `token`: makes a token and prints the block that the configuration needs.

use clap::Args;
use serde_json::json;

use crate::cli::{Failure, Out};

/// Options of `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Whose it is: the actor in the audit.
    name: String,
    /// What it allows: look; act on alerts; reload the configuration; everything.
    #[arg(long, default_value = "viewer", value_parser = ["viewer", "responder", "author", "admin"])]
    role: String,
}

/// `token`.
pub(crate) fn token(args: &TokenArgs, out: &mut Out) -> Result<(), Failure> {
    let token = railwatch_web::new_token().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let sha256 = hex::encode(railwatch_web::hash(&token));
    out.document(&json!({ "name": args.name, "role": args.role, "token": token, "sha256": sha256 }))?;
    out.line("# Add this to the configuration; it takes effect when the file is saved:")?;
    out.line("[[http.tokens]]")?;
    out.line(format!("name = {}", json!(args.name)))?;
    out.line(format!("role = \"{}\"", args.role))?;
    out.line(format!("sha256 = \"{sha256}\""))?;
    out.line("\n# The token; it is shown this once:")?;
    out.line(token)
}
