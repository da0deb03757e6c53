//! datasets.*: the whole resource is kept as the client wrote it; what the service computes is added on the way out.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::http::{IfMatch, object, page_size, page_token, position};
use super::names::check_dataset_id;
use super::registry::{self, DatasetRecord};
use super::schema::int;
use super::service::{BigQuery, HIDDEN, check_etag, drop_nulls, etag, merge_patch};
use crate::core::{ApiError, Params};

type Service = State<Arc<BigQuery>>;

/// Members that the service computes and a client cannot write.
const COMPUTED: [&str; 8] =
    ["kind", "id", "etag", "selfLink", "creationTime", "lastModifiedTime", "type", "datasetReference"];

pub async fn insert(
    State(service): Service,
    Path(project): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let mut resource = object(&body)?;
    let id = resource.get("datasetReference").and_then(|r| r.get("datasetId")).and_then(Value::as_str);
    let id =
        id.ok_or_else(|| ApiError::required("Required parameter is missing: datasetReference.datasetId"))?.to_owned();
    strip(&mut resource);
    create(&service, &project, &id, resource, false).map(Json)
}

/// Makes a dataset; with `if_not_exists` one that is there is left alone.
///
/// # Errors
/// `invalid` for a bad resource, `duplicate` when it exists.
pub fn create(
    service: &BigQuery,
    project: &str,
    id: &str,
    mut resource: Map<String, Value>,
    if_not_exists: bool,
) -> Result<Value, ApiError> {
    check_dataset_id(id)?;
    let location = resource.get("location").and_then(Value::as_str).filter(|l| !l.is_empty()).unwrap_or("US");
    let location = canonical_location(location);
    resource.insert("location".into(), json!(location));
    if resource.get("access").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        resource.insert(
            "access".into(),
            json!([
                {"role": "WRITER", "specialGroup": "projectWriters"},
                {"role": "OWNER", "specialGroup": "projectOwners"},
                {"role": "OWNER", "userByEmail": format!("owner@{project}.iam.gserviceaccount.com")},
                {"role": "READER", "specialGroup": "projectReaders"}
            ]),
        );
    }
    resource.entry("maxTimeTravelHours").or_insert(json!("168"));
    check(&mut resource)?;
    let now = service.now_ms();
    let record = registry::change_dataset(&service.sandbox.db, project, id, |before| match before {
        Some(before) if if_not_exists => Ok((before.clone(), before)),
        Some(_) => Err(ApiError::duplicate(format!("Already Exists: Dataset {project}:{id}"))),
        None => {
            let record = DatasetRecord { resource, created_ms: now, modified_ms: now, revision: 1, iam: None };
            Ok((record.clone(), record))
        }
    })?;
    Ok(view(service, project, id, &record))
}

/// Multi-regions in upper case, regions in lower case.
pub fn canonical_location(location: &str) -> String {
    if location.len() <= 4 && !location.contains('-') { location.to_uppercase() } else { location.to_lowercase() }
}

fn strip(resource: &mut Map<String, Value>) {
    resource.retain(|key, _| !COMPUTED.contains(&key.as_str()));
    let mut value = Value::Object(std::mem::take(resource));
    drop_nulls(&mut value);
    if let Value::Object(members) = value {
        *resource = members;
    }
}

fn check(resource: &mut Map<String, Value>) -> Result<(), ApiError> {
    for key in ["defaultTableExpirationMs", "defaultPartitionExpirationMs", "maxTimeTravelHours"] {
        let Some(value) = resource.get(key) else { continue };
        let number = int(value).ok_or_else(|| ApiError::invalid(format!("Invalid value for {key}: {value}")))?;
        match key {
            // Zero takes the default away again.
            _ if number == 0 => {
                resource.shift_remove(key);
                continue;
            }
            "defaultTableExpirationMs" if number < 3_600_000 => {
                return Err(ApiError::invalid(
                    "Invalid value for defaultTableExpirationMs: the minimum is 3600000 (one hour)",
                ));
            }
            "maxTimeTravelHours" if !(48..=168).contains(&number) || number % 24 != 0 => {
                return Err(ApiError::invalid(
                    "Invalid value for maxTimeTravelHours: it must be a multiple of 24 from 48 to 168",
                ));
            }
            _ => {}
        }
        resource.insert(key.into(), json!(number.to_string()));
    }
    super::tables::check_labels(resource)
}

/// The resource as it is returned.
pub fn view(service: &BigQuery, project: &str, id: &str, record: &DatasetRecord) -> Value {
    let mut out = Map::new();
    out.insert("kind".into(), json!("bigquery#dataset"));
    out.insert("etag".into(), json!(""));
    out.insert("id".into(), json!(format!("{project}:{id}")));
    out.insert("selfLink".into(), json!(service.self_link(&format!("{project}/datasets/{id}"))));
    out.insert("datasetReference".into(), json!({"datasetId": id, "projectId": project}));
    out.extend(record.resource.clone());
    out.insert("creationTime".into(), json!(record.created_ms.to_string()));
    out.insert("lastModifiedTime".into(), json!(record.modified_ms.to_string()));
    out.insert("type".into(), json!("DEFAULT"));
    let tag = tag(record);
    out.insert("etag".into(), json!(tag));
    Value::Object(out)
}

fn tag(record: &DatasetRecord) -> String {
    etag(&json!([record.resource, record.modified_ms, record.created_ms, record.revision]))
}

pub async fn get(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let record = service.dataset(&project, &dataset)?;
    Ok(Json(view(&service, &project, &dataset, &record)))
}

pub async fn patch(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    IfMatch(condition): IfMatch,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let mut changes = object(&body)?;
    changes.retain(|key, _| !COMPUTED.contains(&key.as_str()));
    change(&service, &project, &dataset, condition.as_deref(), &Value::Object(changes), false).map(Json)
}

pub async fn update(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    IfMatch(condition): IfMatch,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let mut resource = object(&body)?;
    strip(&mut resource);
    change(&service, &project, &dataset, condition.as_deref(), &Value::Object(resource), true).map(Json)
}

/// Patches (or, with `whole`, replaces) a dataset's resource.
///
/// # Errors
/// 404, 412 when the etag is another one, `invalid` for a bad resource.
pub fn change(
    service: &BigQuery,
    project: &str,
    id: &str,
    if_match: Option<&str>,
    changes: &Value,
    whole: bool,
) -> Result<Value, ApiError> {
    let now = service.now_ms();
    let record = registry::change_dataset(&service.sandbox.db, project, id, |before| {
        let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Dataset {project}:{id}")))?;
        check_etag(if_match, &tag(&record))?;
        let old = record.resource.clone();
        let mut resource = if whole { json!({}) } else { Value::Object(std::mem::take(&mut record.resource)) };
        merge_patch(&mut resource, changes);
        if let Value::Object(members) = resource {
            record.resource = members;
        }
        for key in ["location", "access", "maxTimeTravelHours"] {
            if !record.resource.contains_key(key)
                && let Some(value) = old.get(key)
            {
                record.resource.insert(key.into(), value.clone());
            }
        }
        let location = canonical_location(record.location());
        if old.get("location").and_then(Value::as_str).is_some_and(|l| l != location) {
            return Err(ApiError::invalid(format!("Dataset {project}:{id} location can not be changed")));
        }
        record.resource.insert("location".into(), json!(location));
        check(&mut record.resource)?;
        record.modified_ms = now.max(record.modified_ms);
        record.revision += 1;
        Ok((record.clone(), record))
    })?;
    Ok(view(service, project, id, &record))
}

pub async fn delete(
    State(service): Service,
    Path((project, dataset)): Path<(String, String)>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    registry::delete_dataset(&service.sandbox.db, &project, &dataset, params.flag("deleteContents"), service.now_ms())?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST datasets/{dataset}:undelete`, `:getIamPolicy`, `:setIamPolicy`, `:testIamPermissions`.
pub async fn custom(
    State(service): Service,
    Path((project, target)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let no_method = || ApiError::not_found(format!("Not found: no method on datasets/{target}"));
    let (dataset, verb) = target.rsplit_once(':').ok_or_else(no_method)?;
    let request = object(&body)?;
    match verb {
        "undelete" => {}
        "getIamPolicy" => return Ok(Json(super::iam::answer(service.dataset(&project, dataset)?.iam))),
        "testIamPermissions" => {
            service.dataset(&project, dataset)?;
            return Ok(Json(json!({"permissions": request.get("permissions").cloned().unwrap_or(json!([]))})));
        }
        "setIamPolicy" => {
            let policy = registry::change_dataset(&service.sandbox.db, &project, dataset, |before| {
                let missing = || ApiError::not_found(format!("Not found: Dataset {project}:{dataset}"));
                let mut record = before.ok_or_else(missing)?;
                let policy = super::iam::replace(record.iam.as_ref(), &request)?;
                record.iam = Some(policy.clone());
                Ok((record, policy))
            })?;
            return Ok(Json(policy));
        }
        _ => return Err(no_method()),
    }
    let at = request
        .get("deletionTime")
        .and_then(Value::as_str)
        .map(|t| super::civil::parse_ms(t).ok_or_else(|| ApiError::invalid(format!("Invalid deletionTime: {t}"))))
        .transpose()?;
    registry::undelete_dataset(&service.sandbox.db, &project, dataset, at, service.now_ms())?;
    let record = service.dataset(&project, dataset)?;
    Ok(Json(view(&service, &project, dataset, &record)))
}

pub async fn list(
    State(service): Service,
    Path(project): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let size = page_size(&params, 50, 1000)?;
    let filter = params.get("filter").map(parse_filter).transpose()?.unwrap_or_default();
    let mut after = position(&params)?;
    let mut items = vec![];
    let mut next = None;
    'pages: loop {
        let page = registry::list_datasets(&service.sandbox.db, &project, after.as_deref(), 200)?;
        if page.is_empty() {
            break;
        }
        for (id, record) in page {
            let shown = (params.flag("all") || !id.starts_with('_')) && matches(&record, &filter);
            if shown {
                if items.len() == size {
                    next = after;
                    break 'pages;
                }
                items.push(item(&project, &id, &record));
            }
            after = Some(id);
        }
    }
    let mut out = json!({"kind": "bigquery#datasetList", "etag": etag(&json!(items))});
    if let Some(position) = next {
        out["nextPageToken"] = json!(page_token(&position));
    }
    if !items.is_empty() {
        out["datasets"] = json!(items);
    }
    Ok(Json(out))
}

fn item(project: &str, id: &str, record: &DatasetRecord) -> Value {
    let mut out = json!({"kind": "bigquery#dataset", "id": format!("{project}:{id}"),
        "datasetReference": {"datasetId": id, "projectId": project}, "location": record.location()});
    for key in ["labels", "friendlyName"] {
        if let Some(value) = record.resource.get(key) {
            out[key] = value.clone();
        }
    }
    out
}

/// `labels.key:value labels.other`, all of which must hold.
fn parse_filter(filter: &str) -> Result<Vec<(String, Option<String>)>, ApiError> {
    filter
        .split_whitespace()
        .map(|part| {
            let label = part.strip_prefix("labels.").ok_or_else(|| {
                ApiError::invalid(format!("Invalid filter \"{filter}\": expected labels.key[:value]"))
                    .at("parameter", "filter")
            })?;
            let (key, value) =
                label.split_once(':').map_or((label, None), |(k, v)| (k, Some(v.trim_matches('"').to_owned())));
            Ok((key.to_owned(), value))
        })
        .collect()
}

fn matches(record: &DatasetRecord, filter: &[(String, Option<String>)]) -> bool {
    filter.iter().all(|(key, value)| {
        let label = record.resource.get("labels").and_then(|l| l.get(key)).and_then(Value::as_str);
        label.is_some_and(|l| value.as_deref().is_none_or(|v| v == "*" || v == l))
    })
}

/// The hidden dataset for results of queries at a location, made when first needed.
///
/// # Errors
/// When the database fails.
pub fn hidden(service: &BigQuery, project: &str, location: &str) -> Result<String, ApiError> {
    let id = format!("{HIDDEN}_{}", location.to_lowercase().replace('-', "_"));
    if registry::dataset(&service.sandbox.db, project, &id)?.is_none() {
        let resource = Map::from_iter([("location".to_owned(), json!(location))]);
        create(service, project, &id, resource, true)?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_labels() {
        let parsed = parse_filter("labels.env:prod labels.team").unwrap();
        assert_eq!(parsed, [("env".into(), Some("prod".into())), ("team".into(), None)]);
        let record = DatasetRecord {
            resource: Map::from_iter([("labels".to_owned(), json!({"env": "prod"}))]),
            created_ms: 0,
            modified_ms: 0,
            revision: 0,
            iam: None,
        };
        assert!(matches(&record, &parsed[..1]) && !matches(&record, &parsed));
        assert!(parse_filter("name:x").is_err());
    }
}
