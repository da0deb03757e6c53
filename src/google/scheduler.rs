//! Cloud Scheduler v1, by Google's crate google-cloud-scheduler-v1. Does not know why a job is paused.

use async_trait::async_trait;
use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_scheduler_v1::client::CloudScheduler;
use google_cloud_scheduler_v1::model;

use super::client_failure;
use super::error::Fault;
use super::retry::{self, Effect, RetryPolicy};
use crate::model::Failure;

/// What the program calls of Cloud Scheduler, described at the client's methods: a simulation stands in for it.
#[async_trait]
pub trait Schedules: Send + Sync {
    async fn list_jobs(&self, project: &str, location: &str) -> Result<Vec<Job>, Failure>;
    async fn get_job(&self, name: &str) -> Result<Job, Failure>;
    async fn pause_job(&self, name: &str) -> Result<Job, Failure>;
    async fn resume_job(&self, name: &str) -> Result<Job, Failure>;
    async fn run_job(&self, name: &str) -> Result<Job, Failure>;
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    client: CloudScheduler,
    retry: std::sync::Arc<RetryPolicy>,
}

/// One job, as far as pausing it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `projects/P/locations/L/jobs/J`.
    pub name: String,
    pub description: String,
    /// Unix-cron or App Engine syntax.
    pub schedule: String,
    pub time_zone: String,
    pub state: JobState,
    /// When it runs next; a paused job has one too.
    pub schedule_time: Option<jiff::Timestamp>,
    pub last_attempt_time: Option<jiff::Timestamp>,
}

/// A job's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    Enabled,
    /// By a person or a program.
    Paused,
    /// By the service, because of errors.
    Disabled,
    UpdateFailed,
    Unknown(String),
}

/// All jobs of a location are listed; more than this is refused.
const MAX_LISTED: usize = 100_000;

impl Scheduler {
    pub(crate) async fn connect(
        endpoint: Option<&str>,
        credentials: Credentials,
        retry: std::sync::Arc<RetryPolicy>,
    ) -> Result<Self, Failure> {
        // The crate's own retry is off: there is one retry, ours.
        let mut builder = CloudScheduler::builder().with_credentials(credentials).with_retry_policy(NeverRetry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let client = builder.build().await.map_err(|error| client_failure("scheduler", &error))?;
        Ok(Self { client, retry })
    }

    /// All jobs of a location, sorted by name.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn list_jobs(&self, project: &str, location: &str) -> Result<Vec<Job>, Failure> {
        let parent = format!("projects/{project}/locations/{location}");
        let about = format!("scheduler jobs of {parent}");
        let (mut jobs, mut token): (Vec<Job>, String) = (Vec::new(), String::new());
        // Page by page: what fails is one page, not the list.
        loop {
            let call = || self.client.list_jobs().set_parent(&parent).set_page_size(500).set_page_token(&token).send();
            let page = self.call(&about, Effect::Read, call).await?;
            jobs.extend(page.jobs.into_iter().map(Job::from_crate));
            if jobs.len() > MAX_LISTED {
                let message = format!("lists more than {MAX_LISTED} entries");
                return Err(Failure::Invalid { object: about, message });
            }
            if page.next_page_token.is_empty() || page.next_page_token == token {
                break;
            }
            token = page.next_page_token;
        }
        jobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(jobs)
    }

    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_job(&self, name: &str) -> Result<Job, Failure> {
        self.call(&object(name), Effect::Read, || self.client.get_job().set_name(name).send())
            .await
            .map(Job::from_crate)
    }

    /// Pauses a job; a paused one stays paused. An execution in progress goes on.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` or `Invalid` for a job that cannot be paused; `Unknown` when no answer came.
    pub async fn pause_job(&self, name: &str) -> Result<Job, Failure> {
        let call = || self.client.pause_job().set_name(name).send();
        self.call(&object(name), Effect::Idempotent, call).await.map(Job::from_crate)
    }

    /// Resumes a job; an enabled one stays enabled.
    ///
    /// # Errors
    /// As `pause_job`.
    pub async fn resume_job(&self, name: &str) -> Result<Job, Failure> {
        let call = || self.client.resume_job().set_name(name).send();
        match self.call(&object(name), Effect::Idempotent, call).await.map(Job::from_crate) {
            // Google refuses to resume what is not paused: what a lost call has resumed, or somebody else.
            Err(refused @ (Failure::Precondition { .. } | Failure::Invalid { .. })) => match self.get_job(name).await {
                Ok(job) if job.state == JobState::Enabled => Ok(job),
                _ => Err(refused),
            },
            outcome => outcome,
        }
    }

    /// Runs a job now, also a paused one.
    ///
    /// # Errors
    /// As mapped by `error.rs`; `Unknown` when no answer came: it is not sent twice.
    pub async fn run_job(&self, name: &str) -> Result<Job, Failure> {
        let call = || self.client.run_job().set_name(name).send();
        self.call(&object(name), Effect::Once, call).await.map(Job::from_crate)
    }

    async fn call<T, F>(&self, about: &str, effect: Effect, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = google_cloud_scheduler_v1::Result<T>>,
    {
        retry::run(&self.retry, about, effect, |_| {
            let sent = call();
            async move { sent.await.map_err(|error| Fault::from_gax(about, &error)) }
        })
        .await
    }
}

#[async_trait]
impl Schedules for Scheduler {
    async fn list_jobs(&self, project: &str, location: &str) -> Result<Vec<Job>, Failure> {
        Scheduler::list_jobs(self, project, location).await
    }

    async fn get_job(&self, name: &str) -> Result<Job, Failure> {
        Scheduler::get_job(self, name).await
    }

    async fn pause_job(&self, name: &str) -> Result<Job, Failure> {
        Scheduler::pause_job(self, name).await
    }

    async fn resume_job(&self, name: &str) -> Result<Job, Failure> {
        Scheduler::resume_job(self, name).await
    }

    async fn run_job(&self, name: &str) -> Result<Job, Failure> {
        Scheduler::run_job(self, name).await
    }
}

impl Job {
    fn from_crate(job: model::Job) -> Self {
        let time = |time: Option<google_cloud_wkt::Timestamp>| {
            time.and_then(|time| jiff::Timestamp::new(time.seconds(), time.nanos()).ok())
        };
        Self {
            name: job.name,
            description: job.description,
            schedule: job.schedule,
            time_zone: job.time_zone,
            state: match job.state {
                model::job::State::Enabled => JobState::Enabled,
                model::job::State::Paused => JobState::Paused,
                model::job::State::Disabled => JobState::Disabled,
                model::job::State::UpdateFailed => JobState::UpdateFailed,
                other => JobState::Unknown(other.to_string()),
            },
            schedule_time: time(job.schedule_time),
            last_attempt_time: time(job.last_attempt_time),
        }
    }
}

fn object(name: &str) -> String {
    format!("scheduler job {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_by_name_and_by_number() {
        let state = |json: &str| Job::from_crate(serde_json::from_str(json).unwrap()).state;
        assert_eq!(state(r#"{"name": "n", "state": "PAUSED"}"#), JobState::Paused);
        assert_eq!(state(r#"{"name": "n", "state": 1}"#), JobState::Enabled);
        assert_eq!(state(r#"{"name": "n", "state": 4}"#), JobState::UpdateFailed);
        assert_eq!(state(r#"{"name": "n", "state": "SLEEPY"}"#), JobState::Unknown("SLEEPY".into()));
    }
}
