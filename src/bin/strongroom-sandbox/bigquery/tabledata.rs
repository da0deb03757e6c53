//! tabledata.*: rows out, page by page, and rows in by streaming.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::cells::{CellFormat, row_json};
use super::http::{Caller, blocking, object, page_token, position};
use super::information::{PARTITIONS_SUMMARY, partitions_summary};
use super::names::{Decorated, TableRef};
use super::partition::{Key, Partitioning};
use super::picks::{Picks, picked};
use super::registry::{self, Change, TableRecord};
use super::rows;
use super::schema;
use super::service::{BigQuery, etag, partitioning, stored_schema};
use super::tables;
use crate::core::{ApiError, Params};
use strongroom::model::schema::{Field, Schema};

type Service = State<Arc<BigQuery>>;
type Names = Path<(String, String, String)>;

/// About how many bytes of JSON a page has at most.
const PAGE_BYTES: usize = 10 << 20;

/// How long an insertId is remembered.
const INSERT_ID_MS: i64 = 60_000;

/// The insertIds of the last minute, by table; kept in memory, as deduplication is best effort in BigQuery, too.
#[derive(Default)]
pub struct RecentInserts(Mutex<HashMap<String, HashMap<String, i64>>>);

impl RecentInserts {
    fn has(&self, table: &str, id: &str, now_ms: i64) -> bool {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = tables.get(table).and_then(|ids| ids.get(id)).copied();
        at.is_some_and(|at| (now_ms - INSERT_ID_MS..=now_ms).contains(&at))
    }

    fn remember(&self, table: &str, ids: &[&str], now_ms: i64) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.entry(table.to_owned()).or_default();
        if known.len() > 10_000 {
            known.retain(|_, at| *at > now_ms - INSERT_ID_MS);
        }
        known.extend(ids.iter().map(|id| ((*id).to_owned(), now_ms)));
    }
}

/// A slice of rows as the API pages it.
pub struct Page {
    pub rows: Vec<Value>,
    /// Where the next page begins.
    pub next: Option<usize>,
}

/// The rows from `start` on, at most `size` of them and about `PAGE_BYTES`.
pub fn page(batches: &[RecordBatch], start: usize, size: usize, format: CellFormat) -> Page {
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut rows = vec![];
    let mut bytes = 0;
    let mut first = 0;
    'all: for batch in batches {
        let count = batch.num_rows();
        let from = start.saturating_sub(first).min(count);
        // The weight of a row's JSON is estimated from its memory: exact weighing would write it twice.
        let weight = batch.get_array_memory_size() / count.max(1) + 16;
        for row in from..count {
            if rows.len() >= size || (bytes > PAGE_BYTES && !rows.is_empty()) {
                break 'all;
            }
            rows.push(row_json(batch, row, format));
            bytes += weight;
        }
        first += count;
    }
    let end = start + rows.len();
    Page { next: (end < total && (!rows.is_empty() || size == 0)).then_some(end), rows }
}

/// How cells are to be written.
pub fn format(params: &Params) -> CellFormat {
    CellFormat {
        int64_timestamp: params.flag("formatOptions.useInt64Timestamp")
            || matches!(params.get("formatOptions.timestampOutputFormat"), Some("INT64" | "2")),
        iso_timestamp: matches!(params.get("formatOptions.timestampOutputFormat"), Some("ISO8601_STRING" | "3")),
    }
}

/// Where a page begins: by token, by `startIndex`, or at the first row.
///
/// # Errors
/// 400 for a bad token or number.
pub fn start(params: &Params) -> Result<usize, ApiError> {
    let at = match position(params)? {
        Some(token) => {
            token.parse::<i64>().map_err(|_| ApiError::invalid("Invalid page token").at("parameter", "pageToken"))?
        }
        None => params.number("startIndex")?.unwrap_or(0),
    };
    usize::try_from(at).map_err(|_| ApiError::invalid(format!("Invalid value for startIndex: {at}")))
}

pub async fn list(
    State(service): Service,
    Path((project, dataset, table)): Names,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let target = Decorated::parse(&project, &dataset, &table)?;
    let from = start(&params)?;
    let size = params.number("maxResults")?.map_or(Ok(100_000), |n| {
        usize::try_from(n).map_err(|_| ApiError::invalid(format!("Invalid value for maxResults: {n}")))
    })?;
    let cells = format(&params);
    let selected: Option<Vec<String>> =
        params.get("selectedFields").map(|s| s.split(',').map(|f| f.trim().to_owned()).collect());
    if target.at.is_none() {
        let name = target.table.clone();
        blocking(&service, move |s| s.expire_partitions(&name)).await?;
    }
    if target.partition.as_deref() == Some(PARTITIONS_SUMMARY) {
        let name = target.table.clone();
        let (schema, batch) = blocking(&service, move |s| partitions_summary(s, &name)).await?;
        let fields = schema::parse(&schema)?.fields;
        let batch = select(&target.table, &fields, selected.as_deref())?.of(&batch)?;
        let total = batch.num_rows();
        return Ok(Json(listing(&json!(total), total, page(&[batch], from, size, cells))));
    }
    let (record, moment) = service.table_at(&target)?;
    if !record.has_rows() {
        let kind = record.kind();
        return Err(ApiError::invalid(format!("Cannot list a table of type {kind}.")));
    }
    let filter = super::policies::filter_for(&record, &caller, &target.table);
    let batches = {
        let (record, moment, target) = (record.clone(), moment.clone(), target.clone());
        blocking(&service, move |s| {
            let layout = partitioning(&record.resource)?;
            let ingestion = layout.as_ref().is_some_and(Partitioning::is_ingestion_time);
            let mut batches = s.rows(&moment, ingestion && target.partition.is_some())?;
            if let Some(id) = &target.partition {
                let layout = super::jobs::copy::layout_of(&target.table, &record)?;
                let key = layout.parse_id(&target.table.to_string(), id)?;
                batches = super::service::keep_partition(&batches, &layout, key, true)?;
            }
            Ok(batches)
        })
        .await?
    };
    let batches = match filter {
        None => batches,
        Some(predicate) => {
            super::query::filter_table(&service, &caller, &target.table, &moment.schema, batches, &predicate).await?
        }
    };
    // After the policies' filter, which may read what is not selected.
    let fields = schema::parse(&moment.schema)?.fields;
    let picks = select(&target.table, &fields, selected.as_deref())?;
    let batches = batches.iter().map(|b| picks.of(b)).collect::<Result<Vec<_>, _>>()?;
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let page = blocking(&service, move |_| Ok(page(&batches, from, size, cells))).await?;
    Ok(Json(listing(&json!([record.version_us(), from]), total, page)))
}

fn listing(state: &Value, total: usize, page: Page) -> Value {
    let mut out = json!({"kind": "bigquery#tableDataList", "etag": etag(state), "totalRows": total.to_string()});
    if let Some(next) = page.next {
        out["pageToken"] = json!(page_token(&next.to_string()));
    }
    if !page.rows.is_empty() {
        out["rows"] = json!(page.rows);
    }
    out
}

/// What is wanted: `selectedFields`, all when none is named.
fn select(table: &TableRef, fields: &[Field], names: Option<&[String]>) -> Result<Picks, ApiError> {
    // Every column of the table, but none that is only kept beside them.
    let Some(names) = names else { return Ok(Picks(Some((0..fields.len()).map(|at| (at, Picks(None))).collect()))) };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    picked(fields, &names, "").map_err(|name| ApiError::invalid(format!("Field {name} not found in table {table}")))
}

pub async fn insert_all(
    State(service): Service,
    Path((project, dataset, table)): Names,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let target = Decorated::parse(&project, &dataset, &table)?;
    let request = object(&body)?;
    blocking(&service, move |s| stream_in(s, &target, &request)).await.map(Json)
}

/// One row of a request.
struct Incoming<'a> {
    insert_id: Option<&'a str>,
    json: &'a Value,
}

fn stream_in(service: &Arc<BigQuery>, target: &Decorated, request: &Map<String, Value>) -> Result<Value, ApiError> {
    let mut rows: Vec<Incoming<'_>> = request
        .get("rows")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|r| Incoming { insert_id: r["insertId"].as_str().filter(|id| !id.is_empty()), json: &r["json"] })
        .collect();
    if rows.is_empty() {
        return Err(ApiError::invalid("No rows present in the request."));
    }
    if rows.len() > 50_000 {
        return Err(ApiError::invalid(format!(
            "Too many rows present in the request, limit: 50000 row count: {}.",
            rows.len()
        )));
    }
    if target.at.is_some() {
        return Err(ApiError::invalid("Time travel decorators cannot be used with insertAll."));
    }
    let flag = |key: &str| request.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut table = target.table.clone();
    let base = service.table(&table)?;
    if let Some(suffix) = request.get("templateSuffix").and_then(Value::as_str).filter(|s| !s.is_empty()) {
        table = TableRef::new(&table.project, &table.dataset, &format!("{}{suffix}", table.table));
        if service.find_table(&table)?.is_none() {
            let mut resource = base.resource.clone();
            resource.shift_remove("expirationTime");
            let owner = service.dataset(&table.project, &table.dataset)?;
            tables::create(service, &table, tables::prepare(service, &owner, resource)?)?;
        }
    }
    let record = service.table(&table)?;
    if record.kind() != "TABLE" {
        return Err(ApiError::invalid(format!("Cannot add rows to a table of type {}.", record.kind())));
    }
    let schema = schema::parse(&record.schema())?;
    if schema.fields.is_empty() {
        return Err(ApiError::invalid("The destination table has no schema."));
    }
    let values: Vec<&Value> = rows.iter().map(|r| r.json).collect();
    let filled = super::defaults::fill(service, &table.project, &record.schema(), &values)?;
    if let Some(filled) = &filled {
        rows.iter_mut().zip(filled).for_each(|(row, json)| row.json = json);
    }
    let values: Vec<&Value> = rows.iter().map(|r| r.json).collect();
    let (ready, bad) = rows::convert(&schema, &values, flag("ignoreUnknownValues"))?;
    let mut errors: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    for e in bad {
        let told = json!({"reason": "invalid", "location": e.location, "debugInfo": "", "message": e.message});
        errors.entry(e.index).or_default().push(told);
    }
    if errors.is_empty() || flag("skipInvalidRows") {
        let good = rows.iter().enumerate().filter(|(i, _)| !errors.contains_key(i)).map(|(_, row)| row).collect();
        let to =
            Destination { table: &table, record: &record, schema: &schema, partition: target.partition.as_deref() };
        append(service, &to, good, ready)?;
    } else {
        for index in 0..rows.len() {
            let stopped = || vec![json!({"reason": "stopped", "location": "", "debugInfo": "", "message": ""})];
            errors.entry(index).or_insert_with(stopped);
        }
    }
    let mut out = json!({"kind": "bigquery#tableDataInsertAllResponse"});
    if !errors.is_empty() {
        out["insertErrors"] =
            errors.into_iter().map(|(index, errors)| json!({"index": index, "errors": errors})).collect();
    }
    Ok(out)
}

/// Where rows go.
struct Destination<'a> {
    table: &'a TableRef,
    record: &'a TableRecord,
    schema: &'a Schema,
    partition: Option<&'a str>,
}

fn append(
    service: &BigQuery,
    to: &Destination<'_>,
    mut good: Vec<&Incoming<'_>>,
    ready: Vec<RecordBatch>,
) -> Result<(), ApiError> {
    let Destination { table, record, schema, partition } = *to;
    let now_us = service.sandbox.clock.unique_us();
    let now_ms = now_us.div_euclid(1000);
    let key = format!("{}@{}", table.key(), record.created_ms);
    good.retain(|row| row.insert_id.is_none_or(|id| !service.recent.has(&key, id, now_ms)));
    if good.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = good.iter().filter_map(|row| row.insert_id).collect();
    let values: Vec<&Value> = good.iter().map(|row| row.json).collect();
    // `ready` holds the good rows; only where known ones were dropped the rest is converted again.
    let all: usize = ready.iter().map(RecordBatch::num_rows).sum();
    let batches = if all == values.len() { ready } else { rows::convert(schema, &values, true)?.0 };
    let layout = partitioning(&record.resource)?;
    let ingestion = layout.as_ref().is_some_and(Partitioning::is_ingestion_time);
    let stored = stored_schema(schema, ingestion);
    let mut batches = batches.iter().map(|b| super::service::adapt(b, &stored)).collect::<Result<Vec<_>, _>>()?;
    if let (true, Some(Partitioning::Time { unit, .. })) = (ingestion, &layout) {
        let key = match (partition, &layout) {
            (Some(id), Some(layout)) => layout.parse_id(&table.to_string(), id)?,
            _ => Key::Bucket(unit.floor(now_us)),
        };
        batches = super::jobs::load::stamp(batches, &stored, key)?;
    } else if let (Some(id), Some(layout)) = (partition, &layout) {
        let key = layout.parse_id(&table.to_string(), id)?;
        super::jobs::load::check_partition(table, layout, key, id, &batches)?;
    }
    let mut files = service.write_rows(&stored, &batches)?;
    let seconds = service.settings.streaming_buffer_seconds;
    if seconds > 0 {
        for file in &mut files {
            file.buffered_until_us = now_us + seconds * 1_000_000;
        }
    }
    registry::change_table(&service.sandbox.db, table, service.now_ms(), |before| {
        let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
        record.commit(now_us, false, files, None);
        Ok(Change::Put(Box::new(record), ()))
    })?;
    service.recent.remember(&key, &ids, now_ms);
    service.compact(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_all_rows_once() {
        let schema = schema::parse(&json!([{"name":"i","type":"INT64"}])).unwrap();
        let values: Vec<Value> = (0..10).map(|i| json!({ "i": i })).collect();
        let batch = rows::batch_from_json(&schema, &values).unwrap();
        let batches = [batch.slice(0, 4), batch.slice(4, 0), batch.slice(4, 6)];
        let mut seen = vec![];
        let mut at = Some(0);
        while let Some(from) = at {
            let page = page(&batches, from, 3, CellFormat::default());
            seen.extend(page.rows.iter().map(|r| r["f"][0]["v"].as_str().unwrap().to_owned()));
            at = page.next;
        }
        assert_eq!(seen, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
        assert!(page(&batches, 99, 3, CellFormat::default()).rows.is_empty());
        assert_eq!(page(&batches, 0, 0, CellFormat::default()).next, Some(0));
    }
}
