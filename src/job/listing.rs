//! The backups that there are, in a few words each.

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, JobError};
use crate::catalog::marks::Verified;
use crate::manifest::Doubt;
use crate::model::{BackupName, TierName};

/// What the catalog holds, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing {
    pub backups: Vec<Summary>,
    /// Manifests that cannot be used.
    pub broken: Vec<BrokenManifest>,
    /// What is there, but is not believed: its signature, its place or its history say so.
    pub doubted: Vec<Doubt>,
}

/// A backup in a few words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub name: BackupName,
    pub tier: TierName,
    pub commit_id: String,
    /// The instant that the data is of.
    pub cut_at: Timestamp,
    pub started_at: Timestamp,
    pub committed_at: Timestamp,
    pub table_count: usize,
    pub row_count: u64,
    pub size_bytes: u64,
    pub place: String,
    pub manifest_sha256: String,
    /// What a backup by hand was taken for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Its objects are sealed: without a key they can be verified as they are stored, and not read.
    pub sealed: bool,
    /// How many things in it somebody must look at.
    pub attention_count: usize,
    /// The last restore that proved it.
    pub verified: Option<Verified>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BrokenManifest {
    pub place: String,
    pub error: String,
}

/// Lists the catalog; only one tier when asked so.
///
/// # Errors
/// When a store cannot be listed or read.
pub async fn run(context: &Context, tier: Option<&TierName>) -> Result<Listing, JobError> {
    let listing = context.catalog.list().await?;
    let broken = listing.broken.iter();
    let broken = broken.map(|broken| BrokenManifest { place: broken.place.clone(), error: broken.error.to_string() });
    let broken = broken.collect();
    let doubted = listing.doubtful.iter().map(|doubtful| doubtful.doubt.clone()).collect();
    let entries = listing.entries.into_iter();
    let mut backups: Vec<Summary> = entries
        .filter(|entry| tier.is_none_or(|tier| entry.manifest.tier == *tier))
        .map(|entry| {
            let manifest = &entry.manifest;
            Summary {
                name: manifest.name.clone(),
                tier: manifest.tier.clone(),
                commit_id: manifest.commit_id.clone(),
                cut_at: manifest.cut_at.unwrap_or(manifest.started_at),
                started_at: manifest.started_at,
                committed_at: manifest.committed_at,
                table_count: manifest.tables().count(),
                row_count: manifest.row_count(),
                size_bytes: manifest.size_bytes(),
                place: entry.store.describe(),
                manifest_sha256: entry.sha256.clone(),
                purpose: manifest.purpose.clone(),
                sealed: manifest.sealing.is_some(),
                attention_count: manifest.attention.len(),
                verified: None,
            }
        })
        .collect();
    let named = backups.iter().map(|backup| (backup.name.clone(), backup.commit_id.clone()));
    let named: Vec<_> = named.collect();
    let mut found = context.marks.of_all(named).await?;
    for backup in &mut backups {
        backup.verified = found.remove(&backup.name).and_then(|marks| marks.verified);
    }
    Ok(Listing { backups, broken, doubted })
}
