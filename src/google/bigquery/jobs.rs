//! Jobs, by the official crate: insert (the same id twice is one job), wait, list, cancel. Does not know what a job
//! does; configurations are JSON in REST form.

use std::time::{Duration, Instant};

use google_cloud_bigquery_v2::model;
use google_cloud_bigquery_v2::model::list_jobs_request::StateFilter;
use serde_json::Value;

use super::{BigQuery, enums, string};
use crate::google::error::{self, Fault, Known};
use crate::google::retry::{self, Effect};
use crate::model::Failure;

/// Where a job is. The location matters: `jobs.get` of a job outside US and EU is "not found" without it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobRef {
    pub project: String,
    /// Letters, digits, `_` and `-`, at most 1,024.
    pub job_id: String,
    /// `None` before the insert: the service takes it from the datasets.
    pub location: Option<String>,
}

/// A job's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    Pending,
    Running,
    /// Done is not success: see [`job_failure`].
    Done,
    Unknown(String),
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs that have not ended; otherwise all.
    pub only_active: bool,
    /// Jobs of all users, not only the caller's (needs bigquery.jobs.listAll).
    pub all_users: bool,
    /// Milliseconds since 1970.
    pub min_creation_time_ms: Option<u64>,
}

/// How often a job that failed inside the service is begun, each time under an id of its own
/// (<https://cloud.google.com/bigquery/docs/error-messages>: `jobBackendError`, `jobInternalError`).
const JOB_ATTEMPTS: u32 = 5;

/// How a job is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct PollPolicy {
    /// The first pause between two looks; it grows by half each time.
    pub first: Duration,
    pub max: Duration,
    /// How long to wait in all.
    pub deadline: Duration,
}

impl Default for PollPolicy {
    fn default() -> Self {
        // BigQuery ends a load or extract after 6 hours.
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
            deadline: Duration::from_secs(6 * 3600 + 600),
        }
    }
}

impl JobRef {
    pub fn new(project: impl Into<String>, job_id: impl Into<String>, location: Option<String>) -> Self {
        Self { project: project.into(), job_id: job_id.into(), location }
    }

    /// The reference inside a job resource.
    pub fn of(job: &Value) -> Self {
        let reference = &job["jobReference"];
        let location = reference.get("location").and_then(Value::as_str).filter(|text| !text.is_empty());
        Self::new(string(reference, "projectId"), string(reference, "jobId"), location.map(str::to_string))
    }

    fn object(&self) -> String {
        match &self.location {
            Some(location) => format!("job {}:{location}.{}", self.project, self.job_id),
            None => format!("job {}.{}", self.project, self.job_id),
        }
    }
}

/// The state of a job resource.
pub fn job_state(job: &Value) -> JobState {
    match string(&job["status"], "state").as_str() {
        "PENDING" => JobState::Pending,
        "RUNNING" => JobState::Running,
        "DONE" => JobState::Done,
        other => JobState::Unknown(other.to_string()),
    }
}

/// Why a finished job failed, from `status.errorResult`; `None` for success. `status.errors` alone are warnings.
///
/// `Transient` here means: the same work under a *new* job id may succeed.
pub fn job_failure(job: &Value) -> Option<Failure> {
    let result = job["status"].get("errorResult").filter(|result| result.is_object())?;
    let location = string(result, "location");
    let mut message = string(result, "message");
    if !location.is_empty() && !message.contains(&location) {
        message = format!("{message} (at {location})");
    }
    Some(error::job_failure(&JobRef::of(job).object(), &string(result, "reason"), &message))
}

impl BigQuery {
    /// Starts a job. A job of this id that is there already, with the same work, is the answer: the same deterministic
    /// id sent again, after a lost reply or a restart, finds the first one.
    ///
    /// # Errors
    /// `Exists` when the id belongs to a job with other work; `Invalid` for a configuration that is none; else as mapped.
    pub async fn insert_job(&self, job: &JobRef, configuration: Value) -> Result<Value, Failure> {
        let object = job.object();
        let request = Self::request(job, &configuration)?;
        let sent = self
            .official(&object, Effect::Idempotent, || {
                self.jobs.insert_job().set_project_id(&job.project).set_job((*request).clone()).send()
            })
            .await;
        match sent {
            Ok(inserted) => enums::rest_form(&object, &inserted),
            Err(exists @ Failure::Exists { .. }) => {
                // `duplicate` also names a destination that exists: then there is no such job.
                let found = match self.get_job(job).await {
                    Err(Failure::NotFound { .. }) => return Err(exists),
                    found => found?,
                };
                if same_work(&configuration, &found["configuration"]) {
                    return Ok(found);
                }
                let message = "the id belongs to a job with other work".to_string();
                Err(Failure::Exists { object, message })
            }
            Err(failure) => Err(failure),
        }
    }

    /// The job in the crate's words; on the heap, as it is large.
    fn request(job: &JobRef, configuration: &Value) -> Result<Box<model::Job>, Failure> {
        let typed: model::JobConfiguration = serde_json::from_value(configuration.clone()).map_err(|error| {
            let message = format!("no job configuration: {error}");
            Failure::Invalid { object: job.object(), message }
        })?;
        let reference = model::JobReference::new()
            .set_project_id(&job.project)
            .set_job_id(&job.job_id)
            .set_or_clear_location(job.location.clone());
        Ok(Box::new(model::Job::new().set_configuration(typed).set_job_reference(reference)))
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_job(&self, job: &JobRef) -> Result<Value, Failure> {
        let object = job.object();
        let found = self
            .official(&object, Effect::Read, || {
                self.jobs
                    .get_job()
                    .set_project_id(&job.project)
                    .set_job_id(&job.job_id)
                    .set_location(job.location.clone().unwrap_or_default())
                    .send()
            })
            .await?;
        enums::rest_form(&object, &found)
    }

    /// Waits until the job is done, however it ended (see [`job_failure`]); `progress` sees every look at it.
    ///
    /// # Errors
    /// `Unknown` when the deadline passes first, or the job cannot be looked at: it goes on.
    pub async fn wait_job(
        &self,
        job: &JobRef,
        poll: &PollPolicy,
        progress: &mut (dyn FnMut(&Value) + Send),
    ) -> Result<Value, Failure> {
        let start = Instant::now();
        let mut pause = poll.first;
        loop {
            let seen = self.get_job(job).await.map_err(retry::unknown)?;
            progress(&seen);
            if job_state(&seen) == JobState::Done {
                return Ok(seen);
            }
            if start.elapsed() + pause > poll.deadline {
                let state = string(&seen["status"], "state");
                let message = format!("still {state} after {} s; it was left running", start.elapsed().as_secs());
                return Err(Failure::Unknown { object: job.object(), message });
            }
            tokio::time::sleep(pause).await;
            pause = (pause + pause / 2).min(poll.max);
        }
    }

    /// Starts a job and waits until it succeeded.
    ///
    /// # Errors
    /// As `insert_job` and `wait_job`, and what [`job_failure`] says.
    pub async fn run_job(
        &self,
        job: &JobRef,
        configuration: Value,
        poll: &PollPolicy,
        progress: &mut (dyn FnMut(&Value) + Send),
    ) -> Result<Value, Failure> {
        let done = self.finish_job(job, configuration, poll, progress).await?;
        job_failure(&done).map_or(Ok(done), Err)
    }

    /// As `run_job`; a job that failed inside the service is begun again, under the next of the ids that `id` gives
    /// for the attempts from 0 on. (Only what has ended is: one that may still run would write beside the next.)
    ///
    /// # Errors
    /// Those of the last attempt.
    pub async fn complete_job(
        &self,
        id: impl Fn(u32) -> JobRef,
        make: impl Fn(u32) -> Value,
        poll: &PollPolicy,
    ) -> Result<Value, Failure> {
        let mut attempt = 0;
        loop {
            let done = self.finish_job(&id(attempt), make(attempt), poll, &mut |_| {}).await?;
            let Some(failure) = job_failure(&done) else { return Ok(done) };
            attempt += 1;
            if !matches!(failure, Failure::Transient { .. }) || attempt == JOB_ATTEMPTS {
                return Err(failure);
            }
            let fault = Fault { failure, effect: Known::NotDone, retry_after: None };
            // Jobs take minutes or hours: what bounds them is their number, not a call's time.
            let delay = match self.rest.retry.pause(attempt, Duration::ZERO, &fault) {
                Ok(delay) => delay,
                Err(why) => return Err(retry::told(fault.failure, why)),
            };
            tracing::debug!(attempt, delay_ms = delay.as_millis() as u64, failure = %fault.failure, "beginning a job again");
            tokio::time::sleep(delay).await;
        }
    }

    async fn finish_job(
        &self,
        job: &JobRef,
        configuration: Value,
        poll: &PollPolicy,
        progress: &mut (dyn FnMut(&Value) + Send),
    ) -> Result<Value, Failure> {
        let inserted = self.insert_job(job, configuration).await?;
        progress(&inserted);
        if job_state(&inserted) == JobState::Done {
            return Ok(inserted);
        }
        self.wait_job(&JobRef::of(&inserted), poll, progress).await
    }

    /// The project's jobs, newest first, with their configurations.
    ///
    /// # Errors
    /// `Denied` for `all_users` without the permission, and as mapped by `error.rs`.
    pub async fn list_jobs(&self, project: &str, filter: &JobFilter) -> Result<Vec<Value>, Failure> {
        let object = format!("jobs of project {project}");
        let states = if filter.only_active { vec![StateFilter::Pending, StateFilter::Running] } else { vec![] };
        let listed = self
            .listed(
                &object,
                |token| {
                    self.jobs
                        .list_jobs()
                        .set_project_id(project)
                        .set_all_users(filter.all_users)
                        .set_projection(model::list_jobs_request::Projection::Full)
                        .set_state_filter(states.clone())
                        .set_min_creation_time(filter.min_creation_time_ms.unwrap_or_default())
                        .set_max_results(super::PAGE_SIZE as i32)
                        .set_page_token(token)
                        .send()
                },
                |page| (page.jobs, page.next_page_token),
            )
            .await?;
        listed.iter().map(|job| enums::rest_form(&object, job)).collect()
    }

    /// Asks the service to end a job. The job may still succeed: wait for it.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn cancel_job(&self, job: &JobRef) -> Result<(), Failure> {
        self.official(&job.object(), Effect::Idempotent, || {
            self.jobs
                .cancel_job()
                .set_project_id(&job.project)
                .set_job_id(&job.job_id)
                .set_location(job.location.clone().unwrap_or_default())
                .send()
        })
        .await
        .map(drop)
    }
}

/// Whether two configurations read and write the same things.
fn same_work(sent: &Value, found: &Value) -> bool {
    ["copy", "load", "extract", "query"].iter().all(|kind| match (sent.get(kind), found.get(kind)) {
        (None, None) => true,
        (Some(sent), Some(found)) => WORK.iter().all(|key| match (sent.get(key), found.get(key)) {
            (Some(sent), Some(found)) => super::answers(sent, found),
            // An old form of one source for many, or a destination that the service made up.
            _ => true,
        }),
        _ => false,
    })
}

const WORK: [&str; 7] =
    ["query", "sourceTable", "sourceTables", "destinationTable", "sourceUris", "destinationUris", "operationType"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_done_job_with_an_error_result_failed() {
        let job = |status: Value| json!({"jobReference": {"projectId": "p", "jobId": "j", "location": "EU"}, "status": status});
        let failed = |reason: &str| {
            job_failure(&job(
                json!({"state": "DONE", "errorResult": {"reason": reason, "message": "text", "location": "gs://b/o"}}),
            ))
        };
        assert_eq!(
            job_failure(&job(json!({"state": "DONE", "errors": [{"reason": "invalid", "message": "a warning"}]}))),
            None
        );
        assert_eq!(failed("invalid").unwrap().to_string(), "job p:EU.j: text (at gs://b/o) (invalid)");
        assert!(matches!(failed("notFound"), Some(Failure::NotFound { .. })));
        assert!(matches!(failed("accessDenied"), Some(Failure::Denied { .. })));
        assert!(matches!(failed("quotaExceeded"), Some(Failure::Denied { .. })));
        assert!(matches!(failed("duplicate"), Some(Failure::Exists { .. })));
        assert!(matches!(failed("jobBackendError"), Some(Failure::Transient { .. })));
        assert!(matches!(failed("stopped"), Some(Failure::Precondition { .. })));
        assert_eq!(job_state(&job(json!({"state": "RUNNING"}))), JobState::Running);
    }

    #[test]
    fn the_same_work_is_recognised() {
        let copy = |to: &str| {
            json!({"copy": {"sourceTable": {"tableId": "a@1"}, "destinationTable": {"tableId": to},
            "operationType": "SNAPSHOT"}})
        };
        assert!(same_work(&copy("b"), &copy("b")));
        assert!(!same_work(&copy("b"), &copy("c")));
        assert!(!same_work(&copy("b"), &json!({"query": {"query": "SELECT 1"}})));
    }
}
