//! Pins: a backup that a person wants kept. And the word that a change is verified, before which one was taken.

use std::collections::BTreeSet;

use super::lifecycle::{self, Holds};
use super::{Context, JobError, index};
use crate::catalog::marks::{Approved, Pinned};
use crate::catalog::{Ledger, Wanted};
use crate::model::{BackupName, Kind};
use crate::plan::Refusal;

/// Pins a backup, for a reason, until a time or until it is unpinned. With `hold` its objects are held in the stores, too: then
/// nobody deletes them, also not by another program.
///
/// # Errors
/// When there is no such backup, it is being removed, or the mark cannot be written.
pub async fn pin(
    context: &Context,
    backup: &BackupName,
    reason: Option<String>,
    until: Option<jiff::Timestamp>,
    hold: bool,
) -> Result<(Pinned, Holds), JobError> {
    let home = context.home.as_ref();
    let entry = context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    let commit_id = entry.manifest.commit_id.clone();
    let pinned = Pinned { commit_id, at: context.now(), by: context.holder.clone(), reason, until, held: hold };
    loop {
        let ledger = Ledger::read(home).await?;
        if ledger.is_removing(backup) {
            context.marks.clear::<Pinned>(backup, (context.now(), &context.holder)).await?;
            let refusal = Refusal::new(backup, "is being removed", "strongroom list shows what there is");
            return Err(JobError::Refused(vec![refusal]));
        }
        context.marks.set(backup, &pinned).await?;
        // Whoever was about to remove it without having seen the pin looks again.
        if ledger.turn(home).await? {
            break;
        }
    }
    // It may have been removed before the ledger was read.
    context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    if context.marks.of(backup, &pinned.commit_id).await?.condemned.is_some() {
        lifecycle::needed(context, &entry.manifest).await;
    }
    index::refresh(context).await;
    let holds = match hold {
        true => lifecycle::hold(context, &entry.manifest, &lifecycle::reach(&entry.manifest), true).await?,
        false => Holds::default(),
    };
    Ok((pinned, holds))
}

/// Takes the pin away. Returns whether there was one.
///
/// # Errors
/// When there is no such backup, or the mark cannot be removed.
pub async fn unpin(context: &Context, backup: &BackupName) -> Result<bool, JobError> {
    let entry = context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    let marks = context.marks.of(backup, &entry.manifest.commit_id).await?;
    if marks.pinned.as_ref().is_some_and(|pinned| pinned.held) {
        let mut free = lifecycle::reach(&entry.manifest);
        for key in held_by_others(context, backup, &free).await? {
            free.remove(&key);
        }
        lifecycle::hold(context, &entry.manifest, &free, false).await?;
    }
    context.marks.clear::<Pinned>(backup, (context.now(), &context.holder)).await?;
    index::refresh(context).await;
    Ok(marks.pinned.is_some())
}

/// Those of the keys that another backup is made of which is held as well.
async fn held_by_others(
    context: &Context,
    backup: &BackupName,
    keys: &BTreeSet<String>,
) -> Result<Vec<String>, JobError> {
    let mut held = vec![];
    for other in context.catalog.list().await?.entries.iter().map(|entry| &entry.manifest) {
        let shared: Vec<String> = lifecycle::reach(other).intersection(keys).cloned().collect();
        if other.name == *backup || shared.is_empty() {
            continue;
        }
        let marks = context.marks.of(&other.name, &other.commit_id).await?;
        if marks.pinned.is_some_and(|pinned| pinned.held) {
            held.extend(shared);
        }
    }
    Ok(held)
}

/// Says that the change is verified before which a backup was taken.
///
/// # Errors
/// `Refused` when it was not taken before a change.
pub async fn approve(
    context: &Context,
    backup: &BackupName,
    by: Option<String>,
    note: Option<String>,
) -> Result<Approved, JobError> {
    let entry = context.catalog.find(&Wanted::Named(backup.clone()), None).await?;
    if entry.manifest.kind() != Some(Kind::PreChange) {
        let hint = "strongroom backup --kind pre_change --description ... takes one that waits for it";
        return Err(JobError::Refused(vec![Refusal::new(backup, "was not taken before a change", hint)]));
    }
    let by = by.unwrap_or_else(|| context.holder.clone());
    let approved = Approved { commit_id: entry.manifest.commit_id, at: context.now(), by, note };
    context.marks.set(backup, &approved).await?;
    index::refresh(context).await;
    Ok(approved)
}
