//! The numbers of a digest: what was committed in a span of time, by agent and rail, beside the span before it.

use std::collections::BTreeMap;

use railwatch_model::{AgentId, Alert, Record, Report, Section, SmolStr, Timestamp, Usd};
use railwatch_store::{Reader, StoreError};
use railwatch_web::moved;

/// Lines of one section; what lies beyond is counted.
const LINES_MAX: usize = 10;
/// Agents that are told apart; the spend of further ones is counted together.
const AGENTS_MAX: usize = 500_000;

/// Spend now and in the span before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spent {
    now: Usd,
    before: Usd,
}

/// What was spent.
#[derive(Debug, Default)]
pub(super) struct Figures {
    agents: BTreeMap<AgentId, Spent>,
    rails: BTreeMap<SmolStr, Spent>,
    total: Spent,
    purchases: u64,
}

impl Figures {
    /// Reads the journal between the first and the last of three times; the second divides before from now.
    pub(super) fn read(
        store: &Reader,
        [before, from, until]: [Timestamp; 3],
        is_meant: impl Fn(&AgentId) -> bool,
    ) -> Result<Self, StoreError> {
        let mut figures = Self::default();
        for batch in store.batches_between(before, until)? {
            // A batch that cannot be read is told by `railwatch doctor`; the others are still worth a digest.
            let Ok(batch) = batch else { continue };
            for record in &batch.records {
                let Record::Payments { payments, .. } = record else { continue };
                for admitted in payments {
                    let payment = &admitted.payment;
                    let at = payment.observed_at;
                    let Some(agent) = payment.agent.as_ref().filter(|agent| is_meant(agent)) else {
                        continue;
                    };
                    let Some(usd) = moved(payment, admitted.disposition) else { continue };
                    if at >= before && at < until {
                        figures.book(agent, &payment.rail, usd, at >= from);
                    }
                }
            }
        }
        Ok(figures)
    }

    fn book(&mut self, agent: &AgentId, rail: &SmolStr, usd: Usd, is_now: bool) {
        let add = |spent: &mut Spent| {
            let side = if is_now { &mut spent.now } else { &mut spent.before };
            *side = side.plus(usd);
        };
        add(&mut self.total);
        add(self.rails.entry(rail.clone()).or_default());
        self.purchases += u64::from(is_now);
        if self.agents.len() < AGENTS_MAX || self.agents.contains_key(agent) {
            add(self.agents.entry(agent.clone()).or_default());
        }
    }

    /// The report, and its sentence.
    pub(super) fn report(
        &self,
        about: &str,
        span: &str,
        open: &[Alert],
        budgets: &[String],
    ) -> (Report, String) {
        let change = change(self.total);
        let mut headline = format!(
            "{about} spent {} in {} in the last {span}{change}; {} open",
            self.total.now,
            count(self.purchases, "purchase"),
            count(open.len() as u64, "alert")
        );
        if let Some(first) = budgets.first() {
            headline.push_str(&format!("; {first}"));
        }
        let mut agents: Vec<(&AgentId, Spent)> =
            self.agents.iter().map(|(agent, spent)| (agent, *spent)).collect();
        agents.sort_by(|a, b| b.1.now.cmp(&a.1.now).then_with(|| a.0.cmp(b.0)));
        let spenders = agents.iter().filter(|(_, spent)| spent.now > Usd::ZERO);
        let spenders =
            spenders.map(|(agent, spent)| format!("{agent}: {}{}", spent.now, self::change(*spent)));
        let spenders: Vec<String> = spenders.collect();
        agents.sort_by(|a, b| moved_by(b.1).cmp(&moved_by(a.1)).then_with(|| a.0.cmp(b.0)));
        let movers = agents.iter().filter(|(_, spent)| moved_by(*spent) > Usd::ZERO);
        let movers = movers.map(|(agent, spent)| format!("{agent}: {} after {}", spent.now, spent.before));
        let movers: Vec<String> = movers.collect();
        let mut rails: Vec<(&SmolStr, Spent)> =
            self.rails.iter().map(|(rail, spent)| (rail, *spent)).collect();
        rails.sort_by(|a, b| b.1.now.cmp(&a.1.now).then_with(|| a.0.cmp(b.0)));
        let rails =
            rails.into_iter().map(|(rail, spent)| format!("{rail}: {}{}", spent.now, self::change(spent)));
        let mut open: Vec<&Alert> = open.iter().collect();
        open.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.opened_at.cmp(&b.opened_at)));
        let open = open
            .into_iter()
            .map(|alert| format!("{} {}: {}", alert.severity.as_str(), alert.subject, alert.summary));
        let sections = [
            section("Rails", rails.collect()),
            section("Agents", spenders),
            section("Movers", movers),
            section("Open alerts", open.collect()),
            section("Budgets that run out", budgets.to_vec()),
        ];
        (Report { sections: sections.into_iter().flatten().collect() }, headline)
    }
}

/// `1 alert`, `2 alerts`.
fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// How much more or less than before.
fn moved_by(spent: Spent) -> Usd {
    let (more, less) = (spent.now.max(spent.before), spent.now.min(spent.before));
    more.minus(less)
}

/// `, 12 % more than before`; nothing if there is nothing to compare.
fn change(spent: Spent) -> String {
    let before = spent.before.dollars();
    if before <= 0.0 || spent.now == spent.before {
        return String::new();
    }
    let percent = (spent.now.dollars() / before - 1.0) * 100.0;
    let word = if percent >= 0.0 { "more" } else { "less" };
    format!(", {:.0} % {word} than before", percent.abs())
}

fn section(title: &str, mut lines: Vec<String>) -> Option<Section> {
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    lines.extend((more > 0).then(|| format!("and {more} more")));
    (!lines.is_empty()).then(|| Section { title: title.to_owned(), lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_compares_with_the_span_before() {
        let mut figures = Figures::default();
        let (a, b) = (AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
        for (agent, rail, cents, is_now) in [
            (&a, "x402", 100, false),
            (&a, "x402", 300, true),
            (&b, "stripe", 500, true),
            (&b, "stripe", 500, false),
        ] {
            figures.book(agent, &rail.into(), Usd::from_cents(cents), is_now);
        }
        let (report, headline) =
            figures.report("team growth", "day", &[], &["b: empty on 2026-01-03".to_owned()]);
        assert_eq!(
            headline,
            "team growth spent $8.00 in 2 purchases in the last day, 33 % more than before; 0 alerts open; b: empty on 2026-01-03"
        );
        let lines = |title: &str| {
            report.sections.iter().find(|section| section.title == title).map(|section| section.lines.clone())
        };
        assert_eq!(lines("Rails").unwrap(), ["stripe: $5.00", "x402: $3.00, 200 % more than before"]);
        assert_eq!(lines("Movers").unwrap(), ["a: $3.00 after $1.00"]);
        assert_eq!(lines("Open alerts"), None);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let lines = section("x", (0..12).map(|n| n.to_string()).collect()).unwrap().lines;
        assert_eq!((lines.len(), lines[10].as_str()), (11, "and 2 more"));
    }
}
