//! A notice as data, for files and machines: the model's own JSON, with every outsider's text bounded.

use std::borrow::Cow;

use railwatch_model::{Alert, Notice, SmolStr};

/// Alerts that a payload carries.
const ALERTS_MAX: usize = 50;
/// Characters of a sentence or a note in a payload.
const TEXT_CHARS_MAX: usize = 2000;

/// The notice's JSON: the shape of [`Notice`], at most about 300 kB. Long texts end in `…`; where alerts are left
/// out, the headline ends in `(+N more alerts)`.
pub(crate) fn json(notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&bounded(notice))
}

fn bounded(notice: &Notice) -> Cow<'_, Notice> {
    let is_long = |text: &str| text.len() > TEXT_CHARS_MAX;
    let fits = notice.alerts.len() <= ALERTS_MAX
        && !is_long(&notice.headline)
        && notice
            .alerts
            .iter()
            .all(|alert| !is_long(&alert.summary) && !alert.note.as_deref().is_some_and(is_long));
    if fits {
        return Cow::Borrowed(notice);
    }
    let left_out = notice.alerts.len().saturating_sub(ALERTS_MAX);
    let mut headline = cut(&notice.headline);
    if left_out > 0 {
        headline.push_str(&format!(" (+{left_out} more alerts)"));
    }
    let alerts = notice.alerts.iter().take(ALERTS_MAX).map(cut_alert).collect();
    Cow::Owned(Notice { headline, alerts, ..notice.clone() })
}

fn cut_alert(alert: &Alert) -> Alert {
    let note = alert.note.as_deref().map(|note| SmolStr::from(cut(note)));
    Alert { summary: cut(&alert.summary), note, ..alert.clone() }
}

fn cut(text: &str) -> String {
    crate::text::fit(text, TEXT_CHARS_MAX, crate::text::plain_char)
}

#[cfg(test)]
mod tests {
    use railwatch_model::Occasion;

    use super::*;
    use crate::testing::{OCCASIONS, hostile, notice};

    #[test]
    fn every_occasion_has_its_json() {
        for (occasion, name) in OCCASIONS {
            let value: serde_json::Value = serde_json::from_slice(&json(&notice(occasion)).unwrap()).unwrap();
            insta::assert_json_snapshot!(format!("payload_{name}"), value);
        }
    }

    #[test]
    fn an_ordinary_notice_is_the_models_own_json() {
        let notice = notice(Occasion::Worsened);
        let back: Notice = serde_json::from_slice(&json(&notice).unwrap()).unwrap();
        assert_eq!(back, notice);
    }

    #[test]
    fn a_huge_notice_is_cut_and_says_so() {
        let mut notice = hostile();
        notice.alerts = vec![notice.alerts[0].clone(); 300];
        let bytes = json(&notice).unwrap();
        assert!(bytes.len() < 1_000_000, "{}", bytes.len());
        let back: Notice = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(back.alerts.len(), ALERTS_MAX);
        assert!(back.headline.ends_with("… (+250 more alerts)"));
        assert!(back.alerts[0].summary.ends_with('…'));
    }
}
