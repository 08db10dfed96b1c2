//! Telegram's updates: presses of inline buttons and commands to the bot (<https://core.telegram.org/bots/api#update>),
//! proven by the secret token of `setWebhook`.

use axum::http::HeaderMap;
use railwatch_sources::verify::{Scheme, VerifyTable};
use serde_json::{Value, json};

use super::{Answer, Asked, Here, Who};
use crate::config::TelegramCallbacks;

/// Characters of the answer to a press.
const QUERY_CHARS_MAX: usize = 200;
/// Characters of a message.
const MESSAGE_CHARS_MAX: usize = 4000;

/// How Telegram proves itself: the token that `setWebhook` was given.
pub(super) fn proof(config: &TelegramCallbacks) -> VerifyTable {
    VerifyTable {
        scheme: Some(Scheme::Bearer),
        header: Some("x-telegram-bot-api-secret-token".to_owned()),
        secret: Some(config.secret_token.clone()),
        ..VerifyTable::default()
    }
}

/// Reads an update; `None` if there is nothing to do.
pub(super) fn read(body: &[u8], _: &HeaderMap) -> Result<Option<Asked>, &'static str> {
    let update: Value = serde_json::from_slice(body).map_err(|_| "the update is not JSON")?;
    let name = update["update_id"].as_i64().ok_or("the update has no id")?.to_string();
    let query = &update["callback_query"];
    if let (Some(id), Some(words)) = (query["id"].as_str(), query["data"].as_str()) {
        let user = query["from"]["id"].as_i64().ok_or("the query has no sender")?;
        let answer = Answer::Here(Here::TelegramQuery { id: id.to_owned() });
        return Ok(Some(Asked { name, who: Who::Telegram { user }, words: words.to_owned(), answer }));
    }
    let message = &update["message"];
    // In groups the bot hears more than what is meant for it.
    let Some(words) = message["text"].as_str().and_then(|text| text.strip_prefix('/')) else {
        return Ok(None);
    };
    let numbers =
        (message["from"]["id"].as_i64(), message["chat"]["id"].as_i64(), message["message_id"].as_i64());
    let (Some(user), Some(chat), Some(message)) = numbers else { return Err("the message has no sender") };
    let (verb, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    let verb = verb.split('@').next().unwrap_or_default();
    let words = format!("{verb} {rest}").trim().to_owned();
    let answer = Answer::Here(Here::TelegramMessage { chat, message });
    Ok(Some(Asked { name, who: Who::Telegram { user }, words, answer }))
}

/// Stops the button's clock and shows a few words.
pub(super) fn answer_query(id: &str, text: &str) -> Value {
    let text: String = text.chars().take(QUERY_CHARS_MAX).collect();
    json!({ "method": "answerCallbackQuery", "callback_query_id": id, "text": text, "show_alert": true })
}

/// Replies to a message; without a parse mode nothing in it acts.
pub(super) fn answer_message(chat: i64, message: i64, text: &str) -> Value {
    let text: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    let reply = json!({ "message_id": message, "allow_sending_without_reply": true });
    json!({ "method": "sendMessage", "chat_id": chat, "text": text, "reply_parameters": reply,
            "link_preview_options": { "is_disabled": true } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(update: &Value) -> Result<Option<Asked>, &'static str> {
        read(update.to_string().as_bytes(), &HeaderMap::new())
    }

    #[test]
    fn presses_and_commands_are_read_and_talk_is_not() {
        let press = json!({ "update_id": 7, "callback_query": { "id": "q", "from": { "id": 5 }, "data": "ack a-1" } });
        let asked = read_json(&press).unwrap().unwrap();
        assert_eq!((asked.name.as_str(), asked.words.as_str()), ("7", "ack a-1"));
        assert_eq!(asked.who, Who::Telegram { user: 5 });
        let message = |text: &str| json!({ "update_id": 8, "message": { "message_id": 3, "from": { "id": 5 }, "chat": { "id": -9 }, "text": text } });
        let asked = read_json(&message("/silence@railwatch_bot a-1 2h")).unwrap().unwrap();
        assert_eq!(asked.words, "silence a-1 2h");
        assert_eq!(asked.answer, Answer::Here(Here::TelegramMessage { chat: -9, message: 3 }));
        assert_eq!(read_json(&message("good morning")), Ok(None));
        assert_eq!(read_json(&json!({ "update_id": 9, "edited_message": {} })), Ok(None));
        assert!(read_json(&json!({})).is_err() && read(b"{", &HeaderMap::new()).is_err());
    }
}
