//! The copies of a backup: what lies in each of its places, and a store that reads every object from where it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::Context;
use crate::catalog::Entry;
use crate::manifest::Manifest;
use crate::model::{Digests, Failure, Place};
use crate::plan::staging::reaches;
use crate::store::{ObjectInfo, PiecedStore, Store};

/// What is wrong with an object in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fault {
    Missing,
    Corrupt { message: String },
}

/// What of a backup lies in one place, as a listing tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holding {
    /// Objects that are not there as they were written, by key.
    pub faults: BTreeMap<String, Fault>,
    /// Objects of the right size of which the place keeps no checksum.
    pub unchecked: BTreeSet<String>,
}

/// The places that hold every object of a backup with its size and checksum, the primary first.
///
/// # Errors
/// When a place can neither be read nor is gone.
pub(super) async fn whole(context: &Context, manifest: &Manifest) -> Result<Vec<(Place, Arc<dyn Store>)>, Failure> {
    let mut copies = Vec::new();
    for place in context.places(&manifest.tier) {
        let store = (context.open)(place)?;
        if lacking(store.as_ref(), manifest).await? == 0 {
            copies.push((place.clone(), store));
        }
    }
    Ok(copies)
}

/// A backup to restore, whose objects are read from wherever each is whole: where BigQuery loads them from a place that it
/// reaches, if there is one and no staging. With a note where not all of them come from the primary.
///
/// # Errors
/// When the place where the backup was found can neither be read nor is gone.
pub async fn choose(context: &Context, entry: &Entry) -> Result<(Entry, Option<String>), Failure> {
    gather(context, entry, entry.manifest.bigquery().next().is_some()).await
}

/// A backup whose objects are read from wherever each is whole.
///
/// # Errors
/// As [`choose`].
pub async fn readable(context: &Context, entry: &Entry) -> Result<Entry, Failure> {
    let (entry, note) = gather(context, entry, false).await?;
    if let Some(note) = note {
        context.observer.note(&note);
    }
    Ok(entry)
}

/// A place of a backup, as it was seen.
struct Seen {
    store: Arc<dyn Store>,
    faults: BTreeMap<String, Fault>,
}

async fn gather(context: &Context, entry: &Entry, loads: bool) -> Result<(Entry, Option<String>), Failure> {
    let manifest = &entry.manifest;
    let here = entry.store.describe();
    let reached = |store: &dyn Store| store.describe().parse().is_ok_and(|place| reaches(&place));
    let primary = context.places(&manifest.tier).next().map(|place| (context.open)(place)).transpose()?;
    let elsewhere = primary.map(|primary| primary.describe()).filter(|primary| *primary != here);
    let own = look(entry.store.as_ref(), manifest).await?;
    let out_of_reach =
        loads && own.faults.is_empty() && context.config.staging.is_none() && !reached(entry.store.as_ref());
    if own.faults.is_empty() && own.unchecked.is_empty() && elsewhere.is_none() && !out_of_reach {
        return Ok((entry.clone(), None));
    }
    let mut places = vec![Seen { store: entry.store.clone(), faults: own.faults.clone() }];
    let mut left: Vec<&String> = own.faults.keys().collect();
    let mut sources: BTreeMap<String, usize> = BTreeMap::new();
    for place in context.places(&manifest.tier) {
        // A copy that cannot be looked at is no reason not to read the others.
        let Ok(store) = (context.open)(place) else { continue };
        if store.describe() == here {
            continue;
        }
        if let Ok(Holding { faults, .. }) = look(store.as_ref(), manifest).await {
            places.push(Seen { store, faults });
        }
    }
    // The place of the backup itself stays before others of its kind.
    if loads && (out_of_reach || !own.faults.is_empty()) {
        places.sort_by_key(|seen| !reached(seen.store.as_ref()));
    } else {
        places[1..].sort_by_key(|seen| !reached(seen.store.as_ref()));
    }
    for seen in places.iter().filter(|seen| seen.store.describe() != here) {
        let before = left.len();
        left.retain(|key| seen.faults.contains_key(*key));
        if before > left.len() {
            sources.insert(seen.store.describe(), before - left.len());
        }
    }
    let mut note = note(entry, (&here, elsewhere.as_deref()), own.faults.len(), &sources, left.len());
    let nearest = places[0].store.describe();
    if out_of_reach && nearest != here {
        note = Some(format!("BigQuery cannot read {here}: restored from {nearest}"));
    }
    let numbered = places.iter().enumerate();
    let bad: Vec<(usize, String)> =
        numbered.flat_map(|(at, seen)| seen.faults.keys().map(move |key| (at, key.clone()))).collect();
    let expected = manifest.objects().map(|object| (object.key.clone(), *object.in_store())).collect();
    let stores = places.into_iter().map(|seen| seen.store).collect();
    let store: Arc<dyn Store> = Arc::new(PiecedStore::new(stores, expected, bad));
    Ok((Entry { store, ..entry.clone() }, note))
}

/// What a person should know of where a backup is read.
fn note(
    entry: &Entry,
    (here, primary): (&str, Option<&str>),
    faults: usize,
    sources: &BTreeMap<String, usize>,
    lost: usize,
) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(primary) = primary {
        parts.push(format!("{primary} does not have the backup's manifest: read from {here}"));
    }
    if faults > 0 {
        let total = entry.manifest.objects().count();
        parts.push(format!("{here} lacks {faults} of {total} objects of the backup, or they have changed"));
        parts.extend(sources.iter().map(|(place, n)| format!("{n} are read from {place}")));
    }
    if lost > 0 {
        parts.push(format!("{lost} are whole in no place"));
    }
    if parts.is_empty() {
        return None;
    }
    Some(format!("{}; hint: strongroom repair {}", parts.join("; "), entry.manifest.name))
}

/// How many objects are not there as they were written.
///
/// # Errors
/// When the place can neither be read nor is gone.
pub(super) async fn lacking(store: &dyn Store, manifest: &Manifest) -> Result<usize, Failure> {
    Ok(look(store, manifest).await?.faults.len())
}

/// What of a backup lies in a place: every object is looked for in the folder that its key names, which may be another
/// backup's.
///
/// # Errors
/// When the place can neither be read nor is gone.
pub(super) async fn look(store: &dyn Store, manifest: &Manifest) -> Result<Holding, Failure> {
    let mut listed = Vec::new();
    for folder in manifest.folders() {
        match store.list(&format!("{folder}/")).await {
            Ok(found) => listed.extend(found),
            Err(Failure::NotFound { .. }) => {} // the place is gone
            Err(error) => return Err(error),
        }
    }
    Ok(judge(manifest, &listed))
}

/// Holds a listing against what was written.
pub(super) fn judge(manifest: &Manifest, listed: &[ObjectInfo]) -> Holding {
    let found: BTreeMap<&str, &ObjectInfo> = listed.iter().map(|info| (info.key.as_str(), info)).collect();
    let mut holding = Holding::default();
    for object in manifest.objects() {
        match found.get(object.key.as_str()) {
            None => drop(holding.faults.insert(object.key.clone(), Fault::Missing)),
            Some(info) => match fault(info, object.in_store()) {
                Some(fault) => drop(holding.faults.insert(object.key.clone(), fault)),
                None if info.crc32c.is_none() => drop(holding.unchecked.insert(object.key.clone())),
                None => {}
            },
        }
    }
    holding
}

/// What a listing tells against an object.
pub(super) fn fault(info: &ObjectInfo, written: &Digests) -> Option<Fault> {
    let message = if info.size_bytes != written.size_bytes {
        format!("has {} bytes, written were {}", info.size_bytes, written.size_bytes)
    } else if info.crc32c.is_some_and(|crc| crc != written.crc32c) {
        "its checksum is not that of what was written".into()
    } else {
        return None;
    };
    Some(Fault::Corrupt { message })
}
