//! From bytes to deliveries: lines, rows, decoding, batches and places.

use railwatch_model::Timestamp;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::source::{Cursor, SourceContext, SourceError};

use super::csv_rows::CsvRows;
use super::lines::{Line, Lines};
use super::place::{HEAD_LEN, Place};
use super::{LineFormat, LinesTable};
use crate::delivery::Pipeline;

/// Where lines go.
pub(super) struct Feed<'a> {
    cx: &'a SourceContext,
    decoder: &'a dyn Decoder,
    config: &'a LinesTable,
    lines: Lines,
    rows: Option<CsvRows>,
    pipeline: Pipeline,
    decoded: Decoded,
    /// When the bytes in hand were read.
    read_at: Timestamp,
    n_lines_in_batch: usize,
    n_lines: u64,
    /// The file's first bytes, as they are on disk; empty for a stream, which has no place to return to.
    head: Option<Vec<u8>>,
    /// Lines that end here or before were delivered by an earlier run.
    done_until: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(cx: &'a SourceContext, decoder: &'a dyn Decoder, config: &'a LinesTable) -> Self {
        Self {
            cx,
            decoder,
            config,
            lines: Lines::new(config.line_len_max, config.format == LineFormat::Csv, 0),
            rows: config.rows(),
            pipeline: Pipeline::default(),
            decoded: Decoded::default(),
            read_at: cx.clock.now(),
            n_lines_in_batch: 0,
            n_lines: 0,
            head: None,
            done_until: 0,
        }
    }

    /// Begins a file. `offset` is where its bytes start, lines up to `done_until` are passed over, and `head` is what
    /// is known of its beginning.
    pub(super) fn begin(&mut self, offset: u64, done_until: u64, head: Vec<u8>) {
        self.lines = Lines::new(self.config.line_len_max, self.config.format == LineFormat::Csv, offset);
        self.rows = self.config.rows();
        self.head = Some(head);
        self.done_until = done_until;
    }

    /// Remembers what a file begins with.
    pub(super) fn see(&mut self, raw: &[u8]) {
        if let Some(head) = &mut self.head
            && head.len() < HEAD_LEN
        {
            head.extend_from_slice(raw.get(..HEAD_LEN - head.len()).unwrap_or(raw));
        }
    }

    /// Takes the next bytes and hands over what is complete.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.read_at = self.cx.clock.now();
        self.lines.extend(bytes);
        while let Some(line) = self.lines.next() {
            self.line(line).await?;
        }
        self.flush().await
    }

    /// Takes what is left as the last line, and waits until everything is durable.
    pub(super) async fn finish(&mut self) -> Result<(), SourceError> {
        self.rest().await?;
        self.pipeline.drain(self.cx).await
    }

    /// Takes what is left as a line: the file will not grow any more.
    pub(super) async fn rest(&mut self) -> Result<(), SourceError> {
        if let Some(line) = self.lines.rest() {
            self.line(line).await?;
        }
        self.flush().await
    }

    pub(super) fn format(&self) -> LineFormat {
        self.config.format
    }

    pub(super) fn has_in_flight(&self) -> bool {
        !self.pipeline.is_empty()
    }

    /// Resolves when the oldest delivery in flight is durable.
    pub(super) async fn acked(&mut self) -> Result<(), SourceError> {
        self.pipeline.next().await.transpose().map(|_| ())
    }

    pub(super) fn summary(&self) -> String {
        format!("read {} lines", self.n_lines)
    }

    async fn line(&mut self, line: Line) -> Result<(), SourceError> {
        let is_done = self.lines.offset() <= self.done_until;
        match line {
            Line::Whole(line) => self.whole(&line, is_done),
            Line::TooLong { .. } if is_done => {}
            Line::TooLong { len, head } => {
                let max = self.config.line_len_max;
                let detail = format!("a line of {len} bytes; line_len_max is {max}");
                self.decoded.reject("too_large", detail, &head, self.read_at);
            }
        }
        self.n_lines += 1;
        self.n_lines_in_batch += 1;
        if self.n_lines_in_batch >= self.config.batch_max { self.flush().await } else { Ok(()) }
    }

    fn whole(&mut self, line: &[u8], is_done: bool) {
        let received_at = self.read_at;
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let row = match &mut self.rows {
            None => None,
            Some(rows) => match rows.object(line) {
                Ok(Some(row)) => Some(row),
                Ok(None) => return,
                Err(_) if is_done => return,
                Err(detail) => return self.decoded.reject("bad_csv", detail, line, received_at),
            },
        };
        if !is_done {
            let body = row.as_ref().map_or(line, |row| row.as_bytes());
            self.decoder.decode(&Message { body, headers: None, received_at }, &mut self.decoded);
        }
    }

    /// Hands the batch over.
    async fn flush(&mut self) -> Result<(), SourceError> {
        self.n_lines_in_batch = 0;
        let decoded = std::mem::take(&mut self.decoded);
        if decoded.is_empty() {
            return Ok(());
        }
        let cursor = self.place();
        match self.pipeline.submit(self.cx, decoded, cursor).await {
            // What was not taken because the source must stop comes again after the next start.
            Err(SourceError::Closed) if self.cx.cancel.is_cancelled() => Ok(()),
            result => result,
        }
    }

    /// Where the next run goes on.
    fn place(&self) -> Option<Cursor> {
        let head = self.head.as_ref()?;
        Some(Place::new(self.lines.offset().max(self.done_until), head).cursor())
    }
}
