//! The SQL that counts, fingerprints and sums a table, and what its answer means.
//!
//! One scan for everything, since BigQuery bills the scan.

use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{ColumnTotals, Fingerprint, TableId, Totals};

/// The columns that take part in the fingerprint, by their place; `None` when there is none.
///
/// JSON and GEOGRAPHY have no canonical TO_JSON_STRING form, also not inside a STRUCT.
pub fn fingerprinted(schema: &Schema) -> Option<Vec<usize>> {
    fn loose(field: &Field) -> bool {
        matches!(field.kind, FieldType::Json | FieldType::Geography) || field.fields.iter().any(loose)
    }
    let kept: Vec<usize> = (0..schema.fields.len()).filter(|i| !loose(&schema.fields[*i])).collect();
    if kept.is_empty() { None } else { Some(kept) }
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
    let row = match fingerprinted(schema) {
        Some(columns) if columns.len() == schema.fields.len() => "TO_JSON_STRING(t)".to_string(),
        Some(columns) => {
            let kept: Vec<String> = columns.iter().map(|i| format!("t.{}", quoted(&schema.fields[*i].name))).collect();
            format!("TO_JSON_STRING(STRUCT({}))", kept.join(", "))
        }
        None => "''".to_string(),
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
        for end in ["MIN", "MAX"] {
            let value = match field.kind {
                // Whole microseconds: the text of an instant depends on the session's time zone.
                FieldType::Timestamp => format!("UNIX_MICROS({end}(c{i}))"),
                // NaN is neither least nor greatest.
                FieldType::Float64 => format!("{end}(IF(IS_NAN(c{i}), NULL, c{i}))"),
                _ => format!("{end}(c{i})"),
            };
            outer.push(format!("CAST({value} AS STRING) AS {}_{i}", end.to_lowercase()));
        }
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
    let fingerprint = match fingerprinted(schema) {
        Some(_) => {
            Some(Fingerprint { xor: i64::try_from(whole("x")?).map_err(|_| "x".to_string())?, sum: whole("s")? })
        }
        None => None,
    };
    let end = |which: &str, i: usize, field: &Field| -> Result<Option<String>, String> {
        let name = format!("{which}_{i}");
        match cell(&name) {
            Some(micros) if field.kind == FieldType::Timestamp => {
                let micros: i64 = micros.parse().map_err(|_| name)?;
                Ok(Some(value::to_text(|out| value::write_timestamp(micros, out))))
            }
            text => Ok(text),
        }
    };
    let mut columns = Vec::new();
    for (i, field) in figured(schema).enumerate() {
        let has_sum = !matches!(field.kind, FieldType::Date | FieldType::Timestamp);
        columns.push(ColumnTotals {
            name: field.name.clone(),
            kind: field.kind.sql_name().into(),
            null_count: number(&format!("nulls_{i}"))?,
            sum: cell(&format!("sum_{i}")).filter(|_| has_sum),
            min: end("min", i, field)?,
            max: end("max", i, field)?,
        });
    }
    Ok(Totals { row_count, fingerprint, columns })
}

/// A column's name between back quotes.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_leaves_out_what_has_no_canonical_form() {
        let table: TableId = "p.d.t".parse().unwrap();
        let whole =
            Schema::new(vec![Field::required("id", FieldType::Int64), Field::nullable("name", FieldType::String)]);
        assert!(sql(&table, &whole).contains("TO_JSON_STRING(t)"));
        let loose = Schema::new(vec![
            Field::required("id", FieldType::Int64),
            Field::nullable("doc", FieldType::Json),
            Field::record("r", Mode::Nullable, vec![Field::nullable("where", FieldType::Geography)]),
        ]);
        assert!(sql(&table, &loose).contains("TO_JSON_STRING(STRUCT(t.`id`))"));
        let none = Schema::new(vec![Field::nullable("doc", FieldType::Json)]);
        assert_eq!(fingerprinted(&none), None);
    }

    #[test]
    fn an_empty_table_has_a_fingerprint() {
        let schema = Schema::new(vec![Field::required("id", FieldType::Int64)]);
        let cell = |name: &str| matches!(name, "n" | "nulls_0").then(|| "0".to_string());
        let totals = read(&schema, &cell).unwrap();
        assert_eq!(totals.fingerprint, Some(Fingerprint { xor: 0, sum: 0 }));
        assert_eq!(read(&schema, &|_| None), Err("n".into()));
    }
}
