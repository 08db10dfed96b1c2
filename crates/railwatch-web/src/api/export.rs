//! Files for other programs: CSV and JSON lines, written while they are read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use railwatch_model::{Record, Timestamp};
use railwatch_store::{AlertFilter, Reader, Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::fleet::AlertBrief;
use crate::list::AgentQuery;
use crate::problem::{Answer, Ask, Named, Problem};
use crate::scan::PaymentBrief;
use crate::site::Site;

/// Rows between two writes.
const ROWS: u32 = 1000;
/// Pieces that wait for a slow reader.
const PIECES: usize = 4;

/// The format of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Comma-separated values with a header.
    #[default]
    Csv,
    /// One JSON document per line.
    Jsonl,
}

/// What to write.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// The format.
    format: Format,
    /// Payments and alerts from then on.
    from: Option<Timestamp>,
    /// Payments and alerts before then.
    until: Option<Timestamp>,
}

/// Writes rows to whoever reads, until one of the two has enough.
struct Writer {
    format: Format,
    header: Vec<String>,
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
    rows: u32,
}

/// The reader went away.
struct Gone;

pub(crate) async fn export(
    State(site): State<Arc<Site>>,
    Named(what): Named<String>,
    Ask(query): Ask<ExportQuery>,
) -> Answer<Response> {
    let write = match what.as_str() {
        "agents" => agents,
        "alerts" => alerts,
        "payments" => payments,
        other => {
            return Err(Problem::missing(format!("{other:?} is not agents, alerts or payments")));
        }
    };
    let (pieces, receiver) = mpsc::channel(PIECES);
    let (media, extension) = match query.format {
        Format::Csv => ("text/csv; charset=utf-8", "csv"),
        Format::Jsonl => ("application/x-ndjson", "jsonl"),
    };
    tokio::task::spawn_blocking(move || {
        let format = query.format;
        let mut writer = Writer { format, header: Vec::new(), pieces, piece: Vec::new(), rows: 0 };
        match write(&site, &query, &mut writer) {
            Ok(Ok(())) => drop(writer.flush()),
            Ok(Err(Gone)) => {}
            Err(error) => tracing::warn!(%error, "an export ends early"),
        }
    });
    let stream = unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    let name = format!("attachment; filename=\"railwatch-{what}.{extension}\"");
    let headers = [(header::CONTENT_TYPE, media.to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(stream)).into_response())
}

type Written = Result<Result<(), Gone>, StoreError>;

fn agents(site: &Arc<Site>, _: &ExportQuery, writer: &mut Writer) -> Written {
    let mut query = AgentQuery { sort: crate::list::Sort::Name, limit: Some(ROWS), ..AgentQuery::default() };
    loop {
        let page = query.page(&site.board.read());
        for agent in &page.items {
            if writer.row(agent).is_err() {
                return Ok(Err(Gone));
            }
        }
        let next = page.next.and_then(|next| serde_json::from_value(next.into()).ok());
        match next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(Ok(())),
        }
    }
}

fn open(site: &Site) -> Result<Reader, StoreError> {
    Store::open_read_only(&site.options.store_path)
}

fn alerts(site: &Arc<Site>, query: &ExportQuery, writer: &mut Writer) -> Written {
    let store = open(site)?;
    let mut filter = AlertFilter { since: query.from, before: query.until, ..AlertFilter::default() };
    loop {
        let listed = store.alerts(&filter, ROWS)?;
        for alert in &listed.items {
            if writer.row(&AlertBrief::new(alert)).is_err() {
                return Ok(Err(Gone));
            }
        }
        match listed.items.last() {
            Some(last) if listed.items.len() == ROWS as usize => {
                filter.after = Some((last.opened_at, last.id.clone()));
            }
            _ => return Ok(Ok(())),
        }
    }
}

fn payments(site: &Arc<Site>, query: &ExportQuery, writer: &mut Writer) -> Written {
    let store = open(site)?;
    let (from, until) = (query.from.unwrap_or(Timestamp::EPOCH), query.until.unwrap_or(Timestamp::MAX));
    for batch in store.batches_between(from, until)? {
        for record in batch?.records {
            let Record::Payments { now, payments } = record else { continue };
            if now < from || now >= until {
                continue;
            }
            for admitted in &payments {
                if writer.row(&PaymentBrief::new(admitted)).is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
    }
    Ok(Ok(()))
}

impl Writer {
    fn row(&mut self, row: &impl Serialize) -> Result<(), Gone> {
        match self.format {
            Format::Jsonl => {
                serde_json::to_writer(&mut self.piece, row).map_err(|_| Gone)?;
                self.piece.push(b'\n');
            }
            Format::Csv => self.csv(&serde_json::to_value(row).unwrap_or_default()),
        }
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.pieces.blocking_send(piece).map_err(|_| Gone)
    }

    /// The first row's fields, nested ones by their path, are the columns of all.
    fn csv(&mut self, row: &Value) {
        let mut fields = Vec::new();
        flatten("", row, &mut fields);
        let mut csv = csv::WriterBuilder::new().from_writer(&mut self.piece);
        if self.header.is_empty() {
            self.header = fields.iter().map(|(name, _)| name.clone()).collect();
            // Writing to memory cannot fail.
            csv.write_record(&self.header).ok();
        }
        let value = |name: &String| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        csv.write_record(self.header.iter().map(value)).ok();
        csv.flush().ok();
    }
}

fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| flatten(&name(key), value, fields)),
        // Lists have no place in a table.
        Value::Array(_) => {}
        Value::Null => fields.push((path.to_owned(), String::new())),
        Value::String(text) => fields.push((path.to_owned(), inert(text))),
        other => fields.push((path.to_owned(), other.to_string())),
    }
}

/// A spreadsheet takes a text that begins like a formula for one; names come from outsiders.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '@', '\t', '\r']) || text.starts_with('-') && text.parse::<f64>().is_err()
    {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_one_header_and_inert_texts() {
        let (pieces, mut receiver) = mpsc::channel(1);
        let mut writer =
            Writer { format: Format::Csv, header: Vec::new(), pieces, piece: Vec::new(), rows: 0 };
        let rows = [
            json!({ "agent": "=cmd()", "usd": "-1.5", "velocity": { "value": 2.0 }, "spark": [1, 2] }),
            json!({ "agent": "b,\"c\"", "usd": null, "velocity": { "value": 0.5 }, "spark": [] }),
        ];
        assert!(rows.iter().all(|row| writer.row(row).is_ok()));
        assert!(writer.flush().is_ok());
        let text = String::from_utf8(receiver.try_recv().unwrap().to_vec()).unwrap();
        assert_eq!(text, "agent,usd,velocity.value\n'=cmd(),-1.5,2.0\n\"b,\"\"c\"\"\",,0.5\n");
    }
}
