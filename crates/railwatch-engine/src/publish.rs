//! Publication: subjects that changed are handed out a few at a time, so that those who look on have a table of their
//! own and never make the engine wait.
//!
//! Invariant: publication reads the state and changes nothing that decides anything.

use railwatch_model::{Alert, Signal, SmolStr, Subject, Timestamp, Totals};

use crate::engine::Engine;

/// One subject at the moment of its publication.
#[derive(Debug)]
pub struct Published<'a> {
    /// Whom it is about.
    pub subject: &'a Subject,
    /// Its team.
    pub team: Option<&'a SmolStr>,
    /// When it first paid.
    pub first_at: Timestamp,
    /// When it last paid, in the journal's time.
    pub last_at: Timestamp,
    /// Sums since it is known.
    pub totals: Totals,
    /// The anomaly score.
    pub score: f64,
    /// What the detectors think now.
    pub signals: &'a [Signal],
    /// Its open alerts.
    pub alerts: Vec<&'a Alert>,
}

impl Engine {
    /// True if some subject changed since it was last published.
    pub fn has_unpublished(&self) -> bool {
        self.subjects.has_unpublished()
    }

    /// Hands out up to `rows_max` subjects that changed, those that wait longest first, each with its slot. A slot
    /// without a subject is free now. Slots are dense and are used again.
    pub fn publish(&mut self, rows_max: usize, mut take: impl FnMut(usize, Option<Published<'_>>)) {
        let mut signals = std::mem::take(&mut self.scratch.signals);
        for _ in 0..rows_max {
            let Some(slot) = self.subjects.take_unpublished() else { break };
            match self.subjects.row_mut(slot) {
                Some(row) if row.unpublished => row.unpublished = false,
                Some(_) => continue,
                None => {
                    take(slot, None);
                    continue;
                }
            }
            self.collect_signals(slot, &mut signals);
            let Some(row) = self.subjects.row(slot) else { continue };
            let published = Published {
                subject: &row.subject,
                team: row.profile.team.as_ref(),
                first_at: row.kept.born_at,
                last_at: row.kept.last_at,
                totals: row.kept.ledger.totals,
                score: row.kept.score,
                signals: &signals,
                alerts: row.kept.book.iter().flat_map(|book| book.open()).collect(),
            };
            take(slot, Some(published));
        }
        self.scratch.signals = signals;
    }
}
