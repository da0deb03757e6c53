//! Diff: the rows in which a backup differs from what is there, or from another backup. Only buckets that differ are looked into.

mod columns;
mod sides;

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use self::columns::{Common, not_compared};
use self::sides::{Side, Stored, There};
use super::streamed::{self, EntryVault};
use super::verify::{definition, format};
use super::{Context, JobError, copies, sealing};
use crate::catalog::Entry;
use crate::manifest::{BigQueryRecord, SourceRecord, TableRecord};
use crate::model::schema::Schema;
use crate::model::{BackupName, DatasetId, Failure, Pattern, TableId};
use crate::plan::diff::{self, RowDifference};
use crate::plan::streamed::RestoredSource;

/// Rows of so many are looked into at once: their hashes are held in memory.
const ROWS_AT_ONCE: u64 = 1_000_000;

/// What is compared.
#[derive(Clone)]
pub struct DiffRequest {
    /// Empty: every table.
    pub tables: Vec<Pattern>,
    /// Instead of what is there now.
    pub other: Option<Entry>,
    /// Instead of the dataset that was backed up.
    pub dataset: Option<DatasetId>,
    /// At most so many rows are shown of each table.
    pub limit: usize,
}

/// How a backup compares with what is there, or with another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    pub backup: BackupName,
    /// The other backup; absent: what is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<BackupName>,
    pub tables: Vec<TableDiff>,
    /// Databases and files, by their figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<RestoredSource>,
    /// Sources of which nothing could be compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableDiff {
    pub table: TableId,
    /// Rows in the backup, and in the table (or the other backup).
    pub backup_rows: u64,
    pub table_rows: u64,
    /// Why there are no rows to show: one of them has no such table.
    pub message: Option<String>,
    /// How its columns are others than the backup's; rows are compared in the columns that both have.
    pub columns: Vec<String>,
    pub differing_buckets: Vec<u8>,
    /// Rows of the backup that the table lacks, rows of the table that the backup lacks; a changed row is both.
    pub removed_rows: u64,
    pub added_rows: u64,
    /// Whether every differing bucket was looked into; if not, there are more rows than these.
    pub complete: bool,
    pub rows: Vec<RowDifference>,
    /// Columns that have no canonical form and are not compared.
    pub not_compared: Vec<String>,
}

impl Diff {
    pub fn same(&self) -> bool {
        self.tables.iter().all(TableDiff::same) && self.sources.iter().all(|source| source.differences.is_empty())
    }
}

impl TableDiff {
    pub fn same(&self) -> bool {
        self.message.is_none()
            && self.columns.is_empty()
            && self.differing_buckets.is_empty()
            && self.backup_rows == self.table_rows
    }

    /// Nothing is known yet of what it is compared with.
    fn of(table: &TableId, backup_rows: u64) -> Self {
        Self {
            table: table.clone(),
            backup_rows,
            table_rows: 0,
            message: None,
            columns: vec![],
            differing_buckets: vec![],
            removed_rows: 0,
            added_rows: 0,
            complete: true,
            rows: vec![],
            not_compared: vec![],
        }
    }
}

/// Compares a backup with what is there, or with another backup.
///
/// # Errors
/// When files or tables cannot be read; `NotFound` when nothing of the backup is meant.
pub async fn run(context: &Context, entry: &Entry, request: &DiffRequest) -> Result<Diff, JobError> {
    let entry = &copies::readable(context, entry).await?;
    let mut diff = match &request.other {
        Some(other) => {
            let other = &copies::readable(context, other).await?;
            with_backup(context, (entry, other), request).await?
        }
        None => with_what_is_there(context, entry, request).await?,
    };
    if diff.tables.is_empty() && diff.sources.is_empty() {
        let names: Vec<&str> = entry.manifest.tables().map(|record| record.table.table()).collect();
        let message = match (names.is_empty(), diff.not_compared.as_slice()) {
            (false, _) => format!("holds no such table; hint: it holds {}", names.join(", ")),
            (true, []) => "holds nothing that can be compared".into(),
            (true, sources) => format!("of {} nothing can be compared", sources.join(", ")),
        };
        return Err(Failure::NotFound { object: entry.manifest.name.to_string(), message }.into());
    }
    diff.not_compared.sort_unstable();
    Ok(diff)
}

impl DiffRequest {
    fn means(&self, table: &TableId) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|pattern| pattern.matches(table.table()))
    }
}

async fn with_what_is_there(context: &Context, entry: &Entry, request: &DiffRequest) -> Result<Diff, JobError> {
    let (backup, mut tables) = (entry.manifest.name.clone(), Vec::new());
    let all = entry.manifest.bigquery().flat_map(|source| source.tables.iter().map(move |table| (source, table)));
    let records: Vec<_> = all.filter(|(_, record)| request.means(&record.table)).collect();
    let entry = &sealing::open(context, entry).await?;
    for (n, (source, record)) in records.iter().enumerate() {
        let target = match &request.dataset {
            Some(dataset) => dataset
                .table(record.table.table())
                .map_err(|error| Failure::Invalid { object: dataset.to_string(), message: error.to_string() })?,
            None => record.table.clone(),
        };
        tables.push(table_there(context, entry, (source, record), &target, request.limit).await?);
        context.observer.progress("diff", n + 1, records.len(), record.table.table());
    }
    let (mut sources, mut not_compared) = (vec![], vec![]);
    // A table's name or a dataset means BigQuery's.
    if request.tables.is_empty() && request.dataset.is_none() {
        let vault = EntryVault { store: entry.store.clone() };
        for record in &entry.manifest.sources {
            match streamed::compare(context, record, &vault).await? {
                Some(compared) => sources.push(compared),
                None if matches!(record, SourceRecord::BigQuery(_)) => {}
                None => not_compared.push(record.name().to_string()),
            }
        }
    }
    Ok(Diff { backup, other: None, tables, sources, not_compared })
}

async fn with_backup(
    context: &Context,
    (entry, other): (&Entry, &Entry),
    request: &DiffRequest,
) -> Result<Diff, JobError> {
    let (before, after) = (&sealing::open(context, entry).await?, &sealing::open(context, other).await?);
    let mut tables = vec![];
    let records: Vec<&TableRecord> = before.manifest.tables().filter(|record| request.means(&record.table)).collect();
    for (n, record) in records.iter().enumerate() {
        let found = after.manifest.tables().find(|other| other.table == record.table);
        tables.push(match found {
            Some(found) => table_in_both((before, record), (after, found), request.limit).await?,
            None => {
                let message = Some(format!("is not in {}", after.manifest.name));
                let removed_rows = record.row_count;
                TableDiff { message, removed_rows, ..TableDiff::of(&record.table, record.row_count) }
            }
        });
        context.observer.progress("diff", n + 1, records.len(), record.table.table());
    }
    let known = |table: &TableId| before.manifest.tables().any(|record| record.table == *table);
    for record in after.manifest.tables().filter(|record| request.means(&record.table) && !known(&record.table)) {
        let message = Some(format!("is not in {}", before.manifest.name));
        let (table_rows, added_rows) = (record.row_count, record.row_count);
        tables.push(TableDiff { message, table_rows, added_rows, ..TableDiff::of(&record.table, 0) });
    }
    let without = before.manifest.sources.iter().filter(|source| source.tables().is_empty());
    let not_compared = without.map(|source| source.name().to_string()).collect();
    let (backup, other) = (before.manifest.name.clone(), Some(after.manifest.name.clone()));
    Ok(Diff { backup, other, tables, sources: vec![], not_compared })
}

/// The schema of a table's files, and its declared primary key.
async fn columns(entry: &Entry, record: &TableRecord) -> Result<(Schema, Vec<String>), Failure> {
    let saved = definition(entry, &record.meta).await?;
    let corrupt = |message: String| Failure::Corrupt { object: record.table.to_string(), message };
    let schema = Schema::from_json(&saved.schema()).map_err(|error| corrupt(error.to_string()))?;
    Ok((schema, key(&saved.resource)))
}

fn stored<'a>(
    (entry, record): (&'a Entry, &'a TableRecord),
    (schema, common): (&'a Schema, &'a Common),
) -> Result<Stored<'a>, Failure> {
    let unknown = || Failure::Corrupt {
        object: record.table.to_string(),
        message: format!("the format '{}' is not known", record.format),
    };
    let whole = schema.fields.iter().map(|field| &field.name).eq(common.schema.fields.iter().map(|field| &field.name));
    Ok(Stored { entry, record, schema, format: format(record).ok_or_else(unknown)?, common, whole })
}

async fn table_in_both(
    (before, record): (&Entry, &TableRecord),
    (after, other): (&Entry, &TableRecord),
    limit: usize,
) -> Result<TableDiff, JobError> {
    let ((schema, key), (later, _)) = (columns(before, record).await?, columns(after, other).await?);
    let common = Common::of(&schema, &later);
    let mut found = TableDiff { table_rows: other.row_count, ..TableDiff::of(&record.table, record.row_count) };
    let a = stored((before, record), (&schema, &common))?;
    let b = stored((after, other), (&later, &common))?;
    compare(&mut found, (&a, &b), &common, &key, limit).await?;
    Ok(found)
}

async fn table_there(
    context: &Context,
    entry: &Entry,
    (source, record): (&BigQueryRecord, &TableRecord),
    target: &TableId,
    limit: usize,
) -> Result<TableDiff, JobError> {
    let (schema, key) = columns(entry, record).await?;
    let mut found = TableDiff::of(target, record.row_count);
    let resource = match context.google.bigquery.get_table(target).await {
        Ok(resource) => resource,
        Err(Failure::NotFound { .. }) => {
            found.not_compared = not_compared(&schema);
            found.removed_rows = record.row_count;
            found.message = Some("is not there".into());
            return Ok(found);
        }
        Err(error) => return Err(error.into()),
    };
    found.table_rows = crate::plan::facts::count(&resource, "numRows");
    let common = match Schema::from_json(&resource["schema"]) {
        Ok(there) => Common::of(&schema, &there),
        Err(error) => {
            found.message = Some(error.to_string());
            return Ok(found);
        }
    };
    let filter = crate::plan::partitions::every_row(&resource);
    let b = There { context, table: target, location: &source.location, common: &common, filter };
    compare(&mut found, (&stored((entry, record), (&schema, &common))?, &b), &common, &key, limit).await?;
    Ok(found)
}

/// Finds the rows that one side has and the other has not.
async fn compare(
    found: &mut TableDiff,
    (a, b): (&dyn Side, &dyn Side),
    common: &Common,
    key: &[String],
    limit: usize,
) -> Result<(), Failure> {
    found.columns = common.changes.clone();
    found.not_compared = not_compared(&common.schema);
    if common.schema.fields.is_empty() {
        return Ok(());
    }
    let (table_rows, there) = b.buckets().await?;
    found.table_rows = table_rows;
    let (_, here) = a.buckets().await?;
    let (Some(here), Some(there)) = (here, there) else {
        // No column has a canonical form: counting is all there is.
        found.removed_rows = found.backup_rows.saturating_sub(found.table_rows);
        found.added_rows = found.table_rows.saturating_sub(found.backup_rows);
        return Ok(());
    };
    found.differing_buckets = here.differing(&there);
    let (mut removed, mut added) = (HashMap::new(), HashMap::new());
    let mut left = found.differing_buckets.as_slice();
    while !left.is_empty() && removed.len().max(added.len()) < limit.max(1) {
        let mut rows = 0;
        let few = left.iter().position(|at| {
            rows += here.get(*at).row_count + there.get(*at).row_count;
            rows > ROWS_AT_ONCE
        });
        let (now, later) = left.split_at(few.unwrap_or(left.len()).max(1));
        left = later;
        let before = a.hashes(now).await?;
        let after = b.hashes(now).await?;
        found.removed_rows += surplus(&before, &after, &mut removed);
        found.added_rows += surplus(&after, &before, &mut added);
    }
    found.complete = left.is_empty();
    // Pairs lie in different buckets: somewhat more rows are fetched than shown.
    let bound = limit.saturating_mul(4);
    let removed = a.rows(cut(removed, bound)).await?;
    let added = b.rows(cut(added, bound)).await?;
    found.rows = diff::pair(removed, added, key);
    found.rows.truncate(limit);
    Ok(())
}

/// How often each hash is there more often in `a` than in `b`; the sum of it.
fn surplus(a: &HashMap<i64, u64>, b: &HashMap<i64, u64>, into: &mut HashMap<i64, u64>) -> u64 {
    let mut sum = 0;
    for (hash, times) in a {
        let more = times.saturating_sub(b.get(hash).copied().unwrap_or(0));
        if more > 0 {
            into.insert(*hash, more);
            sum += more;
        }
    }
    sum
}

/// The first `bound` by hash: the same ones every time.
fn cut(hashes: HashMap<i64, u64>, bound: usize) -> HashMap<i64, u64> {
    let mut all: Vec<_> = hashes.into_iter().collect();
    all.sort_unstable();
    all.truncate(bound);
    all.into_iter().collect()
}

/// The declared primary key.
fn key(resource: &Value) -> Vec<String> {
    let columns = resource.pointer("/tableConstraints/primaryKey/columns").and_then(Value::as_array);
    columns.into_iter().flatten().filter_map(|column| column.as_str().map(String::from)).collect()
}
