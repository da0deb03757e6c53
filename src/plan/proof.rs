//! The SQL that counts, fingerprints and sums a table, and what its answer means.
//!
//! One scan, grouped by 256 buckets of the row's hash: the buckets localise a difference, and add up to the table.

use serde::Serialize;

use crate::model::TableId;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// How a table can be fingerprinted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Canonical {
    /// Every column's JSON form is canonical.
    Whole,
    /// These top-level columns are left out of the fingerprint, because their JSON form is not canonical.
    Without(Vec<String>),
}

/// Which columns take part in the fingerprint.
///
/// JSON and GEOGRAPHY have no canonical TO_JSON_STRING form, also not inside a STRUCT.
pub fn canonical(schema: &Schema) -> Canonical {
    fn loose(field: &Field) -> bool {
        matches!(field.kind, FieldType::Json | FieldType::Geography) || field.fields.iter().any(loose)
    }
    let without: Vec<String> = schema.fields.iter().filter(|f| loose(f)).map(|f| f.name.clone()).collect();
    if without.is_empty() { Canonical::Whole } else { Canonical::Without(without) }
}

/// A column whose figures people compare: null count, sum where it has one, smallest and largest value.
pub fn has_figures(field: &Field) -> bool {
    field.mode != Mode::Repeated
        && matches!(
            field.kind,
            FieldType::Int64
                | FieldType::Float64
                | FieldType::Numeric
                | FieldType::BigNumeric
                | FieldType::Date
                | FieldType::Timestamp
        )
}

/// The query over `table`: columns `bucket, n, x, s`, then for the i-th figured column `nulls_i, min_i, max_i` and, for
/// numbers, `sum_i`.
pub fn sql(table: &TableId, schema: &Schema) -> String {
    let row = match canonical(schema) {
        Canonical::Whole => "TO_JSON_STRING(t)".to_string(),
        Canonical::Without(columns) if columns.len() == schema.fields.len() => "''".to_string(),
        Canonical::Without(columns) => {
            let kept: Vec<String> = schema
                .fields
                .iter()
                .filter(|field| !columns.contains(&field.name))
                .map(|field| format!("t.{}", quoted(&field.name)))
                .collect();
            format!("TO_JSON_STRING(STRUCT({}))", kept.join(", "))
        }
    };
    let mut inner = vec![format!("FARM_FINGERPRINT({row}) AS strongroom_h")];
    let mut outer = vec![
        "strongroom_h & 255 AS bucket".to_string(),
        "COUNT(*) AS n".to_string(),
        "BIT_XOR(strongroom_h) AS x".to_string(),
        "CAST(SUM(CAST(strongroom_h AS BIGNUMERIC)) AS STRING) AS s".to_string(),
    ];
    for (i, field) in schema.fields.iter().filter(|field| has_figures(field)).enumerate() {
        inner.push(format!("t.{} AS c{i}", quoted(&field.name)));
        outer.push(format!("COUNTIF(c{i} IS NULL) AS nulls_{i}"));
        outer.push(format!("CAST(MIN(c{i}) AS STRING) AS min_{i}"));
        outer.push(format!("CAST(MAX(c{i}) AS STRING) AS max_{i}"));
        match field.kind {
            FieldType::Int64 | FieldType::Numeric | FieldType::BigNumeric => {
                outer.push(format!("CAST(SUM(CAST(c{i} AS BIGNUMERIC)) AS STRING) AS sum_{i}"));
            }
            FieldType::Float64 => outer.push(format!("CAST(SUM(c{i}) AS STRING) AS sum_{i}")),
            _ => {}
        }
    }
    format!(
        "SELECT {} FROM (SELECT {} FROM {} AS t) GROUP BY bucket ORDER BY bucket",
        outer.join(", "),
        inner.join(", "),
        table.sql()
    )
}

/// A column's name between back quotes.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
