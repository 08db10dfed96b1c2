//! Discord, through a channel webhook: one embed per notice, in which nothing mentions anybody.

use std::time::Duration;

use async_trait::async_trait;
use railwatch_model::SmolStr;
use railwatch_plugin::config::ConfigError;
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::schema_for;
use serde_json::{Value, json};
use toml::Table;

use crate::endpoint::{Hook, HookConfig, hidden_part};
use crate::http::RETRY_AFTER_MAX;
use crate::message::{Message, Part};
use crate::text::{fit, join_within, markdown_char, plain_char};

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "discord",
    summary: "Posts to a Discord channel through a webhook",
    example: r#"[sinks.ops]
plugin = "discord"
url = { env = "DISCORD_WEBHOOK_URL" }
"#,
    schema: || schema_for!(HookConfig),
    build,
};

/// An embed may hold 6,000 characters in all and 25 fields of 1,024
/// (<https://discord.com/developers/docs/resources/message#embed-object-embed-limits>); these shares add up to less.
const TITLE_CHARS_MAX: usize = 256;
const LEAD_CHARS_MAX: usize = 900;
const NEXT_CHARS_MAX: usize = 500;
const VALUE_CHARS_MAX: usize = 150;
const PART_TITLE_CHARS_MAX: usize = 100;
const PART_CHARS_MAX: usize = 450;
const FOOTER_CHARS_MAX: usize = 300;

#[derive(Debug)]
struct Discord(Hook);

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    Ok(Box::new(Discord(Hook::build(table, build)?)))
}

#[async_trait]
impl Sink for Discord {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let mut url = self.0.url()?;
        let hidden = hidden_part(&url);
        // Without `wait`, Discord answers before it knows whether the message can be posted.
        url.query_pairs_mut().append_pair("wait", "true");
        let request = self.0.peer.post_json(url, &body(&Message::of(dispatch.notice)));
        let mut answer = self.0.peer.ask(request).await?;
        if answer.status.is_success() {
            let id = answer.json()["id"].as_str().map(SmolStr::from);
            return Ok(Receipt { reference: id });
        }
        let secs = answer.json()["retry_after"].as_f64().filter(|secs| secs.is_finite() && *secs >= 0.0);
        let wait = secs.map(|secs| Duration::from_secs_f64(secs.min(RETRY_AFTER_MAX.as_secs_f64())));
        answer.retry_after = answer.retry_after.or(wait);
        Err(answer.into_error(&[&hidden]))
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

pub(crate) fn body(message: &Message) -> Value {
    let line = |text: &str, max| fit(text, max, markdown_char);
    let field =
        |name: &str, value: String, inline: bool| json!({ "name": name, "value": value, "inline": inline });
    let mut fields: Vec<_> = message
        .fields
        .iter()
        .map(|item| field(item.name, line(&item.value, VALUE_CHARS_MAX), item.value.len() < 40))
        .collect();
    fields.extend(
        message
            .parts
            .iter()
            .map(|part| field(&line(&part.title, PART_TITLE_CHARS_MAX), part_text(part), false)),
    );
    fields.extend(message.left_out().map(|text| field("More", text, false)));
    let next = line(&message.next, NEXT_CHARS_MAX);
    let mut embed = json!({
        "title": line(&format!("{} {}", message.mark(), message.title), TITLE_CHARS_MAX),
        "description": format!("{}\n\n**Next:** {next}", line(&message.lead, LEAD_CHARS_MAX)),
        "color": message.color(),
        "fields": fields,
        // Footers are not markdown.
        "footer": { "text": fit(&message.footers.join(" · "), FOOTER_CHARS_MAX, plain_char) },
    });
    if let Some(link) = &message.link {
        embed["url"] = json!(link.url);
    }
    json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

fn part_text(part: &Part) -> String {
    let lead = (!part.lead.is_empty()).then(|| part.lead.clone());
    let lines = lead.into_iter().chain(part.details());
    let text = join_within(lines.map(|text| fit(&text, PART_CHARS_MAX - 3, markdown_char)), PART_CHARS_MAX);
    // Discord refuses a field without a value.
    if text.is_empty() { "no further evidence".to_owned() } else { text }
}

#[cfg(test)]
pub(crate) mod tests {
    use railwatch_model::Occasion;

    use super::*;
    use crate::testing::{HttpPeer, OCCASIONS, URL_TABLE, deliver, hostile, notice, reply, sink};

    #[track_caller]
    pub(crate) fn check_embed(body: &Value) {
        assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
        let embed = &body["embeds"][0];
        let len = |value: &Value| value.as_str().unwrap().encode_utf16().count();
        let fields = embed["fields"].as_array().unwrap();
        assert!(len(&embed["title"]) <= 256 && len(&embed["description"]) <= 4096 && fields.len() <= 25);
        assert!(len(&embed["footer"]["text"]) <= 2048);
        let mut total = len(&embed["title"]) + len(&embed["description"]) + len(&embed["footer"]["text"]);
        for field in fields {
            assert!((1..=256).contains(&len(&field["name"])) && (1..=1024).contains(&len(&field["value"])));
            total += len(&field["name"]) + len(&field["value"]);
        }
        assert!(total <= 6000, "{total}");
    }

    #[test]
    fn every_occasion_keeps_discords_limits() {
        for (occasion, name) in OCCASIONS {
            let body = body(&Message::of(&notice(occasion)));
            check_embed(&body);
            insta::assert_json_snapshot!(format!("discord_{name}"), body);
        }
        let body = body(&Message::of(&hostile()));
        check_embed(&body);
        assert!(!body.to_string().contains("@here"));
        insta::assert_json_snapshot!("discord_hostile", body);
    }

    #[test]
    fn the_receipt_is_discords_id_and_its_wait_is_heeded() {
        let peer = HttpPeer::play(vec![reply(200, r#"{"id":"99"}"#), reply(429, r#"{"retry_after":0.25}"#)]);
        let discord = sink("discord", URL_TABLE, &[("URL", &peer.url("/api/webhooks/1/s3cr3t"))]);
        let receipt = deliver(&*discord, &notice(Occasion::Opened), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("99"));
        assert_eq!(peer.request().line, "POST /api/webhooks/1/s3cr3t?wait=true HTTP/1.1");
        let error = deliver(&*discord, &notice(Occasion::Opened), None).unwrap_err();
        assert!(matches!(error, DeliveryError::Retry { after: Some(after), .. } if after.as_millis() == 250));
    }
}
