//! Standard output and standard error, for people or for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::Failure;

/// Where a verb prints.
#[derive(Debug)]
pub struct Out {
    json: bool,
    color: bool,
    broken: bool,
}

impl Out {
    /// Output for programs, or for people.
    pub fn new(json: bool) -> Self {
        let color = !json && io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, color, broken: false }
    }

    /// True if a program reads.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// True if colors are welcome.
    pub fn color(&self) -> bool {
        self.color
    }

    /// True if nobody reads any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// A writer, for generated text.
    pub fn writer(&self) -> impl Write + use<> {
        io::stdout()
    }

    /// Prints a line for people; nothing for programs.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.write(text.as_ref()) }
    }

    /// Prints a document for programs; nothing for people.
    pub fn document(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(document).map_err(anyhow::Error::from)?;
        self.write(&text)
    }

    /// Prints a text for both.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.trim_end())
    }

    /// Prints columns, aligned.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.line(self.bold(&line(head.to_vec())))?;
        for row in rows {
            self.line(line(row.iter().map(String::as_str).collect()))?;
        }
        Ok(())
    }

    /// The text in bold, on a terminal.
    pub fn bold(&self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints why a verb failed.
    pub fn failure(&self, failure: &Failure) {
        let mut error = io::stderr();
        let result = if self.json {
            let document = serde_json::json!({ "error": failure.message, "code": failure.code });
            writeln!(error, "{document}")
        } else {
            // Diagnostics of the configuration bring their own heading.
            let heading = if failure.message.starts_with("error") { "" } else { "error: " };
            writeln!(error, "{heading}{}", failure.message)
        };
        // There is nowhere left to complain.
        drop(result);
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| {
            self.broken = error.kind() == io::ErrorKind::BrokenPipe;
            Failure::from(error)
        })
    }
}
