//! Email over SMTP: text and HTML, one thread per incident.
//!
//! The subject names the incident and stays the same, because mail clients thread by subject and references; what
//! happened is the first line, which clients show beside it. A mail server may accept a notice twice.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use railwatch_model::Notice;
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use crate::endpoint::Vault;
use crate::http::quote;
use crate::message::Message;
use crate::text::{clean, digest};

mod html;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "email",
    summary: "Sends mail over SMTP, one thread per incident",
    example: r#"[sinks.finance_mail]
plugin = "email"
server = "smtp.example.com"
username = "railwatch@example.com"
password = { env = "SMTP_PASSWORD" }
from = "railwatch <railwatch@example.com>"
to = ["finance@example.com"]
"#,
    schema: || schema_for!(EmailConfig),
    build,
};

/// Recipients of one mail; more belong on a list.
const RECIPIENTS_MAX: usize = 50;
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Settings of an email sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EmailConfig {
    /// The mail server's name.
    server: String,
    /// Its port; 587 for `starttls`, 465 for `tls`, 25 for `none` unless set.
    port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    encryption: Encryption,
    /// The user, where the server asks for one.
    username: Option<String>,
    /// The user's password.
    password: Option<SecretRef>,
    /// The sender: `name <address>` or an address.
    from: String,
    /// The recipients.
    to: Vec<String>,
    /// How long one delivery may take, from connect to the server's word.
    #[serde(default = "timeout")]
    timeout: Span,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Encryption {
    /// Upgraded to TLS before anything is said; a server that cannot is refused.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// In the clear: only for a server on this machine.
    None,
}

fn timeout() -> Span {
    Span(Duration::from_secs(30))
}

#[derive(Debug)]
struct Email {
    server: String,
    port: u16,
    tls: Tls,
    login: Option<(String, SecretRef)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Span,
    vault: Vault,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: EmailConfig = parse(table)?;
    let vault = Vault::of(build);
    if !(1..=RECIPIENTS_MAX).contains(&config.to.len()) {
        return Err(ConfigError::new("to", format!("give between 1 and {RECIPIENTS_MAX} recipients")));
    }
    if config.timeout.0.is_zero() || config.timeout.0 > TIMEOUT_MAX {
        return Err(ConfigError::new("timeout", format!("give at most {}", Span(TIMEOUT_MAX))));
    }
    let to = config.to.iter().enumerate().map(|(index, text)| mailbox(&format!("to[{index}]"), text));
    let login = match (config.username, config.password) {
        (Some(username), Some(password)) => {
            vault.check("password", &password)?;
            Some((username, password))
        }
        (None, None) => None,
        (Some(_), None) => return Err(ConfigError::new("password", "a username needs a password")),
        (None, Some(_)) => return Err(ConfigError::new("username", "a password needs a username")),
    };
    let default_port = match config.encryption {
        Encryption::Starttls => 587,
        Encryption::Tls => 465,
        Encryption::None => 25,
    };
    Ok(Box::new(Email {
        port: config.port.unwrap_or(default_port),
        tls: tls(config.encryption, &config.server)?,
        from: mailbox("from", &config.from)?,
        to: to.collect::<Result<_, _>>()?,
        server: config.server,
        login,
        timeout: config.timeout,
        vault,
    }))
}

fn mailbox(path: &str, text: &str) -> Result<Mailbox, ConfigError> {
    text.parse().map_err(|error| ConfigError::new(path, format!("{text:?} is not a mail address: {error}")))
}

fn tls(encryption: Encryption, server: &str) -> Result<Tls, ConfigError> {
    let is_local =
        server == "localhost" || server.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let parameters = || {
        TlsParameters::new(server.to_owned())
            .map_err(|error| ConfigError::new("server", format!("TLS cannot be set up: {error}")))
    };
    match encryption {
        Encryption::Starttls => parameters().map(Tls::Required),
        Encryption::Tls => parameters().map(Tls::Wrapper),
        Encryption::None if is_local => Ok(Tls::None),
        Encryption::None => {
            Err(ConfigError::new("encryption", "mail is sent in the clear only to a server on this machine"))
        }
    }
}

#[async_trait]
impl Sink for Email {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let id = self.message_id(&dispatch.notice.id.0);
        let mail = self.mail(dispatch, &id)?;
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.server)
            .port(self.port)
            .tls(self.tls.clone())
            .timeout(Some(self.timeout.0));
        let mut password = String::new();
        if let Some((username, reference)) = &self.login {
            password = self.vault.text(reference)?;
            transport = transport.credentials(Credentials::new(username.clone(), password.clone()));
        }
        let transport: AsyncSmtpTransport<Tokio1Executor> = transport.build();
        // The transport's own limit is per step; a server that dawdles over each must not take minutes.
        match tokio::time::timeout(self.timeout.0, transport.send(mail)).await {
            Ok(Ok(_)) => Ok(Receipt { reference: Some(id.into()) }),
            Ok(Err(error)) => Err(into_delivery_error(&error, &password)),
            Err(_) => Err(DeliveryError::Unanswered(format!("no answer within {}", self.timeout))),
        }
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

impl Email {
    fn mail(&self, dispatch: Dispatch<'_>, id: &str) -> Result<lettre::Message, DeliveryError> {
        let message = Message::of(dispatch.notice);
        let earlier = dispatch.earlier.and_then(|receipt| receipt.reference.as_deref());
        let earlier = earlier.filter(|reference| is_message_id(reference));
        // Every mail of an incident refers to one id, so that they thread even if the first was lost.
        let root = self.message_id(&dispatch.notice.incident.0);
        let references = earlier.map_or(root.clone(), |earlier| format!("{root} {earlier}"));
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject(dispatch.notice))
            .date(
                std::time::UNIX_EPOCH
                    + Duration::from_micros(dispatch.notice.at.micros().try_into().unwrap_or(0)),
            )
            .message_id(Some(id.to_owned()))
            .references(references);
        if let Some(earlier) = earlier {
            mail = mail.in_reply_to(earlier.to_owned());
        }
        for recipient in &self.to {
            mail = mail.to(recipient.clone());
        }
        let text = format!("{} {}", message.mark(), message.plain());
        let parts = MultiPart::alternative_plain_html(text, html::page(&message));
        mail.multipart(parts).map_err(|error| DeliveryError::Rejected(format!("not a mail: {error}")))
    }

    /// The same for every attempt at one notice, so that a mail server may see that it is a repetition.
    fn message_id(&self, of: &str) -> String {
        format!("<{}@{}>", digest(of), self.from.email.domain())
    }
}

fn subject(notice: &Notice) -> String {
    let subject = clean(&notice.subject.to_string(), 80);
    format!("[railwatch] {subject} ({})", clean(&notice.incident.0, 80))
}

/// A receipt is our own, and yet nothing but a plain message id may enter a header.
fn is_message_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    inner.is_some_and(|id| {
        id.len() < 300 && id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte))
    })
}

/// 5xx is the server's last word, 4xx passes (RFC 5321 §4.2.1); a connection that breaks may do so after the mail was
/// taken.
fn into_delivery_error(error: &lettre::transport::smtp::Error, password: &str) -> DeliveryError {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let reason = quote(format!("{error} {cause}").as_bytes(), &[password]);
    // lettre has no question for this kind of error, only its heading.
    let has_no_connection = error.is_tls() || error.to_string().starts_with("Connection error");
    if error.is_permanent() || error.is_client() {
        DeliveryError::Rejected(reason)
    } else if error.is_transient() || has_no_connection {
        DeliveryError::Retry { reason, after: None }
    } else {
        DeliveryError::Unanswered(reason)
    }
}

#[cfg(test)]
mod tests;
