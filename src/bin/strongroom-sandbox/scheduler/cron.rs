//! Unix cron in a time zone: five fields, and the next time they name. Pure but for the time zone database.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A parsed schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    minutes: Vec<bool>,
    hours: Vec<bool>,
    days: Vec<bool>,
    months: Vec<bool>,
    weekdays: Vec<bool>,
    /// Cron's oddity: when both day fields are restricted, either one suffices.
    either_day: bool,
    zone: TimeZone,
}

/// No day further ahead is looked at: 29 February on a certain weekday comes within 40 years.
const HORIZON_DAYS: i64 = 366 * 41;

impl Schedule {
    /// Parses `minute hour day month weekday`. `None` when the fields or the zone make no sense.
    pub fn parse(text: &str, zone: &str) -> Option<Self> {
        let zone = match zone {
            "" | "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT" => TimeZone::UTC,
            other => TimeZone::get(other).ok()?,
        };
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
        let mut week = field(weekdays, 0, 7, &DAYS)?;
        // 0 and 7 are both Sunday.
        week[0] |= week[7];
        week.truncate(7);
        Some(Self {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: week,
            either_day: !days.starts_with(['*', '?']) && !weekdays.starts_with(['*', '?']),
            zone,
        })
    }

    /// The first time after `us` (microseconds since 1970) that the schedule names.
    pub fn next_after(&self, us: i64) -> Option<i64> {
        let now = Timestamp::from_microsecond(us).ok()?.to_zoned(self.zone.clone());
        let mut date = now.date();
        for _ in 0..HORIZON_DAYS {
            if self.on(date) {
                for hour in (0..24_i8).filter(|h| self.hours[*h as usize]) {
                    for minute in (0..60_i8).filter(|m| self.minutes[*m as usize]) {
                        // In a gap of the clock the time is moved on, in a fold the first one counts.
                        let at = date.at(hour, minute, 0, 0).to_zoned(self.zone.clone()).ok()?;
                        let at = at.timestamp().as_microsecond();
                        if at > us {
                            return Some(at);
                        }
                    }
                }
            }
            date = date.checked_add(Span::new().days(1)).ok()?;
        }
        None
    }

    fn on(&self, date: Date) -> bool {
        let day = self.days[date.day() as usize];
        let weekday = self.weekdays[date.weekday().to_sunday_zero_offset() as usize];
        let days_fit = if self.either_day { day || weekday } else { day && weekday };
        days_fit && self.months[date.month() as usize]
    }
}

const MONTHS: [&str; 13] = ["", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One field as a set: `*`, `5`, `1-5`, `*/15`, `1-30/2`, `MON-FRI`, lists of these.
fn field(text: &str, low: usize, high: usize, names: &[&str]) -> Option<Vec<bool>> {
    let number = |t: &str| -> Option<usize> {
        let named = names.iter().position(|n| !n.is_empty() && n.eq_ignore_ascii_case(t));
        let n = named.or_else(|| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok())?)?;
        (low..=high).contains(&n).then_some(n)
    };
    let mut set = vec![false; high + 1];
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|s| *s > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range {
            "*" | "?" => (low, high),
            r => match r.split_once('-') {
                Some((a, b)) => (number(a)?, number(b)?),
                // `5/15` goes on to the end, `5` is itself.
                None => (number(r)?, if part.contains('/') { high } else { number(r)? }),
            },
        };
        if from > to {
            return None;
        }
        for n in (from..=to).step_by(step) {
            set[n] = true;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let after: Timestamp = after.parse().unwrap();
        let next = Schedule::parse(schedule, zone).unwrap().next_after(after.as_microsecond()).unwrap();
        Timestamp::from_microsecond(next).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, zone, after, expected) in [
            ("0 2 * * *", "Etc/UTC", "2026-11-21T01:59:59Z", "2026-11-21T02:00:00Z"),
            ("0 2 * * *", "Etc/UTC", "2026-11-21T02:00:00Z", "2026-11-22T02:00:00Z"),
            ("0 2 * * *", "Europe/Berlin", "2026-11-21T00:00:00Z", "2026-11-21T01:00:00Z"),
            ("0 2 * * *", "Europe/Berlin", "2026-07-21T00:30:00Z", "2026-07-22T00:00:00Z"),
            ("*/15 * * * *", "UTC", "2026-11-21T01:46:00Z", "2026-11-21T02:00:00Z"),
            ("30 3 * * 0", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T03:30:00Z"),
            ("30 3 * * 7", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T03:30:00Z"),
            ("0 9 * * MON-FRI", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T09:00:00Z"),
            ("0 0 1 1 *", "UTC", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-11-21T00:00:00Z", "2028-02-29T00:00:00Z"),
            // Either day suffices: the 13th or a Friday.
            ("0 0 13 * 5", "UTC", "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
            // The clock jumps from 2 to 3 that day.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("5,10 1-2 * jan,dec *", "UTC", "2026-11-21T00:00:00Z", "2026-12-01T01:05:00Z"),
            ("@weekly", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(next(schedule, zone, after), expected, "{schedule} {zone} {after}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *", "UTC").unwrap().next_after(0), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
            "* * * * * *",
            "-1 * * * *",
        ] {
            assert!(Schedule::parse(bad, "UTC").is_none(), "{bad}");
        }
        assert!(Schedule::parse("* * * * *", "Mars/Olympus").is_none());
    }
}
