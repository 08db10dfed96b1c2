//! Reads the journal backwards for one page of payments or one agent's last hours.
//!
//! Both are bounded by work: what lies beyond is left for the next page, and said so.

use std::collections::{BTreeMap, HashMap};

use railwatch_model::{Admitted, Disposition, Kind, Payment, Record, Seq, SmolStr, Status, Timestamp, Usd};
use railwatch_store::{Reader, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::board::moved;

/// Payments that one request looks at: about a third of a second of work.
const LOOKED_AT_MAX: usize = 200_000;
/// Payments in a row that happened before the hours asked for, after which a search ends: rails report roughly in order.
const OUTSIDE_MAX: usize = 20_000;
/// Points of a series.
const POINTS: usize = 180;
/// Tasks and payees that a series names.
const TOP: usize = 8;
/// Seconds of the velocity's window.
const WINDOW_SECS: i64 = 900;

/// A payment in a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PaymentBrief {
    /// When it happened.
    pub at: Timestamp,
    /// When railwatch received it.
    pub observed_at: Timestamp,
    /// The rail.
    pub rail: SmolStr,
    /// The rail's name for it.
    pub id: SmolStr,
    /// What happened: `settle`, `hold`, `refund`, ...
    #[schemars(with = "String")]
    pub kind: Kind,
    /// How sure the rail is.
    #[schemars(with = "String")]
    pub status: Status,
    /// What it is to the books: `first`, `confirms`, `retracts`, `enriches`.
    #[schemars(with = "String")]
    pub disposition: Disposition,
    /// Who paid.
    pub agent: Option<String>,
    /// Who was paid.
    pub payee: Option<SmolStr>,
    /// What was bought.
    pub resource: Option<SmolStr>,
    /// The task that the agent worked on.
    pub task: Option<SmolStr>,
    /// The amount in its own asset, such as `0.50 USDC`.
    pub amount: String,
    /// Its value in dollars; `None` while no price is known.
    pub usd: Option<Usd>,
    /// The configured source.
    pub source: SmolStr,
}

impl PaymentBrief {
    /// What a list shows of a payment.
    pub fn new(admitted: &Admitted) -> Self {
        let Payment { rail, id, kind, status, payee, resource, task, amount, source, .. } = &admitted.payment;
        let payment = &admitted.payment;
        Self {
            at: payment.occurred_at,
            observed_at: payment.observed_at,
            rail: rail.clone(),
            id: id.clone(),
            kind: *kind,
            status: *status,
            disposition: admitted.disposition,
            agent: payment.agent.as_ref().map(ToString::to_string),
            payee: payee.clone(),
            resource: resource.clone(),
            task: task.clone(),
            amount: format!("{} {}", amount.decimal(), amount.asset().code()),
            usd: payment.valuation.as_ref().map(|valuation| valuation.usd),
            source: source.clone(),
        }
    }
}

/// Which payments to list.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PaymentQuery {
    /// Only this agent's.
    pub(crate) agent: Option<String>,
    /// Only over this rail.
    pub(crate) rail: Option<String>,
    /// How many; 50 by default.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) limit: Option<u32>,
    /// Where the last page ended: its `next`.
    #[schemars(with = "Option<String>", regex(pattern = r"^[0-9]{1,18}\.[0-9]{1,9}$"))]
    pub(crate) cursor: Option<Place>,
}

/// A place in the journal: everything before it is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    seq: Seq,
    payments: usize,
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let place = text.split_once('.').and_then(|(seq, payments)| {
            let (seq, payments) = (seq.parse().ok()?, payments.parse().ok()?);
            Some(Self { seq, payments })
        });
        place.ok_or_else(|| serde::de::Error::custom("not a cursor: use the last page's `next`"))
    }
}

/// A page of payments, newest first.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct PaymentPage {
    /// The payments.
    pub(crate) items: Vec<PaymentBrief>,
    /// The `cursor` of the next page; absent at the beginning of the journal. A page may be short, and even empty,
    /// before that: the search is bounded, and goes on from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One page of payments.
pub(crate) fn payments(store: &Reader, query: &PaymentQuery) -> Result<PaymentPage, StoreError> {
    let limit = query.limit.unwrap_or(50).clamp(1, crate::list::PAGE_MAX) as usize;
    let span = store.journal_span()?;
    let mut page = PaymentPage::default();
    let start = query.cursor.unwrap_or(Place { seq: span.last, payments: usize::MAX });
    let mut looked_at = 0;
    let mut seq = start.seq.min(span.last);
    while seq >= span.first && seq > 0 {
        let before = if seq == start.seq { start.payments } else { usize::MAX };
        let batch = store.batch(seq)?;
        let admitted: Vec<&Admitted> = batch.iter().flat_map(|batch| admitted(&batch.records)).collect();
        for (at, admitted) in admitted.iter().enumerate().take(before).rev() {
            if page.items.len() == limit {
                page.next = Some(format!("{seq}.{}", at + 1));
                return Ok(page);
            }
            if query.passes(&admitted.payment) {
                page.items.push(PaymentBrief::new(admitted));
            }
        }
        looked_at += admitted.len() + 1;
        seq -= 1;
        if looked_at > LOOKED_AT_MAX && seq >= span.first && seq > 0 {
            page.next = Some(format!("{seq}.999999999"));
            return Ok(page);
        }
    }
    Ok(page)
}

impl PaymentQuery {
    fn passes(&self, payment: &Payment) -> bool {
        let agent = payment.agent.as_ref().map(railwatch_model::AgentId::as_str);
        self.agent.as_deref().is_none_or(|wanted| agent == Some(wanted))
            && self.rail.as_deref().is_none_or(|wanted| payment.rail == wanted)
    }
}

fn admitted(records: &[Record]) -> impl Iterator<Item = &Admitted> {
    records.iter().flat_map(|record| match record {
        Record::Payments { payments, .. } => payments.as_slice(),
        Record::Tick { .. }
        | Record::Generation { .. }
        | Record::Tasks { .. }
        | Record::Action { .. }
        | Record::Condition { .. } => &[],
    })
}

/// Which hours of an agent to show.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SeriesQuery {
    /// How many hours back; 6 by default.
    #[schemars(range(min = 1, max = 168))]
    pub(crate) hours: Option<u32>,
}

/// An agent's last hours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub(crate) struct Series {
    /// The first point.
    pub(crate) from: Timestamp,
    /// The last point.
    pub(crate) until: Timestamp,
    /// Seconds between two points.
    pub(crate) step_secs: i64,
    /// Everything since then was looked at: what is before it may be more than is shown.
    pub(crate) known_from: Timestamp,
    /// Dollars per hour over the 15 minutes before each point.
    pub(crate) usd_per_hour: Vec<f64>,
    /// Dollars per hour that are usual in the hour of each point, by what is known now; `null` while that is learned.
    pub(crate) usual_per_hour: Vec<Option<f64>>,
    /// Dollars in each step, by rail.
    pub(crate) rails: BTreeMap<SmolStr, Vec<f64>>,
    /// The payees that got most.
    pub(crate) payees: Vec<Share>,
    /// The tasks that cost most.
    pub(crate) tasks: Vec<Share>,
}

impl Series {
    /// The time of each point.
    pub(crate) fn times(&self) -> Vec<Timestamp> {
        let points = 1..=POINTS as i64;
        points.map(|point| Timestamp::from_secs(self.from.secs() + point * self.step_secs)).collect()
    }
}

/// What went where.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Share {
    /// The payee or task.
    pub(crate) name: SmolStr,
    /// Dollars.
    pub(crate) usd: Usd,
    /// Payments.
    pub(crate) payments: u64,
}

/// An agent's last hours, as far back as one request may look.
pub(crate) fn series(store: &Reader, agent: &str, hours: u32, now: Timestamp) -> Result<Series, StoreError> {
    let span_secs = i64::from(hours.clamp(1, 168)) * 3600;
    let step = span_secs / i64::try_from(POINTS).unwrap_or(180);
    let until = (now.secs().div_euclid(step) + 1) * step;
    let from = until - span_secs;
    let mut sums = Sums::default();
    let span = store.journal_span()?;
    let (mut seq, mut looked_at, mut outside) = (span.last, 0, 0);
    let mut known_from = Timestamp::from_secs(from - WINDOW_SECS);
    while seq >= span.first && seq > 0 {
        let Some(batch) = store.batch(seq)? else { break };
        if batch.last_at.secs() < from - WINDOW_SECS {
            break;
        }
        looked_at += 1;
        for admitted in admitted(&batch.records) {
            looked_at += 1;
            let payment = &admitted.payment;
            outside = if payment.occurred_at.secs() < from - WINDOW_SECS { outside + 1 } else { 0 };
            if payment.agent.as_ref().is_some_and(|found| found.as_str() == agent)
                && let Some(usd) = moved(payment, admitted.disposition)
            {
                sums.book(payment, usd, from);
            }
        }
        if looked_at > LOOKED_AT_MAX {
            known_from = batch.first_at;
            break;
        }
        if outside > OUTSIDE_MAX {
            break;
        }
        seq -= 1;
    }
    Ok(sums.finish(from, until, step, known_from))
}

#[derive(Default)]
struct Sums {
    /// Rail, seconds, dollars.
    points: Vec<(SmolStr, i64, Usd)>,
    payees: HashMap<SmolStr, (Usd, u64)>,
    tasks: HashMap<SmolStr, (Usd, u64)>,
}

impl Sums {
    fn book(&mut self, payment: &Payment, usd: Usd, from: i64) {
        let at = payment.occurred_at.secs();
        if at < from - WINDOW_SECS {
            return;
        }
        self.points.push((payment.rail.clone(), at, usd));
        if at >= from {
            let add = |sums: &mut HashMap<SmolStr, (Usd, u64)>, name: &SmolStr| {
                let sum = sums.entry(name.clone()).or_default();
                *sum = (sum.0.plus(usd), sum.1 + 1);
            };
            payment.payee.iter().for_each(|payee| add(&mut self.payees, payee));
            payment.task.iter().for_each(|task| add(&mut self.tasks, task));
        }
    }

    fn finish(mut self, from: i64, until: i64, step: i64, known_from: Timestamp) -> Series {
        self.points.sort_by_key(|(_, at, _)| *at);
        let mut rails: BTreeMap<SmolStr, Vec<f64>> = BTreeMap::new();
        for (rail, at, usd) in self.points.iter().filter(|(_, at, _)| (from..until).contains(at)) {
            let place = usize::try_from((at - from) / step).unwrap_or(0).min(POINTS - 1);
            rails.entry(rail.clone()).or_insert_with(|| vec![0.0; POINTS])[place] += usd.dollars();
        }
        let velocity = |at: i64| {
            let since = self.points.partition_point(|(_, paid, _)| *paid <= at - WINDOW_SECS);
            let to = self.points.partition_point(|(_, paid, _)| *paid <= at);
            let sum = self.points[since..to].iter().fold(Usd::ZERO, |sum, (_, _, usd)| sum.plus(*usd));
            sum.dollars() * 3600.0 / WINDOW_SECS as f64
        };
        Series {
            from: Timestamp::from_secs(from),
            until: Timestamp::from_secs(until),
            step_secs: step,
            known_from,
            usual_per_hour: Vec::new(),
            usd_per_hour: (1..=POINTS as i64).map(|point| velocity(from + point * step)).collect(),
            rails,
            payees: largest(self.payees),
            tasks: largest(self.tasks),
        }
    }
}

fn largest(sums: HashMap<SmolStr, (Usd, u64)>) -> Vec<Share> {
    let mut shares: Vec<Share> =
        sums.into_iter().map(|(name, (usd, payments))| Share { name, usd, payments }).collect();
    shares.sort_by(|a, b| b.usd.cmp(&a.usd).then_with(|| a.name.cmp(&b.name)));
    shares.truncate(TOP);
    shares
}
