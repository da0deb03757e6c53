//! REGEXP_*: RE2's syntax by the regex crate, whose syntax is nearly the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex::Regex;
use regex::bytes::Regex as BytesRegex;

use super::{Def, Out, def};
use crate::bigquery::sql::value::Value;

const EXTRACT: &str = "STRING,STRING,INT64?,INT64?->STRING|BYTES,BYTES,INT64?,INT64?->BYTES";

pub const DEFS: &[Def] = &[
    def("REGEXP_CONTAINS", "STRING,STRING->BOOL|BYTES,BYTES->BOOL", |_, a| {
        Ok(Value::Bool(match &a[0] {
            Value::Str(text) => compiled(a[1].str()?)?.is_match(text),
            other => compiled_bytes(a[1].bytes()?)?.is_match(other.bytes()?),
        }))
    }),
    def("REGEXP_EXTRACT", EXTRACT, |_, a| extract(a)),
    def("REGEXP_SUBSTR", EXTRACT, |_, a| extract(a)),
    def("REGEXP_EXTRACT_ALL", "STRING,STRING->[STRING]", |_, a| {
        let regex = one_group(a[1].str()?)?;
        let found = regex.captures_iter(a[0].str()?).map(|c| {
            let m = c.get(1).or_else(|| if regex.captures_len() > 1 { None } else { c.get(0) });
            Value::Str(m.map_or(String::new(), |m| m.as_str().to_owned()))
        });
        Ok(Value::Array(found.collect()))
    }),
    def("REGEXP_REPLACE", "STRING,STRING,STRING->STRING|BYTES,BYTES,BYTES->BYTES", |_, a| replace(a)),
    def("REGEXP_INSTR", "STRING,STRING,INT64?,INT64?,INT64?->INT64", |_, a| {
        let (text, regex) = (a[0].str()?, one_group(a[1].str()?)?);
        let position = a.get(2).map_or(Ok(1), Value::int)?;
        let occurrence = a.get(3).map_or(Ok(1), Value::int)?;
        let after = a.get(4).map_or(Ok(0), Value::int)? == 1;
        if a[1].str()?.is_empty() {
            return Ok(Value::Int(0));
        }
        if position < 1 || occurrence < 1 {
            return Err("Position and occurrence of REGEXP_INSTR must be positive".into());
        }
        let Some(start) = byte_offset(text, position) else { return Ok(Value::Int(0)) };
        let found = regex.captures_iter(&text[start..]).nth(occurrence as usize - 1);
        let m = found.as_ref().and_then(|c| c.get(1).or_else(|| c.get(0)));
        let at = m.map(|m| text[..start + if after { m.end() } else { m.start() }].chars().count() as i64 + 1);
        Ok(Value::Int(at.unwrap_or(0)))
    }),
];

fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    static CACHE: OnceLock<Mutex<HashMap<String, Arc<Regex>>>> = OnceLock::new();
    let cache = CACHE.get_or_init(Mutex::default);
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = cache.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|e| {
        let last = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
        format!("Cannot parse regular expression: {last}")
    })?;
    if cache.len() > 500 {
        cache.clear();
    }
    let regex = Arc::new(regex);
    cache.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

fn compiled_bytes(pattern: &[u8]) -> Result<BytesRegex, String> {
    let pattern =
        std::str::from_utf8(pattern).map_err(|_| "Regular expressions over BYTES must be UTF-8 here".to_owned())?;
    BytesRegex::new(&format!("(?-u){pattern}"))
        .or_else(|_| BytesRegex::new(pattern))
        .map_err(|e| format!("Cannot parse regular expression: {e}"))
}

fn one_group(pattern: &str) -> Result<Arc<Regex>, String> {
    let regex = compiled(pattern)?;
    if regex.captures_len() > 2 {
        return Err(format!(
            "Regular expression has {} capturing groups, where at most one is allowed",
            regex.captures_len() - 1
        ));
    }
    Ok(regex)
}

/// The byte at which the n-th character begins, from one.
fn byte_offset(text: &str, position: i64) -> Option<usize> {
    let n = usize::try_from(position - 1).ok()?;
    text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(n)
}

fn extract(a: &[Value]) -> Out {
    let position = a.get(2).map_or(Ok(1), Value::int)?;
    let occurrence = a.get(3).map_or(Ok(1), Value::int)?;
    if position < 1 || occurrence < 1 {
        return Err("Position and occurrence of REGEXP_EXTRACT must be positive".into());
    }
    if let Value::Bytes(bytes) = &a[0] {
        let regex = compiled_bytes(a[1].bytes()?)?;
        let Some(rest) = bytes.get(position as usize - 1..) else { return Ok(Value::Null) };
        let found = regex.captures_iter(rest).nth(occurrence as usize - 1);
        let m = found.as_ref().and_then(|c| if regex.captures_len() > 1 { c.get(1) } else { c.get(0) });
        return Ok(m.map_or(Value::Null, |m| Value::Bytes(m.as_bytes().to_vec())));
    }
    let (text, regex) = (a[0].str()?, one_group(a[1].str()?)?);
    let Some(start) = byte_offset(text, position) else { return Ok(Value::Null) };
    let found = regex.captures_iter(&text[start..]).nth(occurrence as usize - 1);
    let m = found.as_ref().and_then(|c| if regex.captures_len() > 1 { c.get(1) } else { c.get(0) });
    Ok(m.map_or(Value::Null, |m| Value::Str(m.as_str().to_owned())))
}

/// RE2's `\1` in replacements, as the regex crate writes it.
fn replacement(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(d) if d.is_ascii_digit() => out.push_str(&format!("${{{d}}}")),
                Some('\\') => out.push('\\'),
                _ => return Err(format!("Invalid REGEXP_REPLACE pattern: {text}")),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

fn replace(a: &[Value]) -> Out {
    if let Value::Bytes(bytes) = &a[0] {
        let with = replacement(&String::from_utf8_lossy(a[2].bytes()?))?;
        let regex = compiled_bytes(a[1].bytes()?)?;
        return Ok(Value::Bytes(regex.replace_all(bytes, with.as_bytes()).into_owned()));
    }
    let with = replacement(a[2].str()?)?;
    Ok(Value::Str(compiled(a[1].str()?)?.replace_all(a[0].str()?, with.as_str()).into_owned()))
}
