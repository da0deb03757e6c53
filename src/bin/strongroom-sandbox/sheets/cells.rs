//! One cell: what a client wrote, what the sheet makes of it, how it is shown. Formulas are not computed. Pure.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use crate::core::ApiError;

/// What a cell holds. Stored in short: most cells are plain scalars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(untagged)]
pub enum Cell {
    #[default]
    Empty,
    Bool(bool),
    Number(f64),
    Text(String),
    /// A number that is shown in a certain way.
    Shown {
        n: f64,
        f: Format,
    },
}

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Percent,
    /// `2024-02-29`
    Date,
    /// `2024-02-29 1:02:03`
    DateTime,
    /// `1:02:03`
    Time,
}

/// `valueRenderOption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Render {
    Formatted,
    Unformatted,
}

/// Whether text is taken as it is (RAW) or as if a person had typed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Raw,
    UserEntered,
}

/// The cell that a JSON value makes; `None` leaves the cell as it was.
///
/// # Errors
/// 400 for lists and objects, 501 for formulas.
pub fn cell_of(value: &Value, input: Input) -> Result<Option<Cell>, ApiError> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(b) => Cell::Bool(*b),
        // A sheet's numbers are doubles: integers beyond 2^53 lose digits there, so they do here.
        Value::Number(n) => Cell::Number(n.as_f64().unwrap_or(0.0)),
        Value::String(s) if s.is_empty() => Cell::Empty,
        Value::String(s) if input == Input::Raw => Cell::Text(s.clone()),
        Value::String(s) => typed(s)?,
        Value::Array(_) | Value::Object(_) => {
            return Err(ApiError::invalid("Invalid values: a list or an object cannot be a cell's value"));
        }
    }))
}

/// What a sheet makes of text that a person types.
fn typed(text: &str) -> Result<Cell, ApiError> {
    if let Some(rest) = text.strip_prefix('\'') {
        return Ok(Cell::Text(rest.to_string()));
    }
    if text.starts_with('=') && text.len() > 1 {
        return Err(ApiError::not_implemented("the sandbox does not compute formulas; hint: valueInputOption=RAW"));
    }
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") {
        return Ok(Cell::Bool(trimmed.eq_ignore_ascii_case("true")));
    }
    if let Some(n) = trimmed.strip_suffix('%').and_then(|t| plain_number(t.trim())) {
        return Ok(Cell::Shown { n: n / 100.0, f: Format::Percent });
    }
    if let Some(n) = plain_number(trimmed) {
        return Ok(Cell::Number(n));
    }
    Ok(date_or_time(trimmed).map_or_else(|| Cell::Text(text.to_string()), |(n, f)| Cell::Shown { n, f }))
}

/// `1`, `-1.5`, `1e3`, `1,234.5`.
fn plain_number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut text = text.to_string();
    if text.contains(',') {
        // Thousands only: groups of three before the point.
        let whole = unsigned.split('.').next().unwrap_or_default();
        let mut groups = whole.split(',');
        let first = groups.next().is_some_and(|g| (1..=3).contains(&g.len()));
        if !first || !groups.all(|g| g.len() == 3) {
            return None;
        }
        text = text.replace(',', "");
    }
    if !text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// Days since 1899-12-30.
fn date_or_time(text: &str) -> Option<(f64, Format)> {
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (Some(date), Some(time)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let days = date.map(days_of).map_or(Some(None), |d| d.map(Some))?;
    let fraction = time.map(fraction_of).map_or(Some(None), |t| t.map(Some))?;
    Some(match (days, fraction) {
        (Some(days), None) => (days, Format::Date),
        (Some(days), Some(fraction)) => (days + fraction, Format::DateTime),
        (None, Some(fraction)) => (fraction, Format::Time),
        (None, None) => return None,
    })
}

fn days_of(text: &str) -> Option<f64> {
    let numbers = |separator: char| -> Option<[i16; 3]> {
        let parts: Vec<i16> = text.split(separator).map(|p| p.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let date = if text.contains('/') {
        // The locale is en_US.
        let [month, day, year] = numbers('/')?;
        (year, month, day)
    } else {
        let [year, month, day] = numbers('-').filter(|_| text.len() >= 8)?;
        (year, month, day)
    };
    if date.0 < 1000 {
        return None;
    }
    let date = Date::new(date.0, i8::try_from(date.1).ok()?, i8::try_from(date.2).ok()?).ok()?;
    Some(f64::from(epoch().until(date).ok()?.get_days()))
}

fn fraction_of(text: &str) -> Option<f64> {
    let parts: Vec<u32> = text.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let (h, m, s) = match parts.as_slice() {
        [h, m] => (*h, *m, 0),
        [h, m, s] => (*h, *m, *s),
        _ => return None,
    };
    (h < 24 && m < 60 && s < 60).then(|| f64::from(h * 3600 + m * 60 + s) / 86_400.0)
}

fn epoch() -> Date {
    jiff::civil::date(1899, 12, 30)
}

impl Cell {
    pub fn is_empty(&self) -> bool {
        *self == Cell::Empty
    }

    /// The value as an answer shows it; `""` for an empty cell.
    pub fn render(&self, render: Render, dates_as_text: bool) -> Value {
        match (self, render) {
            (Cell::Empty, _) => json!(""),
            (Cell::Text(s), _) => json!(s),
            (Cell::Bool(b), Render::Unformatted) => json!(b),
            (Cell::Bool(b), Render::Formatted) => json!(if *b { "TRUE" } else { "FALSE" }),
            (Cell::Number(n), Render::Unformatted) => number(*n),
            (Cell::Number(n), Render::Formatted) => json!(general(*n)),
            (Cell::Shown { n, f }, Render::Unformatted) => {
                if dates_as_text && *f != Format::Percent {
                    json!(shown(*n, *f))
                } else {
                    number(*n)
                }
            }
            (Cell::Shown { n, f }, Render::Formatted) => json!(shown(*n, *f)),
        }
    }

    /// The `ExtendedValue` of grid data.
    pub fn extended(&self) -> Option<Value> {
        Some(match self {
            Cell::Empty => return None,
            Cell::Bool(b) => json!({ "boolValue": b }),
            Cell::Number(n) | Cell::Shown { n, .. } => json!({ "numberValue": number(*n) }),
            Cell::Text(s) => json!({ "stringValue": s }),
        })
    }
}

/// A double as JSON: whole numbers without a fraction.
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 9.0e15 {
        // Exact: below 2^53.
        json!(n as i64)
    } else {
        Number::from_f64(n).map_or(Value::Null, Value::Number)
    }
}

/// The automatic number format: ten decimals at most, an exponent from 1E+15 on.
fn general(n: f64) -> String {
    if n == 0.0 {
        return "0".into();
    }
    let magnitude = n.abs();
    if !(1e-9..1e15).contains(&magnitude) {
        let text = format!("{n:.5E}");
        let (mantissa, exponent) = text.split_once('E').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}E{sign}{:02}", trim_zeros(mantissa), exponent.abs());
    }
    trim_zeros(&format!("{n:.10}")).to_string()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn shown(n: f64, format: Format) -> String {
    let days = n.floor();
    let seconds = ((n - days) * 86_400.0).round() as i64;
    let date = || epoch().checked_add(jiff::Span::new().days(days as i64)).unwrap_or_else(|_| epoch());
    let time = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match format {
        Format::Percent => format!("{n:.2}%", n = n * 100.0),
        Format::Date => date().to_string(),
        Format::DateTime => format!("{} {time}", date()),
        Format::Time => time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(text: &str, render: Render) -> Value {
        cell_of(&json!(text), Input::UserEntered).unwrap().unwrap().render(render, false)
    }

    #[test]
    fn typed_text_becomes_what_it_looks_like() {
        for (text, unformatted, formatted) in [
            ("1,234.5", json!(1234.5), "1234.5"),
            ("007", json!(7), "7"),
            ("1e3", json!(1000), "1000"),
            ("TRUE", json!(true), "TRUE"),
            ("'007", json!("007"), "007"),
            ("2024-02-29", json!(45351), "2024-02-29"),
            ("2/29/2024", json!(45351), "2024-02-29"),
            ("2024-02-29 06:00:00", json!(45351.25), "2024-02-29 6:00:00"),
            ("12:30", json!(0.520_833_333_333_333_4), "12:30:00"),
            ("50%", json!(0.5), "50.00%"),
            ("2024-02-30", json!("2024-02-30"), "2024-02-30"),
            ("1,23", json!("1,23"), "1,23"),
            ("k-1", json!("k-1"), "k-1"),
            ("-", json!("-"), "-"),
            ("e", json!("e"), "e"),
            ("é@example.com", json!("é@example.com"), "é@example.com"),
        ] {
            assert_eq!(entered(text, Render::Unformatted), unformatted, "{text}");
            assert_eq!(entered(text, Render::Formatted), json!(formatted), "{text}");
        }
        assert_eq!(cell_of(&json!("=1+1"), Input::UserEntered).unwrap_err().code, 501);
    }

    #[test]
    fn raw_values_stay_and_numbers_are_doubles() {
        let raw = |v: Value| cell_of(&v, Input::Raw).unwrap().map(|c| c.render(Render::Unformatted, false));
        assert_eq!(raw(json!("=1+1")), Some(json!("=1+1")));
        assert_eq!(raw(json!("007")), Some(json!("007")));
        assert_eq!(raw(json!(9_007_199_254_740_993_i64)), Some(json!(9.007_199_254_740_992e15)));
        assert_eq!(raw(Value::Null), None);
        assert!(cell_of(&json!([1]), Input::Raw).is_err());
        let shown = |n: f64| Cell::Number(n).render(Render::Formatted, false);
        assert_eq!((shown(0.1), shown(1e15), shown(1.0 / 3.0)), (json!("0.1"), json!("1E+15"), json!("0.3333333333")));
    }

    #[test]
    fn cells_survive_storing() {
        for cell in [
            Cell::Empty,
            Cell::Bool(true),
            Cell::Number(1.5),
            Cell::Text("x".into()),
            Cell::Shown { n: 2.0, f: Format::Date },
        ] {
            let stored = serde_json::to_value(&cell).unwrap();
            assert_eq!(serde_json::from_value::<Cell>(stored).unwrap(), cell);
        }
    }
}
