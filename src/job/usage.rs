//! Usage records beyond what every source can do: a document that lies as a file, and whether a backup and a table agree.

use std::path::Path;

use serde::Serialize;

use super::run::{self, Undo};
use super::{Context, JobError, contents, copies, sealing};
use crate::catalog::Entry;
use crate::manifest::SourceRecord;
use crate::manifest::usage::Aggregates;
use crate::plan::streamed::{RestoredSource, StreamedRestore, Wish};
use crate::saga::Done;
use crate::source::streamed::{Streamed, Vault};
use crate::source::usage::{FileVault, Usage};

/// What a restore of a file would do.
///
/// # Errors
/// `Refused` with everything that stands against it; `Corrupt` when the file is not what it says.
pub async fn look_at_file(usage: &Usage, file: &Path, wish: &Wish) -> Result<StreamedRestore, JobError> {
    let record = usage.record_of(file).await?;
    usage.look(&record, wish).await?.map_err(JobError::Refused)
}

/// Restores the records of a file that somebody copied out of a backup.
///
/// # Errors
/// As a restore; what was done is taken back.
pub async fn restore_file(
    context: &Context,
    usage: &Usage,
    file: &Path,
    wish: Wish,
) -> Result<RestoredSource, JobError> {
    look_at_file(usage, file, &wish).await?;
    let record = usage.record_of(file).await?;
    let id = run::new_id(context);
    let wish = Wish { run: id.clone(), parallel: context.config.parallel, ..wish };
    let subject = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    run::run(context, &id, ("restore", &subject), async |saga| {
        let undo = Undo::TakeBackSources { records: vec![record.clone()], wish: wish.clone() };
        let arm = async { Ok::<_, JobError>(Done::new(()).undo(undo.to_value())) };
        saga.step("arm_sources", arm).await?;
        let restore = async {
            let restored = usage.restore(&record, &FileVault::new(file), &wish).await?;
            Ok::<_, JobError>(Done::new(restored).discharges("arm_sources"))
        };
        Ok(saga.step("sources", restore).await?)
    })
    .await
}

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validated {
    pub backup: String,
    pub record_count: u64,
    pub aggregates: Aggregates,
    /// The table that was compared, if any.
    pub table: Option<Compared>,
    /// What is wrong.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub table: String,
    pub record_count: u64,
    /// Whether its records are those of the backup; `None` where that cannot be said.
    pub same: Option<bool>,
    pub aggregates: Aggregates,
}

/// What is asked of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Holds the table's counts against the backup's.
    pub counts: bool,
    /// Reads the backup whole, and holds figures and records against it.
    pub integrity: bool,
}

/// Validates a backup, and a table against it.
///
/// # Errors
/// `NotFound` when the backup holds none of this source; as stores and the database say.
pub async fn validate(
    context: &Context,
    usage: (&str, &Usage),
    entry: &Entry,
    checks: Checks,
    table: Option<&str>,
) -> Result<Validated, JobError> {
    let (name, usage) = usage;
    let entry = sealing::open(context, &copies::readable(context, entry).await?).await?;
    let missing = || crate::model::Failure::NotFound {
        object: entry.manifest.name.to_string(),
        message: format!("holds nothing of the source '{name}': it was switched off then"),
    };
    let record = entry.manifest.sources.iter().find(|record| record.name() == name).ok_or_else(missing)?;
    let SourceRecord::Usage(documents) = record else { return Err(missing().into()) };
    let mut problems = Vec::new();
    if checks.integrity {
        for document in &documents.documents {
            let content = contents::read(entry.store.as_ref(), &document.object).await?;
            let found = usage.examine(&document.file, content).await?;
            problems.extend(found.problems.iter().map(|problem| format!("{}: {problem}", document.file)));
            if found.record_count != document.record_count {
                let (found, said) = (found.record_count, document.record_count);
                problems.push(format!("{}: {found} records, where {said} were written", document.file));
            }
        }
    }
    let name = entry.manifest.name.to_string();
    finish(usage, record, checks, table, (name, documents.record_count()), problems).await
}

/// Validates a document that lies as a file.
///
/// # Errors
/// As [`validate`].
pub async fn validate_file(
    usage: &Usage,
    file: &Path,
    checks: Checks,
    table: Option<&str>,
) -> Result<Validated, JobError> {
    let name = file.display().to_string();
    let content = FileVault::new(file).read(&no_object(&name)).await?;
    let found = usage.examine(&name, content).await?;
    if !found.problems.is_empty() {
        let (record_count, aggregates) = (found.record_count, found.aggregates);
        return Ok(Validated { backup: name, record_count, aggregates, table: None, problems: found.problems });
    }
    let record = usage.record_of(file).await?;
    finish(usage, &record, checks, table, (name, found.record_count), vec![]).await
}

fn no_object(name: &str) -> crate::manifest::ObjectRecord {
    let digests = crate::codec::digest::Digester::new().finish();
    crate::manifest::ObjectRecord { key: name.into(), digests, row_count: None, stored: None }
}

async fn finish(
    usage: &Usage,
    record: &SourceRecord,
    checks: Checks,
    table: Option<&str>,
    (backup, record_count): (String, u64),
    mut problems: Vec<String>,
) -> Result<Validated, JobError> {
    let SourceRecord::Usage(documents) = record else { return Err(JobError::Interrupted) };
    let said = total(documents.documents.iter().map(|document| &document.aggregates));
    let mut compared = None;
    if checks.counts || table.is_some() {
        let (count, same, aggregates) = usage.compare(record, table).await?;
        let table = table.unwrap_or(&documents.table).to_string();
        if count != record_count {
            problems
                .push(format!("table '{table}' has {count} records of the backup's time, the backup {record_count}"));
        } else if checks.integrity && same == Some(false) && documents.columns.iter().all(|column| !column.anonymised) {
            problems.push(format!("table '{table}' has other records than the backup"));
        } else if checks.integrity
            && (aggregates.total_tokens, aggregates.total_requests) != (said.total_tokens, said.total_requests)
        {
            problems.push(format!("table '{table}' has other figures than the backup"));
        }
        compared = Some(Compared { table, record_count: count, same, aggregates });
    }
    Ok(Validated { backup, record_count, aggregates: said, table: compared, problems })
}

/// The figures of several documents; averages are of one document only.
fn total<'a>(mut all: impl Iterator<Item = &'a Aggregates>) -> Aggregates {
    let first = all.next().copied().unwrap_or_default();
    all.fold(first, |sum, next| Aggregates {
        total_requests: sum.total_requests + next.total_requests,
        total_tokens: sum.total_tokens + next.total_tokens,
        avg_response_time: None,
        success_rate: None,
    })
}
