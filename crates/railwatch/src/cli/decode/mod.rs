//! `decode`: recorded bytes through a configured source, offline, in the code that runs live: the source's verifier and
//! decoder, the host's stamps and prices, the engine's identities, deduplication and merging.

mod net;
mod recorded;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use railwatch_engine::{Accepted, Engine};
use railwatch_model::{
    Admitted, AgentId, Direction, Kind, Payment, SettlementRef, SmolStr, Status, Timestamp, Usd,
};
use railwatch_plugin::clock::{Clock as _, SystemClock};
use railwatch_plugin::decode::{Decoded, Decoder, Message};
use railwatch_plugin::secret::{Secrets, SystemSecrets};
use railwatch_sources::verify::{self, Verifier};
use serde::Serialize;
use serde_json::json;

use self::net::Net;
use self::recorded::Recorded;
use crate::cli::{Failure, Out, replay, run};
use crate::config::SourceCommon;
use crate::host::{Prices, build_generation, stamp};

/// Options of `decode`.
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// The source, by its name in the configuration.
    source: SmolStr,
    /// Recordings; `-` is standard input, `.gz` is unpacked. A file whose first line is a JSON value is read line by
    /// line, any other is one message, such as a CSV file. {"headers": …, "body": …} is a request: its signature is
    /// checked first.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// When the messages arrived, unless they say so themselves; without, now.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    at: Option<Timestamp>,
    /// Print what remains once repeats, views of one purchase by several reports, and retractions are settled.
    #[arg(long)]
    net: bool,
}

/// Decodes recordings and prints JSON lines, whoever reads.
pub(crate) fn decode(config: &Path, args: &DecodeArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = run::load(config, true)?;
    let decoder = replay::decoder(&loaded, Some(&args.source))?;
    let source = loaded.config.sources.get(&args.source);
    let source = source.with_context(|| format!("there is no [sources.{}]", args.source))?;
    let secrets: Arc<dyn Secrets> = Arc::new(SystemSecrets { base_dir: loaded.base_dir.clone() });
    let mut bench = Bench {
        source: args.source.clone(),
        common: &source.common,
        decoder,
        // Whoever has only bodies needs no secret.
        verifier: Box::new(|| Ok(verify::configured(&source.table, &secrets).map_err(anyhow::Error::from)?)),
        verified_by: None,
        engine: Engine::new([0; 16], build_generation(&loaded, 1)?.generation),
        prices: Prices::fixed(&loaded.config.prices, Timestamp::EPOCH),
        agents: HashMap::new(),
        net: args.net.then(Net::default),
        out,
    };
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    for path in &args.files {
        recorded::each(path, |place, recorded| bench.message(place, &recorded, now))?;
    }
    bench.finish(now)
}

type MakeVerifier<'a> = Box<dyn Fn() -> Result<Option<Verifier>, Failure> + 'a>;

/// Everything that a message passes.
struct Bench<'a> {
    source: SmolStr,
    common: &'a SourceCommon,
    decoder: Arc<dyn Decoder>,
    verifier: MakeVerifier<'a>,
    /// The verifier, once a request wanted one.
    verified_by: Option<Option<Verifier>>,
    engine: Engine,
    prices: Prices,
    /// Whose each step is: the engine says so once.
    agents: HashMap<net::StepKey, AgentId>,
    net: Option<Net>,
    out: &'a mut Out,
}

impl Bench<'_> {
    fn message(&mut self, place: &str, recorded: &Recorded<'_>, now: Timestamp) -> Result<(), Failure> {
        let received_at = recorded.at.unwrap_or(now);
        if let Some(headers) = &recorded.headers {
            let verifier = match &mut self.verified_by {
                Some(verifier) => verifier,
                none => none.insert((self.verifier)()?),
            };
            let verified =
                verifier.as_ref().map(|verifier| verifier.verify(headers, &recorded.body, received_at));
            if let Some(Err(error)) = verified {
                return self
                    .print(&json!({ "reject": "unverified", "detail": error.to_string(), "place": place }));
            }
        }
        let mut decoded = Decoded::default();
        let message = Message { body: &recorded.body, headers: recorded.headers.as_ref(), received_at };
        self.decoder.decode(&message, &mut decoded);
        self.take(decoded, place, received_at)
    }

    fn take(&mut self, decoded: Decoded, place: &str, received_at: Timestamp) -> Result<(), Failure> {
        for reject in &decoded.rejects {
            self.print(&json!({ "reject": reject.code, "detail": reject.detail, "place": place }))?;
        }
        for reason in &decoded.filtered {
            self.print(&json!({ "filtered": reason, "place": place }))?;
        }
        for (agent, task) in self.engine.admit_tasks(&self.source, decoded.tasks) {
            self.print(&json!({ "task": task.id, "agent": agent, "failed": task.failed }))?;
        }
        for payment in decoded.payments {
            self.payment(payment, received_at)?;
        }
        Ok(())
    }

    fn payment(&mut self, mut payment: Payment, received_at: Timestamp) -> Result<(), Failure> {
        payment.observed_at = received_at;
        stamp(&self.source, Some(self.common), &self.prices, &mut payment);
        let mut accepted = Accepted::default();
        self.engine.admit(received_at, [payment.clone()], &mut accepted);
        let key = net::step_key(&payment);
        let admitted = accepted.payments.pop();
        if let Some(agent) = admitted.as_ref().and_then(|admitted| admitted.payment.agent.clone()) {
            self.agents.insert(key.clone(), agent);
        }
        match (&mut self.net, admitted) {
            (Some(net), Some(Admitted { payment, disposition })) => {
                net.take(payment, disposition);
                Ok(())
            }
            (Some(_), None) => Ok(()),
            (None, _) => {
                payment.agent = self.agents.get(&key).cloned();
                self.print(&Line::of(&payment))
            }
        }
    }

    fn finish(mut self, now: Timestamp) -> Result<(), Failure> {
        let mut decoded = Decoded::default();
        self.decoder.finish(now, &mut decoded);
        self.take(decoded, "the end", now)?;
        let remaining = self.net.take().map(Net::into_payments).unwrap_or_default();
        remaining.iter().try_for_each(|payment| self.print(&Line::of(payment)))
    }

    fn print(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        self.out.text(&serde_json::to_string(document).map_err(anyhow::Error::from)?)
    }
}

/// A payment as it is printed.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    kind: Kind,
    status: Status,
    direction: Direction,
    agent: Option<&'a AgentId>,
    rail: &'a str,
    /// In whole units, exactly.
    amount: String,
    asset: &'a str,
    /// `null` while no price is known.
    usd: Option<Usd>,
    at: Timestamp,
    /// `scheme:value`.
    refs: Vec<String>,
    parent: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(payment: &'a Payment) -> Self {
        let reference = |SettlementRef { scheme, value }: &SettlementRef| {
            let scheme = serde_json::to_value(scheme).unwrap_or_default();
            format!("{}:{value}", scheme.as_str().unwrap_or_default())
        };
        Self {
            id: &payment.id,
            kind: payment.kind,
            status: payment.status,
            direction: payment.direction,
            agent: payment.agent.as_ref(),
            rail: &payment.rail,
            amount: payment.amount.decimal(),
            asset: payment.amount.asset().code(),
            usd: payment.valuation.as_ref().map(|valuation| valuation.usd),
            at: payment.occurred_at,
            refs: payment.settlement_refs.iter().map(reference).collect(),
            parent: payment.parent.as_deref(),
        }
    }
}
