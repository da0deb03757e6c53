//! tables.*: the whole resource is kept field by field; contents, sizes and times are added on the way out.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::datasets::canonical_location;
use super::http::{IfMatch, blocking, object, page_size, page_token, position};
use super::information::{PARTITIONS_SUMMARY, partitions_summary};
use super::names::{Decorated, TableRef};
use super::partition::{Partitioning, Unit};
use super::registry::{self, Change, DatasetRecord, TableRecord};
use super::schema::{self, int};
use super::service::{BigQuery, check_etag, drop_nulls, etag, keep_partition, merge_patch, partitioning};
use crate::core::{ApiError, Params};

type Service = State<Arc<BigQuery>>;
type Names = Path<(String, String, String)>;

/// Members that the service computes and a client cannot write.
const COMPUTED: [&str; 26] = [
    "kind",
    "id",
    "etag",
    "selfLink",
    "tableReference",
    "creationTime",
    "lastModifiedTime",
    "type",
    "location",
    "numRows",
    "numBytes",
    "numLongTermBytes",
    "numPhysicalBytes",
    "numTotalLogicalBytes",
    "numActiveLogicalBytes",
    "numLongTermLogicalBytes",
    "numTotalPhysicalBytes",
    "numActivePhysicalBytes",
    "numLongTermPhysicalBytes",
    "numCurrentPhysicalBytes",
    "numTimeTravelPhysicalBytes",
    "numPartitions",
    "streamingBuffer",
    "snapshotDefinition",
    "cloneDefinition",
    "replicas",
];

pub async fn insert(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let mut resource = object(&body)?;
    let id = resource.get("tableReference").and_then(|r| r.get("tableId")).and_then(Value::as_str);
    let id = id.ok_or_else(|| ApiError::required("Required parameter is missing: tableReference.tableId"))?;
    let table = Decorated::parse(&project, &dataset, id)?.plain()?;
    let owner = service.dataset(&project, &dataset)?;
    strip(&mut resource);
    describe_view(&service, &table, &owner, &mut resource).await?;
    let resource = prepare(&service, &owner, resource)?;
    let record = create(&service, &table, resource)?;
    Ok(Json(view(&service, &table, &owner, &record, Detail::Stats)))
}

/// Makes an empty table, view or external table of a prepared resource.
///
/// # Errors
/// `duplicate` when the name is in use.
pub fn create(service: &BigQuery, table: &TableRef, resource: Map<String, Value>) -> Result<TableRecord, ApiError> {
    let now_us = service.sandbox.clock.unique_us();
    registry::change_table(&service.sandbox.db, table, service.now_ms(), |before| match before {
        Some(_) => Err(ApiError::duplicate(format!("Already Exists: Table {table}"))),
        None => {
            let record = TableRecord::new(resource, now_us);
            Ok(Change::Put(Box::new(record.clone()), record))
        }
    })
}

/// Removes what a client cannot write.
pub fn strip(resource: &mut Map<String, Value>) {
    resource.retain(|key, _| !COMPUTED.contains(&key.as_str()));
    let mut value = Value::Object(std::mem::take(resource));
    drop_nulls(&mut value);
    if let Value::Object(members) = value {
        *resource = members;
    }
}

/// Asks the SQL engine for the columns of a view; the view's own descriptions are kept.
async fn describe_view(
    service: &Arc<BigQuery>,
    table: &TableRef,
    owner: &DatasetRecord,
    resource: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let (sql, legacy) = match (resource.get("view"), resource.get("materializedView")) {
        (Some(view), _) => (
            view.get("query").and_then(Value::as_str).unwrap_or_default().to_owned(),
            // The REST API's default is legacy SQL; the clients say false.
            view.get("useLegacySql").and_then(Value::as_bool).unwrap_or(true),
        ),
        (None, Some(view)) => (view.get("query").and_then(Value::as_str).unwrap_or_default().to_owned(), false),
        (None, None) => return Ok(()),
    };
    if sql.trim().is_empty() {
        return Err(ApiError::invalid("View query must not be empty"));
    }
    let fields = super::query::describe(service, &table.project, &sql, legacy, owner.location()).await?;
    let given =
        resource.get("schema").and_then(|s| s.get("fields")).and_then(Value::as_array).cloned().unwrap_or_default();
    let fields: Vec<Value> = fields
        .into_iter()
        .map(|mut field| {
            let same = |g: &&Value| g.get("name").and_then(Value::as_str) == field.get("name").and_then(Value::as_str);
            if let Some(Value::Object(own)) = given.iter().find(same) {
                for (key, value) in own {
                    if !matches!(key.as_str(), "type" | "mode" | "fields") {
                        field[key] = value.clone();
                    }
                }
            }
            field
        })
        .collect();
    resource.insert("schema".into(), schema::canonical(&json!({ "fields": fields })));
    Ok(())
}

/// Checks a new table's resource, brings it into the form in which it is returned, and applies the dataset's defaults.
///
/// # Errors
/// `invalid` with Google's message.
pub fn prepare(
    service: &BigQuery,
    owner: &DatasetRecord,
    mut resource: Map<String, Value>,
) -> Result<Map<String, Value>, ApiError> {
    normalise(service, &mut resource)?;
    check_references(service, &resource)?;
    let now = service.now_ms();
    let is_view = resource.contains_key("view");
    if let Some(Value::Object(time)) = resource.get_mut("timePartitioning")
        && !time.contains_key("expirationMs")
        && let Some(ms) = owner.number("defaultPartitionExpirationMs")
    {
        time.insert("expirationMs".into(), json!(ms.to_string()));
    }
    let partition_default =
        resource.contains_key("timePartitioning") && owner.number("defaultPartitionExpirationMs").is_some();
    if !resource.contains_key("expirationTime")
        && !partition_default
        && let Some(ms) = owner.number("defaultTableExpirationMs")
    {
        resource.insert("expirationTime".into(), json!((now + ms).to_string()));
    }
    if !is_view {
        for (from, to) in [
            ("defaultCollation", "defaultCollation"),
            ("defaultRoundingMode", "defaultRoundingMode"),
            ("defaultEncryptionConfiguration", "encryptionConfiguration"),
        ] {
            if let Some(value) = owner.resource.get(from)
                && !resource.contains_key(to)
            {
                resource.insert(to.into(), value.clone());
            }
        }
    }
    Ok(resource)
}

/// A foreign key refers to a table that is there.
fn check_references(service: &BigQuery, resource: &Map<String, Value>) -> Result<(), ApiError> {
    let keys = resource.get("tableConstraints").and_then(|constraints| constraints["foreignKeys"].as_array());
    for key in keys.into_iter().flatten() {
        let table = TableRef::from_json(&key["referencedTable"], "", "referencedTable")?.plain()?;
        if service.find_table(&table)?.is_none() {
            return Err(ApiError::not_found(format!("Not found: Table {table}")));
        }
    }
    Ok(())
}

fn normalise(service: &BigQuery, resource: &mut Map<String, Value>) -> Result<(), ApiError> {
    if let Some(given) = resource.get("schema") {
        let canonical = schema::canonical(given);
        schema::parse(&canonical)?;
        resource.insert("schema".into(), canonical);
    }
    if resource.get("expirationTime").and_then(int) == Some(0) {
        resource.shift_remove("expirationTime");
    }
    if let Some(value) = resource.get("expirationTime") {
        let ms = int(value).ok_or_else(|| ApiError::invalid(format!("Invalid value for expirationTime: {value}")))?;
        if ms <= service.now_ms() {
            return Err(ApiError::invalid(
                "Invalid value for expirationTime: the expiration time must be in the future",
            ));
        }
        resource.insert("expirationTime".into(), json!(ms.to_string()));
    }
    if let Some(Value::Object(time)) = resource.get_mut("timePartitioning") {
        let unit = time.get("type").and_then(Value::as_str).filter(|t| !t.is_empty()).unwrap_or("DAY").to_uppercase();
        time.insert("type".into(), json!(unit));
        time.retain(|key, v| !(key == "expirationMs" && int(v).is_none_or(|n| n <= 0)) && v.as_str() != Some(""));
        if let Some(ms) = time.get("expirationMs").and_then(int) {
            time.insert("expirationMs".into(), json!(ms.to_string()));
        }
    }
    if let Some(Value::Object(range)) = resource.get_mut("rangePartitioning").and_then(|r| r.get_mut("range")) {
        for key in ["start", "end", "interval"] {
            if let Some(n) = range.get(key).and_then(int) {
                range.insert(key.into(), json!(n.to_string()));
            }
        }
    }
    if let Some(Value::Object(view)) = resource.get_mut("view") {
        view.entry("useLegacySql").or_insert(json!(true));
    }
    check_labels(resource)?;
    check_layout(resource)
}

fn check_layout(resource: &Map<String, Value>) -> Result<(), ApiError> {
    let layout = partitioning(resource)?;
    let fields = schema::parse(resource.get("schema").unwrap_or(&Value::Null))?;
    let clustering = resource.get("clustering").and_then(|c| c.get("fields")).and_then(Value::as_array);
    if fields.fields.is_empty() {
        return Ok(());
    }
    if let Some(layout) = layout.filter(|l| !l.is_ingestion_time()) {
        use strongroom::model::schema::{FieldType, Mode};
        let Some(field) = fields.field(layout.column()) else {
            return Err(ApiError::invalid(
                "The field specified for partitioning cannot be found in the schema.".to_owned(),
            ));
        };
        if field.mode == Mode::Repeated {
            return Err(ApiError::invalid("The field specified for partitioning cannot be REPEATED."));
        }
        let ok = match &layout {
            Partitioning::Range { .. } => field.kind == FieldType::Int64,
            Partitioning::Time { unit: Unit::Hour, .. } => {
                matches!(field.kind, FieldType::Timestamp | FieldType::DateTime)
            }
            Partitioning::Time { .. } => {
                matches!(field.kind, FieldType::Timestamp | FieldType::DateTime | FieldType::Date)
            }
        };
        if !ok {
            let found = field.kind.rest_name();
            return Err(ApiError::invalid(match layout {
                Partitioning::Range { .. } => {
                    format!(
                        "The field specified for range partitioning can only be of type INTEGER. The type found is: {found}."
                    )
                }
                Partitioning::Time { .. } => format!(
                    "The field specified for time partitioning can only be of type TIMESTAMP, DATE or DATETIME. The type found is: {found}."
                ),
            }));
        }
    }
    if let Some(names) = clustering {
        if names.len() > 4 {
            return Err(ApiError::invalid("Too many fields specified for clustering: the maximum is 4."));
        }
        for name in names.iter().filter_map(Value::as_str) {
            let mut parts = name.split('.');
            let top = parts.next().and_then(|p| fields.field(p));
            if parts.fold(top, |f, p| f.and_then(|f| f.field(p))).is_none() {
                return Err(ApiError::invalid(format!(
                    "The field specified for clustering cannot be found in the schema. Invalid field: {name}."
                )));
            }
        }
    }
    Ok(())
}

/// Checks `labels`.
///
/// # Errors
/// `invalid` for keys or values outside Google's rules.
pub fn check_labels(resource: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(labels) = resource.get("labels") else { return Ok(()) };
    let Some(labels) = labels.as_object() else { return Err(ApiError::invalid("labels must be an object")) };
    let fits = |t: &str| {
        t.chars().count() <= 63
            && t.chars().all(|c| {
                (c.is_alphanumeric() && !c.is_uppercase())
                    || matches!(c, '_' | '-')
                    || (!c.is_ascii() && !c.is_control())
            })
    };
    if labels.len() > 64 {
        return Err(ApiError::invalid("Too many labels: the maximum is 64"));
    }
    for (key, value) in labels {
        let text = value.as_str().unwrap_or_default();
        if key.is_empty() || !fits(key) || !fits(text) || !(value.is_string() || value.is_null()) {
            return Err(ApiError::invalid(format!(
                "Invalid value for labels: the label \"{key}\" or its value has characters that are not allowed, or is longer than 63 characters"
            )));
        }
    }
    Ok(())
}

/// How much `view` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Basic,
    Stats,
}

fn detail(params: &Params) -> Detail {
    match params.get("view") {
        Some("BASIC" | "1") => Detail::Basic,
        _ => Detail::Stats,
    }
}

/// The resource as it is returned.
pub fn view(
    service: &BigQuery,
    table: &TableRef,
    owner: &DatasetRecord,
    record: &TableRecord,
    detail: Detail,
) -> Value {
    let TableRef { project, dataset, table: id } = table;
    let mut out = Map::new();
    out.insert("kind".into(), json!("bigquery#table"));
    out.insert("etag".into(), json!(tag(record)));
    out.insert("id".into(), json!(format!("{project}:{dataset}.{id}")));
    out.insert("selfLink".into(), json!(service.self_link(&format!("{project}/datasets/{dataset}/tables/{id}"))));
    out.insert("tableReference".into(), table.json());
    out.extend(record.resource.clone());
    out.insert("creationTime".into(), json!(record.created_ms.to_string()));
    out.insert("lastModifiedTime".into(), json!(record.modified_ms.to_string()));
    out.insert("type".into(), json!(record.kind()));
    out.insert("location".into(), json!(canonical_location(owner.location())));
    for (name, time, origin) in
        [("snapshotDefinition", "snapshotTime", &record.snapshot), ("cloneDefinition", "cloneTime", &record.clone)]
    {
        if let Some(origin) = origin {
            out.insert(
                name.into(),
                json!({"baseTableReference": origin.base.json(), time: crate::core::clock::rfc3339_ms(origin.time_ms * 1000)}),
            );
        }
    }
    if detail == Detail::Stats {
        out.extend(stats(service, record));
    }
    Value::Object(out)
}

fn stats(service: &BigQuery, record: &TableRecord) -> Map<String, Value> {
    let now = service.now_us();
    let all = record.current(now);
    let buffered: Vec<_> = all.files.iter().filter(|(f, _)| f.buffered_until_us > now).cloned().collect();
    let settled = all.settled();
    let quiet_since = now - 90 * super::civil::DAY_US;
    let long: u64 = if record.modified_ms * 1000 < quiet_since { settled.bytes() } else { 0 };
    let mut out = Map::new();
    let mut put = |key: &str, n: u64| {
        out.insert(key.to_owned(), json!(n.to_string()));
    };
    put("numRows", settled.rows());
    put("numBytes", settled.bytes());
    put("numLongTermBytes", long);
    if record.has_rows() {
        put("numTotalLogicalBytes", settled.bytes());
        put("numActiveLogicalBytes", settled.bytes() - long);
        put("numLongTermLogicalBytes", long);
    }
    if let Some(oldest) = buffered.iter().map(|(_, us)| us.div_euclid(1000)).min() {
        let rows: u64 = buffered.iter().map(|(f, _)| f.rows).sum();
        let bytes: u64 = buffered.iter().map(|(f, _)| f.bytes).sum();
        out.insert(
            "streamingBuffer".into(),
            json!({"estimatedRows": rows.to_string(), "estimatedBytes": bytes.to_string(), "oldestEntryTime": oldest.to_string()}),
        );
    }
    out
}

fn tag(record: &TableRecord) -> String {
    etag(&json!([record.resource, record.created_ms, record.modified_ms, record.revision]))
}

pub async fn get(
    State(service): Service,
    Path((project, dataset, table)): Names,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let target = Decorated::parse(&project, &dataset, &table)?;
    if target.partition.as_deref() == Some(PARTITIONS_SUMMARY) {
        let name = target.table.clone();
        let (schema, rows) = blocking(&service, move |s| partitions_summary(s, &name)).await?;
        let mut reference = target.table.json();
        reference["tableId"] = json!(table);
        return Ok(Json(
            json!({"kind": "bigquery#table", "etag": etag(&schema), "id": format!("{project}:{dataset}.{table}"),
            "tableReference": reference, "schema": schema, "numRows": rows.num_rows().to_string(), "type": "TABLE"}),
        ));
    }
    let service2 = service.clone();
    let (table, record, partitions) = blocking(&service, move |s| {
        let record = s.expire_partitions(&target.table)?;
        let partitions = partition_count(s, &record)?;
        Ok((target.table, record, partitions))
    })
    .await?;
    let owner = service2.dataset(&project, &dataset)?;
    let mut out = view(&service2, &table, &owner, &record, detail(&params));
    if let (Some(count), Detail::Stats) = (partitions, detail(&params)) {
        out["numPartitions"] = json!(count.to_string());
    }
    Ok(Json(out))
}

/// How many partitions hold rows; `None` when the table has none.
fn partition_count(service: &BigQuery, record: &TableRecord) -> Result<Option<usize>, ApiError> {
    let Some(layout) = partitioning(&record.resource)?.filter(|_| record.has_rows()) else { return Ok(None) };
    let moment = record.current(service.now_us()).settled();
    let mut seen = std::collections::HashSet::new();
    for batch in service.rows(&moment, layout.is_ingestion_time())? {
        seen.extend(layout.batch_keys(&batch)?);
    }
    Ok(Some(seen.len()))
}

pub async fn list(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    service.dataset(&project, &dataset)?;
    let size = page_size(&params, 50, 1000)?;
    let now = service.now_ms();
    let all = registry::list_tables(&service.sandbox.db, &project, &dataset, None, usize::MAX)?;
    let all: Vec<_> = all.into_iter().filter(|(_, r)| r.expires_ms().is_none_or(|ms| ms > now)).collect();
    let after = position(&params)?;
    let rest: Vec<_> = all.iter().filter(|(id, _)| after.as_deref().is_none_or(|a| id.as_str() > a)).collect();
    let page: Vec<Value> = rest.iter().take(size).map(|(id, r)| item(&project, &dataset, id, r)).collect();
    let mut out = json!({"kind": "bigquery#tableList", "etag": etag(&json!(page)), "totalItems": all.len()});
    if rest.len() > size {
        out["nextPageToken"] = json!(page_token(&rest[size - 1].0));
    }
    if !page.is_empty() {
        out["tables"] = json!(page);
    }
    Ok(Json(out))
}

fn item(project: &str, dataset: &str, id: &str, record: &TableRecord) -> Value {
    let table = TableRef::new(project, dataset, id);
    let mut out = json!({"kind": "bigquery#table", "id": table.to_string(), "tableReference": table.json(),
        "type": record.kind(), "creationTime": record.created_ms.to_string()});
    for key in [
        "friendlyName",
        "labels",
        "timePartitioning",
        "rangePartitioning",
        "clustering",
        "expirationTime",
        "requirePartitionFilter",
    ] {
        if let Some(value) = record.resource.get(key) {
            out[key] = value.clone();
        }
    }
    if let Some(view) = record.resource.get("view") {
        out["view"] = json!({"useLegacySql": view.get("useLegacySql").and_then(Value::as_bool).unwrap_or(false)});
    }
    out
}

pub async fn patch(
    State(service): Service,
    Path(names): Names,
    IfMatch(condition): IfMatch,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let changes = object(&body)?;
    change(&service, names, condition.as_deref(), changes, false).await.map(Json)
}

pub async fn update(
    State(service): Service,
    Path(names): Names,
    IfMatch(condition): IfMatch,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let mut resource = object(&body)?;
    strip(&mut resource);
    change(&service, names, condition.as_deref(), resource, true).await.map(Json)
}

async fn change(
    service: &Arc<BigQuery>,
    (project, dataset, id): (String, String, String),
    if_match: Option<&str>,
    mut changes: Map<String, Value>,
    whole: bool,
) -> Result<Value, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    // A table is never left without a schema: bq sends a null when it changes something else.
    changes.retain(|key, value| !(COMPUTED.contains(&key.as_str()) || key == "schema" && value.is_null()));
    check_references(service, &changes)?;
    let owner = service.dataset(&project, &dataset)?;
    if changes.contains_key("view") || changes.contains_key("materializedView") {
        let before = service.table(&table)?;
        let mut merged = Value::Object(before.resource.clone());
        merge_patch(&mut merged, &Value::Object(changes.clone()));
        if let Value::Object(mut merged) = merged {
            describe_view(service, &table, &owner, &mut merged).await?;
            if let Some(schema) = merged.remove("schema") {
                changes.insert("schema".into(), schema);
            }
        }
    }
    let record = apply(service, &table, if_match, &Value::Object(changes), whole)?;
    Ok(view(service, &table, &owner, &record, Detail::Stats))
}

/// Patches (or, with `whole`, replaces) a table's resource.
///
/// # Errors
/// 404, 412 when the etag is another one, `invalid` for what may not change.
pub fn apply(
    service: &BigQuery,
    table: &TableRef,
    if_match: Option<&str>,
    changes: &Value,
    whole: bool,
) -> Result<TableRecord, ApiError> {
    let now_us = service.sandbox.clock.unique_us();
    registry::change_table(&service.sandbox.db, table, service.now_ms(), |before| {
        let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
        check_etag(if_match, &tag(&record))?;
        let old = record.resource.clone();
        let mut merged = if whole { json!({}) } else { Value::Object(old.clone()) };
        merge_patch(&mut merged, changes);
        let Value::Object(mut resource) = merged else { return Err(ApiError::internal("a patch made no object")) };
        // A PUT without these would change what the table is.
        for key in
            ["schema", "timePartitioning", "rangePartitioning", "view", "materializedView", "externalDataConfiguration"]
        {
            if whole
                && !resource.contains_key(key)
                && let Some(value) = old.get(key)
            {
                resource.insert(key.into(), value.clone());
            }
        }
        if resource.get("expirationTime") == old.get("expirationTime") {
            let kept = resource.shift_remove("expirationTime");
            normalise(service, &mut resource)?;
            if let Some(kept) = kept {
                resource.insert("expirationTime".into(), kept);
            }
        } else {
            normalise(service, &mut resource)?;
        }
        check_change(table, &record, &old, &resource)?;
        let new_schema = resource.get("schema").filter(|s| old.get("schema") != Some(*s)).cloned();
        record.resource = resource;
        match new_schema {
            Some(schema) if record.has_rows() => record.commit(now_us, false, vec![], Some(schema)),
            _ => record.modified_ms = record.modified_ms.max(now_us.div_euclid(1000)),
        }
        record.revision += 1;
        Ok(Change::Put(Box::new(record.clone()), record))
    })
    .map(|mut record| {
        // `change_table` counts from the stored revision; the answer's etag must be the stored one's.
        if let Ok(Some(stored)) = registry::table(&service.sandbox.db, table) {
            record = stored;
        }
        record
    })
}

fn check_change(
    table: &TableRef,
    record: &TableRecord,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<(), ApiError> {
    if record.kind() == "SNAPSHOT" && old.get("schema") != new.get("schema") {
        return Err(ApiError::invalid(format!("Cannot update schema of a table snapshot: {table}")));
    }
    if !record.has_rows() {
        return Ok(());
    }
    let before = schema::parse(&record.schema())?;
    let after = schema::parse(new.get("schema").unwrap_or(&Value::Null))?;
    if !before.fields.is_empty() {
        schema::check_evolution(&table.to_string(), &before.fields, &after.fields)?;
    }
    let layout = |resource: &Map<String, Value>| {
        partitioning(resource).map(|p| match p {
            Some(Partitioning::Time { unit, field, .. }) => Some((format!("{unit:?}"), field)),
            Some(Partitioning::Range { field, start, end, interval }) => {
                Some((format!("RANGE {start} {end} {interval}"), Some(field)))
            }
            None => None,
        })
    };
    if layout(old)? != layout(new)? {
        return Err(ApiError::invalid(format!("Cannot change the partitioning of an existing table: {table}")));
    }
    Ok(())
}

pub async fn delete(State(service): Service, Path((project, dataset, id)): Names) -> Result<StatusCode, ApiError> {
    let target = Decorated::parse(&project, &dataset, &id)?;
    match target.partition.clone() {
        Some(partition) => blocking(&service, move |s| delete_partition(s, &target.table, &partition)).await?,
        None => remove(&service, &target.plain()?)?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a table; it can be read by time travel for a while.
///
/// # Errors
/// `notFound`.
pub fn remove(service: &BigQuery, table: &TableRef) -> Result<(), ApiError> {
    registry::change_table(&service.sandbox.db, table, service.now_ms(), |before| match before {
        Some(_) => Ok(Change::Delete(())),
        None => Err(ApiError::not_found(format!("Not found: Table {table}"))),
    })
}

fn delete_partition(service: &BigQuery, table: &TableRef, partition: &str) -> Result<(), ApiError> {
    let record = service.table(table)?;
    let layout = partitioning(&record.resource)?.ok_or_else(|| {
        ApiError::invalid(format!("Cannot delete a partition of {table}: the table is not partitioned"))
    })?;
    let key = layout.parse_id(&table.to_string(), partition)?;
    service.rewrite(table, |batches| keep_partition(&batches, &layout, key, false))
}

/// Two writers met.
pub fn concurrent(table: &TableRef) -> ApiError {
    ApiError::new(400, "invalidQuery", format!("Could not serialize access to table {table} due to concurrent update"))
}

/// `POST tables/{table}:getIamPolicy`, `:setIamPolicy`, `:testIamPermissions`.
pub async fn custom(
    State(service): Service,
    Path((project, dataset, target)): Names,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let no_method = || ApiError::not_found(format!("Not found: no method on tables/{target}"));
    let (id, verb) = target.rsplit_once(':').ok_or_else(no_method)?;
    let table = Decorated::parse(&project, &dataset, id)?.plain()?;
    let request = object(&body)?;
    match verb {
        "getIamPolicy" => Ok(Json(super::iam::answer(service.table(&table)?.iam))),
        "testIamPermissions" => {
            service.table(&table)?;
            Ok(Json(json!({"permissions": request.get("permissions").cloned().unwrap_or(json!([]))})))
        }
        "setIamPolicy" => {
            let policy = registry::change_table(&service.sandbox.db, &table, service.now_ms(), |before| {
                let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
                let policy = super::iam::replace(record.iam.as_ref(), &request)?;
                record.iam = Some(policy.clone());
                Ok(Change::Put(Box::new(record), policy))
            })?;
            Ok(Json(policy))
        }
        _ => Err(no_method()),
    }
}
