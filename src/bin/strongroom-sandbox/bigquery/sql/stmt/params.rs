//! Query parameters: QueryParameter JSON to typed values.

use std::collections::HashMap;

use base64::Engine;
use serde_json::Value as Json;

use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::func::cast::cast_value;
use crate::bigquery::sql::syntax::ast::TypeName;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

/// Parameters by name (in lower case), and those by position.
pub type Parameters = (HashMap<String, (Ty, Value)>, Vec<(Ty, Value)>);

/// Reads parameters.
///
/// # Errors
/// Unknown types, values that are none of their type.
pub fn parameters(list: &[Json]) -> Res<Parameters> {
    let mut named = HashMap::new();
    let mut positional = Vec::new();
    for parameter in list {
        let kind = parameter.get("parameterType").ok_or_else(|| invalid("A query parameter has no parameterType"))?;
        let ty = parameter_type(kind)?;
        let none = Json::Null;
        let value = parameter_value(parameter.get("parameterValue").unwrap_or(&none), &ty)?;
        match parameter.get("name").and_then(Json::as_str).filter(|n| !n.is_empty()) {
            Some(name) => {
                named.insert(name.to_lowercase(), (ty, value));
            }
            None => positional.push((ty, value)),
        }
    }
    Ok((named, positional))
}

fn parameter_type(kind: &Json) -> Res<Ty> {
    let name = kind.get("type").and_then(Json::as_str).unwrap_or_default().to_uppercase();
    Ok(match name.as_str() {
        "ARRAY" => {
            let element = kind.get("arrayType").ok_or_else(|| invalid("An ARRAY parameter has no arrayType"))?;
            Ty::array(parameter_type(element)?)
        }
        "STRUCT" => {
            let fields = kind.get("structTypes").and_then(Json::as_array).cloned().unwrap_or_default();
            let fields = fields.iter().map(|f| {
                let name = f.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
                Ok((name, parameter_type(f.get("type").unwrap_or(&Json::Null))?))
            });
            Ty::structure(fields.collect::<Res<_>>()?)
        }
        "RANGE" => {
            let element =
                kind.get("rangeElementType").ok_or_else(|| invalid("A RANGE parameter has no rangeElementType"))?;
            Ty::Range(Box::new(parameter_type(element)?))
        }
        // STRING(10), NUMERIC(3, 2): the parameters are not kept.
        other => Ty::of_name(&TypeName::Simple(other.split('(').next().unwrap_or_default().trim().to_owned(), vec![]))?,
    })
}

fn parameter_value(value: &Json, ty: &Ty) -> Res<Value> {
    match ty {
        Ty::Array(element) => match value.get("arrayValues").and_then(Json::as_array) {
            Some(items) => Ok(Value::Array(items.iter().map(|v| parameter_value(v, element)).collect::<Res<_>>()?)),
            // An empty array may come without its (empty) list.
            None if value.is_object() && value.get("value").is_none_or(Json::is_null) => Ok(Value::Array(vec![])),
            None => Ok(Value::Null),
        },
        Ty::Struct(fields) => {
            let Some(members) = value.get("structValues").and_then(Json::as_object) else { return Ok(Value::Null) };
            let none = Json::Null;
            let items = fields.iter().map(|(name, ty)| parameter_value(members.get(name).unwrap_or(&none), ty));
            Ok(Value::Struct(items.collect::<Res<_>>()?))
        }
        Ty::Range(element) => {
            let Some(range) = value.get("rangeValue") else { return Ok(Value::Null) };
            let none = Json::Null;
            let end = |name: &str| parameter_value(range.get(name).unwrap_or(&none), element);
            Ok(Value::Range(Box::new((end("start")?, end("end")?))))
        }
        _ => {
            let text = match value.get("value") {
                None | Some(Json::Null) => return Ok(Value::Null),
                Some(Json::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            scalar(&text, ty)
        }
    }
}

fn scalar(text: &str, ty: &Ty) -> Res<Value> {
    let wrong = || invalid(format!("Invalid value for a query parameter of type {ty}: '{text}'"));
    Ok(match ty {
        Ty::String | Ty::Geography => Value::Str(text.to_owned()),
        Ty::Json => Value::Str(crate::bigquery::sql::func::json::normalise(text).map_err(|_| wrong())?),
        Ty::Bytes => Value::Bytes(base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| wrong())?),
        Ty::Timestamp => match crate::bigquery::sql::func::time::parse_timestamp_text(text, None) {
            Ok(micros) => Value::Timestamp(micros),
            // Seconds since the epoch, as the REST API writes timestamps.
            Err(_) => {
                let seconds = strongroom::codec::value::parse_numeric(text).map_err(|_| wrong())?;
                Value::Timestamp(i64::try_from(seconds / 1000).map_err(|_| wrong())?)
            }
        },
        _ => cast_value(&Value::Str(text.to_owned()), &Ty::String, ty).map_err(|_| wrong())?,
    })
}
