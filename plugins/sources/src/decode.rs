//! Decoders: the declarative one, which reads payments by field paths from TOML, and its parts.
//!
//! Every transport of this crate takes a [`Decoder`]; which one is decided here: the Lua file that the host compiled
//! for `decode = "….lua"`, or the mapping in the source's own table.

use std::fmt::Display;
use std::sync::Arc;

use railwatch_plugin::config::{self, ConfigError};
use railwatch_plugin::decode::Decoder;
use railwatch_plugin::source::SourceBuild;
use toml::Table;

mod amount;
mod framing;
mod mapping;
mod path;
mod payment;
mod time;

pub use amount::AmountUnit;
pub use mapping::{FieldsConfig, KindAs, Mapping, MappingConfig, MissingId, Negative, RefName};
pub(crate) use path::Pluck;
pub use path::{FieldPath, Paths};
pub use time::TimeUnit;

/// Why a part of a message is not a payment: a stable code, and what would be accepted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, detail: impl Display) -> Self {
        Self { code, detail: detail.to_string() }
    }
}

/// Takes the decoder's keys out of a transport's table and builds the decoder that they describe. Returns the
/// decoder and the keys that are left for the transport.
pub(crate) fn take(table: &Table, build: &SourceBuild) -> Result<(Arc<dyn Decoder>, Table), ConfigError> {
    let (own, rest) = crate::table::split::<MappingConfig>(table);
    let config: MappingConfig = config::parse(&own)?;
    if let Some(decoder) = &build.decoder {
        return Ok((Arc::clone(decoder), rest));
    }
    if let Some(file) = &config.decode {
        let message = format!("no decoder named {file:?} was given; name a .lua file");
        return Err(ConfigError::new("decode", message));
    }
    let mapping = Mapping::new(&config, build.name.clone())?;
    Ok((Arc::new(mapping), rest))
}
