//! The report of a backup: its manifest, where it lies, and what came before it.

use super::{Context, JobError, copies};
use crate::catalog::{Entry, Wanted};
use crate::manifest::Manifest;
use crate::model::TierName;
use crate::report::{BackupLine, BackupReport, CopyLine, Verification};

/// Earlier backups that a report shows.
const TREND: usize = 30;

/// The report of a backup, with its manifest.
///
/// # Errors
/// When there is no such backup, or the catalog cannot be read. A copy that cannot be read is told in the report.
pub async fn backup(
    context: &Context,
    wanted: &Wanted,
    tier: Option<&TierName>,
) -> Result<(BackupReport, Manifest), JobError> {
    let entry = context.catalog.find(wanted, tier).await?;
    let manifest = &entry.manifest;
    let marks = context.marks.of(&manifest.name, &manifest.commit_id).await?;
    let verified = marks.verified.map(|mark| Verification { at: mark.at, by: mark.by, how: mark.how });
    let listing = context.catalog.list().await?;
    // The newest first: this backup, then those before it.
    let mut earlier: Vec<&Entry> = listing
        .entries
        .iter()
        .filter(|other| other.manifest.tier == manifest.tier && other.manifest.started_at <= manifest.started_at)
        .take(TREND)
        .collect();
    let previous = earlier.iter().find(|other| other.manifest.name != manifest.name).map(|other| &other.manifest);
    earlier.reverse();
    let line = |entry: &Entry| BackupLine::of(&entry.manifest, &entry.sha256, &entry.store.describe());
    let report = BackupReport::of(
        (&context.config.name, line(&entry), manifest),
        previous,
        &context.queries,
        kept(context, manifest).await,
        verified,
        earlier.into_iter().map(line).collect(),
    );
    Ok((report, entry.manifest))
}

/// What lies in each of the tier's places.
async fn kept(context: &Context, manifest: &Manifest) -> Vec<CopyLine> {
    let mut lines = Vec::new();
    for place in context.places(&manifest.tier) {
        let found = match (context.open)(place) {
            Ok(store) => copies::lacking(store.as_ref(), manifest).await,
            Err(error) => Err(error),
        };
        let (lacking, problem) = match found {
            Ok(lacking) => (Some(lacking), None),
            Err(error) => (None, Some(error.to_string())),
        };
        lines.push(CopyLine { place: place.to_string(), objects: manifest.objects().count(), lacking, problem });
    }
    lines
}
