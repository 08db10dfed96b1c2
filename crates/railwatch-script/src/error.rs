//! What went wrong in a script, and where.

use std::fmt;

use mlua::Error as LuaError;

/// A mistake that keeps a script from loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// The file, relative to the script folder.
    pub file: String,
    /// The line, where one is known.
    pub line: Option<u32>,
    /// The column, where one is known.
    pub column: Option<u32>,
    /// The name of the test that failed.
    pub case: Option<String>,
    /// What is wrong and what would be accepted.
    pub message: String,
}

impl ScriptError {
    /// A mistake in `file` as a whole.
    pub fn new(file: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { file: file.into(), line: None, column: None, case: None, message: message.to_string() }
    }

    pub(crate) fn of(file: &str, failure: Failure) -> Self {
        Self { line: failure.line, ..Self::new(file, failure.message) }
    }

    /// Places the mistake at the first `key =` of the source, unless a line is known already.
    pub(crate) fn near(mut self, source: &str, key: &str) -> Self {
        if self.line.is_none()
            && let Some((line, column)) = locate(source, key)
        {
            self.line = Some(line);
            self.column = Some(column);
        }
        self
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        match &self.case {
            Some(case) => write!(f, ": test {case:?}: {}", self.message),
            None => write!(f, ": {}", self.message),
        }
    }
}

impl std::error::Error for ScriptError {}

/// Where `key =` stands first.
fn locate(source: &str, key: &str) -> Option<(u32, u32)> {
    source.lines().enumerate().find_map(|(index, line)| {
        let column = line.match_indices(key).find_map(|(at, _)| {
            let before = line.get(..at)?.chars().next_back();
            let after = line.get(at + key.len()..)?.trim_start();
            let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
            (starts && after.starts_with('=') && !after.starts_with("==")).then_some(at)
        })?;
        Some((u32::try_from(index + 1).ok()?, u32::try_from(column + 1).ok()?))
    })
}

/// One failed call into a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What happened, without position and traceback; at most [`MESSAGE_LEN_MAX`] bytes.
    pub(crate) message: String,
    /// The line of the script.
    pub(crate) line: Option<u32>,
    /// The calls that led there, innermost first.
    pub(crate) traceback: String,
    /// True if the script was stopped by a limit rather than by a mistake of its own.
    pub(crate) stopped: bool,
}

/// Bytes of a script's error message that are kept.
const MESSAGE_LEN_MAX: usize = 500;
/// Bytes of a traceback that are kept.
const TRACEBACK_LEN_MAX: usize = 2_000;

impl Failure {
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: None, traceback: String::new(), stopped: false }
    }

    /// Reads what mlua made of an error in the chunk called `file`.
    pub(crate) fn from_lua(error: &LuaError, file: &str) -> Self {
        let mut tracebacks = String::new();
        let text = innermost(error, &mut tracebacks);
        let (message, traceback) = match text.split_once("\nstack traceback:") {
            Some((message, traceback)) => (message.to_owned(), format!("{traceback}\n{tracebacks}")),
            None => (text, tracebacks),
        };
        let (message, line) = match position(&message, file) {
            Some((line, rest)) => (rest.to_owned(), Some(line)),
            None => (message, None),
        };
        let line = line.or_else(|| {
            traceback.lines().find_map(|entry| position(entry.trim(), file)).map(|(line, _)| line)
        });
        let message = message.strip_prefix("runtime error: ").unwrap_or(&message);
        Self {
            message: clean(message, MESSAGE_LEN_MAX),
            line,
            traceback: cut(traceback.trim(), TRACEBACK_LEN_MAX).to_owned(),
            stopped: matches!(error, LuaError::MemoryError(_)),
        }
    }
}

/// The message of an error that no script raised.
pub(crate) fn message_of(error: &LuaError) -> String {
    innermost(error, &mut String::new())
}

fn innermost(error: &LuaError, tracebacks: &mut String) -> String {
    match error {
        LuaError::CallbackError { traceback, cause } => {
            tracebacks.push_str(traceback.strip_prefix("stack traceback:").unwrap_or(traceback));
            innermost(cause, tracebacks)
        }
        LuaError::BadArgument { to, pos, name, cause } => {
            let what =
                name.as_ref().map_or_else(|| format!("argument {pos}"), |name| format!("argument {name}"));
            let to = to.as_ref().map_or_else(String::new, |to| format!(" of {to}"));
            format!("{what}{to}: {}", innermost(cause, tracebacks))
        }
        LuaError::RuntimeError(message) | LuaError::SyntaxError { message, .. } => message.clone(),
        LuaError::MemoryError(_) => "stopped: the memory limit is reached".to_owned(),
        LuaError::FromLuaConversionError { from, to, message } => {
            let hint = message.as_ref().map_or_else(String::new, |message| format!(" ({message})"));
            let to = if to == "f64" { "a number" } else { to };
            format!("{from} where {to} is needed{hint}")
        }
        other => other.to_string(),
    }
}

/// Splits `file:12: message`, as Lua writes it.
fn position<'a>(text: &'a str, file: &str) -> Option<(u32, &'a str)> {
    let rest = text.strip_prefix(file)?.strip_prefix(':')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let line = rest.get(..digits)?.parse().ok()?;
    let rest = rest.get(digits..)?;
    Some((line, rest.strip_prefix(':').unwrap_or(rest).trim_start()))
}

/// At most `len_max` bytes of `text`, at a character boundary.
pub(crate) fn cut(text: &str, len_max: usize) -> &str {
    if text.len() <= len_max {
        return text;
    }
    let end = (0..=len_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Text from a script as people may see it: one line, no control or direction-changing characters, bounded.
pub(crate) fn clean(text: &str, len_max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let shown = |c: char| if c == '\n' || c == '\t' { Some(' ') } else { (!hidden(c)).then_some(c) };
    let cleaned: String = text.chars().take(len_max.saturating_mul(2)).filter_map(shown).collect();
    if cleaned.len() <= len_max {
        return cleaned;
    }
    format!("{}…", cut(&cleaned, len_max.saturating_sub('…'.len_utf8())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_people_is_one_bounded_line() {
        assert_eq!(clean("a\nb\u{202e}c\u{1b}[31m", 100), "a bc[31m");
        assert_eq!(clean(&"é".repeat(400), 500).len(), 499);
        assert!(clean(&"x".repeat(10_000), 500).ends_with('…'));
    }

    #[test]
    fn a_position_is_read_from_the_message_or_the_traceback() {
        let error = LuaError::RuntimeError("rules/a.lua:7: boom\nstack traceback:\nrules/a.lua:7".into());
        let failure = Failure::from_lua(&error, "rules/a.lua");
        assert_eq!((failure.message.as_str(), failure.line), ("boom", Some(7)));
        assert_eq!(locate("x\n  hold = \"x\"", "hold"), Some((2, 3)));
        assert_eq!(locate("threshold = 1", "hold"), None);
    }
}
