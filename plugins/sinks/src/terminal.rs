//! The terminal: a readable block per notice on standard output or standard error.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use railwatch_model::{Occasion, Severity};
use railwatch_plugin::config::{ConfigError, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use toml::Table;

use crate::message::Message;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "terminal",
    summary: "Prints a readable block per notice",
    example: r#"[sinks.screen]
plugin = "terminal"
to = "stdout"
color = "auto"
"#,
    schema: || schema_for!(TerminalConfig),
    build,
};

/// Settings of a terminal sink.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TerminalConfig {
    /// The stream: `stdout` or `stderr`.
    to: Stream,
    /// `auto` colors only when the stream is a terminal; `always` and `never` do what they say.
    color: Color,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Color {
    /// Only on a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

type Output = Arc<Mutex<dyn Write + Send>>;

struct Terminal {
    output: Output,
    is_colored: bool,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("is_colored", &self.is_colored).finish_non_exhaustive()
    }
}

fn build(table: &Table, _: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: TerminalConfig = parse(table)?;
    let (output, is_terminal): (Output, bool) = match config.to {
        Stream::Stdout => (Arc::new(Mutex::new(std::io::stdout())), std::io::stdout().is_terminal()),
        Stream::Stderr => (Arc::new(Mutex::new(std::io::stderr())), std::io::stderr().is_terminal()),
    };
    let is_colored = match config.color {
        Color::Auto => is_terminal,
        Color::Always => true,
        Color::Never => false,
    };
    Ok(Box::new(Terminal { output, is_colored }))
}

#[async_trait]
impl Sink for Terminal {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let block = render(&Message::of(dispatch.notice), self.is_colored);
        let output = Arc::clone(&self.output);
        // A terminal that is paused, or a pipe that nobody reads, blocks the writer: not on a runtime thread.
        let written = tokio::task::spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.write_all(block.as_bytes())?;
            output.flush()
        });
        match written.await {
            Ok(Ok(())) => Ok(Receipt::default()),
            Ok(Err(error)) => {
                Err(DeliveryError::Retry { reason: format!("cannot write: {}", error.kind()), after: None })
            }
            Err(_) => Err(DeliveryError::Retry { reason: "the writer was stopped".to_owned(), after: None }),
        }
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// The block: a title line, the sentence, a column of fields, each alert, advice, small print, an empty line.
pub(crate) fn render(message: &Message, is_colored: bool) -> String {
    let ink = Ink { is_colored };
    let mut lines = vec![
        format!("{} {}", ink.paint(accent(message), "▌"), ink.paint("1", &message.title)),
        format!("  {}", message.lead),
    ];
    let width = message.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for field in &message.fields {
        let name = format!("{:<width$}", field.name);
        lines.push(format!("  {}  {}", ink.paint("2", &name), field.value));
    }
    for part in &message.parts {
        lines.push(format!("  {} {}", ink.paint(accent(message), "•"), ink.paint("1", &part.title)));
        lines.extend((!part.lead.is_empty()).then(|| format!("    {}", part.lead)));
        lines.extend(part.details().iter().map(|line| format!("    {line}")));
    }
    lines.extend(message.left_out().map(|line| format!("  {line}")));
    lines.push(format!("  {} {}", ink.paint("1", "Next:"), message.next));
    lines.extend(message.link.iter().map(|link| format!("  {}", link.url)));
    lines.extend(message.footers.iter().map(|line| format!("  {}", ink.paint("2", line))));
    lines.join("\n") + "\n\n"
}

/// The SGR code of the bar.
fn accent(message: &Message) -> &'static str {
    match (message.occasion, message.severity) {
        (Occasion::Resolved, _) => "32",
        (Occasion::Acknowledged | Occasion::Freeze | Occasion::Digest | Occasion::Test, _) => "36",
        (_, Severity::Critical) => "1;31",
        (_, Severity::High) => "31",
        (_, Severity::Medium | Severity::Low) => "33",
        (_, Severity::Info) => "34",
    }
}

struct Ink {
    is_colored: bool,
}

impl Ink {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OCCASIONS, deliver, hostile, notice};

    #[test]
    fn every_occasion_reads_well() {
        for (occasion, name) in OCCASIONS {
            insta::assert_snapshot!(
                format!("terminal_{name}"),
                render(&Message::of(&notice(occasion)), false)
            );
        }
        insta::assert_snapshot!("terminal_hostile", render(&Message::of(&hostile()), false));
    }

    #[test]
    fn colors_are_only_ours() {
        let plain = render(&Message::of(&hostile()), false);
        assert!(!plain.contains('\u{1b}') && !plain.contains('\r'));
        let colored = render(&Message::of(&hostile()), true);
        let mut stripped = colored.clone();
        for code in ["1", "2", "31", "0"] {
            stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_ne!(colored, plain);
        assert_eq!(stripped, plain);
    }

    #[test]
    fn a_block_is_written_whole() {
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let output: Output = written.clone();
        let terminal = Terminal { output, is_colored: false };
        let notice = notice(Occasion::Opened);
        assert_eq!(deliver(&terminal, &notice, None), Ok(Receipt::default()));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text, render(&Message::of(&notice), false));
    }

    #[test]
    fn a_broken_pipe_is_retried() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let terminal = Terminal { output: Arc::new(Mutex::new(Broken)), is_colored: false };
        let error = deliver(&terminal, &notice(Occasion::Opened), None).unwrap_err();
        assert!(matches!(error, DeliveryError::Retry { .. }), "{error}");
    }
}
