//! Rows of JSON into Arrow, as `tabledata.insertAll` takes them. The codec converts; here are the API's own forms (JSON
//! columns as text, a lone value for an array of one) and its words for what is wrong.

use arrow::array::RecordBatch;
use serde_json::Value;
use strongroom::codec::{CodecError, ndjson};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use crate::core::ApiError;

/// Why a row was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The position of the row among those given.
    pub index: usize,
    /// The path of the column.
    pub location: String,
    pub message: String,
}

/// Converts rows; those that cannot be are told, in order, and left out.
///
/// # Errors
/// When the rows are too large for memory's sake.
pub fn convert(
    schema: &Schema,
    rows: &[&Value],
    ignore_unknown: bool,
) -> Result<(Vec<RecordBatch>, Vec<RowError>), ApiError> {
    let mut lines = vec![];
    for row in rows {
        serde_json::to_writer(&mut lines, &own_forms(&schema.fields, row))
            .map_err(|e| ApiError::invalid(e.to_string()))?;
        lines.push(b'\n');
    }
    let options = ndjson::ReadOptions {
        ignore_unknown_values: ignore_unknown,
        max_bad_records: u64::MAX,
        ..ndjson::ReadOptions::default()
    };
    let mut reader = ndjson::Reader::with_options(lines.as_slice(), schema, options);
    let batches = reader.by_ref().collect::<Result<Vec<_>, _>>().map_err(|e| ApiError::invalid(e.to_string()))?;
    let errors = reader.bad_records().iter().map(|e| explain(schema, rows, e)).collect();
    Ok((batches, errors))
}

/// Rows that are known to be good, as one batch.
///
/// # Errors
/// The first bad row.
pub fn batch_from_json(schema: &Schema, rows: &[Value]) -> Result<RecordBatch, ApiError> {
    let rows: Vec<&Value> = rows.iter().collect();
    let (batches, errors) = convert(schema, &rows, false)?;
    if let Some(error) = errors.first() {
        return Err(ApiError::invalid(format!("{}: {}", error.location, error.message)));
    }
    let wanted = strongroom::codec::arrow_schema::arrow_schema(schema);
    arrow::compute::concat_batches(&wanted, &batches).map_err(|e| ApiError::internal(e.to_string()))
}

/// A record in the form in which JSON files have it.
fn own_forms(fields: &[Field], record: &Value) -> Value {
    let Value::Object(members) = record else { return record.clone() };
    let convert = |(name, value): (&String, &Value)| {
        let field = fields.iter().find(|f| f.name == *name);
        let field = field.or_else(|| fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)));
        let value = match (field, value) {
            (None, value) => value.clone(),
            (Some(field), Value::Array(items)) if field.mode == Mode::Repeated => {
                items.iter().map(|item| own_form(field, item)).collect()
            }
            (Some(field), value) if field.mode == Mode::Repeated && !value.is_null() => {
                Value::Array(vec![own_form(field, value)])
            }
            (Some(field), value) => own_form(field, value),
        };
        (name.clone(), value)
    };
    Value::Object(members.iter().map(convert).collect())
}

fn own_form(field: &Field, value: &Value) -> Value {
    match (field.kind, value) {
        (FieldType::Struct, value) => own_forms(&field.fields, value),
        // What is no JSON text is left to be refused: a raw text would be taken for a JSON string.
        (FieldType::Json, Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        _ => value.clone(),
    }
}

fn explain(schema: &Schema, rows: &[&Value], error: &CodecError) -> RowError {
    let index = usize::try_from(error.row().unwrap_or(1).saturating_sub(1)).unwrap_or(0);
    let (column, message) = match error {
        CodecError::Value { column, message, .. } => (column.as_str(), message.as_str()),
        CodecError::Row { message, .. } => ("", message.as_str()),
        other => return RowError { index, location: String::new(), message: other.to_string() },
    };
    let mut parts = column.split('.').filter(|p| !p.is_empty());
    let field = parts.next().and_then(|p| schema.field(p));
    let field = parts.fold(field, |f, p| f.and_then(|f| f.field(p)));
    let shown = column.split('.').try_fold(*rows.get(index).unwrap_or(&&Value::Null), |v, p| {
        v.as_object()?.iter().find(|(k, _)| k.eq_ignore_ascii_case(p)).map(|(_, v)| v)
    });
    if let Some(name) = message.strip_prefix("no such field: ") {
        let location = if column.is_empty() { name.to_owned() } else { format!("{column}.{name}") };
        return RowError { index, message: format!("no such field: {location}."), location };
    }
    let shown = match shown {
        None | Some(Value::Null) if field.is_some_and(|f| f.mode == Mode::Required) => {
            let message = format!("Missing required field: Msg_0_CLOUD_QUERY_TABLE.{column}.");
            return RowError { index, location: String::new(), message };
        }
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let word = match field.map(|f| f.kind) {
        Some(FieldType::Int64) => "integer",
        Some(FieldType::Float64) => "floating point",
        Some(FieldType::Bool) => "boolean",
        Some(FieldType::Bytes) => "bytes",
        Some(FieldType::String) => "string",
        _ => {
            return RowError { index, location: column.to_owned(), message: format!("{message} (bad value): {shown}") };
        }
    };
    RowError {
        index,
        location: column.to_owned(),
        message: format!("Cannot convert value to {word} (bad value): {shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::schema;
    use serde_json::json;

    #[test]
    fn bad_rows_are_named_as_google_names_them_and_good_ones_kept() {
        let schema = schema::parse(&json!([
            {"name":"id","type":"INT64","mode":"REQUIRED"},{"name":"s","type":"STRING"},{"name":"r","type":"RECORD","fields":[{"name":"f","type":"FLOAT64"}]}]))
        .unwrap();
        let rows = [
            json!({"id":"x"}),
            json!({"id":1,"zz":1}),
            json!({"id":2}),
            json!({"s":"a"}),
            json!({"id":3,"r":{"f":"q"}}),
        ];
        let rows: Vec<&Value> = rows.iter().collect();
        let (batches, errors) = convert(&schema, &rows, false).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        let told: Vec<_> = errors.iter().map(|e| (e.index, e.location.as_str(), e.message.as_str())).collect();
        assert_eq!(
            told,
            [
                (0, "id", "Cannot convert value to integer (bad value): x"),
                (1, "zz", "no such field: zz."),
                (3, "", "Missing required field: Msg_0_CLOUD_QUERY_TABLE.id."),
                (4, "r.f", "Cannot convert value to floating point (bad value): q"),
            ]
        );
        assert!(convert(&schema, &rows[1..2], true).unwrap().1.is_empty());
    }

    #[test]
    fn json_comes_as_text_and_a_lone_value_is_an_array_of_one() {
        let schema =
            schema::parse(&json!([{"name":"j","type":"JSON"},{"name":"a","type":"INT64","mode":"REPEATED"}])).unwrap();
        let batch = batch_from_json(&schema, &[json!({"j":"{\"b\": [1]}","a":7})]).unwrap();
        let row = super::super::cells::row_json(&batch, 0, Default::default());
        assert_eq!(row, json!({"f":[{"v":"{\"b\":[1]}"},{"v":[{"v":"7"}]}]}));
    }
}
