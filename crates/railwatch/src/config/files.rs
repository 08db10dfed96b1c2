//! Finds and reads the configuration's files, within limits, and hashes what was read.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use railwatch_script::{Files, Limits, read_dir, read_script};
use sha2::{Digest as _, Sha256};

use super::diagnostic::{Diagnostic, SourceFile};

/// Bytes that one file may have: 400,000 agents in full are about 100 MB, and nobody writes them by hand.
pub(super) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Files that `conf.d` may hold.
const FILES_MAX: usize = 4096;

/// Reads `path` and `conf.d/*.toml` beside it, in name order. A file that cannot be read is a finding.
pub(super) fn read_all(path: &Path, errors: &mut Vec<Diagnostic>) -> Vec<SourceFile> {
    let mut paths = vec![path.to_owned()];
    paths.extend(conf_d(path, errors));
    let mut files = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(text) => files.push(SourceFile { path, text }),
            Err(reason) => errors.push(Diagnostic::file(format!("{}: {reason}", path.display()))),
        }
    }
    files
}

fn conf_d(path: &Path, errors: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let folder = base_dir(path).join("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            errors.push(Diagnostic::file(format!("{}: {error}", folder.display())));
            return Vec::new();
        }
    };
    let is_toml = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|extension| extension == "toml")
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_toml).collect();
    paths.sort();
    if paths.len() > FILES_MAX {
        errors.push(Diagnostic::file(format!("{}: more than {FILES_MAX} files", folder.display())));
        paths.truncate(FILES_MAX);
    }
    paths
}

/// The folder of a file.
pub(super) fn base_dir(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n');
        format!("line {} is not UTF-8 text", line.count().saturating_add(1))
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let show = |error: std::io::Error| error.to_string();
    let file = std::fs::File::open(path).map_err(show)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(show)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024));
    }
    Ok(bytes)
}

/// The scripts behind a path that the configuration names: one file with its fixtures, or all of a folder. They are
/// called what the configuration calls them.
pub(super) fn scripts(base_dir: &Path, named: &Path) -> Result<Files, String> {
    let (full, limits) = (base_dir.join(named), Limits::default());
    let (found, prefix) = if full.is_dir() {
        (read_dir(&full, &limits), Some(named))
    } else if full.is_file() {
        (read_script(&full, &limits), named.parent())
    } else {
        return Err("no such file".to_owned());
    };
    let prefix = prefix.unwrap_or(Path::new(""));
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(|(name, text)| (script_name(&prefix.join(name)), text)).collect())
}

/// What a script is called whose path the configuration writes as `./rules//a.lua`: `rules/a.lua`.
pub(crate) fn script_name(path: &Path) -> String {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Of scripts that were read before, those behind a path that the configuration names.
pub(crate) fn below(all: &Files, named: &Path) -> Files {
    let name = script_name(named);
    let folder = format!("{name}/");
    let fixtures = script_name(&named.parent().unwrap_or(Path::new("")).join("fixtures/"));
    let is_script = all.contains_key(&name);
    let is_below = |file: &str| match is_script {
        true => file == name || file.strip_prefix(&fixtures).is_some_and(|rest| rest.starts_with('/')),
        false => file.starts_with(&folder) || name.is_empty(),
    };
    let found = all.iter().filter(|(file, _)| is_below(file));
    found.map(|(file, text)| (file.clone(), text.clone())).collect()
}

/// The digest of texts and scripts, names included.
pub(super) fn digest(base_dir: &Path, files: &[SourceFile], scripts: &Files) -> String {
    let mut hash = Sha256::new();
    let mut add = |name: &str, text: &str| {
        for part in [name.as_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    };
    for file in files {
        let name = file.path.strip_prefix(base_dir).unwrap_or(&file.path);
        add(&name.to_string_lossy(), &file.text);
    }
    scripts.iter().for_each(|(name, text)| add(name, text));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
