//! A sandbox with one empty dataset and two tiers, `avro` and `parquet`: tests put into it what they are about. Everything
//! is looked at through Google's API, as an outsider would.

use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};

pub const WAREHOUSE: &str = "warehouse";
pub const TIERS: [&str; 2] = ["avro", "parquet"];

const CONFIG: &str = r#"
name = "warehouse"

[google]
project = "${GOOGLE_CLOUD_PROJECT}"
endpoint = "${STRONGROOM_GOOGLE_ENDPOINT}"
credentials = "anonymous"

[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "warehouse"

[tiers.avro]
keep = "30d"
format = "avro"
destinations = ["gs://vault-avro"]

[tiers.parquet]
keep = "30d"
format = "parquet"
destinations = ["gs://vault-parquet"]
"#;

/// The empty dataset, its buckets, and the configuration.
pub fn empty(args: &[&str]) -> Estate {
    let estate = beside(args, json!({}));
    for tier in TIERS {
        bucket(&estate, &format!("vault-{tier}"), "US");
    }
    estate
}

/// The same without buckets; `dataset` holds members of the dataset's resource.
pub fn beside(args: &[&str], dataset: Value) -> Estate {
    let mut estate = Estate::new(args);
    estate.configure(|_| CONFIG.into());
    let mut resource = json!({"datasetReference": {"projectId": PROJECT, "datasetId": WAREHOUSE}, "location": "US"});
    resource.as_object_mut().unwrap().extend(dataset.as_object().cloned().unwrap());
    estate.post(&format!("/bigquery/v2/projects/{PROJECT}/datasets"), resource);
    estate
}

pub fn bucket(estate: &Estate, name: &str, location: &str) {
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": name, "location": location}));
}

/// Changes the configuration.
pub fn configure(estate: &mut Estate, change: impl FnOnce(String) -> String) {
    estate.configure(|_| change(CONFIG.into()));
}

/// The path of a table, or of what lies below it.
pub fn path(table: &str) -> String {
    format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}/tables/{table}")
}

/// Makes a table, view or external table of the members of its resource.
#[track_caller]
pub fn make(estate: &Estate, table: &str, mut resource: Value) -> Value {
    resource["tableReference"] = json!({"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": table});
    estate.post(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}/tables"), resource)
}

/// Deletes the dataset with all that is in it.
pub fn lose(estate: &Estate) {
    estate.delete(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}?deleteContents=true"));
}

/// A table's rows, sorted: each as its cells of `tabledata.list` and as BigQuery's own JSON of it.
#[track_caller]
pub fn rows(estate: &Estate, table: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut token = String::new();
    loop {
        // Exact timestamps: the default form is a float of seconds.
        let page = format!("data?maxResults=20000&formatOptions.useInt64Timestamp=true{token}");
        let page = estate.get(&format!("{}/{page}", path(table)));
        rows.extend(page["rows"].as_array().into_iter().flatten().map(Value::to_string));
        match page["pageToken"].as_str().filter(|token| !token.is_empty()) {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    let json = estate.query(&format!("SELECT TO_JSON_STRING(t) FROM `{PROJECT}.{WAREHOUSE}.{table}` AS t"));
    rows.extend(json.into_iter().map(|row| row[0].as_str().unwrap_or_default().to_string()));
    rows.sort();
    rows
}

/// Ids and types of what is in the dataset.
pub fn listed(estate: &Estate) -> Vec<(String, String)> {
    let list = estate.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{WAREHOUSE}/tables?maxResults=1000"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let tables = list["tables"].as_array().cloned().unwrap_or_default();
    tables.iter().map(|table| (text(&table["tableReference"]["tableId"]), text(&table["type"]))).collect()
}

/// Backs up, loses everything, restores; nothing may differ.
#[track_caller]
pub fn there_and_back(estate: &Estate, tier: &str) -> (Value, Value) {
    let manifest = estate.json(&["backup", "--tier", tier]);
    lose(estate);
    let restored = estate.json(&["restore", "latest", "--tier", tier]);
    assert_eq!(restored["differences"], json!([]), "{tier}");
    (manifest, restored)
}

/// Runs the program, which must refuse with all these words and change nothing.
#[track_caller]
pub fn refused(estate: &Estate, args: &[&str], words: &[&str]) {
    let mark = estate.mark();
    let run = estate.strongroom(args);
    assert_eq!(run.code, 4, "{args:?}: {run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "'{word}' is not said: {}", run.stderr);
    }
    let changed: Vec<Value> = estate.requests(mark).into_iter().filter(|r| r["mutating"] == true).collect();
    assert!(changed.iter().all(only_reads), "{changed:#?}");
}

/// A query is sent as a job; one that reads changes nothing.
fn only_reads(request: &Value) -> bool {
    let query = request["body"]["configuration"]["query"]["query"].as_str().or(request["body"]["query"].as_str());
    query.is_some_and(|sql| sql.trim_start().to_uppercase().starts_with("SELECT"))
}

/// The configurations of the load jobs since a mark.
pub fn loads(estate: &Estate, mark: u64) -> Vec<Value> {
    let inserts = estate.requests(mark).into_iter().filter(|request| request["name"] == "bigquery.jobs.insert");
    inserts.map(|request| request["body"]["configuration"]["load"].clone()).filter(Value::is_object).collect()
}
