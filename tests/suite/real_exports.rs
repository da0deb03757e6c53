//! Files that BigQuery itself wrote: they load, are backed up through both formats, and come back with the same rows.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};
use crate::warehouse::{self, TIERS, WAREHOUSE, there_and_back};

/// The directory of the files; `None`, and a line about it, where it is not at hand.
fn exports() -> Option<PathBuf> {
    let root = std::env::var_os("STRONGROOM_SHARED_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join("bigquery-real-exports");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/data/bigquery-real-exports is not there");
    None
}

fn upload(estate: &Estate, name: &str, bytes: Vec<u8>) {
    let url = format!("{}/upload/storage/v1/b/vault-avro/o?uploadType=media&name={name}", estate.sandbox.endpoint());
    let sent = estate.block_on(async { reqwest::Client::new().post(url).body(bytes).send().await.unwrap() });
    assert!(sent.status().is_success(), "{sent:?}");
}

fn load(estate: &Estate, table: &str, file: &str, format: &str, schema: Value) {
    estate.done(json!({"configuration": {"load": {
        "destinationTable": {"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": table},
        "sourceUris": [format!("gs://vault-avro/{file}")], "sourceFormat": format, "schema": schema,
        "useAvroLogicalTypes": true, "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"],
    }}}));
}

/// An Avro container around a block of rows as BigQuery's Storage Read API sends it.
fn container(schema: &str, rows: u64, block: &[u8]) -> Vec<u8> {
    fn long(out: &mut Vec<u8>, value: usize) {
        let mut rest = (value as u64) << 1; // zigzag of a number that is not negative
        while rest >= 0x80 {
            out.push((rest as u8) | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    fn text(out: &mut Vec<u8>, value: &[u8]) {
        long(out, value.len());
        out.extend(value);
    }
    let mark = [7; 16];
    let mut out = b"Obj\x01".to_vec();
    long(&mut out, 2);
    for (key, value) in [("avro.schema", schema), ("avro.codec", "null")] {
        text(&mut out, key.as_bytes());
        text(&mut out, value.as_bytes());
    }
    long(&mut out, 0);
    out.extend(mark);
    long(&mut out, rows as usize);
    text(&mut out, block);
    out.extend(mark);
    out
}

#[test]
fn what_bigquery_wrote_loads_and_comes_back() {
    let Some(directory) = exports() else { return };
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let estate = warehouse::empty(&[]);
    let required = |name: &str, kind: &str| json!({"name": name, "type": kind, "mode": "REQUIRED"});
    let words = json!({"fields": [required("word", "STRING"), required("word_count", "INTEGER"),
        required("corpus", "STRING"), required("corpus_date", "INTEGER")]});
    upload(&estate, "shakespeare.avro", read("shakespeare.avro"));
    upload(&estate, "shakespeare.parquet", read("shakespeare.parquet"));
    load(&estate, "words_avro", "shakespeare.avro", "AVRO", words.clone());
    load(&estate, "words_parquet", "shakespeare.parquet", "PARQUET", words);

    let mut arrow = read("alltypes.arrowschema");
    arrow.extend(read("alltypes.arrow"));
    let batches = arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap();
    let rows: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
    let schema = String::from_utf8(read("alltypes.avroschema.json")).unwrap();
    upload(&estate, "alltypes.avro", container(schema.trim(), rows as u64, &read("alltypes.avro")));
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "mode": "NULLABLE"});
    let numbers: Vec<Value> = ["min", "max", "pi", "big_pi"].map(|name| field(name, "NUMERIC")).into();
    // (An annotated text loads into DATETIME here; the plan never relies on it.)
    let all = json!({"fields": [
        required("int_req", "INTEGER"), field("int_null", "INTEGER"), field("bl", "BOOLEAN"), field("str", "STRING"),
        field("day", "DATE"), field("ts", "TIMESTAMP"), field("dt", "DATETIME"), field("tm", "TIME"), field("binary", "BYTES"),
        field("float", "FLOAT"), {"name": "nums", "type": "RECORD", "mode": "NULLABLE", "fields": numbers},
        {"name": "int_arr", "type": "INTEGER", "mode": "REPEATED"},
        {"name": "int_struct_arr", "type": "RECORD", "mode": "REPEATED", "fields": [field("i", "INTEGER")]},
    ]});
    load(&estate, "alltypes", "alltypes.avro", "AVRO", all);

    let figures = |estate: &Estate, table: &str| {
        estate.query(&format!(
            "SELECT COUNT(*), SUM(word_count), COUNT(DISTINCT corpus), BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t))),
             SUM(CAST(FARM_FINGERPRINT(TO_JSON_STRING(t)) AS BIGNUMERIC)) FROM `{PROJECT}.{WAREHOUSE}.{table}` AS t"
        ))
    };
    let before = figures(&estate, "words_avro");
    // What BigQuery says of its sample.
    assert_eq!((&before[0][0], &before[0][1], &before[0][2]), (&json!("164656"), &json!("945845"), &json!("42")));
    assert_eq!(figures(&estate, "words_parquet"), before, "both files hold the same rows");
    estate.delete(&warehouse::path("words_parquet"));
    let types = warehouse::rows(&estate, "alltypes");
    assert_eq!(types.len(), 2 * rows);
    for tier in TIERS {
        let (_, restored) = there_and_back(&estate, tier);
        for table in restored["tables"].as_array().unwrap() {
            assert_eq!(table["proven"], true, "{tier}: {table}");
        }
        assert_eq!(figures(&estate, "words_avro"), before, "{tier}");
        assert_eq!(warehouse::rows(&estate, "alltypes"), types, "{tier}");
    }
}
