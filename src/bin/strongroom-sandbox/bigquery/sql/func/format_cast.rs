//! `CAST(... FORMAT ...)`: dates and times by the elements of SQL's format model, BYTES by encodings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom::codec::value::{MICROS_PER_DAY, civil_from_days, days_from_civil};

use super::interval::month_length;
use super::zone::{from_local, to_local, zone};
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

const SECOND: i64 = 1_000_000;

/// Binds `CAST(value AS ty FORMAT format [AT TIME ZONE zone])`.
///
/// # Errors
/// Formats for other types than these.
pub fn cast(value: Tx, ty: &Ty, format: Option<Tx>, at_zone: Option<Tx>, safe: bool) -> Res<Tx> {
    let temporal = |t: &Ty| matches!(t, Ty::Date | Ty::Datetime | Ty::Time | Ty::Timestamp);
    let Some(format) = format else {
        // Without a format only a zone is given.
        let name = if temporal(ty) { "TIMESTAMP" } else { "STRING" };
        let def = super::find(name).filter(|_| *ty == Ty::Timestamp);
        let (Some(def), Some(zone)) = (def, at_zone) else {
            return Err(unsupported("CAST with AT TIME ZONE to this type"));
        };
        return super::bind(def, vec![value, zone], safe, 0);
    };
    let (from, to) = (value.ty.clone(), ty.clone());
    let fits = (temporal(&from) && to == Ty::String)
        || (from == Ty::String && temporal(&to))
        || matches!((&from, &to), (Ty::Bytes, Ty::String) | (Ty::String, Ty::Bytes));
    if !fits {
        return Err(invalid(format!("CAST of {from} to {to} does not support FORMAT")));
    }
    // What the type does not have cannot be written or read; what is not given would be today's.
    if let Some(Value::Str(text)) = &format.lit {
        let temporal_side = if to == Ty::String { &from } else { &to };
        check_elements(text, temporal_side, to != Ty::String)?;
    } else if temporal(&from) || temporal(&to) {
        return Err(unsupported("CAST with a FORMAT that is no constant"));
    }
    let mut args = vec![value.pair(), format.pair()];
    args.extend(at_zone.map(Tx::pair));
    let f = move |a: &[Value]| {
        if a.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        let zone = zone(a.get(2).map_or(Ok("UTC"), Value::str)?)?;
        let format = a[1].str()?;
        Ok(match (&a[0], &to) {
            (Value::Bytes(bytes), _) => Value::Str(encode(bytes, format)?),
            (Value::Str(text), Ty::Bytes) => Value::Bytes(decode(text, format)?),
            (Value::Str(text), to) => {
                let local = read(text, format)?;
                match to {
                    Ty::Date => Value::Date(local.div_euclid(MICROS_PER_DAY) as i32),
                    Ty::Time => Value::Time(local.rem_euclid(MICROS_PER_DAY)),
                    Ty::Datetime => Value::Datetime(local),
                    _ => Value::Timestamp(from_local(&zone, local)),
                }
            }
            (Value::Date(d), _) => Value::Str(write(i64::from(*d) * MICROS_PER_DAY, format)?),
            (Value::Time(v) | Value::Datetime(v), _) => Value::Str(write(*v, format)?),
            (Value::Timestamp(v), _) => Value::Str(write(to_local(&zone, *v), format)?),
            _ => Value::Null,
        })
    };
    let e =
        udf::call(format!("format_cast_{ty}"), args, ty.clone(), udf::Body::Rows(std::sync::Arc::new(f)), false, safe);
    Ok(Tx::new(e, ty.clone()))
}

fn encode(bytes: &[u8], format: &str) -> Result<String, String> {
    match format.to_uppercase().as_str() {
        "HEX" | "BASE16" => Ok(bytes.iter().map(|b| format!("{b:02x}")).collect()),
        "BASE64" => Ok(STANDARD.encode(bytes)),
        "ASCII" if !bytes.is_ascii() => Err("Failed to decode invalid ASCII string".into()),
        "ASCII" | "UTF-8" | "UTF8" => String::from_utf8(bytes.to_vec()).map_err(|_| "Invalid UTF-8".into()),
        other => Err(format!("Unsupported format {other}")),
    }
}

fn decode(text: &str, format: &str) -> Result<Vec<u8>, String> {
    match format.to_uppercase().as_str() {
        "BASE64" => STANDARD.decode(text).map_err(|e| e.to_string()),
        "HEX" | "BASE16" => {
            let pairs = text
                .as_bytes()
                .chunks(2)
                .map(|p| std::str::from_utf8(p).ok().and_then(|p| u8::from_str_radix(p, 16).ok()));
            pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| "Invalid hexadecimal text".into())
        }
        "ASCII" if !text.is_ascii() => Err("Failed to decode invalid ASCII string".into()),
        "ASCII" | "UTF-8" | "UTF8" => Ok(text.as_bytes().to_vec()),
        other => Err(format!("Unsupported format {other}")),
    }
}

const ELEMENTS: [&str; 24] = [
    "YYYY", "YYY", "YY", "Y", "MONTH", "MON", "MM", "DDD", "DD", "DAY", "DY", "HH24", "HH12", "HH", "MI", "SSSSS",
    "SS", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "AM",
];

fn element(rest: &str) -> Option<&'static str> {
    let upper = rest.to_uppercase();
    if upper.starts_with("PM") {
        return Some("PM");
    }
    ELEMENTS.into_iter().find(|e| upper.starts_with(e))
}

fn check_elements(format: &str, ty: &Ty, reading: bool) -> Res<()> {
    if !matches!(ty, Ty::Date | Ty::Time | Ty::Datetime | Ty::Timestamp) {
        return Ok(());
    }
    let mut seen = Vec::new();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.find('"').map_or("", |end| &quoted[end + 1..]);
        } else if let Some(e) = element(rest) {
            let dates = matches!(e.as_bytes()[0], b'Y' | b'D') || matches!(e, "MONTH" | "MON" | "MM");
            if (dates && *ty == Ty::Time) || (!dates && *ty == Ty::Date) {
                return Err(invalid(format!("{ty} does not support '{e}'")));
            }
            seen.push(e);
            rest = &rest[e.len()..];
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    let has = |any: &[&str]| seen.iter().any(|e| any.contains(e));
    if reading && *ty != Ty::Time && !(has(&["YYYY"]) && has(&["MM", "MON", "MONTH"])) {
        return Err(unsupported("CAST with a FORMAT that leaves out the year or the month"));
    }
    Ok(())
}

fn name(day_or_month: &str, like: &str) -> String {
    // The format's case decides the name's.
    if like.chars().all(|c| !c.is_lowercase()) {
        day_or_month.to_uppercase()
    } else if like.chars().all(char::is_lowercase) {
        day_or_month.to_lowercase()
    } else {
        day_or_month.to_owned()
    }
}

fn strftime(local: i64, e: &str) -> String {
    let def = super::find("FORMAT_DATETIME");
    let cx = super::Cx { args: vec![], ret: Ty::String, now_us: 0 };
    match def.map(|d| (d.f)(&cx, &[Value::Str(e.into()), Value::Datetime(local)])) {
        Some(Ok(Value::Str(text))) => text,
        _ => String::new(),
    }
}

fn write(local: i64, format: &str) -> Result<String, String> {
    let (year, _, _) = civil_from_days(local.div_euclid(MICROS_PER_DAY) as i32);
    let clock = local.rem_euclid(MICROS_PER_DAY);
    let mut out = String::new();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').ok_or("Unclosed text in a format")?;
            out.push_str(&quoted[..end]);
            rest = &quoted[end + 1..];
            continue;
        }
        let Some(e) = element(rest) else {
            if c.is_alphabetic() {
                return Err(format!("Unsupported format element at '{rest}'"));
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let written = &rest[..e.len()];
        out.push_str(&match e {
            "YYYY" => format!("{year:04}"),
            "YYY" => format!("{:03}", year % 1000),
            "YY" => format!("{:02}", year % 100),
            "Y" => (year % 10).to_string(),
            "MONTH" => name(&strftime(local, "%B"), written),
            "MON" => name(&strftime(local, "%b"), written),
            "MM" => strftime(local, "%m"),
            "DDD" => strftime(local, "%j"),
            "DD" => strftime(local, "%d"),
            "DAY" => name(&strftime(local, "%A"), written),
            "DY" => name(&strftime(local, "%a"), written),
            "HH24" => strftime(local, "%H"),
            "HH12" | "HH" => strftime(local, "%I"),
            "MI" => strftime(local, "%M"),
            "SS" => strftime(local, "%S"),
            "SSSSS" => format!("{:05}", clock / SECOND),
            "AM" | "PM" => name(&strftime(local, "%p"), written),
            fraction => {
                let n: usize = fraction[2..].parse().map_err(|_| "Unsupported format element")?;
                format!("{:06}", clock % SECOND)[..n].to_owned()
            }
        });
        rest = &rest[e.len()..];
    }
    Ok(out)
}

fn read(text: &str, format: &str) -> Result<i64, String> {
    let bad = || format!("Failed to parse input string \"{text}\" by the format \"{format}\"");
    let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut micro) =
        (1970_i64, 1_i64, 1_i64, 0, 0, 0, 0);
    let mut half: Option<bool> = None;
    let mut input = text.trim_start();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').ok_or_else(bad)?;
            input = input.strip_prefix(&quoted[..end]).ok_or_else(bad)?;
            rest = &quoted[end + 1..];
            continue;
        }
        let Some(e) = element(rest) else {
            input = input.strip_prefix(c).ok_or_else(bad)?;
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[e.len()..];
        let mut number = |most: usize| -> Result<i64, String> {
            let digits = input.bytes().take(most).take_while(u8::is_ascii_digit).count();
            let n = input[..digits].parse().map_err(|_| bad())?;
            input = &input[digits..];
            Ok(n)
        };
        match e {
            "YYYY" => year = number(4)?,
            "YY" => year = 2000 + number(2)?,
            "MM" => month = number(2)?,
            "DD" => day = number(2)?,
            "HH24" => hour = number(2)?,
            "HH12" | "HH" => hour = number(2)? % 12,
            "MI" => minute = number(2)?,
            "SS" => second = number(2)?,
            "AM" | "PM" => {
                half = Some(input.get(..2).is_some_and(|h| h.eq_ignore_ascii_case("PM")));
                input = input.get(2..).ok_or_else(bad)?;
            }
            "MONTH" | "MON" => {
                let found = (1..=12).rev().find_map(|m| {
                    let full = strftime(
                        i64::from(days_from_civil(2000, m, 1)) * MICROS_PER_DAY,
                        if e == "MON" { "%b" } else { "%B" },
                    );
                    input.get(..full.len()).filter(|t| t.eq_ignore_ascii_case(&full)).map(|t| (i64::from(m), t.len()))
                });
                let (n, used) = found.ok_or_else(bad)?;
                month = n;
                input = &input[used..];
            }
            fraction if fraction.starts_with("FF") => {
                let n: usize = fraction[2..].parse().map_err(|_| bad())?;
                let digits = input.bytes().take(n).take_while(u8::is_ascii_digit).count();
                micro = format!("{:0<6}", &input[..digits])[..6].parse().map_err(|_| bad())?;
                input = &input[digits..];
            }
            _ => return Err(format!("Unsupported format element {e}")),
        }
    }
    if let Some(true) = half {
        hour += 12;
    }
    let ok = input.trim().is_empty()
        && (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && day <= i64::from(month_length(year as i32, month as u32))
        && hour < 24
        && minute < 60
        && second < 60;
    if !ok {
        return Err(bad());
    }
    let days = i64::from(days_from_civil(year as i32, month as u32, day as u32));
    Ok(days * MICROS_PER_DAY + (hour * 3600 + minute * 60 + second) * SECOND + micro)
}
