//! Files and standard input: JSON lines or CSV, once or followed, plain or gzip.
//!
//! A place in a file is a byte offset and a fingerprint of the file's beginning, so that a file that was rotated
//! while railwatch was away is read from its start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use railwatch_plugin::config::{ConfigError, Span};
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::registry::SourcePlugin;
use railwatch_plugin::source::{Phase, Source, SourceBuild, SourceContext, SourceError};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use toml::Table;

use crate::decode::MappingConfig;
use crate::{decode, table};

mod csv_rows;
mod feed;
mod follow;
mod lines;
mod place;
#[cfg(test)]
mod tests;

use csv_rows::{CsvDecoder, CsvRows};
use feed::Feed;
use follow::Follow;

/// The entry of the list of sources.
pub const FILE: SourcePlugin = SourcePlugin {
    name: "file",
    summary: "JSON lines or CSV from a file, once or as it grows",
    example: FILE_EXAMPLE,
    schema: table::merged_schema::<FileTable, MappingConfig>,
    build: |table, build| Ok(Box::new(FileSource::from_table(table, build)?)),
    decoder: |table, build| {
        let source = FileSource::from_table(table, build)?;
        Ok(source.lines.recorded(source.decoder))
    },
};

/// The entry of the list of sources.
pub const STDIN: SourcePlugin = SourcePlugin {
    name: "stdin",
    summary: "JSON lines or CSV from standard input",
    example: STDIN_EXAMPLE,
    schema: table::merged_schema::<LinesTable, MappingConfig>,
    build: |table, build| Ok(Box::new(StdinSource::from_table(table, build)?)),
    decoder: |table, build| {
        let source = StdinSource::from_table(table, build)?;
        Ok(source.lines.recorded(source.decoder))
    },
};

const FILE_EXAMPLE: &str = r#"[sources.ledger]
plugin = "file"
path = "payments.jsonl"
follow = true
rail = "card"
currency = "USD"

[sources.ledger.map]
agent = "/agent"
amount = "/amount"
"#;

const STDIN_EXAMPLE: &str = r#"[sources.pipe]
plugin = "stdin"
format = "csv"
rail = "card"
currency = "EUR"
"#;

/// The transport's keys of a `file` source's table; the decoder's stand beside them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileTable {
    /// The file; a relative path is relative to the configuration's folder. `.gz` is decompressed.
    pub path: PathBuf,
    /// How it is written. Default: CSV if the name ends in `.csv` (or `.csv.gz`), JSON lines otherwise.
    pub format: Option<LineFormat>,
    /// Go on as the file grows, is truncated, or is replaced. Default: read to the end, then stop.
    #[serde(default)]
    pub follow: bool,
    /// How often a followed file is looked at. Default: 250 ms.
    #[serde(default = "poll_every")]
    pub poll_every: Span,
    /// Bytes that a line may have; a longer one is rejected and counted. Default: 1 MiB.
    #[serde(default = "line_len_max")]
    pub line_len_max: usize,
    /// Lines that are handed over in one delivery at most. Default: 1024.
    #[serde(default = "batch_max")]
    pub batch_max: usize,
    /// The names of the CSV's columns, if its first line does not hold them.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What separates the CSV's fields. Default: a comma.
    #[serde(default = "delimiter")]
    pub delimiter: char,
}

/// The transport's keys of a `stdin` source's table; the decoder's stand beside them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesTable {
    /// How it is written.
    #[serde(default)]
    pub format: LineFormat,
    /// Bytes that a line may have; a longer one is rejected and counted. Default: 1 MiB.
    #[serde(default = "line_len_max")]
    pub line_len_max: usize,
    /// Lines that are handed over in one delivery at most. Default: 1024.
    #[serde(default = "batch_max")]
    pub batch_max: usize,
    /// The names of the CSV's columns, if its first line does not hold them.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What separates the CSV's fields. Default: a comma.
    #[serde(default = "delimiter")]
    pub delimiter: char,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineFormat {
    /// One JSON object or array per line.
    #[default]
    Jsonl,
    /// CSV; a row becomes an object whose keys are the columns' names and whose values are texts.
    Csv,
}

fn poll_every() -> Span {
    Span(Duration::from_millis(250))
}

fn line_len_max() -> usize {
    1 << 20
}

fn batch_max() -> usize {
    1024
}

fn delimiter() -> char {
    ','
}

/// Bytes that are read at once.
const CHUNK_LEN: usize = 256 << 10;

/// Reads one file.
#[derive(Debug)]
pub struct FileSource {
    config: FileTable,
    path: PathBuf,
    lines: LinesTable,
    decoder: Arc<dyn Decoder>,
}

impl FileSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (decoder, rest) = decode::take(table, build)?;
        Self::new(table::parse_rest::<_, MappingConfig>(&rest)?, decoder, build)
    }

    /// A reader with a decoder of the caller's choice, for rails that bring their own.
    pub fn new(
        config: FileTable,
        decoder: Arc<dyn Decoder>,
        build: &SourceBuild,
    ) -> Result<Self, ConfigError> {
        let plain = if is_gz(&config.path) { config.path.with_extension("") } else { config.path.clone() };
        let is_csv = plain.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        let implied = if is_csv { LineFormat::Csv } else { LineFormat::Jsonl };
        if is_gz(&config.path) && config.follow {
            return Err(ConfigError::new("follow", "a compressed file does not grow; leave follow out"));
        }
        if config.follow && config.poll_every.0.is_zero() {
            return Err(ConfigError::new("poll_every", "must be longer than nothing"));
        }
        let lines = LinesTable {
            format: config.format.unwrap_or(implied),
            line_len_max: config.line_len_max,
            batch_max: config.batch_max,
            columns: config.columns.clone(),
            delimiter: config.delimiter,
        };
        lines.check()?;
        let path = build.base_dir.join(&config.path);
        Ok(Self { config, path, lines, decoder })
    }
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

impl LinesTable {
    fn check(&self) -> Result<(), ConfigError> {
        if !self.delimiter.is_ascii() {
            return Err(ConfigError::new("delimiter", "must be one ASCII character"));
        }
        if self.batch_max == 0 || self.line_len_max == 0 {
            return Err(ConfigError::new("", "batch_max and line_len_max are at least 1"));
        }
        Ok(())
    }

    /// The decoder of recordings in this format.
    fn recorded(&self, decoder: Arc<dyn Decoder>) -> Arc<dyn Decoder> {
        match self.rows() {
            Some(rows) => Arc::new(CsvDecoder::new(rows, decoder)),
            None => decoder,
        }
    }

    fn rows(&self) -> Option<CsvRows> {
        (self.format == LineFormat::Csv).then(|| CsvRows::new(self.columns.clone(), self.delimiter))
    }
}

#[async_trait]
impl Source for FileSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let Self { config, path, lines, decoder } = *self;
        let feed = Feed::new(&cx, decoder.as_ref(), &lines);
        let wait = config.follow.then_some(config.poll_every.0);
        let mut follow = Follow::new(&cx, path, wait, feed);
        let result = follow.run().await;
        if let Err(SourceError::Fatal(message)) = &result {
            cx.status.phase(Phase::Failed, message.clone());
        }
        result
    }
}

/// Reads standard input to its end.
#[derive(Debug)]
pub struct StdinSource {
    lines: LinesTable,
    decoder: Arc<dyn Decoder>,
}

impl StdinSource {
    fn from_table(table: &Table, build: &SourceBuild) -> Result<Self, ConfigError> {
        let (decoder, rest) = decode::take(table, build)?;
        let lines: LinesTable = table::parse_rest::<_, MappingConfig>(&rest)?;
        lines.check()?;
        Ok(Self { lines, decoder })
    }
}

#[async_trait]
impl Source for StdinSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let feed = Feed::new(&cx, self.decoder.as_ref(), &self.lines);
        read_to_end(&cx, feed, tokio::io::stdin()).await
    }
}

/// Reads a stream to its end; the last line needs no line break.
async fn read_to_end(
    cx: &SourceContext,
    mut feed: Feed<'_>,
    mut stream: impl AsyncRead + Unpin,
) -> Result<(), SourceError> {
    cx.status.phase(Phase::Live, "reading");
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let read = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Ok(()),
            acked = feed.acked(), if feed.has_in_flight() => { acked?; continue }
            read = stream.read(&mut chunk) => read.map_err(|error| SourceError::Transient(error.to_string()))?,
        };
        if read == 0 {
            break;
        }
        feed.take(chunk.get(..read).unwrap_or_default()).await?;
    }
    feed.finish().await?;
    cx.status.phase(Phase::Done, feed.summary());
    Ok(())
}
