//! When each tier's backup is due, and which was missed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::Config;
use crate::model::{Schedule, TierName};

/// A scheduled tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    pub tier: TierName,
    pub schedule: String,
    /// When the newest backup of the schedule was begun.
    pub last: Option<Timestamp>,
    /// The newest time at which one was due and after which none was begun: it is due now, once, however many were missed.
    pub missed: Option<Timestamp>,
    pub next: Option<Timestamp>,
}

/// Every scheduled tier, the soonest first. `newest` is when the newest scheduled backup of each tier was begun; what was due
/// before `since` is nobody's duty where there is none.
pub fn due(config: &Config, newest: &BTreeMap<TierName, Timestamp>, since: Timestamp, now: Timestamp) -> Vec<Due> {
    let zone = &config.retention.time_zone;
    let scheduled = config.tiers.iter().filter_map(|(name, tier)| Some((name, tier.schedule.as_ref()?)));
    let mut due: Vec<Due> = scheduled
        .map(|(name, schedule)| {
            let last = newest.get(name).copied();
            let missed = latest(schedule, now, config).filter(|at| *at > last.unwrap_or(since));
            Due { tier: name.clone(), schedule: schedule.to_string(), last, missed, next: schedule.next(now, zone) }
        })
        .collect();
    due.sort_by_key(|due| (due.missed.is_none(), due.next.unwrap_or(Timestamp::MAX)));
    due
}

/// The newest time not after `now` at which it was due; `None` when that is more than a year ago.
fn latest(schedule: &Schedule, now: Timestamp, config: &Config) -> Option<Timestamp> {
    let zone = &config.retention.time_zone;
    // A window that holds one: the shorter, the fewer steps through it.
    for hours in [1, 24, 32 * 24, 400 * 24] {
        let begin = now.checked_sub(SignedDuration::from_hours(hours)).ok()?;
        let mut found = None;
        let mut at = schedule.next(begin, zone)?;
        while at <= now {
            found = Some(at);
            at = schedule.next(at, zone)?;
        }
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The id of the run of a tier that is due at `at`: the same for everybody who sees it. A run that failed is tried again.
pub fn run_id(tier: &TierName, at: Timestamp, attempt: u32) -> String {
    let again = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    format!("{}-schedule-{tier}{again}", at.strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedules: &str) -> Config {
        let text = format!(
            "name = 'x'\n[[source]]\nname = 'f'\nkind = 'files'\nroot = '/srv'\n[retention]\ntime_zone = 'Europe/Berlin'\n{schedules}"
        );
        crate::config::parse(&text, &|_| None).unwrap()
    }

    fn tier(name: &str, cron: &str) -> String {
        format!("[tiers.{name}]\nkeep = '30d'\nschedule = '{cron}'\ndestinations = ['/vault']\n")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_missed_is_due_once_and_the_soonest_comes_first() {
        let config =
            config(&(tier("daily", "0 2 * * *") + &tier("weekly", "0 3 * * 0") + &tier("monthly", "0 4 1 * *")));
        let now = at("2026-11-24T12:00:00Z"); // a Tuesday
        let newest = [("daily", "2026-11-20T01:00:05Z"), ("weekly", "2026-11-22T02:00:03Z")];
        let newest = newest.into_iter().map(|(tier, then)| (tier.parse().unwrap(), at(then))).collect();
        let found = due(&config, &newest, now, now);
        let told: Vec<(&str, Option<Timestamp>, Option<Timestamp>)> =
            found.iter().map(|due| (due.tier.as_str(), due.missed, due.next)).collect();
        let next = |text: &str| Some(at(text));
        assert_eq!(
            told,
            [
                // Four nights were missed; the last one stands for them.
                ("daily", next("2026-11-24T01:00:00Z"), next("2026-11-25T01:00:00Z")),
                ("weekly", None, next("2026-11-29T02:00:00Z")),
                // Never taken: what was due before anybody looked is not missed.
                ("monthly", None, next("2026-12-01T03:00:00Z")),
            ]
        );
        let since = at("2026-10-30T00:00:00Z");
        assert_eq!(due(&config, &newest, since, now)[1].missed, next("2026-11-01T03:00:00Z"));
    }

    #[test]
    fn one_begun_at_its_time_or_later_is_not_missed() {
        let config = config(&tier("hourly", "*/5 * * * *"));
        let hourly: TierName = "hourly".parse().unwrap();
        let of = |last: &str, now: &str| {
            due(&config, &BTreeMap::from([(hourly.clone(), at(last))]), at(now), at(now))[0].missed
        };
        assert_eq!(of("2026-11-24T12:00:00Z", "2026-11-24T12:04:59Z"), None);
        assert_eq!(of("2026-11-24T12:00:00Z", "2026-11-24T12:05:00Z"), Some(at("2026-11-24T12:05:00Z")));
        assert_eq!(run_id(&hourly, at("2026-11-24T12:05:00Z"), 1), "20261124T120500Z-schedule-hourly");
        assert_eq!(run_id(&hourly, at("2026-11-24T12:05:00Z"), 2), "20261124T120500Z-schedule-hourly-2");
    }
}
