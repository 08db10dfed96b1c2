//! Slack's requests: buttons (`block_actions`) and the slash command
//! (<https://docs.slack.dev/interactivity/handling-user-interaction>), signed as
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack> says.

use axum::http::HeaderMap;
use railwatch_model::Timestamp;
use railwatch_sources::verify::{Scheme, TimestampConfig, VerifyTable};
use serde_json::{Value, json};

use super::{Answer, Asked, Here, Who};
use crate::config::SlackCallbacks;

/// The header with the signature.
const SIGNATURE: &str = "x-slack-signature";
/// The header with the time of signing.
const TIMESTAMP: &str = "x-slack-request-timestamp";
/// What the buttons of railwatch's own messages are named; others belong to somebody else.
const ACTION_PREFIX: &str = "railwatch_";

/// How Slack proves itself: `v0=` and the HMAC-SHA256 of `v0:time:body`, at most five minutes old.
pub(super) fn proof(config: &SlackCallbacks) -> VerifyTable {
    VerifyTable {
        scheme: Some(Scheme::Hmac),
        header: Some(SIGNATURE.to_owned()),
        prefix: Some("v0=".to_owned()),
        signed: Some("v0:{t}:{body}".to_owned()),
        timestamp: Some(TimestampConfig::seconds(&format!("header:{TIMESTAMP}"))),
        secret: Some(config.signing_secret.clone()),
        secrets_extra: config.old_signing_secret.iter().cloned().collect(),
        ..VerifyTable::default()
    }
}

/// When a request was signed.
pub(super) fn sent_at(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(TIMESTAMP)?.to_str().ok()?.parse().ok().map(Timestamp::from_secs)
}

/// Reads a request; `None` if there is nothing to do.
pub(super) fn read(body: &[u8], headers: &HeaderMap) -> Result<Option<Asked>, &'static str> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // Two requests with the same signature are the same request.
    let name = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if let Some(payload) = field("payload") {
        let payload: Value = serde_json::from_str(payload).map_err(|_| "the payload is not JSON")?;
        return Ok(press(name, &payload));
    }
    if field("ssl_check").is_some() {
        return Ok(None);
    }
    field("command").ok_or("neither a button nor a command")?;
    let who = Who::Slack {
        user: field("user_id").unwrap_or_default().to_owned(),
        workspace: field("team_id").unwrap_or_default().to_owned(),
    };
    let words = field("text").unwrap_or_default().to_owned();
    Ok(Some(Asked { name, who, words, answer: Answer::Here(Here::SlackCommand) }))
}

/// A press of one of railwatch's buttons.
fn press(name: String, payload: &Value) -> Option<Asked> {
    if payload["type"] != "block_actions" {
        return None;
    }
    let actions = payload["actions"].as_array()?;
    let ours = |action: &&Value| action["action_id"].as_str().is_some_and(|id| id.starts_with(ACTION_PREFIX));
    let words = actions.iter().find(ours)?["value"].as_str()?.to_owned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let who = Who::Slack { user: text(&payload["user"]["id"]), workspace: text(&payload["team"]["id"]) };
    Some(Asked { name, who, words, answer: Answer::There(text(&payload["response_url"])) })
}

/// A message that only the person who asked sees.
pub(super) fn whisper(text: &str) -> Value {
    // A person's words come back in it: nothing in them may act.
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "response_type": "ephemeral", "replace_original": false, "text": escaped })
}

/// The address, if it is one of Slack's, or a test's on this machine.
pub(super) fn safe_address(address: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(address).ok()?;
    let is_slack = url.scheme() == "https" && url.host_str() == Some("hooks.slack.com");
    (is_slack || (url.scheme() == "http" && url.host_str() == Some("127.0.0.1"))).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(body: &str) -> Result<Option<Asked>, &'static str> {
        let headers =
            [(SIGNATURE, "v0=abc")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        read(body.as_bytes(), &headers.into_iter().collect())
    }

    #[test]
    fn a_press_is_read_and_other_buttons_are_not_ours() {
        let payload = |action: &str| {
            let payload = json!({
                "type": "block_actions", "user": { "id": "U1" }, "team": { "id": "T1" },
                "response_url": "https://hooks.slack.com/actions/T1/1/x",
                "actions": [{ "action_id": action, "value": "ack a-1" }],
            });
            form_urlencoded::Serializer::new(String::new())
                .append_pair("payload", &payload.to_string())
                .finish()
        };
        let asked = read_text(&payload("railwatch_0")).unwrap().unwrap();
        assert_eq!(asked.who, Who::Slack { user: "U1".into(), workspace: "T1".into() });
        assert_eq!((asked.words.as_str(), asked.name.as_str()), ("ack a-1", "v0=abc"));
        assert_eq!(read_text(&payload("open")), Ok(None));
        assert_eq!(read_text("payload=%7B"), Err("the payload is not JSON"));
        assert_eq!(read_text("payload=%5B1%5D"), Ok(None));
    }

    #[test]
    fn a_command_is_read() {
        let asked = read_text("command=%2Frailwatch&text=ack+a-1&user_id=U1&team_id=T1").unwrap().unwrap();
        assert_eq!((asked.words.as_str(), &asked.answer), ("ack a-1", &Answer::Here(Here::SlackCommand)));
        assert_eq!(read_text("ssl_check=1"), Ok(None));
        assert!(read_text("a=b").is_err());
    }

    #[test]
    fn answers_go_to_slack_only_and_their_words_do_nothing() {
        for (address, is_safe) in [
            ("https://hooks.slack.com/actions/T1/1/x", true),
            ("http://hooks.slack.com/actions", false),
            ("https://hooks.slack.com.evil.example/", false),
            ("https://evil.example/?hooks.slack.com", false),
            ("http://169.254.169.254/latest", false),
            ("", false),
        ] {
            assert_eq!(safe_address(address).is_some(), is_safe, "{address}");
        }
        assert_eq!(whisper("<!channel> & co")["text"], "&lt;!channel&gt; &amp; co");
    }
}
