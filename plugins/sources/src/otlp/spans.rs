//! Spans → tasks and costs. Source of the attribute names: the OpenTelemetry semantic conventions for generative AI
//! (still in development; older and proposed names are read as well).

use std::borrow::Cow;
use std::collections::HashMap;

use railwatch_model::{Identity, Label, Payment, SmolStr, TaskReport, Timestamp};
use railwatch_plugin::decode::Decoded;
use smol_str::format_smolstr;

use crate::litellm::RAIL;
use crate::scalar::short;
use crate::usage_cost::dollars;

/// Attributes as texts; of the rest only the key is kept, with an empty text.
pub(super) type Attributes<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A span with what counts here. Ids are lower-case hexadecimal.
#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) parent_id: String,
    pub(super) name: Cow<'a, str>,
    pub(super) start_nanos: u64,
    pub(super) end_nanos: u64,
    /// `status.code` is `STATUS_CODE_ERROR`.
    pub(super) failed: bool,
    pub(super) attributes: Attributes<'a>,
}

/// The spans of one resource.
#[derive(Debug, Default)]
pub(super) struct ResourceSpans<'a> {
    pub(super) resource: Attributes<'a>,
    pub(super) spans: Vec<Span<'a>>,
}

/// Where a cost may stand, best first.
const COSTS: [&str; 3] = ["gen_ai.usage.cost.amount", "gen_ai.usage.total_cost", "gen_ai.usage.cost"];
/// Agents inside agents deeper than this are followed no further.
const DEPTH_MAX: usize = 64;

impl<'a> Span<'a> {
    fn get(&self, key: &str) -> Option<&str> {
        find(&self.attributes, key)
    }

    fn is_task(&self) -> bool {
        match self.get("gen_ai.operation.name") {
            Some(operation) => operation == "invoke_agent",
            None => {
                self.name.starts_with("invoke_agent")
                    || self.get("openinference.span.kind").is_some_and(|kind| kind == "AGENT")
            }
        }
    }

    fn agent(&self) -> Option<&str> {
        self.get("gen_ai.agent.id").or(self.get("gen_ai.agent.name"))
    }

    fn cost(&self) -> Option<&str> {
        COSTS.iter().find_map(|key| self.get(key))
    }

    fn ended_at(&self) -> Option<Timestamp> {
        let nanos = if self.end_nanos > 0 { self.end_nanos } else { self.start_nanos };
        Timestamp::from_number(i128::from(nanos)).ok().filter(|_| nanos > 0)
    }

    fn key(&self) -> SmolStr {
        format_smolstr!("{}:{}", self.trace_id, self.span_id)
    }
}

fn find<'b>(attributes: &'b Attributes<'_>, key: &str) -> Option<&'b str> {
    let found = attributes.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
}

/// The spans of a message by trace and id, to walk up with.
type Index<'b, 'a> = HashMap<(&'b str, &'b str), &'b Span<'a>>;

/// Reports every task and cost of a message.
pub(super) fn report(resources: &[ResourceSpans<'_>], received_at: Timestamp, decoded: &mut Decoded) {
    let all = resources.iter().flat_map(|resource| &resource.spans);
    let index: Index<'_, '_> =
        all.clone().map(|span| ((span.trace_id.as_str(), span.span_id.as_str()), span)).collect();
    // A parent that repeats the cost of its child is an aggregate.
    let aggregates: std::collections::HashSet<(&str, &str)> = all
        .filter(|span| span.cost().is_some())
        .flat_map(|span| ancestors(span, &index))
        .map(|parent| (parent.trace_id.as_str(), parent.span_id.as_str()))
        .collect();
    for resource in resources {
        for span in &resource.spans {
            let view = View { span, resource: &resource.resource, index: &index, received_at };
            if span.is_task() {
                view.task(decoded);
            } else if span.cost().is_some() {
                if aggregates.contains(&(span.trace_id.as_str(), span.span_id.as_str())) {
                    decoded.filter(SmolStr::new_static("cost repeated on a parent"));
                } else {
                    view.cost(decoded);
                }
            } else {
                decoded.filter(SmolStr::new_static("span without task or cost"));
            }
        }
    }
}

fn ancestors<'b, 'a>(span: &'b Span<'a>, index: &Index<'b, 'a>) -> Vec<&'b Span<'a>> {
    let mut chain = Vec::new();
    let mut current = span;
    while chain.len() < DEPTH_MAX
        && !current.parent_id.is_empty()
        && let Some(parent) = index.get(&(span.trace_id.as_str(), current.parent_id.as_str())).copied()
    {
        chain.push(parent);
        current = parent;
    }
    chain
}

/// A span in its surroundings.
struct View<'b, 'a> {
    span: &'b Span<'a>,
    resource: &'b Attributes<'a>,
    index: &'b Index<'b, 'a>,
    received_at: Timestamp,
}

impl View<'_, '_> {
    /// A task ends with its span, unless that is a step of the same agent's task. A parent in another message is not
    /// known here, and such a span counts.
    fn task(&self, decoded: &mut Decoded) {
        let span = self.span;
        let parents = ancestors(span, self.index);
        let outer = parents.iter().find(|parent| parent.is_task());
        if outer.is_some_and(|outer| outer.agent() == span.agent()) {
            return decoded.filter(SmolStr::new_static("step of the same agent's task"));
        }
        let Some(ended_at) = span.ended_at() else {
            return decoded.reject(
                "bad_time",
                format!("span {}: no end time", span.key()),
                &[],
                self.received_at,
            );
        };
        decoded.tasks.push(TaskReport {
            id: span.key(),
            agent: self.identities(Some(span)),
            session: span.get("gen_ai.conversation.id").map(short),
            ended_at,
            observed_at: self.received_at,
            failed: span.failed,
        });
    }

    fn cost(&self, decoded: &mut Decoded) {
        let span = self.span;
        let currency = span.get("gen_ai.usage.cost.currency").unwrap_or("USD");
        let amount = span.cost().map(dollars).and_then(Result::ok).filter(|amount| amount.units() >= 0);
        let amount = match amount {
            Some(amount) if currency.eq_ignore_ascii_case("USD") => amount,
            Some(_) => {
                let detail = format!("span {}: cost in {currency:.20}; only USD is known", span.key());
                return decoded.reject("unknown_currency", detail, &[], self.received_at);
            }
            None => {
                let detail = format!("span {}: the cost must be a decimal number of at least 0", span.key());
                return decoded.reject("bad_amount", detail, &[], self.received_at);
            }
        };
        if amount.is_zero() {
            return decoded.filter(SmolStr::new_static("zero amount"));
        }
        let parents = ancestors(span, self.index);
        let task = parents.iter().copied().find(|parent| parent.is_task());
        let mut payment =
            Payment::settle(RAIL, span.key(), amount, span.ended_at().unwrap_or(self.received_at));
        payment.observed_at = self.received_at;
        payment.spender = self.identities(task);
        let provider = span.get("openrouter.provider_name").or(span.get("gen_ai.provider.name"));
        payment.payee = provider.or(span.get("gen_ai.system")).map(short);
        payment.resource = span.get("gen_ai.response.model").or(span.get("gen_ai.request.model")).map(short);
        payment.task = task.map(Span::key);
        let session = span.get("gen_ai.conversation.id").or(span.get("session.id"));
        payment.session = session.or(task.and_then(|task| task.get("gen_ai.conversation.id"))).map(short);
        payment.labels =
            vec![Label { key: SmolStr::new_static("trace"), value: span.trace_id.as_str().into() }];
        decoded.payments.push(payment);
    }

    /// Whose span it is: the agent of its task, the key it was paid with, the service that sent it.
    fn identities(&self, task: Option<&Span<'_>>) -> Vec<Identity> {
        let span = self.span;
        let key = span.get("openrouter.api_key_name").or(span.get("trace.metadata.openrouter.api_key_name"));
        let of_task = |attribute: &str| task.and_then(|task| task.get(attribute)).or(span.get(attribute));
        [
            ("otel.agent.id", of_task("gen_ai.agent.id")),
            ("otel.agent.name", of_task("gen_ai.agent.name")),
            ("openrouter.key", key),
            ("otel.service", find(self.resource, "service.name")),
        ]
        .into_iter()
        .filter_map(|(scheme, value)| Some(Identity::new(SmolStr::new_static(scheme), short(value?))))
        .collect()
    }
}
