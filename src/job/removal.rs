//! Removal of a backup's files. Objects that another backup's manifest names stay, wherever they lie; with the last backup
//! that is made of them they go.
//!
//! The manifest goes first, so that nothing incomplete is listed. Every step can be done again: a removal that died is
//! finished by whoever comes next.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::catalog::{Catalog, Listing, MANIFEST, OWN_FOLDER, Tombstone};
use crate::manifest::{self, Manifest, folder_of};
use crate::model::{BackupName, Failure};
use crate::store::Store;

/// Removes the backup that has, or had, its manifest in `folder`, from all places of its tier.
///
/// # Errors
/// `Precondition` when a manifest cannot be read: what it names is not known. Otherwise as the stores fail.
pub async fn remove(
    catalog: &Catalog,
    stores: &[Arc<dyn Store>],
    (backup, folder): (&BackupName, &str),
    at: Timestamp,
) -> Result<(), Failure> {
    let listing = catalog.list().await?;
    let reached = reached(&listing, (backup, folder))?;
    // What it is made of elsewhere must be known before its manifest is gone.
    let elsewhere = elsewhere(stores, folder).await?;
    let inside = format!("{folder}/");
    let needed = reached.range(inside.clone()..).next().is_some_and(|key| key.starts_with(&inside));
    let manifest = format!("{folder}/{MANIFEST}");
    for store in stores {
        if needed {
            Tombstone::of_removed(at).replace(store.as_ref(), folder).await?;
        } else {
            store.delete(&manifest).await?;
        }
    }
    for store in stores {
        for object in store.list(&inside).await? {
            if !(reached.contains(&object.key) || needed && object.key == manifest) {
                store.delete(&object.key).await?;
            }
        }
        for key in elsewhere.iter().filter(|key| !reached.contains(*key)) {
            store.delete(key).await?;
        }
        let folders: BTreeSet<&str> = elsewhere.iter().filter_map(|key| folder_of(key)).collect();
        for folder in folders {
            sweep(store.as_ref(), folder).await?;
        }
    }
    Ok(())
}

/// The keys that every other backup is made of; also those that are not believed: they may still be good.
///
/// # Errors
/// `Precondition` when a manifest cannot be read: what it names is not known.
pub(super) fn reached(listing: &Listing, (backup, folder): (&BackupName, &str)) -> Result<BTreeSet<String>, Failure> {
    let own = format!("/{folder}/");
    let unread = listing.broken.iter().map(|broken| &broken.place).find(|place| !place.contains(&own));
    if let Some(unknown) = unread.or(listing.unseen.first()) {
        let message =
            format!("is not removed: what is named there is not known: {unknown}; hint: strongroom repair --all");
        return Err(Failure::Precondition { object: backup.to_string(), message });
    }
    let doubtful = listing.doubtful.iter().map(|doubtful| &doubtful.entry);
    let others = listing.entries.iter().chain(doubtful).filter(|entry| entry.manifest.name != *backup);
    Ok(others.flat_map(|entry| entry.manifest.objects().map(|object| object.key.clone())).collect())
}

/// What a backup is made of that does not lie in its own folder.
async fn elsewhere(stores: &[Arc<dyn Store>], folder: &str) -> Result<BTreeSet<String>, Failure> {
    let mut keys = BTreeSet::new();
    for store in stores {
        let manifest: Option<Manifest> = match store.get(&format!("{folder}/{MANIFEST}")).await {
            Ok((bytes, _)) => manifest::read(&bytes).ok(),
            Err(Failure::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let objects = manifest.iter().flat_map(Manifest::objects);
        let foreign = |key: &String| folder_of(key) != Some(folder) && is_object(key);
        keys.extend(objects.map(|object| object.key.clone()).filter(foreign));
    }
    Ok(keys)
}

/// Whether a key is one that a backup's object can have: what a manifest of doubtful origin names is not all believed.
fn is_object(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        [tier, _, name, _, _, ..] => *tier != OWN_FOLDER && name.parse::<BackupName>().is_ok(),
        _ => false,
    }
}

/// Takes the tombstone away that is all that is left in a folder.
async fn sweep(store: &dyn Store, folder: &str) -> Result<(), Failure> {
    let left = store.list(&format!("{folder}/")).await?;
    let [stone] = left.as_slice() else { return Ok(()) };
    if stone.key == format!("{folder}/{MANIFEST}") {
        match store.get(&stone.key).await {
            Ok((bytes, _)) if Tombstone::is_of_removed(&bytes) => store.delete(&stone.key).await?,
            Ok(_) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
