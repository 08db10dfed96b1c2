//! How a client reaches a server, whatever it speaks there: who it is, and whom it trusts. One set of keys for every source
//! that connects to a server of the user's choice.

use std::collections::BTreeMap;
use std::path::PathBuf;

use railwatch_plugin::config::{self, ConfigError};
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::source::SourceBuild;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use crate::auth::{AuthConfig, RequestHeaders};
use crate::{table, tls};

/// The keys, which stand beside those of the source.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionTable {
    /// A bearer token; short for `auth = { secret = … }`.
    pub token: Option<SecretRef>,
    /// The header that authenticates.
    pub auth: Option<AuthConfig>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Further trusted roots in PEM, such as the server's own certificate.
    pub ca_file: Option<PathBuf>,
}

/// What they come to.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The headers of every request.
    pub(crate) headers: RequestHeaders,
    ca_file: Option<PathBuf>,
}

impl Connection {
    /// Takes the connection's keys out of a source's table; the others are left.
    pub(crate) fn take(table: &Table, build: &SourceBuild) -> Result<(Self, Table), ConfigError> {
        let (own, rest) = table::split::<ConnectionTable>(table);
        let keys: ConnectionTable = config::parse(&own)?;
        let headers =
            RequestHeaders::new(keys.auth.as_ref(), keys.token.as_ref(), &keys.headers, &build.secrets)?;
        let ca_file = keys.ca_file.map(|path| build.base_dir.join(path));
        Ok((Self { headers, ca_file }, rest))
    }

    /// Whom the client trusts; read at every start, so that a replaced file takes effect.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, String> {
        tls::client_config(self.ca_file.as_deref())
    }
}
