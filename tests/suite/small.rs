//! A small estate that has one of everything: a plain and a partitioned table, a view, a row access policy, a sheet, a
//! scheduler job, a tier with a copy. A backup of it takes a second, so that many can be broken.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};

pub const DATASET: &str = "ledger";
pub const SHEET: &str = "owners-sheet";
pub const JOB: &str = "projects/demo-project/locations/l/jobs/ingest";
pub const HOME: &str = "vault";

pub const CONFIG: &str = r#"
name = "small"

[google]
project = "${GOOGLE_CLOUD_PROJECT}"
endpoint = "${STRONGROOM_GOOGLE_ENDPOINT}"
credentials = "${STRONGROOM_GOOGLE_CREDENTIALS}"
call_timeout = "5s"
progress_timeout = "3s"

[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "ledger"

[[source]]
name = "owners"
kind = "sheets"
spreadsheet = "owners-sheet"
tabs = ["owners"]

[ingestion]
scheduler_jobs = ["projects/demo-project/locations/l/jobs/ingest"]

[tiers.daily]
keep = "30d"
format = "avro"
destinations = ["gs://vault/a", "gs://vault-copy/b"]

[tiers.monthly]
keep = "1y"
format = "parquet"
destinations = ["gs://vault/a"]
"#;

/// The estate, filled; `args` are the sandbox's.
pub fn estate(args: &[&str]) -> Estate {
    let mut estate = Estate::new(args);
    estate.configure(|_| CONFIG.into());
    for bucket in [HOME, "vault-copy"] {
        estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": bucket, "location": "US"}));
    }
    let cells =
        json!({"range": "owners!A1", "majorDimension": "ROWS", "values": [["key", "owner"], ["k1", "Ann"], ["k2", 7]]});
    let tab = json!({"properties": {"title": "owners", "gridProperties": {"rowCount": 20, "columnCount": 5}}});
    let book = json!({"spreadsheetId": SHEET, "properties": {"title": "Owners"}, "sheets": [tab]});
    estate.post("/v4/spreadsheets", book);
    let (status, answer) = estate.call(
        Method::PUT,
        &format!("/v4/spreadsheets/{SHEET}/values/owners!A1?valueInputOption=RAW"),
        Some(cells),
    );
    assert_eq!(status, 200, "{answer}");
    let target = json!({"uri": "http://127.0.0.1:9/ingest", "httpMethod": "POST"});
    let job = json!({"name": JOB, "schedule": "0 3 1 1 *", "timeZone": "Etc/UTC", "httpTarget": target});
    estate.post("/v1/projects/demo-project/locations/l/jobs", job);
    fill(&estate);
    estate
}

/// Makes the dataset with its rows.
pub fn fill(estate: &Estate) {
    let resource = json!({"datasetReference": {"projectId": PROJECT, "datasetId": DATASET}, "location": "US",
        "labels": {"domain": "finance"}});
    estate.post(&format!("/bigquery/v2/projects/{PROJECT}/datasets"), resource);
    for sql in [
        "CREATE TABLE ledger.entries AS SELECT n AS id, CONCAT('note ', CAST(n AS STRING)) AS note,
            CAST(n AS NUMERIC) / 8 AS cost, n / 3 AS ratio, TIMESTAMP_MICROS(1700000000000000 + n) AS seen
            FROM UNNEST(GENERATE_ARRAY(1, 500)) AS n",
        "CREATE TABLE ledger.days (day DATE, requests INT64, cost NUMERIC) PARTITION BY day OPTIONS (description = 'by day')",
        "INSERT INTO ledger.days SELECT DATE_ADD(DATE '2026-01-01', INTERVAL n DAY), n * n, CAST(n AS NUMERIC) / 4
            FROM UNNEST(GENERATE_ARRAY(0, 20)) AS n",
        "CREATE VIEW ledger.totals AS SELECT SUM(cost) AS cost, COUNT(*) AS n FROM `demo-project.ledger.entries`",
    ] {
        estate.query(sql);
    }
}

/// Deletes the dataset and empties the sheet.
pub fn lose(estate: &Estate) {
    let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}?deleteContents=true");
    let (status, _) = estate.call(Method::DELETE, &path, None);
    assert!(matches!(status, 200..=299 | 404), "{status}");
    estate.post(&format!("/v4/spreadsheets/{SHEET}/values/owners:clear"), json!({}));
}

/// All that must come back: rows, definitions, cells.
pub fn contents(estate: &Estate) -> BTreeMap<String, Vec<String>> {
    let mut all = estate.contents(DATASET);
    for table in all.keys().cloned().collect::<Vec<_>>() {
        let mut resource = estate.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables/{table}"));
        for computed in ["etag", "creationTime", "lastModifiedTime"] {
            resource.as_object_mut().unwrap().remove(computed);
        }
        all.insert(format!("{table} (definition)"), vec![resource.to_string()]);
    }
    let path = format!("/v4/spreadsheets/{SHEET}/values/owners?valueRenderOption=UNFORMATTED_VALUE");
    all.insert("sheet".into(), vec![estate.get(&path)["values"].to_string()]);
    all
}

pub fn set_faults(estate: &Estate, rules: Value) {
    let (status, body) = estate.call(Method::PUT, "/_sandbox/faults", Some(rules));
    assert_eq!(status, 200, "{body}");
}

/// Ends the lease of a run that could not give it back, as two minutes would.
pub fn expire_lease(estate: &Estate) {
    let name = "a%2F_strongroom%2Flease%2Fsmall.json";
    let (status, mut record) = estate.call(Method::GET, &format!("/storage/v1/b/{HOME}/o/{name}?alt=media"), None);
    if status == 404 {
        return;
    }
    record["expires_at"] = json!("2001-01-01T00:00:00Z");
    estate.post(&format!("/upload/storage/v1/b/{HOME}/o?uploadType=media&name={name}"), record);
}

/// Recovers, without faults, after a run that failed: whatever it left, ingestion runs and no half backup is listed.
#[track_caller]
pub fn recovered(estate: &Estate, what: &str) {
    set_faults(estate, json!([]));
    expire_lease(estate);
    let run = estate.strongroom(&["--json", "recover"]);
    assert_eq!(run.code, 0, "{what}: {run:?}");
    assert_eq!(estate.job_state(JOB), "ENABLED", "{what}");
    assert_eq!(estate.json(&["recover", "--dry-run"])["runs"], json!([]), "{what}: nothing is left open");
    let listed = estate.json(&["list"]);
    for backup in listed["backups"].as_array().unwrap() {
        let name = backup["name"].as_str().unwrap();
        let verified = estate.strongroom(&["verify", name]);
        assert_eq!(verified.code, 0, "{what}: '{name}' is listed and not whole: {verified:?}");
    }
}
