//! Files on their way between BigQuery and a place that it does not reach: a bucket in between.
//!
//! What is written there is journalled before, taken away as soon as it has arrived, and is nobody's backup: whatever is
//! found there later is garbage.

use std::sync::Arc;

use super::backup::count;
use super::inspect::again_when_changed;
use super::run::Undo;
use super::{Context, JobError, contents};
use crate::manifest::{ObjectRecord, SealingRecord};
use crate::model::{Failure, Place};
use crate::plan::staging::restore_folder;
use crate::saga::Done;
use crate::store::Store;

/// Moves a file that BigQuery has written on into the vault, under the same key, sealed where that is asked (the key says so
/// then). Gives its record there.
///
/// # Errors
/// `Corrupt` when it arrives as something else than the record says, time and again.
pub(super) async fn move_on(
    staging: &dyn Store,
    vault: &dyn Store,
    file: &ObjectRecord,
    sealing: Option<&SealingRecord>,
) -> Result<ObjectRecord, Failure> {
    let kept = again_when_changed(|| async {
        let kept = contents::write(vault, &file.key, contents::read(staging, file).await?, sealing).await?;
        if kept.digests == file.digests {
            return Ok(kept);
        }
        let object = format!("{}/{}", vault.describe(), file.key);
        Err(Failure::Corrupt { object, message: "something else lies there".into() })
    })
    .await?;
    staging.delete(&file.key).await?;
    Ok(ObjectRecord { row_count: file.row_count, ..kept })
}

/// Removes what a run left in staging.
///
/// # Errors
/// When staging cannot be listed, or an object not be deleted.
pub(super) async fn empty(context: &Context, place: &Place, folder: &str) -> Result<usize, Failure> {
    let store = (context.open)(place)?;
    let listed = match store.list(&format!("{folder}/")).await {
        Ok(listed) => listed,
        Err(Failure::NotFound { .. }) => return Ok(0), // the bucket is gone
        Err(error) => return Err(error),
    };
    for info in &listed {
        store.delete(&info.key).await?;
    }
    Ok(listed.len())
}

/// A restore's part of staging.
pub(super) struct Staging<'a> {
    context: &'a Context,
    place: &'a Place,
    store: Arc<dyn Store>,
    folder: String,
}

impl<'a> Staging<'a> {
    /// # Errors
    /// When the place cannot be opened.
    pub fn of_restore(context: &'a Context, place: &'a Place, run: &str) -> Result<Self, Failure> {
        Ok(Self { context, place, store: (context.open)(place)?, folder: restore_folder(run) })
    }

    /// Journals where files will lie, before one does.
    pub async fn arm(&self) -> Result<Done<()>, JobError> {
        let undo = Undo::EmptyStaging { place: self.place.clone(), folder: self.folder.clone() };
        Ok(Done::new(()).undo(undo.to_value()).note(self.place.to_string()))
    }

    /// Brings a file of the vault to where BigQuery reads it, and gives that place.
    ///
    /// # Errors
    /// `NotFound`, or `Corrupt` when it is not what was written.
    pub async fn bring(&self, vault: &dyn Store, object: &ObjectRecord) -> Result<String, Failure> {
        let key = self.key(object);
        again_when_changed(|| async {
            contents::write(self.store.as_ref(), &key, contents::read(vault, object).await?, None).await.map(drop)
        })
        .await?;
        Ok(format!("{}/{key}", self.place))
    }

    /// Removes a file that was loaded. What cannot be removed is garbage, and no reason for a restore to fail.
    pub async fn take_away(&self, object: &ObjectRecord) {
        self.store.delete(&self.key(object)).await.ok();
    }

    /// Removes what is left. What cannot be removed is told: a restore does not fail by it.
    pub async fn finish(&self, armed: &str) -> Result<Done<()>, JobError> {
        let note = match empty(self.context, self.place, &self.folder).await {
            Ok(left) => format!("{} removed", count(left, "file")),
            Err(error) => {
                let (place, folder) = (self.place, &self.folder);
                self.context.observer.note(&format!("{place}/{folder} is left to `strongroom recover`: {error}"));
                "left to recover".into()
            }
        };
        Ok(Done::new(()).discharges(armed).note(note))
    }

    fn key(&self, object: &ObjectRecord) -> String {
        // What lies here is the content.
        let name = match object.is_sealed() {
            true => object.key.trim_end_matches(".age").trim_end_matches(".zst"),
            false => &object.key,
        };
        format!("{}/{name}", self.folder)
    }
}
