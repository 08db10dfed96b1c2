//! Application: a journaled record changes the books, the signals, the score, the rules' verdicts and the alerts.

use std::time::Duration;

use railwatch_model::{
    Admitted, AgentId, Contribution, Payment, Record, Seq, Signal, SignalKind, SmolStr, Status, Subject,
    TaskReport, Timestamp, Trigger, Unit, Usd, Verdict,
};
use railwatch_plugin::column::{Column, Look, Row as ColumnRow};
use railwatch_plugin::detector::{Booking, Observation, Scope};
use railwatch_plugin::history::HistoryView;
use railwatch_plugin::rules::{Firing, RuleInfo, RuleState};
use railwatch_plugin::score::{Case, Score, Signals};

use crate::actions::conditions;
use crate::alerts::{Hushes, Level, Moment, Opinion, Whom};
use crate::effects::Effects;
use crate::engine::Engine;
use crate::history::History;
use crate::ledger;
use crate::settings::Settings;
use crate::subjects::{Kept, Row};

/// A payment may be dated this far after its arrival: clocks differ.
const SKEW_MAX: Duration = Duration::from_secs(300);
/// A payment this far behind its subject's clock is late.
const LATE_AFTER: Duration = Duration::from_secs(120);
/// A payment that arrives this long after it happened is history being read: for the detectors it happens then.
const HISTORY_AFTER: Duration = Duration::from_secs(3600);
/// Payments whose agents are fetched from memory at once; many more would push each other out of the nearest cache.
const AHEAD: usize = 16;
/// The fleet is looked at this often rather than with every payment.
const FLEET_EVERY: Duration = Duration::from_secs(15);

impl Engine {
    /// Applies one record and adds what it causes to `effects`. Never fails.
    pub fn apply(&mut self, seq: Seq, record: &Record, effects: &mut Effects) {
        let told = effects.notices.len();
        self.apply_record(seq, record, effects);
        self.follow_policies(told, effects);
    }

    fn apply_record(&mut self, seq: Seq, record: &Record, effects: &mut Effects) {
        match record {
            Record::Payments { now, payments } => {
                self.now = self.now.max(*now);
                for next in payments.chunks(AHEAD) {
                    let mut slots = [None; AHEAD];
                    for (slot, admitted) in slots.iter_mut().zip(next) {
                        *slot = self.touch(admitted);
                    }
                    for (slot, admitted) in slots.into_iter().zip(next) {
                        self.apply_payment(seq, slot, admitted, effects);
                    }
                }
            }
            Record::Tick { now } => {
                self.now = self.now.max(*now);
                self.tick(seq, effects);
            }
            Record::Generation { now, .. } => self.now = self.now.max(*now),
            Record::Tasks { now, tasks } => {
                self.now = self.now.max(*now);
                tasks.iter().for_each(|(agent, task)| self.count_task(agent, task));
            }
            Record::Action { now, by, action } => {
                self.now = self.now.max(*now);
                self.act(by, action, effects);
            }
            Record::Condition { now, condition } => {
                self.now = self.now.max(*now);
                self.report(seq, condition, effects);
            }
        }
    }

    /// Applies a record that an earlier run had admitted: the deduplication memory learns it too.
    pub fn reapply(&mut self, seq: Seq, record: &Record, effects: &mut Effects) {
        self.remember_record(record);
        self.apply(seq, record, effects);
    }

    /// Puts a record that is covered by a checkpoint into the deduplication memory only.
    pub fn remember_record(&mut self, record: &Record) {
        match record {
            Record::Payments { now, payments } => {
                self.seen.rotate(*now);
                payments.iter().for_each(|admitted| self.readmit(admitted));
            }
            Record::Tasks { tasks, .. } => {
                for (agent, task) in tasks {
                    let key = self.seen.task_key(agent, &task.id);
                    self.seen.put(key, agent, Status::Confirmed, 0);
                }
            }
            Record::Tick { .. }
            | Record::Generation { .. }
            | Record::Action { .. }
            | Record::Condition { .. } => {}
        }
    }

    /// Has what is known of a payment's agent fetched from memory, so that it is near when its turn comes; returns its
    /// slot.
    fn touch(&self, admitted: &Admitted) -> Option<usize> {
        let slot = self.subjects.agent_slot(admitted.payment.agent.as_ref()?)?;
        let kept = self.subjects.row(slot).map(|row| &row.kept);
        std::hint::black_box(kept.map(|kept| (kept.clock, kept.wake_at, kept.score, kept.usual.warm)));
        self.columns.iter().for_each(|column| column.touch(slot));
        Some(slot)
    }

    /// The slot of an agent, which it gets now if it had none.
    fn slot_of(&mut self, agent: &AgentId) -> usize {
        let known = self.subjects.agent_slot(agent);
        known.unwrap_or_else(|| self.insert(Subject::Agent(agent.clone()), Kept::default()))
    }

    fn apply_payment(&mut self, seq: Seq, slot: Option<usize>, admitted: &Admitted, effects: &mut Effects) {
        let payment = &admitted.payment;
        let Some(agent) = &payment.agent else { return };
        let slot = slot.unwrap_or_else(|| self.slot_of(agent));
        self.now = self.now.max(payment.observed_at);
        self.save_early(slot);
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let booking = row.kept.ledger.book(admitted);
        let team = row.profile.team.clone();
        self.observe(slot, payment, booking, Scope { agents: true, teams: false, fleet: false });
        self.evaluate(slot, seq, Some((payment, booking)), effects);
        if let Some(team) = team {
            let team = Subject::Team(team);
            let slot = self.subjects.slot(&team).unwrap_or_else(|| self.insert(team, Kept::default()));
            self.observe_group(slot, payment, booking, Scope { agents: false, teams: true, fleet: false });
            self.evaluate(slot, seq, Some((payment, booking)), effects);
        }
        if let Some(slot) = self.subjects.slot(&Subject::Fleet) {
            self.observe_group(slot, payment, booking, Scope { agents: false, teams: false, fleet: true });
            let look_at = self.now.after(FLEET_EVERY);
            if self.subjects.row(slot).is_some_and(|row| row.kept.wake_at > look_at) {
                self.subjects.wake(slot, look_at);
            }
        }
    }

    /// Counts a finished task; it moves no money and is no evidence.
    fn count_task(&mut self, agent: &AgentId, task: &TaskReport) {
        let slot = self.slot_of(agent);
        self.save_early(slot);
        self.subjects.touch(slot);
        if let Some(row) = self.subjects.row_mut(slot) {
            row.kept.ledger.totals.tasks += 1;
            row.kept.ledger.totals.tasks_failed += u64::from(task.failed);
        }
    }

    fn observe_group(&mut self, slot: usize, payment: &Payment, booking: Booking, scope: Scope) {
        self.save_early(slot);
        if let Some(row) = self.subjects.row_mut(slot) {
            ledger::add(&mut row.kept.ledger.totals, &booking);
        }
        self.observe(slot, payment, booking, scope);
    }

    /// Shows a booked payment to the detectors of a subject.
    fn observe(&mut self, slot: usize, payment: &Payment, booking: Booking, scope: Scope) {
        self.subjects.touch(slot);
        self.warm_up(slot);
        let now = self.now;
        let need = self.rules.need();
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let kept = &mut row.kept;
        let at = payment.occurred_at.min(payment.observed_at.max(now).after(SKEW_MAX)).max(Timestamp::EPOCH);
        let late = kept.clock > at.after(LATE_AFTER);
        if kept.born_at == Timestamp::EPOCH {
            kept.born_at = at;
        }
        self.late += u64::from(late && scope.agents);
        kept.clock = kept.clock.max(at);
        kept.last_at = now;
        let seen = Observation { payment, booking, at, late };
        if (scope.agents || need.groups) && !need.longest.is_zero() {
            kept.history.get_or_insert_default().observe(&seen, need.longest);
        }
        let mut wake_at = kept.wake_at;
        let lived_at = if now.since(kept.clock) > HISTORY_AFTER { kept.clock } else { now };
        for column in &mut self.columns {
            if !overlaps(column.scope(), scope) {
                continue;
            }
            let row = ColumnRow {
                slot,
                now: lived_at,
                clock: kept.clock,
                subject: &row.subject,
                profile: &row.profile,
                usual: &mut kept.usual,
                wake_at: &mut wake_at,
            };
            column.observe(row, &seen);
        }
        self.subjects.wake(slot, wake_at);
    }

    /// Wakes the subjects whose time has come.
    fn tick(&mut self, seq: Seq, effects: &mut Effects) {
        let now = self.now;
        self.end_silences(|silence| now >= silence.until);
        self.pass_freezes(effects);
        self.warm_some();
        for slot in self.subjects.due(now) {
            self.save_early(slot);
            self.subjects.touch(slot);
            self.warm_up(slot);
            let Some(row) = self.subjects.row_mut(slot) else { continue };
            let scope = scope_of(&row.subject);
            let kept = &mut row.kept;
            let mut wake_at = Timestamp::MAX;
            kept.wake_at = Timestamp::MAX;
            if let Some(history) = &mut kept.history {
                history.advance(now);
            }
            for column in &mut self.columns {
                if overlaps(column.scope(), scope) {
                    let clock = kept.clock;
                    let (subject, profile, usual) = (&row.subject, &row.profile, &mut kept.usual);
                    column.tick(ColumnRow {
                        slot,
                        now,
                        clock,
                        subject,
                        profile,
                        usual,
                        wake_at: &mut wake_at,
                    });
                }
            }
            // A detector that wishes for the past is woken with the next tick, not in an endless loop.
            self.subjects.wake(slot, wake_at.max(now.after(Duration::from_secs(1))));
            self.evaluate(slot, seq, None, effects);
        }
    }

    /// Collects a subject's signals, scores them, asks the rules, and lets the alerts live on.
    pub(crate) fn evaluate(
        &mut self,
        slot: usize,
        seq: Seq,
        in_hand: Option<(&Payment, Booking)>,
        effects: &mut Effects,
    ) {
        let is_calm = self.is_calm(slot);
        let Some(row) = self.subjects.row_mut(slot) else { return };
        let scope = scope_of(&row.subject);
        let is_ruled = scope.agents || self.rules.need().groups;
        let has_rules = is_ruled && !self.rules.rules().is_empty();
        if is_calm && !has_rules {
            row.kept.score = 0.0;
            row.kept.notes.clear();
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut notes = std::mem::take(&mut row.kept.notes);
        let Some(row) = self.subjects.row(slot) else { return };
        let at = in_hand.map_or(self.now, |(payment, _)| payment.occurred_at.min(self.now.after(SKEW_MAX)));
        let look = self.look(row);
        let ask = |signals: &mut Vec<Signal>| collect(&self.columns, slot, look, signals);
        scratch.signals.clear();
        scratch.firings.clear();
        if !is_calm {
            ask(&mut scratch.signals);
        }
        let mut score = Score::default();
        if is_ruled {
            let empty = History::default();
            let history: &dyn HistoryView = row.kept.history.as_deref().unwrap_or(&empty);
            let payment = in_hand.map(|(payment, _)| payment);
            let seen = Seen { now: self.now, at, row, payment, history };
            let mut scored = |case: &Case<'_>| {
                self.scorer.score(case).unwrap_or_else(|_| {
                    self.score_errors += 1;
                    strongest(&case.signals)
                })
            };
            if scope.agents && !is_calm {
                score = scored(&seen.case(Signals::known(&scratch.signals), 0.0));
                scratch.signals.extend(review(&self.settings, &score, &scratch.signals));
            }
            let known = if is_calm { Signals::ask_quiet(&ask) } else { Signals::known(&scratch.signals) };
            let case = seen.case(known, score.value);
            fill_states(self.rules.rules(), &mut notes, &mut scratch.states);
            self.rules.evaluate(&case, &mut scratch.states, &mut scratch.firings);
            keep_states(self.rules.rules(), &mut scratch.states, &mut notes);
            if scope.agents && is_calm && !scratch.firings.is_empty() {
                // It is zero; the alert shows what it is made of.
                score = scored(&case);
            }
        }
        if is_calm && scratch.firings.is_empty() {
            if let Some(row) = self.subjects.row_mut(slot) {
                row.kept.score = 0.0;
                row.kept.notes = notes;
            }
            self.scratch = scratch;
            return;
        }
        let opinions = opinions(self, row, &scratch.signals, &scratch.firings, at);
        let (settings, now, generation) = (&self.settings, self.now, self.generation);
        let hushes = Hushes { silences: &self.silences, settings, inhibitors: &self.inhibitors };
        let Some(row) = self.subjects.row_mut(slot) else { return };
        row.kept.score = score.value;
        row.kept.notes = notes;
        if row.kept.book.is_some() || !opinions.is_empty() {
            let book = row.kept.book.get_or_insert_default();
            let before = book.incident().cloned();
            let moment = Moment {
                now,
                at,
                seq,
                generation,
                settings,
                whom: Whom { subject: &row.subject, profile: &row.profile },
                hushes,
                payment: in_hand.map(|(payment, booking)| (payment, booking.committed)),
                score: score.value,
                contributions: &score.contributions,
            };
            book.update(&moment, &opinions, effects);
            let after = book.incident().cloned();
            let wake_at = row.kept.wake_at.min(book.deadline(settings, now));
            if book.is_empty() {
                row.kept.book = None;
            }
            self.subjects.wake(slot, wake_at);
            drop(opinions);
            self.index_incident(slot, before, after);
        }
        self.scratch = scratch;
    }

    /// True if nothing could come of evaluating the subject, but for what rules make of it: no detector has anything to
    /// say, nothing is open or held, and the scorer does not look at quiet signals. Most payments are such.
    fn is_calm(&self, slot: usize) -> bool {
        let Some(row) = self.subjects.row(slot) else { return true };
        let scope = scope_of(&row.subject);
        let look = self.look(row);
        let mut columns = self.columns.iter().filter(|column| overlaps(column.scope(), scope));
        let is_clear = row.kept.book.is_none() && row.kept.conditions.is_empty();
        is_clear
            && (!scope.agents || self.scorer.ignores_quiet())
            && columns.all(|column| column.quiet(slot, look))
    }

    /// Asks the detectors of a subject what they think now.
    pub(crate) fn collect_signals(&self, slot: usize, signals: &mut Vec<Signal>) {
        signals.clear();
        if let Some(row) = self.subjects.row(slot) {
            collect(&self.columns, slot, self.look(row), signals);
        }
    }

    fn look<'a>(&self, row: &'a Row) -> Look<'a> {
        Look { now: self.now, subject: &row.subject, profile: &row.profile, usual: &row.kept.usual }
    }
}

/// What a scorer or a rule is shown of a subject, but for the signals.
#[derive(Clone, Copy)]
struct Seen<'a> {
    now: Timestamp,
    at: Timestamp,
    row: &'a Row,
    payment: Option<&'a Payment>,
    history: &'a dyn HistoryView,
}

impl<'a> Seen<'a> {
    fn case<'b>(&self, signals: Signals<'b>, score: f64) -> Case<'b>
    where
        'a: 'b,
    {
        let Self { now, at, row, payment, history } = *self;
        Case { now, at, subject: &row.subject, payment, signals, score, profile: &row.profile, history }
    }
}

/// The score as a signal of its own: above the threshold a person looks at it.
fn review(settings: &Settings, score: &Score, signals: &[Signal]) -> Option<Signal> {
    let verdict = match score.value {
        value if value > settings.review_above => Verdict::Firing,
        value if value > settings.review_close_below => Verdict::Raised,
        _ => return None,
    };
    let strongest = signals.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
    let mut review = Signal::usual(SignalKind::Review, Unit::Probability);
    review.verdict = verdict;
    review.value = score.value;
    review.usual = settings.review_above;
    review.probability = score.value;
    if let Some(signal) = strongest {
        review.evidence = signal.evidence;
        review.since = signal.since;
        review.excess = signal.excess;
        review.about.clone_from(&signal.about);
        review.basis = signal.basis;
    }
    Some(review)
}

/// Appends what the detectors of a subject think now.
fn collect(columns: &[Box<dyn Column>], slot: usize, look: Look<'_>, signals: &mut Vec<Signal>) {
    let scope = scope_of(look.subject);
    for column in columns.iter().filter(|column| overlaps(column.scope(), scope)) {
        column.signals(slot, look, signals);
    }
}

/// What every trigger that is not quiet says.
fn opinions<'a>(
    engine: &Engine,
    row: &Row,
    signals: &'a [Signal],
    firings: &[Firing],
    at: Timestamp,
) -> Vec<Opinion<'a>> {
    let mut opinions = Vec::new();
    for signal in signals {
        let level = match signal.verdict {
            Verdict::Firing => Level::Firing,
            // Only worth saying if something is open that it keeps open.
            Verdict::Raised if row.kept.book.is_some() => Level::Raised,
            Verdict::Raised | Verdict::Usual | Verdict::Learning => continue,
        };
        opinions.push(Opinion {
            trigger: Trigger::Signal(signal.kind.clone()),
            level,
            severity: engine.settings.severity(at_risk(signal)),
            summary: match level {
                Level::Firing => railwatch_plugin::explain::explain(signal, &row.subject, at),
                Level::Raised => String::new(),
            },
            signal: Some(signal),
            hold: Duration::ZERO,
            clear_after: engine.settings.clear_after,
            shadow: false,
        });
    }
    opinions.extend(conditions(&row.kept.conditions));
    for firing in firings {
        let Some(rule) = engine.rules.rules().get(firing.rule) else { continue };
        opinions.push(Opinion {
            trigger: Trigger::Rule(rule.id.clone()),
            level: Level::Firing,
            severity: rule.severity,
            summary: firing.why.clone(),
            signal: None,
            hold: rule.hold,
            clear_after: rule.clear_after,
            shadow: rule.shadow,
        });
    }
    opinions
}

/// The money at risk: what was lost so far, and what the next hour costs if nobody acts.
fn at_risk(signal: &Signal) -> Usd {
    let per_hour = match signal.unit {
        Unit::UsdPerHour => signal.value - signal.usual,
        Unit::UsdPerDay => (signal.value - signal.usual) / 24.0,
        Unit::Usd => signal.value,
        Unit::Share | Unit::PercentPerDay | Unit::Probability | Unit::Payments | Unit::Days => {
            signal.fact("usd_per_hour").unwrap_or(0.0)
        }
    };
    let cents = (per_hour.max(0.0) * 100.0).min(1e15);
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the line above")]
    let next_hour = Usd::from_cents(cents as i64);
    signal.excess.plus(next_hour)
}

/// The score when the configured scorer fails: the most probable signal alone.
fn strongest(signals: &[Signal]) -> Score {
    let strongest = signals.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
    let Some(signal) = strongest else { return Score::default() };
    let points = signal.probability.clamp(0.0, 1.0);
    let name = SmolStr::new(signal.kind.as_str());
    Score { value: points, contributions: vec![Contribution { name, points }] }
}

fn scope_of(subject: &Subject) -> Scope {
    Scope {
        agents: matches!(subject, Subject::Agent(_)),
        teams: matches!(subject, Subject::Team(_)),
        fleet: matches!(subject, Subject::Fleet),
    }
}

fn overlaps(a: Scope, b: Scope) -> bool {
    (a.agents && b.agents) || (a.teams && b.teams) || (a.fleet && b.fleet)
}

type Notes = Vec<(SmolStr, RuleState)>;

/// Hands each rule its notes. Those of rules that are gone stay behind, and are dropped by [`keep_states`].
fn fill_states(rules: &[RuleInfo], notes: &mut Notes, states: &mut Vec<RuleState>) {
    states.resize_with(rules.len(), RuleState::new);
    if notes.is_empty() {
        return;
    }
    for (rule, state) in rules.iter().zip(states) {
        if let Some((_, note)) = notes.iter_mut().find(|(id, _)| *id == rule.id) {
            *state = std::mem::take(note);
        }
    }
}

/// Takes the notes back.
fn keep_states(rules: &[RuleInfo], states: &mut [RuleState], notes: &mut Notes) {
    notes.clear();
    let used = rules.iter().zip(states).filter(|(_, state)| !state.is_empty());
    notes.extend(used.map(|(rule, state)| (rule.id.clone(), std::mem::take(state))));
}
