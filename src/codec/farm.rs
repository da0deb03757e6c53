//! FarmHash Fingerprint64 (`farmhashna::Hash64`), the hash behind BigQuery's `FARM_FINGERPRINT`.
//!
//! After https://github.com/google/farmhash/blob/master/src/farmhash.cc. Fixed for all time by its authors. Not a
//! cryptographic hash: it finds accidents, not forgeries.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

/// `FARM_FINGERPRINT(bytes)`: Fingerprint64 as a signed INT64.
pub fn farm_fingerprint(bytes: &[u8]) -> i64 {
    fingerprint64(bytes) as i64
}

/// FarmHash Fingerprint64.
pub fn fingerprint64(s: &[u8]) -> u64 {
    match s.len() {
        0..=16 => hash_0_to_16(s),
        17..=32 => hash_17_to_32(s),
        33..=64 => hash_33_to_64(s),
        _ => hash_long(s),
    }
}

#[inline(always)]
fn fetch64(s: &[u8], at: usize) -> u64 {
    // The caller has looked at the length.
    s[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn fetch32(s: &[u8], at: usize) -> u64 {
    s[at..].first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

#[inline(always)]
fn shift_mix(v: u64) -> u64 {
    v ^ (v >> 47)
}

#[inline(always)]
fn hash_16(u: u64, v: u64, mul: u64) -> u64 {
    let a = shift_mix((u ^ v).wrapping_mul(mul));
    shift_mix((v ^ a).wrapping_mul(mul)).wrapping_mul(mul)
}

fn hash_0_to_16(s: &[u8]) -> u64 {
    let len = s.len();
    let mul = K2.wrapping_add(len as u64 * 2);
    if len >= 8 {
        let a = fetch64(s, 0).wrapping_add(K2);
        let b = fetch64(s, len - 8);
        let c = b.rotate_right(37).wrapping_mul(mul).wrapping_add(a);
        let d = a.rotate_right(25).wrapping_add(b).wrapping_mul(mul);
        return hash_16(c, d, mul);
    }
    if len >= 4 {
        return hash_16((len as u64).wrapping_add(fetch32(s, 0) << 3), fetch32(s, len - 4), mul);
    }
    if len > 0 {
        let y = u64::from(s[0]) + (u64::from(s[len >> 1]) << 8);
        let z = len as u64 + (u64::from(s[len - 1]) << 2);
        return shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2);
    }
    K2
}

fn hash_17_to_32(s: &[u8]) -> u64 {
    let len = s.len();
    let mul = K2.wrapping_add(len as u64 * 2);
    let a = fetch64(s, 0).wrapping_mul(K1);
    let b = fetch64(s, 8);
    let c = fetch64(s, len - 8).wrapping_mul(mul);
    let d = fetch64(s, len - 16).wrapping_mul(K2);
    let u = a.wrapping_add(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let v = a.wrapping_add(b.wrapping_add(K2).rotate_right(18)).wrapping_add(c);
    hash_16(u, v, mul)
}

fn hash_33_to_64(s: &[u8]) -> u64 {
    let len = s.len();
    let mul = K2.wrapping_add(len as u64 * 2);
    let a = fetch64(s, 0).wrapping_mul(K2);
    let b = fetch64(s, 8);
    let c = fetch64(s, len - 8).wrapping_mul(mul);
    let d = fetch64(s, len - 16).wrapping_mul(K2);
    let y = a.wrapping_add(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let z = hash_16(y, a.wrapping_add(b.wrapping_add(K2).rotate_right(18)).wrapping_add(c), mul);
    let e = fetch64(s, 16).wrapping_mul(mul);
    let f = fetch64(s, 24);
    let g = y.wrapping_add(fetch64(s, len - 32)).wrapping_mul(mul);
    let h = z.wrapping_add(fetch64(s, len - 24)).wrapping_mul(mul);
    let u = e.wrapping_add(f).rotate_right(43).wrapping_add(g.rotate_right(30)).wrapping_add(h);
    let v = e.wrapping_add(f.wrapping_add(a).rotate_right(18)).wrapping_add(g);
    hash_16(u, v, mul)
}

#[inline(always)]
fn weak_hash_32(s: &[u8; 64], at: usize, a: u64, b: u64) -> (u64, u64) {
    let (w, x, y, z) = (fetch64(s, at), fetch64(s, at + 8), fetch64(s, at + 16), fetch64(s, at + 24));
    let a = a.wrapping_add(w);
    let b = b.wrapping_add(a).wrapping_add(z).rotate_right(21);
    let c = a;
    let a = a.wrapping_add(x).wrapping_add(y);
    let b = b.wrapping_add(a.rotate_right(44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

struct State {
    x: u64,
    y: u64,
    z: u64,
    v: (u64, u64),
    w: (u64, u64),
}

impl State {
    /// One block; the last block mixes with `nine` in place of one.
    #[inline(always)]
    fn mix(&mut self, block: &[u8; 64], mul: u64, nine: u64) {
        let Self { x, y, z, v, w } = self;
        *x = x.wrapping_add(*y).wrapping_add(v.0).wrapping_add(fetch64(block, 8)).rotate_right(37).wrapping_mul(mul);
        *y = y.wrapping_add(v.1).wrapping_add(fetch64(block, 48)).rotate_right(42).wrapping_mul(mul);
        *x ^= w.1.wrapping_mul(nine);
        *y = y.wrapping_add(v.0.wrapping_mul(nine)).wrapping_add(fetch64(block, 40));
        *z = z.wrapping_add(w.0).rotate_right(33).wrapping_mul(mul);
        *v = weak_hash_32(block, 0, v.1.wrapping_mul(mul), x.wrapping_add(w.0));
        *w = weak_hash_32(block, 32, z.wrapping_add(w.1), y.wrapping_add(fetch64(block, 16)));
        std::mem::swap(z, x);
    }
}

fn hash_long(s: &[u8]) -> u64 {
    const SEED: u64 = 81;
    // More than 64 bytes: both are there.
    let (Some(first), Some(last)) = (s.first_chunk::<64>(), s.last_chunk::<64>()) else { return 0 };
    let y = SEED.wrapping_mul(K1).wrapping_add(113);
    let z = shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2);
    let x = SEED.wrapping_mul(K2).wrapping_add(fetch64(first, 0));
    let mut state = State { x, y, z, v: (0, 0), w: (0, 0) };
    for block in s[..s.len() - 1].as_chunks::<64>().0 {
        state.mix(block, K1, 1);
    }
    let rest = (s.len() - 1) & 63;
    let mul = K1.wrapping_add((state.z & 0xff) << 1);
    state.w.0 = state.w.0.wrapping_add(rest as u64);
    state.v.0 = state.v.0.wrapping_add(state.w.0);
    state.w.0 = state.w.0.wrapping_add(state.v.0);
    // The last 64 bytes overlap what was mixed before.
    state.mix(last, mul, 9);
    let State { x, y, z, v, w } = state;
    let u = hash_16(v.0, w.0, mul).wrapping_add(shift_mix(y).wrapping_mul(K0)).wrapping_add(z);
    hash_16(u, hash_16(v.1, w.1, mul).wrapping_add(x), mul)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn lines(text: &str) -> impl Iterator<Item = Value> + '_ {
        text.lines().map(|line| serde_json::from_str(line).unwrap())
    }

    #[test]
    fn googles_expected_values() {
        let text = include_str!("../../tests/data/googlesql-expected/farm_fingerprint.jsonl");
        let mut seen = 0;
        for case in lines(text) {
            let Some(expected) = case["expected_int64"].as_i64() else { continue };
            let value = case["value"].as_str().unwrap();
            assert_eq!(farm_fingerprint(value.as_bytes()), expected, "{case}");
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn every_length_class() {
        let text = include_str!("../../tests/data/googlesql-expected/fingerprint64_by_length.jsonl");
        let mut seen = 0;
        for case in lines(text) {
            let hex = case["bytes_hex"].as_str().unwrap();
            let bytes: Vec<u8> =
                (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
            assert_eq!(farm_fingerprint(&bytes), case["expected_int64"].as_i64().unwrap(), "{}", case["len"]);
            seen += 1;
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn it_is_not_hash64() {
        let text = include_str!("../../tests/data/googlesql-expected/farm_negative_controls.jsonl");
        for case in lines(text) {
            let got = farm_fingerprint(case["value"].as_str().unwrap().as_bytes());
            assert_ne!(Some(got), case["hash64_int64"].as_i64());
            assert_eq!(Some(got), case["fingerprint64_int64_pyfarmhash"].as_i64());
        }
    }
}
