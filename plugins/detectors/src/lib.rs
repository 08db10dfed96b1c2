//! The built-in detectors. Each is one pure file behind the public [`Detector`](railwatch_plugin::detector::Detector)
//! trait; they use the plugin SDK only.

mod amount;
pub mod anomaly_score;
pub mod burn_rate;
mod compact;
pub mod dormant;
pub mod drift;
pub mod evidence;
pub mod new_payee;
mod period;
pub mod price;
pub mod rail_shift;
pub mod repeat;
pub mod velocity;

use railwatch_plugin::registry::DetectorPlugin;

/// All of them, in the order in which they are evaluated: velocity publishes what is usual, the others read it.
pub const DETECTORS: &[DetectorPlugin] = &[
    velocity::PLUGIN,
    rail_shift::PLUGIN,
    burn_rate::PLUGIN,
    drift::PLUGIN,
    repeat::PLUGIN,
    price::PLUGIN,
    new_payee::PLUGIN,
    dormant::PLUGIN,
];
