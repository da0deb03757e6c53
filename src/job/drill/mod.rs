//! Drill: a disaster rehearsed beside the real data, timed, compared, and told in a report.

mod evidence;
mod recorder;
mod restoring;
mod serving;

use std::sync::Arc;

use bytes::Bytes;

use super::run;
use super::{Context, JobError, copies, index, sealing};
use crate::catalog::marks::Verified;
use crate::catalog::{Entry, Wanted, drills};
use crate::config::SourceKind;
use crate::manifest::{SourceRecord, StreamedRecord};
use crate::model::TierName;
use crate::plan;
use crate::plan::drill::checklist;
use crate::plan::drill::objectives::{self, Age};
use crate::plan::drill::{DrillFacts, DrillPlan, DrillRequest};
use crate::report::{self, BackupLine, DrillLine, DrillReport, Outcome, Signature};
use crate::saga::Observer;
use evidence::Findings;
use recorder::Recorder;

/// Earlier backups and drills that a report shows.
const TREND: usize = 30;

/// A drill that was run.
pub struct Drilled {
    pub report: DrillReport,
    /// The page, as it was stored.
    pub page: String,
    /// Where the report was stored.
    pub place: Option<String>,
    /// Why the drill did not finish, or what could not be written afterwards.
    pub error: Option<JobError>,
}

/// What a drill works with.
struct Subject {
    plan: DrillPlan,
    /// The backup, in the copy that is read.
    entry: Option<Entry>,
}

/// The plan of a drill at this moment: what a dry run prints.
///
/// # Errors
/// `Refused` with everything that stands against it.
pub async fn plan(
    context: &Context,
    (wanted, tier): (&Wanted, Option<&TierName>),
    request: &DrillRequest,
) -> Result<DrillPlan, JobError> {
    let drill = run::new_id(context);
    Ok(look_and_plan(context, &drill, (wanted, tier), request).await?.plan)
}

async fn look_and_plan(
    context: &Context,
    drill: &str,
    (wanted, tier): (&Wanted, Option<&TierName>),
    request: &DrillRequest,
) -> Result<Subject, JobError> {
    if !request.scenario.restores() {
        let suffix = run::double_suffix(drill);
        let plan = plan::drill::plan_serving(&context.config, (drill, &suffix), request.scenario);
        return Ok(Subject { plan: plan.map_err(JobError::Refused)?, entry: None });
    }
    let mut stored = context.catalog.find(wanted, tier).await?;
    let mut copies = copies::whole(context, &stored.manifest).await?;
    if copies.is_empty() {
        // Together the places may still have all of it, as a restore would find.
        stored = copies::readable(context, &stored).await?;
        let place = context.places(&stored.manifest.tier).next().cloned();
        copies.extend(place.map(|place| (place, stored.store.clone())));
    }
    let mut entry = sealing::open(context, &stored).await?;
    let facts = DrillFacts {
        copies: copies.iter().map(|(place, _)| place.clone()).collect(),
        time_travel_hours: evidence::time_travel_hours(context, &entry).await?,
    };
    let suffix = run::scratch_suffix(drill);
    let planned = plan::drill::plan(&context.config, (drill, &suffix), request, &entry.manifest, &facts);
    let plan = planned.map_err(JobError::Refused)?;
    if let Some((_, store)) = copies.into_iter().find(|(place, _)| plan.read_from.as_ref() == Some(place)) {
        entry = sealing::open(context, &Entry { store, ..stored }).await?;
    }
    Ok(Subject { plan, entry: Some(entry) })
}

/// Runs a drill, stores its report, and marks the backup when it was proven.
///
/// # Errors
/// `Refused` before anything is changed. What fails later is in the report, which there always is.
pub async fn run(
    context: &Context,
    which: (&Wanted, Option<&TierName>),
    request: &DrillRequest,
    operator: &str,
) -> Result<Drilled, JobError> {
    let id = run::new_id(context);
    let subject = look_and_plan(context, &id, which, request).await?;
    let recorder = Arc::new(Recorder::new(context.observer.clone(), context.clock.clone()));
    let observer: Arc<dyn Observer> = recorder.clone();
    let watched = Context { observer, ..context.clone() };
    let started_at = context.now();
    let mut findings = Findings::default();
    let outcome = run::run(&watched, &id, ("drill", request.scenario.name()), async |saga| {
        let (context, subject, id) = (&watched, &subject, id.as_str());
        if request.scenario.restores() {
            restoring::Work { context, subject, id }.steps(saga, &mut findings).await
        } else {
            serving::Work { context, subject, id }.steps(saga, &mut findings).await
        }
    })
    .await;

    let mut report = write_report(context, &subject, findings, operator, started_at).await?;
    report.phases = recorder.phases();
    report.objectives = objectives::judge(
        &context.config.objectives,
        request.scenario.restores(),
        &report.phases,
        &ages(context, started_at).await?,
    );
    if let Err(error) = &outcome {
        report.findings.insert(0, error.to_string());
    }
    report.conclude(outcome.is_ok());
    report.ended_at = context.now();
    let page = report::drill_page(&report);
    let mut drilled = Drilled { report, page, place: None, error: outcome.err() };
    match keep(context, &subject, &drilled).await {
        Ok(place) => drilled.place = Some(place),
        Err(error) => drop(drilled.error.get_or_insert(error)),
    }
    Ok(drilled)
}

/// Stores the report, and marks the backup when all of it came back.
async fn keep(context: &Context, subject: &Subject, drilled: &Drilled) -> Result<String, JobError> {
    let report = &drilled.report;
    let (document, page) = (Bytes::from(report.to_bytes()), Bytes::from(drilled.page.clone()));
    let place = drills::store(context.home.as_ref(), &report.drill, document, page).await?;
    let proven = matches!(report.outcome, Outcome::Passed | Outcome::Late) && report.scenario.proves_the_backup();
    if let Some(entry) = subject.entry.as_ref().filter(|_| proven) {
        let mark = Verified {
            commit_id: entry.manifest.commit_id.clone(),
            at: report.ended_at,
            by: report.signature.operator.clone(),
            how: format!("drill {}", report.drill),
        };
        context.marks.set(&entry.manifest.name, &mark).await?;
        index::refresh(context).await;
    }
    Ok(place)
}

async fn write_report(
    context: &Context,
    subject: &Subject,
    findings: Findings,
    operator: &str,
    started_at: jiff::Timestamp,
) -> Result<DrillReport, JobError> {
    let plan = &subject.plan;
    let listing = context.catalog.list().await?;
    let backups = listing.entries.iter().take(TREND).rev();
    let backups = backups.map(|entry| BackupLine::of(&entry.manifest, &entry.sha256, &entry.store.describe()));
    let backup = subject.entry.as_ref().map(|e| BackupLine::of(&e.manifest, &e.sha256, &e.store.describe()));
    let Findings { differences, tables, view_count, checks, mut evidence, notes } = findings;
    evidence::of_restored(context, &differences, &tables, &checks, &mut evidence);
    Ok(DrillReport {
        version: report::DRILL_VERSION,
        drill: plan.drill.clone(),
        system: context.config.name.clone(),
        scenario: plan.scenario,
        title: plan.title.clone(),
        outcome: Outcome::NotFinished,
        findings: differences,
        started_at,
        ended_at: started_at,
        backup,
        recovery: plan.victim.as_ref().map(|victim| victim.recovery.clone()),
        phases: vec![],
        objectives: vec![],
        tables,
        view_count,
        checks,
        checklist: checklist::fill(&evidence),
        backups: backups.collect(),
        drills: past(context).await?,
        signature: Signature {
            operator: operator.into(),
            holder: context.holder.clone(),
            tool: context.tool.clone(),
            run: plan.drill.clone(),
        },
        notes: plan.notes.iter().cloned().chain(notes).collect(),
    })
}

/// Earlier drills, the oldest first. A report that cannot be read is of a newer version, and left out.
///
/// # Errors
/// When the reports cannot be listed or read.
pub async fn past(context: &Context) -> Result<Vec<DrillLine>, JobError> {
    let names = drills::names(context.home.as_ref()).await?;
    let last = &names[names.len().saturating_sub(TREND)..];
    let documents = drills::documents(context.home.as_ref(), last).await?;
    Ok(documents.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).map(|r| DrillLine::of(&r)).collect())
}

/// How old the newest copy of each source is.
async fn ages(context: &Context, now: jiff::Timestamp) -> Result<Vec<Age>, JobError> {
    let listing = context.catalog.list().await?;
    let mut ages = Vec::new();
    for source in &context.config.sources {
        let taken = listing.entries.iter().flat_map(|entry| {
            let cut = entry.manifest.cut_at.unwrap_or(entry.manifest.started_at);
            entry.manifest.sources.iter().filter_map(move |record| match record {
                SourceRecord::BigQuery(record) if record.name == source.name => Some(cut),
                SourceRecord::Sheets(record) if record.name == source.name => Some(record.taken_at),
                other => other.streamed().filter(|record| record.name() == source.name).map(StreamedRecord::taken_at),
            })
        });
        if let Some(newest) = taken.max() {
            let milliseconds = (now.as_millisecond() - newest.as_millisecond()).max(0);
            let mappings = matches!(source.kind, SourceKind::Sheets(_));
            ages.push(Age { source: source.name.clone(), mappings, milliseconds });
        }
    }
    Ok(ages)
}

/// Whether there is a report of a drill of this name.
///
/// # Errors
/// When the store cannot be listed.
pub async fn is_stored(context: &Context, drill: &str) -> Result<bool, JobError> {
    Ok(drills::names(context.home.as_ref()).await?.iter().any(|name| name == drill))
}

/// The report of a drill that was run before.
pub async fn stored(context: &Context, drill: Option<&str>) -> Result<DrillReport, JobError> {
    use crate::catalog::CatalogError;
    use crate::model::Failure;
    let names = drills::names(context.home.as_ref()).await?;
    let known = names
        .last()
        .map_or("hint: there is none yet: strongroom drill".to_string(), |last| format!("hint: the latest is {last}"));
    let found = match drill {
        None => names.last(),
        Some(drill) => names.iter().find(|name| *name == drill),
    };
    let asked = drill.map_or("no drill".to_string(), |drill| format!("there is no drill '{drill}'"));
    let missing = || CatalogError::NotFound(format!("{asked}; {known}"));
    let name = found.ok_or_else(missing)?;
    let documents = drills::documents(context.home.as_ref(), std::slice::from_ref(name)).await?;
    let bytes = documents.first().ok_or_else(missing)?;
    let corrupt = |message: String| Failure::Corrupt { object: format!("report of drill {name}"), message };
    Ok(serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?)
}
