//! Load jobs: objects or an uploaded file into a table, all or nothing.
//!
//! Reading files is `super::super::files`; here are the sources, the schema that wins, and what becomes of the table.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value, json};

use super::super::defaults;
use super::super::files::{self, Format, Input, ReadOptions};
use super::super::names::{Decorated, TableRef};
use super::super::partition::{INGESTION, Key, MAX_PER_JOB, Partitioning};
use super::super::registry::{Change, DatasetRecord, TableRecord, change_table};
use super::super::schema;
use super::super::service::{BigQuery, adapt, keep_partition, partitioning, stored_schema};
use super::super::tables;
use super::copy::{Write, may_create};
use super::{Context, JobFailure, Success};
use crate::core::ApiError;

/// Runs the job.
///
/// # Errors
/// How the job failed.
pub async fn run(context: Context) -> Result<Success, JobFailure> {
    tokio::task::spawn_blocking(move || load(&context))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(500, "internalError", format!("the load broke off: {e}")).into()))
}

/// The table that a job writes rows to, as it was found.
pub struct Target {
    pub table: Decorated,
    pub owner: DatasetRecord,
    pub before: Option<TableRecord>,
    pub write: Write,
}

/// Puts rows into a table as a load job with an explicit schema does; how many rows and bytes there were.
///
/// # Errors
/// `duplicate`, `invalid` with Google's messages.
pub fn commit(
    service: &Arc<BigQuery>,
    load: &Value,
    target: &Target,
    schema: Value,
    batches: Vec<RecordBatch>,
) -> Result<(u64, u64), ApiError> {
    check_target(target, service)?;
    Commit { service, load, target, schema }.perform(batches)
}

fn load(context: &Context) -> Result<Success, JobFailure> {
    let service = &context.service;
    let load = &context.configuration["load"];
    let table = TableRef::from_json(&load["destinationTable"], &context.project, "destinationTable")?;
    let owner = service.dataset(&table.table.project, &table.table.dataset)?;
    let before = service.find_table(&table.table)?;
    let write = Write::of(load, Write::Append)?;
    if before.is_none() && !may_create(load)? {
        return Err(ApiError::not_found(format!("Not found: Table {}", table.table)).into());
    }
    let target = Target { table, owner, before, write };
    check_target(&target, service)?;

    let format = Format::of(load["sourceFormat"].as_str().unwrap_or_default())?;
    let inputs = inputs(context, load, &target.owner)?;
    let given = load.get("schema").map(schema::canonical).filter(|s| !s["fields"].as_array().is_none_or(Vec::is_empty));
    let existing = target.before.as_ref().map(TableRecord::schema).filter(|s| !schema_is_empty(s));
    let autodetect = load["autodetect"].as_bool().unwrap_or(false);
    let configured = match (&given, &existing) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(existing)) if !(autodetect && write == Write::Truncate) => Some(existing.clone()),
        _ => None,
    };
    let schema = configured.as_ref().map(schema::parse).transpose()?;
    let options = ReadOptions::of(load)?;
    let input_bytes: u64 = inputs.iter().map(|i| i.bytes).sum();
    let input_files = inputs.len();
    let columnar = matches!(format, Format::Avro | Format::Parquet);
    if schema.is_none() && !columnar && !autodetect {
        return Err(ApiError::invalid("No schema specified on job or table.").into());
    }
    // A schema that the job does not give is a wish for these formats: their files have one of their own.
    let wanted = if columnar && given.is_none() { None } else { schema.as_ref() };
    let hints = schema.as_ref();
    let read = files::read_all(format, &inputs, wanted, hints, &options, &|| context.check())?;
    context.check()?;

    let file_schema = schema::canonical(&read.schema.to_json());
    let result = match &given {
        Some(given) => given.clone(),
        None if columnar => match &existing {
            Some(existing) if write != Write::Truncate => grown(existing, &file_schema),
            _ => file_schema,
        },
        None => configured.unwrap_or(file_schema),
    };
    let (rows, bytes) = Commit { service, load, target: &target, schema: result }.perform(read.batches)?;
    let mut statistics = Map::new();
    statistics.insert(
        "load".into(),
        json!({"inputFiles": input_files.to_string(), "inputFileBytes": input_bytes.to_string(),
            "outputRows": rows.to_string(), "outputBytes": bytes.to_string(), "badRecords": read.bad_records.len().to_string()}),
    );
    Ok(Success { statistics, warnings: read.bad_records, ..Success::default() })
}

fn schema_is_empty(schema: &Value) -> bool {
    schema["fields"].as_array().is_none_or(Vec::is_empty)
}

/// The table's schema with the file's further columns, all nullable; whether that is allowed is checked at the commit.
fn grown(existing: &Value, file: &Value) -> Value {
    let mut out = existing.clone();
    let known = |name: &str| {
        existing["fields"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|f| f["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    };
    let more: Vec<Value> = file["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|f| !known(f["name"].as_str().unwrap_or_default()))
        .cloned()
        .collect();
    if let Some(fields) = out["fields"].as_array_mut() {
        fields.extend(more);
    }
    out
}

fn check_target(target: &Target, service: &BigQuery) -> Result<(), ApiError> {
    let table = &target.table.table;
    let Some(before) = &target.before else { return Ok(()) };
    match before.kind() {
        "TABLE" => {}
        "SNAPSHOT" => {
            return Err(ApiError::invalid(format!("Cannot write to table snapshot {table}: snapshots are read-only.")));
        }
        kind => {
            return Err(ApiError::invalid(format!(
                "{table} is not allowed for this operation because it is currently a {kind}."
            )));
        }
    }
    let rows = before.current(service.now_us()).rows();
    if target.write == Write::Empty && rows > 0 && target.table.partition.is_none() {
        return Err(ApiError::duplicate(format!("Already Exists: Table {table}")));
    }
    Ok(())
}

fn inputs(context: &Context, load: &Value, owner: &DatasetRecord) -> Result<Vec<Input>, ApiError> {
    if let Some(path) = &context.upload {
        let bytes = std::fs::metadata(path)?.len();
        return Ok(vec![Input { name: "file-00000000".into(), file: File::open(path)?, bytes }]);
    }
    let uris: Vec<&str> = load["sourceUris"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if uris.is_empty() {
        return Err(ApiError::required("Required parameter is missing: sourceUris"));
    }
    let objects = &context.service.objects;
    let mut seen = HashSet::new();
    let mut out = vec![];
    for uri in uris {
        let bucket = uri.strip_prefix("gs://").and_then(|u| u.split('/').next()).unwrap_or_default();
        super::extract::check_bucket_location(&context.service, bucket, owner.location(), super::extract::Way::Read)?;
        let found = objects.expand(uri)?;
        if found.is_empty() {
            return Err(ApiError::not_found(format!("Not found: URI {uri}")));
        }
        for object in found {
            let name = format!("gs://{}/{}", object.bucket, object.name);
            if seen.insert(name.clone()) {
                out.push(Input { name, file: objects.open(&object)?, bytes: object.size_bytes });
            }
        }
    }
    if out.len() > 10_000 {
        return Err(ApiError::invalid(format!("Too many source files: {}, the maximum is 10000", out.len())));
    }
    Ok(out)
}

/// The last step of a load: rows that were read become a version of the table.
struct Commit<'a> {
    service: &'a Arc<BigQuery>,
    load: &'a Value,
    target: &'a Target,
    schema: Value,
}

impl Commit<'_> {
    fn perform(&self, batches: Vec<RecordBatch>) -> Result<(u64, u64), ApiError> {
        let table = &self.target.table.table;
        schema::parse(&self.schema)?;
        let (resource, final_schema) = match &self.target.before {
            None => {
                let resource = self.new_resource()?;
                (resource, self.schema.clone())
            }
            Some(before) => (before.resource.clone(), self.evolved(before)?),
        };
        let layout = partitioning(&resource)?;
        self.check_partitioning_spec(layout.as_ref())?;
        let ingestion = layout.as_ref().is_some_and(Partitioning::is_ingestion_time);
        let stored = stored_schema(&schema::parse(&final_schema)?, ingestion);
        let mut fitted = vec![];
        for batch in &batches {
            let batch = &self.with_defaults(batch, &final_schema)?;
            check_required(batch, &stored)?;
            fitted.push(adapt(batch, &stored)?);
        }
        let partition = self.target.table.partition.as_deref();
        let key = match (partition, &layout, &self.target.before) {
            (None, _, _) => None,
            (Some(id), Some(layout), _) => Some((id, layout.parse_id(&table.to_string(), id)?)),
            (Some(_), None, _) => {
                return Err(ApiError::invalid(format!(
                    "Cannot use a partition decorator: table {table} is not partitioned."
                )));
            }
        };
        if let (true, Some(Partitioning::Time { unit, .. })) = (ingestion, &layout) {
            let at = key.map_or(Key::Bucket(unit.floor(self.service.now_us())), |(_, key)| key);
            fitted = stamp(fitted, &stored, at)?;
        }
        if let Some(layout) = &layout {
            if let Some((id, key)) = key {
                check_partition(table, layout, key, id, &fitted)?;
            }
            check_partition_count(layout, &fitted)?;
        }
        match (&self.target.before, key, &layout) {
            (Some(_), Some((id, key)), Some(layout)) => self.write_partition(layout, key, id, fitted, &final_schema),
            _ => self.write_table(resource, final_schema, &stored, &fitted),
        }
    }

    /// Adds the columns that the job leaves out and that have a default value.
    fn with_defaults(&self, batch: &RecordBatch, schema: &Value) -> Result<RecordBatch, ApiError> {
        let have = batch.schema();
        let absent = |name: &str| !have.fields().iter().any(|f| f.name().eq_ignore_ascii_case(name));
        let missing: Vec<_> = defaults::of(schema).into_iter().filter(|(name, _)| absent(name)).collect();
        if missing.is_empty() {
            return Ok(batch.clone());
        }
        let computed = defaults::compute(self.service, &self.target.table.table.project, &missing, batch.num_rows())?;
        let failed = |e: arrow::error::ArrowError| ApiError::internal(e.to_string());
        let Some(first) = computed.first() else { return Ok(batch.clone()) };
        let computed = arrow::compute::concat_batches(&first.schema(), &computed).map_err(failed)?;
        let fields = have.fields().iter().chain(computed.schema().fields()).cloned().collect::<Vec<_>>();
        let columns = batch.columns().iter().chain(computed.columns()).cloned().collect();
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).map_err(failed)
    }

    fn new_resource(&self) -> Result<Map<String, Value>, ApiError> {
        let mut resource = Map::new();
        resource.insert("schema".into(), self.schema.clone());
        self.take_layout(&mut resource);
        if self.target.table.partition.is_some()
            && !resource.contains_key("timePartitioning")
            && !resource.contains_key("rangePartitioning")
        {
            resource.insert("timePartitioning".into(), json!({"type": "DAY"}));
        }
        for (key, value) in self.load["destinationTableProperties"].as_object().into_iter().flatten() {
            let value = if key == "expirationTime" {
                let ms = value.as_str().and_then(super::super::civil::parse_ms);
                json!(ms.or_else(|| schema::int(value)).map(|ms| ms.to_string()))
            } else {
                value.clone()
            };
            resource.insert(key.clone(), value);
        }
        if let Some(key) = self.load.get("destinationEncryptionConfiguration") {
            resource.insert("encryptionConfiguration".into(), key.clone());
        }
        tables::strip(&mut resource);
        tables::prepare(self.service, &self.target.owner, resource)
    }

    fn take_layout(&self, resource: &mut Map<String, Value>) {
        for key in ["timePartitioning", "rangePartitioning", "clustering"] {
            if let Some(value) = self.load.get(key).filter(|v| v.as_object().is_some_and(|o| !o.is_empty())) {
                resource.insert(key.into(), value.clone());
            }
        }
    }

    /// A job may repeat the table's partitioning, not change it.
    fn check_partitioning_spec(&self, layout: Option<&Partitioning>) -> Result<(), ApiError> {
        let load = self.load.as_object().cloned().unwrap_or_default();
        let Some(asked) = partitioning(&load)? else { return Ok(()) };
        let same = match (&asked, layout) {
            (Partitioning::Time { unit: a, field: x, .. }, Some(Partitioning::Time { unit: b, field: y, .. })) => {
                a == b && x.as_deref().map(str::to_lowercase) == y.as_deref().map(str::to_lowercase)
            }
            (a, Some(b)) => a == b,
            (_, None) => false,
        };
        if same {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "Incompatible table partitioning specification. Destination table {} is not partitioned as the job asks.",
            self.target.table.table
        )))
    }

    /// The schema after the load of a table that exists.
    fn evolved(&self, before: &TableRecord) -> Result<Value, ApiError> {
        let table = self.target.table.table.to_string();
        let old_json = before.schema();
        let old = schema::parse(&old_json)?;
        if old.fields.is_empty() {
            return Ok(self.schema.clone());
        }
        let whole = self.target.table.partition.is_none();
        if self.target.write == Write::Truncate && whole {
            return Ok(self.schema.clone());
        }
        let allowed: Vec<&str> =
            self.load["schemaUpdateOptions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let may_add = allowed.contains(&"ALLOW_FIELD_ADDITION");
        let may_relax = allowed.contains(&"ALLOW_FIELD_RELAXATION");
        // Columns of the table that the job leaves out are filled with null, so they count as present.
        let merged = merge_fields(&table, &old_json["fields"], &self.schema["fields"], may_add, may_relax)?;
        let mut out = old_json.clone();
        out["fields"] = merged;
        Ok(out)
    }

    fn write_table(
        &self,
        resource: Map<String, Value>,
        final_schema: Value,
        stored: &SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<(u64, u64), ApiError> {
        let service = self.service;
        let table = &self.target.table.table;
        let files = service.write_rows(stored, batches)?;
        let totals = (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.bytes).sum());
        let now_us = service.sandbox.clock.unique_us();
        let existed = self.target.before.as_ref().map(|b| (b.created_ms, b.version_us()));
        change_table(&service.sandbox.db, table, service.now_ms(), |now| {
            let Some(mut record) = now else {
                if existed.is_some() {
                    return Err(ApiError::not_found(format!("Not found: Table {table}")));
                }
                let mut record = TableRecord::new(resource, now_us);
                record.commit(now_us + 1, true, files, None);
                return Ok(Change::Put(Box::new(record), ()));
            };
            // Another writer made or changed the table while this one read its files.
            if existed.is_none() && self.target.write == Write::Empty && record.current(service.now_us()).rows() > 0 {
                return Err(ApiError::duplicate(format!("Already Exists: Table {table}")));
            }
            if existed.is_some_and(|(_, seen)| seen != record.version_us())
                && record.schema() != self.target.before.as_ref().map_or(Value::Null, TableRecord::schema)
            {
                return Err(tables::concurrent(table));
            }
            let changed = (record.schema() != final_schema).then_some(final_schema);
            match self.target.write {
                Write::Append | Write::Empty => record.commit(now_us, false, files, changed),
                Write::TruncateData => record.commit(now_us, true, files, changed),
                Write::Truncate => {
                    self.take_layout(&mut record.resource);
                    record.resource.shift_remove("tableConstraints");
                    record.commit(now_us, true, files, changed);
                }
            }
            Ok(Change::Put(Box::new(record), ()))
        })?;
        Ok(totals)
    }

    fn write_partition(
        &self,
        layout: &Partitioning,
        key: Key,
        id: &str,
        fresh: Vec<RecordBatch>,
        final_schema: &Value,
    ) -> Result<(u64, u64), ApiError> {
        let service = self.service;
        let table = &self.target.table.table;
        if self.target.before.as_ref().is_some_and(|b| b.schema() != *final_schema) {
            tables::apply(service, table, None, &json!({"schema": final_schema}), false)?;
        }
        let rows = fresh.iter().map(|b| b.num_rows() as u64).sum();
        let bytes = fresh.iter().map(super::super::cells::logical_bytes).sum();
        let write = self.target.write;
        service.rewrite(table, |batches| {
            let present = keep_partition(&batches, layout, key, true)?;
            let taken = present.iter().any(|b| b.num_rows() > 0);
            let mut out = match write {
                Write::Append => batches,
                Write::Empty if taken => {
                    return Err(ApiError::duplicate(format!("Already Exists: Table {table}${id}")));
                }
                Write::Empty => batches,
                Write::Truncate | Write::TruncateData => keep_partition(&batches, layout, key, false)?,
            };
            out.extend(fresh);
            Ok(out)
        })?;
        Ok((rows, bytes))
    }
}

fn merge_fields(table: &str, old: &Value, new: &Value, may_add: bool, may_relax: bool) -> Result<Value, ApiError> {
    let refuse = |what: String| ApiError::invalid(format!("Provided Schema does not match Table {table}. {what}"));
    let mut out: Vec<Value> = old.as_array().cloned().unwrap_or_default();
    for field in new.as_array().into_iter().flatten() {
        let name = field["name"].as_str().unwrap_or_default();
        let slot = out.iter_mut().find(|f| f["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        let Some(have) = slot else {
            if !may_add {
                return Err(refuse(format!("Cannot add fields (field: {name})")));
            }
            if field["mode"] == "REQUIRED" {
                return Err(refuse(format!("Cannot add required fields to an existing schema. (field: {name})")));
            }
            out.push(field.clone());
            continue;
        };
        let mode = |f: &Value| f["mode"].as_str().unwrap_or("NULLABLE").to_owned();
        match (mode(have).as_str(), mode(field).as_str()) {
            (a, b) if a == b => {}
            ("REQUIRED", "NULLABLE") if may_relax => have["mode"] = json!("NULLABLE"),
            (a, b) => return Err(refuse(format!("Field {name} has changed mode from {a} to {b}"))),
        }
        if have["type"] != field["type"] {
            let (a, b) = (have["type"].as_str().unwrap_or_default(), field["type"].as_str().unwrap_or_default());
            return Err(refuse(format!("Field {name} has changed type from {a} to {b}")));
        }
        if have["type"] == "RECORD" {
            have["fields"] = merge_fields(table, &have["fields"], &field["fields"], may_add, may_relax)?;
        }
    }
    Ok(Value::Array(out))
}

fn check_required(batch: &RecordBatch, wanted: &SchemaRef) -> Result<(), ApiError> {
    for field in wanted
        .fields()
        .iter()
        .filter(|f| !f.is_nullable() && !matches!(f.data_type(), arrow::datatypes::DataType::List(_)))
    {
        let at = batch.schema().fields().iter().position(|f| f.name().eq_ignore_ascii_case(field.name()));
        let nulls = at.map_or(batch.num_rows(), |i| batch.column(i).null_count());
        if nulls > 0 {
            return Err(ApiError::invalid(format!("Required field {} cannot be null", field.name())));
        }
    }
    Ok(())
}

/// Writes one partition's time into the ingestion-time column of all rows.
///
/// # Errors
/// When the partition is no bucket of time.
pub fn stamp(batches: Vec<RecordBatch>, stored: &SchemaRef, key: Key) -> Result<Vec<RecordBatch>, ApiError> {
    let value = match key {
        Key::Bucket(us) => Some(us),
        Key::Unpartitioned | Key::Null => None,
    };
    batches
        .into_iter()
        .map(|batch| {
            let column = TimestampMicrosecondArray::from(vec![value; batch.num_rows()]).with_timezone("UTC");
            let columns =
                stored
                    .fields()
                    .iter()
                    .enumerate()
                    .map(|(i, f)| {
                        if f.name() == INGESTION {
                            Arc::new(column.clone()) as ArrayRef
                        } else {
                            batch.column(i).clone()
                        }
                    })
                    .collect();
            RecordBatch::try_new(stored.clone(), columns).map_err(|e| ApiError::internal(e.to_string()))
        })
        .collect()
}

/// Checks that all rows belong to the partition that they are written to.
///
/// # Errors
/// `invalid` with Google's message.
pub fn check_partition(
    table: &TableRef,
    layout: &Partitioning,
    key: Key,
    id: &str,
    batches: &[RecordBatch],
) -> Result<(), ApiError> {
    for batch in batches {
        if layout.batch_keys(batch)?.into_iter().any(|k| k != key) {
            return Err(ApiError::invalid(format!(
                "Some rows belong to different partitions rather than destination partition {table}${id}"
            )));
        }
    }
    Ok(())
}

/// Checks how many partitions one job changes.
///
/// # Errors
/// `invalid` above the limit.
pub fn check_partition_count(layout: &Partitioning, batches: &[RecordBatch]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for batch in batches {
        seen.extend(layout.batch_keys(batch)?);
        if seen.len() > MAX_PER_JOB {
            return Err(ApiError::invalid(format!(
                "Too many partitions produced by the job, allowed {MAX_PER_JOB}, the job produces at least {} partitions",
                seen.len()
            )));
        }
    }
    Ok(())
}
