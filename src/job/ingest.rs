//! Pause and resume by hand.

use serde::Serialize;

use super::{Context, JobError};
use crate::ingestion;

/// What was done to the jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switched {
    pub changed: Vec<String>,
    /// Jobs that were so already, with their state.
    pub left_alone: Vec<String>,
}

/// What pausing (or resuming) would change.
///
/// # Errors
/// `NotFound` for a job that is not there.
pub async fn plan(context: &Context, pause: bool) -> Result<Switched, JobError> {
    let mut switched = Switched { changed: vec![], left_alone: vec![] };
    for (job, state) in ingestion::observe(&context.google, &context.config.ingestion.scheduler_jobs).await? {
        let state = state.as_ref().map(ingestion::state_name);
        match (state.as_deref(), pause) {
            (Some("ENABLED"), true) | (Some("PAUSED"), false) => switched.changed.push(job),
            (Some(state), _) => switched.left_alone.push(format!("{job} ({})", state.to_lowercase())),
            (None, _) => {
                let message =
                    "there is no such Cloud Scheduler job; hint: correct ingestion.scheduler_jobs".to_string();
                return Err(crate::model::Failure::NotFound { object: job, message }.into());
            }
        }
    }
    Ok(switched)
}

/// Pauses (or resumes) ingestion until a person says otherwise.
///
/// # Errors
/// When a job cannot be switched.
pub async fn run(context: &Context, pause: bool) -> Result<Switched, JobError> {
    let switched = plan(context, pause).await?;
    if pause {
        ingestion::pause(&context.google, &switched.changed).await?;
    } else {
        ingestion::resume(&context.google, &switched.changed).await?;
    }
    Ok(switched)
}
