//! Golden tests: what is written against what is said about it.

mod bad;
mod fake;
mod good;
mod limits;

use std::path::Path;
use std::sync::Arc;

use railwatch_plugin::clock::ManualClock;

use super::{Diagnostics, Loaded, Options, load_with};

/// Options that depend on nothing outside.
fn options(offline: bool) -> Options {
    Options { secrets: Arc::new(fake::Vault), clock: Arc::new(ManualClock::default()), offline }
}

/// Loads files given as name and text; the first is the main one. Their names are relative in what is said.
#[track_caller]
fn load_files(files: &[(&str, &str)], offline: bool) -> Result<Loaded, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let path = folder.path().join(files.first().map_or("railwatch.toml", |(name, _)| name));
    let shorten = |mut found: Diagnostics| {
        for file in &mut found.files {
            file.path = file.path.strip_prefix(folder.path()).unwrap_or(Path::new("?")).to_owned();
        }
        found
    };
    match load_with(&path, &fake::registries(), &options(offline)) {
        Ok(loaded) => Ok(Loaded { warnings: shorten(loaded.warnings.clone()), ..loaded }),
        Err(found) => Err(shorten(found)),
    }
}

/// The configuration of one file that must load.
#[track_caller]
fn load_text(text: &str) -> Loaded {
    load_files(&[("railwatch.toml", text)], false).unwrap_or_else(|found| panic!("{found}"))
}
