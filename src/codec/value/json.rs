//! The JSON type: text as BigQuery keeps it, and strings escaped as TO_JSON_STRING escapes them.

use serde_json::Value;

use super::InvalidValue;

/// Writes a string in quotes as GoogleSQL's `JsonEscapeString` does.
///
/// Escaped are `"`, `\`, the control characters below 0x20 (the five short forms, otherwise lowercase `\u00xx`), U+2028
/// and U+2029; nothing else.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if nothing_to_escape(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape_json(text, out);
    }
    out.push(b'"');
}

/// As [`write_json_string`], without the quotation marks around it.
pub(crate) fn escape_json(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if !may_need_escape(byte) {
            at += 1;
            continue;
        }
        let (escape, length): ([u8; 6], usize) = match byte {
            b'"' => (*b"\\\"    ", 2),
            b'\\' => (*b"\\\\    ", 2),
            0x08 => (*b"\\b    ", 2),
            0x0c => (*b"\\f    ", 2),
            b'\n' => (*b"\\n    ", 2),
            b'\r' => (*b"\\r    ", 2),
            b'\t' => (*b"\\t    ", 2),
            0xe2 => match bytes.get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => (*b"\\u2028", 6),
                Some([0x80, 0xa9]) => (*b"\\u2029", 6),
                _ => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                ([b'\\', b'u', b'0', b'0', digits[0], digits[1]], 6)
            }
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(&escape[..length]);
        at += if byte == 0xe2 { 3 } else { 1 };
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// Whether [`write_json_string`] would copy these bytes as they are. May say no where it would, never yes where not.
pub(crate) fn nothing_to_escape(bytes: &[u8]) -> bool {
    fn by_pieces<const N: usize>(bytes: &[u8]) -> Option<bool> {
        // Pieces of one size are looked at with vector instructions; the last one overlaps.
        let plain = |piece: &[u8; N]| !piece.iter().fold(false, |found, byte| found | may_need_escape(*byte));
        let last = bytes.last_chunk::<N>()?;
        Some(bytes.as_chunks::<N>().0.iter().all(plain) && plain(last))
    }
    by_pieces::<16>(bytes)
        .or_else(|| by_pieces::<8>(bytes))
        .unwrap_or_else(|| !bytes.iter().any(|byte| may_need_escape(*byte)))
}

/// Only 0xe2 starts U+2028 and U+2029 (e2 80 a8, e2 80 a9).
#[inline(always)]
fn may_need_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0xe2)
}

/// Copies JSON text without the white space between its tokens. Does not check it.
pub fn compact_json(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut in_string = false;
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => {
                out.extend_from_slice(&bytes[copied..at]);
                copied = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    out.extend_from_slice(&bytes[copied.min(bytes.len())..]);
}

/// Breaks compact JSON into lines as `TO_JSON_STRING(value, true)` does: two blanks a level, empty arrays and objects
/// closed at once.
pub fn pretty_json(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut characters = compact.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '\\' if in_string => {
                out.push(c);
                out.extend(characters.next());
            }
            _ if in_string => out.push(c),
            '{' | '[' => {
                out.push(c);
                match characters.peek() {
                    Some('}' | ']') => out.extend(characters.next()),
                    _ => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

/// Checks JSON text and writes it as BigQuery keeps it: compact, members sorted by name, numbers read as numbers.
///
/// # Errors
/// When it is no JSON, or nested deeper than 128.
// GoogleSQL's JSONValue is an nlohmann::json: members sorted, floats written in the shortest form.
pub fn normalise_json(text: &str, out: &mut Vec<u8>) -> Result<(), InvalidValue> {
    let value: Value = serde_json::from_str(text).map_err(|_| InvalidValue::new("JSON", text, "not valid JSON"))?;
    write_normal(&value, out);
    Ok(())
}

fn write_normal(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => write_json_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_normal(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (position, (name, member)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_json_string(name, out);
                out.push(b':');
                write_normal(member, out);
            }
            out.push(b'}');
        }
        Value::Number(number) if number.is_f64() => {
            // Rust writes 1e21 where nlohmann writes 1e+21.
            let text = number.to_string();
            match text.split_once('e') {
                Some((mantissa, exponent)) if !exponent.starts_with(['-', '+']) => {
                    super::push_display(out, format_args!("{mantissa}e+{exponent}"));
                }
                _ => out.extend_from_slice(text.as_bytes()),
            }
        }
        other => super::push_display(out, other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::to_text;
    use super::*;

    #[test]
    fn escapes() {
        let text = to_text(|out| {
            write_json_string("a\"\\\u{8}\u{c}\n\r\t\u{1}\u{1f}/<>&\u{7f}é\u{2028}\u{2029}\u{2030}", out)
        });
        assert_eq!(text, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/<>&\u{7f}é\\u2028\\u2029\u{2030}\"");
    }

    #[test]
    fn white_space_goes_from_between_tokens_only() {
        assert_eq!(to_text(|out| compact_json(" {\"a b\" : [ 1 , \"x \\\" y\" ]\n}", out)), r#"{"a b":[1,"x \" y"]}"#);
        assert_eq!(to_text(|out| compact_json("\"\\", out)), "\"\\");
    }

    #[test]
    fn pretty() {
        let text = r#"{"a":[1,{}],"b":"x{,:\"","c":[]}"#;
        assert_eq!(pretty_json(text), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x{,:\\\"\",\n  \"c\": []\n}");
    }

    #[test]
    fn json_is_kept_as_bigquery_keeps_it() {
        let normal = |text: &str| {
            let mut out = Vec::new();
            normalise_json(text, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(normal(r#"{"b": 1, "a": [1.50, null, "\u00e9"]}"#).unwrap(), r#"{"a":[1.5,null,"é"],"b":1}"#);
        assert_eq!(normal("1e30").unwrap(), "1e+30");
        assert_eq!(normal("18446744073709551615").unwrap(), "18446744073709551615");
        assert!(normal("{a:1}").is_err());
        assert!(normal(&"[".repeat(100_000)).is_err());
    }
}
