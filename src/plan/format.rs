//! Which file format loses nothing of a table.
//!
//! Facts: https://cloud.google.com/bigquery/docs/exporting-data#export_details (Avro, Parquet).

use crate::config::TableFormat;
use crate::model::schema::{Field, FieldType, Schema};

/// The format for a table whose tier asks for `wanted`, and why it is another one.
///
/// # Errors
/// When no format carries a column: its path and type.
pub(super) fn choose(schema: &Schema, wanted: TableFormat) -> Result<(TableFormat, Option<String>), (String, String)> {
    if let Some((path, field)) = find(schema, &|field| matches!(field.kind, FieldType::Range | FieldType::Interval)) {
        return Err((path, field.sql_type()));
    }
    if wanted == TableFormat::Avro {
        if let Some((path, _)) = find(schema, &|field| field.kind == FieldType::DateTime) {
            let reason = format!("column {path} is a DATETIME, which Avro files do not load back");
            return Ok((TableFormat::Parquet, Some(reason)));
        }
        if let Some((path, _)) = find(schema, &|field| !avro_name(&field.name)) {
            let reason = format!("column {path} has a name that Avro does not allow");
            return Ok((TableFormat::Parquet, Some(reason)));
        }
    }
    Ok((wanted, None))
}

/// https://avro.apache.org/docs/1.12.0/specification/#names
fn avro_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The first field that `is` so, with its path, depth first.
fn find<'a>(schema: &'a Schema, is: &dyn Fn(&Field) -> bool) -> Option<(String, &'a Field)> {
    fn walk<'a>(fields: &'a [Field], path: &str, is: &dyn Fn(&Field) -> bool) -> Option<(String, &'a Field)> {
        fields.iter().find_map(|field| {
            let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
            if is(field) { Some((path, field)) } else { walk(&field.fields, &path, is) }
        })
    }
    walk(&schema.fields, "", is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schema::Mode;

    #[test]
    fn the_format_changes_only_where_a_type_would_be_lost() {
        let nested = |kind| {
            let inner = Field::nullable("inner", kind);
            Schema::new(vec![Field::nullable("id", FieldType::Int64), Field::record("r", Mode::Repeated, vec![inner])])
        };
        assert_eq!(choose(&nested(FieldType::Timestamp), TableFormat::Avro).unwrap(), (TableFormat::Avro, None));
        let (format, reason) = choose(&nested(FieldType::DateTime), TableFormat::Avro).unwrap();
        assert_eq!(format, TableFormat::Parquet);
        assert!(reason.unwrap().contains("r.inner"));
        assert_eq!(choose(&nested(FieldType::DateTime), TableFormat::Parquet).unwrap(), (TableFormat::Parquet, None));
        assert_eq!(
            choose(&nested(FieldType::Interval), TableFormat::Parquet),
            Err(("r.inner".into(), "INTERVAL".into()))
        );
        let flexible = Schema::new(vec![Field::nullable("größe", FieldType::Int64)]);
        assert_eq!(choose(&flexible, TableFormat::Avro).unwrap().0, TableFormat::Parquet);
    }
}
