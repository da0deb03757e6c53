//! Writes into a buffer that reaches beyond what is written: every row of every table passes here.
//!
//! A function writes from a place on and answers where the next may write. What is short is copied as a piece of fixed size,
//! of which the next one overwrites what is too much: that is several times faster than to copy just so many bytes.

use super::PAIRS;

/// Most names, texts and numbers are not longer.
pub const PIECE: usize = 32;
/// How far the buffer is made to reach beyond what does not fit.
const BEYOND: usize = 256;

/// Writes a piece, of which `length` bytes count.
#[inline(always)]
pub fn put<const N: usize>(piece: &[u8; N], length: usize, out: &mut Vec<u8>, at: usize) -> usize {
    match out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        Some(to) => *to = *piece,
        None => extend(piece, out, at),
    }
    at + length
}

/// Writes bytes of any number.
#[inline]
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>, at: usize) -> usize {
    match out.get_mut(at..at + bytes.len()) {
        Some(to) => to.copy_from_slice(bytes),
        None => extend(bytes, out, at),
    }
    at + bytes.len()
}

/// Writes a part of many bytes that lie together.
#[inline(always)]
pub fn put_part(all: &[u8], start: usize, end: usize, out: &mut Vec<u8>, at: usize) -> usize {
    match all[start..].first_chunk::<PIECE>() {
        Some(piece) if end - start <= PIECE => put(piece, end - start, out, at),
        _ => put_bytes(&all[start..end], out, at),
    }
}

#[cold]
#[inline(never)]
fn extend(bytes: &[u8], out: &mut Vec<u8>, at: usize) {
    out.truncate(at);
    out.resize(at, 0);
    out.extend_from_slice(bytes);
    out.resize(out.len() + BEYOND, 0);
}

/// Writes what a function appends.
#[inline]
pub fn put_appended(append: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>, at: usize) -> usize {
    out.truncate(at);
    append(out);
    out.len()
}

/// Appends what a function writes.
#[inline]
pub fn push_put(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>, usize) -> usize) {
    let at = out.len();
    let end = put(out, at);
    out.truncate(end);
}

/// Writes an integer in decimal.
#[inline]
pub fn put_int(number: i64, out: &mut Vec<u8>, mut at: usize) -> usize {
    if number < 0 {
        at = put(b"-", 1, out, at);
    }
    put_digits(number.unsigned_abs(), out, at)
}

/// Writes an integer in decimal.
#[inline]
pub fn put_digits(number: u64, out: &mut Vec<u8>, at: usize) -> usize {
    if number < EIGHT_DIGITS { put_below_eight(number, out, at) } else { put_beyond_eight(number, out, at) }
}

#[inline(always)]
fn put_below_eight(number: u64, out: &mut Vec<u8>, at: usize) -> usize {
    let digits = eight_digits(number);
    // At least one digit is written: that of zero.
    let leading = (digits.trailing_zeros() / 8).min(7);
    put(&((digits | ASCII_ZEROS) >> (8 * leading)).to_le_bytes(), 8 - leading as usize, out, at)
}

fn put_beyond_eight(number: u64, out: &mut Vec<u8>, at: usize) -> usize {
    let at = put_digits(number / EIGHT_DIGITS, out, at);
    put(&(eight_digits(number % EIGHT_DIGITS) | ASCII_ZEROS).to_le_bytes(), 8, out, at)
}

/// Writes a point and nine digits without the zeros at the end; nothing for zero.
#[inline]
pub fn put_nano_fraction(fraction: u32, out: &mut Vec<u8>, at: usize) -> usize {
    if fraction == 0 {
        return at;
    }
    let fraction = u64::from(fraction);
    let at = put(&[b'.', b'0' + (fraction / EIGHT_DIGITS) as u8], 2, out, at);
    let rest = eight_digits(fraction % EIGHT_DIGITS);
    put(&(rest | ASCII_ZEROS).to_le_bytes(), 8 - rest.leading_zeros() as usize / 8, out, at)
}

/// Writes `HH:MM:SS` and the fraction of a time in microseconds since midnight.
///
/// `grouped` writes three or six digits of a fraction (TO_JSON_STRING); otherwise trailing zeros are left out.
#[inline]
pub fn put_clock(micros: u64, grouped: bool, out: &mut Vec<u8>, at: usize) -> usize {
    let (seconds, fraction) = ((micros / 1_000_000) as u32, (micros % 1_000_000) as u32);
    let two = |number: u32| u64::from(u16::from_le_bytes(PAIRS[number as usize % 100]));
    const COLONS: u64 = ((b':' as u64) << 16) | ((b':' as u64) << 40);
    let clock = two(seconds / 3600) | (two(seconds / 60 % 60) << 24) | (two(seconds % 60) << 48) | COLONS;
    let at = put(&clock.to_le_bytes(), 8, out, at);
    if fraction == 0 {
        return at;
    }
    let digits = eight_digits(u64::from(fraction));
    let zeros = match (grouped, fraction.is_multiple_of(1000)) {
        (true, false) => 0,
        (true, true) => 3,
        (false, _) => digits.leading_zeros() as usize / 8,
    };
    // Of the eight digits the first two are zeros: one goes, the point takes the place of the other.
    let text = (((digits | ASCII_ZEROS) >> 8) & !0xff) | u64::from(b'.');
    put(&text.to_le_bytes(), 7 - zeros, out, at)
}

const EIGHT_DIGITS: u64 = 100_000_000;
/// Makes characters of the digits of [`eight_digits`].
const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number below 10^8, one a byte, the first in the lowest: all are divided at once.
// http://0x80.pl/notesen/2011-10-21-sse-itoa.html
#[inline(always)]
fn eight_digits(number: u64) -> u64 {
    // Two lanes of four digits, then four of two, then eight of one. x * 10486 >> 20 is x / 100 below 10^4, and
    // x * 103 >> 10 is x / 10 below 100.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - 10 * tens) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::value::to_text;

    fn text(write: impl FnOnce(&mut Vec<u8>, usize) -> usize) -> String {
        to_text(|out| push_put(out, write))
    }

    #[test]
    fn integers_are_written_as_rust_writes_them() {
        for number in [0, 1, -1, 9, 10, 99, 100, 101, 999, -1000, 12_345, 123_456, i64::MAX, i64::MIN] {
            assert_eq!(text(|out, at| put_int(number, out, at)), number.to_string());
        }
        for digits in 0..19 {
            for around in [-1, 0, 1, 7, 1234] {
                let number = 10_i64.pow(digits) + around;
                assert_eq!(text(|out, at| put_int(number, out, at)), number.to_string());
            }
        }
        assert_eq!(text(|out, at| put_digits(u64::MAX, out, at)), u64::MAX.to_string());
    }

    #[test]
    fn eight_digits_are_those_of_the_number() {
        let digits = |number| String::from_utf8((eight_digits(number) | ASCII_ZEROS).to_le_bytes().to_vec()).unwrap();
        for number in (0..EIGHT_DIGITS).step_by(7_919).chain([9_999, 10_000, 99_999_999]) {
            assert_eq!(digits(number), format!("{number:08}"));
        }
        // Every lane meets every value.
        for four in 0..10_000 {
            assert_eq!(digits(four * 10_000 + four), format!("{four:04}{four:04}"));
        }
    }

    #[test]
    fn fractions_have_no_zeros_at_the_end() {
        let known = [(0, ""), (1, ".000000001"), (999_999_999, ".999999999"), (500_000_000, ".5"), (120, ".00000012")];
        for (fraction, expected) in known {
            assert_eq!(text(|out, at| put_nano_fraction(fraction, out, at)), expected);
        }
    }

    #[test]
    fn times_of_day() {
        let clock = |micros, grouped| text(|out, at| put_clock(micros, grouped, out, at));
        assert_eq!(clock(86_399_999_999, true), "23:59:59.999999");
        assert_eq!(clock(3_661_000_000, true), "01:01:01");
        assert_eq!(clock(500_000, true), "00:00:00.500");
        assert_eq!(clock(500_010, true), "00:00:00.500010");
        assert_eq!((clock(500_000, false), clock(500_010, false)), ("00:00:00.5".into(), "00:00:00.50001".into()));
    }

    #[test]
    fn what_is_written_is_kept_wherever_the_buffer_ends() {
        let all = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789";
        for reach in 0..80 {
            let mut out = vec![b'x'; reach];
            let at = put(b"[    ", 1, &mut out, 0);
            let at = put_part(all, 0, 40, &mut out, at);
            let at = put_part(all, 40, 46, &mut out, at);
            let at = put_appended(|out| out.extend_from_slice(b"<appended>"), &mut out, at);
            let at = put_part(all, 2, 5, &mut out, at);
            out.truncate(at);
            assert_eq!(out, b"[0123456789abcdefghijklmnopqrstuvwxyz0123456789<appended>234", "{reach}");
        }
    }
}
