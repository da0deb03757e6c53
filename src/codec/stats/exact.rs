//! Sums of FLOAT64 without rounding: the same whatever the order, and mergeable.

use num_bigint::{BigInt, BigUint, Sign};

/// Limbs of 32 bits; the first counts units of 2^-1074, the smallest FLOAT64. 2^1024 is reached with 2098 bits; the rest
/// holds the carries of 2^64 additions.
const LIMBS: usize = 68;
/// Each addition changes a limb by less than 2^32: so many fit 63 bits before carries must be settled.
const BEFORE_CARRY: u32 = 1 << 30;

/// The exact sum of finite FLOAT64 values.
#[derive(Clone)]
pub(super) struct ExactSum {
    limbs: Box<[i64; LIMBS]>,
    pending: u32,
}

impl ExactSum {
    pub fn new() -> Self {
        Self { limbs: Box::new([0; LIMBS]), pending: 0 }
    }

    /// Adds a finite value.
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        // Subnormals have the exponent of the smallest normal and no hidden bit.
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let wide = u128::from(mantissa) << (shift % 32);
        let sign = if bits >> 63 == 0 { 1 } else { -1 };
        for piece in 0..3 {
            let limb = (wide >> (32 * piece)) as u32;
            self.limbs[shift / 32 + piece] += sign * i64::from(limb);
        }
        self.pending += 1;
        if self.pending >= BEFORE_CARRY {
            self.settle();
        }
    }

    /// The sum in units of 2^-1074.
    pub fn units(&self) -> BigInt {
        let mut total = BigInt::ZERO;
        for limb in self.limbs.iter().rev() {
            total = (total << 32) + *limb;
        }
        total
    }

    pub fn merge(&mut self, other: &Self) {
        self.settle();
        let mut other = other.clone();
        other.settle();
        for (mine, theirs) in self.limbs.iter_mut().zip(other.limbs.iter()) {
            *mine += theirs;
        }
        self.pending = 2;
    }

    /// The nearest FLOAT64, ties to even; infinite when it is beyond the greatest.
    pub fn to_f64(&self) -> f64 {
        let units = self.units();
        let negative = units.sign() == Sign::Minus;
        let magnitude = units.magnitude();
        let bits = magnitude.bits();
        // 53 bits are kept; below that the units themselves are the bits of a FLOAT64.
        let dropped = bits.saturating_sub(53);
        let mut kept = low_u64(&(magnitude >> dropped));
        if dropped > 0 {
            let half = BigUint::from(1_u8) << (dropped - 1);
            let rest = magnitude - ((magnitude >> dropped) << dropped);
            if rest > half || (rest == half && kept & 1 == 1) {
                kept += 1;
            }
        }
        // Biased exponent 1 means units of 2^-1074 with the hidden bit: `kept` carries into the exponent by itself.
        let value = if dropped > 2046 { u64::MAX } else { (dropped << 52).saturating_add(kept) };
        let infinity = f64::INFINITY.to_bits();
        let value = f64::from_bits(value.min(infinity));
        if negative { -value } else { value }
    }

    /// `<integer>p<power of two>`, the shortest: `3p-1` is 1.5.
    pub fn to_text(&self) -> String {
        let units = self.units();
        let zeros = units.trailing_zeros().unwrap_or(0);
        if units.sign() == Sign::NoSign {
            return "0p0".to_owned();
        }
        format!("{}p{}", units >> zeros, i128::from(zeros) - 1074)
    }

    /// Reads what [`ExactSum::to_text`] writes.
    pub fn from_text(text: &str) -> Option<Self> {
        let (digits, power) = text.split_once('p')?;
        let shift = power.parse::<i32>().ok()?.checked_add(1074)?;
        if digits.len() > 700 || shift > 32 * LIMBS as i32 {
            return None;
        }
        let integer: BigInt = digits.parse().ok()?;
        let units = match u32::try_from(shift) {
            Ok(shift) => integer << shift,
            Err(_) if integer == BigInt::ZERO => integer,
            Err(_) => return None,
        };
        let (sign, limbs) = units.to_u32_digits();
        if limbs.len() > LIMBS {
            return None;
        }
        let mut sum = Self::new();
        for (mine, limb) in sum.limbs.iter_mut().zip(limbs) {
            *mine = if sign == Sign::Minus { -i64::from(limb) } else { i64::from(limb) };
        }
        Some(sum)
    }

    fn settle(&mut self) {
        let mut carry = 0_i64;
        let last = LIMBS - 1;
        for limb in &mut self.limbs[..last] {
            let total = *limb + carry;
            *limb = total & 0xffff_ffff;
            carry = total >> 32;
        }
        self.limbs[last] += carry;
        self.pending = 1;
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.units() == other.units()
    }
}

impl std::fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.to_f64(), self.to_text())
    }
}

fn low_u64(number: &BigUint) -> u64 {
    number.iter_u64_digits().next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::new();
        values.iter().for_each(|v| sum.add(*v));
        sum
    }

    #[test]
    fn known_sums() {
        assert_eq!(sum(&[]).to_f64(), 0.0);
        assert_eq!(sum(&[0.1; 10]).to_f64(), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308, 1.0, -1e308]).to_f64(), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).to_f64(), f64::INFINITY);
        assert_eq!(sum(&[5e-324, 5e-324]).to_f64(), 1e-323);
        assert_eq!(sum(&[-1.5]).to_text(), "-3p-1");
        assert_eq!(sum(&[1e16, 1.0]).to_f64(), 1e16);
        assert_eq!(sum(&[1e16, 1.0, 1.0]).to_f64(), 1e16 + 2.0);
        assert_eq!(sum(&[f64::MAX, -5e-324]).to_f64(), f64::MAX);
        for text in ["", "1", "1p", "1p-1075", "1p9999", "xp1"] {
            assert!(ExactSum::from_text(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_value_is_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(sum(&[value]).to_f64(), value);
        }

        #[test]
        fn order_and_parts_do_not_matter(bits in prop::collection::vec(any::<u64>(), 0..40), cut in 0_usize..40) {
            let mut values: Vec<f64> = bits.into_iter().map(f64::from_bits).filter(|v| v.is_finite()).collect();
            let whole = sum(&values);
            let cut = cut.min(values.len());
            let mut parts = sum(&values[..cut]);
            parts.merge(&sum(&values[cut..]));
            prop_assert_eq!(&parts, &whole);
            prop_assert_eq!(ExactSum::from_text(&whole.to_text()).unwrap(), whole.clone());
            values.reverse();
            prop_assert_eq!(sum(&values).to_f64().to_bits(), whole.to_f64().to_bits());
        }
    }
}
