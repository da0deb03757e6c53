//! The valve in the flow of data: observe, pause, drain, resume.
//!
//! Knows Cloud Scheduler jobs and BigQuery's writers. Does not know why ingestion is paused, nor keeps any record of it:
//! that is the saga's.

mod drain;

pub use drain::{Drained, drain};

use futures::{StreamExt, TryStreamExt, stream};

use crate::google::Google;
use crate::google::scheduler::JobState;
use crate::model::Failure;

/// How many Cloud Scheduler calls are under way at once.
const PARALLEL: usize = 4;

/// The state of each job; `None` where there is no such job.
///
/// # Errors
/// When a job cannot be looked at.
pub async fn observe(google: &Google, jobs: &[String]) -> Result<Vec<(String, Option<JobState>)>, Failure> {
    stream::iter(jobs.to_vec())
        .map(|job| async move {
            match google.scheduler.get_job(&job).await {
                Ok(found) => Ok((job, Some(found.state))),
                Err(Failure::NotFound { .. }) => Ok((job, None)),
                Err(error) => Err(error),
            }
        })
        .buffered(PARALLEL)
        .try_collect()
        .await
}

/// Pauses jobs. A job that is paused already stays so.
///
/// # Errors
/// When a job cannot be paused; the others may be.
pub async fn pause(google: &Google, jobs: &[String]) -> Result<(), Failure> {
    stream::iter(jobs.to_vec())
        .map(|job| async move { google.scheduler.pause_job(&job).await.map(drop) })
        .buffered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// Resumes jobs, every one that can be.
///
/// # Errors
/// The first failure, after all were tried. A job that was deleted meanwhile is no failure.
pub async fn resume(google: &Google, jobs: &[String]) -> Result<(), Failure> {
    let outcomes: Vec<Result<(), Failure>> = stream::iter(jobs.to_vec())
        .map(|job| async move {
            match google.scheduler.resume_job(&job).await {
                Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .buffered(PARALLEL)
        .collect()
        .await;
    outcomes.into_iter().collect()
}

/// A state by the name that Cloud Scheduler gives it.
pub fn state_name(state: &JobState) -> String {
    match state {
        JobState::Enabled => "ENABLED".into(),
        JobState::Paused => "PAUSED".into(),
        JobState::Disabled => "DISABLED".into(),
        JobState::UpdateFailed => "UPDATE_FAILED".into(),
        JobState::Unknown(name) => name.clone(),
    }
}
