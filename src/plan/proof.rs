//! The SQL that counts, fingerprints and sums a table, and what its answer means.
//!
//! One scan for everything, since BigQuery bills the scan.

use super::partitions::quoted;
use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{Buckets, ColumnTotals, Fingerprint, TableId, Totals};

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

/// Columns beyond this have no figures of their own, only their part of the fingerprint: a query may be 1 MB long and give
/// 10,000 columns (<https://cloud.google.com/bigquery/quotas#query_jobs>).
const FIGURED_AT_MOST: usize = 500;

/// A BIGNUMERIC column with a value of more digits before the point has no sum: two of the largest are more than SUM can
/// hold, and the whole query would fail (<https://cloud.google.com/bigquery/docs/reference/standard-sql/aggregate_functions#sum>).
const DIGITS_SUMMED: usize = 27;

/// Whether a column has a sum, by its smallest and largest value.
pub fn has_sum(kind: FieldType, ends: [Option<&str>; 2]) -> bool {
    let digits = |text: &str| text.trim_start_matches('-').split('.').next().unwrap_or_default().len();
    kind != FieldType::BigNumeric || ends.into_iter().flatten().all(|end| digits(end) <= DIGITS_SUMMED)
}

/// The columns that have figures, in order.
pub fn figured(schema: &Schema) -> impl Iterator<Item = &Field> {
    schema.fields.iter().filter(|field| has_figures(field)).take(FIGURED_AT_MOST)
}

/// A row as the fingerprint sees it: TO_JSON_STRING of what has a canonical form, with the table's alias `t`.
pub fn row_sql(schema: &Schema) -> Option<String> {
    let columns = fingerprinted(schema)?;
    if columns.len() == schema.fields.len() {
        return Some("TO_JSON_STRING(t)".into());
    }
    columns_sql(schema)
}

/// As [`row_sql`], of these columns by name, whatever else the table has.
pub fn columns_sql(schema: &Schema) -> Option<String> {
    let columns = fingerprinted(schema)?;
    let kept: Vec<String> = columns.iter().map(|i| format!("t.{}", quoted(&schema.fields[*i].name))).collect();
    Some(format!("TO_JSON_STRING(STRUCT({}))", kept.join(", ")))
}

/// The query over `table`: columns `n, x, s, buckets`, then for the i-th figured column `nulls_i, min_i, max_i`, for
/// numbers `sum_i`, for dates `dates_i`.
///
/// Rows are combined by bucket, then the 256 buckets into one row, so that one scan gives both. `filter` is what the table's
/// partitions ask for (`partitions::every_row`), here and below.
pub fn sql(table: &TableId, schema: &Schema, filter: &str) -> String {
    sql_of(table, (schema, row_sql(schema).as_deref()), filter)
}

/// As [`sql`], with the row as the caller wants it seen: by [`row_sql`] or [`columns_sql`].
pub fn sql_of(table: &TableId, (schema, row): (&Schema, Option<&str>), filter: &str) -> String {
    let row = row.unwrap_or("''");
    let mut rows = vec![format!("FARM_FINGERPRINT({row}) AS h")];
    let mut parts = vec![
        "h & 255 AS b".to_string(),
        "COUNT(*) AS n".to_string(),
        "BIT_XOR(h) AS x".to_string(),
        "SUM(CAST(h AS BIGNUMERIC)) AS s".to_string(),
    ];
    let mut whole = vec![
        "IFNULL(SUM(n), 0) AS n".to_string(),
        "BIT_XOR(x) AS x".to_string(),
        "CAST(SUM(s) AS STRING) AS s".to_string(),
        "STRING_AGG(CONCAT(CAST(b AS STRING), ':', CAST(n AS STRING), ':', CAST(s AS STRING)), ' ' ORDER BY b) AS buckets"
            .to_string(),
    ];
    for (i, field) in figured(schema).enumerate() {
        let column = quoted(&field.name);
        rows.push(format!("t.{column} AS c{i}"));
        parts.push(format!("COUNTIF(c{i} IS NULL) AS nulls_{i}"));
        whole.push(format!("IFNULL(SUM(nulls_{i}), 0) AS nulls_{i}"));
        for end in ["min", "max"] {
            let function = end.to_uppercase();
            // NaN is neither least nor greatest.
            let value = match field.kind {
                FieldType::Float64 => format!("IF(IS_NAN(c{i}), NULL, c{i})"),
                _ => format!("c{i}"),
            };
            parts.push(format!("{function}({value}) AS {end}_{i}"));
            let value = match field.kind {
                // Whole microseconds: the text of an instant depends on the session's time zone.
                FieldType::Timestamp => format!("UNIX_MICROS({function}({end}_{i}))"),
                _ => format!("{function}({end}_{i})"),
            };
            whole.push(format!("CAST({value} AS STRING) AS {end}_{i}"));
        }
        let summed = match field.kind {
            FieldType::Int64 | FieldType::Numeric => format!("CAST(c{i} AS BIGNUMERIC)"),
            FieldType::BigNumeric => {
                let bound = format!("1{}", "0".repeat(DIGITS_SUMMED));
                format!("IF(c{i} > BIGNUMERIC '-{bound}' AND c{i} < BIGNUMERIC '{bound}', c{i}, NULL)")
            }
            FieldType::Float64 => format!("c{i}"),
            FieldType::Date => {
                // Distinct days do not add up over buckets. BigQuery bills a column once, however often a query reads it.
                whole.push(format!(
                    "(SELECT COUNT(DISTINCT d.{column}) FROM {} AS d{filter}) AS dates_{i}",
                    table.sql()
                ));
                continue;
            }
            _ => continue,
        };
        parts.push(format!("SUM({summed}) AS sum_{i}"));
        whole.push(format!("CAST(SUM(sum_{i}) AS STRING) AS sum_{i}"));
    }
    format!(
        "SELECT {} FROM (SELECT {} FROM (SELECT {} FROM {} AS t{filter}) GROUP BY b)",
        whole.join(", "),
        parts.join(", "),
        rows.join(", "),
        table.sql()
    )
}

/// The query for how often each hash of some buckets is there: columns `h, n`. `row` is the SQL of a row.
pub fn hashes_sql(table: &TableId, row: &str, filter: &str, buckets: &[u8]) -> String {
    let buckets: Vec<String> = buckets.iter().map(u8::to_string).collect();
    format!(
        "SELECT h, COUNT(*) AS n FROM (SELECT FARM_FINGERPRINT({row}) AS h FROM {} AS t{filter}) WHERE (h & 255) IN ({}) GROUP BY h",
        table.sql(),
        buckets.join(", ")
    )
}

/// The query for the rows of some hashes: columns `h, j`; `row` as in [`hashes_sql`].
pub fn rows_sql(table: &TableId, row: &str, filter: &str, hashes: &[i64]) -> String {
    let hashes: Vec<String> = hashes.iter().map(i64::to_string).collect();
    format!(
        "SELECT h, ANY_VALUE(j) AS j FROM (SELECT j, FARM_FINGERPRINT(j) AS h FROM (SELECT {row} AS j FROM {} AS t{filter})) \
         WHERE h IN ({}) GROUP BY h",
        table.sql(),
        hashes.join(", ")
    )
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
            let buckets = Buckets::parse(&cell("buckets").unwrap_or_default()).map_err(|_| "buckets".to_string())?;
            let all = (0..=u8::MAX).map(|at| buckets.get(at));
            let (rows, sum) = all.fold((0, 0), |(rows, sum), one| (rows + one.row_count, sum + one.sum));
            if rows != row_count || sum != whole("s")? {
                return Err("buckets".into());
            }
            let xor = i64::try_from(whole("x")?).map_err(|_| "x".to_string())?;
            Some(Fingerprint { xor, sum, buckets: Some(buckets) })
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
        let summed = !matches!(field.kind, FieldType::Date | FieldType::Timestamp);
        let (min, max) = (end("min", i, field)?, end("max", i, field)?);
        let summed = summed && has_sum(field.kind, [min.as_deref(), max.as_deref()]);
        columns.push(ColumnTotals {
            name: field.name.clone(),
            kind: field.kind.sql_name().into(),
            null_count: number(&format!("nulls_{i}"))?,
            sum: cell(&format!("sum_{i}")).filter(|_| summed),
            min,
            max,
            distinct_dates: match field.kind {
                FieldType::Date => Some(number(&format!("dates_{i}"))?),
                _ => None,
            },
        });
    }
    Ok(Totals { row_count, fingerprint, columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_leaves_out_what_has_no_canonical_form() {
        let table: TableId = "p.d.t".parse().unwrap();
        let whole =
            Schema::new(vec![Field::required("id", FieldType::Int64), Field::nullable("name", FieldType::String)]);
        assert!(sql(&table, &whole, "").contains("TO_JSON_STRING(t)"));
        let loose = Schema::new(vec![
            Field::required("id", FieldType::Int64),
            Field::nullable("doc", FieldType::Json),
            Field::record("r", Mode::Nullable, vec![Field::nullable("where", FieldType::Geography)]),
        ]);
        assert!(sql(&table, &loose, "").contains("TO_JSON_STRING(STRUCT(t.`id`))"));
        let none = Schema::new(vec![Field::nullable("doc", FieldType::Json)]);
        assert_eq!(fingerprinted(&none), None);
    }

    #[test]
    fn what_sum_cannot_hold_is_not_summed() {
        let schema = Schema::new(vec![Field::nullable("g", FieldType::BigNumeric)]);
        let table: TableId = "p.d.t".parse().unwrap();
        let bound = "BIGNUMERIC '1000000000000000000000000000'";
        assert!(sql(&table, &schema, "").contains(&format!("c0 < {bound}, c0, NULL)")));
        let (small, large) = ("-999999999999999999999999999.9", "1000000000000000000000000000");
        assert!(has_sum(FieldType::BigNumeric, [Some(small), None]));
        assert!(!has_sum(FieldType::BigNumeric, [Some(small), Some(large)]));
        assert!(has_sum(FieldType::Numeric, [Some("-1"), Some("99999999999999999999999999999")]));
    }

    #[test]
    fn an_empty_table_has_a_fingerprint() {
        let schema = Schema::new(vec![Field::required("id", FieldType::Int64)]);
        let cell = |name: &str| matches!(name, "n" | "nulls_0").then(|| "0".to_string());
        let totals = read(&schema, &cell).unwrap();
        let none = Fingerprint { xor: 0, sum: 0, buckets: Some(Buckets::empty()) };
        assert_eq!(totals.fingerprint, Some(none));
        assert_eq!(read(&schema, &|_| None), Err("n".into()));
    }

    #[test]
    fn buckets_must_add_up() {
        let schema = Schema::new(vec![Field::required("id", FieldType::String)]);
        let cell = |buckets: &'static str| {
            move |name: &str| {
                let text = match name {
                    "n" => "3",
                    "x" => "1",
                    "s" => "-5",
                    "buckets" => buckets,
                    _ => return None,
                };
                Some(text.to_string())
            }
        };
        let totals = read(&schema, &cell("0:1:-9 255:2:4")).unwrap();
        assert_eq!(totals.fingerprint.unwrap().buckets.unwrap().get(255).row_count, 2);
        for wrong in ["0:1:-9", "0:1:-9 255:2:5", "0:1:-9 256:2:4", ""] {
            assert_eq!(read(&schema, &cell(wrong)), Err("buckets".into()), "{wrong}");
        }
    }
}
