//! The built-in detectors. Each is one pure file behind the public [`Detector`](railwatch_plugin::detector::Detector)
//! trait; they use the plugin SDK only.

mod compact;
pub mod evidence;
pub mod velocity;

use railwatch_plugin::registry::DetectorPlugin;

/// All of them, in the order in which they are evaluated: velocity publishes what is usual, the others read it.
pub const DETECTORS: &[DetectorPlugin] = &[velocity::PLUGIN];
