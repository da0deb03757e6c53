//! What the stores' own lifecycle and holds are told of a backup's objects: since when they are needed no more, that they are
//! needed again, that nobody may delete them.
//!
//! A bucket's rule deletes what was condemned and could not be removed (`plan/buckets/rules.rs`), so it counts from the condemnation.
//! An object that another backup refers to is never reported as needed no more.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, parallel, removal};
use crate::catalog::{Listing, MANIFEST, STATEMENT};
use crate::manifest::Manifest;
use crate::model::Failure;
use crate::plan::backup::folder;

/// A time of which no rule counts days: Cloud Storage moves a custom time forward only, and never takes it away.
const NEVER: &str = "9999-12-01T00:00:00Z";

/// How far objects are held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Places in which every object of the backup is held, or free again.
    pub places: Vec<String>,
    /// Places that know no holds.
    pub without: Vec<String>,
}

/// The backup was condemned at `at`: its objects may go, but for those that another backup of the listing is made of. While
/// it is not known what some backup is made of, nothing is said: retention removes what may go, later and by itself.
pub(super) async fn condemned(context: &Context, manifest: &Manifest, at: Timestamp, listing: &Listing) {
    let folder = folder(&manifest.tier, &manifest.name, manifest.started_at);
    match removal::reached(listing, (&manifest.name, &folder)) {
        Ok(needed) => {
            let own = keys(manifest).into_iter().filter(|key| !needed.contains(key)).collect();
            tell(context, manifest, own, at).await;
        }
        Err(unknown) => context.observer.note(&format!("no lifecycle was told of {}: {unknown}", manifest.name)),
    }
}

/// The backup is kept after all, or is made of these objects: none of them may go.
pub(super) async fn needed(context: &Context, manifest: &Manifest) {
    tell(context, manifest, reach(manifest).into_iter().collect(), NEVER.parse().unwrap_or(Timestamp::MAX)).await;
}

/// Every key that a backup is made of, wherever it lies.
pub(super) fn reach(manifest: &Manifest) -> BTreeSet<String> {
    manifest.objects().map(|object| object.key.clone()).chain(keys(manifest)).collect()
}

/// Holds objects of a backup in every place, or lets them go.
///
/// # Errors
/// When an object cannot be held: those before it are.
pub(super) async fn hold(
    context: &Context,
    manifest: &Manifest,
    all: &BTreeSet<String>,
    held: bool,
) -> Result<Holds, Failure> {
    let mut holds = Holds::default();
    for store in context.destinations(&manifest.tier)? {
        let known = parallel::each(all, context.config.parallel, async |key| match store.hold(key, held).await {
            // A backup that is not signed has no statement in some places.
            Err(Failure::NotFound { .. }) if key.ends_with(STATEMENT) => Ok(true),
            outcome => outcome,
        })
        .await?;
        let places = if known.iter().all(|known| *known) { &mut holds.places } else { &mut holds.without };
        places.push(store.describe());
    }
    Ok(holds)
}

/// Manifest, statement, and the objects in the backup's own folder.
fn keys(manifest: &Manifest) -> Vec<String> {
    let folder = format!("{}/", folder(&manifest.tier, &manifest.name, manifest.started_at));
    let own = manifest.objects().filter(|object| object.key.starts_with(&folder)).map(|object| object.key.clone());
    let mut keys: Vec<String> = own.collect();
    keys.extend([format!("{folder}{MANIFEST}"), format!("{folder}{STATEMENT}")]);
    keys
}

/// A lifecycle that does not learn of it deletes later or not at all: that is told, and no failure.
async fn tell(context: &Context, manifest: &Manifest, keys: Vec<String>, at: Timestamp) {
    let stores = match context.destinations(&manifest.tier) {
        Ok(stores) => stores,
        Err(_) => return, // the tier is not configured any more
    };
    for store in stores {
        let told =
            parallel::each(&keys, context.config.parallel, async |key| match store.unneeded_since(key, at).await {
                Ok(()) | Err(Failure::NotFound { .. }) => Ok(()),
                Err(failure) => Err(failure),
            });
        if let Err(failure) = told.await {
            let name = &manifest.name;
            context.observer.note(&format!("the lifecycle of {} was not told of {name}: {failure}", store.describe()));
        }
    }
}
