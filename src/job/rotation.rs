//! What is done when a key was stolen: another takes its place, the service takes it up, the old one is refused.
//!
//! Nothing of it is taken back when a later step fails: the stolen key must not come back into use.

use serde::Serialize;

use super::backup::count;
use super::{Context, JobError, run};
use crate::model::{Failure, Secret};
use crate::saga::Done;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    pub secret: String,
    /// The version that is handed out from now on.
    pub version: String,
    /// The revision that serves with it.
    pub revision: Option<String>,
    /// Versions that are refused from now on.
    pub disabled: Vec<String>,
}

/// What a rotation would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationPlan {
    pub secret: String,
    pub service: Option<String>,
    /// Versions that would be refused.
    pub disable: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRequest {
    /// `projects/P/secrets/S`.
    pub secret: String,
    /// `projects/P/locations/L/services/S`, which is deployed anew to take the key up.
    pub service: Option<String>,
    /// Whether older versions stay usable.
    pub keep_old: bool,
}

/// The plan: what a dry run prints.
///
/// # Errors
/// `NotFound` for a secret or a service that is not there.
pub async fn plan(context: &Context, request: &RotationRequest) -> Result<RotationPlan, JobError> {
    let versions = context.google.secrets.versions(&request.secret).await?;
    if let Some(service) = &request.service {
        context.google.run.get_service(service).await?;
    }
    let enabled = versions.into_iter().filter(|version| version.state == "ENABLED").map(|version| version.name);
    let disable = if request.keep_old { vec![] } else { enabled.collect() };
    Ok(RotationPlan { secret: request.secret.clone(), service: request.service.clone(), disable })
}

/// Rotates a secret.
///
/// # Errors
/// `NotFound` before anything is changed; otherwise the failed step: those before it hold.
pub async fn run(context: &Context, request: &RotationRequest, replacement: &Secret) -> Result<Rotated, JobError> {
    plan(context, request).await?;
    let id = run::new_id(context);
    run::run(context, &id, ("rotate", request.secret.as_str()), async |saga| {
        let version = saga.step("rotate", rotate(context, &request.secret, replacement)).await?;
        let revision = match &request.service {
            Some(service) => Some(saga.step("redeploy", redeploy(context, service)).await?),
            None => None,
        };
        let disabled = match request.keep_old {
            true => vec![],
            false => saga.step("revoke", revoke(context, &request.secret)).await?,
        };
        Ok(Rotated { secret: request.secret.clone(), version, revision, disabled })
    })
    .await
}

/// Stores the replacement, and sees that it is what is handed out from now on.
pub(super) async fn rotate(context: &Context, secret: &str, replacement: &Secret) -> Result<Done<String>, JobError> {
    let secrets = &context.google.secrets;
    let version = secrets.add_version(secret, replacement).await?;
    if secrets.access(&format!("{secret}/versions/latest")).await? != *replacement {
        let message = "the latest version is not the replacement".into();
        return Err(Failure::Corrupt { object: secret.into(), message }.into());
    }
    let note = format!("version {} is handed out", last(&version));
    Ok(Done::new(version).note(note))
}

/// Deploys a new revision, and sees that it is another.
pub(super) async fn redeploy(context: &Context, service: &str) -> Result<Done<String>, JobError> {
    let run = &context.google.run;
    let before = run.get_service(service).await?;
    let deployed = run.redeploy_service(service, &before).await?;
    let revision = deployed["latestReadyRevision"].as_str().map(last).unwrap_or_default().to_string();
    if before["latestReadyRevision"] == deployed["latestReadyRevision"] {
        let message = format!("still serves revision {revision} after the deployment");
        return Err(Failure::Corrupt { object: service.into(), message }.into());
    }
    let note = format!("revision {revision} serves");
    Ok(Done::new(revision).note(note))
}

/// Makes every older version unusable, and sees that it is.
pub(super) async fn revoke(context: &Context, secret: &str) -> Result<Done<Vec<String>>, JobError> {
    let secrets = &context.google.secrets;
    let versions = secrets.versions(secret).await?;
    let old: Vec<_> = versions.into_iter().skip(1).filter(|version| version.state == "ENABLED").collect();
    for version in &old {
        secrets.disable_version(&version.name).await?;
        if secrets.access(&version.name).await.is_ok() {
            let message = "was disabled and is still handed out".into();
            return Err(Failure::Corrupt { object: version.name.clone(), message }.into());
        }
    }
    let note = format!("{} refused from now on", count(old.len(), "old version"));
    Ok(Done::new(old.into_iter().map(|version| version.name).collect()).note(note))
}

/// The last part of a resource's name.
pub(super) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}
