//! The buckets of the configuration: looked at, made, and brought to what they are to be.

use serde::Serialize;
use serde_json::json;

use super::{Context, JobError};
use crate::model::Failure;
use crate::plan::Refusal;
use crate::plan::buckets::{self, BucketPlan, BucketsPlan, Found};

/// What was done to the buckets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Applied {
    pub plan: BucketsPlan,
    pub created: Vec<String>,
    pub changed: Vec<String>,
    pub locked: Vec<String>,
}

/// What would be done at this moment.
///
/// # Errors
/// When a bucket that exists may not be looked at.
pub async fn plan(context: &Context) -> Result<BucketsPlan, JobError> {
    let mut found = Found::new();
    for name in buckets::names(&context.config) {
        let resource = match context.google.storage.get_bucket(name).await {
            Ok(bucket) => Some(bucket.resource),
            Err(Failure::NotFound { .. }) => None,
            Err(failure) => return Err(failure.into()),
        };
        found.insert(name.into(), resource);
    }
    let mut locations = Vec::new();
    if found.values().any(Option::is_none) && context.config.buckets.location.is_none() {
        for (_, source) in context.bigquery_sources() {
            let dataset = context.google.bigquery.get_dataset(&source.dataset).await?;
            locations.extend(dataset["location"].as_str().map(str::to_string));
        }
    }
    Ok(buckets::plan(&context.config, &found, &locations))
}

/// Makes missing buckets, changes what differs, and locks the retention policies of the buckets in `lock`, for ever.
///
/// # Errors
/// `Refused` when something cannot be mended, before anything is changed; `Precondition` when somebody changed a bucket
/// meanwhile: run it again.
pub async fn apply(context: &Context, lock: &[String]) -> Result<Applied, JobError> {
    let plan = plan(context).await?;
    let refusals = refusals(&plan, lock);
    if !refusals.is_empty() {
        return Err(JobError::Refused(refusals));
    }
    let storage = &context.google.storage;
    let mut applied = Applied { plan, created: vec![], changed: vec![], locked: vec![] };
    for bucket in &applied.plan.buckets {
        let name = &bucket.bucket;
        let mut metageneration = bucket.metageneration;
        if let Some(location) = &bucket.create_in {
            let project = context.config.google.as_ref().map(|google| google.project.as_str()).unwrap_or_default();
            let mut resource = bucket.patch.clone();
            resource["location"] = json!(location);
            metageneration = Some(storage.insert_bucket(project, name, resource).await?.metageneration);
            applied.created.push(name.clone());
        } else if !bucket.is_settled() {
            let patched = storage.patch_bucket(name, bucket.patch.clone(), metageneration).await?;
            metageneration = Some(patched.metageneration);
            applied.changed.push(name.clone());
        }
        if lock.contains(name) {
            storage.lock_retention(name, metageneration.unwrap_or_default()).await?;
            applied.locked.push(name.clone());
        }
    }
    Ok(applied)
}

fn refusals(plan: &BucketsPlan, lock: &[String]) -> Vec<Refusal> {
    let problems = |bucket: &BucketPlan| {
        let refusal = |problem: &String| {
            let (message, hint) = problem.split_once("; hint: ").unwrap_or((problem, "correct the configuration"));
            Refusal::new(format!("gs://{}", bucket.bucket), message, hint)
        };
        bucket.problems.iter().map(refusal).collect::<Vec<_>>()
    };
    let mut refusals: Vec<Refusal> = plan.buckets.iter().flat_map(problems).collect();
    for name in lock {
        let lockable = plan.buckets.iter().any(|bucket| bucket.bucket == *name && bucket.can_be_locked);
        if !lockable {
            let message = "has no retention policy to lock, or is locked already";
            refusals.push(Refusal::new(
                format!("gs://{name}"),
                message,
                "retention_lock of its destination says how long",
            ));
        }
    }
    refusals
}
