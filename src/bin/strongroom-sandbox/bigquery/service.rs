//! The BigQuery service's state and what all its calls share: finding records, reading rows, committing contents.
//!
//! Calls that read or write rows block; they run in `spawn_blocking` or in jobs.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field as ArrowField, SchemaRef};
use serde_json::{Map, Value};
use strongroom::codec::arrow_schema::arrow_schema;
use strongroom::model::schema::{Field, FieldType, Schema};

use super::contents::{Contents, DataFile};
use super::jobs::Board;
use super::names::{At, Decorated, TableRef};
use super::partition::{INGESTION, Partitioning};
use super::registry::{self, DatasetRecord, Moment, TIME_TRAVEL_MS, TableRecord};
use super::tabledata::RecentInserts;
use super::upload::Uploads;
use super::{Settings, schema};
use crate::core::{ApiError, Sandbox};
use crate::storage::objects::Objects;

/// The name of datasets that only hold results of queries begins like this.
pub const HIDDEN: &str = "_results";

/// How often data files that nothing names are removed; also how old they must be.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The service. Cheap to share as `Arc<BigQuery>`.
pub struct BigQuery {
    pub sandbox: Arc<Sandbox>,
    pub contents: Contents,
    pub objects: Objects,
    pub board: Board,
    pub uploads: Uploads,
    pub settings: Settings,
    /// Held by jobs that may change rows by DML.
    pub dml: tokio::sync::Mutex<()>,
    pub recent: RecentInserts,
}

impl BigQuery {
    /// Opens the state below the data directory and ends the jobs that the last run left unfinished.
    ///
    /// # Errors
    /// When the directory or the database fails.
    pub fn open(sandbox: &Arc<Sandbox>) -> Result<Arc<Self>, ApiError> {
        let dir = sandbox.dir.join("bigquery");
        let service = Self {
            sandbox: sandbox.clone(),
            contents: Contents::open(dir.join("data"))?,
            objects: Objects::new(sandbox),
            board: Board::default(),
            uploads: Uploads::open(dir.join("uploads"))?,
            settings: sandbox.options.bigquery.clone(),
            dml: tokio::sync::Mutex::default(),
            recent: RecentInserts::default(),
        };
        super::jobs::end_unfinished(&service)?;
        service.sweep(Duration::ZERO)?;
        Ok(Arc::new(service))
    }

    /// Buries expired tables and removes data files that nothing names any more.
    ///
    /// # Errors
    /// When the database or the directory fails.
    pub fn sweep(&self, grace: Duration) -> Result<(), ApiError> {
        registry::bury_expired(&self.sandbox.db, self.now_ms())?;
        let live = registry::live_files(&self.sandbox.db, self.now_ms())?;
        self.contents.sweep(&live, grace)?;
        Ok(())
    }

    /// Sweeps now and then, as long as the service is in use.
    pub fn keep_sweeping(self: &Arc<Self>) {
        let service = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(service) = service.upgrade() else { return };
                if let Err(e) = super::http::blocking(&service, |s| s.sweep(SWEEP_EVERY)).await {
                    tracing::warn!("data files could not be swept: {e}");
                }
            }
        });
    }

    pub fn now_us(&self) -> i64 {
        self.sandbox.clock.now_us()
    }

    pub fn now_ms(&self) -> i64 {
        self.sandbox.clock.now_ms()
    }

    /// # Errors
    /// `notFound` with Google's message.
    pub fn dataset(&self, project: &str, id: &str) -> Result<DatasetRecord, ApiError> {
        registry::dataset(&self.sandbox.db, project, id)?
            .ok_or_else(|| ApiError::not_found(format!("Not found: Dataset {project}:{id}")))
    }

    /// The table, unless it has expired.
    ///
    /// # Errors
    /// `notFound` with Google's message, for the dataset or the table.
    pub fn table(&self, table: &TableRef) -> Result<TableRecord, ApiError> {
        let found = registry::table(&self.sandbox.db, table)?;
        let now = self.now_ms();
        match found.filter(|r| r.expires_ms().is_none_or(|ms| ms > now)) {
            Some(record) => Ok(record),
            None => {
                self.dataset(&table.project, &table.dataset)?;
                Err(ApiError::not_found(format!("Not found: Table {table}")))
            }
        }
    }

    /// The table, if it exists and has not expired.
    ///
    /// # Errors
    /// `notFound` when its dataset does not exist.
    pub fn find_table(&self, table: &TableRef) -> Result<Option<TableRecord>, ApiError> {
        match self.table(table) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.code == 404 && error.message.contains("Table") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A table as it is or, by its decorator, was; deleted tables are found within time travel.
    ///
    /// # Errors
    /// `notFound`, or `invalid` for an instant that cannot be read.
    pub fn table_at(&self, source: &Decorated) -> Result<(TableRecord, Moment), ApiError> {
        let now_us = self.now_us();
        let table = &source.table;
        let Some(at) = source.at else {
            let record = self.table(table)?;
            let moment = record.current(now_us);
            return Ok((record, moment));
        };
        let window = self.dataset(&table.project, &table.dataset).map_or(TIME_TRAVEL_MS, |d| d.time_travel_ms());
        let at_us = registry::instant_us(at, table, now_us, window)?;
        let live = self.find_table(table)?;
        if let Some(record) = &live {
            if let Some(moment) = record.moment(at_us) {
                return Ok((record.clone(), moment));
            }
            if at == At::Oldest {
                let first = record.versions.first().map_or(now_us, |v| v.us);
                if let Some(moment) = record.moment(first) {
                    return Ok((record.clone(), moment));
                }
            }
        }
        let at_ms = at_us.div_euclid(1000);
        let horizon = self.now_ms() - TIME_TRAVEL_MS;
        for mut stone in registry::tombstones(&self.sandbox.db, table)?.into_iter().rev() {
            if stone.deleted_ms < horizon || stone.deleted_ms < at_ms || stone.record.created_ms > at_ms {
                continue;
            }
            if let Some(moment) = stone.record.moment(at_us) {
                stone.record.resource.remove("expirationTime");
                return Ok((stone.record, moment));
            }
        }
        match live {
            Some(record) => {
                let created = record.created_ms;
                Err(ApiError::invalid(format!(
                    "Invalid snapshot time {at_ms} for Table {table}@{at_ms}. Cannot read before {created}."
                )))
            }
            None => Err(ApiError::not_found(format!("Not found: Table {table}"))),
        }
    }

    /// The rows of a moment, in the columns of its schema (and, where stored, the ingestion time as the last one).
    ///
    /// # Errors
    /// When a data file cannot be read.
    pub fn rows(&self, moment: &Moment, ingestion_time: bool) -> Result<Vec<RecordBatch>, ApiError> {
        let schema = schema::parse(&moment.schema)?;
        let wanted = stored_schema(&schema, ingestion_time);
        let mut out = vec![];
        for (file, _) in &moment.files {
            for batch in self.contents.read(file)?.iter() {
                out.push(adapt(batch, &wanted)?);
            }
        }
        Ok(out)
    }

    /// Writes batches of a table's stored schema as one data file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_rows(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<DataFile>, ApiError> {
        Ok(self.contents.write(schema, batches)?.into_iter().collect())
    }

    /// `{base}/bigquery/v2/projects/{rest}`.
    pub fn self_link(&self, rest: &str) -> String {
        format!("{}/bigquery/v2/projects/{rest}", self.sandbox.base_url())
    }
}

/// How a table is partitioned, from its resource.
///
/// # Errors
/// `invalid` when the specification is incomplete.
pub fn partitioning(resource: &Map<String, Value>) -> Result<Option<Partitioning>, ApiError> {
    let part = |key: &str| (key.to_owned(), resource.get(key).cloned().unwrap_or(Value::Null));
    Partitioning::of(&Value::Object([part("timePartitioning"), part("rangePartitioning")].into_iter().collect()))
}

/// The Arrow schema in which a table's rows are stored.
pub fn stored_schema(schema: &Schema, ingestion_time: bool) -> SchemaRef {
    if !ingestion_time {
        return arrow_schema(schema);
    }
    let mut fields = schema.fields.clone();
    fields.push(Field::nullable(INGESTION, FieldType::Timestamp));
    arrow_schema(&Schema::new(fields))
}

/// Puts a batch into another schema: columns by name, missing ones null or empty, types as they are.
///
/// # Errors
/// When a column has changed its type.
pub fn adapt(batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, ApiError> {
    if batch.schema() == *wanted {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let have = batch.schema();
    let columns = wanted
        .fields()
        .iter()
        .map(|field| {
            let at = have.fields().iter().position(|f| f.name() == field.name());
            let at = at.or_else(|| have.fields().iter().position(|f| f.name().eq_ignore_ascii_case(field.name())));
            match at {
                Some(i) => adapt_array(batch.column(i), field),
                None => Ok(empty_column(field, rows)),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options)
        .map_err(|e| ApiError::internal(format!("stored rows do not fit the table's schema: {e}")))
}

fn empty_column(field: &ArrowField, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::List(item) => {
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows));
            Arc::new(ListArray::new(item.clone(), offsets, arrow::array::new_empty_array(item.data_type()), None))
        }
        other => new_null_array(other, rows),
    }
}

fn adapt_array(array: &ArrayRef, field: &ArrowField) -> Result<ArrayRef, ApiError> {
    let failed = |e: &dyn std::fmt::Display| ApiError::internal(format!("column {}: {e}", field.name()));
    match (array.data_type(), field.data_type()) {
        (a, b) if a == b && !(matches!(b, DataType::List(_)) && array.null_count() > 0) => Ok(array.clone()),
        (DataType::Struct(have), DataType::Struct(want)) => {
            let record = array.as_struct();
            let columns = want
                .iter()
                .map(|f| match have.iter().position(|h| h.name().eq_ignore_ascii_case(f.name())) {
                    Some(i) => adapt_array(record.column(i), f),
                    None => Ok(empty_column(f, array.len())),
                })
                .collect::<Result<Vec<_>, _>>()?;
            let nulls: Option<NullBuffer> = record.nulls().cloned();
            Ok(Arc::new(
                StructArray::try_new_with_length(want.clone(), columns, nulls, array.len()).map_err(|e| failed(&e))?,
            ))
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            if list.null_count() > 0 {
                return without_nulls(list, field, item);
            }
            let values = adapt_array(list.values(), item)?;
            let made = ListArray::try_new(item.clone(), list.offsets().clone(), values, None);
            Ok(Arc::new(made.map_err(|e| failed(&e))?))
        }
        (_, wanted) => arrow::compute::cast(array, wanted).map_err(|e| failed(&e)),
    }
}

/// A null array is an empty one as soon as it is stored.
fn without_nulls(list: &ListArray, field: &ArrowField, item: &Arc<ArrowField>) -> Result<ArrayRef, ApiError> {
    let failed = |e: arrow::error::ArrowError| ApiError::internal(format!("column {}: {e}", field.name()));
    let mut lengths = Vec::with_capacity(list.len());
    let mut kept: Vec<u64> = vec![];
    for row in 0..list.len() {
        let range = if list.is_null(row) { 0..0 } else { list.value_offsets()[row]..list.value_offsets()[row + 1] };
        lengths.push(range.len());
        kept.extend(range.map(|i| u64::try_from(i).unwrap_or(0)));
    }
    let values = arrow::compute::take(list.values(), &arrow::array::UInt64Array::from(kept), None).map_err(failed)?;
    let values = adapt_array(&values, item)?;
    let made = ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, None);
    Ok(Arc::new(made.map_err(failed)?))
}

/// The rows of batches that are (or are not) in one partition.
///
/// # Errors
/// When the deciding column cannot partition.
pub fn keep_partition(
    batches: &[RecordBatch],
    partitioning: &Partitioning,
    key: super::partition::Key,
    keep: bool,
) -> Result<Vec<RecordBatch>, ApiError> {
    batches
        .iter()
        .map(|batch| {
            let mask = partitioning.mask(batch, key, keep)?;
            filter_record_batch(batch, &mask).map_err(|e| ApiError::internal(e.to_string()))
        })
        .collect()
}

/// A short opaque tag of a JSON value.
pub fn etag(value: &Value) -> String {
    use base64::Engine;
    use std::hash::{DefaultHasher, Hash, Hasher};
    let text = value.to_string();
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        text.hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    base64::engine::general_purpose::STANDARD.encode([hash(0), hash(1)].concat())
}

/// Merges a patch into a resource: null removes, objects merge, everything else replaces (RFC 7396).
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(members) = target {
        for (key, value) in changes {
            if value.is_null() {
                members.shift_remove(key);
            } else {
                merge_patch(members.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Removes nulls at the top and inside objects, which clients send for what they leave out.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, v| !v.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Checks `If-Match` against an etag.
///
/// # Errors
/// 412 when it names another one.
pub fn check_etag(if_match: Option<&str>, current: &str) -> Result<(), ApiError> {
    match if_match.map(|t| t.trim().trim_start_matches("W/").trim_matches('"')) {
        None | Some("" | "*") => Ok(()),
        Some(wanted) if wanted == current => Ok(()),
        Some(_) => Err(ApiError::precondition("Precondition Failed: the resource has been changed since it was read.")),
    }
}
