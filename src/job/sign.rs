//! Signing backups that were taken before the catalog was signed, or whose key is to be trusted no longer. Each is read whole
//! first: what is signed is what is there.

use serde::Serialize;

use super::verify::{self, Finding};
use super::{Context, JobError, run, witness};
use crate::catalog::{CatalogError, Entry, STATEMENT};
use crate::manifest::DoubtKind;
use crate::manifest::chronicle::Event;
use crate::model::{BackupName, Failure};
use crate::plan::Refusal;
use crate::plan::backup::folder;
use crate::saga::Done;

/// What was signed, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Signatures {
    pub signed: Vec<BackupName>,
    /// Not as their manifests say, and not signed.
    pub refused: Vec<(BackupName, Vec<Finding>)>,
}

/// Signs one backup, or all that can be read.
///
/// # Errors
/// When the catalog is not signed, there is no key, or no such backup; a backup that is damaged is in the outcome.
pub async fn run(context: &Context, backup: Option<&BackupName>) -> Result<Signatures, JobError> {
    let Some(chronicle) = &context.chronicle else {
        let hint = "[signing] in the configuration, with a key of strongroom key generate";
        return Err(JobError::Refused(vec![Refusal::new("the catalog", "is not signed", hint)]));
    };
    chronicle.authority().key().await?;
    let entries = chosen(context, backup).await?;
    let id = run::new_id(context);
    run::run(context, &id, ("sign", backup.map_or("catalog", BackupName::as_str)), async |saga| {
        let mut outcome = Signatures::default();
        let total = entries.len();
        saga.step("sign", async {
            for (n, entry) in entries.iter().enumerate() {
                let name = &entry.manifest.name;
                context.observer.progress("sign", n + 1, total, name.as_str());
                let read = verify::of_bytes(context, entry, context.depth()).await?;
                if read.passed() {
                    sign(context, entry).await?;
                    outcome.signed.push(name.clone());
                } else {
                    outcome.refused.push((name.clone(), read.findings));
                }
            }
            Ok::<_, JobError>(Done::new(()).note(super::backup::count(outcome.signed.len(), "backup")))
        })
        .await?;
        Ok(outcome)
    })
    .await
}

/// The one that is named, whatever is doubted of it; or all, but those that are not what was stated.
async fn chosen(context: &Context, backup: Option<&BackupName>) -> Result<Vec<Entry>, JobError> {
    let listing = context.catalog.list().await?;
    let doubtful = listing.doubtful.into_iter();
    let Some(backup) = backup else {
        let unsigned = doubtful.filter(|doubtful| doubtful.doubt.kind == DoubtKind::Unsigned);
        return Ok(listing.entries.into_iter().chain(unsigned.map(|doubtful| doubtful.entry)).collect());
    };
    let mut all = listing.entries.into_iter().chain(doubtful.map(|doubtful| doubtful.entry));
    let found = all.find(|entry| entry.manifest.name == *backup);
    let missing = || CatalogError::NotFound(format!("there is no backup '{backup}'; hint: strongroom list"));
    Ok(vec![found.ok_or_else(missing)?])
}

async fn sign(context: &Context, entry: &Entry) -> Result<(), JobError> {
    let Some(chronicle) = &context.chronicle else { return Ok(()) };
    let manifest = &entry.manifest;
    let folder = folder(&manifest.tier, &manifest.name, manifest.started_at);
    let place = format!("{}/{folder}", entry.store.describe());
    let found = context.catalog.found(entry, &folder, &place);
    let statement = context.catalog.sign(&found, chronicle.head().await?).await?;
    let mut places = Vec::new();
    for store in context.destinations(&manifest.tier)? {
        // A copy that holds something else is not signed: it stays in doubt.
        match store.get(&format!("{folder}/{}", crate::catalog::MANIFEST)).await {
            Ok((bytes, _)) if crate::model::Digests::of(&bytes).sha256_hex() == entry.sha256 => {
                store.put(&format!("{folder}/{STATEMENT}"), statement.clone()).await?;
                places.push(store.describe());
            }
            Ok(_) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let history = chronicle.read().await?.history;
    let known = history
        .backups
        .get(&manifest.name)
        .is_some_and(|fate| fate.removed_at.is_none() && fate.commit.manifest_sha256 == entry.sha256);
    if !known {
        let places = if places.is_empty() { witness::places(context, entry) } else { places };
        chronicle.append(Event::Committed(entry.commit(places)), context.now(), &context.holder).await?;
    }
    Ok(())
}
