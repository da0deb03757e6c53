//! The one mapping between BigQuery's types and Arrow's, used by every codec and by whoever holds rows in memory.
//!
//! | BigQuery | Arrow |
//! |---|---|
//! | INT64, FLOAT64, BOOL | Int64, Float64, Boolean |
//! | STRING, JSON, GEOGRAPHY (WKT), INTERVAL (`Y-M D H:M:S.F`) | Utf8 |
//! | BYTES | Binary |
//! | NUMERIC, BIGNUMERIC | Decimal128(38, 9), Decimal256(76, 38) |
//! | DATE, TIME | Date32, Time64(us) |
//! | DATETIME, TIMESTAMP | Timestamp(us), Timestamp(us, "UTC") |
//! | `RANGE<T>` | Struct { start: T, end: T } |
//! | STRUCT | Struct |
//! | REPEATED | List(item, not null), itself not null |

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};

use super::error::CodecError;
use crate::model::schema::{Field, FieldType, MAX_DEPTH, Mode, Schema};

/// Metadata key of every Arrow field: the standard SQL name of its type. A list carries its element's.
pub const TYPE_KEY: &str = "bigquery.type";
const PRECISION_KEY: &str = "bigquery.precision";
const SCALE_KEY: &str = "bigquery.scale";
const MAX_LENGTH_KEY: &str = "bigquery.max_length";
const DESCRIPTION_KEY: &str = "bigquery.description";
/// The name of a list's element.
pub const ITEM: &str = "item";

/// The Arrow schema of a table.
pub fn arrow_schema(schema: &Schema) -> SchemaRef {
    Arc::new(ArrowSchema::new(schema.fields.iter().map(arrow_field).collect::<Vec<_>>()))
}

/// The Arrow field of a column, with its type in the metadata.
pub fn arrow_field(field: &Field) -> ArrowField {
    let metadata = metadata(field);
    let element = element_type(field);
    match field.mode {
        Mode::Repeated => {
            let item = ArrowField::new(ITEM, element, false).with_metadata(metadata.clone());
            ArrowField::new(&field.name, DataType::List(Arc::new(item)), false).with_metadata(metadata)
        }
        mode => ArrowField::new(&field.name, element, mode == Mode::Nullable).with_metadata(metadata),
    }
}

/// The Arrow type of one value of the field: for REPEATED that of an element.
pub fn element_type(field: &Field) -> DataType {
    match field.kind {
        FieldType::Struct | FieldType::Range => DataType::Struct(children(field).iter().map(arrow_field).collect()),
        kind => scalar_type(kind),
    }
}

/// The fields below a field: of a STRUCT its own, of a RANGE `start` and `end`, otherwise none.
pub fn children(field: &Field) -> std::borrow::Cow<'_, [Field]> {
    match field.kind {
        FieldType::Range => {
            let element = field.range_element.unwrap_or(FieldType::Date);
            vec![Field::nullable("start", element), Field::nullable("end", element)].into()
        }
        _ => field.fields.as_slice().into(),
    }
}

/// The BigQuery schema of an Arrow schema: from the metadata where it is there, from the Arrow types otherwise.
///
/// # Errors
/// When an Arrow type has no counterpart in BigQuery (a map, a union, a list of lists, ...).
pub fn bigquery_schema(schema: &ArrowSchema) -> Result<Schema, CodecError> {
    let fields = schema.fields().iter().map(|f| bigquery_field(f, "", 1)).collect::<Result<_, _>>()?;
    Ok(Schema { fields })
}

fn scalar_type(kind: FieldType) -> DataType {
    match kind {
        FieldType::Int64 => DataType::Int64,
        FieldType::Float64 => DataType::Float64,
        FieldType::Bool => DataType::Boolean,
        FieldType::Bytes => DataType::Binary,
        FieldType::Numeric => DataType::Decimal128(38, 9),
        FieldType::BigNumeric => DataType::Decimal256(76, 38),
        FieldType::Date => DataType::Date32,
        FieldType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        FieldType::Time => DataType::Time64(TimeUnit::Microsecond),
        FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        FieldType::String | FieldType::Json | FieldType::Geography | FieldType::Interval => DataType::Utf8,
        // Not scalars; `element_type` has taken them.
        FieldType::Range | FieldType::Struct => DataType::Struct(Fields::empty()),
    }
}

fn metadata(field: &Field) -> HashMap<String, String> {
    let mut metadata = HashMap::from([(TYPE_KEY.to_owned(), field.kind.sql_name().to_owned())]);
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value);
        }
    };
    put(PRECISION_KEY, field.precision.map(|n| n.to_string()));
    put(SCALE_KEY, field.scale.map(|n| n.to_string()));
    put(MAX_LENGTH_KEY, field.max_length.map(|n| n.to_string()));
    put(DESCRIPTION_KEY, field.description.clone());
    metadata
}

fn bigquery_field(arrow: &ArrowField, parent: &str, depth: usize) -> Result<Field, CodecError> {
    let path = if parent.is_empty() { arrow.name().clone() } else { format!("{parent}.{}", arrow.name()) };
    if depth > MAX_DEPTH {
        return Err(CodecError::schema(path, format!("records are nested deeper than {MAX_DEPTH} levels")));
    }
    let (element, mode) = match arrow.data_type() {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => (item.data_type(), Mode::Repeated),
        other => (other, if arrow.is_nullable() { Mode::Nullable } else { Mode::Required }),
    };
    let element = if let DataType::Dictionary(_, value) = element { value.as_ref() } else { element };
    let told = arrow.metadata().get(TYPE_KEY).and_then(|name| name.parse::<FieldType>().ok());
    let kind = match told {
        // Believed only when the Arrow type is the mapping's own: metadata survives casts.
        Some(kind) if agrees(kind, element) => kind,
        _ => natural(element).ok_or_else(|| {
            CodecError::schema(&path, format!("the Arrow type {element} has no counterpart in BigQuery"))
        })?,
    };
    let mut field = Field::new(arrow.name(), kind, mode);
    if let DataType::Struct(inner) = element {
        if kind == FieldType::Range {
            field.range_element = inner.first().and_then(|f| natural(f.data_type()));
        } else {
            field.fields = inner.iter().map(|f| bigquery_field(f, &path, depth + 1)).collect::<Result<_, _>>()?;
        }
    }
    let text = |key: &str| arrow.metadata().get(key);
    field.precision = text(PRECISION_KEY).and_then(|t| t.parse().ok());
    field.scale = text(SCALE_KEY).and_then(|t| t.parse().ok());
    field.max_length = text(MAX_LENGTH_KEY).and_then(|t| t.parse().ok());
    field.description = text(DESCRIPTION_KEY).cloned();
    Ok(field)
}

fn agrees(kind: FieldType, arrow: &DataType) -> bool {
    match kind {
        FieldType::Range => {
            let ends: Vec<_> = match arrow {
                DataType::Struct(fields) => {
                    fields.iter().map(|f| (f.name().as_str(), natural(f.data_type()))).collect()
                }
                _ => return false,
            };
            matches!(ends.as_slice(), [("start", Some(a)), ("end", Some(b))] if a == b
                && matches!(a, FieldType::Date | FieldType::DateTime | FieldType::Timestamp))
        }
        FieldType::Struct => matches!(arrow, DataType::Struct(_)),
        FieldType::Json | FieldType::Geography | FieldType::Interval => natural(arrow) == Some(FieldType::String),
        FieldType::BigNumeric => matches!(natural(arrow), Some(FieldType::BigNumeric | FieldType::Numeric)),
        _ => natural(arrow) == Some(kind),
    }
}

/// The BigQuery type that holds every value of an Arrow type (bounds aside), if there is one.
fn natural(arrow: &DataType) -> Option<FieldType> {
    Some(match arrow {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => FieldType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => FieldType::Int64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => FieldType::Float64,
        DataType::Boolean => FieldType::Bool,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => FieldType::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            FieldType::Bytes
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            let integer_digits = i16::from(*p) - i16::from(*s);
            if *s <= 9 && integer_digits <= 29 { FieldType::Numeric } else { FieldType::BigNumeric }
        }
        DataType::Date32 | DataType::Date64 => FieldType::Date,
        DataType::Time32(_) | DataType::Time64(_) => FieldType::Time,
        DataType::Timestamp(_, None) => FieldType::DateTime,
        DataType::Timestamp(_, Some(_)) => FieldType::Timestamp,
        DataType::Struct(fields) if !fields.is_empty() => FieldType::Struct,
        // A column of nothing but nulls, as DataFusion and pyarrow make of an untyped NULL.
        DataType::Null => FieldType::String,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_types() -> Schema {
        let mut fields = Vec::new();
        for kind in FieldType::ALL {
            for mode in [Mode::Nullable, Mode::Required, Mode::Repeated] {
                let name = format!("{}_{}", kind.sql_name(), mode.name());
                fields.push(match kind {
                    FieldType::Struct => Field::record(
                        name,
                        mode,
                        vec![Field::repeated("a", FieldType::Json), Field::nullable("b", FieldType::Date)],
                    ),
                    FieldType::Range => Field::range(name, mode, FieldType::DateTime),
                    _ => Field::new(name, kind, mode),
                });
            }
        }
        fields.push(Field { precision: Some(10), scale: Some(2), ..Field::nullable("p", FieldType::Numeric) });
        fields.push(Field { max_length: Some(3), ..Field::nullable("l", FieldType::String) });
        Schema { fields }
    }

    #[test]
    fn the_mapping_goes_there_and_back() {
        let schema = all_types();
        assert_eq!(bigquery_schema(&arrow_schema(&schema)).unwrap(), schema);
    }

    #[test]
    fn without_metadata_the_arrow_types_decide() {
        let arrow = ArrowSchema::new(vec![
            ArrowField::new("a", DataType::Int32, true),
            ArrowField::new("b", DataType::Decimal128(38, 10), false),
            ArrowField::new("c", DataType::new_list(DataType::Utf8View, true), true),
        ]);
        let schema = bigquery_schema(&arrow).unwrap();
        let got: Vec<_> = schema.fields.iter().map(|f| (f.kind, f.mode)).collect();
        let want = [
            (FieldType::Int64, Mode::Nullable),
            (FieldType::BigNumeric, Mode::Required),
            (FieldType::String, Mode::Repeated),
        ];
        assert_eq!(got, want);
        let nested = DataType::new_list(DataType::new_list(DataType::Int64, true), true);
        assert!(bigquery_schema(&ArrowSchema::new(vec![ArrowField::new("x", nested, true)])).is_err());
    }
}
