//! Secrets: configuration holds references, never values; values never show themselves.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret is kept: `{ env = "NAME" }` or `{ file = "/run/secrets/name" }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("x-railwatch" = "secret"))]
pub enum SecretRef {
    /// An environment variable of the railwatch process.
    Env(String),
    /// A file, relative to the configuration file; one trailing newline is removed.
    File(PathBuf),
}

/// A secret's value. It shows itself only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(value.into())
    }

    /// The value, for the one call that needs it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text; an error that does not show it when it is not UTF-8.
    pub fn expose_str(&self) -> Result<&str, SecretError> {
        std::str::from_utf8(&self.0).map_err(|_| SecretError::NotText)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The environment variable is not set.
    #[error("environment variable {0} is not set; export it or use {{ file = \"…\" }}")]
    NoEnv(String),
    /// The file cannot be read.
    #[error("secret file {path} cannot be read: {source}")]
    NoFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
    /// A text was needed.
    #[error("the secret is not UTF-8 text")]
    NotText,
}

/// Resolves references. The host's implementation reads the environment and files; tests pass a map.
pub trait Secrets: Send + Sync + fmt::Debug {
    /// The value behind `reference`, read anew at every call so that a rotated file takes effect.
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError>;
}

/// Reads the process environment and the file system.
#[derive(Debug, Clone, Default)]
pub struct SystemSecrets {
    /// What relative files are relative to: the folder of the configuration file.
    pub base_dir: PathBuf,
}

impl Secrets for SystemSecrets {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let value = match reference {
            SecretRef::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::NoEnv(name.clone()))?;
                value.into_encoded_bytes()
            }
            SecretRef::File(path) => {
                let path = self.base_dir.join(path);
                let read = std::fs::read(&path);
                let mut value = read.map_err(|source| SecretError::NoFile { path, source })?;
                if value.last() == Some(&b'\n') {
                    value.pop();
                }
                if value.last() == Some(&b'\r') {
                    value.pop();
                }
                value
            }
        };
        if value.is_empty() { Err(SecretError::Empty) } else { Ok(Secret(value)) }
    }
}
