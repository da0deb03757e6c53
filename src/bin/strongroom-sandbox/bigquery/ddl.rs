//! The DDL text of a table, and its options as `INFORMATION_SCHEMA` writes them. Pure: resources in, text out.

use serde_json::{Map, Value};
use strongroom::model::schema::Mode;

use super::civil::timestamp_text;
use super::names::TableRef;
use super::registry::TableRecord;
use super::schema::{self, int};

/// `(name, type, value)` of an option; the value is a literal of SQL.
pub type Setting = (&'static str, &'static str, String);

/// A text as a literal of standard SQL.
pub fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn labels(value: &Value) -> String {
    let pairs: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("STRUCT({}, {})", literal(k), literal(v.as_str().unwrap_or_default())))
        .collect();
    format!("[{}]", pairs.join(", "))
}

/// Milliseconds as a timestamp literal.
fn timestamp(ms: i64) -> String {
    format!("TIMESTAMP \"{}\"", timestamp_text(ms))
}

#[allow(clippy::cast_precision_loss)]
fn days(ms: i64) -> String {
    format!("{:?}", ms as f64 / 86_400_000.0)
}

/// The options of a dataset.
pub fn dataset_options(resource: &Map<String, Value>) -> Vec<Setting> {
    let mut out = vec![];
    let text = |key: &str| resource.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let number = |key: &str| resource.get(key).and_then(int);
    if let Some(ms) = number("defaultPartitionExpirationMs") {
        out.push(("default_partition_expiration_days", "FLOAT64", days(ms)));
    }
    if let Some(ms) = number("defaultTableExpirationMs") {
        out.push(("default_table_expiration_days", "FLOAT64", days(ms)));
    }
    if let Some(t) = text("description") {
        out.push(("description", "STRING", literal(t)));
    }
    if let Some(t) = text("friendlyName") {
        out.push(("friendly_name", "STRING", literal(t)));
    }
    if resource.get("isCaseInsensitive").and_then(Value::as_bool) == Some(true) {
        out.push(("is_case_insensitive", "BOOL", "true".into()));
    }
    if let Some(l) = resource.get("labels").filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) {
        out.push(("labels", "ARRAY<STRUCT<STRING, STRING>>", labels(l)));
    }
    if let Some(t) = text("location") {
        out.push(("location", "STRING", literal(t)));
    }
    if let Some(hours) = number("maxTimeTravelHours").filter(|h| *h != 168) {
        out.push(("max_time_travel_hours", "INT64", hours.to_string()));
    }
    if let Some(t) = text("storageBillingModel") {
        out.push(("storage_billing_model", "STRING", literal(t)));
    }
    out
}

/// The options of a table or view.
pub fn table_options(resource: &Map<String, Value>) -> Vec<Setting> {
    let mut out = vec![];
    let text = |key: &str| resource.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    if let Some(t) = text("defaultRoundingMode") {
        out.push(("default_rounding_mode", "STRING", literal(t)));
    }
    if let Some(t) = text("description") {
        out.push(("description", "STRING", literal(t)));
    }
    if let Some(ms) = resource.get("expirationTime").and_then(int) {
        out.push(("expiration_timestamp", "TIMESTAMP", timestamp(ms)));
    }
    if let Some(t) = text("friendlyName") {
        out.push(("friendly_name", "STRING", literal(t)));
    }
    if let Some(t) = resource.get("encryptionConfiguration").and_then(|e| e["kmsKeyName"].as_str()) {
        out.push(("kms_key_name", "STRING", literal(t)));
    }
    if let Some(l) = resource.get("labels").filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) {
        out.push(("labels", "ARRAY<STRUCT<STRING, STRING>>", labels(l)));
    }
    if let Some(t) = text("maxStaleness") {
        out.push(("max_staleness", "INTERVAL", format!("INTERVAL {} YEAR TO SECOND", literal(t))));
    }
    let time = resource.get("timePartitioning");
    if let Some(ms) = time.and_then(|t| t.get("expirationMs")).and_then(int) {
        out.push(("partition_expiration_days", "FLOAT64", days(ms)));
    }
    let nested = time.and_then(|t| t.get("requirePartitionFilter")).and_then(Value::as_bool);
    if resource.get("requirePartitionFilter").and_then(Value::as_bool).or(nested) == Some(true) {
        out.push(("require_partition_filter", "BOOL", "true".into()));
    }
    out
}

/// The type of a column in SQL, written as in DDL.
pub fn column_type(field: &Value) -> String {
    let one = Value::Array(vec![field.clone()]);
    match strongroom::model::schema::Schema::from_json(&one) {
        Ok(schema) => schema.fields.first().map(|f| f.sql_type().replace('`', "")).unwrap_or_default(),
        Err(_) => field["type"].as_str().unwrap_or_default().to_owned(),
    }
}

fn column_ddl(field: &Value) -> String {
    let name = field["name"].as_str().unwrap_or_default();
    let mut out = format!("{name} {}", column_type(field));
    if let Some(collation) = field["collation"].as_str() {
        out.push_str(&format!(" COLLATE {}", literal(collation)));
    }
    if let Some(default) = field["defaultValueExpression"].as_str() {
        out.push_str(&format!(" DEFAULT {default}"));
    }
    if field["mode"] == "REQUIRED" {
        out.push_str(" NOT NULL");
    }
    let mut options = vec![];
    if let Some(text) = field["description"].as_str() {
        options.push(format!("description={}", literal(text)));
    }
    if let Some(mode) = field["roundingMode"].as_str() {
        options.push(format!("rounding_mode={}", literal(mode)));
    }
    if !options.is_empty() {
        out.push_str(&format!(" OPTIONS({})", options.join(", ")));
    }
    out
}

fn partition_by(resource: &Map<String, Value>, fields: &[strongroom::model::schema::Field]) -> Option<String> {
    use strongroom::model::schema::FieldType;
    if let Some(time) = resource.get("timePartitioning") {
        let unit = time["type"].as_str().unwrap_or("DAY");
        let Some(name) = time["field"].as_str() else {
            return Some(if unit == "DAY" {
                "_PARTITIONDATE".into()
            } else {
                format!("TIMESTAMP_TRUNC(_PARTITIONTIME, {unit})")
            });
        };
        let kind = fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map_or(FieldType::Date, |f| f.kind);
        return Some(match (kind, unit) {
            (FieldType::Date, "DAY") => name.to_owned(),
            (FieldType::Date, unit) => format!("DATE_TRUNC({name}, {unit})"),
            (_, "DAY") => format!("DATE({name})"),
            (FieldType::DateTime, unit) => format!("DATETIME_TRUNC({name}, {unit})"),
            (_, unit) => format!("TIMESTAMP_TRUNC({name}, {unit})"),
        });
    }
    let range = resource.get("rangePartitioning")?;
    let part = |key: &str| range["range"].get(key).and_then(int).unwrap_or(0);
    Some(format!(
        "RANGE_BUCKET({}, GENERATE_ARRAY({}, {}, {}))",
        range["field"].as_str().unwrap_or_default(),
        part("start"),
        part("end"),
        part("interval")
    ))
}

fn options_clause(settings: &[Setting]) -> String {
    let lines: Vec<String> = settings.iter().map(|(name, _, value)| format!("  {name}={value}")).collect();
    if lines.is_empty() { String::new() } else { format!("\nOPTIONS(\n{}\n)", lines.join(",\n")) }
}

/// `CREATE ...` for a table, view or snapshot.
pub fn table_ddl(table: &TableRef, record: &TableRecord) -> String {
    let resource = &record.resource;
    let name = format!("`{}.{}.{}`", table.project, table.dataset, table.table);
    let options = options_clause(&table_options(resource));
    match record.kind() {
        "VIEW" => {
            let sql = resource["view"]["query"].as_str().unwrap_or_default();
            return format!("CREATE VIEW {name}{options}\nAS {sql};");
        }
        "MATERIALIZED_VIEW" => {
            let sql = resource["materializedView"]["query"].as_str().unwrap_or_default();
            return format!("CREATE MATERIALIZED VIEW {name}{options}\nAS {sql};");
        }
        "SNAPSHOT" => {
            let base =
                record.snapshot.as_ref().map(|o| format!("`{}.{}.{}`", o.base.project, o.base.dataset, o.base.table));
            return format!("CREATE SNAPSHOT TABLE {name}\nCLONE {}{options};", base.unwrap_or_default());
        }
        _ => {}
    }
    let schema = record.schema();
    let fields = schema["fields"].as_array().cloned().unwrap_or_default();
    let parsed = schema::parse(&schema).map(|s| s.fields).unwrap_or_default();
    let mut lines: Vec<String> = fields.iter().map(|f| format!("  {}", column_ddl(f))).collect();
    if let Some(columns) = resource.get("tableConstraints").and_then(|c| c["primaryKey"]["columns"].as_array()) {
        let names: Vec<&str> = columns.iter().filter_map(Value::as_str).collect();
        lines.push(format!("  PRIMARY KEY ({}) NOT ENFORCED", names.join(", ")));
    }
    let mut out = format!("CREATE TABLE {name}\n(\n{}\n)", lines.join(",\n"));
    if let Some(expression) = partition_by(resource, &parsed) {
        out.push_str(&format!("\nPARTITION BY {expression}"));
    }
    let clustering = resource.get("clustering").and_then(|c| c["fields"].as_array());
    if let Some(columns) = clustering.filter(|c| !c.is_empty()) {
        let names: Vec<&str> = columns.iter().filter_map(Value::as_str).collect();
        out.push_str(&format!("\nCLUSTER BY {}", names.join(", ")));
    }
    out + &options + ";"
}

/// Whether a column may be null, as `INFORMATION_SCHEMA.COLUMNS` says it.
pub fn is_nullable(mode: Mode) -> &'static str {
    if mode == Mode::Required { "NO" } else { "YES" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_written_with_all_its_clauses() {
        let resource = json!({
            "schema": {"fields": [
                {"name":"id","type":"INTEGER","mode":"REQUIRED","description":"the \"key\""},
                {"name":"d","type":"DATE"},
                {"name":"r","type":"RECORD","mode":"REPEATED","fields":[{"name":"n","type":"NUMERIC","precision":"10","scale":"2"}]}]},
            "timePartitioning": {"type":"MONTH","field":"d","expirationMs":"86400000"},
            "clustering": {"fields":["id"]},
            "labels": {"a":"b"},
            "tableConstraints": {"primaryKey":{"columns":["id"]}}});
        let record = TableRecord::new(resource.as_object().cloned().unwrap(), 0);
        let text = table_ddl(&TableRef::new("p", "d", "t"), &record);
        let want = "CREATE TABLE `p.d.t`\n(\n  id INT64 NOT NULL OPTIONS(description=\"the \\\"key\\\"\"),\n  d DATE,\n  r ARRAY<STRUCT<n NUMERIC(10, 2)>>,\n  PRIMARY KEY (id) NOT ENFORCED\n)\nPARTITION BY DATE_TRUNC(d, MONTH)\nCLUSTER BY id\nOPTIONS(\n  labels=[STRUCT(\"a\", \"b\")],\n  partition_expiration_days=1.0\n);";
        assert_eq!(text, want);
    }
}
