//! The plugins that are compiled in. To add one, add it to the list of its crate.

use railwatch_plugin::registry::{DetectorPlugin, SinkPlugin, SourcePlugin};

use crate::config::Registries;

/// The sources.
pub const SOURCES: &[SourcePlugin] = railwatch_sources::SOURCES;
/// The sinks.
pub const SINKS: &[SinkPlugin] = railwatch_sinks::SINKS;
/// The detectors, in evaluation order.
pub const DETECTORS: &[DetectorPlugin] = railwatch_detectors::DETECTORS;

/// All of them.
pub const REGISTRIES: Registries<'static> =
    Registries { sources: SOURCES, sinks: SINKS, detectors: DETECTORS };
