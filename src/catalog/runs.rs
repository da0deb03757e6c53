//! Which runs there were, as the first and the last record of their journals tell.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::saga::{Entry, Outcome, Record};
use crate::store::Store;

/// How many records are read at once.
const PARALLEL: usize = 16;

/// A run in brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    pub run: String,
    pub verb: String,
    pub subject: String,
    /// `None`: it is open.
    pub outcome: Option<Outcome>,
    /// When the last record was written, by its writer.
    pub last_at: Timestamp,
}

/// The runs whose last record is not younger than `before`, in the store's own time; the oldest first.
///
/// # Errors
/// When the store cannot be read, or a record is damaged.
pub async fn runs(home: &dyn Store, before: Timestamp) -> Result<Vec<RunSummary>, Failure> {
    let mut journals: BTreeMap<String, (String, String, Timestamp)> = BTreeMap::new();
    for object in home.list(&format!("{OWN_FOLDER}/journal/")).await? {
        let Some(run) = object.key.split('/').nth(2) else { continue };
        // Keys are sorted: the first seen is the first record.
        let entry =
            journals.entry(run.to_string()).or_insert_with(|| (object.key.clone(), object.key.clone(), object.updated));
        entry.1.clone_from(&object.key);
        entry.2 = entry.2.max(object.updated);
    }
    stream::iter(journals.into_iter().filter(|(_, (_, _, updated))| *updated <= before))
        .map(|(run, (first, last, _))| async move { summary(home, run, &first, &last).await })
        .buffered(PARALLEL)
        .try_collect()
        .await
}

/// How a run ended, as its last record tells: `None` without a journal, `Some(None)` while it is open.
///
/// # Errors
/// When the store cannot be read, or the record is damaged.
pub(super) async fn outcome_of(home: &dyn Store, run: &str) -> Result<Option<Option<Outcome>>, Failure> {
    let records = match home.list(&format!("{OWN_FOLDER}/journal/{run}/")).await {
        Ok(records) => records,
        Err(Failure::NotFound { .. }) => return Ok(None), // the place is gone
        Err(error) => return Err(error),
    };
    let Some(last) = records.last() else { return Ok(None) };
    let outcome = match record(home, &last.key).await?.entry {
        Entry::Closed { outcome } => Some(outcome),
        _ => None,
    };
    Ok(Some(outcome))
}

async fn summary(home: &dyn Store, run: String, first: &str, last: &str) -> Result<RunSummary, Failure> {
    let (opened, ended) = tokio::try_join!(record(home, first), record(home, last))?;
    let (verb, subject) = match opened.entry {
        Entry::Opened { verb, subject } => (verb, subject),
        _ => Default::default(),
    };
    let outcome = match ended.entry {
        Entry::Closed { outcome } => Some(outcome),
        _ => None,
    };
    Ok(RunSummary { run, verb, subject, outcome, last_at: ended.at })
}

async fn record(home: &dyn Store, key: &str) -> Result<Record, Failure> {
    let (bytes, _) = home.get(key).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Corrupt { object: format!("{}/{key}", home.describe()), message: error.to_string() })
}

/// Removes a run's journal, the last record last: what is left of it is still that of a closed run.
///
/// # Errors
/// When the store cannot be written.
pub async fn remove_journal(home: &dyn Store, run: &str) -> Result<(), Failure> {
    for object in home.list(&format!("{OWN_FOLDER}/journal/{run}/")).await? {
        home.delete(&object.key).await?;
    }
    Ok(())
}
