//! When something is due, by a cron expression.

use std::fmt;
use std::str::FromStr;

use cronexpr::Crontab;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A cron expression of five fields, on the clocks of a zone; the zone's name may follow as a sixth field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// Whether the expression names its zone itself.
    zoned: bool,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = text.split_whitespace().count();
        if !(5..=6).contains(&fields) {
            return Err(format!("'{text}' has {fields} fields; hint: five as in cron, such as \"0 2 * * *\""));
        }
        let schedule = Self { text: text.trim().into(), zoned: fields == 6 };
        match schedule.on("UTC") {
            Ok(_) => Ok(schedule),
            Err(_) => Err(format!("'{text}' is no cron expression; hint: \"0 2 * * *\" is daily at 2")),
        }
    }
}

impl Schedule {
    /// The first instant after `after` at which it is due; `zone` counts when the expression names none.
    /// `None` when there is none.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let cron = self.on(zone.iana_name().unwrap_or("UTC")).ok()?;
        cron.find_next(after.to_string().as_str()).ok().map(|zoned| zoned.timestamp())
    }

    fn on(&self, zone: &str) -> Result<Crontab, cronexpr::Error> {
        let text = if self.zoned { self.text.clone() } else { format!("{} {zone}", self.text) };
        cronexpr::parse_crontab(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        cron.parse::<Schedule>().unwrap().next(after.parse().unwrap(), &zone).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_on_the_clocks_of_the_zone() {
        assert_eq!(next("0 2 * * *", "2026-11-21T02:00:00Z", "UTC"), "2026-11-22T02:00:00Z");
        assert_eq!(next("0 2 * * *", "2026-07-01T00:30:00Z", "Europe/Berlin"), "2026-07-02T00:00:00Z");
        assert_eq!(next("0 2 * * * Asia/Tokyo", "2026-07-01T00:30:00Z", "Europe/Berlin"), "2026-07-01T17:00:00Z");
        // Sundays, and the first of a month.
        assert_eq!(next("0 3 * * 0", "2026-11-21T00:00:00Z", "UTC"), "2026-11-22T03:00:00Z");
        assert_eq!(next("0 4 1 * *", "2026-11-21T00:00:00Z", "UTC"), "2026-12-01T04:00:00Z");
    }

    #[test]
    fn clocks_that_jump_lose_no_week() {
        // In Berlin there was no half past two on 29 March 2026.
        let due = next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin");
        assert!(due.as_str() < "2026-03-30T01:00:00Z", "{due}");
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for (text, said) in [
            ("0 2 * *", "4 fields"),
            ("61 2 * * *", "no cron expression"),
            ("", "0 fields"),
            ("0 2 * * * Nowhere/City", "no cron expression"),
        ] {
            assert!(text.parse::<Schedule>().unwrap_err().contains(said), "{text}");
        }
    }
}
