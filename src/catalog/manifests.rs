//! The catalog: which backups there are. What is listed is complete, because the manifest is written last.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::Tombstone;
use crate::codec::digest::Digests;
use crate::manifest::{self, Manifest, ManifestError};
use crate::model::{BackupName, Failure, TierName};
use crate::store::Store;

/// How many manifests are read at once.
const PARALLEL: usize = 16;

/// The backups of every tier, in their primary destinations; of a place that is gone, those of its copy.
#[derive(Clone)]
pub struct Catalog {
    /// The primary first, never without one.
    tiers: BTreeMap<TierName, Vec<Arc<dyn Store>>>,
}

/// A backup in the catalog.
#[derive(Clone)]
pub struct Entry {
    pub manifest: Manifest,
    /// Where its objects lie.
    pub store: Arc<dyn Store>,
    /// SHA-256 of the manifest's bytes, in hex.
    pub sha256: String,
}

/// A manifest that cannot be used.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The whole address of the manifest.
    pub place: String,
    pub error: ManifestError,
}

/// What the catalog holds, the newest first.
#[derive(Clone, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    pub broken: Vec<Broken>,
}

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Latest,
    Named(BackupName),
    /// The newest whose cut is not after this instant.
    At(Timestamp),
}

/// Why there is no such backup.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    #[error("{0}")]
    NotFound(String),
    #[error("{place}: the manifest {error}")]
    Broken { place: String, error: ManifestError },
    #[error(transparent)]
    Store(#[from] Failure),
}

impl Catalog {
    pub fn new(tiers: BTreeMap<TierName, Vec<Arc<dyn Store>>>) -> Self {
        Self { tiers }
    }

    /// The store that a tier's backups are written to.
    pub fn primary(&self, tier: &TierName) -> Option<Arc<dyn Store>> {
        self.tiers.get(tier)?.first().cloned()
    }

    /// Every backup, the newest first, and every manifest that cannot be used.
    ///
    /// # Errors
    /// When a store cannot be listed or read.
    pub async fn list(&self) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        for (tier, stores) in &self.tiers {
            let (store, backups) = self.folders_of_first(tier, stores).await?;
            let read: Vec<_> = stream::iter(backups)
                .map(|folder| read(store.clone(), format!("{folder}manifest.json")))
                .buffer_unordered(PARALLEL)
                .try_collect()
                .await?;
            for found in read.into_iter().flatten() {
                match found {
                    Ok(entry) => listing.entries.push(entry),
                    Err(broken) => listing.broken.push(broken),
                }
            }
        }
        listing.entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.manifest.started_at, entry.manifest.name.clone());
            key(b).cmp(&key(a))
        });
        listing.broken.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(listing)
    }

    /// The folders of a tier in the first of its places that is there.
    async fn folders_of_first(
        &self,
        tier: &TierName,
        stores: &[Arc<dyn Store>],
    ) -> Result<(Arc<dyn Store>, Vec<String>), Failure> {
        let mut gone = None;
        for store in stores {
            match self.folders(tier, store).await {
                Ok(folders) => return Ok((store.clone(), folders)),
                // A bucket that does not exist; one that cannot be reached is not taken for lost.
                Err(error @ Failure::NotFound { .. }) => drop(gone.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Err(gone.unwrap_or(Failure::NotFound { object: tier.to_string(), message: "has no destination".into() }))
    }

    async fn folders(&self, tier: &TierName, store: &Arc<dyn Store>) -> Result<Vec<String>, Failure> {
        let mut folders = Vec::new();
        for date in store.list_prefixes(&format!("{tier}/")).await? {
            folders.extend(store.list_prefixes(&date).await?);
        }
        Ok(folders)
    }

    /// The backup that is meant; `tier` narrows what "latest" and "at" choose from.
    ///
    /// # Errors
    /// `NotFound` with what there is instead; `Broken` when its manifest cannot be used.
    pub async fn find(&self, wanted: &Wanted, tier: Option<&TierName>) -> Result<Entry, CatalogError> {
        let listing = self.list().await?;
        let newest = listing.entries.first().map(|entry| entry.manifest.name.to_string());
        let newest_hint = newest.map_or_else(
            || "hint: the catalog is empty; take one with: strongroom backup --tier daily".to_string(),
            |name| format!("hint: the latest is {name}; `strongroom list` shows all"),
        );
        if let Wanted::Named(name) = wanted
            && let Some(broken) = listing.broken.iter().find(|broken| broken.place.contains(&format!("/{name}/")))
        {
            return Err(CatalogError::Broken { place: broken.place.clone(), error: broken.error.clone() });
        }
        let mut entries =
            listing.entries.into_iter().filter(|entry| tier.is_none_or(|tier| entry.manifest.tier == *tier));
        let (found, what) = match wanted {
            Wanted::Latest => (entries.next(), "no backup yet".to_string()),
            Wanted::Named(name) => {
                (entries.find(|entry| entry.manifest.name == *name), format!("there is no backup '{name}'"))
            }
            Wanted::At(at) => (
                entries.find(|entry| entry.manifest.cut_at.unwrap_or(entry.manifest.started_at) <= *at),
                format!("no backup is as old as {at}"),
            ),
        };
        found.ok_or_else(|| CatalogError::NotFound(format!("{what}; {newest_hint}")))
    }

    /// Writes the manifest: the moment at which the backup begins to exist. Returns its SHA-256.
    ///
    /// A reply that was lost is told apart by the commit id of what is there.
    ///
    /// # Errors
    /// `Exists` when another backup has the name; `Unknown` when it cannot be found out.
    pub async fn commit(store: &dyn Store, folder: &str, manifest: &Manifest) -> Result<String, Failure> {
        let key = format!("{folder}/manifest.json");
        let bytes = Bytes::from(manifest::write(manifest));
        match store.put_if_absent(&key, bytes.clone()).await {
            Ok(_) | Err(Failure::Exists { .. } | Failure::Unknown { .. } | Failure::Transient { .. }) => {}
            Err(error) => return Err(error),
        }
        let object = format!("{}/{key}", store.describe());
        let (found, _) = store.get(&key).await.map_err(|error| match error {
            Failure::NotFound { object, .. } => {
                Failure::Unknown { object, message: "the manifest was written but cannot be read back".into() }
            }
            other => other,
        })?;
        if found == bytes {
            return Ok(Digests::of(&bytes).sha256_hex());
        }
        if Tombstone::is(&found) {
            let message = "was abandoned while its manifest was under way: another worker has taken the run over";
            return Err(Failure::Precondition { object, message: message.into() });
        }
        match manifest::read(&found) {
            Ok(other) if other.commit_id == manifest.commit_id => {
                Err(Failure::Corrupt { object, message: "the manifest reads back changed".into() })
            }
            _ => Err(Failure::Exists { object, message: "another backup has this name".into() }),
        }
    }
}

async fn read(store: Arc<dyn Store>, key: String) -> Result<Option<Result<Entry, Broken>>, Failure> {
    let bytes = match store.get(&key).await {
        Ok((bytes, _)) => bytes,
        Err(Failure::NotFound { .. }) => return Ok(None), // not committed, or being removed
        Err(error) => return Err(error),
    };
    if Tombstone::is(&bytes) {
        return Ok(None); // abandoned
    }
    let place = format!("{}/{key}", store.describe());
    let checked = manifest::read(&bytes).and_then(|manifest| {
        // A manifest under another backup's folder was moved or replayed.
        if key.ends_with(&format!("/{}/manifest.json", manifest.name))
            && key.starts_with(&format!("{}/", manifest.tier))
        {
            Ok(manifest)
        } else {
            let message = format!("it is of backup {} (tier {}), but lies elsewhere", manifest.name, manifest.tier);
            Err(ManifestError::Inconsistent { message })
        }
    });
    Ok(Some(match checked {
        Ok(manifest) => Ok(Entry { manifest, store, sha256: Digests::of(&bytes).sha256_hex() }),
        Err(error) => Err(Broken { place, error }),
    }))
}
