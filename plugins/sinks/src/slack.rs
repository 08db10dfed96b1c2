//! Slack, through an incoming webhook: Block Kit that is read on a phone.
//!
//! An incoming webhook can only post: it cannot thread or edit, and Slack does not drop a repeated notice. The
//! `slack_bot` sink can thread.

use async_trait::async_trait;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::schema_for;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Hook, HookConfig, hidden_part};
use crate::message::{Button, Message, Part};
use crate::text::{fit, mrkdwn, slack_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "slack",
    summary: "Posts to a Slack channel through an incoming webhook",
    example: r#"[sinks.oncall]
plugin = "slack"
url = { env = "SLACK_WEBHOOK_URL" }
"#,
    schema: || schema_for!(HookConfig),
    build,
};

/// Block Kit's limits (<https://docs.slack.dev/reference/block-kit/blocks>).
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3000;
const FIELD_CHARS_MAX: usize = 2000;
const FIELDS_MAX: usize = 10;
/// Slack cuts `text` at 40,000 and asks for 4,000; it is what the phone's notification shows.
const FALLBACK_CHARS_MAX: usize = 600;

#[derive(Debug)]
struct Slack(Hook);

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    Ok(Box::new(Slack(Hook::build(table, build)?)))
}

#[async_trait]
impl Sink for Slack {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let url = self.0.url()?;
        let hidden = hidden_part(&url);
        let body = body(&Message::of(dispatch.notice));
        self.0.peer.send(self.0.peer.post_json(url, &body), &[&hidden]).await?;
        Ok(Receipt::default())
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// The message as `text` (the notification) and `blocks`; links in it are not unfolded.
pub(crate) fn body(message: &Message) -> Value {
    let text = format!("{} {}: {}", message.mark(), message.title, message.lead);
    json!({
        "text": fit(&text, FALLBACK_CHARS_MAX, slack_char),
        "blocks": blocks(message),
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// At most 14 blocks: headline, sentence, fields, one per alert, advice, link, small print.
fn blocks(message: &Message) -> Vec<Value> {
    let header = format!("{} {}", message.mark(), message.title);
    let mut blocks = vec![
        json!({ "type": "header", "text": plain(&header, HEADER_CHARS_MAX) }),
        json!({ "type": "section", "text": plain(&message.lead, SECTION_CHARS_MAX) }),
    ];
    let fields = message.fields.iter().take(FIELDS_MAX);
    let fields: Vec<_> = fields
        .map(|field| verbatim(&format!("*{}*\n{}", field.name, mrkdwn(&field.value, FIELD_CHARS_MAX - 100))))
        .collect();
    if !fields.is_empty() {
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if !message.parts.is_empty() {
        blocks.push(json!({ "type": "divider" }));
    }
    blocks.extend(message.parts.iter().map(part_block));
    blocks.extend(message.left_out().map(|line| context(&line)));
    let next = mrkdwn(&message.next, SECTION_CHARS_MAX - 100);
    blocks.push(json!({ "type": "section", "text": verbatim(&format!("*Next:* {next}")) }));
    let link = message.link.iter().map(|link| {
        json!({ "type": "button", "action_id": "open", "url": link.url, "text": plain(link.label, 75) })
    });
    let buttons = message.buttons.iter().enumerate().map(|(place, button)| press(place, button));
    let elements: Vec<Value> = buttons.chain(link).collect();
    if !elements.is_empty() {
        blocks.push(json!({ "type": "actions", "elements": elements }));
    }
    blocks.extend(message.footers.iter().map(|line| context(line)));
    blocks
}

/// A button that says its words when it is pressed; a grave one asks first.
fn press(place: usize, button: &Button) -> Value {
    let mut element = json!({
        "type": "button", "action_id": format!("railwatch_{place}"), "value": button.words,
        "text": plain(button.label, 75),
    });
    if button.is_grave {
        element["style"] = json!("danger");
        element["confirm"] = json!({
            "title": plain("Is that meant?", 100),
            "text": plain("Every gate is asked to let nothing of this agent pass.", 300),
            "confirm": plain(button.label, 30),
            "deny": plain("Cancel", 30),
        });
    }
    element
}

fn part_block(part: &Part) -> Value {
    // A bold title of at most 300, then the rest; the sum stays below the section's limit.
    let title = mrkdwn(&part.title, 300);
    let lead = (!part.lead.is_empty()).then(|| part.lead.clone());
    let lines: Vec<_> = lead.into_iter().chain(part.details()).collect();
    let text = mrkdwn(&lines.join("\n"), SECTION_CHARS_MAX - 400);
    json!({ "type": "section", "text": verbatim(&format!("*{title}*\n{text}")) })
}

fn context(line: &str) -> Value {
    json!({ "type": "context", "elements": [plain(line, FIELD_CHARS_MAX)] })
}

/// Text in which Slack formats, links and mentions nothing.
fn plain(text: &str, chars_max: usize) -> Value {
    json!({ "type": "plain_text", "text": fit(text, chars_max, slack_char), "emoji": false })
}

/// Markdown of our own around text that went through [`mrkdwn`].
fn verbatim(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, PRESSES, URL_TABLE, deliver, hostile, notice, reply, sink};
    use railwatch_model::Occasion;

    #[test]
    fn every_occasion_keeps_block_kits_limits() {
        for (occasion, name) in OCCASIONS {
            let body = body(&Message::of(&notice(occasion)));
            check_blocks(&body);
            insta::assert_json_snapshot!(format!("slack_{name}"), body);
        }
        let body = body(&Message::with_buttons(&hostile(), &PRESSES));
        check_blocks(&body);
        insta::assert_json_snapshot!("slack_hostile", body);
    }

    #[test]
    fn a_notice_is_posted_once_to_the_webhook() {
        let peer = HttpPeer::play(vec![reply(200, "ok")]);
        let slack = sink("slack", URL_TABLE, &[("URL", &peer.url("/services/T0/B0/s3cr3t"))]);
        assert_eq!(deliver(&*slack, &notice(Occasion::Opened), None), Ok(Receipt::default()));
        let request = peer.request();
        assert_eq!(request.line, "POST /services/T0/B0/s3cr3t HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.json(), body(&Message::of(&notice(Occasion::Opened))));
    }

    #[test]
    fn an_error_quotes_slack_and_hides_the_url() {
        let peer = HttpPeer::play(vec![reply(404, "no_service for /services/T0/B0/s3cr3t")]);
        let slack = sink("slack", URL_TABLE, &[("URL", &peer.url("/services/T0/B0/s3cr3t"))]);
        let error = deliver(&*slack, &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 404: no_service for /•••".to_owned()));
    }

    /// Block Kit's documented limits, and that nothing hostile survived in any text object.
    #[track_caller]
    pub(crate) fn check_blocks(body: &Value) {
        let blocks = body["blocks"].as_array().unwrap();
        assert!((1..=50).contains(&blocks.len()));
        for block in blocks {
            match block["type"].as_str().unwrap() {
                "header" => {
                    assert_eq!(block["text"]["type"], "plain_text");
                    check_text(&block["text"], 150);
                }
                "section" => {
                    let fields = block["fields"].as_array().map_or(&[][..], Vec::as_slice);
                    assert!(block.get("text").is_some() || (1..=10).contains(&fields.len()));
                    block.get("text").inspect(|text| check_text(text, 3000));
                    fields.iter().for_each(|field| check_text(field, 2000));
                }
                "context" => {
                    let elements = block["elements"].as_array().unwrap();
                    assert!((1..=10).contains(&elements.len()));
                    elements.iter().for_each(|element| check_text(element, 2000));
                }
                "actions" => {
                    for button in block["elements"].as_array().unwrap() {
                        check_text(&button["text"], 75);
                        let Some(url) = button["url"].as_str() else {
                            assert!((1..=2000).contains(&button["value"].as_str().unwrap().len()));
                            continue;
                        };
                        assert!(url.len() <= 3000 && url.starts_with("https://"));
                    }
                }
                "divider" => {}
                other => panic!("unknown block {other}"),
            }
        }
        check_inert(body["text"].as_str().unwrap());
    }

    #[track_caller]
    fn check_text(object: &Value, chars_max: usize) {
        let text = object["text"].as_str().unwrap();
        assert!((1..=chars_max).contains(&text.encode_utf16().count()), "{text}");
        if object["type"] == "mrkdwn" {
            assert_eq!(object["verbatim"], true);
            // Only our own label is formatted.
            assert_eq!(text.matches('*').count(), 2, "{text}");
            assert!(text.starts_with('*') && !text.contains(['`', '~']), "{text}");
        }
        check_inert(text);
    }

    #[track_caller]
    fn check_inert(text: &str) {
        assert!(!text.contains(['<', '>', '\u{202e}', '\u{1b}', '\r']), "{text}");
        let rest = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
        assert!(!rest.contains('&') && !text.contains("@channel") && !text.contains("@here"), "{text}");
    }
}
