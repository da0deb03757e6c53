//! A run: lease, journal, steps, and what is taken back when a step fails.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, JobError, recover, staging, streamed};
use crate::catalog::{HOLD_ON, Lease, LeaseError, Standing, StoreJournal, TIME_TO_LIVE, Tombstone};
use crate::google::bigquery::insertable_table;
use crate::google::scheduler::JobState;
use crate::ingestion;
use crate::manifest::SourceRecord;
use crate::model::{DatasetId, Failure, Place, TableId, TierName};
use crate::plan::streamed::Wish;
use crate::saga::{Entry, Log, Outcome, Record, Saga};
use crate::source::bigquery::{self, JobIds};
use crate::source::sheets::{self, Grid};

/// What takes a step back. It is stored in the journal, and `recover` carries it out when the run itself cannot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub(super) enum Undo {
    /// Jobs that this run paused, or was about to.
    ResumeIngestion { jobs: Vec<String>, not_later_than: jiff::Timestamp },
    /// Snapshots taken for a backup that never came to exist, and its files.
    RemoveBackup {
        snapshots: Vec<TableId>,
        place: Place,
        folder: String,
        /// Where files were on their way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        staging: Option<Place>,
    },
    /// Files of the vault that were brought to where BigQuery reads them.
    EmptyStaging { place: Place, folder: String },
    /// Tables and views that this run made, and datasets, unless something else is in them by now.
    DropTables {
        tables: Vec<TableId>,
        #[serde(default)]
        datasets: Vec<DatasetId>,
        /// What stood in a table's place before, by the time of its creation: as long as it does, it is not the run's.
        #[serde(default)]
        there: Vec<(TableId, String)>,
    },
    /// Snapshots of tables that were to be replaced, as long as the tables are there.
    DropSafeguard { tables: Vec<(TableId, TableId)> },
    /// What tabs held before; `None`: there was no such tab.
    PutBackTabs { tabs: Vec<(String, String, Option<Grid>)> },
    /// The datasets of a drill, with all that is in them.
    DropScratch { datasets: Vec<DatasetId> },
    /// The tabs that a drill wrote to, by spreadsheet and title.
    DropTabs { tabs: Vec<(String, String)> },
    /// What stood for a Cloud Run service and a secret in a drill.
    DropDoubles { service: Option<String>, secret: Option<String> },
    /// Databases, directories, files that a restore made of these parts of a backup, unless all of it is in place.
    TakeBackSources { records: Vec<SourceRecord>, wish: Wish },
    /// What was there before: tables with rows from the snapshots taken of them, the rest from its whole resource.
    PutBack { tables: Vec<(TableId, TableId)>, definitions: Vec<(TableId, Value)>, location: String },
}

impl Undo {
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The step that writes a backup's manifest.
pub(super) const COMMIT: &str = "manifest";

/// A run that is taken back.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub run: String,
    /// Whether it began to write its manifest, so that this may still be under way.
    pub may_commit: bool,
}

impl Ended {
    /// A run that another process left.
    pub(super) fn of(log: &Log) -> Self {
        let began = |record: &Record| matches!(&record.entry, Entry::Started { step } if step == COMMIT);
        let run = log.records().first().map(|record| record.run.clone()).unwrap_or_default();
        Self { run, may_commit: log.records().iter().any(began) }
    }

    /// This process's own, which failed.
    fn by(log: &Log, error: &JobError) -> Self {
        let ended = Self::of(log);
        let definite = matches!(error, JobError::Step { .. }) && !unknown(error);
        Self { may_commit: ended.may_commit && !definite, ..ended }
    }
}

/// Carries an undo out.
pub(super) async fn carry_out(context: &Context, ended: &Ended, undo: Value) -> Result<(), Failure> {
    let run = ended.run.as_str();
    let undo: Undo = serde_json::from_value(undo)
        .map_err(|error| Failure::Corrupt { object: format!("journal of run {run}"), message: error.to_string() })?;
    let parallel = context.config.parallel;
    match undo {
        Undo::ResumeIngestion { jobs, .. } => ingestion::resume(&context.google, &jobs).await,
        Undo::RemoveBackup { snapshots, place, folder, staging } => {
            if let Some(snapshot) = snapshots.first() {
                bigquery::settle(&context.google, snapshot.project(), run).await?;
            }
            if let Some(staging) = &staging {
                staging::empty(context, staging, &folder).await?;
            }
            if !remove_folder(context, ended, &place, &folder).await? {
                return Ok(()); // it was committed after all
            }
            bigquery::drop_tables(&context.google, &snapshots, parallel).await
        }
        Undo::EmptyStaging { place, folder } => staging::empty(context, &place, &folder).await.map(drop),
        Undo::DropTables { tables, datasets, there } => drop_made(context, run, tables, &datasets, &there).await,
        Undo::DropSafeguard { tables } => {
            let mut idle = Vec::new();
            for (table, snapshot) in tables {
                // The way back is not taken from a table that is gone.
                if context.google.bigquery.get_table(&table).await.is_ok() {
                    idle.push(snapshot);
                }
            }
            bigquery::drop_tables(&context.google, &idle, parallel).await
        }
        Undo::PutBackTabs { tabs } => {
            for (spreadsheet, tab, grid) in tabs {
                sheets::put_back(&context.google, &spreadsheet, &tab, grid.as_ref()).await?;
            }
            Ok(())
        }
        Undo::DropScratch { datasets } => drop_scratch(context, run, &datasets).await,
        Undo::DropTabs { tabs } => drop_tabs(context, run, &tabs).await,
        Undo::DropDoubles { service, secret } => {
            drop_doubles(context, run, service.as_deref(), secret.as_deref()).await
        }
        Undo::TakeBackSources { records, wish } => streamed::take_back(context, &records, &wish).await,
        Undo::PutBack { tables, definitions, location } => {
            let project = tables.first().map(|(table, _)| table.project().to_string()).unwrap_or_default();
            let ids = JobIds { run: format!("{run}_undo"), project, location };
            for (index, (table, snapshot)) in tables.iter().enumerate() {
                match context.google.bigquery.get_table(table).await {
                    Ok(_) => continue, // it was not replaced yet
                    Err(Failure::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
                bigquery::unsnapshot(&context.google, &ids, index, snapshot, table).await?;
            }
            for (table, resource) in definitions {
                match context.google.bigquery.insert_table(&table, insertable_table(&resource, &table)).await {
                    Ok(_) | Err(Failure::Exists { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            let snapshots: Vec<TableId> = tables.into_iter().map(|(_, snapshot)| snapshot).collect();
            bigquery::drop_tables(&context.google, &snapshots, parallel).await
        }
    }
}

/// Removes the files of a backup that was not committed, everywhere. Gives whether it was not.
async fn remove_folder(context: &Context, ended: &Ended, place: &Place, folder: &str) -> Result<bool, Failure> {
    let primary = (context.open)(place)?;
    let tier = folder.split('/').next().and_then(|tier| tier.parse::<TierName>().ok());
    let others: Vec<&Place> =
        tier.iter().flat_map(|tier| context.places(tier)).filter(|other| *other != place).collect();
    let manifest = format!("{folder}/manifest.json");
    let stone = Tombstone { abandoned_run: ended.run.clone(), at: context.now(), removed: false };
    if ended.may_commit {
        // Here it is decided once and for all: the manifest, or none ever.
        if stone.place(primary.as_ref(), folder).await? == Standing::Manifest {
            return Ok(false);
        }
    } else if primary.head(&manifest).await?.is_some() {
        return Ok(false);
    }
    let mut stores = vec![primary];
    for other in others {
        let store = (context.open)(other)?;
        match store.list_prefixes(&format!("{folder}/")).await {
            Ok(_) => stores.push(store),
            Err(Failure::NotFound { .. }) => {} // a copy's place that is gone
            Err(error) => return Err(error),
        }
    }
    if ended.may_commit {
        for copy in &stores[1..] {
            stone.replace(copy.as_ref(), folder).await?;
        }
    }
    for store in &stores {
        for object in store.list(&format!("{folder}/")).await? {
            // A tombstone stays.
            if !(ended.may_commit && object.key == manifest) {
                store.delete(&object.key).await?;
            }
        }
    }
    Ok(true)
}

/// Drops what a restore made, and nothing that it has not come to replace.
async fn drop_made(
    context: &Context,
    run: &str,
    mut tables: Vec<TableId>,
    datasets: &[DatasetId],
    there: &[(TableId, String)],
) -> Result<(), Failure> {
    let google = &context.google;
    if let Some(table) = tables.first() {
        bigquery::settle(google, table.project(), run).await?;
    }
    for (table, created) in there {
        match google.bigquery.get_table(table).await {
            Ok(found) if found["creationTime"].as_str() == Some(created) => tables.retain(|made| made != table),
            Ok(_) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    bigquery::drop_tables(google, &tables, context.config.parallel).await?;
    for dataset in datasets {
        match google.bigquery.delete_dataset(dataset, false).await {
            Ok(()) | Err(Failure::NotFound { .. } | Failure::Invalid { .. } | Failure::Precondition { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the names of a drill's scratch datasets end with.
pub(super) fn scratch_suffix(run: &str) -> String {
    format!("_drill_{}", run.replace('-', "_"))
}

/// Removes the datasets of a drill with all that is in them: those of this run only, as their names tell.
pub(super) async fn drop_scratch(context: &Context, run: &str, datasets: &[DatasetId]) -> Result<(), Failure> {
    for dataset in datasets {
        if !dataset.dataset().ends_with(&scratch_suffix(run)) {
            let message = format!("is no scratch dataset of run {run} and is left alone");
            return Err(Failure::Precondition { object: dataset.to_string(), message });
        }
        bigquery::settle(&context.google, dataset.project(), run).await?;
        match context.google.bigquery.delete_dataset(dataset, true).await {
            Ok(()) | Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the tabs that a drill wrote to: those of this run only, as their titles tell.
pub(super) async fn drop_tabs(context: &Context, run: &str, tabs: &[(String, String)]) -> Result<(), Failure> {
    for (spreadsheet, title) in tabs {
        if !title.ends_with(&scratch_suffix(run)) {
            let message = format!("is no scratch tab of run {run} and is left alone");
            return Err(Failure::Precondition { object: format!("tab '{title}'"), message });
        }
        match context.google.sheets.get(spreadsheet).await {
            Ok(found) => {
                if let Some(sheet) = found.sheets.iter().find(|sheet| sheet.title == *title) {
                    context.google.sheets.delete_sheet(spreadsheet, sheet.sheet_id).await?;
                }
            }
            Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the names of a drill's services and secrets end with: short, and without capitals.
pub(super) fn double_suffix(run: &str) -> String {
    format!("-drill-{}", run.rsplit('-').next().unwrap_or_default().to_lowercase())
}

/// Removes what stood for a service and a secret in a drill: those of this run only, as their names tell.
pub(super) async fn drop_doubles(
    context: &Context,
    run: &str,
    service: Option<&str>,
    secret: Option<&str>,
) -> Result<(), Failure> {
    if let Some(name) = service.iter().chain(&secret).find(|name| !name.ends_with(&double_suffix(run))) {
        let message = format!("is no double of run {run} and is left alone");
        return Err(Failure::Precondition { object: (*name).to_string(), message });
    }
    if let Some(service) = service {
        context.google.run.delete_service(service).await?;
    }
    match secret {
        Some(secret) => context.google.secrets.delete(secret).await,
        None => Ok(()),
    }
}

/// The jobs of ingestion that are to be paused, and what each job's state is. For the holder of the lease: what a plan saw
/// before may be another run's pause, or a person may have paused a job since.
///
/// # Errors
/// `NotFound` for a job that is not there.
pub(super) async fn to_pause(context: &Context) -> Result<(Vec<String>, BTreeMap<String, String>), Failure> {
    let (mut jobs, mut observed) = (Vec::new(), BTreeMap::new());
    for (job, state) in ingestion::observe(&context.google, &context.config.ingestion.scheduler_jobs).await? {
        let Some(state) = state else {
            let message = "there is no such Cloud Scheduler job any more".into();
            return Err(Failure::NotFound { object: job, message });
        };
        if state == JobState::Enabled {
            jobs.push(job.clone());
        }
        observed.insert(job, ingestion::state_name(&state));
    }
    Ok((jobs, observed))
}

/// How long a run that a signal has stopped takes back what it did: with the lease's release, less than the ten seconds
/// after which a supervisor kills.
const TAKE_BACK_WITHIN: Duration = Duration::from_secs(6);
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// Runs `work` under the lease, with a journal. What was done is taken back when it fails.
pub(super) async fn run<T>(
    context: &Context,
    id: &str,
    (verb, subject): (&str, &str),
    work: impl AsyncFnOnce(&mut Saga<'_>) -> Result<T, JobError>,
) -> Result<T, JobError> {
    let (home, clock) = (context.home.as_ref(), context.clock.as_ref());
    let mut lease = Lease::acquire(home, &context.config.name, (&context.holder, id), clock).await?;
    let generation = lease.generation();
    let journal = StoreJournal::new(context.home.clone());
    let held = lease.hold(home, clock, async {
        // What a run left that died since `recover` looked: its pause above all.
        recover::take_over(context, generation).await?;
        let opened = Saga::open(&journal, clock, context.observer.as_ref(), id, generation, (verb, subject)).await;
        let mut saga = opened.map_err(JobError::from)?;
        let mut cancelled = context.cancelled.clone();
        let worked = tokio::select! {
            biased;
            // (A closed channel is no signal.)
            Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => Err(JobError::Interrupted),
            worked = work(&mut saga) => worked,
        };
        conclude(context, &mut saga, worked).await
    });
    // What a run that lost its lease has begun is the next holder's to take back: it may be at it already.
    let outcome = held.await?;
    // A lease that cannot be given back expires by itself.
    let released = lease.release(home, clock);
    if *context.cancelled.borrow() {
        tokio::time::timeout(RELEASE_WITHIN, released).await.ok();
    } else {
        released.await.ok();
    }
    outcome
}

async fn conclude<T>(context: &Context, saga: &mut Saga<'_>, worked: Result<T, JobError>) -> Result<T, JobError> {
    match worked {
        Ok(value) => {
            saga.close::<JobError>(Outcome::Committed).await?;
            Ok(value)
        }
        // Another worker has taken the run over, and takes it back.
        Err(lost @ JobError::Lease(LeaseError::Lost)) => Err(lost),
        Err(error) => {
            if unknown(&error) {
                context.observer.note("the outcome of a call is not known: it may still arrive and is waited for");
                let mut cancelled = context.cancelled.clone();
                let hurried = async {
                    if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
                        std::future::pending::<()>().await; // a closed channel is no signal
                    }
                };
                tokio::time::timeout(UNDER_WAY, hurried).await.ok();
            }
            let step = saga.log().running().unwrap_or("run").to_string();
            let ended = Ended::by(saga.log(), &error);
            let unwound = saga.unwind(|_, undo| carry_out(context, &ended, undo));
            let left = if *context.cancelled.borrow() {
                // Who was asked to end has no time for a service that does not answer.
                tokio::time::timeout(TAKE_BACK_WITHIN, unwound).await.unwrap_or_else(|_| {
                    vec![format!("what took longer than {} s; the journal has it", TAKE_BACK_WITHIN.as_secs())]
                })
            } else {
                unwound.await
            };
            Err(match error {
                JobError::Step { step, cause, .. } => JobError::Step { step, cause, left },
                other => JobError::Step { step, cause: Box::new(other), left },
            })
        }
    }
}

/// How long a call may still be under way that nobody waits for any more: as long as a holder of the lease has stopped
/// before another begins.
const UNDER_WAY: Duration = TIME_TO_LIVE.saturating_sub(HOLD_ON);

/// Whether the cause of all is a call whose outcome is not known.
fn unknown(error: &JobError) -> bool {
    match error {
        JobError::Step { cause, .. } => unknown(cause),
        JobError::Failure(failure) => matches!(failure, Failure::Unknown { .. }),
        _ => false,
    }
}

/// The id of a run that begins now: when it began, and a few random digits, unless its caller has given it one.
pub fn new_id(context: &Context) -> String {
    if let Some(id) = &context.run_id {
        return id.clone();
    }
    let at = context.now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let nonce = (context.nonce)();
    format!("{at}-{}", &nonce[..nonce.len().min(8)])
}
