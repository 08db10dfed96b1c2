//! Registration: explicit lists that can be read, no link-time magic. A plugin crate exports one list; the host
//! concatenates them.

use std::sync::Arc;

use schemars::Schema;
use toml::Table;

use crate::column::Column;
use crate::config::ConfigError;
use crate::decode::Decoder;
use crate::sink::{Sink, SinkBuild};
use crate::source::{Source, SourceBuild};

/// Makes a `T` from a plugin's table and what the host offers.
pub type Build<T, With> = fn(&Table, &With) -> Result<T, ConfigError>;

/// A source that configuration can name as `plugin = "…"`.
#[derive(Debug, Clone, Copy)]
pub struct SourcePlugin {
    /// The name.
    pub name: &'static str,
    /// One line for `railwatch plugins`.
    pub summary: &'static str,
    /// An example block that parses; it is the documentation.
    pub example: &'static str,
    /// The table's schema.
    pub schema: fn() -> Schema,
    /// Checks the table and builds the source. Does no IO beyond reading secrets: `check` calls it too.
    pub build: Build<Box<dyn Source>, SourceBuild>,
    /// The decoder alone, for `railwatch decode`: recorded bytes through the live code path.
    pub decoder: Build<Arc<dyn Decoder>, SourceBuild>,
}

/// A sink that configuration can name as `plugin = "…"`.
#[derive(Debug, Clone, Copy)]
pub struct SinkPlugin {
    /// The name.
    pub name: &'static str,
    /// One line for `railwatch plugins`.
    pub summary: &'static str,
    /// An example block that parses; it is the documentation.
    pub example: &'static str,
    /// The table's schema.
    pub schema: fn() -> Schema,
    /// Checks the table and builds the sink. Does no IO beyond reading secrets: `check` calls it too.
    pub build: Build<Box<dyn Sink>, SinkBuild>,
}

/// A detector that configuration can set up as `[detectors.<name>]`.
#[derive(Debug, Clone, Copy)]
pub struct DetectorPlugin {
    /// The name.
    pub name: &'static str,
    /// One line for `railwatch plugins`.
    pub summary: &'static str,
    /// An example block that parses; it is the documentation.
    pub example: &'static str,
    /// The table's schema.
    pub schema: fn() -> Schema,
    /// Checks the table and builds the detector in an empty column.
    pub build: fn(&Table) -> Result<Box<dyn Column>, ConfigError>,
}
