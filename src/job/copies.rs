//! Which copies of a backup are whole: a restore takes the first that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use crate::catalog::Entry;
use crate::manifest::Manifest;
use crate::model::{Digests, Failure, Place};
use crate::plan::backup::folder;
use crate::plan::staging::reaches;
use crate::store::Store;

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

/// The backup where it is whole: where it was found, or else in the first whole copy, with a note that says so.
///
/// # Errors
/// When a place can neither be read nor is gone.
pub(super) async fn choose(context: &Context, entry: &Entry) -> Result<(Entry, Option<String>), Failure> {
    let here = entry.store.describe();
    let lacking = lacking(entry.store.as_ref(), &entry.manifest).await?;
    let staging = context.config.staging.is_some();
    if lacking == 0 && (staging || here.parse().is_ok_and(|place| reaches(&place))) {
        return Ok((entry.clone(), None));
    }
    let copies = whole(context, &entry.manifest).await?;
    // One that BigQuery reads by itself before one that must go by way of staging.
    let nearest = copies.iter().find(|(place, _)| reaches(place)).or(copies.first().filter(|_| staging));
    if let Some((place, store)) = nearest.filter(|(_, store)| store.describe() != here) {
        let note = match lacking {
            0 => format!("BigQuery cannot read {here}: restored from {place}"),
            _ => format!("{here} lacks {lacking} objects of the backup, or they have changed: restored from {place}"),
        };
        return Ok((Entry { store: store.clone(), ..entry.clone() }, Some(note)));
    }
    Ok((entry.clone(), None)) // the restore itself says what is wrong with it
}

/// How many objects are not there as they were written.
///
/// # Errors
/// When the place can neither be read nor is gone.
pub(super) async fn lacking(store: &dyn Store, manifest: &Manifest) -> Result<usize, Failure> {
    let folder = folder(&manifest.tier, &manifest.name, manifest.started_at);
    let mut expected: BTreeMap<&str, &Digests> = manifest.objects().map(|o| (o.key.as_str(), o.in_store())).collect();
    let listed = match store.list(&format!("{folder}/")).await {
        Ok(listed) => listed,
        Err(Failure::NotFound { .. }) => return Ok(expected.len()), // the place is gone
        Err(error) => return Err(error),
    };
    for info in listed {
        let same = |digests: &&Digests| {
            info.size_bytes == digests.size_bytes && info.crc32c.is_none_or(|crc| crc == digests.crc32c)
        };
        if expected.get(info.key.as_str()).is_some_and(same) {
            expected.remove(info.key.as_str());
        }
    }
    Ok(expected.len())
}
