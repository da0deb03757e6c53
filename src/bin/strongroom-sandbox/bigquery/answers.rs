//! jobs.query and jobs.getQueryResults: how the rows of a query reach the client.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::cells::CellFormat;
use super::datasets::canonical_location;
use super::http::{Caller, blocking, object, page_token};
use super::jobs::{JobRecord, find, submit};
use super::query::{infer_location, plan};
use super::schema;
use super::service::{BigQuery, etag};
use super::tabledata::{format, page, start};
use crate::core::{ApiError, Params};

/// `GET queries/{job}`.
pub async fn results(
    State(service): State<Arc<BigQuery>>,
    Path((project, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let record = find(&service, &project, &id, params.get("location"))?;
    if record.kind() != "QUERY" {
        return Err(ApiError::invalid(format!("Job {} is not a query job", record.full_id())));
    }
    let limit = params.number("timeoutMs")?.map_or(10_000, |ms| u64::try_from(ms).unwrap_or(0)).min(200_000);
    if !record.is_done() {
        service.board.wait(&record, Duration::from_millis(limit)).await;
    }
    let record = find(&service, &project, &id, Some(&record.location))?;
    let from = start(&params)?;
    let size = params.number("maxResults")?.map_or(100_000, |n| usize::try_from(n).unwrap_or(0));
    answer(&service, &record, from, size, format(&params), "bigquery#getQueryResultsResponse").await.map(Json)
}

async fn answer(
    service: &Arc<BigQuery>,
    record: &JobRecord,
    from: usize,
    size: usize,
    cells: CellFormat,
    kind: &str,
) -> Result<Value, ApiError> {
    let mut out = json!({
        "kind": kind,
        "jobReference": {"projectId": record.project, "jobId": record.id, "location": record.location},
        "jobComplete": record.is_done(),
    });
    if kind == "bigquery#getQueryResultsResponse" {
        out["etag"] = json!(etag(&json!([record.id, record.state, from])));
    }
    if !record.is_done() {
        return Ok(out);
    }
    if let Some(error) = record.http_error() {
        return Err(error);
    }
    if !record.errors.is_empty() {
        out["errors"] = json!(record.errors);
    }
    let result = record.result.clone().unwrap_or_default();
    out["totalBytesProcessed"] = record.statistics.get("totalBytesProcessed").cloned().unwrap_or(json!("0"));
    out["cacheHit"] = json!(false);
    if let Some(affected) = result.affected {
        out["numDmlAffectedRows"] = json!(affected.to_string());
    }
    out["totalRows"] = json!(result.total_rows.to_string());
    if !result.fields.is_empty() || result.table.is_some() {
        out["schema"] = schema::canonical(&json!({"fields": result.fields}));
    }
    let Some(table) = result.table.clone() else { return Ok(out) };
    if size > 0 || from > 0 {
        let page = blocking(service, move |s| {
            let stored = s.table(&table)?;
            let moment = stored.moment(result.version_us).filter(|_| stored.created_ms * 1000 <= result.version_us);
            let moment = moment.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
            let batches = s.rows(&moment, false)?;
            Ok(page(&batches, from, size, cells))
        })
        .await?;
        if let Some(next) = page.next {
            out["pageToken"] = json!(page_token(&next.to_string()));
        }
        if !page.rows.is_empty() {
            out["rows"] = json!(page.rows);
        }
    } else if result.total_rows > 0 {
        out["pageToken"] = json!(page_token("0"));
    }
    Ok(out)
}

/// `POST queries`.
pub async fn query(
    State(service): State<Arc<BigQuery>>,
    Path(project): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request = object(&body)?;
    let all = Value::Object(request.clone());
    let told = all["location"].as_str().filter(|l| !l.is_empty()).map(canonical_location);
    let location = match told {
        Some(location) => location,
        None => infer_location(&service, &project, &all)?,
    };
    if all["dryRun"].as_bool().unwrap_or(false) {
        let (statistics, bytes) = plan(&service, &project, &caller, &location, &all).await?;
        let mut out = json!({"kind": "bigquery#queryResponse", "jobReference": {"projectId": project, "location": location},
            "totalRows": "0", "totalBytesProcessed": bytes.to_string(), "jobComplete": true, "cacheHit": false});
        if let Some(schema) = statistics.get("schema") {
            out["schema"] = schema.clone();
        }
        return Ok(Json(out));
    }
    let record = match repeated(&service, &project, &all)? {
        Some(record) => record,
        None => {
            let record = submit(&service, &project, &caller, as_job(&request, &location), None)?;
            remember(&service, &project, &all, &record)?;
            record
        }
    };
    let limit = schema::int(&all["timeoutMs"]).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(10_000).min(200_000);
    service.board.wait(&record, Duration::from_millis(limit)).await;
    let record = find(&service, &project, &record.id, Some(&record.location))?;
    let size = schema::int(&all["maxResults"]).and_then(|n| usize::try_from(n).ok()).unwrap_or(100_000);
    let options = &all["formatOptions"];
    let cells = CellFormat {
        int64_timestamp: options["useInt64Timestamp"].as_bool().unwrap_or(false)
            || options["timestampOutputFormat"] == "INT64",
        iso_timestamp: options["timestampOutputFormat"] == "ISO8601_STRING",
    };
    let mut out = answer(&service, &record, 0, size, cells, "bigquery#queryResponse").await?;
    out["location"] = json!(record.location);
    out["creationTime"] = json!(record.created_ms.to_string());
    if let (Some(started), Some(ended)) = (record.started_ms, record.ended_ms) {
        out["startTime"] = json!(started.to_string());
        out["endTime"] = json!(ended.to_string());
    }
    Ok(Json(out))
}

fn as_job(request: &Map<String, Value>, location: &str) -> Map<String, Value> {
    let mut query = Map::new();
    for key in [
        "query",
        "defaultDataset",
        "useLegacySql",
        "useQueryCache",
        "parameterMode",
        "queryParameters",
        "maximumBytesBilled",
        "createSession",
        "connectionProperties",
        "destinationEncryptionConfiguration",
        "continuous",
        "writeIncrementalResults",
    ] {
        if let Some(value) = request.get(key) {
            query.insert(key.into(), value.clone());
        }
    }
    let mut configuration = json!({ "query": query });
    for key in ["labels", "jobTimeoutMs", "maxSlots", "reservation"] {
        if let Some(value) = request.get(key) {
            configuration[key] = value.clone();
        }
    }
    let mut body = Map::new();
    body.insert("jobReference".into(), json!({ "location": location }));
    body.insert("configuration".into(), configuration);
    body
}

const REQUESTS: &str = "bq.requests";
/// How long a `requestId` names the same job.
const REQUEST_MS: i64 = 15 * 60_000;

fn repeated(service: &BigQuery, project: &str, request: &Value) -> Result<Option<JobRecord>, ApiError> {
    let Some(id) = request["requestId"].as_str().filter(|id| !id.is_empty()) else { return Ok(None) };
    let Some(known) = service.sandbox.db.get(REQUESTS, &format!("{project}/{id}"))? else { return Ok(None) };
    let fresh = known["ms"].as_i64().is_some_and(|ms| ms > service.now_ms() - REQUEST_MS);
    match (known["job"].as_str(), known["location"].as_str()) {
        (Some(job), Some(location)) if fresh => find(service, project, job, Some(location)).map(Some),
        _ => Ok(None),
    }
}

fn remember(service: &BigQuery, project: &str, request: &Value, record: &JobRecord) -> Result<(), ApiError> {
    let Some(id) = request["requestId"].as_str().filter(|id| !id.is_empty()) else { return Ok(()) };
    let value = json!({"job": record.id, "location": record.location, "ms": record.created_ms});
    service.sandbox.db.put(REQUESTS, &format!("{project}/{id}"), &value)
}
