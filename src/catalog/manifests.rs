//! The catalog: which backups there are. What is listed is complete, because the manifest is written last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::Tombstone;
use super::authority::Authority;
use super::ledger::Ledger;
use super::runs::outcome_of;
use crate::codec::digest::Digests;
use crate::manifest::chronicle::{Commit, Head};
use crate::manifest::{self, Doubt, Found, Manifest, ManifestError, Statement};
use crate::model::{BackupName, Failure, TierName};
use crate::plan;
use crate::saga::Outcome;
use crate::store::Store;

/// How many manifests are read at once.
const PARALLEL: usize = 16;

/// The commit point, and what is stated of it, within a backup's folder.
pub const MANIFEST: &str = "manifest.json";
pub const STATEMENT: &str = "statement.json";

/// The backups of every tier, in their primary destinations; of a place that is gone, those of its copy.
#[derive(Clone)]
pub struct Catalog {
    /// The primary first, never without one.
    tiers: BTreeMap<TierName, Vec<Arc<dyn Store>>>,
    /// The configuration's `name`.
    system: String,
    /// Where the catalog is signed: what is not is doubted.
    authority: Option<Authority>,
    /// Where journal and ledger are kept: they tell whether a backup that only copies hold was committed.
    home: Option<Arc<dyn Store>>,
}

/// A backup in the catalog.
#[derive(Clone)]
pub struct Entry {
    pub manifest: Manifest,
    /// Where its objects lie.
    pub store: Arc<dyn Store>,
    /// SHA-256 of the manifest's bytes, in hex.
    pub sha256: String,
    pub manifest_size_bytes: u64,
}

/// A manifest that cannot be used.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The whole address of the manifest.
    pub place: String,
    pub error: ManifestError,
}

/// A backup whose manifest can be read, and is not believed: it is neither restored nor counted, nor removed.
#[derive(Clone)]
pub struct Doubtful {
    pub entry: Entry,
    pub doubt: Doubt,
}

/// What the catalog holds, the newest first.
#[derive(Clone, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    pub broken: Vec<Broken>,
    pub doubtful: Vec<Doubtful>,
    /// Manifests that are missing or damaged in the primary, of backups that a copy tells of.
    pub damaged: Vec<Damaged>,
    /// Copies' places that could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// A manifest that one place does not have as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub backup: BackupName,
    /// The whole address of the manifest.
    pub place: String,
    pub message: String,
    /// The place that has it.
    pub read_from: String,
}

/// What lies in a backup's folder in one place.
pub struct Copy {
    /// The folder below the destination's root.
    pub folder: String,
    /// The whole address of the manifest.
    pub place: String,
    pub entry: Result<Entry, Broken>,
    /// The statement beside the manifest.
    pub statement: Option<Bytes>,
    /// What the statement says; `None` without one.
    pub judged: Option<Result<Option<Statement>, Doubt>>,
}

/// What lies in the place of a manifest.
#[allow(clippy::large_enum_variant)] // nearly all are copies
enum Lying {
    /// Not committed, being removed, or lost.
    Nothing,
    /// A tombstone: abandoned, or removed.
    Stone {
        folder: String,
    },
    Copy(Copy),
}

/// What the first place of a tier says.
#[derive(Default)]
struct TierListing {
    store: Option<Arc<dyn Store>>,
    /// Folders of which nothing more need be asked.
    settled: BTreeSet<String>,
    broken: BTreeMap<String, Broken>,
}

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Latest,
    Named(BackupName),
    /// By its name, or for one by hand by what it was taken for: the newest of that purpose.
    Called(BackupName),
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
    #[error("{0}; hint: `strongroom verify --catalog` tells all that is not believed")]
    Doubted(Doubt),
    #[error(transparent)]
    Store(#[from] Failure),
}

impl Catalog {
    pub fn new(tiers: BTreeMap<TierName, Vec<Arc<dyn Store>>>) -> Self {
        Self { tiers, system: String::new(), authority: None, home: None }
    }

    /// The same with the place of journal and ledger: what the primary has lost is listed from the copies.
    #[must_use]
    pub fn at_home(self, home: Arc<dyn Store>) -> Self {
        Self { home: Some(home), ..self }
    }

    /// The same for a system of this name, whose backups are signed if there is an authority.
    #[must_use]
    pub fn of_system(self, system: &str, authority: Option<Authority>) -> Self {
        Self { system: system.into(), authority, ..self }
    }

    /// Whether signatures are asked for.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
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
            let read: Vec<Lying> = stream::iter(backups)
                .map(|folder| self.read(&store, folder, self.authority.is_some()))
                .buffer_unordered(PARALLEL)
                .try_collect()
                .await?;
            let mut here = TierListing { store: Some(store), ..TierListing::default() };
            for found in read {
                match found {
                    Lying::Nothing => {}
                    Lying::Stone { folder } => drop(here.settled.insert(folder)),
                    // What is not believed here may be believed in a copy.
                    Lying::Copy(Copy { entry: Ok(entry), judged: Some(Err(doubt)), .. }) => {
                        listing.doubtful.push(Doubtful { entry, doubt });
                    }
                    Lying::Copy(Copy { folder, entry: Ok(entry), .. }) => {
                        here.settled.insert(folder);
                        listing.entries.push(entry);
                    }
                    Lying::Copy(Copy { folder, entry: Err(broken), .. }) => drop(here.broken.insert(folder, broken)),
                }
            }
            self.complete(tier, stores, &mut here, &mut listing).await?;
            listing.broken.extend(here.broken.into_values());
        }
        let key = |entry: &Entry| (entry.manifest.started_at, entry.manifest.name.clone());
        listing.entries.sort_by_key(|entry| std::cmp::Reverse(key(entry)));
        listing.doubtful.sort_by_key(|doubtful| std::cmp::Reverse(key(&doubtful.entry)));
        listing.broken.sort_by(|a, b| a.place.cmp(&b.place));
        listing.damaged.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(listing)
    }

    /// Adds what the first place of a tier has lost, from its copies. A copy that cannot be looked at stops nobody.
    async fn complete(
        &self,
        tier: &TierName,
        stores: &[Arc<dyn Store>],
        here: &mut TierListing,
        listing: &mut Listing,
    ) -> Result<(), Failure> {
        let (Some(home), Some(first)) = (&self.home, &here.store) else { return Ok(()) };
        let first = first.describe();
        // The ledger is read once, and only where something is missing.
        let mut ledger = None;
        for store in stores.iter().filter(|store| store.describe() != first) {
            let folders = match self.folders(tier, store).await {
                Ok(folders) => folders,
                Err(error) => {
                    listing.unseen.push(error.to_string());
                    continue;
                }
            };
            let missing = folders.into_iter().filter(|folder| !here.settled.contains(folder.trim_end_matches('/')));
            let read: Vec<Lying> = stream::iter(missing)
                .map(|folder| self.read(store, folder, true))
                .buffer_unordered(PARALLEL)
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .filter_map(|read| read.map_err(|error| listing.unseen.push(error.to_string())).ok())
                .collect();
            for found in read {
                let Lying::Copy(Copy { folder, entry: Ok(entry), judged: Some(Ok(_)), .. }) = found else { continue };
                if ledger.is_none() {
                    ledger = Some(Ledger::read(home.as_ref()).await?);
                }
                let removing = ledger.as_ref().is_some_and(|ledger| ledger.is_removing(&entry.manifest.name));
                if removing || !was_committed(home.as_ref(), &entry.manifest.run).await? {
                    continue;
                }
                let broken = here.broken.remove(&folder);
                let doubted = listing.doubtful.iter().find(|other| other.entry.manifest.name == entry.manifest.name);
                let message = match (broken, doubted) {
                    (Some(broken), _) => broken.error.to_string(),
                    (None, Some(doubtful)) => doubtful.doubt.message.clone(),
                    (None, None) => "is not there".into(),
                };
                listing.damaged.push(Damaged {
                    backup: entry.manifest.name.clone(),
                    place: format!("{first}/{folder}/{MANIFEST}"),
                    message,
                    read_from: store.describe(),
                });
                here.settled.insert(folder);
                listing.entries.push(entry);
            }
        }
        Ok(())
    }

    /// The backup as somebody vouches for it: where the manifest is not what was stated of it, a copy whose is.
    ///
    /// # Errors
    /// When the entry's own place cannot be read.
    pub async fn sound(&self, entry: Entry) -> Result<Entry, Failure> {
        if self.check(&entry).await?.is_ok() {
            return Ok(entry);
        }
        let manifest = &entry.manifest;
        let folder = plan::backup::folder(&manifest.tier, &manifest.name, manifest.started_at);
        for store in self.tiers.get(&manifest.tier).into_iter().flatten() {
            if store.describe() == entry.store.describe() {
                continue;
            }
            if let Ok(Lying::Copy(Copy { entry: Ok(copy), judged: Some(Ok(Some(_))), .. })) =
                self.read(store, format!("{folder}/"), true).await
            {
                return Ok(copy);
            }
        }
        Ok(entry)
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

    /// What lies in every backup's folder of a tier in one place, with what the statements say.
    ///
    /// # Errors
    /// When the place cannot be listed or read.
    pub async fn copies(&self, tier: &TierName, store: &Arc<dyn Store>) -> Result<Vec<Copy>, Failure> {
        let folders = self.folders(tier, store).await?;
        let read: Vec<Lying> = stream::iter(folders)
            .map(|folder| self.read(store, folder, true))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let copy = |found| match found {
            Lying::Copy(copy) => Some(copy),
            Lying::Nothing | Lying::Stone { .. } => None,
        };
        let mut copies: Vec<Copy> = read.into_iter().filter_map(copy).collect();
        copies.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(copies)
    }

    /// Every place of a tier, the primary first.
    pub fn places(&self) -> impl Iterator<Item = (&TierName, &[Arc<dyn Store>])> {
        self.tiers.iter().map(|(tier, stores)| (tier, stores.as_slice()))
    }

    /// What is to be stated of a manifest of these bytes.
    ///
    /// # Errors
    /// When it is to be signed and there is no key.
    pub async fn state(&self, folder: &str, manifest: &Manifest, head: Option<Head>) -> Result<Bytes, Failure> {
        let digests = Digests::of(&manifest::write(manifest));
        let found = Found {
            system: &self.system,
            folder,
            place: folder,
            manifest,
            size_bytes: digests.size_bytes,
            sha256: &digests.sha256_hex(),
        };
        self.sign(&found, head).await
    }

    /// The statement of a manifest as it was found.
    ///
    /// # Errors
    /// When it is to be signed and there is no key.
    pub async fn sign(&self, found: &Found<'_>, head: Option<Head>) -> Result<Bytes, Failure> {
        let key = match &self.authority {
            Some(authority) => Some(authority.key().await?),
            None => None,
        };
        let invalid = |message| Failure::Invalid { object: found.place.into(), message };
        Statement::of(found, head).write(key).map(Bytes::from).map_err(invalid)
    }

    async fn folders(&self, tier: &TierName, store: &Arc<dyn Store>) -> Result<Vec<String>, Failure> {
        let days = store.list_prefixes(&format!("{tier}/")).await?;
        let folders: Vec<Vec<String>> = stream::iter(days)
            .map(|day| async move { store.list_prefixes(&day).await })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        Ok(folders.into_iter().flatten().collect())
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
        if let Wanted::Named(name) | Wanted::Called(name) = wanted
            && let Some(broken) = listing.broken.iter().find(|broken| broken.place.contains(&format!("/{name}/")))
        {
            return Err(CatalogError::Broken { place: broken.place.clone(), error: broken.error.clone() });
        }
        if let Wanted::Named(name) | Wanted::Called(name) = wanted
            && !listing.entries.iter().any(|entry| entry.manifest.name == *name)
            && let Some(found) = listing.doubtful.iter().find(|doubtful| doubtful.entry.manifest.name == *name)
        {
            return Err(CatalogError::Doubted(found.doubt.clone()));
        }
        let mut entries =
            listing.entries.into_iter().filter(|entry| tier.is_none_or(|tier| entry.manifest.tier == *tier));
        let (found, what) = match wanted {
            Wanted::Latest => (entries.next(), "no backup yet".to_string()),
            Wanted::Named(name) => {
                (entries.find(|entry| entry.manifest.name == *name), format!("there is no backup '{name}'"))
            }
            Wanted::Called(name) => {
                let entries: Vec<Entry> = entries.collect();
                let purpose = format!("_{name}");
                let by_hand = |entry: &Entry| {
                    entry.manifest.purpose.is_some() && entry.manifest.name.as_str().ends_with(&purpose)
                };
                let at = entries.iter().position(|entry| entry.manifest.name == *name);
                let at = at.or_else(|| entries.iter().position(by_hand));
                (at.and_then(|at| entries.into_iter().nth(at)), format!("there is no backup '{name}'"))
            }
            Wanted::At(at) => (
                entries.find(|entry| entry.manifest.cut_at.unwrap_or(entry.manifest.started_at) <= *at),
                format!("no backup is as old as {at}"),
            ),
        };
        let found = found.ok_or_else(|| CatalogError::NotFound(format!("{what}; {newest_hint}")))?;
        Ok(self.sound(found).await?)
    }

    /// Writes the manifest: the moment at which the backup begins to exist. What is stated of it is written before, so that
    /// it is never there without. Returns the manifest's SHA-256.
    ///
    /// A reply that was lost is told apart by the commit id of what is there.
    ///
    /// # Errors
    /// `Exists` when another backup has the name; `Unknown` when it cannot be found out.
    pub async fn commit(
        store: &dyn Store,
        folder: &str,
        manifest: &Manifest,
        statement: Bytes,
    ) -> Result<String, Failure> {
        let key = format!("{folder}/{MANIFEST}");
        if store.head(&key).await?.is_none() {
            store.put(&format!("{folder}/{STATEMENT}"), statement).await?;
        }
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

    /// Reads what lies in a folder, which ends with a slash.
    async fn read(&self, store: &Arc<dyn Store>, folder: String, judged: bool) -> Result<Lying, Failure> {
        let key = format!("{folder}{MANIFEST}");
        let Some(bytes) = optional(store.as_ref(), &key).await? else { return Ok(Lying::Nothing) };
        if Tombstone::is(&bytes) {
            return Ok(Lying::Stone { folder: folder.trim_end_matches('/').into() });
        }
        let place = format!("{}/{key}", store.describe());
        let statement = if judged { optional(store.as_ref(), &format!("{folder}{STATEMENT}")).await? } else { None };
        let folder = folder.trim_end_matches('/').to_string();
        let checked = manifest::read(&bytes).and_then(|manifest| {
            // A manifest under another backup's folder was moved or replayed.
            if folder == plan::backup::folder(&manifest.tier, &manifest.name, manifest.started_at) {
                Ok(manifest)
            } else {
                let message = format!("it is of backup {} (tier {}), but lies elsewhere", manifest.name, manifest.tier);
                Err(ManifestError::Inconsistent { message })
            }
        });
        let manifest = match checked {
            Ok(manifest) => manifest,
            Err(error) => {
                let entry = Err(Broken { place: place.clone(), error });
                return Ok(Lying::Copy(Copy { folder, place, entry, statement, judged: None }));
            }
        };
        let digests = Digests::of(&bytes);
        let entry = Entry {
            manifest,
            store: store.clone(),
            sha256: digests.sha256_hex(),
            manifest_size_bytes: digests.size_bytes,
        };
        let trusted = self.authority.as_ref().map(|authority| authority.trusted.as_ref());
        let judge = || manifest::judge(&self.found(&entry, &folder, &place), statement.as_deref(), trusted);
        let judged = judged.then(judge);
        Ok(Lying::Copy(Copy { folder, place, entry: Ok(entry), statement, judged }))
    }

    /// What the statement beside a manifest says of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn check(&self, entry: &Entry) -> Result<Result<Option<Statement>, Doubt>, Failure> {
        let manifest = &entry.manifest;
        let folder = plan::backup::folder(&manifest.tier, &manifest.name, manifest.started_at);
        let place = format!("{}/{folder}/{MANIFEST}", entry.store.describe());
        let statement = optional(entry.store.as_ref(), &format!("{folder}/{STATEMENT}")).await?;
        let trusted = self.authority.as_ref().map(|authority| authority.trusted.as_ref());
        Ok(manifest::judge(&self.found(entry, &folder, &place), statement.as_deref(), trusted))
    }

    /// An entry as its statement is to describe it.
    pub fn found<'a>(&'a self, entry: &'a Entry, folder: &'a str, place: &'a str) -> Found<'a> {
        Found {
            system: &self.system,
            folder,
            place,
            manifest: &entry.manifest,
            size_bytes: entry.manifest_size_bytes,
            sha256: &entry.sha256,
        }
    }
}

impl Entry {
    /// The backup as the chronicle has it, in these places.
    pub fn commit(&self, places: Vec<String>) -> Commit {
        Commit {
            backup: self.manifest.name.clone(),
            tier: self.manifest.tier.clone(),
            commit_id: self.manifest.commit_id.clone(),
            started_at: self.manifest.started_at,
            manifest_sha256: self.sha256.clone(),
            places,
        }
    }
}

/// Whether a run has committed what it wrote: its journal says so, or is lost with the rest.
async fn was_committed(home: &dyn Store, run: &str) -> Result<bool, Failure> {
    Ok(outcome_of(home, run).await?.is_none_or(|outcome| outcome == Some(Outcome::Committed)))
}

async fn optional(store: &dyn Store, key: &str) -> Result<Option<Bytes>, Failure> {
    match store.get(key).await {
        Ok((bytes, _)) => Ok(Some(bytes)),
        Err(Failure::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
