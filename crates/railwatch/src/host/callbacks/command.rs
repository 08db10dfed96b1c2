//! The words of buttons and chat commands: `ack ALERT`, `silence ALERT 2h why`, `label ALERT false-positive`,
//! `freeze AGENT|ALERT 1h why`, `unfreeze AGENT`.

use railwatch_model::{AgentId, ReviewVerdict, SmolStr};
use railwatch_plugin::config::Span;

use crate::host::actions::{Actions, FreezeWish, Refusal, SilenceWish};

/// What people may say.
const HELP: &str = "ack ALERT [note] · resolve ALERT [note] · silence ALERT [2h] [why] · \
                    label ALERT true-positive|false-positive|expected [note] · freeze AGENT|ALERT [1h] why · \
                    unfreeze AGENT";
/// Characters of a command.
const WORDS_CHARS_MAX: usize = 1_000;
/// How long a silence from a chat lasts unless it says so.
const SILENCE: Span = Span(std::time::Duration::from_secs(3600));

/// A command as it was meant.
#[derive(Debug, Clone, PartialEq)]
enum Command<'a> {
    Acknowledge { alert: &'a str, note: Option<SmolStr> },
    Resolve { alert: &'a str, note: Option<SmolStr> },
    Silence { alert: &'a str, lasts: Span, reason: String },
    Label { alert: &'a str, verdict: ReviewVerdict, note: Option<SmolStr> },
    Freeze { what: &'a str, lasts: Option<Span>, reason: String },
    Unfreeze { agent: &'a str },
    Help,
}

/// Does what the words say in a person's name, and says what came of it.
pub(super) async fn attend(actions: &Actions, by: SmolStr, words: &str) -> String {
    let command = match parse(words) {
        Ok(command) => command,
        Err(why) => return format!("{why}. {HELP}"),
    };
    carry_out(actions, by, command).await.unwrap_or_else(|refusal| format!("not done: {refusal}"))
}

async fn carry_out(actions: &Actions, by: SmolStr, command: Command<'_>) -> Result<String, Refusal> {
    Ok(match command {
        Command::Acknowledge { alert, note } => {
            let alert = actions.acknowledge(by, alert, note).await?;
            let taken_by = alert.acknowledged_by.unwrap_or_default();
            format!("{} is taken by {taken_by}", alert.subject)
        }
        Command::Resolve { alert, note } => {
            let alert = actions.resolve(by, alert, note).await?;
            format!("{} is closed", alert.subject)
        }
        Command::Silence { alert, lasts, reason } => {
            let alert = Some(SmolStr::new(alert));
            let wish = SilenceWish { alert, lasts: Some(lasts), reason, ..SilenceWish::default() };
            let silence = actions.silence(by, wish).await?;
            format!("{}: {} is silent until {}", silence.id, silence.matcher, silence.until)
        }
        Command::Label { alert, verdict, note } => {
            actions.label(by, alert, verdict, note).await?;
            format!("{alert}: {}", verdict.as_str().replace('_', " "))
        }
        Command::Freeze { what, lasts, reason } => {
            let alert = actions.alert(what).await.ok();
            let agent = alert.as_ref().and_then(|alert| alert.subject.agent()).map(AgentId::to_string);
            if alert.is_some() && agent.is_none() {
                return Err(Refusal::Wrong(format!("{what} is about nobody who could be frozen")));
            }
            let reason = match (&alert, reason.is_empty()) {
                (Some(alert), true) => alert.summary.chars().take(400).collect(),
                _ => reason,
            };
            let wish =
                FreezeWish { alert: alert.map(|alert| alert.id.0), lasts, reason, ..FreezeWish::default() };
            let freeze = actions.freeze(by, agent.as_deref().unwrap_or(what), wish).await?;
            format!("{}: {freeze}", freeze.agent)
        }
        Command::Unfreeze { agent } => {
            let freeze = actions.unfreeze(by, agent).await?;
            format!("{}: {freeze}", freeze.agent)
        }
        Command::Help => HELP.to_owned(),
    })
}

fn parse(words: &str) -> Result<Command<'_>, String> {
    if words.chars().count() > WORDS_CHARS_MAX {
        return Err(format!("that has more than {WORDS_CHARS_MAX} characters"));
    }
    let (verb, rest) = first(words);
    let (what, rest) = first(rest);
    let needs = |what: &str| if what.is_empty() { Err(format!("{verb} what?")) } else { Ok(()) };
    let note = |text: &str| (!text.is_empty()).then(|| SmolStr::new(text));
    let command = match verb {
        "" | "help" | "start" => return Ok(Command::Help),
        "ack" | "acknowledge" => Command::Acknowledge { alert: what, note: note(rest) },
        "resolve" => Command::Resolve { alert: what, note: note(rest) },
        "silence" => {
            let (lasts, reason) = span(rest);
            let reason = if reason.is_empty() { "silenced from the chat" } else { reason };
            Command::Silence { alert: what, lasts: lasts.unwrap_or(SILENCE), reason: reason.to_owned() }
        }
        "label" => {
            let (verdict, rest) = first(rest);
            let verdict = ReviewVerdict::from_name(&verdict.replace('-', "_"))
                .ok_or_else(|| "say true-positive, false-positive or expected".to_owned())?;
            Command::Label { alert: what, verdict, note: note(rest) }
        }
        "freeze" => {
            let (lasts, reason) = span(rest);
            Command::Freeze { what, lasts, reason: reason.to_owned() }
        }
        "unfreeze" => Command::Unfreeze { agent: what },
        other => return Err(format!("{other:?} is not a command")),
    };
    needs(what)?;
    Ok(command)
}

/// The first word, and the rest.
fn first(words: &str) -> (&str, &str) {
    let words = words.trim();
    let (word, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    (word, rest.trim())
}

/// A leading span such as `2h`, and the rest.
fn span(words: &str) -> (Option<Span>, &str) {
    let (word, rest) = first(words);
    match word.parse::<Span>() {
        Ok(span) => (Some(span), rest),
        Err(_) => (None, words),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn words_are_read_as_they_are_meant() {
        let hour = |hours: u64| Span(Duration::from_secs(hours * 3600));
        let silence =
            |lasts, reason: &str| Command::Silence { alert: "a-1", lasts, reason: reason.to_owned() };
        for (words, command) in [
            ("ack a-1", Command::Acknowledge { alert: "a-1", note: None }),
            ("  ack  a-1  on it ", Command::Acknowledge { alert: "a-1", note: Some("on it".into()) }),
            ("silence a-1", silence(SILENCE, "silenced from the chat")),
            ("silence a-1 2h load test", silence(hour(2), "load test")),
            ("silence a-1 load test", silence(SILENCE, "load test")),
            (
                "label a-1 false-positive",
                Command::Label { alert: "a-1", verdict: ReviewVerdict::FalsePositive, note: None },
            ),
            (
                "freeze spender 1h runs away",
                Command::Freeze { what: "spender", lasts: Some(hour(1)), reason: "runs away".to_owned() },
            ),
            ("unfreeze spender", Command::Unfreeze { agent: "spender" }),
            ("help", Command::Help),
            ("", Command::Help),
        ] {
            assert_eq!(parse(words), Ok(command), "{words}");
        }
        for (words, why) in [
            ("ack", "ack what?"),
            ("label a-1 maybe", "say true-positive"),
            ("drop tables", "is not a command"),
        ] {
            assert!(parse(words).unwrap_err().contains(why), "{words}");
        }
        assert!(parse(&"a".repeat(1_001)).is_err());
    }
}
