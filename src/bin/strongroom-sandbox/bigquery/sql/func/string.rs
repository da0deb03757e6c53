//! STRING and BYTES.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use strongroom::codec::farm::farm_fingerprint;

use super::{Def, Out, def};
use crate::bigquery::sql::value::Value;

const TEXT: &str = "STRING->STRING|BYTES->BYTES";
const TRIM: &str = "STRING,STRING?->STRING|BYTES,BYTES->BYTES";
const PAD: &str = "STRING,INT64,STRING?->STRING|BYTES,INT64,BYTES?->BYTES";
const TEST: &str = "STRING,STRING->BOOL|BYTES,BYTES->BOOL";
const SIZE: &str = "STRING->INT64|BYTES->INT64";
const HASH: &str = "STRING->BYTES|BYTES->BYTES";
const SUBSTR: &str = "STRING,INT64,INT64?->STRING|BYTES,INT64,INT64?->BYTES";
const SIDE: &str = "STRING,INT64->STRING|BYTES,INT64->BYTES";
/// No text that a function makes is longer.
const MAX_BYTES: usize = 1 << 24;

pub const DEFS: &[Def] = &[
    def("CONCAT", "STRING,STRING*->STRING|BYTES,BYTES*->BYTES", |_, a| {
        if let Value::Str(_) = a[0] {
            let parts: Result<Vec<&str>, String> = a.iter().map(Value::str).collect();
            return Ok(Value::Str(parts?.concat()));
        }
        let parts: Result<Vec<&[u8]>, String> = a.iter().map(Value::bytes).collect();
        Ok(Value::Bytes(parts?.concat()))
    }),
    def("LENGTH", SIZE, |_, a| Ok(Value::Int(units(&a[0])?))),
    def("CHAR_LENGTH", "STRING->INT64", |_, a| Ok(Value::Int(units(&a[0])?))),
    def("CHARACTER_LENGTH", "STRING->INT64", |_, a| Ok(Value::Int(units(&a[0])?))),
    def("BYTE_LENGTH", SIZE, |_, a| Ok(Value::Int(a[0].bytes()?.len() as i64))),
    def("OCTET_LENGTH", SIZE, |_, a| Ok(Value::Int(a[0].bytes()?.len() as i64))),
    def("UPPER", TEXT, |_, a| {
        Ok(match &a[0] {
            Value::Bytes(b) => Value::Bytes(b.to_ascii_uppercase()),
            v => Value::Str(v.str()?.to_uppercase()),
        })
    }),
    def("LOWER", TEXT, |_, a| {
        Ok(match &a[0] {
            Value::Bytes(b) => Value::Bytes(b.to_ascii_lowercase()),
            v => Value::Str(v.str()?.to_lowercase()),
        })
    }),
    def("TRIM", TRIM, |_, a| trim(a, true, true)),
    def("LTRIM", TRIM, |_, a| trim(a, true, false)),
    def("RTRIM", TRIM, |_, a| trim(a, false, true)),
    def("SUBSTR", SUBSTR, |_, a| substr(a)),
    def("SUBSTRING", SUBSTR, |_, a| substr(a)),
    def("LEFT", SIDE, |_, a| side(a, true)),
    def("RIGHT", SIDE, |_, a| side(a, false)),
    def("REPLACE", "STRING,STRING,STRING->STRING|BYTES,BYTES,BYTES->BYTES", |_, a| {
        if a[1].bytes()?.is_empty() {
            return Ok(a[0].clone());
        }
        match &a[0] {
            Value::Str(text) => bounded(text.replace(a[1].str()?, a[2].str()?).into_bytes(), true),
            v => bounded(replace_bytes(v.bytes()?, a[1].bytes()?, a[2].bytes()?), false),
        }
    }),
    def("REVERSE", TEXT, |_, a| {
        Ok(match &a[0] {
            Value::Bytes(b) => Value::Bytes(b.iter().rev().copied().collect()),
            v => Value::Str(v.str()?.chars().rev().collect()),
        })
    }),
    def("REPEAT", SIDE, |_, a| {
        let n =
            usize::try_from(a[1].int()?).map_err(|_| "Second argument in REPEAT must not be negative".to_owned())?;
        let bytes = a[0].bytes()?;
        if bytes.len().saturating_mul(n) > MAX_BYTES {
            return Err("Output of REPEAT exceeds max allowed output size".into());
        }
        bounded(bytes.repeat(n), matches!(a[0], Value::Str(_)))
    }),
    def("LPAD", PAD, |_, a| pad(a, true)),
    def("RPAD", PAD, |_, a| pad(a, false)),
    def("STRPOS", "STRING,STRING->INT64|BYTES,BYTES->INT64", |_, a| {
        Ok(Value::Int(match &a[0] {
            Value::Str(text) => text.find(a[1].str()?).map_or(0, |at| text[..at].chars().count() as i64 + 1),
            v => find_bytes(v.bytes()?, a[1].bytes()?).map_or(0, |at| at as i64 + 1),
        }))
    }),
    def("INSTR", "STRING,STRING,INT64?,INT64?->INT64|BYTES,BYTES,INT64?,INT64?->INT64", |_, a| instr(a)),
    def("STARTS_WITH", TEST, |_, a| Ok(Value::Bool(a[0].bytes()?.starts_with(a[1].bytes()?)))),
    def("ENDS_WITH", TEST, |_, a| Ok(Value::Bool(a[0].bytes()?.ends_with(a[1].bytes()?)))),
    def("SPLIT", "STRING,STRING?->[STRING]|BYTES,BYTES->[BYTES]", |_, a| split(a)),
    def("INITCAP", "STRING,STRING?->STRING", |_, a| {
        let delimiters = a.get(1).map_or(Ok(" \t\n\r\u{b}\u{c}[](){}/|<>!?@\"^#$&~_,.:;*%+-"), Value::str)?;
        let mut start = true;
        let text = a[0].str()?.chars().flat_map(|c| {
            let cased: Vec<char> = if start { c.to_uppercase().collect() } else { c.to_lowercase().collect() };
            start = delimiters.contains(c);
            cased
        });
        Ok(Value::Str(text.collect()))
    }),
    def("ASCII", "STRING->INT64", |_, a| match a[0].str()?.chars().next() {
        None => Ok(Value::Int(0)),
        Some(c) if c.is_ascii() => Ok(Value::Int(i64::from(u32::from(c)))),
        Some(_) => Err("Non-ASCII character in input to ASCII".into()),
    }),
    def("UNICODE", "STRING->INT64", |_, a| {
        Ok(Value::Int(a[0].str()?.chars().next().map_or(0, |c| i64::from(u32::from(c)))))
    }),
    def("CHR", "INT64->STRING", |_, a| {
        let n = a[0].int()?;
        if n == 0 {
            return Ok(Value::Str(String::new()));
        }
        let c = u32::try_from(n).ok().and_then(char::from_u32);
        c.map(|c| Value::Str(c.into())).ok_or_else(|| format!("Invalid codepoint {n}"))
    }),
    def("TO_CODE_POINTS", "STRING->[INT64]|BYTES->[INT64]", |_, a| {
        Ok(Value::Array(match &a[0] {
            Value::Str(text) => text.chars().map(|c| Value::Int(i64::from(u32::from(c)))).collect(),
            v => v.bytes()?.iter().map(|b| Value::Int(i64::from(*b))).collect(),
        }))
    }),
    def("CODE_POINTS_TO_STRING", "[INT64]->STRING", |_, a| {
        let mut out = String::new();
        for v in a[0].array()? {
            let Value::Int(n) = v else { return Ok(Value::Null) };
            out.push(u32::try_from(*n).ok().and_then(char::from_u32).ok_or_else(|| format!("Invalid codepoint {n}"))?);
        }
        Ok(Value::Str(out))
    }),
    def("CODE_POINTS_TO_BYTES", "[INT64]->BYTES", |_, a| {
        let mut out = Vec::new();
        for v in a[0].array()? {
            let Value::Int(n) = v else { return Ok(Value::Null) };
            out.push(u8::try_from(*n).map_err(|_| format!("Invalid byte value {n}"))?);
        }
        Ok(Value::Bytes(out))
    }),
    def("TO_HEX", "BYTES->STRING", |_, a| Ok(Value::Str(a[0].bytes()?.iter().map(|b| format!("{b:02x}")).collect()))),
    def("FROM_HEX", "STRING->BYTES", |_, a| {
        let text = a[0].str()?;
        let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_owned() };
        let bad = || "Failed to decode invalid hexadecimal string due to an invalid character".to_owned();
        let pairs = (0..padded.len()).step_by(2).map(|i| {
            let pair = padded.get(i..i + 2).filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(bad)?;
            u8::from_str_radix(pair, 16).map_err(|_| bad())
        });
        Ok(Value::Bytes(pairs.collect::<Result<_, _>>()?))
    }),
    def("TO_BASE64", "BYTES->STRING", |_, a| Ok(Value::Str(STANDARD.encode(a[0].bytes()?)))),
    def("FROM_BASE64", "STRING->BYTES", |_, a| {
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
        let text: String = a[0].str()?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        engine.decode(text).map(Value::Bytes).map_err(|_| "Failed to decode invalid base64 string".into())
    }),
    def("MD5", HASH, |_, a| Ok(Value::Bytes(md5(a[0].bytes()?).to_vec()))),
    def("SHA1", HASH, |_, a| Ok(hashed(&digest::SHA1_FOR_LEGACY_USE_ONLY, a[0].bytes()?))),
    def("SHA256", HASH, |_, a| Ok(hashed(&digest::SHA256, a[0].bytes()?))),
    def("SHA512", HASH, |_, a| Ok(hashed(&digest::SHA512, a[0].bytes()?))),
    def("FARM_FINGERPRINT", SIZE, |_, a| Ok(Value::Int(farm_fingerprint(a[0].bytes()?)))),
    def("SAFE_CONVERT_BYTES_TO_STRING", "BYTES->STRING", |_, a| {
        Ok(Value::Str(String::from_utf8_lossy(a[0].bytes()?).into_owned()))
    }),
    def("TRANSLATE", "STRING,STRING,STRING->STRING|BYTES,BYTES,BYTES->BYTES", |_, a| {
        if let Value::Bytes(bytes) = &a[0] {
            let (from, to) = (a[1].bytes()?, a[2].bytes()?);
            let out = bytes.iter().filter_map(|b| match from.iter().position(|f| f == b) {
                Some(n) => to.get(n).copied(),
                None => Some(*b),
            });
            return Ok(Value::Bytes(out.collect()));
        }
        let from: Vec<char> = a[1].str()?.chars().collect();
        let to: Vec<char> = a[2].str()?.chars().collect();
        let mut seen = from.clone();
        seen.sort_unstable();
        if seen.windows(2).any(|w| w[0] == w[1]) {
            return Err("Duplicate character in TRANSLATE source characters".into());
        }
        let out = a[0].str()?.chars().filter_map(|c| match from.iter().position(|f| *f == c) {
            Some(n) => to.get(n).copied(),
            None => Some(c),
        });
        Ok(Value::Str(out.collect()))
    }),
    def("EDIT_DISTANCE", "STRING,STRING->INT64", |_, a| {
        let (x, y): (Vec<char>, Vec<char>) = (a[0].str()?.chars().collect(), a[1].str()?.chars().collect());
        let mut row: Vec<i64> = (0..=y.len() as i64).collect();
        for (i, cx) in x.iter().enumerate() {
            let mut previous = row[0];
            row[0] = i as i64 + 1;
            for (j, cy) in y.iter().enumerate() {
                let cost = if cx == cy { previous } else { 1 + previous.min(row[j]).min(row[j + 1]) };
                previous = row[j + 1];
                row[j + 1] = cost;
            }
        }
        Ok(Value::Int(row[y.len()]))
    }),
    def("CONTAINS_SUBSTR", "STRING,STRING->BOOL", |_, a| {
        Ok(Value::Bool(a[0].str()?.to_lowercase().contains(&a[1].str()?.to_lowercase())))
    }),
];

fn units(v: &Value) -> Result<i64, String> {
    Ok(match v {
        Value::Str(text) => text.chars().count() as i64,
        other => other.bytes()?.len() as i64,
    })
}

fn bounded(bytes: Vec<u8>, text: bool) -> Out {
    if bytes.len() > MAX_BYTES {
        return Err("Output of a string function exceeds max allowed output size".into());
    }
    if text {
        return String::from_utf8(bytes).map(Value::Str).map_err(|_| "Internal: invalid UTF-8".into());
    }
    Ok(Value::Bytes(bytes))
}

fn trim(a: &[Value], left: bool, right: bool) -> Out {
    if let Value::Bytes(bytes) = &a[0] {
        let set = a[1].bytes()?;
        let mut slice = bytes.as_slice();
        while left && slice.first().is_some_and(|b| set.contains(b)) {
            slice = &slice[1..];
        }
        while right && slice.last().is_some_and(|b| set.contains(b)) {
            slice = &slice[..slice.len() - 1];
        }
        return Ok(Value::Bytes(slice.to_vec()));
    }
    let set: Option<Vec<char>> = a.get(1).map(Value::str).transpose()?.map(|s| s.chars().collect());
    let within = |c: char| set.as_ref().map_or(c.is_whitespace(), |s| s.contains(&c));
    let mut text = a[0].str()?;
    if left {
        text = text.trim_start_matches(within);
    }
    if right {
        text = text.trim_end_matches(within);
    }
    Ok(Value::Str(text.to_owned()))
}

fn substr(a: &[Value]) -> Out {
    let position = a[1].int()?;
    let length = a.get(2).map(Value::int).transpose()?;
    if length.is_some_and(|l| l < 0) {
        return Err("Third argument in SUBSTR() cannot be negative".into());
    }
    let size = units(&a[0])?;
    let start = match position {
        0 => 0,
        p if p > 0 => p - 1,
        p => (size + p).max(0),
    };
    // A negative position beyond the beginning is the beginning.
    let end = length.map_or(size, |l| start.saturating_add(l)).min(size);
    let (start, end) = (start.min(size) as usize, end.max(0) as usize);
    let end = end.max(start);
    Ok(match &a[0] {
        Value::Str(text) => Value::Str(text.chars().skip(start).take(end - start).collect()),
        other => Value::Bytes(other.bytes()?[start..end].to_vec()),
    })
}

fn side(a: &[Value], left: bool) -> Out {
    let n = usize::try_from(a[1].int()?).map_err(|_| "Length of LEFT and RIGHT must not be negative".to_owned())?;
    Ok(match &a[0] {
        Value::Str(text) if left => Value::Str(text.chars().take(n).collect()),
        Value::Str(text) => Value::Str(text.chars().skip(text.chars().count().saturating_sub(n)).collect()),
        other => {
            let bytes = other.bytes()?;
            let n = n.min(bytes.len());
            Value::Bytes(if left { bytes[..n].to_vec() } else { bytes[bytes.len() - n..].to_vec() })
        }
    })
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn replace_bytes(mut text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = find_bytes(text, from) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(to);
        text = &text[at + from.len()..];
    }
    out.extend_from_slice(text);
    out
}

fn pad(a: &[Value], left: bool) -> Out {
    let width =
        usize::try_from(a[1].int()?).map_err(|_| "Second argument in LPAD/RPAD must not be negative".to_owned())?;
    if width > MAX_BYTES {
        return Err("Output of LPAD/RPAD exceeds max allowed output size".into());
    }
    if a.get(2).is_some_and(|p| p.bytes().is_ok_and(<[u8]>::is_empty)) {
        return Err("Third argument in LPAD/RPAD cannot be an empty value".into());
    }
    if let Value::Bytes(bytes) = &a[0] {
        let fill = a.get(2).map_or(Ok(b" ".as_slice()), Value::bytes)?;
        let missing: Vec<u8> = fill.iter().cycle().take(width.saturating_sub(bytes.len())).copied().collect();
        let kept = &bytes[..width.min(bytes.len())];
        return Ok(Value::Bytes(if left { [&missing, kept].concat() } else { [kept, &missing].concat() }));
    }
    let text = a[0].str()?;
    let fill = a.get(2).map_or(Ok(" "), Value::str)?;
    let kept: String = text.chars().take(width).collect();
    let missing: String = fill.chars().cycle().take(width.saturating_sub(text.chars().count())).collect();
    Ok(Value::Str(if left { missing + &kept } else { kept + &missing }))
}

fn instr(a: &[Value]) -> Out {
    let position = a.get(2).map_or(Ok(1), Value::int)?;
    let occurrence = a.get(3).map_or(Ok(1), Value::int)?;
    if position == 0 || occurrence < 1 {
        return Err("INSTR's position must not be 0 and its occurrence must be positive".into());
    }
    let as_units = |v: &Value| -> Result<Vec<u32>, String> {
        Ok(match v {
            Value::Str(text) => text.chars().map(u32::from).collect(),
            other => other.bytes()?.iter().map(|b| u32::from(*b)).collect(),
        })
    };
    let (text, part) = (as_units(&a[0])?, as_units(&a[1])?);
    if part.is_empty() || part.len() > text.len() {
        return Ok(Value::Int(0));
    }
    let last = text.len() - part.len();
    let fits = |i: &usize| text[*i..].starts_with(&part);
    let found = if position > 0 {
        (position as usize - 1..=last).filter(fits).nth(occurrence as usize - 1)
    } else {
        let start = text.len() as i64 + position;
        if start < 0 {
            return Ok(Value::Int(0));
        }
        (0..=last.min(start as usize)).rev().filter(fits).nth(occurrence as usize - 1)
    };
    Ok(Value::Int(found.map_or(0, |n| n as i64 + 1)))
}

fn split(a: &[Value]) -> Out {
    if let Value::Bytes(bytes) = &a[0] {
        let by = a[1].bytes()?;
        if by.is_empty() {
            return Ok(Value::Array(bytes.iter().map(|b| Value::Bytes(vec![*b])).collect()));
        }
        let mut parts = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(at) = find_bytes(rest, by) {
            parts.push(Value::Bytes(rest[..at].to_vec()));
            rest = &rest[at + by.len()..];
        }
        parts.push(Value::Bytes(rest.to_vec()));
        return Ok(Value::Array(parts));
    }
    let (text, by) = (a[0].str()?, a.get(1).map_or(Ok(","), Value::str)?);
    Ok(Value::Array(if text.is_empty() {
        vec![Value::Str(String::new())]
    } else if by.is_empty() {
        text.chars().map(|c| Value::Str(c.into())).collect()
    } else {
        text.split(by).map(|p| Value::Str(p.to_owned())).collect()
    }))
}

fn hashed(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> Value {
    Value::Bytes(digest::digest(algorithm, bytes).as_ref().to_vec())
}

/// MD5 (RFC 1321); only as BigQuery's function, never to protect anything.
fn md5(bytes: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut message = bytes.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    for chunk in message.chunks_exact(64) {
        let words: Vec<u32> = chunk.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64_usize {
            let (f, g) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            // The table of RFC 1321: floor(2^32 * |sin(i + 1)|).
            let k = (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(f).wrapping_add(k).wrapping_add(words[g]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d]) {
            *s = s.wrapping_add(v);
        }
    }
    let mut out = [0; 16];
    for (chunk, word) in out.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    out
}
