//! Finds and reads the configuration's files, within limits, and hashes what was read.

use std::io::Read as _;
use std::path::{Path, PathBuf};

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

/// The Lua files behind a path that the configuration names: the file itself, or all of a folder, in name order.
pub(super) fn scripts(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return if path.is_file() { Ok(vec![path.to_owned()]) } else { Err("no such file".to_owned()) };
    }
    let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "lua")).collect();
    paths.sort();
    Ok(paths)
}

/// The digest of texts and scripts, names included.
pub(super) fn digest(base_dir: &Path, files: &[SourceFile], scripts: &[PathBuf]) -> Result<String, String> {
    let mut hash = Sha256::new();
    let mut add = |path: &Path, bytes: &[u8]| {
        let name = path.strip_prefix(base_dir).unwrap_or(path).to_string_lossy();
        for part in [name.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    };
    for file in files {
        add(&file.path, file.text.as_bytes());
    }
    for script in scripts {
        let bytes = read_bytes(script).map_err(|reason| format!("{}: {reason}", script.display()))?;
        add(script, &bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
