//! Rules of the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use railwatch_tests::{railwatch, repo_root};

/// Which crate may import which; `crates/README.md` explains why. The binary may import everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("railwatch-model", &[]),
    ("railwatch-plugin", &["railwatch-model"]),
    ("railwatch-engine", &["railwatch-model", "railwatch-plugin"]),
    ("railwatch-script", &["railwatch-model", "railwatch-plugin"]),
    ("railwatch-store", &["railwatch-model"]),
    ("railwatch-web", &["railwatch-model", "railwatch-plugin", "railwatch-store"]),
    ("railwatch-sources", &["railwatch-model", "railwatch-plugin"]),
    ("railwatch-detectors", &["railwatch-model", "railwatch-plugin"]),
    ("railwatch-sinks", &["railwatch-model", "railwatch-plugin"]),
    ("railwatch-tests", &["railwatch-model", "railwatch-plugin"]),
];
/// Everything, which only the binary may import.
const BINARY: &str = "railwatch";
/// Lines of a file above which it should have been two.
const LINES_MAX: usize = 800;

/// The manifests of all members by the name of their crate.
fn manifests() -> BTreeMap<String, toml::Table> {
    let folders = ["crates", "plugins"].map(|folder| children(&repo_root().join(folder)));
    let folders = folders.into_iter().flatten().chain([repo_root().join("tests")]);
    let paths = folders.map(|folder| folder.join("Cargo.toml")).filter(|path| path.exists());
    let read = |path: PathBuf| {
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        (manifest["package"]["name"].as_str().unwrap().to_owned(), manifest)
    };
    paths.map(read).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut children: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    children.sort();
    children
}

/// Every file of ours below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in children(folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true if name == "target" || name.starts_with('.') => {}
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn crates_import_only_along_the_arrows() {
    let manifests = manifests();
    let known: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).chain([BINARY]).collect();
    for (name, manifest) in &manifests {
        assert!(known.contains(&name.as_str()), "{name} is missing from ARROWS and crates/README.md");
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else { continue };
        let imports = manifest.get("dependencies").and_then(toml::Value::as_table);
        for import in imports.into_iter().flat_map(|table| table.keys()) {
            let is_ours = manifests.contains_key(import);
            assert!(!is_ours || allowed.contains(&import.as_str()), "{name} must not import {import}");
        }
    }
    for name in known {
        assert!(manifests.contains_key(name), "{name} is gone; take it out of ARROWS");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (name, manifest) in manifests() {
        let takes = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(takes, Some(true), "{name}: [lints] workspace = true is missing");
    }
}

#[test]
fn every_folder_has_its_map_and_the_map_of_crates_names_them_all() {
    for folder in ["crates", "plugins", "scripts", "examples", "tests"] {
        let map = repo_root().join(folder).join("README.md");
        assert!(map.exists(), "{} is missing", map.display());
    }
    let map = fs::read_to_string(repo_root().join("crates/README.md")).unwrap();
    let words: Vec<&str> = map.split('`').collect();
    for name in manifests().keys().filter(|name| *name != "railwatch-tests") {
        let folder = name.strip_prefix("railwatch-").map(|name| format!("plugins/{name}"));
        let is_named = words.iter().any(|word| word == name || Some(*word) == folder.as_deref());
        assert!(is_named, "crates/README.md does not say what {name} holds");
    }
    let is_path = |word: &&&str| word.contains('/') && (word.ends_with(".rs") || word.ends_with(".md"));
    for word in words.iter().filter(is_path) {
        let exists =
            [repo_root().to_owned(), repo_root().join("crates")].iter().any(|base| base.join(word).exists());
        assert!(exists, "crates/README.md names {word}, which does not exist");
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut found = Vec::new();
    files(repo_root(), &mut found);
    let is_code = |path: &&PathBuf| {
        path.extension()
            .is_some_and(|extension| ["rs", "lua", "luau", "py"].iter().any(|known| extension == *known))
    };
    for path in found.iter().filter(is_code) {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; at most {LINES_MAX}", path.display());
    }
}

#[test]
fn every_example_passes_the_check_without_a_remark() {
    let examples = repo_root().join("examples");
    let map = fs::read_to_string(examples.join("README.md")).unwrap();
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let configs: Vec<PathBuf> = children(&examples).into_iter().filter(is_toml).collect();
    assert!(configs.len() >= 5, "{configs:?}");
    for path in configs {
        let outcome = railwatch(&["--config", path.to_str().unwrap(), "check", "--offline"]);
        assert_eq!(outcome.code, 0, "{}: {outcome:?}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(map.contains(name), "examples/README.md does not name {name}");
    }
}
