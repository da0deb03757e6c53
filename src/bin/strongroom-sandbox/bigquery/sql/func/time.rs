//! DATE, DATETIME, TIME and TIMESTAMP: constructors, parts, differences, truncation.

use strongroom::codec::value::{
    DATE_MAX, DATE_MIN, MICROS_PER_DAY, civil_from_days, days_from_civil, parse_timestamp_zoned,
};

use super::cast::in_range;
use super::interval::{add, add_months, month_length};
use super::zone::{from_local, offset_at, timestamp_text, to_local, zone};
use super::{Cx, Def, Out, def};
use crate::bigquery::sql::bind::coerce::{cast, coerce};
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

const SECOND: i64 = 1_000_000;

/// Functions over dates and times. A part (DAY, WEEK(MONDAY)) arrives as a text.
pub const DEFS: &[Def] = &[
    def("DATE", "DATE->DATE|DATETIME->DATE|TIMESTAMP,STRING?->DATE|STRING->DATE|INT64,INT64,INT64->DATE", date),
    def(
        "DATETIME",
        "DATETIME->DATETIME|DATE,TIME?->DATETIME|TIMESTAMP,STRING?->DATETIME|STRING->DATETIME|INT64,INT64,INT64,INT64,INT64,INT64->DATETIME",
        datetime,
    ),
    def("TIME", "TIME->TIME|DATETIME->TIME|TIMESTAMP,STRING?->TIME|INT64,INT64,INT64->TIME", time),
    def(
        "TIMESTAMP",
        "TIMESTAMP->TIMESTAMP|STRING,STRING?->TIMESTAMP|DATE,STRING?->TIMESTAMP|DATETIME,STRING?->TIMESTAMP",
        timestamp,
    ),
    def("DATE_ADD", "DATE,INTERVAL->DATE|DATETIME,INTERVAL->DATETIME|TIMESTAMP,INTERVAL->TIMESTAMP", |_, a| {
        shift(a, 1)
    }),
    def("DATE_SUB", "DATE,INTERVAL->DATE|DATETIME,INTERVAL->DATETIME|TIMESTAMP,INTERVAL->TIMESTAMP", |_, a| {
        shift(a, -1)
    }),
    def("DATETIME_ADD", "DATETIME,INTERVAL->DATETIME|TIMESTAMP,INTERVAL->TIMESTAMP", |_, a| shift(a, 1)),
    def("DATETIME_SUB", "DATETIME,INTERVAL->DATETIME|TIMESTAMP,INTERVAL->TIMESTAMP", |_, a| shift(a, -1)),
    def("TIMESTAMP_ADD", "TIMESTAMP,INTERVAL->TIMESTAMP|DATETIME,INTERVAL->DATETIME", |_, a| shift(a, 1)),
    def("TIMESTAMP_SUB", "TIMESTAMP,INTERVAL->TIMESTAMP|DATETIME,INTERVAL->DATETIME", |_, a| shift(a, -1)),
    def("TIME_ADD", "TIME,INTERVAL->TIME", |_, a| shift(a, 1)),
    def("TIME_SUB", "TIME,INTERVAL->TIME", |_, a| shift(a, -1)),
    def(
        "DATE_DIFF",
        "DATE,DATE,STRING->INT64|DATETIME,DATETIME,STRING->INT64|TIMESTAMP,TIMESTAMP,STRING->INT64",
        |_, a| diff(a),
    ),
    def("DATETIME_DIFF", "DATETIME,DATETIME,STRING->INT64|TIMESTAMP,TIMESTAMP,STRING->INT64", |_, a| diff(a)),
    def("TIMESTAMP_DIFF", "TIMESTAMP,TIMESTAMP,STRING->INT64|DATETIME,DATETIME,STRING->INT64", |_, a| diff(a)),
    def("TIME_DIFF", "TIME,TIME,STRING->INT64", |_, a| diff(a)),
    def("DATE_TRUNC", "DATE,STRING->DATE|DATETIME,STRING->DATETIME|TIMESTAMP,STRING,STRING?->TIMESTAMP", |_, a| {
        trunc(a)
    }),
    def("DATETIME_TRUNC", "DATETIME,STRING->DATETIME|TIMESTAMP,STRING,STRING?->TIMESTAMP", |_, a| trunc(a)),
    def("TIMESTAMP_TRUNC", "TIMESTAMP,STRING,STRING?->TIMESTAMP|DATETIME,STRING->DATETIME", |_, a| trunc(a)),
    def("TIME_TRUNC", "TIME,STRING->TIME", |_, a| trunc(a)),
    def("LAST_DAY", "DATE,STRING?->DATE|DATETIME,STRING?->DATE", |_, a| last_day(a)),
    def("UNIX_SECONDS", "TIMESTAMP->INT64", |_, a| unix(a, SECOND)),
    def("UNIX_MILLIS", "TIMESTAMP->INT64", |_, a| unix(a, 1000)),
    def("UNIX_MICROS", "TIMESTAMP->INT64", |_, a| unix(a, 1)),
    def("UNIX_DATE", "DATE->INT64", |_, a| {
        if let Value::Date(d) = &a[0] { Ok(Value::Int(i64::from(*d))) } else { Ok(Value::Null) }
    }),
    def("DATE_FROM_UNIX_DATE", "INT64->DATE", |_, a| day(a[0].int()?)),
    def("TIMESTAMP_SECONDS", "INT64->TIMESTAMP", |_, a| instant(a[0].int()?.checked_mul(SECOND))),
    def("TIMESTAMP_MILLIS", "INT64->TIMESTAMP", |_, a| instant(a[0].int()?.checked_mul(1000))),
    def("TIMESTAMP_MICROS", "INT64->TIMESTAMP", |_, a| instant(Some(a[0].int()?))),
    def("MAKE_INTERVAL", "INT64?,INT64?,INT64?,INT64?,INT64?,INT64?->INTERVAL", make_interval),
    def("JUSTIFY_HOURS", "INTERVAL->INTERVAL", |_, a| justify(a, true, false)),
    def("JUSTIFY_DAYS", "INTERVAL->INTERVAL", |_, a| justify(a, false, true)),
    def("JUSTIFY_INTERVAL", "INTERVAL->INTERVAL", |_, a| justify(a, true, true)),
    def("TIMESTAMP_BUCKET", "TIMESTAMP,INTERVAL,TIMESTAMP?->TIMESTAMP", |_, a| bucket(a)),
    def("DATETIME_BUCKET", "DATETIME,INTERVAL,DATETIME?->DATETIME", |_, a| bucket(a)),
    def("DATE_BUCKET", "DATE,INTERVAL,DATE?->DATE", |_, a| bucket(a)),
];

/// A timestamp's text, whose zone is UTC unless it or `default` names one.
///
/// # Errors
/// Another form.
pub fn parse_timestamp_text(text: &str, default: Option<&str>) -> Result<i64, String> {
    // The codec hands over the local time; the zone's database answers with the offset then.
    let zones = |name: &str, local: i64| -> Option<i32> {
        let zone = zone(name).ok()?;
        Some(((local - from_local(&zone, local)) / SECOND) as i32)
    };
    let parsed = parse_timestamp_zoned(text, &zones).map_err(|_| format!("Invalid timestamp: '{text}'"))?;
    match default {
        Some(name) if !has_zone(text) => Ok(from_local(&zone(name)?, parsed)),
        Some(_) => Err(format!("Invalid timestamp: '{text}' has a time zone already")),
        None => Ok(parsed),
    }
}

fn has_zone(text: &str) -> bool {
    let text = text.trim();
    let after_date = text.get(8..).unwrap_or_default();
    after_date.contains(['+', 'Z', 'z', '/'])
        || after_date.get(2..).is_some_and(|t| t.contains('-') || t.ends_with("UTC"))
}

fn micros(value: &Value) -> Result<i64, String> {
    match value {
        Value::Date(d) => Ok(i64::from(*d) * MICROS_PER_DAY),
        Value::Datetime(v) | Value::Timestamp(v) | Value::Time(v) => Ok(*v),
        other => Err(format!("Internal: a time was expected, found {other:?}")),
    }
}

fn local_of(a: &[Value]) -> Result<i64, String> {
    let value = micros(&a[0])?;
    match a.get(1) {
        Some(name) => Ok(to_local(&zone(name.str()?)?, value)),
        None => Ok(value),
    }
}

fn ymd(a: &[Value]) -> Result<i32, String> {
    let (y, m, d) = (a[0].int()?, a[1].int()?, a[2].int()?);
    let ok =
        (1..=9999).contains(&y) && (1..=12).contains(&m) && d >= 1 && d <= i64::from(month_length(y as i32, m as u32));
    if ok {
        Ok(days_from_civil(y as i32, m as u32, d as u32))
    } else {
        Err(format!("Input calculates to invalid date: {y:04}-{m:02}-{d:02}"))
    }
}

fn hms(a: &[Value]) -> Result<i64, String> {
    let (h, m, s) = (a[0].int()?, a[1].int()?, a[2].int()?);
    if (0..24).contains(&h) && (0..60).contains(&m) && (0..60).contains(&s) {
        Ok((h * 3600 + m * 60 + s) * SECOND)
    } else {
        Err(format!("Input calculates to invalid time: {h:02}:{m:02}:{s:02}"))
    }
}

fn from_text(text: &Value, to: &Ty) -> Out {
    super::cast::cast_value(text, &Ty::String, to)
}

fn date(_: &Cx, a: &[Value]) -> Out {
    match &a[0] {
        Value::Int(_) => ymd(a).map(Value::Date),
        Value::Str(_) => from_text(&a[0], &Ty::Date),
        _ => Ok(Value::Date(local_of(a)?.div_euclid(MICROS_PER_DAY) as i32)),
    }
}

fn datetime(_: &Cx, a: &[Value]) -> Out {
    match (&a[0], a.get(1)) {
        (Value::Int(_), _) => Ok(Value::Datetime(i64::from(ymd(a)?) * MICROS_PER_DAY + hms(&a[3..])?)),
        (Value::Str(_), _) => from_text(&a[0], &Ty::Datetime),
        (Value::Date(d), Some(Value::Time(t))) => Ok(Value::Datetime(i64::from(*d) * MICROS_PER_DAY + t)),
        _ => Ok(Value::Datetime(local_of(a)?)),
    }
}

fn time(_: &Cx, a: &[Value]) -> Out {
    match &a[0] {
        Value::Int(_) => hms(a).map(Value::Time),
        Value::Time(t) => Ok(Value::Time(*t)),
        _ => Ok(Value::Time(local_of(a)?.rem_euclid(MICROS_PER_DAY))),
    }
}

fn timestamp(_: &Cx, a: &[Value]) -> Out {
    let zone_name = a.get(1).map(Value::str).transpose()?;
    if let Value::Str(text) = &a[0] {
        return parse_timestamp_text(text.trim(), zone_name).map(Value::Timestamp);
    }
    let local = micros(&a[0])?;
    match zone_name {
        Some(name) => instant(Some(from_local(&zone(name)?, local))),
        None => Ok(Value::Timestamp(local)),
    }
}

fn shift(a: &[Value], sign: i64) -> Out {
    match &a[1] {
        Value::Interval(interval) => add(&a[0], interval, sign),
        _ => Ok(Value::Null),
    }
}

fn unix(a: &[Value], unit: i64) -> Out {
    Ok(Value::Int(micros(&a[0])?.div_euclid(unit)))
}

fn day(n: i64) -> Out {
    let day = i32::try_from(n).ok().filter(|d| (DATE_MIN..=DATE_MAX).contains(d));
    day.map(Value::Date).ok_or_else(|| format!("DATE value is out of allowed range: {n}"))
}

fn instant(micros: Option<i64>) -> Out {
    micros
        .filter(|m| in_range(*m))
        .map(Value::Timestamp)
        .ok_or_else(|| "TIMESTAMP value is out of allowed range".into())
}

fn make_interval(_: &Cx, a: &[Value]) -> Out {
    let n = |i: usize| a.get(i).map_or(Ok(0), Value::int);
    let months = n(0)?.checked_mul(12).and_then(|y| y.checked_add(n(1).ok()?)).ok_or("Interval overflow")?;
    let seconds = i128::from(n(3)?) * 3600 + i128::from(n(4)?) * 60 + i128::from(n(5)?);
    super::interval::checked(strongroom::codec::value::Interval { months, days: n(2)?, nanos: seconds * 1_000_000_000 })
        .map(Value::Interval)
}

fn justify(a: &[Value], hours: bool, days: bool) -> Out {
    let Value::Interval(i) = &a[0] else { return Ok(Value::Null) };
    let mut i = *i;
    let day = 86_400_000_000_000_i128;
    if hours && days {
        // All parts end up with one sign.
        let total = super::super::value::interval_nanos(&i);
        let whole_days = total / day;
        i.nanos = total % day;
        i.months = (whole_days / 30) as i64;
        i.days = (whole_days % 30) as i64;
        return Ok(Value::Interval(i));
    }
    if hours {
        i.days += (i.nanos / day) as i64;
        i.nanos %= day;
        if i.days > 0 && i.nanos < 0 {
            i.days -= 1;
            i.nanos += day;
        } else if i.days < 0 && i.nanos > 0 {
            i.days += 1;
            i.nanos -= day;
        }
    }
    if days {
        i.months += i.days / 30;
        i.days %= 30;
        if i.months > 0 && i.days < 0 {
            i.months -= 1;
            i.days += 30;
        } else if i.months < 0 && i.days > 0 {
            i.months += 1;
            i.days -= 30;
        }
    }
    Ok(Value::Interval(i))
}

fn bucket(a: &[Value]) -> Out {
    let Value::Interval(width) = &a[1] else { return Ok(Value::Null) };
    let value = micros(&a[0])?;
    // 1950-01-01, as documented.
    let default = i64::from(days_from_civil(1950, 1, 1)) * MICROS_PER_DAY;
    let origin = a.get(2).map_or(Ok(default), micros)?;
    let made = |v: i64| match &a[0] {
        Value::Date(_) => Value::Date(v.div_euclid(MICROS_PER_DAY) as i32),
        Value::Datetime(_) => Value::Datetime(v),
        _ => Value::Timestamp(v),
    };
    if width.months > 0 && width.days == 0 && width.nanos == 0 {
        let month = |m: i64| {
            let (y, mo, _) = civil_from_days(m.div_euclid(MICROS_PER_DAY) as i32);
            i64::from(y) * 12 + i64::from(mo) - 1
        };
        let origin_day = origin.div_euclid(MICROS_PER_DAY) as i32;
        let mut n = (month(value) - month(origin)).div_euclid(width.months);
        loop {
            let start = add_months(origin_day, n * width.months).ok_or("bucket out of range")?;
            let start = i64::from(start) * MICROS_PER_DAY + origin.rem_euclid(MICROS_PER_DAY);
            if start <= value {
                return Ok(made(start));
            }
            n -= 1;
        }
    }
    let size = i128::from(width.days) * i128::from(MICROS_PER_DAY) + width.nanos / 1000;
    if width.months != 0 || size <= 0 {
        return Err("Bucket width must be a positive interval of months, or of days and time".into());
    }
    let n = (i128::from(value) - i128::from(origin)).div_euclid(size);
    i64::try_from(i128::from(origin) + n * size).map(made).map_err(|_| "bucket out of range".into())
}

/// The first day of the week of a part (`WEEK`, `WEEK(MONDAY)`, `ISOWEEK`), 0 = Sunday.
fn week_start(part: &str) -> Option<i64> {
    const DAYS: [&str; 7] = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];
    match part {
        "WEEK" => Some(0),
        "ISOWEEK" => Some(1),
        _ => {
            let day = part.strip_prefix("WEEK(")?.strip_suffix(')')?;
            DAYS.iter().position(|d| *d == day).map(|n| n as i64)
        }
    }
}

/// The day of the week, 0 = Sunday.
pub fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

fn week_floor(day: i64, start: i64) -> i64 {
    day - (weekday(day) - start).rem_euclid(7)
}

/// The Monday with which an ISO year begins.
fn iso_year_start(year: i32) -> i64 {
    week_floor(i64::from(days_from_civil(year, 1, 4)), 1)
}

/// The ISO year of a day.
pub fn iso_year(day: i64) -> i32 {
    let (year, _, _) = civil_from_days(day as i32);
    if day >= iso_year_start(year + 1) {
        year + 1
    } else if day < iso_year_start(year) {
        year - 1
    } else {
        year
    }
}

/// The number of the ISO week.
pub fn iso_week(day: i64) -> i64 {
    (day - iso_year_start(iso_year(day))).div_euclid(7) + 1
}

/// The number of the week that begins on `start`; days before the first such day are in week 0.
pub fn week_number(day: i64, start: i64) -> i64 {
    let (year, _, _) = civil_from_days(day as i32);
    let first = i64::from(days_from_civil(year, 1, 1));
    let first_start = first + (start - weekday(first)).rem_euclid(7);
    if day < first_start { 0 } else { (day - first_start).div_euclid(7) + 1 }
}

fn clock_unit(part: &str) -> Option<i64> {
    Some(match part {
        "HOUR" => 3600 * SECOND,
        "MINUTE" => 60 * SECOND,
        "SECOND" => SECOND,
        "MILLISECOND" => 1000,
        "MICROSECOND" => 1,
        _ => return None,
    })
}

fn unsupported_part(part: &str) -> String {
    format!("Unsupported date part {part}")
}

fn diff(a: &[Value]) -> Out {
    let part = a[2].str()?;
    let (x, y) = (micros(&a[0])?, micros(&a[1])?);
    let (dx, dy) = (x.div_euclid(MICROS_PER_DAY), y.div_euclid(MICROS_PER_DAY));
    if let Value::Timestamp(_) = a[0] {
        // Timestamps count whole units that have passed; no unit is longer than a day.
        let unit = if part == "DAY" { Some(MICROS_PER_DAY) } else { clock_unit(part) };
        let unit = unit.ok_or_else(|| unsupported_part(part))?;
        return x.checked_sub(y).map(|d| Value::Int(d / unit)).ok_or_else(|| "TIMESTAMP_DIFF overflow".into());
    }
    if let Some(unit) = clock_unit(part) {
        if let Value::Date(_) = a[0] {
            return Err(unsupported_part(part));
        }
        return Ok(Value::Int(x.div_euclid(unit) - y.div_euclid(unit)));
    }
    if let Value::Time(_) = a[0] {
        return Err(unsupported_part(part));
    }
    let (cx, cy) = (civil_from_days(dx as i32), civil_from_days(dy as i32));
    let months = |c: (i32, u32, u32)| i64::from(c.0) * 12 + i64::from(c.1) - 1;
    Ok(Value::Int(match part {
        "DAY" => dx - dy,
        "MONTH" => months(cx) - months(cy),
        "QUARTER" => months(cx).div_euclid(3) - months(cy).div_euclid(3),
        "YEAR" => i64::from(cx.0) - i64::from(cy.0),
        "ISOYEAR" => i64::from(iso_year(dx)) - i64::from(iso_year(dy)),
        _ => {
            let start = week_start(part).ok_or_else(|| unsupported_part(part))?;
            (week_floor(dx, start) - week_floor(dy, start)) / 7
        }
    }))
}

/// The beginning of the day that a part's period begins with.
///
/// # Errors
/// Unknown parts.
pub fn floor_day(day: i64, part: &str) -> Result<i64, String> {
    let (year, month, _) = civil_from_days(day as i32);
    Ok(match part {
        "DAY" => day,
        "MONTH" => i64::from(days_from_civil(year, month, 1)),
        "QUARTER" => i64::from(days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        "YEAR" => i64::from(days_from_civil(year, 1, 1)),
        "ISOYEAR" => iso_year_start(iso_year(day)),
        _ => week_floor(day, week_start(part).ok_or_else(|| unsupported_part(part))?),
    })
}

fn trunc(a: &[Value]) -> Out {
    let part = a[1].str()?;
    let zone_of = a.get(2).map(|z| zone(z.str()?)).transpose()?;
    let value = micros(&a[0])?;
    if let Value::Time(t) = &a[0] {
        let unit = clock_unit(part).ok_or_else(|| unsupported_part(part))?;
        return Ok(Value::Time(t - t.rem_euclid(unit)));
    }
    let local = zone_of.as_ref().map_or(value, |z| to_local(z, value));
    let floored = match clock_unit(part) {
        Some(_) if matches!(a[0], Value::Date(_)) => return Err(unsupported_part(part)),
        Some(unit) => local - local.rem_euclid(unit),
        None => floor_day(local.div_euclid(MICROS_PER_DAY), part)? * MICROS_PER_DAY,
    };
    let result = match (&zone_of, clock_unit(part)) {
        (Some(zone), None) => from_local(zone, floored),
        // Within a day the offset stays what it was.
        (Some(_), Some(_)) => value - (local - floored),
        _ => floored,
    };
    Ok(match &a[0] {
        Value::Date(_) => return day(result.div_euclid(MICROS_PER_DAY)),
        Value::Datetime(_) => Value::Datetime(result),
        _ => return instant(Some(result)),
    })
}

fn last_day(a: &[Value]) -> Out {
    let part = a.get(1).map_or(Ok("MONTH"), Value::str)?;
    let here = micros(&a[0])?.div_euclid(MICROS_PER_DAY);
    let start = floor_day(here, part)?;
    let (year, month, _) = civil_from_days(start as i32);
    let end = match part {
        "DAY" => start,
        "MONTH" => start + i64::from(month_length(year, month)) - 1,
        "QUARTER" => i64::from(add_months(start as i32, 3).unwrap_or(DATE_MAX + 1)) - 1,
        "YEAR" => i64::from(days_from_civil(year + 1, 1, 1)) - 1,
        "ISOYEAR" => iso_year_start(iso_year(here) + 1) - 1,
        _ => start + 6,
    };
    day(end)
}

/// One part of a local time.
///
/// # Errors
/// Unknown parts.
pub fn part_of(local: i64, part: &str) -> Result<i64, String> {
    let day = local.div_euclid(MICROS_PER_DAY);
    let clock = local.rem_euclid(MICROS_PER_DAY);
    let (year, month, dom) = civil_from_days(day as i32);
    Ok(match part {
        "YEAR" => year.into(),
        "MONTH" => month.into(),
        "DAY" => dom.into(),
        "QUARTER" => i64::from((month - 1) / 3 + 1),
        "DAYOFWEEK" => weekday(day) + 1,
        "DAYOFYEAR" => day - i64::from(days_from_civil(year, 1, 1)) + 1,
        "ISOWEEK" => iso_week(day),
        "ISOYEAR" => iso_year(day).into(),
        "HOUR" => clock / (3600 * SECOND),
        "MINUTE" => clock / (60 * SECOND) % 60,
        "SECOND" => clock / SECOND % 60,
        "MILLISECOND" => clock / 1000 % 1000,
        "MICROSECOND" => clock % SECOND,
        _ => week_number(day, week_start(part).ok_or_else(|| unsupported_part(part))?),
    })
}

/// `EXTRACT(part FROM value [AT TIME ZONE zone])`.
///
/// # Errors
/// Parts that the type does not have.
pub fn extract(part: &str, value: Tx, at_zone: Option<Tx>) -> Res<Tx> {
    let ty = value.ty.clone();
    let ret = match part {
        "DATE" => Ty::Date,
        "TIME" => Ty::Time,
        "DATETIME" => Ty::Datetime,
        _ => Ty::Int64,
    };
    if ty == Ty::Interval {
        let part = part.to_owned();
        let f = move |a: &[Value]| {
            let Value::Interval(i) = &a[0] else { return Ok(Value::Null) };
            let seconds = (i.nanos / 1_000_000_000) as i64;
            Ok(Value::Int(match part.as_str() {
                "YEAR" => i.months / 12,
                "MONTH" => i.months % 12,
                "DAY" => i.days,
                "HOUR" => seconds / 3600,
                "MINUTE" => seconds / 60 % 60,
                "SECOND" => seconds % 60,
                "MILLISECOND" => (i.nanos / 1_000_000 % 1000) as i64,
                "MICROSECOND" => (i.nanos / 1000 % 1_000_000) as i64,
                other => return Err(unsupported_part(other)),
            }))
        };
        return Ok(Tx::new(udf::rows(format!("extract_{}", ret), vec![value.pair()], ret.clone(), f), ret));
    }
    let value = if value.is_null_literal() { cast(value, &Ty::Timestamp, false)? } else { value };
    let value = if value.ty == Ty::String && value.soft { coerce(value, &Ty::Timestamp)? } else { value };
    let ty = value.ty.clone();
    let clock = clock_unit(part).is_some() || part == "TIME";
    let fits = match ty {
        Ty::Date => !clock,
        Ty::Time => clock_unit(part).is_some(),
        Ty::Datetime | Ty::Timestamp => true,
        _ => false,
    };
    if !fits {
        return Err(invalid(format!("EXTRACT from {ty} does not support the {part} date part")));
    }
    if ret == Ty::Int64 {
        part_of(0, part).map_err(|_| invalid(format!("A valid date part name is required but found {part}")))?;
    }
    if at_zone.is_some() && ty != Ty::Timestamp {
        return Err(invalid("EXTRACT ... AT TIME ZONE is only supported for TIMESTAMP"));
    }
    let id = format!("extract {part}");
    let part = part.to_owned();
    let mut args = vec![value.pair()];
    if let Some(zone) = at_zone {
        args.push(coerce(zone, &Ty::String)?.pair());
    }
    let f = move |a: &[Value]| {
        if a.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        let local = local_of(a)?;
        Ok(match part.as_str() {
            "DATE" => Value::Date(local.div_euclid(MICROS_PER_DAY) as i32),
            "TIME" => Value::Time(local.rem_euclid(MICROS_PER_DAY)),
            "DATETIME" => Value::Datetime(local),
            part => Value::Int(part_of(local, part)?),
        })
    };
    Ok(Tx::new(udf::rows(id, args, ret.clone(), f), ret))
}

/// `STRING(timestamp, zone)`.
///
/// # Errors
/// Unknown zones.
pub fn zoned_text(micros: i64, name: &str) -> Result<String, String> {
    let zone = zone(name)?;
    Ok(timestamp_text(micros, offset_at(&zone, micros)))
}
