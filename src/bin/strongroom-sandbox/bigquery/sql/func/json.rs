//! JSON: values of the type, and texts of it.

use serde_json::Value as Json;
use strongroom::codec::row_json::ValueJson;
use strongroom::codec::value::{normalise_json, to_text, write_date, write_datetime, write_time};

use super::{Cx, Def, Out, def, lenient};
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::num::{big_text, float_text, numeric_text};
use crate::bigquery::sql::ty::{Ty, label};
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::{Value, interval_text};

const BOTH: &str = "JSON,STRING?->JSON|STRING,STRING?->STRING";
const SCALAR: &str = "JSON,STRING?->STRING|STRING,STRING?->STRING";
const ARRAYS: &str = "JSON,STRING?->[JSON]|STRING,STRING?->[STRING]";
const TEXTS: &str = "JSON,STRING?->[STRING]|STRING,STRING?->[STRING]";

pub const DEFS: &[Def] = &[
    def("JSON_QUERY", BOTH, |c, a| query(c, a, false)),
    def("JSON_EXTRACT", BOTH, |c, a| query(c, a, true)),
    def("JSON_VALUE", SCALAR, |_, a| value(a, false)),
    def("JSON_EXTRACT_SCALAR", SCALAR, |_, a| value(a, true)),
    def("JSON_QUERY_ARRAY", ARRAYS, |c, a| array(c, a, false)),
    def("JSON_EXTRACT_ARRAY", ARRAYS, |c, a| array(c, a, true)),
    def("JSON_VALUE_ARRAY", TEXTS, |_, a| texts(a, false)),
    def("JSON_EXTRACT_STRING_ARRAY", TEXTS, |_, a| texts(a, true)),
    def("PARSE_JSON", "STRING,STRING?->JSON", |_, a| {
        normalise(a[0].str()?)
            .map(Value::Str)
            .map_err(|_| format!("Invalid input to PARSE_JSON: {}", a[0].str().unwrap_or_default()))
    }),
    def("JSON_TYPE", "JSON->STRING", |_, a| {
        Ok(Value::Str(
            match parse(&a[0])? {
                Json::Null => "null",
                Json::Bool(_) => "boolean",
                Json::Number(_) => "number",
                Json::String(_) => "string",
                Json::Array(_) => "array",
                Json::Object(_) => "object",
            }
            .into(),
        ))
    }),
    def("JSON_KEYS", "JSON,INT64?->[STRING]", |_, a| {
        let mut keys = Vec::new();
        collect_keys(&parse(&a[0])?, "", a.get(1).map_or(Ok(i64::MAX), Value::int)?, &mut keys);
        keys.sort();
        keys.dedup();
        Ok(Value::Array(keys.into_iter().map(Value::Str).collect()))
    }),
    def("BOOL", "JSON->BOOL", |_, a| match parse(&a[0])? {
        Json::Bool(b) => Ok(Value::Bool(b)),
        _ => Err("The provided JSON input is not a boolean".into()),
    }),
    def("INT64", "JSON->INT64", |_, a| match parse(&a[0])? {
        Json::Number(n) => whole(&n)
            .map(Value::Int)
            .ok_or_else(|| format!("The provided JSON number: {n} cannot be converted to an integer")),
        _ => Err("The provided JSON input is not an integer".into()),
    }),
    def("FLOAT64", "JSON,STRING?->FLOAT64", |_, a| match parse(&a[0])? {
        Json::Number(n) => Ok(n.as_f64().map_or(Value::Null, Value::Float)),
        _ => Err("The provided JSON input is not a number".into()),
    }),
    def("LAX_BOOL", "JSON->BOOL", |_, a| {
        Ok(match parse(&a[0])? {
            Json::Bool(b) => Value::Bool(b),
            Json::Number(n) => Value::Bool(n.as_f64() != Some(0.0)),
            Json::String(s) if s.eq_ignore_ascii_case("true") => Value::Bool(true),
            Json::String(s) if s.eq_ignore_ascii_case("false") => Value::Bool(false),
            _ => Value::Null,
        })
    }),
    def("LAX_INT64", "JSON->INT64", |_, a| {
        Ok(match parse(&a[0])? {
            Json::Bool(b) => Value::Int(b.into()),
            Json::Number(n) => n
                .as_i64()
                .or_else(|| n.as_f64().and_then(|f| super::cast::float_to_int(f).ok()))
                .map_or(Value::Null, Value::Int),
            Json::String(s) => {
                let n = s.trim().parse::<i64>().ok();
                let n = n.or_else(|| s.trim().parse::<f64>().ok().and_then(|f| super::cast::float_to_int(f).ok()));
                n.map_or(Value::Null, Value::Int)
            }
            _ => Value::Null,
        })
    }),
    def("LAX_FLOAT64", "JSON->FLOAT64", |_, a| {
        Ok(match parse(&a[0])? {
            Json::Number(n) => n.as_f64().map_or(Value::Null, Value::Float),
            Json::String(s) => s.trim().parse().map_or(Value::Null, Value::Float),
            _ => Value::Null,
        })
    }),
    def("LAX_STRING", "JSON->STRING", |_, a| {
        Ok(match parse(&a[0])? {
            Json::String(s) => Value::Str(s),
            Json::Bool(b) => Value::Str(b.to_string()),
            n @ Json::Number(_) => Value::Str(compact(&n)),
            _ => Value::Null,
        })
    }),
    lenient("JSON_ARRAY", "T*->JSON", |c, a| {
        let items: Result<Vec<Json>, String> = a.iter().zip(&c.args).map(|(v, t)| to_json(v, t)).collect();
        Ok(Value::Str(compact(&Json::Array(items?))))
    }),
    def("JSON_STRIP_NULLS", "JSON->JSON", |_, a| {
        fn strip(v: Json) -> Json {
            match v {
                Json::Array(items) => Json::Array(items.into_iter().filter(|i| !i.is_null()).map(strip).collect()),
                Json::Object(members) => Json::Object(
                    members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, strip(v))).collect(),
                ),
                other => other,
            }
        }
        Ok(Value::Str(compact(&strip(parse(&a[0])?))))
    }),
];

/// JSON text as BigQuery keeps it.
///
/// # Errors
/// When it is no JSON.
pub fn normalise(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    normalise_json(text, &mut out).map_err(|e| e.to_string())?;
    String::from_utf8(out).map_err(|e| e.to_string())
}

/// A JSON value's text.
pub fn compact(value: &Json) -> String {
    normalise(&value.to_string()).unwrap_or_else(|_| value.to_string())
}

fn parse(value: &Value) -> Result<Json, String> {
    serde_json::from_str(value.str()?).map_err(|_| "Invalid JSON value".to_owned())
}

fn whole(n: &serde_json::Number) -> Option<i64> {
    n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9.2e18).map(|f| f as i64))
}

fn collect_keys(value: &Json, prefix: &str, depth: i64, out: &mut Vec<String>) {
    if depth <= 0 {
        return;
    }
    if let Json::Object(members) = value {
        for (key, member) in members {
            let quoted = key.contains(|c: char| !(c.is_alphanumeric() || c == '_'));
            let key = if quoted { format!("\"{key}\"") } else { key.clone() };
            let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            out.push(path.clone());
            collect_keys(member, &path, depth - 1, out);
        }
    }
}

/// One step of a JSONPath.
enum Step {
    Key(String),
    Index(usize),
}

fn path(text: &str, legacy: bool) -> Result<Vec<Step>, String> {
    let invalid = || format!("Invalid JSONPath: {text}");
    let mut rest = text.strip_prefix('$').ok_or_else(invalid)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            if let Some(quoted) = after.strip_prefix('"') {
                let end = quoted.find('"').ok_or_else(invalid)?;
                steps.push(Step::Key(quoted[..end].to_owned()));
                rest = &quoted[end + 1..];
            } else {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                if end == 0 {
                    return Err(invalid());
                }
                steps.push(Step::Key(after[..end].to_owned()));
                rest = &after[end..];
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'));
            if let Some(quote) = quote {
                if !legacy && quote == '\'' {
                    return Err(invalid());
                }
                let inner = &after[1..];
                let end = inner.find(quote).ok_or_else(invalid)?;
                steps.push(Step::Key(inner[..end].to_owned()));
                rest = inner[end + 1..].strip_prefix(']').ok_or_else(invalid)?;
            } else {
                let end = after.find(']').ok_or_else(invalid)?;
                let index = after[..end].trim();
                steps.push(match index.parse() {
                    Ok(n) => Step::Index(n),
                    Err(_) => return Err(invalid()),
                });
                rest = &after[end + 1..];
            }
        } else {
            return Err(invalid());
        }
    }
    Ok(steps)
}

fn walk<'a>(mut value: &'a Json, steps: &[Step]) -> Option<&'a Json> {
    for step in steps {
        value = match step {
            Step::Key(key) => value.as_object()?.get(key)?,
            Step::Index(n) => value.as_array()?.get(*n)?,
        };
    }
    Some(value)
}

/// What the path leads to, if the text is JSON and it leads anywhere.
fn found(a: &[Value], legacy: bool) -> Result<Option<Json>, String> {
    let steps = path(a.get(1).map_or(Ok("$"), Value::str)?, legacy)?;
    let Ok(document) = serde_json::from_str::<Json>(a[0].str()?) else { return Ok(None) };
    Ok(walk(&document, &steps).cloned())
}

fn query(cx: &Cx, a: &[Value], legacy: bool) -> Out {
    Ok(match found(a, legacy)? {
        None => Value::Null,
        // A JSON null in a text is SQL's NULL.
        Some(Json::Null) if cx.ret == Ty::String => Value::Null,
        Some(value) if cx.ret == Ty::Json => Value::Str(compact(&value)),
        Some(value) => Value::Str(value.to_string()),
    })
}

fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::String(s) => Some(s.clone()),
        Json::Bool(b) => Some(b.to_string()),
        Json::Number(_) => Some(compact(value)),
        _ => None,
    }
}

fn value(a: &[Value], legacy: bool) -> Out {
    Ok(found(a, legacy)?.as_ref().and_then(scalar).map_or(Value::Null, Value::Str))
}

fn array(cx: &Cx, a: &[Value], legacy: bool) -> Out {
    let Some(Json::Array(items)) = found(a, legacy)? else { return Ok(Value::Null) };
    let json = cx.ret == Ty::array(Ty::Json);
    Ok(Value::Array(items.iter().map(|i| Value::Str(if json { compact(i) } else { i.to_string() })).collect()))
}

fn texts(a: &[Value], legacy: bool) -> Out {
    let Some(Json::Array(items)) = found(a, legacy)? else { return Ok(Value::Null) };
    if items.iter().any(|i| i.is_array() || i.is_object()) {
        return Ok(Value::Null);
    }
    Ok(Value::Array(items.iter().map(|i| scalar(i).map_or(Value::Null, Value::Str)).collect()))
}

/// `json.name`, `json['name']`, `json[0]`.
pub fn member(value: Tx, key: Tx) -> Tx {
    let f = |a: &[Value]| {
        if a[0].is_null() || a[1].is_null() {
            return Ok(Value::Null);
        }
        let document = parse(&a[0])?;
        let found = match &a[1] {
            Value::Int(n) => usize::try_from(*n).ok().and_then(|n| document.as_array()?.get(n)),
            key => document.as_object().and_then(|o| o.get(key.str().unwrap_or_default())),
        };
        Ok(found.map_or(Value::Null, |v| Value::Str(compact(v))))
    };
    Tx::new(udf::rows("json_member", vec![value.pair(), key.pair()], Ty::Json, f), Ty::Json)
}

/// `TO_JSON_STRING(value)`, byte for byte as BigQuery writes it.
pub fn to_json_string(value: Tx, pretty: Option<Tx>) -> Tx {
    let ty = value.ty.clone();
    let mut args = vec![value.pair()];
    args.extend(pretty.map(Tx::pair));
    let e = udf::batch("to_json_string", args, Ty::String, move |arrays, rows| {
        use arrow::array::AsArray;
        let (field, array) = label(&arrays[0], &ty, "").map_err(|e| e.message)?;
        let writer = ValueJson::new(&field, &array).map_err(|e| e.to_string())?;
        let mut out = arrow::array::StringBuilder::with_capacity(rows, rows * 32);
        let mut buffer = Vec::new();
        for row in 0..rows {
            buffer.clear();
            writer.write(row, &mut buffer);
            let text = std::str::from_utf8(&buffer).map_err(|e| e.to_string())?;
            let indent =
                arrays.get(1).is_some_and(|p| arrow::array::Array::is_valid(p, row) && p.as_boolean().value(row));
            if indent {
                let value: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
                out.append_value(serde_json::to_string_pretty(&value).map_err(|e| e.to_string())?);
            } else {
                out.append_value(text);
            }
        }
        Ok(std::sync::Arc::new(out.finish()))
    });
    Tx::new(e, Ty::String)
}

/// A value as TO_JSON makes it.
///
/// # Errors
/// Values that JSON does not have.
pub fn to_json(value: &Value, ty: &Ty) -> Result<Json, String> {
    Ok(match (value, ty) {
        (Value::Null, _) => Json::Null,
        (Value::Bool(b), _) => Json::Bool(*b),
        (Value::Int(v), _) => Json::from(*v),
        (Value::Float(v), _) if v.is_finite() => {
            // Whole numbers lose their point: JSON has one kind of number.
            serde_json::from_str(&float_text(*v)).unwrap_or(Json::from(*v))
        }
        (Value::Float(v), _) if v.is_nan() => Json::from("NaN"),
        (Value::Float(v), _) => Json::from(if *v > 0.0 { "Infinity" } else { "-Infinity" }),
        (Value::Numeric(v), _) => decimal(&numeric_text(*v)),
        (Value::Big(v), _) => decimal(&big_text(*v)),
        (Value::Str(s), Ty::Json) => serde_json::from_str(s).map_err(|e| e.to_string())?,
        (Value::Str(s), _) => Json::from(s.as_str()),
        (Value::Bytes(b), _) => {
            use base64::Engine;
            Json::from(base64::engine::general_purpose::STANDARD.encode(b))
        }
        (Value::Date(v), _) => Json::from(to_text(|out| write_date(*v, out))),
        (Value::Time(v), _) => Json::from(to_text(|out| write_time(*v, true, out))),
        (Value::Datetime(v), _) => Json::from(to_text(|out| write_datetime(*v, b'T', true, out))),
        (Value::Timestamp(v), _) => Json::from(to_text(|out| {
            write_datetime(*v, b'T', true, out);
            out.push(b'Z');
        })),
        (Value::Interval(v), _) => Json::from(to_text(|out| v.write_iso(out))),
        (Value::Range(r), Ty::Range(element)) => {
            serde_json::json!({ "start": to_json(&r.0, element)?, "end": to_json(&r.1, element)? })
        }
        (Value::Range(r), _) => return Err(format!("Internal: {r:?} is no JSON")),
        (Value::Array(items), Ty::Array(element)) => {
            Json::Array(items.iter().map(|v| to_json(v, element)).collect::<Result<_, _>>()?)
        }
        (Value::Struct(items), Ty::Struct(fields)) => {
            let pairs = items.iter().zip(fields.iter());
            Json::Object(pairs.map(|(v, (n, t))| Ok((n.clone(), to_json(v, t)?))).collect::<Result<_, String>>()?)
        }
        (other, _) => Json::from(match other {
            Value::Interval(i) => interval_text(i),
            other => format!("{other:?}"),
        }),
    })
}

fn decimal(text: &str) -> Json {
    let number: Option<Json> = serde_json::from_str(text).ok();
    // A number that a double does not hold is a text.
    match number {
        Some(Json::Number(n)) if compact(&Json::Number(n.clone())) == text => Json::Number(n),
        _ => Json::from(text),
    }
}
