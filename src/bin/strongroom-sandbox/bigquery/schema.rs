//! BigQuery's `TableSchema` as the service treats it: Google's messages for what is wrong, the form in which it is
//! returned, and how far a table's schema may change.
//!
//! The JSON of a field is kept as it came; types and the Arrow mapping are those of `strongroom::model` and `codec`.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};

use crate::core::ApiError;

/// Most columns of a table, those inside records included.
const MAX_COLUMNS: usize = 10_000;

/// Reads `{"fields":[..]}` or the list itself.
///
/// # Errors
/// `invalid` with Google's message when a name, type, mode or parameter is not acceptable.
pub fn parse(schema: &Value) -> Result<Schema, ApiError> {
    let list = schema.get("fields").unwrap_or(schema);
    let items = match list {
        Value::Array(items) => items.as_slice(),
        Value::Null | Value::Object(_) => &[],
        _ => return Err(ApiError::invalid("Invalid schema: fields must be a list")),
    };
    let total = count(items);
    if total > MAX_COLUMNS {
        return Err(ApiError::invalid(format!(
            "Too many total leaf fields: {total}, max allowed field count: {MAX_COLUMNS}"
        )));
    }
    check_fields(items, "")?;
    Schema::from_json(list).map_err(|e| ApiError::invalid(format!("Invalid schema: {e}")))
}

fn inner(field: &Value) -> &[Value] {
    field.get("fields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn count(items: &[Value]) -> usize {
    items.iter().map(|f| 1 + count(inner(f))).sum()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// An integer that arrives as a number or as text.
pub fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn check_fields(items: &[Value], path: &str) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for item in items {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let full = join(path, text("name"));
        check_name(text("name"), &full)?;
        if !seen.insert(text("name").to_lowercase()) {
            return Err(ApiError::invalid(format!("Field {full} already exists in schema")));
        }
        if text("type").is_empty() {
            return Err(ApiError::invalid(format!("Missing type for field {full}")));
        }
        let Ok(kind) = text("type").parse::<FieldType>() else {
            return Err(ApiError::invalid(format!("Invalid value for type: {} is not a valid value", text("type"))));
        };
        if !matches!(text("mode").to_ascii_uppercase().as_str(), "" | "NULLABLE" | "REQUIRED" | "REPEATED") {
            return Err(ApiError::invalid(format!("Invalid value for mode: {} is not a valid value", text("mode"))));
        }
        if kind == FieldType::Struct && inner(item).is_empty() {
            return Err(ApiError::invalid(format!("Field {full} is type RECORD but has no schema")));
        }
        let number = |name: &str| item.get(name).and_then(int).filter(|n| *n != 0);
        check_parameters(kind, number("precision"), number("scale"), number("maxLength"), &full)?;
        check_fields(inner(item), &full)?;
    }
    Ok(())
}

fn check_name(name: &str, full: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid("Field name cannot be empty"));
    }
    // Flexible column names: https://cloud.google.com/bigquery/docs/schemas#flexible-column-names
    let bad = name.chars().any(|c| c.is_control() || "!\"$()*,./;?@[\\]^`{}~".contains(c));
    if bad || name.chars().count() > 300 {
        return Err(ApiError::invalid(format!(
            "Invalid field name \"{full}\". Fields must contain the allowed characters, and be at most 300 characters long. For allowed characters, please refer to https://cloud.google.com/bigquery/docs/schemas#column_names"
        )));
    }
    let lower = name.to_lowercase();
    for prefix in ["_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier"] {
        if lower.starts_with(prefix) {
            return Err(ApiError::invalid(format!(
                "Invalid field name \"{full}\". Field names are not allowed to start with the (case-insensitive) prefixes _PARTITION, _TABLE_, _FILE_, _ROW_TIMESTAMP, __ROOT__ and _COLIDENTIFIER"
            )));
        }
    }
    Ok(())
}

fn check_parameters(
    kind: FieldType,
    precision: Option<i64>,
    scale: Option<i64>,
    max_length: Option<i64>,
    full: &str,
) -> Result<(), ApiError> {
    let (digits, places) = match kind {
        FieldType::Numeric => (29, 9),
        FieldType::BigNumeric => (38, 38),
        _ if precision.is_some() || scale.is_some() => {
            return Err(ApiError::invalid(format!(
                "Precision and scale are only allowed for NUMERIC and BIGNUMERIC: field {full}"
            )));
        }
        FieldType::String | FieldType::Bytes if max_length.is_none_or(|n| n > 0) => return Ok(()),
        _ if max_length.is_some() => return Err(ApiError::invalid(format!("maxLength is not valid for field {full}"))),
        _ => return Ok(()),
    };
    let s = scale.unwrap_or(0);
    match precision {
        None if scale.is_some() => Err(ApiError::invalid(format!("Field {full} has a scale but no precision"))),
        Some(p) if !(0..=places).contains(&s) || p < s.max(1) || p > digits + s => Err(ApiError::invalid(format!(
            "Invalid precision or scale for field {full}: {}({p}, {s}) is out of range",
            kind.sql_name()
        ))),
        _ => Ok(()),
    }
}

/// The schema as the API returns it: legacy type names, modes written out, numbers as text; all other keys kept.
pub fn canonical(schema: &Value) -> Value {
    let mut out = schema.as_object().cloned().unwrap_or_default();
    if let Some(fields) = schema.get("fields").and_then(Value::as_array) {
        out.insert("fields".into(), fields.iter().map(canonical_field).collect());
    }
    Value::Object(out)
}

fn canonical_field(field: &Value) -> Value {
    let mut out = Map::new();
    for (key, value) in field.as_object().into_iter().flatten() {
        let value = match (key.as_str(), value) {
            // Clients that write every member write empty ones, which mean absent.
            (_, Value::Null) => continue,
            ("fields", Value::Array(items)) if items.is_empty() => continue,
            (
                "mode" | "precision" | "scale" | "maxLength" | "collation" | "defaultValueExpression",
                Value::String(t),
            ) if t.is_empty() => continue,
            ("precision" | "scale" | "maxLength", v) => match int(v) {
                Some(0) | None => continue,
                Some(n) => json!(n.to_string()),
            },
            ("type", Value::String(t)) => {
                let upper = t.to_ascii_uppercase();
                match upper.as_str() {
                    "STRUCT" | "RECORD" => json!("RECORD"),
                    "RANGE" => json!("RANGE"),
                    _ => upper.parse::<FieldType>().map_or(json!(upper), |k| json!(k.rest_name())),
                }
            }
            ("mode", Value::String(t)) => json!(t.to_ascii_uppercase()),
            ("fields", Value::Array(items)) => items.iter().map(canonical_field).collect(),
            (_, v) => v.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

/// Whether a table with schema `old` may be patched to `new`: columns may be added and relaxed, never removed or changed.
///
/// # Errors
/// `invalid` with Google's message for the first change that is not allowed.
pub fn check_evolution(table: &str, old: &[Field], new: &[Field]) -> Result<(), ApiError> {
    let refuse = |what: String| Err(ApiError::invalid(format!("Provided Schema does not match Table {table}. {what}")));
    for before in old {
        let name = &before.name;
        let Some(after) = new.iter().find(|f| f.name.eq_ignore_ascii_case(name)) else {
            return refuse(format!("Field {name} is missing in new schema"));
        };
        if before.mode != after.mode && (before.mode, after.mode) != (Mode::Required, Mode::Nullable) {
            return refuse(format!(
                "Field {name} has changed mode from {} to {}",
                before.mode.name(),
                after.mode.name()
            ));
        }
        if before.kind != after.kind || before.range_element != after.range_element {
            let (a, b) = (before.kind.rest_name(), after.kind.rest_name());
            return refuse(format!("Field {name} has changed type from {a} to {b}"));
        }
        check_evolution(table, &before.fields, &after.fields)?;
    }
    for after in new {
        if after.mode == Mode::Required && !old.iter().any(|f| f.name.eq_ignore_ascii_case(&after.name)) {
            let name = &after.name;
            return refuse(format!("Cannot add required fields to an existing schema. (field: {name})"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_types_are_read_and_the_legacy_one_is_returned() {
        let schema = json!({"fields":[
            {"name":"a","type":"INT64","mode":"required"},
            {"name":"r","type":"STRUCT","mode":"REPEATED","fields":[{"name":"n","type":"NUMERIC","precision":10,"scale":"2"}]},
            {"name":"w","type":"RANGE","rangeElementType":{"type":"DATE"},"policyTags":{"names":["x"]}}]});
        let fields = parse(&schema).unwrap().fields;
        assert_eq!(fields[0].mode, Mode::Required);
        assert_eq!(fields[2].range_element, Some(FieldType::Date));
        let out = canonical(&schema);
        assert_eq!(out["fields"][0]["type"], "INTEGER");
        assert_eq!(out["fields"][1]["fields"][0]["precision"], "10");
        assert_eq!(out["fields"][2]["policyTags"]["names"][0], "x");
        assert_eq!(parse(&out).unwrap().fields, fields);
    }

    #[test]
    fn bad_schemas_are_refused() {
        for (fields, part) in [
            (json!([{"name":"a","type":"INTEGR"}]), "Invalid value for type"),
            (json!([{"name":"a","type":"STRING"},{"name":"A","type":"STRING"}]), "already exists"),
            (json!([{"name":"r","type":"RECORD"}]), "no schema"),
            (json!([{"name":"a.b","type":"STRING"}]), "Invalid field name"),
            (json!([{"name":"_partitiontime","type":"DATE"}]), "prefixes"),
            (json!([{"name":"n","type":"NUMERIC","precision":"40"}]), "out of range"),
        ] {
            let error = parse(&fields).unwrap_err();
            assert!(error.message.contains(part), "{}", error.message);
        }
        let many: Vec<Value> = (0..10_001).map(|i| json!({"name": format!("c{i}"), "type": "BOOL"})).collect();
        assert!(parse(&json!(many)).unwrap_err().message.contains("10000"));
    }

    #[test]
    fn a_schema_may_grow_and_relax_only() {
        let old = parse(&json!([{"name":"a","type":"INT64","mode":"REQUIRED"}])).unwrap();
        let ok = parse(&json!([{"name":"a","type":"INT64"},{"name":"b","type":"STRING"}])).unwrap();
        assert!(check_evolution("p:d.t", &old.fields, &ok.fields).is_ok());
        for bad in [json!([{"name":"b","type":"INT64"}]), json!([{"name":"a","type":"STRING","mode":"REQUIRED"}])] {
            assert!(check_evolution("p:d.t", &old.fields, &parse(&bad).unwrap().fields).is_err());
        }
        assert!(check_evolution("p:d.t", &ok.fields, &old.fields).is_err());
    }
}
