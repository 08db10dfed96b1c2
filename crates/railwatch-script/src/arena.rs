//! Where a machine keeps the amounts that do not fit into a script value.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use mlua::{Error, Result};
use railwatch_model::Money;

/// Amounts of other assets than the dollar that one call may make, the script's constants included.
const AMOUNTS_MAX: usize = 20_000;
const INDEX_BITS: u32 = 20;

/// Amounts that do not fit into a script value: those of the script's own constants, and those of the call in hand.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    amounts: Mutex<Amounts>,
    dirty: AtomicBool,
}

#[derive(Debug, Default)]
struct Amounts {
    constants: Vec<Money>,
    of_call: Vec<Money>,
    /// Where each amount of both lists is, so that an amount is held once. Never iterated.
    places: HashMap<Money, usize>,
    sealed: bool,
    /// The call that `of_call` belongs to; a value of an earlier call is recognized by it.
    call: u64,
}

impl Arena {
    /// Ends the loading of the script: amounts made so far live as long as the machine.
    pub(crate) fn seal(&self) {
        self.lock().sealed = true;
    }

    /// Begins a call: amounts of the one before it are forgotten.
    pub(crate) fn begin(&self) {
        if self.dirty.load(Relaxed) {
            self.dirty.store(false, Relaxed);
            let mut amounts = self.lock();
            amounts.of_call.clear();
            let n_constants = amounts.constants.len();
            amounts.places.retain(|_, place| *place < n_constants);
            amounts.call = amounts.call.wrapping_add(1) & ((1 << 40) - 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Amounts> {
        self.amounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of an amount: equal amounts have equal handles within a call.
    pub(crate) fn intern(&self, money: Money) -> Result<u64> {
        let mut amounts = self.lock();
        let Amounts { constants, of_call, places, sealed, call } = &mut *amounts;
        let place = match places.get(&money) {
            Some(place) => *place,
            None if places.len() >= AMOUNTS_MAX => {
                return Err(Error::runtime(format!("more than {AMOUNTS_MAX} different amounts in one call")));
            }
            None => {
                let place = constants.len() + of_call.len();
                if *sealed {
                    of_call.push(money.clone())
                } else {
                    constants.push(money.clone())
                }
                places.insert(money, place);
                self.dirty.store(*sealed, Relaxed);
                place
            }
        };
        let call = if place < constants.len() { 0 } else { *call };
        Ok(call << INDEX_BITS | place as u64)
    }

    /// The amount behind a handle.
    pub(crate) fn get(&self, handle: u64) -> Result<Money> {
        let amounts = self.lock();
        let index = usize::try_from(handle & ((1 << INDEX_BITS) - 1)).unwrap_or(usize::MAX);
        if let Some(money) = amounts.constants.get(index) {
            return Ok(money.clone());
        }
        let current = handle >> INDEX_BITS == amounts.call;
        let found = amounts.of_call.get(index - amounts.constants.len()).filter(|_| current).cloned();
        found.ok_or_else(|| {
            Error::runtime("this amount belongs to an earlier call; keep such amounts in `state`")
        })
    }
}
