//! Restore: check, pause, make, load, views, policies, sheet, compare, resume.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::backup::{count, destination};
use super::run::{self, Undo};
use super::staging::Staging;
use super::validate::{self, Validation};
use super::verify::{checked, definition, format};
use super::{Context, JobError, copies, inspect, parallel, sealing, streamed};
use crate::catalog::Entry;
use crate::google::bigquery::QueryOptions;
use crate::ingestion;
use crate::manifest::{BigQueryRecord, ObjectRecord, StepTiming, TableRecord};
use crate::model::schema::Schema;
use crate::model::{BackupName, DatasetId, Failure, InvalidName, Place, TableId, Totals};
use crate::plan::facts::{IngestionFacts, count as number};
use crate::plan::restore::{
    DatasetRestore, Existing, RestorePlan, RestoreRequest, TableRestore, TargetFacts, ViewRestore, plan, targets,
};
use crate::plan::streamed::RestoredSource;
use crate::plan::{partitions, proof, staging};
use crate::saga::{Done, Saga};
use crate::source::bigquery::{self, JobIds};
use crate::source::sheets::{self, Grid};

/// What a restore did, and how it compares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    pub backup: BackupName,
    pub tables: Vec<RestoredTable>,
    pub view_count: usize,
    pub tabs: Vec<String>,
    /// What came back of sources whose data passes through this process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<RestoredSource>,
    pub validations: Vec<Validation>,
    pub timings: Vec<StepTiming>,
    /// What differs from the backup; empty when all that came back is what was lost.
    pub differences: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoredTable {
    pub table: TableId,
    pub row_count: u64,
    pub expected_row_count: u64,
    /// Whether rows, fingerprint and figures are those of the snapshot; `None` when none were recorded.
    pub proven: Option<bool>,
    /// The figures at the cut, and those of the restored table.
    pub expected: Option<Totals>,
    pub found: Option<Totals>,
}

impl Restored {
    pub fn passed(&self) -> bool {
        self.differences.is_empty() && self.validations.iter().all(Validation::passed)
    }
}

/// The plan of a restore at this moment: what a dry run prints.
///
/// # Errors
/// `Refused` with everything that stands against it.
pub async fn dry_run(context: &Context, entry: &Entry, request: &RestoreRequest) -> Result<RestorePlan, JobError> {
    let (entry, note) = copies::choose(context, entry).await?;
    let (mut plan, _) = look_and_plan(context, &entry, request).await?;
    plan.notes.extend(note);
    Ok(plan)
}

async fn look_and_plan(
    context: &Context,
    entry: &Entry,
    request: &RestoreRequest,
) -> Result<(RestorePlan, TargetFacts), JobError> {
    let facts = facts(context, entry, request).await?;
    let plan = plan(&entry.manifest, request, &facts).map_err(JobError::Refused)?;
    Ok((plan, facts))
}

async fn facts(context: &Context, entry: &Entry, request: &RestoreRequest) -> Result<TargetFacts, JobError> {
    let (datasets, tables, spreadsheets) = targets(&entry.manifest, request);
    let google = &context.google;
    let mut facts = TargetFacts::default();
    for dataset in datasets {
        if let Some(resource) = optional(google.bigquery.get_dataset(&dataset).await)? {
            facts.datasets.insert(dataset, resource);
        }
    }
    let wanted = tables.into_iter().filter(|table| facts.datasets.contains_key(table.dataset_id()));
    facts.tables = stream::iter(wanted.collect::<Vec<_>>())
        .map(|table| async move {
            let found = optional(google.bigquery.get_table(&table).await)?;
            Ok::<_, Failure>(found.map(|resource| (table, resource)))
        })
        .buffer_unordered(context.config.parallel)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    for id in spreadsheets {
        if let Some(found) = optional(google.sheets.get(&id).await)? {
            let mut tabs = BTreeMap::new();
            for sheet in found.sheets {
                let taken = entry.manifest.sheets().flat_map(|s| &s.tabs).any(|tab| tab.title == sheet.title);
                // Tabs that the backup does not hold are not written, so it does not matter what is in them.
                let holds = taken && sheets::read(google, &id, &sheet.title).await?.size().0 > 0;
                tabs.insert(sheet.title, holds);
            }
            facts.spreadsheets.insert(id, tabs);
        }
    }
    for (job, state) in ingestion::observe(google, &context.config.ingestion.scheduler_jobs).await? {
        facts.ingestion.push(IngestionFacts { job, state: state.as_ref().map(ingestion::state_name) });
    }
    streamed::look(context, entry, request, &mut facts).await?;
    let read_from = read_from(entry)?;
    if let Some(place) =
        context.config.staging.as_ref().filter(|_| entry.manifest.sealing.is_some() || !staging::reaches(&read_from))
    {
        facts.staging = Some(destination(context, place).await?);
    }
    facts.read_from = Some(read_from);
    Ok(facts)
}

/// The place of the copy that is restored; where files come from several, one that BigQuery does not reach, if any is.
fn read_from(entry: &Entry) -> Result<Place, Failure> {
    let place = |text: &str| {
        let invalid = |error: InvalidName| Failure::Invalid { object: text.into(), message: error.to_string() };
        text.parse::<Place>().map_err(invalid)
    };
    let mut found = None;
    for object in entry.manifest.bigquery().flat_map(|source| &source.tables).flat_map(|table| &table.objects) {
        // (No address: it is nowhere, which is told when it is to be read.)
        let address = entry.store.address(&object.key);
        let Some(root) = address.strip_suffix(&format!("/{}", object.key)) else { continue };
        let root = place(root)?;
        if !staging::reaches(&root) {
            return Ok(root);
        }
        found.get_or_insert(root);
    }
    found.map_or_else(|| place(&entry.store.describe()), Ok)
}

/// Where an object lies.
fn address(entry: &Entry, object: &ObjectRecord) -> Result<String, Failure> {
    let address = entry.store.address(&object.key);
    if address.is_empty() {
        let message = "is not what was written in any place; hint: strongroom repair tells".into();
        return Err(Failure::Corrupt { object: object.key.clone(), message });
    }
    Ok(address)
}

fn optional<T>(found: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Restores a backup and compares what came back with what was lost.
///
/// # Errors
/// `Refused` before anything is changed; otherwise the failed step, after what was done was taken back.
pub async fn run(context: &Context, entry: &Entry, request: &RestoreRequest) -> Result<Restored, JobError> {
    let started_at = context.now();
    context.observer.step_started("plan");
    let (entry, note) = copies::choose(context, entry).await?;
    if let Some(note) = note {
        context.observer.note(&note);
    }
    let entry = &sealing::open(context, &entry).await?;
    let (plan, _) = look_and_plan(context, entry, request).await?;
    let planned_at = context.now();
    let note = format!("{} of {}", count(plan.tables().count(), "table"), plan.backup);
    context.observer.step_done("plan", planned_at.duration_since(started_at), &note);

    let id = run::new_id(context);
    let first = StepTiming { step: "plan".into(), started_at, ended_at: planned_at };
    run::run(context, &id, ("restore", entry.manifest.name.as_str()), async |saga| {
        // Once more, now that nobody else works here: what is taken back in the end must be this run's own.
        let (plan, facts) = look_and_plan(context, entry, request).await?;
        let work = Work { context, entry, plan: &plan, facts: &facts, request, id: &id, stage: "" };
        let mut restored = work.steps(saga).await?;
        let steps = saga.timings().iter().map(|(step, started_at, ended_at)| StepTiming {
            step: step.clone(),
            started_at: *started_at,
            ended_at: *ended_at,
        });
        restored.timings = std::iter::once(first).chain(steps).collect();
        Ok(restored)
    })
    .await
}

/// Restores as a part of another run: its steps are named `{stage}_{step}`, its jobs after `id`.
///
/// # Errors
/// As `run`; what was done is taken back by the run that it is a part of.
pub(super) async fn within(
    context: &Context,
    saga: &mut Saga<'_>,
    entry: &Entry,
    request: &RestoreRequest,
    (id, stage): (&str, &str),
) -> Result<Restored, JobError> {
    let (plan, facts) = look_and_plan(context, entry, request).await?;
    Work { context, entry, plan: &plan, facts: &facts, request, id, stage }.steps(saga).await
}

/// Compares what is there with a backup, and changes nothing.
///
/// # Errors
/// When it cannot be looked at.
pub(super) async fn examine(
    context: &Context,
    entry: &Entry,
    request: &RestoreRequest,
) -> Result<(Vec<RestoredTable>, Vec<String>), JobError> {
    // What is there is what is looked at: it stands in nobody's way.
    let (plan, facts) = look_and_plan(context, entry, &RestoreRequest { replace: true, ..request.clone() }).await?;
    let work = Work { context, entry, plan: &plan, facts: &facts, request, id: "", stage: "" };
    let loaded = work.read().await?.value;
    Ok(work.compare(&loaded, &Views::default()).await?.value)
}

/// A dataset, where its snapshots go, and of each table its number, itself and its snapshot.
type Safeguard<'a> = (&'a DatasetRestore, DatasetId, Vec<(usize, TableId, TableId)>);

struct Work<'a> {
    context: &'a Context,
    entry: &'a Entry,
    plan: &'a RestorePlan,
    facts: &'a TargetFacts,
    request: &'a RestoreRequest,
    id: &'a str,
    /// Which restore of a run this is; empty when it is the run itself.
    stage: &'a str,
}

impl Work<'_> {
    fn named(&self, step: &str) -> String {
        if self.stage.is_empty() { step.into() } else { format!("{}_{step}", self.stage) }
    }

    async fn steps(&self, saga: &mut Saga<'_>) -> Result<Restored, JobError> {
        // Every definition and cell is read and checked before anything is changed.
        let loaded = saga.step(&self.named("read"), self.read()).await?;
        let mut jobs = Vec::new();
        if self.plan.pauses() {
            jobs = saga.step(&self.named("arm_resume"), self.arm_resume()).await?;
            saga.step(&self.named("pause"), self.pause(&jobs)).await?;
            saga.step(&self.named("drain"), self.drain()).await?;
        }
        if self.plan.in_the_way().next().is_some() {
            saga.step(&self.named("arm_safeguard"), self.arm_safeguard()).await?;
            saga.step(&self.named("safeguard"), self.safeguard()).await?;
        }
        let views = match self.plan.datasets.is_empty() {
            true => Views::default(),
            false => self.make_datasets(saga, &loaded).await?,
        };
        if !self.plan.sheets.is_empty() {
            saga.step(&self.named("arm_sheets"), self.arm_sheets()).await?;
            saga.step(&self.named("sheets"), self.sheets(&loaded)).await?;
        }
        let mut sources = Vec::new();
        if !self.plan.streamed.is_empty() {
            let (plan, request) = (self.plan, self.request);
            let arm = async { streamed::arm(self.context, self.entry, plan, request, self.id) };
            saga.step(&self.named("arm_sources"), arm).await?;
            let restore = streamed::restore(self.context, self.entry, plan, (request, self.id));
            sources = saga.step(&self.named("sources"), restore).await?;
        }
        let (tables, mut differences) = saga.step(&self.named("compare"), self.compare(&loaded, &views)).await?;
        differences.extend(sources.iter().flat_map(|source| source.differences.iter().cloned()));
        let validated = async { Ok::<_, JobError>(self.finished(self.validate().await?, !self.plan.pauses())) };
        let validations = saga.step(&self.named("validate"), validated).await?;
        if self.plan.pauses() {
            let resumed = async { Ok::<_, JobError>(self.finished(self.resume(&jobs).await?, true)) };
            saga.step(&self.named("resume"), resumed).await?;
        }
        let tabs =
            self.plan.sheets.iter().flat_map(|sheet| sheet.tabs.iter().map(|(title, _)| title.clone())).collect();
        let backup = self.plan.backup.clone();
        let view_count = views.count;
        Ok(Restored { backup, tables, view_count, tabs, sources, validations, timings: vec![], differences })
    }

    /// Datasets, tables, rows, views, policies.
    async fn make_datasets(&self, saga: &mut Saga<'_>, loaded: &Loaded) -> Result<Views, JobError> {
        saga.step(&self.named("prepare"), self.prepare()).await?;
        saga.step(&self.named("tables"), self.tables(loaded)).await?;
        let staging = self.staging()?;
        if let Some(staging) = &staging {
            saga.step(&self.named("arm_staging"), staging.arm()).await?;
        }
        saga.step(&self.named("load"), self.load(loaded, staging.as_ref())).await?;
        if let Some(staging) = &staging {
            saga.step(&self.named("unstage"), staging.finish(&self.named("arm_staging"))).await?;
        }
        let views = saga.step(&self.named("views"), self.views(loaded)).await?;
        saga.step(&self.named("policies"), self.policies(loaded, &views)).await?;
        Ok(views)
    }

    async fn read(&self) -> Result<Done<Loaded>, JobError> {
        let mut loaded = Loaded::default();
        for (plan, record) in self.datasets() {
            loaded.datasets.insert(record.dataset.clone(), definition(self.entry, &record.meta).await?);
            let tables =
                plan.tables.iter().filter_map(|t| find_table(record, &t.source)).map(|t| (t.table.clone(), &t.meta));
            let views = record.views.iter().filter(|v| plan.views.iter().any(|p| p.source == v.view));
            let wanted: Vec<_> = tables.chain(views.map(|v| (v.view.clone(), &v.meta))).collect();
            let read: Vec<_> = stream::iter(wanted)
                .map(|(id, meta)| async move { Ok::<_, Failure>((id, definition(self.entry, meta).await?)) })
                .buffer_unordered(self.context.config.parallel)
                .try_collect()
                .await?;
            loaded.tables.extend(read);
            for saved in plan.tables.iter().filter_map(|table| find_table(record, &table.source)) {
                saved.objects.iter().try_for_each(|object| address(self.entry, object).map(drop))?;
            }
            for routine in record.routines.iter().filter(|routine| plan.routines.contains(&routine.name)) {
                let saved = definition(self.entry, &routine.meta).await?;
                loaded.routines.push((record.dataset.clone(), routine.name.clone(), saved));
            }
        }
        for (source, tab) in self.entry.manifest.sheets().flat_map(|s| s.tabs.iter().map(move |tab| (s, tab))) {
            if self.plan.sheets.iter().any(|sheet| sheet.source == source.spreadsheet) {
                let bytes = checked(self.entry, &tab.cells).await?;
                let corrupt = |error: serde_json::Error| Failure::Corrupt {
                    object: tab.cells.key.clone(),
                    message: error.to_string(),
                };
                let grid: Grid = serde_json::from_slice(&bytes).map_err(corrupt)?;
                loaded.grids.insert((source.spreadsheet.clone(), tab.title.clone()), grid);
            }
        }
        let note = format!("{} and {}", count(loaded.tables.len(), "definition"), count(loaded.grids.len(), "tab"));
        Ok(Done::new(loaded).note(note))
    }

    fn datasets(&self) -> impl Iterator<Item = (&DatasetRestore, &BigQueryRecord)> {
        self.plan.datasets.iter().filter_map(|plan| {
            let record = self.entry.manifest.bigquery().find(|record| record.dataset == plan.source)?;
            Some((plan, record))
        })
    }

    async fn arm_resume(&self) -> Result<Done<Vec<String>>, JobError> {
        let (jobs, _) = run::to_pause(self.context).await?;
        // A restore takes as long as it takes; the objective says when a person should look.
        let within = self.context.config.objectives.rto_full.as_secs();
        let within = SignedDuration::from_secs(i64::try_from(within).unwrap_or(i64::MAX));
        let not_later_than = self.context.now().checked_add(within).unwrap_or(Timestamp::MAX);
        let undo = Undo::ResumeIngestion { jobs: jobs.clone(), not_later_than };
        Ok(Done::new(jobs).undo(undo.to_value()))
    }

    async fn pause(&self, jobs: &[String]) -> Result<Done<()>, JobError> {
        ingestion::pause(&self.context.google, jobs).await?;
        Ok(Done::new(()).note(count(jobs.len(), "job")))
    }

    /// Waits until nothing writes: the way back must lead to what was there, all of it.
    async fn drain(&self) -> Result<Done<()>, JobError> {
        for plan in self.plan.datasets.iter().filter(|plan| plan.source == plan.target && !plan.make) {
            let tables: Vec<TableId> =
                plan.tables.iter().filter(|t| t.existing != Existing::None).map(|t| t.target.clone()).collect();
            let config = &self.context.config;
            let waiting = |what: &str| self.context.observer.note(&format!("waiting: {what}"));
            let timeout = config.ingestion.drain_timeout.as_duration();
            ingestion::drain(&self.context.google, &plan.target, &tables, timeout, config.parallel, &waiting).await?;
        }
        Ok(Done::new(()).note("nothing writes"))
    }

    /// When the last step is done, nothing is taken back any more: a process that dies after it has restored.
    fn finished<T>(&self, done: Done<T>, last: bool) -> Done<T> {
        let steps = ["arm_resume", "arm_safeguard", "safeguard", "prepare", "arm_sheets", "arm_sources"];
        match last && self.stage.is_empty() {
            true => steps.iter().fold(done, |done, step| done.discharges(step)),
            false => done,
        }
    }

    /// The tables that will be replaced, by dataset, each with the snapshot that will be taken of it.
    fn safeguards(&self) -> Result<Vec<Safeguard<'_>>, JobError> {
        let Some((_, source)) = self.context.bigquery_sources().next() else {
            let object = self.plan.backup.to_string();
            let message = "no BigQuery source in the configuration says where snapshots go".into();
            return Err(Failure::Invalid { object, message }.into());
        };
        let mut all = Vec::new();
        for plan in &self.plan.datasets {
            let invalid =
                |error: InvalidName| Failure::Invalid { object: plan.target.to_string(), message: error.to_string() };
            let snapshots = if plan.scratch {
                plan.target.clone()
            } else {
                DatasetId::new(plan.target.project(), source.snapshot_dataset.dataset()).map_err(invalid)?
            };
            let mut tables = Vec::new();
            for (index, table) in plan.tables.iter().enumerate().filter(|(_, t)| t.existing == Existing::Replaced) {
                let name = format!("{}_before_restore_{}", table.target.table(), self.id.replace('-', "_"));
                tables.push((index, table.target.clone(), snapshots.table(&name).map_err(invalid)?));
            }
            all.push((plan, snapshots, tables));
        }
        Ok(all)
    }

    /// Journals which snapshots will be taken, before any is.
    async fn arm_safeguard(&self) -> Result<Done<()>, JobError> {
        let safeguards = self.safeguards()?;
        let tables =
            safeguards.into_iter().flat_map(|(_, _, tables)| tables.into_iter().map(|(_, from, to)| (from, to)));
        Ok(Done::new(()).undo(Undo::DropSafeguard { tables: tables.collect() }.to_value()))
    }

    /// Snapshots every table that will be replaced: the way back.
    async fn safeguard(&self) -> Result<Done<()>, JobError> {
        let kept = self.context.bigquery_sources().next().map_or(0, |(_, source)| source.snapshots_kept.as_secs());
        let kept = SignedDuration::from_secs(i64::try_from(kept).unwrap_or(i64::MAX));
        let expires = self.context.now().checked_add(kept).unwrap_or(Timestamp::MAX);
        let mut put_back = Vec::new();
        let mut location = String::new();
        for (plan, snapshots, tables) in self.safeguards()? {
            bigquery::ensure_snapshot_dataset(&self.context.google, &snapshots, &plan.location).await?;
            let ids = self.ids(plan);
            location.clone_from(&plan.location);
            for (index, table, snapshot) in tables {
                bigquery::snapshot(&self.context.google, &ids, index, (&table, None), (&snapshot, expires)).await?;
                put_back.push((table, snapshot));
            }
        }
        let note = format!("{} kept until {expires}", count(put_back.len(), "snapshot"));
        // What holds no rows is its definition.
        let snapshotted = |id: &TableId| put_back.iter().any(|(table, _)| table == id);
        let definitions = self
            .plan
            .in_the_way()
            .filter(|id| !snapshotted(id))
            .filter_map(|id| Some((id.clone(), self.facts.tables.get(id)?.clone())));
        let undo = Undo::PutBack { definitions: definitions.collect(), tables: put_back, location };
        Ok(Done::new(()).undo(undo.to_value()).discharges(&self.named("arm_safeguard")).note(note))
    }

    /// Journals what the tabs hold that will be written.
    async fn arm_sheets(&self) -> Result<Done<()>, JobError> {
        let mut tabs = Vec::new();
        for sheet in &self.plan.sheets {
            for (title, make) in &sheet.tabs {
                let before = match make {
                    true => None,
                    false => Some(sheets::read(&self.context.google, &sheet.target, title).await?),
                };
                tabs.push((sheet.target.clone(), title.clone(), before));
            }
        }
        Ok(Done::new(()).undo(Undo::PutBackTabs { tabs }.to_value()))
    }

    fn ids(&self, plan: &DatasetRestore) -> JobIds {
        JobIds {
            run: format!("{}_{}", self.id, plan.target.dataset()),
            project: plan.target.project().into(),
            location: plan.location.clone(),
        }
    }

    /// Journals what will be made, so that it can be taken back.
    async fn prepare(&self) -> Result<Done<()>, JobError> {
        let tables = self.plan.datasets.iter().flat_map(|dataset| {
            let staging = dataset.tables.iter().filter_map(|t| t.staging.as_ref());
            let tables = dataset.tables.iter().map(|t| &t.target).chain(staging);
            tables.chain(dataset.views.iter().map(|v| &v.target)).cloned()
        });
        let datasets = self.plan.datasets.iter().filter(|dataset| dataset.make).map(|dataset| dataset.target.clone());
        let there = self.plan.in_the_way().filter_map(|id| {
            let created = self.facts.tables.get(id)?["creationTime"].as_str()?;
            Some((id.clone(), created.to_string()))
        });
        let undo = Undo::DropTables { tables: tables.collect(), datasets: datasets.collect(), there: there.collect() };
        Ok(Done::new(()).undo(undo.to_value()))
    }

    /// Makes datasets and empty tables, by their whole saved resources.
    async fn tables(&self, loaded: &Loaded) -> Result<Done<()>, JobError> {
        let google = &self.context.google;
        let now_ms = self.context.now().as_millisecond();
        let mut made = 0;
        for (plan, _) in self.datasets() {
            if plan.make {
                bigquery::make_dataset(google, &plan.target, loaded.dataset(&plan.source)?).await?;
            }
            // Views first: BigQuery lets a table go that a view reads, but a replaced view may read what is not there yet.
            let in_the_way = |existing: &Existing| *existing != Existing::None;
            let old: Vec<TableId> = plan
                .views
                .iter()
                .filter(|view| in_the_way(&view.existing))
                .map(|view| view.target.clone())
                .chain(plan.tables.iter().filter(|table| in_the_way(&table.existing)).map(|table| table.target.clone()))
                .collect();
            bigquery::drop_tables(google, &old, self.context.config.parallel).await?;
            let done = parallel::each(&plan.tables, self.context.config.parallel, async |table| {
                bigquery::make_table(google, &table.target, loaded.table(&table.source)?, now_ms).await?;
                Ok::<_, JobError>(())
            })
            .await?;
            made += done.len();
        }
        for (plan, _) in self.datasets() {
            for table in &plan.tables {
                bigquery::tie_table(google, &plan.source, &table.target, loaded.table(&table.source)?).await?;
            }
        }
        Ok(Done::new(()).note(count(made, "table")))
    }

    fn staging(&self) -> Result<Option<Staging<'_>>, Failure> {
        let of_restore = |place| Staging::of_restore(self.context, place, self.id);
        self.plan.by_way_of.as_ref().map(of_restore).transpose()
    }

    async fn load(&self, loaded: &Loaded, staging: Option<&Staging<'_>>) -> Result<Done<()>, JobError> {
        let mut rows = 0;
        for (plan, record) in self.datasets() {
            let ids = self.ids(plan);
            let done = AtomicUsize::new(0);
            // The largest first: the end of the whole is not one large table's.
            let mut order: Vec<(usize, &TableRestore)> = plan.tables.iter().enumerate().collect();
            order.sort_by_key(|(_, table)| std::cmp::Reverse(table.size_bytes));
            let at_once = self.context.config.parallel;
            let loaded_rows = parallel::each(order, at_once, async |(index, table)| {
                let rows = self.load_table((&ids, index), table, record, loaded, staging).await?;
                let n = done.fetch_add(1, Ordering::Relaxed) + 1;
                self.context.observer.progress("load", n, plan.tables.len(), table.target.table());
                Ok::<_, JobError>(rows)
            })
            .await?;
            rows += loaded_rows.iter().sum::<u64>();
        }
        Ok(Done::new(()).note(format!("{rows} rows")))
    }

    async fn load_table(
        &self,
        (ids, index): (&JobIds, usize),
        table: &TableRestore,
        record: &BigQueryRecord,
        loaded: &Loaded,
        staging: Option<&Staging<'_>>,
    ) -> Result<u64, JobError> {
        let saved = find_table(record, &table.source).ok_or_else(|| missing(&table.source))?;
        let unknown =
            || Failure::Corrupt { object: table.source.to_string(), message: "its file format is not known".into() };
        let format = format(saved).ok_or_else(unknown)?;
        let schema = loaded.table(&table.source)?.schema();
        if let Some(by) = &table.staging {
            let objects: Vec<&ObjectRecord> = by_partition(saved).into_values().flatten().collect();
            let uris = self.readable(&objects, staging).await?;
            let (google, now) = (&self.context.google, self.context.now());
            let from = (format, &loaded.table(&table.source)?.resource);
            let rows = bigquery::load_in_parts(google, ids, index, (&table.target, by), from, &uris, now).await?;
            self.loaded(&objects, staging).await;
            return counted(table, saved, rows);
        }
        let mut rows = 0;
        for (i, (partition, objects)) in by_partition(saved).into_iter().enumerate() {
            let uris = self.readable(&objects, staging).await?;
            let index = if partition.is_some() { 1_000_000 + index * 20_000 + i } else { index };
            let to = (&table.target, partition.as_deref());
            rows += bigquery::load(&self.context.google, ids, index, to, (format, &schema), &uris).await?;
            self.loaded(&objects, staging).await;
        }
        counted(table, saved, rows)
    }

    /// Where BigQuery finds files: where they lie, or brought to staging.
    async fn readable(&self, objects: &[&ObjectRecord], staging: Option<&Staging<'_>>) -> Result<Vec<String>, Failure> {
        let Some(staging) = staging else {
            return objects.iter().map(|object| address(self.entry, object)).collect();
        };
        let mut uris = Vec::new();
        for object in objects {
            uris.push(staging.bring(self.entry.store.as_ref(), object).await?);
        }
        Ok(uris)
    }

    async fn loaded(&self, objects: &[&ObjectRecord], staging: Option<&Staging<'_>>) {
        for object in objects {
            if let Some(staging) = staging {
                staging.take_away(object).await;
            }
        }
    }

    /// Makes routines and views. One that reads another, be it of another dataset, is made after it; one that cannot be
    /// made at all, since what it reads was gone before, stands in nobody's way.
    async fn views(&self, loaded: &Loaded) -> Result<Done<Views>, JobError> {
        let routines = self.datasets().flat_map(|(plan, _)| {
            let own = loaded.routines.iter().filter(move |(dataset, ..)| *dataset == plan.source);
            own.map(move |(_, name, saved)| Piece::Routine(plan, name, saved))
        });
        let views = self.datasets().flat_map(|(plan, _)| plan.views.iter().map(move |view| Piece::View(plan, view)));
        let mut pending: Vec<Piece<'_>> = routines.chain(views).collect();
        let mut made = Views::default();
        loop {
            let before = pending.len();
            let mut failed = Vec::new();
            for piece in pending {
                match self.make(&piece, loaded).await {
                    Ok(()) => made.count += usize::from(matches!(piece, Piece::View(..))),
                    Err(error @ (Failure::NotFound { .. } | Failure::Invalid { .. })) => failed.push((piece, error)),
                    Err(error) => return Err(error.into()),
                }
            }
            if failed.is_empty() || failed.len() == before {
                made.unmade = failed.into_iter().map(|(piece, error)| (piece.target(), error.to_string())).collect();
                break;
            }
            pending = failed.into_iter().map(|(piece, _)| piece).collect();
        }
        let note = count(made.count, "view");
        Ok(Done::new(made).note(note))
    }

    async fn make(&self, piece: &Piece<'_>, loaded: &Loaded) -> Result<(), Failure> {
        let google = &self.context.google;
        match piece {
            Piece::View(plan, view) => {
                bigquery::make_view(google, &plan.source, &view.target, loaded.table(&view.source)?).await
            }
            Piece::Routine(plan, name, saved) => {
                match bigquery::make_routine(google, &plan.source, (&plan.target, name), saved).await {
                    Ok(()) | Err(Failure::Exists { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn policies(&self, loaded: &Loaded, made: &Views) -> Result<Done<()>, JobError> {
        let google = &self.context.google;
        for (plan, _) in self.datasets() {
            let views = plan.views.iter().filter(|view| made.holds(&view.target));
            let objects =
                plan.tables.iter().map(|t| (&t.target, &t.source)).chain(views.map(|v| (&v.target, &v.source)));
            for (target, source) in objects {
                bigquery::apply_policies(google, target, loaded.table(source)?).await?;
            }
            if plan.make {
                let in_place = plan.source == plan.target;
                bigquery::finish_dataset(google, &plan.target, loaded.dataset(&plan.source)?, in_place).await?;
            }
        }
        Ok(Done::new(()))
    }

    async fn sheets(&self, loaded: &Loaded) -> Result<Done<()>, JobError> {
        let google = &self.context.google;
        let mut cells = 0;
        for sheet in &self.plan.sheets {
            for (title, make) in &sheet.tabs {
                let grid = loaded.grid(&sheet.source, title)?;
                sheets::write(google, &sheet.target, title, *make, grid).await?;
                cells += grid.values.iter().map(Vec::len).sum::<usize>();
            }
        }
        Ok(Done::new(()).note(count(cells, "cell")))
    }

    /// Looks at what is there now: definitions and policies, rows, figures, cells.
    async fn compare(
        &self,
        loaded: &Loaded,
        made: &Views,
    ) -> Result<Done<(Vec<RestoredTable>, Vec<String>)>, JobError> {
        let google = &self.context.google;
        let mut tables = Vec::new();
        let unmade = made.unmade.iter().map(|(target, error)| format!("{target}: could not be made: {error}"));
        let mut differences: Vec<String> = unmade.collect();
        for (plan, record) in self.datasets() {
            if plan.make {
                let found = google.bigquery.get_dataset(&plan.target).await?;
                let in_place = plan.source == plan.target;
                let found = bigquery::dataset_differences(loaded.dataset(&plan.source)?, &found, in_place);
                differences.extend(found.into_iter().map(|difference| format!("{}: {difference}", plan.target)));
            }
            let each = plan.tables.iter().map(|table| self.compare_table(plan, table, record, loaded));
            let compared: Vec<(RestoredTable, Vec<String>)> =
                stream::iter(each).buffered(self.context.config.parallel).try_collect().await?;
            for (table, found) in compared {
                tables.push(table);
                differences.extend(found);
            }
            for view in plan.views.iter().filter(|view| made.holds(&view.target)) {
                let Some(found) = optional(google.bigquery.get_table(&view.target).await)? else {
                    differences.push(format!("{}: the view is not there", view.target));
                    continue;
                };
                let saved = loaded.table(&view.source)?;
                let mut resource = saved.resource.clone();
                if plan.source != plan.target {
                    // Its query names the other dataset by now.
                    for kind in ["view", "materializedView"] {
                        if resource[kind].is_object() {
                            resource[kind]["query"] = found[kind]["query"].clone();
                        }
                    }
                }
                let mut found = bigquery::comparable(&resource, &found);
                found.extend(bigquery::policy_differences(google, &view.target, saved).await?);
                differences.extend(found.into_iter().map(|difference| format!("{}: {difference}", view.target)));
            }
        }
        for sheet in &self.plan.sheets {
            for (title, _) in &sheet.tabs {
                let found = sheets::read(google, &sheet.target, title).await?;
                if !found.same(loaded.grid(&sheet.source, title)?) {
                    differences.push(format!("spreadsheet {}, tab '{title}': its cells differ", sheet.target));
                }
            }
        }
        let note = if differences.is_empty() {
            let proven = tables.iter().filter(|table| table.proven == Some(true)).count();
            format!("{}, {proven} proven by fingerprint, no difference", count(tables.len(), "table"))
        } else {
            count(differences.len(), "difference")
        };
        Ok(Done::new((tables, differences)).note(note))
    }

    async fn compare_table(
        &self,
        plan: &DatasetRestore,
        table: &TableRestore,
        record: &BigQueryRecord,
        loaded: &Loaded,
    ) -> Result<(RestoredTable, Vec<String>), JobError> {
        let google = &self.context.google;
        let saved = find_table(record, &table.source).ok_or_else(|| missing(&table.source))?;
        let definition = loaded.table(&table.source)?;
        let mut restored = RestoredTable {
            table: table.target.clone(),
            row_count: 0,
            expected_row_count: saved.row_count,
            proven: saved.proof.as_ref().map(|_| false),
            expected: saved.proof.clone(),
            found: None,
        };
        let Some(resource) = optional(google.bigquery.get_table(&table.target).await)? else {
            return Ok((restored, vec![format!("{}: the table is not there", table.target)]));
        };
        let mut wanted = definition.resource.clone();
        if plan.source != plan.target && wanted["tableConstraints"].is_object() {
            wanted["tableConstraints"] = bigquery::constraints(&wanted, &plan.source, &plan.target);
        }
        let mut differences = bigquery::comparable(&wanted, &resource);
        differences.extend(bigquery::policy_differences(google, &table.target, definition).await?);
        restored.row_count = number(&resource, "numRows");
        if restored.row_count != saved.row_count {
            differences.push(format!("{} rows, the backup holds {}", restored.row_count, saved.row_count));
        }
        if let Some(proof) = &saved.proof {
            let totals = self.totals(plan, &table.target, definition).await;
            let found = match totals {
                Ok(totals) => {
                    let found = proof.difference(&totals);
                    differences.extend(proof.missing_days(&totals));
                    restored.found = Some(totals);
                    found
                }
                // A column that is not there any more: the difference is told by the schema already.
                Err(Failure::Invalid { message, .. }) if !differences.is_empty() => Some(message),
                Err(error) => return Err(error.into()),
            };
            restored.proven = Some(found.is_none());
            differences.extend(found);
        }
        let differences = differences.into_iter().map(|difference| format!("{}: {difference}", table.target)).collect();
        Ok((restored, differences))
    }

    /// The figures of a restored table, by BigQuery.
    async fn totals(
        &self,
        plan: &DatasetRestore,
        table: &TableId,
        definition: &bigquery::Definition,
    ) -> Result<Totals, Failure> {
        let corrupt = |message: String| Failure::Corrupt { object: table.to_string(), message };
        let schema = Schema::from_json(&definition.schema()).map_err(|error| corrupt(error.to_string()))?;
        let sql = proof::sql(table, &schema, &partitions::every_row(&definition.resource));
        let options = QueryOptions { location: Some(plan.location.clone()), ..QueryOptions::default() };
        let result = self.context.google.bigquery.query(table.project(), &sql, &options).await?;
        inspect::totals(table, &schema, &result)
    }

    async fn validate(&self) -> Result<Done<Vec<Validation>>, JobError> {
        let mut validations = Vec::new();
        for (plan, record) in self.datasets() {
            // The queries are about the whole dataset; a part of it cannot answer them.
            let whole = plan.tables.len() == record.tables.len() && plan.views.len() == record.views.len();
            if whole && !self.entry.manifest.validation.is_empty() {
                let manifest = &self.entry.manifest;
                validations.push(validate::run(self.context, &plan.target, Some(manifest), manifest.data_of()).await?);
            }
        }
        let checks = validations.iter().map(|validation| validation.verdicts.len()).sum();
        Ok(Done::new(validations).note(count(checks, "check")))
    }

    async fn resume(&self, jobs: &[String]) -> Result<Done<()>, JobError> {
        ingestion::resume(&self.context.google, jobs).await?;
        Ok(Done::new(()).discharges(&self.named("arm_resume")).note(count(jobs.len(), "job")))
    }
}

/// What is made of a definition alone, in the dataset of a plan.
enum Piece<'a> {
    Routine(&'a DatasetRestore, &'a str, &'a bigquery::Definition),
    View(&'a DatasetRestore, &'a ViewRestore),
}

impl Piece<'_> {
    fn target(&self) -> String {
        match self {
            Self::Routine(plan, name, _) => format!("{}.{name}", plan.target),
            Self::View(_, view) => view.target.to_string(),
        }
    }
}

/// The views that were made, and what could not be, with the reason.
#[derive(Default)]
struct Views {
    count: usize,
    unmade: Vec<(String, String)>,
}

impl Views {
    fn holds(&self, view: &TableId) -> bool {
        !self.unmade.iter().any(|(target, _)| *target == view.to_string())
    }
}

/// What was read from the vault.
#[derive(Default)]
struct Loaded {
    datasets: BTreeMap<DatasetId, bigquery::Definition>,
    tables: BTreeMap<TableId, bigquery::Definition>,
    routines: Vec<(DatasetId, String, bigquery::Definition)>,
    grids: BTreeMap<(String, String), Grid>,
}

impl Loaded {
    fn dataset(&self, id: &DatasetId) -> Result<&bigquery::Definition, Failure> {
        self.datasets.get(id).ok_or_else(|| missing(id))
    }

    fn table(&self, id: &TableId) -> Result<&bigquery::Definition, Failure> {
        self.tables.get(id).ok_or_else(|| missing(id))
    }

    fn grid(&self, spreadsheet: &str, tab: &str) -> Result<&Grid, Failure> {
        self.grids.get(&(spreadsheet.to_string(), tab.to_string())).ok_or_else(|| missing(&tab))
    }
}

/// The rows that were loaded, when they are as many as the backup holds.
fn counted(table: &TableRestore, saved: &TableRecord, rows: u64) -> Result<u64, JobError> {
    if rows == saved.row_count {
        return Ok(rows);
    }
    let message = format!("{rows} rows were loaded, the backup holds {}", saved.row_count);
    Err(Failure::Corrupt { object: table.target.to_string(), message }.into())
}

fn missing(what: &impl ToString) -> Failure {
    Failure::NotFound { object: what.to_string(), message: "the backup does not hold it".into() }
}

fn find_table<'a>(record: &'a BigQueryRecord, id: &TableId) -> Option<&'a TableRecord> {
    record.tables.iter().find(|table| table.table == *id)
}

/// A table's files by the partition they were extracted from; empty files are left out, they hold nothing to load.
fn by_partition(record: &TableRecord) -> BTreeMap<Option<String>, Vec<&ObjectRecord>> {
    let mut parts: BTreeMap<Option<String>, Vec<&ObjectRecord>> = BTreeMap::new();
    for object in record.objects.iter().filter(|object| object.row_count != Some(0)) {
        let partition = object.key.split('/').find_map(|part| part.strip_prefix("partition="));
        parts.entry(partition.map(String::from)).or_default().push(object);
    }
    parts
}
