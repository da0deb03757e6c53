//! The index at each destination's root: `backup_metadata.json`, for people and their scripts. Written after each change, made
//! again by `strongroom catalog rebuild`; nothing here ever reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::retention::{self, Look};
use super::{Context, JobError};
use crate::catalog::Entry;
use crate::model::TierName;
use crate::report::{INDEX, Indexed, index};
use crate::store::Store;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rebuilt {
    pub backup_count: usize,
    /// The objects that were written, or would be.
    pub written: Vec<String>,
    /// What could not be written.
    pub failures: Vec<String>,
}

/// Writes the index everywhere.
///
/// # Errors
/// When the catalog or the marks cannot be read; a place that cannot be written to is in the outcome.
pub async fn rebuild(context: &Context) -> Result<Rebuilt, JobError> {
    let (documents, mut rebuilt) = documents(context).await?;
    for (store, bytes) in documents {
        match store.put(INDEX, bytes).await {
            Ok(_) => rebuilt.written.push(store.address(INDEX)),
            Err(error) => rebuilt.failures.push(error.to_string()),
        }
    }
    Ok(rebuilt)
}

/// Where it would be written.
///
/// # Errors
/// As [`rebuild`].
pub async fn plan(context: &Context) -> Result<Rebuilt, JobError> {
    let (documents, mut rebuilt) = documents(context).await?;
    rebuilt.written = documents.iter().map(|(store, _)| store.address(INDEX)).collect();
    Ok(rebuilt)
}

/// The same after a change: an index that cannot be written is told, and fails nothing.
pub(super) async fn refresh(context: &Context) {
    let failures = match rebuild(context).await {
        Ok(rebuilt) => rebuilt.failures,
        Err(error) => vec![error.to_string()],
    };
    for failure in failures {
        context.observer.note(&format!("the index of the backups could not be written: {failure}"));
    }
}

/// The index of every place: of the tiers that lie there; in the home, of all.
async fn documents(context: &Context) -> Result<(Vec<(Arc<dyn Store>, Bytes)>, Rebuilt), JobError> {
    let look = retention::look(context).await?;
    let mut places: BTreeMap<String, (Arc<dyn Store>, Vec<TierName>)> = BTreeMap::new();
    let all: Vec<TierName> = context.config.tiers.keys().cloned().collect();
    places.insert(context.home.describe(), (context.home.clone(), all));
    let mut failures = Vec::new();
    for (tier, settings) in &context.config.tiers {
        for place in settings.places() {
            let store = match (context.open)(place) {
                Ok(store) => store,
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            };
            let (_, tiers) = places.entry(store.describe()).or_insert_with(|| (store, vec![]));
            if !tiers.contains(tier) {
                tiers.push(tier.clone());
            }
        }
    }
    let backup_count = look.listing.entries.len();
    let documents =
        places.into_values().map(|(store, tiers)| (store, Bytes::from(document(context, &look, &tiers)))).collect();
    Ok((documents, Rebuilt { backup_count, written: vec![], failures }))
}

fn document(context: &Context, look: &Look, tiers: &[TierName]) -> Vec<u8> {
    let here = look.listing.entries.iter().filter(|entry| tiers.contains(&entry.manifest.tier));
    let backups: Vec<Indexed<'_>> = here.map(|entry| indexed(context, look, entry)).collect();
    index(tiers, &backups)
}

fn indexed<'a>(context: &Context, look: &Look, entry: &'a Entry) -> Indexed<'a> {
    let marks = look.marks.get(&entry.manifest.name).cloned().unwrap_or_default();
    Indexed {
        manifest: &entry.manifest,
        expiry: retention::expiry(context, look, entry),
        verified: marks.verified.map(|mark| (mark.by, mark.at)),
        approved: marks.approved.map(|mark| (mark.by, mark.at)),
        condemned: marks.condemned.is_some(),
    }
}
