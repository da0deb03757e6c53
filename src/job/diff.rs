//! Diff: the rows in which a table differs from a backup. Only buckets that differ are looked into.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde_json::Value;

use super::inspect::{self, TableReader};
use super::verify::{definition, format};
use super::{Context, JobError, copies, sealing};
use crate::catalog::Entry;
use crate::codec::CodecError;
use crate::codec::farm::farm_fingerprint;
use crate::codec::fingerprint::TableFingerprint;
use crate::codec::row_json::RowJson;
use crate::config::TableFormat;
use crate::google::bigquery::QueryOptions;
use crate::manifest::{BigQueryRecord, TableRecord};
use crate::model::schema::{Field, Mode, Schema};
use crate::model::{BackupName, Bucket, Buckets, DatasetId, Failure, Pattern, TableId, Totals};
use crate::plan::diff::{self, Row, RowDifference};
use crate::plan::figures;
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
    /// Why there are no rows to show: the table is gone.
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
        self.tables.iter().all(TableDiff::same)
    }
}

impl TableDiff {
    pub fn same(&self) -> bool {
        self.message.is_none()
            && self.columns.is_empty()
            && self.differing_buckets.is_empty()
            && self.backup_rows == self.table_rows
    }
}

/// Compares a backup with the tables that are there.
///
/// # Errors
/// When files or tables cannot be read; `NotFound` when no table of the backup is meant.
pub async fn run(context: &Context, entry: &Entry, request: &DiffRequest) -> Result<Diff, JobError> {
    let entry = &copies::readable(context, entry).await?;
    let meant = |table: &TableId| request.tables.is_empty() || request.tables.iter().any(|p| p.matches(table.table()));
    let all = entry.manifest.bigquery().flat_map(|source| source.tables.iter().map(move |table| (source, table)));
    let records: Vec<_> = all.filter(|(_, record)| meant(&record.table)).collect();
    if records.is_empty() {
        let names: Vec<&str> =
            entry.manifest.bigquery().flat_map(|s| &s.tables).map(|record| record.table.table()).collect();
        let message = match names.is_empty() {
            true => "holds no BigQuery tables; hint: a restore of a database or of files beside (--target-db, --to) compares".into(),
            false => format!("holds no such table; hint: it holds {}", names.join(", ")),
        };
        return Err(Failure::NotFound { object: entry.manifest.name.to_string(), message }.into());
    }
    let entry = &sealing::open(context, entry).await?;
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
        columns: vec![],
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
    let common = match Common::of(&schema, &resource["schema"]) {
        Ok(common) => common,
        Err(message) => {
            found.removed_rows = 0;
            found.message = Some(message);
            return Ok(found);
        }
    };
    found.columns = common.changes.clone();
    found.not_compared = not_compared(&common.schema);
    if schema.fields.is_empty() {
        found.removed_rows = 0;
        return Ok(found);
    }
    let filter = crate::plan::partitions::every_row(&resource);
    let location = source.location.as_str();
    let look = Look { context, entry, record, target, location, schema: &schema, common, filter, format };
    let there = look.figures().await?;
    found.table_rows = there.row_count;
    let Some(buckets) = buckets_of(&there) else {
        // No column has a canonical form: counting is all there is.
        found.removed_rows = record.row_count.saturating_sub(there.row_count);
        found.added_rows = there.row_count.saturating_sub(record.row_count);
        return Ok(found);
    };
    let stored = match record.proof.as_ref().filter(|_| !look.common.part).and_then(buckets_of) {
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

/// The columns that a backup and a table both have.
struct Common {
    /// In the backup's order.
    schema: Schema,
    /// How the others differ, and what differs besides values.
    changes: Vec<String>,
    /// They are not all columns of both, in the same order.
    part: bool,
}

impl Common {
    fn of(saved: &Schema, found: &Value) -> Result<Self, String> {
        let found = Schema::from_json(found).map_err(|error| error.to_string())?;
        let (mut kept, mut changes) = (Vec::new(), Vec::new());
        for field in &saved.fields {
            let (name, was) = (&field.name, field.sql_type());
            match found.fields.iter().find(|other| other.name == *name) {
                None => changes.push(format!("{name} ({was}) is gone")),
                Some(other) if !same_values(field, other) => {
                    changes.push(format!("{name} was {was}, is {}", other.sql_type()));
                }
                Some(other) => {
                    if other.sql_type() != was {
                        changes.push(format!("{name} was {was}, is {}", other.sql_type()));
                    } else if other.mode != field.mode {
                        let mode = |field: &Field| if field.mode == Mode::Required { "REQUIRED" } else { "NULLABLE" };
                        changes.push(format!("{name} was {}, is {}", mode(field), mode(other)));
                    }
                    kept.push(field.clone());
                }
            }
        }
        let known = |field: &&Field| saved.fields.iter().any(|other| other.name == field.name);
        changes
            .extend(found.fields.iter().filter(|f| !known(f)).map(|f| format!("{} ({}) is new", f.name, f.sql_type())));
        let there = found.fields.iter().filter(|field| kept.iter().any(|kept| kept.name == field.name));
        let ordered = there.map(|field| &field.name).eq(kept.iter().map(|field| &field.name));
        if !ordered {
            changes.push("order is another".into());
        }
        let part = !ordered || kept.len() != saved.fields.len() || kept.len() != found.fields.len();
        Ok(Self { schema: Schema::new(kept), changes, part })
    }
}

/// Whether values of the two columns are written alike: parameters and REQUIRED do not matter for that.
fn same_values(a: &Field, b: &Field) -> bool {
    a.name == b.name
        && a.kind == b.kind
        && a.range_element == b.range_element
        && (a.mode == Mode::Repeated) == (b.mode == Mode::Repeated)
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|(a, b)| same_values(a, b))
}

/// One table's two sides: the files and what BigQuery holds.
struct Look<'a> {
    context: &'a Context,
    entry: &'a Entry,
    record: &'a TableRecord,
    target: &'a TableId,
    location: &'a str,
    /// Of the backup.
    schema: &'a Schema,
    common: Common,
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
        let schema = &self.common.schema;
        let sql = proof::sql_of(self.target, (schema, self.row_sql().as_deref()), &self.filter);
        inspect::totals(self.target, schema, &self.query(&sql, 1).await?)
    }

    /// A row of the table as it is compared.
    fn row_sql(&self) -> Option<String> {
        let schema = &self.common.schema;
        if self.common.part { proof::columns_sql(schema) } else { proof::row_sql(schema) }
    }

    fn row(&self) -> String {
        self.row_sql().unwrap_or_else(|| "''".into())
    }

    /// Of a backup that was taken without fingerprints, or of some of its columns.
    async fn stored_buckets(&self) -> Result<Buckets, Failure> {
        if self.common.part {
            let take = |rows: &mut TableFingerprint, hash: i64, _: &[u8]| rows.add_hash(hash);
            let rows = self.scan(TableFingerprint::new(), take).await?;
            let by_byte = rows.buckets().iter().enumerate();
            return Ok(Buckets::new(
                by_byte.map(|(at, rows)| (at as u8, Bucket { row_count: rows.count, sum: rows.sum })),
            ));
        }
        let mut reader = TableReader::new(self.schema, self.format);
        for object in &self.record.objects {
            reader.read(self.entry.store.as_ref(), &object.key).await?;
        }
        Ok(buckets_of(&reader.finish()).unwrap_or_else(Buckets::empty))
    }

    /// How often each hash of some buckets is in the table.
    async fn hashes(&self, buckets: &[u8]) -> Result<HashMap<i64, u64>, Failure> {
        let result =
            self.query(&proof::hashes_sql(self.target, &self.row(), &self.filter, buckets), usize::MAX).await?;
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
            let result = self.query(&proof::rows_sql(self.target, &self.row(), &self.filter, some), usize::MAX).await?;
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
        let compared = proof::fingerprinted(&self.common.schema).unwrap_or_default();
        let names: Vec<&String> = compared.iter().map(|at| &self.common.schema.fields[*at].name).collect();
        let columns = (0..self.schema.fields.len()).filter(|at| names.contains(&&self.schema.fields[*at].name));
        let columns: Vec<usize> = columns.collect();
        for object in &self.record.objects {
            let (take, columns) = (take.clone(), columns.clone());
            let of_batch = move |state: &mut T, batch: RecordBatch| -> Result<(), CodecError> {
                let rows = RowJson::new(&figures::project(&batch, &columns)?)?;
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
