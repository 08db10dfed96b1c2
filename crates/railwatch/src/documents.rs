//! What programs are given, whichever way they ask: the command line with `--json`, or the API, whose description is
//! made from these types.

use std::collections::{BTreeMap, BTreeSet};

use railwatch_model::{AlertId, IncidentId, NoticeId, ReviewVerdict, SmolStr, Timestamp};
use railwatch_store::{AuditEntry, Generation, LabelCounts, Labelling, OutboxEntry, Reject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

/// A notice on its way to a sink.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OutboxRow {
    /// Its number, to retry or drop it.
    pub(crate) id: i64,
    /// Where it is: `queued`, `sending`, `sent`, `unknown` (nobody knows whether it arrived), `retry`, `dead`, ...
    pub(crate) state: &'static str,
    /// The sink that delivers it.
    pub(crate) sink: SmolStr,
    /// The notice.
    pub(crate) notice: NoticeId,
    /// The incident that it is about.
    pub(crate) incident: IncidentId,
    /// Why it is sent.
    pub(crate) occasion: SmolStr,
    /// Attempts that began.
    pub(crate) attempts: u32,
    /// Attempts of which nobody knows whether they arrived.
    pub(crate) doubts: u32,
    /// When it was queued.
    pub(crate) queued_at: Timestamp,
    /// When the next attempt is due.
    pub(crate) next_at: Timestamp,
    /// Why the last attempt failed.
    pub(crate) last_error: Option<String>,
}

impl OutboxRow {
    pub(crate) fn new(entry: &OutboxEntry) -> Self {
        Self {
            id: entry.id,
            state: entry.state.as_str(),
            sink: entry.sink.clone(),
            notice: entry.notice.clone(),
            incident: entry.incident.clone(),
            occasion: entry.occasion.clone(),
            attempts: entry.n_attempts,
            doubts: entry.n_doubts,
            queued_at: entry.queued_at,
            next_at: entry.next_at,
            last_error: entry.last_error.clone(),
        }
    }
}

/// A part of a message that was not understood.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RejectRow {
    /// When it was received.
    at: Timestamp,
    /// The configured source.
    source: SmolStr,
    /// The stable code of what is wrong.
    code: SmolStr,
    /// What is wrong, and where.
    detail: String,
    /// The beginning of the part; bytes that are not UTF-8 are replaced.
    raw: String,
}

impl RejectRow {
    pub(crate) fn new(reject: &Reject) -> Self {
        Self {
            at: reject.at,
            source: reject.source.clone(),
            code: reject.code.clone(),
            detail: reject.detail.clone(),
            raw: String::from_utf8_lossy(&reject.raw).into_owned(),
        }
    }
}

/// What a person said about an alert.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LabelRow {
    /// The alert.
    pub(crate) alert: AlertId,
    /// When.
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) by: SmolStr,
    /// What it was.
    pub(crate) verdict: ReviewVerdict,
    /// What to remember.
    pub(crate) note: Option<SmolStr>,
}

impl LabelRow {
    pub(crate) fn new(label: &Labelling) -> Self {
        Self {
            alert: label.alert.clone(),
            at: label.at,
            by: label.by.clone(),
            verdict: label.verdict,
            note: label.note.clone(),
        }
    }
}

/// How the alerts of one trigger were labelled.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PrecisionRow {
    /// The trigger's name.
    trigger: SmolStr,
    /// Something was wrong.
    true_positives: u64,
    /// Nothing was wrong.
    false_positives: u64,
    /// Unusual and intended.
    expected: u64,
    /// The share that a person was right to be told about.
    precision: Option<f64>,
}

impl PrecisionRow {
    pub(crate) fn new(counts: &LabelCounts) -> Self {
        Self {
            trigger: counts.trigger.clone(),
            true_positives: counts.true_positives,
            false_positives: counts.false_positives,
            expected: counts.expected,
            precision: counts.precision(),
        }
    }
}

/// What a reload starts and ends at the edges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct EdgesChanged {
    /// Sources that start.
    pub(crate) sources_started: Vec<SmolStr>,
    /// Sources that end.
    pub(crate) sources_ended: Vec<SmolStr>,
    /// Sinks that start.
    pub(crate) sinks_started: Vec<SmolStr>,
    /// Sinks that end.
    pub(crate) sinks_ended: Vec<SmolStr>,
}

impl EdgesChanged {
    /// What changed, by its name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &[SmolStr])> {
        let parts: [(_, &[SmolStr]); 4] = [
            ("sources started", &self.sources_started),
            ("sources ended", &self.sources_ended),
            ("sinks started", &self.sinks_started),
            ("sinks ended", &self.sinks_ended),
        ];
        parts.into_iter().filter(|(_, names)| !names.is_empty())
    }
}

/// What came of a reload.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub(crate) struct ReloadReport {
    /// The generation in force; `null` if the outcome was not waited for.
    pub(crate) generation: Option<u64>,
    /// True if it is a new one.
    pub(crate) changed: bool,
    /// What it started and ended.
    pub(crate) edges: EdgesChanged,
    /// The generation that was gone back to.
    pub(crate) content_of: Option<u64>,
}

/// A generation, or an attempt at one that failed and changed nothing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Attempt {
    /// Its number; `null` if it failed.
    pub(crate) generation: Option<u64>,
    /// When.
    pub(crate) at: Timestamp,
    /// Who did it: a name, `start`, or `watcher` for an edit.
    pub(crate) by: SmolStr,
    /// The hash of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<SmolStr>,
    /// What it started and ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edges: Option<EdgesChanged>,
    /// The diagnostics of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Attempt {
    /// Generations and failed attempts in one list, newest first.
    pub(crate) fn merge(generations: Vec<Generation>, failed: Vec<AuditEntry>, limit: u32) -> Vec<Self> {
        let mut attempts: Vec<Self> = generations.into_iter().map(Self::made).collect();
        attempts.extend(failed.into_iter().map(Self::failed));
        attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.at));
        attempts.truncate(limit as usize);
        attempts
    }

    pub(crate) fn made(generation: Generation) -> Self {
        let Generation { number, at, digest, outcome, .. } = generation;
        Self {
            generation: Some(number),
            at,
            by: outcome["by"].as_str().unwrap_or_default().into(),
            digest: Some(digest),
            edges: serde_json::from_value(outcome["edges"].clone()).ok(),
            error: None,
        }
    }

    fn failed(entry: AuditEntry) -> Self {
        let error = entry.detail["error"].as_str().unwrap_or_default().to_owned();
        Self { generation: None, at: entry.at, by: entry.by, digest: None, edges: None, error: Some(error) }
    }
}

/// A file of a configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigFile {
    /// Its path below the configuration's folder.
    pub(crate) path: String,
    /// What was in it.
    pub(crate) text: String,
}

/// How one file differs.
#[derive(Debug, Serialize)]
pub(crate) struct FileChange {
    /// The file.
    pub(crate) file: String,
    /// What was in it; `null` if it is new.
    pub(crate) before: Option<String>,
    /// What is in it; `null` if it is gone.
    pub(crate) after: Option<String>,
}

impl FileChange {
    /// As a unified diff; `old` and `new` say what is compared.
    pub(crate) fn unified(&self, old: &str, new: &str) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (before, after) = (text(&self.before), text(&self.after));
        let (old, new) = (format!("{old}: {}", self.file), format!("{new}: {}", self.file));
        let diff = TextDiff::from_lines(&before, &after);
        diff.unified_diff().context_radius(3).header(&old, &new).to_string()
    }
}

/// The texts that differ between two configurations, in the order of their names.
pub(crate) fn changes<'a>(
    old: impl Iterator<Item = (String, &'a str)>,
    new: impl Iterator<Item = (String, &'a str)>,
) -> Vec<FileChange> {
    let (mut old, mut new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.collect(), new.collect());
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let change = |file: String| {
        let (before, after) = (old.remove(&file), new.remove(&file));
        (before != after).then(|| FileChange {
            file,
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        })
    };
    names.into_iter().filter_map(change).collect()
}

/// What a rule or score in shadow would have told.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShadowRow {
    /// The rule.
    pub(crate) rule: String,
    /// How often it would have fired.
    pub(crate) firings: usize,
    /// About whom.
    pub(crate) subjects: BTreeSet<String>,
    /// The first time.
    pub(crate) first_at: Timestamp,
    /// The last time.
    pub(crate) last_at: Timestamp,
    /// About whom, the last time.
    pub(crate) last_subject: String,
    /// Why, the last time.
    pub(crate) last_why: String,
}

/// The firings of what runs in shadow by rule, as the audit has them: newest first.
pub(crate) fn by_rule(firings: Vec<AuditEntry>) -> BTreeMap<String, Vec<AuditEntry>> {
    let mut by_rule: BTreeMap<String, Vec<AuditEntry>> = BTreeMap::new();
    for firing in firings {
        by_rule.entry(firing.by.trim_start_matches("rule:").to_owned()).or_default().push(firing);
    }
    by_rule
}

impl ShadowRow {
    /// What one rule would have told; `None` if nothing.
    pub(crate) fn new(rule: &str, firings: &[AuditEntry]) -> Option<Self> {
        let (last, first) = (firings.first()?, firings.last()?);
        Some(Self {
            rule: rule.to_owned(),
            firings: firings.len(),
            subjects: firings.iter().map(|firing| firing.subject.clone()).collect(),
            first_at: first.at,
            last_at: last.at,
            last_subject: last.subject.clone(),
            last_why: last.detail.as_str().unwrap_or_default().to_owned(),
        })
    }
}
