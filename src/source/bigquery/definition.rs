//! All of a table but its rows, as it is kept in the vault.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::compare;

/// A table's, view's, routine's or dataset's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The whole resource, as the service gave it.
    pub resource: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_access_policies: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_policy: Option<Value>,
}

impl Definition {
    /// Its bytes in the vault.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The schema in REST form; an empty one for what has none.
    pub fn schema(&self) -> Value {
        match &self.resource["schema"] {
            Value::Null => serde_json::json!({"fields": []}),
            schema => schema.clone(),
        }
    }
}

/// The fields in which a restored table differs from its definition; empty when it is the same.
pub fn comparable(saved: &Value, restored: &Value) -> Vec<String> {
    compare::resources(&normal(saved), &normal(restored), compare::NOT_COMPARED)
}

/// REST spells the same type in two ways; the service decides which it answers with.
fn normal(resource: &Value) -> Value {
    let mut resource = resource.clone();
    if let Some(fields) = resource.pointer_mut("/schema/fields") {
        spell(fields);
    }
    if let Some(view) = resource.get_mut("materializedView").and_then(Value::as_object_mut) {
        view.remove("lastRefreshTime");
    }
    resource
}

fn spell(fields: &mut Value) {
    for field in fields.as_array_mut().into_iter().flatten() {
        let kind = match field["type"].as_str() {
            Some("INT64") => "INTEGER",
            Some("FLOAT64") => "FLOAT",
            Some("BOOL") => "BOOLEAN",
            Some("STRUCT") => "RECORD",
            _ => "",
        };
        if !kind.is_empty() {
            field["type"] = kind.into();
        }
        // NULLABLE is the default and may be left out.
        if field["mode"].is_null() {
            field["mode"] = "NULLABLE".into();
        }
        if let Some(inner) = field.get_mut("fields") {
            spell(inner);
        }
    }
}
