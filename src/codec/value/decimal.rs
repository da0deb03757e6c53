//! NUMERIC and BIGNUMERIC: text, big-endian bytes, change of scale.

use arrow::datatypes::i256;

use super::InvalidValue;
use super::put::{push_put, put, put_appended, put_digits, put_nano_fraction};

/// Digits after the point of a NUMERIC.
pub const NUMERIC_SCALE: u32 = 9;
/// Digits after the point of a BIGNUMERIC.
pub const BIGNUMERIC_SCALE: u32 = 38;
/// The greatest NUMERIC, scaled: 38 nines. The least is its negative.
pub const NUMERIC_MAX: i128 = 10_i128.pow(38) - 1;

/// What to do with digits beyond the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Half away from zero, as CAST and loads do.
    HalfAwayFromZero,
    /// Digits other than zero beyond the scale are an error: nothing may be lost.
    Exact,
}

/// Reads a NUMERIC: sign, digits, point, exponent; rounded half away from zero at the ninth digit. Scaled by 10^9.
///
/// # Errors
/// When it is no number or has more than 29 digits before the point.
pub fn parse_numeric(text: &str) -> Result<i128, InvalidValue> {
    // Short numbers need no 256 bits.
    if let Some(value) = parse_short(text.as_bytes()) {
        return Ok(value);
    }
    let wide = parse_decimal(text, NUMERIC_SCALE, Rounding::HalfAwayFromZero, "NUMERIC")?;
    wide.to_i128()
        .filter(|v| v.unsigned_abs() <= NUMERIC_MAX as u128)
        .ok_or_else(|| InvalidValue::new("NUMERIC", text, "out of range"))
}

/// Reads a BIGNUMERIC; rounded half away from zero at the 38th digit. Scaled by 10^38.
///
/// # Errors
/// When it is no number or beyond about ±5.79 * 10^38.
pub fn parse_bignumeric(text: &str) -> Result<i256, InvalidValue> {
    parse_decimal(text, BIGNUMERIC_SCALE, Rounding::HalfAwayFromZero, "BIGNUMERIC")
}

/// Reads a decimal number scaled by `10^scale`.
///
/// # Errors
/// When it is no number, does not fit 256 bits, or with [`Rounding::Exact`] has digits beyond the scale.
pub fn parse_decimal(text: &str, scale: u32, rounding: Rounding, kind: &'static str) -> Result<i256, InvalidValue> {
    let error = |reason| InvalidValue::new(kind, text, reason);
    let trimmed = text.trim().as_bytes();
    let (negative, rest) = match trimmed.first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let (mantissa, exponent) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..]).ok_or_else(|| error("not a number"))?),
        None => (rest, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digits = || whole.iter().chain(fraction).copied();
    if whole.len() + fraction.len() == 0 || !digits().all(|b| b.is_ascii_digit()) {
        return Err(error("not a number"));
    }
    // How many of the digits stand before the last kept place.
    let kept = whole.len() as i64 + exponent + i64::from(scale);
    let mut value = i256::ZERO;
    let mut lost = false;
    let mut round_up = false;
    for (at, digit) in digits().enumerate() {
        let digit = digit - b'0';
        let at = at as i64;
        if at < kept {
            value = push_digit(value, digit).ok_or_else(|| error("out of range"))?;
        } else {
            round_up |= at == kept && digit >= 5;
            lost |= digit != 0;
        }
    }
    let zeros = kept - (whole.len() + fraction.len()) as i64;
    if value != i256::ZERO {
        for _ in 0..zeros {
            value = push_digit(value, 0).ok_or_else(|| error("out of range"))?;
        }
    }
    if lost && rounding == Rounding::Exact {
        return Err(error("has more digits after the point than the type holds"));
    }
    if round_up {
        value = value.checked_sub(i256::ONE).ok_or_else(|| error("out of range"))?;
    }
    // Built as a negative number, for there is one more of these.
    if negative { Ok(value) } else { value.checked_neg().ok_or_else(|| error("out of range")) }
}

/// Writes a NUMERIC without needless zeros and without an exponent: `-1.5`, `0`.
pub fn write_numeric(value: i128, out: &mut Vec<u8>) {
    push_put(out, |out, at| put_numeric(value, out, at));
}

/// As [`write_numeric`], into a buffer that reaches beyond.
#[inline]
pub(crate) fn put_numeric(value: i128, out: &mut Vec<u8>, mut at: usize) -> usize {
    const ONE: u128 = 10_u128.pow(NUMERIC_SCALE);
    let magnitude = value.unsigned_abs();
    if value < 0 {
        at = put(b"-", 1, out, at);
    }
    // Most values fit 64 bits, where division is many times faster.
    match u64::try_from(magnitude) {
        Ok(small) => {
            let at = put_digits(small / ONE as u64, out, at);
            put_nano_fraction((small % ONE as u64) as u32, out, at)
        }
        Err(_) => {
            let at = put_appended(|out| super::push_display(out, magnitude / ONE), out, at);
            put_nano_fraction((magnitude % ONE) as u32, out, at)
        }
    }
}

/// Writes a BIGNUMERIC without needless zeros and without an exponent.
pub fn write_bignumeric(value: i256, out: &mut Vec<u8>) {
    write_decimal(value, BIGNUMERIC_SCALE, out);
}

/// Writes a decimal scaled by `10^scale` without needless zeros and without an exponent.
pub fn write_decimal(value: i256, scale: u32, out: &mut Vec<u8>) {
    let text = value.to_string();
    let digits = match text.strip_prefix('-') {
        Some(digits) => {
            out.push(b'-');
            digits
        }
        None => text.as_str(),
    };
    let scale = scale as usize;
    if digits.len() > scale {
        out.extend_from_slice(&digits.as_bytes()[..digits.len() - scale]);
    } else {
        out.push(b'0');
    }
    let fraction = &digits.as_bytes()[digits.len().saturating_sub(scale)..];
    if fraction.iter().any(|b| *b != b'0') {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', scale - fraction.len()));
        out.extend_from_slice(fraction);
        trim_zeros(out);
    }
}

/// A decimal at another scale, or nothing when digits would be lost or it overflows.
pub fn rescale(value: i256, from: i32, to: i32) -> Option<i256> {
    if value == i256::ZERO || from == to {
        return Some(value);
    }
    let power = i256::from_i128(10).checked_pow(u32::try_from((i64::from(to) - i64::from(from)).abs()).ok()?);
    if to > from {
        return value.checked_mul(power?);
    }
    let power = power?;
    let quotient = value.checked_div(power)?;
    (quotient.checked_mul(power)? == value).then_some(quotient)
}

/// A two's-complement big-endian integer of any length, or nothing when it does not fit 256 bits.
pub fn decimal_from_be_bytes(bytes: &[u8]) -> Option<i256> {
    let fill = if bytes.first().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(32);
    let mut wide = [fill; 32];
    let kept = &bytes[extra..];
    wide[32 - kept.len()..].copy_from_slice(kept);
    let sign_agrees = (wide[0] & 0x80 != 0) == (fill == 0xff);
    (bytes[..extra].iter().all(|b| *b == fill) && sign_agrees).then(|| i256::from_be_bytes(wide))
}

/// The shortest two's-complement big-endian form, as Avro's `bytes` decimals hold it; at least one byte.
pub fn decimal_to_be_bytes(value: i256, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let fill = if value < i256::ZERO { 0xff } else { 0 };
    let mut start = 0;
    while start < 31 && bytes[start] == fill && (bytes[start + 1] & 0x80 != 0) == (fill == 0xff) {
        start += 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

/// Whether a value scaled by `10^held` obeys `NUMERIC(precision, scale)`.
pub fn fits_parameters(value: i256, held: u32, precision: u32, scale: u32) -> bool {
    let Some(at_scale) = rescale(value, held as i32, scale as i32) else { return false };
    match i256::from_i128(10).checked_pow(precision) {
        Some(limit) => at_scale < limit && at_scale > limit.wrapping_neg(),
        None => true,
    }
}

fn trim_zeros(out: &mut Vec<u8>) {
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// `value * 10 - digit`: the negative of the number is built.
fn push_digit(value: i256, digit: u8) -> Option<i256> {
    value.checked_mul(i256::from_i128(10))?.checked_sub(i256::from_i128(i128::from(digit)))
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond ten thousand every digit is either lost or out of range: the loop below stays short.
    let magnitude = digits.iter().fold(0_i64, |n, d| (n * 10 + i64::from(d - b'0')).min(10_000));
    Some(if text[0] == b'-' { -magnitude } else { magnitude })
}

/// `[+-]digits[.digits]` with at most 18 digits and at most nine of them after the point.
fn parse_short(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    let mut after_point = None;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + i64::from(byte - b'0');
                after_point = after_point.map(|n: u32| n + 1);
            }
            b'.' if after_point.is_none() && text.len() > 1 => after_point = Some(0),
            _ => return None,
        }
    }
    let places = after_point.unwrap_or(0);
    let scaled = i128::from(value) * 10_i128.pow(NUMERIC_SCALE.checked_sub(places)?);
    Some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::to_text;
    use super::*;

    fn numeric(text: &str) -> String {
        to_text(|out| write_numeric(parse_numeric(text).unwrap(), out))
    }

    fn bignumeric(text: &str) -> String {
        to_text(|out| write_bignumeric(parse_bignumeric(text).unwrap(), out))
    }

    #[test]
    fn numerics_are_read_and_written() {
        for (text, want) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            (" .5 ", "0.5"),
            ("5.", "5"),
            ("-123.456", "-123.456"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("0.0000000005", "0.000000001"),
            ("-0.0000000005", "-0.000000001"),
            ("0.00000000049", "0"),
            ("99999999999999999999999999999.999999999", "99999999999999999999999999999.999999999"),
            ("-99999999999999999999999999999.999999999", "-99999999999999999999999999999.999999999"),
            ("0e99999999999", "0"),
            ("1e-99999999999", "0"),
        ] {
            assert_eq!(numeric(text), want, "{text}");
            assert_eq!(bignumeric(text).parse::<f64>().unwrap(), text.trim().parse::<f64>().unwrap(), "{text}");
        }
        for text in ["", ".", "-", "1e", "1e+", "e5", "1.2.3", "0x1", "NaN", "1_000", "100000000000000000000000000000"]
        {
            assert!(parse_numeric(text).is_err(), "{text}");
        }
        assert!(parse_numeric("1e999999999999999999999999").is_err());
        assert!(parse_decimal("1.25", 1, Rounding::Exact, "NUMERIC").is_err());
        assert_eq!(parse_decimal("1.20", 1, Rounding::Exact, "NUMERIC"), Ok(i256::from_i128(12)));
    }

    #[test]
    fn the_whole_range_of_bignumeric() {
        // https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types
        let max = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
        let min = "-578960446186580977117854925043439539266.34992332820282019728792003956564819968";
        assert_eq!(bignumeric(max), max);
        assert_eq!(bignumeric(min), min);
        assert!(parse_bignumeric(&max.replace("967", "968")).is_err());
        assert!(parse_bignumeric(&min.replace("968", "969")).is_err());
    }

    #[test]
    fn bytes_of_every_length() {
        for (value, bytes) in [(0, vec![0]), (127, vec![127]), (128, vec![0, 128]), (-128, vec![128]), (-1, vec![255])]
        {
            let mut out = Vec::new();
            decimal_to_be_bytes(i256::from_i128(value), &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(decimal_from_be_bytes(&[]), Some(i256::ZERO));
        let mut long = vec![0xff; 40];
        assert_eq!(decimal_from_be_bytes(&long), Some(i256::MINUS_ONE));
        long[3] = 0;
        assert_eq!(decimal_from_be_bytes(&long), None);
        let mut over = vec![0; 33];
        over[1] = 0x80;
        assert_eq!(decimal_from_be_bytes(&over), None);
    }

    #[test]
    fn scales_change_without_loss_or_not_at_all() {
        assert_eq!(rescale(i256::from_i128(120), 2, 1), Some(i256::from_i128(12)));
        assert_eq!(rescale(i256::from_i128(125), 2, 1), None);
        assert_eq!(rescale(i256::from_i128(1), 0, 76), Some(i256::from_string(&format!("1{:076}", 0)).unwrap()));
        assert_eq!(rescale(i256::from_i128(1), 0, 77), None);
        assert_eq!(rescale(i256::from_i128(5), -2, 0), Some(i256::from_i128(500)));
        assert!(fits_parameters(i256::from_i128(99_990_000_000), 9, 4, 2));
        assert!(!fits_parameters(i256::from_i128(100_000_000_000), 9, 4, 2));
        assert!(!fits_parameters(i256::from_i128(1), 9, 4, 2));
    }

    proptest! {
        #[test]
        fn every_numeric_comes_back(value in -NUMERIC_MAX..=NUMERIC_MAX, shift in 0_u32..126) {
            let value = value >> shift;
            let text = to_text(|out| write_numeric(value, out));
            prop_assert_eq!(parse_numeric(&text), Ok(value));
            let wide = to_text(|out| write_decimal(i256::from_i128(value), 9, out));
            prop_assert_eq!(&wide, &text);
        }

        #[test]
        fn every_bignumeric_comes_back(bytes: [u8; 32], shift in 0_u8..=255) {
            let value = i256::from_be_bytes(bytes) >> shift;
            let text = to_text(|out| write_bignumeric(value, out));
            prop_assert_eq!(parse_bignumeric(&text), Ok(value));
            let mut out = Vec::new();
            decimal_to_be_bytes(value, &mut out);
            prop_assert_eq!(decimal_from_be_bytes(&out), Some(value));
        }
    }
}
