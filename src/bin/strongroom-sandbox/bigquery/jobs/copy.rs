//! Copy jobs: COPY, SNAPSHOT, CLONE and RESTORE. No row moves: copies share their source's data files.

use serde_json::{Map, Value, json};

use super::super::civil::parse_ms;
use super::super::contents::DataFile;
use super::super::names::{Decorated, TableRef};
use super::super::partition::Partitioning;
use super::super::registry::{Change, DatasetRecord, Moment, Origin, TableRecord, change_table};
use super::super::schema;
use super::super::service::{BigQuery, adapt, keep_partition, partitioning, stored_schema};
use super::{Context, JobFailure, Success};
use crate::core::ApiError;

/// What a copy is to do.
#[derive(Debug, Clone)]
pub struct Order {
    pub sources: Vec<Decorated>,
    pub destination: Decorated,
    pub operation: Operation,
    pub create: bool,
    pub write: Write,
    /// Milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    /// Merged into the new table's resource (options of a DDL statement, an encryption configuration).
    pub options: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Copy,
    Snapshot,
    Clone,
    Restore,
}

/// `writeDisposition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Empty,
    Append,
    Truncate,
    /// Replaces the rows and keeps schema and constraints.
    TruncateData,
}

impl Write {
    /// # Errors
    /// `invalid` for an unknown word.
    pub fn of(configuration: &Value, default: Self) -> Result<Self, ApiError> {
        match configuration["writeDisposition"].as_str().unwrap_or_default() {
            "" => Ok(default),
            "WRITE_EMPTY" => Ok(Self::Empty),
            "WRITE_APPEND" => Ok(Self::Append),
            "WRITE_TRUNCATE" => Ok(Self::Truncate),
            "WRITE_TRUNCATE_DATA" => Ok(Self::TruncateData),
            other => Err(ApiError::invalid(format!("Invalid value for writeDisposition: {other}"))),
        }
    }
}

/// `createDisposition`: whether the table may be made.
///
/// # Errors
/// `invalid` for an unknown word.
pub fn may_create(configuration: &Value) -> Result<bool, ApiError> {
    match configuration["createDisposition"].as_str().unwrap_or_default() {
        "" | "CREATE_IF_NEEDED" => Ok(true),
        "CREATE_NEVER" => Ok(false),
        other => Err(ApiError::invalid(format!("Invalid value for createDisposition: {other}"))),
    }
}

/// Runs the job.
///
/// # Errors
/// How the job failed.
pub fn run(context: &Context) -> Result<Success, JobFailure> {
    let order = read(&context.configuration["copy"], &context.project)?;
    context.check()?;
    let (rows, bytes) = perform(&context.service, &order)?;
    let mut statistics = Map::new();
    statistics.insert("copy".into(), json!({"copiedRows": rows.to_string(), "copiedLogicalBytes": bytes.to_string()}));
    Ok(Success { statistics, ..Success::default() })
}

fn read(copy: &Value, project: &str) -> Result<Order, ApiError> {
    let sources = match copy.get("sourceTables").and_then(Value::as_array) {
        Some(list) if !list.is_empty() => list.clone(),
        _ => vec![copy.get("sourceTable").cloned().unwrap_or_default()],
    };
    let operation = match copy["operationType"].as_str().unwrap_or_default() {
        "" | "COPY" | "OPERATION_TYPE_UNSPECIFIED" => Operation::Copy,
        "SNAPSHOT" => Operation::Snapshot,
        "CLONE" => Operation::Clone,
        "RESTORE" => Operation::Restore,
        other => return Err(ApiError::invalid(format!("Invalid value for operationType: {other}"))),
    };
    let expires_ms = match copy.get("destinationExpirationTime") {
        None => None,
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let bad = || ApiError::invalid(format!("Invalid value for destinationExpirationTime: {value}"));
            Some(parse_ms(text).ok_or_else(bad)?)
        }
    };
    let mut options = Map::new();
    if let Some(key) = copy.get("destinationEncryptionConfiguration") {
        options.insert("encryptionConfiguration".into(), key.clone());
    }
    Ok(Order {
        sources: sources.iter().map(|s| TableRef::from_json(s, project, "sourceTable")).collect::<Result<_, _>>()?,
        destination: TableRef::from_json(&copy["destinationTable"], project, "destinationTable")?,
        operation,
        create: may_create(copy)?,
        write: Write::of(copy, Write::Empty)?,
        expires_ms,
        options,
    })
}

/// Does what the order says; returns how many rows and bytes the destination got.
///
/// # Errors
/// `notFound`, `duplicate`, `invalid` with Google's messages.
pub fn perform(service: &BigQuery, order: &Order) -> Result<(u64, u64), ApiError> {
    let destination = &order.destination.table;
    let owner = service.dataset(&destination.project, &destination.dataset)?;
    let mut sources = vec![];
    for source in &order.sources {
        let from = service.dataset(&source.table.project, &source.table.dataset)?;
        if from.location() != owner.location() {
            return Err(ApiError::invalid(format!(
                "Cannot read and write in different locations: source: {}, destination: {}",
                from.location(),
                owner.location()
            )));
        }
        if source.at.is_none() {
            service.expire_partitions(&source.table)?;
        }
        let (record, moment) = service.table_at(source)?;
        check_source(order, source, &record)?;
        sources.push((source, record, moment.settled()));
    }
    let Some((first, first_record, first_moment)) = sources.first().cloned() else {
        return Err(ApiError::required("Required parameter is missing: sourceTable"));
    };
    let before = service.find_table(destination)?;
    check_destination(order, before.as_ref())?;

    let mut fresh = fresh_record(service, order, &owner, first, &first_record, &first_moment);
    if before.is_some() && order.write != Write::Empty || order.destination.partition.is_some() {
        // The destination stays what it is and gets the rows.
        return into_existing(service, order, &sources, before.as_ref());
    }
    let mut files: Vec<DataFile> = vec![];
    for (source, record, moment) in &sources {
        same_columns(destination, &fresh, record, moment)?;
        files.extend(source_files(service, source, record, moment)?);
    }
    let (rows, bytes) = totals(&files);
    fresh.commit(fresh.created_ms * 1000 + 1, true, files, None);
    change_table(&service.sandbox.db, destination, service.now_ms(), |now| match now {
        // `WRITE_EMPTY` lets an empty table be filled; it keeps its own metadata.
        Some(mut existing) if order.operation == Operation::Copy && existing.current(service.now_us()).rows() == 0 => {
            let files = fresh.versions.last().map(|v| v.files.clone()).unwrap_or_default();
            existing.commit(service.sandbox.clock.unique_us(), true, files, None);
            Ok(Change::Put(Box::new(existing), ()))
        }
        Some(_) => Err(ApiError::duplicate(format!("Already Exists: Table {destination}"))),
        None => Ok(Change::Put(Box::new(fresh), ())),
    })?;
    Ok((rows, bytes))
}

fn check_source(order: &Order, source: &Decorated, record: &TableRecord) -> Result<(), ApiError> {
    let table = &source.table;
    let kind = record.kind();
    match (order.operation, kind) {
        (Operation::Restore, "SNAPSHOT") | (Operation::Clone, "TABLE" | "SNAPSHOT") => {}
        (Operation::Copy, "TABLE" | "SNAPSHOT") | (Operation::Snapshot, "TABLE") => {}
        (Operation::Restore, _) => {
            return Err(ApiError::invalid(format!(
                "Restore requires a table snapshot as its source, but {table} is a {kind}."
            )));
        }
        (Operation::Snapshot, "SNAPSHOT") => {
            return Err(ApiError::invalid(format!("Cannot create a snapshot of a snapshot: {table}")));
        }
        _ => {
            return Err(ApiError::invalid(format!(
                "{table} is not allowed for this operation because it is currently a {kind}."
            )));
        }
    }
    let whole_only = order.operation != Operation::Copy;
    if whole_only && (source.partition.is_some() || order.sources.len() > 1) {
        return Err(ApiError::invalid("Snapshots, clones and restores take one whole table as their source."));
    }
    Ok(())
}

fn check_destination(order: &Order, before: Option<&TableRecord>) -> Result<(), ApiError> {
    let table = &order.destination.table;
    match before {
        None if !order.create => Err(ApiError::not_found(format!("Not found: Table {table}"))),
        None => Ok(()),
        Some(record) if record.kind() == "SNAPSHOT" => Err(if order.write == Write::Empty {
            ApiError::duplicate(format!("Already Exists: Table {table}"))
        } else {
            ApiError::invalid(format!("Cannot write to table snapshot {table}: snapshots are read-only."))
        }),
        Some(record) if record.kind() != "TABLE" => Err(ApiError::invalid(format!(
            "{table} is not allowed for this operation because it is currently a {}.",
            record.kind()
        ))),
        Some(_)
            if matches!(order.operation, Operation::Snapshot | Operation::Clone) && order.write != Write::Truncate =>
        {
            Err(ApiError::duplicate(format!("Already Exists: Table {table}")))
        }
        Some(_) if order.operation == Operation::Snapshot => {
            Err(ApiError::invalid(format!("A snapshot cannot overwrite the existing table {table}.")))
        }
        Some(_) => Ok(()),
    }
}

/// The record of the new table, without rows: the source's metadata, as far as the operation takes it along.
fn fresh_record(
    service: &BigQuery,
    order: &Order,
    owner: &DatasetRecord,
    source: &Decorated,
    from: &TableRecord,
    moment: &Moment,
) -> TableRecord {
    let now_us = service.sandbox.clock.unique_us();
    let now_ms = now_us.div_euclid(1000);
    let mut resource = from.resource.clone();
    resource.shift_remove("expirationTime");
    resource.insert("schema".into(), moment.schema.clone());
    if order.operation == Operation::Snapshot {
        // A snapshot loses the expiration of partitions.
        if let Some(Value::Object(time)) = resource.get_mut("timePartitioning") {
            time.shift_remove("expirationMs");
        }
    }
    if matches!(order.operation, Operation::Copy) {
        for key in ["labels", "resourceTags"] {
            resource.shift_remove(key);
        }
    }
    let default = owner.number("defaultTableExpirationMs").map(|ms| now_ms + ms);
    if let Some(ms) = order.expires_ms.or(default) {
        resource.insert("expirationTime".into(), json!(ms.to_string()));
    }
    for (key, value) in &order.options {
        resource.insert(key.clone(), value.clone());
    }
    let mut record = TableRecord::new(resource, now_us);
    record.policies = from.policies.clone();
    let time_ms = source.at.map_or(now_ms, |_| moment.at_us.div_euclid(1000));
    let origin = Origin { base: source.table.clone(), time_ms };
    match order.operation {
        Operation::Snapshot => record.snapshot = Some(origin),
        Operation::Clone => record.clone = Some(origin),
        Operation::Copy | Operation::Restore => {}
    }
    record
}

fn same_columns(
    destination: &TableRef,
    into: &TableRecord,
    from: &TableRecord,
    moment: &Moment,
) -> Result<(), ApiError> {
    let (a, b) = (schema::parse(&into.schema())?, schema::parse(&moment.schema)?);
    schema::check_evolution(&destination.to_string(), &b.fields, &a.fields)?;
    let time = |r: &TableRecord| partitioning(&r.resource).map(|p| p.is_some_and(|p| p.is_ingestion_time()));
    if time(into)? != time(from)? {
        return Err(ApiError::invalid(format!(
            "Incompatible partitioning of the source and of destination table {destination}."
        )));
    }
    Ok(())
}

/// The source's files, or for a partition the one file that was cut out of them.
fn source_files(
    service: &BigQuery,
    source: &Decorated,
    record: &TableRecord,
    moment: &Moment,
) -> Result<Vec<DataFile>, ApiError> {
    let settled = |f: &DataFile| DataFile { buffered_until_us: 0, ..f.clone() };
    let Some(id) = &source.partition else {
        return Ok(moment.files.iter().map(|(f, _)| settled(f)).collect());
    };
    let layout = layout_of(&source.table, record)?;
    let key = layout.parse_id(&source.table.to_string(), id)?;
    let ingestion = layout.is_ingestion_time();
    let batches = keep_partition(&service.rows(moment, ingestion)?, &layout, key, true)?;
    service.write_rows(&stored_schema(&schema::parse(&moment.schema)?, ingestion), &batches)
}

/// How a table that a partition decorator names is partitioned.
///
/// # Errors
/// `invalid` when it is not.
pub fn layout_of(table: &TableRef, record: &TableRecord) -> Result<Partitioning, ApiError> {
    partitioning(&record.resource)?.ok_or_else(|| {
        ApiError::invalid(format!("Cannot use a partition decorator: table {table} is not partitioned."))
    })
}

fn into_existing(
    service: &BigQuery,
    order: &Order,
    sources: &[(&Decorated, TableRecord, Moment)],
    before: Option<&TableRecord>,
) -> Result<(u64, u64), ApiError> {
    let destination = &order.destination.table;
    let Some(before) = before else { return Err(ApiError::not_found(format!("Not found: Table {destination}"))) };
    let mut files = vec![];
    let replaces_schema = order.write == Write::Truncate && order.destination.partition.is_none();
    for (source, record, moment) in sources {
        if !replaces_schema {
            same_columns(destination, before, record, moment)?;
        }
        files.extend(source_files(service, source, record, moment)?);
    }
    if let Some(id) = &order.destination.partition {
        return into_partition(service, order, before, id, &files);
    }
    let (rows, bytes) = totals(&files);
    let now_us = service.sandbox.clock.unique_us();
    change_table(&service.sandbox.db, destination, service.now_ms(), |now| {
        let mut record = now.ok_or_else(|| ApiError::not_found(format!("Not found: Table {destination}")))?;
        match order.write {
            Write::Append | Write::Empty => record.commit(now_us, false, files, None),
            Write::TruncateData => record.commit(now_us, true, files, None),
            Write::Truncate => {
                let Some((source, from, moment)) = sources.first() else { return Ok(Change::Keep(())) };
                let old = record.resource.clone();
                for key in ["timePartitioning", "rangePartitioning", "clustering", "tableConstraints", "description"] {
                    match from.resource.get(key) {
                        Some(value) => record.resource.insert(key.into(), value.clone()),
                        None => record.resource.shift_remove(key),
                    };
                }
                if order.operation == Operation::Restore {
                    record.resource = from.resource.clone();
                    record.resource.shift_remove("expirationTime");
                }
                if let Some(ms) = order.expires_ms {
                    record.resource.insert("expirationTime".into(), json!(ms.to_string()));
                } else if let Some(kept) = old.get("expirationTime") {
                    record.resource.insert("expirationTime".into(), kept.clone());
                }
                for (key, value) in &order.options {
                    record.resource.insert(key.clone(), value.clone());
                }
                if order.operation == Operation::Clone {
                    let time_ms = now_us.div_euclid(1000);
                    record.clone = Some(Origin { base: source.table.clone(), time_ms });
                }
                record.commit(now_us, true, files, Some(moment.schema.clone()));
            }
        }
        Ok(Change::Put(Box::new(record), ()))
    })?;
    Ok((rows, bytes))
}

/// Puts rows into one partition: appended to it, or in its place.
fn into_partition(
    service: &BigQuery,
    order: &Order,
    before: &TableRecord,
    id: &str,
    files: &[DataFile],
) -> Result<(u64, u64), ApiError> {
    let table = &order.destination.table;
    let layout = layout_of(table, before)?;
    let key = layout.parse_id(&table.to_string(), id)?;
    let ingestion = layout.is_ingestion_time();
    let wanted = stored_schema(&schema::parse(&before.schema())?, ingestion);
    let mut fresh = vec![];
    for file in files {
        for batch in service.contents.read(file)?.iter() {
            fresh.push(adapt(batch, &wanted)?);
        }
    }
    if ingestion {
        fresh = super::load::stamp(fresh, &wanted, key)?;
    }
    super::load::check_partition(table, &layout, key, id, &fresh)?;
    let totals = totals(files);
    service.rewrite(table, |batches| {
        let present = keep_partition(&batches, &layout, key, true)?;
        let rows: usize = present.iter().map(arrow::array::RecordBatch::num_rows).sum();
        let mut out = match order.write {
            Write::Append => batches,
            Write::Empty if rows > 0 => return Err(ApiError::duplicate(format!("Already Exists: Table {table}${id}"))),
            Write::Empty => batches,
            Write::Truncate | Write::TruncateData => keep_partition(&batches, &layout, key, false)?,
        };
        out.extend(fresh);
        Ok(out)
    })?;
    Ok(totals)
}

fn totals(files: &[DataFile]) -> (u64, u64) {
    (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.bytes).sum())
}
