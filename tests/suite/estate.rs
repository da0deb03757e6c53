//! A seeded estate in a sandbox, the `strongroom` program run on it, and Google's API called as an outsider would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

pub const PROJECT: &str = "demo-project";
pub const DATASET: &str = "ai_usage_analytics";
pub const SHEET: &str = "sandbox-api-key-mappings";
pub const JOB: &str = "projects/demo-project/locations/us-central1/jobs/daily-usage-analytics";
pub const PAUSED_JOB: &str = "projects/demo-project/locations/us-central1/jobs/weekly-report";

/// A sandbox, and where the program is pointed.
pub struct Estate {
    pub sandbox: Sandbox,
    /// Instead of the sandbox's own: a proxy's.
    pub endpoint: Option<String>,
    pub config: PathBuf,
    /// Further variables that the program finds.
    pub environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The data of the JSON document on stdout.
    pub fn data(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        document["data"].clone()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl Estate {
    /// With the ai-usage-analytics profile in it.
    pub fn seeded() -> Self {
        Self::new(&["--seed", "ai-usage-analytics"])
    }

    pub fn new(args: &[&str]) -> Self {
        let sandbox = Sandbox::start_with(args);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ai-usage-analytics.toml");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Self { sandbox, endpoint: None, config, environment: vec![], directory, http, runtime }
    }

    /// The example's configuration, changed.
    pub fn configure(&mut self, change: impl FnOnce(String) -> String) {
        let example = include_str!("../../examples/ai-usage-analytics.toml").to_string();
        self.config = self.directory.path().join("strongroom.toml");
        std::fs::write(&self.config, change(example)).expect("the configuration is written");
    }

    /// Runs the program.
    pub fn strongroom(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().expect("strongroom runs"))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.pointed_here(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("--config").arg(&self.config).args(args);
        command
    }

    /// Runs a program of `scripts/` that calls strongroom.
    pub fn script(&self, name: &str, args: &[&str]) -> Run {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
        let output = self
            .pointed_here(script)
            .args(args)
            .env("STRONGROOM", env!("CARGO_BIN_EXE_strongroom"))
            .env("STRONGROOM_CONFIG", &self.config)
            .output()
            .expect("the script runs");
        Run::of(&output)
    }

    fn pointed_here(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("GOOGLE_CLOUD_PROJECT", PROJECT)
            .env("STRONGROOM_GOOGLE_ENDPOINT", self.endpoint.as_deref().unwrap_or(self.sandbox.endpoint()))
            .env("STRONGROOM_GOOGLE_CREDENTIALS", "anonymous")
            .env("MAPPINGS_SPREADSHEET_ID", SHEET)
            .env("BACKUP_BUCKET_PREFIX", "demo-project-backup")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program with `--json` and gives the document's data; it must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.strongroom(&all).ok().data()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Calls the sandbox; gives status and body.
    pub fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.sandbox.endpoint());
        self.runtime.block_on(async {
            let mut request = self.http.request(method, url);
            if let Some(body) = body {
                request = request.json(&body);
            }
            let response = request.send().await.expect("the sandbox answers");
            let status = response.status().as_u16();
            let text = response.text().await.expect("a body");
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None);
        assert!((200..300).contains(&status), "GET {path}: {status} {body}");
        body
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, Some(body));
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        let (status, body) = self.call(Method::DELETE, path, None);
        assert!((200..300).contains(&status), "DELETE {path}: {status} {body}");
    }

    /// Runs a job to its end; it must succeed.
    #[track_caller]
    pub fn done(&self, job: Value) -> Value {
        let jobs = format!("/bigquery/v2/projects/{PROJECT}/jobs");
        let mut job = self.post(&jobs, job);
        while job["status"]["state"] != "DONE" {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let reference = &job["jobReference"];
            let (id, location) = (reference["jobId"].as_str().unwrap(), reference["location"].as_str().unwrap());
            job = self.get(&format!("{jobs}/{id}?location={location}"));
        }
        assert_eq!(job["status"]["errorResult"], Value::Null, "{job}");
        job
    }

    /// A query's rows, as an outsider gets them.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<Value>> {
        let body = json!({"query": sql, "useLegacySql": false, "timeoutMs": 60000, "maxResults": 10000});
        let mut answer = self.post(&format!("/bigquery/v2/projects/{PROJECT}/queries"), body);
        let job = answer["jobReference"].clone();
        let (id, location) = (job["jobId"].as_str().unwrap_or_default(), job["location"].as_str().unwrap_or_default());
        let results = format!("/bigquery/v2/projects/{PROJECT}/queries/{id}?location={location}&timeoutMs=60000");
        // The service waits only so long, whatever it is asked.
        while answer["jobComplete"] == false {
            answer = self.get(&results);
        }
        let mut rows = Vec::new();
        loop {
            rows.extend(answer["rows"].as_array().cloned().unwrap_or_default());
            // A page ends early when its rows are large.
            let Some(token) = answer["pageToken"].as_str().filter(|token| !token.is_empty()) else { break };
            answer = self.get(&format!("{results}&pageToken={token}"));
        }
        rows.iter().map(|row| row["f"].as_array().unwrap().iter().map(|cell| cell["v"].clone()).collect()).collect()
    }

    /// Every table's and view's rows as JSON, sorted: what finance would lose.
    pub fn contents(&self, dataset: &str) -> BTreeMap<String, Vec<String>> {
        let list = self.get(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables?maxResults=1000"));
        let mut contents = BTreeMap::new();
        for table in list["tables"].as_array().cloned().unwrap_or_default() {
            let id = table["tableReference"]["tableId"].as_str().unwrap().to_string();
            let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables/{id}");
            let mut rows: Vec<String> = Vec::new();
            if table["type"] == "TABLE" {
                let mut token = String::new();
                loop {
                    let page = self.get(&format!("{path}/data?maxResults=20000{token}"));
                    rows.extend(page["rows"].as_array().into_iter().flatten().map(Value::to_string));
                    match page["pageToken"].as_str().filter(|token| !token.is_empty()) {
                        Some(next) => token = format!("&pageToken={next}"),
                        None => break,
                    }
                }
            } else {
                let sql = format!("SELECT * FROM `{PROJECT}.{dataset}.{id}`");
                rows.extend(self.query(&sql).iter().map(|row| Value::from(row.clone()).to_string()));
            }
            rows.sort();
            contents.insert(id, rows);
        }
        contents
    }

    pub fn sheet(&self) -> Value {
        self.get(&format!("/v4/spreadsheets/{SHEET}/values/mappings?valueRenderOption=UNFORMATTED_VALUE"))["values"]
            .clone()
    }

    /// The keys of a bucket's objects.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let listed = self.get(&format!("/storage/v1/b/{bucket}/o?maxResults=1000"));
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|object| object["name"].as_str().map(String::from)).collect()
    }

    pub fn job_state(&self, job: &str) -> String {
        self.get(&format!("/v1/{job}"))["state"].as_str().unwrap_or_default().to_string()
    }

    /// The whole loss: the dataset with everything in it, and the sheet's cells.
    pub fn lose_everything(&self) {
        self.delete(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}?deleteContents=true"));
        self.post(&format!("/v4/spreadsheets/{SHEET}/values/mappings:clear"), json!({}));
    }

    /// The requests since a mark, as (method name, whole record).
    pub fn requests(&self, since: u64) -> Vec<Value> {
        self.get(&format!("/_sandbox/requests?since={since}"))["requests"].as_array().cloned().unwrap_or_default()
    }

    pub fn mark(&self) -> u64 {
        self.get("/_sandbox/requests?since=0")["next"].as_u64().expect("a number")
    }
}
