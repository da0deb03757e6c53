//! Tables of many partitions: BigQuery's limits, and how one load is split so that it stays under them.
//!
//! A job may change 4,000 partitions, a table may have 10,000
//! (<https://cloud.google.com/bigquery/quotas#partitioned_tables>). Files cannot be divided by partition after the fact, so
//! what is too much for one load goes into a table without partitions first, and from there in parts.

use serde_json::Value;

use crate::model::TableId;
use crate::model::schema::{FieldType, Schema};

/// Partitions that one job writes. Less than the 4,000 allowed: rows without a value, and those outside a range, have
/// partitions of their own.
pub const OF_A_JOB: usize = 3_900;

/// Whether a load of so many partitions has to be split. Google's count may lag behind by some minutes, hence a margin.
pub fn must_split(partition_count: u64) -> bool {
    partition_count > OF_A_JOB as u64
}

/// By which column a table is partitioned, and into what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioning {
    column: String,
    kind: FieldType,
    /// The start of a row's partition, as SQL.
    start: String,
    /// Which rows have one.
    within: String,
}

impl Partitioning {
    /// Of a table's resource; `None` when no column of it partitions it.
    pub fn of(resource: &Value, schema: &Schema) -> Option<Self> {
        let time = &resource["timePartitioning"];
        let range = &resource["rangePartitioning"];
        let column = time["field"].as_str().or(range["field"].as_str()).filter(|name| !name.is_empty())?;
        let field = schema.field(column)?;
        let name = quoted(&field.name);
        let unit = time["type"].as_str().unwrap_or("DAY");
        let (start, within) = match field.kind {
            FieldType::Date => (format!("DATE_TRUNC({name}, {unit})"), format!("{name} IS NOT NULL")),
            FieldType::DateTime => (format!("DATETIME_TRUNC({name}, {unit})"), format!("{name} IS NOT NULL")),
            FieldType::Timestamp => (format!("TIMESTAMP_TRUNC({name}, {unit})"), format!("{name} IS NOT NULL")),
            FieldType::Int64 => {
                let bound = |key: &str| int64(&range["range"][key]);
                let (start, end, interval) = (bound("start").unwrap_or(0), bound("end")?, bound("interval")?);
                let from = format!("{start} + DIV({name} - {start}, {interval}) * {interval}");
                (from, format!("{name} >= {start} AND {name} < {end}"))
            }
            _ => return None,
        };
        Some(Self { column: field.name.clone(), kind: field.kind, start, within })
    }

    /// The column that decides.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// The query that gives the start of every partition that `table` has rows for, in order.
    pub fn starts_sql(&self, table: &TableId) -> String {
        let Self { start, within, .. } = self;
        let table = table.sql();
        format!(
            "SELECT CAST(p AS STRING) AS p FROM (SELECT DISTINCT {start} AS p FROM {table} WHERE {within}) AS s ORDER BY s.p"
        )
    }

    /// Conditions that part all rows, each for at most [`OF_A_JOB`] partitions; `starts` are in order.
    pub fn parts(&self, starts: &[String]) -> Vec<String> {
        let column = quoted(&self.column);
        let value = |text: &str| format!("CAST('{}' AS {})", text.replace('\'', ""), self.kind.sql_name());
        let firsts: Vec<&String> = starts.chunks(OF_A_JOB).filter_map(<[String]>::first).collect();
        if firsts.len() < 2 {
            return vec!["TRUE".into()];
        }
        // Open at both ends: what lies before, behind and nowhere belongs to somebody.
        (0..firsts.len())
            .map(|i| match (i, firsts.get(i + 1)) {
                (0, Some(next)) => format!("({column} < {} OR {column} IS NULL)", value(next)),
                (_, Some(next)) => format!("{column} >= {} AND {column} < {}", value(firsts[i]), value(next)),
                (_, None) => format!("{column} >= {}", value(firsts[i])),
            })
            .collect()
    }
}

/// What a query of all rows must say of a table that asks for a filter on its partitions: a condition that every row meets;
/// nothing for every other table.
///
/// It names the partitioning column and nothing else, as BigQuery demands
/// (<https://cloud.google.com/bigquery/docs/querying-partitioned-tables#require_a_partition_filter_in_queries>).
pub fn every_row(resource: &Value) -> String {
    let time = &resource["timePartitioning"];
    // The filter could be asked for here, too, before it became a field of the table.
    if resource["requirePartitionFilter"] != true && time["requirePartitionFilter"] != true {
        return String::new();
    }
    let range = &resource["rangePartitioning"];
    let (name, least) = match (time["field"].as_str(), range["field"].as_str()) {
        (_, Some(column)) => (quoted(column), format!("{}", i64::MIN)),
        (Some(column), None) if !column.is_empty() => {
            let schema = Schema::from_json(&resource["schema"]).unwrap_or_default();
            let kind = schema.field(column).map_or(FieldType::Timestamp, |field| field.kind);
            (quoted(column), format!("CAST('0001-01-01' AS {})", kind.sql_name()))
        }
        _ => ("_PARTITIONTIME".into(), "CAST('0001-01-01' AS TIMESTAMP)".into()),
    };
    format!(" WHERE {name} >= {least} OR {name} IS NULL")
}

fn int64(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A column's name between back quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::schema::Field;

    fn schema() -> Schema {
        let field = |name: &str, kind| Field::nullable(name, kind);
        Schema::new(vec![field("Day", FieldType::Date), field("n", FieldType::Int64), field("s", FieldType::String)])
    }

    #[test]
    fn every_row_belongs_to_one_part() {
        let resource = json!({"timePartitioning": {"type": "MONTH", "field": "day"}});
        let by_month = Partitioning::of(&resource, &schema()).unwrap();
        let table: TableId = "p.d.t".parse().unwrap();
        assert!(by_month.starts_sql(&table).contains("DATE_TRUNC(`Day`, MONTH)"), "{}", by_month.starts_sql(&table));
        assert_eq!(by_month.parts(&[]), ["TRUE"]);
        let starts: Vec<String> = (0..=2 * OF_A_JOB).map(|i| format!("{i:05}")).collect();
        assert_eq!(by_month.parts(&starts[..OF_A_JOB]), ["TRUE"]);
        assert_eq!(
            by_month.parts(&starts),
            [
                "(`Day` < CAST('03900' AS DATE) OR `Day` IS NULL)",
                "`Day` >= CAST('03900' AS DATE) AND `Day` < CAST('07800' AS DATE)",
                "`Day` >= CAST('07800' AS DATE)",
            ]
        );
    }

    #[test]
    fn a_filter_that_is_asked_for_lets_every_row_pass() {
        let schema = schema().to_json();
        let of = |partitioning: Value| {
            let mut resource = json!({"requirePartitionFilter": true, "schema": schema});
            resource.as_object_mut().unwrap().extend(partitioning.as_object().cloned().unwrap());
            every_row(&resource)
        };
        let by_day = json!({"timePartitioning": {"type": "DAY", "field": "Day"}});
        assert_eq!(of(by_day.clone()), " WHERE `Day` >= CAST('0001-01-01' AS DATE) OR `Day` IS NULL");
        let range = json!({"rangePartitioning": {"field": "n"}});
        assert_eq!(of(range), " WHERE `n` >= -9223372036854775808 OR `n` IS NULL");
        assert!(of(json!({"timePartitioning": {"type": "DAY"}})).contains("_PARTITIONTIME IS NULL"));
        assert_eq!(every_row(&by_day), "");
    }

    #[test]
    fn only_a_column_divides() {
        let range = json!({"field": "n", "range": {"start": "-10", "end": "90", "interval": "5"}});
        let by_range = Partitioning::of(&json!({"rangePartitioning": range}), &schema()).unwrap();
        assert!(by_range.start.contains("-10 + DIV(`n` - -10, 5) * 5"), "{}", by_range.start);
        for none in
            [json!({}), json!({"timePartitioning": {"type": "DAY"}}), json!({"timePartitioning": {"field": "s"}})]
        {
            assert_eq!(Partitioning::of(&none, &schema()), None);
        }
    }
}
