//! One connection to a node: check the chain, subscribe, read what was missed, then follow.

use std::collections::HashMap;
use std::time::Duration;

use railwatch_model::{SmolStr, Timestamp};
use railwatch_plugin::decode::Decoded;
use railwatch_plugin::source::{Cursor, Phase, SourceContext, SourceError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hex::Quantity;
use super::logs::{AUTHORIZATION_USED, RpcLog, TRANSFER, read_logs};
use super::observer::{X402Source, live};
use super::rpc::{Rpc, RpcError};
use super::view::{RpcHead, Step, View};
use crate::delivery::Pipeline;
use crate::push::PushCheck;

/// How long logs wait for others of their transaction: nodes send them back to back.
const FLUSH_AFTER: Duration = Duration::from_millis(25);
/// Logs that wait at most.
const PENDING_MAX: usize = 4096;
/// A breath after a refusal.
const HALVED_PAUSE: Duration = Duration::from_millis(50);
/// Attempts of one `eth_getLogs` before the connection is given up.
const ATTEMPTS_MAX: u32 = 12;
/// How often the cursor moves without a payment.
const CURSOR_EVERY_BLOCKS: u64 = 128;
/// How often what the node pushed is compared with what it lists: after this many blocks, or this long. Fewer blocks than
/// the view remembers.
const CHECK_EVERY_BLOCKS: u64 = 32;
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Blocks below the tip that are not compared yet: their logs may still be on the way.
const CHECK_BEHIND: u64 = 1;
/// Block times that are remembered for nodes whose logs have none.
const TIMES_MAX: usize = 1024;

/// How a session ended.
pub(super) enum End {
    Cancelled,
    Source(SourceError),
    Rpc(RpcError),
}

impl From<RpcError> for End {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<SourceError> for End {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

pub(super) struct Session<'a> {
    source: &'a X402Source,
    cx: &'a SourceContext,
    rpc: Rpc,
    view: &'a mut View,
    pipeline: &'a mut Pipeline,
    /// The last block that was read, which survives the connection.
    read_to: &'a mut Option<u64>,
    check: &'a PushCheck,
    /// The last block for which push and list were compared, and when.
    checked_to: u64,
    checked_at: Instant,
    /// Pushed logs, as JSON, that wait for the rest of their transaction.
    pending: Vec<String>,
    flush_at: Option<Instant>,
    heard_at: Instant,
    times: HashMap<SmolStr, u64>,
    span_blocks: u64,
    pub(super) is_caught_up: bool,
}

/// A pushed frame.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Frame<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Debug, Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Tells logs from heads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kind<'a> {
    #[serde(borrow)]
    topics: Option<&'a RawValue>,
}

/// Why blocks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// They were not pushed, or not to the end.
    Missed,
    /// They were, and are compared.
    Check,
}

/// What came of asking for logs.
enum Answer {
    /// The logs, one answer per filter.
    Logs(Vec<String>),
    /// More than the node hands out; the next attempt asks for less.
    TooMuch,
    /// The node does not keep so old ones.
    Pruned,
}

/// What ended a wait.
enum Event {
    Frame(String),
    Flush,
    Poll,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        source: &'a X402Source,
        cx: &'a SourceContext,
        rpc: Rpc,
        view: &'a mut View,
        pipeline: &'a mut Pipeline,
        read_to: &'a mut Option<u64>,
        check: &'a PushCheck,
    ) -> Self {
        Self {
            source,
            cx,
            rpc,
            view,
            pipeline,
            read_to,
            check,
            checked_to: 0,
            checked_at: Instant::now(),
            pending: Vec::new(),
            flush_at: None,
            heard_at: Instant::now(),
            times: HashMap::new(),
            span_blocks: source.config.max_blocks_per_getlogs,
            is_caught_up: false,
        }
    }

    /// Runs until the connection or the source ends.
    pub(super) async fn run(&mut self) -> End {
        let cancel = self.cx.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => End::Cancelled,
            end = self.follow() => end.err().unwrap_or(End::Cancelled),
        }
    }

    async fn follow(&mut self) -> Result<(), End> {
        self.check_chain().await?;
        if self.rpc.is_push() {
            self.subscribe().await?;
        }
        // What is compared is told apart by blocks, not by the time of either clock.
        self.check.restart(Timestamp::EPOCH);
        self.catch_up().await?;
        self.checked_to = self.view.tip().unwrap_or(0);
        self.is_caught_up = true;
        self.heard_at = Instant::now();
        live(self.cx, self.view.tip());
        loop {
            match self.next().await? {
                Event::Frame(frame) => self.frame(&frame).await?,
                Event::Flush => self.flush().await?,
                Event::Poll => self.catch_up().await?,
            }
        }
    }

    async fn check_chain(&mut self) -> Result<(), End> {
        let answer = self.rpc.call("eth_chainId", json!([])).await?;
        let found = quantity(&answer);
        if found == Some(self.source.chain_id) {
            return Ok(());
        }
        let found = found.map_or_else(|| "nothing readable".to_owned(), |id| id.to_string());
        Err(RpcError::Denied(format!("the node is on chain {found}, not on {}", self.source.chain_id)).into())
    }

    /// Heads, and logs by filter. Nodes take at most a thousand alternatives, so wallets are spread over filters.
    async fn subscribe(&mut self) -> Result<(), End> {
        self.rpc.call("eth_subscribe", json!(["newHeads"])).await?;
        for filter in self.filters() {
            self.rpc.call("eth_subscribe", json!(["logs", filter])).await?;
        }
        Ok(())
    }

    fn filters(&self) -> Vec<Value> {
        let chain = &self.source.chain;
        let pad = |address: &SmolStr| format!("0x{:0>64}", address.trim_start_matches("0x"));
        let tokens: Vec<&SmolStr> = chain.network.tokens().collect();
        let escrows: Vec<String> = chain.network.escrows().map(pad).collect();
        let wallets: Vec<String> = chain.wallets.iter().map(pad).collect();
        let shards = wallets.chunks(self.source.config.max_topics_per_filter);
        shards
            .flat_map(|wallets| {
                let pays = json!([[TRANSFER, AUTHORIZATION_USED], wallets]);
                let refunds = json!([[TRANSFER], escrows, wallets]);
                [pays, refunds].map(|topics| json!({"address": tokens, "topics": topics}))
            })
            .collect()
    }

    /// Reads from behind the last block that was read, minus the overlap, up to the node's own tip.
    async fn catch_up(&mut self) -> Result<(), End> {
        let answer = self.rpc.call("eth_blockNumber", json!([])).await?;
        let tip =
            quantity(&answer).ok_or_else(|| RpcError::Lost("eth_blockNumber gave no number".to_owned()))?;
        if !self.rpc.is_push()
            && self.is_caught_up
            && self.view.tip() == Some(tip)
            && !self.tip_changed(tip).await?
        {
            return Ok(());
        }
        let overlap = self.source.config.backfill_overlap_blocks;
        let resume =
            self.read_to.map(|block| block.saturating_sub(overlap)).or(self.source.config.start_block);
        // A node that is behind must not move the cursor back over blocks that it lacks.
        let from = resume.unwrap_or_else(|| tip.saturating_sub(overlap)).min(tip);
        self.read(from, tip, Why::Missed).await?;
        let head = self.rpc.call("eth_getBlockByNumber", json!([format!("0x{tip:x}"), false])).await?;
        if let Ok(head) = serde_json::from_str::<RpcHead<'_>>(&head) {
            // Everything that a head could ask for has just been read.
            self.view.head(&head);
        }
        self.deliver_confirmed(tip).await
    }

    /// True if the block at the tip is another one than at the last poll.
    async fn tip_changed(&mut self, tip: u64) -> Result<bool, End> {
        let head = self.rpc.call("eth_getBlockByNumber", json!([format!("0x{tip:x}"), false])).await?;
        let head: Option<RpcHead<'_>> = serde_json::from_str(&head).ok();
        Ok(head.is_some_and(|head| self.view.time_of(tip, head.hash.as_str()).is_none()))
    }

    /// Reads blocks `from..=to` in pieces that the node accepts.
    async fn read(&mut self, from: u64, to: u64, why: Why) -> Result<(), End> {
        let mut at = from;
        while at <= to {
            let span = self.span_blocks.max(1);
            let end = at.saturating_add(span - 1).min(to);
            if end < to {
                self.cx.status.phase(Phase::Backfilling, format!("block {at} of {to}"));
            }
            let logs = match self.get_logs(at, end).await? {
                Answer::Logs(logs) => logs,
                Answer::TooMuch => continue,
                Answer::Pruned => {
                    at = self.skip_pruned(at, to).await?;
                    continue;
                }
            };
            let mut decoded = Decoded::default();
            let parsed = self.parse(&logs).await?;
            self.view.reread(at, end, &parsed, self.cx.clock.now(), &mut decoded);
            if why == Why::Check {
                self.check.listed(&decoded.payments);
                self.check.show(&self.cx.status);
            }
            let read_to = self.read_to.map_or(end, |before| before.max(end));
            *self.read_to = Some(read_to);
            let cursor = self.view.cursor(read_to);
            self.pipeline.submit(self.cx, decoded, Some(Cursor(cursor))).await?;
            at = end.saturating_add(1);
        }
        Ok(())
    }

    /// The logs of a range over all filters. A range that the node finds too large is halved for the next attempt.
    async fn get_logs(&mut self, from: u64, to: u64) -> Result<Answer, End> {
        let mut answers = Vec::new();
        for filter in self.filters() {
            let mut attempt = 0;
            loop {
                match self.logs_of(filter.clone(), from, to).await {
                    Ok(answer) => break answers.push(answer),
                    Err(error) if error.is_pruned() => return Ok(Answer::Pruned),
                    Err(error @ RpcError::Refused { .. }) if to > from => {
                        // The same code means "too large" and "too fast".
                        self.span_blocks = (to - from).div_ceil(2).max(1);
                        let span = self.span_blocks;
                        self.explain(format!("{error}; asking for {span} blocks at a time"));
                        tokio::time::sleep(HALVED_PAUSE).await;
                        return Ok(Answer::TooMuch);
                    }
                    Err(error @ (RpcError::Busy | RpcError::Refused { .. })) if attempt < ATTEMPTS_MAX => {
                        attempt += 1;
                        let pause = Duration::from_millis(100) * 2_u32.pow(attempt.min(8));
                        self.explain(format!("{error}; next try in {} ms", pause.as_millis()));
                        tokio::time::sleep(pause).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What was halved in a busy range may grow again in a quiet one.
        self.span_blocks = self.span_blocks.saturating_mul(2).min(self.source.config.max_blocks_per_getlogs);
        Ok(Answer::Logs(answers))
    }

    async fn logs_of(&mut self, mut filter: Value, from: u64, to: u64) -> Result<String, RpcError> {
        filter["fromBlock"] = json!(format!("0x{from:x}"));
        filter["toBlock"] = json!(format!("0x{to:x}"));
        self.rpc.call("eth_getLogs", json!([filter])).await
    }

    /// Shows why reading takes longer.
    fn explain(&self, detail: String) {
        self.cx.status.phase(Phase::Backfilling, detail);
    }

    /// The first block from `from` on whose logs the node still has, or the one behind `to`. What lies before it cannot be
    /// had here: that is said, once, and kept with the rejects.
    async fn skip_pruned(&mut self, from: u64, to: u64) -> Result<u64, End> {
        let (mut pruned, mut kept) = (from, to.saturating_add(1));
        while pruned + 1 < kept {
            let middle = pruned + (kept - pruned) / 2;
            match self.get_logs(middle, middle).await? {
                Answer::Pruned => pruned = middle,
                Answer::Logs(_) | Answer::TooMuch => kept = middle,
            }
        }
        let detail = format!(
            "the node has no logs of blocks {from} to {pruned} any more: payments in them are missing; a further source \
             on a node that keeps them, with start_block = {from}, adds them"
        );
        let mut decoded = Decoded::default();
        decoded.reject("gap", detail, &[], self.cx.clock.now());
        self.pipeline.submit(self.cx, decoded, None).await?;
        Ok(kept)
    }

    /// Parses answers, and fills in the time of logs that have none.
    async fn parse<'t>(&mut self, texts: &'t [String]) -> Result<Vec<RpcLog<'t>>, End> {
        let mut logs = Vec::new();
        for text in texts {
            let parsed = read_logs(text.as_bytes());
            logs.extend(
                parsed.map_err(|detail| RpcError::Lost(format!("logs that cannot be read: {detail}")))?,
            );
        }
        for log in &mut logs {
            if log.block_timestamp.0.is_none() {
                log.block_timestamp =
                    Quantity(self.time_of(log.block_number.0, log.block_hash.as_str()).await?);
            }
        }
        Ok(logs)
    }

    async fn time_of(&mut self, number: Option<u64>, hash: &str) -> Result<Option<u64>, End> {
        let known = number.and_then(|number| self.view.time_of(number, hash));
        if let Some(time) = known.or_else(|| self.times.get(hash).copied()) {
            return Ok(Some(time));
        }
        let answer = match self.rpc.call("eth_getBlockByHash", json!([hash, false])).await {
            Ok(answer) => answer,
            Err(RpcError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let time = serde_json::from_str::<Option<RpcHead<'_>>>(&answer)
            .ok()
            .flatten()
            .and_then(|head| head.timestamp.0);
        if self.times.len() >= TIMES_MAX {
            self.times.clear();
        }
        if let Some(time) = time {
            self.times.insert(hash.into(), time);
        }
        Ok(time)
    }

    /// Waits for the next frame, the end of a transaction's logs, or the next poll, while acknowledgements come in.
    async fn next(&mut self) -> Result<Event, End> {
        let poll_at = Instant::now() + self.source.config.poll_interval.0;
        loop {
            let stall_at = self.heard_at + self.source.config.stall.0;
            let is_push = self.rpc.is_push();
            let flush_at = self.flush_at;
            let flush = async move {
                match flush_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(acked) = self.pipeline.next(), if !self.pipeline.is_empty() => { acked?; }
                frame = self.rpc.pushed(), if is_push => return Ok(Event::Frame(frame?)),
                () = flush => return Ok(Event::Flush),
                () = tokio::time::sleep_until(poll_at), if !is_push => return Ok(Event::Poll),
                () = tokio::time::sleep_until(stall_at), if is_push => {
                    let secs = self.source.config.stall.0.as_secs();
                    return Err(RpcError::Lost(format!("no new block for {secs} s")).into());
                }
            }
        }
    }

    async fn frame(&mut self, frame: &str) -> Result<(), End> {
        let Ok(Frame { params: Some(Params { result }) }) = serde_json::from_str::<Frame<'_>>(frame) else {
            return Ok(());
        };
        let is_log = serde_json::from_str::<Kind<'_>>(result.get()).is_ok_and(|kind| kind.topics.is_some());
        if is_log {
            self.pending.push(result.get().to_owned());
            self.flush_at = Some(Instant::now() + FLUSH_AFTER);
            if self.pending.len() >= PENDING_MAX {
                self.flush().await?;
            }
            return Ok(());
        }
        match serde_json::from_str::<RpcHead<'_>>(result.get()) {
            Ok(head) => self.head(&head).await,
            Err(_) => Ok(()),
        }
    }

    async fn head(&mut self, head: &RpcHead<'_>) -> Result<(), End> {
        self.heard_at = Instant::now();
        let Some(number) = head.number.0 else { return Ok(()) };
        self.flush().await?;
        if let Step::Reread(from) = self.view.head(head) {
            self.read(from, number, Why::Missed).await?;
            let mut decoded = Decoded::default();
            self.view.drop_above(number, self.cx.clock.now(), &mut decoded);
            self.pipeline.submit(self.cx, decoded, None).await?;
        }
        *self.read_to = Some(number);
        live(self.cx, Some(number));
        self.compare(number).await?;
        self.deliver_confirmed(number).await
    }

    /// Now and then, reads again what was pushed: a subscription that brings heads and no logs looks like an agent that
    /// does not pay.
    async fn compare(&mut self, tip: u64) -> Result<(), End> {
        let to = tip.saturating_sub(CHECK_BEHIND);
        // After a switch to a lower head there is nothing to compare until the chain has grown again.
        self.checked_to = self.checked_to.min(tip);
        let is_due = to >= self.checked_to + CHECK_EVERY_BLOCKS || self.checked_at.elapsed() >= CHECK_EVERY;
        if !is_due || to <= self.checked_to {
            return Ok(());
        }
        self.read(self.checked_to + 1, to, Why::Check).await?;
        (self.checked_to, self.checked_at) = (to, Instant::now());
        live(self.cx, Some(tip));
        Ok(())
    }

    async fn deliver_confirmed(&mut self, block: u64) -> Result<(), End> {
        let mut decoded = Decoded::default();
        self.view.confirm(self.cx.clock.now(), &mut decoded);
        // A quiet wallet moves its cursor too, or a restart after weeks would read weeks.
        if !decoded.is_empty() || block.is_multiple_of(CURSOR_EVERY_BLOCKS) {
            let cursor = Cursor(self.view.cursor(block));
            self.pipeline.submit(self.cx, decoded, Some(cursor)).await?;
        }
        Ok(())
    }

    /// Reads the logs that wait.
    async fn flush(&mut self) -> Result<(), End> {
        self.flush_at = None;
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let logs = self.parse(&pending).await?;
        let mut decoded = Decoded::default();
        self.view.logs(&logs, self.cx.clock.now(), &mut decoded);
        self.check.pushed(&decoded.payments);
        self.check.show(&self.cx.status);
        let cursor = self.read_to.map(|block| Cursor(self.view.cursor(block)));
        self.pipeline.submit(self.cx, decoded, cursor).await?;
        Ok(())
    }
}

fn quantity(json: &str) -> Option<u64> {
    serde_json::from_str::<Quantity>(json).ok()?.0
}
