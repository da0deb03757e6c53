//! RANGE in its text form: `[start, end)` with `UNBOUNDED` for an open end.

use super::InvalidValue;

/// Takes `[start, end)` apart; `None` is an unbounded end.
///
/// # Errors
/// Another form.
pub fn parse_range(text: &str) -> Result<(Option<&str>, Option<&str>), InvalidValue> {
    let inner = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(')'));
    let (start, end) = inner
        .and_then(|t| t.split_once(','))
        .ok_or_else(|| InvalidValue::new("RANGE", text, "expected `[start, end)`"))?;
    let bound = |text: &'_ str| -> bool {
        text.is_empty() || text.eq_ignore_ascii_case("UNBOUNDED") || text.eq_ignore_ascii_case("NULL")
    };
    let (start, end) = (start.trim(), end.trim());
    Ok(((!bound(start)).then_some(start), (!bound(end)).then_some(end)))
}

/// Writes `[start, end)`; an end that is absent as `UNBOUNDED`.
pub fn write_range(
    out: &mut Vec<u8>,
    start: Option<impl FnOnce(&mut Vec<u8>)>,
    end: Option<impl FnOnce(&mut Vec<u8>)>,
) {
    out.push(b'[');
    match start {
        Some(write) => write(out),
        None => out.extend_from_slice(b"UNBOUNDED"),
    }
    out.extend_from_slice(b", ");
    match end {
        Some(write) => write(out),
        None => out.extend_from_slice(b"UNBOUNDED"),
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::super::{to_text, write_date};
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("[2020-01-01, 2020-02-01)"), Ok((Some("2020-01-01"), Some("2020-02-01"))));
        assert_eq!(parse_range(" [UNBOUNDED,null)"), Ok((None, None)));
        assert!(parse_range("[2020-01-01, 2020-02-01]").is_err());
        let text = to_text(|out| write_range(out, Some(|o: &mut Vec<u8>| write_date(0, o)), None::<fn(&mut Vec<u8>)>));
        assert_eq!(text, "[1970-01-01, UNBOUNDED)");
    }
}
