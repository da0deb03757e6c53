//! LIKE.

use super::Out;
use crate::bigquery::sql::value::Value;

enum Step {
    Any,
    One,
    Is(char),
}

/// `value LIKE pattern`: `%` any text, `_` one character, `\` escapes.
///
/// # Errors
/// A pattern that ends in a backslash.
pub fn like(value: &Value, pattern: &Value) -> Out {
    if value.is_null() || pattern.is_null() {
        return Ok(Value::Null);
    }
    let text = |v: &Value| -> Result<Vec<char>, String> {
        match v {
            Value::Str(s) => Ok(s.chars().collect()),
            // Bytes match byte by byte.
            other => Ok(other.bytes()?.iter().map(|b| char::from(*b)).collect()),
        }
    };
    let steps = steps(&text(pattern)?)?;
    Ok(Value::Bool(matches(&text(value)?, &steps)))
}

fn steps(pattern: &[char]) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut chars = pattern.iter();
    while let Some(c) = chars.next() {
        steps.push(match c {
            '%' => Step::Any,
            '_' => Step::One,
            '\\' => Step::Is(*chars.next().ok_or("LIKE pattern ends with a backslash")?),
            c => Step::Is(*c),
        });
    }
    Ok(steps)
}

fn matches(text: &[char], steps: &[Step]) -> bool {
    let (mut t, mut s) = (0, 0);
    // Where to go on after the last `%` if the rest does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match steps.get(s) {
            Some(Step::Any) => {
                retry = Some((t, s + 1));
                s += 1;
                continue;
            }
            Some(Step::One) => {
                t += 1;
                s += 1;
                continue;
            }
            Some(Step::Is(c)) if *c == text[t] => {
                t += 1;
                s += 1;
                continue;
            }
            _ => {}
        }
        let Some((from, step)) = retry else { return false };
        retry = Some((from + 1, step));
        t = from + 1;
        s = step;
    }
    steps[s..].iter().all(|s| matches!(s, Step::Any))
}
