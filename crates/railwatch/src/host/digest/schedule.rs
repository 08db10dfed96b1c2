//! The hours of digests, in their own time zones, across clocks that are put forward and back.

use chrono::{Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use railwatch_model::Timestamp;

use crate::config::{Digest, Every};

/// The last hour of a digest that is not after `now`.
pub(super) fn last_hour(digest: &Digest, tz: Tz, now: Timestamp) -> Option<Timestamp> {
    let today = now.to_utc().with_timezone(&tz).date_naive();
    let is_day = |date: &NaiveDate| {
        digest.every == Every::Day || date.weekday().num_days_from_monday() == digest.day as u32
    };
    let days = (0..9).filter_map(|back| today.checked_sub_days(Days::new(back)));
    days.filter(is_day).map(|date| instant(date, digest.at.0, tz)).find(|hour| *hour <= now)
}

/// The same local time a day or a week earlier.
pub(super) fn before(digest: &Digest, tz: Tz, hour: Timestamp) -> Timestamp {
    let local = hour.to_utc().with_timezone(&tz).naive_local();
    let days = if digest.every == Every::Day { 1 } else { 7 };
    local.checked_sub_days(Days::new(days)).map_or(hour, |earlier| resolve(earlier, tz))
}

fn instant(date: NaiveDate, minute: u16, tz: Tz) -> Timestamp {
    let time = NaiveTime::from_hms_opt(u32::from(minute / 60) % 24, u32::from(minute % 60), 0);
    resolve(date.and_time(time.unwrap_or(NaiveTime::MIN)), tz)
}

/// A local time that does not exist is an hour later; of two, it is the first.
fn resolve(local: NaiveDateTime, tz: Tz) -> Timestamp {
    let find = |local: &NaiveDateTime| match tz.from_local_datetime(local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Some(time.to_utc()),
        LocalResult::None => None,
    };
    let time = find(&local).or_else(|| find(&(local + TimeDelta::hours(1))));
    time.unwrap_or(local.and_utc()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        toml::from_str(&format!("name = \"d\"\nat = \"09:00\"\n{text}")).unwrap()
    }

    #[track_caller]
    fn check(text: &str, now: &str, hour: &str, from: &str) {
        let (digest, tz) = (digest(text), chrono_tz::Europe::Berlin);
        let last = last_hour(&digest, tz, Timestamp::parse(now).unwrap()).unwrap();
        assert_eq!(last.to_string(), hour);
        assert_eq!(before(&digest, tz, last).to_string(), from);
    }

    #[test]
    fn hours_are_local_and_spans_follow_the_clock() {
        check("", "2026-01-15T08:00:00Z", "2026-01-15T08:00:00Z", "2026-01-14T08:00:00Z");
        check("", "2026-01-15T07:59:59Z", "2026-01-14T08:00:00Z", "2026-01-13T08:00:00Z");
        // Clocks went forward on Sunday, 2026-03-29: that day has 23 hours.
        check("", "2026-03-29T12:00:00Z", "2026-03-29T07:00:00Z", "2026-03-28T08:00:00Z");
        check("every = \"week\"", "2026-01-15T08:00:00Z", "2026-01-12T08:00:00Z", "2026-01-05T08:00:00Z");
        check(
            "every = \"week\"\nday = \"thu\"",
            "2026-01-15T07:00:00Z",
            "2026-01-08T08:00:00Z",
            "2026-01-01T08:00:00Z",
        );
    }
}
