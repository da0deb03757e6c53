//! Types in JSON: StandardSqlDataType of routines, TableFieldSchema of tables.

use serde_json::{Map, Value, json};
use strongroom::model::schema::FieldType;

use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::syntax::ast::TypeName;
use crate::bigquery::sql::ty::Ty;

/// StandardSqlDataType of a type as written; `None` for ANY TYPE.
///
/// # Errors
/// Unknown types.
pub fn standard_type(name: &TypeName) -> Res<Option<Value>> {
    if *name == TypeName::Any {
        return Ok(None);
    }
    Ok(Some(standard_of(&Ty::of_name(name)?)))
}

/// StandardSqlDataType of a type.
pub fn standard_of(ty: &Ty) -> Value {
    match ty {
        Ty::Array(element) => json!({ "typeKind": "ARRAY", "arrayElementType": standard_of(element) }),
        Ty::Range(element) => json!({ "typeKind": "RANGE", "rangeElementType": standard_of(element) }),
        Ty::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|(n, t)| json!({ "name": n, "type": standard_of(t) })).collect();
            json!({ "typeKind": "STRUCT", "structType": { "fields": fields } })
        }
        other => json!({ "typeKind": other.to_string() }),
    }
}

/// The type of a StandardSqlDataType.
///
/// # Errors
/// Unknown kinds.
pub fn type_of_standard(value: &Value) -> Res<Ty> {
    let kind = value.get("typeKind").and_then(Value::as_str).unwrap_or_default().to_uppercase();
    let unknown = || invalid(format!("Unknown type kind '{kind}' of a routine's argument"));
    Ok(match kind.as_str() {
        "ARRAY" => Ty::array(type_of_standard(value.get("arrayElementType").ok_or_else(unknown)?)?),
        "RANGE" => Ty::Range(Box::new(type_of_standard(value.get("rangeElementType").ok_or_else(unknown)?)?)),
        "STRUCT" => {
            let fields = value.pointer("/structType/fields").and_then(Value::as_array).cloned().unwrap_or_default();
            let fields = fields.iter().map(|f| {
                let name = f.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                Ok((name, type_of_standard(f.get("type").ok_or_else(unknown)?)?))
            });
            Ty::structure(fields.collect::<Res<_>>()?)
        }
        _ => Ty::of_name(&TypeName::Simple(kind.clone(), vec![])).map_err(|_| unknown())?,
    })
}

/// TableFieldSchema of a column, from its name and type as written.
///
/// # Errors
/// Unknown types, arrays of arrays.
pub fn field_json(name: &str, kind: &TypeName, required: bool) -> Res<Map<String, Value>> {
    let mut out = Map::new();
    out.insert("name".into(), json!(name));
    let (element, mode) = match kind {
        TypeName::Array(element) => (element.as_ref(), "REPEATED"),
        other => (other, if required { "REQUIRED" } else { "NULLABLE" }),
    };
    match element {
        TypeName::Simple(type_name, params) => {
            let kind: FieldType = type_name.parse().map_err(|_| invalid(format!("Type not found: {type_name}")))?;
            out.insert("type".into(), json!(kind.rest_name()));
            out.insert("mode".into(), json!(mode));
            match (kind, params.as_slice()) {
                (_, []) => {}
                (FieldType::Numeric | FieldType::BigNumeric, [p, rest @ ..]) => {
                    out.insert("precision".into(), json!(p.to_string()));
                    if let Some(s) = rest.first() {
                        out.insert("scale".into(), json!(s.to_string()));
                    }
                }
                (FieldType::String | FieldType::Bytes, [length]) => {
                    if *length != u64::MAX {
                        out.insert("maxLength".into(), json!(length.to_string()));
                    }
                }
                _ => return Err(invalid(format!("{type_name} does not support type parameters"))),
            }
        }
        TypeName::Struct(fields) => {
            out.insert("type".into(), json!("RECORD"));
            out.insert("mode".into(), json!(mode));
            let mut inner = Vec::new();
            for (n, (field, kind, rest)) in fields.iter().enumerate() {
                let name = field.clone().unwrap_or_else(|| format!("_field_{}", n + 1));
                let mut json = field_json(&name, kind, rest.not_null)?;
                for (option, value) in &rest.options {
                    if option.text.eq_ignore_ascii_case("description")
                        && let crate::bigquery::sql::syntax::ast::Kind::Str(text) = value.kind.as_ref()
                    {
                        json.insert("description".into(), json!(text));
                    }
                }
                inner.push(Value::Object(json));
            }
            out.insert("fields".into(), Value::Array(inner));
        }
        TypeName::Range(element) => {
            let element = Ty::of_name(element)?;
            out.insert("type".into(), json!("RANGE"));
            out.insert("mode".into(), json!(mode));
            out.insert("rangeElementType".into(), json!({ "type": element.to_string() }));
        }
        TypeName::Array(_) => return Err(invalid("Arrays of arrays are not supported")),
        TypeName::Any => return Err(invalid("ANY TYPE cannot be the type of a column")),
    }
    Ok(out)
}
