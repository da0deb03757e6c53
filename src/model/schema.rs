//! A table's schema as BigQuery describes it (`TableSchema` of its REST API).
//!
//! Holds what decides how a value is stored and compared. What only governs a table (policy tags, defaults,
//! collation, ...) is not here: it is kept with the whole table resource.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// BigQuery nests records at most 15 deep (https://cloud.google.com/bigquery/quotas#all_tables).
pub const MAX_DEPTH: usize = 15;
/// BigQuery's limit of columns of a table, those of nested records included.
pub const MAX_FIELDS: usize = 10_000;

/// The columns of a table, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct Schema {
    pub fields: Vec<Field>,
}

/// One column, or one field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    pub mode: Mode,
    /// The fields of a STRUCT; empty for every other type.
    pub fields: Vec<Field>,
    /// `NUMERIC(precision, scale)`, `BIGNUMERIC(precision, scale)`.
    pub precision: Option<u32>,
    pub scale: Option<u32>,
    /// `STRING(max_length)` in characters, `BYTES(max_length)` in bytes.
    pub max_length: Option<u64>,
    /// The element of a RANGE: DATE, DATETIME or TIMESTAMP.
    pub range_element: Option<FieldType>,
    pub description: Option<String>,
}

/// A type of BigQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldType {
    Int64,
    Float64,
    Bool,
    String,
    Bytes,
    Numeric,
    BigNumeric,
    Date,
    DateTime,
    Time,
    Timestamp,
    Json,
    Geography,
    Interval,
    Range,
    Struct,
}

/// Whether a field may be absent, must be there, or is an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Mode {
    #[default]
    Nullable,
    Required,
    Repeated,
}

/// A schema that BigQuery would not accept, with the path of the field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema field '{path}': {message}")]
pub struct InvalidSchema {
    /// `a.b.c`; where a name is missing, its position: `a.[2]`.
    pub path: String,
    pub message: String,
}

impl Schema {
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// Reads a REST `schema` object (`{"fields": [...]}`) or a bare array of fields.
    ///
    /// Unknown members are passed over: BigQuery adds some every year.
    ///
    /// # Errors
    /// A missing or doubled name, an unknown type or mode, a record without fields, nesting deeper than BigQuery's.
    pub fn from_json(value: &Value) -> Result<Self, InvalidSchema> {
        let array = match value {
            Value::Array(array) => array,
            Value::Object(object) => match object.get("fields") {
                Some(Value::Array(array)) => array,
                None | Some(Value::Null) => return Ok(Self::default()),
                Some(_) => return Err(invalid("fields", "must be an array")),
            },
            Value::Null => return Ok(Self::default()),
            _ => return Err(invalid("", "must be an object with `fields`, or an array of fields")),
        };
        let mut left = MAX_FIELDS;
        Ok(Self { fields: fields_from_json(array, "", 1, &mut left)? })
    }

    /// The REST `schema` object, with the type names that `tables.get` answers (INTEGER, FLOAT, BOOLEAN, RECORD).
    pub fn to_json(&self) -> Value {
        json!({ "fields": self.fields.iter().map(Field::to_json).collect::<Vec<_>>() })
    }

    /// The column of that name; BigQuery's column names do not distinguish case.
    pub fn field(&self, name: &str) -> Option<&Field> {
        find(&self.fields, name)
    }
}

impl Field {
    /// A field without parameters.
    pub fn new(name: impl Into<String>, kind: FieldType, mode: Mode) -> Self {
        Self {
            name: name.into(),
            kind,
            mode,
            fields: Vec::new(),
            precision: None,
            scale: None,
            max_length: None,
            range_element: None,
            description: None,
        }
    }

    pub fn nullable(name: impl Into<String>, kind: FieldType) -> Self {
        Self::new(name, kind, Mode::Nullable)
    }

    pub fn required(name: impl Into<String>, kind: FieldType) -> Self {
        Self::new(name, kind, Mode::Required)
    }

    pub fn repeated(name: impl Into<String>, kind: FieldType) -> Self {
        Self::new(name, kind, Mode::Repeated)
    }

    /// A record with these fields.
    pub fn record(name: impl Into<String>, mode: Mode, fields: Vec<Field>) -> Self {
        Self { fields, ..Self::new(name, FieldType::Struct, mode) }
    }

    /// A RANGE over DATE, DATETIME or TIMESTAMP.
    pub fn range(name: impl Into<String>, mode: Mode, element: FieldType) -> Self {
        Self { range_element: Some(element), ..Self::new(name, FieldType::Range, mode) }
    }

    /// The field of a record by name, without regard to case.
    pub fn field(&self, name: &str) -> Option<&Field> {
        find(&self.fields, name)
    }

    /// The `TableFieldSchema` object of the REST API.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), json!(self.name));
        object.insert("type".into(), json!(self.kind.rest_name()));
        object.insert("mode".into(), json!(self.mode.name()));
        if !self.fields.is_empty() {
            object.insert("fields".into(), self.fields.iter().map(Field::to_json).collect());
        }
        if let Some(description) = &self.description {
            object.insert("description".into(), json!(description));
        }
        // int64 members are texts in Google's JSON.
        if let Some(precision) = self.precision {
            object.insert("precision".into(), json!(precision.to_string()));
        }
        if let Some(scale) = self.scale {
            object.insert("scale".into(), json!(scale.to_string()));
        }
        if let Some(max_length) = self.max_length {
            object.insert("maxLength".into(), json!(max_length.to_string()));
        }
        if let Some(element) = self.range_element {
            object.insert("rangeElementType".into(), json!({ "type": element.rest_name() }));
        }
        Value::Object(object)
    }

    /// The type in standard SQL: `NUMERIC(10, 2)`, `ARRAY<STRUCT<a INT64>>`, `RANGE<DATE>`.
    pub fn sql_type(&self) -> String {
        let element = match self.kind {
            FieldType::Struct => {
                let inner: Vec<String> = self.fields.iter().map(|f| format!("`{}` {}", f.name, f.sql_type())).collect();
                format!("STRUCT<{}>", inner.join(", "))
            }
            FieldType::Range => format!("RANGE<{}>", self.range_element.unwrap_or(FieldType::Date).sql_name()),
            kind => match (self.precision, self.scale, self.max_length) {
                (Some(p), Some(s), _) => format!("{}({p}, {s})", kind.sql_name()),
                (Some(p), None, _) => format!("{}({p})", kind.sql_name()),
                (None, _, Some(l)) => format!("{}({l})", kind.sql_name()),
                _ => kind.sql_name().to_owned(),
            },
        };
        if self.mode == Mode::Repeated { format!("ARRAY<{element}>") } else { element }
    }
}

impl FieldType {
    /// Every type, in the order of BigQuery's documentation.
    pub const ALL: [FieldType; 16] = [
        Self::Int64,
        Self::Float64,
        Self::Bool,
        Self::String,
        Self::Bytes,
        Self::Numeric,
        Self::BigNumeric,
        Self::Date,
        Self::DateTime,
        Self::Time,
        Self::Timestamp,
        Self::Json,
        Self::Geography,
        Self::Interval,
        Self::Range,
        Self::Struct,
    ];

    /// The standard SQL name: INT64, FLOAT64, BOOL, STRUCT, ...
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Int64 => "INT64",
            Self::Float64 => "FLOAT64",
            Self::Bool => "BOOL",
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Numeric => "NUMERIC",
            Self::BigNumeric => "BIGNUMERIC",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
            Self::Time => "TIME",
            Self::Timestamp => "TIMESTAMP",
            Self::Json => "JSON",
            Self::Geography => "GEOGRAPHY",
            Self::Interval => "INTERVAL",
            Self::Range => "RANGE",
            Self::Struct => "STRUCT",
        }
    }

    /// The name that the REST API answers: INTEGER, FLOAT, BOOLEAN, RECORD, otherwise as in SQL.
    pub fn rest_name(self) -> &'static str {
        match self {
            Self::Int64 => "INTEGER",
            Self::Float64 => "FLOAT",
            Self::Bool => "BOOLEAN",
            Self::Struct => "RECORD",
            other => other.sql_name(),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sql_name())
    }
}

impl FromStr for FieldType {
    type Err = String;

    /// Accepts the names of REST, of standard SQL and their aliases, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_uppercase().as_str() {
            "INT64" | "INTEGER" | "INT" | "SMALLINT" | "BIGINT" | "TINYINT" | "BYTEINT" => Self::Int64,
            "FLOAT64" | "FLOAT" => Self::Float64,
            "BOOL" | "BOOLEAN" => Self::Bool,
            "STRING" => Self::String,
            "BYTES" => Self::Bytes,
            "NUMERIC" | "DECIMAL" => Self::Numeric,
            "BIGNUMERIC" | "BIGDECIMAL" => Self::BigNumeric,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            "TIME" => Self::Time,
            "TIMESTAMP" => Self::Timestamp,
            "JSON" => Self::Json,
            "GEOGRAPHY" => Self::Geography,
            "INTERVAL" => Self::Interval,
            "RANGE" => Self::Range,
            "STRUCT" | "RECORD" => Self::Struct,
            _ => return Err(format!("unknown type '{text}'")),
        })
    }
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nullable => "NULLABLE",
            Self::Required => "REQUIRED",
            Self::Repeated => "REPEATED",
        }
    }
}

impl From<Schema> for Value {
    fn from(schema: Schema) -> Self {
        schema.to_json()
    }
}

impl TryFrom<Value> for Schema {
    type Error = InvalidSchema;

    fn try_from(value: Value) -> Result<Self, InvalidSchema> {
        Self::from_json(&value)
    }
}

fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a Field> {
    fields.iter().find(|f| f.name == name).or_else(|| fields.iter().find(|f| same_name(&f.name, name)))
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!a.is_ascii() && a.to_lowercase() == b.to_lowercase())
}

fn invalid(path: &str, message: impl Into<String>) -> InvalidSchema {
    InvalidSchema { path: path.into(), message: message.into() }
}

fn fields_from_json(
    array: &[Value],
    parent: &str,
    depth: usize,
    left: &mut usize,
) -> Result<Vec<Field>, InvalidSchema> {
    if depth > MAX_DEPTH {
        return Err(invalid(parent, format!("records are nested deeper than {MAX_DEPTH} levels")));
    }
    if array.len() > *left {
        return Err(invalid(parent, format!("more than {MAX_FIELDS} fields")));
    }
    *left -= array.len();
    let mut fields: Vec<Field> = Vec::with_capacity(array.len());
    let mut seen = std::collections::HashSet::with_capacity(array.len());
    for (position, value) in array.iter().enumerate() {
        let field = field_from_json(value, parent, position, depth, left)?;
        if !seen.insert(field.name.to_lowercase()) {
            return Err(invalid(&join(parent, &field.name), "the name is used twice"));
        }
        fields.push(field);
    }
    Ok(fields)
}

fn field_from_json(
    value: &Value,
    parent: &str,
    position: usize,
    depth: usize,
    left: &mut usize,
) -> Result<Field, InvalidSchema> {
    let here = join(parent, &format!("[{position}]"));
    let object = value.as_object().ok_or_else(|| invalid(&here, "must be an object"))?;
    let name = match object.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return Err(invalid(&here, "has no name")),
    };
    let path = join(parent, &name);
    let kind: FieldType = match object.get("type") {
        Some(Value::String(text)) => text.parse().map_err(|e: String| invalid(&path, e))?,
        _ => return Err(invalid(&path, "has no type")),
    };
    let mode = match object.get("mode") {
        None | Some(Value::Null) => Mode::Nullable,
        Some(Value::String(text)) => match text.to_ascii_uppercase().as_str() {
            "" | "NULLABLE" => Mode::Nullable,
            "REQUIRED" => Mode::Required,
            "REPEATED" => Mode::Repeated,
            _ => return Err(invalid(&path, format!("unknown mode '{text}'"))),
        },
        Some(_) => return Err(invalid(&path, "mode must be a text")),
    };
    let fields = match object.get("fields") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(array)) => fields_from_json(array, &path, depth + 1, left)?,
        Some(_) => return Err(invalid(&path, "fields must be an array")),
    };
    if kind == FieldType::Struct && fields.is_empty() {
        return Err(invalid(&path, "a RECORD has no fields"));
    }
    if kind != FieldType::Struct && !fields.is_empty() {
        return Err(invalid(&path, format!("a {kind} has no fields of its own")));
    }
    let range_element = range_element(object, kind, &path)?;
    Ok(Field {
        name,
        kind,
        mode,
        fields,
        precision: number(object, "precision", &path)?.map(narrow).transpose().map_err(|e| invalid(&path, e))?,
        scale: number(object, "scale", &path)?.map(narrow).transpose().map_err(|e| invalid(&path, e))?,
        max_length: number(object, "maxLength", &path)?,
        range_element,
        description: object.get("description").and_then(Value::as_str).map(str::to_owned),
    })
}

fn range_element(object: &Map<String, Value>, kind: FieldType, path: &str) -> Result<Option<FieldType>, InvalidSchema> {
    if kind != FieldType::Range {
        return Ok(None);
    }
    let text = object.get("rangeElementType").and_then(|e| e.get("type").unwrap_or(e).as_str());
    match text.map(str::parse) {
        Some(Ok(element @ (FieldType::Date | FieldType::DateTime | FieldType::Timestamp))) => Ok(Some(element)),
        _ => Err(invalid(path, "a RANGE needs `rangeElementType` DATE, DATETIME or TIMESTAMP")),
    }
}

fn number(object: &Map<String, Value>, member: &str, path: &str) -> Result<Option<u64>, InvalidSchema> {
    let wrong = || invalid(path, format!("{member} must be a whole number"));
    match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().map(Some).ok_or_else(wrong),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
    // proto3 clients send an unset int64 as zero; BigQuery has no NUMERIC(0) and no STRING(0).
    .map(|n| if member == "scale" { n } else { n.filter(|n| *n > 0) })
}

fn narrow(number: u64) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| "precision and scale must be below 77".to_owned())
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_schema_is_read_and_written() {
        let text = json!({"fields": [
            {"name": "id", "type": "INT64", "mode": "required"},
            {"name": "amount", "type": "NUMERIC", "precision": "10", "scale": 2},
            {"name": "name", "type": "STRING", "maxLength": "20", "description": "who", "policyTags": {"names": ["x"]}},
            {"name": "when", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
            {"name": "items", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "ok", "type": "BOOL"}]},
        ]});
        let schema = Schema::from_json(&text).unwrap();
        assert_eq!(schema.fields[1].sql_type(), "NUMERIC(10, 2)");
        assert_eq!(schema.fields[3].sql_type(), "RANGE<DATE>");
        assert_eq!(schema.fields[4].sql_type(), "ARRAY<STRUCT<`ok` BOOL>>");
        let written = schema.to_json();
        assert_eq!(written["fields"][0], json!({"name": "id", "type": "INTEGER", "mode": "REQUIRED"}));
        assert_eq!(written["fields"][1]["precision"], "10");
        assert_eq!(Schema::from_json(&written).unwrap(), schema);
        assert_eq!(Schema::from_json(&written["fields"]).unwrap(), schema);
        assert_eq!(schema.field("ITEMS").unwrap().field("OK").unwrap().kind, FieldType::Bool);
    }

    #[test]
    fn every_type_has_its_names() {
        for kind in FieldType::ALL {
            assert_eq!(kind.sql_name().parse(), Ok(kind));
            assert_eq!(kind.rest_name().parse(), Ok(kind));
        }
        assert_eq!("bigdecimal".parse(), Ok(FieldType::BigNumeric));
        assert!("VARCHAR2".parse::<FieldType>().is_err());
    }

    #[test]
    fn an_error_names_the_path() {
        let case = |value: Value| Schema::from_json(&value).unwrap_err().to_string();
        let nested = json!([{"name": "a", "type": "RECORD", "fields": [{"name": "b", "type": "NOPE"}]}]);
        assert_eq!(case(nested), "schema field 'a.b': unknown type 'NOPE'");
        assert_eq!(case(json!([{"type": "STRING"}])), "schema field '[0]': has no name");
        assert!(case(json!([{"name": "a", "type": "STRING"}, {"name": "A", "type": "STRING"}])).contains("used twice"));
        assert!(case(json!([{"name": "a", "type": "RECORD"}])).contains("no fields"));
        assert!(case(json!([{"name": "a", "type": "RANGE"}])).contains("rangeElementType"));
        let mut deep = json!({"name": "x", "type": "STRING"});
        for _ in 0..20 {
            deep = json!({"name": "x", "type": "RECORD", "fields": [deep]});
        }
        assert!(case(json!([deep])).contains("deeper than 15"));
    }
}
