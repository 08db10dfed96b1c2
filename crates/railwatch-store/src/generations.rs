//! Configuration generations: what was in force when, and what became of each attempt to change it.

use railwatch_model::{SmolStr, Timestamp};
use rusqlite::{Row, params};
use serde_json::Value;

use crate::journal::{count, smol, sql_seq, time};
use crate::{Reader, Store, StoreError};

/// Generations that are kept; with files of some ten kilobytes each, tens of megabytes.
const GENERATIONS_MAX: i64 = 1_000;

/// One attempt to put a configuration in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// When it was attempted.
    pub at: Timestamp,
    /// The hash of its content.
    pub digest: SmolStr,
    /// Its files, by name. Secrets are references, so none is in here.
    pub content: Value,
    /// What became of it.
    pub outcome: Value,
}

impl Store {
    /// Records an attempt, or what became of one. The oldest are forgotten beyond a thousand.
    pub fn record_generation(&mut self, generation: &Generation) -> Result<(), StoreError> {
        let number = sql_seq(generation.number);
        let tx = self.begin()?;
        tx.prepare_cached(
            "INSERT OR REPLACE INTO generations (number, at, digest, content, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            number,
            generation.at.micros(),
            generation.digest.as_str(),
            generation.content.to_string(),
            generation.outcome.to_string()
        ])?;
        tx.prepare_cached("DELETE FROM generations WHERE number <= ?1")?
            .execute([number - GENERATIONS_MAX])?;
        tx.commit()?;
        self.bound_wal(0);
        Ok(())
    }
}

impl Reader {
    /// The newest attempts, newest first.
    pub fn generations(&self, limit: u32) -> Result<Vec<Generation>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT number, at, digest, content, outcome FROM generations ORDER BY number DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut generations = Vec::new();
        while let Some(row) = rows.next()? {
            generations.push(generation(row)?);
        }
        Ok(generations)
    }

    /// One attempt.
    pub fn generation(&self, number: u64) -> Result<Option<Generation>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT number, at, digest, content, outcome FROM generations WHERE number = ?1",
        )?;
        let mut rows = statement.query([sql_seq(number)])?;
        rows.next()?.map(generation).transpose()
    }
}

fn generation(row: &Row<'_>) -> Result<Generation, StoreError> {
    let number = count(row, 0)?;
    let json = |column: usize| -> Result<Value, StoreError> {
        let text: String = row.get(column)?;
        serde_json::from_str(&text)
            .map_err(|error| StoreError::undecodable(format!("generation {number}"), &error))
    };
    Ok(Generation { number, at: time(row, 1)?, digest: smol(row, 2)?, content: json(3)?, outcome: json(4)? })
}
