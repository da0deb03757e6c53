//! Civil dates and times of the years 1 to 9999 as BigQuery writes and reads them, on integers of days and microseconds.
//!
//! Deliberately without a clock: everything here is arithmetic on text and numbers.

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Days since 1970-01-01 of a proleptic Gregorian date.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// (year, month, day) of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// `YYYY-MM-DD`.
pub fn date_text(days: i64) -> String {
    let (y, m, d) = civil_from_days(days);
    format!("{y:04}-{m:02}-{d:02}")
}

/// `HH:MM:SS` and, when there is one, a fraction of six digits.
pub fn time_text(us: i64) -> String {
    let (s, f) = (us / 1_000_000, us % 1_000_000);
    let clock = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if f == 0 { clock } else { format!("{clock}.{f:06}") }
}

/// `YYYY-MM-DDTHH:MM:SS[.ffffff]`; `sep` stands between date and time.
pub fn datetime_text(us: i64, sep: char) -> String {
    format!("{}{sep}{}", date_text(us.div_euclid(DAY_US)), time_text(us.rem_euclid(DAY_US)))
}

/// RFC 3339 with `Z` and milliseconds, as resources carry it.
pub fn rfc3339_ms(ms: i64) -> String {
    let us = ms * 1000;
    let time = us.rem_euclid(DAY_US);
    let s = time / 1_000_000;
    format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        date_text(us.div_euclid(DAY_US)),
        s / 3600,
        s / 60 % 60,
        s % 60,
        time / 1000 % 1000
    )
}

fn digits(text: &str, max: usize) -> Option<i64> {
    ((1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A date `Y-M-D` as days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (y, m, d) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || y < 1 || !(1..=12).contains(&m) || d < 1 {
        return None;
    }
    let days = days_from_civil(y, m, d);
    (civil_from_days(days) == (y, m, d)).then_some(days)
}

/// A time `H:M:S[.f]` as microseconds; digits beyond the sixth are dropped.
pub fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':');
    let (h, m) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let s = parts.next().map_or(Some(0), |s| digits(s, 2))?;
    if parts.next().is_some() || h > 23 || m > 59 || s > 59 || fraction.len() > 9 {
        return None;
    }
    digits(fraction, 9)?;
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(((h * 60 + m) * 60 + s) * 1_000_000 + micros.parse::<i64>().ok()?)
}

/// A datetime `Y-M-D[( |T)H:M:S[.f]]` as microseconds since 1970-01-01T00:00:00, without a zone.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let split = text.find(['T', 't', ' ']);
    let (date, time) = match split {
        Some(i) => (&text[..i], parse_time(text[i + 1..].trim())?),
        None => (text, 0),
    };
    parse_date(date)?.checked_mul(DAY_US)?.checked_add(time)
}

/// A timestamp with an optional zone (`Z`, `UTC`, `+HH[:MM]`, `Area/City`; none is UTC) as microseconds since the epoch.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(plain) = parse_datetime(text) {
        return Some(plain);
    }
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return parse_datetime(rest.trim_end());
    }
    if let Some(rest) = text.strip_suffix("UTC") {
        return parse_datetime(rest.trim_end());
    }
    let clock = text.find(['T', 't', ' ']).unwrap_or(0);
    if let Some(i) = text.rfind(['+', '-']).filter(|i| *i > clock) {
        let sign = if text.as_bytes()[i] == b'-' { -1 } else { 1 };
        let zone = &text[i + 1..];
        let (h, m) = zone.split_once(':').unwrap_or((zone, "0"));
        let (h, m) =
            if h.len() == 4 { (digits(&h[..2], 2)?, digits(&h[2..], 2)?) } else { (digits(h, 2)?, digits(m, 2)?) };
        let offset = sign * (h * 60 + m) * 60_000_000;
        return parse_datetime(text[..i].trim_end())?.checked_sub(offset);
    }
    let (civil, zone) = text.rsplit_once(' ')?;
    let local = parse_datetime(civil)?;
    let zone = jiff::tz::TimeZone::get(zone).ok()?;
    let (y, m, d) = civil_from_days(local.div_euclid(DAY_US));
    let date = jiff::civil::Date::new(i16::try_from(y).ok()?, i8::try_from(m).ok()?, i8::try_from(d).ok()?).ok()?;
    let micros = jiff::SignedDuration::from_micros(local.rem_euclid(DAY_US));
    let at = date.to_datetime(jiff::civil::Time::midnight()).checked_add(micros).ok()?;
    Some(at.to_zoned(zone).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_at_the_edges_of_the_range() {
        for (text, days) in
            [("0001-01-01", -719_162), ("1970-01-01", 0), ("2024-02-29", 19_782), ("9999-12-31", 2_932_896)]
        {
            assert_eq!(parse_date(text), Some(days), "{text}");
            assert_eq!(date_text(days), text);
        }
        for text in ["2023-02-29", "0000-01-01", "2024-13-01", "2024-1", "20240101", "10000-01-01"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_in_the_forms_that_clients_send() {
        let us = 1_709_168_523_000_004;
        for text in [
            "2024-02-29T01:02:03.000004Z",
            "2024-02-29 01:02:03.000004 UTC",
            "2024-02-29 02:02:03.000004+01:00",
            "2024-02-29 02:02:03.000004+01",
            "2024-02-28T20:02:03.000004-0500",
            "2024-2-29 1:02:03.000004",
        ] {
            assert_eq!(parse_timestamp(text), Some(us), "{text}");
        }
        assert_eq!(parse_timestamp("2024-02-29"), Some(1_709_164_800_000_000));
        assert_eq!(parse_timestamp("tomorrow"), None);
        assert_eq!(datetime_text(us, 'T'), "2024-02-29T01:02:03.000004");
        assert_eq!(datetime_text(-1, ' '), "1969-12-31 23:59:59.999999");
        assert_eq!(rfc3339_ms(us / 1000), "2024-02-29T01:02:03.000Z");
    }
}
