//! railwatch's own numbers, for Prometheus. Names are `railwatch_*`; "filtered", "rejected", "duplicate" and "lost" are
//! different counters, and "lost" does not exist because nothing may ever be.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use railwatch_engine::Effects;
use railwatch_model::SmolStr;
use railwatch_script::{Health, ScriptStatus};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabel {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SinkLabel {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DigestLabel {
    digest: String,
}

/// One source's counters.
#[derive(Debug, Clone)]
pub(crate) struct SourceCounters {
    pub(crate) received: Counter,
    pub(crate) accepted: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) enriched: Counter,
    pub(crate) filtered: Counter,
    pub(crate) rejected: Counter,
    pub(crate) restarts: Counter,
}

/// One sink's counters.
#[derive(Debug, Clone)]
pub(crate) struct SinkCounters {
    pub(crate) messages: Counter,
    pub(crate) sent: Counter,
    pub(crate) retried: Counter,
    pub(crate) dead: Counter,
    pub(crate) unknown: Counter,
    pub(crate) seconds: Histogram,
}

type BySource = Family<SourceLabel, Counter>;
type BySink = Family<SinkLabel, Counter>;
type SinkSeconds = Family<SinkLabel, Histogram>;

/// All numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    received: BySource,
    accepted: BySource,
    duplicates: BySource,
    enriched: BySource,
    filtered: BySource,
    rejected: BySource,
    restarts: BySource,
    messages: BySink,
    sent: BySink,
    retried: BySink,
    dead: BySink,
    unknown: BySink,
    sink_seconds: SinkSeconds,
    by_source: Mutex<HashMap<SmolStr, SourceCounters>>,
    pub(crate) applied: Counter,
    pub(crate) late: Counter,
    pub(crate) unmapped: Counter,
    pub(crate) unpriced: Counter,
    pub(crate) alerts_changed: Counter,
    pub(crate) notices: Counter,
    pub(crate) shadow_firings: Counter,
    pub(crate) view_skipped: Counter,
    pub(crate) subjects: Gauge,
    pub(crate) seen: Gauge,
    pub(crate) evicted: Counter,
    pub(crate) journal_seq: Gauge,
    pub(crate) checkpoints: Counter,
    pub(crate) store_healthy: Gauge,
    pub(crate) store_errors: Counter,
    pub(crate) store_free_bytes: Gauge,
    generation: Gauge,
    info: Family<DigestLabel, Gauge>,
    pause: Gauge<f64, AtomicU64>,
    pub(crate) reloads_ok: Counter,
    pub(crate) reloads_failed: Counter,
    /// 1 while the last attempt has failed.
    pub(crate) reload_failing: Gauge,
    scripts_quarantined: Gauge,
    script_errors: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("railwatch");
        let metrics = Self {
            received: register(&mut registry, "payments_received", "Payments that a source decoded"),
            accepted: register(&mut registry, "payments_accepted", "Payments that were news"),
            duplicates: register(&mut registry, "payments_duplicate", "Reports that were accepted before"),
            enriched: register(&mut registry, "payments_enriched", "Second views of a counted purchase"),
            filtered: register(
                &mut registry,
                "payments_filtered",
                "Parts that configuration or rail leave out",
            ),
            rejected: register(&mut registry, "payments_rejected", "Parts that were not understood"),
            restarts: register(&mut registry, "source_restarts", "Times that a source was started again"),
            messages: register(
                &mut registry,
                "messages_sent",
                "Messages that a sink has taken; each tells one or more notices",
            ),
            sent: register(&mut registry, "notices_sent", "Notices that a sink has taken"),
            retried: register(&mut registry, "notices_retried", "Attempts that will be repeated"),
            dead: register(&mut registry, "notices_dead", "Notices that were given up"),
            unknown: register(
                &mut registry,
                "notices_unknown",
                "Notices that may have arrived twice or not at all",
            ),
            sink_seconds: sink_seconds(&mut registry),
            by_source: Mutex::default(),
            applied: register(&mut registry, "payments_applied", "Payments that are durable and judged"),
            late: register(
                &mut registry,
                "payments_late",
                "Payments that came too late to be evidence of now",
            ),
            unmapped: register(
                &mut registry,
                "payments_unmapped",
                "Payments of spenders that no agent claims",
            ),
            unpriced: register(&mut registry, "payments_unpriced", "Payments without a known dollar value"),
            alerts_changed: register(&mut registry, "alert_changes", "Changes of alerts"),
            notices: register(&mut registry, "notices", "Notices that the engine asked for"),
            shadow_firings: register(&mut registry, "shadow_firings", "Firings of rules that run in shadow"),
            view_skipped: register(
                &mut registry,
                "view_payments_skipped",
                "Payments that the charts of the live view miss; nothing else does",
            ),
            subjects: register(&mut registry, "subjects", "Agents and teams in memory"),
            seen: register(&mut registry, "dedup_entries", "Entries in the deduplication memory"),
            evicted: register(&mut registry, "subjects_evicted", "Idle agents that left memory"),
            journal_seq: register(&mut registry, "journal_seq", "The last applied journal position"),
            checkpoints: register(&mut registry, "checkpoints", "Completed checkpoints"),
            store_healthy: register(&mut registry, "store_healthy", "1 while the store can be written"),
            store_errors: register(&mut registry, "store_errors", "Failed store operations"),
            store_free_bytes: register(
                &mut registry,
                "store_free_bytes",
                "Bytes left on the disk of the store",
            ),
            generation: register(&mut registry, "config_generation", "The configuration generation in force"),
            info: register(&mut registry, "config_info", "The digest of the configuration in force"),
            pause: register(
                &mut registry,
                "reload_pause_seconds",
                "How long the engine stood still for the last reload",
            ),
            reloads_ok: register(&mut registry, "reloads_ok", "Reloads that took effect"),
            reloads_failed: register(
                &mut registry,
                "reloads_failed",
                "Reloads that changed nothing because of an error",
            ),
            reload_failing: register(
                &mut registry,
                "reload_failing",
                "1 while the files cannot be put in force because the last reload failed",
            ),
            scripts_quarantined: register(
                &mut registry,
                "scripts_quarantined",
                "Scripts in force that are not called any more because they kept failing",
            ),
            script_errors: register(
                &mut registry,
                "script_errors",
                "Failed calls of the scripts in force, since each was loaded",
            ),
            registry,
        };
        metrics.store_healthy.set(1);
        metrics
    }

    /// The counters of one source.
    pub(crate) fn source(&self, name: &SmolStr) -> SourceCounters {
        let mut by_source = self.by_source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let make = || {
            let label = SourceLabel { source: name.to_string() };
            let counter = |family: &BySource| family.get_or_create(&label).clone();
            SourceCounters {
                received: counter(&self.received),
                accepted: counter(&self.accepted),
                duplicates: counter(&self.duplicates),
                enriched: counter(&self.enriched),
                filtered: counter(&self.filtered),
                rejected: counter(&self.rejected),
                restarts: counter(&self.restarts),
            }
        };
        by_source.entry(name.clone()).or_insert_with(make).clone()
    }

    /// The counters of one sink.
    pub(crate) fn sink(&self, name: &str) -> SinkCounters {
        let label = SinkLabel { sink: name.to_owned() };
        let counter = |family: &BySink| family.get_or_create(&label).clone();
        SinkCounters {
            messages: counter(&self.messages),
            sent: counter(&self.sent),
            retried: counter(&self.retried),
            dead: counter(&self.dead),
            unknown: counter(&self.unknown),
            seconds: self.sink_seconds.get_or_create(&label).clone(),
        }
    }

    /// A generation took its place.
    pub(crate) fn installed(&self, number: u64, digest: &str, pause: Duration) {
        self.began(number, digest);
        self.pause.set(pause.as_secs_f64());
    }

    /// A generation is in force.
    pub(crate) fn began(&self, number: u64, digest: &str) {
        self.generation.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.info.clear();
        self.info.get_or_create(&DigestLabel { digest: digest.to_owned() }).set(1);
    }

    /// How the scripts in force do.
    pub(crate) fn scripts(&self, scripts: &[ScriptStatus]) {
        let quarantined = scripts.iter().filter(|script| script.health == Health::Quarantined).count();
        let errors = scripts.iter().map(|script| script.errors).sum::<u64>();
        self.scripts_quarantined.set(i64::try_from(quarantined).unwrap_or(i64::MAX));
        self.script_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_effects(&self, effects: &Effects) {
        self.alerts_changed.inc_by(effects.alerts.len() as u64);
        self.notices.inc_by(effects.notices.len() as u64);
        self.shadow_firings.inc_by(effects.shadow.len() as u64);
    }

    /// Payments that were accepted, from all sources.
    pub(crate) fn accepted_total(&self) -> u64 {
        let by_source = self.by_source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_source.values().map(|counters| counters.accepted.get()).sum()
    }

    /// Payments that were accepted or recognized as repeats, from all sources.
    pub(crate) fn processed_total(&self) -> u64 {
        let by_source = self.by_source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_source.values().map(|counters| counters.duplicates.get()).sum::<u64>() + self.applied.get()
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

fn register<M: prometheus_client::registry::Metric + Default + Clone>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn sink_seconds(registry: &mut Registry) -> SinkSeconds {
    let seconds = SinkSeconds::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16)));
    let help = "From the change of an incident to the sink's receipt";
    registry.register_with_unit("notice_latency", help, Unit::Seconds, seconds.clone());
    seconds
}
