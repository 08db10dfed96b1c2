//! Microsoft Teams, through a workflow ("When a Teams webhook request is received") that posts an Adaptive Card.
//!
//! Everything that others wrote is a `TextRun`, the one element in which Teams parses no markdown.

use async_trait::async_trait;
use railwatch_model::{Occasion, Severity};
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::schema_for;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Hook, HookConfig, hidden_part};
use crate::message::{Message, Part};
use crate::text::{fit, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "teams",
    summary: "Posts an Adaptive Card to Microsoft Teams through a workflow",
    example: r#"[sinks.finance]
plugin = "teams"
url = { env = "TEAMS_WORKFLOW_URL" }
"#,
    schema: || schema_for!(HookConfig),
    build,
};

/// Characters of one text. Teams takes 28 KB in all; a card here has at most 60 texts, and few are ever full.
const TEXT_CHARS_MAX: usize = 600;
/// Bytes of a message (<https://learn.microsoft.com/en-us/microsoftteams/limits-specifications-teams>).
const BODY_BYTES_MAX: usize = 28 * 1024;

#[derive(Debug)]
struct Teams(Hook);

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    Ok(Box::new(Teams(Hook::build(table, build)?)))
}

#[async_trait]
impl Sink for Teams {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let url = self.0.url()?;
        let (path, query) = (hidden_part(&url), url.query().unwrap_or_default().to_owned());
        // The signature alone opens the workflow, and a peer may echo it without the rest of the query.
        let signature = url.query_pairs().find(|(key, _)| key == "sig").map(|(_, value)| value.into_owned());
        let body = body(Message::of(dispatch.notice));
        let hide = [path.as_str(), &query, signature.as_deref().unwrap_or_default()];
        self.0.peer.send(self.0.peer.post_json(url, &body), &hide).await?;
        Ok(Receipt::default())
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// The message, with as many alerts as fit into Teams' limit.
pub(crate) fn body(mut message: Message) -> Value {
    loop {
        let body = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": card(&message),
            }],
        });
        if body.to_string().len() <= BODY_BYTES_MAX || message.parts.pop().is_none() {
            return body;
        }
        message.parts_left_out += 1;
    }
}

fn card(message: &Message) -> Value {
    let title = [run(
        &format!("{} {}", message.mark(), message.title),
        &[("weight", "Bolder"), ("size", "Large"), ("color", tone(message))],
    )];
    let mut body = vec![block(&title), block(&[run(&message.lead, &[])])];
    for field in &message.fields {
        let name = run(&format!("{}: ", field.name), &[("weight", "Bolder")]);
        body.push(tight(block(&[name, run(&field.value, &[])])));
    }
    for part in &message.parts {
        body.extend(part_blocks(part));
    }
    body.extend(message.left_out().map(|line| block(&[run(&line, &[])])));
    body.push(block(&[run("Next: ", &[("weight", "Bolder")]), run(&message.next, &[])]));
    for footer in &message.footers {
        let mut small = run(footer, &[("size", "Small")]);
        small["isSubtle"] = json!(true);
        body.push(block(&[small]));
    }
    let actions: Vec<_> = message
        .link
        .iter()
        .map(|link| json!({ "type": "Action.OpenUrl", "title": link.label, "url": link.url }))
        .collect();
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": actions,
        "msteams": { "width": "Full" },
    })
}

fn part_blocks(part: &Part) -> Vec<Value> {
    let mut title = block(&[run(&part.title, &[("weight", "Bolder")])]);
    title["separator"] = json!(true);
    let lead = (!part.lead.is_empty()).then(|| part.lead.clone());
    let lines = lead.into_iter().chain(part.details());
    std::iter::once(title).chain(lines.map(|line| tight(block(&[run(&line, &[])])))).collect()
}

fn block(inlines: &[Value]) -> Value {
    json!({ "type": "RichTextBlock", "inlines": inlines })
}

fn tight(mut block: Value) -> Value {
    block["spacing"] = json!("None");
    block
}

fn run(text: &str, style: &[(&str, &str)]) -> Value {
    let mut run = json!({ "type": "TextRun", "text": fit(text, TEXT_CHARS_MAX, plain_char) });
    for (key, value) in style {
        run[*key] = json!(value);
    }
    run
}

fn tone(message: &Message) -> &'static str {
    match (message.occasion, message.severity) {
        (Occasion::Resolved, _) => "Good",
        (Occasion::Acknowledged | Occasion::Freeze | Occasion::Digest | Occasion::Test, _)
        | (_, Severity::Info) => "Accent",
        (_, Severity::Critical | Severity::High) => "Attention",
        (_, Severity::Medium | Severity::Low) => "Warning",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, URL_TABLE, deliver, hostile, notice, reply, sink};

    /// Adaptive Cards 1.4: known elements only, non-empty runs, web links only, within Teams' size.
    #[track_caller]
    pub(crate) fn check_card(body: &Value) {
        assert!(body.to_string().len() <= BODY_BYTES_MAX);
        let card = &body["attachments"][0]["content"];
        assert_eq!((card["type"].as_str(), card["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
        let blocks = card["body"].as_array().unwrap();
        assert!(!blocks.is_empty());
        for block in blocks {
            assert_eq!(block["type"], "RichTextBlock");
            for run in block["inlines"].as_array().unwrap() {
                assert_eq!(run["type"], "TextRun");
                let text = run["text"].as_str().unwrap();
                assert!(!text.is_empty() && !text.contains(['\u{202e}', '\u{1b}', '\r', '\n']));
            }
        }
        for action in card["actions"].as_array().unwrap() {
            assert!(
                action["type"] == "Action.OpenUrl" && action["url"].as_str().unwrap().starts_with("https://")
            );
        }
    }

    #[test]
    fn every_occasion_is_a_valid_card() {
        for (occasion, name) in OCCASIONS {
            let body = body(Message::of(&notice(occasion)));
            check_card(&body);
            insta::assert_json_snapshot!(format!("teams_{name}"), body);
        }
        let body = body(Message::of(&hostile()));
        check_card(&body);
        insta::assert_json_snapshot!("teams_hostile", body);
    }

    #[test]
    fn the_workflow_accepts_with_202_and_its_signature_is_never_shown() {
        let refusal = "bad signature s3cr3t-sig";
        let peer = HttpPeer::play(vec![reply(202, ""), reply(401, refusal)]);
        let url = peer.url("/workflows/w/paths/invoke?api-version=1&sig=s3cr3t-sig");
        let teams = sink("teams", URL_TABLE, &[("URL", &url)]);
        assert_eq!(deliver(&*teams, &notice(Occasion::Opened), None), Ok(Receipt::default()));
        let error = deliver(&*teams, &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(error, DeliveryError::Rejected("HTTP 401: bad signature •••".to_owned()));
    }
}
