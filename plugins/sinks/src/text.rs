//! Hostile text made harmless: agent names, payees, memos and peers' answers are written by others.
//!
//! [`clean`] runs once, when a message is made; the escapes run once per target, through [`fit`], which also keeps a
//! target's limit and marks what it cut.

use sha2::{Digest, Sha256};

/// The mark of a cut.
pub(crate) const CUT: char = '…';

/// One line without control characters, without marks that reorder or hide text, and with links and mass mentions
/// made inert; at most `chars_max` characters.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let mut plain = String::new();
    let mut space = false;
    // Four times the limit is enough raw text for any honest string; the rest is not even looked at.
    for c in text.chars().take(chars_max.saturating_mul(4)) {
        if c.is_whitespace() {
            space = true;
        } else if !is_hidden(c) {
            if space && !plain.is_empty() {
                plain.push(' ');
            }
            space = false;
            plain.push(c);
        }
    }
    let cut = text.chars().nth(chars_max.saturating_mul(4)).is_some();
    let mut inert = disarm(&plain);
    if cut {
        inert.push(CUT);
    }
    fit(&inert, chars_max, plain_char)
}

/// True for control characters and for the invisible ones that reorder text or hide in it: bidirectional marks,
/// embeddings, overrides and isolates, zero-width characters, variation selectors, tags.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Breaks links (`http://x` becomes `http[:]//x`) and the mentions that ring a whole channel (`@here` gets a
/// full-width `＠`). Both stay readable and can be copied back by a person who wants to.
fn disarm(text: &str) -> String {
    let mut out = text.replace("://", "[:]//");
    for word in ["channel", "here", "everyone"] {
        let mut from = 0;
        while let Some(at) = find_mention(&out, from, word) {
            out.replace_range(at..at + 1, "＠");
            from = at;
        }
    }
    out
}

/// The position of the next `@word`, in any case, at or after `from`.
fn find_mention(text: &str, from: usize, word: &str) -> Option<usize> {
    text.match_indices('@').map(|(at, _)| at).filter(|at| *at >= from).find(|at| {
        let after = text.get(at + 1..at + 1 + word.len());
        after.is_some_and(|after| after.eq_ignore_ascii_case(word))
    })
}

/// How a target writes one character.
pub(crate) type Escape = fn(char, &mut String);

/// Writes `text` through `escape` into at most `chars_max` characters, cutting before the limit with a `…` where it
/// does not fit. An escape sequence is never cut in half. Characters count as UTF-16 units, the narrowest way in
/// which a peer may count them.
pub(crate) fn fit(text: &str, chars_max: usize, escape: Escape) -> String {
    let mut out = String::new();
    let mut units = 0;
    let mut safe_len = 0;
    let mut piece = String::new();
    for c in text.chars() {
        piece.clear();
        escape(c, &mut piece);
        let piece_units = piece.encode_utf16().count();
        if units + piece_units > chars_max {
            out.truncate(safe_len);
            if chars_max > 0 {
                out.push(CUT);
            }
            return out;
        }
        out.push_str(&piece);
        units += piece_units;
        if units < chars_max {
            safe_len = out.len();
        }
    }
    out
}

/// No escape.
pub(crate) fn plain_char(c: char, out: &mut String) {
    out.push(c);
}

/// Slack's control characters, for `plain_text` objects: `&`, `<`, `>`.
pub(crate) fn slack_char(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(c),
    }
}

/// Text for a Slack `mrkdwn` object with `verbatim`: nothing in it formats, links or mentions.
pub(crate) fn mrkdwn(text: &str, chars_max: usize) -> String {
    fit(&tame_underscores(text), chars_max, mrkdwn_char)
}

/// Underscores inside a word format nothing and stay, so that `agent_billing_7` can be copied; others become
/// look-alikes.
pub(crate) fn tame_underscores(text: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut before = None;
    let mut chars = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        let is_inside = is_word(before) && is_word(chars.peek().copied());
        out.push(if c == '_' && !is_inside { '＿' } else { c });
        before = Some(c);
    }
    out
}

/// As [`slack_char`], and the formatting delimiters become look-alikes.
pub(crate) fn mrkdwn_char(c: char, out: &mut String) {
    match c {
        '*' => out.push('∗'),
        '~' => out.push('∼'),
        '`' => out.push('ˋ'),
        _ => slack_char(c, out),
    }
}

/// HTML text and attributes.
pub(crate) fn html_char(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        _ => out.push(c),
    }
}

/// Discord's markdown: whatever could format, mention, link, quote or become a heading gets a backslash.
pub(crate) fn markdown_char(c: char, out: &mut String) {
    if matches!(c, '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '#' | '[' | ']' | '@') {
        out.push('\\');
    }
    out.push(c);
}

/// Joins lines with line breaks as long as they fit into `chars_max`; where one does not, a `…` stands for it and all
/// that follow.
pub(crate) fn join_within(lines: impl IntoIterator<Item = String>, chars_max: usize) -> String {
    let mut out = String::new();
    let mut units = 0;
    for line in lines {
        let line_units = line.encode_utf16().count() + 1;
        // Two are kept for the mark and its line break.
        if units + line_units + 2 > chars_max {
            out.push(CUT);
            return out;
        }
        out.push_str(&line);
        out.push('\n');
        units += line_units;
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// A stand-in for an id that a target cannot carry: 32 hex digits of its SHA-256.
pub(crate) fn digest(id: &str) -> String {
    Sha256::digest(id.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_made_inert() {
        for (raw, expected) in [
            ("pay\u{202e}lap", "paylap"),
            ("a\r\n\tb\u{0}\u{7}", "a b"),
            ("\u{1b}[31mred", "[31mred"),
            ("see https://evil.example/x", "see https[:]//evil.example/x"),
            ("@channel @Here @EVERYONE a@channel.io", "＠channel ＠Here ＠EVERYONE a＠channel.io"),
            ("agent_billing_7", "agent_billing_7"),
            ("זהב ذهب", "זהב ذهب"),
        ] {
            assert_eq!(clean(raw, 100), expected, "{raw:?}");
        }
    }

    #[test]
    fn slack_formats_nothing_of_ours() {
        assert_eq!(
            mrkdwn("agent_billing_7 _i_ *b* ~s~ `c` <!here>", 99),
            "agent_billing_7 ＿i＿ ∗b∗ ∼s∼ ˋcˋ &lt;!here&gt;"
        );
    }

    #[test]
    fn a_cut_is_marked_and_never_splits_an_escape() {
        assert_eq!(fit("abcdef", 4, plain_char), "abc…");
        assert_eq!(fit("abcd", 4, plain_char), "abcd");
        assert_eq!(fit("a&b", 6, slack_char), "a…");
        assert_eq!(fit("a&b", 7, slack_char), "a&amp;b");
        assert_eq!(fit("&&", 6, slack_char), "&amp;…");
        assert_eq!(clean(&"x".repeat(10_000), 5), "xxxx…");
        assert_eq!(clean(&" ".repeat(10_000), 5), "…");
    }

    proptest! {
        #[test]
        fn fit_keeps_its_limit(text in ".{0,60}", limit in 0usize..40) {
            for escape in [plain_char as Escape, slack_char, mrkdwn_char, html_char, markdown_char] {
                let fitted = fit(&text, limit, escape);
                prop_assert!(fitted.encode_utf16().count() <= limit, "{fitted:?}");
            }
        }

        #[test]
        fn joined_lines_keep_their_limit(lines in prop::collection::vec(".{0,20}", 0..10), limit in 4usize..80) {
            let joined = join_within(lines, limit);
            prop_assert!(joined.encode_utf16().count() <= limit, "{joined:?}");
        }

        #[test]
        fn cleaning_is_idempotent_and_leaves_nothing_hidden(text in any::<String>()) {
            let once = clean(&text, 200);
            prop_assert!(!once.chars().any(is_hidden));
            prop_assert!(!once.contains("://"));
            prop_assert_eq!(clean(&once, 200), once);
        }
    }
}
