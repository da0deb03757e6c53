//! Avro schemas: reading a file's, inferring BigQuery's from it, and writing the one of an extract.
//!
//! The type tree keeps only what decoding needs. Recursive types are refused: BigQuery has none.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::FORMAT;
use crate::codec::CodecError;
use crate::model::schema::{Field, FieldType, MAX_DEPTH, Mode, Schema};

/// Types in one schema, references counted as often as they are used: a small schema may not unfold without end.
const MAX_TYPES: usize = 20_000;
/// Nesting of the schema's JSON that this reader follows.
const MAX_NESTING: usize = 64;

/// A type of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Arc<Vec<String>>),
    Record(Arc<Vec<Member>>),
    Array(Box<Typed>),
    Map(Box<Typed>),
    Union(Vec<Typed>),
}

/// A type with its annotation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Typed {
    pub base: Type,
    pub logical: Option<Logical>,
    /// `sqlType: JSON`, by which BigQuery marks texts of that type.
    pub json: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub name: String,
    pub doc: Option<String>,
    pub typed: Typed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Decimal {
        precision: u32,
        scale: i32,
    },
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    LocalMillis,
    LocalMicros,
    LocalNanos,
    /// BigQuery's own: DATETIME as a string.
    DateTime,
    Uuid,
}

/// Reads the schema of a file: the columns of its record.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Member>, CodecError> {
    let value: Value = serde_json::from_slice(text).map_err(|e| bad(format!("the schema is not JSON: {e}")))?;
    let mut names = Names { known: HashMap::new(), types: 0 };
    let typed = names.parse(&value, "", 0)?;
    match typed.base {
        Type::Record(members) => Ok(members.as_ref().clone()),
        // BigQuery wraps anything else into one column `root`.
        _ => Ok(vec![Member { name: "root".to_owned(), doc: None, typed }]),
    }
}

fn bad(message: impl Into<String>) -> CodecError {
    CodecError::Malformed { format: FORMAT, offset: 0, message: message.into() }
}

struct Names {
    /// By full name; `None` while the type is being read.
    known: HashMap<String, Option<Typed>>,
    types: usize,
}

impl Names {
    fn parse(&mut self, value: &Value, namespace: &str, depth: usize) -> Result<Typed, CodecError> {
        if depth > MAX_NESTING {
            return Err(bad(format!("the schema is nested deeper than {MAX_NESTING}")));
        }
        self.count(1)?;
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches =
                    branches.iter().map(|b| self.parse(b, namespace, depth + 1)).collect::<Result<_, _>>()?;
                Ok(plain(Type::Union(branches)))
            }
            Value::Object(object) => self.object(object, namespace, depth),
            _ => Err(bad("a type of the schema is neither a name, a list nor an object")),
        }
    }

    fn count(&mut self, types: usize) -> Result<(), CodecError> {
        self.types += types;
        if self.types > MAX_TYPES { Err(bad(format!("the schema has more than {MAX_TYPES} types"))) } else { Ok(()) }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<Typed, CodecError> {
        if let Some(base) = primitive(name) {
            return Ok(plain(base));
        }
        let full = full_name(name, namespace);
        let found = self.known.get(&full).or_else(|| self.known.get(name));
        let typed = match found {
            Some(Some(typed)) => typed.clone(),
            Some(None) => return Err(bad(format!("the type '{full}' contains itself, which BigQuery cannot hold"))),
            None => return Err(bad(format!("the schema names an unknown type '{name}'"))),
        };
        self.count(size(&typed.base))?;
        Ok(typed)
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<Typed, CodecError> {
        let kind = object.get("type").ok_or_else(|| bad("a type of the schema has no `type`"))?;
        let Value::String(kind) = kind else {
            // `{"type": {"type": "string"}}`, as some writers nest it.
            let mut inner = self.parse(kind, namespace, depth + 1)?;
            inner.annotate(object);
            return Ok(inner);
        };
        let member = |name: &str| object.get(name).ok_or_else(|| bad(format!("a type '{kind}' has no `{name}`")));
        let mut typed = match kind.as_str() {
            "array" => plain(Type::Array(Box::new(self.parse(member("items")?, namespace, depth + 1)?))),
            "map" => plain(Type::Map(Box::new(self.parse(member("values")?, namespace, depth + 1)?))),
            "record" | "error" | "enum" | "fixed" => {
                let name = member("name")?.as_str().ok_or_else(|| bad("a type's name is not a text"))?;
                let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                let full = full_name(name, own);
                let inner_namespace = full.rsplit_once('.').map_or("", |(n, _)| n).to_owned();
                self.known.insert(full.clone(), None);
                let mut typed = plain(self.definition(kind, object, &inner_namespace, depth)?);
                typed.annotate(object);
                self.known.insert(full, Some(typed.clone()));
                return Ok(typed);
            }
            name => self.named(name, namespace)?,
        };
        typed.annotate(object);
        Ok(typed)
    }

    fn definition(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
        depth: usize,
    ) -> Result<Type, CodecError> {
        let list = |name: &str| {
            object.get(name).and_then(Value::as_array).ok_or_else(|| bad(format!("a type '{kind}' has no `{name}`")))
        };
        match kind {
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|s| usize::try_from(s).ok());
                let size = size.filter(|s| *s <= super::MAX_BLOCK_BYTES);
                Ok(Type::Fixed(size.ok_or_else(|| bad("a fixed type has no usable `size`"))?))
            }
            "enum" => {
                let symbols = list("symbols")?.iter().map(|s| s.as_str().map(str::to_owned));
                let symbols: Option<Vec<String>> = symbols.collect();
                Ok(Type::Enum(Arc::new(symbols.ok_or_else(|| bad("an enum's symbol is not a text"))?)))
            }
            _ => {
                let mut members = Vec::new();
                for field in list("fields")? {
                    let name = field.get("name").and_then(Value::as_str);
                    let name = name.ok_or_else(|| bad("a field of the schema has no name"))?;
                    let kind = field.get("type").ok_or_else(|| bad(format!("the field '{name}' has no type")))?;
                    let mut typed = self.parse(kind, namespace, depth + 1)?;
                    // Tolerated by Avro's libraries: the annotation beside the type instead of inside.
                    if let Some(object) = field.as_object().filter(|_| typed.logical.is_none()) {
                        typed.annotate(object);
                    }
                    let doc = field.get("doc").and_then(Value::as_str).map(str::to_owned);
                    members.push(Member { name: name.to_owned(), doc, typed });
                }
                Ok(Type::Record(Arc::new(members)))
            }
        }
    }
}

impl Typed {
    /// The type without `null` in a union of it and `null`, and the position of `null`.
    pub fn nullable(&self) -> Option<(&Typed, usize)> {
        match &self.base {
            Type::Union(branches) => match branches.as_slice() {
                [a, b] if a.base == Type::Null && b.base != Type::Null => Some((b, 0)),
                [a, b] if b.base == Type::Null && a.base != Type::Null => Some((a, 1)),
                _ => None,
            },
            _ => None,
        }
    }

    fn annotate(&mut self, object: &Map<String, Value>) {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        if self.base == Type::String && text("sqlType").is_some_and(|t| t.eq_ignore_ascii_case("JSON")) {
            self.json = true;
        }
        let number = |name: &str| object.get(name).and_then(Value::as_i64);
        let logical = match (text("logicalType"), &self.base) {
            // An annotation that does not fit its type is ignored, as Avro's specification asks.
            (Some("decimal"), Type::Bytes | Type::Fixed(_)) => {
                let precision = number("precision").and_then(|p| u32::try_from(p).ok()).filter(|p| *p > 0);
                let scale = i32::try_from(number("scale").unwrap_or(0)).ok();
                precision.zip(scale).map(|(precision, scale)| Logical::Decimal { precision, scale })
            }
            (Some("date"), Type::Int) => Some(Logical::Date),
            (Some("time-millis"), Type::Int) => Some(Logical::TimeMillis),
            (Some("time-micros"), Type::Long) => Some(Logical::TimeMicros),
            (Some("timestamp-millis"), Type::Long) => Some(Logical::TimestampMillis),
            (Some("timestamp-micros"), Type::Long) => Some(Logical::TimestampMicros),
            (Some("timestamp-nanos"), Type::Long) => Some(Logical::TimestampNanos),
            (Some("local-timestamp-millis"), Type::Long) => Some(Logical::LocalMillis),
            (Some("local-timestamp-micros"), Type::Long) => Some(Logical::LocalMicros),
            (Some("local-timestamp-nanos"), Type::Long) => Some(Logical::LocalNanos),
            (Some("datetime"), Type::String) => Some(Logical::DateTime),
            (Some("uuid"), Type::String | Type::Fixed(16)) => Some(Logical::Uuid),
            _ => None,
        };
        if logical.is_some() {
            self.logical = logical;
        }
    }
}

fn plain(base: Type) -> Typed {
    Typed { base, logical: None, json: false }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn size(base: &Type) -> usize {
    1 + match base {
        Type::Record(members) => members.iter().map(|m| size(&m.typed.base)).sum(),
        Type::Array(item) | Type::Map(item) => size(&item.base),
        Type::Union(branches) => branches.iter().map(|b| size(&b.base)).sum(),
        _ => 0,
    }
}

/// How BigQuery reads a file for which it was given no schema.
#[derive(Debug, Clone)]
pub struct Inference {
    /// `useAvroLogicalTypes`: without it only decimals are taken at their annotation.
    pub logical_types: bool,
    /// `decimalTargetTypes`, in any order: the first of NUMERIC, BIGNUMERIC, STRING that is listed and holds the
    /// decimal; when none does, the widest that is listed.
    pub decimal_targets: Vec<FieldType>,
}

impl Default for Inference {
    fn default() -> Self {
        Self { logical_types: true, decimal_targets: vec![FieldType::Numeric, FieldType::BigNumeric] }
    }
}

// https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-avro#avro_conversions
pub(super) fn infer(members: &[Member], how: &Inference) -> Result<Schema, CodecError> {
    Ok(Schema { fields: infer_fields(members, how, "", 1)? })
}

fn infer_fields(members: &[Member], how: &Inference, parent: &str, depth: usize) -> Result<Vec<Field>, CodecError> {
    if depth > MAX_DEPTH {
        return Err(CodecError::schema(parent, format!("records are nested deeper than {MAX_DEPTH} levels")));
    }
    let mut fields = Vec::with_capacity(members.len());
    for member in members {
        let path = if parent.is_empty() { member.name.clone() } else { format!("{parent}.{}", member.name) };
        if let Some(mut field) = infer_field(&member.name, &member.typed, Mode::Required, how, &path, depth)? {
            field.description = member.doc.clone();
            fields.push(field);
        }
    }
    Ok(fields)
}

fn infer_field(
    name: &str,
    typed: &Typed,
    mode: Mode,
    how: &Inference,
    path: &str,
    depth: usize,
) -> Result<Option<Field>, CodecError> {
    if let Some((inner, _)) = typed.nullable() {
        let mode = if mode == Mode::Required { Mode::Nullable } else { mode };
        return infer_field(name, inner, mode, how, path, depth);
    }
    let scalar = |kind| Ok(Some(Field::new(name, kind, mode)));
    let logical = typed.logical.filter(|l| how.logical_types || matches!(l, Logical::Decimal { .. }));
    match (&typed.base, logical) {
        // BigQuery ignores a column that can only be null.
        (Type::Null, _) => Ok(None),
        (_, Some(Logical::Decimal { precision, scale })) => {
            let (kind, precision, scale) = decimal_target(precision, scale, &how.decimal_targets);
            Ok(Some(Field { precision, scale, ..Field::new(name, kind, mode) }))
        }
        (_, Some(Logical::Date)) => scalar(FieldType::Date),
        (_, Some(Logical::TimeMillis | Logical::TimeMicros)) => scalar(FieldType::Time),
        (_, Some(Logical::TimestampMillis | Logical::TimestampMicros)) => scalar(FieldType::Timestamp),
        (_, Some(Logical::LocalMillis | Logical::LocalMicros)) => scalar(FieldType::DateTime),
        (Type::Boolean, _) => scalar(FieldType::Bool),
        (Type::Int | Type::Long, _) => scalar(FieldType::Int64),
        (Type::Float | Type::Double, _) => scalar(FieldType::Float64),
        (Type::Bytes | Type::Fixed(_), _) => scalar(FieldType::Bytes),
        (Type::String, _) if typed.json => scalar(FieldType::Json),
        (Type::String | Type::Enum(_), _) => scalar(FieldType::String),
        (Type::Record(members), _) => {
            let fields = infer_fields(members, how, path, depth + 1)?;
            if fields.is_empty() {
                return Err(CodecError::schema(path, "is a record without fields"));
            }
            Ok(Some(Field { fields, ..Field::new(name, FieldType::Struct, mode) }))
        }
        (Type::Array(_), _) if mode == Mode::Repeated => {
            Err(CodecError::schema(path, "is an array of arrays, which BigQuery cannot hold"))
        }
        (Type::Array(item), _) => infer_field(name, item, Mode::Repeated, how, path, depth),
        (Type::Map(values), _) => {
            let key = Field::required("key", FieldType::String);
            let value = infer_field("value", values, Mode::Required, how, path, depth + 1)?;
            let fields = std::iter::once(key).chain(value).collect();
            Ok(Some(Field { fields, ..Field::new(name, FieldType::Struct, Mode::Repeated) }))
        }
        (Type::Union(_), _) => Err(CodecError::schema(
            path,
            "is a union of several types; hint: only unions of null and one other type are read",
        )),
    }
}

/// https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationload `decimalTargetTypes`.
fn decimal_target(precision: u32, scale: i32, targets: &[FieldType]) -> (FieldType, Option<u32>, Option<u32>) {
    let scale = scale.max(0) as u32;
    let whole = precision.saturating_sub(scale);
    let fits = |kind| match kind {
        FieldType::Numeric => whole <= 29 && scale <= 9,
        FieldType::BigNumeric => whole <= 38 && scale <= 38,
        _ => true,
    };
    let order = [FieldType::Numeric, FieldType::BigNumeric, FieldType::String];
    let listed = || order.into_iter().filter(|k| targets.contains(k));
    let kind = listed().find(|k| fits(*k)).or_else(|| listed().next_back()).unwrap_or(FieldType::Numeric);
    (kind, None, None)
}

/// The schema of an extract: a record `Root`, as BigQuery writes it.
///
/// # Errors
/// A RANGE column, or a name that Avro does not allow.
pub(super) fn of_table(schema: &Schema, logical_types: bool) -> Result<Value, CodecError> {
    Ok(json!({ "type": "record", "name": "Root", "fields": members(&schema.fields, logical_types, "root")? }))
}

fn members(fields: &[Field], logical_types: bool, namespace: &str) -> Result<Vec<Value>, CodecError> {
    fields.iter().map(|field| member(field, logical_types, namespace)).collect()
}

fn member(field: &Field, logical_types: bool, namespace: &str) -> Result<Value, CodecError> {
    let name = field.name.as_str();
    let path = || format!("{namespace}.{name}").split_off("root.".len());
    let mut letters = name.chars();
    let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(CodecError::schema(path(), "the name does not fit Avro's rules for names; hint: use Parquet"));
    }
    let annotated = |base: &str, logical: &str| json!({ "type": base, "logicalType": logical });
    let text = |sql: &str| json!({ "type": "string", "sqlType": sql });
    let decimal = |precision: u32, scale: u32| {
        let (precision, scale) = (
            field.precision.unwrap_or(precision),
            match field.precision {
                Some(_) => field.scale.unwrap_or(0),
                None => scale,
            },
        );
        json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
    };
    let element = match field.kind {
        FieldType::Int64 => json!("long"),
        FieldType::Float64 => json!("double"),
        FieldType::Bool => json!("boolean"),
        FieldType::String => json!("string"),
        FieldType::Bytes => json!("bytes"),
        FieldType::Numeric => decimal(38, 9),
        FieldType::BigNumeric => decimal(77, 38),
        FieldType::Timestamp => annotated("long", "timestamp-micros"),
        FieldType::Date if logical_types => annotated("int", "date"),
        FieldType::Time if logical_types => annotated("long", "time-micros"),
        FieldType::DateTime if logical_types => annotated("string", "datetime"),
        FieldType::Date => text("DATE"),
        FieldType::Time => text("TIME"),
        FieldType::DateTime => text("DATETIME"),
        FieldType::Json => text("JSON"),
        FieldType::Geography => text("GEOGRAPHY"),
        FieldType::Interval => text("INTERVAL"),
        FieldType::Range => {
            return Err(CodecError::schema(path(), "Avro extracts do not carry RANGE; hint: use Parquet or JSON"));
        }
        FieldType::Struct => {
            let inner = format!("{namespace}.{}", name.to_ascii_lowercase());
            let mut title = name.to_owned();
            title[..1].make_ascii_uppercase();
            let fields = members(&field.fields, logical_types, &inner)?;
            json!({ "type": "record", "namespace": namespace, "name": title, "fields": fields })
        }
    };
    let kind = match field.mode {
        Mode::Required => element,
        Mode::Nullable => json!(["null", element]),
        Mode::Repeated => json!({ "type": "array", "items": element }),
    };
    let mut member = Map::new();
    member.insert("name".into(), json!(name));
    member.insert("type".into(), kind);
    if let Some(doc) = &field.description {
        member.insert("doc".into(), json!(doc));
    }
    Ok(Value::Object(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(text: &str, how: &Inference) -> String {
        match parse(text.as_bytes()).and_then(|members| infer(&members, how)) {
            Ok(schema) => {
                schema.fields.iter().map(|f| format!("{} {} {}; ", f.name, f.sql_type(), f.mode.name())).collect()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn bigquerys_conversions() {
        let text = r#"{"type":"record","name":"R","namespace":"x.y","fields":[
            {"name":"a","type":["null","int"]},
            {"name":"b","type":{"type":"int","logicalType":"date"}},
            {"name":"c","type":{"type":"array","items":["null",{"type":"enum","name":"E","symbols":["A"]}]}},
            {"name":"d","type":{"type":"map","values":"E"}},
            {"name":"e","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":10}},
            {"name":"f","type":[{"type":"string","sqlType":"JSON"},"null"]},
            {"name":"g","type":"null"},
            {"name":"h","type":{"type":"string","logicalType":"datetime"}},
            {"name":"i","type":{"type":"long","logicalType":"local-timestamp-micros"}}]}"#;
        assert_eq!(
            inferred(text, &Inference::default()),
            "a INT64 NULLABLE; b DATE REQUIRED; c ARRAY<STRING> REPEATED; \
             d ARRAY<STRUCT<`key` STRING, `value` STRING>> REPEATED; e BIGNUMERIC REQUIRED; f JSON NULLABLE; \
             h STRING REQUIRED; i DATETIME REQUIRED; "
        );
        let raw = Inference { logical_types: false, decimal_targets: vec![FieldType::Numeric] };
        assert!(inferred(text, &raw).contains("b INT64 REQUIRED"));
        assert!(inferred(text, &raw).contains("e NUMERIC REQUIRED"));
    }

    #[test]
    fn schemas_that_do_not_end_are_refused() {
        let this = r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#;
        assert!(inferred(this, &Inference::default()).contains("contains itself"));
        let mut laughs = r#"{"type":"record","name":"R0","fields":[{"name":"a","type":"int"}]}"#.to_owned();
        for n in 1..40 {
            laughs = format!(
                r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":{laughs}}},{{"name":"b","type":"R{}"}}]}}"#,
                n - 1
            );
        }
        assert!(inferred(&laughs, &Inference::default()).contains("more than 20000 types"));
        assert!(inferred(&"[".repeat(1000), &Inference::default()).contains("not JSON"));
        assert!(
            inferred(&format!("{}\"int\"{}", "[".repeat(100), "]".repeat(100)), &Inference::default())
                .contains("nested")
        );
    }

    #[test]
    fn what_an_extract_writes_is_understood() {
        let schema = Schema::new(vec![
            Field::required("id", FieldType::Int64),
            Field { description: Some("when".into()), ..Field::nullable("t", FieldType::Timestamp) },
            Field::record(
                "items",
                Mode::Repeated,
                vec![
                    Field::nullable("price", FieldType::Numeric),
                    Field::record("items", Mode::Nullable, vec![Field::nullable("d", FieldType::Date)]),
                ],
            ),
        ]);
        let written = of_table(&schema, true).unwrap();
        let text = written.to_string();
        assert!(text.starts_with(r#"{"type":"record","name":"Root","fields":[{"name":"id","type":"long"}"#), "{text}");
        let read = infer(&parse(text.as_bytes()).unwrap(), &Inference::default()).unwrap();
        assert_eq!(read, schema);
        let strings = of_table(&schema, false).unwrap().to_string();
        assert!(strings.contains(r#"{"name":"d","type":["null",{"type":"string","sqlType":"DATE"}]}"#), "{strings}");
        for (name, kind) in [("größe", FieldType::Int64), ("r", FieldType::Range)] {
            let field = if kind == FieldType::Range {
                Field::range(name, Mode::Nullable, FieldType::Date)
            } else {
                Field::nullable(name, kind)
            };
            assert!(of_table(&Schema::new(vec![field]), true).is_err());
        }
    }
}
