//! Diff: the rows in which a table differs from a backup. Only buckets that differ are looked into.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde_json::Value;

use super::inspect::{self, TableReader};
use super::verify::{definition, format};
use super::{Context, JobError};
use crate::catalog::Entry;
use crate::codec::CodecError;
use crate::codec::farm::farm_fingerprint;
use crate::codec::row_json::RowJson;
use crate::config::TableFormat;
use crate::google::bigquery::QueryOptions;
use crate::manifest::{BigQueryRecord, TableRecord};
use crate::model::schema::{Field, Schema};
use crate::model::{BackupName, Buckets, DatasetId, Failure, Pattern, TableId, Totals};
use crate::plan::diff::{self, Row, RowDifference};
use crate::plan::proof;

/// Rows of so many are looked into at once: their hashes are held in memory.
const ROWS_AT_ONCE: u64 = 1_000_000;

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffRequest {
    /// Empty: every table.
    pub tables: Vec<Pattern>,
    /// Instead of the dataset that was backed up.
    pub dataset: Option<DatasetId>,
    /// At most so many rows are shown of each table.
    pub limit: usize,
}

/// How the tables of a backup compare with what is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    pub backup: BackupName,
    pub tables: Vec<TableDiff>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableDiff {
    pub table: TableId,
    /// Rows in the backup, and in the table.
    pub backup_rows: u64,
    pub table_rows: u64,
    /// Why there are no rows to show: the table is gone, its columns are others.
    pub message: Option<String>,
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
        self.tables.iter().all(TableDiff::same)
    }
}

impl TableDiff {
    pub fn same(&self) -> bool {
        self.message.is_none() && self.differing_buckets.is_empty() && self.backup_rows == self.table_rows
    }
}

/// Compares a backup with the tables that are there.
///
/// # Errors
/// When files or tables cannot be read; `NotFound` when no table of the backup is meant.
pub async fn run(context: &Context, entry: &Entry, request: &DiffRequest) -> Result<Diff, JobError> {
    let meant = |table: &TableId| request.tables.is_empty() || request.tables.iter().any(|p| p.matches(table.table()));
    let all = entry.manifest.bigquery().flat_map(|source| source.tables.iter().map(move |table| (source, table)));
    let records: Vec<_> = all.filter(|(_, record)| meant(&record.table)).collect();
    if records.is_empty() {
        let names: Vec<&str> =
            entry.manifest.bigquery().flat_map(|s| &s.tables).map(|record| record.table.table()).collect();
        let message = format!("holds no such table; hint: it holds {}", names.join(", "));
        return Err(Failure::NotFound { object: entry.manifest.name.to_string(), message }.into());
    }
    let mut tables = Vec::new();
    for (n, (source, record)) in records.iter().enumerate() {
        let target = match &request.dataset {
            Some(dataset) => dataset
                .table(record.table.table())
                .map_err(|error| Failure::Invalid { object: dataset.to_string(), message: error.to_string() })?,
            None => record.table.clone(),
        };
        tables.push(table(context, entry, (source, record), &target, request.limit).await?);
        context.observer.progress("diff", n + 1, records.len(), record.table.table());
    }
    Ok(Diff { backup: entry.manifest.name.clone(), tables })
}

async fn table(
    context: &Context,
    entry: &Entry,
    (source, record): (&BigQueryRecord, &TableRecord),
    target: &TableId,
    limit: usize,
) -> Result<TableDiff, JobError> {
    let corrupt = |message: String| Failure::Corrupt { object: record.table.to_string(), message };
    let saved = definition(entry, &record.meta).await?;
    let schema = Schema::from_json(&saved.schema()).map_err(|error| corrupt(error.to_string()))?;
    let format = format(record).ok_or_else(|| corrupt(format!("the format '{}' is not known", record.format)))?;
    let mut found = TableDiff {
        table: target.clone(),
        backup_rows: record.row_count,
        table_rows: 0,
        message: None,
        differing_buckets: vec![],
        removed_rows: record.row_count,
        added_rows: 0,
        complete: true,
        rows: vec![],
        not_compared: not_compared(&schema),
    };
    let resource = match context.google.bigquery.get_table(target).await {
        Ok(resource) => resource,
        Err(Failure::NotFound { .. }) => {
            found.message = Some("is not there".into());
            return Ok(found);
        }
        Err(error) => return Err(error.into()),
    };
    found.table_rows = crate::plan::facts::count(&resource, "numRows");
    if let Some(message) = other_columns(&schema, &resource["schema"]) {
        found.removed_rows = 0;
        found.message = Some(message);
        return Ok(found);
    }
    if schema.fields.is_empty() {
        found.removed_rows = 0;
        return Ok(found);
    }
    let filter = crate::plan::partitions::every_row(&resource);
    let look = Look { context, entry, record, target, location: &source.location, schema: &schema, filter, format };
    let there = look.figures().await?;
    found.table_rows = there.row_count;
    let Some(buckets) = buckets_of(&there) else {
        // No column has a canonical form: counting is all there is.
        found.removed_rows = record.row_count.saturating_sub(there.row_count);
        found.added_rows = there.row_count.saturating_sub(record.row_count);
        return Ok(found);
    };
    let stored = match record.proof.as_ref().and_then(buckets_of) {
        Some(stored) => stored,
        None => look.stored_buckets().await?,
    };
    found.differing_buckets = stored.differing(&buckets);
    (found.removed_rows, found.added_rows) = (0, 0);
    let (mut removed, mut added) = (HashMap::new(), HashMap::new());
    let mut left = found.differing_buckets.as_slice();
    while !left.is_empty() && removed.len().max(added.len()) < limit.max(1) {
        let mut rows = 0;
        let few = left.iter().position(|at| {
            rows += stored.get(*at).row_count + buckets.get(*at).row_count;
            rows > ROWS_AT_ONCE
        });
        let (now, later) = left.split_at(few.unwrap_or(left.len()).max(1));
        left = later;
        let before = look.stored_hashes(now).await?;
        let after = look.hashes(now).await?;
        found.removed_rows += surplus(&before, &after, &mut removed);
        found.added_rows += surplus(&after, &before, &mut added);
    }
    found.complete = left.is_empty();
    // Pairs lie in different buckets: somewhat more rows are fetched than shown.
    let bound = limit.saturating_mul(4);
    let removed = look.stored_rows(cut(removed, bound)).await?;
    let added = look.rows(cut(added, bound)).await?;
    found.rows = diff::pair(removed, added, &key(&saved.resource));
    found.rows.truncate(limit);
    Ok(found)
}

fn buckets_of(totals: &Totals) -> Option<Buckets> {
    totals.fingerprint.as_ref().and_then(|fingerprint| fingerprint.buckets.clone())
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

fn not_compared(schema: &Schema) -> Vec<String> {
    let kept = proof::fingerprinted(schema).unwrap_or_default();
    let left = schema.fields.iter().enumerate().filter(|(at, _)| !kept.contains(at));
    left.map(|(_, field)| field.name.clone()).collect()
}

/// In what the columns differ, as far as it touches their values.
fn other_columns(saved: &Schema, found: &Value) -> Option<String> {
    fn shape(fields: &[Field]) -> Vec<String> {
        let one = |field: &Field| format!("{} {} {:?}", field.name, field.sql_type(), field.mode);
        fields.iter().flat_map(|field| std::iter::once(one(field)).chain(shape(&field.fields))).collect()
    }
    let found = match Schema::from_json(found) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let (before, after) = (shape(&saved.fields), shape(&found.fields));
    let lost = before.iter().find(|column| !after.contains(column));
    let new = after.iter().find(|column| !before.contains(column));
    let text = match (lost, new) {
        (Some(lost), Some(new)) => format!("the backup has '{lost}', the table '{new}'"),
        (Some(lost), None) => format!("the table lacks '{lost}'"),
        (None, Some(new)) => format!("the table has '{new}' as well"),
        (None, None) if before != after => "they are in another order".into(),
        (None, None) => return None,
    };
    Some(format!("its columns are others ({text}); hint: restore --into a scratch dataset and compare by SQL"))
}

/// One table's two sides: the files and what BigQuery holds.
struct Look<'a> {
    context: &'a Context,
    entry: &'a Entry,
    record: &'a TableRecord,
    target: &'a TableId,
    location: &'a str,
    schema: &'a Schema,
    /// What the table's partitions ask of a query.
    filter: String,
    format: TableFormat,
}

impl Look<'_> {
    async fn query(&self, sql: &str, max_rows: usize) -> Result<crate::google::bigquery::QueryResult, Failure> {
        let options = QueryOptions { location: Some(self.location.into()), max_rows, ..QueryOptions::default() };
        self.context.google.bigquery.query(self.target.project(), sql, &options).await
    }

    async fn figures(&self) -> Result<Totals, Failure> {
        let result = self.query(&proof::sql(self.target, self.schema, &self.filter), 1).await?;
        inspect::totals(self.target, self.schema, &result)
    }

    /// Of a backup that was taken without fingerprints.
    async fn stored_buckets(&self) -> Result<Buckets, Failure> {
        let mut reader = TableReader::new(self.schema, self.format);
        for object in &self.record.objects {
            reader.read(self.entry.store.as_ref(), &object.key).await?;
        }
        Ok(buckets_of(&reader.finish()).unwrap_or_else(Buckets::empty))
    }

    /// How often each hash of some buckets is in the table.
    async fn hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure> {
        let result =
            self.query(&proof::hashes_sql(self.target, self.schema, &self.filter, buckets), usize::MAX).await?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
        let pairs = result.rows.iter().map(|row| Some((number(row.first()?)?, number(row.get(1)?)? as u64)));
        pairs.collect::<Option<_>>().ok_or_else(|| self.odd())
    }

    async fn stored_hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure> {
        let mut wanted = [false; Buckets::COUNT];
        buckets.iter().for_each(|at| wanted[usize::from(*at)] = true);
        let hashes = HashMap::new();
        self.scan(hashes, move |hashes: &mut HashMap<i64, u64>, hash, _| {
            if wanted[usize::from(hash as u8)] {
                *hashes.entry(hash).or_default() += 1;
            }
        })
        .await
    }

    /// The rows of some hashes, with how often they are meant.
    async fn rows(&self, wanted: HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure> {
        let mut rows = HashMap::new();
        // A query's text is bounded by BigQuery.
        let mut hashes: Vec<i64> = wanted.keys().copied().collect();
        hashes.sort_unstable();
        for some in hashes.chunks(1000) {
            let result = self.query(&proof::rows_sql(self.target, self.schema, &self.filter, some), usize::MAX).await?;
            for row in &result.rows {
                let text = |at: usize| row.get(at).and_then(Value::as_str);
                let hash = text(0).and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| self.odd())?;
                rows.insert(hash, text(1).ok_or_else(|| self.odd())?.as_bytes().to_vec());
            }
        }
        self.parsed(rows, &wanted)
    }

    async fn stored_rows(&self, wanted: HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure> {
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let held = wanted.clone();
        let rows = self
            .scan(HashMap::new(), move |rows: &mut HashMap<i64, Vec<u8>>, hash, json: &[u8]| {
                if held.contains_key(&hash) {
                    rows.entry(hash).or_insert_with(|| json.to_vec());
                }
            })
            .await?;
        self.parsed(rows, &wanted)
    }

    fn parsed(&self, rows: HashMap<i64, Vec<u8>>, wanted: &HashMap<i64, u64>) -> Result<Vec<(Row, u64)>, Failure> {
        let mut parsed = Vec::new();
        for (hash, json) in rows {
            let row: Row = serde_json::from_slice(&json).map_err(|_| self.odd())?;
            parsed.push((hash, row, wanted.get(&hash).copied().unwrap_or(1)));
        }
        parsed.sort_by_key(|(hash, ..)| *hash);
        Ok(parsed.into_iter().map(|(_, row, times)| (row, times)).collect())
    }

    /// Shows every row of the files, as hash and JSON.
    async fn scan<T: Send + 'static>(
        &self,
        mut state: T,
        take: impl Fn(&mut T, i64, &[u8]) + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let columns = proof::fingerprinted(self.schema).unwrap_or_default();
        for object in &self.record.objects {
            let (take, columns) = (take.clone(), columns.clone());
            let of_batch = move |state: &mut T, batch: RecordBatch| -> Result<(), CodecError> {
                let rows = RowJson::new(&inspect::project(&batch, &columns)?)?;
                let mut text = Vec::new();
                for row in 0..batch.num_rows() {
                    text.clear();
                    rows.write(row, &mut text);
                    take(state, farm_fingerprint(&text), &text);
                }
                Ok(())
            };
            let store = self.entry.store.as_ref();
            state = inspect::scan(store, &object.key, (self.schema, self.format), state, of_batch).await?;
        }
        Ok(state)
    }

    fn odd(&self) -> Failure {
        let message = "the query of its rows gave something else".into();
        Failure::Corrupt { object: self.target.to_string(), message }
    }
}
