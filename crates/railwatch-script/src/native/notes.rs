//! Notes without the machine: read from the engine's texts as they are asked for, written back when a condition does not
//! hold.

use railwatch_model::SmolStr;
use railwatch_plugin::rules::RuleState;
use smallvec::SmallVec;

use super::{Answer, Bail, Frame, Val};
use crate::limits::Limits;
use crate::state::{Mark, stored};

/// Notes by the places of their keys, as the engine keeps them; `None` removes one.
pub(super) type Changes = SmallVec<[(usize, Option<SmolStr>); 4]>;

impl<'b> Frame<'_, 'b, '_> {
    /// What a call reads: its own last word, or what was kept.
    pub(super) fn note(&self, key: usize) -> Answer<'b> {
        if let Some((_, value)) = self.written.iter().rev().find(|(written, _)| *written == key) {
            return Ok(*value);
        }
        let key = self.keys.get(key).ok_or(Bail)?;
        let Some(text) = self.notes.get(key) else { return Ok(Val::Nil) };
        let (mark, body) = Mark::read(text);
        let number = || body.parse::<i64>().ok();
        Ok(match mark {
            Mark::Usd => number().map_or(Val::Nil, Val::Usd),
            Mark::Time => number().map_or(Val::Nil, Val::Time),
            Mark::Flag => Val::Bool(body == "true"),
            Mark::Number => body.parse().map_or(Val::Nil, Val::Num),
            Mark::Text => Val::Text(body),
        })
    }
}

/// What a call wrote and was not there before; `None` if it may be more than the machine would keep.
pub(super) fn changes(frame: &Frame<'_, '_, '_>, limits: &Limits) -> Option<Changes> {
    let mut changes = Changes::new();
    let mut n_new = 0;
    for (place, (key, value)) in frame.written.iter().enumerate() {
        if frame.written.iter().skip(place + 1).any(|(later, _)| later == key) {
            continue;
        }
        let text = match value {
            Val::Nil => None,
            Val::Bool(flag) => Some(stored(Mark::Flag, flag)),
            Val::Num(number) => Some(stored(Mark::Number, number)),
            Val::Text(text) => Some(stored(Mark::Text, text)),
            Val::Usd(nanos) => Some(stored(Mark::Usd, nanos)),
            Val::Time(micros) => Some(stored(Mark::Time, micros)),
        };
        if text.as_ref().is_some_and(|text| text.len() > limits.state_value_bytes_max) {
            return None;
        }
        let before = frame.notes.get(frame.keys.get(*key)?);
        n_new += usize::from(before.is_none());
        if before != text.as_ref() {
            changes.push((*key, text));
        }
    }
    (frame.notes.len() + n_new <= limits.state_keys_max).then_some(changes)
}

/// Puts changes into the engine's notes.
pub(super) fn write(changes: Changes, keys: &[SmolStr], notes: &mut RuleState) {
    for (key, text) in changes {
        let Some(key) = keys.get(key) else { continue };
        match (text, notes.get_mut(key)) {
            (Some(text), Some(kept)) => *kept = text,
            (Some(text), None) => {
                notes.insert(key.clone(), text);
            }
            (None, _) => {
                notes.remove(key);
            }
        }
    }
}
