//! CAST between all types.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, i256};
use strongroom::codec::value::{
    MICROS_MAX, MICROS_MIN, MICROS_PER_DAY, parse_bignumeric, parse_date, parse_datetime, parse_float64, parse_int64,
    parse_numeric, parse_time, to_text, write_date, write_datetime, write_time,
};

use super::zone::timestamp_text;
use crate::bigquery::sql::num::Cut;
use crate::bigquery::sql::num::{
    big_text, check_numeric, cut, float_text, float_to_scaled, numeric_text, scaled_to_float, ten,
};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::udf::BatchFn;
use crate::bigquery::sql::value::{Value, interval_text};

/// Whether BigQuery has a cast.
pub fn castable(from: &Ty, to: &Ty) -> bool {
    use Ty::*;
    match (from, to) {
        (a, b) if a.same(b) => true,
        (Array(a), Array(b)) => castable(a, b),
        (Struct(a), Struct(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| castable(&a.1, &b.1)),
        (Range(_), String) | (String, Range(_)) => true,
        (Int64, Bool | String | Float64 | Numeric | BigNumeric)
        | (Float64 | Numeric | BigNumeric, Int64 | String | Float64 | Numeric | BigNumeric)
        | (Bool, Int64 | String)
        | (
            String,
            Int64 | Float64 | Bool | Bytes | Numeric | BigNumeric | Date | Datetime | Time | Timestamp | Interval,
        )
        | (Bytes | Time | Interval, String)
        | (Date, String | Datetime | Timestamp)
        | (Datetime, String | Date | Time | Timestamp)
        | (Timestamp, String | Date | Datetime | Time) => true,
        _ => false,
    }
}

fn bad(kind: &str, text: &str) -> String {
    format!("Could not cast literal \"{text}\" to type {kind}")
}

fn invalid_text(kind: &str, text: &str) -> String {
    match kind {
        "INT64" => format!("Bad int64 value: {text}"),
        "FLOAT64" => format!("Bad double value: {text}"),
        "BOOL" => format!("Bad bool value: {text}"),
        "NUMERIC" => format!("Invalid NUMERIC value: {text}"),
        "BIGNUMERIC" => format!("Invalid BIGNUMERIC value: {text}"),
        "DATE" => format!("Invalid date: '{text}'"),
        "DATETIME" => format!("Invalid datetime string \"{text}\""),
        "TIME" => format!("Invalid time string \"{text}\""),
        "TIMESTAMP" => format!("Invalid timestamp: '{text}'"),
        _ => bad(kind, text),
    }
}

/// Casts one value.
///
/// # Errors
/// When the value is none of the type.
pub fn cast_value(value: &Value, from: &Ty, to: &Ty) -> Result<Value, String> {
    if from.same(to) {
        return Ok(value.clone());
    }
    Ok(match (value, to) {
        (Value::Null, _) => Value::Null,
        (Value::Array(items), Ty::Array(element)) => {
            let Ty::Array(was) = from else { return Err("Internal: not an array".into()) };
            Value::Array(items.iter().map(|v| cast_value(v, was, element)).collect::<Result<_, _>>()?)
        }
        (Value::Struct(items), Ty::Struct(fields)) => {
            let Ty::Struct(was) = from else { return Err("Internal: not a struct".into()) };
            let pairs = items.iter().zip(was.iter()).zip(fields.iter());
            Value::Struct(pairs.map(|((v, w), f)| cast_value(v, &w.1, &f.1)).collect::<Result<_, _>>()?)
        }
        (value, Ty::String) => Value::Str(text_of(value, from)?),
        (Value::Str(text), to) => from_text(text, to)?,
        (Value::Int(v), Ty::Bool) => Value::Bool(*v != 0),
        (Value::Int(v), Ty::Float64) => Value::Float(*v as f64),
        (Value::Int(v), Ty::Numeric) => Value::Numeric(i128::from(*v) * 1_000_000_000),
        (Value::Int(v), Ty::BigNumeric) => Value::Big(i256::from_i128(i128::from(*v)).wrapping_mul(ten(38))),
        (Value::Bool(v), Ty::Int64) => Value::Int(i64::from(*v)),
        (Value::Float(v), Ty::Int64) => float_to_int(*v).map(Value::Int)?,
        (Value::Float(v), Ty::Numeric) => {
            let scaled = check_numeric(float_to_scaled(*v, 9));
            Value::Numeric(scaled.ok_or_else(|| format!("numeric out of range: {}", float_text(*v)))?)
        }
        (Value::Float(v), Ty::BigNumeric) => {
            Value::Big(float_to_scaled(*v, 38).ok_or_else(|| format!("BIGNUMERIC out of range: {}", float_text(*v)))?)
        }
        (Value::Numeric(v), Ty::Int64) => {
            let whole = cut(i256::from_i128(*v), 9, 0, Cut::HalfAwayFromZero).and_then(i256::to_i128);
            let whole = whole.and_then(|w| i64::try_from(w / 1_000_000_000).ok());
            Value::Int(whole.ok_or_else(|| format!("int64 out of range: {}", numeric_text(*v)))?)
        }
        (Value::Numeric(v), Ty::Float64) => Value::Float(scaled_to_float(&numeric_text(*v))),
        (Value::Numeric(v), Ty::BigNumeric) => Value::Big(i256::from_i128(*v).wrapping_mul(ten(29))),
        (Value::Big(v), Ty::Int64) => {
            let whole = cut(*v, 38, 0, Cut::HalfAwayFromZero).map(|w| w.wrapping_div(ten(38)));
            let whole = whole.and_then(i256::to_i128).and_then(|w| i64::try_from(w).ok());
            Value::Int(whole.ok_or_else(|| format!("int64 out of range: {}", big_text(*v)))?)
        }
        (Value::Big(v), Ty::Float64) => Value::Float(scaled_to_float(&big_text(*v))),
        (Value::Big(v), Ty::Numeric) => {
            let scaled = cut(*v, 38, 9, Cut::HalfAwayFromZero).map(|w| w.wrapping_div(ten(29)));
            Value::Numeric(check_numeric(scaled).ok_or_else(|| format!("numeric out of range: {}", big_text(*v)))?)
        }
        (Value::Date(v), Ty::Datetime) => Value::Datetime(i64::from(*v) * MICROS_PER_DAY),
        (Value::Date(v), Ty::Timestamp) => Value::Timestamp(i64::from(*v) * MICROS_PER_DAY),
        (Value::Datetime(v) | Value::Timestamp(v), Ty::Date) => Value::Date(v.div_euclid(MICROS_PER_DAY) as i32),
        (Value::Datetime(v) | Value::Timestamp(v), Ty::Time) => Value::Time(v.rem_euclid(MICROS_PER_DAY)),
        (Value::Datetime(v), Ty::Timestamp) => Value::Timestamp(*v),
        (Value::Timestamp(v), Ty::Datetime) => Value::Datetime(*v),
        (Value::Bytes(bytes), _) => return Err(format!("Internal: no cast of {} bytes to {to}", bytes.len())),
        (_, to) => return Err(format!("Invalid cast from {from} to {to}")),
    })
}

/// A double as INT64, halves away from zero.
///
/// # Errors
/// Out of range, NaN.
pub fn float_to_int(v: f64) -> Result<i64, String> {
    let rounded = v.round();
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
        Ok(rounded as i64)
    } else {
        Err(format!(
            "Illegal conversion of non-finite or too large floating point number to an integer: {}",
            float_text(v)
        ))
    }
}

fn from_text(text: &str, to: &Ty) -> Result<Value, String> {
    let fail = || invalid_text(&to.to_string(), text);
    Ok(match to {
        Ty::Int64 => Value::Int(parse_int64(text).map_err(|_| fail())?),
        Ty::Float64 => Value::Float(parse_float64(text).map_err(|_| fail())?),
        Ty::Bool if text.eq_ignore_ascii_case("true") => Value::Bool(true),
        Ty::Bool if text.eq_ignore_ascii_case("false") => Value::Bool(false),
        Ty::Bytes => Value::Bytes(text.as_bytes().to_vec()),
        Ty::Numeric => Value::Numeric(parse_numeric(text).map_err(|_| fail())?),
        Ty::BigNumeric => Value::Big(parse_bignumeric(text).map_err(|_| fail())?),
        Ty::Date => match parse_date(text.trim()) {
            Ok(days) => Value::Date(days),
            // A date may come with a time, which must be a time.
            Err(_) => Value::Date(parse_datetime(text.trim()).map_err(|_| fail())?.div_euclid(MICROS_PER_DAY) as i32),
        },
        Ty::Datetime => Value::Datetime(parse_datetime(text.trim()).map_err(|_| fail())?),
        Ty::Time => Value::Time(parse_time(text.trim()).map_err(|_| fail())?),
        Ty::Timestamp => Value::Timestamp(super::time::parse_timestamp_text(text.trim(), None).map_err(|_| fail())?),
        Ty::Interval => {
            let parsed = super::interval::from_text(text).ok_or_else(|| format!("Invalid INTERVAL value '{text}'"))?;
            Value::Interval(parsed)
        }
        Ty::Range(element) => {
            let (start, end) = strongroom::codec::value::parse_range(text).map_err(|e| e.to_string())?;
            let part = |t: Option<&str>| t.map_or(Ok(Value::Null), |t| from_text(t, element));
            Value::Range(Box::new((part(start)?, part(end)?)))
        }
        _ => return Err(fail()),
    })
}

/// What CAST AS STRING makes of a value.
///
/// # Errors
/// BYTES that are no UTF-8.
pub fn text_of(value: &Value, ty: &Ty) -> Result<String, String> {
    Ok(match value {
        Value::Null => "NULL".into(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) => float_text(*v),
        Value::Bool(v) => v.to_string(),
        Value::Str(v) => v.clone(),
        Value::Bytes(v) => {
            String::from_utf8(v.clone()).map_err(|_| "Invalid UTF-8 in a cast from BYTES to STRING".to_owned())?
        }
        Value::Numeric(v) => numeric_text(*v),
        Value::Big(v) => big_text(*v),
        Value::Date(v) => to_text(|out| write_date(*v, out)),
        Value::Time(v) => to_text(|out| write_time(*v, true, out)),
        Value::Datetime(v) => to_text(|out| write_datetime(*v, b' ', true, out)),
        Value::Timestamp(v) => timestamp_text(*v, 0),
        Value::Interval(v) => interval_text(v),
        Value::Range(range) => {
            let element = match ty {
                Ty::Range(element) => element,
                _ => ty,
            };
            let part = |v: &Value| if v.is_null() { Ok("UNBOUNDED".to_owned()) } else { text_of(v, element) };
            format!("[{}, {})", part(&range.0)?, part(&range.1)?)
        }
        Value::Struct(_) | Value::Array(_) => return Err(format!("Invalid cast from {ty} to STRING")),
    })
}

/// Casts that work on whole arrays.
pub fn fast(from: &Ty, to: &Ty) -> Option<BatchFn> {
    fn convert<T: arrow::datatypes::ArrowPrimitiveType>(
        a: &ArrayRef,
        f: impl Fn(i64) -> T::Native,
    ) -> PrimitiveArray<T> {
        a.as_primitive::<Int64Type>().unary(f)
    }
    Some(match (from, to) {
        (Ty::Int64, Ty::Float64) => Arc::new(|a: &[ArrayRef], _| {
            let out: Float64Array = convert::<Float64Type>(&a[0], |v| v as f64);
            Ok(Arc::new(out) as ArrayRef)
        }),
        (Ty::Int64, Ty::Numeric) => Arc::new(|a: &[ArrayRef], _| {
            let out: Decimal128Array = convert::<Decimal128Type>(&a[0], |v| i128::from(v) * 1_000_000_000);
            Ok(Arc::new(out.with_data_type(Ty::Numeric.arrow())) as ArrayRef)
        }),
        (Ty::Int64, Ty::BigNumeric) => Arc::new(|a: &[ArrayRef], _| {
            let one = ten(38);
            let out: Decimal256Array =
                a[0].as_primitive::<Int64Type>().unary(|v| i256::from_i128(i128::from(v)).wrapping_mul(one));
            Ok(Arc::new(out.with_data_type(Ty::BigNumeric.arrow())) as ArrayRef)
        }),
        (Ty::Date, Ty::Timestamp | Ty::Datetime) | (Ty::Timestamp, Ty::Datetime) | (Ty::Datetime, Ty::Timestamp) => {
            let to = to.arrow();
            let date = *from == Ty::Date;
            Arc::new(move |a: &[ArrayRef], _| {
                if date {
                    let days = a[0].as_primitive::<arrow::datatypes::Date32Type>();
                    let micros: arrow::array::TimestampMicrosecondArray = days.unary(|d| i64::from(d) * MICROS_PER_DAY);
                    return Ok(Arc::new(micros.with_data_type(to.clone())) as ArrayRef);
                }
                let micros = a[0].as_primitive::<arrow::datatypes::TimestampMicrosecondType>().clone();
                Ok(Arc::new(micros.with_data_type(to.clone())) as ArrayRef)
            })
        }
        (Ty::Timestamp | Ty::Datetime, Ty::Date) => Arc::new(|a: &[ArrayRef], _| {
            let micros = a[0].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            let days: arrow::array::Date32Array = micros.unary(|v| v.div_euclid(MICROS_PER_DAY) as i32);
            Ok(Arc::new(days) as ArrayRef)
        }),
        _ => return None,
    })
}

/// Whether a point in time is within BigQuery's years.
pub fn in_range(micros: i64) -> bool {
    (MICROS_MIN..=MICROS_MAX).contains(&micros)
}
