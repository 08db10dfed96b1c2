//! The way back from gates: what the outbox knows of an order becomes the gate's word on the freeze.
//!
//! The outbox is asked, rather than deliveries telling: then no crash between a gate's receipt and its word loses the
//! word, and an order that a person has sent again later counts as well.

use std::time::Duration;

use railwatch_model::{Action, FreezeId, GateOutcome, GateWord, SmolStr};
use railwatch_plugin::sink::Receipt;
use railwatch_store::{OutboxEntry, OutboxState};
use smol_str::format_smolstr;
use tokio_util::sync::CancellationToken;

use crate::host::core::CoreHandle;
use crate::host::journal::Journal;

/// How often the outbox is asked while something is on its way.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Brings gates' words to the engine until cancelled.
pub(crate) async fn follow(core: CoreHandle, journal: Journal, cancel: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
        let Some(words) = core.look(|engine| open_words(engine.freezes())).await else { return };
        for (freeze, word) in words {
            let (notice, gate) = (word.notice.clone(), word.gate.clone());
            let entry = journal.run(move |store| store.outbox_entry(&notice, &gate)).await;
            let entry = match entry {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    tracing::error!(%error, "the outbox cannot be asked what gates did");
                    continue;
                }
                None => return,
            };
            let Some((done, detail)) = entry.and_then(|entry| verdict(&entry)) else { continue };
            if !done && word.outcome == GateOutcome::Failed {
                continue;
            }
            let by = format_smolstr!("gate {}", word.gate);
            let action = Action::GateSaid {
                freeze,
                notice: word.notice,
                gate: word.gate,
                done,
                detail: detail.into(),
            };
            if !core.act(by, action).await {
                return;
            }
        }
    }
}

/// The words that may still change.
fn open_words(freezes: &[railwatch_model::Freeze]) -> Vec<(FreezeId, GateWord)> {
    let words =
        freezes.iter().flat_map(|freeze| freeze.gates.iter().map(|word| (freeze.id.clone(), word.clone())));
    words.filter(|(_, word)| word.outcome != GateOutcome::Done).collect()
}

/// Whether a gate did it, and its own words; `None` while it is on its way.
fn verdict(entry: &OutboxEntry) -> Option<(bool, String)> {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    match entry.state {
        OutboxState::Sent => {
            let receipt: Receipt = serde_json::from_str(&said(&entry.receipt)).unwrap_or_default();
            Some((true, receipt.reference.unwrap_or_default().into()))
        }
        OutboxState::Dead | OutboxState::Unknown => Some((false, said(&entry.last_error))),
        OutboxState::Dropped => Some((false, "taken out of the outbox by hand".to_owned())),
        OutboxState::Queued | OutboxState::Sending | OutboxState::Retry => None,
    }
}

/// The names of people must not look like those of policies and gates, which act by themselves.
pub(crate) fn is_person(by: &SmolStr) -> bool {
    !by.starts_with("policy ") && !by.starts_with("gate ")
}
