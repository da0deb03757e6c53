//! JSON rows into Arrow: `tabledata.insertAll`, NDJSON and CSV loads, each with BigQuery's conversions and messages.
//!
//! A row is converted whole before any of it is kept, so a bad row never leaves half of itself behind.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int64Array,
    ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, i256};
use base64::Engine;
use serde_json::{Map, Value};
use strongroom::codec::arrow_schema::arrow_schema;
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use super::civil::{parse_date, parse_datetime, parse_time, parse_timestamp};

/// Whose rules and words apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// `tabledata.insertAll`.
    Insert,
    /// A load job.
    Load,
}

/// Why a value was refused, with the path of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    pub location: String,
    pub message: String,
}

/// A converted value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// INT64, DATE (days), DATETIME, TIME and TIMESTAMP (microseconds).
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Numeric(i128),
    BigNumeric(i256),
    List(Vec<Cell>),
    Struct(Vec<Cell>),
}

/// Converts one row. `ignore_unknown` drops members that are no column.
///
/// # Errors
/// The first value that does not fit, or every member that is no column.
pub fn row(
    schema: &Schema,
    value: &Value,
    rules: Strictness,
    ignore_unknown: bool,
) -> Result<Vec<Cell>, Vec<CellError>> {
    let Value::Object(members) = value else {
        let message = "This row is not a JSON object.".to_owned();
        return Err(vec![CellError { location: String::new(), message }]);
    };
    record(&schema.fields, members, "", rules, ignore_unknown)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn record(
    fields: &[Field],
    members: &Map<String, Value>,
    path: &str,
    rules: Strictness,
    ignore_unknown: bool,
) -> Result<Vec<Cell>, Vec<CellError>> {
    let mut errors = vec![];
    let mut slots: Vec<Option<&Value>> = vec![None; fields.len()];
    for (name, value) in members {
        let exact = fields.iter().position(|f| f.name == *name);
        match exact.or_else(|| fields.iter().position(|f| f.name.eq_ignore_ascii_case(name))) {
            Some(i) => slots[i] = Some(value),
            None if ignore_unknown => {}
            None => {
                let location = join(path, name);
                let message = match rules {
                    Strictness::Insert => format!("no such field: {location}."),
                    Strictness::Load => format!("No such field: {location}."),
                };
                errors.push(CellError { location, message });
            }
        }
    }
    let mut cells = Vec::with_capacity(fields.len());
    for (field, slot) in fields.iter().zip(slots) {
        match member(field, slot.unwrap_or(&Value::Null), &join(path, &field.name), rules, ignore_unknown) {
            Ok(cell) => cells.push(cell),
            Err(mut found) => errors.append(&mut found),
        }
    }
    if errors.is_empty() { Ok(cells) } else { Err(errors) }
}

fn member(
    field: &Field,
    value: &Value,
    path: &str,
    rules: Strictness,
    ignore_unknown: bool,
) -> Result<Cell, Vec<CellError>> {
    let fail = |message: String| Err(vec![CellError { location: path.to_owned(), message }]);
    match (field.mode, value) {
        (Mode::Nullable, Value::Null) => Ok(Cell::Null),
        (Mode::Required, Value::Null) => match rules {
            Strictness::Insert => {
                let message = format!("Missing required field: Msg_0_CLOUD_QUERY_TABLE.{path}.");
                Err(vec![CellError { location: String::new(), message }])
            }
            Strictness::Load => fail(format!("Missing required field: {path}.")),
        },
        (Mode::Repeated, Value::Null) => Ok(Cell::List(vec![])),
        (Mode::Repeated, Value::Array(items)) => items
            .iter()
            .map(|item| match item {
                Value::Null => fail(format!("Only optional fields can be set to NULL. Field: {path}; Value: NULL")),
                item => element(field, item, path, rules, ignore_unknown),
            })
            .collect::<Result<_, _>>()
            .map(Cell::List),
        (Mode::Repeated, _) => match rules {
            // insertAll takes a lone value for an array of one.
            Strictness::Insert => Ok(Cell::List(vec![element(field, value, path, rules, ignore_unknown)?])),
            Strictness::Load => fail(format!("Repeated field must be imported as a JSON array. Field: {path}.")),
        },
        (_, Value::Array(_)) if field.kind != FieldType::Json => {
            fail(format!("Array specified for non-repeated field: {path}."))
        }
        _ => element(field, value, path, rules, ignore_unknown),
    }
}

fn element(
    field: &Field,
    value: &Value,
    path: &str,
    rules: Strictness,
    ignore_unknown: bool,
) -> Result<Cell, Vec<CellError>> {
    match (field.kind, value) {
        (FieldType::Struct, Value::Object(members)) => {
            record(&field.fields, members, path, rules, ignore_unknown).map(Cell::Struct)
        }
        (FieldType::Struct, _) => Err(vec![CellError {
            location: path.to_owned(),
            message: format!("This field: {} is not a record.", field.name),
        }]),
        _ => scalar(field, value, rules).map_err(|message| vec![CellError { location: path.to_owned(), message }]),
    }
}

/// The text of a JSON scalar: strings without quotes, numbers and booleans as JSON writes them.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Converts a JSON scalar for a column that is neither a record nor repeated.
///
/// # Errors
/// Google's message, which names the type and the value.
pub fn scalar(field: &Field, value: &Value, rules: Strictness) -> Result<Cell, String> {
    let kind = field.kind;
    if kind == FieldType::Json {
        return json_cell(value, rules);
    }
    if kind == FieldType::Range {
        return range(field, value, rules);
    }
    let shown = text_of(value).unwrap_or_else(|| value.to_string());
    let bad = || match (rules, kind) {
        (Strictness::Insert, FieldType::Int64) => format!("Cannot convert value to integer (bad value): {shown}"),
        (Strictness::Insert, FieldType::Float64) => {
            format!("Cannot convert value to floating point (bad value): {shown}")
        }
        (Strictness::Insert, FieldType::Bool) => format!("Cannot convert value to boolean (bad value): {shown}"),
        (Strictness::Insert, FieldType::Bytes) => format!("Cannot convert value to bytes (bad value): {shown}"),
        (Strictness::Insert, FieldType::String) => format!("Cannot convert value to string (bad value): {shown}"),
        (Strictness::Insert, FieldType::Timestamp) => format!(
            "Could not parse '{shown}' as a timestamp. Required format is YYYY-MM-DD HH:MM[:SS[.SSSSSS]] or YYYY/MM/DD HH:MM[:SS[.SSSSSS]]"
        ),
        (Strictness::Insert, other) => format!("Invalid {} value: {shown}", other.sql_name()),
        (Strictness::Load, other) => {
            let word = match other {
                FieldType::Int64 => "integer",
                FieldType::Float64 => "double",
                FieldType::Bool => "boolean",
                FieldType::Timestamp => "timestamp",
                FieldType::String => "string",
                other => other.sql_name(),
            };
            format!("Could not convert value to {word}. Field: {}; Value: {shown}", field.name)
        }
    };
    let text = text_of(value).ok_or_else(bad)?;
    let cell = match kind {
        FieldType::Int64 => int64(value, &text).map(Cell::Int),
        FieldType::Float64 => float64(&text).map(Cell::Float),
        FieldType::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "y" => Some(Cell::Bool(true)),
            "false" | "f" | "0" | "no" | "n" => Some(Cell::Bool(false)),
            _ => None,
        },
        FieldType::Bytes => base64_bytes(&text).map(Cell::Bytes),
        FieldType::Numeric => {
            numeric(&text, 9).and_then(|v| v.to_i128()).filter(|v| v.unsigned_abs() < 10u128.pow(38)).map(Cell::Numeric)
        }
        FieldType::BigNumeric => numeric(&text, 38).map(Cell::BigNumeric),
        FieldType::Date => parse_date(text.trim())
            .or_else(|| parse_datetime(text.trim()).map(|us| us.div_euclid(super::civil::DAY_US)))
            .map(Cell::Int),
        FieldType::DateTime => parse_datetime(text.trim()).map(Cell::Int),
        FieldType::Time => parse_time(text.trim()).map(Cell::Int),
        FieldType::Timestamp => match value {
            Value::Number(number) => epoch(number),
            _ => parse_timestamp(&text).or_else(|| text.parse::<serde_json::Number>().ok().and_then(|n| epoch(&n))),
        }
        .filter(|us| (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(us))
        .map(Cell::Int),
        FieldType::Geography | FieldType::Interval | FieldType::String => Some(Cell::Text(text)),
        FieldType::Json | FieldType::Range | FieldType::Struct => None,
    }
    .ok_or_else(bad)?;
    check_parameters(field, cell)
}

fn check_parameters(field: &Field, cell: Cell) -> Result<Cell, String> {
    match (&cell, field.max_length) {
        (Cell::Text(text), Some(max)) if text.chars().count() as u64 > max => {
            return Err(format!(
                "Field {}: STRING({max}) has maximum length {max} but got a value with length {}",
                field.name,
                text.chars().count()
            ));
        }
        (Cell::Bytes(bytes), Some(max)) if bytes.len() as u64 > max => {
            return Err(format!(
                "Field {}: BYTES({max}) has maximum length {max} but got a value with length {}",
                field.name,
                bytes.len()
            ));
        }
        _ => {}
    }
    let Some(precision) = field.precision else { return Ok(cell) };
    let scale = field.scale.unwrap_or(0);
    let over = || format!("Field {}: value exceeds {}({precision}, {scale})", field.name, field.kind.sql_name());
    let rounded = |value: i256, places: u32| {
        let unit = ten(places.saturating_sub(scale));
        let rounded = round_half_away(value, unit);
        let limit = ten(precision.saturating_sub(scale) + places);
        (rounded.wrapping_abs() < limit).then_some(rounded)
    };
    match cell {
        Cell::Numeric(v) => {
            rounded(i256::from_i128(v), 9).and_then(|v| v.to_i128()).map(Cell::Numeric).ok_or_else(over)
        }
        Cell::BigNumeric(v) => rounded(v, 38).map(Cell::BigNumeric).ok_or_else(over),
        other => Ok(other),
    }
}

fn ten(power: u32) -> i256 {
    i256::from_i128(10).wrapping_pow(power)
}

fn round_half_away(value: i256, unit: i256) -> i256 {
    let half = unit.wrapping_div(i256::from_i128(2));
    let shifted = if value.is_negative() { value.wrapping_sub(half) } else { value.wrapping_add(half) };
    if unit == i256::ONE { value } else { shifted.wrapping_div(unit).wrapping_mul(unit) }
}

fn int64(value: &Value, text: &str) -> Option<i64> {
    if let Ok(int) = text.trim().parse() {
        return Some(int);
    }
    // 1.0 and 1e3 are integers to BigQuery when they arrive as numbers.
    let float = value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9.2e18)?;
    #[allow(clippy::cast_possible_truncation)]
    Some(float as i64)
}

fn float64(text: &str) -> Option<f64> {
    match text.trim().to_ascii_lowercase().as_str() {
        "nan" | "+nan" | "-nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        plain => plain.parse().ok(),
    }
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let url_safe = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    standard.decode(text).or_else(|_| url_safe.decode(text)).ok()
}

/// Decimal text, with an optional exponent, as an integer of `places` decimals; halves round away from zero.
pub fn numeric(text: &str, places: i64) -> Option<i256> {
    let text = text.trim();
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(i) => (&text[..i], text[i + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let all = all.trim_start_matches('0');
    // The value is `all` * 10^shift in units of the last kept decimal.
    let shift = places.checked_add(exponent)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let (kept, round_up) = if shift >= 0 {
        if all.is_empty() {
            (String::from("0"), false)
        } else if shift > 100 {
            return None;
        } else {
            (format!("{all}{}", "0".repeat(usize::try_from(shift).ok()?)), false)
        }
    } else {
        let drop = usize::try_from(-shift).ok()?;
        if drop > all.len() {
            (String::from("0"), false)
        } else {
            let (kept, lost) = all.split_at(all.len() - drop);
            (format!("0{kept}"), lost.as_bytes().first().is_some_and(|b| *b >= b'5'))
        }
    };
    if kept.trim_start_matches('0').len() > 76 {
        return None;
    }
    let mut value = i256::from_string(&kept)?;
    if round_up {
        value = value.checked_add(i256::ONE)?;
    }
    if value >= ten(76) {
        return None;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Seconds, or by their magnitude milliseconds or microseconds, since the epoch.
fn epoch(number: &serde_json::Number) -> Option<i64> {
    const SECONDS: i64 = 253_402_300_800;
    if let Some(int) = number.as_i64() {
        return match int.abs() {
            0..SECONDS => int.checked_mul(1_000_000),
            n if n < SECONDS * 1000 => int.checked_mul(1000),
            _ => Some(int),
        };
    }
    let float = number.as_f64()?;
    #[allow(clippy::cast_possible_truncation)]
    (float.abs() < 1e12).then(|| (float * 1e6).round() as i64)
}

fn json_cell(value: &Value, rules: Strictness) -> Result<Cell, String> {
    let text = match value {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(parsed) => parsed.to_string(),
            Err(_) if rules == Strictness::Load => value.to_string(),
            Err(error) => return Err(format!("Invalid JSON value: {error}")),
        },
        other => other.to_string(),
    };
    Ok(Cell::Text(text))
}

fn range(field: &Field, value: &Value, rules: Strictness) -> Result<Cell, String> {
    let element = Field::nullable(&field.name, field.range_element.unwrap_or(FieldType::Date));
    let end = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(Cell::Null),
        Some(Value::String(text)) if matches!(text.trim().to_ascii_uppercase().as_str(), "UNBOUNDED" | "NULL") => {
            Ok(Cell::Null)
        }
        Some(value) => scalar(&element, value, rules),
    };
    let (start, stop) = match value {
        Value::Object(ends) => (end(ends.get("start"))?, end(ends.get("end"))?),
        Value::String(text) => {
            let parts = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(')')).and_then(|t| t.split_once(','));
            let (a, b) = parts.ok_or_else(|| format!("Invalid RANGE value: {text}"))?;
            (end(Some(&a.trim().into()))?, end(Some(&b.trim().into()))?)
        }
        other => return Err(format!("Invalid RANGE value: {other}")),
    };
    if let (Cell::Int(a), Cell::Int(b)) = (&start, &stop)
        && a >= b
    {
        return Err(format!("Range start element must be less than range end element. Field: {}", field.name));
    }
    Ok(Cell::Struct(vec![start, stop]))
}

/// Converted rows as one batch.
///
/// # Errors
/// When a null stands where the schema allows none.
pub fn batch(schema: &Schema, rows: Vec<Vec<Cell>>) -> Result<RecordBatch, String> {
    let arrow = arrow_schema(schema);
    let count = rows.len();
    let mut columns: Vec<Vec<Cell>> = schema.fields.iter().map(|_| Vec::with_capacity(count)).collect();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    let arrays =
        columns.into_iter().zip(arrow.fields()).map(|(cells, field)| array(field, cells)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(arrow, arrays, &options).map_err(|e| e.to_string())
}

/// Rows of JSON as one batch; for small data whose rows are expected to be good.
///
/// # Errors
/// The first bad value.
pub fn batch_from_json(schema: &Schema, values: &[Value], rules: Strictness) -> Result<RecordBatch, String> {
    let rows: Result<Vec<_>, _> = values.iter().map(|v| row(schema, v, rules, false)).collect();
    let rows = rows.map_err(|errors| errors.into_iter().map(|e| e.message).collect::<Vec<_>>().join("; "))?;
    batch(schema, rows)
}

fn array(field: &ArrowField, cells: Vec<Cell>) -> Result<ArrayRef, String> {
    let ints = || cells.iter().map(|c| if let Cell::Int(v) = c { Some(*v) } else { None });
    Ok(match field.data_type() {
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::Date32 => Arc::new(ints().map(|v| v.and_then(|v| i32::try_from(v).ok())).collect::<Date32Array>()),
        DataType::Time64(_) => Arc::new(ints().collect::<Time64MicrosecondArray>()),
        DataType::Timestamp(_, zone) => {
            Arc::new(ints().collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Boolean => Arc::new(
            cells.iter().map(|c| if let Cell::Bool(v) = c { Some(*v) } else { None }).collect::<BooleanArray>(),
        ),
        DataType::Float64 => Arc::new(
            cells.iter().map(|c| if let Cell::Float(v) = c { Some(*v) } else { None }).collect::<Float64Array>(),
        ),
        DataType::Utf8 => Arc::new(
            cells.iter().map(|c| if let Cell::Text(v) = c { Some(v.as_str()) } else { None }).collect::<StringArray>(),
        ),
        DataType::Binary => Arc::new(
            cells
                .iter()
                .map(|c| if let Cell::Bytes(v) = c { Some(v.as_slice()) } else { None })
                .collect::<BinaryArray>(),
        ),
        DataType::Decimal128(p, s) => Arc::new(
            cells
                .iter()
                .map(|c| if let Cell::Numeric(v) = c { Some(*v) } else { None })
                .collect::<Decimal128Array>()
                .with_precision_and_scale(*p, *s)
                .map_err(|e| e.to_string())?,
        ),
        DataType::Decimal256(p, s) => Arc::new(
            cells
                .iter()
                .map(|c| if let Cell::BigNumeric(v) = c { Some(*v) } else { None })
                .collect::<Decimal256Array>()
                .with_precision_and_scale(*p, *s)
                .map_err(|e| e.to_string())?,
        ),
        DataType::List(item) => {
            let mut lengths = Vec::with_capacity(cells.len());
            let mut values = vec![];
            for cell in cells {
                let items = if let Cell::List(items) = cell { items } else { vec![] };
                lengths.push(items.len());
                values.extend(items);
            }
            let values = array(item, values)?;
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::try_new(item.clone(), offsets, values, None).map_err(|e| e.to_string())?)
        }
        DataType::Struct(fields) => {
            let valid: Vec<bool> = cells.iter().map(|c| matches!(c, Cell::Struct(_))).collect();
            let mut columns: Vec<Vec<Cell>> = fields.iter().map(|_| Vec::with_capacity(cells.len())).collect();
            for cell in cells {
                let mut inner = if let Cell::Struct(inner) = cell { inner.into_iter() } else { vec![].into_iter() };
                for (column, field) in columns.iter_mut().zip(fields) {
                    let hole =
                        if matches!(field.data_type(), DataType::List(_)) { Cell::List(vec![]) } else { Cell::Null };
                    column.push(inner.next().unwrap_or(hole));
                }
            }
            let arrays = columns.into_iter().zip(fields).map(|(c, f)| array(f, c)).collect::<Result<Vec<_>, _>>()?;
            let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
            Arc::new(StructArray::try_new(fields.clone(), arrays, nulls).map_err(|e| e.to_string())?)
        }
        other => return Err(format!("no column of type {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::schema;
    use serde_json::json;

    fn errors(fields: Value, value: Value, rules: Strictness) -> Vec<CellError> {
        row(&schema::parse(&fields).unwrap(), &value, rules, false).unwrap_err()
    }

    #[test]
    fn bad_values_are_named_as_google_names_them() {
        let fields = json!([{"name":"id","type":"INT64","mode":"REQUIRED"},{"name":"s","type":"STRING"}]);
        let e = errors(fields.clone(), json!({"id":"x"}), Strictness::Insert);
        assert_eq!(
            (e[0].location.as_str(), e[0].message.as_str()),
            ("id", "Cannot convert value to integer (bad value): x")
        );
        let e = errors(fields.clone(), json!({"id":1,"zz":1}), Strictness::Insert);
        assert_eq!((e[0].location.as_str(), e[0].message.as_str()), ("zz", "no such field: zz."));
        let e = errors(fields.clone(), json!({}), Strictness::Insert);
        assert!(e[0].message.contains("Missing required field"));
        let e = errors(fields, json!({"id":"abc"}), Strictness::Load);
        assert_eq!(e[0].message, "Could not convert value to integer. Field: id; Value: abc");
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        for (text, want) in [
            ("1.5", "1500000000"),
            ("-0.0000000005", "-1"),
            ("0.00000000049", "0"),
            ("1e3", "1000000000000"),
            ("1E-9", "1"),
            ("0", "0"),
            (".5", "500000000"),
        ] {
            assert_eq!(numeric(text, 9).map(|v| v.to_string()).as_deref(), Some(want), "{text}");
        }
        for text in ["", "abc", "1.2.3", "1e", "--1", &"9".repeat(70)] {
            assert_eq!(numeric(text, 9), None, "{text}");
        }
    }

    #[test]
    fn parameters_bound_values() {
        let fields = json!([{"name":"n","type":"NUMERIC","precision":"4","scale":"2"},{"name":"s","type":"STRING","maxLength":"2"}]);
        let schema = schema::parse(&fields).unwrap();
        let ok = row(&schema, &json!({"n":"99.994","s":"éé"}), Strictness::Insert, false).unwrap();
        assert_eq!(ok[0], Cell::Numeric(99_990_000_000));
        assert!(row(&schema, &json!({"n":"99.995"}), Strictness::Insert, false).is_err());
        assert!(row(&schema, &json!({"s":"abc"}), Strictness::Insert, false).is_err());
    }

    #[test]
    fn numbers_are_timestamps_by_magnitude() {
        let want = Some(1_700_000_000_000_000);
        for number in ["1700000000", "1700000000000", "1700000000000000", "1700000000.0"] {
            assert_eq!(epoch(&number.parse().unwrap()), want, "{number}");
        }
    }
}
