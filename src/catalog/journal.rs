//! The saga's journal as objects: one a record, each place taken once.
//!
//! `_strongroom/journal/{run}/{sequence}.json`, and `_strongroom/open/{run}.json` while a run is not closed, so that
//! `recover` need not look at every run there ever was.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::saga::{Entry, Journal, Log, Record};
use crate::store::Store;

/// A journal in a store.
pub struct StoreJournal {
    store: Arc<dyn Store>,
}

/// A run that was opened and not closed.
pub struct OpenRun {
    pub run: String,
    pub log: Log,
}

impl StoreJournal {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

fn record_key(run: &str, sequence: u64) -> String {
    format!("{OWN_FOLDER}/journal/{run}/{sequence:06}.json")
}

fn open_key(run: &str) -> String {
    format!("{OWN_FOLDER}/open/{run}.json")
}

#[async_trait]
impl Journal for StoreJournal {
    async fn append(&self, record: &Record) -> Result<(), Failure> {
        let key = record_key(&record.run, record.sequence);
        let encoded = serde_json::to_vec(record)
            .map_err(|error| Failure::Invalid { object: key.clone(), message: error.to_string() })?;
        let bytes = Bytes::from(encoded);
        if matches!(record.entry, Entry::Opened { .. }) {
            // Before the first record: an open run must never be overlooked.
            self.store.put(&open_key(&record.run), bytes.clone()).await?;
        }
        match self.store.put_if_absent(&key, bytes.clone()).await {
            Ok(_) => {}
            Err(error @ (Failure::Exists { .. } | Failure::Unknown { .. })) => {
                // One's own write whose reply was lost, or another worker's record?
                let found = self.store.get(&key).await.map(|(found, _)| found);
                if found.ok().as_ref() != Some(&bytes) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        if matches!(record.entry, Entry::Closed { .. }) {
            self.store.delete(&open_key(&record.run)).await?;
        }
        Ok(())
    }
}

/// The log of a run, open or closed; `None` when there is none.
///
/// # Errors
/// When the store cannot be read, or the log does not hold together.
pub async fn log_of(store: &dyn Store, run: &str) -> Result<Option<Log>, Failure> {
    let mut records = Vec::new();
    for object in store.list(&format!("{OWN_FOLDER}/journal/{run}/")).await? {
        let (bytes, _) = store.get(&object.key).await?;
        let corrupt =
            |message: String| Failure::Corrupt { object: format!("{}/{}", store.describe(), object.key), message };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        records.push(record);
    }
    if records.is_empty() {
        return Ok(None);
    }
    Log::replay(records).map(Some).map_err(|error| Failure::Corrupt {
        object: format!("{}/{OWN_FOLDER}/journal/{run}", store.describe()),
        message: error.to_string(),
    })
}

/// The runs that were opened and not closed, the oldest first.
///
/// # Errors
/// When the store cannot be read, or a log does not hold together.
pub async fn open_runs(store: &dyn Store) -> Result<Vec<OpenRun>, Failure> {
    let marked = marked_runs(store).await?;
    Ok(marked.into_iter().filter(|(_, open)| *open).map(|(run, _)| run).collect())
}

/// Whether any run may be open.
///
/// # Errors
/// When the store cannot be read.
pub async fn has_markers(store: &dyn Store) -> Result<bool, Failure> {
    Ok(!store.list(&format!("{OWN_FOLDER}/open/")).await?.is_empty())
}

/// Removes the markers of runs that are closed, or that ended before their first record. For the holder of the lease: a
/// run that begins sets its marker before its first record.
///
/// # Errors
/// As `open_runs`, and when a marker cannot be removed.
pub async fn sweep_markers(store: &dyn Store) -> Result<(), Failure> {
    for (run, open) in marked_runs(store).await? {
        if !open {
            store.delete(&open_key(&run.run)).await?;
        }
    }
    Ok(())
}

/// The runs that have a marker, and whether they are open.
async fn marked_runs(store: &dyn Store) -> Result<Vec<(OpenRun, bool)>, Failure> {
    let mut runs = Vec::new();
    for marker in store.list(&format!("{OWN_FOLDER}/open/")).await? {
        let name = marker.key.rsplit('/').next().unwrap_or_default();
        let Some(run) = name.strip_suffix(".json") else { continue };
        let log = log_of(store, run).await?.unwrap_or_default();
        let open = log.closed().is_none() && !log.records().is_empty();
        runs.push((OpenRun { run: run.into(), log }, open));
    }
    Ok(runs)
}
