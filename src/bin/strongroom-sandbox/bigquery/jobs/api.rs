//! jobs.*: insert, get, list, cancel, delete. `jobs.query` and `getQueryResults` stand in `super::super::query`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::http::{Caller, object, page_size, page_token, position};
use super::super::service::{BigQuery, etag};
use super::{JobRecord, find, forget, newest_first, submit};
use crate::core::{ApiError, Params};

type Service = State<Arc<BigQuery>>;

pub async fn insert(
    State(service): Service,
    Path(project): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let body = object(&body)?;
    accept(&service, &project, &caller, body, None).await.map(Json)
}

/// Takes a job, or answers a dry run.
///
/// # Errors
/// What `submit` or the dry run says.
pub async fn accept(
    service: &Arc<BigQuery>,
    project: &str,
    caller: &Caller,
    mut body: serde_json::Map<String, Value>,
    upload: Option<std::path::PathBuf>,
) -> Result<Value, ApiError> {
    // The Node client also says the place where no such field is. Google takes no notice, and does not give it back.
    if let Some(load) = body.get_mut("configuration").and_then(|c| c.get_mut("load")).and_then(Value::as_object_mut) {
        load.remove("location");
    }
    let configuration = body.get("configuration").cloned().unwrap_or_default();
    let dry = configuration["dryRun"].as_bool().unwrap_or(false);
    if dry && configuration["query"].is_object() {
        return super::super::query::dry_run(service, project, caller, &body).await;
    }
    if dry {
        return Err(ApiError::invalid("dryRun is defined for query jobs only"));
    }
    let record = submit(service, project, caller, body, upload)?;
    Ok(record.view(service))
}

pub async fn get(
    State(service): Service,
    Path((project, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let record = find(&service, &project, &id, params.get("location"))?;
    Ok(Json(record.view(&service)))
}

pub async fn cancel(
    State(service): Service,
    Path((project, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let record = find(&service, &project, &id, params.get("location"))?;
    service.board.cancel(&record);
    service.board.wait(&record, Duration::from_millis(200)).await;
    let record = find(&service, &project, &id, Some(&record.location))?;
    Ok(Json(json!({"kind": "bigquery#jobCancelResponse", "job": record.view(&service)})))
}

/// `DELETE jobs/{job}/delete`.
pub async fn delete(
    State(service): Service,
    Path((project, id)): Path<(String, String)>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let record = find(&service, &project, &id, params.get("location"))?;
    forget(&service, &record)?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn list(
    State(service): Service,
    Path(project): Path<String>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let size = page_size(&params, 50, 1000)?;
    let states: Vec<&str> = params
        .all("stateFilter")
        .flat_map(|s| s.split(','))
        .map(|s| match s.to_ascii_lowercase().as_str() {
            "done" | "0" => Ok("DONE"),
            "pending" | "1" => Ok("PENDING"),
            "running" | "2" => Ok("RUNNING"),
            _ => Err(ApiError::invalid(format!("Invalid value for stateFilter: {s}")).at("parameter", "stateFilter")),
        })
        .collect::<Result<_, _>>()?;
    let (from, to) = (params.number("minCreationTime")?, params.number("maxCreationTime")?);
    let full = matches!(params.get("projection").map(str::to_ascii_lowercase).as_deref(), Some("full" | "1"));
    let me = caller.name(&project);
    let parent = params.get("parentJobId");
    let shown = |r: &JobRecord| {
        (states.is_empty() || states.contains(&r.state.as_str()))
            && from.is_none_or(|ms| r.created_ms >= ms)
            && to.is_none_or(|ms| r.created_ms <= ms)
            && (params.flag("allUsers") || r.user == me)
            && parent.is_none_or(|p| r.parent.as_deref() == Some(p))
    };
    let mut skip = position(&params)?;
    let mut jobs = vec![];
    let mut next = None;
    for record in newest_first(&service, &project)?.into_iter().filter(shown) {
        if let Some(last) = &skip {
            if record.id == *last {
                skip = None;
            }
            continue;
        }
        if jobs.len() == size {
            next = Some(());
            break;
        }
        jobs.push(record);
    }
    let items: Vec<Value> = jobs.iter().map(|r| item(&service, r, full)).collect();
    let mut out = json!({"kind": "bigquery#jobList", "etag": etag(&json!(items)), "jobs": items});
    if let (Some(()), Some(last)) = (next, jobs.last()) {
        out["nextPageToken"] = json!(page_token(&last.id));
    }
    Ok(Json(out))
}

fn item(service: &BigQuery, record: &JobRecord, full: bool) -> Value {
    let mut view = record.view(service);
    let mut out = json!({
        "kind": "bigquery#job",
        "id": record.full_id(),
        "jobReference": view["jobReference"].take(),
        "state": record.state,
        "statistics": view["statistics"].take(),
        "status": view["status"].take(),
        "user_email": record.user,
        "principal_subject": view["principal_subject"].take(),
    });
    if full {
        out["configuration"] = view["configuration"].take();
    }
    if let Some(error) = &record.error {
        out["errorResult"] = error.clone();
    }
    out
}
