//! A script's text in pieces.

/// A piece of a script.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Number(f64),
    Text(String),
    Symbol(&'static str),
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "==", "~=", "<=", ">=", "..", "//", "(", ")", "{", "}", "[", "]", ",", ".", ":", "=", "<", ">", "+", "-",
    "*", "/", "%", "^", "#", ";",
];

/// The pieces of a script, each with its line; `None` if it is written in ways that are left to the machine.
pub(super) fn tokens(source: &str) -> Option<Vec<(usize, Token)>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let len = if first == '\n' {
            line += 1;
            1
        } else if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("--") {
            if rest.starts_with("--[") {
                return None;
            }
            rest.find('\n').unwrap_or(rest.len())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push((line, Token::Name(rest.get(..len)?.to_owned())));
            len
        } else if first.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
            let text = rest.get(..len)?;
            // Other ways to write a number are left to the machine.
            if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                return None;
            }
            tokens.push((line, Token::Number(text.parse().ok()?)));
            len
        } else if first == '"' || first == '\'' {
            let len = rest.get(1..)?.find(first)?;
            let text = rest.get(1..=len)?;
            if text.contains(['\\', '\n']) {
                // An escaped quote would end it too early; a text of several lines is none.
                return None;
            }
            tokens.push((line, Token::Text(text.to_owned())));
            len + 2
        } else if first == '`' {
            let len = rest.get(1..)?.find('`')?;
            line += rest.get(1..=len)?.matches('\n').count();
            tokens.push((line, Token::Symbol("`")));
            len + 2
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol))?;
            tokens.push((line, Token::Symbol(symbol)));
            symbol.len()
        };
        rest = rest.get(len..)?;
    }
    Some(tokens)
}
