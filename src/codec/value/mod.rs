//! Single values of BigQuery from text and to text: the spellings that loads, casts and the REST API accept and write.
//!
//! Values are held as in the Arrow mapping: NUMERIC an i128 scaled by 10^9, BIGNUMERIC an i256 scaled by 10^38, DATE
//! days and TIME, DATETIME, TIMESTAMP microseconds. Named time zones need a database of zones, which the caller brings.

mod civil;
mod decimal;
mod float;
mod interval;
mod json;
pub(crate) mod put;
mod range;

pub use civil::{
    DATE_MAX, DATE_MIN, MICROS_MAX, MICROS_MIN, MICROS_PER_DAY, Zones, civil_from_days, days_from_civil, parse_date,
    parse_datetime, parse_time, parse_timestamp, parse_timestamp_zoned, write_date, write_datetime, write_time,
    write_timestamp,
};
pub(crate) use decimal::put_numeric;
pub use decimal::{
    BIGNUMERIC_SCALE, NUMERIC_MAX, NUMERIC_SCALE, Rounding, decimal_from_be_bytes, decimal_to_be_bytes,
    fits_parameters, parse_bignumeric, parse_decimal, parse_numeric, rescale, write_bignumeric, write_decimal,
    write_numeric,
};
pub use float::{parse_float64, write_float64};
pub use interval::Interval;
pub use json::{compact_json, normalise_json, pretty_json, write_json_string};
pub(crate) use json::{escape_json, nothing_to_escape};
pub use range::{parse_range, write_range};

/// A text that is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}: {reason}")]
pub struct InvalidValue {
    pub kind: &'static str,
    /// The text, cut after some hundred characters.
    pub text: String,
    pub reason: &'static str,
}

impl InvalidValue {
    pub(crate) fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        const LONGEST: usize = 120;
        let mut cut: String = text.chars().take(LONGEST).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        Self { kind, text: cut, reason }
    }
}

/// Reads an INT64: decimal, or hexadecimal after `0x`, with an optional sign.
///
/// # Errors
/// When it is no integer or out of range.
pub fn parse_int64(text: &str) -> Result<i64, InvalidValue> {
    let text = text.trim();
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let value = hex
        .filter(|d| d.as_bytes().first().is_some_and(u8::is_ascii_hexdigit))
        .and_then(|d| i128::from_str_radix(d, 16).ok())
        .map(|v| if negative { -v } else { v })
        .and_then(|v| i64::try_from(v).ok());
    value.ok_or_else(|| {
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        InvalidValue::new("INT64", text, if whole { "out of range" } else { "not a whole number" })
    })
}

/// Reads a BOOL as CSV loads do: `true`/`false`, `t`/`f`, `yes`/`no`, `y`/`n`, `1`/`0`, in any case.
///
/// # Errors
/// When it is none of these.
pub fn parse_bool(text: &str) -> Result<bool, InvalidValue> {
    let text = text.trim();
    let is = |words: [&str; 5]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is(["true", "t", "yes", "y", "1"]) {
        Ok(true)
    } else if is(["false", "f", "no", "n", "0"]) {
        Ok(false)
    } else {
        Err(InvalidValue::new("BOOL", text, "expected true or false"))
    }
}

/// Writes into a byte buffer what `Display` writes; a `Vec` does not fail.
pub(crate) fn push_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    let _ = write!(out, "{value}");
}

/// "00" to "99".
pub(crate) const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Writes an integer in decimal.
pub(crate) fn push_int(number: i64, out: &mut Vec<u8>) {
    put::push_put(out, |out, at| put::put_int(number, out, at));
}

/// The text that a `write_*` function makes, as a `String`.
pub fn to_text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(32);
    write(&mut out);
    // Every writer here writes ASCII or copies UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        assert_eq!(parse_int64(" -9223372036854775808 "), Ok(i64::MIN));
        assert_eq!(parse_int64("+7"), Ok(7));
        assert_eq!(parse_int64("0x1F"), Ok(31));
        assert_eq!(parse_int64("-0x1"), Ok(-1));
        assert_eq!(parse_int64("9223372036854775808").unwrap_err().reason, "out of range");
        for text in ["", "-", "1.0", "1e3", "0x", "0x-1", "abc", "１"] {
            assert!(parse_int64(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(parse_bool("TRUE"), Ok(true));
        assert_eq!(parse_bool("n"), Ok(false));
        assert!(parse_bool("2").is_err());
        assert_eq!(parse_bool("maybe").unwrap_err().to_string(), "'maybe' is not a valid BOOL: expected true or false");
    }
}
