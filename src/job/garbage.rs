//! Garbage: looks for what no manifest reaches, and removes what the plan says. Runs under the lease, so that nobody else is
//! making what looks like garbage.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::{Context, JobError, run};
use crate::catalog::{self, Ledger, MANIFEST, OWN_FOLDER, Tombstone};
use crate::manifest::Manifest;
use crate::model::{BackupName, DatasetId, Failure, Place, TableId, TierName};
use crate::plan::garbage::{self, Facts, Folder, GarbagePlan, Object, Piece, Staged};
use crate::plan::staging::RESTORES;
use crate::saga;
use crate::source::bigquery;
use crate::store::{ObjectInfo, Store};

/// Whose clock ages are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// This machine's: nothing is written to learn what time it is elsewhere.
    Own,
    /// Each store's and BigQuery's own, for the holder of the lease: a clock that runs ahead here must not make young things
    /// old.
    Theirs,
}

/// What would be removed.
///
/// # Errors
/// When a vault or the datasets cannot be looked at.
pub(super) async fn plan(context: &Context, clocks: Clocks) -> Result<GarbagePlan, JobError> {
    Ok(garbage::plan(&look(context, clocks).await?))
}

async fn look(context: &Context, clocks: Clocks) -> Result<Facts, JobError> {
    let home = context.home.as_ref();
    let now = context.now();
    let listing = context.catalog.list().await?;
    let names: BTreeSet<&str> = listing.entries.iter().map(|entry| entry.manifest.name.as_str()).collect();
    let manifests = || listing.entries.iter().map(|entry| &entry.manifest);
    let reached: BTreeSet<String> =
        manifests().flat_map(|m| m.objects().map(|object| object.key.clone()).collect::<Vec<_>>()).collect();
    let mut folders = Vec::new();
    for (tier, settings) in &context.config.tiers {
        for place in settings.places() {
            let mut found = folders_of(context, tier, place, &names).await?;
            if clocks == Clocks::Theirs && found.iter().any(|folder| has_unreached(folder, &reached)) {
                let there = time_in((context.open)(place)?.as_ref()).await?;
                let objects = found.iter_mut().flat_map(|folder| &mut folder.objects);
                objects.for_each(|object| object.updated = translated(object.updated, there, now));
            }
            folders.extend(found);
        }
    }
    let mut staged = staged(context).await?;
    if clocks == Clocks::Theirs
        && let Some(place) = staged.first().map(|staged| staged.place.clone())
    {
        let there = time_in((context.open)(&place)?.as_ref()).await?;
        let objects = staged.iter_mut().flat_map(|staged| &mut staged.objects);
        objects.for_each(|object| object.updated = translated(object.updated, there, now));
    }
    let named: BTreeSet<&TableId> =
        manifests().flat_map(Manifest::tables).filter_map(|table| table.snapshot.as_ref()).collect();
    let (mut snapshots, mut scratch) = (Vec::new(), Vec::new());
    let mut projects = BTreeSet::new();
    for (_, source) in context.bigquery_sources() {
        projects.insert(source.dataset.project().to_string());
        snapshots.extend(snapshots_in(context, &source.snapshot_dataset).await?);
    }
    snapshots.retain(|(table, _)| !named.contains(table));
    projects.extend(context.config.drill.recovery_project.clone());
    for project in &projects {
        scratch.extend(scratch_in(context, project).await?);
    }
    if clocks == Clocks::Theirs
        && let Some(dataset) =
            snapshots.first().map(|(table, _)| table.dataset_id().clone()).or(scratch_dataset(&scratch))
    {
        let resource = context.google.bigquery.get_dataset(&dataset).await?;
        let location = resource["location"].as_str().unwrap_or_default();
        let there = bigquery::cut_instant(&context.google, dataset.project(), location).await?;
        snapshots.iter_mut().for_each(|(_, taken)| *taken = translated(*taken, there, now));
        scratch.iter_mut().for_each(|(_, made)| *made = translated(*made, there, now));
    }
    let (mut marks, mut pages) = (marked(home).await?, pages(home).await?);
    if clocks == Clocks::Theirs && !(marks.is_empty() && pages.is_empty()) {
        let there = time_in(home).await?;
        marks.values_mut().for_each(|set| *set = translated(*set, there, now));
        pages.iter_mut().for_each(|page| page.updated = translated(page.updated, there, now));
    }
    let questions = !(snapshots.is_empty() && scratch.is_empty() && staged.is_empty())
        || folders.iter().any(|folder| has_unreached(folder, &reached));
    // Every journal is read only where there is a question; otherwise only those that may have lasted long enough.
    let keep = context.config.recover.keep_journals;
    let keep = SignedDuration::try_from(keep.as_duration()).unwrap_or(SignedDuration::MAX);
    let before = if questions { Timestamp::MAX } else { now.checked_sub(keep).unwrap_or(Timestamp::MIN) };
    Ok(Facts {
        now,
        grace: context.config.recover.grace,
        keep_journals: context.config.recover.keep_journals,
        folders,
        staged,
        reached,
        unreadable: {
            let broken = listing.broken.iter().map(|broken| broken.place.clone());
            // What is not believed may still be a good backup's, whose manifest somebody has changed.
            broken.chain(listing.doubtful.iter().map(|doubtful| doubtful.doubt.place.clone())).collect()
        },
        listed: manifests().map(|manifest| manifest.name.to_string()).collect(),
        removing: Ledger::read(home).await?.removing().map(|(name, _)| name.clone()).collect(),
        runs: catalog::runs(home, before).await?.into_iter().map(told).collect(),
        marks,
        snapshots,
        scratch,
        pages,
    })
}

fn scratch_dataset(scratch: &[(DatasetId, Timestamp)]) -> Option<DatasetId> {
    scratch.first().map(|(dataset, _)| dataset.clone())
}

/// What time it is in a store: a fresh object tells.
async fn time_in(store: &dyn Store) -> Result<Timestamp, Failure> {
    let probe = format!("{OWN_FOLDER}/recover.clock");
    store.put(&probe, Bytes::from_static(b"{}")).await?;
    let there = store.head(&probe).await?.map(|info| info.updated);
    store.delete(&probe).await?;
    there.ok_or_else(|| Failure::Unknown { object: probe, message: "was written and is not there".into() })
}

/// A time by another clock, by this one's: of the same age.
fn translated(then: Timestamp, there: Timestamp, here: Timestamp) -> Timestamp {
    here.checked_sub(there.duration_since(then)).unwrap_or(here)
}

fn has_unreached(folder: &Folder, reached: &BTreeSet<String>) -> bool {
    // The manifest, and what is stated of it.
    let own = ["manifest.json", "statement.json"].map(|name| format!("{}/{name}", folder.folder));
    let needed = |object: &Object| reached.contains(&object.key) || (folder.is_listed && own.contains(&object.key));
    !folder.objects.iter().all(needed)
}

fn told(run: catalog::RunSummary) -> garbage::Run {
    let outcome = run.outcome.map(|outcome| match outcome {
        saga::Outcome::Committed => garbage::Outcome::Committed,
        saga::Outcome::RolledBack => garbage::Outcome::RolledBack,
    });
    garbage::Run { id: run.run, verb: run.verb, subject: run.subject, outcome, ended_at: run.last_at }
}

async fn folders_of(
    context: &Context,
    tier: &TierName,
    place: &Place,
    listed: &BTreeSet<&str>,
) -> Result<Vec<Folder>, Failure> {
    let store = (context.open)(place)?;
    let objects = match store.list(&format!("{tier}/")).await {
        Ok(objects) => objects,
        Err(Failure::NotFound { .. }) => return Ok(vec![]), // the place is lost
        Err(error) => return Err(error),
    };
    let mut folders: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for info in objects {
        let parts: Vec<&str> = info.key.splitn(4, '/').collect();
        if let [tier, day, name, _] = parts.as_slice() {
            folders.entry(format!("{tier}/{day}/{name}")).or_default().push(object(&info));
        }
    }
    let mut found = Vec::new();
    for (folder, objects) in folders {
        let name = folder.rsplit('/').next().unwrap_or_default().to_string();
        let is_listed = listed.contains(name.as_str());
        let removed = !is_listed && has_stone(store.as_ref(), &folder, &objects).await?;
        found.push(Folder { place: place.clone(), is_listed, removed, name, folder, objects });
    }
    Ok(found)
}

/// Whether the tombstone of a removed backup stands in a folder.
async fn has_stone(store: &dyn Store, folder: &str, objects: &[Object]) -> Result<bool, Failure> {
    let key = format!("{folder}/{MANIFEST}");
    if !objects.iter().any(|object| object.key == key) {
        return Ok(false);
    }
    match store.get(&key).await {
        Ok((bytes, _)) => Ok(Tombstone::is_of_removed(&bytes)),
        Err(Failure::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What lies in staging under the names that backups and restores give.
async fn staged(context: &Context) -> Result<Vec<Staged>, Failure> {
    let Some(place) = &context.config.staging else { return Ok(vec![]) };
    let listed = match (context.open)(place)?.list("").await {
        Ok(listed) => listed,
        Err(Failure::NotFound { .. }) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut found: BTreeMap<(String, String), Vec<Object>> = BTreeMap::new();
    for info in &listed {
        let parts: Vec<&str> = info.key.splitn(4, '/').collect();
        let (folder, subject) = match parts.as_slice() {
            [RESTORES, run, _, _] => (format!("{RESTORES}/{run}"), *run),
            [tier, day, name, _]
                if day.len() == 8
                    && day.bytes().all(|byte| byte.is_ascii_digit())
                    && context.config.tiers.keys().any(|known| known.as_str() == *tier) =>
            {
                (format!("{tier}/{day}/{name}"), *name)
            }
            _ => continue, // somebody else's
        };
        found.entry((folder, subject.to_string())).or_default().push(object(info));
    }
    let staged = |((folder, subject), objects)| Staged { place: place.clone(), folder, subject, objects };
    Ok(found.into_iter().map(staged).collect())
}

fn object(info: &ObjectInfo) -> Object {
    Object { key: info.key.clone(), size_bytes: info.size_bytes, updated: info.updated }
}

async fn snapshots_in(context: &Context, dataset: &DatasetId) -> Result<Vec<(TableId, Timestamp)>, Failure> {
    let listed = match context.google.bigquery.list_tables(dataset).await {
        Ok(listed) => listed,
        Err(Failure::NotFound { .. }) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let snapshots = listed.into_iter().filter(|table| table.kind == "SNAPSHOT");
    let taken = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    Ok(snapshots.map(|table| (table.id, taken(table.creation_time_ms))).collect())
}

async fn scratch_in(context: &Context, project: &str) -> Result<Vec<(DatasetId, Timestamp)>, Failure> {
    let mut found = Vec::new();
    for listed in context.google.bigquery.list_datasets(project).await? {
        if garbage::is_scratch(listed.id.dataset()) {
            let resource = context.google.bigquery.get_dataset(&listed.id).await?;
            let made = resource["creationTime"].as_str().and_then(|text| text.parse().ok());
            let made = made.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
            found.push((listed.id, made));
        }
    }
    Ok(found)
}

async fn marked(home: &dyn Store) -> Result<BTreeMap<BackupName, Timestamp>, Failure> {
    let mut marked: BTreeMap<BackupName, Timestamp> = BTreeMap::new();
    for info in home.list(&format!("{OWN_FOLDER}/marks/")).await? {
        if let Some(Ok(backup)) = info.key.split('/').nth(2).map(str::parse) {
            let newest = marked.entry(backup).or_insert(info.updated);
            *newest = info.updated.max(*newest);
        }
    }
    Ok(marked)
}

/// Pages of drills that were killed before their report was written.
async fn pages(home: &dyn Store) -> Result<Vec<Object>, Failure> {
    let listed = home.list(&format!("{OWN_FOLDER}/drills/")).await?;
    let reports: BTreeSet<&str> = listed.iter().filter_map(|info| info.key.strip_suffix("/report.json")).collect();
    let alone =
        |info: &&ObjectInfo| info.key.strip_suffix("/report.html").is_some_and(|folder| !reports.contains(folder));
    Ok(listed.iter().filter(alone).map(object).collect())
}

/// Removes what the plan says. Gives what could not be removed.
pub(super) async fn remove(context: &Context, plan: &GarbagePlan) -> Vec<String> {
    let mut failures = Vec::new();
    for piece in &plan.remove {
        if let Err(error) = remove_piece(context, piece).await {
            failures.push(error.to_string());
        }
    }
    failures
}

async fn remove_piece(context: &Context, piece: &Piece) -> Result<(), Failure> {
    match piece {
        Piece::Objects { place, objects, .. } => {
            delete(context, (context.open)(place)?.as_ref(), objects.iter().map(|object| object.key.clone())).await
        }
        Piece::Own { objects, .. } => {
            delete(context, context.home.as_ref(), objects.iter().map(|object| object.key.clone())).await
        }
        Piece::Marks { backup, .. } => context.marks.sweep(backup).await,
        Piece::Snapshot { table, .. } => bigquery::drop_tables(&context.google, std::slice::from_ref(table), 1).await,
        Piece::Scratch { dataset, run, .. } => run::drop_scratch(context, run, std::slice::from_ref(dataset)).await,
        Piece::Journal { run, .. } => catalog::remove_journal(context.home.as_ref(), run).await,
    }
}

async fn delete(context: &Context, store: &dyn Store, keys: impl Iterator<Item = String>) -> Result<(), Failure> {
    stream::iter(keys.collect::<Vec<_>>())
        .map(|key| async move { store.delete(&key).await })
        .buffer_unordered(context.config.parallel)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}
