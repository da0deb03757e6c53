//! Jobs: accepted, stored, run in the background, PENDING -> RUNNING -> DONE, and told about.
//!
//! What a job does stands in `load`, `extract`, `copy` and `super::query`; here is what all kinds share.

pub mod api;
pub mod copy;
pub mod extract;
pub mod load;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::datasets::canonical_location;
use super::http::Caller;
use super::names::TableRef;
use super::service::{BigQuery, etag};
use crate::core::ApiError;

const JOBS: &str = "bq.jobs";
const TIMES: &str = "bq.jobTimes";

/// A job as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    pub project: String,
    pub id: String,
    pub location: String,
    pub configuration: Value,
    pub state: String,
    #[serde(default)]
    pub error: Option<Value>,
    #[serde(default)]
    pub errors: Vec<Value>,
    /// `statistics`, without the three times.
    #[serde(default)]
    pub statistics: Map<String, Value>,
    pub created_ms: i64,
    #[serde(default)]
    pub started_ms: Option<i64>,
    #[serde(default)]
    pub ended_ms: Option<i64>,
    pub user: String,
    /// The HTTP status that the error stands for.
    #[serde(default)]
    pub error_code: u16,
    /// Set by queries: where the rows of the answer lie, and how many a DML statement touched.
    #[serde(default)]
    pub result: Option<QueryResult>,
    #[serde(default)]
    pub parent: Option<String>,
}

/// What `getQueryResults` needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryResult {
    pub fields: Vec<Value>,
    pub table: Option<TableRef>,
    pub total_rows: u64,
    pub affected: Option<i64>,
    /// Answers that the anonymous table no longer has (it was replaced or expired) are gone.
    #[serde(default)]
    pub version_us: i64,
}

/// The jobs that run in this process.
#[derive(Default)]
pub struct Board {
    running: Mutex<HashMap<String, Arc<Running>>>,
}

/// One running job.
pub struct Running {
    cancelled: AtomicBool,
    done: watch::Sender<bool>,
}

/// What a running job knows of itself.
#[derive(Clone)]
pub struct Context {
    pub service: Arc<BigQuery>,
    pub project: String,
    pub job_id: String,
    pub location: String,
    pub caller: Caller,
    pub configuration: Value,
    /// A file that came with the request, for loads.
    pub upload: Option<PathBuf>,
    running: Arc<Running>,
}

/// How a job ended when it did not succeed.
#[derive(Debug)]
pub struct JobFailure {
    pub error: Box<ApiError>,
    /// `status.errors` beyond the error itself.
    pub more: Vec<Value>,
}

/// How a job ended when it succeeded.
#[derive(Debug, Default)]
pub struct Success {
    pub statistics: Map<String, Value>,
    pub result: Option<QueryResult>,
    /// Problems that were within the job's tolerance.
    pub warnings: Vec<Value>,
    /// Changes to `configuration` that the job itself decided, such as an anonymous destination.
    pub configuration: Option<Value>,
}

impl From<ApiError> for JobFailure {
    fn from(error: ApiError) -> Self {
        Self { error: Box::new(error), more: vec![] }
    }
}

impl Context {
    /// # Errors
    /// `stopped` when the job was cancelled.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.running.cancelled.load(Ordering::Relaxed) {
            let message = "Job execution was cancelled: User requested cancellation";
            return Err(ApiError::new(400, "stopped", message));
        }
        Ok(())
    }
}

impl JobRecord {
    fn key(&self) -> String {
        format!("{}/{}", self.project, self.id)
    }

    /// `project:location.id`.
    pub fn full_id(&self) -> String {
        format!("{}:{}.{}", self.project, self.location, self.id)
    }

    /// `QUERY`, `LOAD`, `EXTRACT` or `COPY`.
    pub fn kind(&self) -> &str {
        self.configuration["jobType"].as_str().unwrap_or("UNKNOWN")
    }

    pub fn is_done(&self) -> bool {
        self.state == "DONE"
    }

    /// The resource as it is returned.
    pub fn view(&self, service: &BigQuery) -> Value {
        let mut statistics = Map::new();
        let mut time = |name: &str, ms: Option<i64>| {
            if let Some(ms) = ms {
                statistics.insert(name.into(), json!(ms.to_string()));
            }
        };
        time("creationTime", Some(self.created_ms));
        time("startTime", self.started_ms);
        time("endTime", self.ended_ms);
        statistics.extend(self.statistics.clone());
        let mut status = json!({"state": self.state});
        if let Some(error) = &self.error {
            status["errorResult"] = error.clone();
        }
        if !self.errors.is_empty() {
            status["errors"] = json!(self.errors);
        }
        let link = service.self_link(&format!("{}/jobs/{}?location={}", self.project, self.id, self.location));
        let mut out = json!({
            "kind": "bigquery#job",
            "etag": etag(&json!([self.id, self.state, self.ended_ms])),
            "id": self.full_id(),
            "selfLink": link,
            "user_email": self.user,
            "configuration": self.configuration,
            "jobReference": {"projectId": self.project, "jobId": self.id, "location": self.location},
            "statistics": statistics,
            "status": status,
            "principal_subject": format!("user:{}", self.user),
        });
        if let Some(parent) = &self.parent {
            out["statistics"]["parentJobId"] = json!(parent);
        }
        out
    }

    /// The error of a failed job as an HTTP answer.
    pub fn http_error(&self) -> Option<ApiError> {
        let error = self.error.as_ref()?;
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let mut out = ApiError::new(self.error_code.max(400), text("reason"), text("message"));
        if let Some(location) = error["location"].as_str() {
            out = out.at("other", location);
        }
        Some(out)
    }
}

/// # Errors
/// `notFound` with Google's message; also when `location` is given and another one, or needed and not given.
pub fn find(service: &BigQuery, project: &str, id: &str, location: Option<&str>) -> Result<JobRecord, ApiError> {
    let shown =
        location.map_or_else(|| format!("{project}:{id}"), |l| format!("{project}:{}.{id}", canonical_location(l)));
    let missing = || ApiError::not_found(format!("Not found: Job {shown}"));
    let value = service.sandbox.db.get(JOBS, &format!("{project}/{id}"))?.ok_or_else(missing)?;
    let record: JobRecord = decode(value)?;
    match location {
        Some(l) if canonical_location(l) != record.location => Err(missing()),
        // Outside the two multi-regions the location must be said.
        None if !matches!(record.location.as_str(), "US" | "EU") => Err(missing()),
        _ => Ok(record),
    }
}

fn decode(value: Value) -> Result<JobRecord, ApiError> {
    serde_json::from_value(value).map_err(|e| ApiError::internal(format!("a stored job is damaged: {e}")))
}

fn save(service: &BigQuery, record: &JobRecord) -> Result<(), ApiError> {
    let value = serde_json::to_value(record).map_err(|e| ApiError::internal(e.to_string()))?;
    service.sandbox.db.put(JOBS, &record.key(), &value)
}

/// The key under which a job is found by time, newest first.
fn time_key(record: &JobRecord) -> String {
    format!("{}/{:015}/{}", record.project, 999_999_999_999_999 - record.created_ms, record.id)
}

/// All jobs of a project, newest first.
///
/// # Errors
/// When the database fails.
pub fn newest_first(service: &BigQuery, project: &str) -> Result<Vec<JobRecord>, ApiError> {
    let prefix = format!("{project}/");
    let keys = service.sandbox.db.scan(TIMES, &prefix, None, usize::MAX)?;
    let mut out = vec![];
    for (key, _) in keys {
        let id = key.rsplit('/').next().unwrap_or_default();
        if let Some(value) = service.sandbox.db.get(JOBS, &format!("{project}/{id}"))? {
            out.push(decode(value)?);
        }
    }
    Ok(out)
}

/// Removes a finished job's record.
///
/// # Errors
/// When it is not done, or the database fails.
pub fn forget(service: &BigQuery, record: &JobRecord) -> Result<(), ApiError> {
    if !record.is_done() {
        return Err(ApiError::invalid(format!("Job {} is not done; it cannot be deleted", record.full_id())));
    }
    service.sandbox.db.transaction(|tx| {
        tx.delete(JOBS, &record.key())?;
        tx.delete(TIMES, &time_key(record)).map(drop)
    })
}

/// Ends what a previous process left behind: its jobs did not commit, or their commit is complete.
///
/// # Errors
/// When the database fails.
pub fn end_unfinished(service: &BigQuery) -> Result<(), ApiError> {
    for (_, value) in service.sandbox.db.scan(JOBS, "", None, usize::MAX)? {
        let mut record = decode(value)?;
        if record.is_done() {
            continue;
        }
        let error = json!({"reason": "backendError", "message": "The job was interrupted by a restart of the service. Retry it with a new job id."});
        record.state = "DONE".into();
        record.started_ms = record.started_ms.or(Some(record.created_ms));
        record.ended_ms = Some(service.now_ms());
        record.error_code = 503;
        record.errors = vec![error.clone()];
        record.error = Some(error);
        save(service, &record)?;
    }
    Ok(())
}

/// Takes a new job: checks the reference, stores it PENDING and sets it running.
///
/// # Errors
/// `duplicate` for a job id in use, `invalid` for a bad request, `notFound` where the destination's dataset is missing.
pub fn submit(
    service: &Arc<BigQuery>,
    project: &str,
    caller: &Caller,
    mut body: Map<String, Value>,
    upload: Option<PathBuf>,
) -> Result<JobRecord, ApiError> {
    let reference = body.get("jobReference").cloned().unwrap_or_default();
    let mut configuration = body.remove("configuration").unwrap_or_default();
    super::service::drop_nulls(&mut configuration);
    let kind = kind_of(&configuration)?;
    configuration["jobType"] = json!(kind);
    let given = reference["jobId"].as_str().filter(|id| !id.is_empty());
    let id = given.map_or_else(new_id, str::to_owned);
    if id.len() > 1024 || !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(ApiError::invalid(format!(
            "Invalid job ID \"{id}\". Job IDs must be alphanumeric (plus underscores and dashes) and must be at most 1024 characters long."
        )));
    }
    let location = reference["location"].as_str().filter(|l| !l.is_empty()).map(canonical_location);
    let location = place(service, project, &configuration, location)?;
    let record = JobRecord {
        project: project.to_owned(),
        id,
        location,
        configuration,
        state: "PENDING".into(),
        error: None,
        errors: vec![],
        statistics: Map::new(),
        created_ms: service.now_ms(),
        started_ms: None,
        ended_ms: None,
        user: caller.name(project),
        error_code: 0,
        result: None,
        parent: None,
    };
    let value = serde_json::to_value(&record).map_err(|e| ApiError::internal(e.to_string()))?;
    service.sandbox.db.transaction(|tx| {
        if tx.get(JOBS, &record.key())?.is_some() {
            return Err(ApiError::duplicate(format!("Already Exists: Job {}", record.full_id())));
        }
        tx.put(JOBS, &record.key(), &value)?;
        tx.put(TIMES, &time_key(&record), &json!(1))
    })?;
    let running = Arc::new(Running { cancelled: AtomicBool::new(false), done: watch::Sender::new(false) });
    service.board.lock().insert(record.key(), running.clone());
    let context = Context {
        service: service.clone(),
        project: record.project.clone(),
        job_id: record.id.clone(),
        location: record.location.clone(),
        caller: caller.clone(),
        configuration: record.configuration.clone(),
        upload,
        running,
    };
    tokio::spawn(run(context, record.clone()));
    Ok(record)
}

/// An id as BigQuery makes them up.
fn new_id() -> String {
    use rand::Rng;
    let mut random = rand::rng();
    let letters: String = (0..27).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect();
    format!("job_{letters}")
}

fn kind_of(configuration: &Value) -> Result<&'static str, ApiError> {
    let kinds = [("query", "QUERY"), ("load", "LOAD"), ("extract", "EXTRACT"), ("copy", "COPY")];
    let mut present = kinds.iter().filter(|(key, _)| configuration.get(key).is_some_and(Value::is_object));
    match (present.next(), present.next()) {
        (Some((_, kind)), None) => Ok(kind),
        (None, _) => {
            Err(ApiError::required("Required parameter is missing: one of configuration.query, .load, .extract, .copy"))
        }
        _ => Err(ApiError::invalid("Only one of query, load, extract and copy may be configured in a job")),
    }
}

/// Where a job runs: where it was told to, or where its data are.
fn place(service: &BigQuery, project: &str, configuration: &Value, told: Option<String>) -> Result<String, ApiError> {
    let reference = ["/load/destinationTable", "/copy/destinationTable", "/extract/sourceTable"]
        .iter()
        .find_map(|path| configuration.pointer(path))
        .cloned();
    let data = match reference {
        Some(reference) => {
            let table = TableRef::from_json(&reference, project, "table")?;
            let owner = service.dataset(&table.table.project, &table.table.dataset)?;
            let data = canonical_location(owner.location());
            if let Some(told) = &told
                && *told != data
            {
                let (project, dataset) = (&table.table.project, &table.table.dataset);
                return Err(ApiError::not_found(format!(
                    "Not found: Dataset {project}:{dataset} was not found in location {told}"
                )));
            }
            Some(data)
        }
        None => None,
    };
    if let Some(location) = told.or(data) {
        return Ok(location);
    }
    let query = configuration.get("query").cloned().unwrap_or_default();
    super::query::infer_location(service, project, &query)
}

async fn run(context: Context, mut record: JobRecord) {
    let service = context.service.clone();
    let delay = service.settings.job_delay_ms;
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    record.state = "RUNNING".into();
    record.started_ms = Some(service.now_ms());
    let stored = save(&service, &record);
    let outcome = match stored.and_then(|()| context.check()) {
        Ok(()) => work_or_fail(context.clone(), &record).await,
        Err(error) => Err(error.into()),
    };
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    match outcome {
        Ok(success) => {
            record.statistics = success.statistics;
            record.result = success.result;
            record.errors = success.warnings;
            if let Some(configuration) = success.configuration {
                record.configuration = configuration;
            }
        }
        Err(failure) => {
            let proto = failure.error.error_proto();
            record.error_code = failure.error.code;
            record.errors = std::iter::once(proto.clone()).chain(failure.more).collect();
            record.error = Some(proto);
        }
    }
    record.state = "DONE".into();
    record.ended_ms = Some(service.now_ms().max(record.started_ms.unwrap_or(0)));
    if let Err(error) = save(&service, &record) {
        tracing::error!("job {} cannot be stored: {error}", record.full_id());
    }
    if let Some(upload) = &context.upload {
        let _ = std::fs::remove_file(upload);
    }
    service.board.lock().remove(&record.key());
    context.running.done.send_replace(true);
}

/// As `work`, but for a job that was made to fail: late, when an extract's files are there. Other jobs commit nothing
/// when they fail.
async fn work_or_fail(context: Context, record: &JobRecord) -> Result<Success, JobFailure> {
    let Some(fail) = context.caller.fail_job.clone() else { return work(context, record).await };
    if record.kind() == "EXTRACT" {
        work(context, record).await?;
    }
    Err(ApiError::new(500, fail.reason, fail.message).into())
}

async fn work(context: Context, record: &JobRecord) -> Result<Success, JobFailure> {
    let kind = record.kind().to_owned();
    let task = match kind.as_str() {
        "QUERY" => tokio::spawn(super::query::run(context)),
        "LOAD" => tokio::spawn(load::run(context)),
        "EXTRACT" => tokio::spawn(extract::run(context)),
        _ => tokio::task::spawn_blocking(move || copy::run(&context)),
    };
    // A task of its own, so that even a panic leaves a job that is DONE.
    task.await.unwrap_or_else(|e| Err(ApiError::new(500, "internalError", format!("the job broke off: {e}")).into()))
}

impl Board {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a running job to stop.
    pub fn cancel(&self, record: &JobRecord) {
        if let Some(running) = self.lock().get(&record.key()) {
            running.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until a job is done, or the time is up.
    pub async fn wait(&self, record: &JobRecord, limit: Duration) {
        let receiver = self.lock().get(&record.key()).map(|r| r.done.subscribe());
        if let Some(mut receiver) = receiver {
            let _ = tokio::time::timeout(limit, receiver.wait_for(|done| *done)).await;
        }
    }
}
