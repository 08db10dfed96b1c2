//! A message is a JSON object, an array of objects, or NDJSON: this module cuts it into items and refuses what is
//! not JSON, too deep, too many, or not UTF-8. One bad item never takes its neighbors with it.

use std::str::from_utf8;

use railwatch_model::Timestamp;
use railwatch_plugin::decode::Decoded;
use serde_json::value::RawValue;

use super::path::Pluck;

/// Items that one message may hold; further ones become one reject.
pub(crate) const ITEMS_MAX: usize = 20_000;
/// Objects and arrays that may be nested.
pub(crate) const DEPTH_MAX: usize = 64;

/// Calls `each` with the raw text of every item.
pub(crate) struct Framing<'a> {
    pub(crate) items: Option<&'a Pluck>,
    pub(crate) at: Timestamp,
    pub(crate) n_items: usize,
}

impl<'a> Framing<'a> {
    pub(crate) fn new(items: Option<&'a Pluck>, at: Timestamp) -> Self {
        Self { items, at, n_items: 0 }
    }

    pub(crate) fn cut(
        &mut self,
        body: &[u8],
        decoded: &mut Decoded,
        each: &mut impl FnMut(&str, &mut Decoded),
    ) {
        let Some(text) = self.utf8(body) else {
            return self.lines(body, decoded, each);
        };
        let text = text.trim_start_matches('\u{feff}').trim_ascii();
        if text.is_empty() {
            return decoded.filter("empty message");
        }
        if is_lines(text) {
            self.lines(text.as_bytes(), decoded, each)
        } else {
            self.document(text, decoded, each)
        }
    }

    fn utf8<'b>(&self, body: &'b [u8]) -> Option<&'b str> {
        from_utf8(body).ok()
    }

    fn lines(&mut self, body: &[u8], decoded: &mut Decoded, each: &mut impl FnMut(&str, &mut Decoded)) {
        for line in body.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            if self.n_items >= ITEMS_MAX {
                return self.too_many(line, decoded);
            }
            match from_utf8(line) {
                Ok(line) => self.document(line, decoded, each),
                Err(error) => {
                    self.n_items += 1;
                    let detail = format!("byte {} is not UTF-8; JSON is UTF-8 text", error.valid_up_to());
                    decoded.reject("bad_utf8", detail, line, self.at);
                }
            }
        }
    }

    fn document(&mut self, text: &str, decoded: &mut Decoded, each: &mut impl FnMut(&str, &mut Decoded)) {
        if depth_exceeds(text, DEPTH_MAX) {
            self.n_items += 1;
            let detail = format!("objects and arrays are nested more than {DEPTH_MAX} deep");
            return decoded.reject("too_deep", detail, text.as_bytes(), self.at);
        }
        let list = match self.items {
            Some(items) => match items.raw(text) {
                Some(list) => list,
                None => return self.no_items(text, decoded),
            },
            None => text,
        };
        if !list.starts_with('[') {
            self.n_items += 1;
            return each(list, decoded);
        }
        self.array(list, decoded, each);
    }

    fn array(&mut self, list: &str, decoded: &mut Decoded, each: &mut impl FnMut(&str, &mut Decoded)) {
        let parts = match serde_json::from_str::<Vec<&RawValue>>(list) {
            Ok(parts) => parts,
            Err(error) => {
                self.n_items += 1;
                return decoded.reject("bad_json", format!("not JSON: {error}"), list.as_bytes(), self.at);
            }
        };
        if parts.is_empty() {
            decoded.filter("empty array");
        }
        for part in parts {
            if self.n_items >= ITEMS_MAX {
                return self.too_many(part.get().as_bytes(), decoded);
            }
            self.n_items += 1;
            each(part.get(), decoded);
        }
    }

    fn no_items(&mut self, text: &str, decoded: &mut Decoded) {
        self.n_items += 1;
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => decoded.filter("nothing at the items path"),
            Err(error) => decoded.reject("bad_json", format!("not JSON: {error}"), text.as_bytes(), self.at),
        }
    }

    fn too_many(&self, part: &[u8], decoded: &mut Decoded) {
        if self.n_items == ITEMS_MAX {
            let detail = format!("a message may hold {ITEMS_MAX} items; send smaller batches");
            decoded.reject("too_many", detail, part, self.at);
        }
    }
}

/// NDJSON, as opposed to one document with line breaks: the first or the last line is complete by itself.
fn is_lines(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first_end), Some(last_start)) = (memchr::memchr(b'\n', bytes), memchr::memrchr(b'\n', bytes))
    else {
        return false;
    };
    let complete = |line: &[u8]| {
        let line = line.trim_ascii();
        matches!((line.first(), line.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
    };
    complete(&bytes[..first_end]) || complete(&bytes[last_start..])
}

/// True if objects and arrays are nested deeper than `max`.
fn depth_exceeds(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    if memchr::memchr2_iter(b'{', b'[', bytes).nth(max).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::path::FieldPath;
    use super::*;

    fn cut(items: Option<&str>, body: &[u8]) -> (Vec<String>, Decoded) {
        let pluck = items.map(|path| Pluck::new(&FieldPath::parse(path).unwrap()));
        let (mut found, mut decoded) = (Vec::new(), Decoded::default());
        let mut framing = Framing::new(pluck.as_ref(), Timestamp::EPOCH);
        framing.cut(body, &mut decoded, &mut |item, _| found.push(item.to_owned()));
        (found, decoded)
    }

    #[track_caller]
    fn check(items: Option<&str>, body: &str, expected: &[&str]) {
        let (found, decoded) = cut(items, body.as_bytes());
        assert_eq!(found, expected);
        assert_eq!(decoded.rejects, []);
    }

    #[test]
    fn objects_arrays_and_lines_are_told_apart() {
        check(None, " {\"a\":1}\n", &["{\"a\":1}"]);
        check(None, "\u{feff}{\n \"a\": 1\n}", &["{\n \"a\": 1\n}"]);
        check(None, "[{\"a\":1},\n {\"a\":2}]", &["{\"a\":1}", "{\"a\":2}"]);
        check(None, "{\"a\":1}\r\n\n{\"a\":2}\n", &["{\"a\":1}", "{\"a\":2}"]);
        check(None, "[1]\n[2,3]", &["1", "2", "3"]);
        check(Some("/data"), "{\"data\":[{},{\"x\":[]}]}", &["{}", "{\"x\":[]}"]);
        check(Some("/data"), "{\"data\":{\"a\":1}}", &["{\"a\":1}"]);
        check(None, "[]", &[]);
        check(Some("/data"), "{\"ping\":1}", &[]);
    }

    #[test]
    fn bad_parts_do_not_take_their_neighbors_along() {
        let (found, decoded) = cut(None, b"{\"a\":1}\n\xff\xfe{}\n{\"a\":2}");
        assert_eq!(found, ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(decoded.rejects.iter().map(|reject| reject.code).collect::<Vec<_>>(), ["bad_utf8"]);
        let (found, decoded) = cut(None, b"[{\"a\":1},");
        assert_eq!((found.len(), decoded.rejects[0].code), (0, "bad_json"));
    }

    #[test]
    fn depth_is_limited_but_brackets_in_strings_are_not_depth() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(cut(None, deep.as_bytes()).1.rejects[0].code, "too_deep");
        check(
            None,
            &format!("{{\"a\":\"{}\\\"\"}}", "[".repeat(200)),
            &[&format!("{{\"a\":\"{}\\\"\"}}", "[".repeat(200))],
        );
        let wide = format!("[{}]", vec!["{}"; 100].join(","));
        assert_eq!(cut(None, wide.as_bytes()).0.len(), 100);
    }

    #[test]
    fn a_message_holds_so_many_items_and_no_more() {
        for body in [format!("[{}0]", "0,".repeat(ITEMS_MAX + 5)), "{}\n".repeat(ITEMS_MAX + 5)] {
            let (found, decoded) = cut(None, body.as_bytes());
            assert_eq!(found.len(), ITEMS_MAX);
            assert_eq!(decoded.rejects.iter().map(|reject| reject.code).collect::<Vec<_>>(), ["too_many"]);
        }
    }
}
