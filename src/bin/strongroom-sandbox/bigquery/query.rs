//! Query jobs: the SQL engine computes, this runs its statements one after the other and stores the answer.
//!
//! What statements change is applied in `effects`; how answers reach clients stands in `answers`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Map, Value, json};

use super::catalog::{Adhoc, Snapshot};
use super::datasets::{canonical_location, hidden};
use super::effects::{Applied, apply};
use super::http::{Caller, blocking};
use super::jobs::copy::{Write, may_create};
use super::jobs::{Context, JobFailure, QueryResult, Success};
use super::names::TableRef;
use super::registry::{self, Change, TableRecord};
use super::schema;
use super::service::{BigQuery, adapt, etag, stored_schema};
use super::sql::{Catalog, Outcome, Query, Rows, Script};
use super::tables;
use crate::core::ApiError;

/// How long the rows of an anonymous answer are kept.
const ANSWER_MS: i64 = 86_400_000;

/// What BigQuery bills at least for a query that reads a table.
const MIN_BYTES_BILLED: i64 = 10 << 20;

fn legacy(query: &Value) -> bool {
    query["useLegacySql"].as_bool().unwrap_or(true)
}

/// The engine's query of a `JobConfigurationQuery` (or `QueryRequest`, which has the same members).
fn query_of(
    service: &BigQuery,
    project: &str,
    caller: &Caller,
    location: &str,
    query: &Value,
) -> Result<Query, ApiError> {
    let text = query["query"].as_str().unwrap_or_default();
    if text.trim().is_empty() {
        return Err(ApiError::required("Required parameter is missing: query"));
    }
    let default = &query["defaultDataset"];
    let default_dataset = default["datasetId"].as_str().filter(|d| !d.is_empty()).map(|d| {
        let owner = default["projectId"].as_str().filter(|p| !p.is_empty()).unwrap_or(project);
        (owner.to_owned(), d.to_owned())
    });
    Ok(Query {
        sql: text.to_owned(),
        project: project.to_owned(),
        default_dataset,
        parameters: query["queryParameters"].as_array().cloned().unwrap_or_default(),
        now_us: service.now_us(),
        use_legacy_sql: legacy(query),
        dry_run: false,
        location: location.to_owned(),
        user: caller.name(project),
    })
}

/// The columns of a view's query.
///
/// # Errors
/// What the engine says of the query.
pub async fn describe(
    service: &Arc<BigQuery>,
    project: &str,
    sql: &str,
    legacy: bool,
    location: &str,
) -> Result<Vec<Value>, ApiError> {
    let caller = Caller::default();
    let query = Query {
        sql: sql.to_owned(),
        project: project.to_owned(),
        now_us: service.now_us(),
        use_legacy_sql: legacy,
        dry_run: true,
        location: location.to_owned(),
        user: caller.name(project),
        ..Query::default()
    };
    let catalog: Arc<dyn Catalog> = Arc::new(Snapshot::new(service, project, location, &caller));
    let mut script = Script::new(query)?;
    let outcome = script.next(&catalog).await?;
    outcome.map(|o| o.rows.fields).ok_or_else(|| ApiError::new(400, "invalidQuery", "A view needs a query"))
}

/// Rows of a table that a row access policy lets through.
///
/// # Errors
/// What the engine says of the predicate.
pub async fn filter_table(
    service: &Arc<BigQuery>,
    caller: &Caller,
    table: &TableRef,
    schema: &Value,
    rows: Vec<RecordBatch>,
    predicate: &str,
) -> Result<Vec<RecordBatch>, ApiError> {
    let fields = schema["fields"].as_array().cloned().unwrap_or_default();
    let wanted = rows.first().map(RecordBatch::schema);
    let catalog: Arc<dyn Catalog> = Arc::new(Adhoc { fields, batches: Arc::new(rows) });
    let TableRef { project, dataset, table } = table;
    let query = Query {
        sql: format!("SELECT * FROM `{project}`.`{dataset}`.`{table}` WHERE {predicate}"),
        project: project.clone(),
        now_us: service.now_us(),
        user: caller.name(project),
        ..Query::default()
    };
    let mut script = Script::new(query)?;
    let outcome = script.next(&catalog).await?;
    let rows = outcome.map(|o| o.rows.batches).unwrap_or_default();
    match wanted {
        Some(wanted) => rows.iter().map(|b| adapt(b, &wanted)).collect(),
        None => Ok(vec![]),
    }
}

/// Where a query runs that does not say: with its default dataset, or the first dataset that its text names.
///
/// # Errors
/// When the database fails.
pub fn infer_location(service: &BigQuery, project: &str, query: &Value) -> Result<String, ApiError> {
    let destination = query["destinationTable"]["datasetId"].as_str();
    for id in [query["defaultDataset"]["datasetId"].as_str(), destination].into_iter().flatten() {
        if let Some(record) = registry::dataset(&service.sandbox.db, project, id)? {
            return Ok(canonical_location(record.location()));
        }
    }
    let text = query["query"].as_str().unwrap_or_default().to_lowercase().replace('`', "");
    let mut best: Option<(usize, String)> = None;
    for (_, id, record) in registry::all_datasets(&service.sandbox.db)? {
        let needle = format!("{}.", id.to_lowercase());
        let found = text
            .match_indices(&needle)
            .map(|(i, _)| i)
            .find(|i| text[..*i].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_')));
        if let Some(at) = found.filter(|at| best.as_ref().is_none_or(|(b, _)| at < b)) {
            best = Some((at, canonical_location(record.location())));
        }
    }
    if let Some(region) = text.split("region-").nth(1) {
        let name: String = region.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
        return Ok(best.map_or_else(|| canonical_location(&name), |(_, l)| l));
    }
    Ok(best.map_or_else(|| "US".to_owned(), |(_, l)| l))
}

/// Answers a dry run: a job resource that was never stored.
///
/// # Errors
/// What the engine says of the query.
pub async fn dry_run(
    service: &Arc<BigQuery>,
    project: &str,
    caller: &Caller,
    body: &Map<String, Value>,
) -> Result<Value, ApiError> {
    let mut configuration = body.get("configuration").cloned().unwrap_or_default();
    configuration["jobType"] = json!("QUERY");
    let config = configuration["query"].clone();
    let told = body.get("jobReference").and_then(|r| r["location"].as_str()).filter(|l| !l.is_empty());
    let location = match told {
        Some(location) => canonical_location(location),
        None => infer_location(service, project, &config)?,
    };
    let (statistics, bytes) = plan(service, project, caller, &location, &config).await?;
    let now = service.now_ms().to_string();
    Ok(json!({
        "kind": "bigquery#job",
        "etag": etag(&statistics),
        "id": format!("{project}:{location}."),
        "selfLink": service.self_link(&format!("{project}/jobs/?location={location}")),
        "user_email": caller.name(project),
        "configuration": configuration,
        "jobReference": {"projectId": project, "location": location},
        "statistics": {"creationTime": now, "totalBytesProcessed": bytes.to_string(), "query": statistics},
        "status": {"state": "DONE"},
    }))
}

/// The statistics of a query that is only planned, and how many bytes it would read.
pub async fn plan(
    service: &Arc<BigQuery>,
    project: &str,
    caller: &Caller,
    location: &str,
    config: &Value,
) -> Result<(Value, i64), ApiError> {
    let query = Query { dry_run: true, ..query_of(service, project, caller, location, config)? };
    let catalog: Arc<dyn Catalog> = Arc::new(Snapshot::new(service, project, location, caller));
    let mut script = Script::new(query)?;
    let many = script.statement_count() > 1;
    // Later statements of a script may need what earlier ones would have made: only the first can be planned.
    let outcome = script.next(&catalog).await?.ok_or_else(|| ApiError::new(400, "invalidQuery", "Empty query"))?;
    let mut statistics = json!({
        "totalBytesProcessed": outcome.bytes_processed.to_string(),
        "totalBytesBilled": "0",
        "cacheHit": false,
        "statementType": if many { "SCRIPT" } else { outcome.statement_type },
        "totalBytesProcessedAccuracy": "PRECISE",
    });
    if !outcome.rows.fields.is_empty() {
        statistics["schema"] = json!({"fields": outcome.rows.fields});
    }
    if !outcome.referenced.is_empty() {
        statistics["referencedTables"] = references(&outcome);
    }
    Ok((statistics, outcome.bytes_processed))
}

fn references(outcome: &Outcome) -> Value {
    outcome
        .referenced
        .iter()
        .map(|t| json!({"projectId": t.project, "datasetId": t.dataset, "tableId": t.table}))
        .collect()
}

/// Runs the job.
///
/// # Errors
/// How the job failed.
pub async fn run(context: Context) -> Result<Success, JobFailure> {
    let service = &context.service;
    let config = context.configuration["query"].clone();
    let query = query_of(service, &context.project, &context.caller, &context.location, &config)?;
    if let Some(limit) = schema::int(&config["maximumBytesBilled"]).filter(|n| *n > 0) {
        let (_, bytes) = plan(service, &context.project, &context.caller, &context.location, &config).await?;
        // Ten megabytes are the least that is billed.
        let billed = bytes.max(MIN_BYTES_BILLED);
        if bytes > 0 && billed > limit {
            let message = format!("Query exceeded limit for bytes billed: {limit}. {billed} or higher required.");
            return Err(ApiError::new(400, "bytesBilledLimitExceeded", message).into());
        }
    }
    // DML jobs take turns, as they do per table in BigQuery; all else runs beside them.
    let words = query.sql.to_lowercase();
    let writes = ["insert", "update", "delete", "merge", "truncate", "alter"].iter().any(|w| words.contains(w));
    let _turn = if writes { Some(service.dml.lock().await) } else { None };
    let catalog = Arc::new(Snapshot::new(service, &context.project, &context.location, &context.caller));
    let shared: Arc<dyn Catalog> = catalog.clone();
    let mut script = Script::new(query)?;
    let many = script.statement_count() > 1;
    let mut answer: Option<Rows> = None;
    let mut applied = Applied::default();
    let mut bytes = 0_i64;
    let mut last: Option<Outcome> = None;
    loop {
        context.check()?;
        let Some(mut outcome) = script.next(&shared).await.map_err(|e| catalog.explain(e))? else { break };
        context.check()?;
        bytes += outcome.bytes_processed;
        require_partition_filters(service, &words, &outcome)?;
        let effect = std::mem::replace(&mut outcome.effect, super::sql::Effect::None);
        if outcome.statement_type == "SELECT" {
            answer = Some(outcome.rows.clone());
        }
        applied = apply(&context, &catalog, outcome.statement_type, effect).await?;
        last = Some(outcome);
    }
    let Some(last) = last else {
        return Err(ApiError::new(400, "invalidQuery", "The query has no statement").into());
    };
    let mut configuration = context.configuration.clone();
    let result = match answer {
        Some(rows) => {
            let (table, version_us) = store_answer(&context, &config, &rows).await?;
            configuration["query"]["destinationTable"] = table.json();
            QueryResult {
                total_rows: rows.row_count() as u64,
                fields: rows.fields,
                table: Some(table),
                affected: None,
                version_us,
            }
        }
        None => {
            if let Some(target) = &applied.ddl_target {
                configuration["query"]["destinationTable"] = target.clone();
            }
            QueryResult {
                affected: applied.affected.map(|a| a.inserted + a.updated + a.deleted),
                ..QueryResult::default()
            }
        }
    };
    let statistics = statistics(&last, many, bytes, &applied, &result);
    Ok(Success { statistics, result: Some(result), warnings: vec![], configuration: Some(configuration) })
}

/// Tables with `requirePartitionFilter` must be read with a condition on what partitions them.
///
/// The engine does not say what it filtered by: the text is searched for the column's name behind a WHERE or ON.
fn require_partition_filters(service: &BigQuery, words: &str, outcome: &Outcome) -> Result<(), ApiError> {
    for path in &outcome.referenced {
        // What is only added to is not read; a TRUNCATE reads nothing either.
        let written = matches!(&outcome.effect, super::sql::Effect::ReplaceRows { table, .. } if table == path);
        if written && matches!(outcome.statement_type, "INSERT" | "TRUNCATE_TABLE") {
            continue;
        }
        let table = super::catalog::table_ref(path);
        let Some(record) = registry::table(&service.sandbox.db, &table)? else { continue };
        let nested = record.resource.get("timePartitioning").and_then(|t| t["requirePartitionFilter"].as_bool());
        let required = record.resource.get("requirePartitionFilter").and_then(Value::as_bool).or(nested);
        let Some(layout) = super::service::partitioning(&record.resource)?.filter(|_| required == Some(true)) else {
            continue;
        };
        let column = layout.column().to_lowercase();
        let condition =
            ["where", " on ", "having"].iter().filter_map(|w| words.find(w)).min().map_or("", |i| &words[i..]);
        let named = condition.contains(&column) || (layout.is_ingestion_time() && condition.contains("_partitiondate"));
        if !named {
            let TableRef { project, dataset, table } = &table;
            let columns = if layout.is_ingestion_time() {
                "'_PARTITION_LOAD_TIME', '_PARTITIONDATE', '_PARTITIONTIME'".to_owned()
            } else {
                format!("'{}'", layout.column())
            };
            return Err(ApiError::new(400, "invalidQuery", format!("Cannot query over table '{project}.{dataset}.{table}' without a filter over column(s) {columns} that can be used for partition elimination")).at("other", "query"));
        }
    }
    Ok(())
}

fn statistics(last: &Outcome, many: bool, bytes: i64, applied: &Applied, result: &QueryResult) -> Map<String, Value> {
    let mut query = json!({
        "totalBytesProcessed": bytes.to_string(),
        "totalBytesBilled": bytes.to_string(),
        "billingTier": 1,
        "totalSlotMs": "1",
        "cacheHit": false,
        "statementType": if many { "SCRIPT" } else { last.statement_type },
        "totalPartitionsProcessed": "0",
    });
    if !last.referenced.is_empty() {
        query["referencedTables"] = references(last);
    }
    if !result.fields.is_empty() {
        query["schema"] = json!({"fields": result.fields});
    }
    if let Some(affected) = applied.affected {
        query["numDmlAffectedRows"] = json!((affected.inserted + affected.updated + affected.deleted).to_string());
        query["dmlStats"] = json!({"insertedRowCount": affected.inserted.to_string(),
            "updatedRowCount": affected.updated.to_string(), "deletedRowCount": affected.deleted.to_string()});
    }
    for (key, value) in &applied.statistics {
        query[key] = value.clone();
    }
    if let Some(target) = &applied.ddl_target {
        query["ddlTargetTable"] = target.clone();
    }
    if let Some(operation) = applied.ddl_operation {
        query["ddlOperationPerformed"] = json!(operation);
    }
    let mut out = Map::new();
    out.insert("totalBytesProcessed".into(), json!(bytes.to_string()));
    out.insert("query".into(), query);
    out
}

/// Puts the rows of an answer where the job wants them, or into an anonymous table.
async fn store_answer(context: &Context, config: &Value, rows: &Rows) -> Result<(TableRef, i64), ApiError> {
    let (context, config, rows) = (context.clone(), config.clone(), rows.clone());
    let service = context.service.clone();
    blocking(&service, move |service| {
        let schema_json = schema::canonical(&json!({"fields": rows.fields}));
        match config.get("destinationTable").filter(|t| t["tableId"].as_str().is_some_and(|t| !t.is_empty())) {
            None => {
                let dataset = hidden(service, &context.project, &context.location)?;
                let name = format!("anon{}", context.job_id.replace('-', "_"));
                let table = TableRef::new(&context.project, &dataset, &name.chars().take(1000).collect::<String>());
                let mut resource = Map::new();
                resource.insert("schema".into(), schema_json);
                resource.insert("expirationTime".into(), json!((service.now_ms() + ANSWER_MS).to_string()));
                let version = put_new(service, &table, resource, &rows, true)?;
                Ok((table, version))
            }
            Some(reference) => to_destination(service, &context, &config, reference, schema_json, &rows),
        }
    })
    .await
}

/// Rows of the engine in the columns that a table stores.
pub fn stored(schema_json: &Value, rows: &Rows, ingestion: bool) -> Result<Vec<RecordBatch>, ApiError> {
    let wanted = stored_schema(&schema::parse(schema_json)?, ingestion);
    rows.batches.iter().map(|b| by_position(b, &wanted)).collect()
}

/// The engine's columns come in the order of the schema, whatever they are called.
fn by_position(batch: &RecordBatch, wanted: &arrow::datatypes::SchemaRef) -> Result<RecordBatch, ApiError> {
    if batch.num_columns() != wanted.fields().len() {
        return adapt(batch, wanted);
    }
    let named: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .zip(wanted.fields())
        .map(|(f, w)| f.as_ref().clone().with_name(w.name()))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(named));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
        .map_err(|e| ApiError::internal(e.to_string()))?;
    adapt(&batch, wanted)
}

/// Makes a table with rows; with `replace` in the place of one of that name.
///
/// # Errors
/// `duplicate` when it exists and is not to be replaced.
pub fn put_new(
    service: &BigQuery,
    table: &TableRef,
    resource: Map<String, Value>,
    rows: &Rows,
    replace: bool,
) -> Result<i64, ApiError> {
    let layout = super::service::partitioning(&resource)?;
    let ingestion = layout.as_ref().is_some_and(super::partition::Partitioning::is_ingestion_time);
    let schema_json = resource.get("schema").cloned().unwrap_or_else(|| json!({"fields": []}));
    let mut batches = stored(&schema_json, rows, ingestion)?;
    let wanted = stored_schema(&schema::parse(&schema_json)?, ingestion);
    if let (true, Some(super::partition::Partitioning::Time { unit, .. })) = (ingestion, &layout) {
        let key = super::partition::Key::Bucket(unit.floor(service.now_us()));
        batches = super::jobs::load::stamp(batches, &wanted, key)?;
    }
    if let Some(layout) = &layout {
        super::jobs::load::check_partition_count(layout, &batches)?;
    }
    let files = service.write_rows(&wanted, &batches)?;
    let now_us = service.sandbox.clock.unique_us();
    registry::change_table(&service.sandbox.db, table, service.now_ms(), |before| {
        if before.is_some() && !replace {
            return Err(ApiError::duplicate(format!("Already Exists: Table {table}")));
        }
        let mut record = TableRecord::new(resource, now_us);
        record.commit(now_us + 1, true, files, None);
        let version = record.version_us();
        Ok(Change::Put(Box::new(record), version))
    })
}

fn to_destination(
    service: &Arc<BigQuery>,
    context: &Context,
    config: &Value,
    reference: &Value,
    schema_json: Value,
    rows: &Rows,
) -> Result<(TableRef, i64), ApiError> {
    let target = TableRef::from_json(reference, &context.project, "destinationTable")?;
    let table = target.table.clone();
    let owner = service.dataset(&table.project, &table.dataset)?;
    let before = service.find_table(&table)?;
    let write = Write::of(config, Write::Empty)?;
    let Some(before) = before else {
        if !may_create(config)? {
            return Err(ApiError::not_found(format!("Not found: Table {table}")));
        }
        let mut resource = Map::new();
        resource.insert("schema".into(), schema_json);
        for key in ["timePartitioning", "rangePartitioning", "clustering"] {
            if let Some(value) = config.get(key) {
                resource.insert(key.into(), value.clone());
            }
        }
        let resource = tables::prepare(service, &owner, resource)?;
        let version = put_new(service, &table, resource, rows, false)?;
        return Ok((table, version));
    };
    let load = json!({"destinationTable": reference, "schema": schema_json,
        "timePartitioning": config["timePartitioning"], "rangePartitioning": config["rangePartitioning"],
        "clustering": config["clustering"], "schemaUpdateOptions": config["schemaUpdateOptions"]});
    let batches = stored(&schema_json, rows, false)?;
    let target = super::jobs::load::Target { table: target, owner, before: Some(before), write };
    super::jobs::load::commit(service, &load, &target, schema_json, batches)?;
    let version = service.table(&table)?.version_us();
    Ok((table, version))
}
