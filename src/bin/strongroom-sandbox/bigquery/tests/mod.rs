//! The service over HTTP, as clients meet it. This file has the server and its calls; `rest` and `queries` the tests.

mod queries;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Settings;
use crate::core::{Options, Sandbox};
use crate::storage::objects::Objects;

struct Server {
    _dir: tempfile::TempDir,
    sandbox: Arc<Sandbox>,
    base: String,
    http: reqwest::Client,
}

const HOUR_MS: i64 = 3_600_000;

impl Server {
    async fn start(settings: Settings) -> Self {
        Self::open(tempfile::tempdir().unwrap(), settings).await
    }

    async fn open(dir: tempfile::TempDir, settings: Settings) -> Self {
        let options = Options { project: "p".into(), allow_external_targets: false, bigquery: settings };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let storage = sandbox.clone();
        let router = super::router(&sandbox).unwrap().fallback(move |request: axum::extract::Request| {
            let storage = storage.clone();
            async move { crate::storage::serve(&storage, request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { _dir: dir, sandbox, base, http: reqwest::Client::new() }
    }

    /// What a kill at this moment would leave on the disk.
    fn crash_image(&self) -> tempfile::TempDir {
        fn copy(from: &std::path::Path, to: &std::path::Path) {
            for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
                let target = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    std::fs::create_dir_all(&target).unwrap();
                    copy(&entry.path(), &target);
                } else {
                    std::fs::copy(entry.path(), &target).unwrap();
                }
            }
        }
        let image = tempfile::tempdir().unwrap();
        copy(&self.sandbox.dir, image.path());
        image
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/bigquery/v2/projects/p/{path}", self.base);
        let mut request = self.http.request(method, url);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Runs a job and returns it DONE.
    async fn job(&self, configuration: Value) -> Value {
        let job = self.post("jobs", json!({ "configuration": configuration })).await;
        let (id, location) =
            (job["jobReference"]["jobId"].as_str().unwrap(), job["jobReference"]["location"].as_str().unwrap());
        for _ in 0..6000 {
            let job = self.get(&format!("jobs/{id}?location={location}")).await;
            if job["status"]["state"] == "DONE" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("job {id} does not end");
    }

    async fn good_job(&self, configuration: Value) -> Value {
        let job = self.job(configuration).await;
        assert_eq!(job["status"]["errorResult"], Value::Null, "{}", job["status"]);
        job
    }

    async fn bad_job(&self, configuration: Value) -> String {
        let job = self.job(configuration).await;
        let error = &job["status"]["errorResult"];
        format!("{}: {}", error["reason"].as_str().unwrap(), error["message"].as_str().unwrap())
    }

    /// Makes the bucket `bkt`.
    async fn bucket(&self) {
        let made = self.http.post(format!("{}/storage/v1/b?project=p", self.base)).body("{\"name\":\"bkt\"}").send();
        assert_eq!(made.await.unwrap().status(), 200);
    }

    async fn dataset(&self, more: Value) {
        let mut resource = json!({"datasetReference": {"datasetId": "d"}, "location": "EU"});
        for (key, value) in more.as_object().unwrap() {
            resource[key] = value.clone();
        }
        self.post("datasets", resource).await;
    }

    async fn table(&self, id: &str, fields: Value, more: Value) {
        let mut resource = json!({"tableReference": {"tableId": id}, "schema": {"fields": fields}});
        for (key, value) in more.as_object().unwrap() {
            resource[key] = value.clone();
        }
        self.post("datasets/d/tables", resource).await;
    }

    async fn insert(&self, table: &str, rows: Value) -> Value {
        let rows: Vec<Value> = rows.as_array().unwrap().iter().map(|r| json!({ "json": r })).collect();
        self.post(&format!("datasets/d/tables/{table}/insertAll"), json!({ "rows": rows })).await
    }

    /// The first column of all rows.
    async fn column(&self, table: &str) -> Vec<String> {
        let data = self.get(&format!("datasets/d/tables/{table}/data")).await;
        let rows = data["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|r| r["f"][0]["v"].as_str().unwrap_or("null").to_owned()).collect()
    }

    fn advance(&self, ms: i64) {
        self.sandbox.set_clock_us(self.sandbox.clock.now_us() + ms * 1000).unwrap();
    }

    fn put_object(&self, name: &str, bytes: &[u8]) {
        use std::io::Write;
        let mut object = Objects::new(&self.sandbox).create("bkt", name, "text/plain").unwrap();
        object.write_all(bytes).unwrap();
        object.finish().unwrap();
    }

    fn object(&self, name: &str) -> Vec<u8> {
        let objects = Objects::new(&self.sandbox);
        let found = objects.expand(&format!("gs://bkt/{name}")).unwrap();
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut objects.open(&found[0]).unwrap(), &mut bytes).unwrap();
        bytes
    }
}

fn table(id: &str) -> Value {
    json!({"projectId": "p", "datasetId": "d", "tableId": id})
}

fn copy(from: &str, to: &str, more: Value) -> Value {
    let mut out = json!({"sourceTable": table(from), "destinationTable": table(to)});
    for (key, value) in more.as_object().unwrap() {
        out[key] = value.clone();
    }
    json!({ "copy": out })
}

fn load(uri: &str, to: &str, more: Value) -> Value {
    let mut out = json!({"sourceUris": [uri], "destinationTable": table(to), "sourceFormat": "NEWLINE_DELIMITED_JSON"});
    for (key, value) in more.as_object().unwrap() {
        out[key] = value.clone();
    }
    json!({ "load": out })
}

fn id_field() -> Value {
    json!([{"name": "id", "type": "INT64"}])
}
