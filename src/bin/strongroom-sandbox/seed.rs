//! `--seed PROFILE`: fills an empty sandbox over HTTP, on its own endpoint, as a user of Google's APIs would.
//!
//! It finds out what is there first and leaves it alone, so that a restart with the same flag changes nothing. Knows
//! the protocol only: nothing of how the sandbox keeps its state.

mod data;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const DATASET: &str = "ai_usage_analytics";
const REGION: &str = "us-central1";
/// The identifier that the spreadsheet asks for; a server may choose another.
const SPREADSHEET: &str = "sandbox-api-key-mappings";
const TAB: &str = "mappings";
/// The pipeline that takes usage in, and the secrets with the keys it uses.
const SERVICE: &str = "ai-usage-analytics-pipeline";
const SECRETS: [(&str, &str); 2] = [("cursor-api-key", "cursor"), ("anthropic-api-key", "anthropic")];
/// How long one job may take; loading takes seconds.
const JOB_LIMIT: Duration = Duration::from_secs(300);

macro_rules! sql {
    ($($path:literal),* $(,)?) => { [$(($path, include_str!(concat!("../../../sql/", $path, ".sql")))),*] };
}

const TABLES: [(&str, &str); 5] = sql!(
    "tables/dim_api_key_user",
    "tables/dim_model_price",
    "tables/fct_cost_daily",
    "tables/fct_usage_daily",
    "tables/stg_llm_requests",
);
const VIEWS: [(&str, &str); 4] =
    sql!("views/vw_attribution_daily", "views/vw_daily_totals", "views/vw_finance_summary", "views/vw_monthly_cost",);

/// What is seeded, and where.
pub struct Seed {
    /// `http://ADDRESS` of the sandbox.
    pub endpoint: String,
    pub project: String,
    /// Buckets are named `{prefix}-daily`, `-weekly`, `-monthly`.
    pub bucket_prefix: String,
}

/// Makes the buckets, the dataset with its tables, rows and views, the spreadsheet, the secrets, the pipeline's service and the scheduler's
/// jobs; what is
/// there already stays as it is. Returns a line for each thing.
///
/// # Errors
/// What was being made, and the server's answer.
pub async fn ai_usage_analytics(seed: &Seed) -> Result<Vec<String>, String> {
    let http = reqwest::Client::builder().no_proxy().build().map_err(|e| e.to_string())?;
    let google = Client { http, seed };
    let profile = data::profile()?;
    let mut made = Vec::new();
    google.buckets(&mut made).await?;
    google.dataset(&profile, &mut made).await?;
    google.spreadsheet(&profile.sheet, &mut made).await?;
    google.secrets(&mut made).await?;
    let service = google.service(&mut made).await?;
    google.scheduler(&service, &mut made).await?;
    Ok(made)
}

struct Client<'a> {
    http: reqwest::Client,
    seed: &'a Seed,
}

impl Client<'_> {
    // ---------------------------------------------------------------------------------------------- Cloud Storage

    async fn buckets(&self, made: &mut Vec<String>) -> Result<(), String> {
        for (tier, class, days) in [("daily", "STANDARD", 30), ("weekly", "NEARLINE", 84), ("monthly", "ARCHIVE", 2557)]
        {
            let name = format!("{}-{tier}", self.seed.bucket_prefix);
            let bucket = json!({
                "name": name,
                "location": "US",
                "storageClass": class,
                "labels": { "purpose": "backup", "tier": tier },
                "lifecycle": { "rule": [{ "action": { "type": "Delete" }, "condition": { "age": days } }] },
                "iamConfiguration": {
                    "uniformBucketLevelAccess": { "enabled": true },
                    "publicAccessPrevention": "enforced",
                },
            });
            let path = format!("/storage/v1/b?project={}", self.seed.project);
            let new = self.create(&path, &bucket).await?;
            made.push(told(
                &format!("bucket gs://{name}"),
                new,
                &format!("{class}, objects deleted after {days} days"),
            ));
        }
        Ok(())
    }

    // --------------------------------------------------------------------------------------------------- BigQuery

    async fn dataset(&self, profile: &data::Profile, made: &mut Vec<String>) -> Result<(), String> {
        let dataset = json!({
            "datasetReference": { "projectId": self.seed.project, "datasetId": DATASET },
            "location": "US",
            "friendlyName": "AI usage analytics",
            "description": "Usage and cost of AI platforms. Requests and prices are real, people and keys are made up.",
            "labels": { "domain": "finance", "criticality": "high" },
        });
        let new = self.create(&self.bigquery("/datasets"), &dataset).await?;
        made.push(told(&format!("dataset {}.{DATASET}", self.seed.project), new, "US"));
        if !new {
            return Ok(());
        }
        for (name, text) in TABLES {
            self.query(text).await.map_err(|e| format!("{name}: {e}"))?;
        }
        for (table, rows, count) in &profile.tables {
            self.load(table, rows).await.map_err(|e| format!("rows of {table}: {e}"))?;
            made.push(format!("table {table}: {count} rows"));
        }
        for (name, text) in in_order(VIEWS.to_vec()) {
            self.query(text).await.map_err(|e| format!("{name}: {e}"))?;
            made.push(format!("view {}", object(name)));
        }
        Ok(())
    }

    async fn query(&self, text: &str) -> Result<(), String> {
        let text = text.replace("${project_id}", &self.seed.project).replace("${dataset}", DATASET);
        let request = json!({ "query": text, "useLegacySql": false, "location": "US", "timeoutMs": 60_000 });
        let answer = self.call(Method::POST, &self.bigquery("/queries"), Some(&request)).await?;
        if answer["jobComplete"] == json!(true) {
            return Ok(());
        }
        let job = answer["jobReference"]["jobId"].as_str().unwrap_or_default().to_string();
        self.wait_for_job(&job).await
    }

    /// Loads JSON Lines into an existing, empty table by an upload.
    async fn load(&self, table: &str, rows: &str) -> Result<(), String> {
        let job_id = format!("seed-{table}-{}", nonce());
        let job = json!({
            "jobReference": { "projectId": self.seed.project, "jobId": job_id, "location": "US" },
            "configuration": { "load": {
                "destinationTable": { "projectId": self.seed.project, "datasetId": DATASET, "tableId": table },
                "sourceFormat": "NEWLINE_DELIMITED_JSON",
                "createDisposition": "CREATE_NEVER",
                "writeDisposition": "WRITE_EMPTY",
            }},
        });
        let url = format!("{}/upload{}?uploadType=resumable", self.seed.endpoint, self.bigquery("/jobs"));
        let opened = self
            .http
            .post(&url)
            .header("x-upload-content-type", "application/octet-stream")
            .header("x-upload-content-length", rows.len())
            .json(&job)
            .send()
            .await
            .map_err(|e| format!("POST {url}: {e}"))?;
        let session = opened.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_string);
        let (status, answer) = read(opened).await?;
        let session = match session {
            Some(session) if status.is_success() => session,
            _ => return Err(format!("POST {url} answered {status}: {}", message(&answer))),
        };
        let sent = self
            .http
            .put(&session)
            .header("content-type", "application/octet-stream")
            .body(rows.to_string())
            .send()
            .await
            .map_err(|e| format!("PUT {session}: {e}"))?;
        let (status, answer) = read(sent).await?;
        if !status.is_success() {
            return Err(format!("PUT {session} answered {status}: {}", message(&answer)));
        }
        self.wait_for_job(answer["jobReference"]["jobId"].as_str().unwrap_or(&job_id)).await
    }

    async fn wait_for_job(&self, job_id: &str) -> Result<(), String> {
        let path = self.bigquery(&format!("/jobs/{job_id}?location=US"));
        let began = std::time::Instant::now();
        loop {
            let job = self.call(Method::GET, &path, None).await?;
            if job["status"]["state"] == "DONE" {
                // DONE says that it ended, not how.
                return match &job["status"]["errorResult"] {
                    Value::Null => Ok(()),
                    error => Err(format!("job {job_id}: {}", error["message"].as_str().unwrap_or("failed"))),
                };
            }
            if began.elapsed() > JOB_LIMIT {
                return Err(format!("job {job_id} did not end within {} s", JOB_LIMIT.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn bigquery(&self, path: &str) -> String {
        format!("/bigquery/v2/projects/{}{path}", self.seed.project)
    }

    // ----------------------------------------------------------------------------------------- Sheets, Secrets, Run, Scheduler

    async fn spreadsheet(&self, rows: &[Vec<Value>], made: &mut Vec<String>) -> Result<(), String> {
        let there = self.try_call(Method::GET, &format!("/v4/spreadsheets/{SPREADSHEET}"), None).await?;
        let id = if there.0.is_success() {
            SPREADSHEET.to_string()
        } else {
            let request = json!({
                "spreadsheetId": SPREADSHEET,
                "properties": { "title": "API key mappings", "locale": "en_US", "timeZone": "Etc/UTC" },
                "sheets": [{ "properties": { "title": TAB } }],
            });
            let created = self.call(Method::POST, "/v4/spreadsheets", Some(&request)).await?;
            let id =
                created["spreadsheetId"].as_str().ok_or("a spreadsheet without an identifier was created")?.to_string();
            let values = json!({ "range": format!("{TAB}!A1"), "majorDimension": "ROWS", "values": rows });
            // RAW: what looks like a number, a date or a formula stays what it is.
            let path = format!("/v4/spreadsheets/{id}/values/{TAB}!A1?valueInputOption=RAW");
            self.call(Method::PUT, &path, Some(&values)).await?;
            id
        };
        let holds = format!("tab {TAB}, {} rows", rows.len());
        made.push(told(&format!("spreadsheet {id}"), !there.0.is_success(), &holds));
        made.push(format!("MAPPINGS_SPREADSHEET_ID={id}"));
        Ok(())
    }

    /// The keys of the platforms whose usage is taken in; made up.
    async fn secrets(&self, made: &mut Vec<String>) -> Result<(), String> {
        for (secret, platform) in SECRETS {
            let parent = format!("/v1/projects/{}/secrets", self.seed.project);
            let request = json!({ "replication": { "automatic": {} }, "labels": { "platform": platform } });
            let new = self.create(&format!("{parent}?secretId={secret}"), &request).await?;
            if new {
                let payload = STANDARD.encode(format!("sample-{platform}-key-1"));
                let version = json!({ "payload": { "data": payload } });
                self.call(Method::POST, &format!("{parent}/{secret}:addVersion"), Some(&version)).await?;
            }
            made.push(told(&format!("secret {secret}"), new, "one version"));
        }
        Ok(())
    }

    /// The pipeline; returns where it answers.
    async fn service(&self, made: &mut Vec<String>) -> Result<String, String> {
        let parent = format!("/v2/projects/{}/locations/{REGION}/services", self.seed.project);
        let project = &self.seed.project;
        let key = |(secret, platform): (&str, &str)| {
            let variable = format!("{}_API_KEY", platform.to_uppercase());
            json!({ "name": variable, "valueSource": { "secretKeyRef": { "secret": secret, "version": "latest" } } })
        };
        let mut env = vec![json!({ "name": "BIGQUERY_DATASET", "value": DATASET })];
        env.extend(SECRETS.map(key));
        let service = json!({
            "labels": { "app": "ai-usage-analytics" },
            "ingress": "INGRESS_TRAFFIC_INTERNAL_ONLY",
            "template": {
                "serviceAccount": format!("{SERVICE}@{project}.iam.gserviceaccount.com"),
                "containers": [{ "image": format!("gcr.io/{project}/{SERVICE}:latest"), "env": env }],
                "scaling": { "maxInstanceCount": 1 },
            },
        });
        let new = self.create(&format!("{parent}?serviceId={SERVICE}"), &service).await?;
        let began = std::time::Instant::now();
        loop {
            let service = self.call(Method::GET, &format!("{parent}/{SERVICE}"), None).await?;
            match (&service["uri"], service["reconciling"] == json!(true)) {
                (Value::String(uri), false) => {
                    made.push(told(&format!("Cloud Run service {SERVICE}"), new, &format!("answers at {uri}")));
                    return Ok(uri.clone());
                }
                _ if began.elapsed() > JOB_LIMIT => {
                    return Err(format!("service {SERVICE} was not deployed within {} s", JOB_LIMIT.as_secs()));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn scheduler(&self, service: &str, made: &mut Vec<String>) -> Result<(), String> {
        let days = |days: u64| STANDARD.encode(json!({ "mode": "production", "days": days }).to_string());
        for (job, schedule, paused, body) in
            [("daily-usage-analytics", "0 1 * * *", false, days(1)), ("weekly-report", "0 6 * * 1", true, days(7))]
        {
            let parent = format!("projects/{}/locations/{REGION}", self.seed.project);
            let name = format!("{parent}/jobs/{job}");
            let request = json!({
                "name": name,
                "description": "Ingests yesterday's usage",
                "schedule": schedule,
                "timeZone": "Etc/UTC",
                "httpTarget": {
                    "uri": format!("{service}/run-daily-job"),
                    "httpMethod": "POST",
                    "headers": { "Content-Type": "application/json" },
                    "body": body,
                    "oidcToken": {
                        "serviceAccountEmail": format!("scheduler@{}.iam.gserviceaccount.com", self.seed.project),
                        "audience": service,
                    },
                },
            });
            let new = self.create(&format!("/v1/{parent}/jobs"), &request).await?;
            if paused && new {
                self.call(Method::POST, &format!("/v1/{name}:pause"), Some(&json!({}))).await?;
            }
            let state = if paused { "PAUSED by a person" } else { "ENABLED" };
            made.push(told(&format!("scheduler job {job}"), new, state));
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------------- HTTP

    /// Creates by POST; false when it was there already.
    async fn create(&self, path: &str, body: &Value) -> Result<bool, String> {
        match self.try_call(Method::POST, path, Some(body)).await? {
            (status, _) if status.is_success() => Ok(true),
            (StatusCode::CONFLICT, _) => Ok(false),
            (status, answer) => Err(format!("POST {path} answered {status}: {}", message(&answer))),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        match self.try_call(method.clone(), path, body).await? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, answer) => Err(format!("{method} {path} answered {status}: {}", message(&answer))),
        }
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), String> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.seed.endpoint));
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request.send().await.map_err(|e| format!("{method} {path}: {e}"))?).await
    }
}

/// A line for people: what it is, and what it holds unless it was there before.
fn told(what: &str, new: bool, holds: &str) -> String {
    if new { format!("{what}: {holds}") } else { format!("{what}: was there, left alone") }
}

async fn read(response: reqwest::Response) -> Result<(StatusCode, Value), String> {
    let status = response.status();
    let bytes = response.bytes().await.map_err(|e| e.to_string())?;
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or("no message")
}

/// Job identifiers are never used twice in a project, not even after the dataset was deleted.
fn nonce() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros())
}

fn object(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Views behind the views that they read.
fn in_order(mut views: Vec<(&'static str, &'static str)>) -> Vec<(&'static str, &'static str)> {
    let mut ordered = Vec::new();
    while !views.is_empty() {
        let reads = |text: &str, other: &str| text.contains(&format!(".{}`", object(other)));
        let free =
            views.iter().position(|(name, text)| !views.iter().any(|(other, _)| other != name && reads(text, other)));
        ordered.push(views.remove(free.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_come_after_the_views_they_read() {
        let names: Vec<&str> = in_order(VIEWS.to_vec()).iter().map(|(name, _)| object(name)).collect();
        assert_eq!(names, ["vw_attribution_daily", "vw_daily_totals", "vw_monthly_cost", "vw_finance_summary"]);
    }

    #[test]
    fn every_file_of_the_profile_is_embedded() {
        let sql = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        for (folder, embedded) in [("tables", TABLES.len()), ("views", VIEWS.len())] {
            assert_eq!(std::fs::read_dir(sql.join(folder)).unwrap().count(), embedded, "{folder}");
        }
    }
}
