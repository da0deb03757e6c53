//! DATE, TIME, DATETIME and TIMESTAMP: text to numbers and back.
//!
//! The spellings are those of https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types and of loads from
//! CSV and JSON. Years 1 to 9999, microseconds.

use super::put::{push_put, put_clock};
use super::{InvalidValue, PAIRS};

/// Days of 0001-01-01 and 9999-12-31 since 1970-01-01.
pub const DATE_MIN: i32 = -719_162;
pub const DATE_MAX: i32 = 2_932_896;
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The first and the last microsecond of a DATETIME or TIMESTAMP.
pub const MICROS_MIN: i64 = DATE_MIN as i64 * MICROS_PER_DAY;
pub const MICROS_MAX: i64 = (DATE_MAX as i64 + 1) * MICROS_PER_DAY - 1;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Answers a zone's offset from UTC in seconds (east positive) at a local time in microseconds, or nothing when it does
/// not know the zone.
pub type Zones<'a> = &'a dyn Fn(&str, i64) -> Option<i32>;

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar.
// https://howardhinnant.github.io/date_algorithms.html
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400) as u32;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era as i32 - 719_468
}

/// Year, month, day of a number of days since 1970-01-01.
pub fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let z = i64::from(days) + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097) as u32;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era as i64 + era * 400 + i64::from(month <= 2);
    (year as i32, month, day)
}

/// Reads a DATE: `YYYY-[M]M-[D]D`. Days since 1970-01-01.
///
/// # Errors
/// Another form, or a day that does not exist.
pub fn parse_date(text: &str) -> Result<i32, InvalidValue> {
    let error = |reason| InvalidValue::new("DATE", text, reason);
    let mut scan = Scan::new(text);
    let days = scan.date(b"-").ok_or_else(|| error("expected YYYY-MM-DD"))?;
    scan.end().ok_or_else(|| error("expected YYYY-MM-DD"))?;
    days.ok_or_else(|| error("no such day"))
}

/// Reads a TIME: `[H]H:[M]M:[S]S[.F]`. Microseconds since midnight.
///
/// # Errors
/// Another form, a time that does not exist, or digits other than zero beyond the sixth.
pub fn parse_time(text: &str) -> Result<i64, InvalidValue> {
    let error = |reason| InvalidValue::new("TIME", text, reason);
    let mut scan = Scan::new(text);
    let micros = scan.time().ok_or_else(|| error("expected HH:MM:SS[.ffffff]"))?;
    scan.end().ok_or_else(|| error("expected HH:MM:SS[.ffffff]"))?;
    micros.map_err(error)
}

/// Reads a DATETIME: a date, then `T` or a blank and a time; the time may be absent. Microseconds since 1970.
///
/// # Errors
/// Another form, one with a time zone, or a time that does not exist.
pub fn parse_datetime(text: &str) -> Result<i64, InvalidValue> {
    const FORM: &str = "expected YYYY-MM-DD[T| ]HH:MM:SS[.ffffff] without a time zone";
    let error = |reason| InvalidValue::new("DATETIME", text, reason);
    let mut scan = Scan::new(text);
    let days = scan.date(b"-/").ok_or_else(|| error(FORM))?.ok_or_else(|| error("no such day"))?;
    let mut micros = 0;
    if scan.one_of(b"Tt ").is_some() {
        micros = scan.time().ok_or_else(|| error(FORM))?.map_err(error)?;
    }
    scan.end().ok_or_else(|| error(FORM))?;
    Ok(i64::from(days) * MICROS_PER_DAY + micros)
}

/// Reads a TIMESTAMP whose zone is absent (UTC), `Z`, `UTC`, `GMT` or an offset `±[H]H[:MM]`. Microseconds since 1970.
///
/// # Errors
/// As [`parse_timestamp_zoned`]; also a named zone.
pub fn parse_timestamp(text: &str) -> Result<i64, InvalidValue> {
    parse_timestamp_zoned(text, &|_, _| None)
}

/// Reads a TIMESTAMP; names of zones are asked of `zones`.
///
/// # Errors
/// Another form, an unknown zone, a time that does not exist, or one outside the years 1 to 9999.
pub fn parse_timestamp_zoned(text: &str, zones: Zones<'_>) -> Result<i64, InvalidValue> {
    const FORM: &str = "expected YYYY-MM-DD[T| ]HH:MM:SS[.ffffff][zone]";
    let error = |reason| InvalidValue::new("TIMESTAMP", text, reason);
    let mut scan = Scan::new(text);
    let days = scan.date(b"-/").ok_or_else(|| error(FORM))?.ok_or_else(|| error("no such day"))?;
    let mut local = i64::from(days) * MICROS_PER_DAY;
    let after_date = scan.at;
    if scan.one_of(b"Tt ").is_some() {
        match scan.time() {
            Some(micros) => local += micros.map_err(error)?,
            // A date and a zone: `2020-01-01 America/Los_Angeles`.
            None => scan.at = after_date,
        }
    }
    let zone = scan.rest().trim();
    let offset = if zone.is_empty() || matches!(zone, "Z" | "z" | "UTC" | "utc" | "GMT") {
        0
    } else if let Some(seconds) = offset_seconds(zone) {
        seconds
    } else {
        zones(zone, local).ok_or_else(|| error("unknown time zone"))?
    };
    let micros = local - i64::from(offset) * MICROS_PER_SECOND;
    if (MICROS_MIN..=MICROS_MAX).contains(&micros) { Ok(micros) } else { Err(error("out of range")) }
}

/// Writes a DATE as `YYYY-MM-DD`.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        let year = year as usize;
        let ([a, b], [c, d]) = (PAIRS[year / 100], PAIRS[year % 100]);
        let ([e, f], [g, h]) = (PAIRS[month as usize], PAIRS[day as usize]);
        out.extend_from_slice(&[a, b, c, d, b'-', e, f, b'-', g, h]);
    } else {
        super::push_display(out, format_args!("{year:05}-{month:02}-{day:02}"));
    }
}

/// Writes a TIME as `HH:MM:SS`, with a fraction of `fraction(micros)` digits.
///
/// `grouped` writes three or six digits (TO_JSON_STRING); otherwise trailing zeros are left out.
pub fn write_time(micros: i64, grouped: bool, out: &mut Vec<u8>) {
    let micros = micros.rem_euclid(MICROS_PER_DAY) as u64;
    push_put(out, |out, at| put_clock(micros, grouped, out, at));
}

/// Writes a DATETIME with `separator` (`T` or a blank) between date and time.
pub fn write_datetime(micros: i64, separator: u8, grouped: bool, out: &mut Vec<u8>) {
    write_date(micros.div_euclid(MICROS_PER_DAY) as i32, out);
    out.push(separator);
    write_time(micros, grouped, out);
}

/// Writes a TIMESTAMP as extracts to CSV and JSON do: `YYYY-MM-DD HH:MM:SS[.ffffff] UTC`.
pub fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    write_datetime(micros, b' ', false, out);
    out.extend_from_slice(b" UTC");
}

/// `±[H]H`, `±[H]H:MM`, `±HHMM`, also after `UTC` or `GMT`.
fn offset_seconds(zone: &str) -> Option<i32> {
    let zone = zone.strip_prefix("UTC").or_else(|| zone.strip_prefix("GMT")).unwrap_or(zone);
    let (sign, rest) = match zone.as_bytes().first()? {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if rest.len() == 4 && rest.is_ascii() => rest.split_at(2),
        None => (rest, "0"),
    };
    let number = |text: &str, most: i32| {
        let fits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i32>().ok().filter(|n| fits && *n <= most)
    };
    Some(sign * (number(hours, 14)? * 3600 + number(minutes, 59)? * 60))
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.trim(), at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|b| bytes.contains(b))?;
        self.at += 1;
        Some(byte)
    }

    /// A number of `least` to `most` digits that no further digit follows.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let start = self.at;
        let mut value = 0;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            if self.at - start == most {
                return None;
            }
            value = value * 10 + u32::from(digit - b'0');
            self.at += 1;
        }
        (self.at - start >= least).then_some(value)
    }

    /// Outer `None`: not of this form; inner `None`: no such day.
    fn date(&mut self, separators: &[u8]) -> Option<Option<i32>> {
        let year = self.number(4, 4)?;
        let separator = self.one_of(separators)?;
        let month = self.number(1, 2)?;
        self.one_of(&[separator])?;
        let day = self.number(1, 2)?;
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let longest = match month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(leap),
            _ => 31,
        };
        let exists = year >= 1 && (1..=12).contains(&month) && (1..=longest).contains(&day);
        Some(exists.then(|| days_from_civil(year as i32, month, day)))
    }

    /// Outer `None`: not of this form; inner error: no such time.
    fn time(&mut self) -> Option<Result<i64, &'static str>> {
        let hour = self.number(1, 2)?;
        self.one_of(b":")?;
        let minute = self.number(1, 2)?;
        self.one_of(b":")?;
        let second = self.number(1, 2)?;
        let mut micros = 0;
        let mut lost = false;
        if self.one_of(b".").is_some() {
            let mut places = 0;
            while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
                self.at += 1;
                places += 1;
                if places <= 6 {
                    micros = micros * 10 + i64::from(digit - b'0');
                } else {
                    lost |= digit != b'0';
                }
            }
            micros *= 10_i64.pow(6_u32.saturating_sub(places));
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Some(Err("no such time"));
        }
        if lost {
            return Some(Err("finer than a microsecond"));
        }
        Some(Ok((i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * MICROS_PER_SECOND + micros))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn end(&self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::to_text;
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse_date("1970-01-01"), Ok(0));
        assert_eq!(parse_date("0001-01-01"), Ok(DATE_MIN));
        assert_eq!(parse_date(" 9999-12-31 "), Ok(DATE_MAX));
        assert_eq!(parse_date("2024-2-29"), Ok(19_782));
        for text in
            ["", "2023-02-29", "2024-13-01", "0000-01-01", "24-01-01", "2024/01/01", "2024-01-01x", "２024-01-01"]
        {
            assert!(parse_date(text).is_err(), "{text}");
        }
        assert_eq!(parse_date("1900-02-29").unwrap_err().reason, "no such day");
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("1:2:3.5"), Ok(3_723_500_000));
        assert_eq!(parse_time("23:59:59.999999000"), Ok(MICROS_PER_DAY - 1));
        for text in ["24:00:00", "12:00", "12:60:00", "12:00:60", "12:00:00.1234567", "12:00:00Z", ""] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(to_text(|out| write_time(3_723_500_000, false, out)), "01:02:03.5");
        assert_eq!(to_text(|out| write_time(3_723_500_000, true, out)), "01:02:03.500");
        assert_eq!(to_text(|out| write_time(1, true, out)), "00:00:00.000001");
    }

    #[test]
    fn datetimes_and_timestamps() {
        assert_eq!(parse_datetime("1970-01-02"), Ok(MICROS_PER_DAY));
        assert_eq!(parse_datetime("1969-12-31t23:59:59.999999"), Ok(-1));
        assert_eq!(parse_datetime("9999-12-31 23:59:59.999999"), Ok(MICROS_MAX));
        assert!(parse_datetime("2020-01-01T00:00:00Z").is_err());
        assert!(parse_datetime("2020-01-01 ").is_ok());
        assert!(parse_datetime("2020-01-01T").is_err());
        let noon = parse_timestamp("2020-06-01 12:00:00").unwrap();
        for text in [
            "2020-06-01T12:00:00Z",
            "2020-06-01 12:00:00 UTC",
            "2020/06/01 12:00:00+00",
            "2020-06-01 14:00:00+02",
            "2020-06-01 05:00:00 -7:00",
            "2020-06-01T17:30:00+0530",
            "2020-6-1 12:0:0.000000000 UTC+0",
        ] {
            assert_eq!(parse_timestamp(text), Ok(noon), "{text}");
        }
        let zones = |name: &str, _| (name == "America/Los_Angeles").then_some(-7 * 3600);
        assert_eq!(parse_timestamp_zoned("2020-06-01 05:00:00 America/Los_Angeles", &zones), Ok(noon));
        assert_eq!(
            parse_timestamp_zoned("2020-06-01 America/Los_Angeles", &zones),
            Ok(noon - 5 * 3600 * MICROS_PER_SECOND)
        );
        for text in [
            "2020-06-01 12:00:00 Europe/Paris",
            "2020-06-01 12:00:00+15",
            "2020-06-01 12:00:00+1:5",
            "0001-01-01 00:00:00+01",
            "2020-06-01 12:00",
            "2020-06/01",
            "1591012800",
        ] {
            assert!(parse_timestamp(text).is_err(), "{text}");
        }
        assert_eq!(to_text(|out| write_timestamp(noon + 120_000, out)), "2020-06-01 12:00:00.12 UTC");
        assert_eq!(to_text(|out| write_timestamp(MICROS_MIN, out)), "0001-01-01 00:00:00 UTC");
    }

    proptest! {
        #[test]
        fn every_day_comes_back(days in DATE_MIN..=DATE_MAX) {
            prop_assert_eq!(parse_date(&to_text(|out| write_date(days, out))), Ok(days));
        }

        #[test]
        fn every_instant_comes_back(micros in MICROS_MIN..=MICROS_MAX, grouped: bool) {
            prop_assert_eq!(parse_timestamp(&to_text(|out| write_timestamp(micros, out))), Ok(micros));
            prop_assert_eq!(parse_datetime(&to_text(|out| write_datetime(micros, b'T', grouped, out))), Ok(micros));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}", close in "[0-9TZ:+ /.-]{0,30}") {
            for text in [text, close] {
                let _ = (parse_date(&text), parse_time(&text), parse_datetime(&text), parse_timestamp(&text));
            }
        }
    }
}
