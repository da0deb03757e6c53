//! Scalars of Arrow columns as the text of extracts to CSV and JSON, before any quoting.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::arrow_schema::children;
use super::value;
use crate::model::schema::{Field, FieldType};

/// Appends a value that is not NULL as text. The array is one of the Arrow mapping, of the field's type; records and
/// arrays have no text and append nothing.
///
/// INT64, NUMERIC and BIGNUMERIC in decimal, FLOAT64 in 15 or 17 digits (`NaN`, `Infinity`), BYTES in base64, TIMESTAMP
/// `YYYY-MM-DD HH:MM:SS[.ffffff] UTC`, DATETIME with a `T`, RANGE `[start, end)`.
pub fn write_scalar(field: &Field, array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    match field.kind {
        FieldType::Int64 => value::push_int(array.as_primitive::<Int64Type>().value(row), out),
        FieldType::Float64 => write_float(array.as_primitive::<Float64Type>().value(row), out),
        FieldType::Bool => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        FieldType::String | FieldType::Json | FieldType::Geography | FieldType::Interval => {
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
        }
        FieldType::Bytes => out.extend_from_slice(STANDARD.encode(array.as_binary::<i32>().value(row)).as_bytes()),
        FieldType::Numeric => value::write_numeric(array.as_primitive::<Decimal128Type>().value(row), out),
        FieldType::BigNumeric => value::write_bignumeric(array.as_primitive::<Decimal256Type>().value(row), out),
        FieldType::Date => value::write_date(array.as_primitive::<Date32Type>().value(row), out),
        FieldType::Time => value::write_time(array.as_primitive::<Time64MicrosecondType>().value(row), false, out),
        FieldType::DateTime => {
            value::write_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row), b'T', false, out);
        }
        FieldType::Timestamp => {
            value::write_timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row), out);
        }
        FieldType::Range => {
            let ends = array.as_struct();
            let fields = children(field);
            let write = |at: usize| {
                let (field, end) = (&fields[at], ends.column(at));
                (!end.is_null(row)).then_some(move |out: &mut Vec<u8>| write_scalar(field, end, row, out))
            };
            value::write_range(out, write(0), write(1));
        }
        FieldType::Struct => {}
    }
}

fn write_float(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        value::write_float64(number, out);
    }
}
