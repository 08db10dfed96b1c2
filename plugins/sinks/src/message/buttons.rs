//! Buttons: what people may do with one press, in the words that the chat's callbacks understand.

use railwatch_model::{Notice, Occasion, Subject};
use schemars::JsonSchema;
use serde::Deserialize;

/// A kind of button; `[callbacks]` must hear the chat, and `[[people]]` says who may press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Press {
    /// Take the incident.
    Acknowledge,
    /// Hear nothing of alerts like this one for an hour.
    Silence,
    /// Say that it was real, or a false alarm.
    Label,
    /// Ask every gate to freeze the agent; the chat asks whether that is meant.
    Freeze,
}

/// One button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Button {
    /// Its text.
    pub(crate) label: &'static str,
    /// What it says when it is pressed; at most 64 bytes, which is Telegram's limit.
    pub(crate) words: String,
    /// True if pressing it by mistake costs something.
    pub(crate) is_grave: bool,
}

/// Bytes of a button's words.
const WORDS_BYTES_MAX: usize = 64;

/// The buttons below a notice. A message about many incidents can only be taken as a whole.
pub(crate) fn buttons(notice: &Notice, wanted: &[Press]) -> Vec<Button> {
    let is_gathered = notice.incident.0.starts_with("gathered-");
    let alert = notice.alerts.first();
    let Some(name) = (if is_gathered { Some(&notice.incident.0) } else { alert.map(|alert| &alert.id.0) })
    else {
        return Vec::new();
    };
    let is_open = !matches!(notice.occasion, Occasion::Resolved | Occasion::Digest | Occasion::Test);
    let is_taken = notice.alerts.iter().any(|alert| alert.acknowledged_by.is_some());
    let mut buttons = Vec::new();
    let mut add = |label, words: String, is_grave| {
        if words.len() <= WORDS_BYTES_MAX {
            buttons.push(Button { label, words, is_grave });
        }
    };
    for press in wanted {
        match press {
            Press::Acknowledge if is_open && !is_taken => add("Acknowledge", format!("ack {name}"), false),
            Press::Silence if is_open && !is_gathered => {
                add("Silence 1 h", format!("silence {name} 1h"), false);
            }
            Press::Label if !is_gathered => {
                add("Was real", format!("label {name} true_positive"), false);
                add("False alarm", format!("label {name} false_positive"), false);
            }
            Press::Freeze if is_open && !is_gathered && matches!(notice.subject, Subject::Agent(_)) => {
                add("Freeze", format!("freeze {name}"), true);
            }
            Press::Acknowledge | Press::Silence | Press::Label | Press::Freeze => {}
        }
    }
    buttons
}
