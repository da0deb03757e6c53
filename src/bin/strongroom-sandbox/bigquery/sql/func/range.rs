//! RANGE.

use super::Out;
use crate::bigquery::sql::value::Value;

/// `RANGE(start, end)`.
///
/// # Errors
/// A start that is not before the end.
pub fn make(a: &[Value]) -> Out {
    if !a[0].is_null() && !a[1].is_null() && a[0].order(&a[1]).is_ge() {
        return Err("Range start element must be smaller than range end element".into());
    }
    Ok(Value::Range(Box::new((a[0].clone(), a[1].clone()))))
}

/// The functions of ranges.
///
/// # Errors
/// None of its own.
pub fn call(name: &str, a: &[Value]) -> Out {
    if a.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    let Value::Range(r) = &a[0] else { return Ok(Value::Null) };
    let before_end = |v: &Value, end: &Value| end.is_null() || v.order(end).is_lt();
    let starts_by = |start: &Value, v: &Value| start.is_null() || start.order(v).is_le();
    Ok(match (name, a.get(1)) {
        ("RANGE_START", _) => r.0.clone(),
        ("RANGE_END", _) => r.1.clone(),
        ("RANGE_CONTAINS", Some(Value::Range(s))) => {
            let end_fits = r.1.is_null() || (!s.1.is_null() && s.1.order(&r.1).is_le());
            let start_fits = r.0.is_null() || (!s.0.is_null() && r.0.order(&s.0).is_le());
            Value::Bool(start_fits && end_fits)
        }
        ("RANGE_CONTAINS", Some(v)) => Value::Bool(starts_by(&r.0, v) && before_end(v, &r.1)),
        ("RANGE_OVERLAPS", Some(Value::Range(s))) => Value::Bool(overlaps(r, s)),
        ("RANGE_INTERSECT", Some(Value::Range(s))) => {
            if !overlaps(r, s) {
                return Err("Provided RANGE inputs do not overlap".into());
            }
            let start = if r.0.order(&s.0).is_ge() { r.0.clone() } else { s.0.clone() };
            let end = match (&r.1, &s.1) {
                (Value::Null, e) | (e, Value::Null) => e.clone(),
                (x, y) => {
                    if x.order(y).is_le() {
                        x.clone()
                    } else {
                        y.clone()
                    }
                }
            };
            Value::Range(Box::new((start, end)))
        }
        _ => return Err(format!("{name} is not supported by the sandbox's SQL engine")),
    })
}

fn overlaps(r: &(Value, Value), s: &(Value, Value)) -> bool {
    let before = |start: &Value, end: &Value| start.is_null() || end.is_null() || start.order(end).is_lt();
    before(&r.0, &s.1) && before(&s.0, &r.1)
}
