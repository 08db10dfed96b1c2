//! Histories that a new generation needs longer than they were kept: read from the journal by another engine, and taken
//! over subject by subject, so that nothing stands still for it.

use crate::engine::Engine;
use crate::subjects::Subjects;

/// Rows that are looked through at a tick for subjects that nobody looked at.
const PER_TICK: usize = 2_000;

/// Histories that wait for their subjects.
#[derive(Debug)]
pub(crate) struct Warm {
    subjects: Subjects,
    /// How far the ticks have come.
    next: usize,
}

impl Engine {
    /// Takes over the histories of an engine that was shown the same journal up to the same position under a longer
    /// need. Each subject gets its own when it is looked at next.
    pub fn adopt_histories(&mut self, from: Self) {
        self.warm = Some(Box::new(Warm { subjects: from.subjects, next: 0 }));
    }

    /// True while some subjects in memory have not got the history that was read for them: what is saved of them now is
    /// too short.
    pub(crate) fn is_warming(&self) -> bool {
        self.warm.as_ref().is_some_and(|warm| warm.next < warm.subjects.slots().end)
    }

    /// Gives a subject the history that was read for it, if there is one.
    pub(crate) fn warm_up(&mut self, slot: usize) {
        let Some(warm) = &mut self.warm else { return };
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let read = warm.subjects.slot(&row.subject).and_then(|slot| warm.subjects.row_mut(slot));
        if let Some(history) = read.and_then(|read| read.kept.history.take()) {
            row.kept.history.get_or_insert_default().lengthen(*history);
        }
    }

    /// Gives some subjects that nobody looks at the history that was read for them, so that a checkpoint has it. What
    /// is left then waits for agents that are not in memory.
    pub(crate) fn warm_some(&mut self) {
        let Some(warm) = &mut self.warm else { return };
        let slots = warm.next..warm.subjects.slots().end.min(warm.next + PER_TICK);
        warm.next = slots.end;
        for there in slots {
            let Some(warm) = &mut self.warm else { return };
            let here = warm.subjects.row(there).and_then(|row| self.subjects.slot(&row.subject));
            if let Some(here) = here {
                self.save_early(here);
                self.subjects.touch(here);
                self.warm_up(here);
                if let Some(warm) = &mut self.warm {
                    warm.subjects.remove(there);
                }
            }
        }
        if self.warm.as_ref().is_some_and(|warm| warm.subjects.len() == 0) {
            self.warm = None;
        }
    }
}
