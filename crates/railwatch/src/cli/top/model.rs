//! What `top` knows and where its reader is.

use console::Key;
use serde_json::Value;

/// Characters that can be typed.
const TYPED_MAX: usize = 60;

/// The order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// What needs a person first.
    Attention,
    /// The anomaly score.
    Score,
    /// Dollars per hour.
    Velocity,
    /// The budget that ends first.
    Burn,
    /// Spend in all.
    Spend,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Attention, Self::Score, Self::Velocity, Self::Burn, Self::Spend];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Score => "score",
            Self::Velocity => "velocity",
            Self::Burn => "burn",
            Self::Spend => "spend",
        }
    }

    pub(crate) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// Where the reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// All agents.
    List,
    /// One of them.
    Agent(String),
}

/// What is being typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    /// The filter of the list.
    Filter,
    /// Why an alert is silenced.
    Reason,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) sort: Sort,
    pub(crate) view: View,
    /// `/v1/fleet`.
    pub(crate) fleet: Value,
    /// `/v1/agents`.
    pub(crate) agents: Vec<Value>,
    pub(crate) total: u64,
    /// The agent in hand: it stays in hand when the order changes.
    pub(crate) selected: Option<String>,
    pub(crate) filter: String,
    pub(crate) typing: Option<Typing>,
    /// Why an alert is silenced, as far as it is typed.
    pub(crate) reason: String,
    /// `/v1/agents/{agent}`.
    pub(crate) detail: Value,
    /// `/v1/agents/{agent}/series`.
    pub(crate) series: Value,
    /// Looks since the hours were read.
    pub(crate) series_age: u32,
    /// Why the facts are old.
    pub(crate) trouble: Option<String>,
    /// What came of the last key.
    pub(crate) said: String,
}

impl Model {
    pub(crate) fn new(sort: Sort) -> Self {
        Self {
            sort,
            view: View::List,
            fleet: Value::Null,
            agents: Vec::new(),
            total: 0,
            selected: None,
            filter: String::new(),
            typing: None,
            reason: String::new(),
            detail: Value::Null,
            series: Value::Null,
            series_age: 0,
            trouble: None,
            said: String::new(),
        }
    }

    pub(crate) fn take_agents(&mut self, page: &Value) {
        self.agents = page["items"].as_array().cloned().unwrap_or_default();
        self.total = page["total"].as_u64().unwrap_or(0);
        if self.place().is_none() {
            self.selected = self.agents.first().map(name);
        }
    }

    /// Where the agent in hand is in the list.
    pub(crate) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.agents.iter().position(|agent| agent["agent"] == selected)
    }

    pub(crate) fn step(&mut self, by: i64) {
        if self.agents.is_empty() || self.view != View::List {
            return;
        }
        let last = i64::try_from(self.agents.len()).unwrap_or(i64::MAX) - 1;
        let at = self.place().and_then(|at| i64::try_from(at).ok()).unwrap_or(0);
        let at = at.saturating_add(by).clamp(0, last);
        self.selected = usize::try_from(at).ok().and_then(|at| self.agents.get(at)).map(name);
    }

    pub(crate) fn open(&mut self) {
        if let (View::List, Some(agent)) = (&self.view, &self.selected) {
            self.view = View::Agent(agent.clone());
            (self.detail, self.series, self.series_age) = (Value::Null, Value::Null, 0);
        }
    }

    pub(crate) fn back(&mut self) {
        self.view = View::List;
    }

    /// Takes a key into what is being typed; true once that is complete.
    pub(crate) fn type_key(&mut self, key: &Key) -> bool {
        let Some(typing) = self.typing else { return false };
        let text = match typing {
            Typing::Filter => &mut self.filter,
            Typing::Reason => &mut self.reason,
        };
        match key {
            Key::Enter => {
                self.typing = None;
                return true;
            }
            Key::Escape => {
                text.clear();
                self.typing = None;
            }
            Key::Backspace => drop(text.pop()),
            Key::Char(c) if text.chars().count() < TYPED_MAX => text.push(*c),
            _ => {}
        }
        false
    }

    /// The most urgent open alert of the agent in hand.
    pub(crate) fn alert_in_hand(&self) -> Option<String> {
        let agent = match &self.view {
            View::Agent(agent) => agent,
            View::List => self.selected.as_ref()?,
        };
        let subject = format!("agent:{agent}");
        let is_its = |alert: &&Value| alert["subject"] == subject.as_str();
        let open = [&self.detail["alerts"], &self.fleet["alerts"]];
        let mut alerts = open.into_iter().filter_map(Value::as_array).flatten();
        alerts.find(is_its)?["id"].as_str().map(str::to_owned)
    }
}

fn name(agent: &Value) -> String {
    agent["agent"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_agent_in_hand_stays_in_hand() {
        let mut model = Model::new(Sort::Attention);
        let page = |names: &[&str]| {
            let items: Vec<Value> = names.iter().map(|name| json!({ "agent": name })).collect();
            json!({ "items": items, "total": names.len() })
        };
        model.take_agents(&page(&["a", "b", "c"]));
        model.step(1);
        assert_eq!(model.selected.as_deref(), Some("b"));
        model.take_agents(&page(&["c", "b", "a"]));
        assert_eq!(model.place(), Some(1));
        model.step(100);
        assert_eq!(model.selected.as_deref(), Some("a"));
        model.take_agents(&page(&["c"]));
        assert_eq!(model.selected.as_deref(), Some("c"));
        model.take_agents(&page(&[]));
        model.step(-1);
        assert_eq!(model.selected, None);
    }

    #[test]
    fn orders_go_round() {
        let all: Vec<Sort> =
            std::iter::successors(Some(Sort::Attention), |sort| Some(sort.next())).take(6).collect();
        assert_eq!((all[0], all[1], all[5]), (Sort::Attention, Sort::Score, Sort::Attention));
    }
}
