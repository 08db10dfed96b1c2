//! Hushes: what keeps an open incident from people for a while. Its alerts live on, and what is still open when the
//! hush ends is told then.

use std::collections::BTreeMap;

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike,
};
use railwatch_model::{Facts, Silence, SmolStr, Subject, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::format_smolstr;

use crate::settings::{Equal, Inhibition, Mute, Settings};

/// Why people are not told, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hush {
    pub(crate) by: SmolStr,
    /// The end of time if something else ends it.
    pub(crate) until: Timestamp,
}

/// Everything that hushes now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hushes<'a> {
    pub(crate) silences: &'a [Silence],
    pub(crate) settings: &'a Settings,
    pub(crate) inhibitors: &'a Inhibitors,
}

/// The open incidents that inhibit others, by subject: the inhibition's place in the settings, and its facts.
pub(crate) type Inhibitors = BTreeMap<Subject, Vec<(usize, Facts)>>;

impl Hushes<'_> {
    /// True if nothing can be hushed, so that nobody need ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.silences.is_empty() && self.settings.mutes.is_empty() && self.inhibitors.is_empty()
    }

    /// What hushes a subject's alerts at a time: of several, the one that lasts longest.
    pub(crate) fn check(&self, subject: &Subject, facts: &Facts, now: Timestamp) -> Option<Hush> {
        let silences = self.silences.iter().filter(|silence| silence.hides(facts, now)).map(|silence| Hush {
            by: format_smolstr!("silence {} by {}: {}", silence.id, silence.by, silence.reason),
            until: silence.until,
        });
        let mutes =
            self.settings.mutes.iter().filter(|mute| mute.matcher.accepts(facts)).filter_map(|mute| {
                let by = format_smolstr!("mute window {}", mute.name);
                Some(Hush { by, until: mute.ends_at(now)? })
            });
        let inhibited = self.inhibited(subject, facts);
        inhibited.into_iter().chain(silences).chain(mutes).max_by_key(|hush| hush.until)
    }

    fn inhibited(&self, subject: &Subject, facts: &Facts) -> Option<Hush> {
        let others = self.inhibitors.iter().filter(|(inhibitor, _)| *inhibitor != subject);
        for (inhibitor, places) in others {
            let hit = places.iter().find(|(place, other)| {
                let inhibition = self.settings.inhibitions.get(*place);
                inhibition.is_some_and(|inhibition| inhibition.hides(other, facts))
            });
            if hit.is_some() {
                let by = format_smolstr!("an alert about {inhibitor} explains it");
                return Some(Hush { by, until: Timestamp::MAX });
            }
        }
        None
    }
}

impl Inhibition {
    fn hides(&self, by: &Facts, facts: &Facts) -> bool {
        self.matcher.accepts(facts)
            && self.equal.iter().all(|equal| match equal {
                Equal::Agent => by.agent.is_some() && by.agent == facts.agent,
                Equal::Team => by.team.is_some() && by.team == facts.team,
                Equal::Rail => !by.rails.is_disjoint(&facts.rails),
                Equal::Kind => !by.kinds.is_disjoint(&facts.kinds),
            })
    }
}

impl Mute {
    /// When the window that covers `now` ends; `None` outside of it.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.to_utc().with_timezone(&self.tz);
        let minute = u16::try_from(local.hour() * 60 + local.minute()).unwrap_or(0);
        let today = local.date_naive();
        let begins = |date: Option<NaiveDate>| {
            date.is_some_and(|date| {
                self.days.get(date.weekday().num_days_from_monday() as usize) == Some(&true)
            })
        };
        let tomorrow = today.checked_add_days(Days::new(1));
        let yesterday = today.checked_sub_days(Days::new(1));
        let ends_on = if self.from < self.until {
            (begins(Some(today)) && (self.from..self.until).contains(&minute)).then_some(today)
        } else if begins(Some(today)) && minute >= self.from {
            tomorrow
        } else {
            (begins(yesterday) && minute < self.until).then_some(today)
        }?;
        let time = NaiveTime::from_hms_opt(u32::from(self.until / 60) % 24, u32::from(self.until % 60), 0)?;
        // Midnight at the end of a day is the first minute of the next.
        let ends_on = if self.until >= 24 * 60 { ends_on.checked_add_days(Days::new(1))? } else { ends_on };
        Some(self.instant(ends_on.and_time(time)))
    }

    /// The instant of a local time; where clocks are put forward it is an hour later, where they are put back it is the
    /// second of two.
    fn instant(&self, local: NaiveDateTime) -> Timestamp {
        let find = |local: &NaiveDateTime| match self.tz.from_local_datetime(local) {
            LocalResult::Single(time) | LocalResult::Ambiguous(_, time) => Some(time.to_utc()),
            LocalResult::None => None,
        };
        let time = find(&local).or_else(|| find(&(local + TimeDelta::hours(1))));
        time.unwrap_or(DateTime::from_naive_utc_and_offset(local, chrono::Utc)).into()
    }
}
