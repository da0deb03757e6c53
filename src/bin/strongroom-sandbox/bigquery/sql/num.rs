//! NUMERIC and BIGNUMERIC arithmetic, rounding, and numbers as text.

use arrow::datatypes::i256;
use num_bigint::{BigInt, Sign};
use strongroom::codec::value::{NUMERIC_MAX, to_text, write_bignumeric, write_float64, write_numeric};

use super::value::Value;

const NUMERIC_ONE: i128 = 1_000_000_000;

/// `10^n`.
pub fn ten(n: u32) -> i256 {
    i256::from_i128(10).wrapping_pow(n)
}

/// One as BIGNUMERIC holds it.
pub fn big_one() -> i256 {
    ten(38)
}

pub fn float_text(v: f64) -> String {
    to_text(|out| write_float64(v, out))
}

pub fn numeric_text(v: i128) -> String {
    to_text(|out| write_numeric(v, out))
}

pub fn big_text(v: i256) -> String {
    to_text(|out| write_bignumeric(v, out))
}

pub fn to_big(v: i256) -> BigInt {
    BigInt::from_signed_bytes_le(&v.to_le_bytes())
}

/// The 256 bits of a big integer, if it fits.
pub fn from_big(v: &BigInt) -> Option<i256> {
    let bytes = v.to_signed_bytes_le();
    if bytes.len() > 32 {
        return None;
    }
    let fill = if v.sign() == Sign::Minus { 0xff } else { 0 };
    let mut out = [fill; 32];
    out[..bytes.len()].copy_from_slice(&bytes);
    Some(i256::from_le_bytes(out))
}

/// A NUMERIC within its bounds.
pub fn check_numeric(v: Option<i256>) -> Option<i128> {
    v.and_then(i256::to_i128).filter(|v| v.unsigned_abs() <= NUMERIC_MAX.unsigned_abs())
}

/// Division, rounded half away from zero.
pub fn div_round(a: i256, b: i256) -> Option<i256> {
    if b == i256::ZERO {
        return None;
    }
    let quotient = a.checked_div(b)?;
    let rest = a.checked_rem(b)?;
    let twice: BigInt = to_big(rest) * 2u8;
    if twice.magnitude() >= to_big(b).magnitude() {
        let negative = (a < i256::ZERO) != (b < i256::ZERO);
        return quotient.checked_add(if negative { i256::MINUS_ONE } else { i256::ONE });
    }
    Some(quotient)
}

/// `x op y` for NUMERIC.
///
/// # Errors
/// Overflow, division by zero.
pub fn numeric_arithmetic(op: &str, x: i128, y: i128) -> Result<i128, String> {
    let (a, b) = (i256::from_i128(x), i256::from_i128(y));
    let one = i256::from_i128(NUMERIC_ONE);
    let result = match op {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b).and_then(|p| div_round(p, one)),
        _ if y == 0 => return Err(format!("division by zero: {} / {}", numeric_text(x), numeric_text(y))),
        _ => a.checked_mul(one).and_then(|n| div_round(n, b)),
    };
    check_numeric(result).ok_or_else(|| format!("numeric overflow: {} {op} {}", numeric_text(x), numeric_text(y)))
}

/// `x op y` for BIGNUMERIC.
///
/// # Errors
/// Overflow, division by zero.
pub fn bignumeric_arithmetic(op: &str, x: i256, y: i256) -> Result<i256, String> {
    let result = match op {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        "*" => from_big(&round_big(to_big(x) * to_big(y), &to_big(big_one()))),
        _ if y == i256::ZERO => return Err(format!("division by zero: {} / {}", big_text(x), big_text(y))),
        _ => from_big(&round_big(to_big(x) * to_big(big_one()), &to_big(y))),
    };
    result.ok_or_else(|| format!("BIGNUMERIC overflow: {} {op} {}", big_text(x), big_text(y)))
}

/// Division of big integers, rounded half away from zero.
pub fn round_big(a: BigInt, b: &BigInt) -> BigInt {
    let quotient = &a / b;
    let rest: BigInt = &a % b;
    if (rest * 2u8).magnitude() >= b.magnitude() {
        let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
        return if negative { quotient - 1 } else { quotient + 1 };
    }
    quotient
}

/// How a number is cut to fewer digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    HalfAwayFromZero,
    HalfEven,
    Towards0,
    Up,
    Down,
}

/// A scaled number cut to `digits` after the point (which may be negative).
pub fn cut(v: i256, scale: u32, digits: i64, how: Cut) -> Option<i256> {
    if digits >= i64::from(scale) {
        return Some(v);
    }
    let drop = i64::from(scale) - digits;
    if drop > 76 {
        return Some(i256::ZERO);
    }
    let unit = to_big(ten(drop as u32));
    let value = to_big(v);
    let floor = {
        let quotient = &value / &unit;
        if (&value % &unit).sign() == Sign::Minus { quotient - 1 } else { quotient }
    };
    let rest: BigInt = &value - &floor * &unit;
    let exact = rest.sign() == Sign::NoSign;
    let negative = value.sign() == Sign::Minus;
    let half = (&rest * 2u8).cmp(&unit);
    let up = match how {
        _ if exact => false,
        Cut::Up => true,
        Cut::Down => false,
        Cut::Towards0 => negative,
        Cut::HalfAwayFromZero => half.is_gt() || (half.is_eq() && !negative),
        Cut::HalfEven => half.is_gt() || (half.is_eq() && floor.bit(0)),
    };
    from_big(&((if up { floor + 1 } else { floor }) * unit))
}

/// # Errors
/// Overflow.
pub fn cut_numeric(v: i128, digits: i64, how: Cut) -> Result<i128, String> {
    check_numeric(cut(i256::from_i128(v), 9, digits, how)).ok_or_else(|| "numeric overflow".into())
}

/// # Errors
/// Overflow.
pub fn cut_bignumeric(v: i256, digits: i64, how: Cut) -> Result<i256, String> {
    cut(v, 38, digits, how).ok_or_else(|| "BIGNUMERIC overflow".into())
}

/// # Errors
/// Overflow.
pub fn round_numeric(v: i128, digits: i64) -> Result<i128, String> {
    cut_numeric(v, digits, Cut::HalfAwayFromZero)
}

/// # Errors
/// Overflow.
pub fn round_bignumeric(v: i256, digits: i64) -> Result<i256, String> {
    cut_bignumeric(v, digits, Cut::HalfAwayFromZero)
}

/// A double as the decimal that is exactly it, scaled and rounded.
pub fn float_to_scaled(v: f64, scale: u32) -> Option<i256> {
    if !v.is_finite() {
        return None;
    }
    let bits = v.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent - 1075) };
    let mut value = BigInt::from(mantissa) * to_big(ten(scale));
    if exponent >= 0 {
        if exponent > 300 && mantissa != 0 {
            return None;
        }
        value <<= exponent as usize;
    } else {
        value = round_big(value, &(BigInt::from(1) << (-exponent) as usize));
    }
    if v.is_sign_negative() {
        value = -value;
    }
    from_big(&value)
}

/// The nearest double of a scaled number.
pub fn scaled_to_float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// `x op y` for BYTES.
///
/// # Errors
/// Different lengths, negative shifts.
pub fn bytes_bits(op: &str, x: &[u8], y: &Value) -> Result<Vec<u8>, String> {
    if let "<<" | ">>" = op {
        let n = y.int()?;
        let n = usize::try_from(n).map_err(|_| "Bitwise shift by a negative offset is not allowed".to_owned())?;
        let (bytes, bits) = (n / 8, n % 8);
        let at = |i: isize| -> u16 { usize::try_from(i).ok().and_then(|i| x.get(i)).copied().unwrap_or(0).into() };
        return Ok((0..x.len() as isize)
            .map(|i| {
                let offset = isize::try_from(bytes).unwrap_or(isize::MAX / 2);
                if op == "<<" {
                    let (high, low) = (at(i + offset), at(i + offset + 1));
                    ((high << bits) | ((low << bits) >> 8)) as u8
                } else {
                    let (high, low) = (at(i - offset - 1), at(i - offset));
                    (((high << 8) | low) >> bits) as u8
                }
            })
            .collect());
    }
    let y = y.bytes()?;
    if x.len() != y.len() {
        return Err(format!(
            "Bitwise binary operator for BYTES requires equal length of the inputs. Got {} bytes on the left hand side and {} bytes on the right hand side",
            x.len(),
            y.len()
        ));
    }
    Ok(x.iter()
        .zip(y)
        .map(|(x, y)| match op {
            "|" => x | y,
            "&" => x & y,
            _ => x ^ y,
        })
        .collect())
}
