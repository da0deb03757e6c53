//! Sources whose data passes through this process: their cut, their capture, their restore, as steps of a run.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::backup::count;
use super::run::Undo;
use super::{Context, JobError, contents, copies};
use crate::catalog::Entry;
use crate::manifest::{Manifest, ObjectRecord, SealingRecord, SourceRecord};
use crate::model::Failure;
use crate::plan::backup::{BackupPlan, object_folder};
use crate::plan::facts::SourceFacts;
use crate::plan::restore::{RestorePlan, RestoreRequest, TargetFacts};
use crate::plan::streamed::{RestoredSource, Wish};
use crate::plan::{Refusal, restore};
use crate::saga::Done;
use crate::source::streamed::{Cut, Sink, Streamed, Vault};
use crate::store::{ByteStream, Store, stream_of};

/// The source of this name as the configuration has it; `None` when it is of another kind.
///
/// # Errors
/// `NotFound` when the configuration has none.
fn open(context: &Context, name: &str) -> Result<Option<Arc<dyn Streamed>>, Failure> {
    let source = context.config.sources.iter().find(|source| source.name == name);
    let missing = || Failure::NotFound {
        object: format!("source '{name}'"),
        message: "is not in the configuration; hint: add its [[source]] again, or restore other sources with --source"
            .into(),
    };
    (context.source)(source.ok_or_else(missing)?)
}

/// What the inventory says of a source of this kind.
///
/// # Errors
/// When it cannot be looked at.
pub(super) async fn facts(context: &Context, name: &str) -> Result<Option<SourceFacts>, Failure> {
    match open(context, name)? {
        Some(source) => Ok(Some(SourceFacts::Streamed(source.inventory().await?))),
        None => Ok(None),
    }
}

/// Fixes the state of every source, while nothing is written.
pub(super) async fn cut(context: &Context, plan: &BackupPlan) -> Result<Vec<(String, Box<dyn Cut>)>, Failure> {
    let mut cuts = Vec::new();
    for source in plan.streamed().filter(|source| source.skipped.is_none()) {
        if let Some(opened) = open(context, &source.name)? {
            cuts.push((source.name.clone(), opened.cut().await?));
        }
    }
    Ok(cuts)
}

/// Puts every source's data into the vault.
pub(super) async fn capture(
    context: &Context,
    plan: &BackupPlan,
    cuts: Vec<(String, Box<dyn Cut>)>,
    (store, sealing): (&Arc<dyn Store>, Option<&SealingRecord>),
) -> Result<Done<Vec<SourceRecord>>, JobError> {
    let last = if cuts.is_empty() { None } else { referable(context, plan, sealing).await? };
    let last = match last {
        Some(entry) => match super::sealing::open(context, &entry).await {
            Ok(opened) => Some(opened),
            // Who takes backups need not be able to open them: nothing is referred to then.
            Err(Failure::Sealed { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let seen = last.as_ref().map_or(store, |last| &last.store);
    let mut records = Vec::new();
    for (name, cut) in cuts {
        let sink = PlanSink {
            context,
            folder: format!("{}/data/{name}", plan.folder),
            store: store.clone(),
            sealing,
            last: last.as_ref().and_then(|last| last.manifest.sources.iter().find(|source| source.name() == name)),
            vault: EntryVault { store: seen.clone() },
        };
        records.push(cut.capture(&sink).await?);
    }
    let objects = records.iter().map(|record| record.objects().len()).sum();
    Ok(Done::new(records).note(count(objects, "object")))
}

/// The newest backup of the tier, when a new one may be made of its objects: all of them lie in every place, as they were
/// written, for the same recipients.
async fn referable(
    context: &Context,
    plan: &BackupPlan,
    sealing: Option<&SealingRecord>,
) -> Result<Option<Entry>, JobError> {
    let tier = context.config.tiers.get(&plan.tier);
    if tier.is_some_and(|tier| tier.destinations.iter().any(|destination| destination.create_only)) {
        return Ok(None); // whoever takes the backup does not see the last one
    }
    let now = context.now();
    let listing = context.catalog.list().await?;
    let usable = |manifest: &Manifest| {
        manifest.tier == plan.tier
            && manifest.started_at <= now
            && match (&manifest.sealing, sealing) {
                (None, None) => true,
                // An identity that Cloud KMS wraps is one backup's own.
                (Some(then), Some(now)) => {
                    then.kms.is_empty() && now.kms.is_empty() && then.recipients == now.recipients
                }
                _ => false,
            }
    };
    let Some(entry) = listing.entries.into_iter().find(|entry| usable(&entry.manifest)) else { return Ok(None) };
    for store in context.destinations(&plan.tier)? {
        match copies::look(store.as_ref(), &entry.manifest).await {
            Ok(held) if held.faults.is_empty() => {}
            Ok(_) | Err(Failure::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(entry))
}

/// The backup's folder, for one source.
struct PlanSink<'a> {
    context: &'a Context,
    folder: String,
    store: Arc<dyn Store>,
    sealing: Option<&'a SealingRecord>,
    last: Option<&'a SourceRecord>,
    vault: EntryVault,
}

#[async_trait]
impl Sink for PlanSink<'_> {
    async fn stream(&self, name: &str, content: ByteStream) -> Result<ObjectRecord, Failure> {
        let name: Vec<String> = name.split('/').map(part).collect();
        contents::write(self.store.as_ref(), &format!("{}/{}", self.folder, name.join("/")), content, self.sealing)
            .await
    }

    async fn put(&self, name: &str, content: Bytes) -> Result<ObjectRecord, Failure> {
        self.stream(name, stream_of(content)).await
    }

    fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    fn last(&self) -> Option<&SourceRecord> {
        self.last
    }

    fn vault(&self) -> &dyn Vault {
        &self.vault
    }

    fn progress(&self, done: usize, total: usize, what: &str) {
        self.context.observer.progress("stream", done, total, what);
    }
}

/// A part of a key: points stay, unless one begins it.
fn part(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(object_folder).collect();
    match parts.first() {
        Some(first) if first.is_empty() => format!("=2E{}", parts[1..].join(".")),
        _ => parts.join("."),
    }
}

/// A backup's objects, opened.
pub(super) struct EntryVault {
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Vault for EntryVault {
    async fn read(&self, object: &ObjectRecord) -> Result<ByteStream, Failure> {
        contents::read(self.store.as_ref(), object).await
    }

    async fn read_range(&self, object: &ObjectRecord, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        if object.is_sealed() {
            return Ok(None);
        }
        self.store.get_range(&object.key, range).await.map(Some)
    }
}

/// What a person wishes, as such a source understands it.
pub(super) fn wish(context: &Context, request: &RestoreRequest, run: &str) -> Wish {
    Wish {
        replace: request.replace,
        target_db: request.target_db.clone(),
        to: request.to.clone(),
        paths: request.paths.clone(),
        run: run.into(),
        parallel: context.config.parallel,
    }
}

/// Looks at where each source of the backup that is wanted would go.
pub(super) async fn look(
    context: &Context,
    entry: &Entry,
    request: &RestoreRequest,
    facts: &mut TargetFacts,
) -> Result<(), Failure> {
    for record in restore::wanted_streamed(&entry.manifest, request) {
        match open(context, record.name()) {
            Ok(Some(source)) => match source.look(record, &wish(context, request, "")).await? {
                Ok(plan) => facts.streamed.push(plan),
                Err(refusals) => facts.refusals.extend(refusals),
            },
            Ok(None) | Err(Failure::NotFound { .. }) => facts.refusals.push(Refusal::new(
                format!("source '{}'", record.name()),
                "is not in the configuration, or of another kind there",
                "add its [[source]] again, or restore other sources: --source NAME",
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Holds what a source is now against its record; `None` where that cannot be done.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn compare(
    context: &Context,
    record: &SourceRecord,
    vault: &dyn Vault,
) -> Result<Option<RestoredSource>, Failure> {
    match open(context, record.name()) {
        Ok(Some(source)) => source.compare(record, vault).await,
        Ok(None) | Err(Failure::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The record of a source.
fn record<'a>(entry: &'a Entry, name: &str) -> Result<&'a SourceRecord, Failure> {
    let missing = || Failure::NotFound { object: format!("source '{name}'"), message: "the backup lacks it".into() };
    entry.manifest.sources.iter().find(|source| source.name() == name).ok_or_else(missing)
}

/// Journals what is to be taken back should the restore of the sources not come to its end.
pub(super) fn arm(
    context: &Context,
    entry: &Entry,
    plan: &RestorePlan,
    request: &RestoreRequest,
    run: &str,
) -> Result<Done<()>, JobError> {
    let records = plan.streamed.iter().map(|source| record(entry, &source.source).cloned());
    let undo = Undo::TakeBackSources { records: records.collect::<Result<_, _>>()?, wish: wish(context, request, run) };
    Ok(Done::new(()).undo(undo.to_value()))
}

/// Restores every source of the plan.
pub(super) async fn restore(
    context: &Context,
    entry: &Entry,
    plan: &RestorePlan,
    (request, run): (&RestoreRequest, &str),
) -> Result<Done<Vec<RestoredSource>>, JobError> {
    let vault = EntryVault { store: entry.store.clone() };
    let mut restored = Vec::new();
    for (n, wanted) in plan.streamed.iter().enumerate() {
        let record = record(entry, &wanted.source)?;
        let source = open(context, &wanted.source)?;
        let lost = || Failure::NotFound { object: wanted.source.clone(), message: "is of another kind now".into() };
        let wish = wish(context, request, run);
        restored.push(source.ok_or_else(lost)?.restore(record, &vault, &wish).await?);
        context.observer.progress("restore", n + 1, plan.streamed.len(), &wanted.source);
    }
    let items = restored.iter().map(|source| source.items.len()).sum();
    Ok(Done::new(restored).note(count(items, "item")))
}

/// Takes back the restore of sources that a run left.
pub(super) async fn take_back(context: &Context, records: &[SourceRecord], wish: &Wish) -> Result<(), Failure> {
    for record in records {
        // What the configuration does not know any more cannot be reached; a person is told.
        if let Some(source) = open(context, record.name())? {
            source.take_back(record, wish).await?;
        }
    }
    Ok(())
}
