//! The SQL that counts, fingerprints and sums a table, and what its answer means.
//!
//! One scan for everything, since BigQuery bills the scan.

use serde::Serialize;

use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{ColumnTotals, Fingerprint, TableId, Totals};

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
fn has_figures(field: &Field) -> bool {
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

/// The columns that have figures, in order.
pub fn figured(schema: &Schema) -> impl Iterator<Item = &Field> {
    schema.fields.iter().filter(|field| has_figures(field))
}

/// The query over `table`: columns `n, x, s`, then for the i-th figured column `nulls_i, min_i, max_i` and, for numbers,
/// `sum_i`.
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
    let mut inner = vec![format!("FARM_FINGERPRINT({row}) AS h")];
    let mut outer = vec![
        "COUNT(*) AS n".to_string(),
        "BIT_XOR(h) AS x".to_string(),
        "CAST(SUM(CAST(h AS BIGNUMERIC)) AS STRING) AS s".to_string(),
    ];
    for (i, field) in figured(schema).enumerate() {
        inner.push(format!("t.{} AS c{i}", quoted(&field.name)));
        outer.push(format!("COUNTIF(c{i} IS NULL) AS nulls_{i}"));
        // Instants as whole microseconds: their text depends on the session's time zone.
        let (from, to) = if field.kind == FieldType::Timestamp { ("UNIX_MICROS(", ")") } else { ("", "") };
        outer.push(format!("CAST({from}MIN(c{i}){to} AS STRING) AS min_{i}"));
        outer.push(format!("CAST({from}MAX(c{i}){to} AS STRING) AS max_{i}"));
        match field.kind {
            FieldType::Int64 | FieldType::Numeric | FieldType::BigNumeric => {
                outer.push(format!("CAST(SUM(CAST(c{i} AS BIGNUMERIC)) AS STRING) AS sum_{i}"));
            }
            FieldType::Float64 => outer.push(format!("CAST(SUM(c{i}) AS STRING) AS sum_{i}")),
            _ => {}
        }
    }
    format!("SELECT {} FROM (SELECT {} FROM {} AS t)", outer.join(", "), inner.join(", "), table.sql())
}

/// Reads the query's one row; `cell` answers its cells by column.
///
/// # Errors
/// The name of the cell that is not as the query promises.
pub fn read(schema: &Schema, cell: &dyn Fn(&str) -> Option<String>) -> Result<Totals, String> {
    let number = |name: &str| cell(name).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| name.to_string());
    let row_count = number("n")?;
    // Without rows there is nothing to combine, and SQL gives NULL.
    let whole = |name: &str| match cell(name) {
        None if row_count == 0 => Ok(0),
        text => text.and_then(|text| text.parse::<i128>().ok()).ok_or_else(|| name.to_string()),
    };
    let fingerprint = match canonical(schema) {
        Canonical::Without(columns) if columns.len() == schema.fields.len() => None,
        _ => Some(Fingerprint { xor: i64::try_from(whole("x")?).map_err(|_| "x".to_string())?, sum: whole("s")? }),
    };
    let mut columns = Vec::new();
    for (i, field) in figured(schema).enumerate() {
        let has_sum = !matches!(field.kind, FieldType::Date | FieldType::Timestamp);
        columns.push(ColumnTotals {
            name: field.name.clone(),
            kind: field.kind.sql_name().into(),
            null_count: number(&format!("nulls_{i}"))?,
            sum: cell(&format!("sum_{i}")).filter(|_| has_sum),
            min: cell(&format!("min_{i}")),
            max: cell(&format!("max_{i}")),
        });
    }
    Ok(Totals { row_count, fingerprint, columns })
}

/// A column's name between back quotes.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
