//! INTERVAL: making them, adding them to dates and times, arithmetic among them.

use strongroom::codec::value::{DATE_MAX, DATE_MIN, Interval, MICROS_PER_DAY, civil_from_days, days_from_civil};

use super::cast::in_range;
use crate::bigquery::sql::bind::coerce::{coerce, literal};
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

const MICRO: i128 = 1000;
const SECOND: i128 = 1_000_000_000;

/// `INTERVAL value part [TO part]`.
///
/// # Errors
/// Unknown parts, texts of another form.
pub fn make(value: Tx, from: &str, to: Option<&str>) -> Res<Tx> {
    if let Some(to) = to {
        let (from, to) = (from.to_owned(), to.to_owned());
        let value =
            coerce(value, &Ty::String).map_err(|_| invalid("INTERVAL with two parts needs a STRING literal"))?;
        let Some(Value::Str(text)) = &value.lit else {
            return Err(invalid("INTERVAL with two parts needs a STRING literal"));
        };
        let interval = ranged(text, &from, &to).ok_or_else(|| invalid(format!("Invalid INTERVAL literal '{text}'")))?;
        return Ok(Tx { soft: false, ..literal(Ty::Interval, Value::Interval(interval))? });
    }
    if unit(1, from).is_none() {
        return Err(invalid(format!("Invalid date part '{from}' in INTERVAL")));
    }
    let part = from.to_owned();
    if value.ty == Ty::String && value.lit.is_some() && !value.is_null_literal() {
        let Some(Value::Str(text)) = &value.lit else { return Err(invalid("Invalid INTERVAL literal")) };
        let parsed = text.trim().parse::<i64>().ok().and_then(|n| unit(n, &part)).or_else(|| seconds(text, &part));
        let interval = parsed.ok_or_else(|| invalid(format!("Invalid INTERVAL literal '{text}'")))?;
        return Ok(Tx { soft: false, ..literal(Ty::Interval, Value::Interval(interval))? });
    }
    let value = coerce(value, &Ty::Int64)?;
    let compute = move |n: i64| unit(n, &part).ok_or_else(|| "Interval value is out of range".to_owned());
    if let Some(Value::Int(n)) = &value.lit {
        let interval = compute(*n).and_then(checked).map_err(invalid)?;
        return Ok(Tx { soft: false, ..literal(Ty::Interval, Value::Interval(interval))? });
    }
    let e = udf::rows(format!("interval_{from}"), vec![value.pair()], Ty::Interval, move |a| match &a[0] {
        Value::Int(n) => checked(compute(*n)?).map(Value::Interval),
        _ => Ok(Value::Null),
    });
    Ok(Tx::new(e, Ty::Interval))
}

/// An interval's text: canonical or ISO 8601, or just some of the canonical parts (`1-2`, `1-2 3`, `3 4:5:6`, `4:5:6`).
pub fn from_text(text: &str) -> Option<Interval> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let months = |w: &str| w.trim_start_matches('-').contains('-');
    let clock = |w: &str| w.contains(':');
    let full = match words.as_slice() {
        [w] if w.starts_with('P') => (*w).to_owned(),
        [m, d, c] => format!("{m} {d} {c}"),
        [m] if months(m) => format!("{m} 0 0:0:0"),
        [c] if clock(c) => format!("0-0 0 {c}"),
        [m, d] if months(m) && !clock(d) => format!("{m} {d} 0:0:0"),
        [m, c] if months(m) && clock(c) => format!("{m} 0 {c}"),
        [d, c] if clock(c) => format!("0-0 {d} {c}"),
        _ => return None,
    };
    checked(Interval::parse(&full).ok()?).ok().filter(|i| i.nanos % MICRO == 0)
}

/// An interval within BigQuery's bounds.
///
/// # Errors
/// When a part is beyond them.
pub fn checked(interval: Interval) -> Result<Interval, String> {
    let Interval { months, days, nanos } = interval;
    for (name, value, limit) in [
        ("months", i128::from(months), 120_000),
        ("days", i128::from(days), 3_660_000),
        ("micros", nanos / MICRO, 316_224_000_000_000_000),
    ] {
        if value.abs() > limit {
            return Err(format!("Interval field {name} '{value}' is out of range -{limit} to {limit}"));
        }
    }
    Ok(interval)
}

fn seconds(text: &str, part: &str) -> Option<Interval> {
    if part != "SECOND" {
        return None;
    }
    let nanos = strongroom::codec::value::parse_numeric(text).ok()?;
    Some(Interval { nanos, ..Interval::default() })
}

/// `n` of a part.
pub fn unit(n: i64, part: &str) -> Option<Interval> {
    let zero = Interval::default();
    let wide = i128::from(n);
    let interval = match part {
        "YEAR" => Interval { months: n.checked_mul(12)?, ..zero },
        "QUARTER" => Interval { months: n.checked_mul(3)?, ..zero },
        "MONTH" => Interval { months: n, ..zero },
        "WEEK" => Interval { days: n.checked_mul(7)?, ..zero },
        "DAY" => Interval { days: n, ..zero },
        "HOUR" => Interval { nanos: wide * 3600 * SECOND, ..zero },
        "MINUTE" => Interval { nanos: wide * 60 * SECOND, ..zero },
        "SECOND" => Interval { nanos: wide * SECOND, ..zero },
        "MILLISECOND" => Interval { nanos: wide * 1_000_000, ..zero },
        "MICROSECOND" => Interval { nanos: wide * MICRO, ..zero },
        _ => return None,
    };
    Some(interval)
}

/// `'1-2' YEAR TO MONTH`, `'10:20' HOUR TO MINUTE`, ...
fn ranged(text: &str, from: &str, to: &str) -> Option<Interval> {
    const PARTS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let first = PARTS.iter().position(|p| *p == from)?;
    let last = PARTS.iter().position(|p| *p == to)?;
    if last <= first {
        return None;
    }
    // Filled up to the canonical form with zeros.
    let mut months = "0-0".to_owned();
    let mut days = "0".to_owned();
    let mut clock = "0:0:0".to_owned();
    let mut words = text.split_ascii_whitespace();
    if first <= 1 && last >= 1 {
        let word = words.next()?;
        months = if first == 0 { word.to_owned() } else { format!("0-{word}") };
    }
    if first <= 2 && last >= 2 {
        days = words.next()?.to_owned();
    }
    if last >= 3 {
        let word = words.next()?;
        let start = first.max(3);
        let (sign, word) = word.strip_prefix('-').map_or(("", word), |w| ("-", w));
        let mut parts = vec!["0"; start - 3];
        parts.extend(word.split(':'));
        parts.resize(3, "0");
        clock = format!("{sign}{}", parts.join(":"));
    }
    if words.next().is_some() {
        return None;
    }
    Interval::parse(&format!("{months} {days} {clock}")).ok()
}

/// `-interval`.
pub fn negate(value: Tx) -> Tx {
    let flip = |v: &Value| match v {
        Value::Interval(i) => Value::Interval(Interval { months: -i.months, days: -i.days, nanos: -i.nanos }),
        _ => Value::Null,
    };
    Tx::new(udf::rows("interval_negate", vec![value.pair()], Ty::Interval, move |a| Ok(flip(&a[0]))), Ty::Interval)
}

/// Adds months to a day; a day that the month lacks becomes its last.
pub fn add_months(days: i32, months: i64) -> Option<i32> {
    let (year, month, day) = civil_from_days(days);
    let total = (i64::from(year) * 12 + i64::from(month) - 1).checked_add(months)?;
    let year = i32::try_from(total.div_euclid(12)).ok()?;
    if !(1..=9999).contains(&year) {
        return None;
    }
    let month = total.rem_euclid(12) as u32 + 1;
    let day = day.min(month_length(year, month));
    Some(days_from_civil(year, month, day))
}

/// The number of days of a month.
pub fn month_length(year: i32, month: u32) -> u32 {
    let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    (next - days_from_civil(year, month, 1)) as u32
}

/// A date or time and an interval. `civil`: DATE, DATETIME; a TIMESTAMP takes no months.
///
/// # Errors
/// Out of range.
pub fn add(value: &Value, interval: &Interval, sign: i64) -> Result<Value, String> {
    let (months, days) = (interval.months * sign, interval.days * sign);
    let micros =
        i64::try_from(interval.nanos / MICRO * i128::from(sign)).map_err(|_| "Interval overflow".to_owned())?;
    let moved = |local: i64| -> Option<i64> {
        let day = i32::try_from(local.div_euclid(MICROS_PER_DAY)).ok()?;
        let day = if months == 0 { day } else { add_months(day, months)? };
        let day = i64::from(day).checked_add(days)?;
        let micros =
            day.checked_mul(MICROS_PER_DAY)?.checked_add(local.rem_euclid(MICROS_PER_DAY))?.checked_add(micros)?;
        in_range(micros).then_some(micros)
    };
    Ok(match value {
        Value::Date(day) => {
            let local = moved(i64::from(*day) * MICROS_PER_DAY);
            let day = local.map(|l| l.div_euclid(MICROS_PER_DAY) as i32).filter(|d| (DATE_MIN..=DATE_MAX).contains(d));
            Value::Date(day.ok_or("Adding an interval to a DATE caused overflow")?)
        }
        Value::Datetime(local) => {
            Value::Datetime(moved(*local).ok_or("Adding an interval to a DATETIME caused overflow")?)
        }
        Value::Timestamp(local) => {
            if months != 0 {
                return Err(
                    "TIMESTAMP +/- INTERVAL is not supported for intervals with non-zero MONTH or YEAR part.".into()
                );
            }
            Value::Timestamp(moved(*local).ok_or("Adding an interval to a TIMESTAMP caused overflow")?)
        }
        Value::Time(time) => Value::Time((time + micros).rem_euclid(MICROS_PER_DAY)),
        _ => Value::Null,
    })
}

/// `+` and `-` with dates, times and intervals; `None` when no operand is one.
///
/// # Errors
/// Operands that do not fit.
pub fn arithmetic(op: &str, left: &Tx, right: &Tx) -> Res<Option<Tx>> {
    let temporal = |t: &Ty| matches!(t, Ty::Date | Ty::Datetime | Ty::Timestamp | Ty::Time);
    let sign = if op == "-" { -1 } else { 1 };
    let plus_minus = matches!(op, "+" | "-");
    match (&left.ty, &right.ty) {
        (t, Ty::Interval) if temporal(t) && plus_minus => {
            // A DATE and an INTERVAL make a DATETIME.
            let left = if *t == Ty::Date {
                crate::bigquery::sql::bind::coerce::cast(left.clone(), &Ty::Datetime, false)?
            } else {
                left.clone()
            };
            let ty = left.ty.clone();
            let e = udf::rows(
                format!("{ty} {op} interval"),
                vec![left.pair(), right.clone().pair()],
                ty.clone(),
                move |a| match (&a[0], &a[1]) {
                    (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
                    (value, Value::Interval(interval)) => add(value, interval, sign),
                    _ => Ok(Value::Null),
                },
            );
            Ok(Some(Tx::new(e, ty)))
        }
        (Ty::Interval, t) if temporal(t) && op == "+" => arithmetic(op, right, left),
        (Ty::Date, Ty::Int64) if plus_minus => {
            let e = udf::rows(
                format!("DATE {op} INT64"),
                vec![left.clone().pair(), right.clone().pair()],
                Ty::Date,
                move |a| {
                    let (Value::Date(day), Value::Int(n)) = (&a[0], &a[1]) else { return Ok(Value::Null) };
                    let day = n.checked_mul(sign).and_then(|n| n.checked_add(i64::from(*day)));
                    let day = day.and_then(|d| i32::try_from(d).ok()).filter(|d| (DATE_MIN..=DATE_MAX).contains(d));
                    day.map(Value::Date).ok_or_else(|| "Arithmetic on a DATE caused overflow".into())
                },
            );
            Ok(Some(Tx::new(e, Ty::Date)))
        }
        (Ty::Int64, Ty::Date) if op == "+" && !left.is_null_literal() => arithmetic(op, right, left),
        (a, b) if temporal(a) && a == b && op == "-" => {
            let e =
                udf::rows(format!("{a} - {b}"), vec![left.clone().pair(), right.clone().pair()], Ty::Interval, |a| {
                    Ok(match (&a[0], &a[1]) {
                        (Value::Date(x), Value::Date(y)) => {
                            Value::Interval(Interval { days: i64::from(*x) - i64::from(*y), ..Interval::default() })
                        }
                        (Value::Datetime(x), Value::Datetime(y))
                        | (Value::Timestamp(x), Value::Timestamp(y))
                        | (Value::Time(x), Value::Time(y)) => {
                            Value::Interval(Interval { nanos: i128::from(x - y) * MICRO, ..Interval::default() })
                        }
                        _ => Value::Null,
                    })
                });
            Ok(Some(Tx::new(e, Ty::Interval)))
        }
        (Ty::Interval, Ty::Interval) if plus_minus => {
            let e = udf::rows(
                format!("interval {op}"),
                vec![left.clone().pair(), right.clone().pair()],
                Ty::Interval,
                move |a| {
                    let (Value::Interval(x), Value::Interval(y)) = (&a[0], &a[1]) else { return Ok(Value::Null) };
                    let n = i128::from(sign);
                    checked(Interval {
                        months: x.months + sign * y.months,
                        days: x.days + sign * y.days,
                        nanos: x.nanos + n * y.nanos,
                    })
                    .map(Value::Interval)
                },
            );
            Ok(Some(Tx::new(e, Ty::Interval)))
        }
        (Ty::Interval, Ty::Int64) if op == "*" || op == "/" => {
            let times = op == "*";
            let e = udf::rows(
                format!("interval {op}"),
                vec![left.clone().pair(), right.clone().pair()],
                Ty::Interval,
                move |a| {
                    let (Value::Interval(x), Value::Int(n)) = (&a[0], &a[1]) else { return Ok(Value::Null) };
                    if times {
                        let out = (|| {
                            Some(Interval {
                                months: x.months.checked_mul(*n)?,
                                days: x.days.checked_mul(*n)?,
                                nanos: x.nanos.checked_mul(i128::from(*n))?,
                            })
                        })();
                        return checked(out.ok_or("Interval overflow")?).map(Value::Interval);
                    }
                    if *n == 0 {
                        return Err("division by zero: interval / 0".into());
                    }
                    // What months leave over becomes days of a month of thirty, what days leave over becomes time.
                    let days = x.days + x.months % n * 30;
                    let nanos = x.nanos + i128::from(days % n) * 86_400 * SECOND;
                    Ok(Value::Interval(Interval {
                        months: x.months / n,
                        days: days / n,
                        nanos: nanos / i128::from(*n) / MICRO * MICRO,
                    }))
                },
            );
            Ok(Some(Tx::new(e, Ty::Interval)))
        }
        (Ty::Int64, Ty::Interval) if op == "*" => arithmetic(op, right, left),
        _ => Ok(None),
    }
}
