//! Lists of agents: filter, order and page, over the published view.

use railwatch_model::{SmolStr, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::board::Table;
use crate::row::{Advice, AgentBrief, Row};

/// Rows that one page may have.
pub const PAGE_MAX: u32 = 1000;

/// How a list is ordered: what needs a person first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// By the severity of open alerts, then by score.
    #[default]
    Attention,
    /// By anomaly score.
    Score,
    /// By dollars per hour.
    Velocity,
    /// By dollars per hour in multiples of the usual.
    Ratio,
    /// By the day on which the budget is empty, the earliest first.
    Burn,
    /// By committed spend.
    Spend,
    /// By the last payment.
    Recent,
    /// By name.
    Name,
}

/// What to list.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AgentQuery {
    /// The order.
    pub(crate) sort: Sort,
    /// Only agents whose name contains this.
    pub(crate) q: Option<String>,
    /// Only agents of this team.
    pub(crate) team: Option<String>,
    /// Only agents on whose spend this rail stands out.
    pub(crate) rail: Option<String>,
    /// Only agents with this verdict or a worse one.
    pub(crate) verdict: Option<Advice>,
    /// How many; 50 by default.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) limit: Option<u32>,
    /// Where the last page ended: its `next`.
    #[schemars(with = "Option<String>", regex(pattern = r"^[0-9a-f]{16}\..{1,200}$"))]
    pub(crate) cursor: Option<Cursor>,
}

/// The place after a row: its rank and its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cursor {
    rank: f64,
    agent: SmolStr,
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = |text: &str| {
            let (bits, agent) = text.split_once('.')?;
            let rank = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
            (bits.len() == 16 && !rank.is_nan() && !agent.is_empty())
                .then(|| Self { rank, agent: SmolStr::new(agent) })
        };
        read(&text).ok_or_else(|| serde::de::Error::custom("not a cursor: use the last page's `next`"))
    }
}

impl Cursor {
    fn text(&self) -> String {
        format!("{:016x}.{}", self.rank.to_bits(), self.agent)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Sort {
    fn rank(self, row: &Row, now: Timestamp) -> f64 {
        match self {
            Self::Attention => row.attention(),
            Self::Score => row.score.into(),
            Self::Velocity => row.velocity_at(now).value.into(),
            Self::Ratio => row.velocity_at(now).ratio().into(),
            Self::Burn => row.budget.map_or(f64::NEG_INFINITY, |budget| -f64::from(budget.days_until_empty)),
            Self::Spend => row.spent.dollars(),
            Self::Recent => row.last_at.secs_f64(),
            Self::Name => 0.0,
        }
    }
}

impl AgentQuery {
    fn passes(&self, row: &Row) -> bool {
        let fits = |wanted: &Option<String>, found: Option<&SmolStr>| {
            wanted.as_deref().is_none_or(|wanted| found.is_some_and(|found| found == wanted))
        };
        self.q.as_deref().is_none_or(|q| contains(&row.agent, q))
            && fits(&self.team, row.team.as_ref())
            && fits(&self.rail, row.rail_name.as_ref())
            && self.verdict.is_none_or(|verdict| row.advice() >= verdict)
    }

    /// One page, and how many rows there are in all. One pass over the table, however long it is.
    pub(crate) fn page(&self, table: &Table) -> Page<AgentBrief> {
        let limit = self.limit.unwrap_or(50).clamp(1, PAGE_MAX) as usize;
        let passing = table.rows().filter(|(_, row)| self.passes(row));
        let mut ranked: Vec<(f64, usize, &Row)> =
            passing.map(|(slot, row)| (self.sort.rank(row, table.now), slot, row)).collect();
        let total = ranked.len();
        if let Some(cursor) = &self.cursor {
            ranked.retain(|(rank, _, row)| {
                rank.total_cmp(&cursor.rank).reverse().then(row.agent.cmp(&cursor.agent)).is_gt()
            });
        }
        let order = |a: &(f64, usize, &Row), b: &(f64, usize, &Row)| {
            b.0.total_cmp(&a.0).then_with(|| a.2.agent.cmp(&b.2.agent))
        };
        let has_more = ranked.len() > limit;
        if has_more {
            ranked.select_nth_unstable_by(limit, order);
            ranked.truncate(limit);
        }
        ranked.sort_by(order);
        let last = ranked.last().filter(|_| has_more);
        let next = last.map(|(rank, _, row)| Cursor { rank: *rank, agent: row.agent.clone() }.text());
        let items = ranked.iter().map(|(_, slot, row)| table.brief(*slot, row)).collect();
        Page { items, total, next }
    }
}

/// Case does not matter for ASCII.
fn contains(name: &str, part: &str) -> bool {
    let (name, part) = (name.as_bytes(), part.as_bytes());
    part.is_empty() || name.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{Board, Update};

    fn board(n: usize) -> Board {
        let board = Board::default();
        let row = |at: usize| {
            let mut row =
                Row::new(SmolStr::new(format!("agent-{at:03}")), ((at * 37) % 10) as f64 / 10.0, &[]);
            row.team = at.is_multiple_of(2).then(|| "even".into());
            (at, Some(row))
        };
        board.take(Update::Rows((0..n).map(row).collect()));
        board
    }

    #[test]
    fn pages_together_are_the_list() {
        let board = board(103);
        let mut query = AgentQuery { sort: Sort::Score, limit: Some(10), ..AgentQuery::default() };
        let whole = AgentQuery { limit: Some(1000), ..query.clone() }.page(&board.read());
        let mut pages = Vec::new();
        loop {
            let page = query.page(&board.read());
            assert_eq!(page.total, 103);
            pages.extend(page.items);
            let Some(next) = page.next else { break };
            query.cursor = Some(serde_json::from_value(next.into()).unwrap());
        }
        assert_eq!(pages, whole.items);
        assert!(pages.is_sorted_by(|a, b| a.score >= b.score));
    }

    #[test]
    fn filters_narrow_the_list() {
        let board = board(20);
        let query =
            AgentQuery { team: Some("even".into()), q: Some("AGENT-01".into()), ..AgentQuery::default() };
        let names: Vec<_> = query.page(&board.read()).items.into_iter().map(|row| row.agent).collect();
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|name| name.starts_with("agent-01")));
    }

    #[test]
    fn a_cursor_that_nobody_gave_out_is_refused() {
        for text in ["", "zz", "0000000000000000", "0000000000000000.", "7ff8000000000000.a"] {
            assert!(serde_json::from_value::<Cursor>(text.into()).is_err(), "{text:?}");
        }
    }
}
