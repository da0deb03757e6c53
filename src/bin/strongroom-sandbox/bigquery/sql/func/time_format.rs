//! FORMAT_* and PARSE_* of dates and times: strftime's elements, as BigQuery lists them.

use strongroom::codec::value::{MICROS_PER_DAY, civil_from_days, days_from_civil};

use super::cast::in_range;
use super::interval::month_length;
use super::time::{iso_week, iso_year, week_number, weekday};
use super::zone::{from_local, offset_at, zone};
use super::{Def, Out, def};
use crate::bigquery::sql::value::Value;

const SECOND: i64 = 1_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub const DEFS: &[Def] = &[
    def("FORMAT_DATE", "STRING,DATE->STRING|STRING,DATETIME->STRING|STRING,TIMESTAMP->STRING", |_, a| write(a, None)),
    def("FORMAT_DATETIME", "STRING,DATETIME->STRING|STRING,TIMESTAMP->STRING", |_, a| write(a, None)),
    def("FORMAT_TIME", "STRING,TIME->STRING", |_, a| write(a, None)),
    def("FORMAT_TIMESTAMP", "STRING,TIMESTAMP,STRING?->STRING|STRING,DATETIME->STRING", |_, a| {
        write(a, Some(a.get(2).map_or(Ok("UTC"), Value::str)?))
    }),
    def("PARSE_DATE", "STRING,STRING->DATE", |_, a| {
        Ok(Value::Date(read(a[0].str()?, a[1].str()?)?.local()?.div_euclid(MICROS_PER_DAY) as i32))
    }),
    def("PARSE_DATETIME", "STRING,STRING->DATETIME", |_, a| {
        Ok(Value::Datetime(read(a[0].str()?, a[1].str()?)?.local()?))
    }),
    def("PARSE_TIME", "STRING,STRING->TIME", |_, a| {
        Ok(Value::Time(read(a[0].str()?, a[1].str()?)?.local()?.rem_euclid(MICROS_PER_DAY)))
    }),
    def("PARSE_TIMESTAMP", "STRING,STRING,STRING?->TIMESTAMP", |_, a| {
        let fields = read(a[0].str()?, a[1].str()?)?;
        let name = a.get(2).map_or(Ok("UTC"), Value::str)?;
        let micros = match (fields.epoch, fields.offset) {
            (Some(seconds), _) => seconds.checked_mul(SECOND).ok_or("timestamp out of range")?,
            (None, Some(offset)) => fields.local()? - i64::from(offset) * SECOND,
            (None, None) => from_local(&zone(fields.zone.as_deref().unwrap_or(name))?, fields.local()?),
        };
        if in_range(micros) { Ok(Value::Timestamp(micros)) } else { Err("Timestamp is out of range".into()) }
    }),
];

fn write(a: &[Value], zone_name: Option<&str>) -> Out {
    let format = a[0].str()?;
    let (local, offset, name) = match (&a[1], zone_name) {
        (Value::Timestamp(v), Some(name)) => {
            let zone = zone(name)?;
            let offset = offset_at(&zone, *v);
            (v + i64::from(offset) * SECOND, offset, name)
        }
        (Value::Date(d), _) => (i64::from(*d) * MICROS_PER_DAY, 0, "UTC"),
        (Value::Datetime(v) | Value::Timestamp(v) | Value::Time(v), _) => (*v, 0, "UTC"),
        _ => return Ok(Value::Null),
    };
    let mut out = String::new();
    elements(format, local, offset, name, &mut out);
    Ok(Value::Str(out))
}

#[allow(clippy::too_many_lines, reason = "one arm for each element")]
fn elements(format: &str, local: i64, offset: i32, zone_name: &str, out: &mut String) {
    let day = local.div_euclid(MICROS_PER_DAY);
    let clock = local.rem_euclid(MICROS_PER_DAY);
    let (year, month, dom) = civil_from_days(day as i32);
    let (hour, minute, second, micro) =
        (clock / (3600 * SECOND), clock / (60 * SECOND) % 60, clock / SECOND % 60, clock % SECOND);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[weekday(day) as usize];
    let again = |f: &str, out: &mut String| elements(f, local, offset, zone_name, out);
    let zone_text = |colon: bool| {
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.abs() / 60;
        let colon = if colon { ":" } else { "" };
        format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
    };
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(mut e) = chars.next() else {
            out.push('%');
            return;
        };
        // %E... and %O... : variants.
        if e == 'E' {
            let rest = chars.as_str();
            if let Some(after) = rest.strip_prefix("*S") {
                out.push_str(&fraction(second, micro, usize::MAX));
                chars = after.chars();
                continue;
            }
            if let Some(after) = rest.strip_prefix("4Y") {
                out.push_str(&format!("{year:04}"));
                chars = after.chars();
                continue;
            }
            let digits = rest.chars().next().and_then(|d| d.to_digit(10));
            if let (Some(n), Some('S')) = (digits, rest.chars().nth(1)) {
                out.push_str(&fraction(second, micro, n as usize));
                chars = rest[2..].chars();
                continue;
            }
            if let Some(after) = rest.strip_prefix('z') {
                out.push_str(&zone_text(true));
                chars = after.chars();
                continue;
            }
            e = chars.next().unwrap_or('%');
        } else if e == 'O' {
            e = chars.next().unwrap_or('%');
        }
        match e {
            'A' => out.push_str(day_name),
            'a' => out.push_str(&day_name[..3]),
            'B' => out.push_str(month_name),
            'b' | 'h' => out.push_str(&month_name[..3]),
            'C' => out.push_str(&format!("{:02}", year / 100)),
            'c' => again("%a %b %e %H:%M:%S %Y", out),
            'D' | 'x' => again("%m/%d/%y", out),
            'd' => out.push_str(&format!("{dom:02}")),
            'e' => out.push_str(&format!("{dom:2}")),
            'F' => again("%Y-%m-%d", out),
            'G' => out.push_str(&iso_year(day).to_string()),
            'g' => out.push_str(&format!("{:02}", iso_year(day) % 100)),
            'H' => out.push_str(&format!("{hour:02}")),
            'I' => out.push_str(&format!("{hour12:02}")),
            'J' => out.push_str(&format!("{:03}", day - super::time::floor_day(day, "ISOYEAR").unwrap_or(day) + 1)),
            'j' => out.push_str(&format!("{:03}", day - i64::from(days_from_civil(year, 1, 1)) + 1)),
            'k' => out.push_str(&format!("{hour:2}")),
            'l' => out.push_str(&format!("{hour12:2}")),
            'M' => out.push_str(&format!("{minute:02}")),
            'm' => out.push_str(&format!("{month:02}")),
            'n' => out.push('\n'),
            'P' => out.push_str(if hour < 12 { "am" } else { "pm" }),
            'p' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            'Q' => out.push_str(&((month - 1) / 3 + 1).to_string()),
            'R' => again("%H:%M", out),
            'S' => out.push_str(&format!("{second:02}")),
            's' => out.push_str(&(local.div_euclid(SECOND) - i64::from(offset)).to_string()),
            'T' | 'X' => again("%H:%M:%S", out),
            't' => out.push('\t'),
            'U' => out.push_str(&format!("{:02}", week_number(day, 0))),
            'u' => out.push_str(&((weekday(day) + 6) % 7 + 1).to_string()),
            'V' => out.push_str(&format!("{:02}", iso_week(day))),
            'W' => out.push_str(&format!("{:02}", week_number(day, 1))),
            'w' => out.push_str(&weekday(day).to_string()),
            'Y' => out.push_str(&year.to_string()),
            'y' => out.push_str(&format!("{:02}", year % 100)),
            'Z' => {
                if zone_name.eq_ignore_ascii_case("UTC") || offset == 0 {
                    out.push_str("UTC");
                } else {
                    out.push_str("UTC");
                    let text = zone_text(false);
                    out.push_str(
                        text.strip_suffix("00").unwrap_or(&text).replacen("+0", "+", 1).replacen("-0", "-", 1).as_str(),
                    );
                }
            }
            'z' => out.push_str(&zone_text(false)),
            '%' => out.push('%'),
            other => {
                out.push('%');
                out.push(other);
            }
        }
    }
}

/// Seconds with a fraction of so many digits, or with just the digits that are there.
fn fraction(second: i64, micro: i64, digits: usize) -> String {
    if digits == 0 {
        return format!("{second:02}");
    }
    let text = format!("{micro:06}");
    let text = if digits == usize::MAX {
        text.trim_end_matches('0').to_owned()
    } else {
        format!("{text:0<width$}", width = digits)[..digits].to_owned()
    };
    if text.is_empty() { format!("{second:02}") } else { format!("{second:02}.{text}") }
}

/// What was read of a text.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i64>,
    century: Option<i64>,
    year_of_century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<(i64, i64)>,
    weekday: Option<i64>,
    iso: Option<(i64, i64)>,
    hour: Option<i64>,
    hour12: Option<i64>,
    pm: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    micro: i64,
    epoch: Option<i64>,
    offset: Option<i32>,
    zone: Option<String>,
}

impl Fields {
    fn local(&self) -> Result<i64, String> {
        let mut year = self.year.unwrap_or(1970);
        if let (Some(y), None) = (self.year_of_century, self.year) {
            year = match self.century {
                Some(c) => c * 100 + y,
                None if y < 69 => 2000 + y,
                None => 1900 + y,
            };
        } else if let (Some(c), None) = (self.century, self.year) {
            year = c * 100;
        }
        let bad = || "Failed to parse input string: out of range".to_owned();
        if !(1..=9999).contains(&year) {
            return Err(bad());
        }
        let year32 = year as i32;
        let first = i64::from(days_from_civil(year32, 1, 1));
        let (month, dom) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if !(1..=12).contains(&month) || dom < 1 || dom > i64::from(month_length(year32, month as u32)) {
            return Err(bad());
        }
        let mut day = i64::from(days_from_civil(year32, month as u32, dom as u32));
        if let Some(n) = self.day_of_year {
            day = first + n - 1;
        } else if let Some((week, start)) = self.week {
            let first_start = first + (start - weekday(first)).rem_euclid(7);
            let offset = self.weekday.map_or(0, |w| (w - start).rem_euclid(7));
            day = first_start + (week - 1) * 7 + offset;
        } else if let Some((iso_year, iso_week)) = self.iso {
            let jan4 = i64::from(days_from_civil(iso_year as i32, 1, 4));
            let monday = jan4 - (weekday(jan4) + 6) % 7;
            day = monday + (iso_week - 1) * 7 + self.weekday.map_or(0, |w| (w + 6) % 7);
        }
        let hour = match (self.hour, self.hour12, self.pm) {
            (_, Some(h), pm) => h % 12 + if pm == Some(true) { 12 } else { 0 },
            (Some(h), None, _) => h,
            (None, None, _) => 0,
        };
        let seconds = hour * 3600 + self.minute.unwrap_or(0) * 60 + self.second.unwrap_or(0);
        let local = day * MICROS_PER_DAY + seconds * SECOND + self.micro;
        if in_range(local) { Ok(local) } else { Err(bad()) }
    }
}

fn read(format: &str, text: &str) -> Result<Fields, String> {
    let mut fields = Fields::default();
    let rest = read_into(format, text.trim_start(), &mut fields, text)?;
    if rest.trim().is_empty() { Ok(fields) } else { Err(failed(text)) }
}

fn failed(text: &str) -> String {
    format!("Failed to parse input string \"{text}\"")
}

fn number<'a>(
    text: &'a str,
    most: usize,
    range: std::ops::RangeInclusive<i64>,
    whole: &str,
) -> Result<(i64, &'a str), String> {
    let text = text.trim_start();
    let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let n: i64 = text[..digits].parse().map_err(|_| failed(whole))?;
    if range.contains(&n) { Ok((n, &text[digits..])) } else { Err(failed(whole)) }
}

fn one_of<'a>(text: &'a str, names: &[&str], whole: &str) -> Result<(i64, &'a str), String> {
    for (n, name) in names.iter().enumerate() {
        for name in [*name, &name[..3]] {
            if text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name)) {
                return Ok((n as i64, &text[name.len()..]));
            }
        }
    }
    Err(failed(whole))
}

#[allow(clippy::too_many_lines, reason = "one arm for each element")]
fn read_into<'a>(format: &str, mut text: &'a str, f: &mut Fields, whole: &str) -> Result<&'a str, String> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            text = text.trim_start();
            continue;
        }
        if c != '%' {
            text = text.strip_prefix(c).ok_or_else(|| failed(whole))?;
            continue;
        }
        let mut e = chars.next().ok_or_else(|| failed(whole))?;
        if e == 'E' {
            let rest = chars.as_str();
            let fraction = rest.starts_with("*S")
                || (rest.as_bytes().first().is_some_and(u8::is_ascii_digit) && rest[1..].starts_with('S'));
            if fraction {
                let (second, after) = number(text, 2, 0..=60, whole)?;
                f.second = Some(second);
                text = after;
                if let Some(after) = text.strip_prefix('.') {
                    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                    f.micro = format!("{:0<6}", &after[..digits])[..6].parse().map_err(|_| failed(whole))?;
                    text = &after[digits..];
                }
                chars = rest[2..].chars();
                continue;
            }
            if let Some(after) = rest.strip_prefix("4Y") {
                let (year, left) = number(text, 4, 0..=9999, whole)?;
                f.year = Some(year);
                text = left;
                chars = after.chars();
                continue;
            }
            e = chars.next().ok_or_else(|| failed(whole))?;
        } else if e == 'O' {
            e = chars.next().ok_or_else(|| failed(whole))?;
        }
        let mut take = |most: usize, range: std::ops::RangeInclusive<i64>| -> Result<i64, String> {
            let (n, rest) = number(text, most, range, whole)?;
            text = rest;
            Ok(n)
        };
        match e {
            'A' | 'a' => {
                let (n, rest) = one_of(text, &DAYS, whole)?;
                f.weekday = Some(n);
                text = rest;
            }
            'B' | 'b' | 'h' => {
                let (n, rest) = one_of(text, &MONTHS, whole)?;
                f.month = Some(n + 1);
                text = rest;
            }
            'C' => f.century = Some(take(2, 0..=99)?),
            'D' | 'x' => text = read_into("%m/%d/%y", text, f, whole)?,
            'c' => text = read_into("%a %b %e %H:%M:%S %Y", text, f, whole)?,
            'd' | 'e' => f.day = Some(take(2, 1..=31)?),
            'F' => text = read_into("%Y-%m-%d", text, f, whole)?,
            'G' => f.iso = Some((take(4, 1..=9999)?, f.iso.map_or(1, |i| i.1))),
            'V' => f.iso = Some((f.iso.map_or(1970, |i| i.0), take(2, 1..=53)?)),
            'H' | 'k' => f.hour = Some(take(2, 0..=23)?),
            'I' | 'l' => f.hour12 = Some(take(2, 1..=12)?),
            'j' => f.day_of_year = Some(take(3, 1..=366)?),
            'M' => f.minute = Some(take(2, 0..=59)?),
            'm' => f.month = Some(take(2, 1..=12)?),
            'n' | 't' => text = text.trim_start(),
            'P' | 'p' => {
                let half = text.get(..2).ok_or_else(|| failed(whole))?.to_ascii_lowercase();
                f.pm = Some(match half.as_str() {
                    "am" => false,
                    "pm" => true,
                    _ => return Err(failed(whole)),
                });
                text = &text[2..];
            }
            'Q' => f.month = Some((take(1, 1..=4)? - 1) * 3 + 1),
            'R' => text = read_into("%H:%M", text, f, whole)?,
            'r' => text = read_into("%I:%M:%S %p", text, f, whole)?,
            'S' => f.second = Some(take(2, 0..=60)?),
            's' => {
                let negative = text.starts_with('-');
                let (n, rest) = number(text.strip_prefix('-').unwrap_or(text), 18, 0..=i64::MAX, whole)?;
                f.epoch = Some(if negative { -n } else { n });
                text = rest;
            }
            'T' | 'X' => text = read_into("%H:%M:%S", text, f, whole)?,
            'U' => f.week = Some((take(2, 0..=53)?, 0)),
            'W' => f.week = Some((take(2, 0..=53)?, 1)),
            'u' => f.weekday = Some(take(1, 1..=7)? % 7),
            'w' => f.weekday = Some(take(1, 0..=6)?),
            'Y' => {
                f.year = Some(take(4, 0..=9999)?);
            }
            'y' => f.year_of_century = Some(take(2, 0..=99)?),
            'Z' => {
                let end = text
                    .find(|c: char| !(c.is_alphanumeric() || matches!(c, '/' | '_' | '+' | '-')))
                    .unwrap_or(text.len());
                f.zone = Some(text[..end].to_owned());
                text = &text[end..];
            }
            'z' => {
                let sign = match text.as_bytes().first() {
                    Some(b'-') => -1,
                    Some(b'+') => 1,
                    Some(b'Z' | b'z') => {
                        f.offset = Some(0);
                        text = &text[1..];
                        continue;
                    }
                    _ => return Err(failed(whole)),
                };
                let (hours, rest) = number(&text[1..], 2, 0..=14, whole)?;
                let rest = rest.strip_prefix(':').unwrap_or(rest);
                let (minutes, rest) = if rest.starts_with(|c: char| c.is_ascii_digit()) {
                    number(rest, 2, 0..=59, whole)?
                } else {
                    (0, rest)
                };
                f.offset = Some(sign * (hours * 3600 + minutes * 60) as i32);
                text = rest;
            }
            '%' => text = text.strip_prefix('%').ok_or_else(|| failed(whole))?,
            _ => return Err(format!("Failed to parse input string \"{whole}\": unsupported format element %{e}")),
        }
    }
    Ok(text)
}
