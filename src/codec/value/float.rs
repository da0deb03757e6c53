//! FLOAT64 as BigQuery writes it: 15 significant digits, or 17 where 15 do not come back.

use std::io::Write;

use super::InvalidValue;

/// Reads a FLOAT64; also `inf`, `infinity` and `nan` with a sign, in any case.
///
/// # Errors
/// When it is no number. A number too large becomes an infinity in Rust but is an error in BigQuery, so it is here.
pub fn parse_float64(text: &str) -> Result<f64, InvalidValue> {
    let text = text.trim();
    let value: f64 = text.parse().map_err(|_| InvalidValue::new("FLOAT64", text, "not a number"))?;
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(InvalidValue::new("FLOAT64", text, "out of range"));
    }
    Ok(value)
}

/// Writes C's `%.15g`, or `%.17g` when that does not read back as the same number (GoogleSQL `RoundTripDoubleToString`).
///
/// Not finite: `nan`, `inf`, `-inf`, as CAST AS STRING writes them. The sign of zero is kept.
pub fn write_float64(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        let text: &[u8] = if value.is_nan() {
            b"nan"
        } else if value > 0.0 {
            b"inf"
        } else {
            b"-inf"
        };
        out.extend_from_slice(text);
        return;
    }
    // Whole numbers of at most 15 digits are their own %.15g.
    if value.fract() == 0.0 && value.abs() < 1e15 && (value != 0.0 || value.is_sign_positive()) {
        super::push_int(value as i64, out);
        return;
    }
    let mut buffer = [0_u8; 40];
    let (digits, exponent) = significant(value, &mut buffer);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    write_general(digits, exponent, out);
}

/// The digits that `%.15g` or `%.17g` shows, without trailing zeros, and the decimal exponent of the first.
fn significant(value: f64, buffer: &mut [u8; 40]) -> (&[u8], i32) {
    let magnitude = value.abs();
    if magnitude.is_normal() {
        // The shortest form that reads back has at most 15 digits exactly when %.15g reads back, and is it then: a
        // decimal of 15 digits survives the way through a normal double. Otherwise 17 digits are asked for.
        let (count, exponent) = split(format_args!("{magnitude:e}"), buffer);
        if count <= 15 {
            return (&buffer[..count], exponent);
        }
        let (count, exponent) = split(format_args!("{magnitude:.16e}"), buffer);
        return (&buffer[..count], exponent);
    }
    let (count, exponent) = split(format_args!("{magnitude:.14e}"), buffer);
    let text = std::str::from_utf8(&buffer[..count]).unwrap_or_default();
    let back: Option<f64> = format!("{}e{}", text, exponent - count as i32 + 1).parse().ok();
    if back == Some(magnitude) {
        return (&buffer[..count], exponent);
    }
    let (count, exponent) = split(format_args!("{magnitude:.16e}"), buffer);
    (&buffer[..count], exponent)
}

/// Takes `d.ddde-x` apart: how many significant digits now stand at the front of the buffer, and x.
fn split(text: std::fmt::Arguments<'_>, buffer: &mut [u8; 40]) -> (usize, i32) {
    let mut rest = &mut buffer[..];
    let _ = rest.write_fmt(text);
    let used = 40 - rest.len();
    let e = buffer[..used].iter().position(|b| *b == b'e').unwrap_or(used);
    let exponent = std::str::from_utf8(buffer.get(e + 1..used).unwrap_or_default()).ok();
    let exponent = exponent.and_then(|t| t.parse().ok()).unwrap_or(0);
    let mut count = e;
    if count > 1 {
        // The point stands after the first digit.
        buffer.copy_within(2..e, 1);
        count -= 1;
    }
    while count > 1 && buffer[count - 1] == b'0' {
        count -= 1;
    }
    (count, exponent)
}

/// C's `%g`: an exponent of at least two digits below 1e-4 and from the precision on, plain otherwise.
fn write_general(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    let precision = if digits.len() > 15 { 17 } else { 15 };
    if exponent < -4 || exponent >= precision {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        super::push_display(out, format_args!("e{sign}{:02}", exponent.unsigned_abs()));
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        out.extend_from_slice(&digits[..whole.min(digits.len())]);
        out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(digits.len())));
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::to_text;
    use super::*;

    fn text(value: f64) -> String {
        to_text(|out| write_float64(value, out))
    }

    #[test]
    fn known_spellings() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1234567890123456.7, "1234567890123456.8"),
            (12345678901234567.0, "12345678901234568"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.00012345678901234567, "0.00012345678901234567"),
            (5e-324, "4.94065645841247e-324"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text(value), want);
        }
        assert!(parse_float64("1e400").is_err());
        assert_eq!(parse_float64("-Infinity"), Ok(f64::NEG_INFINITY));
        assert!(parse_float64(" NaN ").unwrap().is_nan());
        assert!(parse_float64("0x1p3").is_err());
    }

    /// `%.*g` the slow and plain way.
    fn printf_g(value: f64, precision: usize) -> String {
        let mut buffer = [0; 40];
        let (count, exponent) = split(format_args!("{:.*e}", precision - 1, value.abs()), &mut buffer);
        let mut out = if value.is_sign_negative() { b"-".to_vec() } else { Vec::new() };
        let digits = &buffer[..count];
        if exponent < -4 || exponent >= precision as i32 {
            out.extend(format!("{}", digits[0] as char).bytes());
            if count > 1 {
                out.push(b'.');
                out.extend(&digits[1..]);
            }
            out.extend(format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()).bytes());
            return String::from_utf8(out).unwrap();
        }
        let places = (count as i32 - 1 - exponent).max(0) as usize;
        format!("{value:.places$}")
    }

    proptest! {
        #[test]
        fn it_is_15_digits_or_17(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let short = printf_g(value, 15);
            let want = if short.parse() == Ok(value) { short } else { printf_g(value, 17) };
            prop_assert_eq!(text(value), want);
            prop_assert_eq!(text(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn everyday_numbers(mantissa in -1_000_000_000_000_i64..1_000_000_000_000, places in 0..12_i32) {
            let value = mantissa as f64 / 10_f64.powi(places);
            let short = printf_g(value, 15);
            let want = if short.parse() == Ok(value) { short } else { printf_g(value, 17) };
            prop_assert_eq!(text(value), want);
        }
    }
}
