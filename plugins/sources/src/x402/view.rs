//! What this source believes the chain to be: the newest blocks, and the payments in them that could still be undone.
//!
//! Pure: logs and heads in, reports out. Both signals of a reorganization lead here, `removed` logs and a head that
//! does not extend the tip; some nodes send only one of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use railwatch_model::{Payment, SmolStr, Status, Timestamp};
use railwatch_plugin::decode::Decoded;
use serde::{Deserialize, Serialize};

use super::X402Chain;
use super::hex::{self, Quantity};
use super::logs::{Mined, RpcLog, payments};
use crate::scalar::Text;

/// Blocks that are remembered, and how deep a reorganization is looked for.
pub(super) const DEPTH: u64 = 64;
/// Payments that are remembered; beyond it the oldest are taken for final.
const TRACKED_MAX: usize = 50_000;
/// Payments that a cursor carries, so that a reorganization during a restart is noticed.
const CARRIED_MAX: usize = 128;

/// A block header, as `newHeads` and `eth_getBlockBy…` send it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RpcHead<'a> {
    #[serde(borrow)]
    pub(super) hash: Text<'a>,
    #[serde(borrow)]
    pub(super) parent_hash: Text<'a>,
    pub(super) number: Quantity,
    pub(super) timestamp: Quantity,
}

#[derive(Debug, Clone)]
struct Block {
    hash: SmolStr,
    timestamp: Option<u64>,
}

/// What a head asks of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it extends the tip, or it is known.
    Follow,
    /// The logs from this block on must be read again.
    Reread(u64),
}

/// A payment that was reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tracked {
    payment: Payment,
    block_number: u64,
    block_hash: SmolStr,
}

/// The chain as it was last seen.
#[derive(Debug)]
pub(super) struct View {
    chain: X402Chain,
    confirmations: u64,
    blocks: BTreeMap<u64, Block>,
    tracked: HashMap<SmolStr, Tracked>,
}

/// What survives a restart, as JSON.
#[derive(Debug, Serialize)]
struct Carries<'a> {
    block: u64,
    open: Vec<&'a Tracked>,
}

/// The same, read back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Carried {
    block: u64,
    open: Vec<Tracked>,
}

impl View {
    /// An empty view; a payment is confirmed once its block has `confirmations` blocks above it.
    pub(super) fn new(chain: X402Chain, confirmations: u64) -> Self {
        Self { chain, confirmations, blocks: BTreeMap::new(), tracked: HashMap::new() }
    }

    /// Takes a cursor up and returns its block; `None` if it is not one.
    pub(super) fn restore(&mut self, cursor: &str) -> Option<u64> {
        let carried: Carried = serde_json::from_str(cursor).ok()?;
        for tracked in carried.open.into_iter().take(CARRIED_MAX) {
            self.tracked.insert(tracked.payment.id.clone(), tracked);
        }
        Some(carried.block)
    }

    /// Where to go on from once everything up to `block` is durable, with the newest payments that could be undone or
    /// were.
    pub(super) fn cursor(&self, block: u64) -> String {
        let open = self.tracked.values().filter(|tracked| tracked.payment.status != Status::Confirmed);
        let mut open: Vec<&Tracked> = open.collect();
        open.sort_unstable_by(|a, b| (b.block_number, &b.payment.id).cmp(&(a.block_number, &a.payment.id)));
        open.truncate(CARRIED_MAX);
        serde_json::to_string(&Carries { block, open }).unwrap_or_default()
    }

    /// The newest block.
    pub(super) fn tip(&self) -> Option<u64> {
        self.blocks.keys().next_back().copied()
    }

    /// The time of a block that is remembered.
    pub(super) fn time_of(&self, number: u64, hash: &str) -> Option<u64> {
        self.blocks.get(&number).filter(|block| block.hash == hash).and_then(|block| block.timestamp)
    }

    /// Takes a new head in.
    pub(super) fn head(&mut self, head: &RpcHead<'_>) -> Step {
        let (Some(number), Some(hash)) = (head.number.0, hex::word(head.hash.as_str())) else {
            return Step::Follow;
        };
        if self.blocks.get(&number).is_some_and(|block| block.hash == hash) && self.tip() == Some(number) {
            return Step::Follow;
        }
        let parent = number.checked_sub(1).and_then(|at| self.blocks.get(&at));
        let parent_hash = hex::word(head.parent_hash.as_str());
        let is_attached = parent.is_some_and(|block| Some(&block.hash) == parent_hash.as_ref());
        let step = match self.tip() {
            None => Step::Follow,
            Some(tip) if is_attached && number == tip + 1 => Step::Follow,
            // It replaces blocks from its own height on.
            Some(_) if is_attached => Step::Reread(number),
            // Heads were missed, or the fork lies deeper than the parent.
            Some(tip) => Step::Reread(number.min(tip).saturating_sub(DEPTH)),
        };
        if let Step::Reread(from) = step {
            self.blocks.split_off(&from);
        }
        self.blocks.insert(number, Block { hash, timestamp: head.timestamp.0 });
        while self.blocks.len() > 2 * usize::try_from(DEPTH).unwrap_or(64) {
            self.blocks.pop_first();
        }
        step
    }

    /// The lowest block that a head is known to replace, without asking anybody: its own height, or its parent's if
    /// another block is known there.
    pub(super) fn replaced_from(&self, head: &RpcHead<'_>) -> Option<u64> {
        let (number, hash) = (head.number.0?, hex::word(head.hash.as_str())?);
        let parent = number.checked_sub(1).and_then(|at| Some((at, self.blocks.get(&at)?)));
        let replaced_parent = parent
            .filter(|(_, block)| Some(&block.hash) != hex::word(head.parent_hash.as_str()).as_ref())
            .map(|(at, _)| at);
        let is_known = self.blocks.get(&number).is_some_and(|block| block.hash == hash);
        let replaced = self.tip().filter(|tip| number <= *tip && !is_known).map(|_| number);
        replaced_parent.or(replaced)
    }

    /// Takes logs in, in the order in which they came.
    pub(super) fn logs(&mut self, logs: &[RpcLog<'_>], received_at: Timestamp, decoded: &mut Decoded) {
        for mined in payments(&self.chain, logs, received_at, decoded) {
            if mined.removed {
                self.undo(&mined, received_at, decoded);
            } else {
                self.take(mined, decoded);
            }
        }
    }

    /// Takes the whole content of blocks `from..=to` in: what was there and is not there any more is retracted.
    pub(super) fn reread(
        &mut self,
        from: u64,
        to: u64,
        logs: &[RpcLog<'_>],
        received_at: Timestamp,
        decoded: &mut Decoded,
    ) {
        let found = payments(&self.chain, logs, received_at, decoded);
        let present: HashSet<&SmolStr> =
            found.iter().filter(|mined| !mined.removed).map(|mined| &mined.payment.id).collect();
        let mut gone: Vec<SmolStr> = self
            .tracked
            .iter()
            .filter(|(id, tracked)| (from..=to).contains(&tracked.block_number) && !present.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        gone.sort_unstable();
        for id in gone {
            self.retract(&id, received_at, decoded);
        }
        for mined in found.into_iter().filter(|mined| !mined.removed) {
            self.take(mined, decoded);
        }
    }

    /// After a reorganization to a lower tip: what was above it is retracted until it is mined again.
    pub(super) fn drop_above(&mut self, tip: u64, received_at: Timestamp, decoded: &mut Decoded) {
        self.reread(tip.saturating_add(1), u64::MAX, &[], received_at, decoded);
    }

    fn take(&mut self, mined: Mined, decoded: &mut Decoded) {
        let Mined { mut payment, block_number, block_hash, .. } = mined;
        if let Some(tracked) = self.tracked.get_mut(&payment.id) {
            (tracked.block_number, tracked.block_hash) = (block_number, block_hash);
            if tracked.payment.status != Status::Retracted {
                // Known, or mined again in another block: the payment is the same.
                return;
            }
            payment.revision = tracked.payment.revision.saturating_add(1);
            tracked.payment = payment.clone();
        } else {
            let id = payment.id.clone();
            self.tracked.insert(id, Tracked { payment: payment.clone(), block_number, block_hash });
        }
        decoded.payments.push(payment);
    }

    fn undo(&mut self, mined: &Mined, received_at: Timestamp, decoded: &mut Decoded) {
        // A log of another block than the one that the payment is in now is old news.
        let tracked = self.tracked.get(&mined.payment.id);
        if tracked.is_some_and(|tracked| tracked.block_hash == mined.block_hash) {
            self.retract(&mined.payment.id, received_at, decoded);
        }
    }

    fn retract(&mut self, id: &SmolStr, received_at: Timestamp, decoded: &mut Decoded) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        if tracked.payment.status == Status::Retracted {
            return;
        }
        tracked.payment.status = Status::Retracted;
        let mut payment = tracked.payment.clone();
        payment.observed_at = received_at;
        decoded.payments.push(payment);
    }

    /// Confirms what has enough blocks above it, and forgets what cannot change any more.
    pub(super) fn confirm(&mut self, received_at: Timestamp, decoded: &mut Decoded) {
        let Some(tip) = self.tip() else { return };
        let confirmations = self.confirmations;
        let mut confirmed: Vec<Payment> = Vec::new();
        for tracked in self.tracked.values_mut() {
            let deep = tracked.block_number.saturating_add(confirmations) <= tip;
            if deep && tracked.payment.status == Status::Seen {
                tracked.payment.status = Status::Confirmed;
                confirmed.push(Payment { observed_at: received_at, ..tracked.payment.clone() });
            }
        }
        confirmed.sort_by(|a, b| (a.occurred_at, &a.id).cmp(&(b.occurred_at, &b.id)));
        decoded.payments.extend(confirmed);
        let keep = DEPTH.max(confirmations);
        self.tracked.retain(|_, tracked| tracked.block_number.saturating_add(keep) >= tip);
        if self.tracked.len() > TRACKED_MAX {
            let mut numbers: Vec<u64> = self.tracked.values().map(|tracked| tracked.block_number).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = numbers.get(TRACKED_MAX).copied().unwrap_or_default();
            self.tracked.retain(|_, tracked| tracked.block_number > oldest);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::x402::logs::read_logs;

    const REORG: &str = include_str!("../../fixtures/x402/reorg_dropped_frames.json");

    fn view(confirmations: u64) -> View {
        View::new(X402Chain::new("base-sepolia", &[], &[], &[], true).unwrap(), confirmations)
    }

    fn at() -> Timestamp {
        Timestamp::from_secs(1_795_440_000)
    }

    fn word(seed: &str) -> String {
        format!("0x{seed:0>64}")
    }

    /// A plain transfer of `value` in transaction `tx`, mined in block `number` with hash `hash`.
    pub(in crate::x402) fn log(number: u64, hash: &str, tx: &str, value: u64) -> Value {
        json!({"address": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "topics": [super::super::logs::TRANSFER,
            word("70997970c51812dc3a010c7d01b50e0d17dc79c8"), word("a0ee7a142d267c1f36714e4a8f75612f20a79720")],
            "data": format!("0x{value:064x}"), "blockHash": word(hash), "blockNumber": format!("0x{number:x}"),
            "transactionHash": word(tx), "logIndex": "0x0", "removed": false})
    }

    pub(in crate::x402) fn head(number: u64, hash: &str, parent: &str) -> Value {
        json!({"number": format!("0x{number:x}"), "hash": word(hash), "parentHash": word(parent), "timestamp": "0x6b043126"})
    }

    fn take_head(view: &mut View, head: &Value) -> Step {
        let text = head.to_string();
        view.head(&serde_json::from_str(&text).unwrap())
    }

    fn lines(decoded: &Decoded) -> Vec<String> {
        decoded
            .payments
            .iter()
            .map(|p| format!("{:?} {} r{}", p.status, p.amount.units(), p.revision))
            .collect()
    }

    fn take_logs(view: &mut View, logs: &[Value]) -> Vec<String> {
        let (mut decoded, body) = (Decoded::default(), json!(logs).to_string());
        view.logs(&read_logs(body.as_bytes()).unwrap(), at(), &mut decoded);
        lines(&decoded)
    }

    fn reread(view: &mut View, from: u64, to: u64, logs: &[Value]) -> Vec<String> {
        let (mut decoded, body) = (Decoded::default(), json!(logs).to_string());
        view.reread(from, to, &read_logs(body.as_bytes()).unwrap(), at(), &mut decoded);
        lines(&decoded)
    }

    fn confirm(view: &mut View) -> Vec<String> {
        let mut decoded = Decoded::default();
        view.confirm(at(), &mut decoded);
        lines(&decoded)
    }

    #[test]
    fn the_recorded_reorganization_retracts_the_payment_that_was_dropped() {
        let recorded: Value = serde_json::from_str(REORG).unwrap();
        let mut view = view(2);
        let mut reports = Vec::new();
        for step in ["pay1", "pay2", "anvil_reorg depth1 (tx dropped)"] {
            let frames = recorded[step]["frames"].as_array().unwrap().iter();
            let results = frames.map(|frame| frame["frame"]["params"]["result"].clone());
            let (logs, rest): (Vec<Value>, Vec<Value>) =
                results.partition(|result| result.get("topics").is_some());
            reports.extend(take_logs(&mut view, &logs));
            for head in rest.iter().filter(|result| result.get("parentHash").is_some()) {
                if let Step::Reread(from) = take_head(&mut view, head) {
                    assert_eq!((from, head["number"].as_str()), (6, Some("0x6")));
                    reports.extend(reread(&mut view, from, 6, &[]));
                }
            }
        }
        assert_eq!(reports, ["Seen 10000 r0", "Seen 500000 r0", "Retracted 500000 r0"]);
    }

    #[test]
    fn trap_03_a_payment_that_is_mined_again_elsewhere_is_not_counted_again() {
        let mut view = view(2);
        take_head(&mut view, &head(4, "a4", "a3"));
        assert_eq!(take_logs(&mut view, &[log(4, "a4", "77", 7)]), ["Seen 7 r0"]);
        assert!(take_logs(&mut view, &[log(4, "b4", "77", 7)]).is_empty());
        assert_eq!(
            take_head(&mut view, &head(4, "b4", "a3")),
            Step::Reread(0),
            "the fork point is not known"
        );
        assert!(reread(&mut view, 0, 4, &[log(4, "b4", "77", 7)]).is_empty());
    }

    #[test]
    fn trap_04_a_silent_rollback_shows_in_the_next_head() {
        let mut view = view(2);
        for (number, hash, parent) in [(3, "a3", "a2"), (4, "a4", "a3"), (5, "a5", "a4")] {
            assert_eq!(take_head(&mut view, &head(number, hash, parent)), Step::Follow);
        }
        take_logs(&mut view, &[log(5, "a5", "77", 7)]);
        assert_eq!(take_head(&mut view, &head(4, "b4", "a3")), Step::Reread(4));
        assert!(reread(&mut view, 4, 4, &[]).is_empty());
        let mut decoded = Decoded::default();
        view.drop_above(4, at(), &mut decoded);
        assert_eq!(lines(&decoded), ["Retracted 7 r0"]);
        assert_eq!(take_logs(&mut view, &[log(5, "b5", "77", 7)]), ["Seen 7 r1"], "it may come back");
    }

    #[test]
    fn trap_05_removed_twice_or_unknown_is_said_once_or_not_at_all() {
        let mut view = view(2);
        let removed = |mut log: Value| {
            log["removed"] = json!(true);
            log
        };
        take_logs(&mut view, &[log(4, "a4", "77", 7)]);
        assert!(take_logs(&mut view, &[removed(log(4, "a4", "88", 9))]).is_empty());
        assert_eq!(take_logs(&mut view, &[removed(log(4, "a4", "77", 7))]), ["Retracted 7 r0"]);
        assert!(take_logs(&mut view, &[removed(log(4, "a4", "77", 7))]).is_empty());
        assert_eq!(take_logs(&mut view, &[log(5, "b5", "77", 7)]), ["Seen 7 r1"]);
        assert!(
            take_logs(&mut view, &[removed(log(4, "a4", "77", 7))]).is_empty(),
            "the old block is old news"
        );
        assert_eq!(take_logs(&mut view, &[removed(log(5, "b5", "77", 7))]), ["Retracted 7 r1"]);
    }

    #[test]
    fn trap_06_logs_and_heads_come_in_either_order() {
        for logs_first in [true, false] {
            let mut view = view(1);
            take_head(&mut view, &head(3, "a3", "a2"));
            if logs_first {
                take_logs(&mut view, &[log(4, "a4", "77", 7)]);
            }
            assert_eq!(take_head(&mut view, &head(4, "a4", "a3")), Step::Follow);
            if !logs_first {
                take_logs(&mut view, &[log(4, "a4", "77", 7)]);
            }
            assert!(confirm(&mut view).is_empty());
            take_head(&mut view, &head(5, "a5", "a4"));
            assert_eq!(confirm(&mut view), ["Confirmed 7 r0"]);
            assert!(confirm(&mut view).is_empty());
        }
    }

    #[test]
    fn missed_heads_are_read_again() {
        let mut view = view(1);
        take_head(&mut view, &head(100, "a100", "a99"));
        assert_eq!(take_head(&mut view, &head(105, "a105", "a104")), Step::Reread(100 - DEPTH));
        assert_eq!(view.tip(), Some(105));
    }

    #[test]
    fn a_cursor_carries_what_could_be_undone_over_a_restart() {
        let mut before = view(2);
        take_head(&mut before, &head(4, "a4", "a3"));
        take_logs(&mut before, &[log(4, "a4", "77", 7), log(4, "a4", "88", 9)]);
        let cursor = before.cursor(4);
        let mut after = view(2);
        assert_eq!(after.restore(&cursor), Some(4));
        assert_eq!(reread(&mut after, 0, 5, &[log(5, "b5", "88", 9)]), ["Retracted 7 r0"]);
        assert_eq!(after.restore("not a cursor"), None);
    }

    #[test]
    fn memory_is_bounded_by_depth() {
        let mut view = view(1);
        for number in 0..1000_u64 {
            let (hash, parent) = (format!("a{number}"), format!("a{}", number.saturating_sub(1)));
            take_head(&mut view, &head(number, &hash, &parent));
            take_logs(&mut view, &[log(number, &hash, &format!("f{number}"), 7)]);
            confirm(&mut view);
        }
        assert!(view.tracked.len() <= 70 && view.blocks.len() <= 128);
    }
}
