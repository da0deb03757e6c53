//! FORMAT: printf over BigQuery's values.

use strongroom::codec::value::to_text;

use super::Out;
use super::cast::text_of;
use super::json::{compact, to_json};
use crate::bigquery::sql::num::{Cut, big_text, cut, numeric_text};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

#[derive(Debug, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    quote: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `FORMAT(format, values...)`.
///
/// # Errors
/// Specifiers that do not fit their value.
pub fn format(a: &[Value], types: &[Ty]) -> Out {
    let Value::Str(format) = &a[0] else { return Ok(Value::Null) };
    let mut values = a[1..].iter().zip(&types[1..]);
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '\'' => spec.quote = true,
                _ => break,
            }
            chars.next();
        }
        let mut unknown = false;
        let mut star = |chars: &mut std::iter::Peekable<std::str::Chars>| -> Result<Option<i64>, String> {
            if chars.peek() == Some(&'*') {
                chars.next();
                let (value, _) = values.next().ok_or("Too few arguments to FORMAT")?;
                if value.is_null() {
                    unknown = true;
                    return Ok(Some(0));
                }
                return Ok(Some(value.int()?));
            }
            let mut digits = String::new();
            while let Some(d) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*d);
                chars.next();
            }
            Ok(if digits.is_empty() { None } else { digits.parse().ok() })
        };
        if let Some(width) = star(&mut chars)? {
            spec.minus |= width < 0;
            spec.width = Some(width.unsigned_abs().min(1 << 20) as usize);
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            let precision = star(&mut chars)?.unwrap_or(0);
            spec.precision = usize::try_from(precision).ok().map(|p| p.min(1 << 16));
        }
        let kind = chars.next().ok_or("FORMAT string ends in a specifier")?;
        let (value, ty) = values.next().ok_or_else(|| "Too few arguments to FORMAT for pattern".to_owned())?;
        if unknown {
            return Ok(Value::Null);
        }
        if value.is_null() && !matches!(kind, 't' | 'T') {
            if matches!(kind, 'p' | 'P') {
                pad("null", &spec, &mut out);
                continue;
            }
            return Ok(Value::Null);
        }
        let text = one(kind, value, ty, &spec)?;
        pad(&text, &spec, &mut out);
    }
    if values.next().is_some() {
        return Err("Too many arguments to FORMAT for pattern".into());
    }
    Ok(Value::Str(out))
}

fn pad(text: &str, spec: &Spec, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
}

/// Sign, grouping and zeros for the digits of a number.
fn number(negative: bool, digits: &str, spec: &Spec) -> String {
    let sign = if negative {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    let (whole, rest) = digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
    let mut whole = whole.to_owned();
    if spec.quote {
        let mut grouped = String::new();
        for (n, c) in whole.chars().enumerate() {
            if n > 0 && (whole.len() - n).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(c);
        }
        whole = grouped;
    }
    if spec.zero && !spec.minus {
        let used = sign.len() + whole.len() + rest.len();
        let missing = spec.width.unwrap_or(0).saturating_sub(used);
        whole = "0".repeat(missing) + &whole;
    }
    format!("{sign}{whole}{rest}")
}

fn one(kind: char, value: &Value, ty: &Ty, spec: &Spec) -> Result<String, String> {
    let mismatch = || format!("Invalid type for argument to FORMAT: %{kind} does not take {ty}");
    Ok(match (kind, value) {
        ('d' | 'i', Value::Int(v)) => {
            let mut digits = v.unsigned_abs().to_string();
            if let Some(p) = spec.precision {
                digits = format!("{digits:0>p$}");
            }
            number(*v < 0, &digits, spec)
        }
        ('u', Value::Int(v)) => number(false, &(*v as u64).to_string(), spec),
        ('x' | 'X' | 'o', Value::Int(v)) => {
            let digits = v.unsigned_abs();
            let text = match kind {
                'x' => format!("{}{digits:x}", if spec.alternate { "0x" } else { "" }),
                'X' => format!("{}{digits:X}", if spec.alternate { "0X" } else { "" }),
                _ => format!("{}{digits:o}", if spec.alternate { "0" } else { "" }),
            };
            format!("{}{text}", if *v < 0 { "-" } else { "" })
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Value::Float(v)) => float(kind, *v, spec),
        ('f' | 'F', Value::Numeric(v)) => decimal(&numeric_text(*v), spec)?,
        ('f' | 'F', Value::Big(v)) => decimal(&big_text(*v), spec)?,
        ('e' | 'E' | 'g' | 'G', Value::Numeric(v)) => float(kind, numeric_text(*v).parse().unwrap_or(f64::NAN), spec),
        ('e' | 'E' | 'g' | 'G', Value::Big(v)) => float(kind, big_text(*v).parse().unwrap_or(f64::NAN), spec),
        ('s', Value::Str(text)) => cut_text(text, spec),
        ('s', Value::Int(_) | Value::Float(_)) => return Err(mismatch()),
        ('t' | 's', value) => cut_text(&plain(value, ty), spec),
        ('T', value) => cut_text(&literal(value, ty), spec),
        ('p', value) => match ty {
            Ty::Json => value.str()?.to_owned(),
            _ => compact(&to_json(value, ty)?),
        },
        ('P', value) => {
            let json = match ty {
                Ty::Json => serde_json::from_str(value.str()?).map_err(|e| e.to_string())?,
                _ => to_json(value, ty)?,
            };
            serde_json::to_string_pretty(&json).map_err(|e| e.to_string())?
        }
        _ => return Err(mismatch()),
    })
}

fn cut_text(text: &str, spec: &Spec) -> String {
    match spec.precision {
        Some(p) => text.chars().take(p).collect(),
        None => text.to_owned(),
    }
}

fn decimal(text: &str, spec: &Spec) -> Result<String, String> {
    let precision = spec.precision.unwrap_or(6);
    let scaled = strongroom::codec::value::parse_bignumeric(text).map_err(|e| e.to_string())?;
    let rounded = cut(scaled, 38, precision as i64, Cut::HalfAwayFromZero).ok_or("numeric overflow")?;
    let text = to_text(|out| strongroom::codec::value::write_decimal(rounded, 38, out));
    let (negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |t| (true, t));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = if precision == 0 { whole.to_owned() } else { format!("{whole}.{fraction:0<precision$}") };
    Ok(number(negative, &digits, spec))
}

fn float(kind: char, v: f64, spec: &Spec) -> String {
    let upper = kind.is_uppercase();
    if !v.is_finite() {
        let text = if v.is_nan() {
            "nan"
        } else if v < 0.0 {
            "-inf"
        } else if spec.plus {
            "+inf"
        } else {
            "inf"
        };
        return if upper { text.to_uppercase() } else { text.to_owned() };
    }
    let magnitude = v.abs();
    let precision = spec.precision.unwrap_or(6);
    let digits = match kind.to_ascii_lowercase() {
        'f' => format!("{magnitude:.precision$}"),
        'e' => exponent(magnitude, precision),
        _ => {
            let p = precision.max(1);
            let scientific = exponent(magnitude, p - 1);
            let x: i32 = scientific.split_once('e').and_then(|(_, x)| x.parse().ok()).unwrap_or(0);
            let text = if x < -4 || x >= p as i32 {
                scientific
            } else {
                format!("{magnitude:.*}", (p as i32 - 1 - x).max(0) as usize)
            };
            if spec.alternate {
                text
            } else {
                let (mantissa, rest) = text.split_at(text.find('e').unwrap_or(text.len()));
                let mantissa = if mantissa.contains('.') {
                    mantissa.trim_end_matches('0').trim_end_matches('.')
                } else {
                    mantissa
                };
                format!("{mantissa}{rest}")
            }
        }
    };
    let text = number(v.is_sign_negative(), &digits, spec);
    if upper { text.to_uppercase() } else { text }
}

fn exponent(v: f64, precision: usize) -> String {
    let text = format!("{v:.precision$e}");
    let (mantissa, x) = text.split_once('e').unwrap_or((&text, "0"));
    let x: i32 = x.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if x < 0 { '-' } else { '+' }, x.abs())
}

fn bytes_text(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect()
}

/// `%t`.
fn plain(value: &Value, ty: &Ty) -> String {
    match (value, ty) {
        (Value::Null, _) => "NULL".into(),
        (Value::Bytes(b), _) => bytes_text(b),
        (Value::Array(items), Ty::Array(element)) => {
            format!("[{}]", items.iter().map(|v| plain(v, element)).collect::<Vec<_>>().join(", "))
        }
        (Value::Struct(items), Ty::Struct(fields)) => {
            let parts: Vec<String> = items.iter().zip(fields.iter()).map(|(v, f)| plain(v, &f.1)).collect();
            format!("({})", parts.join(", "))
        }
        (value, ty) => text_of(value, ty).unwrap_or_default(),
    }
}

/// `%T`.
fn literal(value: &Value, ty: &Ty) -> String {
    let quoted = |text: &str| {
        let quote = if text.contains('"') && !text.contains('\'') { '\'' } else { '"' };
        let mut out = String::from(quote);
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c == quote => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        out.push(quote);
        out
    };
    match (value, ty) {
        (Value::Null, _) => "NULL".into(),
        (Value::Str(text), Ty::Json) => format!("JSON {}", quoted(text)),
        (Value::Str(text), _) => quoted(text),
        (Value::Bytes(b), _) => format!("b\"{}\"", bytes_text(b)),
        (Value::Float(v), _) if !v.is_finite() => format!("CAST(\"{}\" AS FLOAT64)", plain(value, ty)),
        (Value::Float(_), _) => {
            let text = plain(value, ty);
            if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
        }
        (Value::Numeric(_) | Value::Big(_), _) => format!("{ty} \"{}\"", plain(value, ty)),
        (Value::Date(_) | Value::Datetime(_) | Value::Time(_) | Value::Timestamp(_), _) => {
            format!("{ty} \"{}\"", plain(value, ty))
        }
        (Value::Interval(_), _) => format!("INTERVAL \"{}\" YEAR TO SECOND", plain(value, ty)),
        (Value::Array(items), Ty::Array(element)) => {
            format!("[{}]", items.iter().map(|v| literal(v, element)).collect::<Vec<_>>().join(", "))
        }
        (Value::Struct(items), Ty::Struct(fields)) => {
            let parts: Vec<String> = items.iter().zip(fields.iter()).map(|(v, f)| literal(v, &f.1)).collect();
            let name = if parts.len() < 2 { "STRUCT" } else { "" };
            format!("{name}({})", parts.join(", "))
        }
        (value, ty) => plain(value, ty),
    }
}
