//! INTERVAL: three independent parts, in BigQuery's canonical text and in ISO 8601.

use super::InvalidValue;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const NANOS_PER_HOUR: i128 = 3600 * NANOS_PER_SECOND;
/// https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#interval_type: 10,000 years of each part.
const MAX_MONTHS: i64 = 120_000;
const MAX_DAYS: i64 = 3_660_000;
const MAX_NANOS: i128 = 87_840_000 * NANOS_PER_HOUR;

/// Months, days and a span of time; none of them converts into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interval {
    pub months: i64,
    pub days: i64,
    /// BigQuery keeps microseconds; its texts may carry nanoseconds.
    pub nanos: i128,
}

impl Interval {
    /// Reads the canonical text `[-]Y-M [-]D [-]H:M:S[.F]`, or ISO 8601 (`P1Y2M3DT4H5M6.5S`).
    ///
    /// # Errors
    /// Another form, or a part beyond 10,000 years.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let trimmed = text.trim();
        let parsed = if trimmed.starts_with('P') { parse_iso(trimmed) } else { parse_canonical(trimmed) };
        let interval = parsed.ok_or_else(|| {
            InvalidValue::new("INTERVAL", text, "expected `Y-M D H:M:S.F` or ISO 8601, as in P1Y2M3DT4H5M6S")
        })?;
        let Self { months, days, nanos } = interval;
        if months.abs() > MAX_MONTHS || days.abs() > MAX_DAYS || nanos.abs() > MAX_NANOS {
            return Err(InvalidValue::new("INTERVAL", text, "out of range"));
        }
        Ok(interval)
    }

    /// Writes `[-]Y-M [-]D [-]H:M:S[.F]`, the fraction in groups of three digits.
    // GoogleSQL `IntervalValue::ToString`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let months = self.months.unsigned_abs();
        let sign = |negative| if negative { "-" } else { "" };
        let (hours, minutes, seconds, fraction) = self.clock();
        super::push_display(
            out,
            format_args!(
                "{}{}-{} {} {}{hours}:{minutes}:{seconds}",
                sign(self.months < 0),
                months / 12,
                months % 12,
                self.days,
                sign(self.nanos < 0)
            ),
        );
        if fraction != 0 {
            let mut text = format!(".{fraction:09}");
            while text.ends_with("000") {
                text.truncate(text.len() - 3);
            }
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Writes ISO 8601 as TO_JSON_STRING does: parts that are zero left out, `P0Y` for nothing at all.
    pub fn write_iso(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            out.extend_from_slice(b"P0Y");
            return;
        }
        out.push(b'P');
        let part = |out: &mut Vec<u8>, number: i128, unit: char| {
            if number != 0 {
                super::push_display(out, format_args!("{number}{unit}"));
            }
        };
        // The sign stands at years and at months, as division towards zero leaves it.
        part(out, i128::from(self.months / 12), 'Y');
        part(out, i128::from(self.months % 12), 'M');
        part(out, i128::from(self.days), 'D');
        if self.nanos == 0 {
            return;
        }
        out.push(b'T');
        let sign = if self.nanos < 0 { -1 } else { 1 };
        let (hours, minutes, seconds, fraction) = self.clock();
        part(out, sign * hours as i128, 'H');
        part(out, sign * minutes as i128, 'M');
        if seconds != 0 || fraction != 0 {
            let minus = if sign < 0 { "-" } else { "" };
            super::push_display(out, format_args!("{minus}{seconds}"));
            if fraction != 0 {
                let text = format!(".{fraction:09}");
                out.extend_from_slice(text.trim_end_matches('0').as_bytes());
            }
            out.push(b'S');
        }
    }

    /// Hours, minutes, seconds, nanoseconds of the absolute span.
    fn clock(&self) -> (u128, u128, u128, u128) {
        let nanos = self.nanos.unsigned_abs();
        let seconds = nanos / NANOS_PER_SECOND as u128;
        (seconds / 3600, seconds / 60 % 60, seconds % 60, nanos % NANOS_PER_SECOND as u128)
    }
}

fn parse_canonical(text: &str) -> Option<Interval> {
    let mut parts = text.split_ascii_whitespace();
    let (months, days, clock) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (negative, months) = signed(months);
    let (years, months) = months.split_once('-')?;
    let months = digits(years)?.checked_mul(12)?.checked_add(digits(months).filter(|m| *m < 12)?)?;
    let months = i64::try_from(if negative { -months } else { months }).ok()?;
    let (negative, days) = signed(days);
    let days = i64::try_from(if negative { -digits(days)? } else { digits(days)? }).ok()?;
    let (negative, clock) = signed(clock);
    let mut pieces = clock.split(':');
    let (hours, minutes, seconds) = (digits(pieces.next()?)?, digits(pieces.next()?)?, pieces.next()?);
    if pieces.next().is_some() {
        return None;
    }
    let nanos = hours * NANOS_PER_HOUR + minutes * 60 * NANOS_PER_SECOND + with_fraction(seconds)?;
    Some(Interval { months, days, nanos: if negative { -nanos } else { nanos } })
}

fn parse_iso(text: &str) -> Option<Interval> {
    let mut interval = Interval::default();
    let mut rest = text.strip_prefix('P')?;
    let mut in_time = false;
    let mut parts = 0;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T').filter(|_| !in_time) {
            in_time = true;
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = (&rest[..end], rest.as_bytes()[end]);
        let (negative, number) = signed(number);
        let sign = if negative { -1 } else { 1 };
        let whole = || digits(number).map(|n| sign * n);
        let months = |n: i128, each: i128| i64::try_from(n.checked_mul(each)?).ok();
        match (unit, in_time) {
            (b'Y', false) => interval.months = interval.months.checked_add(months(whole()?, 12)?)?,
            (b'M', false) => interval.months = interval.months.checked_add(months(whole()?, 1)?)?,
            (b'W', false) => interval.days = interval.days.checked_add(months(whole()?, 7)?)?,
            (b'D', false) => interval.days = interval.days.checked_add(months(whole()?, 1)?)?,
            (b'H', true) => interval.nanos += whole()? * NANOS_PER_HOUR,
            (b'M', true) => interval.nanos += whole()? * 60 * NANOS_PER_SECOND,
            (b'S', true) => interval.nanos += sign * with_fraction(number)?,
            _ => return None,
        }
        parts += 1;
        if parts > 8 {
            return None;
        }
        rest = &rest[end + 1..];
    }
    (parts > 0).then_some(interval)
}

fn signed(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn digits(text: &str) -> Option<i128> {
    ((1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `S[.F]` as nanoseconds.
fn with_fraction(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    Some(digits(whole)? * NANOS_PER_SECOND + digits(fraction)? * 10_i128.pow(9 - fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::to_text;
    use super::*;

    #[test]
    fn both_spellings() {
        for (text, canonical, iso) in [
            ("1-2 -3 4:5:6", "1-2 -3 4:5:6", "P1Y2M-3DT4H5M6S"),
            ("P7Y11M9DT4H15M37.123456S", "7-11 9 4:15:37.123456", "P7Y11M9DT4H15M37.123456S"),
            ("-1-2 -3 -4:5:6.1", "-1-2 -3 -4:5:6.100", "P-1Y-2M-3DT-4H-5M-6.1S"),
            ("0-0 0 0:0:0", "0-0 0 0:0:0", "P0Y"),
            ("-0-11 0 0:0:0", "-0-11 0 0:0:0", "P-11M"),
            ("P2W", "0-0 14 0:0:0", "P14D"),
            ("0-0 0 -0:0:0.000001", "0-0 0 -0:0:0.000001", "PT-0.000001S"),
            ("10000-0 3660000 87840000:0:0", "10000-0 3660000 87840000:0:0", "P10000Y3660000DT87840000H"),
        ] {
            let interval = Interval::parse(text).unwrap();
            assert_eq!(to_text(|out| interval.write(out)), canonical);
            assert_eq!(to_text(|out| interval.write_iso(out)), iso);
        }
        for text in
            ["", "P", "PT", "1-2", "1-12 0 0:0:0", "10000-1 0 0:0:0", "P1H", "1-1 1 1:1", "P1Y1", "P99999999999999999Y"]
        {
            assert!(Interval::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_interval_comes_back(months in -MAX_MONTHS..=MAX_MONTHS, days in -MAX_DAYS..=MAX_DAYS, nanos in -MAX_NANOS..=MAX_NANOS) {
            let interval = Interval { months, days, nanos };
            prop_assert_eq!(Interval::parse(&to_text(|out| interval.write(out))), Ok(interval));
            prop_assert_eq!(Interval::parse(&to_text(|out| interval.write_iso(out))), Ok(interval));
        }

        #[test]
        fn no_text_panics(text in "[P0-9YMDTHS:. -]{0,40}") {
            let _ = Interval::parse(&text);
        }
    }
}
