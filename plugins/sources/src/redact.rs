//! Takes bearer secrets out of bytes that are about to be kept as evidence.

/// A copy of `raw` in which the text value of every JSON key in `keys` is replaced, and so is every word that begins
/// with one of `prefixes` (a prefix must begin with a letter). Works on broken JSON too, since that is what rejects
/// hold; of a value that is cut off nothing is left.
pub(crate) fn redact(raw: &[u8], keys: &[&str], prefixes: &[&str]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, tail)) = rest.split_first() {
        if let Some(len) = value_start(rest, keys) {
            let (head, value) = rest.split_at(len);
            clean.extend_from_slice(head);
            clean.extend_from_slice(b"***");
            rest = value.get(value_len(value)..).unwrap_or_default();
        } else if starts_word(&clean) && prefixes.iter().any(|prefix| rest.starts_with(prefix.as_bytes())) {
            clean.extend_from_slice(b"***");
            let word = rest.iter().take_while(|byte| is_word(**byte)).count();
            rest = rest.get(word..).unwrap_or_default();
        } else {
            clean.push(*byte);
            rest = tail;
        }
    }
    clean
}

/// If `bytes` begins with a quoted key of `keys`, a colon and an opening quote: the length up to the value.
fn value_start(bytes: &[u8], keys: &[&str]) -> Option<usize> {
    let quoted = bytes.strip_prefix(b"\"")?;
    let key = keys
        .iter()
        .find(|key| quoted.strip_prefix(key.as_bytes()).is_some_and(|after| after.first() == Some(&b'"')))?;
    let mut len = key.len() + 2;
    for expected in [b':', b'"'] {
        len += bytes.get(len..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if bytes.get(len) != Some(&expected) {
            return None;
        }
        len += 1;
    }
    Some(len)
}

fn value_len(value: &[u8]) -> usize {
    let mut escaped = false;
    value
        .iter()
        .take_while(|byte| {
            let ends = **byte == b'"' && !escaped;
            escaped = **byte == b'\\' && !escaped;
            !ends
        })
        .count()
}

fn starts_word(before: &[u8]) -> bool {
    before.last().is_none_or(|byte| !is_word(*byte))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let clean = redact(raw.as_bytes(), &["client_secret", "preimage"], &["spt_"]);
        assert_eq!(String::from_utf8(clean).unwrap(), expected);
    }

    #[test]
    fn secrets_are_replaced_and_nothing_else() {
        check(r#"{"client_secret":"pi_1_secret_2","a":1}"#, r#"{"client_secret":"***","a":1}"#);
        check(r#"{"preimage" : "ab\"cd" ,"b":"preimage"}"#, r#"{"preimage" : "***" ,"b":"preimage"}"#);
        check(
            r#"{"client_secret":null,"id":"spt_1Ab","x":"notspt_1"}"#,
            r#"{"client_secret":null,"id":"***","x":"notspt_1"}"#,
        );
        check(r#"{"preimage":"cut o"#, r#"{"preimage":"***"#);
        check("", "");
    }
}
