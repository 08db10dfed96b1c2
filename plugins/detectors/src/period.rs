//! Budget periods: when the one that holds an instant begins and ends, in a time zone.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveDateTime, TimeZone, Timelike};
use chrono_tz::Tz;
use railwatch_model::Timestamp;
use railwatch_plugin::detector::Period;

/// The first instant of the period that holds `at`, and the first one after it.
pub(crate) fn bounds(period: Period, tz: Tz, at: Timestamp) -> (Timestamp, Timestamp) {
    let hour_later = || (at, at.after(Duration::from_secs(3600)));
    let local = at.to_utc().with_timezone(&tz);
    let today = local.date_naive();
    let days = |first: NaiveDate, next: Option<NaiveDate>| {
        next.map_or_else(hour_later, |next| (midnight(tz, first), midnight(tz, next)))
    };
    match period {
        Period::Hour => {
            let past = Duration::from_secs(u64::from(local.minute() * 60 + local.second()));
            let start = Timestamp::from_secs(at.secs()).before(past);
            (start, start.after(Duration::from_secs(3600)))
        }
        Period::Day => days(today, today.checked_add_days(Days::new(1))),
        Period::Week => {
            let back = Days::new(u64::from(local.weekday().num_days_from_monday()));
            let monday = today.checked_sub_days(back).unwrap_or(today);
            days(monday, monday.checked_add_days(Days::new(7)))
        }
        Period::Month => {
            let first = today.with_day(1).unwrap_or(today);
            days(first, first.checked_add_months(Months::new(1)))
        }
        Period::Fixed { from, until } => (from, until),
    }
}

/// The first instant of a day; where the clock skips midnight, the first one that exists.
fn midnight(tz: Tz, day: NaiveDate) -> Timestamp {
    let resolve = |time: NaiveDateTime| match tz.from_local_datetime(&time) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Some(time),
        LocalResult::None => None,
    };
    let found = (0..4).find_map(|hour| resolve(day.and_hms_opt(hour, 0, 0)?));
    found.map_or(Timestamp::EPOCH, |time: DateTime<Tz>| Timestamp::from_micros(time.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(period: Period, tz: Tz, at: &str, from: &str, until: &str) {
        let time = |text| Timestamp::parse(text).unwrap();
        assert_eq!(bounds(period, tz, time(at)), (time(from), time(until)));
    }

    #[test]
    fn periods_begin_in_their_time_zone() {
        let utc = Tz::UTC;
        let new_york = Tz::America__New_York;
        check(Period::Hour, utc, "2026-03-01T10:59:59.9Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z");
        check(
            Period::Hour,
            Tz::Asia__Kolkata,
            "2026-03-01T10:40:00Z",
            "2026-03-01T10:30:00Z",
            "2026-03-01T11:30:00Z",
        );
        check(Period::Day, utc, "2026-02-28T23:00:00Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
        check(Period::Week, utc, "2026-11-24T01:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Period::Month, utc, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
        check(
            Period::Month,
            new_york,
            "2026-12-01T03:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-12-01T05:00:00Z",
        );
    }

    #[test]
    fn a_day_with_a_clock_change_has_23_or_25_hours_and_may_lack_midnight() {
        check(
            Period::Day,
            Tz::Europe__Berlin,
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        // Cairo moves from 00:00 to 01:00 on 2026-04-24.
        check(
            Period::Day,
            Tz::Africa__Cairo,
            "2026-04-24T10:00:00Z",
            "2026-04-23T22:00:00Z",
            "2026-04-24T21:00:00Z",
        );
    }
}
