//! How a client shows who it is: a header with a secret, and further headers without.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::secret::{SecretRef, Secrets};
use schemars::JsonSchema;
use serde::Deserialize;

/// How a client authenticates: a header that holds a secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The header. Default: `authorization`.
    #[serde(default = "authorization")]
    pub header: String,
    /// What precedes the secret. Default: `Bearer ` for `authorization`, nothing for other headers.
    pub prefix: Option<String>,
    /// The secret.
    pub secret: SecretRef,
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// Headers of requests; the secret among them is read at every connection, so that a rotated file takes effect.
#[derive(Debug, Clone)]
pub(crate) struct RequestHeaders {
    plain: HeaderMap,
    auth: Option<(HeaderName, String, SecretRef)>,
    secrets: Arc<dyn Secrets>,
}

impl RequestHeaders {
    pub(crate) fn new(
        auth: Option<&AuthConfig>,
        token: Option<&SecretRef>,
        headers: &BTreeMap<String, String>,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Self, ConfigError> {
        let name = |text: &str, path: &str| {
            let parsed: Result<HeaderName, _> = text.parse();
            parsed.map_err(|_| ConfigError::new(path, format!("{text:?} is not a header name")))
        };
        let mut plain = HeaderMap::new();
        for (key, value) in headers {
            let path = format!("headers.{key}");
            let value =
                HeaderValue::from_str(value).map_err(|_| ConfigError::new(&path, "not a header value"))?;
            plain.insert(name(key, &path)?, value);
        }
        if auth.is_some() && token.is_some() {
            return Err(ConfigError::new(
                "token",
                "is short for auth = { secret = … }; leave one of both out",
            ));
        }
        let bearer =
            token.map(|token| AuthConfig { header: authorization(), prefix: None, secret: token.clone() });
        let auth = auth.or(bearer.as_ref()).map(|auth| {
            let header = name(&auth.header, "auth.header")?;
            let bearer = if header == http::header::AUTHORIZATION { "Bearer " } else { "" };
            let prefix = auth.prefix.clone().unwrap_or_else(|| bearer.to_owned());
            Ok((header, prefix, auth.secret.clone()))
        });
        let headers = Self { plain, auth: auth.transpose()?, secrets: Arc::clone(secrets) };
        headers.resolve().map_err(|message| {
            ConfigError::new(if token.is_some() { "token" } else { "auth.secret" }, message)
        })?;
        Ok(headers)
    }

    /// All headers, with the secret marked as sensitive.
    pub(crate) fn resolve(&self) -> Result<HeaderMap, String> {
        let mut headers = self.plain.clone();
        if let Some((name, prefix, reference)) = &self.auth {
            let secret = self.secrets.resolve(reference).map_err(|error| error.to_string())?;
            let bytes = [prefix.as_bytes(), secret.expose()].concat();
            let value = HeaderValue::from_bytes(&bytes);
            let mut value = value.map_err(|_| "the secret holds bytes that no header may have".to_owned())?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }
}
