//! Single values, as functions see them; arrays to values and back.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    Float64Builder, Int64Builder, ListArray, StringBuilder, StructArray, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, i256,
};
use strongroom::codec::value::{Interval, to_text};

use super::ty::{Ty, inner_fields, item_field};

/// A value of any type. JSON is its text, GEOGRAPHY its WKT.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    Bytes(Vec<u8>),
    /// Scaled by 10^9.
    Numeric(i128),
    /// Scaled by 10^38.
    Big(i256),
    /// Days.
    Date(i32),
    /// Microseconds, as the two that follow.
    Time(i64),
    Datetime(i64),
    Timestamp(i64),
    Interval(Interval),
    Range(Box<(Value, Value)>),
    Struct(Vec<Value>),
    Array(Vec<Value>),
}

impl Value {
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    pub fn int(&self) -> Result<i64, String> {
        if let Value::Int(v) = self { Ok(*v) } else { Err(self.unexpected("INT64")) }
    }

    pub fn float(&self) -> Result<f64, String> {
        if let Value::Float(v) = self { Ok(*v) } else { Err(self.unexpected("FLOAT64")) }
    }

    pub fn bool(&self) -> Result<bool, String> {
        if let Value::Bool(v) = self { Ok(*v) } else { Err(self.unexpected("BOOL")) }
    }

    pub fn str(&self) -> Result<&str, String> {
        if let Value::Str(v) = self { Ok(v) } else { Err(self.unexpected("STRING")) }
    }

    pub fn bytes(&self) -> Result<&[u8], String> {
        match self {
            Value::Bytes(v) => Ok(v),
            Value::Str(v) => Ok(v.as_bytes()),
            _ => Err(self.unexpected("BYTES")),
        }
    }

    pub fn array(&self) -> Result<&[Value], String> {
        if let Value::Array(v) = self { Ok(v) } else { Err(self.unexpected("ARRAY")) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        format!("Internal: expected {wanted}, found {self:?}")
    }

    /// The order of ORDER BY and of `<`, for values of one type: NULL first, then NaN.
    pub fn order(&self, other: &Value) -> Ordering {
        use Value::*;
        match (self, other) {
            (Null, Null) => Ordering::Equal,
            (Null, _) => Ordering::Less,
            (_, Null) => Ordering::Greater,
            (Int(a), Int(b)) => a.cmp(b),
            (Float(a), Float(b)) => match (a.is_nan(), b.is_nan()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            },
            (Bool(a), Bool(b)) => a.cmp(b),
            (Str(a), Str(b)) => a.cmp(b),
            (Bytes(a), Bytes(b)) => a.cmp(b),
            (Numeric(a), Numeric(b)) => a.cmp(b),
            (Big(a), Big(b)) => a.cmp(b),
            (Date(a), Date(b)) => a.cmp(b),
            (Time(a), Time(b)) | (Datetime(a), Datetime(b)) | (Timestamp(a), Timestamp(b)) => a.cmp(b),
            (Interval(a), Interval(b)) => interval_nanos(a).cmp(&interval_nanos(b)),
            // An unbounded start is before, an unbounded end behind everything.
            (Range(a), Range(b)) => a.0.order(&b.0).then_with(|| match (&a.1, &b.1) {
                (Null, Null) => Ordering::Equal,
                (Null, _) => Ordering::Greater,
                (_, Null) => Ordering::Less,
                (a, b) => a.order(b),
            }),
            (Struct(a), Struct(b)) | (Array(a), Array(b)) => {
                a.iter().zip(b).map(|(a, b)| a.order(b)).find(|o| o.is_ne()).unwrap_or(a.len().cmp(&b.len()))
            }
            _ => Ordering::Equal,
        }
    }

    /// SQL's `=`: `None` when it is NULL. NaN equals nothing.
    pub fn equals(&self, other: &Value) -> Option<bool> {
        use Value::*;
        match (self, other) {
            (Null, _) | (_, Null) => None,
            (Float(a), Float(b)) => Some(a == b),
            (Struct(a), Struct(b)) => {
                let mut unknown = false;
                for (a, b) in a.iter().zip(b) {
                    match a.equals(b) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => unknown = true,
                    }
                }
                if unknown { None } else { Some(true) }
            }
            (a, b) => Some(a.order(b).is_eq()),
        }
    }

    /// Bytes that are equal for values that GROUP BY puts together.
    pub fn key(&self, out: &mut Vec<u8>) {
        use Value::*;
        let mut tagged = |tag: u8, bytes: &[u8]| {
            out.push(tag);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Null => tagged(0, &[]),
            Int(v) | Time(v) | Datetime(v) | Timestamp(v) => tagged(1, &v.to_le_bytes()),
            Float(v) if v.is_nan() => tagged(2, b"nan"),
            Float(v) => tagged(2, &(v + 0.0).to_bits().to_le_bytes()),
            Bool(v) => tagged(3, &[u8::from(*v)]),
            Str(v) => tagged(4, v.as_bytes()),
            Bytes(v) => tagged(5, v),
            Numeric(v) => tagged(6, &v.to_le_bytes()),
            Big(v) => tagged(7, &v.to_le_bytes()),
            Date(v) => tagged(8, &v.to_le_bytes()),
            Interval(v) => tagged(9, &interval_nanos(v).to_le_bytes()),
            Range(v) => {
                tagged(10, &[]);
                v.0.key(out);
                v.1.key(out);
            }
            Struct(items) | Array(items) => {
                tagged(11, &(items.len() as u32).to_le_bytes());
                items.iter().for_each(|v| v.key(out));
            }
        }
    }
}

/// The length by which intervals compare: months of 30 days, days of 24 hours.
pub fn interval_nanos(interval: &Interval) -> i128 {
    (i128::from(interval.months) * 30 + i128::from(interval.days)) * 86_400_000_000_000 + interval.nanos
}

/// The canonical text of an interval.
pub fn interval_text(interval: &Interval) -> String {
    to_text(|out| interval.write(out))
}

/// An array that gives values.
pub struct Reader<'a> {
    array: &'a dyn Array,
    ty: &'a Ty,
    children: Vec<Reader<'a>>,
}

impl<'a> Reader<'a> {
    pub fn new(array: &'a dyn Array, ty: &'a Ty) -> Self {
        let children = match ty {
            Ty::Array(element) => {
                array.as_list_opt::<i32>().map(|l| vec![Reader::new(l.values().as_ref(), element)]).unwrap_or_default()
            }
            Ty::Struct(fields) => array
                .as_struct_opt()
                .map(|s| s.columns().iter().zip(fields.iter()).map(|(c, (_, t))| Reader::new(c.as_ref(), t)).collect())
                .unwrap_or_default(),
            Ty::Range(element) => array
                .as_struct_opt()
                .map(|s| s.columns().iter().map(|c| Reader::new(c.as_ref(), element)).collect())
                .unwrap_or_default(),
            _ => vec![],
        };
        Self { array, ty, children }
    }

    pub fn get(&self, row: usize) -> Value {
        if self.array.is_null(row) {
            return Value::Null;
        }
        let a = self.array;
        match self.ty {
            Ty::Int64 => Value::Int(a.as_primitive::<Int64Type>().value(row)),
            Ty::Float64 => Value::Float(a.as_primitive::<Float64Type>().value(row)),
            Ty::Bool => Value::Bool(a.as_boolean().value(row)),
            Ty::String | Ty::Json | Ty::Geography => Value::Str(a.as_string::<i32>().value(row).to_owned()),
            Ty::Bytes => Value::Bytes(a.as_binary::<i32>().value(row).to_owned()),
            Ty::Numeric => Value::Numeric(a.as_primitive::<Decimal128Type>().value(row)),
            Ty::BigNumeric => Value::Big(a.as_primitive::<Decimal256Type>().value(row)),
            Ty::Date => Value::Date(a.as_primitive::<Date32Type>().value(row)),
            Ty::Time => Value::Time(a.as_primitive::<Time64MicrosecondType>().value(row)),
            Ty::Datetime => Value::Datetime(a.as_primitive::<TimestampMicrosecondType>().value(row)),
            Ty::Timestamp => Value::Timestamp(a.as_primitive::<TimestampMicrosecondType>().value(row)),
            Ty::Interval => Interval::parse(a.as_string::<i32>().value(row)).map_or(Value::Null, Value::Interval),
            Ty::Range(_) => Value::Range(Box::new((self.children[0].get(row), self.children[1].get(row)))),
            Ty::Struct(_) => Value::Struct(self.children.iter().map(|c| c.get(row)).collect()),
            Ty::Array(_) => {
                let offsets = a.as_list::<i32>().offsets();
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                Value::Array(range.map(|i| self.children[0].get(i)).collect())
            }
        }
    }
}

/// An array of values of one type.
///
/// # Errors
/// A value of another type: a fault of the engine.
pub fn build(ty: &Ty, values: &[Value]) -> Result<ArrayRef, String> {
    let wrong = |v: &Value| format!("Internal: a value of type {ty} was expected, found {v:?}");
    macro_rules! fill {
        ($builder:expr, $variant:ident) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    Value::Null => builder.append_null(),
                    Value::$variant(v) => builder.append_value(v.to_owned()),
                    other => return Err(wrong(other)),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    Ok(match ty {
        Ty::Int64 => fill!(Int64Builder::with_capacity(values.len()), Int),
        Ty::Float64 => fill!(Float64Builder::with_capacity(values.len()), Float),
        Ty::Bool => fill!(BooleanBuilder::with_capacity(values.len()), Bool),
        Ty::String | Ty::Json | Ty::Geography => fill!(StringBuilder::new(), Str),
        Ty::Bytes => fill!(BinaryBuilder::new(), Bytes),
        Ty::Numeric => fill!(Decimal128Builder::with_capacity(values.len()).with_data_type(ty.arrow()), Numeric),
        Ty::BigNumeric => fill!(Decimal256Builder::with_capacity(values.len()).with_data_type(ty.arrow()), Big),
        Ty::Date => fill!(Date32Builder::with_capacity(values.len()), Date),
        Ty::Time => fill!(Time64MicrosecondBuilder::with_capacity(values.len()), Time),
        Ty::Datetime => fill!(TimestampMicrosecondBuilder::with_capacity(values.len()), Datetime),
        Ty::Timestamp => {
            fill!(TimestampMicrosecondBuilder::with_capacity(values.len()).with_data_type(ty.arrow()), Timestamp)
        }
        Ty::Interval => {
            let mut builder = StringBuilder::new();
            for value in values {
                match value {
                    Value::Null => builder.append_null(),
                    Value::Interval(v) => builder.append_value(interval_text(v)),
                    other => return Err(wrong(other)),
                }
            }
            Arc::new(builder.finish())
        }
        Ty::Range(element) => {
            let nulls: NullBuffer = values.iter().map(|v| !v.is_null()).collect();
            let mut ends = [Vec::with_capacity(values.len()), Vec::with_capacity(values.len())];
            for value in values {
                let (start, end) = match value {
                    Value::Null => (Value::Null, Value::Null),
                    Value::Range(v) => (v.0.clone(), v.1.clone()),
                    other => return Err(wrong(other)),
                };
                ends[0].push(start);
                ends[1].push(end);
            }
            let columns = vec![build(element, &ends[0])?, build(element, &ends[1])?];
            let fields = inner_fields([element.as_ref(), element.as_ref()].into_iter());
            Arc::new(StructArray::try_new(fields, columns, Some(nulls)).map_err(|e| e.to_string())?)
        }
        Ty::Struct(types) => {
            let nulls: NullBuffer = values.iter().map(|v| !v.is_null()).collect();
            let mut columns = Vec::with_capacity(types.len());
            for (n, (_, ty)) in types.iter().enumerate() {
                let mut column = Vec::with_capacity(values.len());
                for value in values {
                    column.push(match value {
                        Value::Null => Value::Null,
                        Value::Struct(v) => v.get(n).cloned().ok_or_else(|| wrong(value))?,
                        other => return Err(wrong(other)),
                    });
                }
                columns.push(build(ty, &column)?);
            }
            let fields = inner_fields(types.iter().map(|(_, t)| t));
            let array = StructArray::try_new_with_length(fields, columns, Some(nulls), values.len());
            Arc::new(array.map_err(|e| e.to_string())?)
        }
        Ty::Array(element) => {
            let nulls: NullBuffer = values.iter().map(|v| !v.is_null()).collect();
            let mut offsets = vec![0_i32];
            let mut items = Vec::new();
            for value in values {
                match value {
                    Value::Null => {}
                    Value::Array(v) => items.extend_from_slice(v),
                    other => return Err(wrong(other)),
                }
                offsets.push(i32::try_from(items.len()).map_err(|_| "An array is too large".to_owned())?);
            }
            let list = ListArray::try_new(
                item_field(element),
                OffsetBuffer::new(offsets.into()),
                build(element, &items)?,
                Some(nulls),
            );
            Arc::new(list.map_err(|e| e.to_string())?)
        }
    })
}
