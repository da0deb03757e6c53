//! Dates and times as BigQuery's REST API writes them: fractions of seconds have six digits or are absent.

use strongroom::codec::value::{self, MICROS_PER_DAY, to_text, write_date};

/// Microseconds of a day.
pub const DAY_US: i64 = MICROS_PER_DAY;

/// `YYYY-MM-DD` of days since 1970-01-01.
pub fn date_text(days: i32) -> String {
    to_text(|out| write_date(days, out))
}

/// `HH:MM:SS[.ffffff]` of microseconds since midnight.
pub fn time_text(us: i64) -> String {
    let (s, f) = (us / 1_000_000, us % 1_000_000);
    let clock = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if f == 0 { clock } else { format!("{clock}.{f:06}") }
}

/// `YYYY-MM-DDTHH:MM:SS[.ffffff]` of microseconds since 1970.
pub fn datetime_text(us: i64) -> String {
    let days = i32::try_from(us.div_euclid(DAY_US)).unwrap_or(i32::MAX);
    format!("{}T{}", date_text(days), time_text(us.rem_euclid(DAY_US)))
}

/// The same of milliseconds, with the `Z` of a timestamp.
pub fn timestamp_text(ms: i64) -> String {
    format!("{}Z", datetime_text(ms * 1000))
}

/// Milliseconds since 1970 of a timestamp's text.
pub fn parse_ms(text: &str) -> Option<i64> {
    value::parse_timestamp(text).ok().map(|us| us.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_have_six_digits() {
        assert_eq!(datetime_text(1_709_168_523_500_000), "2024-02-29T01:02:03.500000");
        assert_eq!(datetime_text(-1), "1969-12-31T23:59:59.999999");
        assert_eq!(timestamp_text(1_709_168_523_000), "2024-02-29T01:02:03Z");
        assert_eq!(parse_ms("2024-02-29T01:02:03.004+01:00"), Some(1_709_164_923_004));
    }
}
