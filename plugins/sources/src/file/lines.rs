//! Cuts a stream of bytes into lines, with a limit on their length and the offset at which each ends.

/// One line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// Longer than the limit: how long, and its beginning.
    TooLong {
        len: u64,
        head: Vec<u8>,
    },
}

/// Bytes of a line that is too long that are kept.
const HEAD_LEN: usize = 4096;

/// The splitter.
#[derive(Debug)]
pub(super) struct Lines {
    len_max: usize,
    /// Line breaks inside double quotes belong to the line (CSV).
    quotes: bool,
    buffer: Vec<u8>,
    /// Bytes of the buffer that belong to finished lines.
    start: usize,
    /// Bytes of the buffer that were searched.
    scanned: usize,
    in_quotes: bool,
    skipping: Option<(u64, Vec<u8>)>,
    /// The offset in the stream of the first byte that belongs to no finished line.
    offset: u64,
}

impl Lines {
    pub(super) fn new(len_max: usize, quotes: bool, offset: u64) -> Self {
        let (buffer, start, scanned) = (Vec::new(), 0, 0);
        Self { len_max, quotes, buffer, start, scanned, in_quotes: false, skipping: None, offset }
    }

    /// Where reading must resume so that no line is lost and none comes twice.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line.
    pub(super) fn next(&mut self) -> Option<Line> {
        let Some(end) = self.find_break() else {
            self.limit();
            return None;
        };
        let line = self.buffer[self.start..end].to_vec();
        self.start = end + 1;
        self.scanned = self.start;
        self.in_quotes = false;
        Some(self.emit(line, 1))
    }

    /// What is left at the end of the stream: a last line without a line break.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let line = self.buffer.split_off(self.start);
        self.buffer.clear();
        (self.start, self.scanned, self.in_quotes) = (0, 0, false);
        (!line.is_empty() || self.skipping.is_some()).then(|| self.emit(line, 0))
    }

    fn emit(&mut self, mut line: Vec<u8>, n_breaks: u64) -> Line {
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.offset += len + n_breaks;
        if let Some((skipped, head)) = self.skipping.take() {
            return Line::TooLong { len: skipped + len, head };
        }
        if line.len() > self.len_max {
            line.truncate(HEAD_LEN);
            return Line::TooLong { len, head: line };
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line)
    }

    fn find_break(&mut self) -> Option<usize> {
        if !self.quotes || self.skipping.is_some() {
            let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]).map(|at| self.scanned + at);
            self.scanned = found.unwrap_or(self.buffer.len());
            return found;
        }
        while let Some(at) = memchr::memchr2(b'\n', b'"', &self.buffer[self.scanned..]) {
            let at = self.scanned + at;
            self.scanned = at + 1;
            if self.buffer[at] == b'"' {
                self.in_quotes = !self.in_quotes;
            } else if !self.in_quotes {
                return Some(at);
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    /// Drops an unfinished line that is already too long; its end is still looked for.
    fn limit(&mut self) {
        let len = self.buffer.len() - self.start;
        if len <= self.len_max && self.skipping.is_none() {
            return;
        }
        let head_end = self.start + len.min(HEAD_LEN);
        let head = self.buffer[self.start..head_end].to_vec();
        let (skipped, _) = self.skipping.get_or_insert((0, head));
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        *skipped += len;
        self.offset += len;
        self.buffer.clear();
        (self.start, self.scanned, self.in_quotes) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &[u8], step: usize, len_max: usize, quotes: bool) -> (Vec<Line>, u64) {
        let mut lines = Lines::new(len_max, quotes, 0);
        let mut found = Vec::new();
        for chunk in text.chunks(step.max(1)) {
            lines.extend(chunk);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        found.extend(lines.rest());
        (found, lines.offset())
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_are_cut_whatever_the_chunks() {
        for step in 1..12 {
            let (found, offset) = split(b"one\r\n\ntwo\nthree", step, 100, false);
            assert_eq!(found, [whole("one"), whole(""), whole("two"), whole("three")]);
            assert_eq!(offset, 15);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        for step in [1, 3, 50] {
            let (found, offset) = split(b"ok\n0123456789\nok", step, 4, false);
            let [first, Line::TooLong { len: 10, .. }, last] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((first, last, offset), (&whole("ok"), &whole("ok"), 16));
        }
    }

    #[test]
    fn quoted_line_breaks_belong_to_the_row() {
        for step in 1..6 {
            let (found, _) = split(b"a,\"x\ny\"\"\n\"\nb", step, 100, true);
            assert_eq!(found, [whole("a,\"x\ny\"\"\n\""), whole("b")]);
        }
    }

    proptest! {
        #[test]
        fn offsets_add_up(text in "[ab\n\"]{0,60}", step in 1_usize..20, len_max in 1_usize..20, quotes: bool) {
            let (_, offset) = split(text.as_bytes(), step, len_max, quotes);
            prop_assert_eq!(offset, text.len() as u64);
        }
    }
}
