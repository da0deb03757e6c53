//! Time zones: names and offsets, by jiff and the system's database.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use strongroom::codec::value::{MICROS_PER_DAY, to_text, write_datetime};

const SECOND: i64 = 1_000_000;

/// A zone by its name (`America/Los_Angeles`, `UTC`) or offset (`+05:30`, `-8`).
///
/// # Errors
/// `Invalid time zone: ...`.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    let invalid = || format!("Invalid time zone: {name}");
    if name.eq_ignore_ascii_case("UTC") || name == "Z" {
        return Ok(TimeZone::UTC);
    }
    let text = name.strip_prefix("UTC").unwrap_or(name);
    if let Some(rest) = text.strip_prefix(['+', '-']) {
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
        let number = |t: &str| (t.len() <= 2).then(|| t.parse::<i32>().ok()).flatten();
        let seconds = match (number(hours), number(minutes)) {
            (Some(h), Some(m)) if h <= 14 && m < 60 => h * 3600 + m * 60,
            _ => return Err(invalid()),
        };
        let seconds = if text.starts_with('-') { -seconds } else { seconds };
        return Ok(TimeZone::fixed(Offset::from_seconds(seconds).map_err(|_| invalid())?));
    }
    TimeZone::get(name).map_err(|_| invalid())
}

/// Seconds east of UTC at an instant.
pub fn offset_at(zone: &TimeZone, micros: i64) -> i32 {
    match Timestamp::from_microsecond(micros) {
        Ok(t) => zone.to_offset(t).seconds(),
        Err(_) => 0,
    }
}

/// Local microseconds of an instant.
pub fn to_local(zone: &TimeZone, micros: i64) -> i64 {
    micros + i64::from(offset_at(zone, micros)) * SECOND
}

/// The instant of a local time; one that a change of the clocks skips moves on, one that comes twice is the first.
pub fn from_local(zone: &TimeZone, local: i64) -> i64 {
    // The offsets in force a day before and after bracket any change.
    let before = i64::from(offset_at(zone, local - MICROS_PER_DAY)) * SECOND;
    let after = i64::from(offset_at(zone, local + MICROS_PER_DAY)) * SECOND;
    let first = local - before;
    if to_local(zone, first) == local {
        return first;
    }
    let second = local - after;
    if to_local(zone, second) == local { second } else { first }
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]+00`, with the zone's offset at that instant.
pub fn timestamp_text(micros: i64, offset_seconds: i32) -> String {
    let local = micros + i64::from(offset_seconds) * SECOND;
    let mut text = to_text(|out| write_datetime(local, b' ', true, out));
    let sign = if offset_seconds < 0 { '-' } else { '+' };
    let minutes = offset_seconds.abs() / 60;
    text.push_str(&format!("{sign}{:02}", minutes / 60));
    if minutes % 60 != 0 {
        text.push_str(&format!(":{:02}", minutes % 60));
    }
    text
}
