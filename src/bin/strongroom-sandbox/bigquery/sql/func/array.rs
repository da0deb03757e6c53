//! ARRAY.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use strongroom::codec::value::MICROS_PER_DAY;

use super::interval::{add, unit};
use super::{Def, Out, def, lenient};
use crate::bigquery::sql::bind::operators::float_arithmetic;
use crate::bigquery::sql::bind::scope::Tx;
use crate::bigquery::sql::num::{bignumeric_arithmetic, numeric_arithmetic};
use crate::bigquery::sql::ty::{Ty, inner_fields, item_field};
use crate::bigquery::sql::udf;
use crate::bigquery::sql::value::Value;

/// No generated array is longer.
const MAX_ITEMS: usize = 5_000_000;

pub const DEFS: &[Def] = &[
    def("ARRAY_LENGTH", "[T]->INT64", |_, a| Ok(Value::Int(a[0].array()?.len() as i64))),
    def("ARRAY_CONCAT", "[T],[T]*->[T]", |_, a| {
        let mut out = Vec::new();
        for part in a {
            out.extend_from_slice(part.array()?);
        }
        Ok(Value::Array(out))
    }),
    def("ARRAY_REVERSE", "[T]->[T]", |_, a| Ok(Value::Array(a[0].array()?.iter().rev().cloned().collect()))),
    def("ARRAY_FIRST", "[T]->T", |_, a| {
        a[0].array()?
            .first()
            .cloned()
            .ok_or_else(|| "ARRAY_FIRST cannot get the first element of an empty array".into())
    }),
    def("ARRAY_LAST", "[T]->T", |_, a| {
        a[0].array()?.last().cloned().ok_or_else(|| "ARRAY_LAST cannot get the last element of an empty array".into())
    }),
    def("ARRAY_SLICE", "[T],INT64,INT64->[T]", |_, a| {
        let items = a[0].array()?;
        let size = items.len() as i64;
        let at = |n: i64| if n < 0 { (size + n).max(0) } else { n.min(size) };
        let (start, end) = (at(a[1].int()?), a[2].int()?);
        let end = if end < 0 { size + end } else { end.min(size - 1) };
        Ok(Value::Array(if start > end || size == 0 { vec![] } else { items[start as usize..=end as usize].to_vec() }))
    }),
    lenient("ARRAY_TO_STRING", "[STRING],STRING,STRING?->STRING|[BYTES],BYTES,BYTES?->BYTES", |_, a| {
        if a[0].is_null() || a[1].is_null() || a.get(2).is_some_and(Value::is_null) {
            return Ok(Value::Null);
        }
        let mut parts = Vec::new();
        for item in a[0].array()? {
            match (item, a.get(2)) {
                (Value::Null, None) => {}
                (Value::Null, Some(text)) => parts.push(text.bytes()?.to_vec()),
                (item, _) => parts.push(item.bytes()?.to_vec()),
            }
        }
        let joined = parts.join(a[1].bytes()?);
        match &a[1] {
            Value::Str(_) => String::from_utf8(joined).map(Value::Str).map_err(|_| "Internal: invalid UTF-8".into()),
            _ => Ok(Value::Bytes(joined)),
        }
    }),
    def("ARRAY_INCLUDES", "[T],T->BOOL", |_, a| {
        Ok(Value::Bool(a[0].array()?.iter().any(|v| v.equals(&a[1]) == Some(true))))
    }),
    def("ARRAY_MIN", "[T]->T", |_, a| {
        Ok(a[0].array()?.iter().filter(|v| !v.is_null()).min_by(|x, y| x.order(y)).cloned().unwrap_or(Value::Null))
    }),
    def("ARRAY_MAX", "[T]->T", |_, a| {
        let items = a[0].array()?;
        if let Some(nan) = items.iter().find(|v| matches!(v, Value::Float(f) if f.is_nan())) {
            return Ok(nan.clone());
        }
        Ok(items.iter().filter(|v| !v.is_null()).max_by(|x, y| x.order(y)).cloned().unwrap_or(Value::Null))
    }),
    def("ARRAY_IS_DISTINCT", "[T]->BOOL", |_, a| {
        let mut seen = std::collections::HashSet::new();
        Ok(Value::Bool(a[0].array()?.iter().all(|v| {
            let mut key = Vec::new();
            v.key(&mut key);
            seen.insert(key)
        })))
    }),
    def(
        "GENERATE_ARRAY",
        "INT64,INT64,INT64?->[INT64]|NUMERIC,NUMERIC,NUMERIC?->[NUMERIC]|BIGNUMERIC,BIGNUMERIC,BIGNUMERIC?->[BIGNUMERIC]|FLOAT64,FLOAT64,FLOAT64?->[FLOAT64]",
        |_, a| generate(a),
    ),
    def("GENERATE_DATE_ARRAY", "DATE,DATE,INTERVAL?->[DATE]", |_, a| series(a)),
    def("GENERATE_TIMESTAMP_ARRAY", "TIMESTAMP,TIMESTAMP,INTERVAL->[TIMESTAMP]", |_, a| series(a)),
    def("GENERATE_DATETIME_ARRAY", "DATETIME,DATETIME,INTERVAL->[DATETIME]", |_, a| series(a)),
];

fn generate(a: &[Value]) -> Out {
    let too_many = || "GENERATE_ARRAY would produce too many elements".to_owned();
    let mut out = Vec::new();
    if let (Value::Int(start), Value::Int(end)) = (&a[0], &a[1]) {
        let step = a.get(2).map_or(Ok(1), Value::int)?;
        if step == 0 {
            return Err("Sequence step cannot be 0.".into());
        }
        let mut n = *start;
        while (step > 0 && n <= *end) || (step < 0 && n >= *end) {
            if out.len() >= MAX_ITEMS {
                return Err(too_many());
            }
            out.push(Value::Int(n));
            match n.checked_add(step) {
                Some(next) => n = next,
                None => break,
            }
        }
        return Ok(Value::Array(out));
    }
    let (one, zero) = match &a[0] {
        Value::Numeric(_) => (Value::Numeric(1_000_000_000), Value::Numeric(0)),
        Value::Big(_) => (Value::Big(crate::bigquery::sql::num::big_one()), Value::Big(arrow::datatypes::i256::ZERO)),
        _ => (Value::Float(1.0), Value::Float(0.0)),
    };
    let step = a.get(2).cloned().unwrap_or(one);
    let direction = step.order(&zero);
    if direction.is_eq() {
        return Err("Sequence step cannot be 0.".into());
    }
    let plus = |x: &Value, y: &Value| -> Out {
        Ok(match (x, y) {
            (Value::Numeric(x), Value::Numeric(y)) => Value::Numeric(numeric_arithmetic("+", *x, *y)?),
            (Value::Big(x), Value::Big(y)) => Value::Big(bignumeric_arithmetic("+", *x, *y)?),
            (Value::Float(x), Value::Float(y)) => Value::Float(float_arithmetic("+", *x, *y)?),
            _ => Value::Null,
        })
    };
    // Floats are multiplied, so that errors do not add up.
    let nth = |n: usize, previous: &Value| -> Out {
        match (&a[0], &step) {
            (Value::Float(start), Value::Float(step)) => Ok(Value::Float(start + n as f64 * step)),
            _ => plus(previous, &step),
        }
    };
    let mut value = a[0].clone();
    while value.order(&a[1]).is_eq() || value.order(&a[1]) == direction.reverse() {
        if out.len() >= MAX_ITEMS {
            return Err(too_many());
        }
        out.push(value.clone());
        match nth(out.len(), &value) {
            Ok(next) => value = next,
            Err(_) => break,
        }
    }
    Ok(Value::Array(out))
}

fn series(a: &[Value]) -> Out {
    let day = unit(1, "DAY").unwrap_or_default();
    let step = match a.get(2) {
        Some(Value::Interval(step)) => *step,
        _ => day,
    };
    let length = i128::from(step.months) * 30 * i128::from(MICROS_PER_DAY)
        + i128::from(step.days) * i128::from(MICROS_PER_DAY)
        + step.nanos / 1000;
    if length == 0 {
        return Err("Sequence step cannot be 0.".into());
    }
    let mut out = Vec::new();
    let mut n = 0_i64;
    loop {
        // Months are counted from the start: the 31st comes back after a short month.
        let many = strongroom::codec::value::Interval {
            months: step.months * n,
            days: step.days * n,
            nanos: step.nanos * i128::from(n),
        };
        let Ok(value) = add(&a[0], &many, 1) else { break };
        let order = value.order(&a[1]);
        if (length > 0 && order.is_gt()) || (length < 0 && order.is_lt()) {
            break;
        }
        if out.len() >= MAX_ITEMS {
            return Err("The generated array would have too many elements".into());
        }
        out.push(value);
        n += 1;
    }
    Ok(Value::Array(out))
}

/// Each element with its position: an array of pairs.
pub fn with_offsets(array: Tx) -> Tx {
    let Ty::Array(element) = array.ty.clone() else { return array };
    let pair = Ty::structure(vec![(String::new(), (*element).clone()), (String::new(), Ty::Int64)]);
    let ret = Ty::array(pair.clone());
    let e = udf::batch("with_offsets", vec![array.pair()], ret.clone(), move |a, _| {
        let list = a[0].as_list_opt::<i32>().ok_or("Internal: an array was expected")?;
        let mut positions = vec![0_i64; list.values().len()];
        for row in 0..list.len() {
            let (start, end) = (list.offsets()[row] as usize, list.offsets()[row + 1] as usize);
            for (n, slot) in positions[start..end].iter_mut().enumerate() {
                *slot = n as i64;
            }
        }
        let columns: Vec<ArrayRef> = vec![list.values().clone(), Arc::new(Int64Array::from(positions))];
        let values = StructArray::try_new(inner_fields([element.as_ref(), &Ty::Int64].into_iter()), columns, None);
        let values = values.map_err(|e| e.to_string())?;
        let list =
            ListArray::try_new(item_field(&pair), list.offsets().clone(), Arc::new(values), list.nulls().cloned());
        Ok(Arc::new(list.map_err(|e| e.to_string())?) as ArrayRef)
    });
    Tx::new(e, ret)
}
