//! Backup: inventory, plan, pause, drain, snapshot, resume, capture, manifest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::copies::{self, Fault};
use super::run::{self, Undo};
use super::{Context, JobError, capture, index, inspect, lifecycle, parallel, sealing, staging, streamed, witness};
use crate::catalog::Catalog;
use crate::config::SourceKind;
use crate::google::scheduler::JobState;
use crate::ingestion;
use crate::manifest::chronicle::{Commit, Event};
use crate::manifest::{FORMAT, Manifest, PauseRecord, Previous, SourceRecord, StepTiming, UNSEALED_FORMAT};
use crate::model::{Failure, Place, TableId, TierName};
use crate::plan::backup::{BackupPlan, BigQueryPlan, Occasion};
use crate::plan::facts::{BackupFacts, DestinationFacts, IngestionFacts, SourceFacts};
use crate::plan::staging::needs_staging;
use crate::plan::{self, Refusal};
use crate::saga::{Done, Saga};
use crate::source::bigquery::{self, JobIds};
use crate::source::sheets;
use crate::source::streamed::Cut;
use crate::store::Store;

/// Snapshots under way at once; BigQuery allows 100
/// (<https://cloud.google.com/bigquery/docs/table-snapshots-intro#limitations>).
const SNAPSHOTS_AT_ONCE: usize = 50;

/// The plan of a backup at this moment: what a dry run prints.
///
/// # Errors
/// `Refused` with everything that stands against it.
pub async fn plan(context: &Context, tier: &TierName, occasion: &Occasion) -> Result<BackupPlan, JobError> {
    let (plan, _) = inventory_and_plan(context, (tier, occasion), context.now()).await?;
    Ok(plan)
}

async fn inventory_and_plan(
    context: &Context,
    (tier, occasion): (&TierName, &Occasion),
    now: Timestamp,
) -> Result<(BackupPlan, BackupFacts), JobError> {
    if !context.config.tiers.contains_key(tier) {
        let known: Vec<&str> = context.config.tiers.keys().map(TierName::as_str).collect();
        let hint = format!("one of: {}", known.join(", "));
        let refusal = Refusal { object: tier.to_string(), message: "is no tier of the configuration".into(), hint };
        return Err(JobError::Refused(vec![refusal]));
    }
    let facts = facts(context, tier).await?;
    let plan = plan::backup::plan(&context.config, (tier, occasion), &facts, now).map_err(JobError::Refused)?;
    Ok((plan, facts))
}

async fn facts(context: &Context, tier: &TierName) -> Result<BackupFacts, JobError> {
    let mut sources = Vec::new();
    for source in &context.config.sources {
        sources.push(match &source.kind {
            SourceKind::BigQuery(bigquery) => SourceFacts::BigQuery(
                bigquery::inventory(&context.google, &source.name, bigquery, context.config.parallel).await?,
            ),
            SourceKind::Sheets(sheet) => {
                SourceFacts::Sheets(sheets::inventory(&context.google, &source.name, sheet).await?)
            }
            _ => streamed::facts(context, &source.name).await?.ok_or_else(|| Failure::Invalid {
                object: source.name.clone(),
                message: format!("a source of kind {} cannot be opened", source.kind.name()),
            })?,
        });
    }
    let mut destinations = Vec::new();
    for place in context.places(tier) {
        destinations.push(destination(context, place).await?);
    }
    let needed = context.config.tiers.get(tier).is_some_and(needs_staging);
    let staging = match context.config.staging.as_ref().filter(|_| needed) {
        Some(place) => Some(destination(context, place).await?),
        None => None,
    };
    let observed = ingestion::observe(&context.google, &context.config.ingestion.scheduler_jobs).await?;
    let ingestion = observed
        .into_iter()
        .map(|(job, state)| IngestionFacts { job, state: state.as_ref().map(ingestion::state_name) })
        .collect();
    let seal = context.config.tiers.get(tier).and_then(|tier| tier.seal.as_ref());
    let sealing_key = match seal.and_then(|seal| seal.kms_key.as_ref()) {
        Some(key) => Some(sealing::look_at(context, key).await?),
        None => None,
    };
    Ok(BackupFacts { sources, destinations, staging, ingestion, sealing_key })
}

pub(super) async fn destination(context: &Context, place: &Place) -> Result<DestinationFacts, Failure> {
    let site = (context.open)(place)?.site().await?;
    let retention_locked = site.as_ref().is_some_and(|site| site.retention_locked);
    Ok(DestinationFacts { place: place.clone(), location: site.map(|site| site.location), retention_locked })
}

/// Takes a backup.
///
/// # Errors
/// `Refused` before anything is changed; otherwise the failed step, after what was done was taken back.
pub async fn run(context: &Context, tier: &TierName, occasion: &Occasion) -> Result<Manifest, JobError> {
    let started_at = context.now();
    context.observer.step_started("plan");
    let (plan, facts) = inventory_and_plan(context, (tier, occasion), started_at).await?;
    let planned_at = context.now();
    if let Some(reason) = plan.skipped() {
        return Err(JobError::Skipped(reason));
    }
    let tables = plan.tables().count() + plan.streamed().map(|source| source.items.len()).sum::<usize>();
    let what = if plan.streamed().next().is_some() { "item" } else { "table" };
    context.observer.step_done("plan", planned_at.duration_since(started_at), &count(tables, what));

    if let Some(authority) = context.catalog.authority() {
        authority.key().await?; // nobody would believe a backup that is not signed
    }
    let id = run::new_id(context);
    let timings = vec![StepTiming { step: "plan".into(), started_at, ended_at: planned_at }];
    run::run(context, &id, ("backup", plan.name.as_str()), async |saga| {
        Work { context, plan: &plan, facts: &facts, id: &id, started_at, timings }.steps(saga).await
    })
    .await
}

/// The instant of the cut, the snapshots' resources by table, and the states of other sources.
type Snapshots = (Option<Timestamp>, BTreeMap<TableId, Value>, Vec<(String, Box<dyn Cut>)>);

struct Work<'a> {
    context: &'a Context,
    plan: &'a BackupPlan,
    facts: &'a BackupFacts,
    id: &'a str,
    started_at: Timestamp,
    timings: Vec<StepTiming>,
}

impl Work<'_> {
    async fn steps(mut self, saga: &mut Saga<'_>) -> Result<Manifest, JobError> {
        let destinations = self.context.written_to(&self.plan.tier)?;
        let Some(primary) = destinations.first().cloned() else {
            return Err(
                Failure::Invalid { object: self.plan.tier.to_string(), message: "has no destination".into() }.into()
            );
        };

        saga.step("prepare", self.prepare(primary.as_ref())).await?;
        // Before anything is paused: Cloud KMS may refuse.
        let sealing = match &self.plan.seal {
            Some(seal) => Some(saga.step("seal", sealing::begin(self.context, seal, &self.plan.name)).await?),
            None => None,
        };
        let google = self.plan.bigquery().next().is_some();
        let stands_still = google || !self.context.config.ingestion.scheduler_jobs.is_empty();
        let jobs = match stands_still {
            true => saga.step("arm_resume", self.arm_resume()).await?,
            false => vec![],
        };
        let paused_at = self.context.now();
        let latest = tokio::time::Instant::now() + self.plan.resume_within.as_duration();
        let mut fresh = BTreeMap::new();
        if stands_still {
            saga.step("pause", self.in_time(latest, self.pause(&jobs))).await?;
            fresh = saga.step("drain", self.in_time(latest, self.drain())).await?;
        }
        let (cut_at, snapshots, cuts) = saga.step("snapshot", self.in_time(latest, self.snapshot(&jobs))).await?;
        if stands_still {
            saga.step("resume", self.resume(&jobs)).await?;
        }
        let resumed_at = self.context.now();

        let captured = capture::Capture {
            context: self.context,
            plan: self.plan,
            facts: self.facts,
            run: self.id,
            store: primary.clone(),
            staging: self.plan.staging.as_ref().map(|place| (self.context.open)(place)).transpose()?,
            fresh: &fresh,
            snapshots: &snapshots,
            sealing: sealing.as_ref(),
        };
        let mut sources = Vec::new();
        if google {
            sources = saga.step("capture", captured.bigquery()).await?;
            if let Some(place) = &self.plan.staging {
                saga.step("unstage", self.unstage(place)).await?;
            }
        }
        if self.plan.sheets().next().is_some() {
            sources.extend(saga.step("sheets", captured.sheets()).await?);
        }
        if !cuts.is_empty() {
            let streamed = streamed::capture(self.context, self.plan, cuts, (&primary, sealing.as_ref()));
            sources.extend(saga.step("stream", streamed).await?);
        }
        let validation = match google {
            true => saga.step("validate", captured.validation()).await?,
            false => vec![],
        };
        if destinations.len() > 1 {
            let objects = sources.iter().flat_map(SourceRecord::objects);
            let objects = objects.map(|object| (object.key.clone(), object.in_store().size_bytes)).collect();
            saga.step("copy", copy(primary.clone(), &destinations[1..], objects)).await?;
        }

        let (last, previous) = self.previous().await?;
        let emptied = last.map(|last| plan::emptied::emptied(&last, &sources)).unwrap_or_default();
        self.timings.extend(saga.timings().iter().map(|(step, started_at, ended_at)| StepTiming {
            step: step.clone(),
            started_at: *started_at,
            ended_at: *ended_at,
        }));
        let pause = (!jobs.is_empty()).then_some(PauseRecord { jobs, paused_at, resumed_at });
        let manifest = Manifest {
            format: if sealing.is_some() { FORMAT } else { UNSEALED_FORMAT },
            system: Some(self.context.config.name.clone()),
            name: self.plan.name.clone(),
            tier: self.plan.tier.clone(),
            purpose: self.plan.purpose.clone(),
            terms: self.plan.terms.clone(),
            commit_id: (self.context.nonce)(),
            tool: self.context.tool.clone(),
            run: self.id.into(),
            generation: saga.log().generation(),
            started_at: self.started_at,
            cut_at,
            committed_at: self.context.now(),
            sources,
            validation,
            pause,
            timings: std::mem::take(&mut self.timings),
            previous,
            notes: self.notes().into_iter().chain(emptied.tables).collect(),
            attention: emptied.sources,
            sealing,
        };
        saga.step(run::COMMIT, self.commit(&destinations, &manifest)).await?;
        saga.step("verify", check_stored(&destinations, &manifest)).await?;
        index::refresh(self.context).await;
        Ok(manifest)
    }

    /// Makes what is missing, and journals what is to be removed should the backup not come to exist.
    async fn prepare(&self, primary: &dyn Store) -> Result<Done<()>, JobError> {
        // Extracts overwrite: a folder that is taken must not be written into.
        let mut taken = !primary.list(&format!("{}/", self.plan.folder)).await?.is_empty();
        if let Some(place) = &self.plan.staging {
            taken |= !(self.context.open)(place)?.list(&format!("{}/", self.plan.folder)).await?.is_empty();
        }
        if taken {
            let object = self.plan.name.to_string();
            let message = "a backup of this name was begun already; hint: wait a minute, or name another purpose";
            return Err(Failure::Exists { object, message: message.into() }.into());
        }
        for source in self.plan.bigquery().filter(|source| source.make_snapshot_dataset) {
            bigquery::ensure_snapshot_dataset(&self.context.google, &source.snapshot_dataset, &source.location).await?;
        }
        let undo = Undo::RemoveBackup {
            snapshots: self.plan.tables().map(|table| table.snapshot.clone()).collect(),
            place: self.plan.destinations[0].clone(),
            folder: self.plan.folder.clone(),
            staging: self.plan.staging.clone(),
        };
        Ok(Done::new(()).undo(undo.to_value()))
    }

    /// Removes what attempts have left that failed: every file that counts was taken away as it arrived.
    async fn unstage(&self, place: &Place) -> Result<Done<()>, JobError> {
        let left = staging::empty(self.context, place, &self.plan.folder).await?;
        Ok(Done::new(()).note(format!("{} removed", count(left, "file"))))
    }

    /// Journals which jobs will have to be resumed, before any is paused, and gives them.
    async fn arm_resume(&self) -> Result<Done<Vec<String>>, JobError> {
        let within = SignedDuration::from_secs(i64::try_from(self.plan.resume_within.as_secs()).unwrap_or(i64::MAX));
        let (jobs, observed) = run::to_pause(self.context).await?;
        let not_later_than = self.context.now().checked_add(within).unwrap_or(Timestamp::MAX);
        let undo = Undo::ResumeIngestion { jobs: jobs.clone(), not_later_than };
        Ok(Done::new(jobs).output(json!({"observed": observed})).undo(undo.to_value()))
    }

    /// Bounds what is done while ingestion stands still.
    async fn in_time<T>(
        &self,
        latest: tokio::time::Instant,
        work: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        tokio::time::timeout_at(latest, work).await.unwrap_or_else(|_| {
            let message = format!(
                "ingestion would have been paused for more than {}; hint: raise ingestion.resume_within",
                self.plan.resume_within
            );
            Err(Failure::Precondition { object: self.plan.name.to_string(), message }.into())
        })
    }

    async fn pause(&self, jobs: &[String]) -> Result<Done<()>, JobError> {
        ingestion::pause(&self.context.google, jobs).await?;
        Ok(Done::new(()).note(count(jobs.len(), "job")))
    }

    /// Waits until nothing writes, and looks at every table once more: the cut is of what is there then.
    async fn drain(&self) -> Result<Done<BTreeMap<TableId, Value>>, JobError> {
        let mut fresh = BTreeMap::new();
        let mut waited = std::time::Duration::ZERO;
        for source in self.plan.bigquery() {
            let tables: Vec<TableId> = source.tables.iter().map(|table| table.table.clone()).collect();
            let drained = ingestion::drain(
                &self.context.google,
                &source.dataset,
                &tables,
                self.plan.drain_timeout.as_duration(),
                self.context.config.parallel,
                &|what| self.context.observer.note(&format!("waiting: {what}")),
            )
            .await?;
            fresh.extend(drained.resources);
            waited += drained.waited;
        }
        Ok(Done::new(fresh).note(format!("nothing writes, after {:.1} s", waited.as_secs_f64())))
    }

    /// Snapshots every table as of one instant.
    async fn snapshot(&self, jobs: &[String]) -> Result<Done<Snapshots>, JobError> {
        let mut taken = BTreeMap::new();
        let mut cut = None;
        for source in self.plan.bigquery() {
            let at = match cut {
                Some(at) => at,
                None => bigquery::cut_instant(&self.context.google, source.dataset.project(), &source.location).await?,
            };
            cut = Some(at);
            taken.extend(self.snapshot_source(source, at).await?);
        }
        let cuts = streamed::cut(self.context, self.plan).await?;
        let cut = cut.or_else(|| cuts.iter().map(|(_, cut)| cut.taken_at()).min());
        // Tables agree with each other only when nothing was written between the drain and the cut.
        for (job, state) in ingestion::observe(&self.context.google, jobs).await? {
            if state == Some(JobState::Enabled) {
                let message = "was resumed by somebody while the cut was taken; hint: take the backup again";
                return Err(Failure::Precondition { object: job, message: message.into() }.into());
            }
        }
        let mut what = vec![];
        if !taken.is_empty() || cuts.is_empty() {
            what.push(count(taken.len(), "table"));
        }
        if !cuts.is_empty() {
            what.push(count(cuts.len(), "source"));
        }
        let at = cut.map(|at| format!(" as of {at}")).unwrap_or_default();
        let note = format!("{}{at}", what.join(" and "));
        let output = json!({"cut_at": cut.map(|at| at.to_string())});
        Ok(Done::new((cut, taken, cuts)).output(output).note(note))
    }

    async fn snapshot_source(&self, source: &BigQueryPlan, at: Timestamp) -> Result<Vec<(TableId, Value)>, Failure> {
        let ids = job_ids(self.id, source);
        let done = AtomicUsize::new(0);
        parallel::each(source.tables.iter().enumerate(), SNAPSHOTS_AT_ONCE, async |(index, table)| {
            let from = (&table.table, Some(at));
            let to = (&table.snapshot, source.snapshots_expire_at);
            let resource = bigquery::snapshot(&self.context.google, &ids, index, from, to).await?;
            let n = done.fetch_add(1, Ordering::Relaxed) + 1;
            self.context.observer.progress("snapshot", n, source.tables.len(), table.table.table());
            Ok((table.table.clone(), resource))
        })
        .await
    }

    async fn resume(&self, jobs: &[String]) -> Result<Done<()>, JobError> {
        ingestion::resume(&self.context.google, jobs).await?;
        Ok(Done::new(()).discharges("arm_resume").note(count(jobs.len(), "job")))
    }

    /// The last backup of any tier, and the link to the last one of this tier.
    async fn previous(&self) -> Result<(Option<Manifest>, Option<Previous>), JobError> {
        if self.context.config.tiers.values().any(|tier| tier.destinations.iter().any(|place| place.create_only)) {
            // What may not be read cannot be linked to; `verify --catalog` goes by the chronicle.
            return Ok((None, None));
        }
        let listing = self.context.catalog.list().await?;
        witness::catch_up(self.context, &listing).await?;
        let now = self.context.now();
        let same_tier = listing.entries.iter().find(|entry| {
            entry.manifest.tier == self.plan.tier && !plan::witness::is_ahead(entry.manifest.started_at, now)
        });
        let previous =
            same_tier.map(|entry| Previous { name: entry.manifest.name.clone(), sha256: entry.sha256.clone() });
        Ok((listing.entries.into_iter().next().map(|entry| entry.manifest), previous))
    }

    /// Commits: the copies' manifests first, so that what the primary lists is everywhere. Then the chronicle has it.
    async fn commit(&self, destinations: &[Arc<dyn Store>], manifest: &Manifest) -> Result<Done<()>, JobError> {
        let (context, folder) = (self.context, &self.plan.folder);
        let head = match &context.chronicle {
            Some(chronicle) => chronicle.head().await.unwrap_or_else(|error| {
                // No damage to the chronicle may stop backups; it is told, and retention removes nothing meanwhile.
                context.observer.note(&format!("the chronicle cannot be read: {error}"));
                None
            }),
            None => None,
        };
        let statement = context.catalog.state(folder, manifest, head).await?;
        if manifest.objects().any(|object| !object.key.starts_with(&format!("{folder}/"))) {
            lifecycle::needed(context, manifest).await;
        }
        let mut sha256 = String::new();
        for store in destinations.iter().rev() {
            sha256 = Catalog::commit(store.as_ref(), folder, manifest, statement.clone()).await?;
        }
        if let Some(chronicle) = &context.chronicle {
            let commit = Commit {
                backup: manifest.name.clone(),
                tier: manifest.tier.clone(),
                commit_id: manifest.commit_id.clone(),
                started_at: manifest.started_at,
                manifest_sha256: sha256,
                places: destinations.iter().map(|store| store.describe()).collect(),
            };
            // The backup exists: what the chronicle lacks, the next run adds.
            if let Err(error) = chronicle.append(Event::Committed(commit), context.now(), &context.holder).await {
                context.observer.note(&format!("the chronicle cannot be written: {error}"));
            }
        }
        Ok(Done::new(()).discharges("prepare").note(manifest.name.to_string()))
    }

    fn notes(&self) -> Vec<String> {
        let formats = self.plan.tables().filter_map(|table| {
            let reason = table.format_reason.as_ref()?;
            Some(format!("{}: {} instead of the tier's format: {reason}", table.table, table.format.extension()))
        });
        self.plan.notes.iter().cloned().chain(formats).collect()
    }
}

/// The ids of the jobs of a run on a source.
pub(super) fn job_ids(run: &str, source: &BigQueryPlan) -> JobIds {
    JobIds {
        run: format!("{run}_{}", source.name),
        project: source.dataset.project().into(),
        location: source.location.clone(),
    }
}

/// Copies every object from the primary to the other destinations.
async fn copy(
    primary: Arc<dyn Store>,
    others: &[Arc<dyn Store>],
    objects: Vec<(String, u64)>,
) -> Result<Done<()>, JobError> {
    for other in others {
        for (key, size_bytes) in &objects {
            let copied = inspect::again_when_changed(|| async {
                match other.write_stream(key, primary.read(key).await?).await {
                    Ok(info) => Ok(info.size_bytes),
                    // Left by an earlier attempt of this very run: its name is not used by any other.
                    Err(Failure::Exists { .. }) => Ok(other.head(key).await?.map_or(0, |info| info.size_bytes)),
                    Err(error) => Err(error),
                }
            })
            .await?;
            if copied != *size_bytes {
                let object = format!("{}/{key}", other.describe());
                let message = format!("{copied} bytes arrived, {size_bytes} were sent");
                return Err(Failure::Corrupt { object, message }.into());
            }
        }
    }
    Ok(Done::new(()).note(format!("{} to {}", count(objects.len(), "object"), count(others.len(), "destination"))))
}

/// Looks once more at what lies in every place: each object there, with its size and checksum. Copies in places that keep no
/// checksums are read; the primary was, by the capture.
async fn check_stored(stores: &[Arc<dyn Store>], manifest: &Manifest) -> Result<Done<()>, JobError> {
    for (n, store) in stores.iter().enumerate() {
        let holding = copies::look(store.as_ref(), manifest).await?;
        let mut faults = holding.faults.into_iter();
        let mut fault = faults.next();
        if fault.is_none() && n > 0 {
            for object in manifest.objects().filter(|object| holding.unchecked.contains(&object.key)) {
                let read = match inspect::digests(store.as_ref(), &object.key).await {
                    Err(Failure::Denied { .. }) => continue, // it may only be put into: its size is all there is
                    read => read?,
                };
                if read != *object.in_store() {
                    let message = "its SHA-256 is not that of what was written".into();
                    fault = Some((object.key.clone(), Fault::Corrupt { message }));
                    break;
                }
            }
        }
        if let Some((key, fault)) = fault {
            let message = match fault {
                Fault::Missing => "is not there any more".into(),
                Fault::Corrupt { message } => format!("changed since it was written: {message}"),
            };
            return Err(Failure::Corrupt { object: store.address(&key), message }.into());
        }
    }
    Ok(Done::new(()).note(count(manifest.objects().count(), "object")))
}

/// "1 table", "2 tables".
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
