//! Recover: what runs that died left behind is taken back, ingestion first; what no manifest reaches is removed.

use jiff::Timestamp;
use serde::Serialize;

use super::garbage::{self, Clocks};
use super::run::{self, Undo};
use super::{Context, JobError, retention};
use crate::catalog::{self, Lease, LeaseError, Ledger, OpenRun, StoreJournal};
use crate::ingestion;
use crate::manifest::SourceRecord;
use crate::model::{BackupName, Failure};
use crate::plan::garbage::GarbagePlan;
use crate::saga::{Entry, Log, Outcome, Saga};

/// An open run, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovered {
    pub run: String,
    pub verb: String,
    pub subject: String,
    pub opened_at: Option<Timestamp>,
    /// The step that it died in.
    pub died_in: Option<String>,
    /// What is to be taken back, in this order.
    pub undo: Vec<String>,
    /// What could not be taken back.
    pub failures: Vec<String>,
}

/// What a recovery does, or would do.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Recovery {
    pub runs: Vec<Recovered>,
    /// Backups whose removal was begun, and is finished.
    pub removals: Vec<BackupName>,
    pub garbage: GarbagePlan,
    /// What could not be removed.
    pub failures: Vec<String>,
}

impl Recovery {
    pub fn is_nothing(&self) -> bool {
        self.runs.is_empty() && self.removals.is_empty() && self.garbage.remove.is_empty()
    }

    pub fn succeeded(&self) -> bool {
        self.failures.is_empty() && self.runs.iter().all(|run| run.failures.is_empty())
    }
}

/// What a recovery would do. A run that holds the lease is alive: it is listed by `status`.
///
/// # Errors
/// When journal, vaults or datasets cannot be looked at.
pub async fn plan(context: &Context) -> Result<Recovery, JobError> {
    let ledger = Ledger::read(context.home.as_ref()).await?;
    Ok(Recovery {
        runs: open(context).await?,
        removals: ledger.removing().map(|(name, _)| name.clone()).collect(),
        garbage: garbage::plan(context, Clocks::Own).await?,
        failures: vec![],
    })
}

/// The runs that were opened and not closed: alive, or dead and to be recovered.
///
/// # Errors
/// When the journal cannot be read.
pub(super) async fn open(context: &Context) -> Result<Vec<Recovered>, JobError> {
    Ok(catalog::open_runs(context.home.as_ref()).await?.iter().map(describe).collect())
}

fn describe(open: &OpenRun) -> Recovered {
    let (verb, subject) = open.log.purpose().unwrap_or_default();
    let undo = open.log.pending_undos().into_iter().map(|(step, undo)| match serde_json::from_value(undo) {
        Ok(Undo::ResumeIngestion { jobs, .. }) => format!("resume {}", jobs.join(", ")),
        Ok(Undo::RemoveBackup { snapshots, place, folder, staging }) => {
            let staged = staging.map(|staging| format!(" and {staging}/{folder}")).unwrap_or_default();
            format!("remove {} unfinished snapshots and {place}/{folder}{staged}", snapshots.len())
        }
        Ok(Undo::EmptyStaging { place, folder }) => format!("remove {place}/{folder}"),
        Ok(Undo::DropTables { tables, datasets, .. }) => {
            format!("drop {} tables and {} datasets that the run made", tables.len(), datasets.len())
        }
        Ok(Undo::DropSafeguard { tables }) => format!("drop {} snapshots of tables as they were", tables.len()),
        Ok(Undo::DropScratch { datasets }) => format!("remove {} scratch datasets of the drill", datasets.len()),
        Ok(Undo::DropTabs { tabs }) => format!("remove {} scratch tabs of the drill", tabs.len()),
        Ok(Undo::DropDoubles { service, secret }) => {
            let names: Vec<String> = service.into_iter().chain(secret).collect();
            format!("remove the drill's {}", names.join(" and "))
        }
        Ok(Undo::PutBack { tables, .. }) => format!("put {} replaced tables back", tables.len()),
        Ok(Undo::TakeBackSources { records, .. }) => {
            let names: Vec<&str> = records.iter().map(SourceRecord::name).collect();
            format!("take the restore of {} back", names.join(", "))
        }
        Ok(Undo::PutBackTabs { tabs }) => format!("put {} tabs back as they were", tabs.len()),
        Err(error) => format!("{step}: not understood ({error})"),
    });
    Recovered {
        run: open.run.clone(),
        verb: verb.into(),
        subject: subject.into(),
        opened_at: open.log.opened_at(),
        died_in: open.log.running().or(open.log.failed().map(|(step, _)| step)).map(String::from),
        undo: undo.collect(),
        failures: vec![],
    }
}

/// Takes back what dead runs left. A run that is alive holds the lease: then nothing is touched but ingestion that it has
/// paused for too long.
///
/// # Errors
/// `Lease` while a run is alive.
pub async fn run(context: &Context) -> Result<Vec<Recovered>, JobError> {
    if !catalog::has_markers(context.home.as_ref()).await? {
        return Ok(vec![]);
    }
    under_lease(context, async |generation| take_over(context, generation).await).await
}

/// The same, and finishes removals that were begun, and removes what no manifest reaches.
///
/// # Errors
/// `Lease` while a run is alive.
pub async fn whole(context: &Context) -> Result<Recovery, JobError> {
    // The lease is taken only where there is something to do: a backup that begins meanwhile is not turned away.
    let seen = plan(context).await?;
    if seen.is_nothing() && !catalog::has_markers(context.home.as_ref()).await? {
        return Ok(seen);
    }
    under_lease(context, async |generation| {
        let runs = take_over(context, generation).await?;
        let (removals, mut failures) = retention::finish(context, generation).await?;
        let garbage = garbage::plan(context, Clocks::Theirs).await?;
        failures.extend(garbage::remove(context, &garbage).await);
        Ok(Recovery { runs, removals, garbage, failures })
    })
    .await
}

async fn under_lease<T: From<Vec<Recovered>>>(
    context: &Context,
    work: impl AsyncFnOnce(u64) -> Result<T, JobError>,
) -> Result<T, JobError> {
    let id = run::new_id(context);
    let holder = format!("recover ({})", context.holder);
    let (home, clock) = (context.home.as_ref(), context.clock.as_ref());
    let mut lease = match Lease::acquire(home, &context.config.name, (&holder, &id), clock).await {
        Err(held @ LeaseError::Held { .. }) => {
            let resumed = resume_overdue(context).await?;
            return if resumed.is_empty() { Err(held.into()) } else { Ok(resumed.into()) };
        }
        acquired => acquired?,
    };
    let generation = lease.generation();
    let outcome = lease.hold(home, clock, work(generation)).await?;
    lease.release(home, clock).await.ok();
    outcome
}

impl From<Vec<Recovered>> for Recovery {
    fn from(runs: Vec<Recovered>) -> Self {
        Self { runs, ..Self::default() }
    }
}

/// Resumes ingestion that a run has paused for longer than it said, though it holds the lease: it hangs.
async fn resume_overdue(context: &Context) -> Result<Vec<Recovered>, JobError> {
    let mut resumed = Vec::new();
    for open in catalog::open_runs(context.home.as_ref()).await? {
        for (_, undo) in open.log.pending_undos() {
            if let Ok(Undo::ResumeIngestion { jobs, not_later_than }) = serde_json::from_value(undo)
                && not_later_than < context.now()
            {
                ingestion::resume(&context.google, &jobs).await?;
                resumed.push(Recovered { undo: vec![format!("resume {}", jobs.join(", "))], ..describe(&open) });
            }
        }
    }
    Ok(resumed)
}

/// Does so at the start of another job, which is no reason for that job to fail.
///
/// # Errors
/// When the journal cannot be read; a run that is alive is no error here.
pub async fn at_start(context: &Context) -> Result<Vec<Recovered>, JobError> {
    match run(context).await {
        // Without a vault there is no journal; that the vault is missing is told with all else that is wrong.
        Err(JobError::Lease(LeaseError::Held { .. }) | JobError::Failure(Failure::NotFound { .. })) => Ok(vec![]),
        outcome => outcome,
    }
}

/// How often a run is looked at again whose worker still writes: it notices by the first record that is refused.
const LOOKS: u32 = 3;

/// Takes back what dead runs left, for the holder of the lease. A run that had done all is closed as what it was.
///
/// # Errors
/// When the journal cannot be read or written.
pub(super) async fn take_over(context: &Context, generation: u64) -> Result<Vec<Recovered>, JobError> {
    let journal = StoreJournal::new(context.home.clone());
    let mut recovered: Vec<Recovered> = Vec::new();
    for look in 1..=LOOKS {
        let open = catalog::open_runs(context.home.as_ref()).await?;
        let mut alive = false;
        for open in open {
            if recovered.iter().any(|done| done.run == open.run) {
                continue;
            }
            let mut report = describe(&open);
            let (clock, observer) = (context.clock.as_ref(), context.observer.as_ref());
            let adopted = Saga::adopt::<JobError>(&journal, clock, observer, open.log, generation).await;
            let mut saga = match adopted.map_err(JobError::from) {
                Ok(saga) => saga,
                Err(JobError::Lease(LeaseError::Lost)) if look < LOOKS => {
                    alive = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ended = run::Ended::of(saga.log());
            if is_done(saga.log()) {
                saga.close::<JobError>(Outcome::Committed).await?;
            } else {
                report.failures = saga.unwind(|_, undo| run::carry_out(context, &ended, undo)).await;
            }
            recovered.push(report);
        }
        if !alive {
            break;
        }
    }
    catalog::sweep_markers(context.home.as_ref()).await?;
    Ok(recovered)
}

/// Whether all that the run set out to do was done: it died before it could say so.
fn is_done(log: &Log) -> bool {
    let worked = log.records().iter().any(|record| matches!(record.entry, Entry::Done { .. }));
    worked && log.running().is_none() && log.failed().is_none() && log.pending_undos().is_empty()
}
