//! Retention: condemns what no rule keeps, and removes what was condemned long enough ago. Also removal by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::backup::count;
use super::{Context, JobError, index, lifecycle, removal, run, witness};
use crate::catalog::marks::{self, Condemned, Marks};
use crate::catalog::{CatalogError, Decision, Entry, Ledger, Listing, Wanted};
use crate::manifest::{Doubt, Manifest};
use crate::model::{BackupName, Failure, TierName};
use crate::plan::retention::{self, Candidate, Facts, Pin, RetentionPlan, Sentence, Verdict};
use crate::plan::{self, Refusal};
use crate::saga::{Done, Saga};
use crate::store::Store;

/// What retention decided, and what it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retained {
    pub plan: RetentionPlan,
    pub removed: Vec<BackupName>,
    /// What could not be removed; the next run tries again.
    pub failures: Vec<String>,
}

/// What a removal by hand came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deleted {
    pub backup: BackupName,
    /// `None`: it is gone. Otherwise it can be pinned until then.
    pub removed_from: Option<jiff::Timestamp>,
}

/// How a backup is removed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletion {
    /// Without a time of grace.
    pub now: bool,
    /// Also the last backup of its tier.
    pub even_the_last: bool,
}

/// What retention would do at this moment.
///
/// # Errors
/// When the catalog or the marks cannot be read.
pub async fn plan(context: &Context) -> Result<RetentionPlan, JobError> {
    Ok(decide(context, &look(context).await?))
}

/// Condemns, pardons and removes.
///
/// # Errors
/// When the catalog or the marks cannot be read or written; a backup that cannot be removed is in the outcome.
pub async fn run(context: &Context) -> Result<Retained, JobError> {
    let id = run::new_id(context);
    run::run(context, &id, ("retention", "catalog"), async |saga| {
        // Before the look: what is pinned or decided after it is noticed.
        let mut ledger = Ledger::enter(context.home.as_ref(), saga.log().generation()).await?;
        witness::catch_up(context, &context.catalog.list().await?).await?;
        let look = look(context).await?;
        let plan = decide(context, &look);
        saga.step("condemn", condemn(context, &plan, &look.listing)).await?;
        saga.step("pardon", pardon(context, &plan, &look.listing)).await?;
        let (removed, failures) = remove_all(context, saga, &mut ledger, (&plan, &look.listing)).await?;
        index::refresh(context).await;
        Ok(Retained { plan, removed, failures })
    })
    .await
}

/// Removes one backup by hand: condemned, or gone at once.
///
/// # Errors
/// `Refused` when it is pinned, or the last of its tier.
pub async fn delete(context: &Context, backup: &BackupName, how: Deletion) -> Result<Deleted, JobError> {
    let id = run::new_id(context);
    run::run(context, &id, ("delete", backup.as_str()), async |saga| {
        let mut ledger = Ledger::enter(context.home.as_ref(), saga.log().generation()).await?;
        let look = look(context).await?;
        let found = context.catalog.find(&Wanted::Named(backup.clone()), None).await;
        let doubtful = look.listing.doubtful.iter().find(|doubtful| doubtful.entry.manifest.name == *backup);
        let entry = match (found, doubtful) {
            // What is not believed can be removed by a person, and by nobody else.
            (Err(CatalogError::Doubted(_)), Some(doubtful)) => doubtful.entry.clone(),
            (Err(CatalogError::NotFound(_)), _) if how.now && witness::is_missing(context, backup).await? => {
                witness::give_up(context, backup).await?;
                return Ok(Deleted { backup: backup.clone(), removed_from: None });
            }
            (found, _) => found?,
        };
        if let Some(refusal) = objection(&entry, &look.listing, &look.marks, how, context.now()) {
            return Err(JobError::Refused(vec![refusal]));
        }
        let mark = sentence(context, &entry.manifest, true);
        let condemned_at = mark.at;
        saga.step("condemn", async {
            context.marks.set(backup, &mark).await?;
            if !how.now {
                lifecycle::condemned(context, &entry.manifest, mark.at, &look.listing).await;
            }
            Ok::<_, JobError>(Done::new(()))
        })
        .await?;
        if !how.now {
            index::refresh(context).await;
            let removed_from = condemned_at.checked_add(context.config.retention.grace.as_duration());
            return Ok(Deleted { backup: backup.clone(), removed_from: removed_from.ok() });
        }
        saga.step("remove", async {
            if !decided(context, &mut ledger, backup, &mark).await? {
                let refusal = Refusal::new(backup, "was pinned this very moment", format!("strongroom unpin {backup}"));
                return Err(JobError::Refused(vec![refusal]));
            }
            remove(context, &mut ledger, backup, &mark).await?;
            Ok::<_, JobError>(Done::new(()))
        })
        .await?;
        index::refresh(context).await;
        Ok(Deleted { backup: backup.clone(), removed_from: None })
    })
    .await
}

fn objection(
    entry: &Entry,
    listing: &Listing,
    marks: &BTreeMap<BackupName, Marks>,
    how: Deletion,
    now: jiff::Timestamp,
) -> Option<Refusal> {
    let name = &entry.manifest.name;
    let pinned = marks.get(name).and_then(|marks| marks.pinned.as_ref());
    if pinned.is_some_and(|pin| pin.until.is_none_or(|until| now < until)) {
        return Some(Refusal::new(name, "is pinned", format!("strongroom unpin {name}")));
    }
    let newest = listing.entries.iter().find(|other| other.manifest.tier == entry.manifest.tier);
    if newest.is_some_and(|newest| newest.manifest.name == *name) && !(how.now && how.even_the_last) {
        let message = format!("is the newest backup of tier {}", entry.manifest.tier);
        return Some(Refusal::new(name, message, "take another first, or use --now --even-the-last"));
    }
    None
}

/// Everything that is decided on.
pub(super) struct Look {
    pub listing: Listing,
    pub marks: BTreeMap<BackupName, Marks>,
    /// What is not believed. While there is any, nothing is removed.
    doubts: Vec<Doubt>,
}

pub(super) async fn look(context: &Context) -> Result<Look, JobError> {
    let mut listing = context.catalog.list().await?;
    let backups = |listing: &Listing| -> Vec<(BackupName, String)> {
        let entries = listing.entries.iter();
        entries.map(|entry| (entry.manifest.name.clone(), entry.manifest.commit_id.clone())).collect()
    };
    let Some(chronicle) = &context.chronicle else {
        let marks = context.marks.of_all(backups(&listing)).await?;
        return Ok(Look { listing, marks, doubts: vec![] });
    };
    let reading = chronicle.read().await?;
    // What was removed and is there again counts for nothing.
    let history = &reading.history;
    let gone = |entry: &Entry| history.backups.get(&entry.manifest.name).is_some_and(|fate| fate.removed_at.is_some());
    let mut doubts = reading.doubts.clone();
    doubts.extend(listing.doubtful.iter().map(|doubtful| doubtful.doubt.clone()));
    doubts.extend(witness::of_listing(context, &listing, history)?);
    listing.entries.retain(|entry| !gone(entry));
    let marks = marks::signed_all(history, backups(&listing))?;
    Ok(Look { listing, marks, doubts })
}

/// When a backup goes by the rules that are its own.
pub(super) fn expiry(context: &Context, look: &Look, entry: &Entry) -> retention::Expiry {
    let keep = context.config.tiers.get(&entry.manifest.tier).map(|tier| &tier.keep);
    retention::expiry(&candidate(entry, &look.marks), keep, &context.config.retention)
}

fn decide(context: &Context, look: &Look) -> RetentionPlan {
    let candidates = look.listing.entries.iter().map(|entry| candidate(entry, &look.marks)).collect();
    let unreadable = look.listing.broken.iter().map(|broken| broken.place.clone()).collect();
    let doubts = look.doubts.iter().map(ToString::to_string).collect();
    let tiers = context.config.tiers.iter().map(|(name, tier)| (name.clone(), tier.keep)).collect();
    let facts = Facts { candidates, unreadable, doubts };
    retention::plan(&tiers, &context.config.retention, &facts, context.now())
}

fn candidate(entry: &Entry, marks: &BTreeMap<BackupName, Marks>) -> Candidate {
    let manifest = &entry.manifest;
    let marks = marks.get(&manifest.name).cloned().unwrap_or_default();
    Candidate {
        name: manifest.name.clone(),
        tier: manifest.tier.clone(),
        taken_at: manifest.started_at,
        size_bytes: manifest.size_bytes(),
        kind: manifest.kind(),
        keep: manifest.terms.as_ref().and_then(|terms| terms.keep),
        approved_at: marks.approved.map(|mark| mark.at),
        verified: marks.verified.is_some(),
        emptied: !manifest.attention.is_empty(),
        pinned: marks.pinned.map(|pinned| Pin { by: pinned.by, until: pinned.until }),
        condemned: marks.condemned.map(|condemned| Sentence { at: condemned.at, by_hand: condemned.by_hand }),
        references: references(manifest),
    }
}

/// The backups whose folders hold objects of this one.
fn references(manifest: &Manifest) -> BTreeSet<BackupName> {
    let owners = manifest.objects().filter_map(|object| object.key.split('/').nth(2)?.parse().ok());
    owners.filter(|owner| *owner != manifest.name).collect()
}

fn sentence(context: &Context, manifest: &Manifest, by_hand: bool) -> Condemned {
    Condemned {
        commit_id: manifest.commit_id.clone(),
        tier: manifest.tier.clone(),
        started_at: manifest.started_at,
        at: context.now(),
        by: context.holder.clone(),
        by_hand,
    }
}

async fn condemn(context: &Context, plan: &RetentionPlan, listing: &Listing) -> Result<Done<()>, JobError> {
    let mut n = 0;
    for decision in plan.of(|verdict| matches!(verdict, Verdict::Condemn { .. })) {
        let entry = listing.entries.iter().find(|entry| entry.manifest.name == decision.backup);
        if let Some(entry) = entry {
            let mark = sentence(context, &entry.manifest, false);
            context.marks.set(&decision.backup, &mark).await?;
            lifecycle::condemned(context, &entry.manifest, mark.at, listing).await;
            n += 1;
        }
    }
    Ok(Done::new(()).note(count(n, "backup")))
}

async fn pardon(context: &Context, plan: &RetentionPlan, listing: &Listing) -> Result<Done<()>, JobError> {
    let mut n = 0;
    for decision in plan.of(|verdict| matches!(verdict, Verdict::Keep { pardoned: true, .. })) {
        context.marks.clear::<Condemned>(&decision.backup, (context.now(), &context.holder)).await?;
        if let Some(entry) = listing.entries.iter().find(|entry| entry.manifest.name == decision.backup) {
            lifecycle::needed(context, &entry.manifest).await;
        }
        n += 1;
    }
    Ok(Done::new(()).note(count(n, "backup")))
}

/// Removes what the plan removes, after what earlier runs began to remove.
async fn remove_all(
    context: &Context,
    saga: &mut Saga<'_>,
    ledger: &mut Ledger,
    (plan, listing): (&RetentionPlan, &Listing),
) -> Result<(Vec<BackupName>, Vec<String>), JobError> {
    let step = async {
        let (mut removed, mut failures) = (Vec::new(), Vec::new());
        let begun: Vec<_> = ledger.removing().map(|(backup, mark)| (backup.clone(), mark.clone())).collect();
        let planned: Vec<&BackupName> =
            plan.removals().map(|decision| &decision.backup).filter(|backup| !ledger.is_removing(backup)).collect();
        let total = begun.len() + planned.len();
        for (backup, mark) in begun {
            if !context.marks.is_decided(&backup, &mark).await? {
                failures.push(format!("{backup}: nobody who is trusted has decided to remove it; it is left alone"));
                continue;
            }
            context.observer.progress("remove", removed.len() + failures.len() + 1, total, backup.as_str());
            match remove(context, ledger, &backup, &mark).await {
                Ok(()) => removed.push(backup),
                Err(error) => failures.push(format!("{backup}: {error}")),
            }
        }
        for backup in planned {
            let Some(entry) = listing.entries.iter().find(|entry| entry.manifest.name == *backup) else { continue };
            let commit_id = &entry.manifest.commit_id;
            let Some(mark) = context.marks.of(backup, commit_id).await?.condemned else { continue };
            if !decided(context, ledger, backup, &mark).await? {
                continue;
            }
            context.observer.progress("remove", removed.len() + failures.len() + 1, total, backup.as_str());
            match remove(context, ledger, backup, &mark).await {
                Ok(()) => removed.push(backup.clone()),
                Err(error) => failures.push(format!("{backup}: {error}")),
            }
        }
        let note = count(removed.len(), "backup");
        Ok::<_, JobError>(Done::new((removed, failures)).note(note))
    };
    Ok(saga.step("remove", step).await?)
}

/// Decides to remove a backup, unless it was pinned since: from here on there is no way back.
async fn decided(
    context: &Context,
    ledger: &mut Ledger,
    backup: &BackupName,
    mark: &Condemned,
) -> Result<bool, JobError> {
    let home = context.home.as_ref();
    let mut said = false;
    loop {
        let pinned = context.marks.of(backup, &mark.commit_id).await?.pinned;
        if pinned.is_some_and(|pin| pin.until.is_none_or(|until| context.now() < until)) {
            if said {
                context.marks.undecide(backup, (context.now(), &context.holder)).await?;
            }
            return Ok(false);
        }
        if !said {
            context.marks.decide(backup, mark).await?;
            said = true;
        }
        if ledger.decide(home, backup, mark).await? == Decision::Made {
            return Ok(true);
        }
    }
}

/// Finishes the removals that were decided, for the holder of the lease. Gives what is gone, and what could not be removed.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(super) async fn finish(context: &Context, generation: u64) -> Result<(Vec<BackupName>, Vec<String>), JobError> {
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    let mut ledger = Ledger::enter(context.home.as_ref(), generation).await?;
    let begun: Vec<_> = ledger.removing().map(|(backup, mark)| (backup.clone(), mark.clone())).collect();
    for (backup, mark) in begun {
        match remove(context, &mut ledger, &backup, &mark).await {
            Ok(()) => removed.push(backup),
            Err(error) => failures.push(format!("{backup}: {error}")),
        }
    }
    Ok((removed, failures))
}

/// Removes a backup everywhere, but for what others are made of.
async fn remove(context: &Context, ledger: &mut Ledger, backup: &BackupName, mark: &Condemned) -> Result<(), Failure> {
    let stores = stores(context, &mark.tier)?;
    let folder = plan::backup::folder(&mark.tier, backup, mark.started_at);
    removal::remove(&context.catalog, &stores, (backup, &folder), context.now()).await?;
    context.marks.close(backup, &mark.commit_id, (context.now(), &context.holder)).await?;
    ledger.strike(context.home.as_ref(), backup).await
}

fn stores(context: &Context, tier: &TierName) -> Result<Vec<Arc<dyn Store>>, Failure> {
    let stores = context.destinations(tier)?;
    if stores.is_empty() {
        let message = "is not configured any more: where its backups lie is not known; hint: configure it again";
        return Err(Failure::Invalid { object: format!("tier {tier}"), message: message.into() });
    }
    Ok(stores)
}
