//! People and the chats that they act from.

use railwatch_plugin::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chats whose buttons and commands are heard. Their requests arrive below `http.public_url`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Callbacks {
    /// Slack: buttons and the slash command of an app, at `/in/callbacks/slack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackCallbacks>,
    /// Telegram: buttons and commands of a bot, at `/in/callbacks/telegram`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramCallbacks>,
}

/// What Slack proves itself by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackCallbacks {
    /// The app's signing secret.
    pub signing_secret: SecretRef,
    /// Another one that is accepted while the secret is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_signing_secret: Option<SecretRef>,
    /// The workspace's id, such as `T0123456789`: people of others are not known, should the app be installed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// What Telegram proves itself by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelegramCallbacks {
    /// The `secret_token` that the bot's `setWebhook` was called with.
    pub secret_token: SecretRef,
}

/// A person who may act from a chat: take, silence, label, resolve, freeze. Nobody else is heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The name in the audit; the same as that of the person's token, if they have one.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// The member id in Slack, such as `U0123456789`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// The user id in Telegram, a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telegram: Option<i64>,
}
