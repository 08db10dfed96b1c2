//! A file of JSON lines: one notice per line, synced before the receipt.
//!
//! The file is opened anew for every notice, so that a rotation by renaming needs no signal. A line that a crash cut
//! short is ended before the next one begins.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use crate::payload;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "file",
    summary: "Appends one JSON line per notice to a file, synced to disk",
    example: r#"[sinks.archive]
plugin = "file"
path = "notices.jsonl"
"#,
    schema: || schema_for!(FileConfig),
    build,
};

/// Settings of a file sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    /// The file, created where it is missing; relative to the configuration's folder. Its folder must exist.
    path: PathBuf,
}

#[derive(Debug)]
struct FileSink {
    path: PathBuf,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: FileConfig = parse(table)?;
    if config.path.file_name().is_none() {
        return Err(ConfigError::new("path", "this is not the path of a file"));
    }
    Ok(Box::new(FileSink { path: build.base_dir.join(config.path) }))
}

#[async_trait]
impl Sink for FileSink {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let line = payload::json(dispatch.notice);
        let mut line =
            line.map_err(|error| DeliveryError::Rejected(format!("not writable as JSON: {error}")))?;
        line.push(b'\n');
        let path = self.path.clone();
        let appended = tokio::task::spawn_blocking(move || append(&path, &line)).await;
        let failed = |reason| DeliveryError::Retry { reason, after: None };
        match appended {
            Ok(Ok(())) => Ok(Receipt::default()),
            Ok(Err(error)) => Err(failed(format!("cannot append to {}: {error}", self.path.display()))),
            Err(_) => Err(failed("the writer was stopped".to_owned())),
        }
    }

    /// A second delivery is a second line with the same id.
    fn is_idempotent(&self) -> bool {
        false
    }
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // A pipe or a device cannot be synced, so it can give no receipt.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let len = metadata.len();
    let mut bytes = Vec::with_capacity(line.len() + 1);
    if len > 0 && last_byte(&mut file)? != b'\n' {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(line);
    file.write_all(&bytes)?;
    file.sync_data()?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

/// Notices name agents and amounts, so a new file is for its owner only.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A new file's name is durable only once its folder is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use railwatch_model::{Notice, Occasion};

    use super::*;
    use crate::testing::{build_with, deliver, notice};

    fn sink_in(folder: &Path) -> Box<dyn Sink> {
        build(&toml::from_str("path = \"n.jsonl\"").unwrap(), &build_with(&[], folder.to_owned())).unwrap()
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_notice_is_a_line_that_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink_in(folder.path());
        for occasion in [Occasion::Opened, Occasion::Resolved] {
            assert_eq!(deliver(&*sink, &notice(occasion), None), Ok(Receipt::default()));
        }
        let lines = lines(&folder.path().join("n.jsonl"));
        let back: Vec<Notice> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, [notice(Occasion::Opened), notice(Occasion::Resolved)]);
    }

    #[test]
    fn a_rotated_file_is_left_alone_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink_in(folder.path());
        let (path, old) = (folder.path().join("n.jsonl"), folder.path().join("n.jsonl.1"));
        deliver(&*sink, &notice(Occasion::Opened), None).unwrap();
        std::fs::rename(&path, &old).unwrap();
        std::fs::write(&path, "{\"torn").unwrap();
        deliver(&*sink, &notice(Occasion::Opened), None).unwrap();
        assert_eq!(lines(&old).len(), 1);
        assert_eq!(lines(&path)[0], "{\"torn");
        assert!(serde_json::from_str::<Notice>(&lines(&path)[1]).is_ok());
    }

    #[test]
    fn a_device_gives_no_receipt() {
        let sink = build(&toml::from_str("path = \"/dev/null\"").unwrap(), &build_with(&[], PathBuf::new()))
            .unwrap();
        let error = deliver(&*sink, &notice(Occasion::Opened), None).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_retried_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink_in(&folder.path().join("gone"));
        let error = deliver(&*sink, &notice(Occasion::Opened), None).unwrap_err();
        assert!(matches!(&error, DeliveryError::Retry { reason, .. } if reason.contains("gone")), "{error}");
    }
}
