//! What the sandbox extracts is read by other programs with the same values: fastavro, pyarrow, DuckDB and the apache-avro
//! crate. Avro and Parquet agree with each other because each agrees with what the service itself answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use apache_avro::types::Value as Avro;
use base64::Engine;
use num_bigint::BigInt;
use serde_json::{Map, Value, json};
use strongroom::codec::value::{parse_date, parse_datetime, parse_time};

use crate::estate::{Estate, PROJECT};
use crate::type_matrix;
use crate::warehouse::{self, WAREHOUSE};

/// Python with the packages of tests/requirements.txt: scripts/test brings it and says where it is.
fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("STRONGROOM_PYTHON") {
        return Some(python.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let python = cache.join("strongroom-python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    eprintln!("skipped: other programs do not read the files; scripts/test brings Python and runs this");
    None
}

#[test]
fn other_programs_read_the_same_values() {
    let python = python();
    let estate = warehouse::empty(&[]);
    type_matrix::filled(&estate);
    let directory = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (table, ..) in type_matrix::TABLES {
        let resource = estate.get(&warehouse::path(table));
        let fields = resource["schema"]["fields"].as_array().unwrap().clone();
        let wide: Vec<&str> =
            fields.iter().filter(|f| f["type"] == "BIGNUMERIC").map(|f| f["name"].as_str().unwrap()).collect();
        let expected = service_rows(&estate, table, &fields, &[]);
        let flexible = *table == "flexible";
        if !flexible {
            let file = extract(&estate, table, "AVRO", directory.path());
            same(table, "apache-avro", &expected, avro_rows(&file, &fields));
            compared += 1;
            if let Some(python) = &python {
                let read = python_rows(python, "fastavro", &file, &[]);
                let read = read.into_iter().map(|row| civil_times(row, &fields)).collect();
                same(table, "fastavro", &expected, read);
                compared += 1;
            }
        }
        let file = extract(&estate, table, "PARQUET", directory.path());
        if let Some(python) = &python {
            same(table, "pyarrow", &expected, python_rows(python, "pyarrow", &file, &[]));
            compared += 1;
            // It takes a repeated group of one field for a list of that field, which the format's rules for old writers
            // leave open (https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists).
            if one_field_lists(&fields) {
                continue;
            }
            // Its decimals end at 38 digits.
            let expected = service_rows(&estate, table, &fields, &wide);
            same(table, "duckdb", &expected, python_rows(python, "duckdb", &file, &wide));
            compared += 1;
        }
    }
    println!("{compared} files read by others");
}

/// Whether there is a REPEATED RECORD with one field, at any depth.
fn one_field_lists(fields: &[Value]) -> bool {
    fields.iter().any(|field| {
        let inner = inner(field);
        (field["mode"] == "REPEATED" && inner.len() == 1) || one_field_lists(inner)
    })
}

#[track_caller]
fn same(table: &str, reader: &str, expected: &[String], mut read: Vec<Value>) {
    read.iter_mut().for_each(Value::sort_all_objects);
    let mut read: Vec<String> = read.iter().map(Value::to_string).collect();
    read.sort();
    let first = expected.iter().zip(&read).find(|(a, b)| a != b);
    let short = first.map(|(a, b)| [a, b].map(|row| row.chars().take(1500).collect::<String>()));
    assert!(*expected == read, "{table}: {reader} reads {} rows of {}: {short:#?}", read.len(), expected.len());
}

/// Extracts a table into one file and downloads it.
fn extract(estate: &Estate, table: &str, format: &str, directory: &Path) -> PathBuf {
    let (ending, compression) = if format == "AVRO" { ("avro", "DEFLATE") } else { ("parquet", "ZSTD") };
    let job = json!({"configuration": {"extract": {
        "sourceTable": {"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": table},
        "destinationUris": [format!("gs://vault-avro/read/{table}-*.{ending}")],
        "destinationFormat": format, "compression": compression, "useAvroLogicalTypes": true,
    }}});
    estate.done(job);
    let key = format!("read%2F{table}-000000000000.{ending}");
    let url = format!("{}/storage/v1/b/vault-avro/o/{key}?alt=media", estate.sandbox.endpoint());
    let bytes = estate.block_on(async { reqwest::get(url).await.unwrap().bytes().await.unwrap() });
    let path = directory.join(format!("{table}.{ending}"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn python_rows(python: &Path, library: &str, file: &Path, without: &[&str]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/rows.py");
    let output = Command::new(python).arg(script).arg(library).arg(file).args(without).output().unwrap();
    assert!(output.status.success(), "{library}, {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows as the service answers them, in the readers' form.
fn service_rows(estate: &Estate, table: &str, fields: &[Value], without: &[&str]) -> Vec<String> {
    let page =
        estate.get(&format!("{}/data?maxResults=1000&formatOptions.useInt64Timestamp=true", warehouse::path(table)));
    let mut rows: Vec<Value> = page["rows"].as_array().cloned().unwrap_or_default();
    let mut token = page["pageToken"].clone();
    while let Some(next) = token.as_str().filter(|t| !t.is_empty()) {
        let path = format!("{}/data?formatOptions.useInt64Timestamp=true&pageToken={next}", warehouse::path(table));
        let page = estate.get(&path);
        rows.extend(page["rows"].as_array().cloned().unwrap_or_default());
        token = page["pageToken"].clone();
    }
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut row = record(fields, &row["f"]);
            if let Some(members) = row["record"].as_object_mut() {
                members.retain(|name, _| !without.contains(&name.as_str()));
            }
            row.sort_all_objects();
            row.to_string()
        })
        .collect();
    rows.sort();
    rows
}

fn record(fields: &[Value], cells: &Value) -> Value {
    let cells = cells.as_array().unwrap();
    let members: Map<String, Value> = fields
        .iter()
        .zip(cells)
        .map(|(field, cell)| (field["name"].as_str().unwrap().to_string(), cell_form(field, &cell["v"])))
        .collect();
    json!({"record": members})
}

fn inner(field: &Value) -> &[Value] {
    field["fields"].as_array().map_or(&[], Vec::as_slice)
}

fn cell_form(field: &Value, cell: &Value) -> Value {
    if field["mode"] == "REPEATED" {
        return cell.as_array().into_iter().flatten().map(|item| one_form(field, &item["v"])).collect();
    }
    one_form(field, cell)
}

fn one_form(field: &Value, cell: &Value) -> Value {
    if cell.is_null() {
        return Value::Null;
    }
    if field["type"] == "RECORD" {
        return record(inner(field), &cell["f"]);
    }
    let text = cell.as_str().unwrap();
    match field["type"].as_str().unwrap() {
        "BOOLEAN" => json!(text == "true"),
        "FLOAT" => float(text.parse().unwrap()),
        "NUMERIC" | "BIGNUMERIC" if text.contains('.') => json!(text.trim_end_matches('0').trim_end_matches('.')),
        "BYTES" => bytes(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()),
        "DATE" => json!({"days": parse_date(text).unwrap().to_string()}),
        "TIME" => json!({"time": parse_time(text).unwrap().to_string()}),
        "DATETIME" => json!({"us": parse_datetime(text).unwrap().to_string()}),
        "TIMESTAMP" => json!({"us": text}),
        _ => json!(text),
    }
}

fn float(value: f64) -> Value {
    let text = if value.is_nan() { "nan".to_string() } else { format!("{:016x}", value.to_bits()) };
    json!({"float": text})
}

fn bytes(value: &[u8]) -> Value {
    json!({"bytes": value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
}

/// Avro has DATETIME as text.
fn civil_times(row: Value, fields: &[Value]) -> Value {
    let Value::Object(mut row) = row else { return row };
    for field in fields {
        if let Some(value) = row.get_mut("record").and_then(|record| record.get_mut(field["name"].as_str().unwrap())) {
            *value = civil_time(value.take(), field);
        }
    }
    Value::Object(row)
}

fn civil_time(value: Value, field: &Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| civil_time(item, field)).collect(),
        Value::String(text) if field["type"] == "DATETIME" => json!({"us": parse_datetime(&text).unwrap().to_string()}),
        other if field["type"] == "RECORD" => civil_times(other, inner(field)),
        other => other,
    }
}

fn avro_rows(file: &Path, fields: &[Value]) -> Vec<Value> {
    let reader = apache_avro::Reader::new(std::fs::File::open(file).unwrap()).unwrap();
    reader.map(|row| avro_record(row.unwrap(), fields)).collect()
}

fn avro_record(value: Avro, fields: &[Value]) -> Value {
    let Avro::Record(members) = value else { panic!("no record: {value:?}") };
    let members: Map<String, Value> =
        members.into_iter().zip(fields).map(|((name, value), field)| (name, avro_form(value, field))).collect();
    json!({"record": members})
}

fn avro_form(value: Avro, field: &Value) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Union(_, inner) => avro_form(*inner, field),
        Avro::Array(items) => items.into_iter().map(|item| avro_form(item, field)).collect(),
        Avro::Record(_) => avro_record(value, inner(field)),
        Avro::Boolean(value) => json!(value),
        Avro::Long(value) => json!(value.to_string()),
        Avro::Double(value) => float(value),
        Avro::Bytes(value) => bytes(&value),
        Avro::Date(days) => json!({"days": days.to_string()}),
        Avro::TimeMicros(us) => json!({"time": us.to_string()}),
        Avro::TimestampMicros(us) => json!({"us": us.to_string()}),
        Avro::String(text) if field["type"] == "DATETIME" => json!({"us": parse_datetime(&text).unwrap().to_string()}),
        Avro::String(text) => json!(text),
        Avro::Decimal(value) => {
            let number = BigInt::from_signed_bytes_be(&Vec::<u8>::try_from(value).unwrap());
            json!(decimal(&number, scale(field)))
        }
        other => panic!("{field}: {other:?} was not expected"),
    }
}

fn scale(field: &Value) -> usize {
    let parameter = |name: &str| field[name].as_str().map(|text| text.parse::<usize>().unwrap());
    match (parameter("precision"), parameter("scale")) {
        (Some(_), scale) => scale.unwrap_or(0),
        (None, _) if field["type"] == "NUMERIC" => 9,
        (None, _) => 38,
    }
}

fn decimal(number: &BigInt, scale: usize) -> String {
    let digits = number.magnitude().to_string();
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let sign = if number.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
