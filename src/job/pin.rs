//! Pins: a backup that a person wants kept.

use super::{Context, JobError};
use crate::catalog::Wanted;
use crate::catalog::marks::{self, Pinned};
use crate::model::BackupName;

/// Pins a backup, for a reason, until a time or until it is unpinned.
///
/// # Errors
/// When there is no such backup, or the mark cannot be written.
pub async fn pin(
    context: &Context,
    backup: &BackupName,
    reason: Option<String>,
    until: Option<jiff::Timestamp>,
) -> Result<Pinned, JobError> {
    let entry = context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    let commit_id = entry.manifest.commit_id;
    let pinned = Pinned { commit_id, at: context.now(), by: context.holder.clone(), reason, until };
    marks::set(context.home.as_ref(), backup, &pinned).await?;
    Ok(pinned)
}

/// Takes the pin away. Returns whether there was one.
///
/// # Errors
/// When there is no such backup, or the mark cannot be removed.
pub async fn unpin(context: &Context, backup: &BackupName) -> Result<bool, JobError> {
    let entry = context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    let marks = marks::of(context.home.as_ref(), backup, &entry.manifest.commit_id).await?;
    marks::clear::<Pinned>(context.home.as_ref(), backup).await?;
    Ok(marks.pinned.is_some())
}
