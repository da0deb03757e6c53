//! What a caller can ask for, as data: planned by a dry run, carried out as an operation.

use serde::Serialize;
use serde_json::{Value, json};

use crate::app::{Exit, of_verification};
use crate::catalog::Wanted;
use crate::job::retention::Deletion;
use crate::job::verify::Verification;
use crate::job::{Context, JobError, backup, drill, recover, restore, retention, verify};
use crate::model::{BackupName, TierName};
use crate::plan::backup::Occasion;
use crate::plan::drill::DrillRequest;
use crate::plan::restore::RestoreRequest;
use crate::report::Outcome;

/// One piece of work.
#[derive(Debug, Clone)]
pub enum Ask {
    Backup { tier: TierName, occasion: Occasion },
    Restore { backup: Wanted, tier: Option<TierName>, request: Box<RestoreRequest> },
    Verify { backup: Wanted },
    Cleanup,
    Delete { backup: BackupName, how: Deletion },
    Drill { backup: Wanted, tier: Option<TierName>, request: DrillRequest, operator: String },
    Recover,
}

/// What came of it.
pub struct Answer {
    pub exit: Exit,
    pub result: Value,
}

impl Ask {
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Verify { .. } => "verify",
            Self::Cleanup => "cleanup",
            Self::Delete { .. } => "delete",
            Self::Drill { .. } => "drill",
            Self::Recover => "recover",
        }
    }

    /// What it is about: a tier, a backup, a scenario.
    pub fn subject(&self) -> String {
        match self {
            Self::Backup { tier, .. } => tier.to_string(),
            Self::Restore { backup, .. } | Self::Verify { backup } => wanted(backup),
            Self::Delete { backup, .. } => backup.to_string(),
            Self::Drill { request, .. } => request.scenario.name().into(),
            Self::Cleanup | Self::Recover => String::new(),
        }
    }

    /// What would be done. Changes nothing.
    ///
    /// # Errors
    /// As planning fails: `Refused` with everything that stands against it.
    pub async fn plan(self, context: &Context) -> Result<Value, JobError> {
        match self {
            Self::Backup { tier, occasion } => Ok(document(&backup::plan(context, &tier, &occasion).await?)),
            Self::Restore { backup, tier, request } => {
                let entry = context.catalog.find(&backup, tier.as_ref()).await?;
                Ok(document(&restore::dry_run(context, &entry, &request).await?))
            }
            Self::Verify { backup } => {
                let manifest = context.catalog.find(&backup, None).await?.manifest;
                let (objects, bytes) = (manifest.objects().count(), manifest.size_bytes());
                Ok(json!({"backup": manifest.name, "object_count": objects, "size_bytes": bytes}))
            }
            Self::Cleanup => Ok(document(&retention::plan(context).await?)),
            Self::Delete { backup, how } => {
                let entry = context.catalog.find(&Wanted::Named(backup), None).await?;
                let (objects, bytes) = (entry.manifest.objects().count(), entry.manifest.size_bytes());
                Ok(json!({
                    "backup": entry.manifest.name, "now": how.now, "object_count": objects, "size_bytes": bytes,
                }))
            }
            Self::Drill { backup, tier, request, .. } => {
                Ok(document(&drill::plan(context, (&backup, tier.as_ref()), &request).await?))
            }
            Self::Recover => Ok(document(&recover::plan(context).await?)),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// As the job fails; what was done was taken back.
    pub async fn carry_out(self, context: &Context) -> Result<Answer, JobError> {
        if !matches!(self, Self::Verify { .. } | Self::Recover) {
            recover::at_start(context).await?;
        }
        match self {
            Self::Backup { tier, occasion } => {
                let manifest = match backup::run(context, &tier, &occasion).await {
                    Err(JobError::Skipped(reason)) => {
                        return Ok(Answer { exit: Exit::Done, result: json!({"skipped": reason}) });
                    }
                    taken => taken?,
                };
                let exit = if manifest.attention.is_empty() { Exit::Done } else { Exit::Emptied };
                let of = manifest.cut_at.unwrap_or(manifest.started_at);
                let result = json!({
                    "name": manifest.name, "tier": manifest.tier, "cut_at": of, "committed_at": manifest.committed_at,
                    "row_count": manifest.row_count(), "size_bytes": manifest.size_bytes(),
                    "notes": manifest.notes, "attention": manifest.attention,
                });
                Ok(Answer { exit, result })
            }
            Self::Restore { backup, tier, request } => {
                let entry = context.catalog.find(&backup, tier.as_ref()).await?;
                let restored = restore::run(context, &entry, &request).await?;
                let exit = match (restored.differences.is_empty(), restored.passed()) {
                    (true, true) => Exit::Done,
                    (true, false) => Exit::Invalid,
                    (false, _) => Exit::Partial,
                };
                Ok(Answer { exit, result: document(&restored) })
            }
            Self::Verify { backup } => {
                let entry = context.catalog.find(&backup, None).await?;
                let verification: Verification = verify::run(context, &entry, context.depth()).await?;
                let exit = of_verification(verification.state);
                Ok(Answer { exit, result: document(&verification) })
            }
            Self::Cleanup => {
                let retained = retention::run(context).await?;
                let exit = if retained.failures.is_empty() { Exit::Done } else { Exit::Partial };
                Ok(Answer { exit, result: document(&retained) })
            }
            Self::Delete { backup, how } => {
                let deleted = retention::delete(context, &backup, how).await?;
                Ok(Answer { exit: Exit::Done, result: document(&deleted) })
            }
            Self::Drill { backup, tier, request, operator } => {
                let drilled = drill::run(context, (&backup, tier.as_ref()), &request, &operator).await?;
                if let Some(error) = drilled.error {
                    return Err(error);
                }
                let exit = match drilled.report.outcome {
                    Outcome::Passed => Exit::Done,
                    Outcome::Late => Exit::Late,
                    Outcome::Failed | Outcome::NotFinished => Exit::Partial,
                };
                Ok(Answer { exit, result: document(&drilled.report) })
            }
            Self::Recover => {
                let runs = recover::run(context).await?;
                let clean = runs.iter().all(|run| run.failures.is_empty());
                Ok(Answer { exit: if clean { Exit::Done } else { Exit::Partial }, result: document(&runs) })
            }
        }
    }
}

fn wanted(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Latest => "latest".into(),
        Wanted::Named(name) | Wanted::Called(name) => name.to_string(),
        Wanted::At(at) => format!("as of {at}"),
    }
}

/// Plans and results are made of texts, numbers, lists and maps with textual keys: all of them have a JSON form.
fn document(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
