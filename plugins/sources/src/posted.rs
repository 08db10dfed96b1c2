//! Rails that post: a webhook with the rail's own decoder. The transport is the `webhook` source; this puts a rail's
//! keys beside the transport's.

use std::sync::Arc;

use http::StatusCode;
use railwatch_plugin::config::{self, ConfigError};
use railwatch_plugin::decode::{Decoded, Decoder};
use railwatch_plugin::http::HttpReply;
use railwatch_plugin::source::SourceBuild;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::table;
use crate::webhook::{WebhookSource, WebhookTable};

/// Builds the webhook of a rail whose own keys are `Keys`.
pub(crate) fn build<Keys: JsonSchema + DeserializeOwned>(
    table: &Table,
    build: &SourceBuild,
    decoder: impl FnOnce(Keys) -> Arc<dyn Decoder>,
) -> Result<WebhookSource, ConfigError> {
    let (own, rest) = table::split::<Keys>(table);
    let keys = config::parse(&own)?;
    webhook(config::parse(&rest)?, decoder(keys), build)
}

/// A webhook that answers as rails expect.
pub(crate) fn webhook(
    table: WebhookTable,
    decoder: Arc<dyn Decoder>,
    build: &SourceBuild,
) -> Result<WebhookSource, ConfigError> {
    Ok(WebhookSource::new(table, decoder, build)?.answering(acknowledge))
}

/// The keys of a rail alone, for decoders.
pub(crate) fn keys<Keys: JsonSchema + DeserializeOwned>(table: &Table) -> Result<Keys, ConfigError> {
    config::parse(&table::split::<Keys>(table).0)
}

/// Rails repeat what is not answered 2xx, for days, and switch an endpoint off that keeps failing. What was verified
/// is kept as a payment or as a reject, and is not wanted again.
fn acknowledge(_: &Decoded) -> HttpReply {
    HttpReply { content_type: "application/json", ..HttpReply::text(StatusCode::OK, "{}") }
}
