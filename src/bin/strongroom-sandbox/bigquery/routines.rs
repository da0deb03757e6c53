//! routines.*: kept as documents; SQL functions are handed to the engine. Also the models that there never are.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::http::{IfMatch, object, page_size, page_token, position};
use super::service::{BigQuery, check_etag, drop_nulls, etag};
use crate::core::{ApiError, Params};

/// The space of routines' records.
pub const SPACE: &str = "bq.routines";

type Service = State<Arc<BigQuery>>;
type Names = Path<(String, String, String)>;

const COMPUTED: [&str; 4] = ["etag", "routineReference", "creationTime", "lastModifiedTime"];

fn key(project: &str, dataset: &str, routine: &str) -> String {
    format!("{project}/{dataset}/{routine}")
}

fn view(project: &str, dataset: &str, id: &str, stored: &Value) -> Value {
    let mut out = json!({"etag": etag(stored), "routineReference": {"projectId": project, "datasetId": dataset, "routineId": id}});
    for (key, value) in stored.as_object().into_iter().flatten().filter(|(k, _)| *k != "_iam") {
        out[key] = value.clone();
    }
    out
}

/// The stored routine, if there is one.
///
/// # Errors
/// When the database fails.
pub fn find(service: &BigQuery, project: &str, dataset: &str, id: &str) -> Result<Option<Value>, ApiError> {
    service.sandbox.db.get(SPACE, &key(project, dataset, id))
}

/// All routines of a dataset.
///
/// # Errors
/// When the database fails.
pub fn all(service: &BigQuery, project: &str, dataset: &str) -> Result<Vec<(String, Value)>, ApiError> {
    let prefix = format!("{project}/{dataset}/");
    let rows = service.sandbox.db.scan(SPACE, &prefix, None, usize::MAX)?;
    Ok(rows.into_iter().map(|(k, v)| (k[prefix.len()..].to_owned(), v)).collect())
}

/// Makes (or replaces) a routine.
///
/// # Errors
/// `duplicate`, `notFound`, `invalid`.
pub fn put(
    service: &BigQuery,
    project: &str,
    dataset: &str,
    mut resource: Map<String, Value>,
    replace: bool,
    if_not_exists: bool,
) -> Result<Value, ApiError> {
    service.dataset(project, dataset)?;
    let id = resource.get("routineReference").and_then(|r| r["routineId"].as_str()).unwrap_or_default().to_owned();
    if id.is_empty() || id.len() > 256 || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ApiError::invalid(format!(
            "Invalid routine ID \"{id}\". Routine IDs must be alphanumeric (plus underscores) and must be at most 256 characters long."
        )));
    }
    resource.retain(|k, _| !COMPUTED.contains(&k.as_str()));
    let mut stored = Value::Object(resource);
    drop_nulls(&mut stored);
    if stored["routineType"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::required("Required parameter is missing: routineType"));
    }
    if stored.get("language").is_none() {
        stored["language"] = json!("SQL");
    }
    let now = service.now_ms().to_string();
    let key = key(project, dataset, &id);
    service.sandbox.db.transaction(|tx| {
        let before = tx.get(SPACE, &key)?;
        if let Some(before) = before {
            if if_not_exists {
                return Ok(view(project, dataset, &id, &before));
            }
            if !replace {
                return Err(ApiError::duplicate(format!("Already Exists: Routine {project}:{dataset}.{id}")));
            }
            stored["creationTime"] = before["creationTime"].clone();
        } else {
            stored["creationTime"] = json!(now);
        }
        stored["lastModifiedTime"] = json!(now);
        tx.put(SPACE, &key, &stored)?;
        Ok(view(project, dataset, &id, &stored))
    })
}

/// Deletes a routine.
///
/// # Errors
/// `notFound`.
pub fn remove(service: &BigQuery, project: &str, dataset: &str, id: &str) -> Result<(), ApiError> {
    if service.sandbox.db.delete(SPACE, &key(project, dataset, id))? {
        return Ok(());
    }
    Err(missing(project, dataset, id))
}

fn missing(project: &str, dataset: &str, id: &str) -> ApiError {
    ApiError::not_found(format!("Not found: Routine {project}:{dataset}.{id}"))
}

pub async fn insert(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    put(&service, &project, &dataset, object(&body)?, false, false).map(Json)
}

pub async fn update(
    State(service): Service,
    Path((project, dataset, id)): Names,
    IfMatch(condition): IfMatch,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let before = find(&service, &project, &dataset, &id)?.ok_or_else(|| missing(&project, &dataset, &id))?;
    check_etag(condition.as_deref(), &etag(&before))?;
    let mut resource = object(&body)?;
    resource.insert("routineReference".into(), json!({"routineId": id}));
    put(&service, &project, &dataset, resource, true, false).map(Json)
}

pub async fn get(State(service): Service, Path((project, dataset, id)): Names) -> Result<Json<Value>, ApiError> {
    service.dataset(&project, &dataset)?;
    let stored = find(&service, &project, &dataset, &id)?.ok_or_else(|| missing(&project, &dataset, &id))?;
    Ok(Json(view(&project, &dataset, &id, &stored)))
}

pub async fn delete(State(service): Service, Path((project, dataset, id)): Names) -> Result<StatusCode, ApiError> {
    service.dataset(&project, &dataset)?;
    remove(&service, &project, &dataset, &id)?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn list(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    service.dataset(&project, &dataset)?;
    let size = page_size(&params, 50, 1000)?;
    let after = position(&params)?;
    let all = all(&service, &project, &dataset)?;
    let rest: Vec<_> = all.iter().filter(|(id, _)| after.as_deref().is_none_or(|a| id.as_str() > a)).collect();
    let mut out = json!({});
    if !rest.is_empty() {
        out["routines"] = rest.iter().take(size).map(|(id, stored)| view(&project, &dataset, id, stored)).collect();
    }
    if rest.len() > size {
        out["nextPageToken"] = json!(page_token(&rest[size - 1].0));
    }
    Ok(Json(out))
}

pub async fn models(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    service.dataset(&project, &dataset)?;
    Ok(Json(json!({})))
}

/// `POST routines/{routine}:getIamPolicy` and its siblings; the policy lies beside the routine, under a name of its own.
pub async fn custom(
    State(service): Service,
    Path((project, dataset, target)): Names,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let no_method = || ApiError::not_found(format!("Not found: no method on routines/{target}"));
    let (id, verb) = target.rsplit_once(':').ok_or_else(no_method)?;
    let key = key(&project, &dataset, id);
    let request = object(&body)?;
    service.sandbox.db.transaction(|tx| {
        let mut stored = tx.get(SPACE, &key)?.ok_or_else(|| missing(&project, &dataset, id))?;
        let current = stored.get("_iam").cloned();
        match verb {
            "getIamPolicy" => Ok(Json(super::iam::answer(current))),
            "setIamPolicy" => {
                let policy = super::iam::replace(current.as_ref(), &request)?;
                stored["_iam"] = policy.clone();
                tx.put(SPACE, &key, &stored)?;
                Ok(Json(policy))
            }
            "testIamPermissions" => {
                Ok(Json(json!({"permissions": request.get("permissions").cloned().unwrap_or(json!([]))})))
            }
            _ => Err(no_method()),
        }
    })
}
