//! Arrow values as the REST API writes them: `{"f":[{"v":"1"},{"v":null},{"v":[{"v":"a"}]}]}`.
//!
//! Every scalar is text; records nest as `{"f":[..]}`, arrays as lists of `{"v":..}`. Also the logical size of values.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use base64::Engine;
use serde_json::{Value, json};
use strongroom::codec::arrow_schema::TYPE_KEY;
use strongroom::codec::value::{to_text, write_bignumeric, write_numeric};

use super::civil::{date_text, datetime_text, time_text};

/// How cells are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct CellFormat {
    /// `formatOptions.useInt64Timestamp`: microseconds as an integer in place of seconds as a float.
    pub int64_timestamp: bool,
    /// `formatOptions.timestampOutputFormat=ISO8601_STRING`.
    pub iso_timestamp: bool,
}

/// One row as `{"f":[..]}`.
pub fn row_json(batch: &RecordBatch, row: usize, format: CellFormat) -> Value {
    let schema = batch.schema();
    let cells: Vec<Value> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| json!({"v": cell(column, field, row, format)}))
        .collect();
    json!({ "f": cells })
}

/// One value, without its `{"v":..}`.
pub fn cell(column: &ArrayRef, field: &Field, row: usize, format: CellFormat) -> Value {
    if column.is_null(row) {
        // A repeated field is never null in BigQuery: it is empty.
        return if matches!(field.data_type(), DataType::List(_)) { json!([]) } else { Value::Null };
    }
    let kind = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
    match column.data_type() {
        DataType::List(item) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| json!({"v": cell(&items, item, i, format)})).collect()
        }
        DataType::Struct(fields) if kind == "RANGE" => {
            let ends = column.as_struct();
            let end =
                |i: usize| match cell(ends.column(i), &fields[i], row, CellFormat { iso_timestamp: true, ..format }) {
                    Value::String(text) => text,
                    _ => "UNBOUNDED".to_owned(),
                };
            json!(format!("[{}, {})", end(0), end(1)))
        }
        DataType::Struct(fields) => {
            let inner = column.as_struct();
            let cells: Vec<Value> =
                (0..fields.len()).map(|i| json!({"v": cell(inner.column(i), &fields[i], row, format)})).collect();
            json!({ "f": cells })
        }
        DataType::Timestamp(_, Some(_)) => {
            let us = column.as_primitive::<TimestampMicrosecondType>().value(row);
            if format.iso_timestamp {
                json!(format!("{}Z", datetime_text(us)))
            } else if format.int64_timestamp {
                json!(us.to_string())
            } else {
                #[allow(clippy::cast_precision_loss)]
                let seconds = us as f64 / 1e6;
                json!(java_double(seconds))
            }
        }
        _ => json!(scalar_text(column, row)),
    }
}

/// A scalar as text, in the form of the REST API and of `CAST(.. AS STRING)` where both agree.
pub fn scalar_text(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => java_double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => base64::engine::general_purpose::STANDARD.encode(column.as_binary::<i32>().value(row)),
        DataType::Decimal128(..) => {
            to_text(|out| write_numeric(column.as_primitive::<Decimal128Type>().value(row), out))
        }
        DataType::Decimal256(..) => {
            to_text(|out| write_bignumeric(column.as_primitive::<Decimal256Type>().value(row), out))
        }
        DataType::Date32 => date_text(column.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(_) => time_text(column.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(_, _) => datetime_text(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        // Nothing else is stored; what a query computes is cast to these before it gets here.
        other => format!("<{other}>"),
    }
}

/// A double as the REST API writes it: Java's form, `1.0`, `1.5E10`, `NaN`, `Infinity`.
pub fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    if mantissa.contains('.') { format!("{mantissa}E{exponent}") } else { format!("{mantissa}.0E{exponent}") }
}

/// The logical bytes of a batch (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes).
pub fn logical_bytes(batch: &RecordBatch) -> u64 {
    batch.schema().fields().iter().zip(batch.columns()).map(|(f, c)| column_bytes(c, f)).sum()
}

fn column_bytes(column: &ArrayRef, field: &Field) -> u64 {
    let present = (column.len() - column.null_count()) as u64;
    let kind = field.metadata().get(TYPE_KEY).map_or("", String::as_str);
    match column.data_type() {
        DataType::Boolean => present,
        DataType::Decimal128(..) => 16 * present,
        DataType::Decimal256(..) => 32 * present,
        DataType::Utf8 if kind == "INTERVAL" => 16 * present,
        DataType::Utf8 => {
            let text = column.as_string::<i32>();
            let bytes = text.value_offsets().last().unwrap_or(&0) - text.value_offsets().first().unwrap_or(&0);
            let head = if kind == "JSON" { 0 } else { 2 };
            head * present + u64::try_from(bytes).unwrap_or(0)
        }
        DataType::Binary => {
            let data = column.as_binary::<i32>();
            let bytes = data.value_offsets().last().unwrap_or(&0) - data.value_offsets().first().unwrap_or(&0);
            2 * present + u64::try_from(bytes).unwrap_or(0)
        }
        DataType::Struct(_) if kind == "RANGE" => 16 * present,
        DataType::Struct(fields) => {
            fields.iter().zip(column.as_struct().columns()).map(|(f, c)| column_bytes(c, f)).sum()
        }
        DataType::List(item) => {
            let list = column.as_list::<i32>();
            let from = usize::try_from(*list.value_offsets().first().unwrap_or(&0)).unwrap_or(0);
            let to = usize::try_from(*list.value_offsets().last().unwrap_or(&0)).unwrap_or(0);
            column_bytes(&list.values().slice(from, to - from), item)
        }
        _ => 8 * present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::rows::batch_from_json;
    use crate::bigquery::schema;

    fn encode(fields: Value, row: Value, format: CellFormat) -> Value {
        let schema = schema::parse(&fields).unwrap();
        let batch = batch_from_json(&schema, &[row]).unwrap();
        row_json(&batch, 0, format)
    }

    #[test]
    fn every_type_has_its_exact_form() {
        let cases = [
            (json!({"type":"INT64"}), json!("9007199254740993"), json!("9007199254740993")),
            (json!({"type":"FLOAT64"}), json!(1.5), json!("1.5")),
            (json!({"type":"FLOAT64"}), json!(3), json!("3.0")),
            (json!({"type":"FLOAT64"}), json!("NaN"), json!("NaN")),
            (json!({"type":"BOOL"}), json!(true), json!("true")),
            (json!({"type":"BYTES"}), json!("AAH/"), json!("AAH/")),
            (
                json!({"type":"NUMERIC"}),
                json!("-12345678901234567890.123456789"),
                json!("-12345678901234567890.123456789"),
            ),
            (json!({"type":"NUMERIC"}), json!("0.500"), json!("0.5")),
            (
                json!({"type":"BIGNUMERIC"}),
                json!("0.00000000000000000000000000000000000001"),
                json!("0.00000000000000000000000000000000000001"),
            ),
            (json!({"type":"DATE"}), json!("2024-02-29"), json!("2024-02-29")),
            (json!({"type":"DATETIME"}), json!("2024-02-29 01:02:03"), json!("2024-02-29T01:02:03")),
            (json!({"type":"TIME"}), json!("23:59:59.999999"), json!("23:59:59.999999")),
            (json!({"type":"TIMESTAMP"}), json!("2024-02-29T01:02:03.000004Z"), json!("1.709168523000004E9")),
            (json!({"type":"JSON"}), json!("{\"a\": [1, null]}"), json!("{\"a\":[1,null]}")),
            (json!({"type":"INTERVAL"}), json!("1-2 3 4:5:6"), json!("1-2 3 4:5:6")),
            (
                json!({"type":"RANGE","rangeElementType":{"type":"DATE"}}),
                json!({"start":"2024-01-01"}),
                json!("[2024-01-01, UNBOUNDED)"),
            ),
            (json!({"type":"STRING","mode":"REPEATED"}), json!(["a", ""]), json!([{"v":"a"},{"v":""}])),
            (json!({"type":"RECORD","fields":[{"name":"x","type":"INT64"}]}), json!({"x":1}), json!({"f":[{"v":"1"}]})),
            (
                json!({"type":"RECORD","mode":"REPEATED","fields":[{"name":"x","type":"INT64"}]}),
                json!([{"x":null}]),
                json!([{"v":{"f":[{"v":null}]}}]),
            ),
            (json!({"type":"STRING"}), json!(null), json!(null)),
        ];
        for (mut field, value, want) in cases {
            field["name"] = json!("c");
            let got = encode(json!([field]), json!({"c": value}), CellFormat::default());
            assert_eq!(got["f"][0]["v"], want, "{field}");
        }
        let ts = json!([{"name":"c","type":"TIMESTAMP"}]);
        let row = json!({"c":"2024-02-29T01:02:03.000004Z"});
        let got = encode(ts, row, CellFormat { int64_timestamp: true, iso_timestamp: false });
        assert_eq!(got["f"][0]["v"], "1709168523000004");
    }

    #[test]
    fn doubles_are_written_as_java_does() {
        for (value, text) in
            [(0.0, "0.0"), (1e7, "1.0E7"), (1.5e-5, "1.5E-5"), (123_456.7, "123456.7"), (-1e300, "-1.0E300")]
        {
            assert_eq!(java_double(value), text);
        }
    }

    #[test]
    fn logical_sizes_follow_the_documented_table() {
        let schema = schema::parse(&json!([
            {"name":"i","type":"INT64"},{"name":"s","type":"STRING"},{"name":"b","type":"BOOL"},
            {"name":"n","type":"NUMERIC"},{"name":"a","type":"INT64","mode":"REPEATED"}]))
        .unwrap();
        let rows = [json!({"i":1,"s":"abc","b":true,"n":"1","a":[1,2]}), json!({})];
        let batch = batch_from_json(&schema, &rows).unwrap();
        assert_eq!(logical_bytes(&batch), 8 + 5 + 1 + 16 + 16);
        assert_eq!(logical_bytes(&batch.slice(1, 1)), 0);
    }
}
