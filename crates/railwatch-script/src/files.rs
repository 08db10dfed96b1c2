//! Reading: from a folder, or from one script with its fixtures, to texts. Everything else in this crate works on texts.

use std::path::Path;

use crate::error::ScriptError;
use crate::limits::Limits;
use crate::scripts::{Files, is_script};

/// Folders below the one that is named; deeper ones are not read.
const DEPTH_MAX: usize = 4;
/// Fixtures may be longer than scripts.
const FIXTURE_BYTES_MAX: u64 = 4 << 20;

/// Reads a script folder: `.lua` files and everything below a `fixtures/` folder, by their path below `dir`.
pub fn read_dir(dir: &Path, limits: &Limits) -> Result<Files, ScriptError> {
    walk(dir, "", limits)
}

/// Reads one script and the `fixtures/` beside it, by their path below the script's folder.
pub fn read_script(path: &Path, limits: &Limits) -> Result<Files, ScriptError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fixtures = folder.join("fixtures");
    let mut files = if fixtures.is_dir() { walk(&fixtures, "fixtures/", limits)? } else { Files::new() };
    files.insert(name.clone(), read_file(path, &name, limits)?);
    Ok(files)
}

fn walk(dir: &Path, prefix: &str, limits: &Limits) -> Result<Files, ScriptError> {
    let mut files = Files::new();
    let mut folders = vec![(dir.to_owned(), prefix.to_owned(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let fail = |error: std::io::Error| ScriptError::new(folder.display().to_string(), error);
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            // Mounted configuration is full of links; what they lead to counts.
            if entry.path().is_dir() {
                if depth < DEPTH_MAX && !name.starts_with('.') {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                }
                continue;
            }
            let is_wanted = name.ends_with(".lua") || prefix.ends_with("fixtures/");
            if !is_wanted || name.starts_with('.') {
                continue;
            }
            files.insert(path.clone(), read_file(&entry.path(), &path, limits)?);
            if files.len() > limits.files_max {
                return Err(ScriptError::new(
                    path,
                    format!("the script folder has more than {} files", limits.files_max),
                ));
            }
        }
    }
    Ok(files)
}

fn read_file(path: &Path, name: &str, limits: &Limits) -> Result<String, ScriptError> {
    let fail = |error: std::io::Error| ScriptError::new(name, error);
    let len = std::fs::metadata(path).map_err(fail)?.len();
    let len_max = if is_script(name) { limits.source_bytes_max as u64 } else { FIXTURE_BYTES_MAX };
    if len > len_max {
        return Err(ScriptError::new(name, format!("longer than {len_max} bytes")));
    }
    std::fs::read_to_string(path).map_err(fail)
}
