//! CSV rows become JSON objects, so that one decoder, declarative or Lua, reads both.

use std::sync::{Arc, Mutex, PoisonError};

use railwatch_model::Timestamp;
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use serde_json::{Map, Value};

use super::lines::{Line, Lines};

/// Knows the columns' names, from the configuration or the first row.
#[derive(Debug)]
pub(super) struct CsvRows {
    columns: Vec<String>,
    delimiter: u8,
}

impl CsvRows {
    pub(super) fn new(columns: Vec<String>, delimiter: char) -> Self {
        Self { columns, delimiter: u8::try_from(delimiter).unwrap_or(b',') }
    }

    /// The row as a JSON object; `None` for the row that names the columns. The error says what is wrong.
    pub(super) fn object(&mut self, line: &[u8]) -> Result<Option<String>, String> {
        let fields = self.fields(line)?;
        if self.columns.is_empty() {
            let names = fields.into_iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned());
            self.columns = names.collect();
            return Ok(None);
        }
        // Recordings one after the other each begin with the names.
        if fields == self.columns {
            return Ok(None);
        }
        if fields.len() != self.columns.len() {
            return Err(format!("{} fields in a row of {} columns", fields.len(), self.columns.len()));
        }
        let named = self.columns.iter().cloned().zip(fields.into_iter().map(Value::from));
        Ok(Some(Value::from(named.collect::<Map<_, _>>()).to_string()))
    }

    fn fields(&self, line: &[u8]) -> Result<Vec<String>, String> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(self.delimiter)
            .buffer_capacity(line.len().max(16))
            .from_reader(line);
        let mut record = csv::StringRecord::new();
        reader.read_record(&mut record).map_err(|error| format!("not CSV: {error}"))?;
        Ok(record.iter().map(str::to_owned).collect())
    }
}

/// Decodes recordings: whole CSV files, or rows that follow the names, as another decoder would the rows of a source.
#[derive(Debug)]
pub(super) struct CsvDecoder {
    rows: Mutex<CsvRows>,
    inner: Arc<dyn Decoder>,
}

impl CsvDecoder {
    pub(super) fn new(rows: CsvRows, inner: Arc<dyn Decoder>) -> Self {
        Self { rows: Mutex::new(rows), inner }
    }
}

impl Decoder for CsvDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Lines::new(usize::MAX, true, 0);
        lines.extend(message.body);
        while let Some(Line::Whole(line)) = lines.next().or_else(|| lines.rest()) {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match rows.object(&line) {
                Ok(None) => {}
                Ok(Some(row)) => self.inner.decode(&Message { body: row.as_bytes(), ..*message }, decoded),
                Err(detail) => decoded.reject("bad_csv", detail, &line, message.received_at),
            }
        }
    }

    fn finish(&self, at: Timestamp, decoded: &mut Decoded) {
        self.inner.finish(at, decoded);
    }
}
