//! What labels say about a threshold: where it would have to stand for noise to stay away, and what that would have
//! cost.

use railwatch_model::{Alert, ReviewVerdict, SignalKind, Trigger};
use railwatch_store::Labelled;
use schemars::JsonSchema;
use serde::Serialize;

/// Labels below which a suggestion would be a guess.
const LABELS_MIN: usize = 5;
/// Thresholds that a suggestion lists.
const STEPS_MAX: usize = 12;

/// A suggestion for one trigger.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Tuning {
    /// The trigger.
    pub(crate) trigger: String,
    /// What is compared with the threshold.
    pub(crate) measure: &'static str,
    /// The key of the configuration that sets it, if it is one.
    pub(crate) key: Option<String>,
    /// Labelled alerts in which something was wrong.
    pub(crate) real: usize,
    /// Labelled alerts in which nothing was wrong, or that were expected.
    pub(crate) noise: usize,
    /// The threshold that keeps every real alert and the least noise; `None` if none keeps any noise away.
    pub(crate) suggested: Option<f64>,
    /// What thresholds would have kept, lowest first.
    pub(crate) steps: Vec<Step>,
}

/// What one threshold would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Step {
    /// The threshold: alerts at or above it stay.
    pub(crate) threshold: f64,
    /// Real alerts that stay.
    pub(crate) real: usize,
    /// Noise that stays.
    pub(crate) noise: usize,
}

/// What is compared for a trigger: its name, the key that sets it, and its value for an alert.
type Measure = (&'static str, Option<&'static str>, fn(&Alert) -> Option<f64>);

fn measure(trigger: &str) -> Measure {
    let ratio: fn(&Alert) -> Option<f64> = |alert| alert.signal.as_ref().map(|signal| signal.ratio());
    let value: fn(&Alert) -> Option<f64> = |alert| alert.signal.as_ref().map(|signal| signal.value);
    match SignalKind::from_name(trigger) {
        SignalKind::Review => ("score", Some("score.review_threshold"), |alert| Some(alert.score)),
        SignalKind::RailShift => ("share", None, value),
        SignalKind::Velocity | SignalKind::Drift | SignalKind::Price | SignalKind::Duplicate => {
            ("times the usual", None, ratio)
        }
        _ => ("dollars since the onset", None, |alert| Some(alert.spent_since_onset.dollars())),
    }
}

/// Suggests a threshold for a trigger from its labelled alerts.
pub(crate) fn suggest(trigger: &str, labelled: &[Labelled]) -> Result<Tuning, String> {
    let (measure, key, value) = measure(trigger);
    let is_of = |alert: &Alert| match &alert.trigger {
        Trigger::Signal(kind) => kind.as_str() == trigger,
        Trigger::Rule(id) => id == trigger || format!("rule:{id}") == trigger,
    };
    let points: Vec<(f64, bool)> = labelled
        .iter()
        .filter(|labelled| is_of(&labelled.alert))
        .filter_map(|labelled| {
            let is_real = labelled.label.verdict == ReviewVerdict::TruePositive;
            Some((value(&labelled.alert).filter(|value| value.is_finite())?, is_real))
        })
        .collect();
    if points.len() < LABELS_MIN {
        return Err(format!(
            "{trigger} has {} labelled alerts and a suggestion needs {LABELS_MIN}; label some with `railwatch review \
             label ALERT true-positive|false-positive|expected`",
            points.len()
        ));
    }
    let at = |threshold: f64| {
        let kept = |real: bool| points.iter().filter(|point| point.0 >= threshold && point.1 == real).count();
        Step { threshold, real: kept(true), noise: kept(false) }
    };
    let mut values: Vec<f64> = points.iter().map(|point| point.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let all = at(f64::NEG_INFINITY);
    let lowest_real = points.iter().filter(|point| point.1).map(|point| point.0).min_by(f64::total_cmp);
    let suggested = lowest_real.filter(|threshold| at(*threshold).noise < all.noise);
    let stride = values.len().div_ceil(STEPS_MAX).max(1);
    let mut steps: Vec<Step> = values.iter().step_by(stride).map(|value| at(*value)).collect();
    if let Some(threshold) = suggested.filter(|one| steps.iter().all(|step| step.threshold != *one)) {
        let place = steps.partition_point(|step| step.threshold < threshold);
        steps.insert(place, at(threshold));
    }
    Ok(Tuning {
        trigger: trigger.to_owned(),
        measure,
        key: key.map(str::to_owned),
        real: all.real,
        noise: all.noise,
        suggested,
        steps,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use railwatch_model::{
        AgentId, AlertId, AlertState, IncidentId, Severity, Signal, SmolStr, Subject, Timestamp, Unit, Usd,
    };
    use railwatch_store::Labelling;

    use super::*;

    /// An alert of this trigger and this many times its usual.
    pub(crate) fn alert(id: &str, kind: SignalKind, times: f64) -> Alert {
        let mut signal = Signal::usual(kind.clone(), Unit::UsdPerHour);
        (signal.value, signal.usual) = (times, 1.0);
        let at = Timestamp::from_secs(1_767_225_600);
        Alert {
            id: AlertId(id.into()),
            incident: IncidentId("i".into()),
            subject: Subject::Agent(AgentId::new("a1").unwrap()),
            team: None,
            labels: Vec::new(),
            trigger: Trigger::Signal(kind),
            state: AlertState::Resolved,
            severity: Severity::High,
            summary: "a1 spends a lot".into(),
            signal: Some(signal),
            score: times / 10.0,
            contributions: Vec::new(),
            spent_since_onset: Usd::from_cents(100),
            payments: Vec::new(),
            times_seen: 1,
            silenced_by: None,
            onset_at: at,
            opened_at: at,
            updated_at: at,
            resolved_at: Some(at),
            acknowledged_by: None,
            note: None,
            freeze: None,
            generation: 1,
            opened_seq: 1,
        }
    }

    fn labelled(points: &[(f64, ReviewVerdict)]) -> Vec<Labelled> {
        let one = |(n, (times, verdict)): (usize, &(f64, ReviewVerdict))| {
            let alert = alert(&format!("a-{n}"), SignalKind::Velocity, *times);
            let (at, by) = (Timestamp::EPOCH, SmolStr::new("ana"));
            Labelled {
                label: Labelling { alert: alert.id.clone(), at, by, verdict: *verdict, note: None },
                alert,
            }
        };
        points.iter().enumerate().map(one).collect()
    }

    use ReviewVerdict::{Expected, FalsePositive, TruePositive};

    #[test]
    fn the_threshold_keeps_what_was_real_and_as_little_noise_as_can_be() {
        let points = [
            (3.1, FalsePositive),
            (3.5, FalsePositive),
            (4.0, Expected),
            (6.0, TruePositive),
            (5.0, TruePositive),
        ];
        let tuning = suggest("velocity", &labelled(&points)).unwrap();
        assert_eq!((tuning.real, tuning.noise, tuning.suggested), (2, 3, Some(5.0)));
        let step = tuning.steps.iter().find(|step| step.threshold == 5.0).unwrap();
        assert_eq!((step.real, step.noise), (2, 0));
    }

    #[test]
    fn nothing_is_suggested_where_noise_is_louder_or_little_is_known() {
        let points = [
            (3.0, TruePositive),
            (9.0, FalsePositive),
            (8.0, FalsePositive),
            (4.0, TruePositive),
            (7.0, Expected),
        ];
        assert_eq!(suggest("velocity", &labelled(&points)).unwrap().suggested, None);
        let error = suggest("velocity", &labelled(&points[..4])).unwrap_err();
        assert!(error.contains("4 labelled alerts"), "{error}");
        assert!(suggest("drift", &labelled(&points)).is_err(), "labels of another trigger say nothing");
    }

    #[test]
    fn the_suggestion_is_among_the_listed_thresholds() {
        let points: Vec<(f64, ReviewVerdict)> =
            (0..200).map(|n| (f64::from(n), if n < 77 { FalsePositive } else { TruePositive })).collect();
        let tuning = suggest("velocity", &labelled(&points)).unwrap();
        assert_eq!(tuning.suggested, Some(77.0));
        assert!(tuning.steps.len() <= STEPS_MAX + 1);
        assert!(
            tuning.steps.iter().any(|step| step.threshold == 77.0 && step.noise == 0 && step.real == 123)
        );
    }
}
