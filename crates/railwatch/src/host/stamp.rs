//! What the host adds to a payment between its source and the engine: live, and wherever recorded bytes are decoded.

use railwatch_model::{Label, Payment, SmolStr};

use crate::config::SourceCommon;
use crate::host::Prices;

/// Stamps the source and the host's own settings on a payment, and values it.
pub(crate) fn stamp(source: &SmolStr, common: Option<&SourceCommon>, prices: &Prices, payment: &mut Payment) {
    payment.source = source.clone();
    if let Some(direction) = common.and_then(|common| common.direction) {
        payment.direction = direction;
    }
    for (key, value) in common.iter().flat_map(|common| &common.labels) {
        if !payment.labels.iter().any(|label| label.key == *key) {
            payment.labels.push(Label { key: key.into(), value: value.into() });
        }
    }
    if payment.valuation.is_none() {
        payment.valuation = prices.value(&payment.amount, payment.observed_at);
    }
}
