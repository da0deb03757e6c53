//! Many tables: planned, backed up and listed in bounded memory, while many callers look at the worker.
//!
//! The long form: `STRONGROOM_TABLES=10000`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};
use crate::worker::Worker;

const READERS: usize = 64;
const MAX_BYTES: u64 = 256 << 20;

#[test]
fn many_tables_in_bounded_memory_while_many_callers_look() {
    let tables: usize = std::env::var("STRONGROOM_TABLES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut estate = Estate::new(&[]);
    make(&estate, tables);
    estate.configure(|_| {
        format!(
            "name = \"load\"\n[google]\nproject = \"{PROJECT}\"\nendpoint = \"${{STRONGROOM_GOOGLE_ENDPOINT}}\"\n\
             credentials = \"anonymous\"\n[[source]]\nname = \"warehouse\"\nkind = \"bigquery\"\ndataset = \"wide\"\n\
             [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://load-daily\"]\n"
        )
    });
    let worker = Worker::start(&estate);
    let began = Instant::now();
    let (status, plan) = worker.post(&estate, "/run-daily-job", json!({"mode": "dry_run"}));
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["plan"]["sources"][0]["tables"].as_array().map(Vec::len), Some(tables));
    let planned = began.elapsed();

    let (over, looked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    let operation = estate.block_on(async {
        let reader = async |_: usize| {
            while !over.load(Ordering::Relaxed) {
                for path in ["/backup/list", "/health", "/operations"] {
                    let answer = worker.http.get(format!("{}{path}", worker.url)).send().await.expect("an answer");
                    assert_eq!(answer.status().as_u16(), 200, "{path}");
                    answer.bytes().await.expect("a body");
                    looked.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let readers = futures::future::join_all((0..READERS).map(reader));
        let backup = async {
            let begun = worker.http.post(format!("{}/backup/run-now", worker.url)).send().await.expect("an answer");
            let begun: Value = begun.json().await.expect("JSON");
            let path = format!("{}/operations/{}?wait=30", worker.url, begun["id"].as_str().expect("an id"));
            loop {
                let answer = worker.http.get(&path).send().await.expect("an answer");
                let operation: Value = answer.json().await.expect("JSON");
                if operation["ended_at"].is_string() {
                    over.store(true, Ordering::Relaxed);
                    return operation;
                }
            }
        };
        futures::join!(readers, backup).1
    });
    let took = began.elapsed();
    assert_eq!(operation["state"], "done", "{operation}");
    let (_, listed) = worker.get(&estate, "/backup/list");
    assert_eq!(listed["backups"][0]["table_count"], tables);
    let peak = worker.peak_bytes();
    println!(
        "reliability: load: {tables} tables planned in {:.1} s, backed up in {:.1} s, peak memory {} MiB, {} calls of \
         {READERS} readers meanwhile, errors 0",
        planned.as_secs_f64(),
        took.as_secs_f64(),
        peak >> 20,
        looked.load(Ordering::Relaxed),
    );
    assert!(peak < MAX_BYTES, "{peak} bytes");
}

/// Tables of one row or none in a dataset of their own, and a bucket.
fn make(estate: &Estate, tables: usize) {
    estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": "load-daily", "location": "US"}));
    let datasets = format!("/bigquery/v2/projects/{PROJECT}/datasets");
    let dataset = json!({"projectId": PROJECT, "datasetId": "wide"});
    estate.post(&datasets, json!({"datasetReference": dataset, "location": "US"}));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}{datasets}/wide/tables", estate.sandbox.endpoint());
    let insert = async |n: usize| {
        let table = json!({
            "tableReference": {"projectId": PROJECT, "datasetId": "wide", "tableId": format!("t{n:05}")},
            "schema": {"fields": [{"name": "id", "type": "INTEGER"}, {"name": "name", "type": "STRING"}]},
        });
        let answer = http.post(&url).json(&table).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{n}: {}", answer.status());
        if n.is_multiple_of(10) {
            let row = json!({"rows": [{"json": {"id": n, "name": "one"}}]});
            let answer = http.post(format!("{url}/t{n:05}/insertAll")).json(&row).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{n}: {}", answer.status());
        }
    };
    estate.block_on(futures::stream::iter(0..tables).for_each_concurrent(8, insert));
    let listed = estate.call(Method::GET, &format!("{datasets}/wide/tables?maxResults=1"), None);
    assert_eq!(listed.1["totalItems"], tables, "{listed:?}");
}
