//! A run: lease, journal, steps, and what is taken back when a step fails.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use super::{Context, JobError};
use crate::catalog::{self, Lease, StoreJournal};
use crate::google::bigquery::insertable_table;
use crate::ingestion;
use crate::model::{DatasetId, Failure, Place, TableId};
use crate::saga::{Outcome, Saga};
use crate::source::bigquery::{self, JobIds};

/// What takes a step back. It is stored in the journal, and `recover` carries it out when the run itself cannot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub(super) enum Undo {
    /// Jobs that this run paused, or was about to.
    ResumeIngestion { jobs: Vec<String>, not_later_than: jiff::Timestamp },
    /// Snapshots taken for a backup that never came to exist, and its files.
    RemoveBackup { snapshots: Vec<TableId>, place: Place, folder: String },
    /// Tables and views that this run made.
    DropTables { tables: Vec<TableId> },
    /// A dataset that this run made; left alone if something else is in it by now.
    DropDataset { dataset: DatasetId },
    /// The datasets of a drill, with all that is in them.
    DropScratch { datasets: Vec<DatasetId> },
    /// What stood for a Cloud Run service and a secret in a drill.
    DropDoubles { service: Option<String>, secret: Option<String> },
    /// What was there before: tables with rows from the snapshots taken of them, the rest from its whole resource.
    PutBack { tables: Vec<(TableId, TableId)>, definitions: Vec<(TableId, Value)>, location: String },
}

impl Undo {
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Carries an undo out.
pub(super) async fn carry_out(context: &Context, run: &str, undo: Value) -> Result<(), Failure> {
    let undo: Undo = serde_json::from_value(undo)
        .map_err(|error| Failure::Corrupt { object: format!("journal of run {run}"), message: error.to_string() })?;
    let parallel = context.config.parallel;
    match undo {
        Undo::ResumeIngestion { jobs, .. } => ingestion::resume(&context.google, &jobs).await,
        Undo::RemoveBackup { snapshots, place, folder } => {
            let store = (context.open)(&place)?;
            if store.head(&format!("{folder}/manifest.json")).await?.is_some() {
                return Ok(()); // it was committed after all
            }
            if let Some(snapshot) = snapshots.first() {
                bigquery::settle(&context.google, snapshot.project(), run).await?;
            }
            for object in store.list(&format!("{folder}/")).await? {
                store.delete(&object.key).await?;
            }
            bigquery::drop_tables(&context.google, &snapshots, parallel).await
        }
        Undo::DropTables { tables } => bigquery::drop_tables(&context.google, &tables, parallel).await,
        Undo::DropDataset { dataset } => match context.google.bigquery.delete_dataset(&dataset, false).await {
            Ok(()) | Err(Failure::NotFound { .. } | Failure::Invalid { .. } | Failure::Precondition { .. }) => Ok(()),
            Err(error) => Err(error),
        },
        Undo::DropScratch { datasets } => drop_scratch(context, run, &datasets).await,
        Undo::DropDoubles { service, secret } => {
            drop_doubles(context, run, service.as_deref(), secret.as_deref()).await
        }
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
            Ok(())
        }
    }
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
    let lease =
        Lease::acquire(context.home.as_ref(), &context.config.name, (&context.holder, id), context.now()).await?;
    let generation = lease.generation();
    let lease = Arc::new(Mutex::new(lease));
    let (lost, mut is_lost) = watch::channel(false);
    let clock = context.clock.clone();
    let keeper = catalog::keep(context.home.clone(), lease.clone(), Arc::new(move || clock.now()), lost);

    let journal = StoreJournal::new(context.home.clone());
    let outcome = {
        let opened =
            Saga::open(&journal, context.clock.as_ref(), context.observer.as_ref(), id, generation, (verb, subject))
                .await
                .map_err(JobError::from);
        match opened {
            Err(error) => Err(error),
            Ok(mut saga) => {
                let mut cancelled = context.cancelled.clone();
                let worked = tokio::select! {
                    worked = work(&mut saga) => worked,
                    // (A closed channel is no signal.)
                    Ok(_) = is_lost.wait_for(|lost| *lost) => Err(catalog::LeaseError::Lost.into()),
                    Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => Err(JobError::Interrupted),
                };
                conclude(context, id, &mut saga, worked).await
            }
        }
    };
    keeper.abort();
    let lease = lease.lock().await.clone();
    // A lease that cannot be given back expires by itself.
    let released = lease.release(context.home.as_ref(), context.now());
    if *context.cancelled.borrow() {
        tokio::time::timeout(RELEASE_WITHIN, released).await.ok();
    } else {
        released.await.ok();
    }
    outcome
}

async fn conclude<T>(
    context: &Context,
    id: &str,
    saga: &mut Saga<'_>,
    worked: Result<T, JobError>,
) -> Result<T, JobError> {
    match worked {
        Ok(value) => {
            saga.close::<JobError>(Outcome::Committed).await?;
            Ok(value)
        }
        Err(error) => {
            let step = saga.log().running().unwrap_or("run").to_string();
            let unwound = saga.unwind(|_, undo| carry_out(context, id, undo));
            let left = match error {
                // Who was asked to end has no time for a service that does not answer.
                JobError::Interrupted => tokio::time::timeout(TAKE_BACK_WITHIN, unwound).await.unwrap_or_else(|_| {
                    vec![format!("what took longer than {} s; the journal has it", TAKE_BACK_WITHIN.as_secs())]
                }),
                _ => unwound.await,
            };
            Err(match error {
                JobError::Step { step, cause, .. } => JobError::Step { step, cause, left },
                other => JobError::Step { step, cause: Box::new(other), left },
            })
        }
    }
}

/// A run's id: when it began, and a few random digits.
pub(super) fn new_id(context: &Context) -> String {
    let at = context.now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let nonce = (context.nonce)();
    format!("{at}-{}", &nonce[..nonce.len().min(8)])
}
